/* SPDX-License-Identifier: MIT
 * Ternary products over tiles with VNNI: codes are the unsigned operand of dpbusd, four activations spread
 * over all lanes the signed one; a lane is a row, so no sums across lanes are needed.
 *
 * Up to three vectors are bound by memory: codes are not even shifted down but summed by their place in the
 * byte. More vectors are bound by arithmetic: a tile is unpacked into a buffer that stays in the L1 cache and
 * is used for all vectors. */
#include "kernels/avx512.h"
#include "kernels/pack.h"

enum {
    VECS = BN_TILE_ROWS / 16, /* vectors of 16 rows */
    FEW_COLS = 3,             /* with 2 vectors and 4 places in a byte these fill the registers */
    TILE_COLS = 12,           /* with 2 vectors as well */
    DEPTH = 384,              /* elements of a row that are unpacked at a time: 12 KiB a tile */
    STEP = 4,                 /* elements of a row that one lane of dpbusd takes */
    AHEAD_BYTES = 4096,       /* how far the stream of weights is fetched ahead */
    X_BYTES = 384 << 10, /* activations used by all tiles before the next ones: they stay in the L2 cache */
    MIN_COLS = 60,       /* but not fewer columns: unpacking must pay */
};

/* Sixteen sums. Not __m512i, whose lanes gcc takes for 64 bits wide: it would copy every sum before and after
 * it is added to. */
typedef int32_t sums __attribute__((vector_size(64)));

BN_INLINE sums add_products(sums sum, __m512i codes, __m512i x)
{
    return (sums)_mm512_dpbusd_epi32((__m512i)sum, codes, x);
}

BN_INLINE __m512i four_activations(const int8_t *x)
{
    int32_t four;

    __builtin_memcpy(&four, x, sizeof four);
    return _mm512_set1_epi32(four);
}

/* ---- one to three vectors ---- */

/* One tile. Codes in bits 7:6 count 64 times, those in 5:4 16 times, in 3:2 4 times: each place has a sum of
 * its own. Exact in int32 while the result is. */
BN_INLINE void few_columns(const uint8_t *w, const int8_t *x, size_t k, sums (*total)[VECS],
                           const size_t n_cols)
{
    const __m512i mask[4] = {_mm512_set1_epi8((char)0xc0), _mm512_set1_epi8(0x30), _mm512_set1_epi8(0x0c),
                             _mm512_set1_epi8(0x03)};
    sums sum[FEW_COLS][VECS][4];

    BN_UNROLL
    for (size_t c = 0; c < n_cols; c++) {
        BN_UNROLL
        for (int i = 0; i < 4 * VECS; i++)
            sum[c][i / 4][i % 4] = (sums){0};
    }
    for (size_t i = 0; i < k; i += BN_PIECE_I2S, w += BN_PIECE_BYTES) {
        BN_UNROLL
        for (int v = 0; v < VECS; v++) {
            const __m512i codes = _mm512_loadu_si512(w + 64 * v);

            _mm_prefetch((const char *)w + 64 * v + AHEAD_BYTES, _MM_HINT_T0);
            BN_UNROLL
            for (int p = 0; p < 4; p++) {
                const __m512i at_p = _mm512_and_si512(codes, mask[p]);

                BN_UNROLL
                for (size_t c = 0; c < n_cols; c++)
                    sum[c][v][p] = add_products(sum[c][v][p], at_p, four_activations(x + c * k + i + 4 * p));
            }
        }
    }
    BN_UNROLL
    for (size_t c = 0; c < n_cols; c++) {
        BN_UNROLL
        for (int v = 0; v < VECS; v++) {
            const sums *s = sum[c][v];

            total[c][v] = (s[0] >> 6) + (s[1] >> 4) + (s[2] >> 2) + s[3];
        }
    }
}

BN_INLINE void store_sums(int32_t *y, size_t n_rows, const sums *total, int32_t x_sum)
{
    for (size_t v = 0; v < VECS && 16 * v < n_rows; v++)
        _mm512_mask_storeu_epi32(y + 16 * v, lanes16(n_rows - 16 * v), (__m512i)(total[v] - x_sum));
}

BN_INLINE void gemm_few(const uint8_t *w, const int8_t *x, const int32_t *x_sum, int32_t *y, size_t ldy,
                        size_t n_rows, size_t k, const size_t n_cols)
{
    for (size_t r = 0; r < n_rows; r += BN_TILE_ROWS) {
        sums total[FEW_COLS][VECS];

        few_columns(w + r * (k / 4), x, k, total, n_cols);
        for (size_t c = 0; c < n_cols; c++)
            store_sums(y + c * ldy + r, n_rows - r, total[c], x_sum[c]);
    }
}

void i2s_gemv_avx512vnni(const uint8_t *w, const int8_t *x, int32_t x_sum, int32_t *y, size_t n_rows,
                         size_t k)
{
    gemm_few(w, x, &x_sum, y, n_rows, n_rows, k, 1);
}

/* ---- more vectors ---- */

/* Part of a product: a tile's rows by all columns over a stretch of k. */
struct part {
    const int8_t *x; /* column 0 at the start of the stretch; columns k apart */
    const int32_t *x_sum;
    int32_t *y; /* row 0 of the tile in column 0; columns ldy apart */
    size_t k, ldy, n_cols, n_steps;
    size_t n_rows;
    int first; /* the sums begin here, with -x_sum; else they continue from y */
};

/* out[step][vector] holds four codes of each row. */
BN_INLINE void unpack(const uint8_t *w, __m512i *out, size_t n_pieces)
{
    const __m512i code = _mm512_set1_epi8(3);

    for (size_t i = 0; i < n_pieces; i++, w += BN_PIECE_BYTES, out += 4 * VECS) {
        BN_UNROLL
        for (int v = 0; v < VECS; v++) {
            const __m512i codes = _mm512_loadu_si512(w + 64 * v);

            _mm_prefetch((const char *)w + 64 * v + AHEAD_BYTES, _MM_HINT_T0);
            out[v] = _mm512_and_si512(_mm512_srli_epi16(codes, 6), code);
            out[VECS + v] = _mm512_and_si512(_mm512_srli_epi16(codes, 4), code);
            out[2 * VECS + v] = _mm512_and_si512(_mm512_srli_epi16(codes, 2), code);
            out[3 * VECS + v] = _mm512_and_si512(codes, code);
        }
    }
}

/* The innermost product: 32 rows by n_cols columns, from column c on. */
BN_INLINE void tile_product(const __m512i *w, const struct part *part, size_t c, const size_t n_cols)
{
    const __mmask16 lanes[VECS] = {lanes16(part->n_rows),
                                   part->n_rows > 16 ? lanes16(part->n_rows - 16) : (__mmask16)0};
    const int8_t *x = part->x + c * part->k;
    int32_t *y = part->y + c * part->ldy;
    sums sum[TILE_COLS][VECS];

    BN_UNROLL
    for (size_t j = 0; j < n_cols; j++) {
        BN_UNROLL
        for (int v = 0; v < VECS; v++)
            sum[j][v] = part->first ? (sums)_mm512_set1_epi32(-part->x_sum[c + j])
                                    : (sums)_mm512_maskz_loadu_epi32(lanes[v], y + j * part->ldy + 16 * v);
    }
    if (part->first) { /* their lines, needed at the end, are not in a cache yet */
        BN_UNROLL
        for (size_t j = 0; j < n_cols; j++) {
            BN_UNROLL
            for (int v = 0; v < VECS; v++)
                _mm_prefetch((const char *)(y + j * part->ldy + 16 * v), _MM_HINT_T0);
        }
    }
    for (size_t s = 0; s < part->n_steps; s++, w += VECS, x += STEP) {
        BN_UNROLL
        for (size_t j = 0; j < n_cols; j++) {
            const __m512i xj = four_activations(x + j * part->k);

            BN_UNROLL
            for (int v = 0; v < VECS; v++)
                sum[j][v] = add_products(sum[j][v], w[v], xj);
        }
    }
    BN_UNROLL
    for (size_t j = 0; j < n_cols; j++) {
        BN_UNROLL
        for (int v = 0; v < VECS; v++)
            _mm512_mask_storeu_epi32(y + j * part->ldy + 16 * v, lanes[v], (__m512i)sum[j][v]);
    }
}

/* All columns, in groups of as equal a size as can be: 33 columns are 11 + 11 + 11, not 12 + 12 + 9. */
BN_INLINE void all_columns(const __m512i *w, const struct part *part)
{
    size_t groups = (part->n_cols + TILE_COLS - 1) / TILE_COLS;

    for (size_t c = 0; groups > 0; groups--) {
        size_t n = (part->n_cols - c + groups - 1) / groups;

        switch (n) {
#define CASE(n)                                                                                              \
    case n:                                                                                                  \
        tile_product(w, part, c, n);                                                                         \
        break
            CASE(4);
            CASE(5);
            CASE(6);
            CASE(7);
            CASE(8);
            CASE(9);
            CASE(10);
            CASE(11);
            CASE(12);
#undef CASE
        }
        c += n;
    }
}

BN_INLINE void gemm_many(const uint8_t *w, const int8_t *x, const int32_t *x_sum, int32_t *y, size_t ldy,
                         size_t n_rows, size_t k, size_t n_cols)
{
    __m512i unpacked[DEPTH / STEP * VECS];

    for (size_t r = 0; r < n_rows; r += BN_TILE_ROWS) {
        for (size_t i = 0; i < k; i += DEPTH) {
            const size_t depth = k - i < DEPTH ? k - i : DEPTH;
            const struct part part = {
                .x = x + i,
                .x_sum = x_sum,
                .y = y + r,
                .k = k,
                .ldy = ldy,
                .n_cols = n_cols,
                .n_steps = depth / STEP,
                .n_rows = n_rows - r,
                .first = i == 0,
            };

            unpack(w, unpacked, depth / BN_PIECE_I2S);
            w += depth / BN_PIECE_I2S * BN_PIECE_BYTES;
            all_columns(unpacked, &part);
        }
    }
}

void i2s_gemm_avx512vnni(const uint8_t *w, const int8_t *x, const int32_t *x_sum, int32_t *y, size_t ldy,
                         size_t n_rows, size_t k, size_t n_cols)
{
    size_t fit = X_BYTES / k, groups;

    switch (n_cols) {
    case 1:
        gemm_few(w, x, x_sum, y, ldy, n_rows, k, 1);
        return;
    case 2:
        gemm_few(w, x, x_sum, y, ldy, n_rows, k, 2);
        return;
    case 3:
        gemm_few(w, x, x_sum, y, ldy, n_rows, k, 3);
        return;
    }
    fit = fit < MIN_COLS ? MIN_COLS : fit;
    groups = (n_cols + fit - 1) / fit;
    for (size_t c = 0; groups > 0; groups--) {
        size_t n = (n_cols - c + groups - 1) / groups;

        gemm_many(w, x + c * k, x_sum + c, y + c * ldy, ldy, n_rows, k, n);
        c += n;
    }
}

/* ---- into tiles ---- */

/* Sixteen rows' blocks of 128 codes in file order (32 bytes, rows row_bytes apart) to the eight pieces'
 * halves at out, 128 bytes apart. In a file, byte 4 d + j of a block holds elements 4 d + j + 0, 32, 64 and
 * 96; a piece wants elements that are 4 apart. With the 16 rows' dword d in a vector (a lane is a row), piece
 * 2 q + h, q = element / 32, takes bit pair q of dwords 4 h … 4 h + 3 into its bit pairs 0 … 3. */
BN_INLINE void pack_block(const uint8_t *w, size_t row_bytes, size_t n_rows, uint8_t *out)
{
    const __m512i code = _mm512_set1_epi8(3);
    __m512i in[8], pair[8], quad[8], dword[8];

    /* lanes of 128 bits: in[i] = row i (32 bytes), row i + 4; in[i + 4] = row i + 8, row i + 12 */
    BN_UNROLL
    for (size_t i = 0; i < 8; i++) {
        const size_t low = i < 4 ? i : i + 4, high = low + 4;
        const __m256i zero = _mm256_set1_epi8(BN_I2S_ZERO);
        const __m256i a = low < n_rows ? _mm256_loadu_si256((const void *)(w + low * row_bytes)) : zero;
        const __m256i b = high < n_rows ? _mm256_loadu_si256((const void *)(w + high * row_bytes)) : zero;

        in[i] = _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
    }
    /* transpose 4 rows by 4 dwords in each lane */
    BN_UNROLL
    for (int i = 0; i < 8; i += 2) {
        pair[i] = _mm512_unpacklo_epi32(in[i], in[i + 1]);
        pair[i + 1] = _mm512_unpackhi_epi32(in[i], in[i + 1]);
    }
    BN_UNROLL
    for (int i = 0; i < 8; i += 4) {
        quad[i] = _mm512_unpacklo_epi64(pair[i], pair[i + 2]);
        quad[i + 1] = _mm512_unpackhi_epi64(pair[i], pair[i + 2]);
        quad[i + 2] = _mm512_unpacklo_epi64(pair[i + 1], pair[i + 3]);
        quad[i + 3] = _mm512_unpackhi_epi64(pair[i + 1], pair[i + 3]);
    }
    BN_UNROLL
    for (int i = 0; i < 4; i++) {
        dword[i] = _mm512_shuffle_i64x2(quad[i], quad[i + 4], 0x88);
        dword[i + 4] = _mm512_shuffle_i64x2(quad[i], quad[i + 4], 0xdd);
    }
    BN_UNROLL
    for (int q = 0; q < 4; q++) {
        BN_UNROLL
        for (int h = 0; h < 2; h++) {
            __m512i piece = _mm512_setzero_si512();

            BN_UNROLL
            for (int p = 0; p < 4; p++) {
                const __m512i one =
                    _mm512_and_si512(_mm512_srli_epi16(dword[4 * h + p], (unsigned)(6 - 2 * q)), code);

                piece = _mm512_or_si512(piece, _mm512_slli_epi16(one, (unsigned)(6 - 2 * p)));
            }
            _mm512_storeu_si512(out + (2 * q + h) * BN_PIECE_BYTES, piece);
        }
    }
}

void i2s_pack_avx512vnni(const uint8_t *w, uint8_t *packed, size_t n_rows, size_t k)
{
    const size_t row_bytes = k / 4;

    for (size_t r = 0; r < n_rows; r += BN_TILE_ROWS) {
        for (size_t b = 0; b < k / 128; b++) {
            const uint8_t *from = w + r * row_bytes + b * 32;
            uint8_t *to = packed + r * row_bytes + b * 8 * BN_PIECE_BYTES;

            for (size_t v = 0; v < VECS; v++)
                pack_block(from + 16 * v * row_bytes, row_bytes,
                           n_rows - r > 16 * v ? n_rows - r - 16 * v : 0, to + 64 * v);
        }
    }
}

/* SPDX-License-Identifier: MIT
 * Ternary products over tiles with VNNI: codes are the unsigned operand of dpbusd, four activations spread
 * over all lanes the signed one; a lane is a row, so no sums across lanes are needed.
 *
 * A few vectors take the codes straight from the stream; the fewer they are, the more registers there
 * are for sums, and the less codes need to be shifted down before they are multiplied. The very few are bound
 * by memory, which is read faster in several streams than in one: several tiles far apart are multiplied at a
 * time. More vectors are bound by arithmetic: a tile is unpacked into a buffer that stays in the L1 cache and
 * is used for all vectors. */
#include "kernels/avx512.h"
#include "kernels/pack.h"

enum {
    VECS = BN_TILE_ROWS / 16, /* vectors of 16 rows */
    SUMS = 24,                /* in registers: 12 columns by a tile, or 6 by two tiles */
    FEW_COLS = SUMS / VECS,
    UNPACK_FROM_COLS = 22,
    DEPTH = 256,          /* elements of a row that are unpacked at a time: 16 KiB for two tiles */
    STEP = 4,             /* elements of a row that one lane of dpbusd takes */
    MAX_STREAMS = 4,      /* tiles at a time */
    AHEAD_BYTES = 4096,   /* how far a stream of weights is fetched ahead if it is the only one */
    AHEAD_STREAMS = 1024, /* if there are several */
    X_BYTES =
        900 << 10, /* activations used by all tiles before the next ones: they fit an L2 cache of 1 MiB */
    MIN_COLS = 60, /* but not fewer columns: unpacking must pay */
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

/* The same with the four activations at x, which the instruction itself spreads over the lanes. */
BN_INLINE sums add_products_of_four(sums sum, __m512i codes, const int8_t *x)
{
    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(codes), "m"(*(const int8_t(*)[4])x));
    return sum;
}

/* ---- a few vectors ---- */

/* The codes of place p (0: bits 7:6 … 3: bits 1:0) of each byte, times a factor that depends on how many sums
 * there are for the four places: with 4 sums, 64, 16, 4, 1 and no shift is needed; with 2, the first two
 * places share the factor 16 and the last two 1, with one shift; with 1 sum there is no factor. */
BN_INLINE __m512i codes_at(__m512i v, __m512i shifted, const int p, const int n_sums)
{
    static const char places[4] = {(char)0xc0, 0x30, 0x0c, 0x03};

    if (n_sums == 4)
        return _mm512_and_si512(v, _mm512_set1_epi8(places[p]));
    if (n_sums == 2)
        return _mm512_and_si512(p % 2 ? v : shifted, _mm512_set1_epi8(p < 2 ? 0x30 : 0x03));
    return _mm512_and_si512(p < 3 ? _mm512_srli_epi16(v, (unsigned)(6 - 2 * p)) : v, _mm512_set1_epi8(3));
}

/* Sums of all places without their factors. */
BN_INLINE sums join_places(const sums *s, const int n_sums)
{
    if (n_sums == 4)
        return (s[0] >> 6) + (s[1] >> 4) + (s[2] >> 2) + s[3];
    return n_sums == 2 ? (s[0] >> 4) + s[1] : s[0];
}

/* n_streams tiles, straight from memory. Exact in int32 while the result is. */
BN_INLINE void few_columns(const uint8_t *const *w, const int8_t *x, size_t k,
                           sums (*total)[MAX_STREAMS * VECS], const size_t n_cols, const size_t n_streams,
                           const int n_sums)
{
    const size_t n_vecs = n_streams * VECS, ahead = n_streams == 1 ? AHEAD_BYTES : AHEAD_STREAMS;
    sums sum[FEW_COLS][MAX_STREAMS * VECS][4];

    BN_UNROLL
    for (size_t c = 0; c < n_cols; c++) {
        BN_UNROLL
        for (size_t v = 0; v < n_vecs; v++) {
            BN_UNROLL
            for (int p = 0; p < n_sums; p++)
                sum[c][v][p] = (sums){0};
        }
    }
    for (size_t i = 0, at = 0; i < k; i += BN_PIECE_I2S, at += BN_PIECE_BYTES) {
        __m512i in[MAX_STREAMS * VECS], shifted[MAX_STREAMS * VECS];

        BN_UNROLL
        for (size_t v = 0; v < n_vecs; v++) {
            const uint8_t *from = w[v / VECS] + at + 64 * (v % VECS);

            in[v] = _mm512_loadu_si512(from);
            shifted[v] = _mm512_srli_epi16(in[v], 2);
            _mm_prefetch((const char *)from + ahead, _MM_HINT_T0);
        }
        BN_UNROLL
        for (int p = 0; p < 4; p++) {
            BN_UNROLL
            for (size_t v = 0; v < n_vecs; v++) {
                const __m512i codes = codes_at(in[v], shifted[v], p, n_sums);

                BN_UNROLL
                for (size_t c = 0; c < n_cols; c++)
                    sum[c][v][p * n_sums / 4] = add_products(sum[c][v][p * n_sums / 4], codes,
                                                             four_activations(x + c * k + i + 4 * p));
            }
        }
    }
    BN_UNROLL
    for (size_t c = 0; c < n_cols; c++) {
        BN_UNROLL
        for (size_t v = 0; v < n_vecs; v++)
            total[c][v] = join_places(sum[c][v], n_sums);
    }
}

BN_INLINE void store_sums(int32_t *y, size_t n_rows, const sums *total, int32_t x_sum)
{
    for (size_t v = 0; v < VECS && 16 * v < n_rows; v++)
        _mm512_mask_storeu_epi32(y + 16 * v, lanes16(n_rows - 16 * v), (__m512i)(total[v] - x_sum));
}

/* n_streams tiles that lie `distance` tiles apart; n_rows: from the first one's first row to the last row. */
BN_INLINE void few(const uint8_t *w, const int8_t *x, const int32_t *x_sum, int32_t *y, size_t ldy,
                   size_t n_rows, size_t k, size_t distance, const size_t n_cols, const size_t n_streams,
                   const int n_sums)
{
    sums total[FEW_COLS][MAX_STREAMS * VECS];
    const uint8_t *stream[MAX_STREAMS];

    BN_UNROLL
    for (size_t t = 0; t < n_streams; t++)
        stream[t] = w + t * distance * BN_TILE_ROWS * (k / 4);
    few_columns(stream, x, k, total, n_cols, n_streams, n_sums);
    BN_UNROLL
    for (size_t c = 0; c < n_cols; c++) {
        BN_UNROLL
        for (size_t t = 0; t < n_streams; t++)
            store_sums(y + c * ldy + t * distance * BN_TILE_ROWS, n_rows - t * distance * BN_TILE_ROWS,
                       total[c] + t * VECS, x_sum[c]);
    }
}

void i2s_gemv_avx512vnni(const uint8_t *w, const int8_t *x, int32_t x_sum, int32_t *y, size_t n_rows,
                         size_t k)
{
    const size_t n_tiles = (n_rows + BN_TILE_ROWS - 1) / BN_TILE_ROWS, distance = n_tiles / MAX_STREAMS;
    size_t r = 0;

    for (; r < distance * BN_TILE_ROWS; r += BN_TILE_ROWS)
        few(w + r * (k / 4), x, &x_sum, y + r, n_rows, n_rows - r, k, distance, 1, MAX_STREAMS, 2);
    for (r *= MAX_STREAMS; r < n_rows; r += BN_TILE_ROWS)
        few(w + r * (k / 4), x, &x_sum, y + r, n_rows, n_rows - r, k, 0, 1, 1, 4);
}

/* One tile by all columns, in groups of as equal a size as can be: 16 are 8 + 8, not 12 + 4. */
BN_INLINE void gemm_few(const uint8_t *w, const int8_t *x, const int32_t *x_sum, int32_t *y, size_t ldy,
                        size_t n_rows, size_t k, size_t n_cols)
{
    size_t groups = (n_cols + FEW_COLS - 1) / FEW_COLS;

    for (size_t c = 0; groups > 0; groups--) {
        size_t n = (n_cols - c + groups - 1) / groups;

        switch (n) {
#define CASE(n)                                                                                              \
    case n:                                                                                                  \
        few(w, x + c * k, x_sum + c, y + c * ldy, ldy, n_rows, k, 0, n, 1, n <= 3 ? 4 : n <= 6 ? 2 : 1);     \
        break
            CASE(1);
            CASE(2);
            CASE(3);
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

/* ---- more vectors ---- */

/* Part of a product: one or two tiles' rows by all columns over a stretch of k. */
struct part {
    const int8_t *x; /* column 0 at the start of the stretch; columns k apart */
    const int32_t *x_sum;
    int32_t *y; /* row 0 in column 0; columns ldy apart */
    size_t k, ldy, n_cols, n_pieces;
    size_t n_rows;
    int first; /* the sums begin here, with -x_sum; else they continue from y */
};

/* out[4 * piece + place][vector] holds four codes of each row; a tile takes VECS of the `stride` vectors. */
BN_INLINE void unpack(const uint8_t *w, __m512i *out, size_t n_pieces, size_t stride)
{
    const __m512i code = _mm512_set1_epi8(3);

    for (size_t i = 0; i < n_pieces; i++, w += BN_PIECE_BYTES, out += 4 * stride) {
        BN_UNROLL
        for (size_t v = 0; v < VECS; v++) {
            const __m512i codes = _mm512_loadu_si512(w + 64 * v);

            _mm_prefetch((const char *)w + 64 * v + AHEAD_BYTES, _MM_HINT_T0);
            out[v] = _mm512_and_si512(_mm512_srli_epi16(codes, 6), code);
            out[stride + v] = _mm512_and_si512(_mm512_srli_epi16(codes, 4), code);
            out[2 * stride + v] = _mm512_and_si512(_mm512_srli_epi16(codes, 2), code);
            out[3 * stride + v] = _mm512_and_si512(codes, code);
        }
    }
}

/* The innermost product: n_vecs * 16 rows by n_cols columns, from column c on. The first column's activations
 * are spread by the multiplications, which saves instructions; more columns would run out of loads. */
BN_INLINE void block_product(const __m512i *w, const struct part *part, size_t c, const size_t n_vecs,
                             const size_t n_cols)
{
    const int8_t *x = part->x + c * part->k;
    int32_t *y = part->y + c * part->ldy;
    sums sum[SUMS / VECS][2 * VECS];
    __mmask16 lanes[2 * VECS];

    BN_UNROLL
    for (size_t v = 0; v < n_vecs; v++)
        lanes[v] = part->n_rows > 16 * v ? lanes16(part->n_rows - 16 * v) : (__mmask16)0;
    BN_UNROLL
    for (size_t j = 0; j < n_cols; j++) {
        BN_UNROLL
        for (size_t v = 0; v < n_vecs; v++)
            sum[j][v] = part->first ? (sums)_mm512_set1_epi32(-part->x_sum[c + j])
                                    : (sums)_mm512_maskz_loadu_epi32(lanes[v], y + j * part->ldy + 16 * v);
    }
    for (size_t i = 0; i < part->n_pieces; i++, w += 4 * n_vecs, x += BN_PIECE_I2S) {
        BN_UNROLL
        for (size_t p = 0; p < 4; p++) {
            BN_UNROLL
            for (size_t j = 0; j < n_cols; j++) {
                const int8_t *at = x + j * part->k + STEP * p;
                const __m512i xj = four_activations(at);

                BN_UNROLL
                for (size_t v = 0; v < n_vecs; v++)
                    sum[j][v] = j == 0 ? add_products_of_four(sum[j][v], w[n_vecs * p + v], at)
                                       : add_products(sum[j][v], w[n_vecs * p + v], xj);
            }
        }
    }
    BN_UNROLL
    for (size_t j = 0; j < n_cols; j++) {
        BN_UNROLL
        for (size_t v = 0; v < n_vecs; v++)
            _mm512_mask_storeu_epi32(y + j * part->ldy + 16 * v, lanes[v], (__m512i)sum[j][v]);
    }
}

/* All columns by two tiles' rows, in groups of as equal a size as can be: 25 are 5 five times, not 6, 6, 6,
 * 6, 1. */
BN_INLINE void two_tiles(const __m512i *w, const struct part *part)
{
    size_t groups = (part->n_cols + SUMS / (2 * VECS) - 1) / (SUMS / (2 * VECS));

    for (size_t c = 0; groups > 0; groups--) {
        size_t n = (part->n_cols - c + groups - 1) / groups;

        switch (n) {
#define CASE(n)                                                                                              \
    case n:                                                                                                  \
        block_product(w, part, c, 2 * VECS, n);                                                              \
        break
            CASE(4);
            CASE(5);
            CASE(6);
#undef CASE
        }
        c += n;
    }
}

BN_INLINE void gemm_many(const uint8_t *w, const int8_t *x, const int32_t *x_sum, int32_t *y, size_t ldy,
                         size_t n_rows, size_t k, size_t n_cols)
{
    static _Thread_local __m512i unpacked[DEPTH / STEP * 2 * VECS]; /* samples copy the stack */
    size_t r = 0;

    for (; r + BN_TILE_ROWS < n_rows; r += 2 * BN_TILE_ROWS) {
        for (size_t i = 0; i < k; i += DEPTH) {
            const size_t depth = k - i < DEPTH ? k - i : DEPTH;
            const uint8_t *from = w + r * (k / 4) + i / BN_PIECE_I2S * BN_PIECE_BYTES;
            const struct part part = {
                .x = x + i,
                .x_sum = x_sum,
                .y = y + r,
                .k = k,
                .ldy = ldy,
                .n_cols = n_cols,
                .n_pieces = depth / BN_PIECE_I2S,
                .n_rows = n_rows - r,
                .first = i == 0,
            };

            unpack(from, unpacked, part.n_pieces, 2 * VECS);
            unpack(from + BN_TILE_ROWS * (k / 4), unpacked + VECS, part.n_pieces, 2 * VECS);
            two_tiles(unpacked, &part);
        }
    }
    if (r < n_rows)
        gemm_few(w + r * (k / 4), x, x_sum, y + r, ldy, n_rows - r, k, n_cols);
}

void i2s_gemm_avx512vnni(const uint8_t *w, const int8_t *x, const int32_t *x_sum, int32_t *y, size_t ldy,
                         size_t n_rows, size_t k, size_t n_cols)
{
    size_t fit = X_BYTES / k, groups;

    if (n_cols < UNPACK_FROM_COLS) {
        for (size_t r = 0; r < n_rows; r += BN_TILE_ROWS)
            gemm_few(w + r * (k / 4), x, x_sum, y + r, ldy, n_rows - r, k, n_cols);
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

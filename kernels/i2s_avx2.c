/* SPDX-License-Identifier: MIT
 * Ternary products over tiles with AVX2: maddubs multiplies unsigned codes by four activations spread over
 * all lanes and adds pairs in int16; these sums are widened to int32 after every stretch that could fill
 * them. A 32-bit lane is a row, so no sums across lanes are needed. */
#include "kernels/avx2.h"
#include "kernels/pack.h"

enum {
    VECS = BN_TILE_ROWS / 8, /* vectors of 8 rows */
    GEMM_FROM_COLS = 3,      /* fewer vectors do not repay the unpacking */
    PAIR = 2,                /* an inner product: 2 vectors of 8 rows … */
    TILE_COLS = 4,           /* … by 4 columns, 8 sums in registers */
    DEPTH = 384,             /* elements of a row that are unpacked at a time: 12 KiB a tile */
    STEP = 4,                /* elements of a row that one 32-bit lane holds */
    AHEAD_BYTES = 4096,      /* how far the stream of weights is fetched ahead */
    X_BYTES = 384 << 10, /* activations used by all tiles before the next ones: they stay in the L2 cache */
    MIN_COLS = 60,       /* but not fewer columns: unpacking must pay */
    /* A code is at most 3 and |x| at most 128, so a maddubs adds at most 768 to an int16: 42 fit. */
    WIDEN_PIECES = 8, /* of 4 maddubs: 32 */
    WIDEN_STEPS = 32,
};

/* Sixteen sums in int16. Not __m256i, whose lanes gcc takes for 64 bits wide: it would copy every sum before
 * and after it is added to. */
typedef int16_t words __attribute__((vector_size(32)));

BN_INLINE words products(__m256i w, __m256i x)
{
    return (words)_mm256_maddubs_epi16(w, x);
}

BN_INLINE __m256i widen(words sum)
{
    return _mm256_madd_epi16((__m256i)sum, _mm256_set1_epi16(1));
}

/* The codes of the bit pair `shift` / 2 of each byte. */
BN_INLINE __m256i codes_at(__m256i v, const int shift)
{
    return _mm256_and_si256(_mm256_srli_epi16(v, shift), _mm256_set1_epi8(3));
}

BN_INLINE __m256i four_activations(const int8_t *x)
{
    int32_t four;

    memcpy(&four, x, sizeof four);
    return _mm256_set1_epi32(four);
}

BN_INLINE __m256i load32(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

/* ---- one vector ---- */

BN_INLINE void gemv_tile(const uint8_t *w, const int8_t *x, int32_t x_sum, int32_t *y, size_t n_rows,
                         size_t k)
{
    __m256i sum[VECS];
    words part[VECS];

    BN_UNROLL
    for (int v = 0; v < VECS; v++)
        sum[v] = _mm256_set1_epi32(-x_sum);
    for (size_t i = 0; i < k; i += WIDEN_PIECES * BN_PIECE_I2S) {
        const size_t end = k - i < WIDEN_PIECES * BN_PIECE_I2S ? k : i + WIDEN_PIECES * BN_PIECE_I2S;

        BN_UNROLL
        for (int v = 0; v < VECS; v++)
            part[v] = (words){0};
        for (size_t at = i; at < end; at += BN_PIECE_I2S, w += BN_PIECE_BYTES) {
            const __m256i x0 = four_activations(x + at), x1 = four_activations(x + at + 4);
            const __m256i x2 = four_activations(x + at + 8), x3 = four_activations(x + at + 12);

            _mm_prefetch((const char *)w + AHEAD_BYTES, _MM_HINT_T0);
            _mm_prefetch((const char *)w + AHEAD_BYTES + 64, _MM_HINT_T0);
            BN_UNROLL
            for (int v = 0; v < VECS; v++) {
                const __m256i codes = load32(w + 32 * v);

                part[v] += (products(codes_at(codes, 6), x0) + products(codes_at(codes, 4), x1)) +
                           (products(codes_at(codes, 2), x2) + products(codes_at(codes, 0), x3));
            }
        }
        BN_UNROLL
        for (int v = 0; v < VECS; v++)
            sum[v] = _mm256_add_epi32(sum[v], widen(part[v]));
    }
    for (size_t v = 0; v < VECS && 8 * v < n_rows; v++)
        _mm256_maskstore_epi32(y + 8 * v, lanes8(n_rows - 8 * v), sum[v]);
}

void i2s_gemv_avx2(const uint8_t *w, const int8_t *x, int32_t x_sum, int32_t *y, size_t n_rows, size_t k)
{
    for (size_t r = 0; r < n_rows; r += BN_TILE_ROWS)
        gemv_tile(w + r * (k / 4), x, x_sum, y + r, n_rows - r, k);
}

/* ---- many vectors ---- */

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
BN_INLINE void unpack(const uint8_t *w, __m256i *out, size_t n_pieces)
{
    for (size_t i = 0; i < n_pieces; i++, w += BN_PIECE_BYTES, out += 4 * VECS) {
        _mm_prefetch((const char *)w + AHEAD_BYTES, _MM_HINT_T0);
        _mm_prefetch((const char *)w + AHEAD_BYTES + 64, _MM_HINT_T0);
        BN_UNROLL
        for (int v = 0; v < VECS; v++) {
            const __m256i codes = load32(w + 32 * v);

            out[v] = codes_at(codes, 6);
            out[VECS + v] = codes_at(codes, 4);
            out[2 * VECS + v] = codes_at(codes, 2);
            out[3 * VECS + v] = codes_at(codes, 0);
        }
    }
}

/* Two vectors of rows, from vector v on, by n_cols columns, from column c on. */
BN_INLINE void pair_product(const __m256i *w, const struct part *part, size_t v, size_t c,
                            const size_t n_cols)
{
    const int8_t *x = part->x + c * part->k;
    const __m256i lanes[PAIR] = {lanes8(part->n_rows - 8 * v), part->n_rows > 8 * v + 8
                                                                   ? lanes8(part->n_rows - 8 * v - 8)
                                                                   : _mm256_setzero_si256()};
    int32_t *y = part->y + c * part->ldy + 8 * v;
    __m256i sum[TILE_COLS][PAIR];

    for (size_t j = 0; j < n_cols; j++) {
        for (int i = 0; i < PAIR; i++)
            sum[j][i] = part->first ? _mm256_set1_epi32(-part->x_sum[c + j])
                                    : _mm256_maskload_epi32(y + j * part->ldy + 8 * i, lanes[i]);
    }
    for (size_t s = 0; s < part->n_steps; s += WIDEN_STEPS) {
        const size_t end = part->n_steps - s < WIDEN_STEPS ? part->n_steps : s + WIDEN_STEPS;
        words sum16[TILE_COLS][PAIR];

        BN_UNROLL
        for (size_t j = 0; j < n_cols; j++)
            sum16[j][0] = sum16[j][1] = (words){0};
        for (size_t i = s; i < end; i++) {
            const __m256i w0 = w[i * VECS + v], w1 = w[i * VECS + v + 1];

            BN_UNROLL
            for (size_t j = 0; j < n_cols; j++) {
                const __m256i xj = four_activations(x + j * part->k + i * STEP);

                sum16[j][0] += products(w0, xj);
                sum16[j][1] += products(w1, xj);
            }
        }
        BN_UNROLL
        for (size_t j = 0; j < n_cols; j++) {
            BN_UNROLL
            for (int i = 0; i < PAIR; i++)
                sum[j][i] = _mm256_add_epi32(sum[j][i], widen(sum16[j][i]));
        }
    }
    for (size_t j = 0; j < n_cols; j++) {
        for (int i = 0; i < PAIR; i++)
            _mm256_maskstore_epi32(y + j * part->ldy + 8 * i, lanes[i], sum[j][i]);
    }
}

/* All columns, in groups of as equal a size as can be. */
BN_INLINE void all_columns(const __m256i *w, const struct part *part, size_t v)
{
    size_t groups = (part->n_cols + TILE_COLS - 1) / TILE_COLS;

    for (size_t c = 0; groups > 0; groups--) {
        size_t n = (part->n_cols - c + groups - 1) / groups;

        if (n == 4)
            pair_product(w, part, v, c, 4);
        else if (n == 3)
            pair_product(w, part, v, c, 3);
        else
            pair_product(w, part, v, c, 2);
        c += n;
    }
}

BN_INLINE void gemm_many(const uint8_t *w, const int8_t *x, const int32_t *x_sum, int32_t *y, size_t ldy,
                         size_t n_rows, size_t k, size_t n_cols)
{
    static _Thread_local __m256i unpacked[DEPTH / STEP * VECS]; /* samples copy the stack */

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
            for (size_t v = 0; v < VECS && 8 * v < part.n_rows; v += PAIR)
                all_columns(unpacked, &part, v);
        }
    }
}

void i2s_gemm_avx2(const uint8_t *w, const int8_t *x, const int32_t *x_sum, int32_t *y, size_t ldy,
                   size_t n_rows, size_t k, size_t n_cols)
{
    size_t fit = X_BYTES / k, groups;

    if (n_cols < GEMM_FROM_COLS) {
        for (size_t r = 0; r < n_rows; r += BN_TILE_ROWS) {
            for (size_t c = 0; c < n_cols; c++)
                gemv_tile(w + r * (k / 4), x + c * k, x_sum[c], y + c * ldy + r, n_rows - r, k);
        }
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

/* Eight rows' blocks of 128 codes in file order (32 bytes, rows row_bytes apart) to a quarter of eight pieces
 * at out, BN_PIECE_BYTES apart. In a file, byte 4 d + j of a block holds elements 4 d + j + 0, 32, 64 and 96;
 * a piece wants elements that are 4 apart. With the rows' dword d in a vector (a lane is a row), piece 2 q +
 * h, q = element / 32, takes bit pair q of dwords 4 h … 4 h + 3 into its bit pairs 0 … 3. */
BN_INLINE void pack_block(const uint8_t *w, size_t row_bytes, size_t n_rows, uint8_t *out)
{
    __m256i in[8], pair[8], quad[8], dword[8];

    BN_UNROLL
    for (size_t i = 0; i < 8; i++)
        in[i] = i < n_rows ? load32(w + i * row_bytes) : _mm256_set1_epi8(BN_I2S_ZERO);
    /* transpose 4 rows by 4 dwords in each lane of 128 bits */
    BN_UNROLL
    for (int i = 0; i < 8; i += 2) {
        pair[i] = _mm256_unpacklo_epi32(in[i], in[i + 1]);
        pair[i + 1] = _mm256_unpackhi_epi32(in[i], in[i + 1]);
    }
    BN_UNROLL
    for (int i = 0; i < 8; i += 4) {
        quad[i] = _mm256_unpacklo_epi64(pair[i], pair[i + 2]);
        quad[i + 1] = _mm256_unpackhi_epi64(pair[i], pair[i + 2]);
        quad[i + 2] = _mm256_unpacklo_epi64(pair[i + 1], pair[i + 3]);
        quad[i + 3] = _mm256_unpackhi_epi64(pair[i + 1], pair[i + 3]);
    }
    BN_UNROLL
    for (int i = 0; i < 4; i++) {
        dword[i] = _mm256_permute2x128_si256(quad[i], quad[i + 4], 0x20);
        dword[i + 4] = _mm256_permute2x128_si256(quad[i], quad[i + 4], 0x31);
    }
    BN_UNROLL
    for (int q = 0; q < 4; q++) {
        BN_UNROLL
        for (int h = 0; h < 2; h++) {
            __m256i piece = _mm256_setzero_si256();

            BN_UNROLL
            for (int p = 0; p < 4; p++)
                piece = _mm256_or_si256(piece,
                                        _mm256_slli_epi16(codes_at(dword[4 * h + p], 6 - 2 * q), 6 - 2 * p));
            _mm256_storeu_si256((__m256i *)(void *)(out + (2 * q + h) * BN_PIECE_BYTES), piece);
        }
    }
}

void i2s_pack_avx2(const uint8_t *w, uint8_t *packed, size_t n_rows, size_t k)
{
    const size_t row_bytes = k / 4;

    for (size_t r = 0; r < n_rows; r += BN_TILE_ROWS) {
        for (size_t b = 0; b < k / 128; b++) {
            const uint8_t *from = w + r * row_bytes + b * 32;
            uint8_t *to = packed + r * row_bytes + b * 8 * BN_PIECE_BYTES;

            for (size_t v = 0; v < VECS; v++)
                pack_block(from + 8 * v * row_bytes, row_bytes, n_rows - r > 8 * v ? n_rows - r - 8 * v : 0,
                           to + 32 * v);
        }
    }
}

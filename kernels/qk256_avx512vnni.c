/* SPDX-License-Identifier: MIT
 * Ternary products with VNNI: codes are the unsigned operand of dpbusd, activations the signed one, sums are
 * int32.
 *
 * One vector (decode) is bound by memory: rows are read in place, and the codes are not even shifted down.
 * Many vectors (prefill) are bound by arithmetic: a tile of rows is unpacked once into a buffer that stays in
 * the L1 cache and is used for all vectors. There a lane is a row, so that no sums across lanes are needed.
 */
#include "kernels/avx512.h"

enum {
    BLOCK = 128,        /* elements of a row that share 32 bytes */
    GEMV_ROWS = 8,      /* rows that share the loaded activations */
    GEMM_FROM_COLS = 6, /* fewer vectors do not repay the unpacking */
    VECS = 3,           /* a tile: 3 vectors of 16 rows … */
    TILE_COLS = 8,      /* … by 8 columns, 24 sums in registers */
    TILE_ROWS = 16 * VECS,
    STEP = 4, /* elements of a row that one lane of dpbusd takes */
    BLOCK_STEPS = BLOCK / STEP,
    DEPTH_BLOCKS = 4,    /* a tile is at most 512 elements deep: 24 KiB unpacked */
    X_BYTES = 384 << 10, /* activations used by all tiles before the next ones: they stay in the L2 cache */
    MIN_COLS = 64,       /* but not fewer columns: unpacking must pay */
};

/* Sixteen sums. Not __m512i, whose lanes gcc takes for 64 bits wide: it would copy every sum before and after
 * it is added to. */
typedef int32_t sums __attribute__((vector_size(64)));

BN_INLINE sums add_products(sums sum, __m512i codes, __m512i x)
{
    return (sums)_mm512_dpbusd_epi32((__m512i)sum, codes, x);
}

/* ---- one vector ---- */

/* Eight vectors of 16 sums to eight sums. */
BN_INLINE __m256i sum_lanes_of_8(const __m512i *v)
{
    __m256i half[8], low, high;

    BN_UNROLL
    for (int i = 0; i < 8; i++)
        half[i] = _mm256_add_epi32(_mm512_castsi512_si256(v[i]), _mm512_extracti64x4_epi64(v[i], 1));
    low = _mm256_hadd_epi32(_mm256_hadd_epi32(half[0], half[1]), _mm256_hadd_epi32(half[2], half[3]));
    high = _mm256_hadd_epi32(_mm256_hadd_epi32(half[4], half[5]), _mm256_hadd_epi32(half[6], half[7]));
    return _mm256_add_epi32(_mm256_permute2x128_si256(low, high, 0x20),
                            _mm256_permute2x128_si256(low, high, 0x31));
}

/* sum[r] = 16 partial sums of code * x. The 32 bytes of a block stand in both halves of a vector; masks
 * choose the bit pairs that belong to elements 0…31 and 32…63 (sums `high`, 64 and 16 times too large), 64…95
 * and 96…127 (sums `low`, 4 times and once). Exact in int32 while the result is. */
BN_INLINE void dot_rows(const uint8_t *w, const int8_t *x, size_t k, size_t ahead_bytes, __m512i *sum,
                        const int n_rows)
{
    const __m512i high_mask = _mm512_inserti64x4(_mm512_set1_epi8((char)0xc0), _mm256_set1_epi8(0x30), 1);
    const __m512i low_mask = _mm512_inserti64x4(_mm512_set1_epi8(0x0c), _mm256_set1_epi8(0x03), 1);
    const __m512i high_shift = _mm512_inserti64x4(_mm512_set1_epi32(6), _mm256_set1_epi32(4), 1);
    const __m512i low_shift = _mm512_inserti64x4(_mm512_set1_epi32(2), _mm256_setzero_si256(), 1);
    const size_t row_bytes = k / 4;
    sums high[GEMV_ROWS], low[GEMV_ROWS];

    BN_UNROLL
    for (int r = 0; r < n_rows; r++)
        high[r] = low[r] = (sums){0};
    for (size_t at = 0; at < row_bytes; at += BLOCK / 4) {
        const __m512i x_high = _mm512_loadu_si512(x + 4 * at), x_low = _mm512_loadu_si512(x + 4 * at + 64);

        BN_UNROLL
        for (int r = 0; r < n_rows; r++) {
            const uint8_t *p = w + (size_t)r * row_bytes + at;
            const __m512i v = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)(const void *)p));

            _mm_prefetch((const char *)p + ahead_bytes, _MM_HINT_T0);
            high[r] = add_products(high[r], _mm512_and_si512(v, high_mask), x_high);
            low[r] = add_products(low[r], _mm512_and_si512(v, low_mask), x_low);
        }
    }
    BN_UNROLL
    for (int r = 0; r < n_rows; r++)
        sum[r] = _mm512_add_epi32(_mm512_srav_epi32((__m512i)high[r], high_shift),
                                  _mm512_srav_epi32((__m512i)low[r], low_shift));
}

BN_INLINE void gemv_8_rows(const uint8_t *w, const int8_t *x, int32_t x_sum, int32_t *y, size_t k)
{
    __m512i sum[GEMV_ROWS];

    dot_rows(w, x, k, GEMV_ROWS * (k / 4), sum, GEMV_ROWS);
    _mm256_storeu_si256((__m256i *)(void *)y,
                        _mm256_sub_epi32(sum_lanes_of_8(sum), _mm256_set1_epi32(x_sum)));
}

BN_INLINE void gemv_1_row(const uint8_t *w, const int8_t *x, int32_t x_sum, int32_t *y, size_t k)
{
    __m512i sum[1];

    dot_rows(w, x, k, k / 4, sum, 1);
    *y = _mm512_reduce_add_epi32(sum[0]) - x_sum;
}

void qk256_gemv_avx512vnni(const uint8_t *w, const int8_t *x, int32_t x_sum, int32_t *y, size_t n_rows,
                           size_t k)
{
    size_t r = 0;

    for (; r + GEMV_ROWS <= n_rows; r += GEMV_ROWS)
        gemv_8_rows(w + r * (k / 4), x, x_sum, y + r, k);
    for (; r < n_rows; r++)
        gemv_1_row(w + r * (k / 4), x, x_sum, y + r, k);
}

/* A few vectors: eight rows at a time, which stay in the L1 cache from the first vector to the last. */
BN_INLINE void gemm_few(const uint8_t *w, const int8_t *x, const int32_t *x_sum, int32_t *y, size_t ldy,
                        size_t n_rows, size_t k, size_t n_cols)
{
    size_t r = 0;

    for (; r + GEMV_ROWS <= n_rows; r += GEMV_ROWS) {
        for (size_t c = 0; c < n_cols; c++)
            gemv_8_rows(w + r * (k / 4), x + c * k, x_sum[c], y + c * ldy + r, k);
    }
    for (; r < n_rows; r++) {
        for (size_t c = 0; c < n_cols; c++)
            gemv_1_row(w + r * (k / 4), x + c * k, x_sum[c], y + c * ldy + r, k);
    }
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

/* Unpack one block of 16 rows: out[step * stride] holds four elements of each row, a row a lane. Rows beyond
 * the n_rows that there are repeat the last; their sums are not stored. */
BN_INLINE void unpack_16_rows(const uint8_t *w, size_t row_bytes, size_t n_rows, __m512i *out, size_t stride)
{
    const __m512i code = _mm512_set1_epi8(3);
    __m512i in[8], pair[8], quad[8];

    /* lanes of 128 bits: in[i] = row i (32 bytes), row i + 4; in[i + 4] = row i + 8, row i + 12 */
    BN_UNROLL
    for (size_t i = 0; i < 8; i++) {
        size_t low = i < 4 ? i : i + 4, high = low + 4;
        const uint8_t *p = w + (low < n_rows ? low : n_rows - 1) * row_bytes;
        const uint8_t *q = w + (high < n_rows ? high : n_rows - 1) * row_bytes;

        _mm_prefetch((const char *)p + TILE_ROWS * row_bytes, _MM_HINT_T1); /* the next tile */
        _mm_prefetch((const char *)q + TILE_ROWS * row_bytes, _MM_HINT_T1);
        in[i] =
            _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)(const void *)p)),
                               _mm256_loadu_si256((const __m256i *)(const void *)q), 1);
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
    /* lanes 0 and 2 of quad[i] and quad[i + 4] are dword i of rows 0…15, lanes 1 and 3 dword i + 4; bytes p
     * of a dword hold elements p, p + 32, p + 64, p + 96 */
    BN_UNROLL
    for (size_t i = 0; i < 8; i++) {
        const __m512i a = quad[i % 4], b = quad[i % 4 + 4];
        const __m512i v = i < 4 ? _mm512_shuffle_i64x2(a, b, 0x88) : _mm512_shuffle_i64x2(a, b, 0xdd);

        out[i * stride] = _mm512_and_si512(_mm512_srli_epi16(v, 6), code);
        out[(i + 8) * stride] = _mm512_and_si512(_mm512_srli_epi16(v, 4), code);
        out[(i + 16) * stride] = _mm512_and_si512(_mm512_srli_epi16(v, 2), code);
        out[(i + 24) * stride] = _mm512_and_si512(v, code);
    }
}

/* The innermost product: n_vecs * 16 rows by n_cols columns, from column c on. */
BN_INLINE void tile_product(const __m512i *w, const struct part *part, size_t c, const size_t n_vecs,
                            const size_t n_cols)
{
    const __mmask16 last = lanes16(part->n_rows - 16 * (n_vecs - 1));
    const int8_t *x = part->x + c * part->k;
    int32_t *y = part->y + c * part->ldy;
    sums sum[VECS][TILE_COLS];

    BN_UNROLL
    for (size_t j = 0; j < n_cols; j++) {
        BN_UNROLL
        for (size_t v = 0; v < n_vecs; v++)
            sum[v][j] = part->first ? (sums)_mm512_set1_epi32(-part->x_sum[c + j])
                                    : (sums)_mm512_maskz_loadu_epi32(v + 1 < n_vecs ? 0xffff : last,
                                                                     y + j * part->ldy + 16 * v);
    }
    if (part->first) { /* their lines, needed at the end, are not in a cache yet */
        BN_UNROLL
        for (size_t j = 0; j < n_cols; j++) {
            BN_UNROLL
            for (size_t v = 0; v < n_vecs; v++)
                _mm_prefetch((const char *)(y + j * part->ldy + 16 * v), _MM_HINT_T0);
        }
    }
    for (size_t s = 0; s < part->n_steps; s++, w += n_vecs, x += STEP) {
        BN_UNROLL
        for (size_t j = 0; j < n_cols; j++) {
            int32_t four;

            __builtin_memcpy(&four, x + j * part->k, sizeof four);
            const __m512i xj = _mm512_set1_epi32(four);

            BN_UNROLL
            for (size_t v = 0; v < n_vecs; v++)
                sum[v][j] = add_products(sum[v][j], w[v], xj);
        }
    }
    BN_UNROLL
    for (size_t j = 0; j < n_cols; j++) {
        BN_UNROLL
        for (size_t v = 0; v < n_vecs; v++)
            _mm512_mask_storeu_epi32(y + j * part->ldy + 16 * v, v + 1 < n_vecs ? 0xffff : last,
                                     (__m512i)sum[v][j]);
    }
}

/* All columns, in groups of as equal a size as can be: 33 columns are 7 + 7 + 7 + 6 + 6, not 8 + 8 + 8 + 8
 * + 1. */
BN_INLINE void all_columns(const __m512i *w, const struct part *part, const size_t n_vecs)
{
    size_t groups = (part->n_cols + TILE_COLS - 1) / TILE_COLS;

    for (size_t c = 0; groups > 0; groups--) {
        size_t n = (part->n_cols - c + groups - 1) / groups;

        switch (n) {
#define CASE(n)                                                                                              \
    case n:                                                                                                  \
        tile_product(w, part, c, n_vecs, n);                                                                 \
        break
            CASE(1);
            CASE(2);
            CASE(3);
            CASE(4);
            CASE(5);
            CASE(6);
            CASE(7);
            CASE(8);
#undef CASE
        }
        c += n;
    }
}

BN_INLINE void gemm_many(const uint8_t *w, const int8_t *x, const int32_t *x_sum, int32_t *y, size_t ldy,
                         size_t n_rows, size_t k, size_t n_cols)
{
    static _Thread_local __m512i unpacked[DEPTH_BLOCKS * BLOCK_STEPS * VECS]; /* samples copy the stack */
    const size_t row_bytes = k / 4;

    for (size_t r = 0; r < n_rows; r += TILE_ROWS) {
        const size_t rows = n_rows - r < TILE_ROWS ? n_rows - r : TILE_ROWS, n_vecs = (rows + 15) / 16;

        for (size_t b = 0; b < k / BLOCK; b += DEPTH_BLOCKS) {
            const size_t blocks = k / BLOCK - b < DEPTH_BLOCKS ? k / BLOCK - b : DEPTH_BLOCKS;
            const struct part part = {
                .x = x + b * BLOCK,
                .x_sum = x_sum,
                .y = y + r,
                .k = k,
                .ldy = ldy,
                .n_cols = n_cols,
                .n_steps = blocks * BLOCK_STEPS,
                .n_rows = rows,
                .first = b == 0,
            };

            for (size_t v = 0; v < n_vecs; v++) {
                const uint8_t *from = w + (r + 16 * v) * row_bytes + b * (BLOCK / 4);

                for (size_t i = 0; i < blocks; i++)
                    unpack_16_rows(from + i * (BLOCK / 4), row_bytes, rows - 16 * v,
                                   unpacked + i * BLOCK_STEPS * n_vecs + v, n_vecs);
            }
            if (n_vecs == 3)
                all_columns(unpacked, &part, 3);
            else if (n_vecs == 2)
                all_columns(unpacked, &part, 2);
            else
                all_columns(unpacked, &part, 1);
        }
    }
}

void qk256_gemm_avx512vnni(const uint8_t *w, const int8_t *x, const int32_t *x_sum, int32_t *y, size_t ldy,
                           size_t n_rows, size_t k, size_t n_cols)
{
    size_t fit = X_BYTES / k, groups;

    if (n_cols < GEMM_FROM_COLS) {
        gemm_few(w, x, x_sum, y, ldy, n_rows, k, n_cols);
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

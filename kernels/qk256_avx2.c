/* SPDX-License-Identifier: MIT
 * Ternary products with AVX2: maddubs multiplies unsigned codes by signed activations and adds pairs in
 * int16; the int16 sums are widened to int32 after every stretch that could fill them.
 *
 * The shape is that of the VNNI file: one vector reads rows in place, many vectors unpack a tile of rows
 * once. */
#include "kernels/avx2.h"

enum {
    BLOCK = 128,        /* elements of a row that share 32 bytes */
    GEMV_ROWS = 4,      /* rows that share the loaded activations */
    GEMM_FROM_COLS = 6, /* fewer vectors do not repay the unpacking */
    VECS = 2,           /* a tile: 2 vectors of 8 rows … */
    TILE_COLS = 4,      /* … by 4 columns */
    TILE_ROWS = 8 * VECS,
    STEP = 4, /* elements of a row that one 32-bit lane holds */
    BLOCK_STEPS = BLOCK / STEP,
    DEPTH_BLOCKS = 8,    /* a tile is at most 1024 elements deep: 16 KiB unpacked */
    X_BYTES = 384 << 10, /* activations used by all tiles before the next ones: they stay in the L2 cache */
    MIN_COLS = 64,       /* but not fewer columns: unpacking must pay */
    /* A code is at most 3 and |x| at most 128, so a maddubs adds at most 768 to an int16: 42 fit. */
    WIDEN_BLOCKS = 8, /* of 4 maddubs, one vector: 32 */
    WIDEN_STEPS = 32, /* many vectors: a block */
};

BN_INLINE __m256i load32(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

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

/* The codes of bit pair `shift` / 2 of each byte. */
BN_INLINE __m256i codes(__m256i v, const int shift)
{
    return _mm256_and_si256(_mm256_srli_epi16(v, shift), _mm256_set1_epi8(3));
}

/* ---- one vector ---- */

BN_INLINE void gemv_rows(const uint8_t *w, const int8_t *x, int32_t x_sum, int32_t *y, size_t k,
                         const int n_rows)
{
    const size_t row_bytes = k / 4, n_blocks = k / BLOCK;
    __m256i sum[GEMV_ROWS];
    words part[GEMV_ROWS];

    BN_UNROLL
    for (int r = 0; r < n_rows; r++)
        sum[r] = _mm256_setzero_si256();
    for (size_t b = 0; b < n_blocks; b += WIDEN_BLOCKS) {
        const size_t end = n_blocks - b < WIDEN_BLOCKS ? n_blocks : b + WIDEN_BLOCKS;

        BN_UNROLL
        for (int r = 0; r < n_rows; r++)
            part[r] = (words){0};
        for (size_t i = b; i < end; i++) {
            const int8_t *xi = x + i * BLOCK;
            const __m256i x0 = load32(xi), x1 = load32(xi + 32), x2 = load32(xi + 64), x3 = load32(xi + 96);

            BN_UNROLL
            for (int r = 0; r < n_rows; r++) {
                const uint8_t *p = w + (size_t)r * row_bytes + i * (BLOCK / 4);
                const __m256i v = load32(p);

                _mm_prefetch((const char *)p + (size_t)n_rows * row_bytes, _MM_HINT_T0);
                part[r] += (products(codes(v, 6), x0) + products(codes(v, 4), x1)) +
                           (products(codes(v, 2), x2) + products(codes(v, 0), x3));
            }
        }
        BN_UNROLL
        for (int r = 0; r < n_rows; r++)
            sum[r] = _mm256_add_epi32(sum[r], widen(part[r]));
    }
    BN_UNROLL
    for (int r = 0; r < n_rows; r++)
        y[r] = sum8_int(sum[r]) - x_sum;
}

void qk256_gemv_avx2(const uint8_t *w, const int8_t *x, int32_t x_sum, int32_t *y, size_t n_rows, size_t k)
{
    size_t r = 0;

    for (; r + GEMV_ROWS <= n_rows; r += GEMV_ROWS)
        gemv_rows(w + r * (k / 4), x, x_sum, y + r, k, GEMV_ROWS);
    for (; r < n_rows; r++)
        gemv_rows(w + r * (k / 4), x, x_sum, y + r, k, 1);
}

/* A few vectors: four rows at a time, which stay in the L1 cache from the first vector to the last. */
BN_INLINE void gemm_few(const uint8_t *w, const int8_t *x, const int32_t *x_sum, int32_t *y, size_t ldy,
                        size_t n_rows, size_t k, size_t n_cols)
{
    size_t r = 0;

    for (; r + GEMV_ROWS <= n_rows; r += GEMV_ROWS) {
        for (size_t c = 0; c < n_cols; c++)
            gemv_rows(w + r * (k / 4), x + c * k, x_sum[c], y + c * ldy + r, k, GEMV_ROWS);
    }
    for (; r < n_rows; r++) {
        for (size_t c = 0; c < n_cols; c++)
            gemv_rows(w + r * (k / 4), x + c * k, x_sum[c], y + c * ldy + r, k, 1);
    }
}

/* ---- many vectors ---- */

/* Part of a product: a tile's rows by all columns over a stretch of k. */
struct part {
    const int8_t *x; /* column 0 at the start of the stretch; columns k apart */
    const int32_t *x_sum;
    int32_t *y; /* row 0 of the tile in column 0; columns ldy apart */
    size_t k, ldy, n_cols, n_blocks;
    size_t n_rows;
    int first; /* the sums begin here, with -x_sum; else they continue from y */
};

/* Unpack one block of 8 rows: out[step * stride] holds four elements of each row, a row a lane. Rows beyond
 * the n_rows that there are repeat the last; their sums are not stored. */
BN_INLINE void unpack_8_rows(const uint8_t *w, size_t row_bytes, size_t n_rows, __m256i *out, size_t stride)
{
    __m256i in[8], pair[8], quad[8];

    BN_UNROLL
    for (size_t i = 0; i < 8; i++) {
        const uint8_t *p = w + (i < n_rows ? i : n_rows - 1) * row_bytes;

        _mm_prefetch((const char *)p + TILE_ROWS * row_bytes, _MM_HINT_T1); /* the next tile */
        in[i] = load32(p);
    }
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
    /* lane 0 of quad[i] and quad[i + 4] is dword i of rows 0…7, lane 1 dword i + 4; byte p of the block holds
     * elements p, p + 32, p + 64, p + 96 */
    BN_UNROLL
    for (size_t i = 0; i < 8; i++) {
        const __m256i a = quad[i % 4], b = quad[i % 4 + 4];
        const __m256i v =
            i < 4 ? _mm256_permute2x128_si256(a, b, 0x20) : _mm256_permute2x128_si256(a, b, 0x31);

        out[i * stride] = codes(v, 6);
        out[(i + 8) * stride] = codes(v, 4);
        out[(i + 16) * stride] = codes(v, 2);
        out[(i + 24) * stride] = codes(v, 0);
    }
}

/* Sums of one block, in int16, added to the int32 sums of n_vecs * 8 rows by n_cols columns. */
BN_INLINE void block_product(const __m256i *w, const int8_t *x, size_t k, __m256i (*sum)[TILE_COLS],
                             const size_t n_vecs, const size_t n_cols)
{
    words part[VECS][TILE_COLS];

    BN_UNROLL
    for (size_t v = 0; v < n_vecs; v++) {
        BN_UNROLL
        for (size_t j = 0; j < n_cols; j++)
            part[v][j] = (words){0};
    }
    for (size_t s = 0; s < WIDEN_STEPS; s++, w += n_vecs, x += STEP) {
        BN_UNROLL
        for (size_t j = 0; j < n_cols; j++) {
            int32_t four;

            memcpy(&four, x + j * k, sizeof four);
            const __m256i xj = _mm256_set1_epi32(four);

            BN_UNROLL
            for (size_t v = 0; v < n_vecs; v++)
                part[v][j] += products(w[v], xj);
        }
    }
    BN_UNROLL
    for (size_t v = 0; v < n_vecs; v++) {
        BN_UNROLL
        for (size_t j = 0; j < n_cols; j++)
            sum[v][j] = _mm256_add_epi32(sum[v][j], widen(part[v][j]));
    }
}

/* n_vecs * 8 rows by n_cols columns, from column c on. */
BN_INLINE void tile_product(const __m256i *w, const struct part *part, size_t c, const size_t n_vecs,
                            const size_t n_cols)
{
    const int8_t *x = part->x + c * part->k;
    __m256i sum[VECS][TILE_COLS];

    for (size_t j = 0; j < n_cols; j++) {
        for (size_t v = 0; v < n_vecs; v++) {
            const int32_t *y = part->y + (c + j) * part->ldy + 8 * v;

            sum[v][j] = part->first ? _mm256_set1_epi32(-part->x_sum[c + j])
                                    : _mm256_maskload_epi32(y, lanes8(part->n_rows - 8 * v));
        }
    }
    for (size_t b = 0; b < part->n_blocks; b++)
        block_product(w + b * BLOCK_STEPS * n_vecs, x + b * BLOCK, part->k, sum, n_vecs, n_cols);
    for (size_t j = 0; j < n_cols; j++) {
        for (size_t v = 0; v < n_vecs; v++) {
            int32_t *y = part->y + (c + j) * part->ldy + 8 * v;

            _mm256_maskstore_epi32(y, lanes8(part->n_rows - 8 * v), sum[v][j]);
        }
    }
}

/* All columns, in groups of as equal a size as can be. */
BN_INLINE void all_columns(const __m256i *w, const struct part *part, const size_t n_vecs)
{
    size_t groups = (part->n_cols + TILE_COLS - 1) / TILE_COLS;

    for (size_t c = 0; groups > 0; groups--) {
        size_t n = (part->n_cols - c + groups - 1) / groups;

        if (n == 4)
            tile_product(w, part, c, n_vecs, 4);
        else if (n == 3)
            tile_product(w, part, c, n_vecs, 3);
        else if (n == 2)
            tile_product(w, part, c, n_vecs, 2);
        else
            tile_product(w, part, c, n_vecs, 1);
        c += n;
    }
}

BN_INLINE void gemm_many(const uint8_t *w, const int8_t *x, const int32_t *x_sum, int32_t *y, size_t ldy,
                         size_t n_rows, size_t k, size_t n_cols)
{
    static _Thread_local __m256i unpacked[DEPTH_BLOCKS * BLOCK_STEPS * VECS]; /* samples copy the stack */
    const size_t row_bytes = k / 4;

    for (size_t r = 0; r < n_rows; r += TILE_ROWS) {
        const size_t rows = n_rows - r < TILE_ROWS ? n_rows - r : TILE_ROWS, n_vecs = (rows + 7) / 8;

        for (size_t b = 0; b < k / BLOCK; b += DEPTH_BLOCKS) {
            const size_t blocks = k / BLOCK - b < DEPTH_BLOCKS ? k / BLOCK - b : DEPTH_BLOCKS;
            const struct part part = {
                .x = x + b * BLOCK,
                .x_sum = x_sum,
                .y = y + r,
                .k = k,
                .ldy = ldy,
                .n_cols = n_cols,
                .n_blocks = blocks,
                .n_rows = rows,
                .first = b == 0,
            };

            for (size_t v = 0; v < n_vecs; v++) {
                const uint8_t *from = w + (r + 8 * v) * row_bytes + b * (BLOCK / 4);

                for (size_t i = 0; i < blocks; i++)
                    unpack_8_rows(from + i * (BLOCK / 4), row_bytes, rows - 8 * v,
                                  unpacked + i * BLOCK_STEPS * n_vecs + v, n_vecs);
            }
            if (n_vecs == 2)
                all_columns(unpacked, &part, 2);
            else
                all_columns(unpacked, &part, 1);
        }
    }
}

void qk256_gemm_avx2(const uint8_t *w, const int8_t *x, const int32_t *x_sum, int32_t *y, size_t ldy,
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

/* SPDX-License-Identifier: MIT
 * Ternary products with block scales over tiles with AVX2: integer sums of a block as in i2s_avx2, then one
 * multiplication and one addition in float, a lane being a row. */
#include "kernels/avx2.h"
#include "kernels/pack.h"

enum {
    VECS = BN_TILE_ROWS / 8, /* vectors of 8 rows */
    AHEAD_BYTES = 4096,
    WIDEN = 128, /* elements of a row whose sums fit int16: at most 768 for each of 32 maddubs */
    SUM = 32,    /* values an element of x_sums is the sum of */
};

/* Sixteen sums in int16. Not __m256i, whose lanes gcc takes for 64 bits wide: it would copy every sum. */
typedef int16_t words __attribute__((vector_size(32)));

BN_INLINE words products(__m256i w, __m256i x)
{
    return (words)_mm256_maddubs_epi16(w, x);
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

/* n elements of a row, at most WIDEN, of one tile: added to sum. */
BN_INLINE void stretch_products(const uint8_t *w, const int8_t *x, size_t n, __m256i *sum)
{
    words part[VECS];

    BN_UNROLL
    for (int v = 0; v < VECS; v++)
        part[v] = (words){0};
    for (size_t i = 0; i < n; i += BN_PIECE_I2S, w += BN_PIECE_BYTES) {
        const __m256i x0 = four_activations(x + i), x1 = four_activations(x + i + 4);
        const __m256i x2 = four_activations(x + i + 8), x3 = four_activations(x + i + 12);

        _mm_prefetch((const char *)w + AHEAD_BYTES, _MM_HINT_T0);
        _mm_prefetch((const char *)w + AHEAD_BYTES + 64, _MM_HINT_T0);
        BN_UNROLL
        for (int v = 0; v < VECS; v++) {
            const __m256i codes = _mm256_loadu_si256((const __m256i *)(const void *)(w + 32 * v));

            part[v] += (products(codes_at(codes, 6), x0) + products(codes_at(codes, 4), x1)) +
                       (products(codes_at(codes, 2), x2) + products(codes_at(codes, 0), x3));
        }
    }
    BN_UNROLL
    for (int v = 0; v < VECS; v++)
        sum[v] = _mm256_add_epi32(sum[v], _mm256_madd_epi16((__m256i)part[v], _mm256_set1_epi16(1)));
}

BN_INLINE void tile_product(const uint8_t *w, const int8_t *x, const int32_t *x_sums, float act_scale,
                            float *y, size_t n_rows, size_t k, size_t block)
{
    __m256 total[VECS];

    BN_UNROLL
    for (int v = 0; v < VECS; v++)
        total[v] = _mm256_setzero_ps();
    for (size_t i = 0; i < k; i += block) {
        const uint8_t *scales = w;
        int32_t x_sum = 0;
        __m256i sum[VECS];

        for (size_t j = 0; j < block; j += SUM)
            x_sum += *x_sums++;
        BN_UNROLL
        for (int v = 0; v < VECS; v++)
            sum[v] = _mm256_set1_epi32(-x_sum);
        w += 2 * BN_TILE_ROWS;
        for (size_t j = 0; j < block; j += WIDEN)
            stretch_products(w + j / BN_PIECE_I2S * BN_PIECE_BYTES, x + i + j,
                             block - j < WIDEN ? block - j : WIDEN, sum);
        w += block / BN_PIECE_I2S * BN_PIECE_BYTES;
        BN_UNROLL
        for (int v = 0; v < VECS; v++) {
            const __m256 scale =
                _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(scales + 16 * v)));

            total[v] = _mm256_add_ps(total[v], _mm256_mul_ps(_mm256_cvtepi32_ps(sum[v]), scale));
        }
    }
    for (size_t v = 0; v < VECS && 8 * v < n_rows; v++)
        store8(y + 8 * v, n_rows - 8 * v, _mm256_div_ps(total[v], _mm256_set1_ps(act_scale)));
}

void i2s_block_gemv_avx2(const uint8_t *w, const int8_t *x, const int32_t *x_sums, float act_scale, float *y,
                         size_t n_rows, size_t k, size_t block)
{
    for (size_t r = 0; r < n_rows; r += BN_TILE_ROWS)
        tile_product(w + r / BN_TILE_ROWS * bn_pack_block_bytes(BN_TILE_ROWS, k, block), x, x_sums, act_scale,
                     y + r, n_rows - r, k, block);
}

/* All columns by a tile before the next one: the tile stays in the L1 cache. */
void i2s_block_gemm_avx2(const uint8_t *w, const int8_t *x, const int32_t *x_sums, const float *act_scale,
                         float *y, size_t ldy, size_t n_rows, size_t k, size_t block, size_t n_cols)
{
    const size_t tile_bytes = bn_pack_block_bytes(BN_TILE_ROWS, k, block);

    for (size_t r = 0; r < n_rows; r += BN_TILE_ROWS, w += tile_bytes) {
        for (size_t c = 0; c < n_cols; c++)
            tile_product(w, x + c * k, x_sums + c * (k / SUM), act_scale[c], y + c * ldy + r, n_rows - r, k,
                         block);
    }
}

void i8_block_sums_avx2(const int8_t *x, int32_t *sums, size_t n)
{
    const __m256i ones = _mm256_set1_epi8(1);

    for (size_t i = 0; i < n; i += SUM) {
        const __m256i pairs =
            _mm256_maddubs_epi16(ones, _mm256_loadu_si256((const __m256i *)(const void *)(x + i)));

        *sums++ = sum8_int(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
}

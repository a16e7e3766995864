/* SPDX-License-Identifier: MIT
 * Ternary products with block scales over tiles with VNNI: integer sums of a block as in i2s_avx512vnni, then
 * one multiplication and one addition in float, a lane being a row. */
#include "kernels/avx512.h"
#include "kernels/pack.h"

enum {
    VECS = BN_TILE_ROWS / 16, /* vectors of 16 rows */
    TILE_COLS = 6,            /* with 2 vectors, integer and float sums: 24 registers */
    AHEAD_BYTES = 4096,
    SUM = 32, /* values an element of x_sums is the sum of */
};

/* Not __m512i, whose lanes gcc takes for 64 bits wide: it would copy every sum. */
typedef int32_t sums __attribute__((vector_size(64)));

BN_INLINE __m512i four_activations(const int8_t *x)
{
    int32_t four;

    __builtin_memcpy(&four, x, sizeof four);
    return _mm512_set1_epi32(four);
}

BN_INLINE int32_t sum_of(const int32_t *x_sums, size_t block)
{
    int32_t sum = 0;

    for (size_t i = 0; i < block / SUM; i++)
        sum += x_sums[i];
    return sum;
}

/* One block of a tile by n_cols columns: sum = products of the codes, less the sums of x. */
BN_INLINE void block_products(const uint8_t *w, const int8_t *x, size_t k, size_t block, sums (*sum)[VECS],
                              const size_t n_cols)
{
    const __m512i code = _mm512_set1_epi8(3);

    for (size_t i = 0; i < block; i += BN_PIECE_I2S, w += BN_PIECE_BYTES) {
        BN_UNROLL
        for (int v = 0; v < VECS; v++) {
            const __m512i codes = _mm512_loadu_si512(w + 64 * v);

            _mm_prefetch((const char *)w + 64 * v + AHEAD_BYTES, _MM_HINT_T0);
            BN_UNROLL
            for (unsigned p = 0; p < 4; p++) {
                const __m512i at_p = _mm512_and_si512(_mm512_srli_epi16(codes, 6 - 2 * p), code);

                BN_UNROLL
                for (size_t c = 0; c < n_cols; c++)
                    sum[c][v] = (sums)_mm512_dpbusd_epi32((__m512i)sum[c][v], at_p,
                                                          four_activations(x + c * k + i + 4 * p));
            }
        }
    }
}

/* One tile by n_cols columns. */
BN_INLINE void tile_product(const uint8_t *w, const int8_t *x, const int32_t *x_sums, const float *act_scale,
                            float *y, size_t ldy, size_t n_rows, size_t k, size_t block, const size_t n_cols)
{
    __m512 total[TILE_COLS][VECS];

    BN_UNROLL
    for (size_t c = 0; c < n_cols; c++) {
        BN_UNROLL
        for (int v = 0; v < VECS; v++)
            total[c][v] = _mm512_setzero_ps();
    }
    for (size_t i = 0; i < k; i += block) {
        const uint8_t *scales = w;
        sums sum[TILE_COLS][VECS];

        BN_UNROLL
        for (size_t c = 0; c < n_cols; c++) {
            const int32_t x_sum = sum_of(x_sums + (c * k + i) / SUM, block);

            BN_UNROLL
            for (int v = 0; v < VECS; v++)
                sum[c][v] = (sums)_mm512_set1_epi32(-x_sum);
        }
        block_products(w + 2 * BN_TILE_ROWS, x + i, k, block, sum, n_cols);
        w += 2 * BN_TILE_ROWS + block / BN_PIECE_I2S * BN_PIECE_BYTES;
        BN_UNROLL
        for (int v = 0; v < VECS; v++) {
            const __m512 scale = _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(scales + 32 * v)));

            BN_UNROLL
            for (size_t c = 0; c < n_cols; c++)
                total[c][v] =
                    _mm512_add_ps(total[c][v], _mm512_mul_ps(_mm512_cvtepi32_ps((__m512i)sum[c][v]), scale));
        }
    }
    for (size_t c = 0; c < n_cols; c++) {
        for (size_t v = 0; v < VECS && 16 * v < n_rows; v++)
            _mm512_mask_storeu_ps(y + c * ldy + 16 * v, lanes16(n_rows - 16 * v),
                                  _mm512_div_ps(total[c][v], _mm512_set1_ps(act_scale[c])));
    }
}

void i2s_block_gemv_avx512vnni(const uint8_t *w, const int8_t *x, const int32_t *x_sums, float act_scale,
                               float *y, size_t n_rows, size_t k, size_t block)
{
    for (size_t r = 0; r < n_rows; r += BN_TILE_ROWS)
        tile_product(w + r / BN_TILE_ROWS * bn_pack_block_bytes(BN_TILE_ROWS, k, block), x, x_sums,
                     &act_scale, y + r, n_rows, n_rows - r, k, block, 1);
}

/* All columns by a tile before the next one, in groups of as equal a size as can be. */
void i2s_block_gemm_avx512vnni(const uint8_t *w, const int8_t *x, const int32_t *x_sums,
                               const float *act_scale, float *y, size_t ldy, size_t n_rows, size_t k,
                               size_t block, size_t n_cols)
{
    const size_t tile_bytes = bn_pack_block_bytes(BN_TILE_ROWS, k, block);

    for (size_t r = 0; r < n_rows; r += BN_TILE_ROWS, w += tile_bytes) {
        size_t groups = (n_cols + TILE_COLS - 1) / TILE_COLS;

        for (size_t c = 0; groups > 0; groups--) {
            size_t n = (n_cols - c + groups - 1) / groups;

            switch (n) {
#define CASE(n)                                                                                              \
    case n:                                                                                                  \
        tile_product(w, x + c * k, x_sums + c * (k / SUM), act_scale + c, y + c * ldy + r, ldy, n_rows - r,  \
                     k, block, n);                                                                           \
        break
                CASE(1);
                CASE(2);
                CASE(3);
                CASE(4);
                CASE(5);
                CASE(6);
#undef CASE
            }
            c += n;
        }
    }
}

void i8_block_sums_avx512vnni(const int8_t *x, int32_t *out, size_t n)
{
    const __m256i ones = _mm256_set1_epi8(1);

    for (size_t i = 0; i < n; i += SUM) {
        const __m256i four =
            _mm256_dpbusd_epi32(_mm256_setzero_si256(), ones, _mm256_loadu_si256((const void *)(x + i)));
        __m128i s = _mm_add_epi32(_mm256_castsi256_si128(four), _mm256_extracti128_si256(four, 1));

        s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
        s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
        *out++ = _mm_cvtsi128_si32(s);
    }
}

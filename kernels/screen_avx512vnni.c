/* SPDX-License-Identifier: MIT
 * Products with screening codes by VNNI. Codes are not shifted down but summed by their place in the byte:
 * memory, not arithmetic, sets the pace. */
#include "kernels/avx512.h"
#include "kernels/screen.h"

#include <stdbool.h>

enum {
    VECS = BN_TILE_ROWS / 16, /* vectors of 16 rows */
    MID_ROWS = 4,             /* rows of the plane mid that share the loaded activations */
    MAX_STREAMS = 4,      /* tiles of the plane high at a time: several streams are read faster than one */
    AHEAD_BYTES = 4096,   /* how far a stream is fetched ahead if it is the only one */
    AHEAD_STREAMS = 1024, /* if there are several */
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

/* ---- the plane high ---- */

/* Sums of n_streams tiles, `distance` bytes apart, with both parts of x. Codes in bits 7:4 count 16 times
 * until the end if there are registers for sums of their own, else they are shifted down. */
BN_INLINE void high_tiles(const uint8_t *w, size_t distance, const int8_t *x, size_t k,
                          sums total[2][MAX_STREAMS * VECS], const size_t n_streams)
{
    const size_t n_vecs = n_streams * VECS, ahead = n_streams == 1 ? AHEAD_BYTES : AHEAD_STREAMS;
    const bool apart = n_streams == 1;
    const __m512i low_mask = _mm512_set1_epi8(0x0f);
    sums low[2][MAX_STREAMS * VECS], high[2][MAX_STREAMS * VECS];

    BN_UNROLL
    for (size_t v = 0; v < n_vecs; v++)
        low[0][v] = low[1][v] = high[0][v] = high[1][v] = (sums){0};
    for (size_t i = 0; i < k; i += BN_PIECE_SCREEN, w += BN_PIECE_BYTES) {
        BN_UNROLL
        for (size_t v = 0; v < n_vecs; v++) {
            const uint8_t *from = w + v / VECS * distance + 64 * (v % VECS);
            const __m512i codes = _mm512_loadu_si512(from);
            const __m512i first = apart ? _mm512_andnot_si512(low_mask, codes)
                                        : _mm512_and_si512(_mm512_srli_epi16(codes, 4), low_mask);
            const __m512i second = _mm512_and_si512(codes, low_mask);

            _mm_prefetch((const char *)from + ahead, _MM_HINT_T0);
            BN_UNROLL
            for (size_t p = 0; p < 2; p++) {
                sums *sum = apart ? &high[p][v] : &low[p][v];

                *sum = add_products(*sum, first, four_activations(x + p * k + i));
                low[p][v] = add_products(low[p][v], second, four_activations(x + p * k + i + 4));
            }
        }
    }
    BN_UNROLL
    for (size_t v = 0; v < n_vecs; v++) {
        total[0][v] = (high[0][v] >> 4) + low[0][v];
        total[1][v] = (high[1][v] >> 4) + low[1][v];
    }
}

/* n_streams tiles that lie `distance` tiles apart. */
BN_INLINE void high_rows(const uint8_t *w, size_t distance, const int8_t *x, const float *scale, float center,
                         float unit, float *y, size_t k, const size_t n_streams)
{
    sums total[2][MAX_STREAMS * VECS];

    high_tiles(w, distance * bn_screen_high_bytes(k), x, k, total, n_streams);
    BN_UNROLL
    for (size_t v = 0; v < n_streams * VECS; v++) {
        const size_t row = v / VECS * distance * BN_TILE_ROWS + 16 * (v % VECS);
        __m512 sum = _mm512_mul_ps(_mm512_cvtepi32_ps((__m512i)total[0][v]), _mm512_set1_ps(256.0f));
        __m512 factor = _mm512_mul_ps(_mm512_loadu_ps(scale + row), _mm512_set1_ps(unit));

        sum = _mm512_add_ps(sum, _mm512_cvtepi32_ps((__m512i)total[1][v]));
        sum = _mm512_sub_ps(sum, _mm512_set1_ps(center));
        _mm512_storeu_ps(y + row, _mm512_mul_ps(sum, factor));
    }
}

void screen_high_gemv_avx512vnni(const uint8_t *high, const int8_t *x, const float *scale, float center,
                                 float unit, float *y, size_t n_tiles, size_t k)
{
    const size_t distance = n_tiles / MAX_STREAMS;
    size_t t = 0;

    for (; t < distance; t++)
        high_rows(high + t * bn_screen_high_bytes(k), distance, x, scale + t * BN_TILE_ROWS, center, unit,
                  y + t * BN_TILE_ROWS, k, MAX_STREAMS);
    for (t *= MAX_STREAMS; t < n_tiles; t++)
        high_rows(high + t * bn_screen_high_bytes(k), 0, x, scale + t * BN_TILE_ROWS, center, unit,
                  y + t * BN_TILE_ROWS, k, 1);
}

/* ---- the plane mid ---- */

/* Bits 0 … 3 of a byte, and then bits 4 … 7 moved there: bit b counts 2^b times until the end. */
BN_INLINE void mid_rows(const uint8_t *w, const int8_t *x, size_t row_bytes, int32_t *out,
                        const size_t n_rows)
{
    sums sum[MID_ROWS][4];

    BN_UNROLL
    for (size_t i = 0; i < 4 * n_rows; i++)
        sum[i / 4][i % 4] = (sums){0};
    for (size_t i = 0; i < row_bytes; i += 64, x += BN_SCREEN_MID_GROUP) {
        BN_UNROLL
        for (size_t r = 0; r < n_rows; r++) {
            __m512i bits = _mm512_loadu_si512(w + r * row_bytes + i);

            _mm_prefetch((const char *)w + r * row_bytes + i + AHEAD_BYTES, _MM_HINT_T0);
            BN_UNROLL
            for (int b = 0; b < 8; b++) {
                const __m512i bit = _mm512_and_si512(bits, _mm512_set1_epi8((char)(1 << (b % 4))));

                sum[r][b % 4] = add_products(sum[r][b % 4], bit, _mm512_loadu_si512(x + 64 * b));
                if (b == 3)
                    bits = _mm512_srli_epi16(bits, 4);
            }
        }
    }
    BN_UNROLL
    for (size_t r = 0; r < n_rows; r++) {
        const sums *s = sum[r];

        out[r] = _mm512_reduce_add_epi32((__m512i)(s[0] + (s[1] >> 1) + (s[2] >> 2) + (s[3] >> 3)));
    }
}

BN_INLINE void add_mid(const int32_t *sum, int32_t x_sum, const float *scale, float unit, float *y, size_t n)
{
    for (size_t r = 0; r < n; r++)
        y[r] += (float)(2 * sum[r] - x_sum) * (scale[r] * unit);
}

void screen_mid_gemv_avx512vnni(const uint8_t *mid, const int8_t *x, int32_t x_sum, const float *scale,
                                float unit, float *y, size_t n_rows, size_t k)
{
    const size_t row_bytes = bn_screen_mid_bytes(k);
    int32_t sum[MID_ROWS];
    size_t r = 0;

    for (; r + MID_ROWS <= n_rows; r += MID_ROWS) {
        mid_rows(mid + r * row_bytes, x, row_bytes, sum, MID_ROWS);
        add_mid(sum, x_sum, scale + r, unit, y + r, MID_ROWS);
    }
    for (; r < n_rows; r++) {
        mid_rows(mid + r * row_bytes, x, row_bytes, sum, 1);
        add_mid(sum, x_sum, scale + r, unit, y + r, 1);
    }
}

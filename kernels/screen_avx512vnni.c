/* SPDX-License-Identifier: MIT
 * Products with screening codes by VNNI. Codes are not shifted down but summed by their place in the byte:
 * memory, not arithmetic, sets the pace. */
#include "kernels/avx512.h"
#include "kernels/screen.h"

#include <stdbool.h>

enum {
    VECS = BN_TILE_ROWS / 16, /* vectors of 16 rows */
    ROWS = 4,                 /* of the planes mid and low that share the loaded activations */
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

/* ---- the planes mid and low ---- */

/* The sums of n_rows rows of the plane mid. Bits 0 … 3 of a byte, and then bits 4 … 7 moved there: bit b
 * counts 2^b times until the end. */
BN_INLINE void mid_rows(const uint8_t *const *row, const int8_t *x, size_t k, int32_t *out,
                        const size_t n_rows)
{
    sums sum[ROWS][4];

    BN_UNROLL
    for (size_t i = 0; i < 4 * n_rows; i++)
        sum[i / 4][i % 4] = (sums){0};
    for (size_t i = 0; i < bn_screen_mid_bytes(k); i += 64, x += BN_SCREEN_MID_GROUP) {
        __m512i bits[ROWS];

        BN_UNROLL
        for (size_t r = 0; r < n_rows; r++) {
            bits[r] = _mm512_loadu_si512(row[r] + i);
            _mm_prefetch((const char *)row[r] + i + AHEAD_STREAMS, _MM_HINT_T0);
        }
        BN_UNROLL
        for (int b = 0; b < 8; b++) {
            const __m512i xb = _mm512_loadu_si512(x + 64 * b);

            BN_UNROLL
            for (size_t r = 0; r < n_rows; r++) {
                const __m512i bit = _mm512_and_si512(bits[r], _mm512_set1_epi8((char)(1 << (b % 4))));

                sum[r][b % 4] = add_products(sum[r][b % 4], bit, xb);
                if (b == 3)
                    bits[r] = _mm512_srli_epi16(bits[r], 4);
            }
        }
    }
    BN_UNROLL
    for (size_t r = 0; r < n_rows; r++) {
        const sums *s = sum[r];

        out[r] = _mm512_reduce_add_epi32((__m512i)(s[0] + (s[1] >> 1) + (s[2] >> 2) + (s[3] >> 3)));
    }
}

/* The same of the plane low. The 32 bytes of 128 codes stand in both halves of a vector: the places of bits
 * 7:6 and 5:4 are multiplied together, and those of 3:2 and 1:0; they count 64, 16, 4 and 1 times until the
 * end. */
BN_INLINE void low_rows(const uint8_t *const *row, const int8_t *x, size_t k, int32_t *out,
                        const size_t n_rows)
{
    const __m512i high_mask = _mm512_inserti64x4(_mm512_set1_epi8((char)0xc0), _mm256_set1_epi8(0x30), 1);
    const __m512i low_mask = _mm512_inserti64x4(_mm512_set1_epi8(0x0c), _mm256_set1_epi8(0x03), 1);
    const __m512i high_shift = _mm512_inserti64x4(_mm512_set1_epi32(6), _mm256_set1_epi32(4), 1);
    const __m512i low_shift = _mm512_inserti64x4(_mm512_set1_epi32(2), _mm256_set1_epi32(0), 1);
    sums high[ROWS], low[ROWS];

    BN_UNROLL
    for (size_t r = 0; r < n_rows; r++)
        high[r] = low[r] = (sums){0};
    for (size_t i = 0; i < bn_screen_low_bytes(k); i += 32, x += 128) {
        const __m512i x_high = _mm512_loadu_si512(x), x_low = _mm512_loadu_si512(x + 64);

        BN_UNROLL
        for (size_t r = 0; r < n_rows; r++) {
            const __m512i codes = _mm512_broadcast_i64x4(_mm256_loadu_si256((const void *)(row[r] + i)));

            high[r] = add_products(high[r], _mm512_and_si512(codes, high_mask), x_high);
            low[r] = add_products(low[r], _mm512_and_si512(codes, low_mask), x_low);
        }
    }
    BN_UNROLL
    for (size_t r = 0; r < n_rows; r++)
        out[r] = _mm512_reduce_add_epi32(_mm512_add_epi32(_mm512_srav_epi32((__m512i)high[r], high_shift),
                                                          _mm512_srav_epi32((__m512i)low[r], low_shift)));
}

/* The rows `ids` of a plane. */
struct scattered {
    const uint8_t *plane;
    size_t row_bytes;
    const int8_t *x;
    int32_t minus; /* from twice the sums */
    const float *scale;
    float unit, *y;
    const uint32_t *ids;
    size_t n_ids, k;
};

typedef void sum_rows(const uint8_t *const *row, const int8_t *x, size_t k, int32_t *out, size_t n_rows);

/* n_rows of them, `distance` apart in ids. */
BN_INLINE void add_rows(const struct scattered *s, size_t from, size_t distance, const size_t n_rows,
                        sum_rows *sum_of)
{
    const uint8_t *row[ROWS];
    int32_t sum[ROWS];

    BN_UNROLL
    for (size_t r = 0; r < n_rows; r++)
        row[r] = s->plane + s->ids[from + r * distance] * s->row_bytes;
    sum_of(row, s->x, s->k, sum, n_rows);
    BN_UNROLL
    for (size_t r = 0; r < n_rows; r++) {
        const size_t id = s->ids[from + r * distance];

        s->y[id] += (float)(2 * sum[r] - s->minus) * (s->scale[id] * s->unit);
    }
}

void screen_mid_gemv_avx512vnni(const uint8_t *mid, const int8_t *x, int32_t x_sum, const float *scale,
                                float unit, float *y, const uint32_t *ids, size_t n_ids, size_t k)
{
    const struct scattered s = {mid, bn_screen_mid_bytes(k), x, x_sum, scale, unit, y, ids, n_ids, k};
    const size_t distance = n_ids / ROWS; /* most rows are in play: four streams */

    for (size_t i = 0; i < distance; i++)
        add_rows(&s, i, distance, ROWS, mid_rows);
    for (size_t i = ROWS * distance; i < n_ids; i++)
        add_rows(&s, i, 0, 1, mid_rows);
}

void screen_low_gemv_avx512vnni(const uint8_t *low, const int8_t *x, int32_t x_sum, const float *scale,
                                float unit, float *y, const uint32_t *ids, size_t n_ids, size_t k)
{
    const struct scattered s = {low, bn_screen_low_bytes(k), x, 3 * x_sum, scale, unit, y, ids, n_ids, k};
    size_t i = 0;

    for (; i + ROWS <= n_ids; i += ROWS) {
        for (size_t r = i + ROWS; r < i + 2 * ROWS && r < n_ids; r++) {
            for (size_t at = 0; at < s.row_bytes; at += 64)
                _mm_prefetch((const char *)low + ids[r] * s.row_bytes + at, _MM_HINT_T0);
        }
        add_rows(&s, i, 1, ROWS, low_rows);
    }
    for (; i < n_ids; i++)
        add_rows(&s, i, 0, 1, low_rows);
}

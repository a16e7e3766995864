/* SPDX-License-Identifier: MIT
 * Screening codes and their products, the definition. */
#include "kernels/screen.h"
#include "kernels/screen_row.h"

#include <string.h>

enum { LANES = 16 };

/* ---- one row to codes ---- */

BN_INLINE int32_t code(float w, float inverse, int32_t least, int32_t most)
{
    float q = floorf(w * inverse);

    q = q < (float)least ? (float)least : q;
    return (int32_t)(q > (float)most ? (float)most : q);
}

/* The squared error of 5 bits, by the sample. */
BN_INLINE float sampled_error(const float *w, float scale, size_t k)
{
    const float step = 4.0f * scale, inverse = 1.0f / step;
    float lane[LANES] = {0};

    for (size_t i = 0; i < k; i += BN_SCREEN_SAMPLE * LANES) {
        for (size_t j = 0; j < LANES; j++) {
            float d = w[i + j] - step * ((float)code(w[i + j], inverse, -16, 15) + 0.5f);
            lane[j] += d * d;
        }
    }
    return sum_of_lanes(lane);
}

static float measure(const float *w, const void *next, size_t k, float *max)
{
    float square[2][LANES] = {{0}};

    (void)next;
    *max = 0.0f;
    for (size_t i = 0; i < k; i++) {
        square[i / LANES % 2][i % LANES] += w[i] * w[i];
        *max = fabsf(w[i]) > *max ? fabsf(w[i]) : *max;
    }
    for (size_t j = 0; j < LANES; j++)
        square[0][j] += square[1][j];
    return sum_of_lanes(square[0]);
}

static void make(const float *w, const void *next, uint8_t *u, size_t k, float scale,
                 struct screen_rest *rest)
{
    static const int32_t below[] = SCREEN_BELOW;
    static const float farthest[] = SCREEN_FARTHEST;
    const float per_unit = SCREEN_ONE / scale;
    float beyond[3][LANES] = {{0}};

    (void)next;
    *rest = (struct screen_rest){0};
    for (size_t i = 0; i < k; i++) {
        long v = lrintf(w[i] * per_unit);

        v = v < SCREEN_LEAST ? SCREEN_LEAST : v > SCREEN_MOST ? SCREEN_MOST : v;
        u[i] = (uint8_t)((v >> 9) + 64);
        const bool outermost = v == SCREEN_LEAST || v == SCREEN_MOST;
        rest->n_beyond += outermost;
        for (int p = 0; p < 3; p++) {
            const int32_t r = (int32_t)(v & below[p]) - (below[p] + 1) / 2;
            const float d = fabsf(w[i]) - farthest[p] * scale;

            rest->squares[p] += (uint32_t)(r * r);
            if (outermost)
                beyond[p][i % LANES] += d * d;
        }
    }
    for (int p = 0; p < 3; p++)
        rest->beyond[p] = sum_of_lanes(beyond[p]);
}

struct bn_screen_row screen_encode_c(const float *w, const void *next, uint8_t *u, size_t k)
{
    return encode(w, next, u, k, measure, sampled_error, make);
}

/* ---- codes to planes ---- */

BN_INLINE void pack_row(const uint8_t *u, uint8_t *high, uint8_t *mid, uint8_t *low, size_t k)
{
    for (size_t i = 0; i < k; i += BN_PIECE_SCREEN, high += BN_PIECE_BYTES) {
        for (size_t j = 0; j < 4; j++)
            high[j] = (uint8_t)((u[i + j] >> 3) << 4 | u[i + j + 4] >> 3);
    }
    memset(mid, 0, bn_screen_mid_bytes(k));
    for (size_t i = 0; i < k; i++)
        mid[i / 512 * 64 + i % 64] |= (uint8_t)((u[i] >> 2 & 1) << (i % 512 / 64));
    for (size_t i = 0; i < k; i += 128) {
        for (size_t j = i; j < i + 32; j++)
            *low++ =
                (uint8_t)((u[j] & 3) << 6 | (u[j + 32] & 3) << 4 | (u[j + 64] & 3) << 2 | (u[j + 96] & 3));
    }
}

void screen_pack_c(const uint8_t *u, uint8_t *high, uint8_t *mid, uint8_t *low, size_t k)
{
    for (size_t r = 0; r < BN_TILE_ROWS; r++)
        pack_row(u + r * k, high + 4 * r, mid + r * bn_screen_mid_bytes(k), low + r * bn_screen_low_bytes(k),
                 k);
}

/* ---- products ---- */

void screen_high_gemv_c(const uint8_t *high, const int8_t *x, const float *scale, float center, float unit,
                        float *y, size_t n_tiles, size_t k)
{
    for (size_t r = 0; r < n_tiles * BN_TILE_ROWS; r++) {
        const uint8_t *w = high + r / BN_TILE_ROWS * bn_screen_high_bytes(k) + r % BN_TILE_ROWS * 4;
        int32_t coarse = 0, fine = 0;

        for (size_t i = 0; i < k; i += BN_PIECE_SCREEN, w += BN_PIECE_BYTES) {
            for (size_t j = 0; j < 4; j++) {
                coarse += (w[j] >> 4) * x[i + j] + (w[j] & 15) * x[i + j + 4];
                fine += (w[j] >> 4) * x[k + i + j] + (w[j] & 15) * x[k + i + j + 4];
            }
        }
        y[r] = ((float)coarse * 256.0f + (float)fine - center) * (scale[r] * unit);
    }
}

void screen_mid_gemv_c(const uint8_t *mid, const int8_t *x, int32_t x_sum, const float *scale, float unit,
                       float *y, const uint32_t *ids, size_t n_ids, size_t k)
{
    size_t row_bytes = bn_screen_mid_bytes(k);

    for (size_t j = 0; j < n_ids; j++) {
        const size_t r = ids[j];
        const uint8_t *w = mid + r * row_bytes;
        int32_t sum = 0;

        for (size_t i = 0; i < row_bytes; i++) {
            for (size_t b = 0; b < 8; b++)
                sum += (w[i] >> b & 1) * x[i / 64 * 512 + 64 * b + i % 64];
        }
        y[r] += (float)(2 * sum - x_sum) * (scale[r] * unit);
    }
}

void screen_low_gemv_c(const uint8_t *low, const int8_t *x, int32_t x_sum, const float *scale, float unit,
                       float *y, const uint32_t *ids, size_t n_ids, size_t k)
{
    for (size_t j = 0; j < n_ids; j++) {
        const size_t r = ids[j];
        const uint8_t *w = low + r * bn_screen_low_bytes(k);
        int32_t sum = 0;

        for (size_t i = 0; i < k; i++)
            sum += (w[i / 128 * 32 + i % 32] >> (6 - 2 * (i % 128 / 32)) & 3) * x[i];
        y[r] += (float)(2 * sum - 3 * x_sum) * (scale[r] * unit);
    }
}

size_t screen_select_c(float *y, const float *error, const float *norm, const float *scale,
                       const struct bn_screen_bound *bound, float least, uint32_t first, uint32_t *ids,
                       size_t n)
{
    size_t n_ids = 0;

    for (size_t r = 0; r < n; r++) {
        float most =
            y[r] + ((error[r] * bound->per_error + norm[r] * bound->per_norm) + scale[r] * bound->per_scale);
        if (most < least)
            y[r] = -INFINITY;
        else
            ids[n_ids++] = first + (uint32_t)r;
    }
    return n_ids;
}

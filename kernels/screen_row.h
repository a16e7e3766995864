/* SPDX-License-Identifier: MIT
 * Private to kernels/: what the encoders of all instruction sets do alike around their loops over a row. */
#ifndef KERNELS_SCREEN_ROW_H
#define KERNELS_SCREEN_ROW_H

#include "kernels/half.h"
#include "kernels/screen.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

/* Halves added to halves. */
BN_INLINE float sum_of_lanes(const float lane[16])
{
    float v[8];

    for (int j = 0; j < 8; j++)
        v[j] = lane[j] + lane[j + 8];
    for (int h = 4; h > 0; h /= 2) {
        for (int j = 0; j < h; j++)
            v[j] = v[j] + v[j + h];
    }
    return v[0];
}

/* Whether there are codes to be made; if not, the row is complete. `squares` is not finite if a value is not,
 * whatever the maximum made of it. */
BN_INLINE bool begin_row(struct bn_screen_row *row, float max, float squares)
{
    *row = (struct bn_screen_row){.norm = max == 0.0f && squares == 0.0f ? 0.0f : INFINITY};
    return isfinite(squares) && max >= BN_SCREEN_MIN && max <= BN_SCREEN_MAX;
}

/* 12 significant bits: its multiples by codes are exact. */
BN_INLINE float short_scale(float range)
{
    return float_from_bits(bits_of_float(range * (1.0f / 64)) & 0xfffff000u);
}

/* The scale whose error is the smallest; the first of equals. */
BN_INLINE void choose_scale(struct bn_screen_row *row, const float *w, float max, float squares, size_t k,
                            float error_of(const float *w, float scale, size_t k))
{
    static const float ranges[] = BN_SCREEN_RANGES;
    const float rms = sqrtf(squares / (float)k);
    float best = INFINITY;

    for (int i = 0; i < BN_SCREEN_N_RANGES; i++) {
        const bool all = !(ranges[i] * rms < max);
        const float scale = short_scale(all ? max : ranges[i] * rms), error = error_of(w, scale, k);

        if (error < best) {
            best = error;
            row->scale = scale;
        }
        if (all)
            break;
    }
}

/* A sum of k / 16 + 4 terms is off by at most as many halves of a unit of its last place, its terms by one
 * each; squares below what a float can hold are less than 2^-16 scales in all. */
BN_INLINE void end_row(struct bn_screen_row *row, float squares, const float errors[3], size_t k)
{
    const float up = 1.0f + (float)(k / 16 + 64) * 0x1p-24f, least = row->scale * 0x1p-16f;

    row->norm = sqrtf(squares) * up + least;
    for (int e = 0; e < 3; e++)
        row->error[e] = sqrtf(errors[e]) * up + least;
}

#endif

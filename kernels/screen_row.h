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

/* What the codes of a row leave of its weights. Weights are brought to whole numbers of 16 bits, v = w /
 * scale
 * * 512, rounded: the upper 7 are the code, and what lies below a plane's bits, less its middle, is the rest
 * of that plane, whose squares are exact. Weights beyond what 16 bits hold are told by the outermost v and
 * their rests are floats. */
struct screen_rest {
    uint64_t squares[3]; /* of rests in 512ths of the scale; of those beyond as if they were the outermost */
    float beyond[3];     /* of true rests of weights beyond, by 16 lanes */
    uint32_t n_beyond;   /* weights whose v is the outermost */
};

enum { SCREEN_ONE = 512, SCREEN_LEAST = -32768, SCREEN_MOST = 32767 };

/* Bits of v below each plane, and what the outermost codes stand for, in scales. */
#define SCREEN_BELOW                                                                                         \
    {                                                                                                        \
        4095, 2047, 511                                                                                      \
    }
#define SCREEN_FARTHEST                                                                                      \
    {                                                                                                        \
        60.0f, 62.0f, 63.5f                                                                                  \
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

/* The scale of a range in root mean squares; *all: the largest weight is within. */
BN_INLINE float scale_of_range(float range, float max, float rms, bool *all)
{
    *all = !(range * rms < max);
    return short_scale(*all ? max : range * rms);
}

static const float screen_ranges[] = BN_SCREEN_RANGES;

/* The scale whose error is the smallest; the first of equals. */
BN_INLINE float choose_scale(const float *w, float max, float rms, size_t k,
                             float error_of(const float *w, float scale, size_t k))
{
    float best = INFINITY, chosen = 0.0f;
    bool all = false;

    for (int i = 0; i < BN_SCREEN_N_RANGES && !all; i++) {
        const float scale = scale_of_range(screen_ranges[i], max, rms, &all), error = error_of(w, scale, k);

        if (error < best) {
            best = error;
            chosen = scale;
        }
    }
    return chosen;
}

/* Squares of the plane's rests without those of weights beyond, in 512ths of the scale. */
BN_INLINE float inner_squares(const struct screen_rest *rest, int plane)
{
    static const uint64_t below[] = SCREEN_BELOW;
    const uint64_t outermost = below[plane] / 2;

    return (float)(rest->squares[plane] - rest->n_beyond * outermost * outermost);
}

/* Is the error with 5 bits below what the next range's intervals alone would cost? */
BN_INLINE bool is_fine(const struct screen_rest *rest, float scale, size_t k)
{
    const float unit = scale * (1.0f / SCREEN_ONE), next = scale * (screen_ranges[1] / screen_ranges[0]);

    return inner_squares(rest, 1) * (unit * unit) + rest->beyond[1] <=
           (float)k * (16.0f / 12) * (next * next);
}

/* v is off by half a unit, and by 2^-8 for its factor's and its own rounding. A sum of k / 16 + 4 terms is
 * off by at most as many halves of a unit of its last place, its terms by one each; squares below what a
 * float can hold are less than 2^-16 scales in all. */
BN_INLINE void end_row(struct bn_screen_row *row, float squares, const struct screen_rest *rest, size_t k)
{
    const float up = 1.0f + (float)(k / 16 + 64) * 0x1p-24f, least = row->scale * 0x1p-16f;
    const float unit = row->scale * (1.0f / SCREEN_ONE), rounding = 0.504f * sqrtf((float)k);

    row->norm = sqrtf(squares) * up + least;
    for (int p = 0; p < 3; p++) {
        const float inner = (sqrtf(inner_squares(rest, p)) + rounding) * unit;

        row->error[p] = sqrtf(inner * inner + rest->beyond[p]) * up + least;
    }
}

/* A row by an instruction set's three loops. `measure` gives the sum of squares by 32 lanes. The first range
 * suits most rows; only for others the search is worth its time. */
BN_INLINE struct bn_screen_row encode(const float *w, const void *next, uint8_t *u, size_t k,
                                      float measure(const float *w, const void *next, size_t k, float *max),
                                      float error_of(const float *w, float scale, size_t k),
                                      void make(const float *w, const void *next, uint8_t *u, size_t k,
                                                float scale, struct screen_rest *rest))
{
    struct bn_screen_row row;
    struct screen_rest rest;
    float max, squares = measure(w, next, k, &max), scale;
    bool all;

    if (!begin_row(&row, max, squares)) {
        memset(u, 64, k);
        return row;
    }
    const float rms = sqrtf(squares / (float)k);
    scale = scale_of_range(screen_ranges[0], max, rms, &all);
    do {
        row.scale = scale;
        make(w, next, u, k, scale, &rest);
        if (!all && !is_fine(&rest, scale, k))
            scale = choose_scale(w, max, rms, k, error_of);
        all = true;
    } while (scale != row.scale);
    end_row(&row, squares, &rest, k);
    return row;
}

#endif

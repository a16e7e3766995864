/* SPDX-License-Identifier: MIT
 * Screening codes and their products with NEON. */
#include "kernels/dot_neon.h"
#include "kernels/neon.h"
#include "kernels/screen_arm.h"
#include "kernels/screen_row.h"

void screen_high_gemv_neon(const uint8_t *high, const int8_t *x, const float *scale, float center, float unit,
                           float *y, size_t n_tiles, size_t k)
{
    high_gemv(high, x, scale, center, unit, y, n_tiles, k);
}

void screen_mid_gemv_neon(const uint8_t *mid, const int8_t *x, int32_t x_sum, const float *scale, float unit,
                          float *y, const uint32_t *ids, size_t n_ids, size_t k)
{
    mid_gemv(mid, x, x_sum, scale, unit, y, ids, n_ids, k);
}

void screen_low_gemv_neon(const uint8_t *low, const int8_t *x, int32_t x_sum, const float *scale, float unit,
                          float *y, const uint32_t *ids, size_t n_ids, size_t k)
{
    low_gemv(low, x, x_sum, scale, unit, y, ids, n_ids, k);
}

/* ---- one row to codes ---- */

enum { LANES = 16, FOURS = LANES / 4 };

BN_INLINE float sum_of_16(const float32x4_t v[FOURS])
{
    float lane[LANES];

    for (int j = 0; j < FOURS; j++)
        vst1q_f32(lane + 4 * j, v[j]);
    return sum_of_lanes(lane);
}

/* Not fused: every instruction set rounds the square. */
BN_INLINE float32x4_t square_sum(float32x4_t sum, float32x4_t d)
{
    return vaddq_f32(sum, vmulq_f32(d, d));
}

BN_INLINE float32x4_t clamped_floor(float32x4_t w, float inverse, float least, float most)
{
    const float32x4_t q = vrndmq_f32(vmulq_n_f32(w, inverse));

    return vminq_f32(vmaxq_f32(q, vdupq_n_f32(least)), vdupq_n_f32(most));
}

/* w minus the middle of interval q. */
BN_INLINE float32x4_t distance(float32x4_t w, float32x4_t q, float step)
{
    return vsubq_f32(w, vmulq_n_f32(vaddq_f32(q, vdupq_n_f32(0.5f)), step));
}

BN_INLINE float sampled_error(const float *w, float scale, size_t k)
{
    const float step = 4.0f * scale, inverse = 1.0f / step;
    float32x4_t sum[FOURS] = {vdupq_n_f32(0.0f), vdupq_n_f32(0.0f), vdupq_n_f32(0.0f), vdupq_n_f32(0.0f)};

    for (size_t i = 0; i < k; i += BN_SCREEN_SAMPLE * LANES) {
        BN_UNROLL
        for (int j = 0; j < FOURS; j++) {
            const float32x4_t v = vld1q_f32(w + i + 4 * j);

            sum[j] = square_sum(sum[j], distance(v, clamped_floor(v, inverse, -16.0f, 15.0f), step));
        }
    }
    return sum_of_16(sum);
}

/* Both loops over a row fetch one half of what comes next. */
BN_INLINE void fetch(const void *next, size_t at)
{
    __builtin_prefetch((const char *)next + at);
}

BN_INLINE float measure(const float *w, const void *next, size_t k, float *max)
{
    float32x4_t square[2 * FOURS], most = vdupq_n_f32(0.0f);

    for (int j = 0; j < 2 * FOURS; j++)
        square[j] = most;
    for (size_t i = 0; i < k; i += 64) {
        fetch(next, i);
        BN_UNROLL
        for (int j = 0; j < 4 * FOURS; j++) {
            const float32x4_t v = vld1q_f32(w + i + 4 * j);

            square[j % (2 * FOURS)] = square_sum(square[j % (2 * FOURS)], v);
            most = vmaxnmq_f32(vabsq_f32(v), most);
        }
    }
    for (int j = 0; j < FOURS; j++)
        square[j] = vaddq_f32(square[j], square[j + FOURS]);
    *max = vmaxnmvq_f32(most);
    return sum_of_16(square);
}

enum { STRETCH = 1024 /* elements whose squares 4 sums of int32 can hold */ };

struct parts {
    int32x4_t square[3];
    float32x4_t beyond[3][FOURS];
};

BN_INLINE void add_rests(int32x4_t square[3], int16x8_t v)
{
    static const int16_t below[] = SCREEN_BELOW;

    BN_UNROLL
    for (int p = 0; p < 3; p++) {
        const int16x8_t r =
            vsubq_s16(vandq_s16(v, vdupq_n_s16(below[p])), vdupq_n_s16((int16_t)(below[p] / 2 + 1)));

        square[p] = vmlal_s16(square[p], vget_low_s16(r), vget_low_s16(r));
        square[p] = vmlal_high_s16(square[p], r, r);
    }
}

/* Of four weights those whose v is the outermost. */
BN_INLINE uint32_t add_beyond(float32x4_t beyond[3][FOURS], int four, float32x4_t w, int32x4_t v, float scale)
{
    static const float farthest[] = SCREEN_FARTHEST;
    const uint32x4_t mask =
        vorrq_u32(vcgeq_s32(v, vdupq_n_s32(SCREEN_MOST)), vcleq_s32(v, vdupq_n_s32(SCREEN_LEAST)));

    BN_UNROLL
    for (int p = 0; p < 3; p++) {
        const float32x4_t d = vsubq_f32(vabsq_f32(w), vdupq_n_f32(farthest[p] * scale));

        beyond[p][four] =
            square_sum(beyond[p][four], vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(d), mask)));
    }
    return vaddvq_u32(vandq_u32(mask, vdupq_n_u32(1)));
}

/* 16 weights; returns how many are beyond. */
BN_INLINE uint32_t make16(const float *w, uint8_t *u, float scale, float per_unit, struct parts *sum)
{
    int32x4_t whole[FOURS];
    uint32_t n_beyond = 0;

    BN_UNROLL
    for (int j = 0; j < FOURS; j++)
        whole[j] = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(w + 4 * j), per_unit));
    const int16x8_t a = vcombine_s16(vqmovn_s32(whole[0]), vqmovn_s32(whole[1]));
    const int16x8_t b = vcombine_s16(vqmovn_s32(whole[2]), vqmovn_s32(whole[3]));
    const int8x16_t codes = vcombine_s8(vshrn_n_s16(vshrq_n_s16(a, 1), 8), vshrn_n_s16(vshrq_n_s16(b, 1), 8));
    add_rests(sum->square, a);
    add_rests(sum->square, b);
    vst1q_u8(u, vaddq_u8(vreinterpretq_u8_s8(codes), vdupq_n_u8(64)));
    /* saturated: the magnitude of the least is that of the most */
    if (vmaxvq_s16(vmaxq_s16(vqabsq_s16(a), vqabsq_s16(b))) < SCREEN_MOST)
        return 0;
    BN_UNROLL
    for (int j = 0; j < FOURS; j++)
        n_beyond += add_beyond(sum->beyond, j, vld1q_f32(w + 4 * j), whole[j], scale);
    return n_beyond;
}

BN_INLINE void make(const float *w, const void *next, uint8_t *u, size_t k, float scale,
                    struct screen_rest *rest)
{
    const float per_unit = SCREEN_ONE / scale;
    struct parts sum;

    *rest = (struct screen_rest){0};
    for (int j = 0; j < 3 * FOURS; j++)
        sum.beyond[j / FOURS][j % FOURS] = vdupq_n_f32(0.0f);
    for (size_t i = 0; i < k;) {
        const size_t end = k - i < STRETCH ? k : i + STRETCH;

        sum.square[0] = sum.square[1] = sum.square[2] = vdupq_n_s32(0);
        for (; i < end; i += 64) {
            fetch(next, k + i);
            BN_UNROLL
            for (size_t j = 0; j < 64; j += LANES)
                rest->n_beyond += make16(w + i + j, u + i + j, scale, per_unit, &sum);
        }
        for (int p = 0; p < 3; p++)
            rest->squares[p] += vaddlvq_u32(vreinterpretq_u32_s32(sum.square[p]));
    }
    for (int p = 0; p < 3; p++)
        rest->beyond[p] = sum_of_16(sum.beyond[p]);
}

struct bn_screen_row screen_encode_neon(const float *w, const void *next, uint8_t *u, size_t k)
{
    return encode(w, next, u, k, measure, sampled_error, make);
}

/* ---- codes to planes ---- */

/* 32 codes to four pieces' four bytes: of every 8 codes the first four belong into the high halves of the
 * bytes, the others into the low ones. */
BN_INLINE void pack_high(const uint8_t *u, uint8_t *high, size_t k)
{
    for (size_t i = 0; i < k; i += 4 * BN_PIECE_SCREEN, high += 4 * BN_PIECE_BYTES) {
        const uint8x16_t a = vld1q_u8(u + i), b = vld1q_u8(u + i + 16), top = vdupq_n_u8(0xf0);
        const uint32x4_t first = vuzp1q_u32(vreinterpretq_u32_u8(vandq_u8(vshlq_n_u8(a, 1), top)),
                                            vreinterpretq_u32_u8(vandq_u8(vshlq_n_u8(b, 1), top)));
        const uint32x4_t second =
            vuzp2q_u32(vreinterpretq_u32_u8(vshrq_n_u8(a, 3)), vreinterpretq_u32_u8(vshrq_n_u8(b, 3)));
        uint32_t four[4];

        vst1q_u32(four, vorrq_u32(first, second));
        for (int p = 0; p < 4; p++)
            memcpy(high + p * BN_PIECE_BYTES, &four[p], sizeof four[p]);
    }
}

BN_INLINE void pack_mid(const uint8_t *u, uint8_t *mid, size_t k)
{
    for (size_t g = 0; g < k; g += BN_SCREEN_MID_GROUP) {
        for (size_t i = 0; i < 64; i += 16, mid += 16) {
            uint8x16_t bits = vdupq_n_u8(0);

            for (int b = 0; b < 8 && g + 64 * (size_t)b < k; b++) {
                const uint8x16_t bit =
                    vandq_u8(vshrq_n_u8(vld1q_u8(u + g + 64 * (size_t)b + i), 2), vdupq_n_u8(1));

                bits = vorrq_u8(bits, vshlq_u8(bit, vdupq_n_s8((int8_t)b)));
            }
            vst1q_u8(mid, bits);
        }
    }
}

/* Each insertion shifts its codes up and keeps what is below. */
BN_INLINE void pack_low(const uint8_t *u, uint8_t *low, size_t k)
{
    for (size_t i = 0; i < k; i += 128, low += 32) {
        for (size_t j = 0; j < 32; j += 16) {
            const uint8_t *at = u + i + j;
            uint8x16_t v = vandq_u8(vld1q_u8(at + 96), vdupq_n_u8(3));

            v = vsliq_n_u8(v, vandq_u8(vld1q_u8(at + 64), vdupq_n_u8(3)), 2);
            v = vsliq_n_u8(v, vandq_u8(vld1q_u8(at + 32), vdupq_n_u8(3)), 4);
            vst1q_u8(low + j, vsliq_n_u8(v, vld1q_u8(at), 6));
        }
    }
}

void screen_pack_neon(const uint8_t *u, uint8_t *high, uint8_t *mid, uint8_t *low, size_t k)
{
    for (size_t r = 0; r < BN_TILE_ROWS; r++, u += k) {
        pack_high(u, high + 4 * r, k);
        pack_mid(u, mid + r * bn_screen_mid_bytes(k), k);
        pack_low(u, low + r * bn_screen_low_bytes(k), k);
    }
}

/* ---- selection ---- */

size_t screen_select_neon(float *y, const float *error, const float *norm, const float *scale,
                          const struct bn_screen_bound *bound, float least, uint32_t first, uint32_t *ids,
                          size_t n)
{
    size_t n_ids = 0;

    for (size_t r = 0; r < n; r += 4) {
        const size_t left = n - r;
        uint32_t kept[4];
        float32x4_t sum = vaddq_f32(vmulq_n_f32(load4(error + r, left), bound->per_error),
                                    vmulq_n_f32(load4(norm + r, left), bound->per_norm));

        sum = vaddq_f32(sum, vmulq_n_f32(load4(scale + r, left), bound->per_scale));
        const float32x4_t logits = load4(y + r, left);
        const uint32x4_t below = vcltq_f32(vaddq_f32(logits, sum), vdupq_n_f32(least));

        store4(y + r, left, vbslq_f32(below, vdupq_n_f32(-INFINITY), logits));
        vst1q_u32(kept, vmvnq_u32(below));
        for (size_t i = 0; i < 4 && i < left; i++) {
            if (kept[i])
                ids[n_ids++] = first + (uint32_t)(r + i);
        }
    }
    return n_ids;
}

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

/* Codes of four weights in 16 bits; adds to their three errors. */
BN_INLINE uint16x4_t encode4(float32x4_t w, float inverse, float scale, float32x4_t error[3])
{
    const float32x4_t q = clamped_floor(w, inverse, -64.0f, 63.0f);
    const int32x4_t whole = vcvtq_s32_f32(q);

    error[0] = square_sum(error[0], distance(w, vcvtq_f32_s32(vshrq_n_s32(whole, 3)), 8.0f * scale));
    error[1] = square_sum(error[1], distance(w, vcvtq_f32_s32(vshrq_n_s32(whole, 2)), 4.0f * scale));
    error[2] = square_sum(error[2], distance(w, q, scale));
    return vmovn_u32(vreinterpretq_u32_s32(vaddq_s32(whole, vdupq_n_s32(64))));
}

BN_INLINE void encode_row(struct bn_screen_row *row, const float *w, uint8_t *u, size_t k, float sum[3])
{
    const float inverse = 1.0f / row->scale;
    float32x4_t error[FOURS][3];

    for (int i = 0; i < 3 * FOURS; i++)
        error[i / 3][i % 3] = vdupq_n_f32(0.0f);
    for (size_t i = 0; i < k; i += LANES) {
        BN_UNROLL
        for (size_t j = 0; j < FOURS; j += 2) {
            const uint16x4_t a = encode4(vld1q_f32(w + i + 4 * j), inverse, row->scale, error[j]);
            const uint16x4_t b = encode4(vld1q_f32(w + i + 4 * j + 4), inverse, row->scale, error[j + 1]);

            vst1_u8(u + i + 4 * j, vmovn_u16(vcombine_u16(a, b)));
        }
    }
    for (int e = 0; e < 3; e++)
        sum[e] = sum_of_16((float32x4_t[FOURS]){error[0][e], error[1][e], error[2][e], error[3][e]});
}

struct bn_screen_row screen_encode_neon(const float *w, uint8_t *u, size_t k)
{
    float32x4_t square[FOURS], max = vdupq_n_f32(0.0f);
    struct bn_screen_row row;
    float squares, largest, errors[3];

    for (int j = 0; j < FOURS; j++)
        square[j] = max;
    for (size_t i = 0; i < k; i += LANES) {
        BN_UNROLL
        for (int j = 0; j < FOURS; j++) {
            const float32x4_t v = vld1q_f32(w + i + 4 * j);

            square[j] = square_sum(square[j], v);
            max = vmaxnmq_f32(vabsq_f32(v), max);
        }
    }
    squares = sum_of_16(square);
    largest = vmaxnmvq_f32(max);
    if (!begin_row(&row, largest, squares)) {
        memset(u, 64, k);
        return row;
    }
    choose_scale(&row, w, largest, squares, k, sampled_error);
    encode_row(&row, w, u, k, errors);
    end_row(&row, squares, errors, k);
    return row;
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

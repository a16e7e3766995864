/* SPDX-License-Identifier: MIT
 * Screening codes, 16 weights at a time, and the selection of rows. The packing and the products gain little
 * over AVX2 without VNNI. */
#include "kernels/avx512.h"
#include "kernels/screen.h"
#include "kernels/screen_row.h"

BN_INLINE float sum_of_16(__m512 v)
{
    float lane[16];

    _mm512_storeu_ps(lane, v);
    return sum_of_lanes(lane);
}

BN_INLINE __m512 square_sum(__m512 sum, __m512 d)
{
    return _mm512_add_ps(sum, _mm512_mul_ps(d, d));
}

/* Whole numbers, clamped. A product beyond int32's range becomes its least: clamped at the wrong end, but the
 * range of a scale is at least its row's root mean square over 2^20, so there is none. */
BN_INLINE __m512i clamped_floor(__m512 w, __m512 inverse, int least, int most)
{
    __m512i q =
        _mm512_cvt_roundps_epi32(_mm512_mul_ps(w, inverse), _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);

    return _mm512_min_epi32(_mm512_max_epi32(q, _mm512_set1_epi32(least)), _mm512_set1_epi32(most));
}

/* w minus the middle of interval q. */
BN_INLINE __m512 distance(__m512 w, __m512i q, __m512 step)
{
    __m512 middle = _mm512_add_ps(_mm512_cvtepi32_ps(q), _mm512_set1_ps(0.5f));

    return _mm512_sub_ps(w, _mm512_mul_ps(step, middle));
}

BN_INLINE float sampled_error(const float *w, float scale, size_t k)
{
    const __m512 step = _mm512_set1_ps(4.0f * scale), inverse = _mm512_set1_ps(1.0f / (4.0f * scale));
    __m512 sum = _mm512_setzero_ps();

    for (size_t i = 0; i < k; i += BN_SCREEN_SAMPLE * 16) {
        const __m512 v = _mm512_loadu_ps(w + i);

        sum = square_sum(sum, distance(v, clamped_floor(v, inverse, -16, 15), step));
    }
    return sum_of_16(sum);
}

BN_INLINE void encode_row(struct bn_screen_row *row, const float *w, uint8_t *u, size_t k, float sum[3])
{
    const __m512 inverse = _mm512_set1_ps(1.0f / row->scale), low = _mm512_set1_ps(row->scale);
    const __m512 mid = _mm512_set1_ps(4.0f * row->scale), high = _mm512_set1_ps(8.0f * row->scale);
    __m512 error[3] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};

    for (size_t i = 0; i < k; i += 16) {
        const __m512 v = _mm512_loadu_ps(w + i);
        const __m512i q = clamped_floor(v, inverse, -64, 63);

        error[0] = square_sum(error[0], distance(v, _mm512_srai_epi32(q, 3), high));
        error[1] = square_sum(error[1], distance(v, _mm512_srai_epi32(q, 2), mid));
        error[2] = square_sum(error[2], distance(v, q, low));
        _mm_storeu_si128((__m128i *)(void *)(u + i),
                         _mm512_cvtepi32_epi8(_mm512_add_epi32(q, _mm512_set1_epi32(64))));
    }
    for (int e = 0; e < 3; e++)
        sum[e] = sum_of_16(error[e]);
}

struct bn_screen_row screen_encode_avx512(const float *w, uint8_t *u, size_t k)
{
    __m512 square = _mm512_setzero_ps(), max = _mm512_setzero_ps();
    struct bn_screen_row row;
    float squares, largest, errors[3];

    for (size_t i = 0; i < k; i += 16) {
        const __m512 v = _mm512_loadu_ps(w + i);

        square = square_sum(square, v);
        max = _mm512_max_ps(_mm512_abs_ps(v), max);
    }
    squares = sum_of_16(square);
    largest = _mm512_reduce_max_ps(max);
    if (!begin_row(&row, largest, squares)) {
        memset(u, 64, k);
        return row;
    }
    choose_scale(&row, w, largest, squares, k, sampled_error);
    encode_row(&row, w, u, k, errors);
    end_row(&row, squares, errors, k);
    return row;
}

size_t screen_select_avx512(float *y, const float *error, const float *norm, const float *scale,
                            const struct bn_screen_bound *bound, float least, uint32_t first, uint32_t *ids,
                            size_t n)
{
    const __m512 per_error = _mm512_set1_ps(bound->per_error), per_norm = _mm512_set1_ps(bound->per_norm);
    const __m512 per_scale = _mm512_set1_ps(bound->per_scale), at_least = _mm512_set1_ps(least);
    __m512i id = _mm512_add_epi32(_mm512_set1_epi32((int)first),
                                  _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    size_t n_ids = 0;

    for (size_t r = 0; r < n; r += 16, id = _mm512_add_epi32(id, _mm512_set1_epi32(16))) {
        const __mmask16 lanes = lanes16(n - r);
        __m512 sum = _mm512_add_ps(_mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, error + r), per_error),
                                   _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, norm + r), per_norm));

        sum = _mm512_add_ps(sum, _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, scale + r), per_scale));
        sum = _mm512_add_ps(_mm512_maskz_loadu_ps(lanes, y + r), sum);
        const __mmask16 kept = _mm512_mask_cmp_ps_mask(lanes, sum, at_least, _CMP_NLT_UQ);
        _mm512_mask_storeu_ps(y + r, lanes & (__mmask16)~kept, _mm512_set1_ps(-INFINITY));
        _mm512_mask_compressstoreu_epi32(ids + n_ids, kept, id);
        n_ids += (size_t)__builtin_popcount(kept);
    }
    return n_ids;
}

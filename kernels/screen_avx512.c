/* SPDX-License-Identifier: MIT
 * Screening codes, 16 weights at a time, their planes, and the selection of rows. The products gain little
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

/* Both loops over a row fetch one half of what comes next. */
BN_INLINE void fetch(const void *next, size_t at)
{
    _mm_prefetch((const char *)next + at, _MM_HINT_T0);
}

BN_INLINE float measure(const float *w, const void *next, size_t k, float *max)
{
    __m512 square[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()}, most[2] = {square[0], square[0]};

    for (size_t i = 0; i < k; i += 64) {
        fetch(next, i);
        BN_UNROLL
        for (int j = 0; j < 4; j++) {
            const __m512 v = _mm512_loadu_ps(w + i + 16 * j);

            square[j % 2] = square_sum(square[j % 2], v);
            most[j % 2] = _mm512_max_ps(_mm512_abs_ps(v), most[j % 2]);
        }
    }
    *max = _mm512_reduce_max_ps(_mm512_max_ps(most[0], most[1]));
    return sum_of_16(_mm512_add_ps(square[0], square[1]));
}

enum { STRETCH = 4096 /* elements whose squares 16 sums of int32 can hold */ };
typedef int32_t sums __attribute__((vector_size(64)));

struct parts {
    sums square[3];
    __m512 beyond[3];
};

BN_INLINE uint64_t total(sums sum)
{
    const __m512i low = _mm512_cvtepu32_epi64(_mm512_castsi512_si256((__m512i)sum));
    const __m512i high = _mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64((__m512i)sum, 1));

    return (uint64_t)_mm512_reduce_add_epi64(_mm512_add_epi64(low, high));
}

BN_INLINE void add_rests(sums square[3], __m512i v)
{
    static const int16_t below[] = SCREEN_BELOW;

    BN_UNROLL
    for (int p = 0; p < 3; p++) {
        const __m512i r = _mm512_sub_epi16(_mm512_and_si512(v, _mm512_set1_epi16(below[p])),
                                           _mm512_set1_epi16((int16_t)(below[p] / 2 + 1)));

        square[p] += (sums)_mm512_madd_epi16(r, r);
    }
}

/* Of the 16 weights those whose v is the outermost. */
BN_INLINE uint32_t add_beyond(__m512 beyond[3], __m512 w, __m512i v, float scale)
{
    static const float farthest[] = SCREEN_FARTHEST;
    const __mmask16 mask = _mm512_cmp_epi32_mask(v, _mm512_set1_epi32(SCREEN_MOST), _MM_CMPINT_NLT) |
                           _mm512_cmp_epi32_mask(v, _mm512_set1_epi32(SCREEN_LEAST), _MM_CMPINT_LE);

    BN_UNROLL
    for (int p = 0; p < 3; p++) {
        const __m512 d = _mm512_maskz_sub_ps(mask, _mm512_abs_ps(w), _mm512_set1_ps(farthest[p] * scale));

        beyond[p] = square_sum(beyond[p], d);
    }
    return (uint32_t)__builtin_popcount(mask);
}

/* Packing takes 4 of each vector in turn: where the dwords of 64 bytes belong. */
BN_INLINE __m512i in_order(__m512i bytes)
{
    return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15),
                                    bytes);
}

/* 64 weights; returns how many are beyond. */
BN_INLINE uint32_t make64(const float *w, uint8_t *u, float scale, __m512 per_unit, struct parts *sum)
{
    __m512i whole[4], v[2], codes;
    uint32_t n_beyond = 0;

    BN_UNROLL
    for (int j = 0; j < 4; j++)
        whole[j] = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(w + 16 * j), per_unit));
    v[0] = _mm512_packs_epi32(whole[0], whole[1]);
    v[1] = _mm512_packs_epi32(whole[2], whole[3]);
    add_rests(sum->square, v[0]);
    add_rests(sum->square, v[1]);
    codes = _mm512_packs_epi16(_mm512_srai_epi16(v[0], 9), _mm512_srai_epi16(v[1], 9));
    _mm512_storeu_si512(u, in_order(_mm512_add_epi8(codes, _mm512_set1_epi8(64))));
    const __m512i most = _mm512_max_epu16(_mm512_abs_epi16(v[0]), _mm512_abs_epi16(v[1]));
    if (_mm512_cmp_epu16_mask(most, _mm512_set1_epi16(SCREEN_MOST), _MM_CMPINT_NLT) == 0)
        return 0;
    BN_UNROLL
    for (int j = 0; j < 4; j++)
        n_beyond += add_beyond(sum->beyond, _mm512_loadu_ps(w + 16 * j), whole[j], scale);
    return n_beyond;
}

BN_INLINE void make(const float *w, const void *next, uint8_t *u, size_t k, float scale,
                    struct screen_rest *rest)
{
    const __m512 per_unit = _mm512_set1_ps(SCREEN_ONE / scale), zero = _mm512_setzero_ps();
    struct parts sum = {.beyond = {zero, zero, zero}};

    *rest = (struct screen_rest){0};
    for (size_t i = 0; i < k;) {
        const size_t end = k - i < STRETCH ? k : i + STRETCH;

        sum.square[0] = sum.square[1] = sum.square[2] = (sums){0};
        for (; i < end; i += 64) {
            fetch(next, k + i);
            rest->n_beyond += make64(w + i, u + i, scale, per_unit, &sum);
        }
        for (int p = 0; p < 3; p++)
            rest->squares[p] += total(sum.square[p]);
    }
    for (int p = 0; p < 3; p++)
        rest->beyond[p] = sum_of_16(sum.beyond[p]);
}

struct bn_screen_row screen_encode_avx512(const float *w, const void *next, uint8_t *u, size_t k)
{
    return encode(w, next, u, k, measure, sampled_error, make);
}

/* ---- codes to planes ---- */

BN_INLINE __m512i bits_of(__m512i mask, __m512i a, __m512i b)
{
    return _mm512_ternarylogic_epi32(mask, a, b, 0xca); /* a where the mask has bits, else b */
}

/* Eight pieces of two rows: in each of 8 bytes the first row's four, then the second row's. */
BN_INLINE __m512i high_of_two(const uint8_t *u, size_t k)
{
    const __m512i a = _mm512_loadu_si512(u), b = _mm512_loadu_si512(u + k);
    const __m512i upper = _mm512_set1_epi8((char)0xf0);
    /* of every 8 codes the first four belong into the high halves of the bytes */
    const __m512i first = bits_of(upper, _mm512_slli_epi64(a, 1), _mm512_srli_epi64(a, 35));
    const __m512i second = bits_of(upper, _mm512_slli_epi64(b, 33), _mm512_srli_epi64(b, 3));

    return _mm512_mask_mov_epi32(first, 0xaaaa, second);
}

/* Eight vectors of eight 64-bit values, rows to columns. */
BN_INLINE void transpose8(__m512i v[8])
{
    __m512i a[8], b[8];

    BN_UNROLL
    for (int i = 0; i < 8; i += 2) {
        a[i] = _mm512_unpacklo_epi64(v[i], v[i + 1]);
        a[i + 1] = _mm512_unpackhi_epi64(v[i], v[i + 1]);
    }
    BN_UNROLL
    for (int i = 0; i < 8; i += 4) {
        BN_UNROLL
        for (int j = 0; j < 2; j++) {
            b[i + j] = _mm512_shuffle_i64x2(a[i + j], a[i + j + 2], 0x88);
            b[i + j + 2] = _mm512_shuffle_i64x2(a[i + j], a[i + j + 2], 0xdd);
        }
    }
    BN_UNROLL
    for (int j = 0; j < 4; j++) {
        v[j] = _mm512_shuffle_i64x2(b[j], b[j + 4], 0x88);
        v[j + 4] = _mm512_shuffle_i64x2(b[j], b[j + 4], 0xdd);
    }
}

/* 16 rows, one half of each piece. */
BN_INLINE void pack_high(const uint8_t *u, uint8_t *high, size_t k)
{
    for (size_t i = 0; i < k; i += 8 * BN_PIECE_SCREEN, high += 8 * BN_PIECE_BYTES) {
        __m512i v[8];

        BN_UNROLL
        for (size_t r = 0; r < 8; r++)
            v[r] = high_of_two(u + 2 * r * k + i, k);
        transpose8(v);
        BN_UNROLL
        for (size_t p = 0; p < 8; p++)
            _mm512_storeu_si512(high + p * BN_PIECE_BYTES, v[p]);
    }
}

BN_INLINE void pack_mid(const uint8_t *u, uint8_t *mid, size_t k)
{
    for (size_t g = 0; g < k; g += BN_SCREEN_MID_GROUP, mid += 64) {
        __m512i bits = _mm512_setzero_si512();

        BN_UNROLL
        for (int b = 0; b < 8; b++) {
            if (g + 64 * (size_t)b >= k)
                break;
            const __m512i v = _mm512_loadu_si512(u + g + 64 * (size_t)b);
            const __m512i there =
                b < 2 ? _mm512_srli_epi16(v, (unsigned)(2 - b)) : _mm512_slli_epi16(v, (unsigned)(b - 2));

            bits = bits_of(_mm512_set1_epi8((char)(1 << b)), there, bits);
        }
        _mm512_storeu_si512(mid, bits);
    }
}

/* First the codes 64 apart side by side, then those 32 apart. */
BN_INLINE void pack_low(const uint8_t *u, uint8_t *low, size_t k)
{
    for (size_t i = 0; i < k; i += 128, low += 32) {
        const __m512i a = _mm512_slli_epi16(_mm512_loadu_si512(u + i), 4), b = _mm512_loadu_si512(u + i + 64);
        const __m512i both = _mm512_and_si512(bits_of(_mm512_set1_epi8(0x30), a, b), _mm512_set1_epi8(0x33));
        const __m256i first = _mm256_slli_epi16(_mm512_castsi512_si256(both), 2);

        _mm256_storeu_si256((__m256i *)(void *)low,
                            _mm256_or_si256(first, _mm512_extracti64x4_epi64(both, 1)));
    }
}

void screen_pack_avx512(const uint8_t *u, uint8_t *high, uint8_t *mid, uint8_t *low, size_t k)
{
    for (size_t r = 0; r < BN_TILE_ROWS; r++) {
        pack_mid(u + r * k, mid + r * bn_screen_mid_bytes(k), k);
        pack_low(u + r * k, low + r * bn_screen_low_bytes(k), k);
        if (r % 16 == 15)
            pack_high(u + (r - 15) * k, high + 4 * (r - 15), k);
    }
}

/* ---- selection ---- */

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

/* SPDX-License-Identifier: MIT
 * Screening codes and their products with AVX2: rows to codes 8 at a time; products by maddubs, whose int16
 * sums are widened before they could overflow. */
#include "kernels/avx2.h"
#include "kernels/screen.h"
#include "kernels/screen_row.h"

enum {
    VECS = BN_TILE_ROWS / 8, /* vectors of 8 rows */
    /* A code of 4 bits is at most 15 and |x| at most 128: a maddubs adds at most 3840 to an int16: 8 fit. */
    WIDEN_PIECES = 4,
    AHEAD_BYTES = 4096, /* how far a stream is fetched ahead */
    AHEAD_ROWS = 4,     /* how far scattered rows are */
};

/* Not __m256i, whose lanes gcc takes for 64 bits wide: it would copy every sum before and after it is added
 * to. */
typedef int16_t words __attribute__((vector_size(32)));
typedef int32_t sums __attribute__((vector_size(32)));

BN_INLINE __m256i load32(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

/* ---- one row to codes ---- */

BN_INLINE float sum_of_16(__m256 low, __m256 high)
{
    float lane[16];

    _mm256_storeu_ps(lane, low);
    _mm256_storeu_ps(lane + 8, high);
    return sum_of_lanes(lane);
}

BN_INLINE __m256 square_sum(__m256 sum, __m256 d)
{
    return _mm256_add_ps(sum, _mm256_mul_ps(d, d));
}

BN_INLINE __m256 clamped_floor(__m256 w, __m256 inverse, float least, float most)
{
    __m256 q = _mm256_floor_ps(_mm256_mul_ps(w, inverse));

    return _mm256_min_ps(_mm256_max_ps(q, _mm256_set1_ps(least)), _mm256_set1_ps(most));
}

/* w minus the middle of interval q. */
BN_INLINE __m256 distance(__m256 w, __m256 q, __m256 step)
{
    return _mm256_sub_ps(w, _mm256_mul_ps(step, _mm256_add_ps(q, _mm256_set1_ps(0.5f))));
}

BN_INLINE float sampled_error(const float *w, float scale, size_t k)
{
    const __m256 step = _mm256_set1_ps(4.0f * scale), inverse = _mm256_set1_ps(1.0f / (4.0f * scale));
    __m256 sum[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};

    for (size_t i = 0; i < k; i += BN_SCREEN_SAMPLE * 16) {
        BN_UNROLL
        for (int j = 0; j < 2; j++) {
            const __m256 v = _mm256_loadu_ps(w + i + 8 * j);

            sum[j] = square_sum(sum[j], distance(v, clamped_floor(v, inverse, -16.0f, 15.0f), step));
        }
    }
    return sum_of_16(sum[0], sum[1]);
}

/* Both loops over a row fetch one half of what comes next. */
BN_INLINE void fetch(const void *next, size_t at)
{
    _mm_prefetch((const char *)next + at, _MM_HINT_T0);
}

BN_INLINE float measure(const float *w, const void *next, size_t k, float *max)
{
    __m256 square[4], most[2];

    for (int j = 0; j < 4; j++)
        square[j] = most[j % 2] = _mm256_setzero_ps();
    for (size_t i = 0; i < k; i += 64) {
        fetch(next, i);
        BN_UNROLL
        for (int j = 0; j < 8; j++) {
            const __m256 v = _mm256_loadu_ps(w + i + 8 * j);

            square[j % 4] = square_sum(square[j % 4], v);
            most[j % 2] = _mm256_max_ps(abs8(v), most[j % 2]);
        }
    }
    *max = max8(_mm256_max_ps(most[0], most[1]));
    return sum_of_16(_mm256_add_ps(square[0], square[2]), _mm256_add_ps(square[1], square[3]));
}

enum { STRETCH = 2048 /* elements whose squares 8 sums of int32 can hold */ };

struct parts {
    sums square[3];
    __m256 beyond[3][2];
};

BN_INLINE uint64_t total(sums sum)
{
    uint64_t all = 0;

    for (int j = 0; j < 8; j++)
        all += (uint32_t)sum[j];
    return all;
}

BN_INLINE void add_rests(sums square[3], __m256i v)
{
    static const int16_t below[] = SCREEN_BELOW;

    BN_UNROLL
    for (int p = 0; p < 3; p++) {
        const __m256i r = _mm256_sub_epi16(_mm256_and_si256(v, _mm256_set1_epi16(below[p])),
                                           _mm256_set1_epi16((int16_t)(below[p] / 2 + 1)));

        square[p] += (sums)_mm256_madd_epi16(r, r);
    }
}

/* Of 8 weights those whose v is the outermost. */
BN_INLINE uint32_t add_beyond(__m256 beyond[3][2], int half, __m256 w, __m256i v, float scale)
{
    static const float farthest[] = SCREEN_FARTHEST;
    const __m256 mask =
        _mm256_castsi256_ps(_mm256_or_si256(_mm256_cmpgt_epi32(v, _mm256_set1_epi32(SCREEN_MOST - 1)),
                                            _mm256_cmpgt_epi32(_mm256_set1_epi32(SCREEN_LEAST + 1), v)));

    BN_UNROLL
    for (int p = 0; p < 3; p++) {
        const __m256 d = _mm256_sub_ps(abs8(w), _mm256_set1_ps(farthest[p] * scale));

        beyond[p][half] = square_sum(beyond[p][half], _mm256_and_ps(d, mask));
    }
    return (uint32_t)__builtin_popcount((unsigned)_mm256_movemask_ps(mask));
}

/* 32 weights; returns how many are beyond. */
BN_INLINE uint32_t make32(const float *w, uint8_t *u, float scale, __m256 per_unit, struct parts *sum)
{
    /* packing takes 4 of each vector in turn */
    const __m256i in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256i whole[4], v[2], codes;
    uint32_t n_beyond = 0;

    BN_UNROLL
    for (int j = 0; j < 4; j++)
        whole[j] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(w + 8 * j), per_unit));
    v[0] = _mm256_packs_epi32(whole[0], whole[1]);
    v[1] = _mm256_packs_epi32(whole[2], whole[3]);
    add_rests(sum->square, v[0]);
    add_rests(sum->square, v[1]);
    codes = _mm256_packs_epi16(_mm256_srai_epi16(v[0], 9), _mm256_srai_epi16(v[1], 9));
    codes = _mm256_permutevar8x32_epi32(_mm256_add_epi8(codes, _mm256_set1_epi8(64)), in_order);
    _mm256_storeu_si256((__m256i *)(void *)u, codes);
    const __m256i most = _mm256_max_epu16(_mm256_abs_epi16(v[0]), _mm256_abs_epi16(v[1]));
    const __m256i inner =
        _mm256_cmpeq_epi16(_mm256_min_epu16(most, _mm256_set1_epi16(SCREEN_MOST - 1)), most);
    if (_mm256_movemask_epi8(inner) == -1)
        return 0;
    BN_UNROLL
    for (int j = 0; j < 4; j++)
        n_beyond += add_beyond(sum->beyond, j % 2, _mm256_loadu_ps(w + 8 * j), whole[j], scale);
    return n_beyond;
}

BN_INLINE void make(const float *w, const void *next, uint8_t *u, size_t k, float scale,
                    struct screen_rest *rest)
{
    const __m256 per_unit = _mm256_set1_ps(SCREEN_ONE / scale);
    struct parts sum;

    *rest = (struct screen_rest){0};
    for (int p = 0; p < 3; p++)
        sum.beyond[p][0] = sum.beyond[p][1] = _mm256_setzero_ps();
    for (size_t i = 0; i < k;) {
        const size_t end = k - i < STRETCH ? k : i + STRETCH;

        sum.square[0] = sum.square[1] = sum.square[2] = (sums){0};
        for (; i < end; i += 64) {
            fetch(next, k + i);
            rest->n_beyond += make32(w + i, u + i, scale, per_unit, &sum);
            rest->n_beyond += make32(w + i + 32, u + i + 32, scale, per_unit, &sum);
        }
        for (int p = 0; p < 3; p++)
            rest->squares[p] += total(sum.square[p]);
    }
    for (int p = 0; p < 3; p++)
        rest->beyond[p] = sum_of_16(sum.beyond[p][0], sum.beyond[p][1]);
}

struct bn_screen_row screen_encode_avx2(const float *w, const void *next, uint8_t *u, size_t k)
{
    return encode(w, next, u, k, measure, sampled_error, make);
}

/* ---- codes to planes ---- */

/* 32 codes to 16 bytes of the plane high: four pieces' four bytes. */
BN_INLINE __m128i high_of_32(__m256i u)
{
    /* of every 8 bytes the first four belong into the high halves, the others into the low ones */
    const __m256i first = _mm256_and_si256(_mm256_slli_epi64(u, 1), _mm256_set1_epi8((char)0xf0));
    const __m256i second = _mm256_and_si256(_mm256_srli_epi64(u, 35), _mm256_set1_epi8(0x0f));
    const __m256i both = _mm256_or_si256(first, second);

    return _mm256_castsi256_si128(
        _mm256_permutevar8x32_epi32(both, _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6)));
}

BN_INLINE void pack_high(const uint8_t *u, uint8_t *high, size_t k)
{
    for (size_t i = 0; i < k; i += 4 * BN_PIECE_SCREEN, high += 4 * BN_PIECE_BYTES) {
        const __m128i four = high_of_32(load32(u + i));
        const int32_t words4[4] = {_mm_extract_epi32(four, 0), _mm_extract_epi32(four, 1),
                                   _mm_extract_epi32(four, 2), _mm_extract_epi32(four, 3)};

        BN_UNROLL
        for (int p = 0; p < 4; p++)
            memcpy(high + p * BN_PIECE_BYTES, &words4[p], sizeof words4[p]);
    }
}

BN_INLINE void pack_mid(const uint8_t *u, uint8_t *mid, size_t k)
{
    for (size_t g = 0; g < k; g += BN_SCREEN_MID_GROUP) {
        for (size_t half = 0; half < 64; half += 32, mid += 32) {
            __m256i bits = _mm256_setzero_si256();

            for (int b = 0; b < 8 && g + 64 * (size_t)b < k; b++) {
                const __m256i v = load32(u + g + 64 * (size_t)b + half);
                const __m256i bit = _mm256_and_si256(_mm256_srli_epi16(v, 2), _mm256_set1_epi8(1));

                bits = _mm256_or_si256(bits, _mm256_sll_epi16(bit, _mm_cvtsi32_si128(b)));
            }
            _mm256_storeu_si256((__m256i *)(void *)mid, bits);
        }
    }
}

BN_INLINE void pack_low(const uint8_t *u, uint8_t *low, size_t k)
{
    const __m256i mask = _mm256_set1_epi8(3);

    for (size_t i = 0; i < k; i += 128, low += 32) {
        const __m256i a = _mm256_slli_epi16(_mm256_and_si256(load32(u + i), mask), 6);
        const __m256i b = _mm256_slli_epi16(_mm256_and_si256(load32(u + i + 32), mask), 4);
        const __m256i c = _mm256_slli_epi16(_mm256_and_si256(load32(u + i + 64), mask), 2);
        const __m256i d = _mm256_and_si256(load32(u + i + 96), mask);

        _mm256_storeu_si256((__m256i *)(void *)low,
                            _mm256_or_si256(_mm256_or_si256(a, b), _mm256_or_si256(c, d)));
    }
}

void screen_pack_avx2(const uint8_t *u, uint8_t *high, uint8_t *mid, uint8_t *low, size_t k)
{
    for (size_t r = 0; r < BN_TILE_ROWS; r++, u += k) {
        pack_high(u, high + 4 * r, k);
        pack_mid(u, mid + r * bn_screen_mid_bytes(k), k);
        pack_low(u, low + r * bn_screen_low_bytes(k), k);
    }
}

/* ---- the plane high ---- */

BN_INLINE __m256i four_activations(const int8_t *x)
{
    int32_t four;

    memcpy(&four, x, sizeof four);
    return _mm256_set1_epi32(four);
}

BN_INLINE words products(__m256i w, __m256i x)
{
    return (words)_mm256_maddubs_epi16(w, x);
}

BN_INLINE sums widen(words sum)
{
    return (sums)_mm256_madd_epi16((__m256i)sum, _mm256_set1_epi16(1));
}

/* Sums of one tile with both parts of x. */
BN_INLINE void high_tile(const uint8_t *w, const int8_t *x, size_t k, sums coarse[VECS], sums fine[VECS])
{
    const __m256i mask = _mm256_set1_epi8(15);

    BN_UNROLL
    for (int v = 0; v < VECS; v++)
        coarse[v] = fine[v] = (sums){0};
    for (size_t i = 0; i < k; i += WIDEN_PIECES * BN_PIECE_SCREEN, w += WIDEN_PIECES * BN_PIECE_BYTES) {
        BN_UNROLL
        for (int p = 0; p < 2 * WIDEN_PIECES; p++)
            _mm_prefetch((const char *)w + AHEAD_BYTES + 64 * p, _MM_HINT_T0);
        BN_UNROLL
        for (int v = 0; v < VECS; v++) {
            words part[2] = {{0}, {0}};

            BN_UNROLL
            for (int p = 0; p < WIDEN_PIECES; p++) {
                const int8_t *at = x + i + (size_t)p * BN_PIECE_SCREEN;
                const __m256i codes = load32(w + p * BN_PIECE_BYTES + 32 * v);
                const __m256i first = _mm256_and_si256(_mm256_srli_epi16(codes, 4), mask);
                const __m256i second = _mm256_and_si256(codes, mask);

                part[0] += products(first, four_activations(at)) + products(second, four_activations(at + 4));
                part[1] += products(first, four_activations(at + k)) +
                           products(second, four_activations(at + k + 4));
            }
            coarse[v] += widen(part[0]);
            fine[v] += widen(part[1]);
        }
    }
}

void screen_high_gemv_avx2(const uint8_t *high, const int8_t *x, const float *scale, float center, float unit,
                           float *y, size_t n_tiles, size_t k)
{
    for (size_t t = 0; t < n_tiles; t++, scale += BN_TILE_ROWS, y += BN_TILE_ROWS) {
        sums coarse[VECS], fine[VECS];

        high_tile(high + t * bn_screen_high_bytes(k), x, k, coarse, fine);
        BN_UNROLL
        for (int v = 0; v < VECS; v++) {
            __m256 sum = _mm256_mul_ps(_mm256_cvtepi32_ps((__m256i)coarse[v]), _mm256_set1_ps(256.0f));
            __m256 factor = _mm256_mul_ps(_mm256_loadu_ps(scale + 8 * v), _mm256_set1_ps(unit));

            sum = _mm256_add_ps(sum, _mm256_cvtepi32_ps((__m256i)fine[v]));
            sum = _mm256_sub_ps(sum, _mm256_set1_ps(center));
            _mm256_storeu_ps(y + 8 * v, _mm256_mul_ps(sum, factor));
        }
    }
}

/* ---- the planes mid and low ---- */

BN_INLINE void fetch_row(const uint8_t *row, size_t row_bytes)
{
    for (size_t at = 0; at < row_bytes; at += 64)
        _mm_prefetch((const char *)row + at, _MM_HINT_T0);
}

/* A bit times |x| is at most 128, a maddubs adds at most 256 to an int16: the 16 of a group fit. */
BN_INLINE int32_t mid_row(const uint8_t *w, const int8_t *x, size_t row_bytes)
{
    const __m256i one = _mm256_set1_epi8(1);
    sums total = {0};

    for (size_t i = 0; i < row_bytes; i += 64, x += BN_SCREEN_MID_GROUP) {
        words sum = {0};

        BN_UNROLL
        for (int half = 0; half < 64; half += 32) {
            const __m256i bits = load32(w + i + half);

            BN_UNROLL
            for (int b = 0; b < 8; b++)
                sum += products(_mm256_and_si256(_mm256_srli_epi16(bits, b), one), load32(x + 64 * b + half));
        }
        total += widen(sum);
    }
    return sum8_int((__m256i)total);
}

void screen_mid_gemv_avx2(const uint8_t *mid, const int8_t *x, int32_t x_sum, const float *scale, float unit,
                          float *y, const uint32_t *ids, size_t n_ids, size_t k)
{
    const size_t row_bytes = bn_screen_mid_bytes(k);

    for (size_t i = 0; i < n_ids; i++) {
        const size_t r = ids[i];

        if (i + AHEAD_ROWS < n_ids)
            fetch_row(mid + ids[i + AHEAD_ROWS] * row_bytes, row_bytes);
        y[r] += (float)(2 * mid_row(mid + r * row_bytes, x, row_bytes) - x_sum) * (scale[r] * unit);
    }
}

/* A code is at most 3: the sum of four places, at most 3072, fits an int16. */
BN_INLINE int32_t low_row(const uint8_t *w, const int8_t *x, size_t row_bytes)
{
    sums total = {0};

    for (size_t i = 0; i < row_bytes; i += 32, x += 128) {
        const __m256i v = load32(w + i);
        words sum = {0};

        BN_UNROLL
        for (int p = 0; p < 4; p++)
            sum += products(_mm256_and_si256(_mm256_srli_epi16(v, 6 - 2 * p), _mm256_set1_epi8(3)),
                            load32(x + 32 * p));
        total += widen(sum);
    }
    return sum8_int((__m256i)total);
}

void screen_low_gemv_avx2(const uint8_t *low, const int8_t *x, int32_t x_sum, const float *scale, float unit,
                          float *y, const uint32_t *ids, size_t n_ids, size_t k)
{
    const size_t row_bytes = bn_screen_low_bytes(k);

    for (size_t i = 0; i < n_ids; i++) {
        const size_t r = ids[i];

        if (i + AHEAD_ROWS < n_ids)
            fetch_row(low + ids[i + AHEAD_ROWS] * row_bytes, row_bytes);
        y[r] += (float)(2 * low_row(low + r * row_bytes, x, row_bytes) - 3 * x_sum) * (scale[r] * unit);
    }
}

/* ---- selection ---- */

size_t screen_select_avx2(float *y, const float *error, const float *norm, const float *scale,
                          const struct bn_screen_bound *bound, float least, uint32_t first, uint32_t *ids,
                          size_t n)
{
    const __m256 per_error = _mm256_set1_ps(bound->per_error), per_norm = _mm256_set1_ps(bound->per_norm);
    const __m256 per_scale = _mm256_set1_ps(bound->per_scale), at_least = _mm256_set1_ps(least);
    size_t n_ids = 0;

    for (size_t r = 0; r < n; r += 8) {
        const size_t left = n - r;
        __m256 sum = _mm256_add_ps(_mm256_mul_ps(load8(error + r, left), per_error),
                                   _mm256_mul_ps(load8(norm + r, left), per_norm));

        sum = _mm256_add_ps(sum, _mm256_mul_ps(load8(scale + r, left), per_scale));
        const __m256 logits = load8(y + r, left);
        const __m256 below = _mm256_cmp_ps(_mm256_add_ps(logits, sum), at_least, _CMP_LT_OQ);
        unsigned kept = ~(unsigned)_mm256_movemask_ps(below);

        store8(y + r, left, _mm256_blendv_ps(logits, _mm256_set1_ps(-INFINITY), below));
        kept &= left >= 8 ? 0xffu : (1u << left) - 1;
        for (; kept; kept &= kept - 1)
            ids[n_ids++] = first + (uint32_t)r + (uint32_t)__builtin_ctz(kept);
    }
    return n_ids;
}

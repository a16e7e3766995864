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

/* Codes of 8 weights as int32; adds to their three errors. */
BN_INLINE __m256i encode8(__m256 w, __m256 inverse, float scale, __m256 error[3])
{
    const __m256 q = clamped_floor(w, inverse, -64.0f, 63.0f);
    const __m256i whole = _mm256_cvtps_epi32(q);
    const __m256 high = _mm256_cvtepi32_ps(_mm256_srai_epi32(whole, 3));
    const __m256 mid = _mm256_cvtepi32_ps(_mm256_srai_epi32(whole, 2));

    error[0] = square_sum(error[0], distance(w, high, _mm256_set1_ps(8.0f * scale)));
    error[1] = square_sum(error[1], distance(w, mid, _mm256_set1_ps(4.0f * scale)));
    error[2] = square_sum(error[2], distance(w, q, _mm256_set1_ps(scale)));
    return _mm256_add_epi32(whole, _mm256_set1_epi32(64));
}

BN_INLINE void encode_row(struct bn_screen_row *row, const float *w, uint8_t *u, size_t k, float sum[3])
{
    const __m256 inverse = _mm256_set1_ps(1.0f / row->scale);
    __m256 error[2][3];

    for (int e = 0; e < 6; e++)
        error[e / 3][e % 3] = _mm256_setzero_ps();
    for (size_t i = 0; i < k; i += 16) {
        __m256i low = encode8(_mm256_loadu_ps(w + i), inverse, row->scale, error[0]);
        __m256i high = encode8(_mm256_loadu_ps(w + i + 8), inverse, row->scale, error[1]);
        __m256i both = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
        __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));

        _mm_storeu_si128((__m128i *)(void *)(u + i), bytes);
    }
    for (int e = 0; e < 3; e++)
        sum[e] = sum_of_16(error[0][e], error[1][e]);
}

struct bn_screen_row screen_encode_avx2(const float *w, uint8_t *u, size_t k)
{
    __m256 square[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()}, max = _mm256_setzero_ps();
    struct bn_screen_row row;
    float squares, largest, errors[3];

    for (size_t i = 0; i < k; i += 16) {
        const __m256 a = _mm256_loadu_ps(w + i), b = _mm256_loadu_ps(w + i + 8);

        square[0] = square_sum(square[0], a);
        square[1] = square_sum(square[1], b);
        max = _mm256_max_ps(_mm256_max_ps(abs8(a), abs8(b)), max);
    }
    squares = sum_of_16(square[0], square[1]);
    largest = max8(max);
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

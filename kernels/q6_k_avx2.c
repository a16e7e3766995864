/* SPDX-License-Identifier: MIT
 * Q6_K with AVX2. */
#include "kernels/block_avx2.h"
#include "kernels/q6_k.h"
#include "kernels/q8_avx2.h"

enum { MAX_COLS = 2 };

/* 32 codes minus 32 from their low halves and their high bits, which stand in bits 5:4 of `high`. */
BN_INLINE __m256i code_of(__m256i low, __m256i high)
{
    const __m256i code = _mm256_or_si256(low_halves(low), _mm256_and_si256(high, _mm256_set1_epi8(0x30)));

    return _mm256_sub_epi8(code, _mm256_set1_epi8(32));
}

/* The codes of four sub-blocks (or quarters of a half) from two vectors of low halves and one of high bits.
 */
BN_INLINE void unpack(__m256i a, __m256i b, __m256i bits, __m256i codes[4])
{
    codes[0] = code_of(a, _mm256_slli_epi16(bits, 4));
    codes[1] = code_of(b, _mm256_slli_epi16(bits, 2));
    codes[2] = code_of(_mm256_srli_epi16(a, 4), bits);
    codes[3] = code_of(_mm256_srli_epi16(b, 4), _mm256_srli_epi16(bits, 2));
}

/* A group's share of the sums of a block for eight rows. An int16 takes all 8 products of a sub-block: at
 * most 8 * 32 * 127. */
BN_INLINE void add_group(const uint8_t *w, const int8_t *q, size_t k, sums *block, const size_t n_cols)
{
    const sums sc = (sums)load32(w);
    words sum[MAX_COLS][4];

    BN_UNROLL
    for (size_t j = 0; j < n_cols; j++)
        sum[j][0] = sum[j][1] = sum[j][2] = sum[j][3] = (words){0};
    BN_UNROLL
    for (size_t p = 0; p < 4; p++) {
        const uint8_t *pieces = w + BN_PIECE_BYTES + p * Q6_K_STEP_BYTES;
        __m256i codes[4];

        unpack(load32(pieces), load32(pieces + BN_PIECE_BYTES), load32(pieces + 2 * BN_PIECE_BYTES), codes);
        BN_UNROLL
        for (size_t s = 0; s < 4; s++) {
            BN_UNROLL
            for (size_t j = 0; j < n_cols; j++)
                sum[j][s] += signed_products(codes[s], four_activations(q + j * k + 32 * s + 4 * p));
        }
    }
    BN_UNROLL
    for (size_t s = 0; s < 4; s++) {
        const sums scale = (sc << (24 - 8 * (int)s)) >> 24; /* byte s of each lane, signed */

        BN_UNROLL
        for (size_t j = 0; j < n_cols; j++)
            block[j] += widen_times(sum[j][s], scale);
    }
}

BN_INLINE void q6_k_tile(const uint8_t *w, const struct bn_q8 *x, size_t c, float *y, size_t ldy,
                         size_t n_rows, size_t k, const size_t n_cols)
{
    const size_t n_blocks = k / BN_BLOCK_K;
    const int8_t *q = x->q + c * k;
    const float *d = x->d + c * n_blocks;
    __m256 total[MAX_COLS][VECS];

    for (size_t j = 0; j < n_cols; j++)
        total[j][0] = total[j][1] = total[j][2] = total[j][3] = _mm256_setzero_ps();
    for (size_t b = 0; b < n_blocks; b++, w += BN_TILE_ROWS * Q6_K_BYTES, q += BN_BLOCK_K) {
        sums block[VECS][MAX_COLS] = {0};

        for (size_t g = 0; g < Q6_K_GROUPS; g++) {
            const uint8_t *group = w + SCALES_F16 + g * Q6_K_GROUP_BYTES;

            for (size_t i = 0; i < Q6_K_GROUP_BYTES; i += BN_PIECE_BYTES)
                fetch_ahead(group + i);
            for (size_t v = 0; v < VECS; v++)
                add_group(group + 32 * v, q + 128 * (g / 2) + 16 * (g % 2), k, block[v], n_cols);
        }
        for (size_t v = 0; v < VECS; v++) {
            const __m256 rows = load_scales(w + 16 * v);

            for (size_t j = 0; j < n_cols; j++)
                total[j][v] = _mm256_add_ps(total[j][v], scaled(block[v][j], rows, d[j * n_blocks + b]));
        }
    }
    for (size_t j = 0; j < n_cols; j++)
        store_rows(y + j * ldy, n_rows, total[j]);
}

BN_BLOCK_PRODUCTS(q6_k, avx2, BN_BLOCK_K, Q6_K_BYTES, MAX_COLS)

/* ---- into tiles ---- */

/* Bytes s, s + 2, s + 4 and s + 6 of eight. */
BN_INLINE uint32_t every_second(const uint8_t *p, size_t s)
{
    uint64_t v;

    memcpy(&v, p, sizeof v);
    v = v >> 8 * s & 0x00ff00ff00ff00ff;
    v = (v | v >> 8) & 0x0000ffff0000ffff;
    return (uint32_t)(v | v >> 16);
}

BN_INLINE void pack_group(const uint8_t *w, size_t row_bytes, uint8_t *out, size_t h, size_t s)
{
    const uint8_t *low = w + 64 * h + 16 * s, *high = w + Q6_K_HIGH + 32 * h + 16 * s;

    for (size_t r = 0; r < BN_TILE_ROWS; r++) {
        uint32_t four = every_second(w + r * row_bytes + Q6_K_SCALES + 8 * h, s);
        memcpy(out + 4 * r, &four, sizeof four);
    }
    out += BN_PIECE_BYTES;
    for (size_t v = 0; v < VECS; v++, out += 32, low += 8 * row_bytes, high += 8 * row_bytes) {
        pack_pieces(low, row_bytes, out, Q6_K_STEP_BYTES, 4, 0);
        pack_pieces(low + 32, row_bytes, out + BN_PIECE_BYTES, Q6_K_STEP_BYTES, 4, 0);
        pack_pieces(high, row_bytes, out + 2 * BN_PIECE_BYTES, Q6_K_STEP_BYTES, 4, 0);
    }
}

BN_INLINE void q6_k_pack_tile(const uint8_t *w, size_t row_bytes, uint8_t *out, size_t k)
{
    for (size_t b = 0; b < k / BN_BLOCK_K; b++, w += Q6_K_BYTES, out += BN_TILE_ROWS * Q6_K_BYTES) {
        for (size_t r = 0; r < BN_TILE_ROWS; r++)
            memcpy(out + 2 * r, w + r * row_bytes + Q6_K_D, 2);
        for (size_t g = 0; g < Q6_K_GROUPS; g++)
            pack_group(w, row_bytes, out + SCALES_F16 + g * Q6_K_GROUP_BYTES, g / 2, g % 2);
    }
}

BN_BLOCK_PACK(q6_k, BN_BLOCK_K, Q6_K_BYTES)

/* ---- values ---- */

/* Eight values' codes minus 32. */
BN_INLINE __m256i quantized(const float *x, __m256 factor)
{
    const __m256 v = _mm256_mul_ps(_mm256_loadu_ps(x), factor);

    return _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(v, _mm256_set1_ps(-32.0f)), _mm256_set1_ps(31.0f)));
}

/* The codes of 32 values, two sub-blocks with their factors. */
BN_INLINE __m256i two_sub_blocks(const float *x, const float *factor)
{
    const __m256 f0 = _mm256_set1_ps(factor[0]), f1 = _mm256_set1_ps(factor[1]);
    const __m256i codes =
        to_bytes(quantized(x, f0), quantized(x + 8, f0), quantized(x + 16, f1), quantized(x + 24, f1));

    return _mm256_add_epi8(codes, _mm256_set1_epi8(32));
}

/* The two high bits of each code, moved up by `shift` from the lowest place. */
BN_INLINE __m256i high_bits(__m256i codes, const int shift)
{
    return _mm256_slli_epi16(_mm256_and_si256(_mm256_srli_epi16(codes, 4), _mm256_set1_epi8(3)), shift);
}

BN_INLINE __m256i join_halves(__m256i low, __m256i high)
{
    return _mm256_or_si256(low_halves(low), _mm256_slli_epi16(low_halves(high), 4));
}

/* What q6_k_scales and q6_k_factor do, eight sub-blocks at a time: d and the scales into the block. */
BN_INLINE void choose_scales(const float exact[16], uint8_t *w, float factor[16])
{
    const __m256 e[2] = {_mm256_loadu_ps(exact), _mm256_loadu_ps(exact + 8)}, zero = _mm256_setzero_ps();
    float max = first_largest(exact, 16, _mm256_max_ps(e[0], e[1]), _mm256_min_ps(e[0], e[1]));
    uint16_t d = half_of(max / -128.0f);
    const __m256 to_code = _mm256_set1_ps(d & 0x7fff ? -128.0f / max : 0.0f);
    const __m256 d_all = _mm256_set1_ps(float_of_half(d));
    __m256i sc[2];

    BN_UNROLL
    for (int i = 0; i < 2; i++) {
        __m256 scale, inverse;

        sc[i] = _mm256_min_epi32(_mm256_cvtps_epi32(_mm256_mul_ps(e[i], to_code)), _mm256_set1_epi32(127));
        scale = _mm256_mul_ps(d_all, _mm256_cvtepi32_ps(sc[i]));
        inverse = _mm256_div_ps(_mm256_set1_ps(1.0f), scale);
        _mm256_storeu_ps(factor + 8 * i, _mm256_and_ps(inverse, _mm256_cmp_ps(scale, zero, _CMP_NEQ_OQ)));
    }
    store_f16(w + Q6_K_D, d);
    _mm_storeu_si128((__m128i *)(void *)(w + Q6_K_SCALES),
                     _mm256_castsi256_si128(to_bytes(sc[0], sc[1], sc[0], sc[1])));
}

BN_INLINE void encode_block(const float *x, uint8_t *w)
{
    float exact[16], factor[16];

    for (size_t j = 0; j < 16; j++) {
        const __m256 a = _mm256_loadu_ps(x + 16 * j), b = _mm256_loadu_ps(x + 16 * j + 8);

        exact[j] = first_largest(x + 16 * j, 16, _mm256_max_ps(a, b), _mm256_min_ps(a, b)) / -32.0f;
    }
    choose_scales(exact, w, factor);
    for (size_t h = 0; h < 2; h++) {
        __m256i c[4];

        for (size_t quarter = 0; quarter < 4; quarter++)
            c[quarter] = two_sub_blocks(x + 128 * h + 32 * quarter, factor + 8 * h + 2 * quarter);
        _mm256_storeu_si256((__m256i *)(void *)(w + 64 * h), join_halves(c[0], c[2]));
        _mm256_storeu_si256((__m256i *)(void *)(w + 64 * h + 32), join_halves(c[1], c[3]));
        _mm256_storeu_si256((__m256i *)(void *)(w + Q6_K_HIGH + 32 * h),
                            _mm256_or_si256(_mm256_or_si256(high_bits(c[0], 0), high_bits(c[1], 2)),
                                            _mm256_or_si256(high_bits(c[2], 4), high_bits(c[3], 6))));
    }
}

void q6_k_encode_avx2(const float *x, uint8_t *w, size_t n)
{
    for (size_t b = 0; b < n / BN_BLOCK_K; b++)
        encode_block(x + b * BN_BLOCK_K, w + b * Q6_K_BYTES);
}

/* Sixteen codes minus 32, times the scale. */
BN_INLINE void store_values(float *y, __m128i codes, __m256 scale)
{
    const __m256i low = _mm256_cvtepi8_epi32(codes), high = _mm256_cvtepi8_epi32(_mm_srli_si128(codes, 8));

    _mm256_storeu_ps(y, _mm256_mul_ps(scale, _mm256_cvtepi32_ps(low)));
    _mm256_storeu_ps(y + 8, _mm256_mul_ps(scale, _mm256_cvtepi32_ps(high)));
}

void q6_k_to_f32_avx2(const uint8_t *w, float *y, size_t n)
{
    for (size_t b = 0; b < n / BN_BLOCK_K; b++, w += Q6_K_BYTES) {
        const int8_t *sc = (const int8_t *)w + Q6_K_SCALES;
        float d = load_f16(w + Q6_K_D);

        for (size_t h = 0; h < 2; h++) {
            __m256i codes[4];

            unpack(load32(w + 64 * h), load32(w + 64 * h + 32), load32(w + Q6_K_HIGH + 32 * h), codes);
            for (size_t quarter = 0; quarter < 4; quarter++, y += 32, sc += 2) {
                store_values(y, _mm256_castsi256_si128(codes[quarter]), _mm256_set1_ps(d * (float)sc[0]));
                store_values(y + 16, _mm256_extracti128_si256(codes[quarter], 1),
                             _mm256_set1_ps(d * (float)sc[1]));
            }
        }
    }
}

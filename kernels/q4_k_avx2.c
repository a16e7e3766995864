/* SPDX-License-Identifier: MIT
 * Q4_K with AVX2. */
#include "kernels/block_avx2.h"
#include "kernels/q4_k.h"
#include "kernels/q8_avx2.h"

enum { MAX_COLS = 2 };

/* Eight rows' bytes as lanes. */
BN_INLINE sums load_bytes(const uint8_t *w)
{
    return (sums)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)w));
}

/* Two sub-blocks' scales and minima of eight rows. */
struct header {
    sums scale[2], minimum[2];
};

BN_INLINE struct header load_header(const uint8_t *w, size_t chunk, size_t v)
{
    const uint8_t *at = w + Q4_K_TILE_LOW + 2 * chunk * BN_TILE_ROWS + 8 * v;
    const sums high = load_bytes(w + Q4_K_TILE_HIGH + chunk * BN_TILE_ROWS + 8 * v);
    struct header h;

    BN_UNROLL
    for (int j = 0; j < 2; j++) {
        const sums low = load_bytes(at + BN_TILE_ROWS * j);

        h.scale[j] = (low & 15) | (high >> (4 * j) & 3) << 4;
        h.minimum[j] = low >> 4 | (high >> (4 * j + 2) & 3) << 4;
    }
    return h;
}

/* Two sub-blocks' share of the sums of a block for eight rows. An int16 takes all 16 products of a sub-block:
 * at most 16 * 15 * 127. */
BN_INLINE void add_chunk(const uint8_t *w, size_t chunk, size_t v, const int8_t *q, const int16_t *x_sum,
                         size_t k, sums *block, sums *minima, const size_t n_cols)
{
    const uint8_t *pieces = w + Q4_K_TILE_CODES + chunk * Q4_K_CHUNK_BYTES + 32 * v;
    const struct header header = load_header(w, chunk, v);
    words sum[MAX_COLS][2];

    BN_UNROLL
    for (size_t j = 0; j < n_cols; j++)
        sum[j][0] = sum[j][1] = (words){0};
    BN_UNROLL
    for (size_t p = 0; p < 8; p++, pieces += BN_PIECE_BYTES) {
        const __m256i codes = load32(pieces), low = low_halves(codes), high = high_halves(codes);

        BN_UNROLL
        for (size_t j = 0; j < n_cols; j++) {
            sum[j][0] += products(low, four_activations(q + j * k + 4 * p));
            sum[j][1] += products(high, four_activations(q + j * k + 32 + 4 * p));
        }
    }
    BN_UNROLL
    for (size_t j = 0; j < n_cols; j++) {
        const int16_t *s = x_sum + j * (k / 16);

        block[j] += widen_times(sum[j][0], header.scale[0]) + widen_times(sum[j][1], header.scale[1]);
        minima[j] += header.minimum[0] * (s[0] + s[1]) + header.minimum[1] * (s[2] + s[3]);
    }
}

BN_INLINE void q4_k_tile(const uint8_t *w, const struct bn_q8 *x, size_t c, float *y, size_t ldy,
                         size_t n_rows, size_t k, const size_t n_cols)
{
    const size_t n_blocks = k / BN_BLOCK_K;
    const int8_t *q = x->q + c * k;
    const int16_t *x_sum = x->sum + c * (k / 16);
    const float *d = x->d + c * n_blocks;
    __m256 total[MAX_COLS][VECS];

    for (size_t j = 0; j < n_cols; j++)
        total[j][0] = total[j][1] = total[j][2] = total[j][3] = _mm256_setzero_ps();
    for (size_t b = 0; b < n_blocks; b++, w += BN_TILE_ROWS * Q4_K_BYTES, q += BN_BLOCK_K, x_sum += 16) {
        sums block[VECS][MAX_COLS] = {0}, minima[VECS][MAX_COLS] = {0};

        for (size_t i = 0; i < Q4_K_TILE_CODES; i += BN_PIECE_BYTES)
            fetch_ahead(w + i);
        for (size_t chunk = 0; chunk < Q4_K_CHUNKS; chunk++) {
            for (size_t p = 0; p < 8; p++)
                fetch_ahead(w + Q4_K_TILE_CODES + chunk * Q4_K_CHUNK_BYTES + p * BN_PIECE_BYTES);
            for (size_t v = 0; v < VECS; v++)
                add_chunk(w, chunk, v, q + 64 * chunk, x_sum + 4 * chunk, k, block[v], minima[v], n_cols);
        }
        for (size_t v = 0; v < VECS; v++) {
            const __m256 rows = load_scales(w + 16 * v), rows_min = load_scales(w + SCALES_F16 + 16 * v);

            for (size_t j = 0; j < n_cols; j++) {
                total[j][v] = _mm256_sub_ps(total[j][v], scaled(minima[v][j], rows_min, d[j * n_blocks + b]));
                total[j][v] = _mm256_add_ps(total[j][v], scaled(block[v][j], rows, d[j * n_blocks + b]));
            }
        }
    }
    for (size_t j = 0; j < n_cols; j++)
        store_rows(y + j * ldy, n_rows, total[j]);
}

BN_BLOCK_PRODUCTS(q4_k, avx2, BN_BLOCK_K, Q4_K_BYTES, MAX_COLS)

/* ---- into tiles ---- */

/* The header of one row's block. */
BN_INLINE void pack_header(const uint8_t *w, uint8_t *out, size_t lane)
{
    memcpy(out + 2 * lane, w, 2);
    memcpy(out + SCALES_F16 + 2 * lane, w + Q4_K_MIN, 2);
    for (size_t c = 0; c < Q4_K_CHUNKS; c++) {
        int high = 0;

        for (size_t j = 0; j < 2; j++) {
            int sc, min;

            q4_k_scale(w, 2 * c + j, &sc, &min);
            out[Q4_K_TILE_LOW + (2 * c + j) * BN_TILE_ROWS + lane] = (uint8_t)((sc & 15) | (min & 15) << 4);
            high |= (sc >> 4 | min >> 4 << 2) << 4 * j;
        }
        out[Q4_K_TILE_HIGH + c * BN_TILE_ROWS + lane] = (uint8_t)high;
    }
}

BN_INLINE void q4_k_pack_tile(const uint8_t *w, size_t row_bytes, uint8_t *out, size_t k)
{
    for (size_t b = 0; b < k / BN_BLOCK_K; b++, w += Q4_K_BYTES, out += BN_TILE_ROWS * Q4_K_BYTES) {
        for (size_t r = 0; r < BN_TILE_ROWS; r++)
            pack_header(w + r * row_bytes, out, r);
        for (size_t c = 0; c < Q4_K_CHUNKS; c++) {
            for (size_t v = 0; v < VECS; v++)
                pack_pieces(w + Q4_K_CODES + 32 * c + 8 * v * row_bytes, row_bytes,
                            out + Q4_K_TILE_CODES + c * Q4_K_CHUNK_BYTES + 32 * v, BN_PIECE_BYTES, 8, 0);
        }
    }
}

BN_BLOCK_PACK(q4_k, BN_BLOCK_K, Q4_K_BYTES)

/* ---- values ---- */

BN_INLINE __m256 smallest4(const __m256 v[4])
{
    return _mm256_min_ps(_mm256_min_ps(v[0], v[1]), _mm256_min_ps(v[2], v[3]));
}

BN_INLINE __m256 largest4(const __m256 v[4])
{
    return _mm256_max_ps(_mm256_max_ps(v[0], v[1]), _mm256_max_ps(v[2], v[3]));
}

/* Eight values' codes. */
BN_INLINE __m256i quantized(__m256 x, __m256 offset, __m256 factor)
{
    const __m256 v = _mm256_mul_ps(_mm256_add_ps(x, offset), factor);

    return _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(v, _mm256_setzero_ps()), _mm256_set1_ps(15.0f)));
}

/* The codes of a sub-block. */
BN_INLINE __m256i sub_block(const float *x, float scale, float minimum)
{
    const __m256 factor = _mm256_set1_ps(scale > 0.0f ? 1.0f / scale : 0.0f),
                 offset = _mm256_set1_ps(minimum);
    __m256 v[4];

    load_block(x, v);
    return to_bytes(quantized(v[0], offset, factor), quantized(v[1], offset, factor),
                    quantized(v[2], offset, factor), quantized(v[3], offset, factor));
}

BN_INLINE void encode_block(const float *x, uint8_t *w)
{
    float exact[8], exact_min[8], d, d_min;
    uint8_t sc[8], min[8];

    for (size_t j = 0; j < 8; j++) {
        __m256 v[4];
        float low, high;

        load_block(x + 32 * j, v);
        low = -max8(_mm256_sub_ps(_mm256_setzero_ps(), _mm256_min_ps(smallest4(v), _mm256_setzero_ps())));
        high = max8(largest4(v));
        exact[j] = (high - low) / 15.0f;
        exact_min[j] = -low;
    }
    q4_k_choose(exact, exact_min, w, sc, min);
    d = load_f16(w);
    d_min = load_f16(w + Q4_K_MIN);
    for (size_t c = 0; c < Q4_K_CHUNKS; c++) {
        const float *from = x + 64 * c;
        const __m256i low = sub_block(from, d * (float)sc[2 * c], d_min * (float)min[2 * c]);
        const __m256i high = sub_block(from + 32, d * (float)sc[2 * c + 1], d_min * (float)min[2 * c + 1]);

        _mm256_storeu_si256((__m256i *)(void *)(w + Q4_K_CODES + 32 * c),
                            _mm256_or_si256(low, _mm256_slli_epi16(high, 4)));
    }
}

void q4_k_encode_avx2(const float *x, uint8_t *w, size_t n)
{
    for (size_t b = 0; b < n / BN_BLOCK_K; b++)
        encode_block(x + b * BN_BLOCK_K, w + b * Q4_K_BYTES);
}

/* 32 codes times the scale, less the minimum. */
BN_INLINE void store_values(float *y, __m256i codes, float scale, float minimum)
{
    const __m256 f = _mm256_set1_ps(scale), offset = _mm256_set1_ps(minimum);
    uint8_t bytes[32];

    _mm256_storeu_si256((__m256i *)(void *)bytes, codes);
    for (size_t i = 0; i < 32; i += 8) {
        const __m256 v = _mm256_cvtepi32_ps((__m256i)load_bytes(bytes + i));

        _mm256_storeu_ps(y + i, _mm256_sub_ps(_mm256_mul_ps(f, v), offset));
    }
}

void q4_k_to_f32_avx2(const uint8_t *w, float *y, size_t n)
{
    for (size_t b = 0; b < n / BN_BLOCK_K; b++, w += Q4_K_BYTES) {
        float d = load_f16(w), d_min = load_f16(w + Q4_K_MIN);

        for (size_t j = 0; j < 8; j++, y += 32) {
            const __m256i codes = load32(w + Q4_K_CODES + j / 2 * 32);
            int sc, min;

            q4_k_scale(w, j, &sc, &min);
            store_values(y, j % 2 ? high_halves(codes) : low_halves(codes), d * (float)sc,
                         d_min * (float)min);
        }
    }
}

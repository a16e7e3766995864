/* SPDX-License-Identifier: MIT
 * Private to kernels/, for the _avx2 files of the block formats: a 32-bit lane is a row; maddubs multiplies
 * four codes by four activations spread over all lanes and leaves two sums in int16. And tiles from rows,
 * which is the same transposition for all formats. */
#ifndef KERNELS_BLOCK_AVX2_H
#define KERNELS_BLOCK_AVX2_H

#include "kernels/avx2.h"
#include "kernels/block.h"

enum { VECS = BN_TILE_ROWS / 8 /* vectors of 8 rows */ };

/* Sums in int16 and int32. Not __m256i, whose lanes gcc takes for 64 bits wide: it would copy every sum
 * before and after it is added to. */
typedef int16_t words __attribute__((vector_size(32)));
typedef int32_t sums __attribute__((vector_size(32)));

BN_INLINE __m256i four_activations(const int8_t *x)
{
    int32_t four;

    memcpy(&four, x, sizeof four);
    return _mm256_set1_epi32(four);
}

BN_INLINE __m256i load32(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

/* The piece at w will be needed in a while. */
BN_INLINE void fetch_ahead(const uint8_t *w)
{
    _mm_prefetch((const char *)w + BLOCK_AHEAD_BYTES, _MM_HINT_T0);
    _mm_prefetch((const char *)w + BLOCK_AHEAD_BYTES + 64, _MM_HINT_T0);
}

/* Products of signed bytes (w -128 … 127, x -127 … 127): sizes of w times x with w's sign. */
BN_INLINE words signed_products(__m256i w, __m256i x)
{
    return (words)_mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
}

BN_INLINE words products(__m256i codes, __m256i x)
{
    return (words)_mm256_maddubs_epi16(codes, x);
}

BN_INLINE sums widen(words sum)
{
    return (sums)_mm256_madd_epi16((__m256i)sum, _mm256_set1_epi16(1));
}

/* The two int16 sums of each row, added and times the row's factor. */
BN_INLINE sums widen_times(words sum, sums factor)
{
    return (sums)_mm256_madd_epi16((__m256i)sum, (__m256i)((factor & 0xffff) | factor << 16));
}

/* The low and the high half of each byte. */
BN_INLINE __m256i low_halves(__m256i v)
{
    return _mm256_and_si256(v, _mm256_set1_epi8(15));
}

BN_INLINE __m256i high_halves(__m256i v)
{
    return low_halves(_mm256_srli_epi16(v, 4));
}

/* F16 scales of eight rows. */
BN_INLINE __m256 load_scales(const uint8_t *w)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)w));
}

/* scale * sum, the scale a product of the rows' and the activations'. */
BN_INLINE __m256 scaled(sums sum, __m256 rows, float x)
{
    return _mm256_mul_ps(_mm256_cvtepi32_ps((__m256i)sum), _mm256_mul_ps(rows, _mm256_set1_ps(x)));
}

BN_INLINE void store_rows(float *y, size_t n_rows, const __m256 *total)
{
    for (size_t v = 0; v < VECS && 8 * v < n_rows; v++)
        _mm256_maskstore_ps(y + 8 * v, lanes8(n_rows - 8 * v), total[v]);
}

/* ---- tiles from rows ---- */

/* 32 bytes of each of 8 rows, row_bytes apart, into vector v of `n` (at most 8) pieces that are `apart` bytes
 * apart, xored with `flip`. */
BN_INLINE void pack_pieces(const uint8_t *w, size_t row_bytes, uint8_t *out, size_t apart, const size_t n,
                           const char flip)
{
    __m256i in[8], pair[8], piece[8];

    BN_UNROLL
    for (size_t r = 0; r < 8; r++)
        in[r] =
            n > 4
                ? load32(w + r * row_bytes)
                : _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)(w + r * row_bytes)));
    BN_UNROLL
    for (size_t r = 0; r < 8; r += 2) {
        pair[r] = _mm256_unpacklo_epi32(in[r], in[r + 1]);
        pair[r + 1] = _mm256_unpackhi_epi32(in[r], in[r + 1]);
    }
    BN_UNROLL
    for (size_t r = 0; r < 8; r += 4) { /* in[r + i]: rows r ... r + 3 of dwords i and i + 4 */
        in[r] = _mm256_unpacklo_epi64(pair[r], pair[r + 2]);
        in[r + 1] = _mm256_unpackhi_epi64(pair[r], pair[r + 2]);
        in[r + 2] = _mm256_unpacklo_epi64(pair[r + 1], pair[r + 3]);
        in[r + 3] = _mm256_unpackhi_epi64(pair[r + 1], pair[r + 3]);
    }
    BN_UNROLL
    for (size_t i = 0; i < 4; i++) {
        piece[i] = _mm256_permute2x128_si256(in[i], in[i + 4], 0x20);
        piece[i + 4] = _mm256_permute2x128_si256(in[i], in[i + 4], 0x31);
    }
    BN_UNROLL
    for (size_t i = 0; i < n; i++)
        _mm256_storeu_si256((__m256i *)(void *)(out + i * apart),
                            _mm256_xor_si256(piece[i], _mm256_set1_epi8(flip)));
}

/* All whole tiles by <format>_pack_tile(w, row_bytes, out, k), a last partial one as the definition does it.
 */
#define BN_BLOCK_PACK(format, block, block_bytes)                                                            \
    void format##_pack_avx2(const uint8_t *w, uint8_t *packed, size_t n_rows, size_t k)                      \
    {                                                                                                        \
        const size_t row_bytes = k / (block) * (block_bytes);                                                \
        size_t r = 0;                                                                                        \
                                                                                                             \
        for (; n_rows - r >= BN_TILE_ROWS; r += BN_TILE_ROWS)                                                \
            format##_pack_tile(w + r * row_bytes, row_bytes, packed + r * row_bytes, k);                     \
        if (r < n_rows)                                                                                      \
            format##_pack_c(w + r * row_bytes, packed + r * row_bytes, n_rows - r, k);                       \
    }

#endif

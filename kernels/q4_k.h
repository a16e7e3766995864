/* SPDX-License-Identifier: MIT
 * Private to kernels/: where the parts of a block of Q4_K lie in a file and in a tile. */
#ifndef KERNELS_Q4_K_H
#define KERNELS_Q4_K_H

#include "kernels/block.h"

enum {
    Q4_K_MIN = 2, /* in a file: behind d dmin, the sub-blocks' scales and minima, the codes */
    Q4_K_SCALES = 4,
    Q4_K_CODES = 16,
    /* In a tile: behind d and dmin the low bits of each sub-block's scale and minimum, the high bits of each
     * two sub-blocks', the codes of each two sub-blocks. */
    Q4_K_TILE_LOW = 2 * SCALES_F16,
    Q4_K_TILE_HIGH = Q4_K_TILE_LOW + 8 * BN_TILE_ROWS,
    Q4_K_TILE_CODES = Q4_K_TILE_HIGH + 4 * BN_TILE_ROWS,
    Q4_K_CHUNKS = 4,
    Q4_K_CHUNK_BYTES = 8 * BN_PIECE_BYTES,
};

/* Scale and minimum of sub-block j of a block in a file: those of the first four in six bits of a byte each,
 * the others' low halves in the last four bytes, their high bits above the first ones'. */
BN_INLINE void q4_k_scale(const uint8_t *w, size_t j, int *sc, int *min)
{
    const uint8_t *b = w + Q4_K_SCALES;

    *sc = j < 4 ? b[j] & 63 : (b[j + 4] & 15) | b[j - 4] >> 6 << 4;
    *min = j < 4 ? b[j + 4] & 63 : b[j + 4] >> 4 | b[j] >> 6 << 4;
}

/* The twelve bytes from all scales and minima. */
BN_INLINE void q4_k_store_scales(uint8_t *w, const uint8_t sc[8], const uint8_t min[8])
{
    uint8_t *b = w + Q4_K_SCALES;

    for (size_t j = 0; j < 4; j++) {
        b[j] = (uint8_t)(sc[j] | sc[j + 4] >> 4 << 6);
        b[j + 4] = (uint8_t)(min[j] | min[j + 4] >> 4 << 6);
        b[j + 8] = (uint8_t)((sc[j + 4] & 15) | (min[j + 4] & 15) << 4);
    }
}

/* Scales of a row's block from its sub-blocks' exact ones and minima (0 or more), with d and dmin stored. */
BN_INLINE void q4_k_choose(const float exact[8], const float exact_min[8], uint8_t *w, uint8_t sc[8],
                           uint8_t min[8])
{
    float max = largest(exact, 8), max_min = largest(exact_min, 8);
    uint16_t d = f16_from_float(max / 63.0f), d_min = f16_from_float(max_min / 63.0f);
    float to_code = d ? 63.0f / max : 0.0f, min_to_code = d_min ? 63.0f / max_min : 0.0f;

    store_f16(w, d);
    store_f16(w + Q4_K_MIN, d_min);
    for (size_t j = 0; j < 8; j++) {
        sc[j] = (uint8_t)nearest(exact[j] * to_code);
        min[j] = (uint8_t)nearest(exact_min[j] * min_to_code);
    }
    q4_k_store_scales(w, sc, min);
}

#endif

/* SPDX-License-Identifier: MIT
 * Screening codes: a float row as whole numbers q of 7 bits (-64 … 63) that can be read in three steps. After
 * each of them a weight is known to lie in an interval, and its middle stands for it:
 *
 *   high   4 bits   w ~ 8 * scale * ((q >> 3) + 1/2)
 *   mid    1 bit    w ~ 4 * scale * ((q >> 2) + 1/2)
 *   low    2 bits   w ~     scale * (q + 1/2)
 *
 * Each step is a plane of its own. Rows have k codes, k a multiple of 128; u = q + 64 is what is stored.
 *
 * high: tiles of 32 rows (kernels/pack.h), read for all rows: in a piece, which takes 8 elements of a row,
 *       byte j of a row's four holds u >> 3 of element j in bits 7:4 and of element j + 4 in bits 3:0.
 * mid:  row by row, bn_screen_mid_bytes each: bit b of byte i of 64 is (u >> 2 & 1) of element 64 b + i of
 *       512; elements behind k are 0.
 * low:  row by row, k/4 bytes each, u & 3 in the order of I2_S files. */
#ifndef KERNELS_SCREEN_H
#define KERNELS_SCREEN_H

#include "kernels/pack.h"

enum {
    BN_SCREEN_UNIT = 128,      /* k is a multiple of it */
    BN_PIECE_SCREEN = 8,       /* elements of a row in a piece of the plane `high` */
    BN_SCREEN_MID_GROUP = 512, /* elements that share 64 bytes of the plane `mid` */
};

static inline size_t bn_screen_high_bytes(size_t k) /* of a tile */
{
    return k / 2 * BN_TILE_ROWS;
}

static inline size_t bn_screen_mid_bytes(size_t k) /* of a row */
{
    return (k + BN_SCREEN_MID_GROUP - 1) / BN_SCREEN_MID_GROUP * (BN_SCREEN_MID_GROUP / 8);
}

static inline size_t bn_screen_low_bytes(size_t k) /* of a row */
{
    return k / 4;
}

/* ---- what all encoders share ---- */

/* Weights of a row that has a code: 0, or so large, that squares and products neither vanish nor overflow. */
#define BN_SCREEN_MIN 1e-9f
#define BN_SCREEN_MAX 1e15f

/* Tried ranges of q, in root mean squares of the row: values beyond are cut off, those within are the finer
 * resolved the smaller it is. The first one is best for a normal distribution. */
#define BN_SCREEN_RANGES                                                                                     \
    {                                                                                                        \
        2.99f, 3.5f, 4.4f, 1e30f                                                                             \
    }
enum { BN_SCREEN_N_RANGES = 4, BN_SCREEN_SAMPLE = 4 /* one vector of 16 in so many is looked at */ };

#endif

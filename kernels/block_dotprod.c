/* SPDX-License-Identifier: MIT
 * Products of the block formats with dot products. */
#include "kernels/dot_dotprod.h"

#include "kernels/block_arm.h"

BN_BLOCK_PRODUCTS(q8_0, dotprod, BN_BLOCK, Q8_0_BYTES, DOT_TILE_COLS)
BN_BLOCK_PRODUCTS(q4_0, dotprod, BN_BLOCK, Q4_0_BYTES, DOT_TILE_COLS)
BN_BLOCK_PRODUCTS(q6_k, dotprod, BN_BLOCK_K, Q6_K_BYTES, DOT_TILE_COLS)
BN_BLOCK_PRODUCTS(q4_k, dotprod, BN_BLOCK_K, Q4_K_BYTES, DOT_TILE_COLS)

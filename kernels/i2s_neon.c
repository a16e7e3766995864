/* SPDX-License-Identifier: MIT
 * Ternary products over tiles with NEON, and the way into tiles. */
#include "kernels/dot_neon.h"
#include "kernels/i2s_arm.h"

void i2s_gemv_neon(const uint8_t *w, const int8_t *x, int32_t x_sum, int32_t *y, size_t n_rows, size_t k)
{
    gemm_few(w, x, &x_sum, y, n_rows, n_rows, k, 1);
}

void i2s_gemm_neon(const uint8_t *w, const int8_t *x, const int32_t *x_sum, int32_t *y, size_t ldy,
                   size_t n_rows, size_t k, size_t n_cols)
{
    if (n_cols == 1)
        i2s_gemv_neon(w, x, x_sum[0], y, n_rows, k);
    else
        gemm(w, x, x_sum, y, ldy, n_rows, k, n_cols);
}

/* ---- into tiles ---- */

/* Four rows' blocks of 128 codes in file order (32 bytes, rows row_bytes apart) to their places in eight
 * pieces. In a file, byte 4 d + j of a block holds elements 4 d + j + 0, 32, 64 and 96; a piece wants
 * elements that are 4 apart. With the rows' dword d in a vector (a lane is a row), piece 2 q + h, q = element
 * / 32, takes bit pair q of dwords 4 h … 4 h + 3 into its bit pairs 0 … 3. */
BN_INLINE void pack_block(const uint8_t *w, size_t row_bytes, size_t n_rows, uint8_t *out)
{
    const uint8x16_t code = vdupq_n_u8(3);

    for (int h = 0; h < 2; h++) {
        uint32x4_t row[4], low[2], high[2];
        uint8x16_t dword[4];

        for (size_t r = 0; r < 4; r++)
            row[r] = vreinterpretq_u32_u8(r < n_rows ? vld1q_u8(w + r * row_bytes + 16 * h)
                                                     : vdupq_n_u8(BN_I2S_ZERO));
        for (int i = 0; i < 2; i++) { /* transpose 4 rows by 4 dwords */
            low[i] = vzip1q_u32(row[i], row[i + 2]);
            high[i] = vzip2q_u32(row[i], row[i + 2]);
        }
        dword[0] = vreinterpretq_u8_u32(vzip1q_u32(low[0], low[1]));
        dword[1] = vreinterpretq_u8_u32(vzip2q_u32(low[0], low[1]));
        dword[2] = vreinterpretq_u8_u32(vzip1q_u32(high[0], high[1]));
        dword[3] = vreinterpretq_u8_u32(vzip2q_u32(high[0], high[1]));
        for (int q = 0; q < 4; q++) {
            uint8x16_t piece = vdupq_n_u8(0);

            for (int p = 0; p < 4; p++) {
                const uint8x16_t one = vandq_u8(vshlq_u8(dword[p], vdupq_n_s8((int8_t)(2 * q - 6))), code);

                piece = vorrq_u8(piece, vshlq_u8(one, vdupq_n_s8((int8_t)(6 - 2 * p))));
            }
            vst1q_u8(out + (2 * q + h) * BN_PIECE_BYTES, piece);
        }
    }
}

void i2s_pack_neon(const uint8_t *w, uint8_t *packed, size_t n_rows, size_t k)
{
    const size_t row_bytes = k / 4;

    for (size_t r = 0; r < n_rows; r += BN_TILE_ROWS) {
        for (size_t b = 0; b < k / 128; b++) {
            const uint8_t *from = w + r * row_bytes + b * 32;
            uint8_t *to = packed + r * row_bytes + b * 8 * BN_PIECE_BYTES;

            for (size_t v = 0; v < VECS; v++)
                pack_block(from + 4 * v * row_bytes, row_bytes, n_rows - r > 4 * v ? n_rows - r - 4 * v : 0,
                           to + 16 * v);
        }
    }
}

/* SPDX-License-Identifier: MIT
 * Ternary rows to codes. The inner loops have fixed lengths, which compilers turn into vectors where they
 * know that the codes are not part of the row. */
#include "kernels/unpack.h"

#include <string.h>

/* Byte p of 32 holds values p, p + 32, p + 64, p + 96 from its top bits down. */
void bn_unpack_i2s(const uint8_t *restrict w, uint8_t *restrict codes, size_t k)
{
    for (; k > 0; k -= BN_I2S_BLOCK, w += 32, codes += BN_I2S_BLOCK) {
        for (int p = 0; p < 32; p++) {
            codes[p] = w[p] >> 6;
            codes[p + 32] = w[p] >> 4 & 3;
            codes[p + 64] = w[p] >> 2 & 3;
            codes[p + 96] = w[p] & 3;
        }
    }
}

/* Four neighbours a byte, the lowest bits first; then the scale. */
void bn_unpack_bitnet32(const uint8_t *w, uint8_t *codes, uint16_t *scales, size_t k)
{
    for (; k > 0; k -= BN_BITNET32_BLOCK, w += BN_BITNET32_BYTES, codes += BN_BITNET32_BLOCK) {
        for (int i = 0; i < BN_BITNET32_BLOCK; i++)
            codes[i] = (uint8_t)(3 - (w[i / 4] >> i % 4 * 2 & 3));
        *scales++ = (uint16_t)((w[8] | w[9] << 8) ^ 0x8000);
    }
}

/* Digit n of the base-3 numbers that n_bytes bytes hold, the leading digit being the first: a byte is the
 * number as a fraction of 243, in units of 1/256, rounded up, so that 3^n times it has the digit on top. */
static void digits(const uint8_t *w, uint8_t *codes, int n_bytes, int n)
{
    static const uint8_t power[] = {1, 3, 9, 27, 81};

    for (int i = 0; i < n_bytes; i++)
        codes[i] = (uint8_t)((uint8_t)(w[i] * power[n]) * 3 >> 8);
}

/* Five digits of bytes 0 … 31, then of 32 … 47, then four of 48 … 51. */
void bn_unpack_tq1_0(const uint8_t *w, uint8_t *codes, uint16_t *scales, size_t k)
{
    for (; k > 0; k -= BN_TQ_BLOCK, w += BN_TQ1_0_BYTES, codes += BN_TQ_BLOCK) {
        for (int n = 0; n < 5; n++) {
            digits(w, codes + 32 * n, 32, n);
            digits(w + 32, codes + 160 + 16 * n, 16, n);
        }
        for (int n = 0; n < 4; n++)
            digits(w + 48, codes + 240 + 4 * n, 4, n);
        memcpy(scales++, w + 52, sizeof *scales);
    }
}

/* Byte m of 32 holds values m, m + 32, m + 64, m + 96 from its lowest bits up; twice; then the scale. */
void bn_unpack_tq2_0(const uint8_t *w, uint8_t *codes, uint16_t *scales, size_t k)
{
    for (; k > 0; k -= BN_TQ_BLOCK, w += BN_TQ2_0_BYTES, codes += BN_TQ_BLOCK) {
        for (int half = 0; half < 2; half++) {
            for (int m = 0; m < 32; m++) {
                uint8_t byte = w[32 * half + m], *out = codes + 128 * half + m;

                out[0] = byte & 3;
                out[32] = byte >> 2 & 3;
                out[64] = byte >> 4 & 3;
                out[96] = byte >> 6;
            }
        }
        memcpy(scales++, w + 64, sizeof *scales);
    }
}

/* SPDX-License-Identifier: MIT
 * The reference's view of ggml's block formats: one value at a time, as docs/formats.md has it. */
#include "core/reference_model.h"

static double half_at(const uint8_t *p)
{
    return reference_from_f16((uint16_t)(p[0] | p[1] << 8));
}

static double q4_k_value(const uint8_t *block, unsigned i)
{
    const uint8_t *packed = block + 4;
    unsigned j = i / 32, scale, minimum, code = block[16 + i / 64 * 32 + i % 32];

    if (j < 4) {
        scale = packed[j] & 63;
        minimum = packed[j + 4] & 63;
    } else {
        scale = (packed[j + 4] & 15) + 16 * (unsigned)(packed[j - 4] >> 6);
        minimum = (unsigned)(packed[j + 4] >> 4) + 16 * (unsigned)(packed[j] >> 6);
    }
    code = j % 2 ? code >> 4 : code & 15;
    return half_at(block) * scale * code - half_at(block + 2) * minimum;
}

/* Each half of 128 values has 64 bytes of low halves, 32 of high bits and 8 scales. */
static double q6_k_value(const uint8_t *block, unsigned i)
{
    unsigned half = i / 128, at = i % 128;
    unsigned low = block[64 * half + at % 64], high = block[128 + 32 * half + at % 32];
    int code = (int)((at < 64 ? low & 15 : low >> 4) | (high >> at / 32 * 2 & 3) << 4);

    return half_at(block + 208) * (int8_t)block[192 + i / 16] * (code - 32);
}

bool reference_is_block(uint32_t type)
{
    return type == BN_TYPE_Q8_0 || type == BN_TYPE_Q4_0 || type == BN_TYPE_Q4_K || type == BN_TYPE_Q6_K;
}

double reference_block_value(const struct reference_matrix *m, uint64_t r, uint64_t i)
{
    uint64_t at = r * m->k + i;

    if (m->type == BN_TYPE_Q4_K)
        return q4_k_value(m->data + at / 256 * 144, at % 256);
    if (m->type == BN_TYPE_Q6_K)
        return q6_k_value(m->data + at / 256 * 210, at % 256);
    if (m->type == BN_TYPE_Q8_0)
        return half_at(m->data + at / 32 * 34) * (int8_t)m->data[at / 32 * 34 + 2 + at % 32];
    const uint8_t *block = m->data + at / 32 * 18, byte = block[2 + at % 16];
    return half_at(block) * ((at % 32 < 16 ? byte & 15 : byte >> 4) - 8);
}

/* Codes and scale of one block of activations, both defined on F32 values. */
static double quantize(const double *x, int8_t *codes, uint64_t n)
{
    float largest = 0, factor = 0, scale = 0;

    for (uint64_t i = 0; i < n; i++) {
        if (fabsf((float)x[i]) > fabsf(largest))
            largest = (float)x[i];
    }
    if (n == 32) {
        scale = (float)reference_round_to_f16((double)(fabsf(largest) / 127));
        factor = scale > 0 ? 127 / fabsf(largest) : 0;
    } else if (fabsf(largest) >= 0x1p-100f) {
        factor = -127 / largest;
        scale = 1 / factor;
    }
    for (uint64_t i = 0; i < n; i++)
        codes[i] = (int8_t)nearbyintf((float)x[i] * factor);
    return (double)scale;
}

void reference_block_product(const struct reference_matrix *w, const double *x, int8_t *codes, double *y)
{
    uint64_t n = w->type == BN_TYPE_Q8_0 || w->type == BN_TYPE_Q4_0 ? 32 : 256;

    memset(y, 0, w->rows * sizeof *y);
    for (uint64_t at = 0; at < w->k; at += n) {
        double scale = quantize(x + at, codes, n);
        for (uint64_t r = 0; r < w->rows; r++) {
            double sum = 0;
            for (uint64_t i = 0; i < n; i++)
                sum += reference_block_value(w, r, at + i) * codes[i];
            y[r] += sum * scale;
        }
    }
}

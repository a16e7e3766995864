/* SPDX-License-Identifier: MIT
 * Private to core/reference*.c: the checked model as the reference sees it. */
#ifndef CORE_REFERENCE_MODEL_H
#define CORE_REFERENCE_MODEL_H

#include "core/gguf.h"

#include <math.h>
#include <string.h>

/* A weight matrix in the file: rows of k values. */
struct reference_matrix {
    const uint8_t *data;
    uint32_t type;
    uint64_t k, rows;
};

/* A projection: matrix, then factor, then bias. */
struct reference_linear {
    struct reference_matrix w;
    double factor; /* of a separate .scale tensor, else 1 */
    double *bias;  /* [w.rows] or NULL */
};

struct reference_layer {
    double *attn_norm, *attn_sub_norm, *ffn_norm, *ffn_sub_norm; /* the sub-norms are NULL without */
    struct reference_linear q, k, v, o, gate, up, down;
};

struct reference_model {
    bool relu2;       /* squared ReLU, else SiLU */
    bool sub_norms;   /* attn_sub_norm and ffn_sub_norm */
    bool interleaved; /* RoPE turns neighbours, else the two halves */
    uint32_t n_layer, n_embd, n_ff, n_head, n_head_kv, n_vocab, head_dim, n_rot;
    double eps;
    double *rope_rate; /* [n_rot / 2] radians a position */
    struct reference_matrix embedding, output;
    double *output_norm;
    struct reference_layer *layers;
};

/* Fill `model` from the file, with memory from `arena`. 0, or -1 with a message. */
int bn_reference_load(struct reference_model *model, const struct bn_gguf *gguf, struct bn_arena *arena,
                      struct bn_err *err);

/* An F16 value as a double: ten bits of fraction, five of exponent. */
static inline double reference_from_f16(uint16_t h)
{
    int exponent = h >> 10 & 31, fraction = h & 1023;
    double magnitude;

    if (exponent == 31)
        magnitude = fraction ? (double)NAN : (double)INFINITY;
    else if (exponent == 0)
        magnitude = fraction * 0x1p-24;
    else
        magnitude = (1024 + fraction) * (double)(1ull << exponent) * 0x1p-25;
    return h & 0x8000 ? -magnitude : magnitude;
}

/* The nearest F16 value, ties to even: a multiple of 2^(exponent - 10), of 2^-24 at the least. */
static inline double reference_round_to_f16(double x)
{
    if (x == 0 || !isfinite(x))
        return x;
    int exponent = ilogb(x);
    double unit = ldexp(1, (exponent < -14 ? -14 : exponent) - 10);
    double y = nearbyint(x / unit) * unit;
    return fabs(y) > 65504 ? copysign(INFINITY, x) : y;
}

/* Block formats: is `type` one of them, what value i of row r is, y = w . x with x quantised block by block
 * (codes: room for a block). */
bool reference_is_block(uint32_t type);
double reference_block_value(const struct reference_matrix *m, uint64_t r, uint64_t i);
void reference_block_product(const struct reference_matrix *w, const double *x, int8_t *codes, double *y);

/* Value i of row r of a matrix that is not ternary, exact. */
static inline double reference_value(const struct reference_matrix *m, uint64_t r, uint64_t i)
{
    uint64_t at = r * m->k + i;
    uint16_t half;
    uint32_t bits;
    float f;

    if (reference_is_block(m->type))
        return reference_block_value(m, r, i);

    if (m->type == BN_TYPE_F32) {
        memcpy(&f, m->data + 4 * at, sizeof f);
        return (double)f;
    }
    memcpy(&half, m->data + 2 * at, sizeof half);
    if (m->type == BN_TYPE_F16)
        return reference_from_f16(half);
    bits = (uint32_t)half << 16; /* BF16 is the upper half of an F32 */
    memcpy(&f, &bits, sizeof f);
    return (double)f;
}

#endif

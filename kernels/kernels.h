/* SPDX-License-Identifier: MIT
 * The arithmetic of the engine as one table of functions, filled by a ladder of CPU flags.
 *
 * Pure: pointers and sizes in, numbers out. Threads: any. Allocates: nothing. Cannot fail.
 * Integer kernels are exact: every instruction set equals the C file bit for bit. Float kernels state a
 * bound. Kernels are named <format>_<op>_<isa>; that symbol is what a flame graph shows. */
#ifndef KERNELS_KERNELS_H
#define KERNELS_KERNELS_H

#include "kernels/block_slots.h"

/* One row of activations quantised to int8: x ~ q / scale. */
struct bn_act {
    float scale; /* s = 127 / max(1e-5, max|x|) */
    int32_t sum; /* sum of q */
};

/* What is left of a float row when it is known by its screening codes (kernels/screen.h) only. */
struct bn_screen_row {
    float scale;    /* 12 significant bits; 0 = there are no codes, or all weights are 0 */
    float norm;     /* |w|, rounded up; INFINITY = there are no codes */
    float error[3]; /* |w - its approximation| after the planes high, mid, low; rounded up */
};

/* Of some numbers x: the largest, and the sum of all exp(x - max). largest: of what they became. */
struct bn_exp_sum {
    float max, sum, largest;
};

/* How far a logit may lie from its approximation: |x| and the like, see core/screen.h. */
struct bn_screen_bound {
    float per_error, per_norm, per_scale;
};

/* Every slot: X(slot, return type, parameters). A table slot has a function and its symbol's name. */
#define BN_KERNEL_SLOTS(X)                                                                                   \
    /* Ternary matrix in tiles by one quantised vector: y[r] = sum_i (code[r][i] - 1) * x[i], exact.         \
     * w: tiles of n_rows rows of k codes (kernels/pack.h, I2S), any alignment                               \
     * x: [k] int8, k a positive multiple of 16; x_sum: sum of x; y: [n_rows], overwritten */                \
    X(i2s_gemv, void,                                                                                        \
      (const uint8_t *w, const int8_t *x, int32_t x_sum, int32_t *y, size_t n_rows, size_t k))               \
    /* The same for n_cols vectors: x: [n_cols][k], y: [n_cols] rows, ldy elements apart (ldy >= n_rows) */  \
    X(i2s_gemm, void,                                                                                        \
      (const uint8_t *w, const int8_t *x, const int32_t *x_sum, int32_t *y, size_t ldy, size_t n_rows,       \
       size_t k, size_t n_cols))                                                                             \
    /* n_rows rows from the order of files (below) into tiles: packed holds bn_pack_i2s_bytes(n_rows, k).    \
     * k a positive multiple of 128. */                                                                      \
    X(i2s_pack, void, (const uint8_t *w, uint8_t *packed, size_t n_rows, size_t k))                          \
    /* The products with rows as files have them: k a positive multiple of 128, rows k / 4 bytes apart,      \
     * I2_S codes (docs/formats.md#i2_s). */                                                                 \
    X(qk256_gemv, void,                                                                                      \
      (const uint8_t *w, const int8_t *x, int32_t x_sum, int32_t *y, size_t n_rows, size_t k))               \
    X(qk256_gemm, void,                                                                                      \
      (const uint8_t *w, const int8_t *x, const int32_t *x_sum, int32_t *y, size_t ldy, size_t n_rows,       \
       size_t k, size_t n_cols))                                                                             \
    /* Ternary matrix with block scales by one quantised vector:                                             \
     * y[r] = (sum over blocks b, in order, of (float)(sum_i in b (code[r][i] - 1) * x[i]) * scale[r][b])    \
     *        / act_scale, a rounding an operation. Exact.                                                   \
     * w: tiles of n_rows rows (kernels/pack.h, I2S with block scales); block: a multiple of 32, at most     \
     * 4096, that divides k; x: [k] int8; x_sums: [k / 32], what i8_block_sums gives; y: [n_rows] */         \
    X(i2s_block_gemv, void,                                                                                  \
      (const uint8_t *w, const int8_t *x, const int32_t *x_sums, float act_scale, float *y, size_t n_rows,   \
       size_t k, size_t block))                                                                              \
    /* The same for n_cols vectors: x: [n_cols][k], x_sums: [n_cols][k / 32], act_scale: [n_cols],           \
     * y: [n_cols] rows, ldy elements apart */                                                               \
    X(i2s_block_gemm, void,                                                                                  \
      (const uint8_t *w, const int8_t *x, const int32_t *x_sums, const float *act_scale, float *y,           \
       size_t ldy, size_t n_rows, size_t k, size_t block, size_t n_cols))                                    \
    /* sums[b] = sum of x[32 b] ... x[32 b + 31]; n a multiple of 32. Exact. */                              \
    X(i8_block_sums, void, (const int8_t *x, int32_t *sums, size_t n))                                       \
    /* Ternary products by look-up (kernels/lut.h). The tables of one row of k activations, k a positive     \
     * multiple of 4: bn_tl1_table_bytes(k). */                                                              \
    X(tl1_table, void, (const int8_t *x, uint8_t *table, size_t k))                                          \
    /* y[r] = sum_i (code[r][i] - 1) * x[i], exact: what i2s_gemv gives. w: tiles of n_rows rows, table: x   \
     * as tl1_table has it, y: [n_rows] */                                                                   \
    X(tl1_gemv, void, (const uint8_t *w, const uint8_t *table, int32_t *y, size_t n_rows, size_t k))         \
    /* The same for n_cols rows of activations, a look-up for each: tables one behind the other, y: [n_cols] \
     * rows, ldy elements apart */                                                                           \
    X(tl1_gemm, void,                                                                                        \
      (const uint8_t *w, const uint8_t *tables, int32_t *y, size_t ldy, size_t n_rows, size_t k,             \
       size_t n_cols))                                                                                       \
    /* The same in triples: bn_tl2_table_bytes(k). */                                                        \
    X(tl2_table, void, (const int8_t *x, uint8_t *table, size_t k))                                          \
    X(tl2_gemv, void, (const uint8_t *w, const uint8_t *table, int32_t *y, size_t n_rows, size_t k))         \
    X(tl2_gemm, void,                                                                                        \
      (const uint8_t *w, const uint8_t *tables, int32_t *y, size_t ldy, size_t n_rows, size_t k,             \
       size_t n_cols))                                                                                       \
    /* Quantise one row: s = (float)(127 / max(1e-5, max|x|)) (division in double), q = round half to even   \
     * of x * s in f32, clamped to -128 ... 127. Exact on every ISA. x finite; n any. */                     \
    X(i8_quantize, struct bn_act, (const float *x, int8_t *q, size_t n))                                     \
    /* BitLinear epilogue in FORMATS' order: out[i] = (float)y[i] / act_scale * w_scale. Exact. out          \
     * may be y. */                                                                                          \
    X(i32_scale, void, (const int32_t *y, float *out, float act_scale, float w_scale, size_t n))             \
    /* Plain products: y[r] = dot(w[r], x). w: [n_rows][k], x: [k], y: [n_rows]; k any.                      \
     * |error| <= (k / 8 + 16) * 2^-24 * sum_i |w_i x_i| against exact. */                                   \
    X(f16_gemv, void, (const uint16_t *w, const float *x, float *y, size_t n_rows, size_t k))                \
    X(bf16_gemv, void, (const uint16_t *w, const float *x, float *y, size_t n_rows, size_t k))               \
    X(f32_gemv, void, (const float *w, const float *x, float *y, size_t n_rows, size_t k))                   \
    /* Screening codes (kernels/screen.h). One row of k floats to codes u, one a byte; k a positive multiple \
     * of 128. next: 2 k bytes that are read after this, brought into the cache meanwhile; any address.      \
     * Exact: sums are those of 16 or 32 lanes, lane i taking the elements i, i + 16, ..., halves then       \
     * added to halves. A row that has a value that is not finite or beyond what squares can hold gets no    \
     * codes: all u are 64. */                                                                               \
    X(screen_encode, struct bn_screen_row, (const float *w, const void *next, uint8_t *u, size_t k))         \
    /* The codes of 32 rows, [32][k], to a tile of the plane high and 32 rows of the planes mid and low. */  \
    X(screen_pack, void, (const uint8_t *u, uint8_t *high, uint8_t *mid, uint8_t *low, size_t k))            \
    /* y[r] = ((float)sum_i a_i x_i * 256 + (float)sum_i a_i x[k+i] - center) * (scale[r] * unit), a = u >>  \
     * 3, for all rows of n_tiles tiles; x: [2][k], int8; k <= 65536. Sums are exact, then f32 in this       \
     * order. */                                                                                             \
    X(screen_high_gemv, void,                                                                                \
      (const uint8_t *high, const int8_t *x, const float *scale, float center, float unit, float *y,         \
       size_t n_tiles, size_t k))                                                                            \
    /* y[r] += (float)(2 * sum_i b_i x_i - x_sum) * (scale[r] * unit), b = u >> 2 & 1, for the n_ids rows    \
     * r of ids, ascending. x: [k], 0 up to the next multiple of 512; k <= 65536. Sums are exact, then f32   \
     * in this order. */                                                                                     \
    X(screen_mid_gemv, void,                                                                                 \
      (const uint8_t *mid, const int8_t *x, int32_t x_sum, const float *scale, float unit, float *y,         \
       const uint32_t *ids, size_t n_ids, size_t k))                                                         \
    /* y[r] += (float)(2 * sum_i c_i x_i - 3 * x_sum) * (scale[r] * unit), c = u & 3; else as above. */      \
    X(screen_low_gemv, void,                                                                                 \
      (const uint8_t *low, const int8_t *x, int32_t x_sum, const float *scale, float unit, float *y,         \
       const uint32_t *ids, size_t n_ids, size_t k))                                                         \
    /* Which of n logits y can reach `least`: ids gets first + r for every r with                            \
     * !(y[r] + ((error[r] * per_error + norm[r] * per_norm) + scale[r] * per_scale) < least), ascending,    \
     * and has room for n; the y[r] of all others becomes -infinity. Returns how many. Exact (f32, in this   \
     * order). */                                                                                            \
    X(screen_select, size_t,                                                                                 \
      (float *y, const float *error, const float *norm, const float *scale,                                  \
       const struct bn_screen_bound *bound, float least, uint32_t first, uint32_t *ids, size_t n))           \
    /* IEEE conversions; exact (f32 -> f16 rounds half to even, overflow to infinity). */                    \
    X(f16_to_f32, void, (const uint16_t *x, float *y, size_t n))                                             \
    X(f32_to_f16, void, (const float *x, uint16_t *y, size_t n))                                             \
    X(bf16_to_f32, void, (const uint16_t *x, float *y, size_t n))                                            \
    /* RMSNorm: r = 1 / sqrtf((float)(sum x^2 / n) + eps), sum in double; y = (x * r) * g. y may be x.       \
     * <= 2 ulp a value. */                                                                                  \
    X(f32_rmsnorm, void, (const float *x, const float *g, float *y, size_t n, float eps))                    \
    /* The norm of x, quantised: what f32_rmsnorm and then i8_quantize of the same instruction set give, bit \
     * for bit, without the row between them. */                                                             \
    X(i8_rmsnorm, struct bn_act, (const float *x, const float *g, int8_t *q, size_t n, float eps))           \
    /* x += y. Exact. */                                                                                     \
    X(f32_add, void, (float *x, const float *y, size_t n))                                                   \
    /* out = max(g, 0)^2 * u. Exact. out may be g. */                                                        \
    X(f32_relu2_mul, void, (const float *g, const float *u, float *out, size_t n))                           \
    /* out = g / (1 + exp(-g)) * u. |error| <= 2^-20 * |out| + 2^-142 * (1 + |u|). out may be g. */          \
    X(f32_silu_mul, void, (const float *g, const float *u, float *out, size_t n))                            \
    /* Rotate one head of n = 2h values by angles given as cos[h], sin[h].                                   \
     * neox: pairs (v[j], v[j+h]); norm: pairs (v[2j], v[2j+1]).                                             \
     * |error| <= 2^-23 * the sum of both terms' magnitudes. */                                              \
    X(f32_rope_neox, void, (float *v, const float *cos_t, const float *sin_t, size_t h))                     \
    X(f32_rope_norm, void, (float *v, const float *cos_t, const float *sin_t, size_t h))                     \
    /* Attention of n_q (1 ... 8) queries that share a key/value head, over an F16 cache in tiles of 32      \
     * positions (docs/formats.md#kv-cache). Scores: s[j][p] = sum_i q[i][j] * k[p][i] for all positions     \
     * of n_tiles tiles; q: [d][8]; k: [n_tiles][d][32]; s: rows lds apart.                                  \
     * |error| <= (d + 1) * 2^-24 * sum_i |q_i k_pi|; a query's scores do not depend on the others. */       \
    X(f16_attn_scores, void,                                                                                 \
      (const float *q, size_t n_q, const uint16_t *k, float *s, size_t lds, size_t n_tiles, size_t d))       \
    /* out[j][i] = sum_p a[j][p] * v[p][i]; a: rows lda apart; v: [n_pos][d], n_pos >= 1; out: [n_q][d].     \
     * |error| <= (32 + n_pos / 32) * 2^-24 * sum_p |a_p v_pi|; a query's sums do not depend on the others.  \
     */                                                                                                      \
    X(f16_attn_values, void,                                                                                 \
      (const float *a, size_t lda, size_t n_q, const uint16_t *v, float *out, size_t n_pos, size_t d))       \
    /* The same over an int8 cache, exact. s[j][p] = (float)(sum_i q[j][i] * (k[p][i] - 128)) * q_scale[j] * \
     * k_scale[p]; q: [ceil(d / 4)][8][4], zeros behind d; q_sum: sums of q[j]; k: [n_tiles][ceil(d /        \
     * 4)][32][4] */                                                                                         \
    X(i8_attn_scores, void,                                                                                  \
      (const int8_t *q, const float *q_scale, const int32_t *q_sum, size_t n_q, const uint8_t *k,            \
       const float *k_scale, float *s, size_t lds, size_t n_tiles, size_t d))                                \
    /* Weights to 16 bits: w[p] = round half to even of a[p] * (32767 / max), all in f32; 0 where            \
     * max <= BN_ATTN_LEAST_WEIGHT. 0 <= a[p] <= max. Exact. */                                              \
    X(i8_attn_weights, void, (const float *a, float max, int16_t *w, size_t n))                              \
    /* out[j][i] = sum_p w[j][p] * v[p][i] * w_scale[j] over n_pairs (1 or more) pairs of positions: integer \
     * sums of 32 pairs, these in f32 in their order, then scaled. w: rows ldw apart; v: [n_pairs][d][2];    \
     * out: [n_q][d]. Exact. */                                                                              \
    X(i8_attn_values, void,                                                                                  \
      (const int16_t *w, size_t ldw, const float *w_scale, size_t n_q, const int8_t *v, float *out,          \
       size_t n_pairs, size_t d))                                                                            \
    /* In place: s = exp(s - max) * scale, the difference x in f32; |error| <= ((|x| + 16) * 2^-24 * exp(x)  \
     * + 2^-90) * scale, and no subnormal number from x below -64. scale: [n], none negative, or NULL: 1.    \
     * Returns their largest, max, and the sum of the exponentials, |error| <= 2^-18 * sum. n >= 1 and at    \
     * most 65536; finite input. */                                                                          \
    X(f32_exp_sum, struct bn_exp_sum, (float *s, const float *scale, size_t n))                              \
    /* x = x * a + y * b, a rounding an operation; a = 0: x is not read. Exact. */                           \
    X(f32_join, void, (float *x, float a, const float *y, float b, size_t n))                                \
    /* Index of the largest value, the lowest index on ties; NaN never wins; n >= 1. Exact. */               \
    X(f32_argmax, size_t, (const float *x, size_t n))                                                        \
    BN_KERNEL_BLOCK_SLOTS(X) /* ggml's block formats */

#define BN_KERNEL_ENUM(slot, ret, args) BN_KERNEL_##slot,
enum bn_kernel_slot { BN_KERNEL_SLOTS(BN_KERNEL_ENUM) BN_KERNEL_COUNT };
#undef BN_KERNEL_ENUM

struct bn_kernels {
#define BN_KERNEL_FIELD(slot, ret, args) ret(*slot) args;
    BN_KERNEL_SLOTS(BN_KERNEL_FIELD)
#undef BN_KERNEL_FIELD
    const char *symbol[BN_KERNEL_COUNT]; /* the function's own name, e.g. "i2s_gemv_avx512vnni" */
};

/* Slot names ("i2s_gemv"), by enum bn_kernel_slot. */
const char *bn_kernel_slot_name(enum bn_kernel_slot slot);

/* Fill every slot with the best of `cpu_flags`. */
void bn_kernels_init(struct bn_kernels *kernels, unsigned cpu_flags);

/* Replace the ternary and plain products by mock ones (symbols contain "mock") that compute nothing of use:
 * they exist so that their detection can be proved. */
void bn_kernels_init_mock(struct bn_kernels *kernels);

/* One ISA's rung of the ladder: overwrite the slots that it has. Used by bn_kernels_init and checkkernel. */
void bn_kernels_init_c(struct bn_kernels *kernels);
void bn_kernels_init_avx2(struct bn_kernels *kernels);
void bn_kernels_init_avx512(struct bn_kernels *kernels);
void bn_kernels_init_avx512vnni(struct bn_kernels *kernels);
void bn_kernels_init_neon(struct bn_kernels *kernels);
void bn_kernels_init_dotprod(struct bn_kernels *kernels);

#endif

/* SPDX-License-Identifier: MIT
 * checkkernel --bench: time the calls that checkkernel proves. Each line: kernel, shape, median time of a
 * call and its spread (half the width of the middle half of the times), best time; bytes and multiplications
 * per second and the gain over C, all at the median. Weights come from memory, not from a cache: the calls
 * walk through a large pool. */
#include "tests/kernels/checkkernel.h"

#include "core/base.h"
#include "kernels/attn.h"
#include "kernels/lut.h"
#include "kernels/pack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_TIMES = 400,
    POOL_BYTES = 256 << 20,
    VECTOR_BYTES = 16 << 20, /* every other operand */
};

/* What a call works on. */
struct operands {
    uint8_t *weights; /* POOL_BYTES, codes or halves of 1.0 or floats of 1.0 */
    size_t at;        /* where the next call's weights begin */
    float *x, *y;
    int8_t *q;
    int32_t *sums, *ints;
    uint32_t *ids; /* 0, 1, 2, ... */
    uint16_t *halves;
    int16_t *halfwords;
};

/* n_rows, k and n_cols; for operations on one vector k is its length, for attention n_rows the positions, k
 * the dimensions of a head and n_cols the queries. */
struct shape {
    enum bn_kernel_slot slot;
    size_t n_rows, k, n_cols;
};

static const struct shape shapes[] = {
    {BN_KERNEL_i2s_gemv, 6912, 2560, 1},         {BN_KERNEL_i2s_gemv, 2560, 6912, 1},
    {BN_KERNEL_i2s_gemv, 2560, 2560, 1},         {BN_KERNEL_i2s_gemv, 640, 2560, 1},
    {BN_KERNEL_i2s_gemm, 2560, 2560, 1},         {BN_KERNEL_i2s_gemm, 2560, 2560, 2},
    {BN_KERNEL_i2s_gemm, 2560, 2560, 3},         {BN_KERNEL_i2s_gemm, 2560, 2560, 4},
    {BN_KERNEL_i2s_gemm, 2560, 2560, 5},         {BN_KERNEL_i2s_gemm, 2560, 2560, 7},
    {BN_KERNEL_i2s_gemm, 2560, 2560, 8},         {BN_KERNEL_i2s_gemm, 2560, 2560, 16},
    {BN_KERNEL_i2s_gemm, 2560, 2560, 33},        {BN_KERNEL_i2s_gemm, 2560, 2560, 64},
    {BN_KERNEL_i2s_gemm, 2560, 2560, 512},       {BN_KERNEL_i2s_gemm, 6912, 2560, 64},
    {BN_KERNEL_i2s_gemm, 2560, 6912, 64},        {BN_KERNEL_i2s_gemm, 640, 2560, 64},
    {BN_KERNEL_i2s_pack, 2560, 2560, 1},         {BN_KERNEL_qk256_gemv, 6912, 2560, 1},
    {BN_KERNEL_qk256_gemv, 2560, 6912, 1},       {BN_KERNEL_qk256_gemm, 2560, 2560, 4},
    {BN_KERNEL_qk256_gemm, 2560, 2560, 64},      {BN_KERNEL_tl1_table, 1, 2560, 1},
    {BN_KERNEL_tl1_gemv, 6912, 2560, 1},         {BN_KERNEL_tl1_gemv, 2560, 6912, 1},
    {BN_KERNEL_tl1_gemm, 2560, 2560, 8},         {BN_KERNEL_tl2_table, 1, 2560, 1},
    {BN_KERNEL_tl2_gemv, 6912, 2560, 1},         {BN_KERNEL_tl2_gemv, 2560, 6912, 1},
    {BN_KERNEL_tl2_gemm, 2560, 2560, 8},         {BN_KERNEL_i2s_block_gemv, 6912, 2560, 1},
    {BN_KERNEL_i2s_block_gemv, 2560, 6912, 1},   {BN_KERNEL_i2s_block_gemm, 2560, 2560, 4},
    {BN_KERNEL_i2s_block_gemm, 2560, 2560, 64},  {BN_KERNEL_i8_block_sums, 1, 6912, 1},
    {BN_KERNEL_i8_quantize, 1, 2560, 1},         {BN_KERNEL_i8_quantize, 1, 6912, 1},
    {BN_KERNEL_i8_rmsnorm, 1, 2560, 1},          {BN_KERNEL_i8_rmsnorm, 1, 6912, 1},
    {BN_KERNEL_i32_scale, 1, 6912, 1},           {BN_KERNEL_f16_gemv, 16032, 2560, 1},
    {BN_KERNEL_bf16_gemv, 16032, 2560, 1},       {BN_KERNEL_f32_gemv, 8016, 2560, 1},
    {BN_KERNEL_f16_to_f32, 1, 2560, 1},          {BN_KERNEL_f32_to_f16, 1, 2560, 1},
    {BN_KERNEL_bf16_to_f32, 1, 2560, 1},         {BN_KERNEL_f32_rmsnorm, 1, 2560, 1},
    {BN_KERNEL_f32_rmsnorm, 1, 6912, 1},         {BN_KERNEL_f32_add, 1, 2560, 1},
    {BN_KERNEL_f32_relu2_mul, 1, 6912, 1},       {BN_KERNEL_f32_silu_mul, 1, 6912, 1},
    {BN_KERNEL_f32_rope_neox, 1, 128, 1},        {BN_KERNEL_f32_rope_norm, 1, 128, 1},
    {BN_KERNEL_f16_attn_scores, 256, 128, 1},    {BN_KERNEL_f16_attn_scores, 256, 128, 4},
    {BN_KERNEL_f16_attn_scores, 256, 128, 8},    {BN_KERNEL_f16_attn_values, 256, 128, 1},
    {BN_KERNEL_f16_attn_values, 256, 128, 4},    {BN_KERNEL_f16_attn_values, 256, 128, 8},
    {BN_KERNEL_i8_attn_scores, 256, 128, 4},     {BN_KERNEL_i8_attn_scores, 256, 128, 8},
    {BN_KERNEL_i8_attn_weights, 1, 256, 1},      {BN_KERNEL_i8_attn_values, 256, 128, 4},
    {BN_KERNEL_i8_attn_values, 256, 128, 8},     {BN_KERNEL_f32_exp_sum, 1, 256, 1},
    {BN_KERNEL_f32_exp_sum, 1, 32, 1},           {BN_KERNEL_f32_join, 1, 128, 1},
    {BN_KERNEL_f32_argmax, 1, 128256, 1},        {BN_KERNEL_q8_0_quantize, 1, 2560, 1},
    {BN_KERNEL_q8_k_quantize, 1, 2560, 1},       {BN_KERNEL_q8_0_gemv, 2560, 2560, 1},
    {BN_KERNEL_q8_0_gemm, 2560, 2560, 2},        {BN_KERNEL_q8_0_gemm, 2560, 2560, 64},
    {BN_KERNEL_q8_0_pack, 2560, 2560, 1},        {BN_KERNEL_q8_0_to_f32, 1, 2560, 1},
    {BN_KERNEL_q8_0_encode, 1, 2560, 1},         {BN_KERNEL_q4_0_gemv, 2560, 2560, 1},
    {BN_KERNEL_q4_0_gemm, 2560, 2560, 2},        {BN_KERNEL_q4_0_gemm, 2560, 2560, 64},
    {BN_KERNEL_q4_0_pack, 2560, 2560, 1},        {BN_KERNEL_q4_0_to_f32, 1, 2560, 1},
    {BN_KERNEL_q4_0_encode, 1, 2560, 1},         {BN_KERNEL_q6_k_gemv, 2560, 2560, 1},
    {BN_KERNEL_q6_k_gemm, 2560, 2560, 2},        {BN_KERNEL_q6_k_gemm, 2560, 2560, 64},
    {BN_KERNEL_q6_k_pack, 2560, 2560, 1},        {BN_KERNEL_q6_k_to_f32, 1, 2560, 1},
    {BN_KERNEL_q6_k_encode, 1, 2560, 1},         {BN_KERNEL_q4_k_gemv, 2560, 2560, 1},
    {BN_KERNEL_q4_k_gemm, 2560, 2560, 2},        {BN_KERNEL_q4_k_gemm, 2560, 2560, 64},
    {BN_KERNEL_q4_k_pack, 2560, 2560, 1},        {BN_KERNEL_q4_k_to_f32, 1, 2560, 1},
    {BN_KERNEL_q4_k_encode, 1, 2560, 1},         {BN_KERNEL_screen_encode, 1, 2560, 1},
    {BN_KERNEL_screen_pack, 32, 2560, 1},        {BN_KERNEL_screen_high_gemv, 64000, 2560, 1},
    {BN_KERNEL_screen_mid_gemv, 64000, 2560, 1}, {BN_KERNEL_screen_low_gemv, 64000, 2560, 1},
    {BN_KERNEL_screen_select, 1, 128256, 1},
};

enum { TQ_BLOCK = 256 }; /* weights that share a scale */

/* Of 256 weights in the block formats, whose slots end the list; 0 for the quantisers of activations. */
static size_t block_bytes(enum bn_kernel_slot slot)
{
    return slot >= BN_KERNEL_q4_k_gemv   ? 144
           : slot >= BN_KERNEL_q6_k_gemv ? 210
           : slot >= BN_KERNEL_q4_0_gemv ? 144
           : slot >= BN_KERNEL_q8_0_gemv ? 272
                                         : 0;
}

static size_t weight_bytes(const struct shape *s)
{
    switch (s->slot) {
    case BN_KERNEL_i2s_gemv:
    case BN_KERNEL_i2s_gemm:
    case BN_KERNEL_i2s_pack:
    case BN_KERNEL_qk256_gemv:
    case BN_KERNEL_qk256_gemm:
        return s->n_rows * s->k / 4;
    case BN_KERNEL_tl1_gemv:
    case BN_KERNEL_tl1_gemm:
        return s->n_rows / BN_LUT_ROWS * bn_tl1_tile_bytes(s->k);
    case BN_KERNEL_tl2_gemv:
    case BN_KERNEL_tl2_gemm:
        return s->n_rows / BN_LUT_ROWS * bn_tl2_tile_bytes(s->k);
    case BN_KERNEL_i2s_block_gemv:
    case BN_KERNEL_i2s_block_gemm:
        return bn_pack_block_bytes(s->n_rows, s->k, TQ_BLOCK);
    case BN_KERNEL_f16_gemv:
    case BN_KERNEL_bf16_gemv:
        return s->n_rows * s->k * 2;
    case BN_KERNEL_f32_gemv:
        return s->n_rows * s->k * 4;
    case BN_KERNEL_screen_high_gemv:
        return s->n_rows * s->k / 2;
    case BN_KERNEL_screen_mid_gemv:
        return s->n_rows * s->k / 8;
    case BN_KERNEL_screen_low_gemv:
        return s->n_rows * s->k / 4;
    case BN_KERNEL_f16_attn_scores:
    case BN_KERNEL_f16_attn_values:
        return s->n_rows * s->k * 2; /* of the cache */
    case BN_KERNEL_i8_attn_scores:
    case BN_KERNEL_i8_attn_values:
        return s->n_rows * s->k;
    default:
        return block_bytes(s->slot) * s->n_rows * s->k / 256;
    }
}

/* Bytes that a call must move: weights, or the vectors that it reads and writes. */
static double bytes_moved(const struct shape *s)
{
    switch (s->slot) {
    case BN_KERNEL_i8_rmsnorm:
        return 9.0 * (double)s->k;
    case BN_KERNEL_tl1_table:
        return 17.0 * (double)s->k;
    case BN_KERNEL_tl2_table:
        return (double)s->k + (double)bn_tl2_table_bytes(s->k);
    case BN_KERNEL_i8_block_sums:
        return 1.0 * (double)s->k;
    case BN_KERNEL_i8_quantize:
        return 5.0 * (double)s->k;
    case BN_KERNEL_f16_to_f32:
    case BN_KERNEL_f32_to_f16:
    case BN_KERNEL_bf16_to_f32:
        return 6.0 * (double)s->k;
    case BN_KERNEL_i8_attn_weights:
        return 6.0 * (double)s->k;
    case BN_KERNEL_i32_scale:
    case BN_KERNEL_f32_exp_sum:
        return 8.0 * (double)s->k;
    case BN_KERNEL_screen_encode:
        return 5.0 * (double)s->k;
    case BN_KERNEL_screen_pack:
        return 1.875 * (double)s->n_rows * (double)s->k;
    case BN_KERNEL_screen_select:
        return 16.0 * (double)s->k;
    case BN_KERNEL_f32_argmax:
        return 4.0 * (double)s->k;
    case BN_KERNEL_f32_rope_neox:
    case BN_KERNEL_f32_rope_norm:
    case BN_KERNEL_f32_rmsnorm:
    case BN_KERNEL_f32_add:
    case BN_KERNEL_f32_join:
    case BN_KERNEL_f32_relu2_mul:
    case BN_KERNEL_f32_silu_mul:
        return 12.0 * (double)s->k;
    default:
        return (double)weight_bytes(s);
    }
}

static void call(const struct bn_kernels *f, const struct shape *s, struct operands *o)
{
    const size_t bytes = weight_bytes(s), n = s->k, rows = s->n_rows;
    const uint8_t *w;

    if (o->at + bytes > POOL_BYTES)
        o->at = 0;
    w = o->weights + o->at;
    o->at += (bytes + 63) / 64 * 64;
    struct bn_q8 x = {o->q, o->x, o->halfwords};
    switch (s->slot) {
#define BLOCK_CALLS(format)                                                                                  \
    case BN_KERNEL_##format##_gemv:                                                                          \
        f->format##_gemv(w, &x, o->y, rows, n);                                                              \
        break;                                                                                               \
    case BN_KERNEL_##format##_gemm:                                                                          \
        f->format##_gemm(w, &x, o->y, rows, rows, n, s->n_cols);                                             \
        break;                                                                                               \
    case BN_KERNEL_##format##_pack:                                                                          \
        f->format##_pack(w, (uint8_t *)o->y, rows, n);                                                       \
        break;                                                                                               \
    case BN_KERNEL_##format##_to_f32:                                                                        \
        f->format##_to_f32(w, o->y, n);                                                                      \
        break;                                                                                               \
    case BN_KERNEL_##format##_encode:                                                                        \
        f->format##_encode(o->x, (uint8_t *)o->y, n);                                                        \
        break
        BLOCK_CALLS(q8_0);
        BLOCK_CALLS(q4_0);
        BLOCK_CALLS(q6_k);
        BLOCK_CALLS(q4_k);
#undef BLOCK_CALLS
    case BN_KERNEL_q8_0_quantize:
        f->q8_0_quantize(o->x, &(struct bn_q8){o->q, o->y, o->halfwords}, n);
        break;
    case BN_KERNEL_q8_k_quantize:
        f->q8_k_quantize(o->x, &(struct bn_q8){o->q, o->y, o->halfwords}, n);
        break;
    case BN_KERNEL_i2s_gemv:
        f->i2s_gemv(w, o->q, 0, o->ints, rows, n);
        break;
    case BN_KERNEL_i2s_gemm:
        f->i2s_gemm(w, o->q, o->sums, o->ints, rows, rows, n, s->n_cols);
        break;
    case BN_KERNEL_i2s_pack:
        f->i2s_pack(w, (uint8_t *)o->y, rows, n);
        break;
    case BN_KERNEL_qk256_gemv:
        f->qk256_gemv(w, o->q, 0, o->ints, rows, n);
        break;
    case BN_KERNEL_qk256_gemm:
        f->qk256_gemm(w, o->q, o->sums, o->ints, rows, rows, n, s->n_cols);
        break;
    case BN_KERNEL_tl1_table:
        f->tl1_table(o->q, (uint8_t *)o->y, n);
        break;
    case BN_KERNEL_tl1_gemv:
        f->tl1_gemv(w, (const uint8_t *)o->q, o->ints, rows, n);
        break;
    case BN_KERNEL_tl1_gemm:
        f->tl1_gemm(w, (const uint8_t *)o->q, o->ints, rows, rows, n, s->n_cols);
        break;
    case BN_KERNEL_tl2_table:
        f->tl2_table(o->q, (uint8_t *)o->y, n);
        break;
    case BN_KERNEL_tl2_gemv:
        f->tl2_gemv(w, (const uint8_t *)o->q, o->ints, rows, n);
        break;
    case BN_KERNEL_tl2_gemm:
        f->tl2_gemm(w, (const uint8_t *)o->q, o->ints, rows, rows, n, s->n_cols);
        break;
    case BN_KERNEL_i2s_block_gemv:
        f->i2s_block_gemv(w, o->q, o->sums, 3.0f, o->y, rows, n, TQ_BLOCK);
        break;
    case BN_KERNEL_i2s_block_gemm:
        f->i2s_block_gemm(w, o->q, o->sums, o->x, o->y, rows, rows, n, TQ_BLOCK, s->n_cols);
        break;
    case BN_KERNEL_i8_block_sums:
        f->i8_block_sums(o->q, o->ints, n);
        break;
    case BN_KERNEL_i8_quantize:
        f->i8_quantize(o->x, o->q, n);
        break;
    case BN_KERNEL_i8_rmsnorm:
        f->i8_rmsnorm(o->x, o->x, o->q, n, 1e-5f);
        break;
    case BN_KERNEL_i32_scale:
        f->i32_scale(o->ints, o->y, 3.0f, 2.0f, n);
        break;
    case BN_KERNEL_f16_gemv:
        f->f16_gemv((const uint16_t *)(const void *)w, o->x, o->y, rows, n);
        break;
    case BN_KERNEL_bf16_gemv:
        f->bf16_gemv((const uint16_t *)(const void *)w, o->x, o->y, rows, n);
        break;
    case BN_KERNEL_f32_gemv:
        f->f32_gemv((const float *)(const void *)w, o->x, o->y, rows, n);
        break;
    case BN_KERNEL_screen_encode:
        f->screen_encode(o->x, o->x, (uint8_t *)o->q, n);
        break;
    case BN_KERNEL_screen_pack:
        f->screen_pack((const uint8_t *)o->ints, (uint8_t *)o->y, (uint8_t *)o->q, (uint8_t *)o->halves, n);
        break;
    case BN_KERNEL_screen_high_gemv:
        f->screen_high_gemv(w, o->q, o->x, 0.0f, 1.0f, o->y, rows / 32, n);
        break;
    case BN_KERNEL_screen_mid_gemv:
        f->screen_mid_gemv(w, o->q, 0, o->x, 1.0f, o->y, o->ids, rows, n);
        break;
    case BN_KERNEL_screen_low_gemv:
        f->screen_low_gemv(w, o->q, 0, o->x, 1.0f, o->y, o->ids, rows, n);
        break;
    case BN_KERNEL_screen_select:
        f->screen_select(o->y, o->x, o->x, o->x, &(struct bn_screen_bound){0.1f, 0.1f, 0.1f}, 0.6f, 0,
                         (uint32_t *)o->ints, n);
        break;
    case BN_KERNEL_f16_to_f32:
        f->f16_to_f32(o->halves, o->y, n);
        break;
    case BN_KERNEL_f32_to_f16:
        f->f32_to_f16(o->x, o->halves, n);
        break;
    case BN_KERNEL_bf16_to_f32:
        f->bf16_to_f32(o->halves, o->y, n);
        break;
    case BN_KERNEL_f32_rmsnorm:
        f->f32_rmsnorm(o->x, o->x, o->y, n, 1e-5f);
        break;
    case BN_KERNEL_f32_add:
        f->f32_add(o->y, o->x, n);
        break;
    case BN_KERNEL_f32_join:
        f->f32_join(o->y, 0.5f, o->x, 0.5f, n);
        break;
    case BN_KERNEL_f32_relu2_mul:
        f->f32_relu2_mul(o->x, o->x, o->y, n);
        break;
    case BN_KERNEL_f32_silu_mul:
        f->f32_silu_mul(o->x, o->x, o->y, n);
        break;
    case BN_KERNEL_f32_rope_neox:
        f->f32_rope_neox(o->y, o->x, o->x, n / 2);
        break;
    case BN_KERNEL_f32_rope_norm:
        f->f32_rope_norm(o->y, o->x, o->x, n / 2);
        break;
    case BN_KERNEL_f16_attn_scores:
        f->f16_attn_scores(o->x, s->n_cols, (const uint16_t *)(const void *)w, o->y, rows + 16,
                           rows / BN_ATTN_TILE, n);
        break;
    case BN_KERNEL_f16_attn_values:
        f->f16_attn_values(o->x, rows + 16, s->n_cols, (const uint16_t *)(const void *)w, o->y, rows, n);
        break;
    case BN_KERNEL_i8_attn_scores:
        f->i8_attn_scores(o->q, o->x, o->sums, s->n_cols, w, o->x, o->y, rows + 16, rows / BN_ATTN_TILE, n);
        break;
    case BN_KERNEL_i8_attn_weights:
        f->i8_attn_weights(o->x, 1.0f, (int16_t *)(void *)o->y, n);
        break;
    case BN_KERNEL_i8_attn_values:
        f->i8_attn_values((const int16_t *)(const void *)o->halves, rows + 16, o->x, s->n_cols,
                          (const int8_t *)w, o->y, rows / 2, n);
        break;
    case BN_KERNEL_f32_exp_sum:
        memcpy(o->y, o->x, n * sizeof *o->y);
        f->f32_exp_sum(o->y, NULL, n);
        break;
    case BN_KERNEL_f32_argmax:
        f->f32_argmax(o->x, n);
        break;
    case BN_KERNEL_COUNT:
        break;
    }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

struct timing {
    double median_ns, spread, best_ns;
};

/* At least 5 times and 50 ms, in batches of calls that take 20 us or more; a call of a second is timed once.
 */
static struct timing time_calls(const struct bn_kernels *f, const struct shape *s, struct operands *o)
{
    static double times[MAX_TIMES];
    uint64_t begin, start;
    size_t n = 0, batch = 1;

    for (;; batch *= 2) { /* also warms up */
        start = bn_now_ns();
        for (size_t i = 0; i < batch; i++)
            call(f, s, o);
        if (bn_now_ns() - start >= 20000)
            break;
    }
    begin = bn_now_ns();
    do {
        start = bn_now_ns();
        for (size_t i = 0; i < batch; i++)
            call(f, s, o);
        times[n++] = (double)(bn_now_ns() - start) / (double)batch;
    } while (n < MAX_TIMES && times[0] < 1e9 && (n < 5 || bn_now_ns() - begin < 50000000));
    qsort(times, n, sizeof times[0], by_value);
    return (struct timing){times[n / 2], (times[n * 3 / 4] - times[n / 4]) / times[n / 2] / 2, times[0]};
}

static void print_line(const struct bn_kernels *f, const struct shape *s, struct timing t, double c_ns)
{
    char shape[64];
    double macs = s->n_rows > 1 ? (double)s->n_rows * (double)s->k * (double)s->n_cols : 0.0;

    if (s->n_rows > 1)
        snprintf(shape, sizeof shape, "%zu x %zu x %zu", s->n_rows, s->k, s->n_cols);
    else
        snprintf(shape, sizeof shape, "%zu", s->k);
    printf("%-22s %15s %11.2f us +- %4.1f %% (best %9.2f) %6.2f GB/s", f->symbol[s->slot], shape,
           t.median_ns / 1e3, 100.0 * t.spread, t.best_ns / 1e3, bytes_moved(s) / t.median_ns);
    if (macs > 0)
        printf(" %8.1f GMAC/s", macs / t.median_ns);
    else
        printf(" %15s", "");
    if (c_ns > 0)
        printf(" %7.1f x C", c_ns / t.median_ns);
    printf("\n");
    fflush(stdout);
}

static void fill_operands(struct operands *o)
{
    *o = (struct operands){
        .weights = bn_xmalloc(POOL_BYTES),
        .x = bn_xmalloc(VECTOR_BYTES),
        .y = bn_xcalloc(1, VECTOR_BYTES),
        .q = bn_xmalloc(VECTOR_BYTES),
        .sums = bn_xcalloc(1, VECTOR_BYTES),
        .ints = bn_xcalloc(1, VECTOR_BYTES),
        .halves = bn_xmalloc(VECTOR_BYTES),
        .halfwords = bn_xcalloc(1, VECTOR_BYTES),
        .ids = bn_xmalloc(VECTOR_BYTES),
    };
    for (uint32_t i = 0; i < VECTOR_BYTES / sizeof *o->ids; i++)
        o->ids[i] = i;
    memset(o->weights, 0x26, POOL_BYTES); /* codes 0, 2, 1, 2; as a half 0.024, as a float 5.8e-16 */
    for (size_t i = 0; i < VECTOR_BYTES / sizeof *o->x; i++)
        o->x[i] = (float)(i % 251) / 251.0f - 0.5f;
    for (size_t i = 0; i < VECTOR_BYTES; i++)
        o->q[i] = (int8_t)(i % 255 - 127);
    for (size_t i = 0; i < VECTOR_BYTES / 2; i++)
        o->halves[i] = (uint16_t)(0x3000 + i % 2048);
}

static void free_operands(struct operands *o)
{
    free(o->weights);
    free(o->x);
    free(o->y);
    free(o->q);
    free(o->sums);
    free(o->ints);
    free(o->halves);
    free(o->halfwords);
    free(o->ids);
}

void bench_all(unsigned cpu_flags, const char *filter)
{
    struct operands o;

    fill_operands(&o);
    for (size_t i = 0; i < BN_COUNT(shapes); i++) {
        const struct shape *s = &shapes[i];
        struct bn_kernels f = {0};
        double c_ns = 0;

        if (filter && !strstr(bn_kernel_slot_name(s->slot), filter))
            continue;
        for (size_t r = 0; r < n_rungs; r++) {
            const struct bn_kernels before = f;
            bool changed[BN_KERNEL_COUNT];
            struct timing t;

            if (rungs[r].flag & ~cpu_flags)
                continue;
            rungs[r].init(&f);
            changed_slots(&before, &f, changed);
            /* C would take seconds a call */
            if (!changed[s->slot] || (r == 0 && s->n_cols > 16))
                continue;
            t = time_calls(&f, s, &o);
            print_line(&f, s, t, c_ns);
            c_ns = r == 0 ? t.median_ns : c_ns;
        }
    }
    free_operands(&o);
}

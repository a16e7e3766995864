/* SPDX-License-Identifier: MIT
 * Random models: shapes, the list of tensors, and their values, generated as they are written. */
#include "core/synth.h"
#include "core/synth_parts.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/block.h"
#include "kernels/cpu.h"

/* docs/formats.md: the published models. */
static const struct bn_synth_shape shapes[] = {
    {"2b4t", "BitNet b1.58 2B-4T: 30 layers of 2560, 1.18 GB", "bitnet-b1.58", "bitnet2b", 30, 2560, 6912, 20,
     5, 128256, 4096, 500000, true, BN_TYPE_I2_S},
    {"large", "bitnet_b1_58-large: 24 layers of 1536", "bitnet", "bitnet_b1_58-large", 24, 1536, 4096, 16, 16,
     32002, 2048, 10000, true, BN_TYPE_I2_S},
    {"3b", "bitnet_b1_58-3B: 26 layers of 3200, in F16 (8640 is no multiple of 128)", "bitnet",
     "bitnet_b1_58-3B", 26, 3200, 8640, 32, 32, 32002, 2048, 10000, true, BN_TYPE_F16},
    {"8b", "Llama3-8B-1.58: 32 layers of 4096, own output matrix", "llama", "Llama3-8B-1.58", 32, 4096, 14336,
     32, 8, 128256, 8192, 500000, false, BN_TYPE_I2_S},
    {"tiny", "like the built-in demo model: 4 layers of 256", "bitnet-b1.58", "tiny", 4, 256, 768, 4, 2, 1024,
     256, 10000, true, BN_TYPE_I2_S},
};

enum {
    PIECE_BYTES = 4 << 20,
    BLOCKS_BYTES = 272 * 144 * 105, /* whole blocks of every format: of 272 (8 x 34), 144 and 210 bytes … */
    PIECE_SPARE = 272,              /* … and room for what the last few values take beyond a tensor's end */
    N_NORMAL = 1 << 16,
    I2S_TAIL_BYTES = 32,
};

/* What a tensor's values are like. */
struct plan {
    uint32_t type;
    uint64_t ne0, ne1;
    double mean, deviation;
};

struct generator {
    const struct bn_synth *synth;
    struct bn_gguf_writer *writer;
    uint32_t n_vocab;
    uint64_t random, done_bytes, total_bytes;
    bool writing;  /* the first walk over the tensors writes their headers, the second their data */
    float *normal; /* [N_NORMAL] of mean 0 and deviation 1: a value is one of them, drawn by 16 random bits */
    void *values;  /* [N_NORMAL] the same in a tensor's type (blocks: F32) and size */
    struct bn_kernels kernels; /* conversions: exact on every CPU */
    uint8_t *piece;
};

const struct bn_synth_shape *bn_synth_shape(const char *name)
{
    for (size_t i = 0; i < BN_COUNT(shapes); i++)
        if (strcmp(shapes[i].name, name) == 0)
            return &shapes[i];
    return NULL;
}

const struct bn_synth_shape *bn_synth_shape_at(size_t i)
{
    return i < BN_COUNT(shapes) ? &shapes[i] : NULL;
}

/* ---- random numbers ---- */

/* SplitMix64: one addition and a mix, good enough for weights and as fast as memory. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static double uniform(uint64_t *state)
{
    return (double)((next_random(state) >> 11) + 1) * 0x1p-53; /* never 0 */
}

/* Box-Muller: two normal values from two uniform ones. */
static void fill_normal(float *normal)
{
    uint64_t state = 1;

    for (int i = 0; i < N_NORMAL; i += 2) {
        double radius = sqrt(-2 * log(uniform(&state))), angle = 2 * acos(-1) * uniform(&state);
        normal[i] = (float)(radius * cos(angle));
        normal[i + 1] = (float)(radius * sin(angle));
    }
}

/* ---- values ---- */

static uint16_t bf16_of(float f)
{
    uint32_t bits;

    memcpy(&bits, &f, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16); /* half to even */
}

/* The table of normal values with the tensor's mean and deviation, in its type. Returns bytes a value. */
static size_t prepare_values(struct generator *g, const struct plan *p)
{
    bool is_float = p->type == BN_TYPE_F32 || bn_block_of(p->type);
    float *floats = g->values;
    uint16_t *halves = g->values;

    for (int i = 0; i < N_NORMAL; i++) {
        float value = (float)(p->mean + p->deviation * (double)g->normal[i]);
        if (is_float)
            floats[i] = value;
        else if (p->type == BN_TYPE_BF16)
            halves[i] = bf16_of(value);
        else
            g->kernels.f32_to_f16(&value, &halves[i], 1);
    }
    return is_float ? sizeof(float) : sizeof(uint16_t);
}

/* Fill a piece with values, four from 64 random bits. */
static void fill_halves(struct generator *g)
{
    const uint16_t *table = g->values;
    uint16_t *out = (uint16_t *)(void *)g->piece;

    for (size_t i = 0; i < PIECE_BYTES / sizeof *out; i += 4) {
        uint64_t bits = next_random(&g->random);
        for (int j = 0; j < 4; j++, bits >>= 16)
            out[i + j] = table[bits & 0xffff];
    }
}

static void fill_floats(struct generator *g)
{
    const float *table = g->values;
    float *out = (float *)(void *)g->piece;

    for (size_t i = 0; i < PIECE_BYTES / sizeof *out; i += 4) {
        uint64_t bits = next_random(&g->random);
        for (int j = 0; j < 4; j++, bits >>= 16)
            out[i + j] = table[bits & 0xffff];
    }
}

/* Blocks of values, n bytes of them. */
static void fill_blocks(struct generator *g, uint32_t type, size_t n)
{
    const float *table = g->values;
    float block[BN_BLOCK_K];
    uint64_t bytes = 0;

    bn_type_bytes(type, BN_COUNT(block), 1, &bytes);
    for (size_t at = 0; at < n; at += bytes) {
        for (size_t i = 0; i < BN_COUNT(block); i += 4) {
            uint64_t bits = next_random(&g->random);
            for (int j = 0; j < 4; j++, bits >>= 16)
                block[i + j] = table[bits & 0xffff];
        }
        bn_block_encode(&g->kernels, type, block, g->piece + at, BN_COUNT(block));
    }
}

/* Ternary codes: the sum of two random bits is 0, 1 or 2, and 1 (a weight of zero) half the time. */
static void fill_codes(struct generator *g)
{
    uint64_t *out = (uint64_t *)(void *)g->piece, ones = 0x5555555555555555u;

    for (size_t i = 0; i < PIECE_BYTES / sizeof *out; i++) {
        uint64_t bits = next_random(&g->random);
        out[i] = (bits & ones) + (bits >> 1 & ones);
    }
}

/* Half of the ternary codes are zeros, so this scale gives the weights the deviation. */
static double ternary_scale(const struct plan *p)
{
    return p->deviation * sqrt(2);
}

static uint16_t half_of(const struct generator *g, double value)
{
    float f = (float)value;
    uint16_t half;

    g->kernels.f32_to_f16(&f, &half, 1);
    return half;
}

/* TQ1_0's byte of five such codes as base-3 digits, by ten random bits; of four, by the lower eight. */
static uint8_t digits_byte(unsigned bits, int n)
{
    unsigned number = 0;

    for (int i = 0; i < 5; i++, bits >>= 2)
        number = 3 * number + (i < n ? (bits & 1) + (bits >> 1 & 1) : 0);
    return (uint8_t)((number * 256 + 242) / 243);
}

/* Blocks of codes with an F16 scale behind them: n_bytes of the piece, whole blocks. The scale of all blocks
 * is the same in TQ1_0 and TQ2_0, as a converted BitNet model has it, and their own in BITNET32, whose codes
 * go from -2 to 1: the four together have a mean square of 3/2. */
static void fill_scaled(struct generator *g, const struct plan *p, size_t n_bytes)
{
    size_t block = (size_t)bn_type_row_bytes(p->type, p->type == BN_TYPE_BITNET32 ? 32 : 256);
    uint16_t scale = half_of(g, ternary_scale(p));
    uint8_t five[1024], four[256];

    for (unsigned i = 0; i < 1024; i++)
        five[i] = digits_byte(i, 5);
    for (unsigned i = 0; i < 256; i++)
        four[i] = digits_byte(i, 4);
    if (p->type != BN_TYPE_TQ1_0)
        fill_codes(g);
    for (size_t i = 0; i < n_bytes; i += block) {
        uint8_t *out = g->piece + i;
        for (size_t j = 0; p->type == BN_TYPE_TQ1_0 && j < 52; j++) {
            uint64_t bits = next_random(&g->random);
            out[j] = j < 48 ? five[bits & 1023] : four[bits & 255];
        }
        if (p->type == BN_TYPE_BITNET32) {
            uint64_t bits = next_random(&g->random);
            memcpy(out, &bits, sizeof bits);
            scale = half_of(g, p->deviation * sqrt(2.0 / 3) * (0.75 + 0.5 * uniform(&g->random)));
        }
        memcpy(out + block - sizeof scale, &scale, sizeof scale);
    }
}

/* Bytes of the tensor that are made at a time: whole blocks. */
static size_t piece_bytes(uint32_t type)
{
    size_t block = bn_type_is_ternary(type) ? (size_t)bn_type_row_bytes(type, 256) : 1;

    return bn_block_of(type) ? BLOCKS_BYTES : PIECE_BYTES / block * block;
}

/* The tensor's data, piece by piece. */
static void write_values(struct generator *g, const struct plan *p, uint64_t size_bytes)
{
    bool ternary = p->type == BN_TYPE_I2_S, codes = ternary || p->type == BN_TYPE_QK256;
    uint64_t left = ternary ? size_bytes - I2S_TAIL_BYTES : size_bytes;
    size_t value_bytes = bn_type_is_ternary(p->type) ? 0 : prepare_values(g, p);

    while (left > 0) {
        size_t n = bn_min_size((size_t)left, piece_bytes(p->type));
        if (codes)
            fill_codes(g);
        else if (bn_type_is_ternary(p->type))
            fill_scaled(g, p, n);
        else if (bn_block_of(p->type))
            fill_blocks(g, p->type, n);
        else if (value_bytes == sizeof(float))
            fill_floats(g);
        else
            fill_halves(g);
        bn_gguf_write_data(g->writer, g->piece, n);
        left -= n;
        g->done_bytes += n;
        if (g->synth->progress && !g->synth->progress(g->synth->ctx, g->done_bytes, g->total_bytes)) {
            bn_gguf_writer_fail(g->writer, "stopped after %" PRIu64 " of %" PRIu64 " bytes", g->done_bytes,
                                g->total_bytes);
            return;
        }
    }
    if (ternary) {
        uint8_t tail[I2S_TAIL_BYTES] = {0};
        float scale = (float)ternary_scale(p);
        memcpy(tail, &scale, sizeof scale);
        bn_gguf_write_data(g->writer, tail, sizeof tail);
        g->done_bytes += sizeof tail;
    }
}

/* ---- tensors ---- */

/* Plan one tensor: on the first walk its header, on the second its data. Both draw the same random numbers
 * for the plan, since every tensor starts from a seed of its own. */
static void tensor(struct generator *g, const char *name, struct plan p)
{
    uint64_t size_bytes = 0;

    if (!g->writing) {
        if (bn_type_bytes(p.type, p.ne0, p.ne1, &size_bytes) == 0)
            g->total_bytes += size_bytes;
        bn_gguf_write_tensor(g->writer, name, p.type, p.ne0, p.ne1);
        return;
    }
    bn_type_bytes(p.type, p.ne0, p.ne1, &size_bytes);
    g->random = g->synth->seed;
    for (const char *c = name; *c; c++)
        g->random = next_random(&g->random) ^ (unsigned char)*c;
    /* Tensors of a kind differ in size, so that a mix-up of two would be seen. */
    double size = 0.85 + 0.3 * uniform(&g->random);
    p.mean *= size;
    p.deviation *= size;
    write_values(g, &p, size_bytes);
}

/* Gains of a norm of n values: `mean`, give or take a sixth. */
static void norm(struct generator *g, const char *prefix, const char *name, uint64_t n, double mean)
{
    char full[64];

    snprintf(full, sizeof full, "%s%s.weight", prefix, name);
    tensor(g, full, (struct plan){BN_TYPE_F32, n, 1, mean, mean / 6});
}

/* A projection of vectors of size `in` (RMS) to vectors of size `out`. */
static void projection(struct generator *g, const char *prefix, const char *name, uint64_t ne0, uint64_t ne1,
                       double in, double out)
{
    char full[64];
    struct plan plan = {g->synth->wtype, ne0, ne1, 0, out / (in * sqrt((double)ne0))};

    snprintf(full, sizeof full, "%s%s.weight", prefix, name);
    tensor(g, full, plan);
    if (plan.type != BN_TYPE_QK256) /* which has no scale of its own */
        return;
    snprintf(full, sizeof full, "%s%s.scale", prefix, name);
    tensor(g, full, (struct plan){BN_TYPE_F32, 1, 1, ternary_scale(&plan), 0});
}

/* Sizes of activations: norms as large as the published file's, queries and keys of size 1 so that attention
 * is neither flat nor a spike, and blocks that add a third to the residual stream. Without sub-norms the
 * inner activations, which an average over values or a gate has made smaller, are what the next projection
 * gets. */
static void block(struct generator *g, uint32_t number)
{
    const struct bn_synth_shape *s = g->synth->shape;
    uint64_t kv_width = (uint64_t)s->n_embd / s->n_head * s->n_head_kv;
    bool sub_norms = strcmp(s->arch, "llama") != 0;
    double attn_norm_size = sub_norms ? 0.0175 : 1, ffn_norm_size = sub_norms ? 1.35 : 1, sub_norm_size = 0.5;
    double mixed_size = sub_norms ? sub_norm_size : 0.3, gated_size = sub_norms ? sub_norm_size : 0.35;
    char prefix[24];

    snprintf(prefix, sizeof prefix, "blk.%" PRIu32 ".", number);
    norm(g, prefix, "attn_norm", s->n_embd, attn_norm_size);
    projection(g, prefix, "ffn_down", s->n_ff, s->n_embd, gated_size, 0.3);
    if (sub_norms)
        norm(g, prefix, "ffn_sub_norm", s->n_ff, sub_norm_size);
    projection(g, prefix, "ffn_gate", s->n_embd, s->n_ff, ffn_norm_size, 1);
    projection(g, prefix, "ffn_up", s->n_embd, s->n_ff, ffn_norm_size, 1);
    norm(g, prefix, "ffn_norm", s->n_embd, ffn_norm_size);
    if (sub_norms)
        norm(g, prefix, "attn_sub_norm", s->n_embd, sub_norm_size);
    projection(g, prefix, "attn_k", s->n_embd, kv_width, attn_norm_size, 1);
    projection(g, prefix, "attn_output", s->n_embd, s->n_embd, mixed_size, 0.3);
    projection(g, prefix, "attn_q", s->n_embd, s->n_embd, attn_norm_size, 1);
    projection(g, prefix, "attn_v", s->n_embd, kv_width, attn_norm_size, 1);
}

static int by_text(const void *a, const void *b)
{
    char x[16], y[16];

    snprintf(x, sizeof x, "%" PRIu32, *(const uint32_t *)a);
    snprintf(y, sizeof y, "%" PRIu32, *(const uint32_t *)b);
    return strcmp(x, y);
}

/* All tensors in the published order: blocks by the text of their numbers (0, 1, 10, 11, ..., 2, 20, ...). */
static void walk(struct generator *g)
{
    const struct bn_synth_shape *s = g->synth->shape;
    uint32_t *numbers = bn_xcalloc(s->n_layer, sizeof *numbers);
    double deviation = 1 / sqrt(s->n_embd); /* a logit is as large as the output norm */

    tensor(g, "token_embd.weight", (struct plan){g->synth->etype, s->n_embd, g->n_vocab, 0, deviation});
    for (uint32_t i = 0; i < s->n_layer; i++)
        numbers[i] = i;
    qsort(numbers, s->n_layer, sizeof *numbers, by_text);
    for (uint32_t i = 0; i < s->n_layer; i++)
        block(g, numbers[i]);
    norm(g, "", "output_norm", s->n_embd, 3);
    if (!s->tied)
        tensor(g, "output.weight", (struct plan){g->synth->etype, s->n_embd, g->n_vocab, 0, deviation});
    free(numbers);
}

/* ---- the file ---- */

static bool is_plain(uint32_t type)
{
    return type == BN_TYPE_F16 || type == BN_TYPE_BF16 || type == BN_TYPE_F32;
}

/* Whose rows must be multiples of what. */
static const struct ternary {
    uint32_t type;
    const char *name;
    uint32_t multiple;
} ternaries[] = {{BN_TYPE_I2_S, "i2_s", 128},
                 {BN_TYPE_QK256, "qk256", 256},
                 {BN_TYPE_BITNET32, "bitnet32", 32},
                 {BN_TYPE_TQ1_0, "tq1_0", 256},
                 {BN_TYPE_TQ2_0, "tq2_0", 256}};

static const struct ternary *ternary_of(uint32_t type)
{
    for (size_t i = 0; i < BN_COUNT(ternaries); i++) {
        if (ternaries[i].type == type)
            return &ternaries[i];
    }
    return NULL;
}

/* Are rows of k values whole blocks of the type? */
static int check_blocks(const struct bn_synth_shape *s, uint32_t type, uint32_t k, struct bn_err *err)
{
    const struct bn_block *block = bn_block_of(type);
    const struct ternary *ternary = ternary_of(type);
    uint32_t multiple = block ? block->elements : ternary ? ternary->multiple : 1;

    if (k % multiple == 0)
        return 0;
    return bn_err_set(err, "shape %s: rows of %u values, but %s needs multiples of %u; f16, bf16 or f32 fit",
                      s->name, k, block ? block->name : ternary->name, multiple);
}

int bn_synth_check(const struct bn_synth *synth, struct bn_err *err)
{
    const struct bn_synth_shape *s = synth->shape;

    if (!is_plain(synth->etype) && !bn_block_of(synth->etype))
        return bn_err_set(err, "embeddings of type f16, bf16, f32 or a block format expected");
    if (!is_plain(synth->wtype) && !bn_block_of(synth->wtype) && !ternary_of(synth->wtype))
        return bn_err_set(err, "weights of a ternary type, f16, bf16, f32 or a block format expected");
    if (check_blocks(s, synth->etype, s->n_embd, err) != 0 ||
        check_blocks(s, synth->wtype, s->n_embd, err) != 0 ||
        check_blocks(s, synth->wtype, s->n_ff, err) != 0)
        return -1;
    return 0;
}

int bn_synth_write(const char *path, const struct bn_synth *synth, struct bn_err *err)
{
    struct generator g = {.synth = synth};

    if (bn_synth_check(synth, err) != 0 || bn_synth_n_vocab(synth, &g.n_vocab, err) != 0)
        return -1;
    g.writer = bn_gguf_writer_open(path, err);
    if (!g.writer)
        return -1;
    g.normal = bn_xmalloc(N_NORMAL * sizeof(float));
    g.values = bn_xmalloc(N_NORMAL * sizeof(float));
    g.piece = bn_xmalloc(PIECE_BYTES + PIECE_SPARE);
    bn_kernels_init(&g.kernels, bn_cpu_detect());
    fill_normal(g.normal);
    bn_synth_write_keys(g.writer, synth, g.n_vocab);
    walk(&g);
    bn_gguf_write_begin_data(g.writer);
    g.writing = true;
    walk(&g);
    free(g.piece);
    free(g.values);
    free(g.normal);
    return bn_gguf_writer_close(g.writer, err);
}

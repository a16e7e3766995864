/* SPDX-License-Identifier: MIT
 * The double-precision forward pass. Reads like docs/formats.md: no batching, no sharing, no shortcuts. */
#include "core/reference.h"
#include "core/reference_model.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct bn_reference {
    struct bn_arena arena;
    struct reference_model model;
    bool f16_cache;
    uint32_t n_ctx, pos;
    double *k_cache, *v_cache; /* [n_layer][n_ctx][n_head_kv * head_dim] */
    double *x, *h, *q, *k, *v, *attn, *gate, *up, *scores;
    int8_t *codes; /* a quantised activation vector */
};

/* ---- arithmetic ---- */

/* y = x / rms(x) * g; y may be x. */
static void rms_norm(const double *x, const double *g, double *y, uint32_t n, double eps)
{
    double sum = 0;

    for (uint32_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    double r = 1 / sqrt(sum / n + eps);
    for (uint32_t i = 0; i < n; i++)
        y[i] = x[i] * r * g[i];
}

/* Activations as the definition has them: s = 127 / max(1e-5, max|x|), codes round(x * s) with ties to even.
 * Both are defined on F32 values, so x is narrowed first. Returns s. */
static float quantize(const double *x, int8_t *codes, uint64_t n)
{
    double largest = 1e-5;

    for (uint64_t i = 0; i < n; i++)
        largest = fmax(largest, fabs((double)(float)x[i]));
    float s = (float)(127 / largest);
    for (uint64_t i = 0; i < n; i++) {
        float code = nearbyintf((float)x[i] * s);
        codes[i] = (int8_t)fminf(fmaxf(code, -128), 127);
    }
    return s;
}

/* A ternary weight as the formats define it, one at a time: its whole number, -2 … 2. *scale is that of its
 * block, for formats that have such. */
static int ternary_value(const struct reference_matrix *w, uint64_t r, uint64_t i, double *scale)
{
    static const unsigned power[] = {1, 3, 9, 27, 81};
    uint64_t at = r * w->k + i;
    const uint8_t *p = w->data;
    unsigned byte, place;
    uint16_t half;

    switch (w->type) {
    case BN_TYPE_BITNET32:
        p += at / 32 * 10;
        memcpy(&half, p + 8, sizeof half);
        *scale = reference_from_f16(half);
        return (p[at % 32 / 4] >> at % 4 * 2 & 3) - 2;
    case BN_TYPE_TQ2_0:
        p += at / 256 * 66;
        at %= 256;
        memcpy(&half, p + 64, sizeof half);
        *scale = reference_from_f16(half);
        return (p[at / 128 * 32 + at % 32] >> at % 128 / 32 * 2 & 3) - 1;
    case BN_TYPE_TQ1_0:
        p += at / 256 * 54;
        at %= 256;
        memcpy(&half, p + 52, sizeof half);
        *scale = reference_from_f16(half);
        byte = p[at < 160 ? at % 32 : at < 240 ? 32 + (at - 160) % 16 : 48 + at % 4];
        place = (unsigned)(at < 160 ? at / 32 : at < 240 ? (at - 160) / 16 : (at - 240) / 4);
        return (int)((byte * power[place] & 255) * 3 >> 8) - 1;
    default: /* value 32 q + j of a block of 128 lies in byte j, q = 0 in the top bits */
        *scale = 1;
        return (p[at / 128 * 32 + at % 32] >> (6 - at % 128 / 32 * 2) & 3) - 1;
    }
}

/* The sum of whole numbers is exact, the scales multiply it block by block. */
static double ternary_dot(const struct reference_matrix *w, uint64_t r, const int8_t *x)
{
    double sum = 0, scale = 1;

    for (uint64_t i = 0; i < w->k; i += 32) {
        int64_t part = 0;
        for (uint64_t j = i; j < i + 32; j++)
            part += ternary_value(w, r, j, &scale) * x[j];
        sum += (double)part * scale;
    }
    return sum;
}

static void ternary_product(const struct reference_matrix *w, const double *x, int8_t *codes, double *y)
{
    float weight_scale = 1;

    if (w->type == BN_TYPE_I2_S)
        memcpy(&weight_scale, w->data + w->k * w->rows / 4, sizeof weight_scale);
    float s = quantize(x, codes, w->k);
    for (uint64_t r = 0; r < w->rows; r++)
        y[r] = ternary_dot(w, r, codes) / (double)s * (double)weight_scale;
}

static void product(const struct reference_matrix *w, const double *x, int8_t *codes, double *y)
{
    if (bn_type_is_ternary(w->type)) {
        ternary_product(w, x, codes, y);
        return;
    }
    if (reference_is_block(w->type)) {
        reference_block_product(w, x, codes, y);
        return;
    }
    for (uint64_t r = 0; r < w->rows; r++) {
        y[r] = 0;
        for (uint64_t i = 0; i < w->k; i++)
            y[r] += reference_value(w, r, i) * x[i];
    }
}

static void project(struct bn_reference *ref, const struct reference_linear *p, const double *x, double *y)
{
    product(&p->w, x, ref->codes, y);
    for (uint64_t r = 0; r < p->w.rows; r++)
        y[r] = y[r] * p->factor + (p->bias ? p->bias[r] : 0);
}

/* Turn each head's pairs by position times rate. */
static void rope(const struct reference_model *m, double *v, uint32_t n_heads, uint32_t pos)
{
    uint32_t half = m->n_rot / 2;

    for (uint32_t head = 0; head < n_heads; head++, v += m->head_dim) {
        for (uint32_t j = 0; j < half; j++) {
            double *a = m->interleaved ? &v[2 * j] : &v[j];
            double *b = m->interleaved ? &v[2 * j + 1] : &v[j + half];
            double c = cos(pos * m->rope_rate[j]), s = sin(pos * m->rope_rate[j]);
            double turned = *a * c - *b * s;
            *b = *a * s + *b * c;
            *a = turned;
        }
    }
}

static void softmax(double *s, uint32_t n)
{
    double top = s[0], sum = 0;

    for (uint32_t i = 1; i < n; i++)
        top = fmax(top, s[i]);
    for (uint32_t i = 0; i < n; i++)
        sum += s[i] = exp(s[i] - top);
    for (uint32_t i = 0; i < n; i++)
        s[i] /= sum;
}

/* ---- layers ---- */

static void attend(struct bn_reference *ref, uint32_t layer)
{
    const struct reference_model *m = &ref->model;
    size_t width = (size_t)m->n_head_kv * m->head_dim;
    double *keys = ref->k_cache + layer * ref->n_ctx * width,
           *values = ref->v_cache + layer * ref->n_ctx * width;

    for (size_t i = 0; i < width; i++) {
        keys[ref->pos * width + i] = ref->f16_cache ? reference_round_to_f16(ref->k[i]) : ref->k[i];
        values[ref->pos * width + i] = ref->f16_cache ? reference_round_to_f16(ref->v[i]) : ref->v[i];
    }
    for (uint32_t head = 0; head < m->n_head; head++) {
        const double *q = ref->q + (size_t)head * m->head_dim;
        double *out = ref->attn + (size_t)head * m->head_dim;
        size_t kv = (size_t)(head / (m->n_head / m->n_head_kv)) * m->head_dim;
        for (uint32_t p = 0; p <= ref->pos; p++) {
            double dot = 0;
            for (uint32_t i = 0; i < m->head_dim; i++)
                dot += q[i] * keys[p * width + kv + i];
            ref->scores[p] = dot / sqrt(m->head_dim);
        }
        softmax(ref->scores, ref->pos + 1);
        for (uint32_t i = 0; i < m->head_dim; i++) {
            out[i] = 0;
            for (uint32_t p = 0; p <= ref->pos; p++)
                out[i] += ref->scores[p] * values[p * width + kv + i];
        }
    }
}

static void attention(struct bn_reference *ref, uint32_t layer)
{
    const struct reference_model *m = &ref->model;
    const struct reference_layer *y = &m->layers[layer];

    rms_norm(ref->x, y->attn_norm, ref->h, m->n_embd, m->eps);
    project(ref, &y->q, ref->h, ref->q);
    project(ref, &y->k, ref->h, ref->k);
    project(ref, &y->v, ref->h, ref->v);
    rope(m, ref->q, m->n_head, ref->pos);
    rope(m, ref->k, m->n_head_kv, ref->pos);
    attend(ref, layer);
    if (m->sub_norms)
        rms_norm(ref->attn, y->attn_sub_norm, ref->attn, m->n_head * m->head_dim, m->eps);
    project(ref, &y->o, ref->attn, ref->h);
    for (uint32_t i = 0; i < m->n_embd; i++)
        ref->x[i] += ref->h[i];
}

static void feed_forward(struct bn_reference *ref, uint32_t layer)
{
    const struct reference_model *m = &ref->model;
    const struct reference_layer *y = &m->layers[layer];

    rms_norm(ref->x, y->ffn_norm, ref->h, m->n_embd, m->eps);
    project(ref, &y->gate, ref->h, ref->gate);
    project(ref, &y->up, ref->h, ref->up);
    for (uint32_t i = 0; i < m->n_ff; i++) {
        double g = ref->gate[i];
        ref->gate[i] = (m->relu2 ? fmax(g, 0) * fmax(g, 0) : g / (1 + exp(-g))) * ref->up[i];
    }
    if (m->sub_norms)
        rms_norm(ref->gate, y->ffn_sub_norm, ref->gate, m->n_ff, m->eps);
    project(ref, &y->down, ref->gate, ref->h);
    for (uint32_t i = 0; i < m->n_embd; i++)
        ref->x[i] += ref->h[i];
}

void bn_reference_step(struct bn_reference *ref, uint32_t token, double *logits)
{
    const struct reference_model *m = &ref->model;

    assert(token < m->n_vocab && ref->pos < ref->n_ctx);
    for (uint32_t i = 0; i < m->n_embd; i++)
        ref->x[i] = reference_value(&m->embedding, token, i);
    for (uint32_t layer = 0; layer < m->n_layer; layer++) {
        attention(ref, layer);
        feed_forward(ref, layer);
    }
    ref->pos++;
    if (!logits)
        return;
    rms_norm(ref->x, m->output_norm, ref->h, m->n_embd, m->eps);
    product(&m->output, ref->h, ref->codes, logits);
}

/* ---- open and close ---- */

static double *doubles(struct bn_reference *ref, size_t n)
{
    return bn_arena_array(&ref->arena, n, sizeof(double));
}

static void allocate(struct bn_reference *ref)
{
    const struct reference_model *m = &ref->model;
    size_t q_width = (size_t)m->n_head * m->head_dim, kv_width = (size_t)m->n_head_kv * m->head_dim;
    size_t widest = q_width > m->n_embd ? q_width : m->n_embd;
    size_t positions = (size_t)m->n_layer * ref->n_ctx;

    ref->k_cache = bn_arena_array(&ref->arena, positions, kv_width * sizeof(double));
    ref->v_cache = bn_arena_array(&ref->arena, positions, kv_width * sizeof(double));
    ref->x = doubles(ref, m->n_embd);
    ref->h = doubles(ref, m->n_embd);
    ref->q = doubles(ref, q_width);
    ref->k = doubles(ref, kv_width);
    ref->v = doubles(ref, kv_width);
    ref->attn = doubles(ref, q_width);
    ref->gate = doubles(ref, m->n_ff);
    ref->up = doubles(ref, m->n_ff);
    ref->scores = doubles(ref, ref->n_ctx);
    ref->codes = bn_arena_alloc(&ref->arena, widest > m->n_ff ? widest : m->n_ff);
}

int bn_reference_open(struct bn_reference **out, const struct bn_gguf *gguf, uint32_t n_ctx,
                      struct bn_err *err)
{
    struct bn_reference *ref = bn_xcalloc(1, sizeof *ref);

    assert(n_ctx >= 1);
    ref->n_ctx = n_ctx;
    ref->f16_cache = true;
    if (bn_reference_load(&ref->model, gguf, &ref->arena, err) != 0) {
        bn_reference_free(ref);
        return -1;
    }
    allocate(ref);
    *out = ref;
    return 0;
}

void bn_reference_free(struct bn_reference *ref)
{
    if (!ref)
        return;
    bn_arena_free(&ref->arena);
    free(ref);
}

uint32_t bn_reference_n_vocab(const struct bn_reference *ref)
{
    return ref->model.n_vocab;
}

void bn_reference_set_f16_cache(struct bn_reference *ref, bool on)
{
    ref->f16_cache = on;
}

void bn_reference_reset(struct bn_reference *ref)
{
    ref->pos = 0;
}

/* SPDX-License-Identifier: MIT
 * The forward pass. Each function is one line of the model card and one stage of the profile; n is the number
 * of columns (tokens of a prompt that go through together; 1 when decoding). */
#include "core/forward.h"

#include <assert.h>
#include <string.h>

#include "core/attention.h"
#include "core/block.h"
#include "core/linear.h"
#include "core/lm_head.h"
#include "core/norm.h"
#include "core/scope.h"

/* What a stage that treats the columns one by one needs to know. */
struct columns {
    struct bn_session *s;
    const uint32_t *tokens;
    const float *in, *weight; /* in: [n][width] */
    float *out;               /* [n][width] */
    size_t width;
};

/* ---- embedding ---- */

static void embed_columns(void *arg, size_t begin, size_t end, unsigned worker)
{
    const struct columns *a = arg;
    const struct bn_weight *e = &a->s->model->embedding;

    (void)worker;
    for (size_t c = begin; c < end; c++) {
        size_t at = (size_t)a->tokens[c] * e->k;
        float *x = a->s->x + c * e->k;
        if (e->layout == BN_LAYOUT_FILE)
            bn_block_to_f32(a->s->kernels, e->type,
                            (const uint8_t *)e->data + a->tokens[c] * bn_weight_row_bytes(e), x, e->k);
        else if (e->type == BN_TYPE_F16)
            a->s->kernels->f16_to_f32((const uint16_t *)e->data + at, x, e->k);
        else if (e->type == BN_TYPE_BF16)
            a->s->kernels->bf16_to_f32((const uint16_t *)e->data + at, x, e->k);
        else
            memcpy(x, (const float *)e->data + at, e->k * sizeof *x);
    }
}

static void embedding_lookup(struct bn_session *s, const uint32_t *tokens, size_t n)
{
    BN_SCOPE(EMBEDDING_LOOKUP);
    const struct bn_weight *e = &s->model->embedding;
    uint64_t bytes = n * (bn_weight_row_bytes(e) + e->k * sizeof(float));

    bn_scope_count(bytes, 0);
    bn_scope_demand(n * bn_weight_row_bytes(e), 0);
    if (e->layout == BN_LAYOUT_FILE)
        s->kernel_calls[bn_block_of(e->type)->to_f32] += n;
    else if (e->type != BN_TYPE_F32)
        s->kernel_calls[e->type == BN_TYPE_F16 ? BN_KERNEL_f16_to_f32 : BN_KERNEL_bf16_to_f32] += n;
    bn_pool_run(s->pool, embed_columns, &(struct columns){.s = s, .tokens = tokens}, n, 1, bytes);
}

/* ---- rotary positions ---- */

static void rotate_columns(void *arg, size_t begin, size_t end, unsigned worker)
{
    struct bn_session *s = ((const struct columns *)arg)->s;
    const struct bn_model *m = s->model;
    size_t h = m->n_rot / 2, d = m->head_dim;

    (void)worker;
    for (size_t c = begin; c < end; c++) {
        const float *cosines = s->rope_cos + (s->n_past + c) * h, *sines = s->rope_sin + (s->n_past + c) * h;
        for (uint32_t head = 0; head < m->n_head + m->n_head_kv; head++) {
            float *v = head < m->n_head ? s->q + (c * m->n_head + head) * d
                                        : s->k + (c * m->n_head_kv + head - m->n_head) * d;
            if (m->rope == BN_ROPE_NEOX)
                s->kernels->f32_rope_neox(v, cosines, sines, h);
            else
                s->kernels->f32_rope_norm(v, cosines, sines, h);
        }
    }
}

static void rope_apply(struct bn_session *s, size_t n)
{
    BN_SCOPE(ROPE_APPLY);
    const struct bn_model *m = s->model;
    uint64_t heads = n * (m->n_head + m->n_head_kv);

    bn_scope_count((2 * heads + n) * m->n_rot * sizeof(float), 3 * heads * m->n_rot);
    s->kernel_calls[m->rope == BN_ROPE_NEOX ? BN_KERNEL_f32_rope_neox : BN_KERNEL_f32_rope_norm] += heads;
    bn_pool_run(s->pool, rotate_columns, &(struct columns){.s = s}, n, 1, heads * m->n_rot * 8);
}

/* ---- residual stream ---- */

static void add_columns(void *arg, size_t begin, size_t end, unsigned worker)
{
    struct bn_session *s = ((const struct columns *)arg)->s;
    size_t width = s->model->n_embd;

    (void)worker;
    s->kernels->f32_add(s->x + begin * width, s->h + begin * width, (end - begin) * width);
}

static void residual_add(struct bn_session *s, size_t n)
{
    BN_SCOPE(RESIDUAL_ADD);
    uint64_t values = (uint64_t)n * s->model->n_embd;

    bn_scope_count(values * 3 * sizeof(float), values);
    s->kernel_calls[BN_KERNEL_f32_add] += n;
    bn_pool_run(s->pool, add_columns, &(struct columns){.s = s}, n, 1, values * 3 * sizeof(float));
}

/* ---- gated activation ---- */

static void activate_columns(void *arg, size_t begin, size_t end, unsigned worker)
{
    struct bn_session *s = ((const struct columns *)arg)->s;
    size_t width = s->model->n_ff;

    (void)worker;
    for (size_t c = begin; c < end; c++) {
        float *gate = s->gate + c * width, *up = s->up + c * width;
        if (s->model->activation == BN_ACTIVATION_RELU2)
            s->kernels->f32_relu2_mul(gate, up, gate, width);
        else
            s->kernels->f32_silu_mul(gate, up, gate, width);
    }
}

static void activation(struct bn_session *s, size_t n)
{
    BN_SCOPE(ACTIVATION);
    bool relu2 = s->model->activation == BN_ACTIVATION_RELU2;
    uint64_t values = (uint64_t)n * s->model->n_ff;

    bn_scope_count(values * 3 * sizeof(float), values * (relu2 ? 3 : 5));
    s->kernel_calls[relu2 ? BN_KERNEL_f32_relu2_mul : BN_KERNEL_f32_silu_mul] += n;
    bn_pool_run(s->pool, activate_columns, &(struct columns){.s = s}, n, 1, values * (relu2 ? 12 : 32));
}

/* ---- the model card ---- */

/* Products of a row's norm. Where all of them take codes the norm gives codes at once; otherwise it goes
 * through `normed`: [n][width], which may be `in`. Without a norm, weight is NULL. */
static void linear_of_norm(struct bn_session *s, enum bn_stage norm_stage, const float *in,
                           const float *weight, float *normed, enum bn_stage stage,
                           const struct bn_product *products, size_t n_products, size_t n)
{
    size_t width = products[0].w->k;

    if (weight && bn_linear_takes_codes(products, n_products)) {
        bn_norm_quantize(s, norm_stage, in, weight, n, width);
        bn_linear(s, stage, products, n_products, NULL, n);
        return;
    }
    if (weight)
        bn_norm(s, norm_stage, in, weight, normed, n, width);
    bn_linear(s, stage, products, n_products, weight ? normed : in, n);
}

static void attention(struct bn_session *s, uint32_t layer, size_t n)
{
    BN_SCOPE(ATTENTION);
    const struct bn_model *m = s->model;
    const struct bn_layer *w = &m->layers[layer];

    const struct bn_product qkv[] = {{&w->q, s->q}, {&w->k, s->k}, {&w->v, s->v}};
    linear_of_norm(s, BN_STAGE_ATTN_NORM, s->x, w->attn_norm, s->h, BN_STAGE_QKV_PROJECTION, qkv,
                   BN_COUNT(qkv), n);
    rope_apply(s, n);
    bn_attention_store(s, layer, n);
    bn_attention_gather(s, layer, n);
    linear_of_norm(s, BN_STAGE_ATTN_SUB_NORM, s->o, w->attn_sub_norm, s->o, BN_STAGE_OUTPUT_PROJECTION,
                   &(struct bn_product){&w->output, s->h}, 1, n);
    residual_add(s, n);
}

static void feed_forward(struct bn_session *s, uint32_t layer, size_t n)
{
    BN_SCOPE(FFN);
    const struct bn_model *m = s->model;
    const struct bn_layer *w = &m->layers[layer];

    const struct bn_product gate_up[] = {{&w->gate, s->gate}, {&w->up, s->up}};
    linear_of_norm(s, BN_STAGE_FFN_NORM, s->x, w->ffn_norm, s->h, BN_STAGE_GATE_UP_PROJECTION, gate_up,
                   BN_COUNT(gate_up), n);
    activation(s, n);
    linear_of_norm(s, BN_STAGE_FFN_SUB_NORM, s->gate, w->ffn_sub_norm, s->gate, BN_STAGE_DOWN_PROJECTION,
                   &(struct bn_product){&w->down, s->h}, 1, n);
    residual_add(s, n);
}

const float *bn_forward(struct bn_session *s, const uint32_t *tokens, size_t n, bool want_logits)
{
    BN_SCOPE(FORWARD_PASS);
    const struct bn_model *m = s->model;

    assert(n >= 1 && n <= s->n_batch && s->n_past + n <= s->n_ctx);
    embedding_lookup(s, tokens, n);
    for (uint32_t layer = 0; layer < m->n_layer; layer++) {
        bn_scope_layer((int)layer);
        BN_SCOPE(TRANSFORMER_BLOCK);
        attention(s, layer, n);
        feed_forward(s, layer, n);
    }
    bn_scope_layer(-1);
    s->n_past += (uint32_t)n;
    if (!want_logits)
        return NULL;
    /* Only the last column's logits are asked for. */
    bn_norm(s, BN_STAGE_OUTPUT_NORM, s->x + (n - 1) * m->n_embd, m->output_norm, s->h, 1, m->n_embd);
    bn_lm_head_apply(s, s->h);
    return s->logits;
}

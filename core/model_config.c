/* SPDX-License-Identifier: MIT
 * A model's metadata: architecture and hyper-parameters, each within what the forward pass can do. */
#include <math.h>
#include <string.h>

#include "core/model_parts.h"

/* docs/formats.md#architectures */
static const struct bn_arch archs[] = {
    {"bitnet-b1.58", BN_ACTIVATION_RELU2, BN_ROPE_NEOX, true},
    {"bitnet-25", BN_ACTIVATION_RELU2, BN_ROPE_NEOX, true},
    {"bitnet", BN_ACTIVATION_SILU, BN_ROPE_NEOX, true},
    {"llama", BN_ACTIVATION_SILU, BN_ROPE_NORM, false},
};

int bn_model_read_u32(struct bn_model_loader *l, const char *suffix, enum bn_need need, uint32_t min,
                      uint32_t max, uint32_t *out)
{
    char key[BN_MODEL_MAX_NAME];

    snprintf(key, sizeof key, "%s.%s", l->arch->name, suffix);
    int found = bn_gguf_get_u32(l->gguf, key, out, l->err);
    if (found < 0)
        return -1;
    if (!found && need == BN_REQUIRED)
        return bn_err_set(l->err, "%s: key %s is missing", l->gguf->path, key);
    if (*out < min || *out > max)
        return bn_err_set(l->err, "%s: key %s is %u, expected %u to %u", l->gguf->path, key, *out, min, max);
    return 0;
}

static int read_f32(struct bn_model_loader *l, const char *suffix, enum bn_need need, float *out)
{
    char key[BN_MODEL_MAX_NAME];

    snprintf(key, sizeof key, "%s.%s", l->arch->name, suffix);
    int found = bn_gguf_get_f32(l->gguf, key, out, l->err);
    if (found < 0)
        return -1;
    if (!found && need == BN_REQUIRED)
        return bn_err_set(l->err, "%s: key %s is missing", l->gguf->path, key);
    if (!isfinite(*out) || *out < 0)
        return bn_err_set(l->err, "%s: key %s is %g, expected a finite number, not negative", l->gguf->path,
                          key, (double)*out);
    return 0;
}

static int find_arch(struct bn_model_loader *l)
{
    struct bn_str name = {NULL, 0};
    int found = bn_gguf_get_str(l->gguf, "general.architecture", &name, l->err);

    if (found < 0)
        return -1;
    if (!found)
        return bn_err_set(l->err, "%s: key general.architecture is missing", l->gguf->path);
    for (size_t i = 0; i < BN_COUNT(archs); i++) {
        if (!bn_str_is(name, archs[i].name))
            continue;
        l->arch = &archs[i];
        l->model->arch = archs[i].name;
        l->model->activation = archs[i].activation;
        l->model->rope = archs[i].rope;
        return 0;
    }
    return bn_err_set(l->err,
                      "%s: architecture '%.*s' is not supported (bitnet-b1.58, bitnet-25, bitnet or llama "
                      "expected)",
                      l->gguf->path, (int)bn_min_size(name.n, 60), name.p);
}

static int read_name(struct bn_model_loader *l)
{
    struct bn_str name = {"", 0};

    if (bn_gguf_get_str(l->gguf, "general.name", &name, l->err) < 0)
        return -1;
    l->model->name = bn_arena_strndup(&l->model->gguf.arena, name.p, bn_min_size(name.n, 200));
    return 0;
}

/* Only unscaled positions are computed: `none`, or `linear` with factor 1. */
static int check_rope_scaling(struct bn_model_loader *l)
{
    char key[BN_MODEL_MAX_NAME];
    struct bn_str type = BN_STR("none");
    float factor = 1.0f, old_factor = 1.0f;

    snprintf(key, sizeof key, "%s.rope.scaling.type", l->arch->name);
    if (bn_gguf_get_str(l->gguf, key, &type, l->err) < 0)
        return -1;
    if (!bn_str_is(type, "none") && !bn_str_is(type, "linear"))
        return bn_err_set(l->err, "%s: key %s: '%.*s' is not supported (none or linear expected)",
                          l->gguf->path, key, (int)bn_min_size(type.n, 40), type.p);
    if (read_f32(l, "rope.scaling.factor", BN_OPTIONAL, &factor) != 0 ||
        read_f32(l, "rope.scale_linear", BN_OPTIONAL, &old_factor) != 0)
        return -1;
    /* 0 is how some converters write "not scaled" */
    if ((factor != 1.0f && factor != 0.0f) || (old_factor != 1.0f && old_factor != 0.0f))
        return bn_err_set(l->err, "%s: RoPE scaling by %g is not supported (1 expected)", l->gguf->path,
                          (double)(factor != 1.0f && factor != 0.0f ? factor : old_factor));
    return 0;
}

static int read_heads(struct bn_model_loader *l)
{
    struct bn_model *m = l->model;
    uint32_t value_dim;

    if (bn_model_read_u32(l, "attention.head_count", BN_REQUIRED, 1, BN_MODEL_MAX_WIDTH, &m->n_head) != 0)
        return -1;
    m->n_head_kv = m->n_head;
    if (bn_model_read_u32(l, "attention.head_count_kv", BN_OPTIONAL, 1, m->n_head, &m->n_head_kv) != 0)
        return -1;
    if (m->n_head % m->n_head_kv != 0)
        return bn_err_set(l->err, "%s: %u heads are no multiple of %u key/value heads", l->gguf->path,
                          m->n_head, m->n_head_kv);
    m->head_dim = m->n_embd / m->n_head;
    if (bn_model_read_u32(l, "attention.key_length", BN_OPTIONAL, 1, 1 << 16, &m->head_dim) != 0)
        return -1;
    value_dim = m->head_dim;
    if (bn_model_read_u32(l, "attention.value_length", BN_OPTIONAL, 1, 1 << 16, &value_dim) != 0)
        return -1;
    if (value_dim != m->head_dim)
        return bn_err_set(l->err, "%s: values of %u and keys of %u a head are not supported (equal expected)",
                          l->gguf->path, value_dim, m->head_dim);
    if ((uint64_t)m->n_head * m->head_dim > BN_MODEL_MAX_WIDTH)
        return bn_err_set(l->err, "%s: %u heads of %u are too wide", l->gguf->path, m->n_head, m->head_dim);
    m->n_rot = m->head_dim;
    if (bn_model_read_u32(l, "rope.dimension_count", BN_OPTIONAL, 1, m->head_dim, &m->n_rot) != 0)
        return -1;
    if (m->n_rot % 2 != 0)
        return bn_err_set(l->err, "%s: key %s.rope.dimension_count: %u is odd, an even number expected",
                          l->gguf->path, l->arch->name, m->n_rot);
    return 0;
}

int bn_model_read_config(struct bn_model_loader *l)
{
    struct bn_model *m = l->model;
    uint32_t n_expert = 0;

    if (find_arch(l) != 0 || read_name(l) != 0 ||
        bn_model_read_u32(l, "context_length", BN_REQUIRED, 1, BN_MODEL_MAX_CONTEXT, &m->n_ctx) != 0 ||
        bn_model_read_u32(l, "embedding_length", BN_REQUIRED, 1, BN_MODEL_MAX_WIDTH, &m->n_embd) != 0 ||
        bn_model_read_u32(l, "block_count", BN_REQUIRED, 1, BN_MODEL_MAX_LAYERS, &m->n_layer) != 0 ||
        bn_model_read_u32(l, "feed_forward_length", BN_REQUIRED, 1, BN_MODEL_MAX_WIDTH, &m->n_ff) != 0 ||
        bn_model_read_u32(l, "expert_count", BN_OPTIONAL, 0, UINT32_MAX, &n_expert) != 0 ||
        read_heads(l) != 0 || read_f32(l, "attention.layer_norm_rms_epsilon", BN_REQUIRED, &m->norm_eps) != 0)
        return -1;
    if (n_expert != 0)
        return bn_err_set(l->err, "%s: mixtures of experts are not supported (%u experts)", l->gguf->path,
                          n_expert);
    m->rope_base = 10000.0f;
    if (read_f32(l, "rope.freq_base", BN_OPTIONAL, &m->rope_base) != 0)
        return -1;
    if (m->rope_base < 1.0f)
        return bn_err_set(l->err, "%s: key %s.rope.freq_base is %g, expected at least 1", l->gguf->path,
                          l->arch->name, (double)m->rope_base);
    return check_rope_scaling(l);
}

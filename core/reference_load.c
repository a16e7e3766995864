/* SPDX-License-Identifier: MIT
 * The reference's model: hyper-parameters and tensors of the GGUF, checked. */
#include "core/reference_model.h"

#include <math.h>
#include <string.h>

enum { MAX_WIDTH = 1 << 24 }; /* of any vector; keeps products of two u32 and small allocations honest */

static const struct {
    const char *name;
    bool relu2, sub_norms, interleaved;
} archs[] = {
    {"bitnet-b1.58", true, true, false},
    {"bitnet-25", true, true, false},
    {"bitnet", false, true, false},
    {"llama", false, false, true},
};

struct loader {
    const struct bn_gguf *gguf;
    struct bn_arena *arena;
    struct bn_err *err;
    const char *arch;
};

/* ---- keys ---- */

static int fail(const struct loader *l, const char *place, const char *name, const char *what)
{
    return bn_err_set(l->err, "%s: %s %s: %s", l->gguf->path, place, name, what);
}

static int fail_key(const struct loader *l, const char *name, const char *what)
{
    return bn_err_set(l->err, "%s: key %s.%s: %s", l->gguf->path, l->arch, name, what);
}

/* "<arch>.<name>"; an absent one leaves *out unless it is required, and then must be at least 1. */
static int get_u32(const struct loader *l, const char *name, bool required, uint32_t *out)
{
    char key[128];

    snprintf(key, sizeof key, "%s.%s", l->arch, name);
    int status = bn_gguf_get_u32(l->gguf, key, out, l->err);
    if (status < 0)
        return -1;
    if (status == 0 && required)
        return fail_key(l, name, "expected, but the file does not have it");
    if (status == 1 && *out == 0)
        return fail_key(l, name, "a positive number expected, found 0");
    return 0;
}

static int get_positive(const struct loader *l, const char *name, double *out)
{
    char key[128];
    float value = (float)*out;

    snprintf(key, sizeof key, "%s.%s", l->arch, name);
    if (bn_gguf_get_f32(l->gguf, key, &value, l->err) < 0)
        return -1;
    if (!(value > 0) || !isfinite(value))
        return fail_key(l, name, "a positive number expected");
    *out = (double)value;
    return 0;
}

static int load_arch(struct loader *l, struct reference_model *m)
{
    struct bn_str arch = {0};

    int status = bn_gguf_get_str(l->gguf, "general.architecture", &arch, l->err);
    if (status < 0)
        return -1;
    for (size_t i = 0; i < BN_COUNT(archs); i++) {
        if (status == 0 || !bn_str_is(arch, archs[i].name))
            continue;
        l->arch = archs[i].name;
        m->relu2 = archs[i].relu2;
        m->sub_norms = archs[i].sub_norms;
        m->interleaved = archs[i].interleaved;
        return 0;
    }
    return fail(l, "key", "general.architecture", "bitnet-b1.58, bitnet-25, bitnet or llama expected");
}

/* Angles per position; 1 / base^(2j/n), divided by what the file asks for. */
static int load_rope(const struct loader *l, struct reference_model *m)
{
    double base = 10000, factor = 1;
    char key[128];
    struct bn_str type = BN_STR("none");
    const struct bn_tensor *slow = bn_gguf_tensor(l->gguf, "rope_freqs.weight");

    snprintf(key, sizeof key, "%s.rope.scaling.type", l->arch);
    if (bn_gguf_get_str(l->gguf, key, &type, l->err) < 0 || get_positive(l, "rope.freq_base", &base) != 0)
        return -1;
    if (bn_str_is(type, "linear") && get_positive(l, "rope.scaling.factor", &factor) != 0)
        return -1;
    if (!bn_str_is(type, "linear") && !bn_str_is(type, "none"))
        return fail(l, "key", key, "none or linear expected");
    if (slow && (slow->type != BN_TYPE_F32 || slow->n_dims != 1 || slow->ne[0] != m->n_rot / 2))
        return fail(l, "tensor", "rope_freqs.weight", "an F32 value for each pair of dimensions expected");
    m->rope_rate = bn_arena_array(l->arena, m->n_rot / 2, sizeof *m->rope_rate);
    for (uint32_t j = 0; j < m->n_rot / 2; j++) {
        m->rope_rate[j] = pow(base, -2.0 * j / m->n_rot) / factor;
        if (slow)
            m->rope_rate[j] /=
                reference_value(&(struct reference_matrix){slow->data, slow->type, slow->ne[0], 1}, 0, j);
    }
    return 0;
}

static int load_shape(const struct loader *l, struct reference_model *m)
{
    m->eps = 1e-5;
    if (get_u32(l, "block_count", true, &m->n_layer) != 0 ||
        get_u32(l, "embedding_length", true, &m->n_embd) != 0 ||
        get_u32(l, "feed_forward_length", true, &m->n_ff) != 0 ||
        get_u32(l, "attention.head_count", true, &m->n_head) != 0 ||
        get_positive(l, "attention.layer_norm_rms_epsilon", &m->eps) != 0)
        return -1;
    m->n_head_kv = m->n_head;
    m->head_dim = m->n_embd / m->n_head;
    if (get_u32(l, "attention.head_count_kv", false, &m->n_head_kv) != 0 ||
        get_u32(l, "attention.key_length", false, &m->head_dim) != 0)
        return -1;
    uint32_t value_length = m->head_dim;
    m->n_rot = m->head_dim;
    if (get_u32(l, "attention.value_length", false, &value_length) != 0 ||
        get_u32(l, "rope.dimension_count", false, &m->n_rot) != 0)
        return -1;
    if (m->n_embd > MAX_WIDTH || m->n_ff > MAX_WIDTH || (uint64_t)m->n_head * m->head_dim > MAX_WIDTH)
        return fail_key(l, "embedding_length", "widths of at most 16777216 expected");
    if (m->n_layer > l->gguf->n_tensors)
        return fail_key(l, "block_count", "more blocks than the file has tensors");
    if (m->n_head % m->n_head_kv != 0)
        return fail_key(l, "attention.head_count_kv", "a divisor of attention.head_count expected");
    if (m->head_dim == 0 || value_length != m->head_dim)
        return fail_key(l, "attention.value_length", "heads of one width for keys and values expected");
    if (m->n_rot % 2 != 0 || m->n_rot > m->head_dim)
        return fail_key(l, "rope.dimension_count", "an even number up to the head's width expected");
    return load_rope(l, m);
}

/* ---- tensors ---- */

/* A matrix of rows x k (rows 0: any number). */
static int load_matrix(const struct loader *l, const char *name, uint64_t k, uint64_t rows, bool ternary,
                       struct reference_matrix *m)
{
    const struct bn_tensor *t = bn_gguf_tensor(l->gguf, name);

    if (!t)
        return fail(l, "tensor", name, "expected, but the file does not have it");
    bool plain = t->type == BN_TYPE_F32 || t->type == BN_TYPE_F16 || t->type == BN_TYPE_BF16 ||
                 reference_is_block(t->type);
    bool whole = t->type != BN_TYPE_I2_S || t->ne[0] % 128 == 0;
    if (!plain && !(ternary && bn_type_is_ternary(t->type) && whole))
        return bn_err_set(
            l->err, "%s: tensor %s: %sQ8_0, Q6_K, Q4_K, Q4_0, F32, F16 or BF16 expected, found %s",
            l->gguf->path, name, ternary ? "I2_S with rows of whole blocks of 128, TQ1_0, TQ2_0, " : "",
            bn_type_name(t->type));
    if (t->ne[0] != k || (rows > 0 && t->ne[1] != rows) || t->ne[2] * t->ne[3] != 1)
        return bn_err_set(l->err, "%s: tensor %s: %llu x %llu elements expected, found %llu x %llu%s",
                          l->gguf->path, name, (unsigned long long)k,
                          (unsigned long long)(rows ? rows : t->ne[1]), (unsigned long long)t->ne[0],
                          (unsigned long long)t->ne[1], t->n_dims > 2 ? " x ..." : "");
    *m = (struct reference_matrix){.data = t->data, .type = t->type, .k = t->ne[0], .rows = t->ne[1]};
    return 0;
}

/* A vector of n values as doubles; an absent one is an error. */
static int load_vector(const struct loader *l, const char *name, uint64_t n, double **out)
{
    struct reference_matrix m;

    if (load_matrix(l, name, n, 1, false, &m) != 0)
        return -1;
    *out = bn_arena_array(l->arena, (size_t)n, sizeof **out);
    for (uint64_t i = 0; i < n; i++)
        (*out)[i] = reference_value(&m, 0, i);
    return 0;
}

static int load_norm(const struct loader *l, uint32_t block, const char *name, uint64_t n, double **out)
{
    char full[64];

    snprintf(full, sizeof full, "blk.%u.%s.weight", block, name);
    return load_vector(l, full, n, out);
}

static int load_linear(const struct loader *l, uint32_t block, const char *name, uint64_t k, uint64_t rows,
                       struct reference_linear *p)
{
    char full[64];
    double *factor;

    snprintf(full, sizeof full, "blk.%u.%s.weight", block, name);
    if (load_matrix(l, full, k, rows, true, &p->w) != 0)
        return -1;
    p->factor = 1;
    snprintf(full, sizeof full, "blk.%u.%s.scale", block, name);
    if (bn_gguf_tensor(l->gguf, full)) {
        if (load_vector(l, full, 1, &factor) != 0)
            return -1;
        p->factor = *factor;
    }
    snprintf(full, sizeof full, "blk.%u.%s.bias", block, name);
    return bn_gguf_tensor(l->gguf, full) ? load_vector(l, full, rows, &p->bias) : 0;
}

static int load_layer(const struct loader *l, const struct reference_model *m, uint32_t b,
                      struct reference_layer *y)
{
    uint64_t q_width = (uint64_t)m->n_head * m->head_dim, kv_width = (uint64_t)m->n_head_kv * m->head_dim;

    if (load_linear(l, b, "attn_q", m->n_embd, q_width, &y->q) != 0 ||
        load_linear(l, b, "attn_k", m->n_embd, kv_width, &y->k) != 0 ||
        load_linear(l, b, "attn_v", m->n_embd, kv_width, &y->v) != 0 ||
        load_linear(l, b, "attn_output", q_width, m->n_embd, &y->o) != 0 ||
        load_linear(l, b, "ffn_gate", m->n_embd, m->n_ff, &y->gate) != 0 ||
        load_linear(l, b, "ffn_up", m->n_embd, m->n_ff, &y->up) != 0 ||
        load_linear(l, b, "ffn_down", m->n_ff, m->n_embd, &y->down) != 0 ||
        load_norm(l, b, "attn_norm", m->n_embd, &y->attn_norm) != 0 ||
        load_norm(l, b, "ffn_norm", m->n_embd, &y->ffn_norm) != 0)
        return -1;
    if (!m->sub_norms)
        return 0;
    return load_norm(l, b, "attn_sub_norm", q_width, &y->attn_sub_norm) != 0 ||
                   load_norm(l, b, "ffn_sub_norm", m->n_ff, &y->ffn_sub_norm) != 0
               ? -1
               : 0;
}

int bn_reference_load(struct reference_model *m, const struct bn_gguf *gguf, struct bn_arena *arena,
                      struct bn_err *err)
{
    struct loader l = {.gguf = gguf, .arena = arena, .err = err};

    if (load_arch(&l, m) != 0 || load_shape(&l, m) != 0)
        return -1;
    if (load_matrix(&l, "token_embd.weight", m->n_embd, 0, false, &m->embedding) != 0 ||
        load_vector(&l, "output_norm.weight", m->n_embd, &m->output_norm) != 0)
        return -1;
    if (m->embedding.rows > UINT32_MAX)
        return fail(&l, "tensor", "token_embd.weight", "fewer than 2^32 rows expected");
    m->n_vocab = (uint32_t)m->embedding.rows;
    m->output = m->embedding; /* tied, unless the file has an output matrix of its own */
    if (bn_gguf_tensor(gguf, "output.weight") &&
        load_matrix(&l, "output.weight", m->n_embd, m->n_vocab, true, &m->output) != 0)
        return -1;
    m->layers = bn_arena_array(arena, m->n_layer, sizeof *m->layers);
    for (uint32_t b = 0; b < m->n_layer; b++)
        if (load_layer(&l, m, b, &m->layers[b]) != 0)
            return -1;
    return 0;
}

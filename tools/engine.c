/* SPDX-License-Identifier: MIT
 * Opening the engine: names to kernels, threads, model, session. */
#include "tools/engine.h"

#include <string.h>

#include "core/builtin.h"
#include "core/prepare.h"
#include "core/scope.h"
#include "kernels/cpu.h"

const struct bn_choice bn_engine_kernels[] = {
    {"i2s", "ternary weights in tiles, one stream of memory (auto)"},
    {"tl1", "ternary weights in pairs, products by look-up"},
    {"tl2", "the same in triples, 1.67 bits a weight"},
    {"qk256", "ternary weights as they lie in the file: no copy"},
    {"mock", "products that compute nothing: to prove that profiles show them"},
    {0},
};

const struct bn_choice bn_engine_kv[] = {
    {"f16", "keys and values as halves"},
    {"int8", "as bytes, with a scale for each head and position: half the memory, and half to read"},
    {0},
};

const struct bn_choice bn_engine_lm_heads[] = {
    [BN_LM_HEAD_F16] = {"f16", "the file's own matrix, whatever its float type"},
    [BN_LM_HEAD_SCREENED] = {"screened", "the same logits for the best few, found in a low-bit copy (auto)"},
    [BN_LM_HEAD_Q8_0] = {"q8_0", "the matrix made smaller at load, 8.5 bits a weight: not the same logits"},
    [BN_LM_HEAD_Q6_K] = {"q6_k", "6.6 bits a weight"},
    [BN_LM_HEAD_Q4_0] = {"q4_0", "4.5 bits a weight"},
    [BN_LM_HEAD_MODES] = {0},
};

/* ---- names ---- */

bool bn_choice_has(const struct bn_choice *table, const char *name)
{
    for (; table->name; table++) {
        if (strcmp(table->name, name) == 0)
            return true;
    }
    return strcmp(name, "auto") == 0;
}

const char *bn_choice_names(const struct bn_choice *table, char *buf, size_t size)
{
    size_t used = (size_t)snprintf(buf, size, "auto");

    for (; table->name && used < size; table++)
        used += (size_t)snprintf(buf + used, size - used, ", %s", table->name);
    return buf;
}

void bn_choice_print(FILE *f, const struct bn_choice *table)
{
    int width = 0;

    for (const struct bn_choice *c = table; c->name; c++)
        width = (int)strlen(c->name) > width ? (int)strlen(c->name) : width;
    for (; table->name; table++)
        fprintf(f, "%-*s  %s\n", width, table->name, table->what);
}

void bn_engine_print_cpu(FILE *f)
{
    char names[64];

    fprintf(f, "%s\n", bn_cpu_names(bn_cpu_detect(), names, sizeof names));
}

/* ---- the steps ---- */

int bn_engine_choose(struct bn_engine *e, const struct bn_engine_options *o, struct bn_err *err)
{
    unsigned detected = bn_cpu_detect();
    char bad[96];

    e->options = *o;
    e->cpu_flags = detected;
    bn_cpu_names(detected, e->cpu_detected, sizeof e->cpu_detected);
    if (o->cpu && bn_cpu_parse(o->cpu, detected, &e->cpu_flags, bad, sizeof bad) != 0)
        return bn_err_set(err, "--cpu: this machine has no '%s' (it has %s)", bad, e->cpu_detected);
    if (!bn_choice_has(bn_engine_kernels, o->kernel))
        return bn_err_set(err, "--kernel: '%s' is none of %s", o->kernel,
                          bn_choice_names(bn_engine_kernels, bad, sizeof bad));
    if (bn_kv_type_find(o->kv ? o->kv : "f16", &e->kv) != 0)
        return bn_err_set(err, "--kv: '%s' is neither f16 nor int8", o->kv);
    if (o->lm_head && !bn_choice_has(bn_engine_lm_heads, o->lm_head))
        return bn_err_set(err, "--lm-head: '%s' is none of %s", o->lm_head,
                          bn_choice_names(bn_engine_lm_heads, bad, sizeof bad));
    bn_cpu_names(e->cpu_flags, e->cpu_used, sizeof e->cpu_used);
    bn_kernels_init(&e->kernels, e->cpu_flags);
    if (strcmp(o->kernel, "mock") == 0)
        bn_kernels_init_mock(&e->kernels);
    return 0;
}

int bn_engine_threads(struct bn_engine *e, struct bn_err *err)
{
    return bn_pool_open(&e->pool, e->options.threads ? e->options.threads : bn_pool_cores(), err);
}

int bn_engine_lm_head(struct bn_engine *e, const char *name, struct bn_lm_head *head, const char **used,
                      struct bn_err *err)
{
    int mode = (int)bn_lm_head_choose(&e->model.lm_head, &e->kernels, e->options.n_top);

    for (int i = 0; name && i < BN_LM_HEAD_MODES; i++)
        mode = strcmp(name, bn_engine_lm_heads[i].name) == 0 ? i : mode;
    /* the file's own matrix goes by its own type */
    *used =
        mode == BN_LM_HEAD_F16 ? bn_model_format_name(e->model.lm_head.type) : bn_engine_lm_heads[mode].name;
    return bn_lm_head_open(head, &e->model, &e->kernels, e->pool, (enum bn_lm_head_mode)mode, err);
}

/* The kernels that are made for ternary weights, and the layout that each wants. */
static const struct ternary_kernel {
    const char *name;
    enum bn_layout layout;
} ternary_kernels[] = {
    {"i2s", BN_LAYOUT_I2S}, {"tl1", BN_LAYOUT_TL1}, {"tl2", BN_LAYOUT_TL2}, {"qk256", BN_LAYOUT_QK256}};

/* NULL: auto or another. */
static const struct ternary_kernel *ternary_kernel(const char *name)
{
    for (size_t i = 0; i < BN_COUNT(ternary_kernels); i++) {
        if (strcmp(ternary_kernels[i].name, name) == 0)
            return &ternary_kernels[i];
    }
    return NULL;
}

int bn_engine_load(struct bn_engine *e, struct bn_err *err)
{
    BN_SCOPE(MODEL_LOAD);
    const struct bn_engine_options *o = &e->options;
    uint64_t start_ns = bn_now_ns();
    struct bn_str builtin = bn_builtin_model();
    int status = o->model ? bn_model_load(&e->model, o->model, err)
                          : bn_model_load_memory(&e->model, builtin.p, builtin.n, BN_BUILTIN_LABEL, err);

    const struct ternary_kernel *ternary = ternary_kernel(o->kernel);

    if (status != 0)
        return -1;
    if (!bn_model_is_ternary(&e->model) && ternary)
        return bn_err_set(err, "%s: --kernel %s: the model has %s weights, ternary ones expected",
                          e->model.gguf.path, o->kernel, e->model.format);
    if (o->n_ctx > e->model.n_ctx)
        return bn_err_set(err, "%s: --ctx %u: the model's context is %u", e->model.gguf.path, o->n_ctx,
                          e->model.n_ctx);
    if (bn_model_prepare(&e->model, &e->kernels, e->pool, ternary ? ternary->layout : BN_LAYOUT_I2S, err) !=
        0)
        return -1;
    if (bn_engine_lm_head(e, o->lm_head, &e->lm_head, &e->lm_head_name, err) != 0)
        return -1;
    bn_scope_count(e->model.gguf.size_bytes, 0);
    e->load_ms = (double)(bn_now_ns() - start_ns) / 1e6;
    e->kernel = strcmp(o->kernel, "mock") == 0    ? "mock"
                : !bn_model_is_ternary(&e->model) ? e->model.format
                : ternary                         ? ternary->name
                                                  : "i2s";
    return 0;
}

int bn_engine_session(struct bn_engine *e, struct bn_err *err)
{
    struct bn_session_options session = {.n_ctx = e->options.n_ctx, .kv = e->kv};

    if (!session.n_ctx)
        session.n_ctx = e->model.n_ctx < BN_ENGINE_DEFAULT_CTX ? e->model.n_ctx : BN_ENGINE_DEFAULT_CTX;
    if (bn_session_open(&e->session, &e->model, &e->kernels, e->pool, &session, err) != 0)
        return -1;
    e->session.lm_head = &e->lm_head;
    return 0;
}

void bn_engine_close(struct bn_engine *e)
{
    bn_session_close(&e->session);
    bn_lm_head_close(&e->lm_head);
    bn_model_close(&e->model);
    bn_pool_close(e->pool);
    memset(e, 0, sizeof *e);
}

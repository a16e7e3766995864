/* SPDX-License-Identifier: MIT
 * The numbers of a run in their three forms. What was not measured is null, or "unknown". */
#include "tools/run_report.h"

#include <cjson/cJSON.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "core/block.h"
#include "core/builtin.h"
#include "core/lm_head.h"
#include "core/scope.h"
#include "core/utf8.h"
#include "tools/stage_tree.h"

/* ---- derived numbers; negative = unknown ---- */

static double per_second(uint64_t count, uint64_t ns)
{
    return count && ns ? (double)count * 1e9 / (double)ns : -1.0;
}

static uint64_t peak_rss_bytes(void)
{
    struct rusage usage;

    return getrusage(RUSAGE_SELF, &usage) == 0 ? (uint64_t)usage.ru_maxrss * 1024 : 0;
}

static double token_ms(struct bn_generator *g, double q)
{
    return g->n_token_times ? (double)bn_generator_quantile(g, q) / 1e6 : -1.0;
}

/* The symbol that does the products of the layers, as the table has it. */
static const char *product_symbol(const struct bn_run_report *r)
{
    const struct bn_weight *w = &r->model->layers[0].gate;

    switch (w->layout) {
    case BN_LAYOUT_I2S:
        return r->kernels->symbol[BN_KERNEL_i2s_gemv];
    case BN_LAYOUT_QK256:
        return r->kernels->symbol[BN_KERNEL_qk256_gemv];
    case BN_LAYOUT_I2S_BLOCK:
        return r->kernels->symbol[BN_KERNEL_i2s_block_gemv];
    case BN_LAYOUT_TL1:
        return r->kernels->symbol[BN_KERNEL_tl1_gemv];
    case BN_LAYOUT_TL2:
        return r->kernels->symbol[BN_KERNEL_tl2_gemv];
    case BN_LAYOUT_BLOCKS:
        return r->kernels->symbol[bn_block_of(w->type)->gemv];
    default:
        return r->kernels->symbol[w->type == BN_TYPE_F32   ? BN_KERNEL_f32_gemv
                                  : w->type == BN_TYPE_F16 ? BN_KERNEL_f16_gemv
                                                           : BN_KERNEL_bf16_gemv];
    }
}

/* ---- the speed line ---- */

static void print_number(FILE *f, const char *before, double value, const char *unit)
{
    if (value < 0.0)
        fprintf(f, "%sunknown", before);
    else
        fprintf(f, "%s%.*f %s", before, value < 100.0 ? 2 : 1, value, unit);
}

void bn_run_report_print(FILE *f, const struct bn_run_report *r)
{
    struct bn_generator *g = r->generator;
    char hash[17];

    bn_token_hash(r->tokens->p, r->tokens->n, hash);
    print_number(f, "load ", r->load_ms, "ms");
    print_number(f, ", tokenizer ", r->tokenizer_ms, "ms");
    fprintf(f, "; prompt %llu tokens", (unsigned long long)g->n_prompt_tokens);
    print_number(f, ", ", per_second(g->n_prompt_tokens, g->prompt_ns), "tok/s");
    print_number(f, "; first token ", g->first_token_ns ? (double)g->first_token_ns / 1e6 : -1.0, "ms");
    fprintf(f, "; decode %llu tokens", (unsigned long long)g->n_decoded);
    print_number(f, ", ", per_second(g->n_decoded, g->decode_ns), "tok/s");
    print_number(f, ", p50 ", token_ms(g, 0.50), "ms");
    print_number(f, ", p95 ", token_ms(g, 0.95), "ms");
    fprintf(f, "; peak RSS %.1f MiB\n", (double)peak_rss_bytes() / 1048576.0);
    fprintf(f, "kernel %s (%s), lm_head %s", r->kernel, product_symbol(r), r->lm_head);
    print_number(f, " (", bn_lm_head_bytes(r->session->lm_head) / 1e6, "MB)");
    fprintf(f, ", cpu %s, %u thread%s, tokens %s\n", r->cpu_used, r->threads, r->threads == 1 ? "" : "s",
            hash);
}

/* ---- JSON ---- */

static void add_number(cJSON *o, const char *key, double value)
{
    if (value < 0.0)
        cJSON_AddNullToObject(o, key);
    else
        cJSON_AddNumberToObject(o, key, value);
}

/* JSON is UTF-8: bytes that are not become U+FFFD, and so does NUL, which cJSON's strings cannot hold. */
static void add_text(cJSON *o, const char *key, struct bn_str text)
{
    struct bn_buf buf = {0};

    for (size_t i = 0, length; i < text.n; i += length ? length : 1) {
        length = bn_utf8_length(text.p + i, text.n - i);
        if (length == 0 || text.p[i] == '\0')
            bn_buf_puts(&buf, "\xef\xbf\xbd");
        else
            bn_buf_put(&buf, text.p + i, length);
    }
    cJSON_AddStringToObject(o, key, buf.p ? buf.p : "");
    bn_buf_free(&buf);
}

/* Rows as means over the tokens that were screened. */
static void add_lm_head(cJSON *o, const struct bn_run_report *r)
{
    const struct bn_lm_head_stats *s = &r->session->lm_head->stats;
    cJSON *lm_head = cJSON_AddObjectToObject(o, "lm_head");
    double n = (double)s->n_tokens;

    cJSON_AddStringToObject(lm_head, "mode", r->lm_head);
    cJSON_AddNumberToObject(lm_head, "bytes_per_token", bn_lm_head_bytes(r->session->lm_head));
    cJSON_AddNumberToObject(lm_head, "tokens_screened", n);
    cJSON_AddNumberToObject(lm_head, "tokens_full", (double)s->n_full);
    add_number(lm_head, "rows_mid_mean", n > 0 ? (double)s->rows_mid / n : -1.0);
    add_number(lm_head, "rows_low_mean", n > 0 ? (double)s->rows_low / n : -1.0);
    add_number(lm_head, "rows_exact_mean", n > 0 ? (double)s->rows_exact / n : -1.0);
}

static void add_numbers(cJSON *o, const struct bn_run_report *r)
{
    struct bn_generator *g = r->generator;
    char hash[17];

    bn_token_hash(r->tokens->p, r->tokens->n, hash);
    cJSON_AddNumberToObject(o, "prompt_tokens", (double)g->n_prompt_tokens);
    cJSON_AddNumberToObject(o, "generated_tokens", (double)g->n_generated_tokens);
    add_number(o, "load_ms", r->load_ms);
    add_number(o, "tokenizer_ms", r->tokenizer_ms);
    add_number(o, "prompt_tokens_per_second", per_second(g->n_prompt_tokens, g->prompt_ns));
    add_number(o, "first_token_ms", g->first_token_ns ? (double)g->first_token_ns / 1e6 : -1.0);
    add_number(o, "decode_tokens_per_second", per_second(g->n_decoded, g->decode_ns));
    cJSON *times = cJSON_AddObjectToObject(o, "token_ms");
    add_number(times, "p50", token_ms(g, 0.50));
    add_number(times, "p95", token_ms(g, 0.95));
    add_number(times, "p99", token_ms(g, 0.99));
    cJSON_AddNumberToObject(o, "peak_rss_bytes", (double)peak_rss_bytes());
    cJSON_AddStringToObject(o, "token_hash", hash);
    cJSON_AddStringToObject(o, "kernel", r->kernel);
    cJSON_AddStringToObject(o, "kv", bn_kv_type_name(r->session->kv.type));
    add_lm_head(o, r);
    cJSON_AddStringToObject(o, "cpu", r->cpu_used);
    cJSON_AddNumberToObject(o, "threads", r->threads);
}

void bn_run_report_json(FILE *f, const struct bn_run_report *r, bool stages)
{
    cJSON *o = cJSON_CreateObject();

    add_text(o, "text", r->text);
    cJSON *tokens = cJSON_AddArrayToObject(o, "tokens");
    for (size_t i = 0; i < r->tokens->n; i++)
        cJSON_AddItemToArray(tokens, cJSON_CreateNumber(r->tokens->p[i]));
    add_numbers(o, r);
    if (stages) {
        struct bn_stage_row *rows = bn_xcalloc(BN_SCOPE_MAX_NODES, sizeof *rows);
        cJSON_AddItemToObject(o, "stages", bn_stage_tree_json(rows, bn_stage_rows_live(rows)));
        free(rows);
    }
    char *text = cJSON_PrintUnformatted(o);
    fprintf(f, "%s\n", text);
    cJSON_free(text);
    cJSON_Delete(o);
}

/* ---- run info ---- */

static void add_model(cJSON *o, const struct bn_run_report *r)
{
    const struct bn_model *m = r->model;
    cJSON *model = cJSON_AddObjectToObject(o, "model");
    char *absolute = r->path ? realpath(r->path, NULL) : NULL;

    add_text(model, "path", bn_str_from(absolute ? absolute : r->path ? r->path : BN_BUILTIN_LABEL));
    free(absolute);
    add_text(model, "name", bn_str_from(m->name));
    cJSON_AddStringToObject(model, "arch", m->arch);
    cJSON_AddStringToObject(model, "format", m->format);
    cJSON_AddNumberToObject(model, "file_bytes", (double)m->gguf.size_bytes);
    cJSON_AddNumberToObject(model, "weight_bytes", (double)m->weight_bytes);
    cJSON_AddNumberToObject(model, "bytes_per_token",
                            (double)(m->bytes_per_token - m->lm_head.size_bytes) +
                                bn_lm_head_bytes(r->session->lm_head));
    cJSON_AddNumberToObject(model, "n_layer", m->n_layer);
    cJSON_AddNumberToObject(model, "n_embd", m->n_embd);
    cJSON_AddNumberToObject(model, "n_ff", m->n_ff);
    cJSON_AddNumberToObject(model, "n_head", m->n_head);
    cJSON_AddNumberToObject(model, "n_head_kv", m->n_head_kv);
    cJSON_AddNumberToObject(model, "n_vocab", m->n_vocab);
    cJSON_AddNumberToObject(model, "n_ctx", m->n_ctx);
}

static void add_config(cJSON *o, const struct bn_run_report *r)
{
    cJSON *config = cJSON_AddObjectToObject(o, "config");

    cJSON_AddNumberToObject(config, "threads", r->threads);
    cJSON_AddNumberToObject(config, "rounds", r->rounds);
    cJSON_AddNumberToObject(config, "max_tokens", r->max_tokens);
    cJSON_AddBoolToObject(config, "deterministic", r->deterministic);
    cJSON_AddStringToObject(config, "kernel", r->kernel);
    cJSON_AddStringToObject(config, "kv", bn_kv_type_name(r->session->kv.type));
    cJSON_AddStringToObject(config, "lm_head", r->lm_head);
    cJSON_AddStringToObject(config, "cpu_used", r->cpu_used);
    cJSON_AddStringToObject(config, "cpu_detected", r->cpu_detected);
}

/* Slots can share a symbol's name only if they share the function: their calls then add up under one key. */
static void add_kernels(cJSON *o, const struct bn_run_report *r)
{
    cJSON *kernels = cJSON_AddObjectToObject(o, "kernels");

    for (size_t slot = 0; slot < BN_KERNEL_COUNT; slot++) {
        if (r->session->kernel_calls[slot])
            cJSON_AddNumberToObject(kernels, r->kernels->symbol[slot],
                                    (double)r->session->kernel_calls[slot]);
    }
}

static void add_faults(cJSON *o, const struct bn_generator *g)
{
    cJSON *faults = cJSON_AddObjectToObject(o, "faults");
    const struct {
        const char *phase;
        const struct bn_faults *n;
    } phases[] = {{"load", &g->load_faults}, {"prefill", &g->prompt_faults}, {"decode", &g->decode_faults}};

    for (size_t i = 0; i < BN_COUNT(phases); i++) {
        cJSON *phase = cJSON_AddObjectToObject(faults, phases[i].phase);
        cJSON_AddNumberToObject(phase, "minor", (double)phases[i].n->minor);
        cJSON_AddNumberToObject(phase, "major", (double)phases[i].n->major);
    }
}

void bn_run_report_publish(const struct bn_run_report *r, bool final)
{
    cJSON *o = cJSON_CreateObject();

    add_model(o, r);
    add_config(o, r);
    if (final) {
        add_kernels(o, r);
        add_faults(o, r->generator);
        if (r->generator->decode_allocations != UINT64_MAX)
            cJSON_AddNumberToObject(o, "decode_allocations", (double)r->generator->decode_allocations);
        add_numbers(cJSON_AddObjectToObject(o, "result"), r);
    }
    char *text = cJSON_PrintUnformatted(o);
    /* Too long cannot be: every string in it is short. */
    bn_scope_publish(text, strlen(text));
    cJSON_free(text);
    cJSON_Delete(o);
}

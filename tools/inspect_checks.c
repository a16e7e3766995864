/* SPDX-License-Identifier: MIT
 * Sanity checks of a model file. */
#include "tools/inspect_checks.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/model.h"
#include "core/tokenizer.h"
#include "tools/inspect_value.h"

static void found(struct bn_inspection *r, char *line)
{
    bn_grow(&r->findings, &r->cap_findings, r->n_findings + 1, sizeof *r->findings);
    r->findings[r->n_findings++] = line;
}

static char *name_of(const struct bn_tensor *t)
{
    return bn_inspect_str(t->name, 80);
}

/* Codes of 3 in one byte: both bits of a pair set. */
static uint64_t count_code3(const uint8_t *p, uint64_t n)
{
    uint64_t count = 0, word;

    for (; n >= 8; n -= 8, p += 8) {
        memcpy(&word, p, 8);
        count += (unsigned)__builtin_popcountll(word & (word >> 1) & 0x5555555555555555u);
    }
    for (; n > 0; n--, p++)
        count += (unsigned)__builtin_popcount((unsigned)(*p & (*p >> 1) & 0x55));
    return count;
}

static double half_value(uint16_t h)
{
    int exponent = h >> 10 & 31, fraction = h & 1023;
    double v = exponent == 31 ? (fraction ? NAN : INFINITY)
               : exponent     ? ldexp(1024 + fraction, exponent - 25)
                              : ldexp(fraction, -24);

    return h & 0x8000 ? -v : v;
}

/* The weights' codes and, for blocks of them, scales. Where a code of 3 is a weight as good as any, none is
 * counted. */
static void check_blocks(struct bn_inspection *r, const struct bn_tensor *t, uint64_t *n3)
{
    bool bitnet32 = t->type == BN_TYPE_BITNET32, tq1 = t->type == BN_TYPE_TQ1_0;
    uint64_t step = bn_type_row_bytes(t->type, bitnet32 ? 32 : 256), bad = 0;
    uint16_t scale;

    for (const uint8_t *p = t->data; p < t->data + t->size_bytes; p += step) {
        memcpy(&scale, p + step - sizeof scale, sizeof scale);
        bad += !isfinite(half_value(scale));
        *n3 += bitnet32 || tq1 ? 0 : count_code3(p, step - sizeof scale);
    }
    if (bad) {
        char *name = name_of(t);
        found(r, bn_xasprintf("%s: %" PRIu64 " scales of blocks are not finite", name, bad));
        free(name);
    }
}

static void check_scale(struct bn_inspection *r, const struct bn_tensor *t)
{
    char *name = name_of(t);
    float scale;

    memcpy(&scale, t->data + t->size_bytes - 32, sizeof scale);
    if (!(scale > 0) || !isfinite(scale))
        found(r, bn_xasprintf("%s: scale %g, a finite number above 0 expected", name, (double)scale));
    if (t->ne[0] % 128)
        found(r, bn_xasprintf("%s: rows of %" PRIu64 ", a multiple of 128 expected", name, t->ne[0]));
    free(name);
}

static void check_ternary(struct bn_inspection *r, const struct bn_tensor *t)
{
    uint64_t n3 = 0;

    if (t->type == BN_TYPE_I2_S)
        n3 = count_code3(t->data, t->size_bytes - 32);
    else if (t->type == BN_TYPE_QK256)
        n3 = count_code3(t->data, t->size_bytes);
    else
        check_blocks(r, t, &n3);
    r->n_ternary++;
    r->n_codes += t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
    r->n_code3 += n3;
    if (n3) {
        char *name = name_of(t);
        found(r, bn_xasprintf("%s: %" PRIu64 " codes of 3: not written by a converter, or another layout",
                              name, n3));
        free(name);
    }
    if (t->type == BN_TYPE_I2_S)
        check_scale(r, t);
}

static double value_at(const struct bn_tensor *t, uint64_t i)
{
    uint32_t word = 0;
    uint16_t half;
    float f;

    if (t->type == BN_TYPE_F32) {
        memcpy(&f, t->data + 4 * i, 4);
        return (double)f;
    }
    memcpy(&half, t->data + 2 * i, 2);
    if (t->type == BN_TYPE_F16)
        return half_value(half);
    word = (uint32_t)half << 16;
    memcpy(&f, &word, 4);
    return (double)f;
}

static void check_norm(struct bn_inspection *r, const struct bn_tensor *t)
{
    uint64_t n = t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
    double sum = 0;

    if (n == 0 || (t->type != BN_TYPE_F32 && t->type != BN_TYPE_F16 && t->type != BN_TYPE_BF16))
        return;
    for (uint64_t i = 0; i < n; i++)
        sum += value_at(t, i) * value_at(t, i);
    bn_grow(&r->norms, &r->cap_norms, r->n_norms + 1, sizeof *r->norms);
    struct bn_norm_rms *norm = &r->norms[r->n_norms++];
    *norm = (struct bn_norm_rms){name_of(t), sqrt(sum / (double)n)};
    if (!isfinite(norm->rms) || norm->rms == 0)
        found(r, bn_xasprintf("%s: root mean square %g, a finite number above 0 expected", norm->name,
                              norm->rms));
}

static bool name_contains(const struct bn_tensor *t, const char *word)
{
    return memmem(t->name.p, t->name.n, word, strlen(word)) != NULL;
}

static void check_tokenizer(struct bn_inspection *r, const struct bn_gguf *g)
{
    struct bn_tokenizer *tok = NULL;
    struct bn_err err;
    struct bn_str kind = BN_STR("?");

    if (!bn_gguf_find(g, "tokenizer.ggml.tokens"))
        return;
    if (bn_tokenizer_load(&tok, g, &err) != 0) {
        found(r, bn_xstrdup(err.msg));
        return;
    }
    bn_gguf_get_str(g, "tokenizer.ggml.model", &kind, &err);
    char *name = bn_inspect_str(kind, 40);
    const char *warning = bn_tokenizer_warning(tok);
    r->tokenizer = bn_xasprintf("%s, %" PRIu32 " tokens, BOS %" PRId32 ", EOS %" PRId32 "%s%s", name,
                                bn_tokenizer_size(tok), bn_tokenizer_bos(tok), bn_tokenizer_eos(tok),
                                warning ? "; " : "", warning ? warning : "");
    free(name);
    bn_tokenizer_free(tok);
}

/* Whether the engine takes the model, by letting it try. */
static void check_engine(struct bn_inspection *r, const struct bn_gguf *g, struct bn_str file)
{
    struct bn_model model = {0};
    struct bn_err err;

    if (g->n_tensors == 0)
        return;
    if (bn_model_load_memory(&model, file.p, file.n, g->path, &err) != 0) {
        found(r, bn_xasprintf("the engine refuses it: %s", err.msg));
        return;
    }
    r->engine =
        bn_xasprintf("%s, %s weights, %" PRIu32 " layers of %" PRIu32 ", %" PRIu64 " bytes read per token",
                     model.arch, model.format, model.n_layer, model.n_embd, model.bytes_per_token);
    bn_model_close(&model);
}

void bn_inspect(struct bn_inspection *r, const struct bn_gguf *g, struct bn_str file)
{
    *r = (struct bn_inspection){0};
    for (uint64_t i = 0; i < g->n_tensors; i++) {
        const struct bn_tensor *t = &g->tensors[i];
        if (bn_type_is_ternary(t->type))
            check_ternary(r, t);
        else if (name_contains(t, "norm"))
            check_norm(r, t);
    }
    check_tokenizer(r, g);
    check_engine(r, g, file);
}

void bn_inspection_free(struct bn_inspection *r)
{
    for (size_t i = 0; i < r->n_norms; i++)
        free(r->norms[i].name);
    for (size_t i = 0; i < r->n_findings; i++)
        free(r->findings[i]);
    free(r->tokenizer);
    free(r->engine);
    free(r->norms);
    free(r->findings);
    *r = (struct bn_inspection){0};
}

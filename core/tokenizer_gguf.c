/* SPDX-License-Identifier: MIT
 * A tokenizer from a GGUF's metadata. */
#include "core/tokenizer_parts.h"

#include <stdlib.h>
#include <string.h>

#define LLAMA3_TOKENS 128256

struct loader {
    struct bn_tokenizer *tok;
    const struct bn_gguf *gguf;
    struct bn_err *err;
};

/* "PATH: key KEY: MESSAGE". Always -1. */
static int BN_PRINTF(3, 4) fail(const struct loader *l, const char *key, const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return bn_err_set(l->err, "%s: key %s: %s", l->gguf->path, key, text);
}

/* An array of `kind` (i32 stands for u32 too) with `count` elements, or any number if count is 0.
 * 1, 0 when it is absent, -1 with a message. */
static int find_array(const struct loader *l, const char *key, enum bn_gguf_kind kind, const char *noun,
                      uint64_t count, const struct bn_gguf_kv **out)
{
    const struct bn_gguf_kv *kv = bn_gguf_find(l->gguf, key);

    *out = kv;
    if (!kv)
        return 0;
    bool same = kv->kind == BN_GGUF_ARRAY &&
                (kv->element_kind == kind || (kind == BN_GGUF_I32 && kv->element_kind == BN_GGUF_U32));
    if (!same)
        return fail(l, key, "an array of %s expected", noun);
    if (count != 0 && kv->count != count)
        return fail(l, key, "%llu elements expected, one for each token, found %llu",
                    (unsigned long long)count, (unsigned long long)kv->count);
    return 1;
}

/* ---- tokens ---- */

/* Without tokenizer.ggml.token_type: BOS and EOS are control tokens, <0xXX> in a SentencePiece vocabulary are
 * bytes. */
static enum bn_token_kind guess_kind(const struct bn_tokenizer *tok, uint32_t id, struct bn_str token)
{
    if ((int32_t)id == tok->bos || (int32_t)id == tok->eos)
        return BN_TOKEN_CONTROL;
    return tok->is_spm && bn_spm_byte(token) >= 0 ? BN_TOKEN_BYTE : BN_TOKEN_NORMAL;
}

static int token_kind(const struct loader *l, const struct bn_gguf_kv *kinds, uint32_t id,
                      struct bn_str token)
{
    int32_t kind;

    if (!kinds)
        return (int)guess_kind(l->tok, id, token);
    memcpy(&kind, kinds->value + (size_t)id * sizeof kind, sizeof kind);
    if (kind == 0) /* "undefined" */
        return BN_TOKEN_NORMAL;
    if (kind < BN_TOKEN_NORMAL || kind > BN_TOKEN_BYTE)
        return fail(l, "tokenizer.ggml.token_type", "element %u: a kind from 0 to 6 expected, found %d", id,
                    kind);
    return kind;
}

static int find_tokens(const struct loader *l, const struct bn_gguf_kv **tokens)
{
    const char *key = "tokenizer.ggml.tokens";
    int found = find_array(l, key, BN_GGUF_STRING, "strings", 0, tokens);

    if (found <= 0)
        return found < 0 ? -1
                         : bn_err_set(l->err, "%s: key %s is missing: the file has no vocabulary",
                                      l->gguf->path, key);
    if ((*tokens)->count == 0 || (*tokens)->count > BN_VOCAB_MAX)
        return fail(l, key, "1 to %u tokens expected, found %llu", BN_VOCAB_MAX,
                    (unsigned long long)(*tokens)->count);
    return 0;
}

static int load_tokens(const struct loader *l, const struct bn_gguf_kv *tokens)
{
    struct bn_tokenizer *tok = l->tok;
    const struct bn_gguf_kv *kinds;
    size_t total = 0;

    if (find_array(l, "tokenizer.ggml.token_type", BN_GGUF_I32, "32-bit integers", tokens->count, &kinds) < 0)
        return -1;
    const uint8_t *cursor = tokens->value;
    for (uint64_t i = 0; i < tokens->count; i++)
        total += bn_gguf_next_str(&cursor).n;
    if (total >= UINT32_MAX)
        return fail(l, "tokenizer.ggml.tokens",
                    "the tokens take %zu bytes together, less than 4 GiB expected", total);
    bn_vocab_init(&tok->vocab, &tok->arena, (uint32_t)tokens->count, total);
    cursor = tokens->value;
    for (uint32_t id = 0; id < tokens->count; id++) {
        struct bn_str token = bn_gguf_next_str(&cursor);
        int kind = token_kind(l, kinds, id, token);
        if (kind < 0)
            return -1;
        enum bn_spelling spelling = tok->is_spm ? BN_SPELLING_SPACES : BN_SPELLING_BYTE_LEVEL;
        bn_vocab_append(&tok->vocab, token,
                        kind == BN_TOKEN_USER && !tok->is_spm ? BN_SPELLING_LITERAL : spelling,
                        (enum bn_token_kind)kind);
    }
    bn_tokenizer_index(tok);
    return 0;
}

/* ---- BOS and EOS ---- */

/* An id of one of n_tokens; absent or 2^32 - 1 ("none") leaves *id as it is. */
static int load_id(const struct loader *l, const char *key, uint64_t n_tokens, int32_t *id)
{
    uint32_t value = UINT32_MAX;

    if (bn_gguf_get_u32(l->gguf, key, &value, l->err) < 0)
        return -1;
    if (value == UINT32_MAX)
        return 0;
    if (value >= n_tokens)
        return fail(l, key, "the id of a token expected, found %u", value);
    *id = (int32_t)value;
    return 0;
}

/* Where the file does not name its BOS and EOS, or does not say whether to put BOS first. */
static int load_bos_defaults(const struct loader *l, bool add_bos)
{
    struct bn_tokenizer *tok = l->tok;

    if (tok->bos < 0)
        tok->bos = bn_tokenizer_usual_bos(tok);
    if (tok->eos < 0)
        tok->eos = bn_tokenizer_usual_eos(tok);
    tok->add_bos = add_bos;
    if (bn_gguf_get_bool(l->gguf, "tokenizer.ggml.add_bos_token", &tok->add_bos, l->err) < 0)
        return -1;
    tok->add_bos = tok->add_bos && tok->bos >= 0;
    return 0;
}

/* ---- byte-level BPE ---- */

static int load_pre(const struct loader *l)
{
    struct bn_tokenizer *tok = l->tok;
    struct bn_str name = {0};
    int found = bn_gguf_get_str(l->gguf, "tokenizer.ggml.pre", &name, l->err);

    if (found < 0)
        return -1;
    if (found == 0 && tok->vocab.n == LLAMA3_TOKENS)
        name = BN_STR("llama-bpe");
    tok->pre = bn_pretokenizer_new();
    if (name.n > 0 && bn_pretokenizer_add_named(tok->pre, name, &tok->bpe.ignore_merges))
        return 0;
    struct bn_err line;
    if (name.n > 0)
        bn_err_set(&line, "%s: unknown pre-tokenizer \"%.*s\"", l->gguf->path, (int)bn_min_size(name.n, 60),
                   name.p);
    else
        bn_err_set(&line, "%s: key tokenizer.ggml.pre is missing", l->gguf->path);
    bn_buf_printf(&tok->warning,
                  "%s: words are split by the \"default\" rules, which may not be the model's own", line.msg);
    bn_pretokenizer_add_named(tok->pre, BN_STR("default"), &tok->bpe.ignore_merges);
    return 0;
}

static int load_merges(const struct loader *l)
{
    enum { BATCH = 32 };
    const char *key = "tokenizer.ggml.merges";
    const struct bn_gguf_kv *merges;
    struct bn_bpe_merge batch[BATCH];
    struct bn_err err;

    if (find_array(l, key, BN_GGUF_STRING, "strings", 0, &merges) < 0)
        return -1;
    uint64_t count = merges ? merges->count : 0;
    if (count > BN_BPE_MAX_MERGES)
        return fail(l, key, "at most %u merges expected, found %llu", BN_BPE_MAX_MERGES,
                    (unsigned long long)count);
    bn_bpe_init(&l->tok->bpe, &l->tok->arena, &l->tok->vocab, (uint32_t)count);
    const uint8_t *cursor = merges ? merges->value : NULL;
    for (uint32_t at = 0; at < count; at += BATCH) {
        uint32_t n = count - at < BATCH ? (uint32_t)count - at : BATCH;
        for (uint32_t i = 0; i < n; i++) {
            struct bn_str line = bn_gguf_next_str(&cursor);
            if (bn_bpe_split_line(line, &batch[i]) != 0)
                return fail(l, key, "merge %u, \"%.*s\": two tokens with a blank between them expected",
                            at + i, (int)bn_min_size(line.n, 60), line.p);
        }
        if (bn_bpe_add_merges(&l->tok->bpe, batch, n, at, &err) != 0)
            return fail(l, key, "%s", err.msg);
    }
    return 0;
}

static int load_bpe(const struct loader *l)
{
    if (load_merges(l) != 0 || load_pre(l) != 0)
        return -1;
    return load_bos_defaults(l, l->tok->bpe.ignore_merges); /* of these kinds the Llama-3 one puts BOS */
}

/* ---- SentencePiece ---- */

static int load_spm(const struct loader *l)
{
    const char *key = "tokenizer.ggml.scores";
    struct bn_tokenizer *tok = l->tok;
    const struct bn_gguf_kv *scores;
    struct bn_err err;
    int found = find_array(l, key, BN_GGUF_F32, "32-bit floats", tok->vocab.n, &scores);

    if (found <= 0)
        return found < 0 ? -1
                         : bn_err_set(l->err, "%s: key %s is missing, a \"llama\" vocabulary needs it",
                                      l->gguf->path, key);
    if (bn_spm_init(&tok->spm, &tok->arena, &tok->vocab, scores->value, &err) != 0)
        return fail(l, key, "%s", err.msg);
    if (bn_gguf_get_bool(l->gguf, "tokenizer.ggml.add_space_prefix", &tok->spm.prefix_space, l->err) < 0)
        return -1;
    return load_bos_defaults(l, true);
}

static int load(const struct loader *l)
{
    const char *key = "tokenizer.ggml.model";
    const struct bn_gguf_kv *tokens;
    struct bn_str model;
    int found = bn_gguf_get_str(l->gguf, key, &model, l->err);

    if (found <= 0)
        return found < 0 ? -1
                         : bn_err_set(l->err, "%s: key %s is missing: the file has no vocabulary",
                                      l->gguf->path, key);
    l->tok->is_spm = bn_str_is(model, "llama");
    if (!l->tok->is_spm && !bn_str_is(model, "gpt2"))
        return fail(l, key, "\"gpt2\" or \"llama\" expected, found \"%.*s\"", (int)bn_min_size(model.n, 60),
                    model.p);
    if (find_tokens(l, &tokens) != 0 ||
        load_id(l, "tokenizer.ggml.bos_token_id", tokens->count, &l->tok->bos) != 0 ||
        load_id(l, "tokenizer.ggml.eos_token_id", tokens->count, &l->tok->eos) != 0 ||
        load_tokens(l, tokens) != 0)
        return -1;
    return l->tok->is_spm ? load_spm(l) : load_bpe(l);
}

int bn_tokenizer_load(struct bn_tokenizer **out, const struct bn_gguf *gguf, struct bn_err *err)
{
    struct bn_tokenizer *tok = bn_xcalloc(1, sizeof *tok);

    tok->bos = tok->eos = -1;
    *out = NULL;
    if (load(&(struct loader){tok, gguf, err}) != 0) {
        bn_tokenizer_free(tok);
        return -1;
    }
    *out = tok;
    return 0;
}

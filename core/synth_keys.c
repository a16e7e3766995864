/* SPDX-License-Identifier: MIT
 * A random model's metadata: hyper-parameters, and a vocabulary copied or made up. */
#include "core/synth_parts.h"

#include <stdlib.h>
#include <string.h>

enum {
    N_BYTES = 256,
    TOKEN_NORMAL = 1,
    TOKEN_CONTROL = 3,
    LLAMA3_VOCAB = 128256, /* 128,000 ordinary tokens and 256 special ones */
    LLAMA3_ORDINARY = 128000,
};

static const char chat_template[] =
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ 'Human: ' + message['content'] }}"
    "{% else %}{{ 'BITNETAssistant: ' + message['content'] }}{% endif %}{% endfor %}";

/* ---- a made-up vocabulary ---- */

/* GPT-2's spelling of a byte: printable Latin-1 stands for itself, the others for U+0100, U+0101, ... in
 * turn. */
static void put_byte_token(struct bn_buf *out, unsigned byte)
{
    unsigned code = byte, shifted = 0x100;

    for (unsigned b = 0; b <= byte; b++) {
        bool itself = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        code = itself ? b : shifted++;
    }
    if (code >= 0x80) { /* UTF-8; all of it is below U+0800 */
        bn_buf_putc(out, (char)(0xc0 | code >> 6));
        code = 0x80 | (code & 0x3f);
    }
    bn_buf_putc(out, (char)code);
}

/* Special ids: those of Llama 3 in a vocabulary of its size, else the last two. */
static uint32_t bos_of(uint32_t n_vocab)
{
    return n_vocab == LLAMA3_VOCAB ? LLAMA3_ORDINARY : n_vocab - 2;
}

static void put_special(struct bn_buf *out, uint32_t index)
{
    if (index == 0)
        bn_buf_puts(out, "<|begin_of_text|>");
    else if (index == 1)
        bn_buf_puts(out, "<|end_of_text|>");
    else if (index == 9)
        bn_buf_puts(out, "<|eot_id|>");
    else
        bn_buf_printf(out, "<|reserved_special_token_%u|>", index);
}

/* Bytes, then fillers that a text can name, then the special tokens. */
static void write_made_up(struct bn_gguf_writer *w, uint32_t n_vocab)
{
    struct bn_buf text = {0};
    struct bn_str *tokens = bn_xcalloc(n_vocab, sizeof *tokens);
    size_t *ends = bn_xcalloc(n_vocab, sizeof *ends);
    int32_t *types = bn_xcalloc(n_vocab, sizeof *types);
    float *scores = bn_xcalloc(n_vocab, sizeof *scores);
    uint32_t bos = bos_of(n_vocab);

    for (uint32_t id = 0; id < n_vocab; id++) {
        types[id] = id < bos ? TOKEN_NORMAL : TOKEN_CONTROL;
        if (id >= bos)
            put_special(&text, id - bos);
        else if (id < N_BYTES)
            put_byte_token(&text, id);
        else
            bn_buf_printf(&text,
                          "\xc4\xa0"
                          "filler%u",
                          id); /* U+0120 spells a space */
        ends[id] = text.n;
    }
    for (uint32_t id = 0; id < n_vocab; id++) { /* now that the text no longer moves */
        size_t start = id ? ends[id - 1] : 0;
        tokens[id] = (struct bn_str){text.p + start, ends[id] - start};
    }
    bn_gguf_write_str(w, "tokenizer.ggml.model", BN_STR("gpt2"));
    if (n_vocab != LLAMA3_VOCAB) /* the published file of that size has no such key */
        bn_gguf_write_str(w, "tokenizer.ggml.pre", BN_STR("llama-bpe"));
    bn_gguf_write_strs(w, "tokenizer.ggml.tokens", tokens, n_vocab);
    bn_gguf_write_f32s(w, "tokenizer.ggml.scores", scores, n_vocab);
    bn_gguf_write_i32s(w, "tokenizer.ggml.token_type", types, n_vocab);
    bn_gguf_write_strs(w, "tokenizer.ggml.merges", NULL, 0);
    bn_gguf_write_u32(w, "tokenizer.ggml.bos_token_id", bos);
    bn_gguf_write_u32(w, "tokenizer.ggml.eos_token_id", bos + 1);
    bn_gguf_write_u32(w, "tokenizer.ggml.padding_token_id", bos + 1);
    free(scores);
    free(types);
    free(ends);
    free(tokens);
    bn_buf_free(&text);
}

/* ---- a copied vocabulary ---- */

static const struct bn_gguf_kv *array_of(const struct bn_gguf *g, const char *key, enum bn_gguf_kind kind)
{
    const struct bn_gguf_kv *kv = bn_gguf_find(g, key);
    return kv && kv->kind == BN_GGUF_ARRAY && kv->element_kind == kind ? kv : NULL;
}

static void copy_strs(struct bn_gguf_writer *w, const struct bn_gguf *from, const char *key)
{
    const struct bn_gguf_kv *kv = array_of(from, key, BN_GGUF_STRING);

    if (!kv)
        return;
    struct bn_str *values = bn_xcalloc((size_t)kv->count + 1, sizeof *values);
    const uint8_t *cursor = kv->value;
    for (uint64_t i = 0; i < kv->count; i++)
        values[i] = bn_gguf_next_str(&cursor);
    bn_gguf_write_strs(w, key, values, (size_t)kv->count);
    free(values);
}

/* Four bytes a token, or zeros where the vocabulary has none. */
static void copy_numbers(struct bn_gguf_writer *w, const struct bn_gguf *from, const char *key,
                         enum bn_gguf_kind kind, uint32_t n_vocab)
{
    const struct bn_gguf_kv *kv = array_of(from, key, kind);
    void *values = bn_xcalloc(n_vocab, 4);

    if (kv && kv->count == n_vocab)
        memcpy(values, kv->value, 4 * (size_t)n_vocab);
    if (kind == BN_GGUF_F32)
        bn_gguf_write_f32s(w, key, values, n_vocab);
    else
        bn_gguf_write_i32s(w, key, values, n_vocab);
    free(values);
}

static void copy_str(struct bn_gguf_writer *w, const struct bn_gguf *from, const char *key)
{
    struct bn_str value;

    if (bn_gguf_get_str(from, key, &value, NULL) == 1)
        bn_gguf_write_str(w, key, value);
}

static void copy_u32(struct bn_gguf_writer *w, const struct bn_gguf *from, const char *key,
                     const char *or_key)
{
    uint32_t value;

    if (bn_gguf_get_u32(from, key, &value, NULL) == 1 ||
        (or_key && bn_gguf_get_u32(from, or_key, &value, NULL) == 1))
        bn_gguf_write_u32(w, key, value);
}

static void write_copied(struct bn_gguf_writer *w, const struct bn_gguf *from, uint32_t n_vocab)
{
    copy_str(w, from, "tokenizer.ggml.model");
    if (n_vocab != LLAMA3_VOCAB)
        copy_str(w, from, "tokenizer.ggml.pre");
    copy_strs(w, from, "tokenizer.ggml.tokens");
    copy_numbers(w, from, "tokenizer.ggml.scores", BN_GGUF_F32, n_vocab);
    copy_numbers(w, from, "tokenizer.ggml.token_type", BN_GGUF_I32, n_vocab);
    copy_strs(w, from, "tokenizer.ggml.merges");
    copy_u32(w, from, "tokenizer.ggml.bos_token_id", NULL);
    copy_u32(w, from, "tokenizer.ggml.eos_token_id", NULL);
    copy_u32(w, from, "tokenizer.ggml.padding_token_id", "tokenizer.ggml.eos_token_id");
}

int bn_synth_n_vocab(const struct bn_synth *synth, uint32_t *n_vocab, struct bn_err *err)
{
    *n_vocab = synth->shape->n_vocab;
    if (!synth->vocabulary)
        return 0;
    const struct bn_gguf_kv *tokens = array_of(synth->vocabulary, "tokenizer.ggml.tokens", BN_GGUF_STRING);
    if (!tokens)
        return bn_err_set(err, "%s: key tokenizer.ggml.tokens expected: the file has no vocabulary",
                          synth->vocabulary->path);
    if (tokens->count < N_BYTES || tokens->count > INT32_MAX)
        return bn_err_set(err, "%s: key tokenizer.ggml.tokens: at least %d tokens expected, found %llu",
                          synth->vocabulary->path, N_BYTES, (unsigned long long)tokens->count);
    *n_vocab = (uint32_t)tokens->count;
    return 0;
}

/* ---- all keys ---- */

static uint32_t file_type(uint32_t wtype)
{
    static const struct {
        uint32_t type, number;
    } known[] = {{BN_TYPE_I2_S, 40}, {BN_TYPE_F16, 1},   {BN_TYPE_BF16, 32}, {BN_TYPE_Q4_0, 2},
                 {BN_TYPE_Q8_0, 7},  {BN_TYPE_Q4_K, 14}, {BN_TYPE_Q6_K, 18}};

    for (size_t i = 0; i < BN_COUNT(known); i++) {
        if (known[i].type == wtype)
            return known[i].number;
    }
    return 0;
}

static void put_u32(struct bn_gguf_writer *w, const char *arch, const char *name, uint32_t value)
{
    char key[96];

    snprintf(key, sizeof key, "%s.%s", arch, name);
    bn_gguf_write_u32(w, key, value);
}

static void put_f32(struct bn_gguf_writer *w, const char *arch, const char *name, float value)
{
    char key[96];

    snprintf(key, sizeof key, "%s.%s", arch, name);
    bn_gguf_write_f32(w, key, value);
}

void bn_synth_write_keys(struct bn_gguf_writer *w, const struct bn_synth *synth, uint32_t n_vocab)
{
    const struct bn_synth_shape *s = synth->shape;

    bn_gguf_write_str(w, "general.architecture", bn_str_from(s->arch));
    bn_gguf_write_str(w, "general.name", bn_str_from(s->model_name));
    put_u32(w, s->arch, "vocab_size", n_vocab);
    put_u32(w, s->arch, "context_length", s->n_ctx);
    put_u32(w, s->arch, "embedding_length", s->n_embd);
    put_u32(w, s->arch, "block_count", s->n_layer);
    put_u32(w, s->arch, "feed_forward_length", s->n_ff);
    put_u32(w, s->arch, "rope.dimension_count", s->n_embd / s->n_head);
    put_u32(w, s->arch, "attention.head_count", s->n_head);
    put_u32(w, s->arch, "attention.head_count_kv", s->n_head_kv);
    bn_gguf_write_bool(w, "tokenizer.ggml.add_bos_token", true);
    put_f32(w, s->arch, "attention.layer_norm_rms_epsilon", 1e-5f);
    put_f32(w, s->arch, "rope.freq_base", s->rope_base);
    bn_gguf_write_u32(w, "general.file_type", file_type(synth->wtype));
    if (synth->vocabulary)
        write_copied(w, synth->vocabulary, n_vocab);
    else
        write_made_up(w, n_vocab);
    bn_gguf_write_str(w, "tokenizer.chat_template", bn_str_from(chat_template));
    bn_gguf_write_u32(w, "general.quantization_version", 2);
}

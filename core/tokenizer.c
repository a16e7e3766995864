/* SPDX-License-Identifier: MIT
 * Text to ids and back: special tokens first, then words, then merges. */
#include "core/tokenizer.h"

#include "core/tokenizer_parts.h"

#include <stdlib.h>
#include <string.h>

/* Positions within a word are 32 bits wide, with room for a marker and a space in front. */
#define MAX_TEXT_BYTES (UINT32_MAX - 16u)

void bn_ids_push(struct bn_ids *ids, uint32_t id)
{
    bn_grow(&ids->p, &ids->capacity, ids->n + 1, sizeof *ids->p);
    ids->p[ids->n++] = id;
}

void bn_ids_free(struct bn_ids *ids)
{
    free(ids->p);
    *ids = (struct bn_ids){0};
}

void bn_tokenizer_index(struct bn_tokenizer *tok)
{
    bn_vocab_index(&tok->vocab, &tok->arena);
    for (uint32_t id = 0; id < tok->vocab.n; id++)
        if (bn_vocab_is_special(&tok->vocab, id) || tok->vocab.kind[id] == BN_TOKEN_USER)
            bn_special_add(&tok->special, bn_vocab_bytes(&tok->vocab, id), id,
                           tok->vocab.kind[id] == BN_TOKEN_USER);
    bn_special_sort(&tok->special);
}

static int32_t first_of(const struct bn_tokenizer *tok, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct bn_special_entry *hit = bn_special_find(&tok->special, bn_str_from(names[i]));
        if (hit)
            return (int32_t)hit->id;
    }
    return -1;
}

int32_t bn_tokenizer_usual_bos(const struct bn_tokenizer *tok)
{
    static const char *const names[] = {"<|begin_of_text|>", "<s>"};

    return first_of(tok, names, BN_COUNT(names));
}

int32_t bn_tokenizer_usual_eos(const struct bn_tokenizer *tok)
{
    static const char *const names[] = {"<|end_of_text|>", "<|endoftext|>", "</s>"};

    return first_of(tok, names, BN_COUNT(names));
}

void bn_tokenizer_free(struct bn_tokenizer *tok)
{
    if (!tok)
        return;
    bn_pretokenizer_free(tok->pre);
    bn_special_free(&tok->special);
    bn_merger_free(&tok->merger);
    bn_buf_free(&tok->line);
    bn_buf_free(&tok->warning);
    bn_arena_free(&tok->arena);
    free(tok);
}

const char *bn_tokenizer_warning(const struct bn_tokenizer *tok)
{
    return tok->warning.n > 0 ? tok->warning.p : NULL;
}

uint32_t bn_tokenizer_size(const struct bn_tokenizer *tok)
{
    return tok->vocab.n;
}

int32_t bn_tokenizer_bos(const struct bn_tokenizer *tok)
{
    return tok->bos;
}

int32_t bn_tokenizer_eos(const struct bn_tokenizer *tok)
{
    return tok->eos;
}

bool bn_tokenizer_add_bos(const struct bn_tokenizer *tok)
{
    return tok->add_bos;
}

bool bn_tokenizer_is_special(const struct bn_tokenizer *tok, uint32_t id)
{
    return id < tok->vocab.n && bn_vocab_is_special(&tok->vocab, id);
}

int32_t bn_tokenizer_find(const struct bn_tokenizer *tok, const char *token)
{
    const struct bn_special_entry *hit = bn_special_find(&tok->special, bn_str_from(token));
    uint32_t id = hit ? hit->id : bn_vocab_find(&tok->vocab, token, strlen(token));

    return id == BN_VOCAB_NONE ? -1 : (int32_t)id;
}

/* ---- encode ---- */

struct sink {
    struct bn_tokenizer *tok;
    struct bn_ids *ids;
};

static int encode_word(void *context, struct bn_str word, struct bn_err *err)
{
    struct sink *sink = context;

    return bn_bpe_encode(&sink->tok->bpe, &sink->tok->merger, word, sink->ids, err);
}

/* Text without special tokens in it. */
static int encode_plain(struct bn_tokenizer *tok, struct bn_str text, struct bn_ids *ids, struct bn_err *err)
{
    if (text.n == 0)
        return 0;
    if (tok->is_spm)
        return bn_spm_encode(&tok->spm, &tok->merger, &tok->line, text, ids, err);
    if (tok->bpe_prefix_space && text.p[0] != ' ') {
        tok->line.n = 0;
        bn_buf_putc(&tok->line, ' ');
        bn_buf_put(&tok->line, text.p, text.n);
        text = (struct bn_str){tok->line.p, tok->line.n};
    }
    return bn_pretokenizer_split(tok->pre, text, encode_word, &(struct sink){tok, ids}, err);
}

int bn_tokenizer_encode(struct bn_tokenizer *tok, struct bn_str text, bool bos, bool special,
                        struct bn_ids *ids, struct bn_err *err)
{
    const struct bn_special_entry *hit = NULL;
    size_t n_before = ids->n;

    if (text.n > MAX_TEXT_BYTES)
        return bn_err_set(err, "a text of %zu bytes: at most %u can be tokenized at once", text.n,
                          MAX_TEXT_BYTES);
    if (bos && tok->bos >= 0)
        bn_ids_push(ids, (uint32_t)tok->bos);
    for (size_t at = 0; at < text.n;) {
        size_t end = bn_special_next(&tok->special, text, at, special, &hit);
        if (encode_plain(tok, (struct bn_str){text.p + at, end - at}, ids, err) != 0) {
            ids->n = n_before;
            return -1;
        }
        at = end;
        if (hit) {
            bn_ids_push(ids, hit->id);
            at += hit->spelling.n;
        }
    }
    return 0;
}

/* ---- decode ---- */

void bn_tokenizer_decode(const struct bn_tokenizer *tok, uint32_t id, bool first, bool special,
                         struct bn_buf *out)
{
    if (id >= tok->vocab.n || (!special && bn_vocab_is_special(&tok->vocab, id)))
        return;
    struct bn_str bytes = bn_vocab_bytes(&tok->vocab, id);
    int byte = tok->vocab.kind[id] == BN_TOKEN_BYTE ? bn_spm_byte(bytes) : -1;
    char one = (char)byte;
    if (byte >= 0)
        bytes = (struct bn_str){&one, 1};
    if (first && tok->is_spm && tok->spm.prefix_space && bytes.n > 0 && bytes.p[0] == ' ') {
        bytes.p++;
        bytes.n--;
    }
    bn_buf_put(out, bytes.p, bytes.n);
}

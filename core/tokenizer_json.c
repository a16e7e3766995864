/* SPDX-License-Identifier: MIT
 * A tokenizer from a Hugging Face tokenizer.json: byte-level BPE and what usually surrounds it. Whatever
 * would change the ids and is not understood is refused, not skipped. */
#include "core/tokenizer_parts.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

enum { SHOWN_BYTES = 60 };

struct entry {
    const char *token; /* NULL = no token has this id */
    enum bn_token_kind kind;
};

struct loader {
    struct bn_tokenizer *tok;
    const char *path;
    struct bn_err *err;
    struct entry *entries; /* by id */
    size_t n, capacity;
    bool byte_level; /* the pre-tokenizer has come to ByteLevel */
};

/* "PATH: MESSAGE". Always -1. */
static int BN_PRINTF(2, 3) fail(const struct loader *l, const char *format, ...)
{
    char text[600];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return bn_err_set(l->err, "%s: %s", l->path, text);
}

/* A member that is there and not null, else NULL. */
static const cJSON *member(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

    return cJSON_IsNull(item) ? NULL : item;
}

/* A member that is a string, else "". */
static const char *text_of(const cJSON *object, const char *name)
{
    const char *text = cJSON_GetStringValue(member(object, name));

    return text ? text : "";
}

static bool flag_of(const cJSON *object, const char *name, bool if_missing)
{
    const cJSON *item = member(object, name);

    return item ? cJSON_IsTrue(item) : if_missing;
}

static int not_supported(const struct loader *l, const char *place, const char *type, const char *expected)
{
    return fail(l, "%s: type \"%.*s\" is not supported, %s expected", place, SHOWN_BYTES, type, expected);
}

/* ---- vocabulary ---- */

static int read_id(const struct loader *l, const cJSON *number, const char *token, uint32_t *id)
{
    if (!cJSON_IsNumber(number) || !(number->valuedouble >= 0 && number->valuedouble < BN_VOCAB_MAX) ||
        number->valuedouble != (uint32_t)number->valuedouble)
        return fail(l, "token \"%.*s\": an id from 0 to %u expected", SHOWN_BYTES, token, BN_VOCAB_MAX - 1);
    *id = (uint32_t)number->valuedouble;
    return 0;
}

/* An added token may stand in the vocabulary already, under the same id. */
static int set_entry(struct loader *l, uint32_t id, const char *token, enum bn_token_kind kind)
{
    if (id >= l->n) {
        bn_grow(&l->entries, &l->capacity, id + 1, sizeof *l->entries);
        memset(l->entries + l->n, 0, (id + 1 - l->n) * sizeof *l->entries);
        l->n = id + 1;
    }
    const char *there = l->entries[id].token;
    if (there && (kind == BN_TOKEN_NORMAL || strcmp(there, token) != 0))
        return fail(l, "the tokens \"%.*s\" and \"%.*s\" have the same id, %u", SHOWN_BYTES, there,
                    SHOWN_BYTES, token, id);
    l->entries[id] = (struct entry){token, kind};
    return 0;
}

static int read_added_token(struct loader *l, const cJSON *item)
{
    const char *token = cJSON_GetStringValue(member(item, "content"));
    uint32_t id;

    if (!token)
        return fail(l, "added_tokens: objects with a string \"content\" expected");
    if (read_id(l, member(item, "id"), token, &id) != 0)
        return -1;
    bool trims = flag_of(item, "lstrip", false) || flag_of(item, "rstrip", false) ||
                 flag_of(item, "single_word", false);
    if (trims && l->tok->warning.n == 0)
        bn_buf_printf(&l->tok->warning,
                      "%s: lstrip, rstrip and single_word of added tokens (\"%.*s\") are ignored", l->path,
                      SHOWN_BYTES, token);
    return set_entry(l, id, token, flag_of(item, "special", false) ? BN_TOKEN_CONTROL : BN_TOKEN_USER);
}

static int read_vocab(struct loader *l, const cJSON *root, const cJSON *model)
{
    const cJSON *vocab = member(model, "vocab"), *added = member(root, "added_tokens"), *item;
    size_t total = 0;
    uint32_t id;

    if (!cJSON_IsObject(vocab))
        return fail(l, "model.vocab: an object of tokens and their ids expected");
    cJSON_ArrayForEach(item, vocab) if (read_id(l, item, item->string, &id) != 0 ||
                                        set_entry(l, id, item->string, BN_TOKEN_NORMAL) != 0) return -1;
    if (added && !cJSON_IsArray(added))
        return fail(l, "added_tokens: an array expected");
    cJSON_ArrayForEach(item, added) if (read_added_token(l, item) != 0) return -1;
    if (l->n == 0)
        return fail(l, "model.vocab: at least one token expected");
    for (size_t i = 0; i < l->n; i++)
        total += l->entries[i].token ? strlen(l->entries[i].token) : 0;
    if (total >= UINT32_MAX)
        return fail(l, "model.vocab: the tokens take %zu bytes together, less than 4 GiB expected", total);
    bn_vocab_init(&l->tok->vocab, &l->tok->arena, (uint32_t)l->n, total);
    for (size_t i = 0; i < l->n; i++) {
        const struct entry *e = &l->entries[i];
        enum bn_spelling spelling = e->kind == BN_TOKEN_NORMAL ? BN_SPELLING_BYTE_LEVEL : BN_SPELLING_LITERAL;
        bn_vocab_append(&l->tok->vocab, bn_str_from(e->token ? e->token : ""), spelling,
                        e->token ? e->kind : BN_TOKEN_UNUSED);
    }
    bn_tokenizer_index(l->tok);
    return 0;
}

/* ---- merges ---- */

/* "left right" or ["left", "right"]. */
static int read_merge(const struct loader *l, const cJSON *item, uint32_t rank, struct bn_bpe_merge *merge)
{
    const char *line = cJSON_GetStringValue(item);
    const cJSON *left = cJSON_IsArray(item) ? item->child : NULL, *right = left ? left->next : NULL;

    if (line && bn_bpe_split_line(bn_str_from(line), merge) == 0)
        return 0;
    if (!cJSON_IsString(left) || !cJSON_IsString(right) || right->next)
        return fail(l, "model.merges: merge %u: \"left right\" or [\"left\", \"right\"] expected", rank);
    merge->left = bn_str_from(left->valuestring);
    merge->right = bn_str_from(right->valuestring);
    return 0;
}

static int read_merges(struct loader *l, const cJSON *model)
{
    enum { BATCH = 32 };
    struct bn_bpe_merge batch[BATCH];
    const cJSON *merges = member(model, "merges"), *item;
    uint32_t n = 0, rank = 0;
    struct bn_err err;

    if (!cJSON_IsArray(merges))
        return fail(l, "model.merges: an array expected");
    int count = cJSON_GetArraySize(merges);
    if (count > (int)BN_BPE_MAX_MERGES)
        return fail(l, "model.merges: at most %u merges expected, found %d", BN_BPE_MAX_MERGES, count);
    bn_bpe_init(&l->tok->bpe, &l->tok->arena, &l->tok->vocab, (uint32_t)count);
    cJSON_ArrayForEach(item, merges)
    {
        if (read_merge(l, item, rank + n, &batch[n]) != 0)
            return -1;
        n++;
        if (n < BATCH && item->next)
            continue;
        if (bn_bpe_add_merges(&l->tok->bpe, batch, n, rank, &err) != 0)
            return fail(l, "model.merges: %s", err.msg);
        rank += n;
        n = 0;
    }
    return 0;
}

static int read_model(struct loader *l, const cJSON *root)
{
    const cJSON *model = member(root, "model");
    const char *type = text_of(model, "type");

    if (!cJSON_IsObject(model))
        return fail(l, "a tokenizer.json expected, but there is no object \"model\"");
    if (strcmp(type, "BPE") != 0 && (*type || !member(model, "merges"))) /* old files leave the type out */
        return not_supported(l, "model", type, "\"BPE\"");
    if (flag_of(model, "byte_fallback", false))
        return fail(l, "model.byte_fallback: a byte-level vocabulary expected, not one with byte fallback");
    if (*text_of(model, "continuing_subword_prefix") || *text_of(model, "end_of_word_suffix"))
        return fail(l, "model: continuing_subword_prefix and end_of_word_suffix are not supported");
    const cJSON *dropout = member(model, "dropout");
    if (dropout && !(cJSON_IsNumber(dropout) && dropout->valuedouble == 0))
        return fail(l, "model.dropout: none expected, the ids would be random");
    if (read_vocab(l, root, model) != 0 || read_merges(l, model) != 0)
        return -1;
    l->tok->bpe.ignore_merges = flag_of(model, "ignore_merges", false);
    return 0;
}

/* ---- normalizer, pre-tokenizer, decoder ---- */

static int check_normalizer(const struct loader *l, const cJSON *item)
{
    const cJSON *list = member(item, "normalizers");

    if (!item || (strcmp(text_of(item, "type"), "Sequence") == 0 && cJSON_IsArray(list) && !list->child))
        return 0;
    return not_supported(l, "normalizer", text_of(item, "type"), "null");
}

static int add_split(struct loader *l, const cJSON *item)
{
    const cJSON *pattern = member(item, "pattern");
    const char *regex = cJSON_GetStringValue(member(pattern, "Regex"));
    const char *literal = cJSON_GetStringValue(member(pattern, "String"));
    const char *behavior = text_of(item, "behavior");
    enum bn_split split = BN_SPLIT_KEEP;
    struct bn_buf translated = {0};
    struct bn_err err;

    if (!regex && !literal)
        return fail(l, "pre_tokenizer: Split: pattern: a string \"Regex\" or \"String\" expected");
    if (strcmp(behavior, "Removed") == 0)
        split = flag_of(item, "invert", false) ? BN_SPLIT_DROP_GAPS : BN_SPLIT_DROP_MATCHES;
    else if (strcmp(behavior, "Isolated") != 0)
        return fail(
            l,
            "pre_tokenizer: Split: behavior \"%.*s\" is not supported, \"Isolated\" or \"Removed\" expected",
            SHOWN_BYTES, behavior);
    int status = 0;
    if (regex)
        status = bn_regex_from_oniguruma(bn_str_from(regex), &translated, &err);
    else
        bn_buf_puts(&translated, literal);
    if (status == 0)
        status = bn_pretokenizer_add(l->tok->pre, (struct bn_str){translated.p, translated.n}, !regex, split,
                                     &err);
    bn_buf_free(&translated);
    return status == 0 ? 0 : fail(l, "pre_tokenizer: Split: %s", err.msg);
}

/* The bytes take their printable form here; we keep them as they are, so only its two options matter. */
static int add_byte_level(struct loader *l, const cJSON *item, bool is_first)
{
    bool ignored;

    l->byte_level = true;
    l->tok->bpe_prefix_space = flag_of(item, "add_prefix_space", true);
    if (l->tok->bpe_prefix_space && !is_first)
        return fail(l, "pre_tokenizer: ByteLevel: add_prefix_space behind a Split is not supported");
    if (flag_of(item, "use_regex", true))
        bn_pretokenizer_add_named(l->tok->pre, BN_STR("gpt-2"), &ignored);
    return 0;
}

static int add_pre_tokenizer(struct loader *l, const cJSON *item, bool is_first)
{
    const char *type = text_of(item, "type");

    if (l->byte_level)
        return fail(l, "pre_tokenizer: \"%.*s\" behind ByteLevel is not supported", SHOWN_BYTES, type);
    if (strcmp(type, "Split") == 0)
        return add_split(l, item);
    if (strcmp(type, "ByteLevel") == 0)
        return add_byte_level(l, item, is_first);
    return not_supported(l, "pre_tokenizer", type, "\"Split\", \"ByteLevel\" or a \"Sequence\" of them");
}

static int read_pre_tokenizer(struct loader *l, const cJSON *item)
{
    const cJSON *step;

    l->tok->pre = bn_pretokenizer_new();
    if (item && strcmp(text_of(item, "type"), "Sequence") == 0) {
        const cJSON *list = member(item, "pretokenizers");
        cJSON_ArrayForEach(step, list) if (add_pre_tokenizer(l, step, step == list->child) != 0) return -1;
    } else if (item && add_pre_tokenizer(l, item, true) != 0) {
        return -1;
    }
    return l->byte_level ? 0
                         : fail(l, "pre_tokenizer: a ByteLevel expected, only byte-level BPE is supported");
}

static int check_decoder(const struct loader *l, const cJSON *item)
{
    const cJSON *list = strcmp(text_of(item, "type"), "Sequence") == 0 ? member(item, "decoders") : NULL,
                *step;

    if (!item || strcmp(text_of(item, "type"), "ByteLevel") == 0)
        return 0;
    cJSON_ArrayForEach(step, list) if (strcmp(text_of(step, "type"), "ByteLevel") != 0) return not_supported(
        l, "decoder", text_of(step, "type"), "\"ByteLevel\"");
    return list && list->child ? 0 : not_supported(l, "decoder", text_of(item, "type"), "\"ByteLevel\"");
}

/* ---- post-processor: which token goes first ---- */

static int read_template(struct loader *l, const cJSON *item)
{
    const cJSON *step, *first = NULL;
    bool text_seen = false;

    cJSON_ArrayForEach(step, member(item, "single"))
    {
        const cJSON *token = member(step, "SpecialToken");
        if (token && (text_seen || first))
            return fail(
                l, "post_processor: TemplateProcessing: one token in front of the text expected, no others");
        if (token)
            first = token;
        else
            text_seen = true;
    }
    if (!first)
        return 0;
    const char *name = text_of(first, "id");
    const cJSON *ids = member(cJSON_GetObjectItemCaseSensitive(member(item, "special_tokens"), name), "ids");
    uint32_t id;
    if (!ids || !ids->child || ids->child->next)
        return fail(l, "post_processor: special_tokens: one id for \"%.*s\" expected", SHOWN_BYTES, name);
    if (read_id(l, ids->child, name, &id) != 0)
        return -1;
    if (id >= l->n)
        return fail(l, "post_processor: id %u of \"%.*s\" is outside the vocabulary", id, SHOWN_BYTES, name);
    l->tok->bos = (int32_t)id;
    l->tok->add_bos = true;
    return 0;
}

static int read_post_processor(struct loader *l, const cJSON *item)
{
    const char *type = text_of(item, "type");

    if (!item || strcmp(type, "ByteLevel") == 0) /* that one trims offsets, which we do not report */
        return 0;
    if (strcmp(type, "TemplateProcessing") == 0)
        return read_template(l, item);
    return not_supported(l, "post_processor", type, "\"TemplateProcessing\"");
}

static int read_post_processors(struct loader *l, const cJSON *item)
{
    const cJSON *step;

    if (strcmp(text_of(item, "type"), "Sequence") != 0)
        return read_post_processor(l, item);
    cJSON_ArrayForEach(step, member(item, "processors")) if (read_post_processor(l, step) != 0) return -1;
    return 0;
}

/* ---- the file ---- */

static int read_root(struct loader *l, const cJSON *root)
{
    if (!cJSON_IsObject(root))
        return fail(l, "a JSON object expected");
    if (check_normalizer(l, member(root, "normalizer")) != 0 || read_model(l, root) != 0 ||
        read_pre_tokenizer(l, member(root, "pre_tokenizer")) != 0 ||
        check_decoder(l, member(root, "decoder")) != 0 ||
        read_post_processors(l, member(root, "post_processor")) != 0)
        return -1;
    if (l->tok->bos < 0)
        l->tok->bos = bn_tokenizer_usual_bos(l->tok);
    l->tok->eos = bn_tokenizer_usual_eos(l->tok); /* the format has no place for it */
    return 0;
}

static bool only_blanks(const char *p, const char *end)
{
    while (p < end && strchr(" \t\r\n", *p) != NULL && *p != '\0')
        p++;
    return p == end;
}

static int read_file(struct loader *l)
{
    struct bn_map map;
    const char *end = NULL;
    int status = -1;

    if (bn_map_open(&map, l->path, l->err) != 0)
        return -1;
    const char *bytes = (const char *)map.p;
    cJSON *root = map.n > 0 ? cJSON_ParseWithLengthOpts(bytes, map.n, &end, false) : NULL;
    if (map.n == 0)
        fail(l, "the file is empty, a tokenizer.json was expected");
    else if (!root)
        fail(l, "byte %zu: JSON expected", end ? (size_t)(end - bytes) : 0);
    else if (!only_blanks(end, bytes + map.n))
        fail(l, "byte %zu: nothing behind the JSON expected", (size_t)(end - bytes));
    else
        status = read_root(l, root);
    cJSON_Delete(root);
    bn_map_close(&map);
    return status;
}

int bn_tokenizer_load_json(struct bn_tokenizer **out, const char *path, struct bn_err *err)
{
    struct loader l = {.tok = bn_xcalloc(1, sizeof *l.tok), .path = path, .err = err};

    l.tok->bos = l.tok->eos = -1;
    *out = NULL;
    int status = read_file(&l);
    free(l.entries);
    if (status != 0) {
        bn_tokenizer_free(l.tok);
        return -1;
    }
    *out = l.tok;
    return 0;
}

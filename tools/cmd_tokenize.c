/* SPDX-License-Identifier: MIT
 * bnprof tokenize: text on stdin to a JSON array of token ids on stdout, and back. */
#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/builtin.h"
#include "core/tokenizer.h"
#include "tools/cmds.h"

enum { KEY_MODEL = 1000, KEY_TOKENIZER, KEY_BOS, KEY_SPECIAL, KEY_DECODE };

struct arguments {
    const char *model, *tokenizer;
    bool bos, special, decode;
};

/* Where the vocabulary comes from, and what it needs to stay alive. */
struct source {
    struct bn_gguf gguf;
    struct bn_tokenizer *tok;
};

static const struct argp_option options[] = {
    {"model", KEY_MODEL, "FILE", 0,
     "vocabulary of this GGUF file (default: BNPROF_MODEL, else the demo model)", 0},
    {"tokenizer", KEY_TOKENIZER, "FILE", 0, "vocabulary of this tokenizer.json (or GGUF file)", 0},
    {"bos", KEY_BOS, NULL, 0, "put the token that begins a text first", 0},
    {"special", KEY_SPECIAL, NULL, 0,
     "spellings of special tokens in the text become those tokens; with --decode they are spelled out", 0},
    {"decode", KEY_DECODE, NULL, 0, "ids on standard input (a JSON array, or with blanks between) to text",
     0},
    {0},
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct arguments *a = state->input;

    switch (key) {
    case KEY_MODEL:
        a->model = arg;
        break;
    case KEY_TOKENIZER:
        a->tokenizer = arg;
        break;
    case KEY_BOS:
        a->bos = true;
        break;
    case KEY_SPECIAL:
        a->special = true;
        break;
    case KEY_DECODE:
        a->decode = true;
        break;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected argument '%s': the text comes from standard input", arg);
        break;
    case ARGP_KEY_END:
        if (a->model && a->tokenizer)
            argp_error(state, "--model and --tokenizer: one of them");
        if (a->bos && a->decode)
            argp_error(state, "--bos has no meaning with --decode");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp parser = {
    options,
    parse_option,
    "",
    "Text on standard input to a JSON array of token ids, or back with --decode.\v"
    "A file with a vocabulary and no tensors will do. Text need not be UTF-8: it comes back byte for byte.",
    NULL,
    NULL,
    NULL,
};

/* ---- the vocabulary ---- */

static bool is_gguf(const char *path)
{
    char magic[4] = "";
    FILE *f = fopen(path, "rb");

    if (!f)
        return false; /* whoever opens it next says why */
    bool found = fread(magic, 1, sizeof magic, f) == sizeof magic && memcmp(magic, "GGUF", 4) == 0;
    fclose(f);
    return found;
}

static int open_source(struct source *s, const struct arguments *a, struct bn_err *err)
{
    const char *path = a->tokenizer ? a->tokenizer : a->model ? a->model : getenv("BNPROF_MODEL");
    struct bn_str builtin = bn_builtin_model();

    if (a->tokenizer && !is_gguf(a->tokenizer))
        return bn_tokenizer_load_json(&s->tok, a->tokenizer, err);
    if ((path && *path ? bn_gguf_open(&s->gguf, path, err)
                       : bn_gguf_open_memory(&s->gguf, builtin.p, builtin.n, BN_BUILTIN_LABEL, err)) != 0)
        return -1;
    return bn_tokenizer_load(&s->tok, &s->gguf, err);
}

static void close_source(struct source *s)
{
    bn_tokenizer_free(s->tok);
    bn_gguf_close(&s->gguf);
}

/* ---- text to ids ---- */

static int read_input(struct bn_buf *text, struct bn_err *err)
{
    char chunk[1 << 16];
    size_t n;

    while ((n = fread(chunk, 1, sizeof chunk, stdin)) > 0)
        bn_buf_put(text, chunk, n);
    return ferror(stdin) ? bn_err_set(err, "standard input: %s", strerror(errno)) : 0;
}

static int encode(struct bn_tokenizer *tok, const struct bn_buf *text, const struct arguments *a,
                  struct bn_err *err)
{
    struct bn_ids ids = {0};

    if (a->bos && bn_tokenizer_bos(tok) < 0)
        return bn_err_set(err, "--bos: the vocabulary has no token that begins a text");
    int status = bn_tokenizer_encode(tok, (struct bn_str){text->p, text->n}, a->bos, a->special, &ids, err);
    if (status == 0) {
        putchar('[');
        for (size_t i = 0; i < ids.n; i++)
            printf(i == 0 ? "%u" : ",%u", ids.p[i]);
        puts("]");
    }
    bn_ids_free(&ids);
    return status;
}

/* ---- ids to text ---- */

static size_t skip_blanks(const struct bn_buf *in, size_t at)
{
    while (at < in->n && strchr(" \t\r\n", in->p[at]) && in->p[at] != '\0')
        at++;
    return at;
}

/* The id that starts at byte *at, which moves behind it. */
static int read_id(const struct bn_buf *in, size_t *at, uint32_t size, uint32_t *id, struct bn_err *err)
{
    size_t start = *at;
    uint64_t value = 0;

    for (; *at < in->n && in->p[*at] >= '0' && in->p[*at] <= '9'; ++*at)
        value = value > UINT32_MAX ? value : value * 10 + (uint64_t)(in->p[*at] - '0');
    if (*at == start)
        return bn_err_set(err, "standard input, byte %zu: a token id expected", start);
    if (value >= size)
        return bn_err_set(err, "standard input, byte %zu: a token id from 0 to %u expected, found %.*s",
                          start, size - 1, (int)bn_min_size(*at - start, 24), in->p + start);
    *id = (uint32_t)value;
    return 0;
}

static bool at_end(const struct bn_buf *in, size_t at, bool array)
{
    return at == in->n || (array && in->p[at] == ']');
}

/* "[1, 2, 3]" or "1 2 3". */
static int read_ids(const struct bn_buf *in, uint32_t size, struct bn_ids *ids, struct bn_err *err)
{
    size_t at = skip_blanks(in, 0);
    bool array = at < in->n && in->p[at] == '[';
    uint32_t id = 0;

    if (array)
        at = skip_blanks(in, at + 1);
    for (bool more = !at_end(in, at, array); more;) {
        if (read_id(in, &at, size, &id, err) != 0)
            return -1;
        bn_ids_push(ids, id);
        size_t next = skip_blanks(in, at);
        more = !at_end(in, next, array);
        if (more && (array ? in->p[next] != ',' : next == at))
            return bn_err_set(err, "standard input, byte %zu: %s expected", next,
                              array ? "',' or ']'" : "a blank");
        at = array && more ? skip_blanks(in, next + 1) : next;
    }
    if (array && at == in->n)
        return bn_err_set(err, "standard input, byte %zu: ']' expected", at);
    at = skip_blanks(in, at + array);
    return at == in->n ? 0 : bn_err_set(err, "standard input, byte %zu: nothing behind the ids expected", at);
}

/* A text starts at the first token, and again behind each special one. */
static int decode(const struct bn_tokenizer *tok, const struct bn_buf *in, bool special, struct bn_err *err)
{
    struct bn_ids ids = {0};
    struct bn_buf text = {0};
    int status = read_ids(in, bn_tokenizer_size(tok), &ids, err);

    for (size_t i = 0; status == 0 && i < ids.n; i++) {
        bool first = i == 0 || bn_tokenizer_is_special(tok, ids.p[i - 1]);
        bn_tokenizer_decode(tok, ids.p[i], first, special, &text);
    }
    if (status == 0 && text.n > 0)
        fwrite(text.p, 1, text.n, stdout);
    bn_buf_free(&text);
    bn_ids_free(&ids);
    return status;
}

int cmd_tokenize(int argc, char **argv)
{
    struct arguments a = {0};
    struct source source = {0};
    struct bn_buf input = {0};
    struct bn_err err;

    argp_parse(&parser, argc, argv, 0, NULL, &a);
    int status = open_source(&source, &a, &err);
    if (status == 0 && bn_tokenizer_warning(source.tok))
        fprintf(stderr, "bnprof tokenize: warning: %s\n", bn_tokenizer_warning(source.tok));
    if (status == 0)
        status = read_input(&input, &err);
    if (status == 0)
        status =
            a.decode ? decode(source.tok, &input, a.special, &err) : encode(source.tok, &input, &a, &err);
    bn_buf_free(&input);
    close_source(&source);
    return status == 0 ? BN_EXIT_DONE : bn_tool_fail(&err);
}

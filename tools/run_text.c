/* SPDX-License-Identifier: MIT
 * Streaming text: a token can end in the middle of a UTF-8 character, which then waits for the next token. */
#include "tools/run_text.h"

#include <errno.h>
#include <stdio_ext.h>
#include <string.h>
#include <unistd.h>

#include "core/scope.h"

enum { RESERVE_BYTES = 4096 };

/* stdout's own buffer, so that the first write does not allocate one. */
static char stdout_buffer[1 << 16];

void bn_run_text_open(struct bn_run_text *t, const struct bn_tokenizer *tok, bool special)
{
    *t = (struct bn_run_text){.tok = tok, .special = special, .terminal = isatty(STDOUT_FILENO) == 1};
    bn_grow(&t->buf.p, &t->buf.capacity, RESERVE_BYTES, 1);
    setvbuf(stdout, stdout_buffer, _IOFBF, sizeof stdout_buffer);
}

void bn_run_text_close(struct bn_run_text *t)
{
    bn_buf_free(&t->buf);
}

/* Bytes at the end of p that begin a character whose rest is still to come, 0 … 3. */
static size_t unfinished(const char *p, size_t n)
{
    for (size_t back = 1; back <= bn_min_size(3, n); back++) {
        unsigned char c = (unsigned char)p[n - back];
        if ((c & 0xc0) == 0x80)
            continue;
        size_t length = c >= 0xf0 && c < 0xf5 ? 4 : c >= 0xe0 ? 3 : c >= 0xc2 ? 2 : 1;
        return c < 0xf5 && length > back ? back : 0;
    }
    return 0;
}

static void write_out(struct bn_run_text *t, size_t n)
{
    if (n == 0 || t->failed)
        return;
    if (fwrite(t->buf.p, 1, n, stdout) != n || (t->terminal && fflush(stdout) != 0)) {
        t->failed = true;
        t->errno_value = errno;
    }
    t->last = t->buf.p[n - 1];
    memmove(t->buf.p, t->buf.p + n, t->buf.n - n);
    t->buf.n -= n;
}

bool bn_run_text_token(struct bn_run_text *t, uint32_t id)
{
    BN_SCOPE(DETOKENIZE);
    size_t before = t->buf.n;

    bn_tokenizer_decode(t->tok, id, false, t->special, &t->buf);
    bn_scope_count(t->buf.n - before, 0);
    if (t->print)
        write_out(t, t->buf.n - unfinished(t->buf.p, t->buf.n));
    else
        t->buf.n = 0;
    return !t->failed;
}

void bn_run_text_end(struct bn_run_text *t)
{
    if (t->print) {
        write_out(t, t->buf.n);
        if (t->last != '\n' && !t->failed)
            putchar('\n');
        if (!t->failed && fflush(stdout) != 0) {
            t->failed = true;
            t->errno_value = errno;
        }
    }
    t->buf.n = 0;
    t->last = '\0';
}

int bn_run_text_check(struct bn_run_text *t, struct bn_err *err)
{
    if (!t->failed && (fflush(stdout) != 0 || ferror(stdout))) {
        t->failed = true;
        t->errno_value = errno;
    }
    if (!t->failed)
        return 0;
    __fpurge(stdout); /* it has been told: nobody else need fail on it again */
    clearerr(stdout);
    return bn_err_set(err, "standard output: %s", strerror(t->errno_value));
}

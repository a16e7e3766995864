/* SPDX-License-Identifier: MIT
 * checkkernel's cases: guarded buffers, random numbers, comparisons, messages. */
#include "tests/kernels/checkkernel.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

uint64_t check_random(struct check *c)
{
    uint64_t z = c->rng += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

size_t check_below(struct check *c, size_t n)
{
    return check_random(c) % n;
}

size_t check_between(struct check *c, size_t a, size_t b)
{
    return a + check_below(c, b - a + 1);
}

float check_float(struct check *c, float magnitude)
{
    double unit = (double)(check_random(c) >> 11) * 0x1p-53;

    return (float)((2.0 * unit - 1.0) * magnitude);
}

/* ---- buffers ---- */

static size_t page_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

void check_free(struct check *c)
{
    for (size_t i = 0; i < c->n_buffers; i++)
        munmap(c->buffers[i].map, c->buffers[i].map_bytes);
    c->n_buffers = 0;
}

void check_case(struct check *c, const char *format, ...)
{
    static const char *const places[] = {"at the page's start", "at the page's end", "off alignment"};
    va_list args;
    size_t n;

    check_free(c);
    c->place = (enum place)check_below(c, N_PLACES);
    va_start(args, format);
    vsnprintf(c->shape, sizeof c->shape, format, args);
    va_end(args);
    n = strlen(c->shape);
    snprintf(c->shape + n, sizeof c->shape - n, ", buffers %s", places[c->place]);
}

/* A mapping with an unmapped page at either end; what the buffer does not use between them is canaries. */
static struct buffer *new_buffer(struct check *c, size_t count, size_t size_bytes, bool output)
{
    struct buffer *b = &c->buffers[c->n_buffers];
    size_t page = page_bytes(), odd = size_bytes * check_between(c, 1, 15), n = count * size_bytes;
    size_t inner = (n + 16 * size_bytes + page - 1) / page * page;

    if (c->n_buffers == MAX_BUFFERS) {
        fprintf(stderr, "checkkernel: a case needs more than %d buffers\n", MAX_BUFFERS);
        exit(1);
    }
    b->map_bytes = inner + 2 * page;
    b->map = mmap(NULL, b->map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (b->map == MAP_FAILED || mprotect(b->map + page, inner, PROT_READ | PROT_WRITE) != 0) {
        perror("checkkernel: mmap");
        exit(1);
    }
    c->n_buffers++;
    memset(b->map + page, GAP_BYTE, inner);
    b->p = b->map + page + (c->place == AT_START ? 0 : c->place == AT_END ? inner - n : odd);
    b->n_bytes = n;
    b->output = output;
    return b;
}

void *check_in(struct check *c, size_t count, size_t size_bytes)
{
    return new_buffer(c, count, size_bytes, false)->p;
}

void *check_out(struct check *c, size_t count, size_t size_bytes)
{
    return new_buffer(c, count, size_bytes, true)->p;
}

void *check_inout(struct check *c, size_t count, size_t size_bytes)
{
    return new_buffer(c, count, size_bytes, true)->p;
}

static void protect_inputs(struct check *c, int protection)
{
    size_t page = page_bytes();

    for (size_t i = 0; i < c->n_buffers; i++) {
        struct buffer *b = &c->buffers[i];

        if (!b->output)
            mprotect(b->map + page, b->map_bytes - 2 * page, protection);
    }
}

void check_call(struct check *c)
{
    protect_inputs(c, PROT_READ);
}

void check_done(struct check *c)
{
    size_t page = page_bytes();

    protect_inputs(c, PROT_READ | PROT_WRITE);
    for (size_t i = 0; i < c->n_buffers; i++) {
        const struct buffer *b = &c->buffers[i];

        for (const uint8_t *p = b->map + page; p < b->map + b->map_bytes - page; p++) {
            if (p == b->p)
                p += b->n_bytes;
            if (p < b->map + b->map_bytes - page && *p != GAP_BYTE)
                check_fail(c, "buffer %zu: byte %td was overwritten (the buffer has %zu)", i, p - b->p,
                           b->n_bytes);
        }
    }
}

/* ---- comparisons ---- */

void check_fail(struct check *c, const char *format, ...)
{
    va_list args;
    int n;

    if (check_failed(c))
        return;
    n = snprintf(c->failure, sizeof c->failure, "%s: ", c->shape);
    va_start(args, format);
    vsnprintf(c->failure + n, sizeof c->failure - (size_t)n, format, args);
    va_end(args);
}

bool check_failed(const struct check *c)
{
    return c->failure[0] != '\0';
}

void check_int(struct check *c, const char *name, size_t i, int64_t is, int64_t expected)
{
    if (is != expected)
        check_fail(c, "%s[%zu] is %lld, expected %lld", name, i, (long long)is, (long long)expected);
}

void check_exact(struct check *c, const char *name, size_t i, float is, float expected)
{
    uint32_t is_bits, expected_bits;

    memcpy(&is_bits, &is, sizeof is_bits);
    memcpy(&expected_bits, &expected, sizeof expected_bits);
    if (is_bits != expected_bits)
        check_fail(c, "%s[%zu] is %a (0x%08x), expected %a (0x%08x)", name, i, (double)is, is_bits,
                   (double)expected, expected_bits);
}

void check_near(struct check *c, const char *name, size_t i, float is, long double expected,
                long double bound)
{
    if (!(fabsl((long double)is - expected) <= bound))
        check_fail(c, "%s[%zu] is %.9g, expected %.12Lg: off by %.3Lg, bound %.3Lg", name, i, (double)is,
                   expected, fabsl((long double)is - expected), bound);
}

/* ---- 16-bit formats ---- */

long double half_value(uint16_t h)
{
    int exponent = h >> 10 & 31, mantissa = h & 1023;
    long double v;

    if (exponent == 31)
        v = mantissa ? NAN : INFINITY;
    else if (exponent == 0)
        v = ldexpl(mantissa, -24);
    else
        v = ldexpl(1024 + mantissa, exponent - 25);
    return h & 0x8000 ? -v : v;
}

long double bfloat_value(uint16_t b)
{
    uint32_t bits = (uint32_t)b << 16;
    float f;

    memcpy(&f, &bits, sizeof f);
    return f;
}

uint16_t check_half(struct check *c)
{
    return (uint16_t)(check_below(c, 2) << 15 | check_below(c, 0x7c00));
}

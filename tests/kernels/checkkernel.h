/* SPDX-License-Identifier: MIT
 * checkkernel: every kernel of every instruction set against a naive definition written here, independently.
 *
 * A check runs cases. A case takes its buffers from check_in and check_out, fills the inputs, calls the
 * kernel between check_call and check_done, and compares. Buffers lie against unmapped pages and among
 * canaries; inputs are read-only during the call. */
#ifndef TESTS_KERNELS_CHECKKERNEL_H
#define TESTS_KERNELS_CHECKKERNEL_H

#include "kernels/kernels.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHECK_PRINTF(f, a) __attribute__((format(printf, f, a)))

enum { MAX_BUFFERS = 8, GAP_BYTE = 0xa5 };

/* Where a case's buffers lie in their mapping: against the unmapped page before or behind, or off alignment.
 */
enum place { AT_START, AT_END, ODD, N_PLACES };

struct buffer {
    uint8_t *map;
    size_t map_bytes; /* with both guard pages */
    uint8_t *p;
    size_t n_bytes;
    bool output;
};

/* One slot on one instruction set. */
struct check {
    const struct bn_kernels *kernels;
    uint64_t rng;
    struct buffer buffers[MAX_BUFFERS];
    size_t n_buffers;
    enum place place;
    char shape[160];   /* of the current case, for messages */
    char failure[512]; /* the first one, with its case; empty = none */
};

/* ---- random numbers (splitmix64); a check always sees the same ones for the same seed ---- */

uint64_t check_random(struct check *c);
size_t check_below(struct check *c, size_t n);             /* 0 … n - 1 */
size_t check_between(struct check *c, size_t a, size_t b); /* a … b */
float check_float(struct check *c, float magnitude);       /* even in -magnitude … magnitude */

/* ---- a case ---- */

/* Begin: drop the buffers of the case before, remember the shape, choose the place. */
void check_case(struct check *c, const char *format, ...) CHECK_PRINTF(2, 3);
/* Uninitialised input and GAP_BYTE-filled output of count elements; count may be 0. */
void *check_in(struct check *c, size_t count, size_t size_bytes);
void *check_out(struct check *c, size_t count, size_t size_bytes);
/* An output with a starting value, to be filled before the call. */
void *check_inout(struct check *c, size_t count, size_t size_bytes);
/* Around the call: seal the inputs; unseal them and look at the canaries. */
void check_call(struct check *c);
void check_done(struct check *c);
/* Record the failure of this case, if it is the first. */
void check_fail(struct check *c, const char *format, ...) CHECK_PRINTF(2, 3);
bool check_failed(const struct check *c);
void check_free(struct check *c);

/* ---- comparisons; the index is part of the message ---- */

void check_int(struct check *c, const char *name, size_t i, int64_t is, int64_t expected);
/* Bit for bit. */
void check_exact(struct check *c, const char *name, size_t i, float is, float expected);
void check_near(struct check *c, const char *name, size_t i, float is, long double expected,
                long double bound);

/* Values of the 16-bit formats, by their definition. */
long double half_value(uint16_t h);
long double bfloat_value(uint16_t b);
/* A finite half whose exponent is spread over the format's range, subnormals included. */
uint16_t check_half(struct check *c);

/* ---- what there is: check_<slot> for every slot ---- */

#define CHECK_PROTOTYPE(slot, ret, args) void check_##slot(struct check *c);
BN_KERNEL_SLOTS(CHECK_PROTOTYPE)
#undef CHECK_PROTOTYPE

/* Time the slots whose symbol contains `filter` (may be NULL) on every rung of the ladder up to cpu_flags. */
void bench_all(unsigned cpu_flags, const char *filter);

/* The ladder's rungs, from "c" up, and their initialisers. */
struct rung {
    const char *name;
    unsigned flag; /* 0 for c */
    void (*init)(struct bn_kernels *kernels);
};
extern const struct rung rungs[];
extern const size_t n_rungs;
/* Which slots differ between two tables. */
void changed_slots(const struct bn_kernels *before, const struct bn_kernels *now,
                   bool changed[BN_KERNEL_COUNT]);

#endif

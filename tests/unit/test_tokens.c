/* SPDX-License-Identifier: MIT
 * Tokens from scope events: of the thread that generates, or from the steps of a program that only has those.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "profiler/tokens.h"

enum { T0 = 1000 };

static void add(struct bn_timeline *t, int32_t tid, uint32_t slot, const struct bn_scope_event *events,
                size_t n)
{
    struct bn_scope_event at[16];
    struct bn_raw_scopes head = {.tid = tid, .slot = slot};

    assert_true(n <= BN_COUNT(at));
    for (size_t i = 0; i < n; i++) {
        at[i] = events[i];
        at[i].t_ns += T0;
    }
    bn_timeline_add(t, &head, at, n);
}

struct recording {
    struct bn_profile p;
    struct bn_part_info info;
    struct bn_timeline timeline;
};

/* Nodes are numbered as they are added, from 1. */
static uint16_t stage(struct recording *r, uint16_t parent, const char *name)
{
    if (r->info.n_nodes == 0)
        r->info.n_nodes = 1;
    r->info.stage_of_node[r->info.n_nodes] = bn_profile_add_stage(&r->p, r->info.stage_of_node[parent], name);
    return (uint16_t)r->info.n_nodes++;
}

static void open_recording(struct recording *r)
{
    *r = (struct recording){.info.t0_ns = T0};
    bn_profile_init(&r->p);
}

static void expect(struct recording *r, const struct bn_token *want, size_t n)
{
    struct bn_token *tokens;

    bn_timeline_settle(&r->timeline);
    assert_int_equal(bn_tokens_find(&r->p, &r->info, &r->timeline, &tokens), n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(tokens[i].start_ns, want[i].start_ns);
        assert_int_equal(tokens[i].end_ns, want[i].end_ns);
        assert_int_equal(tokens[i].step, want[i].step);
        assert_int_equal(tokens[i].prefill, want[i].prefill);
    }
    free(tokens);
    bn_timeline_free(&r->timeline);
    bn_profile_free(&r->p);
}

/* The generating thread is not the process's first; a worker takes the stages over. */
static void test_generated(void **unused)
{
    struct recording r;

    (void)unused;
    open_recording(&r);
    uint16_t other = stage(&r, 0, "serve"), generate = stage(&r, 0, "generate"),
             prefill = stage(&r, generate, "prefill"), decode = stage(&r, generate, "decode"),
             ffn = stage(&r, decode, "ffn");
    const struct bn_scope_event first[] = {{5, other, -1, 0}, {900, 0, -1, 0}};
    const struct bn_scope_event worker[] = {{130, prefill, -1, 1}, {230, ffn, -1, 2}, {240, 0, -1, 2}};
    const struct bn_scope_event caller[] = {
        {110, generate, -1, 0}, {120, prefill, -1, 1}, {200, generate, -1, 1}, {210, decode, -1, 2},
        {220, ffn, -1, 2},      {250, decode, -1, 2},  {300, generate, -1, 2}, {310, decode, -1, 3},
    };
    add(&r.timeline, 1, 0, first, BN_COUNT(first));
    add(&r.timeline, 3, 1, worker, BN_COUNT(worker));
    add(&r.timeline, 2, 2, caller, BN_COUNT(caller));
    const struct bn_token want[] = {{120, 200, 1, true}, {210, 300, 2, false}};
    expect(&r, want, BN_COUNT(want));
}

/* Two threads step in turn; a worker has the first one's step, later and longer; the last never ends. */
static void test_steps(void **unused)
{
    struct recording r;

    (void)unused;
    open_recording(&r);
    uint16_t frame = stage(&r, 0, "frame");
    const struct bn_scope_event a[] = {
        {10, frame, -1, 0}, {12, frame, -1, 1}, {50, 0, -1, 0}, {60, frame, -1, 3}, {70, frame, -1, 4}};
    const struct bn_scope_event b[] = {{20, frame, -1, 2}, {90, 0, -1, 0}};
    const struct bn_scope_event worker[] = {{15, frame, -1, 1}, {65, frame, -1, 3}};
    add(&r.timeline, 7, 0, worker, BN_COUNT(worker));
    add(&r.timeline, 5, 1, a, BN_COUNT(a));
    add(&r.timeline, 6, 2, b, BN_COUNT(b));
    const struct bn_token want[] = {{12, 50, 1, false}, {20, 90, 2, false}, {60, 70, 3, false}};
    expect(&r, want, BN_COUNT(want));
}

static void test_none(void **unused)
{
    struct recording r;

    (void)unused;
    open_recording(&r);
    expect(&r, NULL, 0);
    open_recording(&r);
    uint16_t frame = stage(&r, 0, "frame");
    const struct bn_scope_event a[] = {{10, frame, -1, 0}, {12, 60000, -1, 0}, {50, 0, -1, 0}};
    add(&r.timeline, 7, 0, a, BN_COUNT(a));
    expect(&r, NULL, 0);
}

/* A damaged part of the recording: the token in which it lies has no known end, or no known begin. */
static void test_damaged(void **unused)
{
    struct recording r;

    (void)unused;
    open_recording(&r);
    uint16_t generate = stage(&r, 0, "generate"), decode = stage(&r, generate, "decode"),
             ffn = stage(&r, decode, "ffn");
    const struct bn_scope_event before[] = {{100, decode, -1, 1}, {150, 0, -1, 1}, {200, decode, -1, 2}};
    const struct bn_scope_event after[] = {
        {450, ffn, -1, 4}, {480, decode, -1, 4}, {490, 0, -1, 4}, {500, decode, -1, 5}, {550, 0, -1, 5}};
    add(&r.timeline, 7, 0, before, BN_COUNT(before));
    bn_timeline_lose(&r.timeline);
    add(&r.timeline, 7, 0, after, BN_COUNT(after));
    const struct bn_token want[] = {{100, 150, 1, false}, {500, 550, 5, false}};
    expect(&r, want, BN_COUNT(want));
}

static void test_damaged_steps(void **unused)
{
    struct recording r;

    (void)unused;
    open_recording(&r);
    uint16_t work = stage(&r, 0, "work");
    const struct bn_scope_event before[] = {{100, work, -1, 1}, {200, work, -1, 2}},
                                after[] = {{450, work, -1, 4}, {500, work, -1, 5}, {550, work, -1, 6}};
    add(&r.timeline, 7, 0, before, BN_COUNT(before));
    bn_timeline_lose(&r.timeline);
    add(&r.timeline, 7, 0, after, BN_COUNT(after));
    const struct bn_token want[] = {{100, 200, 1, false}, {500, 550, 5, false}};
    expect(&r, want, BN_COUNT(want));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_generated), cmocka_unit_test(test_steps),         cmocka_unit_test(test_none),
        cmocka_unit_test(test_damaged),   cmocka_unit_test(test_damaged_steps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT
 * Stacks that are known again are the stacks that unwinding gives: for every sample of real recordings, and
 * for inputs that differ from a known one in a single word. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "profiler/intake.h"
#include "profiler/launch.h"
#include "profiler/sampler.h"

/* ---- every sample of a recording, both ways ---- */

struct both {
    struct bn_intake intake;
    struct bn_unwinder *unwinder; /* the second opinion */
    struct bn_unwind_result *fresh;
    size_t n_samples;
};

/* The entry's chain, innermost first, must be that of the fresh result. */
static void compare(const struct both *b, const struct bn_raw_stack *entries, uint32_t stack)
{
    const struct bn_unwind_result *u = b->fresh;
    size_t i = 0;

    while (stack && entries[stack].file == BN_RAW_KERNEL)
        stack = entries[stack].parent;
    for (; stack && entries[stack].file != BN_RAW_MARK; stack = entries[stack].parent, i++) {
        assert_true(i < u->n);
        const struct bn_place *place = &u->frames[i].place;
        assert_int_equal(entries[stack].file, place->image ? (int32_t)place->file : BN_RAW_NOWHERE);
        uint64_t known = place->has_vaddr ? place->vaddr : UINT64_MAX;
        assert_int_equal(entries[stack].address, place->image ? known : u->frames[i].address);
    }
    assert_int_equal(i, u->n);
    assert_int_equal(stack ? entries[stack].address : BN_UNWIND_COMPLETE, u->end);
}

static void take(struct both *b, const uint8_t *record)
{
    struct bn_record r;

    bn_intake_record(&b->intake, record);
    assert_int_equal(bn_record_decode(&b->intake.format, record, &r, NULL), 0);
    if (r.type != PERF_RECORD_SAMPLE || r.stack_bytes == 0)
        return;
    struct bn_unwind_input in = bn_unwind_input_of(&r);
    bn_unwind(b->unwinder, bn_maps_process(&b->intake.maps, r.pid), &in, b->fresh);
    b->n_samples++;
    if (b->fresh->n)
        compare(b, b->intake.stacks.table.entries, b->intake.samples[b->intake.n_samples - 1].raw.stack);
}

static void drain(struct bn_perf *s, struct both *b)
{
    struct bn_ring **rings = bn_xcalloc(s->n_rings, sizeof(struct bn_ring *));
    const uint8_t *record;

    for (size_t i = 0; i < s->n_rings; i++)
        rings[i] = &s->rings[i].ring;
    bn_perf_see(s);
    while ((record = bn_rings_next(rings, s->n_rings, &b->intake.format, UINT64_MAX)) != NULL)
        take(b, record);
    bn_perf_release(s);
    free(rings);
}

static void record_both(char *const argv[], uint32_t dump_bytes, struct both *b)
{
    struct bn_perf_options o = {
        .ladder = {.event = BN_EVENT_CPU_CLOCK, .rate_hz = 1999, .stack_dump_bytes = dump_bytes}};
    struct bn_launch_command command = {.file = argv[0], .argv = argv, .keep_fd = -1};
    struct bn_launch launch;
    struct bn_launch_end end;
    struct bn_perf s;
    struct bn_err err = {{0}};

    *b = (struct both){0};
    assert_int_equal(bn_launch_start(&launch, &command, &err), 0);
    if (bn_perf_open(&s, &o, launch.pid, &err) != 0) {
        bn_launch_close(&launch);
        printf("# skipped: %s\n", err.msg);
        skip();
    }
    struct bn_record_format format = {s.ladder.attr.sample_type, s.ladder.attr.sample_regs_user};
    bn_intake_begin(&b->intake, &format, false);
    b->unwinder = bn_unwinder_new(&b->intake.maps);
    b->fresh = bn_xcalloc(1, sizeof *b->fresh);
    assert_int_equal(bn_launch_release(&launch, &command, &err), 0);
    while (!bn_launch_ended(&launch, &end)) {
        struct pollfd wait = {.fd = launch.pidfd, .events = POLLIN};
        poll(&wait, 1, 10);
        drain(&s, b);
    }
    bn_perf_stop(&s);
    drain(&s, b);
    bn_perf_close(&s);
    bn_launch_close(&launch);
}

static void end_both(struct both *b)
{
    bn_unwinder_free(b->unwinder);
    bn_intake_end(&b->intake);
    free(b->fresh);
}

static void test_known_equals_unwound(void **state)
{
    static const char *const programs[][2] = {
        {"truth_spin", "300"}, {"truth_deep", "300"}, {"truth_inline", "200"}, {"truth_threads", "20"}};
    static const uint32_t dumps[] = {BN_STACK_DUMP_DEFAULT,
                                     512}; /* the kernel's chain completes the second */
    const char *build = getenv("BUILD");
    size_t known = 0;

    (void)state;
    for (size_t i = 0; i < BN_COUNT(programs) * BN_COUNT(dumps); i++) {
        char *path = bn_xasprintf("%s/tests/data/%s", build ? build : "build/release", programs[i / 2][0]);
        char *argv[] = {path, (char *)(uintptr_t)programs[i / 2][1], NULL};
        struct both b;
        record_both(argv, dumps[i % 2], &b);
        assert_true(b.n_samples > 20);
        known += b.intake.stacks.n_known;
        end_both(&b);
        free(path);
    }
    assert_true(known > 100);
}

/* ---- the tree alone ---- */

enum { WORDS = 32 };

/* What an unwinder might do: read rbx or not by the first word, then follow words that point into the stack.
 * Returns the answer, and logs what it read. */
static uint32_t fake_unwind(const struct bn_unwind_input *in, struct bn_memo_read *reads, size_t *n)
{
    uint64_t sp = in->regs[BN_UNWIND_RSP], at = sp, word = 0;
    uint32_t answer = 17;

    *n = 0;
    for (int step = 0; step < 6; step++) {
        bool there = bn_unwind_input_word(in, at, &word);
        reads[(*n)++] = bn_memo_found(bn_memo_stack(at, sp), there ? &word : NULL, sp);
        if (!there)
            return answer * 31 + 7;
        bool inside = word >= sp && word < sp + 8 * WORDS;
        answer = answer * 31 + (uint32_t)(inside ? word - sp : word);
        at = inside ? word & ~7ull : at + 8;
        if (step == 0 && word % 2) {
            uint64_t rbx = in->regs[3];
            reads[(*n)++] = bn_memo_found(bn_memo_register(3), &rbx, sp);
            answer += (uint32_t)rbx;
        }
    }
    bool there = bn_unwind_input_chain(in, 1, &word);
    reads[(*n)++] = bn_memo_found(bn_memo_chain(1), there ? &word : NULL, sp);
    return (answer + (there ? (uint32_t)word : 99)) >> 1;
}

static uint64_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

static void test_tree(void **state)
{
    struct bn_memo memo = {0};
    struct bn_memo_read reads[16];
    uint64_t seed = 7, words[WORDS], chain[2];
    size_t found = 0, n;

    (void)state;
    for (int round = 0; round < 200000; round++) {
        uint64_t sp = 0x7ffc00000000u + (next_random(&seed) % 4 << 20);
        struct bn_unwind_input in = {.known = (1u << BN_UNWIND_REGS) - 1,
                                     .stack = (const uint8_t *)words,
                                     .stack_bytes = 8 * (WORDS - next_random(&seed) % 3 * 8),
                                     .chain = (const uint8_t *)chain,
                                     .n_chain = next_random(&seed) % 3};
        in.regs[BN_UNWIND_RSP] = sp;
        in.regs[3] = next_random(&seed) % 3;
        for (size_t i = 0; i < WORDS; i++)
            words[i] = next_random(&seed) % 2
                           ? sp + 8 * (next_random(&seed) % (WORDS / 4) + WORDS / 2 * (i % 2))
                           : next_random(&seed) % 3;
        chain[0] = chain[1] = next_random(&seed) % 2;
        uint32_t want = fake_unwind(&in, reads, &n), got = bn_memo_find(&memo, 5, 6, &in);
        if (got != BN_MEMO_UNKNOWN)
            assert_int_equal(got, want);
        found += got != BN_MEMO_UNKNOWN;
        bn_memo_add(&memo, 5, 6, reads, n, want);
        assert_int_equal(bn_memo_find(&memo, 5, 6, &in), want);
        assert_int_equal(bn_memo_find(&memo, 5, 7, &in), BN_MEMO_UNKNOWN);
    }
    assert_true(found > 1000);
    bn_memo_free(&memo);
}

/* ---- bounds ---- */

/* Tables that grew to their bound begin anew, and what was written stays right. */
static void test_begins_anew(void **state)
{
    struct bn_record_format format = {.sample_type = PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME};
    char path[] = "/tmp/bnprof-callstack.XXXXXX";
    struct bn_raw_writer w;
    struct bn_intake in;
    struct bn_err err;

    (void)state;
    close(mkstemp(path));
    unlink(path);
    assert_int_equal(bn_raw_create(&w, path, &err), 0);
    bn_intake_begin(&in, &format, false);
    for (uint32_t i = 0; i < BN_CALLSTACK_MAX_ENTRIES + 10; i++)
        bn_stack_table_add(&in.stacks.table, i % 3, BN_RAW_NOWHERE, i);
    bn_intake_write(&in, &w);
    assert_int_equal(in.stacks.table.n, 1);
    assert_int_equal(bn_stack_table_add(&in.stacks.table, 0, 3, 4), 1);
    bn_intake_write(&in, &w);
    bn_intake_end(&in);
    assert_int_equal(bn_raw_close(&w, &err), 0);
    struct bn_raw_reader r;
    struct bn_raw_block block;
    const uint8_t *payload;
    struct bn_raw_stacks head;
    int blocks = 0;
    assert_int_equal(bn_raw_open(&r, path, &err), 0);
    for (; bn_raw_next(&r, &block, &payload) == 1; blocks++) {
        assert_int_equal(block.kind, BN_RAW_STACKS);
        memcpy(&head, payload, sizeof head);
        assert_int_equal(head.first, 1);
    }
    assert_int_equal(blocks, 2);
    bn_raw_close_reader(&r);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_equals_unwound),
        cmocka_unit_test(test_tree),
        cmocka_unit_test(test_begins_anew),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT
 * A recording with a damaged block: everything else is read, and nothing of it becomes something else.
 * Callers, files and threads of which the block told are "[lost]", never those of another sample. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/part_maker.h"

#include "profiler/join.h"

enum { EPOCHS = 3, ROUNDS = 4, DEPTH = 5, STEP_NS = 1000, MAX_BLOCKS = 128 };

static struct bn_profile whole;
static uint8_t *bytes;
static size_t n_bytes, starts[MAX_BLOCKS + 1], n_blocks;
static char path[80];

/* ---- a recording of all kinds of blocks, with tables that begin anew ---- */

static void put_file_block(struct bn_raw_writer *w, uint32_t index)
{
    struct bn_raw_file head = {.index = index};
    char *name = bn_xasprintf("/nonexistent/f%u", index);

    bn_raw_append(w, BN_RAW_FILE, &head, sizeof head, name, strlen(name));
    free(name);
}

/* DEPTH new entries, each the caller of the next; with them a sample for each. */
static void put_round(struct bn_raw_writer *w, uint32_t epoch, uint32_t round, uint32_t n_files,
                      uint32_t thread)
{
    uint32_t first = 1 + round * DEPTH;
    struct bn_raw_stacks stacks = {.first = first, .epoch = epoch};
    struct bn_raw_stack entries[DEPTH];
    struct bn_raw_samples head = {.base_ns = MAKER_T0 + (epoch * ROUNDS + round) * 100 * STEP_NS};
    struct bn_raw_sample samples[DEPTH + 1] = {0};

    for (uint32_t i = 0; i < DEPTH; i++) {
        entries[i] = (struct bn_raw_stack){.parent = i       ? first + i - 1
                                                     : round ? (first + i) / 2
                                                             : 0,
                                           .file = (int32_t)((epoch + round + i) % n_files),
                                           .address = i};
        samples[i] = (struct bn_raw_sample){.weight = 1000,
                                            .dt_ns = i * STEP_NS,
                                            .thread = i % 2 ? thread : 0,
                                            .stack = first + i,
                                            .node = BN_RAW_NO_SCOPES,
                                            .flags = epoch << BN_RAW_SAMPLE_EPOCH_SHIFT};
    }
    samples[DEPTH] = samples[DEPTH - 1]; /* and one with an entry of the first round */
    samples[DEPTH].stack = 1 + round % DEPTH;
    samples[DEPTH].dt_ns = DEPTH * STEP_NS;
    bn_raw_append(w, BN_RAW_STACKS, &stacks, sizeof stacks, entries, sizeof entries);
    bn_raw_append(w, BN_RAW_SAMPLES, &head, sizeof head, samples, sizeof samples);
}

static void join_at(struct bn_profile *p, int want)
{
    struct bn_err err = {.msg = ""};

    bn_profile_init(p);
    int status = bn_join(p, path, NULL, &err);
    if (status != want)
        fail_msg("join says %d: %s", status, err.msg);
    if (status != 0)
        assert_non_null(strstr(err.msg, "checksum"));
}

static int make_whole(void **state)
{
    uint32_t n_threads = 0, n_files = 0;
    struct bn_raw_block block;
    struct maker m;
    struct bn_map map;

    (void)state;
    maker_open(&m, MAKER_TYPE);
    strcpy(path, m.path);
    maker_header(&m, "");
    for (uint32_t epoch = 0; epoch < EPOCHS; epoch++)
        for (uint32_t round = 0; round < ROUNDS; round++) {
            struct bn_raw_thread thread = {.index = n_threads, .pid = 7, .tid = 70 + (int32_t)n_threads};
            snprintf(thread.name, sizeof thread.name, "t%u", n_threads++);
            put_file_block(&m.w, n_files++);
            bn_raw_append(&m.w, BN_RAW_THREADS, &thread, sizeof thread, NULL, 0);
            put_round(&m.w, epoch, round, n_files, n_threads - 1);
        }
    maker_footer(&m);
    maker_close(&m);
    assert_int_equal(bn_map_open(&map, path, NULL), 0);
    n_bytes = map.n;
    bytes = bn_xmalloc(n_bytes);
    memcpy(bytes, map.p, n_bytes);
    bn_map_close(&map);
    for (size_t at = 8; at < n_bytes; at += sizeof block + bn_round_up(block.payload_bytes, 8)) {
        memcpy(&block, bytes + at, sizeof block);
        assert_true(n_blocks < MAX_BLOCKS);
        starts[n_blocks++] = at;
    }
    starts[n_blocks] = n_bytes;
    join_at(&whole, 0);
    assert_int_equal(whole.n_samples, EPOCHS * ROUNDS * (DEPTH + 1));
    assert_int_equal(whole.quality.damaged_bytes, 0);
    assert_int_equal(whole.quality.n_truncated, 0);
    return 0;
}

static int drop_whole(void **state)
{
    (void)state;
    bn_profile_free(&whole);
    free(bytes);
    return unlink(path);
}

/* ---- comparing ---- */

static const char *function_of(const struct bn_profile *p, uint32_t stack)
{
    return p->frames[p->stacks[stack].frame].function;
}

static bool is_mark(const struct bn_profile *p, uint32_t stack)
{
    return p->frames[p->stacks[stack].frame].kind == BN_FRAME_MARK;
}

/* From the leaf on, frame by frame: what is told is true. */
static void check_stack(const struct bn_profile *p, const struct bn_sample *got, const struct bn_sample *want)
{
    uint32_t a = got->stack, b = want->stack;

    for (; a != 0 && b != 0; a = p->stacks[a].parent, b = whole.stacks[b].parent) {
        if (is_mark(p, a)) {
            assert_string_equal(function_of(p, a), "[lost]");
            assert_int_equal(p->stacks[a].parent, 0);
            assert_true(got->flags & BN_SAMPLE_TRUNCATED);
            return;
        }
        const char *name = function_of(p, a);
        if (strcmp(name, "[lost]") != 0 && strcmp(name, "[unknown]") != 0)
            assert_string_equal(name, function_of(&whole, b));
    }
    assert_int_equal(a, 0);
    assert_int_equal(b, 0);
}

static void check_thread(const struct bn_profile *p, const struct bn_sample *got,
                         const struct bn_sample *want)
{
    const struct bn_profile_thread *a = &p->threads[got->thread], *b = &whole.threads[want->thread];

    if (strcmp(a->name, "[lost]") != 0) {
        assert_int_equal(a->tid, b->tid);
        assert_string_equal(a->name, b->name);
    }
}

/* Every sample of the damaged recording is one of the whole one; returns how many are missing. */
static size_t check_samples(const struct bn_profile *p)
{
    size_t at = 0;

    for (size_t i = 0; i < p->n_samples; i++) {
        while (at < whole.n_samples && whole.samples[at].t_ns != p->samples[i].t_ns)
            at++;
        assert_true(at < whole.n_samples);
        check_stack(p, &p->samples[i], &whole.samples[at]);
        check_thread(p, &p->samples[i], &whole.samples[at]);
    }
    assert_int_equal(p->quality.n_samples, p->n_samples);
    return whole.n_samples - p->n_samples;
}

static void put_bytes(const uint8_t *p, size_t n)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    fclose(f);
}

static uint32_t kind_of(size_t block)
{
    return ((const struct bn_raw_block *)(const void *)(bytes + starts[block]))->kind;
}

/* ---- tests ---- */

/* One bit of one block, anywhere: head, payload, checksum. */
static void test_every_block(void **state)
{
    size_t deep = 0, samples_blocks = 0;

    (void)state;
    for (size_t block = 0; block < n_blocks; block++)
        for (size_t at = starts[block]; at < starts[block + 1]; at += at < starts[block] + 16 ? 1 : 7) {
            struct bn_profile p;
            const struct bn_raw_block *head = (const void *)(bytes + starts[block]);
            if (at >= starts[block] + sizeof *head + head->payload_bytes)
                continue; /* padding */
            bytes[at] ^= 8;
            put_bytes(bytes, n_bytes);
            bytes[at] ^= 8;
            join_at(&p, kind_of(block) == BN_RAW_HEADER ? -1 : 0);
            if (kind_of(block) != BN_RAW_HEADER) {
                size_t missing = check_samples(&p);
                assert_int_equal(missing, kind_of(block) == BN_RAW_SAMPLES ? DEPTH + 1 : 0);
                /* The last block: too long a size cannot be told from a file that was cut off. */
                if (block + 1 < n_blocks)
                    assert_int_equal(p.quality.damaged_bytes, starts[block + 1] - starts[block]);
                assert_int_equal(p.quality.partial, kind_of(block) == BN_RAW_FOOTER);
                samples_blocks += missing > 0;
                deep += p.quality.n_truncated > 0;
            }
            bn_profile_free(&p);
        }
    assert_true(samples_blocks > 100);
    assert_true(deep > 100); /* lost tables were noticed */
}

/* A stretch of zeros, as from a disk that lost a page, over several blocks. */
static void test_stretches(void **state)
{
    uint8_t *copy = bn_xmalloc(n_bytes);

    (void)state;
    for (size_t length = 64; length < n_bytes / 2; length *= 2)
        for (size_t at = starts[1]; at + length < n_bytes; at += 56) {
            struct bn_profile p;
            memcpy(copy, bytes, n_bytes);
            memset(copy + at, 0, length);
            put_bytes(copy, n_bytes);
            join_at(&p, 0);
            check_samples(&p);
            assert_true(p.quality.damaged_bytes >= length);
            assert_true(p.quality.damaged_bytes < length + 1000);
            bn_profile_free(&p);
        }
    free(copy);
}

/* Numbers that no lost block can account for are refused as before: a file made to look damaged gets no table
 * of millions. */
static void test_gaps_are_bounded(void **state)
{
    struct bn_raw_stacks stacks = {.first = 1u << 30};
    struct bn_raw_stack entry = {.file = BN_RAW_NOWHERE};
    struct bn_raw_file file = {.index = 1u << 30};
    struct bn_raw_thread thread = {.index = 1u << 30, .name = "x"};
    static const char zeros[1024];
    struct bn_profile p;
    struct maker m;
    struct stat st;

    (void)state;
    maker_open(&m, MAKER_TYPE);
    maker_header(&m, "");
    bn_raw_append(&m.w, BN_RAW_SCOPES, zeros, sizeof zeros, NULL, 0);
    bn_raw_append(&m.w, BN_RAW_STACKS, &stacks, sizeof stacks, &entry, sizeof entry);
    bn_raw_append(&m.w, BN_RAW_FILE, &file, sizeof file, "/x", 2);
    bn_raw_append(&m.w, BN_RAW_THREADS, &thread, sizeof thread, NULL, 0);
    maker_close(&m);
    assert_int_equal(stat(path, &st), 0);
    FILE *f = fopen(path, "r+");
    assert_int_equal(fseek(f, st.st_size / 2, SEEK_SET), 0); /* in the first of them */
    fputs("damage", f);
    fclose(f);
    join_at(&p, 0);
    assert_true(p.quality.damaged_bytes > 600);
    assert_true(p.quality.damaged_bytes < (uint64_t)st.st_size);
    assert_true(p.n_threads < 2000);
    assert_int_equal(p.quality.n_lost, 3);
    bn_profile_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_block),
        cmocka_unit_test(test_stretches),
        cmocka_unit_test(test_gaps_are_bounded),
    };

    return cmocka_run_group_tests(tests, make_whole, drop_whole);
}

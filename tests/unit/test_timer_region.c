/* SPDX-License-Identifier: MIT
 * The recorder's side of the timers' shared memory against a program that writes anything into it; lines of
 * /proc/PID/maps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <linux/perf_event.h>
#include <string.h>

#include "profiler/timer.h"
#include "profiler/timer_maps.h"

static const struct bn_record_format format = {.sample_type = BN_TIMER_SAMPLE_TYPE,
                                               .regs_user = BN_TIMER_REGS};

/* Whatever a program writes into the region, the recorder counts it and goes on. */
static void test_hostile_region(void **state)
{
    struct bn_timer_options o = {.rate_hz = 100, .stack_dump_bytes = 16384, .ring_bytes = 4096};
    struct bn_timer t;
    struct bn_err err;
    struct bn_ring *rings[] = {&t.ring};
    const uint8_t *record;
    size_t n_records = 0;
    uint64_t seed = 20261121;

    (void)state;
    assert_int_equal(bn_timer_open(&t, &o, &err), 0);
    for (int round = 0; round < 3000; round++) {
        size_t i = (size_t)round % 5;
        struct bn_timer_slot *slot = &t.region->slots[i];
        char *ring = bn_timer_ring(t.region, (uint32_t)i, 4096);
        for (size_t k = 0; k < 4096; k += 8) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            uint64_t word = seed >> 20;
            if (k % 64 == 0) /* often a plausible header */
                word = (seed >> 60) | (seed >> 40 & 0xff) << 51;
            memcpy(ring + k, &word, sizeof word);
        }
        slot->state = seed >> 50 & 1 ? BN_TIMER_LIVE : BN_TIMER_ENDED;
        slot->pid = -1;
        slot->head = t.tails[i] + (seed >> 30) % (round % 3 ? 4097 : UINT32_MAX);
        t.region->ring_bytes = (uint32_t)seed;
        bn_timer_see(&t);
        while ((record = bn_rings_next(rings, 1, &format, UINT64_MAX)) != NULL) { /* sound, if untrue */
            struct bn_record r;
            assert_true(bn_record_size(record, UINT16_MAX) > 0);
            assert_int_equal(bn_record_decode(&format, record, &r, &err), 0);
            n_records++;
        }
    }
    t.region->processes[0].state = BN_TIMER_LIVE;
    t.region->processes[0].pid = -5;
    t.region->processes[0].start_ns = 1;
    t.region->processes[1].state = BN_TIMER_LIVE;
    t.region->processes[1].pid = INT32_MAX;
    t.region->processes[1].start_ns = 1;
    bn_timer_see(&t);
    print_message("# %zu records came through, %llu did not\n", n_records, (unsigned long long)t.n_damaged);
    assert_true(t.n_damaged > 0 && n_records > 0);
    bn_timer_close(&t);
}

static void expect_map(const char *line, bool good, uint64_t start, bool executable, const char *path)
{
    struct bn_timer_map map;

    assert_int_equal(bn_timer_map_parse(&map, line, strlen(line)), good);
    if (!good)
        return;
    assert_true(map.range[0] == start && map.executable == executable);
    assert_int_equal(map.path_bytes, strlen(path));
    assert_memory_equal(map.path, path, map.path_bytes);
}

static void test_map_lines(void **state)
{
    (void)state;
    expect_map("7f00a000-7f00b000 r-xp 00001000 fe:01 1234      /usr/lib/a b.so", true, 0x7f00a000, true,
               "/usr/lib/a b.so");
    expect_map("1000-2000 rw-p 00000000 00:00 0 ", true, 0x1000, false, "//anon");
    expect_map("1000-2000 rwxp 00000000 00:00 0", true, 0x1000, true, "//anon");
    expect_map("1000-2000 r-xp 00000000 00:00 0                  [vdso]", true, 0x1000, true, "[vdso]");
    expect_map("2000-1000 r-xp 00000000 00:00 0", false, 0, false, NULL);
    expect_map("1000-2000", false, 0, false, NULL);
    expect_map("1000", false, 0, false, NULL);
    expect_map("", false, 0, false, NULL);
    expect_map("x-y r-xp 0 0 0", false, 0, false, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hostile_region),
        cmocka_unit_test(test_map_lines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT
 * Damaged files, thousands of each kind, always the same ones: small real files with bytes changed, cut off,
 * copied about. Nothing may crash, hang or leak. test_fuzz --seeds FOLDER writes the files that it starts
 * from, for `make fuzz`; test_fuzz KIND FILE reads one. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "part_maker.h"
#include "synthetic_profile.h"
#include "tests/fuzz/fuzz_elf.h"
#include "tests/fuzz/fuzz_part.h"
#include "tests/fuzz/fuzz_profile.h"

typedef void fuzz_function(const uint8_t *bytes, size_t n);

enum { MAX_INPUT_BYTES = 1 << 20, SECONDS_PER_INPUT = 20 };

/* ---- the files to start from ---- */

static struct bn_buf read_whole(const char *path)
{
    struct bn_buf b = {0};
    char chunk[65536];
    FILE *f = fopen(path, "re");

    for (size_t n; f && (n = fread(chunk, 1, sizeof chunk, f)) > 0;)
        bn_buf_put(&b, chunk, n);
    if (f)
        fclose(f);
    return b;
}

static struct bn_buf seed_elf(void)
{
    const char *build = getenv("BUILD");
    char *path = bn_xasprintf("%s/tests/data/truth_inline", build ? build : "build/release");
    struct bn_buf b = read_whole(path);

    free(path);
    return b;
}

/* The same without .eh_frame, if there is a compiler. */
static struct bn_buf seed_debug_frame(void)
{
    char path[] = "/tmp/test_fuzz.XXXXXX";
    int fd = mkstemp(path);
    struct bn_buf b = {0};

    if (fd < 0)
        return b;
    close(fd);
    char *line = bn_xasprintf("gcc -O1 -g -fno-asynchronous-unwind-tables -gz=zlib -I. -o %s "
                              "tests/data/truth_inline.c 2>/dev/null",
                              path);
    if (system(line) == 0)
        b = read_whole(path);
    free(line);
    unlink(path);
    return b;
}

static struct bn_buf seed_small(void)
{
    return read_whole("tests/data/captured/gcc-library.elf");
}

static struct bn_buf seed_small_debug_frame(void)
{
    return read_whole("tests/data/captured/gcc-debug-frame.elf");
}

static struct bn_buf seed_part(void)
{
    static const struct maker_event events[] = {{100, 1, -1, 0}, {200, 2, 3, 1}, {900, 1, -1, 1}};
    struct maker m;

    maker_open(&m, MAKER_TYPE);
    maker_header(&m, "");
    maker_comm(&m, MAKER_PID, MAKER_PID, "program", true, 1);
    maker_task(&m, PERF_RECORD_FORK, MAKER_PID, MAKER_PID, MAKER_PID + 1, MAKER_PID, 2);
    for (uint64_t t = 50; t < 1000; t += 50)
        maker_sample(&m, MAKER_PID, MAKER_PID + (t > 500), t, 1000);
    maker_scopes(&m, MAKER_PID, 0, 1, events, BN_COUNT(events));
    maker_json(&m, BN_RAW_SNAPSHOT,
               "{\"empty_scope_ns\":41.5,\"untimed_threads\":0,\"nodes\":[{\"parent\":0,\"stage\":\"all\"},"
               "{\"parent\":0,\"stage\":\"decode\"},{\"parent\":1,\"stage\":\"ffn\"}],\"stats\":[{\"node\":1,"
               "\"calls\":2,\"total_ns\":1500}],\"threads\":[{\"slot\":0,\"tid\":100,\"name\":\"main\"}],"
               "\"info\":{\"model\":{\"name\":\"M\"}}}");
    maker_footer(&m);
    maker_close(&m);
    struct bn_buf b = read_whole(m.path);
    unlink(m.path);
    return b;
}

/* The first of the captured records (test_captured.c): mappings of a small file, samples with their stacks.
 */
static struct bn_buf seed_records(void)
{
    enum { ENOUGH_BYTES = 8192 };
    struct bn_buf b = read_whole("tests/data/captured/gcc-library.records");
    size_t n = 0, size;

    while (n < ENOUGH_BYTES && (size = bn_record_size((const uint8_t *)b.p + n, b.n - n)) != 0)
        n += size;
    b.n = n;
    return b;
}

static struct bn_buf seed_profile(void)
{
    struct synthetic s;
    struct bn_err err;
    char path[] = "/tmp/test_fuzz.XXXXXX";
    struct bn_buf b = {0};
    int fd = mkstemp(path);

    synthetic_make(&s, 1);
    s.p.n_samples = bn_min_size(s.p.n_samples, 200);
    if (fd >= 0 && bn_profile_save(&s.p, path, &err) == 0)
        b = read_whole(path);
    bn_profile_free(&s.p);
    if (fd >= 0)
        close(fd);
    unlink(path);
    return b;
}

static const struct kind {
    const char *name;
    fuzz_function *run;
    struct bn_buf (*seed)(void);
    unsigned rounds;
} kinds[] = {
    {"elf", fuzz_elf, seed_elf, 1500},
    {"elf_small", fuzz_elf, seed_small, 1500},
    {"debug_frame", fuzz_elf, seed_debug_frame, 1000},
    {"debug_frame_small", fuzz_elf, seed_small_debug_frame, 1500},
    {"part", fuzz_part, seed_part, 1000},
    {"part_mended", fuzz_part_mended, seed_part, 4000},
    {"records", fuzz_records, seed_records, 4000},
    {"profile", fuzz_profile, seed_profile, 4000},
};

/* ---- damage ---- */

static uint64_t interesting(uint64_t r)
{
    static const uint64_t values[] = {0,          1,          0x7f,       0x80,
                                      0xff,       0xffff,     0x7fffffff, 0x80000000,
                                      0xffffffff, UINT64_MAX, INT64_MAX,  (uint64_t)INT64_MIN,
                                      0xfffffff0, 0x1000,     0x3fffffff, 8};
    return values[r % BN_COUNT(values)];
}

/* A place in the file: anywhere, or, half the time, near its beginning or its end, where tables are. */
static size_t place(uint64_t *random, size_t n)
{
    uint64_t r = fuzz_random(random), at = fuzz_random(random);

    switch (r & 3) {
    case 0:
        return at % bn_min_size(n, 1024);
    case 1:
        return n - 1 - at % bn_min_size(n, 4096);
    default:
        return at % n;
    }
}

static size_t damage(uint8_t *bytes, size_t n, uint64_t *random)
{
    size_t at = place(random, n), from, length;
    uint64_t r = fuzz_random(random), value = interesting(fuzz_random(random));

    switch (r % 8) {
    case 0:
        bytes[at] ^= (uint8_t)(1u << (r >> 8) % 8);
        break;
    case 1:
    case 2:
        bytes[at] = (uint8_t)(r >> 8);
        break;
    case 3:
    case 4: /* a number of 1, 2, 4 or 8 bytes */
        length = bn_min_size((size_t)1 << (r >> 8) % 4, n - at);
        memcpy(bytes + at, &value, length);
        break;
    case 5: /* add or take away a little */
        bytes[at] = (uint8_t)(bytes[at] + (r >> 8) % 9 - 4);
        break;
    case 6: /* copy a piece to another place */
        from = place(random, n);
        length = bn_min_size((r >> 8) % 64 + 1, n - (at > from ? at : from));
        memmove(bytes + at, bytes + from, length);
        break;
    default: /* cut off, seldom */
        return (r >> 8) % 8 == 0 && n > 64 ? n - (size_t)((r >> 16) % (n / 2)) : n;
    }
    return n;
}

static char current[128];

static void on_alarm(int number)
{
    static const char text[] = ": takes too long\n";

    (void)number;
    if (write(2, current, strlen(current)) > 0 && write(2, text, sizeof text - 1) > 0)
        abort();
    abort();
}

static void test_kind(void **state)
{
    const struct kind *k = *state;
    struct bn_buf seed = k->seed();
    const char *rounds = getenv("FUZZ_ROUNDS");
    unsigned n_rounds = rounds ? (unsigned)strtoul(rounds, NULL, 10) : k->rounds;

    if (seed.n == 0) {
        print_message("# skipped: nothing to start from\n");
        skip();
    }
    assert_true(seed.n < MAX_INPUT_BYTES);
    signal(SIGALRM, on_alarm);
    k->run((const uint8_t *)seed.p, seed.n);
    for (unsigned round = 0; round < n_rounds; round++) {
        uint64_t random = round * 0x9e3779b97f4a7c15u + 1;
        uint8_t *bytes = bn_xmalloc(seed.n);
        size_t n = seed.n;
        memcpy(bytes, seed.p, n);
        for (uint64_t i = fuzz_random(&random) % 8 + 1; i > 0; i--)
            n = damage(bytes, n, &random);
        snprintf(current, sizeof current, "# %s, round %u", k->name, round);
        alarm(SECONDS_PER_INPUT);
        k->run(bytes, n);
        alarm(0);
        free(bytes);
    }
    print_message("# %s: %u damaged files of %zu bytes\n", k->name, n_rounds, seed.n);
    bn_buf_free(&seed);
}

static void on_crash(int number)
{
    static const char text[] = ": crashed\n";

    signal(number, SIG_DFL);
    if (write(2, current, strlen(current)) > 0 && write(2, text, sizeof text - 1) > 0)
        raise(number);
    raise(number);
}

/* ---- for make fuzz ---- */

static int write_seeds(const char *folder)
{
    for (size_t i = 0; i < BN_COUNT(kinds); i++) {
        char *path = bn_xasprintf("%s/fuzz_%s/seed-%s", folder,
                                  kinds[i].run == fuzz_elf ? "elf" : kinds[i].name, kinds[i].name);
        struct bn_buf seed = kinds[i].seed();
        FILE *f = fopen(path, "we");
        if (f && seed.n)
            fwrite(seed.p, 1, seed.n, f);
        if (!f || fclose(f) != 0) {
            fprintf(stderr, "cannot write %s\n", path);
            return 1;
        }
        free(path);
        bn_buf_free(&seed);
    }
    return 0;
}

static int run_file(const char *name, const char *path)
{
    struct bn_buf b = read_whole(path);

    for (size_t i = 0; i < BN_COUNT(kinds); i++)
        if (strcmp(kinds[i].name, name) == 0)
            kinds[i].run((const uint8_t *)b.p, b.n);
    bn_buf_free(&b);
    return 0;
}

int main(int argc, char **argv)
{
    struct CMUnitTest tests[BN_COUNT(kinds)];

    if (argc == 3)
        return strcmp(argv[1], "--seeds") == 0 ? write_seeds(argv[2]) : run_file(argv[1], argv[2]);
#ifndef __SANITIZE_ADDRESS__
    signal(SIGSEGV, on_crash);
    signal(SIGBUS, on_crash);
#endif
    signal(SIGABRT, on_crash);
    for (size_t i = 0; i < BN_COUNT(kinds); i++)
        tests[i] = (struct CMUnitTest){kinds[i].name, test_kind, NULL, NULL, (void *)&kinds[i]};
    return _cmocka_run_group_tests("fuzz", tests, BN_COUNT(kinds), NULL, NULL);
}

/* SPDX-License-Identifier: MIT
 * Samples captured once (tests/data/captured: the programs' files, records, and the stacks that are right),
 * unwound again: they give the same stacks on every machine, whatever its compilers and libraries.
 *
 * test_captured --update makes them anew, from the root of the source tree: each program is stepped through,
 * and only samples whose chain agrees with the calls that were watched are kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "captured.h"

struct captured_program {
    const char *name;
    const char *build; /* $P: the program, $L: its library, $MAIN and $LIBRARY: the sources */
    unsigned every;    /* of so many samples one is kept */
};

#define SMALL                                                                                                \
    " -nostdlib -ffreestanding -fno-stack-protector -fcf-protection=none -Wl,--build-id=none,-z,"            \
    "noseparate-code,-z,max-page-size=4096 "
#define STATIC_LINK "-static" SMALL "-o $P $MAIN && strip -g $P"

static const struct captured_program programs[] = {
    {"gcc-O2", "gcc -O2 " STATIC_LINK, 7},
    {"gcc-O0", "gcc -O0 " STATIC_LINK, 11},
    {"clang-O2-pie",
     "clang -O2 -fasynchronous-unwind-tables -fPIE -static-pie -fuse-ld=lld" SMALL
     "-o $P $MAIN && strip -g $P",
     7},
    {"gcc-debug-frame",
     "gcc -O2 -g -DNO_TABLES -fno-asynchronous-unwind-tables -fno-unwind-tables -static" SMALL "-o $P $MAIN "
     "&& objcopy -R .debug_info -R .debug_abbrev -R .debug_line -R .debug_line_str -R .debug_str "
     "-R .debug_loclists -R .debug_rnglists -R .debug_aranges $P",
     7},
    {"gcc-library",
     "gcc -O1 -fPIC -shared" SMALL "-Wl,-soname,captured.so -o $L $LIBRARY && gcc -O3 -fPIE -pie "
     "-DWITH_LIBRARY" SMALL "-Wl,-z,now,-rpath,'$ORIGIN' -o $P $MAIN $L && strip -g $P $L",
     7},
};

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

/* ---- replay ---- */

struct replay {
    struct bn_maps maps;
    struct bn_unwinder *unwinder;
    struct bn_callstack stacks;
    struct bn_unwind_result result;
    struct bn_record record;
    size_t n_samples, n_broken;
};

/* The same text from the entries of the stack table, which a recording keeps. */
static char *table_text(struct replay *r, uint32_t entry)
{
    struct bn_buf text = {0}, mark = {0};
    struct bn_symbols *symbols = bn_xcalloc(1, sizeof *symbols);
    uint32_t chain[BN_UNWIND_MAX_FRAMES + 1];
    size_t n = 0;

    for (; entry && n < BN_COUNT(chain); entry = r->stacks.table.entries[entry].parent)
        chain[n++] = entry;
    for (size_t i = 0; i < n; i++) {
        const struct bn_raw_stack *e = &r->stacks.table.entries[chain[i]];
        if (e->file >= 0)
            captured_put_frame(&text, symbols, r->maps.files[e->file].image, e->address);
        else if (e->file == BN_RAW_MARK)
            bn_buf_printf(&mark, " %s", bn_unwind_mark_name((enum bn_unwind_end)e->address));
        else
            bn_buf_printf(&text, "%s?", text.n ? " " : "");
    }
    bn_buf_puts(&text, mark.p ? mark.p : "");
    bn_buf_free(&mark);
    bn_symbols_free(symbols);
    free(symbols);
    return text.p;
}

static void assert_line(const char *found, const char *expected, size_t n, const char *how)
{
    size_t length = strcspn(expected, "\n");

    if (strlen(found) != length || strncmp(found, expected, length) != 0)
        fail_msg("sample %zu, %s: %s\ninstead of %.*s", n, how, found, (int)length, expected);
}

/* By itself; as the recorder does it; and as it does when it has seen the stack before. */
static void replay_sample(struct replay *r, const char *expected)
{
    const struct bn_process *p = bn_maps_process(&r->maps, r->record.pid);
    struct bn_unwind_input in = bn_unwind_input_of(&r->record);
    static const char *const how[] = {"recorded", "known again"};

    bn_unwind(r->unwinder, p, &in, &r->result);
    char *text = captured_text(&r->result);
    assert_line(text, expected, r->n_samples, "unwound");
    free(text);
    for (size_t i = 0; i < BN_COUNT(how); i++) {
        text = table_text(r, bn_callstack_of(&r->stacks, p, &r->record).stack);
        assert_line(text, expected, r->n_samples, how[i]);
        free(text);
    }
    r->n_samples++;
    r->n_broken += r->result.end != BN_UNWIND_COMPLETE;
}

static void test_replay(void **state)
{
    const struct captured_program *program = *state;
    char *records_path = bn_xasprintf(CAPTURED "%s.records", program->name);
    char *stacks_path = bn_xasprintf(CAPTURED "%s.stacks", program->name);
    struct bn_buf records = read_whole(records_path), stacks = read_whole(stacks_path);
    struct replay *r = bn_xcalloc(1, sizeof *r);
    struct bn_err err;
    size_t size;

    assert_true(records.n > 0 && stacks.n > 0);
    bn_buf_putc(&stacks, '\0');
    bn_maps_init(&r->maps);
    r->unwinder = bn_unwinder_new(&r->maps);
    bn_callstack_begin(&r->stacks, &r->maps, false);
    const char *line = stacks.p;
    for (size_t at = 0; at < records.n; at += size) {
        const uint8_t *record = (const uint8_t *)records.p + at;
        size = bn_record_size(record, records.n - at);
        assert_true(size > 0);
        assert_int_equal(bn_record_decode(&captured_format, record, &r->record, &err), 0);
        if (r->record.type != PERF_RECORD_SAMPLE) {
            bn_maps_apply(&r->maps, &r->record);
            continue;
        }
        assert_true(*line != '\0');
        replay_sample(r, line);
        line += strcspn(line, "\n");
        line += *line == '\n';
    }
    assert_true(*line == '\0');
    print_message("# %s: %zu samples, %zu of them with a broken chain\n", program->name, r->n_samples,
                  r->n_broken);
    assert_true(r->n_samples > 40 && r->n_broken > 0 && r->n_broken * 4 < r->n_samples);
    bn_callstack_end(&r->stacks);
    bn_unwinder_free(r->unwinder);
    bn_maps_free(&r->maps);
    free(r);
    bn_buf_free(&records);
    bn_buf_free(&stacks);
    free(records_path);
    free(stacks_path);
}

/* ---- capture ---- */

static char folder[] = "/tmp/test_captured.XXXXXX";

enum { LARGE_STACK = 1024, LARGE_EVERY = 24, CUT_EVERY = 8 };

struct capture {
    const struct captured_program *program;
    struct bn_buf records, text;
    uint64_t n_seen, n_large, n_kept, n_bad;
};

static bool shell(const char *command)
{
    return system(command) == 0;
}

/* The files of the program's folder; the system's have no part in its stacks. */
static void put_mappings(struct capture *c, struct stepper *s, const struct bn_process *p)
{
    for (size_t i = 0; i < p->n; i++) {
        const char *path = s->maps.files[p->mappings[i].file].path;
        if (strncmp(path, folder, sizeof folder - 1) != 0)
            continue;
        char *name = bn_xasprintf("/proc/self/cwd/" CAPTURED "%s%s", c->program->name,
                                  strstr(path, "captured.so") ? "-so.elf" : ".elf");
        captured_mapping(&c->records, &p->mappings[i], name);
        free(name);
    }
}

/* Should this one be kept? Those from the signal handler are large. */
static bool choose(struct capture *c, size_t bytes)
{
    if (bytes > LARGE_STACK)
        return c->n_large++ % LARGE_EVERY == 0;
    return c->n_seen++ % c->program->every == 0;
}

/* A sample whose chain is right. Of the stack it gets what lies below the first frame, not the environment;
 * at times only half of that. */
static void keep(struct stepper *s, const struct stepper_task *t, const struct bn_process *p,
                 const struct bn_unwind_input *in)
{
    struct capture *c = s->ctx;
    struct bn_unwind_input kept = *in;
    uint64_t bytes = t->n ? t->calls[0].slot + 8 - in->regs[BN_UNWIND_RSP] : 8;

    if (bytes > in->stack_bytes || !s->result.n || !choose(c, bytes))
        return;
    bool cut = c->n_kept % CUT_EVERY == CUT_EVERY - 1 && bytes >= 32;
    kept.stack_bytes = cut ? bytes / 2 & ~(size_t)7 : bytes;
    bn_unwind(s->unwinder, p, &kept, &s->rest);
    bool same = cut ? s->rest.n <= s->result.n : s->rest.n == s->result.n && s->rest.end == s->result.end;
    for (size_t i = 0; same && i < s->rest.n; i++)
        same = s->rest.frames[i].address == s->result.frames[i].address;
    if (!same) {
        c->n_bad++;
        return;
    }
    if (c->n_kept++ == 0)
        put_mappings(c, s, p);
    captured_sample(&c->records, &kept, c->n_kept * 1000000);
    char *line = captured_text(&s->rest);
    bn_buf_printf(&c->text, "%s\n", line);
    free(line);
}

static bool write_whole(const char *name, const char *what, const struct bn_buf *b)
{
    char *path = bn_xasprintf(CAPTURED "%s.%s", name, what);
    FILE *f = fopen(path, "we");
    bool right = f && fwrite(b->p, 1, b->n, f) == b->n;

    right = f && fclose(f) == 0 && right;
    if (!right)
        fprintf(stderr, "cannot write %s\n", path);
    free(path);
    return right;
}

static bool capture(const struct captured_program *program)
{
    struct stepper *s = bn_xcalloc(1, sizeof *s);
    struct capture c = {.program = program};
    char *path = bn_xasprintf("%s/p", folder);

    *s = (struct stepper){
        .entry = "", .dump_bytes = STEPPER_DUMP_BYTES, .max_steps = 100000, .on_right = keep, .ctx = &c};
    setenv("NAME", program->name, 1);
    bool right = shell("rm -f $P $L") && shell(program->build) && stepper_run(s, (char *[]){path, NULL}) == 0;
    for (size_t i = 0; i < s->n_kinds; i++)
        fprintf(stderr, "%s: %s\n", program->name, s->wrong[i]);
    right = right && s->status == 0 && s->n_wrong == 0 && c.n_bad == 0 && c.n_kept > 0;
    right = right && write_whole(program->name, "records", &c.records) &&
            write_whole(program->name, "stacks", &c.text) &&
            shell("cp $P " CAPTURED "$NAME.elf && chmod 644 " CAPTURED "$NAME.elf") &&
            shell("! test -e $L || install -m 644 $L " CAPTURED "$NAME-so.elf");
    printf("%s: %" PRIu64 " samples of %" PRIu64 ", %" PRIu64 " differ, %" PRIu64 " wrong: %s\n",
           program->name, c.n_kept, s->n_checked, c.n_bad, s->n_wrong, right ? "kept" : "not kept");
    bn_buf_free(&c.records);
    bn_buf_free(&c.text);
    stepper_free(s);
    free(s);
    free(path);
    return right;
}

static void set_path(const char *variable, const char *file)
{
    char *path = bn_xasprintf("%s/%s", folder, file);

    setenv(variable, path, 1);
    free(path);
}

static int update(void)
{
    int failed = 0;

    if (!mkdtemp(folder))
        return 1;
    setenv("D", folder, 1);
    set_path("P", "p");
    set_path("L", "captured.so");
    setenv("MAIN", "tests/data/captured_main.c", 1);
    setenv("LIBRARY", "tests/data/captured_library.c", 1);
    for (size_t i = 0; i < BN_COUNT(programs); i++)
        failed |= !capture(&programs[i]);
    if (!shell("rm -r $D"))
        fprintf(stderr, "%s stays\n", folder);
    return failed;
}

int main(int argc, char **argv)
{
    struct CMUnitTest tests[BN_COUNT(programs)];

    if (argc == 2 && strcmp(argv[1], "--update") == 0)
        return update();
    for (size_t i = 0; i < BN_COUNT(programs); i++)
        tests[i] = (struct CMUnitTest){programs[i].name, test_replay, NULL, NULL, (void *)&programs[i]};
    return _cmocka_run_group_tests("captured", tests, BN_COUNT(programs), NULL, NULL);
}

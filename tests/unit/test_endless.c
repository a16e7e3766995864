/* SPDX-License-Identifier: MIT
 * Debug information made to be endless: small files that stand for more work or memory than any machine has.
 */
#include <linux/perf_event.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "profiler/debug.h"
#include "profiler/unwind.h"

enum { SECONDS = 60, PEAK_KIB = 1 << 20 };

static char path[] = "/tmp/test_endless.XXXXXX";

/* A program from assembler text; NULL = there is no assembler. */
static struct bn_image *assembled(const char *text)
{
    char *line = bn_xasprintf("gcc -nostdlib -static -x assembler - -o %s 2>/dev/null", path);
    FILE *f = popen(line, "w");

    free(line);
    if (!f)
        return NULL;
    fputs(text, f);
    return pclose(f) == 0 ? bn_image_open(path, NULL, 0) : NULL;
}

/* A program whose debug information is `entries` (below a unit that holds all code), with these abbreviations
 * and ranges. */
static struct bn_image *made_of(const char *abbreviations, const char *entries, const char *ranges)
{
    char *text = bn_xasprintf(
        ".text\n.globl _start\n_start: .fill 64, 1, 0x90\nend:\n"
        ".section .debug_abbrev,\"\",@progbits\nabbrev:\n"
        ".byte 1, 0x11, 1, 0x11, 1, 0x12, 7, 0, 0\n%s.byte 0\n"
        ".section .debug_info,\"\",@progbits\nunit: .long 2f - 1f\n1: .short 4\n.long abbrev\n.byte 8\n"
        ".byte 1\n.quad _start, end - _start\n%s.byte 0\n2:\n"
        ".section .debug_ranges,\"\",@progbits\n%s",
        abbreviations, entries, ranges);
    struct bn_image *image = assembled(text);

    free(text);
    return image;
}

static size_t find(struct bn_image *image)
{
    struct bn_debug_frame frames[16];

    return bn_debug_find(image, image->entry + 3, frames, BN_COUNT(frames));
}

static void check(struct bn_image *image)
{
    struct rusage usage;

    if (!image) {
        print_message("# skipped: no gcc\n");
        skip();
    }
    assert_true(image->usable && bn_debug_exists(image));
    alarm(SECONDS);
    assert_true(find(image) <= 16);
    alarm(0);
    getrusage(RUSAGE_SELF, &usage);
    assert_true(usage.ru_maxrss < PEAK_KIB);
    bn_image_free(image);
}

/* Each entry says that its own first child is the next beside it, so that the ways through them double with
 * every level: first among a unit's functions, then inside of one. */
#define NESTED(number)                                                                                       \
    ".rept 60\n.byte " number "\n.long 4f - unit\n4:\n.endr\n" /* "4f" is the label right behind it */       \
    ".rept 60\n.byte 0\n.endr\n"

static void test_doubling(void **state)
{
    static const char abbreviations[] = ".byte 2, 0x2e, 1, 0x11, 1, 0x12, 7, 0, 0\n" /* function */
                                        ".byte 3, 0x0b, 1, 0x01, 0x13, 0, 0\n";      /* block, sibling */

    (void)state;
    check(made_of(abbreviations, NESTED("3"), ""));
    check(made_of(abbreviations, ".byte 2\n.quad _start, 64\n" NESTED("3") ".byte 0\n", ""));
}

/* Very many functions that share one long list of ranges. */
static void test_shared_ranges(void **state)
{
    (void)state;
    check(made_of(".byte 2, 0x2e, 0, 0x55, 0x17, 0, 0\n", ".rept 8000\n.byte 2\n.long 0\n.endr\n",
                  ".rept 8000\n.quad 1, 3\n.endr\n.quad 0, 0\n"));
}

/* Unwind the innermost frame of code with these rules. */
static void check_rules(const char *rules)
{
    static const uint64_t stack[64];
    char *text = bn_xasprintf(
        ".text\n.globl _start\n_start: .cfi_startproc\n%s.fill 64, 1, 0x90\n.cfi_endproc\n", rules);
    struct bn_image *image = assembled(text);
    struct bn_unwind_result *result = bn_xcalloc(1, sizeof *result);
    struct bn_maps maps;

    free(text);
    if (!image) {
        free(result);
        print_message("# skipped: no gcc\n");
        skip();
    }
    assert_true(image->usable && image->fdes.n == 1);
    struct bn_record mapping = {.type = PERF_RECORD_MMAP2,
                                .pid = 1,
                                .tid = 1,
                                .start = image->entry & ~(uint64_t)4095,
                                .length = 4096,
                                .file_offset = 4096,
                                .executable = true,
                                .text = path};
    struct bn_unwind_input in = {
        .known = (1u << BN_UNWIND_REGS) - 1, .stack = (const uint8_t *)stack, .stack_bytes = sizeof stack};
    in.regs[BN_UNWIND_RSP] = 0x7fff0000;
    in.regs[BN_UNWIND_RIP] = image->entry + 3;
    bn_maps_init(&maps);
    bn_maps_apply(&maps, &mapping);
    struct bn_unwinder *u = bn_unwinder_new(&maps);
    alarm(SECONDS);
    bn_unwind(u, bn_maps_process(&maps, 1), &in, result);
    alarm(0);
    assert_true(result->n == 1 && result->frames[0].place.vaddr == image->entry + 3);
    assert_int_equal(result->end, BN_UNWIND_BAD_CFI);
    bn_unwinder_free(u);
    bn_maps_free(&maps);
    bn_image_free(image);
    free(result);
}

/* Expressions that jump to themselves: for the frame, and for the return address. */
static void test_looping_expression(void **state)
{
    (void)state;
    check_rules(".cfi_escape 0x0f, 3, 0x2f, 0xfd, 0xff\n");
    check_rules(".cfi_escape 0x10, 16, 3, 0x2f, 0xfd, 0xff\n");
}

/* A state remembered two million times: libunwind keeps each. */
static void test_many_states(void **state)
{
    (void)state;
    check_rules(".rept 2000000\n.cfi_escape 0x0a\n.endr\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_doubling),
        cmocka_unit_test(test_shared_ranges),
        cmocka_unit_test(test_looping_expression),
        cmocka_unit_test(test_many_states),
    };
    int fd = mkstemp(path);

    if (fd < 0)
        return 1;
    close(fd);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}

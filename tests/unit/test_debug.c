/* SPDX-License-Identifier: MIT
 * Debug information made to be endless: small files that stand for more work or memory than any machine has.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "profiler/debug.h"
#include "profiler/image.h"

enum { SECONDS = 60, PEAK_KIB = 1 << 20 };

static char path[] = "/tmp/test_debug.XXXXXX";

/* A program whose debug information is `entries` (below a unit that holds all code), with these abbreviations
 * and ranges; NULL = there is no assembler. */
static struct bn_image *made_of(const char *abbreviations, const char *entries, const char *ranges)
{
    char *line = bn_xasprintf("gcc -nostdlib -static -x assembler - -o %s 2>/dev/null", path);
    FILE *f = popen(line, "w");

    free(line);
    if (!f)
        return NULL;
    fprintf(f,
            ".text\n.globl _start\n_start: .fill 64, 1, 0x90\nend:\n"
            ".section .debug_abbrev,\"\",@progbits\nabbrev:\n"
            ".byte 1, 0x11, 1, 0x11, 1, 0x12, 7, 0, 0\n%s.byte 0\n"
            ".section .debug_info,\"\",@progbits\nunit: .long 2f - 1f\n1: .short 4\n.long abbrev\n.byte 8\n"
            ".byte 1\n.quad _start, end - _start\n%s.byte 0\n2:\n"
            ".section .debug_ranges,\"\",@progbits\n%s",
            abbreviations, entries, ranges);
    return pclose(f) == 0 ? bn_image_open(path, NULL, 0) : NULL;
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_doubling),
        cmocka_unit_test(test_shared_ranges),
    };
    int fd = mkstemp(path);

    if (fd < 0)
        return 1;
    close(fd);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}

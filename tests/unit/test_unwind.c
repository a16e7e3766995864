/* SPDX-License-Identifier: MIT
 * The unwinder on this very process: chains whose every function is known. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "unwind_self.h"

#define NOINLINE __attribute__((noinline, noclone))

static struct self_state state;
static size_t take_bytes;
static volatile int sink;

NOINLINE static int compare_and_take(const void *a, const void *b)
{
    ucontext_t uc;

    if (state.in.known == 0) {
        getcontext(&uc);
        self_take(&state, &uc, take_bytes);
    }
    return *(const int *)a - *(const int *)b;
}

NOINLINE static void sort_inner(int *v, size_t n)
{
    qsort(v, n, sizeof *v, compare_and_take);
    sink += v[0];
}

NOINLINE static void sort_outer(int *v, size_t n)
{
    sort_inner(v, n);
    sink++;
}

struct fixture {
    struct bn_maps maps;
    struct bn_unwinder *unwinder;
    struct bn_unwind_result result;
};

static void fixture_begin(struct fixture *f, size_t bytes)
{
    memset(&state.in, 0, sizeof state.in);
    take_bytes = bytes;
    bn_maps_init(&f->maps);
    self_maps(&f->maps, 7);
    f->unwinder = bn_unwinder_new(&f->maps);
}

static void fixture_unwind(struct fixture *f)
{
    assert_int_not_equal(state.in.known, 0);
    bn_unwind(f->unwinder, bn_maps_process(&f->maps, 7), &state.in, &f->result);
}

static void fixture_end(struct fixture *f)
{
    bn_unwinder_free(f->unwinder);
    bn_maps_free(&f->maps);
}

static void test_through_libc(void **unused)
{
    struct fixture f;
    int v[] = {3, 1, 2};

    (void)unused;
    fixture_begin(&f, sizeof state.stack);
    sort_outer(v, BN_COUNT(v));
    fixture_unwind(&f);
    char *names = self_names(&f.result);
    print_message("# %s\n", names);
    assert_int_equal(f.result.end, BN_UNWIND_COMPLETE);
    free(names);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_through_libc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

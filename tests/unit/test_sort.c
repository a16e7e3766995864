/* SPDX-License-Identifier: MIT
 * profiler/sort against qsort. */
#include "profiler/sort.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/random.h"

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

/* In order, nearly so, backwards, and by chance. */
static void test_sort_nearly_sorted(void **state)
{
    uint64_t seed = 88172645463325252u;
    uint32_t got[300], want[300];

    (void)state;
    for (int round = 0; round < 400; round++) {
        size_t n = random_below(&seed, 300);
        for (size_t i = 0; i < n; i++)
            got[i] = round % 4 == 2   ? (uint32_t)(n - i)
                     : round % 4 == 3 ? (uint32_t)random_below(&seed, 1000)
                                      : (uint32_t)(10 * i);
        for (size_t i = 0; round % 4 == 1 && i < n; i += 1 + random_below(&seed, 50))
            got[i] = (uint32_t)random_below(&seed, 3000);
        memcpy(want, got, sizeof got);
        qsort(want, n, sizeof *want, by_number);
        bn_sort_nearly_sorted(got, n, sizeof *got, by_number);
        assert_memory_equal(got, want, n * sizeof *got);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sort_nearly_sorted)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}

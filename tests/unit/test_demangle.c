/* SPDX-License-Identifier: MIT
 * C++ and Rust names: readable, bounded, and nothing a damaged or hostile name can do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "profiler/demangle.h"

static const struct {
    const char *mangled, *shown; /* NULL = stays as it is */
} cases[] = {
    {"_ZN3FooC4Ei", "Foo::Foo"},
    {"_ZN3FooC1Ei", "Foo::Foo"},
    {"_ZN3FooD0Ev", "Foo::~Foo"},
    {"_ZN12_GLOBAL__N_13fooEv", "(anonymous namespace)::foo"},
    {"_ZNKSt8functionIFvvEEclEv", "std::function<void ()>::operator()"},
    {"_ZZ4mainENKUliE_clEi", "main::{lambda(int)#1}::operator()"},
    {"_ZStlsISt11char_traitsIcEERSt13basic_ostreamIcT_ES5_PKc", "std::operator<< <std::char_traits<char> >"},
    {"_ZNSt6vectorIiSaIiEE9push_backEOi", "std::vector<int, std::allocator<int> >::push_back"},
    {"_ZNSt6vectorINSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEESaIS5_EE9push_backERKS5_",
     "std::vector<std::string, std::allocator<std::string > >::push_back"},
    {"_ZN3FoocvbEv", "Foo::operator bool"},
    {"_ZThn16_N3Foo3barEv", "non-virtual thunk to Foo::bar()"},
    /* Rust, legacy: hash left out, escapes read */
    {"_ZN4core3fmt5write17h0123456789abcdefE", "core::fmt::write"},
    {"_ZN71_$LT$Test$u20$$u2b$$u20$$u27$static$u20$as$u20$foo..Bar$LT$Test$GT$$GT$3bar17h930b740aa94f1d3aE",
     "<Test + 'static as foo::Bar<Test>>::bar"},
    {"_ZN5hello4main28_$u7b$$u7b$closure$u7d$$u7d$17h0123456789abcdefE", "hello::main::{{closure}}"},
    /* Rust, v0 */
    {"_RNvCs1234_7mycrate3foo", "mycrate::foo"},
    {"_RNCNvCsgStHSCytQ6I_7mycrate4main0B3_", "mycrate::main::{closure#0}"},
    {"_RINvNtC3std3mem8align_ofNtNtC3std3mem12DiscriminantE", "std::mem::align_of::<std::mem::Discriminant>"},
    {"_RNqCs4fqI2P2rA04_11utf8_identsu30____7hkackfecea1cbdathfdh9hlq6y",
     "utf8_idents::საჭმელად_გემრიელი_სადილი"},
    /* not ours */
    {"main", NULL},
    {"", NULL},
    {"_Z", NULL},
    {"_R", NULL},
    {"_Zzz", NULL},
    {"_Rust", NULL},
    {"_Reset_handler", NULL},
    {"_ZN3FooC4", NULL},
};

static void test_names(void **unused)
{
    struct bn_arena arena = {0};

    (void)unused;
    for (size_t i = 0; i < BN_COUNT(cases); i++) {
        const char *shown = bn_demangle(&arena, cases[i].mangled, SIZE_MAX);
        if (!cases[i].shown && shown)
            fail_msg("%s: %s, expected to stay", cases[i].mangled, shown);
        if (cases[i].shown && (!shown || strcmp(shown, cases[i].shown) != 0))
            fail_msg("%s: %s, expected %s", cases[i].mangled, shown ? shown : "nothing", cases[i].shown);
    }
    assert_string_equal(bn_demangle(&arena, "_ZN3FooC4Ei.cold", strlen("_ZN3FooC4Ei")), "Foo::Foo");
    bn_arena_free(&arena);
}

/* "_Z1fI" and a template argument that nests `depth` times, each holding the one before `width` times. */
static char *nested(int depth, int width)
{
    struct bn_buf b = {0};

    bn_buf_puts(&b, "_Z1f");
    for (int i = 0; i < depth; i++)
        bn_buf_printf(&b, "I1%c", 'a' + i % 26);
    bn_buf_puts(&b, "Ii");
    for (int i = 0; i <= depth; i++) {
        for (int k = 1; k < width; k++)
            bn_buf_putc(&b, 'i');
        bn_buf_putc(&b, 'E');
    }
    bn_buf_puts(&b, "vv");
    return b.p;
}

static void test_shorten(void **unused)
{
    struct bn_arena arena = {0};
    char *name = nested(60, 3);
    const char *shown = bn_demangle(&arena, name, SIZE_MAX);

    (void)unused;
    assert_non_null(shown);
    assert_true(strlen(shown) <= BN_DEMANGLE_SHOWN);
    assert_int_equal(strncmp(shown, "f<a<b<c<d<e<", 12), 0);
    assert_non_null(strstr(shown, "<…>"));
    assert_int_equal(shown[strlen(shown) - 1], '>');
    free(name);

    char *plain = bn_xasprintf("%0300d", 7);
    shown = bn_demangle_shorten(&arena, plain);
    assert_true(strlen(shown) <= BN_DEMANGLE_SHOWN);
    assert_string_equal(shown + strlen(shown) - 3, "…");
    assert_ptr_equal(bn_demangle_shorten(&arena, "short"), "short");
    free(plain);

    /* Operators are no brackets. */
    char *stream = bn_xasprintf("operator<< <A<%0200d> >", 1),
         *arrow = bn_xasprintf("X<%0200d>::operator->", 1);
    assert_string_equal(bn_demangle_shorten(&arena, stream), "operator<< <A<…> >");
    assert_string_equal(bn_demangle_shorten(&arena, arrow), "X<…>::operator->");
    free(stream);
    free(arrow);
    /* Cut between characters, and where brackets do not match. */
    struct bn_buf wide = {0};
    bn_buf_puts(&wide, "<<<");
    for (int i = 0; i < 200; i++)
        bn_buf_puts(&wide, "é");
    shown = bn_demangle_shorten(&arena, wide.p);
    assert_true(strlen(shown) <= BN_DEMANGLE_SHOWN);
    assert_string_equal(shown + strlen(shown) - 5, "é…");
    bn_buf_free(&wide);
    bn_arena_free(&arena);
}

/* Few bytes that stand for 2^k pieces of text. C++: a template argument that is a pair of the one before, by
 * substitution. Rust v0: a tuple of twice the one before, by reference. */
static char *doubling_cpp(int k)
{
    struct bn_buf b = {0};

    bn_buf_puts(&b, "_Z1fI1aIiiE");
    for (int i = 1; i <= k; i++) { /* S_ is f, S0_ is a, S1_ the first pair, S2_ a pair of these, … */
        char last = (char)(i < 10 ? '0' + i : 'A' + i - 10);
        bn_buf_printf(&b, "S0_IS%c_S%c_E", last, last);
    }
    bn_buf_puts(&b, "Evv");
    return b.p;
}

static char *base62(size_t v)
{
    static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    char text[16];
    size_t at = sizeof text - 1;

    text[at] = '\0';
    if (v == 0)
        return bn_xstrdup("_");
    v--;
    text[--at] = '_';
    do {
        text[--at] = digits[v % 62];
        v /= 62;
    } while (v);
    return bn_xstrdup(text + at);
}

static char *doubling_rust(int k)
{
    struct bn_buf b = {0};
    size_t before;

    bn_buf_puts(&b, "_RINvC1a1f"); /* positions count from behind "_R" */
    before = b.n - 2;
    bn_buf_puts(&b, "TjjE");
    for (int i = 0; i < k; i++) {
        char *to = base62(before);
        before = b.n - 2;
        bn_buf_printf(&b, "TB%sB%sE", to, to);
        free(to);
    }
    bn_buf_putc(&b, 'E');
    return b.p;
}

static char *repeated(const char *head, const char *body, size_t n, const char *tail)
{
    struct bn_buf b = {0};

    bn_buf_puts(&b, head);
    for (size_t i = 0; i < n; i++)
        bn_buf_puts(&b, body);
    bn_buf_puts(&b, tail);
    return b.p;
}

static void test_hostile(void **unused)
{
    struct bn_arena arena = {0};
    char *few_cpp = doubling_cpp(2), *few_rust = doubling_rust(2);

    (void)unused;
    /* The makers do make what they say … */
    assert_non_null(bn_demangle(&arena, few_cpp, SIZE_MAX));
    assert_non_null(strstr(bn_demangle(&arena, few_cpp, SIZE_MAX), "a<a<a<int, int>, a<int, int> >"));
    assert_non_null(bn_demangle(&arena, few_rust, SIZE_MAX));
    assert_non_null(strstr(bn_demangle(&arena, few_rust, SIZE_MAX), "((usize, usize), (usize, usize))"));
    free(few_cpp);
    free(few_rust);
    char *names[] = {
        doubling_cpp(34), /* … 2^34 pieces: minutes, if nothing stopped it */
        doubling_rust(60),
        repeated("_Z1f", "P", 5000, "i"),
        repeated("_Z1f", "PFv", 3000, "i"),
        repeated("_ZN", "1a", 3000, "E"),
        repeated("_Z", "1aI", 3000, ""),
        repeated("_Z1fIXadL_Z", "1gIXadL_Z", 200, ""),
        repeated("_Z1fI", "DpT_", 300, "Evv"),
        repeated("_Z1fIJ", "J", 400, "EEvv"),
        repeated("_RNv", "Nv", 8000, "C1a1b"),
        repeated("_RINvC1a1f", "R", 8000, "jE"),
        repeated("_RINvC1a1f", "T", 8000, "E"),
        repeated("_RNvC1a", "u", 8000, "9"),
        repeated("_RNvC1au999999999", "9", 30, "_a"),
        repeated("_ZN", "4$LT$", 3000, "17h0123456789abcdefE"),
        repeated("_Z1f", "S_", 400, ""),
        repeated("_Z", "dl", 5000, ""),
        repeated("_ZZ", "Z", 5000, "E"),
    };
    for (size_t i = 0; i < BN_COUNT(names); i++) {
        const char *shown = bn_demangle(&arena, names[i], SIZE_MAX);
        assert_true(!shown || strlen(shown) <= BN_DEMANGLE_SHOWN);
        if (i < 2)
            assert_null(shown);
        free(names[i]);
    }
    bn_arena_free(&arena);
}

static uint64_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

static void test_damaged(void **unused)
{
    static const char letters[] = "_ZRNISTKEPFvijcCDdlsrXLJBpu0123456789.$@<\xc3\xa9";
    uint64_t seed = 11;
    char name[600];

    (void)unused;
    for (int round = 0; round < 60000; round++) {
        struct bn_arena arena = {0};
        const char *from = cases[round % 18].mangled;
        size_t n = strlen(from), changes = 1 + next_random(&seed) % 6;
        memcpy(name, from, n + 1);
        for (size_t k = 0; k < changes; k++) {
            size_t at = 2 + next_random(&seed) % (n - 2), from_at = 2 + next_random(&seed) % (n - 2);
            size_t length = next_random(&seed) % (n - (at > from_at ? at : from_at) + 1);
            if (next_random(&seed) % 2)
                name[at] = letters[next_random(&seed) % (sizeof letters - 1)];
            else
                memmove(name + at, name + from_at, length);
        }
        const char *shown = bn_demangle(&arena, name, SIZE_MAX);
        assert_true(!shown || strlen(shown) <= BN_DEMANGLE_SHOWN);
        bn_arena_free(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_shorten),
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

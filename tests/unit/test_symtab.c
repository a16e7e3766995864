/* SPDX-License-Identifier: MIT
 * Symbols without a size, several names for one address, labels, clones, the vdso: in files assembled here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include <cmocka.h>

#include "profiler/debug.h"
#include "profiler/symbols.h"
#include "profiler/symtab.h"

struct built {
    char folder[64], *path;
    struct bn_image *image;
};

/* Write `source` to a file of that name, run the command (%s: the folder, three times at most) and open
 * "<folder>/out". false: no such tool here. */
static bool build(struct built *b, const char *name, const char *source, const char *command)
{
    snprintf(b->folder, sizeof b->folder, "/tmp/test_symtab.XXXXXX");
    assert_non_null(mkdtemp(b->folder));
    b->path = bn_xasprintf("%s/out", b->folder);
    b->image = NULL;
    char *file = bn_xasprintf("%s/%s", b->folder, name);
    char *line = bn_xasprintf("cd %s && %s %s -o out >/dev/null 2>&1", b->folder, command, name);
    FILE *f = fopen(file, "w");
    fputs(source, f);
    fclose(f);
    bool made = system(line) == 0;
    if (made) {
        b->image = bn_image_open(b->path, NULL, 0);
        assert_true(b->image->usable);
    } else {
        print_message("# skipped: `%s' does not work here\n", command);
    }
    unlink(file);
    free(file);
    free(line);
    return made;
}

static void drop(struct built *b)
{
    bn_image_free(b->image);
    unlink(b->path);
    rmdir(b->folder);
    free(b->path);
}

/* Address of an ELF symbol, by the symbol table itself. */
static uint64_t address_of(const struct bn_image *image, const char *name)
{
    for (Elf_Scn *scn = NULL; (scn = elf_nextscn(image->elf, scn)) != NULL;) {
        Elf64_Shdr *shdr = elf64_getshdr(scn);
        Elf_Data *data = shdr->sh_type == SHT_SYMTAB ? elf_getdata(scn, NULL) : NULL;
        const Elf64_Sym *symbols = data ? data->d_buf : NULL;
        for (size_t i = 0; symbols && i < data->d_size / sizeof *symbols; i++)
            if (strcmp(elf_strptr(image->elf, shdr->sh_link, symbols[i].st_name), name) == 0)
                return symbols[i].st_value;
    }
    fail_msg("no symbol %s", name);
    return 0;
}

static void expect(struct bn_image *image, uint64_t vaddr, const char *name)
{
    const char *found = bn_symtab_find(image, vaddr, NULL);

    if (!found || !name ? found != name : strcmp(found, name) != 0)
        fail_msg("%#llx: %s, expected %s", (unsigned long long)vaddr, found ? found : "no name",
                 name ? name : "none");
}

/* 16 bytes each. No unwind tables, so that nothing but the symbols tells where a function ends. */
static const char assembly[] = ".text\n"
                               ".globl _start\n"
                               "_start: .fill 16, 1, 0x90\n"
                               ".type sizeless, @function\n"
                               "sizeless: .fill 16, 1, 0x90\n"
                               ".type sized, @function\n"
                               ".size sized, 8\n"
                               "sized: .fill 16, 1, 0x90\n" /* 8 bytes that nobody covers */
                               ".globl plain\n"
                               ".type plain, @function\n"
                               ".size plain, 16\n"
                               ".globl __plain_alias\n"
                               ".type __plain_alias, @function\n"
                               ".size __plain_alias, 16\n"
                               ".type local_alias, @function\n"
                               ".size local_alias, 16\n"
                               ".weak weak\n"
                               ".type weak, @function\n"
                               ".size weak, 16\n"
                               "plain: __plain_alias: local_alias: weak: .fill 8, 1, 0x90\n"
                               "label_inside: .fill 8, 1, 0x90\n"
                               "only_label: .fill 16, 1, 0x90\n"
                               ".type outer, @function\n"
                               ".size outer, 32\n"
                               "outer: .fill 8, 1, 0x90\n"
                               ".type inner, @function\n"
                               ".size inner, 8\n"
                               "inner: .fill 24, 1, 0x90\n"
                               ".type last, @function\n"
                               "last: .fill 16, 1, 0x90\n"
                               ".section .text.other, \"ax\"\n"
                               ".fill 16, 1, 0x90\n"
                               ".section .note.GNU-stack, \"\", @progbits\n";

static void test_sizes(void **unused)
{
    struct built b;

    (void)unused;
    if (!build(&b, "a.s", assembly, "gcc -nostdlib -static -no-pie")) {
        drop(&b);
        skip();
    }
    uint64_t start = address_of(b.image, "_start"), sizeless = address_of(b.image, "sizeless"),
             sized = address_of(b.image, "sized"), plain = address_of(b.image, "plain"),
             only = address_of(b.image, "only_label"), outer = address_of(b.image, "outer"),
             last = address_of(b.image, "last");
    expect(b.image, start, "_start");
    expect(b.image, start + 15, "_start");
    /* to the next symbol, not beyond it */
    expect(b.image, sizeless, "sizeless");
    expect(b.image, sizeless + 15, "sizeless");
    expect(b.image, sized + 7, "sized");
    expect(b.image, sized + 8, NULL);
    /* of several names the exported one without underscores, strong before weak; a label inside does not end
     * a function */
    expect(b.image, plain, "plain");
    expect(b.image, plain + 12, "plain");
    expect(b.image, only, "only_label");
    expect(b.image, only + 15, "only_label");
    /* the innermost function, and the outer one again behind it */
    expect(b.image, outer, "outer");
    expect(b.image, outer + 8, "inner");
    expect(b.image, outer + 16, "outer");
    expect(b.image, outer + 31, "outer");
    /* the last one ends with its section's code */
    expect(b.image, last, "last");
    expect(b.image, last + 15, "last");
    expect(b.image, last + 4096, NULL);
    expect(b.image, start - 1, NULL);
    drop(&b);
}

/* ---- C++ ---- */

static const char cpp[] =
    "#include <string>\n"
    "namespace shapes { struct Box { int n; __attribute__((noinline)) int area(int k) const; };\n"
    "int Box::area(int k) const { return n * k; }\n"
    "template <class T> __attribute__((noinline)) T twice(T x) { return x + x; } }\n"
    "namespace { __attribute__((noinline)) int hidden(int x) { return x * 3; } }\n"
    "__attribute__((noinline, cold)) static void fails(int x) { if (x == 12345) __builtin_abort(); }\n"
    "static inline __attribute__((always_inline)) int folded_in(int x) { return shapes::twice(x) + 1; }\n"
    "int main(int argc, char **) { shapes::Box b{argc}; fails(argc);\n"
    "auto l = [](int v) __attribute__((noinline)) { return v + 7; };\n"
    "std::string s = shapes::twice(std::string(\"ab\"));\n"
    "return b.area(3) + folded_in(argc) + hidden(argc) + l(argc) + (int)s.size(); }\n";

/* The frames at an address, and what they must be. */
static void expect_frame(struct bn_image *image, uint64_t vaddr, const char *function, const char *raw)
{
    struct bn_symbols *s = bn_xcalloc(1, sizeof *s);

    bn_symbols_find(s, &(struct bn_place){.image = image, .vaddr = vaddr, .has_vaddr = true});
    const struct bn_frame *f = &s->frames[s->n - 1];
    if (strcmp(f->function, function) != 0 || !f->raw != !raw || (raw && strcmp(f->raw, raw) != 0))
        fail_msg("%#llx: %s (%s), expected %s (%s)", (unsigned long long)vaddr, f->function,
                 f->raw ? f->raw : "same", function, raw ? raw : "same");
    bn_symbols_free(s);
    free(s);
}

static void cpp_names(const char *command)
{
    static const struct {
        const char *raw, *shown;
    } names[] = {
        {"_ZNK6shapes3Box4areaEi", "shapes::Box::area"},
        {"_ZN6shapes5twiceIiEET_S1_", "shapes::twice<int>"},
        {"_ZN6shapes5twiceINSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEEEET_S7_",
         "shapes::twice<std::string >"},
        {"_ZN12_GLOBAL__N_16hiddenEi", "(anonymous namespace)::hidden"},
    };
    struct built b;

    if (!build(&b, "a.cc", cpp, command)) {
        drop(&b);
        return;
    }
    for (size_t i = 0; i < BN_COUNT(names); i++)
        expect_frame(b.image, address_of(b.image, names[i].raw), names[i].shown, names[i].raw);
    expect_frame(b.image, address_of(b.image, "main"), "main", NULL);
    drop(&b);
}

/* Some functions of C++ have no linkage name: a template over a lambda. Its scopes come from where it is
 * declared. */
static void test_scopes(void **unused)
{
    static const char source[] = "static volatile long sink;\n"
                                 "namespace shop { struct Basket { int n;\n"
                                 "template <class F> __attribute__((always_inline)) long each(F f) const {\n"
                                 "long s = 0; for (int i = 0; i < n; i++) s += f(sink); return s; } }; }\n"
                                 "int main(int argc, char **) { shop::Basket b{argc * 1000};\n"
                                 "sink = b.each([](long v) { return v * sink; }); return 0; }\n";
    struct built b;
    struct bn_debug_frame frames[16];
    size_t qualified = 0, bare = 0;

    (void)unused;
    if (!build(&b, "a.cc", source, "g++ -O1 -g")) {
        drop(&b);
        skip();
    }
    for (size_t i = 0; i < b.image->fdes.n; i++)
        for (uint64_t at = b.image->fdes.items[i].start; at < b.image->fdes.items[i].end; at++) {
            size_t n = bn_debug_find(b.image, at, frames, BN_COUNT(frames));
            for (size_t k = 0; k < n; k++) {
                const char *name = frames[k].function;
                qualified += name && strncmp(name, "shop::Basket::each<", 19) == 0;
                bare += name && strncmp(name, "each<", 5) == 0;
            }
        }
    assert_true(qualified > 0);
    assert_int_equal(bare, 0);
    drop(&b);
}

/* -O0, so that every function stays as it is. */
static void test_cpp(void **unused)
{
    (void)unused;
    cpp_names("g++ -O0 -g");
    cpp_names("g++ -O0");
    cpp_names("clang++ -O0 -g");
}

static uint64_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

/* The same program with bytes changed, mostly in its debug information: anything may be answered, nothing may
 * break. */
static void test_damaged(void **unused)
{
    struct built b;
    struct bn_map map;
    struct bn_err err;
    struct bn_symbols *s = bn_xcalloc(1, sizeof *s);
    uint64_t seed = 5, addresses[40];
    size_t n = 0;

    (void)unused;
    if (!build(&b, "a.cc", cpp, "g++ -O1 -g")) {
        drop(&b);
        free(s);
        skip();
    }
    for (size_t i = 0; i < b.image->fdes.n && n < BN_COUNT(addresses); i++)
        addresses[n++] = b.image->fdes.items[i].start;
    assert_int_equal(bn_map_open(&map, b.path, &err), 0);
    char *copy = bn_xasprintf("%s/copy", b.folder);
    uint8_t *bytes = bn_xmalloc(map.n);
    for (int round = 0; round < 150; round++) {
        memcpy(bytes, map.p, map.n);
        for (int k = 0; k < 1 + round % 40; k++)
            bytes[map.n / 4 + next_random(&seed) % (map.n - map.n / 4)] = (uint8_t)next_random(&seed);
        FILE *f = fopen(copy, "w");
        fwrite(bytes, 1, map.n, f);
        fclose(f);
        struct bn_image *image = bn_image_open(copy, NULL, 0);
        for (size_t i = 0; image->usable && i < n; i++)
            bn_symbols_find(s,
                            &(struct bn_place){.image = image, .vaddr = addresses[i] + 4, .has_vaddr = true});
        bn_image_free(image);
    }
    unlink(copy);
    free(copy);
    free(bytes);
    bn_map_close(&map);
    bn_symbols_free(s);
    free(s);
    drop(&b);
}

/* Parts and clones: shown by the function's name, with the symbol's own kept. */
static void test_clones(void **unused)
{
    static const char source[] =
        "#include <stdlib.h>\n#include <stdio.h>\n"
        "int work(int x); int main(int c, char **v) { (void)v; return work(c); }\n"
        "__attribute__((cold, noreturn, noinline)) static void die(int x) { printf(\"%d\", x); abort(); }\n"
        "__attribute__((noinline)) int work(int x) { if (__builtin_expect(x == 99, 0)) die(x);\n"
        "if (x > 1000) { printf(\"large\"); puts(\"x\"); die(x + 1); } return x * 3; }\n";
    struct built b;

    (void)unused;
    if (!build(&b, "a.c", source, "gcc -O2 -g -freorder-blocks-and-partition")) {
        drop(&b);
        skip();
    }
    uint64_t at = address_of(b.image, "work.cold");
    expect_frame(b.image, at, "work", "work.cold");
    expect_frame(b.image, address_of(b.image, "work"), "work", NULL);
    drop(&b);
}

/* ---- the vdso ---- */

static size_t vdso_bytes(void)
{
    FILE *f = fopen("/proc/self/maps", "re");
    char line[4352];
    unsigned long long start, end, bytes = 0;

    while (f && fgets(line, sizeof line, f))
        if (strstr(line, "[vdso]") && sscanf(line, "%llx-%llx", &start, &end) == 2)
            bytes = end - start;
    if (f)
        fclose(f);
    return (size_t)bytes;
}

static void test_vdso(void **unused)
{
    const uint8_t *at = (const uint8_t *)(uintptr_t)getauxval(AT_SYSINFO_EHDR);
    size_t n = vdso_bytes();
    struct bn_symbols *s = bn_xcalloc(1, sizeof *s);
    size_t found = 0;

    (void)unused;
    if (!at || n == 0) {
        print_message("# skipped: no vdso here\n");
        free(s);
        skip();
    }
    struct bn_image *image = bn_image_from_bytes("[vdso]", at, n);
    assert_true(image->usable);
    for (size_t i = 0; i < image->fdes.n; i++) {
        struct bn_place place = {.image = image, .vaddr = image->fdes.items[i].start, .has_vaddr = true};
        bn_symbols_find(s, &place);
        found += strcmp(s->frames[0].function, "clock_gettime") == 0 ||
                 strcmp(s->frames[0].function, "__vdso_clock_gettime") == 0;
        assert_string_equal(s->frames[0].module, "[vdso]");
    }
    assert_true(found > 0);
    assert_false(bn_debug_exists(image));
    bn_image_free(image);
    bn_symbols_free(s);
    free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),   cmocka_unit_test(test_cpp),    cmocka_unit_test(test_scopes),
        cmocka_unit_test(test_damaged), cmocka_unit_test(test_clones), cmocka_unit_test(test_vdso),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

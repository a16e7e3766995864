/* SPDX-License-Identifier: MIT
 * Names: in files with odd layouts, in stripped libraries, in damaged files. */
#include <dlfcn.h>
#include <linux/perf_event.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "profiler/debug.h"
#include "profiler/symtab.h"
#include "unwind_self.h"

/* Absolute path of a program that was built beside this test; the caller frees. */
static char *beside(const char *name)
{
    const char *build = getenv("BUILD");
    char *path = bn_xasprintf("%s/%s", build ? build : "build/release", name), *whole = realpath(path, NULL);

    if (!whole)
        return path;
    free(path);
    return whole;
}

static bool have(const char *command)
{
    char *line = bn_xasprintf("command -v %s >/dev/null 2>&1", command);
    bool found = system(line) == 0;

    free(line);
    return found;
}

static void test_inline_lines(void **unused)
{
    char *path = beside("tests/data/truth_inline");
    struct bn_image *image = bn_image_open(path, NULL, 0);
    struct bn_debug_frame f[8];
    size_t found = 0;

    (void)unused;
    free(path);
    if (!image->usable) {
        print_message("# skipped: %s\n", image->why.msg);
        bn_image_free(image);
        skip();
    }
    for (size_t i = 0; i < image->fdes.n; i++)
        for (uint64_t at = image->fdes.items[i].start; at < image->fdes.items[i].end; at++)
            if (bn_debug_find(image, at, f, 8) == 3 && f[0].line == 15) {
                assert_string_equal(f[0].function, "inner_part");
                assert_string_equal(f[1].function, "middle_part");
                assert_string_equal(f[2].function, "outer_part");
                assert_int_equal(f[1].line, 21);
                assert_int_equal(f[2].line, 27);
                assert_true(f[0].inlined && f[1].inlined && !f[2].inlined);
                assert_non_null(strstr(f[2].file, "truth_inline.c"));
                found++;
            }
    assert_true(found > 0);
    bn_image_free(image);
}

/* ---- layouts ---- */

static const char layout_program[] =
    "#include <stdio.h>\n"
    "int named_function(int x); int named_function(int x) { return x * 7; }\n"
    "int main(void) { char line[4096]; FILE *f = fopen(\"/proc/self/maps\", \"r\");\n"
    "printf(\"%p\\n\", (void *)(unsigned long)named_function);\n"
    "while (fgets(line, sizeof line, f)) fputs(line, stdout); return 0; }\n";

/* Run the program; its mappings go into maps. Returns the address of named_function. */
static uint64_t run_layout(const char *program, struct bn_maps *maps)
{
    FILE *f = popen(program, "r");
    char line[4352], path[4097], prot[8];
    uint64_t address = 0, start, end, offset;

    assert_non_null(f);
    assert_non_null(fgets(line, sizeof line, f));
    address = strtoull(line, NULL, 16);
    while (fgets(line, sizeof line, f)) {
        path[0] = '\0';
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %*s %*s %4096[^\n]", &start, &end, prot,
                   &offset, path) < 5 ||
            prot[2] != 'x')
            continue;
        bn_maps_apply(maps, &(struct bn_record){.type = PERF_RECORD_MMAP2,
                                                .pid = 1,
                                                .start = start,
                                                .length = end - start,
                                                .file_offset = offset,
                                                .executable = true,
                                                .text = path});
    }
    pclose(f);
    return address;
}

static void test_layouts(void **unused)
{
    static const char *const flags[] = {
        "-pie -fPIE",
        "-no-pie",
        "-static",
        "-static-pie -fPIE",
        "-pie -fPIE -Wl,-z,noseparate-code",
        "-pie -fPIE -Wl,-z,separate-code",
        "-no-pie -Wl,-Ttext-segment=0x10000000",
        "-no-pie -Wl,-z,noseparate-code -Wl,-Ttext=0x4321000",
        "-pie -fPIE -Wl,-Ttext=0x543000",
        "-pie -fPIE -Wl,-z,max-page-size=0x200000 -Wl,-z,noseparate-code",
        "-pie -fPIE -fuse-ld=lld",
        "-pie -fPIE -fuse-ld=lld -Wl,--no-rosegment",
        "-pie -fPIE -fuse-ld=gold",
    };
    char folder[] = "/tmp/test_symbols.XXXXXX";
    size_t n = 0;

    (void)unused;
    if (!have("gcc")) {
        print_message("# skipped: no gcc\n");
        skip();
    }
    assert_non_null(mkdtemp(folder));
    char *source = bn_xasprintf("%s/layout.c", folder), *program = bn_xasprintf("%s/layout", folder);
    FILE *f = fopen(source, "w");
    fputs(layout_program, f);
    fclose(f);
    for (size_t i = 0; i < BN_COUNT(flags); i++) {
        struct bn_maps maps;
        struct bn_symbols *s = bn_xcalloc(1, sizeof *s);
        char *command = bn_xasprintf("gcc -O1 -g -o %s %s %s 2>/dev/null", program, source, flags[i]);
        if (system(command) == 0) { /* not every linker is everywhere */
            bn_maps_init(&maps);
            uint64_t address = run_layout(program, &maps);
            struct bn_place place = bn_maps_find(&maps, bn_maps_process(&maps, 1), address);
            bn_symbols_find(s, &place);
            if (strcmp(s->frames[0].function, "named_function") != 0 || s->frames[0].line != 2)
                fail_msg("%s: %s:%u", flags[i], s->frames[0].function, s->frames[0].line);
            bn_maps_free(&maps);
            n++;
        }
        bn_symbols_free(s);
        free(s);
        free(command);
    }
    unlink(source);
    unlink(program);
    rmdir(folder);
    free(source);
    free(program);
    print_message("# %zu of %zu layouts\n", n, BN_COUNT(flags));
    assert_true(n >= 4);
}

/* ---- tables ---- */

static void test_fold(void **unused)
{
    static const struct {
        const char *name, *folded;
    } cases[] = {
        {"f", "f"},
        {"f.cold", "f"},
        {"f.cold.1", "f"},
        {"f.part.0", "f"},
        {"f.isra.0.cold", "f"},
        {"f.constprop.12.isra.3", "f"},
        {"f.llvm.123456789", "f"},
        {"f.lto_priv.0.localalias", "f"},
        {"f.0", "f.0"}, /* a nested function or a static of another scope: its own */
        {"f.cold.x", "f.cold.x"},
        {"f.coldish", "f.coldish"},
        {".cold", ".cold"},
        {"memcpy@@GLIBC_2.14", "memcpy"},
        {"memcpy@plt", "memcpy@plt"},
        {"", ""},
        {"@x", "@x"},
    };

    (void)unused;
    for (size_t i = 0; i < BN_COUNT(cases); i++) {
        char *folded = strndup(cases[i].name, bn_symtab_fold(cases[i].name));
        assert_string_equal(folded, cases[i].folded);
        free(folded);
    }
}

/* The C library as this process has it, with its separate debug file taken away as on a plain machine. */
static struct bn_image *plain_libc(uint64_t *bias)
{
    Dl_info info;
    void *libc = dlopen("libc.so.6", RTLD_NOLOAD | RTLD_LAZY);
    void *at = libc ? dlsym(libc, "qsort") : NULL;

    if (!at || !dladdr(at, &info))
        return NULL;
    struct bn_image *image = bn_image_open(info.dli_fname, NULL, 0);
    *bias = (uintptr_t)info.dli_fbase;
    elf_end(image->debug_elf);
    image->debug_elf = NULL;
    dlclose(libc);
    return image;
}

static void test_stripped_libc(void **unused)
{
    static const char *const names[] = {"memcpy", "memset", "memcmp",  "strchr",  "strlen",
                                        "malloc", "free",   "qsort_r", "snprintf"};
    uint64_t bias = 0;
    struct bn_image *image = plain_libc(&bias);
    void *libc = dlopen("libc.so.6", RTLD_NOLOAD | RTLD_LAZY);
    size_t nameless = 0, named = 0;

    (void)unused;
    if (!image || !image->usable || bn_image_section(image->elf, ".symtab")) {
        print_message("# skipped: the C library is not a stripped shared library\n");
        bn_image_free(image);
        skip();
    }
    for (size_t i = 0; i < BN_COUNT(names); i++) {
        uint64_t at = (uintptr_t)dlsym(libc, names[i]) - bias;
        const char *first = bn_symtab_find(image, at, NULL), *later = bn_symtab_find(image, at + 1, NULL);
        assert_non_null(first);
        assert_string_equal(first, names[i]);
        assert_string_equal(later, names[i]);
    }
    /* Local functions have no name left, and must not get a neighbour's. */
    for (size_t i = 0; i < image->fdes.n; i++) {
        const struct bn_fde *f = &image->fdes.items[i];
        const char *name = bn_symtab_find(image, f->start + 1, NULL);
        nameless += name == NULL;
        named += name != NULL;
    }
    print_message("# libc: %zu functions named, %zu nameless\n", named, nameless);
    assert_true(named > 500 && nameless > 500);
    struct bn_symbols *s = bn_xcalloc(1, sizeof *s);
    for (size_t i = 0; i < image->fdes.n; i++) {
        struct bn_place place = {.image = image, .vaddr = image->fdes.items[i].start + 1, .has_vaddr = true};
        if (bn_symtab_find(image, place.vaddr, NULL))
            continue;
        bn_symbols_find(s, &place);
        char expected[64];
        snprintf(expected, sizeof expected, "[libc.so.6+0x%" PRIx64 "]", image->fdes.items[i].start);
        assert_string_equal(s->frames[0].function, image->fdes.items[i].signal ? "[signal frame]" : expected);
        assert_int_equal(s->frames[0].kind, BN_FRAME_UNKNOWN);
        break;
    }
    bn_symbols_free(s);
    free(s);
    dlclose(libc);
    bn_image_free(image);
}

static void test_linkage_stubs(void **unused)
{
    struct bn_image *image = bn_image_open("/proc/self/exe", NULL, 0);
    Elf_Scn *scn = NULL;
    size_t n = 0, stubs = 0;

    (void)unused;
    assert_true(image->usable);
    while ((scn = elf_nextscn(image->elf, scn)) != NULL) {
        Elf64_Shdr *shdr = elf64_getshdr(scn);
        if (!(shdr->sh_flags & SHF_EXECINSTR) || !bn_image_in_section(image, shdr->sh_addr, ".plt"))
            continue;
        for (uint64_t at = 0; at < shdr->sh_size; at++, n++) {
            const char *name = bn_symtab_find(image, shdr->sh_addr + at, NULL);
            stubs += name && strstr(name, "@plt");
        }
    }
    bn_image_free(image);
    if (n == 0) {
        print_message("# skipped: linked without stubs\n");
        skip();
    }
    assert_true(stubs * 100 >= n * 80); /* all but the first stub, which serves the others */
}

static void test_kallsyms(void **unused)
{
    struct bn_kallsyms k;
    struct bn_err err;
    char path[] = "/tmp/test_symbols.XXXXXX";
    FILE *f = fdopen(mkstemp(path), "w");

    (void)unused;
    fputs("ffffffff81002000 t second.isra.0\nffffffff81001000 T first\nffffffff81001000 T "
          "first_by_another_name\n"
          "ffffffffa0000000 t in_module\t[mod]\nffffffff81001800 D data\nnonsense\n\nffffffff\n",
          f);
    fclose(f);
    assert_int_equal(bn_kallsyms_read(&k, path, &err), 0);
    assert_null(bn_kallsyms_find(&k, 0xffffffff81000fff));
    assert_string_equal(bn_kallsyms_find(&k, 0xffffffff81001000), "first");
    assert_string_equal(bn_kallsyms_find(&k, 0xffffffff81001fff), "first");
    assert_string_equal(bn_kallsyms_find(&k, 0xffffffff81002000), "second.isra.0");
    assert_string_equal(bn_kallsyms_find(&k, 0xffffffffa0000004), "in_module");
    struct bn_symbols *s = bn_xcalloc(1, sizeof *s);
    bn_symbols_find_kernel(s, &k, 0xffffffff81002010);
    assert_string_equal(s->frames[0].function, "second");
    assert_string_equal(s->frames[0].module, "[kernel]");
    bn_kallsyms_free(&k);
    bn_symbols_find_kernel(s, &k, 0xffffffff81002010);
    assert_string_equal(s->frames[0].function, "[kernel]");
    bn_symbols_free(s);
    free(s);

    f = fopen(path, "w");
    fputs("0000000000000000 T first\n0000000000000000 T second\n", f);
    fclose(f);
    assert_int_equal(bn_kallsyms_read(&k, path, &err), -1);
    assert_non_null(strstr(err.msg, "kptr_restrict"));
    bn_kallsyms_free(&k);
    unlink(path);
}

/* ---- files that are not what they should be ---- */

static void test_other_file(void **unused)
{
    uint8_t id[BN_IMAGE_MAX_BUILD_ID] = {1, 2, 3};
    struct bn_image *image = bn_image_open("/proc/self/exe", id, sizeof id);
    struct bn_symbols *s = bn_xcalloc(1, sizeof *s);

    (void)unused;
    assert_false(image->usable);
    assert_true(image->other_file);
    bn_symbols_find(s, &(struct bn_place){.image = image});
    assert_string_equal(s->frames[0].function, "[exe]");
    bn_image_free(image);

    static const char *const paths[] = {
        "/nowhere/at/all", "/dev/null", "/dev/zero", "/tmp",           "//anon",
        "[heap]",          "",          "/",         "/proc/self/mem", "/proc/self/cmdline"};
    for (size_t i = 0; i < BN_COUNT(paths); i++) {
        image = bn_image_open(paths[i], NULL, 0);
        assert_false(image->usable);
        assert_true(image->why.msg[0]);
        bn_symbols_find(s, &(struct bn_place){.image = image});
        assert_int_equal(s->frames[0].kind, BN_FRAME_UNKNOWN);
        bn_image_free(image);
    }
    bn_symbols_find(s, &(struct bn_place){0});
    assert_string_equal(s->frames[0].function, "[unknown]");
    bn_symbols_free(s);
    free(s);
}

static uint64_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

/* Look addresses up in a file whose bytes were changed or cut: anything may be answered, nothing may break.
 */
static void use_damaged(const char *path)
{
    struct bn_image *image = bn_image_open(path, NULL, 0);
    struct bn_symbols *s = bn_xcalloc(1, sizeof *s);
    uint64_t bias;

    if (image->usable) {
        for (uint64_t at = 0; at < 0x5000; at += 97)
            bn_symbols_find(s, &(struct bn_place){.image = image, .vaddr = at, .has_vaddr = true});
        bn_image_bias(image, 0x400000, 0x1000, 0x1000, &bias);
        for (size_t i = 0; i < image->fdes.n; i++)
            bn_image_read(image, image->fdes.items[i].at, 8);
    }
    bn_symbols_free(s);
    free(s);
    bn_image_free(image);
}

static void test_damaged(void **unused)
{
    char *path = beside("tests/data/truth_inline");
    struct bn_map map;
    struct bn_err err;
    uint64_t seed = 7;

    (void)unused;
    if (bn_map_open(&map, path, &err) != 0) {
        print_message("# skipped: %s\n", err.msg);
        free(path);
        skip();
    }
    char copy[] = "/tmp/test_symbols.XXXXXX";
    int fd = mkstemp(copy);
    uint8_t *bytes = bn_xmalloc(map.n);
    for (int round = 0; round < 400; round++) {
        size_t n = round % 4 == 0 ? next_random(&seed) % map.n : map.n;
        memcpy(bytes, map.p, map.n);
        for (int k = 0; k < (round % 4 ? 1 + round % 20 : 0); k++) {
            size_t at = next_random(&seed) % (round % 3 ? map.n : 1024);
            bytes[at] = (uint8_t)next_random(&seed);
        }
        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(pwrite(fd, bytes, n, 0), (ssize_t)n);
        use_damaged(copy);
    }
    close(fd);
    unlink(copy);
    free(bytes);
    free(path);
    bn_map_close(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_inline_lines),  cmocka_unit_test(test_layouts),
        cmocka_unit_test(test_fold),          cmocka_unit_test(test_stripped_libc),
        cmocka_unit_test(test_linkage_stubs), cmocka_unit_test(test_kallsyms),
        cmocka_unit_test(test_other_file),    cmocka_unit_test(test_damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

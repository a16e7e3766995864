/* SPDX-License-Identifier: MIT
 * Inline chains, function for function and line for line, against binutils' addr2line: all over two programs,
 * and at every distinct address of a real recording.
 *
 * Where we differ on purpose, and only there: code of a compiler's vector header counts for the line that
 * used it (debug.h); suffixes of clones are folded; a function that other files can call goes by the exported
 * one of its names; "./" and ".." in paths. */
#include <dlfcn.h>
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <link.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "profiler/debug.h"
#include "profiler/profile.h"
#include "profiler/symbols.h"
#include "profiler/symtab.h"

static const char *build_folder(void)
{
    const char *build = getenv("BUILD");
    return build ? build : "build/release";
}

static bool have_addr2line(void)
{
    bool found = system("command -v addr2line >/dev/null 2>&1") == 0;

    if (!found)
        print_message("# skipped: no addr2line\n");
    return found;
}

/* ---- what addr2line says ---- */

struct chain {
    char function[BN_SYMBOLS_MAX_FRAMES][2048], place[BN_SYMBOLS_MAX_FRAMES][4096];
    uint32_t line[BN_SYMBOLS_MAX_FRAMES];
    bool header[BN_SYMBOLS_MAX_FRAMES]; /* a compiler's vector header */
    size_t n;
};

/* Parse the answer for one address: pairs of lines "function" and "file:line"; begins behind the line "0x…".
 */
static bool read_chain(FILE *f, char *next, size_t size, struct chain *c)
{
    c->n = 0;
    while (fgets(next, (int)size, f) && strncmp(next, "0x", 2) != 0) {
        char *place = c->place[c->n];
        if (c->n + 1 == BN_SYMBOLS_MAX_FRAMES || !fgets(place, sizeof c->place[0], f))
            return false;
        snprintf(c->function[c->n], sizeof c->function[0], "%.*s", (int)strcspn(next, "\n"), next);
        char *colon = strrchr(place, ':');
        c->line[c->n] = colon ? (uint32_t)strtoul(colon + 1, NULL, 10) : 0;
        c->header[c->n] = strstr(place, "intrin.h:") != NULL;
        if (colon)
            *colon = '\0';
        c->n++;
    }
    return c->n > 0;
}

/* Path without "." and "..", as far as the text tells; a relative one loses the ".." that lead out of it. */
static void normalize(const char *path, char *out)
{
    size_t n = 0;

    while (*path) {
        size_t length = strcspn(path, "/");
        if (length == 2 && strncmp(path, "..", 2) == 0) {
            while (n > 0 && out[n - 1] != '/')
                n--;
            n -= n > 0;
        } else if (length > 0 && !(length == 1 && path[0] == '.')) {
            out[n++] = '/';
            memcpy(out + n, path, length);
            n += length;
        }
        path += length + (path[length] == '/');
    }
    out[n] = '\0';
}

static bool same_file(const char *ours, const char *theirs)
{
    char a[4200], b[4200];

    if (!ours)
        return strcmp(theirs, "??") == 0;
    if (strlen(ours) > 4000 || strlen(theirs) > 4000)
        return false;
    normalize(ours, a);
    normalize(theirs, b);
    size_t n = strlen(a), m = strlen(b);
    return n <= m && strcmp(b + (m - n), a) == 0; /* a begins with a slash */
}

/* The one entry that addr2line gets wrong: it names the unit's primary file, we another one. */
static bool is_first_entry(const struct bn_image *image, uint64_t vaddr, const char *ours, const char *theirs)
{
    Dwarf *dwarf = dwarf_begin_elf(image->debug_elf ? image->debug_elf : image->elf, DWARF_C_READ, NULL);
    Dwarf_Die unit;
    Dwarf_Files *files;
    size_t n;
    bool is = false;

    if (dwarf && dwarf_addrdie(dwarf, vaddr, &unit) && dwarf_getsrcfiles(&unit, &files, &n) == 0 && n > 1)
        is = same_file(dwarf_diename(&unit), theirs) &&
             same_file(ours, dwarf_filesrc(files, 1, NULL, NULL)) && !same_file(ours, theirs);
    dwarf_end(dwarf);
    return is;
}

static bool same_fold(const char *a, const char *b)
{
    size_t n = bn_symtab_fold(a), m = bn_symtab_fold(b);
    return n == m && strncmp(a, b, n) == 0;
}

/* Where a name stands in the file's tables. A name with several versions stands at several addresses. */
struct places {
    uint64_t at[16];
    size_t n;
};

static void add_place(struct places *p, const char *name, const char *wanted, uint64_t at)
{
    if (p->n < BN_COUNT(p->at) && same_fold(name, wanted))
        p->at[p->n++] = at;
}

/* Do both names stand for one address in the file's tables? */
static bool are_aliases(const struct bn_image *image, const char *a, const char *b)
{
    Elf *const elves[] = {image->elf, image->debug_elf};
    struct places of_a = {.n = 0}, of_b = {.n = 0};

    for (size_t e = 0; e < BN_COUNT(elves); e++)
        for (Elf_Scn *scn = NULL; elves[e] && (scn = elf_nextscn(elves[e], scn)) != NULL;) {
            Elf64_Shdr *shdr = elf64_getshdr(scn);
            bool table = shdr && (shdr->sh_type == SHT_SYMTAB || shdr->sh_type == SHT_DYNSYM);
            Elf_Data *data = table ? elf_getdata(scn, NULL) : NULL;
            const Elf64_Sym *symbols = data ? data->d_buf : NULL;
            for (size_t i = 0; symbols && i < data->d_size / sizeof *symbols; i++) {
                const char *name = elf_strptr(elves[e], shdr->sh_link, symbols[i].st_name);
                if (!name || symbols[i].st_value == 0)
                    continue;
                add_place(&of_a, name, a, symbols[i].st_value);
                add_place(&of_b, name, b, symbols[i].st_value);
            }
        }
    for (size_t i = 0; i < of_a.n; i++)
        for (size_t k = 0; k < of_b.n; k++)
            if (of_a.at[i] == of_b.at[k])
                return true;
    return false;
}

static bool is_implementation(const char *theirs, const char *ours)
{
    ours += strspn(ours, "_");
    return strncmp(theirs, "__", 2) == 0 && strncmp(theirs + 2, ours, strlen(ours)) == 0;
}

/* Is ours a function that is chosen at load time ("memcpy"), and theirs one of what it is chosen from
 * ("__memcpy_evex_unaligned_erms")? */
static bool is_chosen(const struct bn_image *image, const char *ours, const char *theirs)
{
    for (Elf_Scn *scn = NULL; (scn = elf_nextscn(image->elf, scn)) != NULL;) {
        Elf64_Shdr *shdr = elf64_getshdr(scn);
        Elf_Data *data = shdr && shdr->sh_type == SHT_DYNSYM ? elf_getdata(scn, NULL) : NULL;
        const Elf64_Sym *symbols = data ? data->d_buf : NULL;
        for (size_t i = 0; symbols && i < data->d_size / sizeof *symbols; i++) {
            const char *name = elf_strptr(image->elf, shdr->sh_link, symbols[i].st_name);
            if (name && ELF64_ST_TYPE(symbols[i].st_info) == STT_GNU_IFUNC && strcmp(name, ours) == 0)
                return is_implementation(theirs, ours);
        }
    }
    return false;
}

static bool same_name(const struct bn_image *image, const struct bn_frame *f, const char *theirs,
                      bool outermost)
{
    const char *ours = f->raw ? f->raw : f->function;
    return same_fold(ours, theirs) ||
           (outermost && (are_aliases(image, ours, theirs) || is_chosen(image, ours, theirs)));
}

static bool equal_from(const struct bn_image *image, uint64_t vaddr, const struct bn_symbols *s,
                       const struct chain *theirs, size_t skip)
{
    if (s->n != theirs->n - skip)
        return false;
    for (size_t i = 0; i < s->n; i++) {
        const struct bn_frame *f = &s->frames[i];
        const char *place = theirs->place[skip + i];
        if (f->line != theirs->line[skip + i] ||
            !same_name(image, f, theirs->function[skip + i], i + 1 == s->n) ||
            (f->line && !same_file(f->file, place) && !is_first_entry(image, vaddr, f->file, place)))
            return false;
    }
    return true;
}

static bool is_stub(const struct bn_symbols *s, const struct chain *theirs)
{
    const char *mark = strstr(s->frames[0].function, "@plt");

    return s->n == 1 && mark && !mark[4] && !s->frames[0].file && theirs->n == 1 &&
           strcmp(theirs->function[0], "??") == 0;
}

/* The same chain by us; false with a message if it differs. */
static bool agree(struct bn_image *image, uint64_t vaddr, const struct chain *theirs, char *why, size_t size)
{
    struct bn_symbols *s = bn_xcalloc(1, sizeof *s);
    bool same;

    bn_symbols_find(s, &(struct bn_place){.image = image, .vaddr = vaddr, .has_vaddr = true});
    same = is_stub(s, theirs);
    for (size_t skip = 0; !same && skip < theirs->n && (skip == 0 || theirs->header[skip - 1]); skip++)
        same = equal_from(image, vaddr, s, theirs, skip);
    if (!same)
        snprintf(why, size, "%#llx: ours %s %s:%u (%zu deep), addr2line's %s %s:%u (%zu deep)",
                 (unsigned long long)vaddr, s->frames[0].function,
                 s->frames[0].file ? s->frames[0].file : "??", s->frames[0].line, s->n, theirs->function[0],
                 theirs->place[0], theirs->line[0], theirs->n);
    bn_symbols_free(s);
    free(s);
    return same;
}

/* addr2line is asked in one go. Returns how many addresses differ; *first: the first of them. */
static size_t compare(struct bn_image *image, const uint64_t *addresses, size_t n, char *first, size_t size)
{
    char list[] = "/tmp/test_addr2line.XXXXXX", next[4096];
    FILE *f = fdopen(mkstemp(list), "w");
    struct chain *chain = bn_xcalloc(1, sizeof *chain);
    size_t wrong = 0;

    for (size_t i = 0; i < n; i++)
        fprintf(f, "%#llx\n", (unsigned long long)addresses[i]);
    fclose(f);
    char *command = bn_xasprintf("addr2line -a -f -i -e '%s' < %s", image->path, list);
    FILE *answers = popen(command, "r");
    assert_non_null(answers);
    assert_non_null(fgets(next, sizeof next, answers));
    for (size_t i = 0; i < n; i++) {
        char why[8192] = "";
        assert_true(read_chain(answers, next, sizeof next, chain));
        if (!agree(image, addresses[i], chain, why, sizeof why) && wrong++ == 0)
            snprintf(first, size, "%s", why);
    }
    pclose(answers);
    unlink(list);
    free(command);
    free(chain);
    return wrong;
}

/* ---- all over a file ---- */

static void compare_file(const char *path, size_t step, size_t max)
{
    struct bn_image *image = bn_image_open(path, NULL, 0);
    struct bn_debug_frame frames[BN_SYMBOLS_MAX_FRAMES];
    uint64_t *addresses = bn_xcalloc(max, sizeof *addresses);
    char first[8192];
    size_t n = 0;

    assert_true(image->usable);
    for (size_t i = 0; i < image->fdes.n && n < max; i++)
        for (uint64_t at = image->fdes.items[i].start; at < image->fdes.items[i].end && n < max; at += step)
            if (bn_debug_find(image, at, frames, BN_COUNT(frames)) && frames[0].function)
                addresses[n++] = at;
    assert_true(n > 50);
    size_t wrong = compare(image, addresses, n, first, sizeof first);
    print_message("# %s: %zu addresses compared\n", path, n);
    if (wrong)
        fail_msg("%zu of %zu differ in %s, the first at %s", wrong, n, path, first);
    free(addresses);
    bn_image_free(image);
}

/* A library of this machine, where its debug information is. */
static void compare_library(const char *name, size_t step)
{
    void *library = dlopen(name, RTLD_LAZY);
    struct link_map *map;
    struct bn_image *image =
        library && dlinfo(library, RTLD_DI_LINKMAP, &map) == 0 ? bn_image_open(map->l_name, NULL, 0) : NULL;

    if (image && image->usable && bn_debug_exists(image))
        compare_file(image->path, step, 3000);
    bn_image_free(image);
    if (library)
        dlclose(library);
}

static void test_libraries(void **unused)
{
    (void)unused;
    if (!have_addr2line())
        skip();
    compare_library("libm.so.6", 307);
    compare_library("libc.so.6", 491);
}

/* Built beside this test, else this program itself. */
static void test_files(void **unused)
{
    char *inlined = bn_xasprintf("%s/tests/data/truth_inline", build_folder());
    char *program = bn_xasprintf("%s/bnprof", build_folder()), *path = realpath(inlined, NULL);

    (void)unused;
    if (!have_addr2line())
        skip();
    if (path)
        compare_file(path, 1, 4000);
    free(path);
    path = realpath(program, NULL);
    if (!path)
        path = realpath("/proc/self/exe", NULL);
    compare_file(path, 17, 20000);
    free(path);
    free(inlined);
    free(program);
}

/* ---- every address of a recording ---- */

static size_t compare_module(const struct bn_profile *p, uint32_t module)
{
    struct bn_image *image = bn_image_open(p->modules[module].path, NULL, 0);
    uint64_t *addresses = bn_xcalloc(p->n_addresses + 1, sizeof *addresses);
    char first[8192];
    size_t n = 0, wrong = 0;

    for (size_t i = 0; i < p->n_addresses; i++)
        if (p->addresses[i].module == module)
            addresses[n++] = p->addresses[i].vaddr;
    if (image->usable && n > 0)
        wrong = compare(image, addresses, n, first, sizeof first);
    print_message("# %s: %zu addresses compared\n", p->modules[module].path, n);
    free(addresses);
    bn_image_free(image);
    if (wrong)
        fail_msg("%zu of %zu differ in %s, the first at %s", wrong, n, p->modules[module].path, first);
    return n;
}

static void test_recording(void **unused)
{
    char folder[] = "/tmp/test_addr2line.XXXXXX";
    const char *config = getenv("CONFIG");
    bool slow = config && (strcmp(config, "asan") == 0 || strcmp(config, "tsan") == 0);
    struct bn_profile p;
    struct bn_err err;
    size_t n = 0;

    (void)unused;
    if (!have_addr2line())
        skip();
    assert_non_null(mkdtemp(folder));
    char *record = bn_xasprintf("%s/bnprof record -F 1999 -o %s -- run %s >/dev/null 2>%s/err",
                                build_folder(), folder, slow ? "--prompt The --max-tokens 60" : "", folder);
    char *remove = bn_xasprintf("rm -r %s", folder), *json = bn_xasprintf("%s/latest/profile.json", folder);
    bool recorded = system(record) == 0 && bn_profile_load(&p, json, &err) == 0;
    assert_int_equal(system(remove), 0);
    free(record);
    free(remove);
    free(json);
    if (!recorded) {
        print_message("# skipped: the engine cannot be recorded here\n");
        skip();
    }
    for (uint32_t i = 0; i < p.n_modules; i++)
        if (p.modules[i].state == BN_MODULE_READ && p.modules[i].debug_info && p.modules[i].path[0] == '/' &&
            !strstr(p.modules[i].name, "san.so"))
            n += compare_module(&p, i);
    assert_true(n > 50);
    bn_profile_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_files), cmocka_unit_test(test_libraries),
                                       cmocka_unit_test(test_recording)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT
 * Fuzz entry: bytes as an executable file that a program ran; names and unwinds of addresses all over it. */
#ifndef TESTS_FUZZ_FUZZ_ELF_H
#define TESTS_FUZZ_FUZZ_ELF_H

#include <linux/perf_event.h>

#include "fuzz_file.h"
#include "profiler/symbols.h"
#include "profiler/unwind.h"
#include "profiler/x86_code.h"

enum {
    FUZZ_BASE = 0x10000000,
    FUZZ_PID = 7,
    FUZZ_PROBES = 64,
    FUZZ_STACK_BYTES = 4096,
    FUZZ_SP = 0x7ffff000
};

struct fuzz_elf {
    struct bn_maps maps;
    struct bn_unwinder *unwinder;
    struct bn_symbols symbols;
    struct bn_unwind_result result;
    uint64_t probes[FUZZ_PROBES];
    size_t n_probes;
    uint8_t stack[FUZZ_STACK_BYTES];
    uint64_t random;
};

static inline void fuzz_map(struct fuzz_elf *f, const char *path, const struct bn_image_segment *s)
{
    uint64_t slack = s->vaddr & 4095;
    struct bn_record r = {.type = PERF_RECORD_MMAP2,
                          .pid = FUZZ_PID,
                          .tid = FUZZ_PID,
                          .start = FUZZ_BASE + s->vaddr - slack,
                          .length = s->vaddr_end - s->vaddr + slack,
                          .file_offset = s->offset - slack,
                          .executable = true,
                          .text = path};
    if (s->executable && s->offset >= slack)
        bn_maps_apply(&f->maps, &r);
}

static inline void fuzz_probe(struct fuzz_elf *f, uint64_t vaddr)
{
    if (f->n_probes < FUZZ_PROBES)
        f->probes[f->n_probes++] = vaddr;
}

/* Addresses worth a look: ends and insides of functions and segments. */
static inline void fuzz_choose(struct fuzz_elf *f, const struct bn_image *image)
{
    const struct bn_fde_table *t = &image->fdes;

    fuzz_probe(f, image->entry);
    for (size_t i = 0; i < image->n_segments && i < 4; i++) {
        fuzz_probe(f, image->segments[i].vaddr);
        fuzz_probe(f, image->segments[i].vaddr_end - 1);
    }
    for (size_t i = 0; i < 16 && t->n; i++) {
        const struct bn_fde *e = &t->items[fuzz_random(&f->random) % t->n];
        uint64_t n = e->end - e->start;
        fuzz_probe(f, e->start);
        fuzz_probe(f, e->start + (n ? fuzz_random(&f->random) % n : 0));
        fuzz_probe(f, e->end - 1);
    }
}

/* Half of the words are code addresses, half point into the stack. */
static inline void fuzz_fill(struct fuzz_elf *f)
{
    for (size_t at = 0; at + 8 <= sizeof f->stack; at += 8) {
        uint64_t r = fuzz_random(&f->random);
        uint64_t word = r & 1 ? FUZZ_SP + r % (2 * sizeof f->stack)
                              : FUZZ_BASE + f->probes[r % f->n_probes] + (r >> 20) % 8;
        memcpy(f->stack + at, &word, sizeof word);
    }
}

static inline void fuzz_unwind(struct fuzz_elf *f, uint64_t vaddr)
{
    const struct bn_process *p = bn_maps_process(&f->maps, FUZZ_PID);
    struct bn_unwind_input in = {
        .known = (1u << BN_UNWIND_REGS) - 1, .stack = f->stack, .stack_bytes = sizeof f->stack};
    struct bn_unwind_first first;

    for (int i = 0; i < BN_UNWIND_REGS; i++)
        in.regs[i] = FUZZ_SP + 8 * (fuzz_random(&f->random) % 600);
    in.regs[BN_UNWIND_RSP] = FUZZ_SP;
    in.regs[BN_UNWIND_RIP] = FUZZ_BASE + vaddr;
    bn_unwind(f->unwinder, p, &in, &f->result);
    if (f->result.n > BN_UNWIND_MAX_FRAMES || f->result.end >= BN_UNWIND_END_COUNT)
        abort();
    for (size_t i = 0; i < f->result.n && i < 4; i++)
        bn_symbols_find(&f->symbols, &f->result.frames[i].place);
    if (bn_unwind_first(f->unwinder, p, &in, &first, &f->result)) {
        struct bn_unwind_input caller = bn_unwind_caller_input(&in, &first);
        bn_unwind_callers(f->unwinder, p, &caller, &f->result);
    }
}

static inline void fuzz_look(struct fuzz_elf *f, struct bn_image *image, uint64_t vaddr)
{
    struct bn_place place = {.image = image, .vaddr = vaddr, .has_vaddr = true};

    bn_symbols_find(&f->symbols, &place);
    bn_x86_follows_call(image, vaddr);
    bn_x86_links_frame(image, vaddr, vaddr + 64);
    bn_x86_stub_depth(image, vaddr);
    bn_x86_popped(image, vaddr);
    bn_x86_find_return(image, vaddr - 4, vaddr);
    fuzz_unwind(f, vaddr);
}

static inline void fuzz_elf(const uint8_t *bytes, size_t n)
{
    char path[32];
    int fd = fuzz_file(bytes, n, path, sizeof path);
    struct fuzz_elf *f = (struct fuzz_elf *)bn_xcalloc(1, sizeof *f);
    struct bn_image *image = bn_image_open(path, NULL, 0);

    f->random = n;
    for (size_t i = 0; i < n; i += 61)
        f->random = f->random * 31 + bytes[i];
    bn_maps_init(&f->maps);
    f->unwinder = bn_unwinder_new(&f->maps);
    if (image->usable) {
        fuzz_choose(f, image);
        fuzz_fill(f);
        for (size_t i = 0; i < image->n_segments && i < 8; i++)
            fuzz_map(f, path, &image->segments[i]);
    }
    for (size_t i = 0; i < f->n_probes; i++)
        fuzz_look(f, image, f->probes[i]);
    bn_symbols_free(&f->symbols);
    bn_unwinder_free(f->unwinder);
    bn_maps_free(&f->maps);
    bn_image_free(image);
    free(f);
    close(fd);
}

#endif

/* SPDX-License-Identifier: MIT
 * For tests of the unwinder: this process as if it had been sampled. */
#ifndef TESTS_UNIT_UNWIND_SELF_H
#define TESTS_UNIT_UNWIND_SELF_H

#include <fcntl.h>
#include <inttypes.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <ucontext.h>
#include <unistd.h>

#include "profiler/symbols.h"
#include "profiler/unwind.h"

/* Take this process's executable mappings in, as records of process `pid`. */
static inline void self_maps(struct bn_maps *maps, int32_t pid)
{
    FILE *f = fopen("/proc/self/maps", "re");
    char line[4352], path[4097], prot[8];
    uint64_t start, end, offset;

    while (f && fgets(line, sizeof line, f)) {
        path[0] = '\0';
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %*s %*s %4096[^\n]", &start, &end, prot,
                   &offset, path) < 4 ||
            prot[2] != 'x')
            continue;
        struct bn_record r = {.type = PERF_RECORD_MMAP2,
                              .pid = pid,
                              .tid = pid,
                              .start = start,
                              .length = end - start,
                              .file_offset = offset,
                              .executable = true,
                              .text = path[0] ? path : "//anon"};
        if (strcmp(path, "[vdso]") == 0)
            bn_maps_set_vdso(maps, (const void *)(uintptr_t)start,
                             end - start); /* NOLINT: the address is real */
        bn_maps_apply(maps, &r);
    }
    if (f)
        fclose(f);
}

/* Registers of the caller and a copy of its stack. */
struct self_state {
    struct bn_unwind_input in;
    uint8_t stack[65528];
};

static inline void self_take(struct self_state *s, const ucontext_t *uc, size_t bytes)
{
    static const int gregs[] = {REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI,
                                REG_RBP, REG_RSP, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP};
    s->in = (struct bn_unwind_input){.stack = s->stack};
    for (int i = 0; i < BN_UNWIND_REGS; i++) {
        s->in.regs[i] = (uint64_t)uc->uc_mcontext.gregs[gregs[i]];
        s->in.known |= 1u << i;
    }
    /* read(2) of our own memory stops at the stack's end instead of faulting. */
    int fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    ssize_t n = pread(fd, s->stack, bytes < sizeof s->stack ? bytes : sizeof s->stack,
                      (off_t)s->in.regs[BN_UNWIND_RSP]);
    close(fd);
    s->in.stack_bytes = n > 0 ? (size_t)n : 0;
}

/* The names of a chain, innermost first, inlined ones too, joined by spaces; the caller frees. */
static inline char *self_names(const struct bn_unwind_result *r)
{
    struct bn_buf text = {0};
    struct bn_symbols *symbols = bn_xcalloc(1, sizeof *symbols);

    for (size_t i = 0; i < r->n; i++) {
        bn_symbols_find(symbols, &r->frames[i].place);
        for (size_t k = 0; k < symbols->n; k++)
            bn_buf_printf(&text, "%s%s", text.n ? " " : "", symbols->frames[k].function);
    }
    bn_symbols_free(symbols);
    free(symbols);
    return text.p ? text.p : bn_xstrdup("");
}

#endif

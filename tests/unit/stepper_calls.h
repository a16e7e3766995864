/* SPDX-License-Identifier: MIT
 * Half of stepper.h: the memory and the mappings of a stepped program, and the chain of its calls, kept by
 * watching them happen. */
#ifndef TESTS_UNIT_STEPPER_CALLS_H
#define TESTS_UNIT_STEPPER_CALLS_H

#include <elf.h>
#include <inttypes.h>
#include <linux/perf_event.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "profiler/symbols.h"
#include "profiler/unwind.h"

enum { STEPPER_MAX_CALLS = 4096, STEPPER_MAX_TASKS = 16, STEPPER_DUMP_BYTES = 16384 };

/* One link of the chain: a return address and where it lies, or the point at which a signal struck. */
struct stepper_call {
    uint64_t slot, address;
    uint64_t sp;    /* signal: of the interrupted code */
    uint64_t taken; /* the address, while an instruction has popped it into a register; else 0 */
    bool signal;
};

struct stepper_task {
    int32_t tid, pid; /* tid 0 = free */
    bool known;       /* its chain is complete from the start */
    struct stepper_call calls[STEPPER_MAX_CALLS];
    size_t n;
    struct user_regs_struct before; /* the instruction that is being executed */
    uint8_t code[16];
    size_t n_code;
    int signal;    /* being delivered */
    int to_inject; /* with the next step */
};

struct stepper {
    struct bn_maps maps;
    struct bn_unwinder *unwinder;
    struct bn_unwind_result result, rest;
    struct stepper_task *tasks;
    struct bn_idmap seen; /* instruction and chain */
    char *vdso;
    char *maps_text; /* of the last look */
    uint8_t stack[STEPPER_DUMP_BYTES];
    size_t dump_bytes;
    const char *entry;   /* begin here: "" = the program's entry point, NULL = the very first instruction */
    const char *program; /* compare with its frame pointers too; NULL = it does not keep them */
    uint64_t max_steps;
    /* Told of every sample whose chain, in `result`, was right; NULL = nobody. */
    void (*on_right)(struct stepper *s, const struct stepper_task *t, const struct bn_process *p,
                     const struct bn_unwind_input *in);
    void *ctx;

    uint64_t n_steps, n_checked, n_parted, n_linked, n_unlinked, n_wrong, n_short, n_no_cfi, n_other_stack,
        n_rewritten, n_signals, n_tasks;
    char wrong[32][768]; /* the first ones, by function */
    char wrong_in[32][96];
    uint64_t wrong_times[32];
    size_t n_kinds;
    int status; /* of the program */
};

/* ---- the tracee's memory and mappings ---- */

static inline size_t stepper_read(int32_t pid, uint64_t address, void *to, size_t n)
{
    struct iovec mine = {to, n}, theirs = {(void *)(uintptr_t)address, n}; /* NOLINT */
    ssize_t got = process_vm_readv(pid, &mine, 1, &theirs, 1, 0);

    if (got < 0 && n > 4096) /* a page at a time, as far as it goes */
        got = (ssize_t)stepper_read(pid, address, to, 4096 - address % 4096);
    return got > 0 ? (size_t)got : 0;
}

/* What the kernel copies of a stack: up to the end of what is mapped there. */
static inline size_t stepper_stack(struct stepper *s, int32_t pid, uint64_t sp)
{
    struct iovec mine = {s->stack, s->dump_bytes},
                 theirs = {(void *)(uintptr_t)sp, s->dump_bytes}; /* NOLINT */
    ssize_t all = process_vm_readv(pid, &mine, 1, &theirs, 1, 0);
    size_t n = all > 0 ? (size_t)all : 0;

    while (n < s->dump_bytes) { /* what is mapped ends before: as far as it goes */
        size_t page = 4096 - (sp + n) % 4096, got;
        got = stepper_read(pid, sp + n, s->stack + n, bn_min_size(page, s->dump_bytes - n));
        n += got;
        if (got == 0)
            break;
    }
    return n & ~(size_t)7;
}

static inline void stepper_add_vdso(struct stepper *s, int32_t pid, uint64_t start, uint64_t end)
{
    uint8_t *bytes = bn_xcalloc(end - start, 1);

    if (s->maps.n_files == 0 && stepper_read(pid, start, bytes, end - start) == end - start)
        bn_maps_set_vdso(&s->maps, bytes, end - start);
    free(bytes);
}

/* Tell the maps of new executable mappings, as the kernel would. */
static inline void stepper_look_at_maps(struct stepper *s, int32_t pid)
{
    char path[64], line[4352], name[4097], prot[8];
    struct bn_buf text = {0};
    uint64_t start, end, offset;

    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    FILE *f = fopen(path, "re");
    for (int pass = 0; f && pass < 2; pass++) { /* the vdso must be known before any mapping */
        rewind(f);
        while (fgets(line, sizeof line, f)) {
            name[0] = '\0';
            if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %*s %*s %4096[^\n]", &start, &end, prot,
                       &offset, name) < 4 ||
                prot[2] != 'x')
                continue;
            if (pass == 0 && strcmp(name, "[vdso]") == 0)
                stepper_add_vdso(s, pid, start, end);
            if (pass == 0)
                continue;
            char *known = bn_xasprintf("%d %s", (int)pid, line);
            bn_buf_puts(&text, known);
            struct bn_record r = {.type = PERF_RECORD_MMAP2,
                                  .pid = pid,
                                  .tid = pid,
                                  .start = start,
                                  .length = end - start,
                                  .file_offset = offset,
                                  .executable = true,
                                  .text = name[0] ? name : "//anon"};
            if (!s->maps_text || !strstr(s->maps_text, known))
                bn_maps_apply(&s->maps, &r);
            free(known);
        }
    }
    if (f)
        fclose(f);
    free(s->maps_text);
    s->maps_text = text.p ? text.p : bn_xstrdup("");
}

/* ---- the chain of calls ---- */

static inline size_t stepper_prefixes(const uint8_t *code, size_t n)
{
    static const uint8_t prefixes[] = {0x66, 0x67, 0xf2, 0xf3, 0x2e, 0x3e};
    size_t i = 0;

    while (i < n && memchr(prefixes, code[i], sizeof prefixes))
        i++;
    return i < n && (code[i] & 0xf0) == 0x40 ? i + 1 : i;
}

static inline bool stepper_is_call(const uint8_t *code, size_t n)
{
    size_t i = stepper_prefixes(code, n);

    return i + 1 < n && (code[i] == 0xe8 || (code[i] == 0xff && (code[i + 1] & 0x38) == 0x10));
}

static inline bool stepper_is_syscall(const uint8_t *code, size_t n)
{
    return n >= 2 && code[0] == 0x0f && code[1] == 0x05;
}

static inline bool stepper_at_trampoline(int32_t pid, uint64_t address)
{
    static const uint8_t bytes[] = {0x48, 0xc7, 0xc0, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05};
    uint8_t code[sizeof bytes];

    return stepper_read(pid, address, code, sizeof code) == sizeof code &&
           memcmp(code, bytes, sizeof code) == 0;
}

static inline void stepper_push(struct stepper_task *t, struct stepper_call call)
{
    if (t->n == STEPPER_MAX_CALLS) {
        t->known = false;
        t->n = 0;
    }
    t->calls[t->n++] = call;
}

/* What the instruction at `before` has done to the chain. A call pushes; a link dies when its slot lies below
 * the stack pointer, by return or by a jump out of several frames. A function that has popped its return
 * address into a register, as vfork does, keeps its caller until it goes there. */
static inline void stepper_follow(struct stepper *s, struct stepper_task *t,
                                  const struct user_regs_struct *now)
{
    uint64_t word = 0;

    if (t->signal) {
        if (now->rdi == (uint64_t)t->signal && stepper_read(t->pid, now->rsp, &word, 8) == 8 &&
            stepper_at_trampoline(t->pid, word)) {
            stepper_push(
                t, (struct stepper_call){
                       .slot = now->rsp, .address = t->before.rip, .sp = t->before.rsp, .signal = true});
            stepper_push(t, (struct stepper_call){.slot = now->rsp, .address = word});
            s->n_signals++;
            t->signal = 0;
            return;
        }
        t->signal = 0;
    }
    if (stepper_is_syscall(t->code, t->n_code) && t->before.rax == SYS_rt_sigreturn) {
        while (t->n && !t->calls[t->n - 1].signal)
            t->n--;
        t->n -= t->n > 0;
        return;
    }
    if (stepper_is_call(t->code, t->n_code) && now->rsp == t->before.rsp - 8 &&
        stepper_read(t->pid, now->rsp, &word, 8) == 8) {
        stepper_push(t, (struct stepper_call){.slot = now->rsp, .address = word});
        return;
    }
    struct stepper_call *top = t->n ? &t->calls[t->n - 1] : NULL;
    if (top && top->taken && (now->rip == top->taken || now->rsp <= top->slot)) {
        if (now->rip == top->taken) {
            t->n--;
            return;
        }
        top->taken = 0;
    }
    if (now->rsp == t->before.rsp)
        return;
    bool pops = (t->code[0] & 0xf8) == 0x58 || (t->code[0] == 0x41 && (t->code[1] & 0xf8) == 0x58);
    while (t->n && !t->calls[t->n - 1].signal && t->calls[t->n - 1].slot < now->rsp) {
        top = &t->calls[t->n - 1];
        if (pops && now->rsp == top->slot + 8 && stepper_read(t->pid, top->slot, &top->taken, 8) == 8)
            return;
        t->n--;
    }
}

#endif

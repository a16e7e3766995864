/* SPDX-License-Identifier: MIT
 * For tests of the unwinder: run a program one instruction at a time under ptrace, keep the chain of its
 * calls by watching them happen, and compare with what the unwinder makes of registers and stack, taken as a
 * sample would take them, after every instruction that has not been seen with this chain before. */
#ifndef TESTS_UNIT_STEPPER_H
#define TESTS_UNIT_STEPPER_H

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <errno.h>

#include "stepper_calls.h"

/* ---- comparison ---- */

static inline char *stepper_names(const struct bn_unwind_result *r, size_t max)
{
    struct bn_buf text = {0};
    struct bn_symbols *symbols = bn_xcalloc(1, sizeof *symbols);

    for (size_t i = 0; i < r->n && i < max; i++) {
        bn_symbols_find(symbols, &r->frames[i].place);
        bn_buf_printf(&text, "%s%s+%" PRIx64, text.n ? " " : "", symbols->frames[symbols->n - 1].function,
                      r->frames[i].address & 0xfff);
    }
    bn_symbols_free(symbols);
    free(symbols);
    return text.p ? text.p : bn_xstrdup("");
}

static inline char *stepper_name(struct stepper *s, const struct bn_process *p, uint64_t address)
{
    struct bn_unwind_result one = {.n = 1};

    one.frames[0].address = address;
    one.frames[0].place = bn_maps_find(&s->maps, p, address);
    return stepper_names(&one, 1);
}

/* Where frame number `frame` stands. A handler may change where the interrupted code goes on, so what is in
 * its context counts. */
static inline uint64_t stepper_expected(const struct stepper *s, const struct stepper_task *t,
                                        const struct bn_unwind_input *in, size_t frame)
{
    enum { RIP_IN_FRAME = 8 + 40 + 16 * 8 };
    const struct stepper_call *call = frame ? &t->calls[t->n - frame] : NULL;

    if (!call)
        return in->regs[BN_UNWIND_RIP];
    uint64_t at = call->slot + RIP_IN_FRAME - in->regs[BN_UNWIND_RSP];
    if (call->signal && at + 8 <= in->stack_bytes && at < at + 8)
        return bn_record_word(s->stack + at, 0);
    return call->taken ? call->taken : call->address;
}

/* While an exception is in flight its thrower's frame is rewritten, return address and registers, to lead to
 * where it is caught; what lies below has no meaning then. How many frames do? */
static inline size_t stepper_meaningful(const struct stepper *s, const struct stepper_task *t,
                                        const struct bn_unwind_input *in)
{
    size_t n = 1;

    for (; n <= t->n; n++) {
        const struct stepper_call *call = &t->calls[t->n - n];
        uint64_t at = call->slot - in->regs[BN_UNWIND_RSP];
        if (call->taken && call->taken != call->address)
            return n;
        if (!call->signal && !call->taken && at < at + 8 && at + 8 <= in->stack_bytes &&
            bn_record_word(s->stack + at, 0) != call->address)
            return n;
    }
    return n;
}

/* Was a word that this chain needs not in the copy? Each needs its own slot, a signal the registers below. */
static inline bool stepper_was_cut(const struct stepper_task *t, size_t from, uint64_t sp, size_t n)
{
    for (size_t i = 0; i < t->n && i <= t->n - from; i++)
        if (t->calls[i].slot < sp || t->calls[i].slot + 8 > sp + n)
            return true;
    return false;
}

/* Has the chain come to code that a signal had struck on a stack far from the handler's? */
static inline bool stepper_on_other_stack(const struct stepper_task *t, size_t n)
{
    for (size_t i = 1; i < n && i <= t->n; i++) {
        const struct stepper_call *call = &t->calls[t->n - i];
        if (call->signal && (call->sp < call->slot || call->sp - call->slot > 64 << 10))
            return true;
    }
    return false;
}

static inline void stepper_note_wrong(struct stepper *s, struct stepper_task *t, const struct bn_process *p,
                                      const struct bn_unwind_input *in, const char *why)
{
    char *where = stepper_name(s, p, in->regs[BN_UNWIND_RIP]), *ours = stepper_names(&s->result, 12);
    struct bn_unwind_result theirs = {.n = bn_min_size(t->n + 1, 12)};
    size_t kind = 0;

    for (size_t i = 0; i < theirs.n; i++) {
        theirs.frames[i].address = stepper_expected(s, t, in, i);
        theirs.frames[i].place =
            bn_maps_find(&s->maps, p, theirs.frames[i].address - (i > 0 && !t->calls[t->n - i].signal));
    }
    char *expected = stepper_names(&theirs, 12);
    s->n_wrong++;
    where[strcspn(where, "+")] = '\0';
    while (kind < s->n_kinds && strcmp(s->wrong_in[kind], where) != 0)
        kind++;
    if (kind < BN_COUNT(s->wrong)) {
        if (kind == s->n_kinds) {
            snprintf(s->wrong_in[kind], sizeof s->wrong_in[0], "%s", where);
            snprintf(s->wrong[kind], sizeof s->wrong[0], "%s: %.300s instead of %.300s (%zu, %zu; %s)", why,
                     ours, expected, s->result.n, t->n + 1, bn_unwind_end_text(s->result.end));
            s->n_kinds++;
        }
        s->wrong_times[kind]++;
    }
    free(where);
    free(ours);
    free(expected);
}

/* Are there rules for this place by libdw, an independent reader of the same sections? *reg: the register
 * that leads to the caller's frame, -1 = not a plain one. */
static inline bool stepper_rules_in(Dwarf_CFI *cfi, uint64_t vaddr, int *reg)
{
    Dwarf_Frame *frame = NULL;
    Dwarf_Op *ops = NULL;
    size_t n = 0;

    if (!cfi || dwarf_cfi_addrframe(cfi, vaddr, &frame) != 0)
        return false;
    bool plain = dwarf_frame_cfa(frame, &ops, &n) == 0 && n == 1 && ops[0].atom == DW_OP_bregx;
    *reg = plain ? (int)ops[0].number : -1;
    free(frame);
    return true;
}

static inline bool stepper_has_rules(const struct bn_place *place, int *reg)
{
    struct bn_image *image = place->image;

    if (!image || !place->has_vaddr || !image->elf)
        return false;
    Dwarf_CFI *cfi = dwarf_getcfi_elf(image->elf);
    bool has = stepper_rules_in(cfi, place->vaddr, reg);
    dwarf_cfi_end(cfi);
    if (has)
        return true;
    Elf *elf = image->debug_elf ? image->debug_elf : image->elf;
    Dwarf *dwarf = dwarf_begin_elf(elf, DWARF_C_READ, NULL);
    has = dwarf && stepper_rules_in(dwarf_getcfi(dwarf), place->vaddr, reg);
    dwarf_end(dwarf);
    return has;
}

/* May a chain end here for want of rules? Where there are none, or where they go by a register that does not
 * point to the stack (longjmp's lead to the buffer). */
static inline bool stepper_no_way(const struct stepper *s, const struct bn_unwind_input *in)
{
    const struct bn_unwind_result *r = &s->result;
    const struct bn_place *last = r->n ? &r->frames[r->n - 1].place : NULL;
    int reg = -1;

    if (!last || (r->end != BN_UNWIND_NO_CFI && r->end != BN_UNWIND_BAD_CFI) ||
        (last->has_vaddr && bn_image_in_section(last->image, last->vaddr, ".plt")))
        return false;
    if (!stepper_has_rules(last, &reg))
        return r->end == BN_UNWIND_NO_CFI;
    return r->n == 1 && reg >= 0 && reg < BN_UNWIND_REGS &&
           in->regs[reg] - in->regs[BN_UNWIND_RSP] >= in->stack_bytes;
}

/* The chain in two parts, the step to the caller and the rest, must be the whole one. */
static inline void stepper_check_parts(struct stepper *s, struct stepper_task *t, const struct bn_process *p,
                                       const struct bn_unwind_input *in)
{
    struct bn_unwind_result *whole = &s->result, *rest = &s->rest;
    struct bn_unwind_first first;

    if (!bn_unwind_first(s->unwinder, p, in, &first, rest))
        return;
    struct bn_unwind_input caller = bn_unwind_caller_input(in, &first);
    bn_unwind_callers(s->unwinder, p, &caller, rest);
    size_t n = bn_min_size(rest->n, BN_UNWIND_MAX_FRAMES - 1);
    bool same = n + 1 == whole->n && rest->end == whole->end;
    for (size_t i = 0; same && i < n; i++)
        same = rest->frames[i].address == whole->frames[i + 1].address &&
               rest->frames[i].place.vaddr == whole->frames[i + 1].place.vaddr;
    s->n_parted++;
    if (!same)
        stepper_note_wrong(s, t, p, in, "parted differs");
}

/* ---- the chain of frame pointers, in code of the program itself that was built to keep them ---- */

/* The walk that the kernel would do: from rbp to the saved rbp, each with its return address above it, until
 * it leaves the program's own code. Returns how many addresses. */
static inline size_t stepper_links(struct stepper *s, const struct bn_process *p,
                                   const struct bn_unwind_input *in, uint64_t *addresses, size_t max)
{
    const struct bn_image *own = s->result.frames[0].place.image;
    uint64_t rbp = in->regs[BN_UNWIND_RBP], address;
    size_t n = 1;

    addresses[0] = in->regs[BN_UNWIND_RIP];
    while (n < max && bn_unwind_input_word(in, rbp + 8, &address) &&
           bn_maps_find(&s->maps, p, address - 1).image == own) {
        addresses[n++] = address;
        if (!bn_unwind_input_word(in, rbp, &rbp))
            break;
    }
    return n;
}

/* Both methods on one sample: the same chain, but that a walk by rbp misses the caller of a function that has
 * not linked its frame yet, or no longer. Which of the two it is, libdw's reading of the rules says: they go
 * by rbp exactly while the frame is linked. */
static inline void stepper_check_links(struct stepper *s, struct stepper_task *t, const struct bn_process *p,
                                       const struct bn_unwind_input *in)
{
    const struct bn_unwind_result *r = &s->result;
    uint64_t links[BN_UNWIND_MAX_FRAMES];
    size_t own = 0;
    int reg = -1;

    if (!r->n || !r->frames[0].place.has_vaddr || strcmp(r->frames[0].place.image->path, s->program) != 0 ||
        bn_image_in_section(r->frames[0].place.image, r->frames[0].place.vaddr, ".plt") ||
        !stepper_has_rules(&r->frames[0].place, &reg))
        return;
    while (own < r->n && r->frames[own].place.image == r->frames[0].place.image)
        own++;
    if (own < 2)
        return;
    size_t n = stepper_links(s, p, in, links, BN_COUNT(links)), missed = own - n;
    bool same = missed == 0 ? reg != BN_UNWIND_RSP : missed == 1 && reg != BN_UNWIND_RBP;
    for (size_t i = 1; same && i < n; i++)
        same = links[i] == r->frames[i + missed].address;
    s->n_linked += same && missed == 0;
    s->n_unlinked += same && missed == 1;
    if (!same)
        stepper_note_wrong(s, t, p, in, "frame pointers tell otherwise");
}

/* The chain must be the expected one. It may be shorter only where the copy of the stack did not hold what it
 * needs, where there are too many frames, on another stack, or in code that has no rules. */
static inline void stepper_check(struct stepper *s, struct stepper_task *t,
                                 const struct user_regs_struct *regs)
{
    const struct bn_unwind_input in = {
        .regs = {regs->rax, regs->rdx, regs->rcx, regs->rbx, regs->rsi, regs->rdi, regs->rbp, regs->rsp,
                 regs->r8, regs->r9, regs->r10, regs->r11, regs->r12, regs->r13, regs->r14, regs->r15,
                 regs->rip},
        .known = (1u << BN_UNWIND_REGS) - 1,
        .stack = s->stack,
        .stack_bytes = stepper_stack(s, t->pid, regs->rsp),
    };
    const struct bn_process *p = bn_maps_process(&s->maps, t->pid);
    struct bn_unwind_result *r = &s->result;

    bn_unwind(s->unwinder, p, &in, r);
    size_t meaningful = stepper_meaningful(s, t, &in);
    uint64_t n_wrong = s->n_wrong;
    s->n_checked++;
    for (size_t i = 0; i < r->n && i < meaningful; i++)
        if (i > t->n || r->frames[i].address != stepper_expected(s, t, &in, i)) {
            stepper_note_wrong(s, t, p, &in, "another chain");
            return;
        }
    if (r->end == BN_UNWIND_COMPLETE && r->n == t->n + 1) {
        stepper_check_parts(s, t, p, &in);
        if (s->program)
            stepper_check_links(s, t, p, &in);
    } else if (meaningful <= t->n && r->n >= meaningful)
        s->n_rewritten++;
    else if (r->end == BN_UNWIND_TOO_DEEP && r->n == BN_UNWIND_MAX_FRAMES && t->n + 1 >= r->n)
        s->n_short++;
    else if (r->end == BN_UNWIND_DUMP_ENDED && r->n && stepper_was_cut(t, r->n, regs->rsp, in.stack_bytes))
        s->n_short++;
    else if (r->end == BN_UNWIND_NO_REGISTERS && in.stack_bytes == 0) /* below what is mapped of the stack */
        s->n_short++;
    else if (r->end == BN_UNWIND_OTHER_STACK && stepper_on_other_stack(t, r->n))
        s->n_other_stack++;
    else if (stepper_no_way(s, &in))
        s->n_no_cfi++;
    else
        stepper_note_wrong(s, t, p, &in, "ends wrongly");
    if (s->on_right && s->n_wrong == n_wrong)
        s->on_right(s, t, p, &in);
}

/* Has this instruction been seen with this chain and this depth of the stack? */
static inline bool stepper_is_new(struct stepper *s, const struct stepper_task *t,
                                  const struct user_regs_struct *regs)
{
    uint64_t hash = (uint64_t)t->pid;
    uint64_t depth = t->n ? t->calls[t->n - 1].slot - regs->rsp : 0;

    for (size_t i = 0; i < t->n; i++)
        hash = (hash ^ t->calls[i].address) * 0x9e3779b97f4a7c15u + (hash >> 29);
    hash = (hash ^ depth) * 0x9e3779b97f4a7c15u;
    if (bn_idmap_get(&s->seen, regs->rip, hash))
        return false;
    bn_idmap_put(&s->seen, regs->rip, hash, 1);
    return true;
}

/* ---- running ---- */

static inline struct stepper_task *stepper_task(struct stepper *s, int32_t tid, bool make)
{
    struct stepper_task *unused = NULL;

    for (size_t i = 0; i < STEPPER_MAX_TASKS; i++) {
        if (s->tasks[i].tid == tid)
            return &s->tasks[i];
        if (!unused && s->tasks[i].tid == 0)
            unused = &s->tasks[i];
    }
    if (!make || !unused)
        return NULL;
    memset(unused, 0, sizeof *unused);
    unused->tid = unused->pid = tid;
    s->n_tasks++;
    return unused;
}

/* A task has been made: a thread begins with an empty chain, a child process with its parent's. */
static inline void stepper_event(struct stepper *s, struct stepper_task *parent, int event)
{
    unsigned long tid = 0;

    if (ptrace(PTRACE_GETEVENTMSG, parent->tid, NULL, &tid) != 0 || event == PTRACE_EVENT_EXEC)
        return;
    struct stepper_task *child = stepper_task(s, (int32_t)tid, true);
    if (!child)
        return;
    child->known = parent->known;
    if (event == PTRACE_EVENT_CLONE) {
        child->pid = parent->pid;
        return;
    }
    memcpy(child->calls, parent->calls, parent->n * sizeof *parent->calls);
    child->n = parent->n;
    child->before = parent->before;
    memcpy(child->code, parent->code, sizeof child->code);
    child->n_code = parent->n_code;
    stepper_look_at_maps(s, child->pid);
}

static inline void stepper_stopped(struct stepper *s, struct stepper_task *t)
{
    struct user_regs_struct regs;

    if (ptrace(PTRACE_GETREGS, t->tid, NULL, &regs) != 0)
        return;
    if (t->n_code)
        stepper_follow(s, t, &regs);
    if (stepper_is_syscall(t->code, t->n_code) &&
        (t->before.rax == SYS_mmap || t->before.rax == SYS_mprotect || t->before.rax == SYS_execve))
        stepper_look_at_maps(s, t->pid);
    t->before = regs;
    t->n_code = stepper_read(t->pid, regs.rip, t->code, sizeof t->code);
    if (t->n_code == 0) /* the last bytes before a page that is not mapped */
        t->n_code = stepper_read(t->pid, regs.rip, t->code, 4096 - regs.rip % 4096);
    s->n_steps++;
    if (t->known && stepper_is_new(s, t, &regs))
        stepper_check(s, t, &regs);
}

/* One report of waitpid. */
static inline void stepper_report(struct stepper *s, int32_t tid, int status)
{
    int signal = WSTOPSIG(status), event = status >> 16;
    struct stepper_task *t = stepper_task(s, tid, WIFSTOPPED(status));

    if (!t)
        return;
    if (!WIFSTOPPED(status)) {
        t->tid = 0;
        return;
    }
    if (event && event != PTRACE_EVENT_STOP)
        stepper_event(s, t, event);
    else if (signal == SIGTRAP || (signal == SIGSTOP && t->n_code == 0) || event == PTRACE_EVENT_STOP)
        stepper_stopped(s, t);
    else {
        t->signal = t->to_inject = signal;
        ptrace(PTRACE_GETREGS, t->tid, NULL, &t->before);
    }
    ptrace(PTRACE_SINGLESTEP, t->tid, NULL, (long)t->to_inject);
    t->to_inject = 0;
}

/* The program's entry point from the auxiliary vector; 0 = unknown. */
static inline uint64_t stepper_entry(int32_t pid)
{
    char path[64];
    uint64_t word[2], entry = 0;

    snprintf(path, sizeof path, "/proc/%d/auxv", (int)pid);
    FILE *f = fopen(path, "re");
    while (f && fread(word, sizeof word, 1, f) == 1)
        if (word[0] == AT_ENTRY)
            entry = word[1];
    if (f)
        fclose(f);
    return entry;
}

/* Let it run up to an address, by a breakpoint. */
static inline bool stepper_run_to(int32_t pid, uint64_t address)
{
    struct user_regs_struct regs;
    int status;

    errno = 0;
    long word = ptrace(PTRACE_PEEKTEXT, pid, address, NULL);
    if (errno || ptrace(PTRACE_POKETEXT, pid, address, (word & ~0xffL) | 0xcc) != 0)
        return false;
    ptrace(PTRACE_CONT, pid, NULL, NULL);
    if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP)
        return false;
    ptrace(PTRACE_POKETEXT, pid, address, word);
    ptrace(PTRACE_GETREGS, pid, NULL, &regs);
    regs.rip = address;
    return ptrace(PTRACE_SETREGS, pid, NULL, &regs) == 0;
}

/* Start it stopped behind exec; -1 = that is not allowed here. */
static inline int32_t stepper_start(char **argv)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
            _exit(126);
        execv(argv[0], argv);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
        return -1;
    return pid;
}

/* Step the whole program. Returns 0, or -1 if it could not be started or took more than max_steps. */
static inline int stepper_run(struct stepper *s, char **argv)
{
    const long options = PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC |
                         PTRACE_O_EXITKILL;
    int32_t first = stepper_start(argv), tid;
    int status, result = 0;

    if (first < 0)
        return -1;
    ptrace(PTRACE_SETOPTIONS, first, NULL, options);
    if (s->entry && !stepper_run_to(first, stepper_entry(first))) {
        kill(first, SIGKILL);
        waitpid(first, &status, 0);
        return -1;
    }
    bn_maps_init(&s->maps);
    s->unwinder = bn_unwinder_new(&s->maps);
    s->tasks = bn_xcalloc(STEPPER_MAX_TASKS, sizeof *s->tasks);
    stepper_look_at_maps(s, first);
    stepper_task(s, first, true)->known = true;
    stepper_report(s, first, SIGTRAP << 8 | 0x7f);
    while ((tid = waitpid(-1, &status, __WALL)) > 0) {
        if (tid == first && !WIFSTOPPED(status))
            s->status = status;
        stepper_report(s, tid, status);
        if (s->n_steps > s->max_steps) {
            kill(first, SIGKILL);
            result = -1;
        }
    }
    return result;
}

static inline void stepper_free(struct stepper *s)
{
    bn_unwinder_free(s->unwinder);
    if (s->unwinder)
        bn_maps_free(&s->maps);
    bn_idmap_free(&s->seen);
    free(s->tasks);
    free(s->maps_text);
}

#endif

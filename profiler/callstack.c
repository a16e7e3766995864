/* SPDX-License-Identifier: MIT
 * From the sample's registers, stack and chain to an entry of the stack table. */
#include "profiler/callstack.h"

#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>

/* Answers of the memo for whole chains and for callers: an entry of the table, and whether the dump was too
 * short for it. For a sampled address: the step to its caller, or, with this bit, a whole chain. */
#define SHORT_BIT (1u << 31)
#define WHOLE_BIT (1u << 30)
_Static_assert(BN_CALLSTACK_MAX_ENTRIES < 1 << 29, "entries leave room for the bits");

/* What separates the kinds of questions in the memo's keys, beside those by address: by return address, by
 * row of unwind rules. No process has so many states. */
#define CALLERS (1ull << 63)
#define ROWS    (1ull << 62)

void bn_callstack_begin(struct bn_callstack *c, struct bn_maps *maps, bool frame_pointers)
{
    *c = (struct bn_callstack){
        .maps = maps, .frame_pointers = frame_pointers, .unwinder = bn_unwinder_new(maps)};
    bn_stack_table_init(&c->table);
    c->unwound = bn_xcalloc(1, sizeof *c->unwound);
}

void bn_callstack_end(struct bn_callstack *c)
{
    bn_unwinder_free(c->unwinder);
    bn_stack_table_free(&c->table);
    bn_memo_free(&c->memo);
    bn_idmap_free(&c->row_of);
    free(c->firsts);
    free(c->unwound);
    *c = (struct bn_callstack){0};
}

static uint32_t add_place(struct bn_callstack *c, uint32_t parent, const struct bn_place *place,
                          uint64_t address)
{
    if (!place->image)
        return bn_stack_table_add(&c->table, parent, BN_RAW_NOWHERE, address);
    return bn_stack_table_add(&c->table, parent, (int32_t)place->file,
                              place->has_vaddr ? place->vaddr : UINT64_MAX);
}

static uint32_t add_mark(struct bn_callstack *c, enum bn_unwind_end end)
{
    return bn_stack_table_add(&c->table, 0, BN_RAW_MARK, end);
}

/* ---- user part ---- */

/* The result's chain as an entry, with the bit that goes with it. */
static uint32_t add_unwound(struct bn_callstack *c, const struct bn_unwind_input *in)
{
    const struct bn_unwind_result *u = c->unwound;
    uint32_t stack = u->end == BN_UNWIND_COMPLETE ? 0 : add_mark(c, u->end);

    for (size_t i = u->n; i-- > 0;)
        stack = add_place(c, stack, &u->frames[i].place, u->frames[i].address);
    if (u->n == 0)
        stack = bn_stack_table_add(&c->table, stack, BN_RAW_NOWHERE, in->regs[BN_UNWIND_RIP]);
    return stack | (u->dump_short ? SHORT_BIT : 0);
}

static void forget(struct bn_callstack *c)
{
    bn_memo_free(&c->memo);
    c->n_firsts = 0;
}

/* More beginnings of stacks are known now: what was remembered may be shorter than it needs to be. */
static void mind_bottoms(struct bn_callstack *c)
{
    if (bn_unwinder_bottoms(c->unwinder) == c->n_bottoms)
        return;
    c->n_bottoms = bn_unwinder_bottoms(c->unwinder);
    forget(c);
}

static void remember(struct bn_callstack *c, uint64_t state, uint64_t ip, uint32_t answer)
{
    if (c->unwound->n_reads)
        bn_memo_add(&c->memo, state, ip, c->unwound->reads, c->unwound->n_reads, answer);
}

static uint32_t callers(struct bn_callstack *c, const struct bn_process *process, uint64_t state,
                        const struct bn_unwind_input *in)
{
    uint64_t ip = in->regs[BN_UNWIND_RIP];
    uint32_t answer = bn_memo_find(&c->memo, state | CALLERS, ip, in);

    if (answer != BN_MEMO_UNKNOWN) {
        c->n_known++;
        return answer;
    }
    c->n_unwound++;
    bn_unwind_callers(c->unwinder, process, in, c->unwound);
    mind_bottoms(c);
    answer = add_unwound(c, in);
    remember(c, state | CALLERS, ip, answer);
    return answer;
}

/* Where the row of unwind rules begins in which the address lies. */
static uint64_t row_of(struct bn_callstack *c, const struct bn_process *process, uint64_t state,
                       const struct bn_unwind_input *in)
{
    uint64_t ip = in->regs[BN_UNWIND_RIP];
    const uint32_t *known = bn_idmap_get(&c->row_of, state, ip);

    if (known)
        return ip - *known;
    uint64_t offset = bn_unwind_row(c->unwinder, process, in, c->unwound);
    if (offset > UINT32_MAX)
        offset = 0;
    bn_idmap_put(&c->row_of, state, ip, (uint32_t)offset);
    return ip - offset;
}

/* Returns an index into c->firsts, or WHOLE_BIT: the chain cannot be parted, c->unwound is to be filled. */
static uint32_t step(struct bn_callstack *c, const struct bn_process *process, uint64_t state, uint64_t row,
                     const struct bn_unwind_input *in)
{
    struct bn_unwind_first first;

    if (!bn_unwind_first(c->unwinder, process, in, &first, c->unwound))
        return WHOLE_BIT;
    bn_grow(&c->firsts, &c->cap_firsts, c->n_firsts + 1, sizeof *c->firsts);
    c->firsts[c->n_firsts] = first;
    if (first.whole_row)
        remember(c, state | ROWS, row, (uint32_t)c->n_firsts);
    else
        remember(c, state, in->regs[BN_UNWIND_RIP], (uint32_t)c->n_firsts);
    return (uint32_t)c->n_firsts++;
}

static uint32_t whole(struct bn_callstack *c, const struct bn_process *process, uint64_t state,
                      const struct bn_unwind_input *in)
{
    c->n_unwound++;
    bn_unwind(c->unwinder, process, in, c->unwound);
    mind_bottoms(c);
    uint32_t answer = add_unwound(c, in);
    remember(c, state, in->regs[BN_UNWIND_RIP], answer | WHOLE_BIT);
    return answer;
}

/* What is known of the sampled frame: an index into c->firsts, or with WHOLE_BIT a whole chain. */
static uint32_t find_first(const struct bn_callstack *c, uint64_t state, uint64_t row,
                           const struct bn_unwind_input *in)
{
    uint32_t answer = bn_memo_find(&c->memo, state | ROWS, row, in);

    return answer != BN_MEMO_UNKNOWN ? answer : bn_memo_find(&c->memo, state, in->regs[BN_UNWIND_RIP], in);
}

/* The step that was remembered from another address of the same row is this one's, but for the address. */
static void move_to(struct bn_unwind_frame *frame, uint64_t ip)
{
    if (frame->place.has_vaddr)
        frame->place.vaddr += ip - frame->address;
    frame->address = ip;
}

/* Unwind, or know it again. Returns an entry, with SHORT_BIT. */
static uint32_t user_stack(struct bn_callstack *c, const struct bn_process *process,
                           const struct bn_unwind_input *in)
{
    uint64_t state = (uint64_t)process->serial << 32 | process->generation;

    if (in->stack_bytes == 0)
        return whole(c, process, state, in);
    uint64_t row = row_of(c, process, state, in);
    uint32_t answer = find_first(c, state, row, in);
    if (answer != BN_MEMO_UNKNOWN && answer & WHOLE_BIT) {
        c->n_known++;
        return answer & ~WHOLE_BIT;
    }
    if (answer == BN_MEMO_UNKNOWN)
        answer = step(c, process, state, row, in);
    if (answer & WHOLE_BIT)
        return whole(c, process, state, in);
    struct bn_unwind_first first = c->firsts[answer]; /* the table may move */
    move_to(&first.frame, in->regs[BN_UNWIND_RIP]);
    struct bn_unwind_input caller = bn_unwind_caller_input(in, &first);
    uint32_t entry = callers(c, process, state, &caller);
    return add_place(c, entry & ~SHORT_BIT, &first.frame.place, first.frame.address) | (entry & SHORT_BIT);
}

/* With frame pointers the kernel has walked the chain. It cannot say how the chain ended: the mark stays
 * unless the names show that the start was reached. */
static uint32_t chain_stack(struct bn_callstack *c, const struct bn_process *process,
                            const struct bn_unwind_input *in)
{
    uint32_t stack = in->n_chain ? add_mark(c, BN_UNWIND_NO_LINK) : 0;
    size_t n = in->n_chain;

    for (size_t i = 1; i < n; i++) { /* what is linked beyond a context's start did not call it */
        struct bn_place start;
        if (!bn_unwind_context_start(c->maps, process, bn_record_word(in->chain, i), &start))
            continue;
        stack = add_place(c, 0, &start, bn_record_word(in->chain, i));
        n = i;
    }
    for (size_t i = n; i-- > 0;) {
        uint64_t address = bn_record_word(in->chain, i) - (i > 0); /* the first is exact */
        struct bn_place place = bn_maps_find(c->maps, process, address);
        stack = add_place(c, stack, &place, address);
    }
    return stack;
}

/* ---- kernel part ---- */

/* The addresses behind the kernel's marker in the chain; the first is exact, the others return. */
static uint32_t kernel_stack(struct bn_callstack *c, const struct bn_record *r, uint32_t stack)
{
    size_t first = 0, end;

    while (first < r->n_chain && bn_record_word(r->chain, first) != (uint64_t)PERF_CONTEXT_KERNEL)
        first++;
    first += first < r->n_chain;
    for (end = first; end < r->n_chain && bn_record_word(r->chain, end) < (uint64_t)PERF_CONTEXT_MAX; end++)
        ;
    if (first == end)
        return bn_stack_table_add(&c->table, stack, BN_RAW_KERNEL, r->ip);
    for (size_t i = end; i-- > first;)
        stack =
            bn_stack_table_add(&c->table, stack, BN_RAW_KERNEL, bn_record_word(r->chain, i) - (i > first));
    return stack;
}

/* The copied stack was written by another core: fetch the part that a stack of usual depth fills. */
static void prefetch(const struct bn_record *r)
{
    enum { LINE = 64, USUAL_BYTES = 2048 };

    for (size_t at = 0; at < r->stack_bytes && at < USUAL_BYTES; at += LINE)
        __builtin_prefetch(r->stack + at);
}

struct bn_callstack_found bn_callstack_of(struct bn_callstack *c, const struct bn_process *process,
                                          const struct bn_record *r)
{
    struct bn_callstack_found found = {0};

    prefetch(r);
    struct bn_unwind_input in = bn_unwind_input_of(r);
    bool kernel = (r->misc & PERF_RECORD_MISC_CPUMODE_MASK) == PERF_RECORD_MISC_KERNEL;
    /* A thread of the kernel, or a program about to be started, has no user part. */
    bool user = !kernel || in.stack_bytes > 0;

    if (c->frame_pointers)
        found.stack = chain_stack(c, process, &in);
    else if (user)
        found.stack = user_stack(c, process, &in);
    if (!c->frame_pointers && found.stack & SHORT_BIT)
        found.flags |= BN_RAW_SAMPLE_DUMP_SHORT;
    found.stack &= ~SHORT_BIT;
    if (kernel) {
        found.flags |= BN_RAW_SAMPLE_KERNEL;
        found.stack = kernel_stack(c, r, found.stack);
    }
    found.flags |= c->table.epoch << BN_RAW_SAMPLE_EPOCH_SHIFT;
    return found;
}

void bn_callstack_write(struct bn_callstack *c, struct bn_raw_writer *w)
{
    bn_stack_table_write(&c->table, w);
    if (c->row_of.n >= BN_CALLSTACK_MAX_ENTRIES)
        bn_idmap_free(&c->row_of);
    if (c->table.n < BN_CALLSTACK_MAX_ENTRIES && c->memo.n < BN_MEMO_MAX_NODES)
        return;
    uint32_t epoch = c->table.epoch + 1;
    forget(c);
    bn_stack_table_free(&c->table);
    bn_stack_table_init(&c->table);
    c->table.epoch = epoch;
}

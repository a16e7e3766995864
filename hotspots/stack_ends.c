/* SPDX-License-Identifier: MIT
 * Marks at the roots of stacks are counted by sample; each has its own remedy, and some have none. */
#include "hotspots/stack_ends.h"

#include <stdlib.h>
#include <string.h>

const char *bn_stack_ends_most(const struct bn_profile *p)
{
    uint32_t *root = bn_xcalloc(p->n_stacks + 1, sizeof *root), best = BN_NONE;
    uint64_t *votes = bn_xcalloc(p->n_frames + 1, sizeof *votes);

    for (uint32_t i = 1; i < p->n_stacks; i++) /* parents come first */
        root[i] = p->stacks[i].parent ? root[p->stacks[i].parent] : i;
    for (size_t i = 0; i < p->n_samples; i++)
        if ((p->samples[i].flags & BN_SAMPLE_TRUNCATED) && p->samples[i].stack)
            votes[p->stacks[root[p->samples[i].stack]].frame]++;
    for (uint32_t i = 0; i < p->n_frames; i++)
        if (p->frames[i].kind == BN_FRAME_MARK && votes[i] > (best == BN_NONE ? 0 : votes[best]))
            best = i;
    free(root);
    free(votes);
    return best == BN_NONE ? NULL : p->frames[best].function;
}

static bool by_frame_pointers(const struct bn_profile *p)
{
    return p->quality.call_graph && strcmp(p->quality.call_graph, "fp") == 0;
}

static const char *advice_truncated(const struct bn_profile *p)
{
    enum { LARGEST_DUMP = 65528 };
    const struct bn_profile_quality *q = &p->quality;

    if (q->n_stack_full * 2 <= q->n_truncated)
        return q->n_stack_full
                   ? "stacks of more than 256 frames are shown without their outermost ones; for those "
                     "longer than their copy record with a larger --stack-dump (up to 65528)"
                   : "stacks of more than 256 frames are shown without their outermost ones: nothing "
                     "else is missing";
    if (q->stack_dump_bytes < LARGEST_DUMP)
        return "record with a larger --stack-dump (up to 65528); for larger frames build the program with "
               "-fno-omit-frame-pointer: the kernel follows those beyond the copy";
    return "build the program with -fno-omit-frame-pointer: the kernel follows such frames beyond the copy";
}

const char *bn_stack_ends_advice(const struct bn_profile *p, const char *mark)
{
    static const struct {
        const char *mark, *advice;
    } table[] = {
        {"code without unwind information", "build that code with -g or -fasynchronous-unwind-tables; or "
                                            "with -fno-omit-frame-pointer (code made at "
                                            "run time too), and record with --call-graph fp"},
        {"does not fit the stack", "the unwind information of that code is wrong: build the program with "
                                   "-fno-omit-frame-pointer and record "
                                   "with --call-graph fp"},
        {"outside of every executable mapping", "that code is gone or its stack was overwritten; build the "
                                                "program with -fno-omit-frame-pointer and record "
                                                "with --call-graph fp to see more of it"},
        {"signal handler on a stack of its own", "the handler's frames are all there; what it interrupted is "
                                                 "on another stack, of which nothing is copied"},
        {"code without frame pointers", "build the program and its libraries with -fno-omit-frame-pointer, "
                                        "or record with --call-graph dwarf"},
        {"no user registers", "only 64-bit programs can be unwound"},
        {"[lost]", "the recording was damaged on disk: record again"},
    };

    if (mark && strcmp(mark, "[truncated]") == 0)
        return advice_truncated(p);
    for (size_t i = 0; mark && i < BN_COUNT(table); i++)
        if (strstr(mark, table[i].mark))
            return table[i].advice;
    return by_frame_pointers(p) ? "record with --call-graph dwarf" : "build the program with -g";
}

/* SPDX-License-Identifier: MIT
 * Classes of work, by the stage or, in a program that marks none, by the file of the leaf. */
#include "hotspots/class.h"

#include <string.h>

static const char *const class_names[BN_CLASS_COUNT] = {
    [BN_CLASS_WAIT] = "Waiting",
    [BN_CLASS_KERNEL] = "Kernel",
    [BN_CLASS_MEMORY] = "Memory operations (copy, allocate)",
    [BN_CLASS_PROJECTION] = "Projections (matrix products of the blocks)",
    [BN_CLASS_LM_HEAD] = "lm_head",
    [BN_CLASS_ATTENTION] = "Attention (rope, cache, scores, softmax, values)",
    [BN_CLASS_FORWARD] = "Rest of the forward pass (norms, activation, quantisation, …)",
    [BN_CLASS_GENERATE] = "Sampling and text",
    [BN_CLASS_LOAD] = "Start-up, loading, shutdown",
    [BN_CLASS_STAGES] = "In the program's stages",
    [BN_CLASS_OTHER] = "Outside every stage",
    [BN_CLASS_PROGRAM] = "Program",
    [BN_CLASS_LIBRARY] = "Libraries",
    [BN_CLASS_UNNAMED] = "No symbol",
};

const char *bn_class_name(enum bn_class c)
{
    return class_names[c];
}

static bool one_of(const char *name, const char *const *names)
{
    for (; *names; names++)
        if (strcmp(name, *names) == 0)
            return true;
    return false;
}

/* One copy routine has many names: __memmove_avx512_unaligned_erms, memcpy, mempcpy, … */
bool bn_is_copy_function(const char *f)
{
    while (*f == '_')
        f++;
    return strncmp(f, "memcpy", 6) == 0 || strncmp(f, "memmove", 7) == 0 || strncmp(f, "memset", 6) == 0 ||
           strncmp(f, "mempcpy", 7) == 0;
}

bool bn_is_allocator_function(const char *f)
{
    static const char *const names[] = {"malloc",
                                        "calloc",
                                        "realloc",
                                        "free",
                                        "memalign",
                                        "aligned_alloc",
                                        "reallocarray",
                                        "posix_memalign",
                                        "mmap",
                                        "mmap64",
                                        "munmap",
                                        "mremap",
                                        "brk",
                                        "sbrk",
                                        "int_malloc",
                                        "int_free",
                                        "int_realloc",
                                        "libc_malloc",
                                        "libc_free",
                                        "libc_calloc",
                                        "libc_realloc",
                                        "malloc_consolidate",
                                        "sysmalloc",
                                        "unlink_chunk",
                                        NULL};
    char base[32];

    while (*f == '_')
        f++;
    snprintf(base, sizeof base, "%.*s", (int)strcspn(f, "@"), f); /* "malloc@plt" is malloc too */
    return one_of(base, names);
}

static enum bn_class class_of_stage(const struct bn_profile *p, uint32_t stage)
{
    static const char *const projections[] = {"qkv_projection", "output_projection", "gate_up_projection",
                                              "down_projection", NULL};
    static const char *const attention[] = {"rope_apply", "kv_store", "attention_matmul", "attention_softmax",
                                            NULL};
    enum bn_class found = p->run.known ? BN_CLASS_LOAD : BN_CLASS_STAGES;

    if (stage == 0)
        return BN_CLASS_OTHER;

    for (; stage != 0; stage = p->stages[stage].parent) {
        const char *name = p->stages[stage].name;
        if (one_of(name, projections))
            return BN_CLASS_PROJECTION;
        if (strcmp(name, "lm_head") == 0)
            return BN_CLASS_LM_HEAD;
        if (one_of(name, attention))
            return BN_CLASS_ATTENTION;
        if (strcmp(name, "forward_pass") == 0)
            return BN_CLASS_FORWARD;
        if (strcmp(name, "generate") == 0)
            found = BN_CLASS_GENERATE;
    }
    return found;
}

static bool has_stages(const struct bn_profile *p)
{
    return p->n_stages > 1;
}

bool bn_class_applies(const struct bn_profile *p, enum bn_class c)
{
    if (c == BN_CLASS_KERNEL || c == BN_CLASS_MEMORY)
        return true;
    return has_stages(p) == (c < BN_CLASS_PROGRAM);
}

static enum bn_class class_of_leaf(const struct bn_profile *p, uint32_t stack)
{
    const struct bn_frame *leaf = stack ? &p->frames[p->stacks[stack].frame] : NULL;

    if (!leaf || leaf->kind != BN_FRAME_USER)
        return BN_CLASS_UNNAMED;
    return bn_profile_is_library(leaf->module) ? BN_CLASS_LIBRARY : BN_CLASS_PROGRAM;
}

enum bn_class bn_class_of(const struct bn_profile *p, const struct bn_sample *s)
{
    if (s->stage && strcmp(p->stages[s->stage].name, "wait") == 0)
        return BN_CLASS_WAIT;
    if (s->flags & BN_SAMPLE_KERNEL)
        return BN_CLASS_KERNEL;
    const char *leaf = s->stack ? p->frames[p->stacks[s->stack].frame].function : "";
    if (bn_is_copy_function(leaf) || bn_is_allocator_function(leaf))
        return BN_CLASS_MEMORY;
    return has_stages(p) ? class_of_stage(p, s->stage) : class_of_leaf(p, s->stack);
}

/* SPDX-License-Identifier: MIT
 * Stacks merged into one tree of boxes: what a flame graph draws and what folded stacks are written from.
 *
 * Merging goes by (parent, name, kind) through a hash table, never by comparing neighbouring lines, so "foo"
 * and "foo2" or "foo.part.0" below one caller are each one box whatever the order of the input. */
#ifndef FLAMEGRAPHS_TREE_H
#define FLAMEGRAPHS_TREE_H

#include "core/base.h"

enum bn_tree_kind {
    BN_TREE_ROOT,
    BN_TREE_STAGE,   /* a named stage of the run, not code */
    BN_TREE_THREAD,  /* a thread's name, not code */
    BN_TREE_COMPUTE, /* a compute kernel of the engine: i2s_gemv_avx512vnni */
    BN_TREE_PROGRAM, /* any other code of the program itself */
    BN_TREE_LIBRARY, /* shared libraries and the vdso */
    BN_TREE_KERNEL,  /* the operating system's kernel */
    BN_TREE_WAIT,    /* the stage "wait" and the code that waits in it */
    BN_TREE_UNKNOWN, /* code without a name */
    BN_TREE_MARK,    /* not code: "[truncated]", "[no stage]" */
    BN_TREE_KINDS
};

enum {
    BN_TREE_MAX_DEPTH = 1024, /* deeper frames are gathered in one mark, "[deeper]" */
    BN_TREE_NO_NODE = -1,     /* as uint32_t: no child, no sibling */
};

/* The totals are kept below 2^53, so that a script can compute with them exactly. */
#define BN_TREE_MAX ((UINT64_C(1) << 53) - 1)

/* What a box says about itself. Strings are copied when a node is made of it. */
struct bn_tree_frame {
    struct bn_str name;
    enum bn_tree_kind kind;
    const char *module, *file;           /* NULL = unknown */
    bool several_modules, several_files; /* then the text is NULL and stays so */
    uint32_t line_min, line_max;         /* 0 = unknown */
    bool inlined;                        /* inlined into its caller */
    uint64_t calls, timer_ns;            /* stages: exact, from the scoped timers; calls 0 = not timed */
};

struct bn_tree_node {
    uint32_t parent;                    /* smaller than the own index; the root's is 0 */
    uint32_t first_child, next_sibling; /* by name, after bn_tree_finish */
    uint32_t depth;                     /* root: 0 */
    uint32_t hash;
    enum bn_tree_kind kind;
    const char *name;   /* any bytes but NUL */
    const char *module; /* NULL = unknown, or several */
    const char *file;   /* NULL = unknown, or several */
    uint32_t line_min, line_max;
    bool inlined; /* in every stack */
    bool several_modules, several_files;
    uint64_t self, total; /* samples; total after bn_tree_finish */
    uint64_t self_ns, total_ns;
    uint64_t calls, timer_ns;
};

struct bn_tree {
    struct bn_tree_node *nodes; /* node 0 is the root, "all" */
    size_t n_nodes, cap_nodes;
    bool by_time;     /* boxes are as wide as their CPU time, since samples do not weigh the same; else as
                         the number of their samples. Set before the first add */
    uint64_t samples; /* of the whole tree */
    uint64_t ns;      /* by time: what they stand for */
    uint32_t *slots;  /* hash table of node indices + 1 */
    size_t n_slots;
    struct bn_arena strings;
    bool finished;
};

/* A tree with its root only. Ownership: the caller frees it. */
void bn_tree_init(struct bn_tree *tree);
void bn_tree_free(struct bn_tree *tree);

/* Find or add the box below `parent`. Facts that differ from call to call are merged: lines to a range,
 * unequal modules and files to "unknown". Not after bn_tree_finish. */
uint32_t bn_tree_child(struct bn_tree *tree, uint32_t parent, const struct bn_tree_frame *frame);

/* Count samples that end in `node`. -1 and nothing counted if what widths are made of would pass BN_TREE_MAX.
 */
int bn_tree_add(struct bn_tree *tree, uint32_t node, uint64_t samples, uint64_t ns);

/* What boxes are as wide as: samples, or ns of CPU time. The whole is the root's width. */
uint64_t bn_tree_width(const struct bn_tree *tree, uint32_t node);
uint64_t bn_tree_self_width(const struct bn_tree *tree, uint32_t node);
uint64_t bn_tree_whole(const struct bn_tree *tree);

/* Sum up the totals and put siblings in order (bytes of the name, then kind). Call once, after the last add.
 */
void bn_tree_finish(struct bn_tree *tree);

/* Copy a finished tree into `to` (initialised here, not finished; its boxes as wide as those of `from`).
 * drop: [n_nodes] boxes to leave out, their children move up; samples that end in a dropped box keep it as
 * their leaf. NULL drops none. */
void bn_tree_copy(struct bn_tree *to, const struct bn_tree *from, const bool *drop);

/* The same samples seen from their leaf: leaves below the root, callers above them. `to` as in bn_tree_copy.
 */
void bn_tree_callers(struct bn_tree *to, const struct bn_tree *from);

/* Is this the name of a compute kernel by its form, <format>_<op>_<isa> ("i2s_gemv_avx2",
 * "i2s_gemv_mock.part.0")? The isa "c" is not recognised: too many foreign names end so. */
bool bn_tree_is_compute_name(const char *name, size_t n);

#endif

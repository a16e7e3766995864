/* SPDX-License-Identifier: MIT
 * Merging stacks: nodes in one array, parents before children, found through a hash table. */
#include "flamegraphs/tree.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static uint32_t hash_of(uint32_t parent, const struct bn_tree_frame *frame)
{
    uint64_t h = ((uint64_t)parent << 8 | frame->kind) * UINT64_C(0x9e3779b97f4a7c15);

    for (size_t i = 0; i < frame->name.n; i++)
        h = (h ^ (unsigned char)frame->name.p[i]) * UINT64_C(0x100000001b3);
    h ^= h >> 32;
    return (uint32_t)(h ^ h >> 15);
}

static void place(struct bn_tree *tree, uint32_t index)
{
    size_t i = tree->nodes[index].hash & (tree->n_slots - 1);

    while (tree->slots[i] != 0)
        i = (i + 1) & (tree->n_slots - 1);
    tree->slots[i] = index + 1;
}

/* At most half full, so that a search for something new ends soon. */
static void grow_slots(struct bn_tree *tree)
{
    if (tree->n_nodes * 2 < tree->n_slots)
        return;
    free(tree->slots);
    tree->n_slots = tree->n_slots ? tree->n_slots * 2 : 64;
    tree->slots = bn_xcalloc(tree->n_slots, sizeof *tree->slots);
    for (size_t i = 0; i < tree->n_nodes; i++)
        place(tree, (uint32_t)i);
}

static uint32_t append(struct bn_tree *tree, uint32_t parent, const struct bn_tree_frame *frame,
                       uint32_t hash)
{
    bn_grow(&tree->nodes, &tree->cap_nodes, tree->n_nodes + 1, sizeof *tree->nodes);
    assert(tree->n_nodes < (uint32_t)BN_TREE_NO_NODE);
    struct bn_arena *strings = &tree->strings;
    uint32_t index = (uint32_t)tree->n_nodes++;
    tree->nodes[index] = (struct bn_tree_node){
        .parent = parent,
        .first_child = (uint32_t)BN_TREE_NO_NODE,
        .next_sibling = (uint32_t)BN_TREE_NO_NODE,
        .depth = index ? tree->nodes[parent].depth + 1 : 0,
        .hash = hash,
        .kind = frame->kind,
        .name = bn_arena_strndup(strings, frame->name.p, frame->name.n),
        .module = frame->module ? bn_arena_strdup(strings, frame->module) : NULL,
        .file = frame->file ? bn_arena_strdup(strings, frame->file) : NULL,
        .several_modules = frame->several_modules,
        .several_files = frame->several_files,
        .line_min = frame->line_min,
        .line_max = frame->line_max,
        .inlined = frame->inlined,
        .calls = frame->calls,
        .timer_ns = frame->timer_ns,
    };
    grow_slots(tree);
    place(tree, index);
    return index;
}

void bn_tree_init(struct bn_tree *tree)
{
    memset(tree, 0, sizeof *tree);
    append(tree, 0, &(struct bn_tree_frame){.name = BN_STR("all"), .kind = BN_TREE_ROOT}, 0);
}

void bn_tree_free(struct bn_tree *tree)
{
    if (!tree)
        return;
    free(tree->nodes);
    free(tree->slots);
    bn_arena_free(&tree->strings);
    memset(tree, 0, sizeof *tree);
}

/* Two stacks that meet in one box may disagree about where its code is. */
static void merge_text(struct bn_arena *strings, const char **have, bool *several, const char *other,
                       bool other_several)
{
    if (*several || (!other && !other_several))
        return;
    if (!*have && other) {
        *have = bn_arena_strdup(strings, other);
    } else if (other_several || strcmp(*have, other) != 0) {
        *have = NULL;
        *several = true;
    }
}

static void merge(struct bn_tree *tree, struct bn_tree_node *node, const struct bn_tree_frame *frame)
{
    merge_text(&tree->strings, &node->module, &node->several_modules, frame->module, frame->several_modules);
    merge_text(&tree->strings, &node->file, &node->several_files, frame->file, frame->several_files);
    if (frame->line_min && (!node->line_min || frame->line_min < node->line_min))
        node->line_min = frame->line_min;
    if (frame->line_max > node->line_max)
        node->line_max = frame->line_max;
    node->inlined = node->inlined && frame->inlined;
    if (frame->calls > node->calls) {
        node->calls = frame->calls;
        node->timer_ns = frame->timer_ns;
    }
}

uint32_t bn_tree_child(struct bn_tree *tree, uint32_t parent, const struct bn_tree_frame *frame)
{
    static const struct bn_tree_frame deeper = {.name = BN_STR("[deeper]"), .kind = BN_TREE_MARK};

    assert(parent < tree->n_nodes && !tree->finished);
    if (tree->nodes[parent].depth >= BN_TREE_MAX_DEPTH)
        return parent;
    if (tree->nodes[parent].depth == BN_TREE_MAX_DEPTH - 1)
        frame = &deeper;
    uint32_t hash = hash_of(parent, frame);
    for (size_t i = hash & (tree->n_slots - 1); tree->slots[i] != 0; i = (i + 1) & (tree->n_slots - 1)) {
        struct bn_tree_node *node = &tree->nodes[tree->slots[i] - 1];
        if (node->hash == hash && node->parent == parent && node->kind == frame->kind &&
            node != tree->nodes && strlen(node->name) == frame->name.n &&
            memcmp(node->name, frame->name.p, frame->name.n) == 0) {
            merge(tree, node, frame);
            return tree->slots[i] - 1;
        }
    }
    return append(tree, parent, frame, hash);
}

static uint64_t add_saturated(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

int bn_tree_add(struct bn_tree *tree, uint32_t node, uint64_t samples, uint64_t ns)
{
    assert(node < tree->n_nodes && !tree->finished);
    if (samples > BN_TREE_MAX - tree->samples || (tree->by_time && ns > BN_TREE_MAX - tree->ns))
        return -1;
    tree->samples += samples;
    tree->ns += tree->by_time ? ns : 0;
    tree->nodes[node].self += samples;
    tree->nodes[node].self_ns = add_saturated(tree->nodes[node].self_ns, ns);
    return 0;
}

uint64_t bn_tree_width(const struct bn_tree *tree, uint32_t node)
{
    return tree->by_time ? tree->nodes[node].total_ns : tree->nodes[node].total;
}

uint64_t bn_tree_self_width(const struct bn_tree *tree, uint32_t node)
{
    return tree->by_time ? tree->nodes[node].self_ns : tree->nodes[node].self;
}

uint64_t bn_tree_whole(const struct bn_tree *tree)
{
    return tree->by_time ? tree->ns : tree->samples;
}

static int by_name(const void *a, const void *b)
{
    const struct bn_tree_node *x = *(const struct bn_tree_node *const *)a;
    const struct bn_tree_node *y = *(const struct bn_tree_node *const *)b;
    int order = strcmp(x->name, y->name);

    return order != 0 ? order : (int)x->kind - (int)y->kind;
}

/* Children are gathered parent by parent (a counting sort), then each family is put in order and chained. */
static void link_children(struct bn_tree *tree)
{
    size_t n = tree->n_nodes;
    size_t *end = bn_xcalloc(n + 1, sizeof *end); /* of each family */
    struct bn_tree_node **families = bn_xcalloc(n, sizeof(*families));

    for (size_t i = 1; i < n; i++)
        end[tree->nodes[i].parent + 1]++;
    for (size_t i = 1; i <= n; i++)
        end[i] += end[i - 1];
    for (size_t i = 1; i < n; i++)
        families[end[tree->nodes[i].parent]++] = &tree->nodes[i];
    for (size_t i = 0, start = 0; i < n; start = end[i++]) {
        if (end[i] - start > 1)
            qsort(families + start, end[i] - start, sizeof(*families), by_name);
        for (size_t k = end[i]; k > start; k--) {
            families[k - 1]->next_sibling = tree->nodes[i].first_child;
            tree->nodes[i].first_child = (uint32_t)(families[k - 1] - tree->nodes);
        }
    }
    free(families);
    free(end);
}

/* Parents stand before their children, so one pass backwards carries every total up to the root. */
void bn_tree_finish(struct bn_tree *tree)
{
    assert(!tree->finished);
    tree->finished = true;
    free(tree->slots);
    tree->slots = NULL;
    for (size_t i = 0; i < tree->n_nodes; i++) {
        tree->nodes[i].total = tree->nodes[i].self;
        tree->nodes[i].total_ns = tree->nodes[i].self_ns;
    }
    for (size_t i = tree->n_nodes - 1; i > 0; i--) {
        struct bn_tree_node *parent = &tree->nodes[tree->nodes[i].parent];
        parent->total += tree->nodes[i].total;
        parent->total_ns = add_saturated(parent->total_ns, tree->nodes[i].total_ns);
    }
    link_children(tree);
}

static struct bn_tree_frame frame_of(const struct bn_tree_node *node)
{
    return (struct bn_tree_frame){
        .name = bn_str_from(node->name),
        .kind = node->kind,
        .module = node->module,
        .file = node->file,
        .several_modules = node->several_modules,
        .several_files = node->several_files,
        .line_min = node->line_min,
        .line_max = node->line_max,
        .inlined = node->inlined,
        .calls = node->calls,
        .timer_ns = node->timer_ns,
    };
}

/* Cannot pass the limit: `from` did not. */
static void add_self(struct bn_tree *to, uint32_t at, const struct bn_tree_node *node)
{
    if (node->self == 0)
        return;
    int failed = bn_tree_add(to, at, node->self, node->self_ns);
    assert(!failed);
    (void)failed;
}

void bn_tree_copy(struct bn_tree *to, const struct bn_tree *from, const bool *drop)
{
    uint32_t *map = bn_xcalloc(from->n_nodes, sizeof *map);

    assert(from->finished);
    bn_tree_init(to);
    to->by_time = from->by_time;
    add_self(to, 0, &from->nodes[0]);
    for (size_t i = 1; i < from->n_nodes; i++) {
        const struct bn_tree_node *node = &from->nodes[i];
        struct bn_tree_frame frame = frame_of(node);
        map[i] = map[node->parent];
        if (drop && drop[i]) {
            if (node->self > 0)
                add_self(to, bn_tree_child(to, map[i], &frame), node);
            continue;
        }
        map[i] = bn_tree_child(to, map[i], &frame);
        add_self(to, map[i], node);
    }
    free(map);
}

void bn_tree_callers(struct bn_tree *to, const struct bn_tree *from)
{
    assert(from->finished);
    bn_tree_init(to);
    to->by_time = from->by_time;
    for (size_t i = 0; i < from->n_nodes; i++) {
        uint32_t at = 0;
        if (from->nodes[i].self == 0)
            continue;
        for (size_t k = i; k != 0; k = from->nodes[k].parent) {
            struct bn_tree_frame frame = frame_of(&from->nodes[k]);
            at = bn_tree_child(to, at, &frame);
        }
        add_self(to, at, &from->nodes[i]);
    }
}

bool bn_tree_is_compute_name(const char *name, size_t n)
{
    static const char *const isa[] = {"avx", "sse", "neon", "sve", "amx", "mock"};
    const char *dot = memchr(name, '.', n);

    if (dot) /* f.part.0, f.constprop.1: pieces of f */
        n = (size_t)(dot - name);
    size_t start = n;
    while (start > 0 && name[start - 1] != '_')
        start--;
    if (start < 2 || name[0] == '_')
        return false;
    for (size_t i = 0; i < BN_COUNT(isa); i++)
        if (n - start >= strlen(isa[i]) && memcmp(name + start, isa[i], strlen(isa[i])) == 0)
            return true;
    return false;
}

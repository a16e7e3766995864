/* SPDX-License-Identifier: MIT
 * The decision tree of unwinds. */
#include "profiler/memo.h"

#include <stdlib.h>

#include "profiler/unwind.h"

/* A place to read, packed: its kind above, the rest below. */
enum kind { REGISTER = 1, CHAIN, NEAR, FAR, LEAF };
enum { KIND_SHIFT = 56 };
/* Of a value: as it stands, by its distance from the stack pointer, not there. */
enum tag { PLAIN, RELATIVE, ABSENT };

#define NEAR_BELOW (64u << 10) /* what lies between these counts by its distance from the stack pointer */
#define NEAR_ABOVE (8u << 20)
#define USER_END   (1ull << 47)

struct bn_memo_node {
    uint64_t value; /* that led here from the parent */
    uint64_t where;
    uint32_t tag;
    uint32_t likely; /* the child that was entered last: mostly the next node in memory; 0 = none */
    uint32_t answer; /* of a leaf */
};

static uint64_t pack(enum kind kind, uint64_t rest)
{
    return (uint64_t)kind << KIND_SHIFT | rest;
}

static bool is_near(uint64_t address, uint64_t sp)
{
    return address - (sp - NEAR_BELOW) < NEAR_BELOW + NEAR_ABOVE;
}

uint64_t bn_memo_register(unsigned reg)
{
    return pack(REGISTER, reg);
}

uint64_t bn_memo_chain(size_t index)
{
    return pack(CHAIN, index);
}

uint64_t bn_memo_stack(uint64_t address, uint64_t sp)
{
    if (is_near(address, sp))
        return pack(NEAR, address - sp + NEAR_BELOW);
    return address < USER_END ? pack(FAR, address) : 0;
}

struct bn_memo_read bn_memo_found(uint64_t where, const uint64_t *value, uint64_t sp)
{
    struct bn_memo_read read = {.where = where, .tag = ABSENT};

    if (!value)
        return read;
    read.tag = is_near(*value, sp) ? RELATIVE : PLAIN;
    read.value = read.tag == RELATIVE ? *value - sp : *value;
    return read;
}

/* ---- reading an input ---- */

static struct bn_memo_read look(const struct bn_unwind_input *in, uint64_t where)
{
    uint64_t sp = in->regs[BN_UNWIND_RSP], rest = where & ((1ull << KIND_SHIFT) - 1), value;
    bool there = false;

    switch ((enum kind)(where >> KIND_SHIFT)) {
    case REGISTER:
        there = in->known >> rest & 1;
        value = in->regs[rest];
        break;
    case CHAIN:
        there = bn_unwind_input_chain(in, rest, &value);
        break;
    case NEAR:
        there = bn_unwind_input_word(in, sp + rest - NEAR_BELOW, &value);
        break;
    case FAR:
        there = bn_unwind_input_word(in, rest, &value);
        break;
    case LEAF:
        break;
    }
    return bn_memo_found(where, there ? &value : NULL, sp);
}

static uint64_t child_key(uint32_t node, uint64_t tag)
{
    return (uint64_t)node << 2 | tag;
}

/* The child that this reading leads to, 0 = none (no child is node 0: that one is a root). */
static uint32_t child_of(const struct bn_memo *m, uint32_t node, const struct bn_memo_read *read)
{
    uint32_t likely = m->nodes[node].likely;

    if (likely && m->nodes[likely].value == read->value && m->nodes[likely].tag == read->tag)
        return likely;
    const uint32_t *found = bn_idmap_get(&m->children, child_key(node, read->tag), read->value);
    if (found)
        m->nodes[node].likely = *found;
    return found ? *found : 0;
}

uint32_t bn_memo_find(const struct bn_memo *m, uint64_t a, uint64_t b, const struct bn_unwind_input *in)
{
    const uint32_t *root = bn_idmap_get(&m->roots, a, b);
    uint32_t node = root ? *root : 0;

    if (!root)
        return BN_MEMO_UNKNOWN;
    while (m->nodes[node].where != pack(LEAF, 0)) {
        struct bn_memo_read read = look(in, m->nodes[node].where);
        node = child_of(m, node, &read);
        if (node == 0)
            return BN_MEMO_UNKNOWN;
    }
    return m->nodes[node].answer;
}

/* ---- adding ---- */

static uint32_t add_node(struct bn_memo *m, uint64_t where)
{
    bn_grow(&m->nodes, &m->capacity, m->n + 1, sizeof *m->nodes);
    m->nodes[m->n] = (struct bn_memo_node){.where = where, .answer = BN_MEMO_UNKNOWN};
    return (uint32_t)m->n++;
}

static uint32_t enter_root(struct bn_memo *m, uint64_t a, uint64_t b, uint64_t where)
{
    const uint32_t *known = bn_idmap_get(&m->roots, a, b);

    if (known)
        return *known;
    uint32_t node = add_node(m, where);
    bn_idmap_put(&m->roots, a, b, node);
    return node;
}

static uint32_t enter_child(struct bn_memo *m, uint32_t parent, const struct bn_memo_read *read,
                            uint64_t where)
{
    uint32_t node = child_of(m, parent, read);

    if (node)
        return node;
    node = add_node(m, where);
    m->nodes[node].value = read->value;
    m->nodes[node].tag = (uint32_t)read->tag;
    m->nodes[parent].likely = node;
    bn_idmap_put(&m->children, child_key(parent, read->tag), read->value, node);
    return node;
}

void bn_memo_add(struct bn_memo *m, uint64_t a, uint64_t b, const struct bn_memo_read *reads, size_t n,
                 uint32_t answer)
{
    uint64_t leaf = pack(LEAF, 0);
    uint32_t node = enter_root(m, a, b, n ? reads[0].where : leaf);

    for (size_t i = 0; i < n; i++) {
        if (m->nodes[node].where != reads[i].where)
            return; /* equal reads led elsewhere: cannot be, and is not to be remembered */
        node = enter_child(m, node, &reads[i], i + 1 < n ? reads[i + 1].where : leaf);
    }
    if (m->nodes[node].where == leaf)
        m->nodes[node].answer = answer;
}

void bn_memo_free(struct bn_memo *m)
{
    free(m->nodes);
    bn_idmap_free(&m->roots);
    bn_idmap_free(&m->children);
    *m = (struct bn_memo){0};
}

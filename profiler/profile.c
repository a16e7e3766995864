/* SPDX-License-Identifier: MIT
 * The record in memory: interned strings, and find-or-add for frames, stacks and stages. */
#include "profiler/profile.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "profiler/profile_private.h"

/* A hash table of indices into one of the record's arrays; what the items are, the caller's `same` knows. */
struct slot {
    uint32_t hash;
    uint32_t index_plus_1; /* 0 = free */
};

struct table {
    struct slot *slots;
    size_t n_slots; /* a power of two, or 0 */
    size_t n_used;
};

struct bn_intern {
    struct bn_arena arena;
    const char **strings;
    size_t n_strings, cap_strings;
    struct table by_string, by_frame, by_stack, by_stage, by_address;
    size_t cap_modules, cap_addresses, cap_facts, cap_kernels, cap_tokens, cap_flags;
};

typedef bool same_fn(const struct bn_profile *p, uint32_t index, const void *key);

static uint32_t table_find(const struct table *t, uint32_t hash, same_fn *same, const struct bn_profile *p,
                           const void *key)
{
    if (t->n_slots == 0)
        return BN_NONE;
    for (size_t i = hash & (t->n_slots - 1);; i = (i + 1) & (t->n_slots - 1)) {
        const struct slot *s = &t->slots[i];
        if (s->index_plus_1 == 0)
            return BN_NONE;
        if (s->hash == hash && same(p, s->index_plus_1 - 1, key))
            return s->index_plus_1 - 1;
    }
}

static void table_place(struct table *t, struct slot new_slot)
{
    size_t i = new_slot.hash & (t->n_slots - 1);

    while (t->slots[i].index_plus_1 != 0)
        i = (i + 1) & (t->n_slots - 1);
    t->slots[i] = new_slot;
}

/* Kept at most two thirds full, so that a search ends soon. */
static void table_insert(struct table *t, uint32_t hash, size_t index)
{
    if ((t->n_used + 1) * 3 > t->n_slots * 2) {
        struct table larger = {.n_slots = t->n_slots ? t->n_slots * 2 : 64};
        larger.slots = bn_xcalloc(larger.n_slots, sizeof *larger.slots);
        for (size_t i = 0; i < t->n_slots; i++)
            if (t->slots[i].index_plus_1 != 0)
                table_place(&larger, t->slots[i]);
        larger.n_used = t->n_used;
        free(t->slots);
        *t = larger;
    }
    assert(index < BN_NONE - 1);
    table_place(t, (struct slot){hash, (uint32_t)index + 1});
    t->n_used++;
}

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9e3779b97f4a7c15u;
    return h ^ (h >> 29);
}

static uint64_t mix_pointer(uint64_t h, const void *pointer)
{
    return mix(h, (uintptr_t)pointer);
}

static uint32_t fold(uint64_t h)
{
    return (uint32_t)(h ^ (h >> 32));
}

void bn_profile_init(struct bn_profile *p)
{
    memset(p, 0, sizeof *p);
    p->intern = bn_xcalloc(1, sizeof *p->intern);
    p->run.load_ms = p->run.tokenizer_ms = p->run.first_token_ms = BN_UNKNOWN;
    p->run.prompt_tokens_per_second = p->run.decode_tokens_per_second = BN_UNKNOWN;
    p->run.token_ms_p50 = p->run.token_ms_p95 = p->run.token_ms_p99 = BN_UNKNOWN;
    p->run.decode_allocations = UINT64_MAX;
    p->run.load_minor_faults = p->run.load_major_faults = UINT64_MAX;
    p->run.prefill_minor_faults = p->run.prefill_major_faults = UINT64_MAX;
    p->run.decode_minor_faults = p->run.decode_major_faults = UINT64_MAX;
    p->quality.asked_hz = p->quality.achieved_hz = BN_UNKNOWN;
    p->quality.steal_share = p->quality.empty_scope_ns = BN_UNKNOWN;
    p->limits.read_bytes_per_s = p->limits.int8_macs_per_s = BN_UNKNOWN;
    bn_profile_append_stack(p, (struct bn_stack){0, BN_NONE});
    bn_profile_append_stage(p, (struct bn_stage_node){.name = bn_profile_str(p, "all")});
}

void bn_profile_free(struct bn_profile *p)
{
    struct bn_intern *in = p ? p->intern : NULL;

    if (!in)
        return;
    free(p->facts);
    free(p->kernels);
    free(p->threads);
    free(p->frames);
    free(p->modules);
    free(p->addresses);
    free(p->stacks);
    free(p->stages);
    free(p->samples);
    free(p->tokens);
    free(p->flags);
    free(in->by_string.slots);
    free(in->by_frame.slots);
    free(in->by_stack.slots);
    free(in->by_stage.slots);
    free(in->by_address.slots);
    free(in->strings);
    bn_arena_free(&in->arena);
    free(in);
    memset(p, 0, sizeof *p);
}

/* ---- strings ---- */

/* Bytes of the UTF-8 character at s, which may stand in JSON, XML and on a terminal; 0 if it may not.
 * Not allowed: malformed, overlong and surrogate sequences, C0 and C1 controls, U+FFFE and U+FFFF. */
static size_t printable_char(const unsigned char *s, size_t n)
{
    static const uint32_t smallest[] = {0, 0x20, 0x80, 0x800, 0x10000};
    size_t size = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;

    if (size == 0 || size > n)
        return 0;
    uint32_t c = size == 1 ? s[0] : s[0] & (0x7fu >> size);
    for (size_t i = 1; i < size; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (s[i] & 0x3f);
    }
    bool control = c == 0x7f || (c >= 0x80 && c < 0xa0);
    if (c < smallest[size] || control || (c >= 0xd800 && c < 0xe000) || c == 0xfffe || c == 0xffff ||
        c > 0x10ffff)
        return 0;
    return size;
}

static bool is_clean(const char *s, size_t n)
{
    for (size_t i = 0, size; i < n; i += size) {
        size = printable_char((const unsigned char *)s + i, n - i);
        if (size == 0)
            return false;
    }
    return true;
}

static bool same_string(const struct bn_profile *p, uint32_t index, const void *key)
{
    return strcmp(p->intern->strings[index], key) == 0;
}

static const char *intern(struct bn_profile *p, const char *s, size_t n)
{
    struct bn_intern *in = p->intern;
    uint64_t h = n;

    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)s[i]) * 0x100000001b3u;
    uint32_t hash = fold(mix(h, 0));
    uint32_t found = table_find(&in->by_string, hash, same_string, p, s);
    if (found != BN_NONE)
        return in->strings[found];
    bn_grow(&in->strings, &in->cap_strings, in->n_strings + 1, sizeof *in->strings);
    in->strings[in->n_strings] = bn_arena_strndup(&in->arena, s, n);
    table_insert(&in->by_string, hash, in->n_strings);
    return in->strings[in->n_strings++];
}

const char *bn_profile_str(struct bn_profile *p, const char *s)
{
    if (!s)
        return NULL;
    size_t n = strlen(s);
    if (is_clean(s, n))
        return intern(p, s, n);
    char *clean = bn_xmalloc(n + 1);
    for (size_t i = 0, size; i < n; i += size ? size : 1) {
        size = printable_char((const unsigned char *)s + i, n - i);
        if (size == 0)
            clean[i] = '?';
        else
            memcpy(clean + i, s + i, size);
    }
    clean[n] = '\0';
    const char *kept = intern(p, clean, n);
    free(clean);
    return kept;
}

/* ---- frames ---- */

static uint32_t frame_hash(const struct bn_frame *f)
{
    uint64_t h = mix_pointer(mix_pointer(mix_pointer(0, f->function), f->module), f->file);
    h = mix_pointer(h, f->raw);
    return fold(mix(h, (uint64_t)f->line << 8 | (uint64_t)f->kind << 1 | f->inlined));
}

static bool same_frame(const struct bn_profile *p, uint32_t index, const void *key)
{
    const struct bn_frame *a = &p->frames[index], *b = key;
    return a->function == b->function && a->module == b->module && a->file == b->file && a->line == b->line &&
           a->inlined == b->inlined && a->kind == b->kind && a->raw == b->raw;
}

void bn_profile_append_frame(struct bn_profile *p, struct bn_frame frame)
{
    bn_grow(&p->frames, &p->cap_frames, p->n_frames + 1, sizeof *p->frames);
    p->frames[p->n_frames] = frame;
    table_insert(&p->intern->by_frame, frame_hash(&frame), p->n_frames++);
}

uint32_t bn_profile_add_frame(struct bn_profile *p, const struct bn_frame *frame)
{
    struct bn_frame own = *frame;

    assert(frame->function);
    own.function = bn_profile_str(p, frame->function);
    own.raw = bn_profile_str(p, frame->raw);
    own.module = bn_profile_str(p, frame->module);
    own.file = bn_profile_str(p, frame->file);
    uint32_t found = table_find(&p->intern->by_frame, frame_hash(&own), same_frame, p, &own);
    if (found != BN_NONE)
        return found;
    bn_profile_append_frame(p, own);
    return (uint32_t)(p->n_frames - 1);
}

/* ---- stacks ---- */

static uint32_t stack_hash(const struct bn_stack *s)
{
    return fold(mix(0, (uint64_t)s->parent << 32 | s->frame));
}

static bool same_stack(const struct bn_profile *p, uint32_t index, const void *key)
{
    const struct bn_stack *a = &p->stacks[index], *b = key;
    return a->parent == b->parent && a->frame == b->frame && index != 0;
}

void bn_profile_append_stack(struct bn_profile *p, struct bn_stack stack)
{
    bn_grow(&p->stacks, &p->cap_stacks, p->n_stacks + 1, sizeof *p->stacks);
    p->stacks[p->n_stacks] = stack;
    table_insert(&p->intern->by_stack, stack_hash(&stack), p->n_stacks++);
}

uint32_t bn_profile_add_stack(struct bn_profile *p, uint32_t parent, uint32_t frame)
{
    struct bn_stack stack = {parent, frame};

    assert(parent < p->n_stacks && frame < p->n_frames);
    uint32_t found = table_find(&p->intern->by_stack, stack_hash(&stack), same_stack, p, &stack);
    if (found != BN_NONE)
        return found;
    bn_profile_append_stack(p, stack);
    return (uint32_t)(p->n_stacks - 1);
}

/* ---- stages ---- */

static uint32_t stage_hash(const struct bn_stage_node *s)
{
    return fold(mix_pointer(mix(0, s->parent), s->name));
}

static bool same_stage(const struct bn_profile *p, uint32_t index, const void *key)
{
    const struct bn_stage_node *a = &p->stages[index], *b = key;
    return a->parent == b->parent && a->name == b->name && index != 0;
}

void bn_profile_append_stage(struct bn_profile *p, struct bn_stage_node stage)
{
    bn_grow(&p->stages, &p->cap_stages, p->n_stages + 1, sizeof *p->stages);
    p->stages[p->n_stages] = stage;
    table_insert(&p->intern->by_stage, stage_hash(&stage), p->n_stages++);
}

uint32_t bn_profile_add_stage(struct bn_profile *p, uint32_t parent, const char *name)
{
    struct bn_stage_node stage = {.parent = parent, .name = bn_profile_str(p, name)};

    assert(parent < p->n_stages && name);
    uint32_t found = table_find(&p->intern->by_stage, stage_hash(&stage), same_stage, p, &stage);
    if (found != BN_NONE)
        return found;
    bn_profile_append_stage(p, stage);
    return (uint32_t)(p->n_stages - 1);
}

bool bn_profile_is_library(const char *module)
{
    return module && (strstr(module, ".so") != NULL || strcmp(module, "[vdso]") == 0);
}

/* A stage has few children and a record few stages: walking them beats interning the name of a const record.
 */
uint32_t bn_profile_find_stage(const struct bn_profile *p, uint32_t parent, const char *name)
{
    for (size_t i = (size_t)parent + 1; i < p->n_stages; i++)
        if (p->stages[i].parent == parent && strcmp(p->stages[i].name, name) == 0)
            return (uint32_t)i;
    return BN_NONE;
}

/* The names come leaf first, so the length is counted first and the text filled in from its end. */
const char *bn_profile_stage_path(const struct bn_profile *p, uint32_t stage, char *buf, size_t size)
{
    size_t total = 0;

    assert(stage < p->n_stages && size > 0);
    if (stage == 0) {
        snprintf(buf, size, "%s", p->stages[0].name);
        return buf;
    }
    for (uint32_t s = stage; s != 0; s = p->stages[s].parent)
        total += strlen(p->stages[s].name) + (p->stages[s].parent != 0);
    size_t end = total;
    for (uint32_t s = stage; s != 0; s = p->stages[s].parent) {
        size_t n = strlen(p->stages[s].name), at = end - n;
        if (at < size)
            memcpy(buf + at, p->stages[s].name, bn_min_size(n, size - at));
        if (at > 0 && at - 1 < size)
            buf[at - 1] = ';';
        end = at > 0 ? at - 1 : 0;
    }
    buf[bn_min_size(total, size - 1)] = '\0';
    return buf;
}

bool bn_profile_stage_within(const struct bn_profile *p, uint32_t stage, uint32_t above)
{
    while (stage > above)
        stage = p->stages[stage].parent;
    return stage == above;
}

/* ---- addresses ---- */

static uint32_t address_hash(const struct bn_profile_address *a)
{
    return fold(mix(mix(0, a->module), a->vaddr));
}

static bool same_address(const struct bn_profile *p, uint32_t index, const void *key)
{
    const struct bn_profile_address *a = &p->addresses[index], *b = key;
    return a->module == b->module && a->vaddr == b->vaddr;
}

void bn_profile_add_address(struct bn_profile *p, const struct bn_profile_address *address)
{
    uint32_t hash = address_hash(address);

    assert(address->module < p->n_modules && address->frame < p->n_frames);
    uint32_t found = table_find(&p->intern->by_address, hash, same_address, p, address);
    if (found != BN_NONE) {
        p->addresses[found].samples += address->samples;
        p->addresses[found].weight_ns += address->weight_ns;
        return;
    }
    bn_grow(&p->addresses, &p->intern->cap_addresses, p->n_addresses + 1, sizeof *p->addresses);
    p->addresses[p->n_addresses] = *address;
    table_insert(&p->intern->by_address, hash, p->n_addresses++);
}

/* ---- plain lists ---- */

void bn_profile_add_sample(struct bn_profile *p, const struct bn_sample *sample)
{
    bn_grow(&p->samples, &p->cap_samples, p->n_samples + 1, sizeof *p->samples);
    p->samples[p->n_samples++] = *sample;
}

uint32_t bn_profile_add_thread(struct bn_profile *p, const struct bn_profile_thread *thread)
{
    bn_grow(&p->threads, &p->cap_threads, p->n_threads + 1, sizeof *p->threads);
    p->threads[p->n_threads] = *thread;
    p->threads[p->n_threads].name = bn_profile_str(p, thread->name);
    return (uint32_t)p->n_threads++;
}

uint32_t bn_profile_add_module(struct bn_profile *p, const struct bn_profile_module *module)
{
    struct bn_profile_module own = *module;

    assert(module->name && module->path);
    own.name = bn_profile_str(p, module->name);
    own.path = bn_profile_str(p, module->path);
    own.build_id = bn_profile_str(p, module->build_id);
    own.why = bn_profile_str(p, module->why);
    bn_grow(&p->modules, &p->intern->cap_modules, p->n_modules + 1, sizeof *p->modules);
    p->modules[p->n_modules] = own;
    return (uint32_t)p->n_modules++;
}

void bn_profile_add_fact(struct bn_profile *p, const char *key, const char *value)
{
    assert(key && value);
    for (size_t i = 0; i < p->n_facts; i++) {
        if (strcmp(p->facts[i].key, key) == 0) {
            p->facts[i].value = bn_profile_str(p, value);
            return;
        }
    }
    bn_grow(&p->facts, &p->intern->cap_facts, p->n_facts + 1, sizeof *p->facts);
    p->facts[p->n_facts++] = (struct bn_fact){bn_profile_str(p, key), bn_profile_str(p, value)};
}

const char *bn_profile_fact(const struct bn_profile *p, const char *key)
{
    for (size_t i = 0; i < p->n_facts; i++)
        if (strcmp(p->facts[i].key, key) == 0)
            return p->facts[i].value;
    return NULL;
}

void bn_profile_add_kernel(struct bn_profile *p, const char *symbol, uint64_t calls)
{
    assert(symbol);
    bn_grow(&p->kernels, &p->intern->cap_kernels, p->n_kernels + 1, sizeof *p->kernels);
    p->kernels[p->n_kernels++] = (struct bn_kernel_use){bn_profile_str(p, symbol), calls};
}

void bn_profile_add_token(struct bn_profile *p, const struct bn_token *token)
{
    bn_grow(&p->tokens, &p->intern->cap_tokens, p->n_tokens + 1, sizeof *p->tokens);
    p->tokens[p->n_tokens++] = *token;
}

void bn_profile_add_flag(struct bn_profile *p, const struct bn_flag *flag)
{
    struct bn_flag own = *flag;

    assert(flag->id);
    own.id = bn_profile_str(p, flag->id);
    own.unit = bn_profile_str(p, flag->unit);
    own.evidence = bn_profile_str(p, flag->evidence);
    own.advice = bn_profile_str(p, flag->advice);
    bn_grow(&p->flags, &p->intern->cap_flags, p->n_flags + 1, sizeof *p->flags);
    p->flags[p->n_flags++] = own;
}

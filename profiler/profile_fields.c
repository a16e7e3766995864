/* SPDX-License-Identifier: MIT
 * What profile.json holds: every stored member of the record, once, for saving and loading alike. */
#include "profiler/profile_private.h"

#define FIELD(kind, name) .key = #name, .type = BN_FIELD_##kind, .offset = offsetof(struct STRUCT, name)
#define COUNT(name)       .count_offset = offsetof(struct bn_profile, name)

#define STRUCT bn_profile
static const struct bn_field head[] = {
    {FIELD(U64, started_ns)}, /* first: run_start.c looks for it there */
    {FIELD(STRING, run_id)},
    {FIELD(STRING, started)},
    {FIELD(STRING, command)},
    {FIELD(STRING, config_key)},
    {FIELD(I32, exit_status)},
    {.key = "tokens_total", .type = BN_FIELD_U64, .offset = offsetof(struct bn_profile, n_tokens_total)},
};
#undef STRUCT

#define STRUCT bn_profile_model
static const struct bn_field model[] = {
    {FIELD(STRING, path)},      {FIELD(STRING, name)},
    {FIELD(STRING, arch)},      {FIELD(STRING, format)},
    {FIELD(STRING, sha256)},    {FIELD(U64, file_bytes)},
    {FIELD(U64, weight_bytes)}, {FIELD(U64, bytes_per_token)},
    {FIELD(U32, n_layer)},      {FIELD(U32, n_embd)},
    {FIELD(U32, n_ff)},         {FIELD(U32, n_head)},
    {FIELD(U32, n_head_kv)},    {FIELD(U32, n_vocab)},
    {FIELD(U32, n_ctx)},
};
#undef STRUCT

#define STRUCT bn_profile_run
static const struct bn_field run[] = {
    {FIELD(BOOL, known)},
    {FIELD(U32, threads)},
    {FIELD(U32, rounds)},
    {FIELD(U32, prompt_tokens)},
    {FIELD(U32, generated_tokens)},
    {FIELD(U32, max_tokens)},
    {FIELD(BOOL, deterministic)},
    {FIELD(STRING, kernel)},
    {FIELD(STRING, lm_head)},
    {FIELD(STRING, cpu_used)},
    {FIELD(STRING, cpu_detected)},
    {FIELD(STRING, token_hash)},
    {FIELD(DOUBLE, load_ms)},
    {FIELD(DOUBLE, tokenizer_ms)},
    {FIELD(DOUBLE, first_token_ms)},
    {FIELD(DOUBLE, prompt_tokens_per_second)},
    {FIELD(DOUBLE, decode_tokens_per_second)},
    {FIELD(DOUBLE, token_ms_p50)},
    {FIELD(DOUBLE, token_ms_p95)},
    {FIELD(DOUBLE, token_ms_p99)},
    {FIELD(U64, peak_rss_bytes)},
    {FIELD(U64_MAYBE, decode_allocations)},
    {FIELD(U64_MAYBE, load_minor_faults)},
    {FIELD(U64_MAYBE, load_major_faults)},
    {FIELD(U64_MAYBE, prefill_minor_faults)},
    {FIELD(U64_MAYBE, prefill_major_faults)},
    {FIELD(U64_MAYBE, decode_minor_faults)},
    {FIELD(U64_MAYBE, decode_major_faults)},
};
#undef STRUCT

#define STRUCT bn_profile_quality
static const struct bn_field quality[] = {
    {FIELD(STRING, event)},         {FIELD(STRING, ladder)},
    {FIELD(STRING, call_graph)},    {FIELD(DOUBLE, asked_hz)},
    {FIELD(DOUBLE, achieved_hz)},   {FIELD(U64, duration_ns)},
    {FIELD(U64, cpu_ns)},           {FIELD(U64, unreached_ns)},
    {FIELD(U64, user_ns)},          {FIELD(U64, system_ns)},
    {FIELD(U64, n_samples)},        {FIELD(U64, n_lost)},
    {FIELD(U64, n_truncated)},      {FIELD(U64, n_unnamed)},
    {FIELD(U64, n_joined)},         {FIELD(U64, n_stack_full)},
    {FIELD(U64, n_edge)},           {FIELD(U64, n_throttled)},
    {FIELD(BOOL, kernel_sampled)},  {FIELD(DOUBLE, steal_share)},
    {FIELD(U64, major_faults)},     {FIELD(U64, minor_faults)},
    {FIELD(U64, n_sleeps)},         {FIELD(U64, n_preemptions)},
    {FIELD(U64, asleep_ns)},        {FIELD(U64, preempted_ns)},
    {FIELD(U64, recorder_cpu_ns)},  {FIELD(DOUBLE, empty_scope_ns)},
    {FIELD(U64, scope_events)},     {FIELD(U64, scope_events_dropped)},
    {FIELD(U32, stack_dump_bytes)}, {FIELD(U64, ring_bytes)},
    {FIELD(BOOL, partial)},         {FIELD(CHAR, grade)},
    {FIELD(U64, damaged_bytes)},
};
#undef STRUCT

#define STRUCT bn_profile_limits
static const struct bn_field limits[] = {
    {FIELD(U32, threads)},
    {FIELD(DOUBLE, read_bytes_per_s)},
    {FIELD(DOUBLE, int8_macs_per_s)},
    {FIELD(U64, last_cache_bytes)},
};
#undef STRUCT

#define STRUCT bn_fact
static const struct bn_field facts[] = {
    {FIELD(STRING, key), .required = true},
    {FIELD(STRING, value), .required = true},
};
#undef STRUCT

#define STRUCT bn_kernel_use
static const struct bn_field kernels[] = {
    {FIELD(STRING, symbol), .required = true},
    {FIELD(U64, calls)},
};
#undef STRUCT

#define STRUCT bn_flag
static const char *const severities[] = {"info", "warning", "critical"};
static const char *const states[] = {"raised", "clear", "not_computed"};
static const struct bn_field flags[] = {
    {FIELD(STRING, id), .required = true},
    {FIELD(ENUM, severity), .names = severities, .n_names = BN_COUNT(severities)},
    {FIELD(ENUM, state), .names = states, .n_names = BN_COUNT(states)},
    {FIELD(DOUBLE, value)},
    {FIELD(DOUBLE, threshold)},
    {FIELD(STRING, unit)},
    {FIELD(STRING, evidence)},
    {FIELD(STRING, advice)},
};
#undef STRUCT

#define STRUCT bn_profile_thread
static const struct bn_field threads[] = {
    {FIELD(I32, tid)},    {FIELD(I32, pid)},    {FIELD(STRING, name)},
    {FIELD(U64, cpu_ns)}, {FIELD(U64, events)}, {FIELD(U64, dropped)},
};
#undef STRUCT

#define STRUCT bn_stage_node
static const struct bn_field stages[] = {
    {FIELD(PARENT, parent)},    {FIELD(STRING, name), .required = true},
    {FIELD(U64, calls)},        {FIELD(U64, total_ns)},
    {FIELD(U64, self_ns)},      {FIELD(U64, worker_ns)},
    {FIELD(U64, min_ns)},       {FIELD(U64, max_ns)},
    {FIELD(U64, p50_ns)},       {FIELD(U64, p95_ns)},
    {FIELD(U64, p99_ns)},       {FIELD(U64, bytes)},
    {FIELD(U64, ops)},          {FIELD(STRING, fused_into)},
    {FIELD(U64, asleep_ns)},    {FIELD(U64, preempted_ns)},
    {FIELD(U64, memory_bytes)}, {FIELD(U64, int8_macs)},
    {FIELD(U64, open_calls)},
};
#undef STRUCT

#define STRUCT bn_token
static const struct bn_field tokens[] = {
    {FIELD(U64, start_ns)},
    {FIELD(U64, end_ns)},
    {FIELD(U32, step)},
    {FIELD(BOOL, prefill)},
};
#undef STRUCT

#define STRUCT bn_profile_module
static const char *const module_states[] = {"read", "other_file", "unreadable"};
static const struct bn_field modules[] = {
    {FIELD(STRING, name), .required = true},
    {FIELD(STRING, path), .required = true},
    {FIELD(STRING, build_id)},
    {FIELD(ENUM, state), .names = module_states, .n_names = BN_COUNT(module_states)},
    {FIELD(STRING, why)},
    {FIELD(BOOL, symbols)},
    {FIELD(BOOL, debug_info)},
    {FIELD(U64, samples)},
    {FIELD(U64, weight_ns), .rare = true},
    {FIELD(TIME, modified_s)},
};
#undef STRUCT

#define STRUCT bn_frame
static const char *const kinds[] = {"user", "kernel", "unknown", "mark"};
static const struct bn_field frames[] = {
    {FIELD(NAME, function), .required = true},
    {FIELD(NAME, module)},
    {FIELD(NAME, file)},
    {FIELD(U32, line)},
    {FIELD(BOOL, inlined)},
    {FIELD(ENUM, kind), .names = kinds, .n_names = BN_COUNT(kinds)},
    {FIELD(NAME, raw), .optional = true},
};
#undef STRUCT

#define STRUCT bn_profile_address
static const struct bn_field addresses[] = {
    {FIELD(INDEX, module), COUNT(n_modules)},
    {FIELD(INDEX, frame), COUNT(n_frames)},
    {FIELD(U64, vaddr)},
    {FIELD(U64, samples)},
    {FIELD(U64, weight_ns), .optional = true, .rare = true},
};
#undef STRUCT

#define STRUCT bn_stack
static const struct bn_field stacks[] = {
    {FIELD(PARENT, parent)},
    {FIELD(INDEX, frame), COUNT(n_frames)},
};
#undef STRUCT

#define STRUCT bn_sample
static const struct bn_field samples[] = {
    {.key = "dt_ns", .type = BN_FIELD_U64, .offset = offsetof(struct bn_sample, t_ns), .delta = true},
    {FIELD(U64, weight_ns)},
    {FIELD(INDEX, thread), COUNT(n_threads)},
    {FIELD(INDEX, stack), COUNT(n_stacks)},
    {FIELD(INDEX, stage), COUNT(n_stages)},
    {FIELD(I32, layer)},
    {FIELD(U32, step)},
    {FIELD(U32, flags)},
};
#undef STRUCT

static void take_fact(struct bn_profile *p, const void *item)
{
    const struct bn_fact *fact = item;
    bn_profile_add_fact(p, fact->key, fact->value);
}

static void take_kernel(struct bn_profile *p, const void *item)
{
    const struct bn_kernel_use *use = item;
    bn_profile_add_kernel(p, use->symbol, use->calls);
}

static void take_flag(struct bn_profile *p, const void *item)
{
    bn_profile_add_flag(p, item);
}

static void take_thread(struct bn_profile *p, const void *item)
{
    bn_profile_add_thread(p, item);
}

static void take_token(struct bn_profile *p, const void *item)
{
    bn_profile_add_token(p, item);
}

static void take_module(struct bn_profile *p, const void *item)
{
    bn_profile_add_module(p, item);
}

static void take_address(struct bn_profile *p, const void *item)
{
    bn_profile_add_address(p, item);
}

static void take_frame(struct bn_profile *p, const void *item)
{
    bn_profile_append_frame(p, *(const struct bn_frame *)item);
}

static void take_stack(struct bn_profile *p, const void *item)
{
    bn_profile_append_stack(p, *(const struct bn_stack *)item);
}

static void take_stage(struct bn_profile *p, const void *item)
{
    bn_profile_append_stage(p, *(const struct bn_stage_node *)item);
}

static void take_sample(struct bn_profile *p, const void *item)
{
    bn_profile_add_sample(p, item);
}

#define OBJECT(name)                                                                                         \
    {                                                                                                        \
#name, BN_SECTION_OBJECT, offsetof(struct bn_profile, name), 0, 0, name, BN_COUNT(name), NULL, false \
    }
#define ARRAY(name, SHAPE, item, taker)                                                                      \
    {                                                                                                        \
#name, BN_SECTION_##SHAPE, offsetof(struct bn_profile, name), offsetof(struct bn_profile, n_##name), \
            sizeof(item), name, BN_COUNT(name), taker, false                                                 \
    }
#define LATER_ARRAY(name, SHAPE, item, taker)                                                                \
    {                                                                                                        \
#name, BN_SECTION_##SHAPE, offsetof(struct bn_profile, name), offsetof(struct bn_profile, n_##name), \
            sizeof(item), name, BN_COUNT(name), taker, true                                                  \
    }

const struct bn_section bn_profile_sections[] = {
    {"", BN_SECTION_HEAD, 0, 0, 0, head, BN_COUNT(head), NULL, false},
    OBJECT(model),
    OBJECT(run),
    OBJECT(quality),
    OBJECT(limits),
    ARRAY(facts, ROWS, struct bn_fact, take_fact),
    ARRAY(kernels, ROWS, struct bn_kernel_use, take_kernel),
    ARRAY(flags, ROWS, struct bn_flag, take_flag),
    ARRAY(threads, ROWS, struct bn_profile_thread, take_thread),
    ARRAY(stages, ROWS, struct bn_stage_node, take_stage),
    LATER_ARRAY(modules, ROWS, struct bn_profile_module, take_module),
    ARRAY(tokens, COLUMNS, struct bn_token, take_token),
    ARRAY(frames, COLUMNS, struct bn_frame, take_frame),
    LATER_ARRAY(addresses, COLUMNS, struct bn_profile_address, take_address),
    ARRAY(stacks, COLUMNS, struct bn_stack, take_stack),
    ARRAY(samples, COLUMNS, struct bn_sample, take_sample),
};
const size_t bn_profile_n_sections = BN_COUNT(bn_profile_sections);

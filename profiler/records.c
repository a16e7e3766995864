/* SPDX-License-Identifier: MIT
 * Decode perf_event records: a cursor that fails instead of reading past the record's end. */
#include "profiler/records.h"

#include <linux/perf_event.h>
#include <string.h>

/* The rest of a record. A read past the end gives 0 and leaves `short_` set. */
struct cursor {
    const uint8_t *p, *end;
    bool short_;
};

static const uint8_t *take(struct cursor *c, uint64_t n)
{
    const uint8_t *p = c->p;

    if (n > (uint64_t)(c->end - c->p)) {
        c->short_ = true;
        return NULL;
    }
    c->p += n;
    return p;
}

static uint64_t take_u64(struct cursor *c)
{
    const uint8_t *p = take(c, 8);
    return p ? bn_record_word(p, 0) : 0;
}

static uint32_t take_u32(struct cursor *c)
{
    uint32_t v = 0;
    const uint8_t *p = take(c, 4);

    if (p)
        memcpy(&v, p, sizeof v);
    return v;
}

/* A NUL-terminated string, padded to 8 bytes by the kernel. */
static const char *take_text(struct cursor *c)
{
    const uint8_t *nul = memchr(c->p, 0, (size_t)(c->end - c->p));

    if (!nul) {
        c->short_ = true;
        return NULL;
    }
    size_t n = bn_round_up((size_t)(nul - c->p) + 1, 8);
    return (const char *)take(c, bn_min_size(n, (size_t)(c->end - c->p)));
}

enum {
    KNOWN_TYPES = PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_ADDR |
                  PERF_SAMPLE_CALLCHAIN | PERF_SAMPLE_ID | PERF_SAMPLE_CPU | PERF_SAMPLE_PERIOD |
                  PERF_SAMPLE_STREAM_ID | PERF_SAMPLE_REGS_USER | PERF_SAMPLE_STACK_USER |
                  PERF_SAMPLE_IDENTIFIER,
};

int bn_record_check_format(const struct bn_record_format *format, struct bn_err *err)
{
    uint64_t needed = PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME;

    if ((format->sample_type & needed) != needed || format->sample_type & ~(uint64_t)KNOWN_TYPES)
        return bn_err_set(err, "sample_type %#llx: expected IP, TID and TIME and nothing beyond %#x",
                          (unsigned long long)format->sample_type, (unsigned)KNOWN_TYPES);
    return 0;
}

size_t bn_record_size(const uint8_t *at, size_t n)
{
    struct perf_event_header header;

    if (n < sizeof header)
        return 0;
    memcpy(&header, at, sizeof header);
    return header.size >= sizeof header && header.size <= n ? header.size : 0;
}

/* Bytes of the sample_id that ends every record that is no sample. */
static size_t trailer_bytes(uint64_t sample_type)
{
    uint64_t fields = PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_ID | PERF_SAMPLE_STREAM_ID |
                      PERF_SAMPLE_CPU | PERF_SAMPLE_IDENTIFIER;
    return 8 * (size_t)__builtin_popcountll(sample_type & fields);
}

static uint64_t trailer_time(uint64_t sample_type, const uint8_t *at, size_t size)
{
    size_t n = trailer_bytes(sample_type);
    size_t before = sample_type & PERF_SAMPLE_TID ? 8 : 0;

    if (!(sample_type & PERF_SAMPLE_TIME) || size < sizeof(struct perf_event_header) + n)
        return 0;
    return bn_record_word(at + size - n + before, 0);
}

/* Who a record is about, for those that say so in their trailer alone. */
static void trailer_ids(uint64_t sample_type, const uint8_t *at, struct bn_record *r, size_t size)
{
    size_t n = trailer_bytes(sample_type);

    if (!(sample_type & PERF_SAMPLE_TID) || size < sizeof(struct perf_event_header) + n)
        return;
    memcpy(&r->pid, at + size - n, sizeof r->pid);
    memcpy(&r->tid, at + size - n + 4, sizeof r->tid);
}

uint64_t bn_record_time(const struct bn_record_format *format, const uint8_t *at)
{
    struct perf_event_header header;
    size_t before = 0;

    memcpy(&header, at, sizeof header);
    if (header.type != PERF_RECORD_SAMPLE)
        return trailer_time(format->sample_type, at, header.size);
    before += format->sample_type & PERF_SAMPLE_IDENTIFIER ? 8 : 0;
    before += format->sample_type & PERF_SAMPLE_IP ? 8 : 0;
    before += format->sample_type & PERF_SAMPLE_TID ? 8 : 0;
    if (!(format->sample_type & PERF_SAMPLE_TIME) || header.size < sizeof header + before + 8)
        return 0;
    return bn_record_word(at + sizeof header + before, 0);
}

static void decode_regs(struct cursor *c, uint64_t mask, struct bn_record *r)
{
    r->regs_abi = take_u64(c);
    if (r->regs_abi == PERF_SAMPLE_REGS_ABI_NONE)
        return;
    r->regs_mask = mask;
    for (uint64_t left = mask; left; left &= left - 1)
        r->regs[__builtin_ctzll(left)] = take_u64(c);
}

/* u64 size, that many bytes, and, unless size is 0, u64 how many of them the kernel really filled. */
static void decode_stack(struct cursor *c, struct bn_record *r)
{
    uint64_t size = take_u64(c);

    if (size == 0 || c->short_)
        return;
    r->stack = take(c, size);
    uint64_t filled = take_u64(c);
    if (c->short_)
        return;
    r->stack_bytes = (size_t)(filled < size ? filled : size);
    r->other_bytes -= (size_t)size;
}

static void decode_sample(const struct bn_record_format *f, struct cursor *c, struct bn_record *r)
{
    uint64_t type = f->sample_type;

    if (type & PERF_SAMPLE_IDENTIFIER)
        take_u64(c);
    if (type & PERF_SAMPLE_IP)
        r->ip = take_u64(c);
    if (type & PERF_SAMPLE_TID) {
        r->pid = (int32_t)take_u32(c);
        r->tid = (int32_t)take_u32(c);
    }
    if (type & PERF_SAMPLE_TIME)
        take_u64(c);
    if (type & PERF_SAMPLE_ADDR)
        take_u64(c);
    if (type & PERF_SAMPLE_ID)
        take_u64(c);
    if (type & PERF_SAMPLE_STREAM_ID)
        take_u64(c);
    if (type & PERF_SAMPLE_CPU)
        take_u64(c);
    if (type & PERF_SAMPLE_PERIOD)
        r->period = take_u64(c);
    if (type & PERF_SAMPLE_CALLCHAIN) {
        uint64_t n = take_u64(c);
        r->chain = n <= UINT16_MAX ? take(c, n * 8) : take(c, UINT64_MAX);
        r->n_chain = r->chain ? (size_t)n : 0;
    }
    if (type & PERF_SAMPLE_REGS_USER)
        decode_regs(c, f->regs_user, r);
    if (type & PERF_SAMPLE_STACK_USER)
        decode_stack(c, r);
}

static void decode_mmap(struct cursor *c, struct bn_record *r)
{
    r->pid = (int32_t)take_u32(c);
    r->tid = (int32_t)take_u32(c);
    r->start = take_u64(c);
    r->length = take_u64(c);
    r->file_offset = take_u64(c);
    r->executable = r->type == PERF_RECORD_MMAP2 || !(r->misc & PERF_RECORD_MISC_MMAP_DATA);
    if (r->type == PERF_RECORD_MMAP2) {
        const uint8_t *id = take(c, 24); /* device and inode, or the build id */
        uint32_t prot = take_u32(c);
        take_u32(c);              /* flags */
        r->executable = prot & 4; /* PROT_EXEC */
        if (id && r->misc & PERF_RECORD_MISC_MMAP_BUILD_ID) {
            r->build_id_bytes = id[0] <= BN_RECORD_MAX_BUILD_ID ? id[0] : 0;
            memcpy(r->build_id, id + 4, r->build_id_bytes);
        }
    }
    r->text = take_text(c);
}

static void decode_task(struct cursor *c, struct bn_record *r)
{
    r->pid = (int32_t)take_u32(c);
    r->parent_pid = (int32_t)take_u32(c);
    r->tid = (int32_t)take_u32(c);
    r->parent_tid = (int32_t)take_u32(c);
}

int bn_record_decode(const struct bn_record_format *format, const uint8_t *at, struct bn_record *r,
                     struct bn_err *err)
{
    struct perf_event_header header;

    memcpy(&header, at, sizeof header);
    struct cursor c = {.p = at + sizeof header, .end = at + header.size};
    *r = (struct bn_record){.type = header.type,
                            .misc = header.misc,
                            .t_ns = bn_record_time(format, at),
                            .other_bytes = header.size};
    switch (header.type) {
    case PERF_RECORD_SAMPLE:
        decode_sample(format, &c, r);
        break;
    case PERF_RECORD_MMAP:
    case PERF_RECORD_MMAP2:
        decode_mmap(&c, r);
        break;
    case PERF_RECORD_COMM:
        r->pid = (int32_t)take_u32(&c);
        r->tid = (int32_t)take_u32(&c);
        r->text = take_text(&c);
        break;
    case PERF_RECORD_FORK:
    case PERF_RECORD_EXIT:
        decode_task(&c, r);
        break;
    case PERF_RECORD_READ:
        r->pid = (int32_t)take_u32(&c);
        r->tid = (int32_t)take_u32(&c);
        r->value = take_u64(&c);
        break;
    case PERF_RECORD_LOST:
        take_u64(&c); /* id */
        r->lost = take_u64(&c);
        break;
    case PERF_RECORD_LOST_SAMPLES:
        r->lost = take_u64(&c);
        break;
    case PERF_RECORD_SWITCH:
        trailer_ids(format->sample_type, at, r, header.size);
        break;
    default:
        break;
    }
    if (c.short_)
        return bn_err_set(err, "a perf record of type %u and %u bytes is too short for its contents",
                          (unsigned)header.type, (unsigned)header.size);
    return 0;
}

/* SPDX-License-Identifier: MIT
 * For test_captured.c: samples as the kernel's ring would give them, written to a file; and chains as text.
 */
#ifndef TESTS_UNIT_CAPTURED_H
#define TESTS_UNIT_CAPTURED_H

#include "profiler/callstack.h"
#include "stepper.h"

#define CAPTURED "tests/data/captured/"

static const struct bn_record_format captured_format = {
    .sample_type = PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_CPU |
                   PERF_SAMPLE_PERIOD | PERF_SAMPLE_CALLCHAIN | PERF_SAMPLE_REGS_USER |
                   PERF_SAMPLE_STACK_USER,
    .regs_user = 0xff0fff,
};

enum { CAPTURED_PID = 100, CAPTURED_WORDS = 20, CAPTURED_PROT_CODE = 5 };

/* ---- a chain as a line of text ---- */

static inline void captured_put_frame(struct bn_buf *text, struct bn_symbols *symbols, struct bn_image *image,
                                      uint64_t vaddr)
{
    const struct bn_place place = {.image = image, .vaddr = vaddr, .has_vaddr = true};

    bn_symbols_find(symbols, &place);
    bn_buf_printf(text, "%s%s@%" PRIx64, text->n ? " " : "", symbols->frames[symbols->n - 1].function, vaddr);
}

/* Innermost first: function@vaddr …, and the mark of a chain that broke off. The caller frees. */
static inline char *captured_text(const struct bn_unwind_result *r)
{
    struct bn_buf text = {0};
    struct bn_symbols *symbols = (struct bn_symbols *)bn_xcalloc(1, sizeof *symbols);

    for (size_t i = 0; i < r->n; i++) {
        if (r->frames[i].place.has_vaddr)
            captured_put_frame(&text, symbols, r->frames[i].place.image, r->frames[i].place.vaddr);
        else
            bn_buf_printf(&text, "%s?", text.n ? " " : "");
    }
    if (bn_unwind_mark_name(r->end))
        bn_buf_printf(&text, " %s", bn_unwind_mark_name(r->end));
    bn_symbols_free(symbols);
    free(symbols);
    return text.p;
}

/* ---- records ---- */

static inline void captured_word(struct bn_buf *b, uint64_t v)
{
    bn_buf_put(b, &v, sizeof v);
}

static inline void captured_record(struct bn_buf *to, uint32_t type, const struct bn_buf *body)
{
    struct perf_event_header head = {
        .type = type, .misc = PERF_RECORD_MISC_USER, .size = (uint16_t)(sizeof head + body->n)};

    bn_buf_put(to, &head, sizeof head);
    bn_buf_put(to, body->p, body->n);
}

/* What follows every record but samples: who, when and where (sample_id_all). */
static inline void captured_trailer(struct bn_buf *b)
{
    captured_word(b, CAPTURED_PID | (uint64_t)CAPTURED_PID << 32);
    captured_word(b, 0);
    captured_word(b, 0);
}

static inline void captured_mapping(struct bn_buf *to, const struct bn_mapping *m, const char *path)
{
    struct bn_buf b = {0};
    char padded[72] = "";

    snprintf(padded, sizeof padded, "%s", path);
    captured_word(&b, CAPTURED_PID | (uint64_t)CAPTURED_PID << 32);
    captured_word(&b, m->start);
    captured_word(&b, m->end - m->start);
    captured_word(&b, m->file_offset);
    for (int i = 0; i < 3; i++) /* device and inode */
        captured_word(&b, 0);
    captured_word(&b, CAPTURED_PROT_CODE);
    bn_buf_put(&b, padded, sizeof padded);
    captured_trailer(&b);
    captured_record(to, PERF_RECORD_MMAP2, &b);
    bn_buf_free(&b);
}

static inline void captured_sample(struct bn_buf *to, const struct bn_unwind_input *in, uint64_t t_ns)
{
    /* perf's order of the registers, as their DWARF numbers; -1 = flags and segments, which are not used */
    static const int order[CAPTURED_WORDS] = {0,  3,  2, 1, 4,  5,  6,  7,  16, -1,
                                              -1, -1, 8, 9, 10, 11, 12, 13, 14, 15};
    struct bn_buf b = {0};

    captured_word(&b, in->regs[BN_UNWIND_RIP]);
    captured_word(&b, CAPTURED_PID | (uint64_t)CAPTURED_PID << 32);
    captured_word(&b, t_ns);
    captured_word(&b, 0); /* CPU */
    captured_word(&b, 1000000);
    captured_word(&b, 0); /* no chain */
    captured_word(&b, PERF_SAMPLE_REGS_ABI_64);
    for (int i = 0; i < CAPTURED_WORDS; i++)
        captured_word(&b, order[i] < 0 ? 0 : in->regs[order[i]]);
    captured_word(&b, in->stack_bytes);
    bn_buf_put(&b, in->stack, in->stack_bytes);
    if (in->stack_bytes)
        captured_word(&b, in->stack_bytes);
    captured_record(to, PERF_RECORD_SAMPLE, &b);
    bn_buf_free(&b);
}

#endif

/* SPDX-License-Identifier: MIT
 * Bring together what the record counted with source files and objdump's instructions. */
#include "tools/annotate_view.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "profiler/debug.h"
#include "profiler/image.h"
#include "tools/disassembly.h"

/* ---- the module's file ---- */

/* The row of the function's module: that of its first address, else by name. NULL = none. */
static const struct bn_profile_module *module_of(const struct bn_annotate_view *v)
{
    const struct bn_profile *p = v->p;

    if (v->a.n_addresses)
        return &p->modules[v->a.addresses[0].module];
    for (size_t i = 0; v->a.module && i < p->n_modules; i++)
        if (strcmp(p->modules[i].name, v->a.module) == 0)
            return &p->modules[i];
    return NULL;
}

static size_t read_hex(const char *hex, uint8_t *bytes, size_t max)
{
    size_t n = 0;

    for (; n < max && isxdigit((unsigned char)hex[0]) && isxdigit((unsigned char)hex[1]); hex += 2) {
        const char pair[3] = {hex[0], hex[1], '\0'};
        bytes[n++] = (uint8_t)strtoul(pair, NULL, 16);
    }
    return *hex ? 0 : n;
}

/* Open the file that was recorded; NULL with the reason if it is not there any more. */
static struct bn_image *open_module(const struct bn_profile_module *m, struct bn_err *why)
{
    uint8_t id[BN_IMAGE_MAX_BUILD_ID];
    size_t n = m && m->build_id ? read_hex(m->build_id, id, sizeof id) : 0;

    if (!m || n == 0) {
        bn_err_set(why,
                   m ? "%s has no build id, so nobody can tell whether it is still the file that ran"
                     : "the record does not name its module",
                   m ? m->path : "");
        return NULL;
    }
    struct bn_image *image = bn_image_open(m->path, id, n);
    if (image->usable)
        return image;
    *why = image->why;
    bn_image_free(image);
    return NULL;
}

/* ---- sources ---- */

static int by_self(const void *a, const void *b)
{
    const struct bn_annotate_source *x = a, *y = b;

    int order = bn_sampled_compare(&y->self, &x->self);

    if (order == 0)
        order = bn_sampled_compare(&y->inclusive, &x->inclusive);
    return order ? order : (x->first > y->first) - (x->first < y->first);
}

/* Debug information tells no more than the base of relative names; any code of the function knows it. */
static const char *folder_of(const struct bn_annotate_view *v)
{
    uint64_t any = v->a.n_addresses ? v->a.addresses[0].vaddr : 0;

    for (size_t i = 0; any == 0 && i < v->p->n_addresses; i++)
        if (v->p->frames[v->p->addresses[i].frame].function == (v->a.inlined ? v->a.caller : v->a.function))
            any = v->p->addresses[i].vaddr;
    return v->image && any ? bn_debug_folder(v->image, any) : NULL;
}

static void read_sources(struct bn_annotate_view *v, int64_t built_s)
{
    const struct bn_annotation *a = &v->a;
    const char *folder = folder_of(v);
    size_t own = 0;

    v->sources = bn_xcalloc(a->n_lines + 1, sizeof *v->sources);
    for (size_t i = 0; i < a->n_lines; i++) {
        const struct bn_annotated_line *l = &a->lines[i];
        struct bn_annotate_source *s = v->n_sources ? &v->sources[v->n_sources - 1] : NULL;
        if (!s || s->function != l->function || s->file != l->file) {
            s = &v->sources[v->n_sources++];
            *s = (struct bn_annotate_source){.function = l->function, .file = l->file, .first = i};
            own += l->function == a->function;
        }
        s->n++;
        bn_sampled_join(&s->self, &l->self);
        bn_sampled_join(&s->inclusive, &l->inclusive);
    }
    if (v->n_sources > own)
        qsort(v->sources + own, v->n_sources - own, sizeof *v->sources, by_self);
    for (size_t i = 0; i < v->n_sources; i++)
        if (v->sources[i].file)
            bn_source_text_read(&v->sources[i].text, v->sources[i].file, folder, built_s);
}

/* ---- instructions ---- */

static struct bn_sampled samples_at(const struct bn_annotation *a, uint64_t first, uint64_t end,
                                    uint32_t module)
{
    struct bn_sampled sum = {0};

    for (size_t i = 0; i < a->n_addresses; i++) {
        const struct bn_profile_address *at = &a->addresses[i];
        struct bn_sampled here = {.n = at->samples, .ns = at->weight_ns};
        if (at->module == module && at->vaddr >= first && at->vaddr < end)
            bn_sampled_join(&sum, &here);
    }
    return sum;
}

/* The part of the function around an address with samples: its unwind entry, or just the neighbourhood. */
static void range_of(const struct bn_image *image, uint64_t vaddr, uint64_t *start, uint64_t *end)
{
    enum { NEAR_BYTES = 16 };
    const struct bn_fde *fde = bn_fde_find(&image->fdes, vaddr);

    *start = fde ? fde->start : vaddr;
    *end = fde ? fde->end : vaddr + NEAR_BYTES;
}

static void add_instructions(struct bn_annotate_view *v, const struct bn_disassembly *d, uint32_t module)
{
    struct bn_debug_frame frame[64];

    v->instructions = bn_xcalloc(d->n + 1, sizeof *v->instructions);
    for (size_t i = 0; i < d->n; i++) {
        uint64_t vaddr = d->items[i].vaddr, next = i + 1 < d->n ? d->items[i + 1].vaddr : vaddr + 1;
        struct bn_annotate_instruction *to = &v->instructions[v->n_instructions++];
        *to = (struct bn_annotate_instruction){.vaddr = vaddr, .text = bn_xstrdup(d->items[i].text)};
        to->samples = samples_at(&v->a, vaddr, next > vaddr && next - vaddr <= 16 ? next : vaddr + 1, module);
        if (to->samples.n && bn_debug_find(v->image, vaddr, frame, BN_COUNT(frame)) > 0 && frame[0].file) {
            to->file = frame[0].file;
            to->line = frame[0].line;
        }
    }
}

/* Addresses are sorted: a range begins with the first that the one before did not hold. */
static void disassemble(struct bn_annotate_view *v, const struct bn_profile_module *m)
{
    struct bn_disassembly d = {.symbols = m && m->symbols};
    const struct bn_annotation *a = &v->a;
    uint64_t start, end = 0;
    int status = 0;

    if (a->inlined)
        bn_err_set(&v->no_assembly, "it is inlined everywhere; annotate a function that holds it: %s",
                   a->caller ? a->caller : "unknown");
    else if (a->n_addresses == 0)
        bn_err_set(&v->no_assembly, "the record holds no addresses with samples of it");
    if (v->no_assembly.msg[0] || !v->image)
        return;
    uint32_t module = a->addresses[0].module;
    for (size_t i = 0; i < a->n_addresses && status == 0 && a->addresses[i].module == module; i++) {
        if (a->addresses[i].vaddr < end)
            continue;
        range_of(v->image, a->addresses[i].vaddr, &start, &end);
        status = bn_disassembly_add(&d, m->path, start, end, &v->no_assembly);
    }
    if (status == 0 && d.n == 0)
        bn_err_set(&v->no_assembly, "objdump finds no instructions in %s", m->path);
    else if (status == 0)
        add_instructions(v, &d, module);
    bn_disassembly_free(&d);
}

int bn_annotate_view_make(struct bn_annotate_view *v, const struct bn_profile *p, const char *name,
                          const char *module, bool assembly, struct bn_err *err)
{
    *v = (struct bn_annotate_view){.p = p, .all = bn_profile_sampled(p, 0)};
    if (bn_annotate(&v->a, p, name, module, err) != 0)
        return -1;
    const struct bn_profile_module *m = module_of(v);
    v->image = open_module(m, &v->no_assembly);
    read_sources(v, m ? m->modified_s : 0);
    if (assembly)
        disassemble(v, m);
    else
        bn_err_set(&v->no_assembly, "not asked for");
    return 0;
}

void bn_annotate_view_free(struct bn_annotate_view *v)
{
    for (size_t i = 0; i < v->n_sources; i++)
        bn_source_text_free(&v->sources[i].text);
    for (size_t i = 0; i < v->n_instructions; i++)
        free(v->instructions[i].text);
    free(v->sources);
    free(v->instructions);
    bn_annotation_free(&v->a);
    bn_image_free(v->image);
    *v = (struct bn_annotate_view){0};
}

/* SPDX-License-Identifier: MIT
 * What kind of work a sample is. */
#ifndef HOTSPOTS_CLASS_H
#define HOTSPOTS_CLASS_H

#include "profiler/profile.h"

/* The classes are disjoint and cover everything. */
enum bn_class {
    BN_CLASS_WAIT,       /* stage `wait` */
    BN_CLASS_KERNEL,     /* sampled in the kernel */
    BN_CLASS_MEMORY,     /* leaf copies or allocates */
    BN_CLASS_PROJECTION, /* the block's matrix products */
    BN_CLASS_LM_HEAD,
    BN_CLASS_ATTENTION, /* rope, cache, scores, softmax, values */
    BN_CLASS_FORWARD,   /* the rest of the forward pass: norms, activation, quantisation, residuals, embedding
                         */
    BN_CLASS_GENERATE,  /* outside the forward pass: sampling, text */
    BN_CLASS_LOAD,      /* startup, loading, tokenizing, shutdown */
    BN_CLASS_STAGES,    /* in stages that another program has marked, and named otherwise */
    BN_CLASS_OTHER,     /* in no stage: unregistered threads, what lies between stages */
    /* Of a program that marks no stages, by the file that holds the leaf. */
    BN_CLASS_PROGRAM,
    BN_CLASS_LIBRARY,
    BN_CLASS_UNNAMED,
    BN_CLASS_COUNT,
};
const char *bn_class_name(enum bn_class c);
/* Can the recording have samples of that class: those that stages make, if it has stages, else the others. */
bool bn_class_applies(const struct bn_profile *p, enum bn_class c);
/* Families of library functions, under all the names that libc has for them. */
bool bn_is_copy_function(const char *name);      /* memcpy, memmove, memset, … */
bool bn_is_allocator_function(const char *name); /* malloc, free, realloc, mmap, … */

enum bn_class bn_class_of(const struct bn_profile *p, const struct bn_sample *sample);

#endif

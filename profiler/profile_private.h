/* SPDX-License-Identifier: MIT
 * Between the record's own files: what is stored under which key, and how a loaded entry gets into the
 * record. */
#ifndef PROFILER_PROFILE_PRIVATE_H
#define PROFILER_PROFILE_PRIVATE_H

#include "profiler/profile.h"

/* Append without looking for an equal entry, so that the indices of a file stay what they are. Strings must
 * be the record's own; indices must have been checked. */
void bn_profile_append_frame(struct bn_profile *p, struct bn_frame frame);
void bn_profile_append_stack(struct bn_profile *p, struct bn_stack stack);
void bn_profile_append_stage(struct bn_profile *p, struct bn_stage_node stage);

/* How a member of a struct stands in the file. */
enum bn_field_type {
    BN_FIELD_STRING, /* const char *: a string or null */
    BN_FIELD_NAME,   /* const char *, in columns: an index into "strings", -1 for NULL */
    BN_FIELD_U64,
    BN_FIELD_U64_MAYBE, /* UINT64_MAX = null */
    BN_FIELD_U32,
    BN_FIELD_INDEX,  /* uint32_t below a count; -1 for BN_NONE */
    BN_FIELD_PARENT, /* uint32_t below the entry's own number; 0 for entry 0 */
    BN_FIELD_I32,
    BN_FIELD_TIME, /* int64_t from 0 */
    BN_FIELD_BOOL,
    BN_FIELD_DOUBLE, /* null = unknown */
    BN_FIELD_CHAR,   /* a string of one character, null = 0 */
    BN_FIELD_ENUM,   /* one of `names`: in columns its number, else its name */
};

struct bn_field {
    const char *key;
    enum bn_field_type type;
    size_t offset;            /* of the member in its struct */
    size_t count_offset;      /* INDEX: of the n_… in struct bn_profile that it must stay below */
    const char *const *names; /* ENUM */
    size_t n_names;
    bool required; /* a string that may not be null */
    bool delta;    /* U64 in columns: as the difference to the entry before; values never fall */
    bool optional; /* a column that an older bnprof did not write */
    bool rare;     /* U64: left out where it is 0; a column, where it is 0 throughout */
};

enum bn_section_shape {
    BN_SECTION_HEAD,    /* the fields stand in the file's outermost object */
    BN_SECTION_OBJECT,  /* "key": {fields} */
    BN_SECTION_ROWS,    /* "key": [{fields}, …] */
    BN_SECTION_COLUMNS, /* "key": {"field": […], …}, all of one length; or one value for all entries */
};

struct bn_section {
    const char *key;
    enum bn_section_shape shape;
    size_t offset;       /* in struct bn_profile: of the struct, or of the pointer to the array */
    size_t count_offset; /* of the array's length */
    size_t item_bytes;
    const struct bn_field *fields;
    size_t n_fields;
    void (*take)(struct bn_profile *p, const void *item); /* arrays: add a loaded entry */
    bool optional;                                        /* an older bnprof did not write it */
};

/* In file order: a section refers to earlier ones only. */
extern const struct bn_section bn_profile_sections[];
extern const size_t bn_profile_n_sections;

/* A tree of n entries of item_bytes each, the first one's parent at first_parent: is entry 0 there, and no
 * path too deep? */
int bn_profile_check_depth(const char *what, const void *first_parent, size_t item_bytes, size_t n,
                           struct bn_err *err);
/* After loading, and before saving: is there anything that cannot be? Without samples and tokens when
 * summary. */
int bn_profile_check(const struct bn_profile *p, bool summary, struct bn_err *err);

/* The integers that a JSON number (a double) holds exactly; larger ones are written as strings of digits. */
#define BN_JSON_MAX_INTEGER ((uint64_t)1 << 53)

#endif

/* SPDX-License-Identifier: MIT
 * GGUF v2 and v3: mapped bytes to metadata and a tensor table. Every count, offset, size, alignment and
 * string is checked once, at open; afterwards nothing can run outside the mapping. */
#ifndef CORE_GGUF_H
#define CORE_GGUF_H

#include "core/base.h"

/* ggml's numbers (docs/formats.md#types). I2_S is bitnet.cpp's 36. */
enum bn_type {
    BN_TYPE_F32 = 0,
    BN_TYPE_F16 = 1,
    BN_TYPE_Q4_0 = 2,
    BN_TYPE_Q4_1 = 3,
    BN_TYPE_Q5_0 = 6,
    BN_TYPE_Q5_1 = 7,
    BN_TYPE_Q8_0 = 8,
    BN_TYPE_Q8_1 = 9,
    BN_TYPE_Q2_K = 10,
    BN_TYPE_Q3_K = 11,
    BN_TYPE_Q4_K = 12,
    BN_TYPE_Q5_K = 13,
    BN_TYPE_Q6_K = 14,
    BN_TYPE_Q8_K = 15,
    BN_TYPE_I8 = 24,
    BN_TYPE_I16 = 25,
    BN_TYPE_I32 = 26,
    BN_TYPE_I64 = 27,
    BN_TYPE_F64 = 28,
    BN_TYPE_BF16 = 30,
    BN_TYPE_TQ1_0 = 34,
    BN_TYPE_TQ2_0 = 35,
    BN_TYPE_I2_S = 36,
    /* Not in files: they say 36 there too, and only a tensor's size tells (docs/formats.md#i2_s). */
    BN_TYPE_QK256 = 60,
    BN_TYPE_BITNET32 = 61,
};

/* "I2_S"; NULL for a number that is no type. */
const char *bn_type_name(uint32_t type);

/* The number that stands for the type in a file. */
uint32_t bn_type_in_file(uint32_t type);

/* Are its weights whole numbers of two bits times a scale: I2_S and its flavours, TQ1_0, TQ2_0? */
bool bn_type_is_ternary(uint32_t type);

/* Bytes of a row of k values, whole blocks of a known type; of I2_S without the scale behind the tensor. */
uint64_t bn_type_row_bytes(uint32_t type, uint64_t k);

/* Bytes of a tensor of `type` with ne0 x rows elements (ne0 in whole blocks); -1 when the type is unknown,
 * the row is no whole number of blocks, or the product overflows. I2_S: n/4 + 32. */
int bn_type_bytes(uint32_t type, uint64_t ne0, uint64_t rows, uint64_t *bytes);

enum bn_gguf_kind {
    BN_GGUF_U8,
    BN_GGUF_I8,
    BN_GGUF_U16,
    BN_GGUF_I16,
    BN_GGUF_U32,
    BN_GGUF_I32,
    BN_GGUF_F32,
    BN_GGUF_BOOL,
    BN_GGUF_STRING,
    BN_GGUF_ARRAY,
    BN_GGUF_U64,
    BN_GGUF_I64,
    BN_GGUF_F64,
};

/* "u32"; NULL for a number that is no kind. */
const char *bn_gguf_kind_name(uint32_t kind);
/* Bytes of one value; 0 for strings, arrays and what is no kind. */
uint64_t bn_gguf_kind_bytes(uint32_t kind);

struct bn_gguf_kv {
    struct bn_str key;
    enum bn_gguf_kind kind;
    enum bn_gguf_kind element_kind; /* of an array */
    uint64_t count;                 /* elements of an array, else 1 */
    const uint8_t *value;           /* first byte of the value, or of the first element; unaligned */
};

struct bn_tensor {
    struct bn_str name;
    uint32_t type;
    uint32_t n_dims;
    uint64_t ne[4];      /* ne[0] = K is the fastest; unused ones are 1 */
    uint64_t size_bytes; /* without padding */
    const uint8_t *data; /* in the mapping, aligned to the file's alignment relative to the file */
};

struct bn_gguf {
    struct bn_map map; /* empty when opened from memory */
    const char *path;  /* for messages */
    uint32_t version;
    uint64_t alignment, n_kv, n_tensors, data_offset, size_bytes;
    struct bn_gguf_kv *kv;
    struct bn_tensor *tensors;
    struct bn_arena arena;
    /* private: the keys and the tensor names in byte order, for bn_gguf_find and bn_gguf_tensor */
    const struct bn_str **keys_sorted, **names_sorted;
};

/* Open a file, or bytes that stay valid until close (`label` stands for the path in messages).
 * 0, or -1 with one line: file, place (byte offset, key or tensor), what was expected. */
int bn_gguf_open(struct bn_gguf *gguf, const char *path, struct bn_err *err);
int bn_gguf_open_memory(struct bn_gguf *gguf, const void *bytes, size_t n, const char *label,
                        struct bn_err *err);
void bn_gguf_close(struct bn_gguf *gguf);

/* NULL when absent; that is no error. */
const struct bn_gguf_kv *bn_gguf_find(const struct bn_gguf *gguf, const char *key);
const struct bn_tensor *bn_gguf_tensor(const struct bn_gguf *gguf, const char *name);

/* Typed reads. Absent: 0 returned, *out untouched. Present and convertible without loss: 1. Else -1 with a
 * message. */
int bn_gguf_get_u32(const struct bn_gguf *gguf, const char *key, uint32_t *out, struct bn_err *err);
int bn_gguf_get_f32(const struct bn_gguf *gguf, const char *key, float *out, struct bn_err *err);
int bn_gguf_get_bool(const struct bn_gguf *gguf, const char *key, bool *out, struct bn_err *err);
int bn_gguf_get_str(const struct bn_gguf *gguf, const char *key, struct bn_str *out, struct bn_err *err);

/* Walk an array of strings: *cursor starts as kv->value and moves on; call at most kv->count times. */
struct bn_str bn_gguf_next_str(const uint8_t **cursor);

#endif

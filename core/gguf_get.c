/* SPDX-License-Identifier: MIT
 * Typed reads of GGUF metadata: a value that cannot be converted without loss is an error that names its key.
 */
#include "core/gguf.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { SHOWN_BYTES = 80 }; /* of a key in a message */

static int BN_PRINTF(4, 5) wrong_value(const struct bn_gguf *gguf, const struct bn_gguf_kv *kv,
                                       struct bn_err *err, const char *format, ...)
{
    char text[128];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return bn_err_set(err, "%s: key %.*s: %s", gguf->path, (int)bn_min_size(kv->key.n, SHOWN_BYTES),
                      kv->key.p, text);
}

/* The value of any integer kind that an int64_t can hold. */
static bool read_integer(const struct bn_gguf_kv *kv, int64_t *out)
{
    unsigned unused_bits = 64 - 8 * (unsigned)bn_gguf_kind_bytes(kv->kind);
    uint64_t raw = 0;

    switch (kv->kind) {
    case BN_GGUF_U8:
    case BN_GGUF_U16:
    case BN_GGUF_U32:
    case BN_GGUF_U64:
        memcpy(&raw, kv->value, bn_gguf_kind_bytes(kv->kind));
        *out = (int64_t)raw;
        return *out >= 0;
    case BN_GGUF_I8:
    case BN_GGUF_I16:
    case BN_GGUF_I32:
    case BN_GGUF_I64:
        memcpy(&raw, kv->value, bn_gguf_kind_bytes(kv->kind));
        *out = (int64_t)(raw << unused_bits) >> unused_bits; /* the sign bit down to its place */
        return true;
    default:
        return false;
    }
}

int bn_gguf_get_u32(const struct bn_gguf *gguf, const char *key, uint32_t *out, struct bn_err *err)
{
    const struct bn_gguf_kv *kv = bn_gguf_find(gguf, key);
    int64_t value;

    if (!kv)
        return 0;
    if (!read_integer(kv, &value))
        return wrong_value(gguf, kv, err, "an integer of 32 bits expected, found a value of kind %s",
                           bn_gguf_kind_name(kv->kind));
    if (value < 0 || value > UINT32_MAX)
        return wrong_value(gguf, kv, err, "an integer from 0 to %u expected, found %lld", UINT32_MAX,
                           (long long)value);
    *out = (uint32_t)value;
    return 1;
}

int bn_gguf_get_f32(const struct bn_gguf *gguf, const char *key, float *out, struct bn_err *err)
{
    const struct bn_gguf_kv *kv = bn_gguf_find(gguf, key);
    double value;

    if (!kv)
        return 0;
    if (kv->kind == BN_GGUF_F32) {
        memcpy(out, kv->value, sizeof *out);
        return 1;
    }
    if (kv->kind != BN_GGUF_F64)
        return wrong_value(gguf, kv, err, "a number of kind f32 expected, found a value of kind %s",
                           bn_gguf_kind_name(kv->kind));
    memcpy(&value, kv->value, sizeof value);
    if (isfinite(value) && (fabs(value) > (double)FLT_MAX || (double)(float)value != value))
        return wrong_value(gguf, kv, err, "a number that fits f32 expected, found %.17g", value);
    *out = (float)value;
    return 1;
}

int bn_gguf_get_bool(const struct bn_gguf *gguf, const char *key, bool *out, struct bn_err *err)
{
    const struct bn_gguf_kv *kv = bn_gguf_find(gguf, key);

    if (!kv)
        return 0;
    if (kv->kind != BN_GGUF_BOOL)
        return wrong_value(gguf, kv, err, "a bool expected, found a value of kind %s",
                           bn_gguf_kind_name(kv->kind));
    *out = kv->value[0] != 0;
    return 1;
}

int bn_gguf_get_str(const struct bn_gguf *gguf, const char *key, struct bn_str *out, struct bn_err *err)
{
    const struct bn_gguf_kv *kv = bn_gguf_find(gguf, key);

    if (!kv)
        return 0;
    if (kv->kind != BN_GGUF_STRING)
        return wrong_value(gguf, kv, err, "a string expected, found a value of kind %s",
                           bn_gguf_kind_name(kv->kind));
    const uint8_t *cursor = kv->value;
    *out = bn_gguf_next_str(&cursor);
    return 1;
}

struct bn_str bn_gguf_next_str(const uint8_t **cursor)
{
    uint64_t n;

    memcpy(&n, *cursor, sizeof n);
    struct bn_str str = {(const char *)*cursor + sizeof n, (size_t)n};
    *cursor += sizeof n + n;
    return str;
}

/* SPDX-License-Identifier: MIT
 * The types of GGUF tensors and metadata: their names and sizes. */
#include "core/gguf.h"

/* Values of one type are stored in blocks of `elements`, `bytes` long each. */
struct type_info {
    const char *name;
    uint16_t elements, bytes;
};

/* I2_S: 128 ternary codes in 32 bytes; the tensor's tail of 32 bytes (its scale) comes on top. */
static const struct type_info types[] = {
    [BN_TYPE_F32] = {"F32", 1, 4},
    [BN_TYPE_F16] = {"F16", 1, 2},
    [BN_TYPE_Q4_0] = {"Q4_0", 32, 18},
    [BN_TYPE_Q4_1] = {"Q4_1", 32, 20},
    [BN_TYPE_Q5_0] = {"Q5_0", 32, 22},
    [BN_TYPE_Q5_1] = {"Q5_1", 32, 24},
    [BN_TYPE_Q8_0] = {"Q8_0", 32, 34},
    [BN_TYPE_Q8_1] = {"Q8_1", 32, 36},
    [BN_TYPE_Q2_K] = {"Q2_K", 256, 84},
    [BN_TYPE_Q3_K] = {"Q3_K", 256, 110},
    [BN_TYPE_Q4_K] = {"Q4_K", 256, 144},
    [BN_TYPE_Q5_K] = {"Q5_K", 256, 176},
    [BN_TYPE_Q6_K] = {"Q6_K", 256, 210},
    [BN_TYPE_Q8_K] = {"Q8_K", 256, 292},
    [BN_TYPE_I8] = {"I8", 1, 1},
    [BN_TYPE_I16] = {"I16", 1, 2},
    [BN_TYPE_I32] = {"I32", 1, 4},
    [BN_TYPE_I64] = {"I64", 1, 8},
    [BN_TYPE_F64] = {"F64", 1, 8},
    [BN_TYPE_BF16] = {"BF16", 1, 2},
    [BN_TYPE_TQ1_0] = {"TQ1_0", 256, 54},
    [BN_TYPE_TQ2_0] = {"TQ2_0", 256, 66},
    [BN_TYPE_I2_S] = {"I2_S", 128, 32},
    [BN_TYPE_QK256] = {"QK256", 256, 64},
    [BN_TYPE_BITNET32] = {"BITNET32", 32, 10},
};

enum { I2S_TAIL_BYTES = 32 };

static const struct type_info *find(uint32_t type)
{
    return type < BN_COUNT(types) && types[type].name ? &types[type] : NULL;
}

const char *bn_type_name(uint32_t type)
{
    const struct type_info *info = find(type);
    return info ? info->name : NULL;
}

uint32_t bn_type_in_file(uint32_t type)
{
    return type == BN_TYPE_QK256 || type == BN_TYPE_BITNET32 ? BN_TYPE_I2_S : type;
}

bool bn_type_is_ternary(uint32_t type)
{
    return bn_type_in_file(type) == BN_TYPE_I2_S || type == BN_TYPE_TQ1_0 || type == BN_TYPE_TQ2_0;
}

uint64_t bn_type_row_bytes(uint32_t type, uint64_t k)
{
    const struct type_info *info = find(type);

    return k / info->elements * info->bytes;
}

int bn_type_bytes(uint32_t type, uint64_t ne0, uint64_t rows, uint64_t *bytes)
{
    const struct type_info *info = find(type);
    uint64_t n;

    if (!info || __builtin_mul_overflow(ne0, rows, &n))
        return -1;
    /* I2_S is laid out as one long row, so only the whole tensor has to be whole blocks. */
    if ((type == BN_TYPE_I2_S ? n : ne0) % info->elements != 0)
        return -1;
    if (__builtin_mul_overflow(n / info->elements, (uint64_t)info->bytes, bytes))
        return -1;
    if (type == BN_TYPE_I2_S && __builtin_add_overflow(*bytes, (uint64_t)I2S_TAIL_BYTES, bytes))
        return -1;
    return 0;
}

static const struct {
    const char *name;
    uint8_t bytes; /* 0 = not of fixed size */
} kinds[] = {
    [BN_GGUF_U8] = {"u8", 1},       [BN_GGUF_I8] = {"i8", 1},     [BN_GGUF_U16] = {"u16", 2},
    [BN_GGUF_I16] = {"i16", 2},     [BN_GGUF_U32] = {"u32", 4},   [BN_GGUF_I32] = {"i32", 4},
    [BN_GGUF_F32] = {"f32", 4},     [BN_GGUF_BOOL] = {"bool", 1}, [BN_GGUF_STRING] = {"string", 0},
    [BN_GGUF_ARRAY] = {"array", 0}, [BN_GGUF_U64] = {"u64", 8},   [BN_GGUF_I64] = {"i64", 8},
    [BN_GGUF_F64] = {"f64", 8},
};

const char *bn_gguf_kind_name(uint32_t kind)
{
    return kind < BN_COUNT(kinds) ? kinds[kind].name : NULL;
}

uint64_t bn_gguf_kind_bytes(uint32_t kind)
{
    return kind < BN_COUNT(kinds) ? kinds[kind].bytes : 0;
}

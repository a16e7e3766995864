/* SPDX-License-Identifier: MIT
 * core/gguf, core/gguf_get, core/gguf_write, core/type: good files read right, bad ones named, never a read
 * outside. */
#include "core/gguf_write.h"
#include "tests/unit/gguf_bytes.h"

#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/bnprof-test-gguf.XXXXXX";

static char *in_folder(const char *name)
{
    return bn_xasprintf("%s/%s", folder, name);
}

/* ---- good files ---- */

static void check_small(const struct bn_gguf *g, uint32_t version)
{
    assert_int_equal(g->version, version);
    assert_int_equal(g->alignment, 32);
    assert_int_equal(g->n_kv, 6);
    assert_int_equal(g->n_tensors, 2);
    const struct bn_gguf_kv *words = bn_gguf_find(g, "words");
    assert_int_equal(words->kind, BN_GGUF_ARRAY);
    assert_int_equal(words->element_kind, BN_GGUF_STRING);
    assert_int_equal(words->count, 3);
    const uint8_t *cursor = words->value;
    assert_true(bn_str_is(bn_gguf_next_str(&cursor), "one"));
    assert_true(bn_str_is(bn_gguf_next_str(&cursor), ""));
    assert_true(bn_str_is(bn_gguf_next_str(&cursor), "three"));
    const struct bn_gguf_kv *shorts = bn_gguf_find(g, "shorts");
    int16_t second;
    memcpy(&second, shorts->value + 2, sizeof second);
    assert_int_equal(shorts->count, 2);
    assert_int_equal(second, -2);
    const struct bn_tensor *w = bn_gguf_tensor(g, "w"), *f = bn_gguf_tensor(g, "f");
    assert_int_equal(w->type, BN_TYPE_I2_S);
    assert_int_equal(w->ne[0], 128);
    assert_int_equal(w->ne[1], 2);
    assert_int_equal(w->ne[2], 1);
    assert_int_equal(w->size_bytes, 128 * 2 / 4 + 32);
    assert_int_equal(f->data - w->data, 96);
    assert_int_equal(f->data[0], 96);
    assert_int_equal(g->data_offset % 32, 0);
    assert_int_equal(g->data_offset + 160, g->size_bytes);
    assert_null(bn_gguf_find(g, "wor"));
    assert_null(bn_gguf_find(g, "wordss"));
    assert_null(bn_gguf_tensor(g, "x"));
}

static void test_small(void **state)
{
    (void)state;
    for (uint32_t version = 2; version <= 3; version++) {
        struct bn_buf b = small_file(version);
        struct bn_gguf g;
        struct bn_err err;
        void *copy;
        assert_int_equal(open_copy(&g, b.p, b.n, &copy, &err), 0);
        check_small(&g, version);
        bn_gguf_close(&g);
        free(copy);
        bn_buf_free(&b);
    }
}

/* Two tensors of type 36, the second at `offset`, `n_data` bytes in all: what they are taken for. */
static void check_flavours(uint64_t alignment, uint64_t offset, size_t n_data, uint32_t first,
                           uint32_t second)
{
    struct bn_buf b = {0};
    struct bn_gguf g;
    struct bn_err err = {""};
    void *copy;
    uint64_t first_bytes, second_bytes;

    put_header(&b, 3, 2, 1);
    put_u32_key(&b, "general.alignment", (uint32_t)alignment);
    put_tensor(&b, "b", BN_TYPE_I2_S, 256, 5, offset);
    put_tensor(&b, "a", BN_TYPE_I2_S, 256, 7, 0);
    while (b.n % alignment != 0)
        bn_buf_putc(&b, 0);
    for (size_t i = 0; i < n_data; i++)
        bn_buf_putc(&b, (char)i);
    if (open_copy(&g, b.p, b.n, &copy, &err) != 0)
        fail_msg("%s", err.msg);
    assert_int_equal(bn_type_bytes(first, 256, 7, &first_bytes), 0);
    assert_int_equal(bn_type_bytes(second, 256, 5, &second_bytes), 0);
    assert_int_equal(bn_gguf_tensor(&g, "a")->type, first);
    assert_int_equal(bn_gguf_tensor(&g, "a")->size_bytes, first_bytes);
    assert_int_equal(bn_gguf_tensor(&g, "b")->type, second);
    assert_int_equal(bn_gguf_tensor(&g, "b")->size_bytes, second_bytes);
    bn_gguf_close(&g);
    free(copy);
    bn_buf_free(&b);
}

/* 7 x 256 weights are 448 bytes of codes, 480 with a tail, 560 with scales; 5 x 256 are 320, 352 and 400. */
static void test_flavours(void **state)
{
    (void)state;
    check_flavours(32, 480, 480 + 352, BN_TYPE_I2_S, BN_TYPE_I2_S);
    check_flavours(32, 480, 480 + 320, BN_TYPE_I2_S, BN_TYPE_QK256);
    check_flavours(32, 448, 448 + 352, BN_TYPE_QK256, BN_TYPE_I2_S);
    check_flavours(32, 448, 448 + 320 + 9, BN_TYPE_QK256, BN_TYPE_QK256); /* what is left over is no tail */
    check_flavours(32, 576, 576 + 400, BN_TYPE_BITNET32, BN_TYPE_BITNET32);
    check_flavours(32, 576, 576 + 416, BN_TYPE_BITNET32, BN_TYPE_BITNET32);
    check_flavours(8, 560, 560 + 400, BN_TYPE_BITNET32, BN_TYPE_BITNET32);
    check_flavours(64, 512, 512 + 384, BN_TYPE_I2_S, BN_TYPE_I2_S);
    check_flavours(64, 448, 448 + 320, BN_TYPE_QK256, BN_TYPE_QK256);
    check_flavours(64, 576, 576 + 448, BN_TYPE_BITNET32, BN_TYPE_BITNET32);
}

static void test_typed_reads(void **state)
{
    struct bn_buf b = small_file(3);
    struct bn_gguf g;
    struct bn_err err;
    void *copy;
    uint32_t u = 1;
    float f = 1;
    bool yes = false;
    struct bn_str s = {0};

    (void)state;
    assert_int_equal(open_copy(&g, b.p, b.n, &copy, &err), 0);
    assert_int_equal(bn_gguf_get_u32(&g, "a.number", &u, &err), 1);
    assert_int_equal(u, 7);
    assert_int_equal(bn_gguf_get_u32(&g, "absent", &u, &err), 0);
    assert_int_equal(u, 7);
    assert_int_equal(bn_gguf_get_bool(&g, "yes", &yes, &err), 1);
    assert_true(yes);
    assert_int_equal(bn_gguf_get_str(&g, "general.name", &s, &err), 1);
    assert_true(bn_str_is(s, "small"));
    assert_int_equal(bn_gguf_get_u32(&g, "long", &u, &err), -1);
    assert_true(matches(err.msg, "^t.gguf: key long: an integer from 0 to 4294967295 expected, found -5$"));
    assert_int_equal(bn_gguf_get_u32(&g, "general.name", &u, &err), -1);
    assert_true(
        matches(err.msg, "key general.name: an integer of 32 bits expected, found a value of kind string"));
    assert_int_equal(bn_gguf_get_f32(&g, "a.number", &f, &err), -1);
    assert_true(matches(err.msg, "kind f32 expected, found a value of kind u32"));
    assert_int_equal(bn_gguf_get_bool(&g, "a.number", &yes, &err), -1);
    assert_true(matches(err.msg, "a bool expected"));
    assert_int_equal(bn_gguf_get_str(&g, "words", &s, &err), -1);
    assert_true(matches(err.msg, "a string expected, found a value of kind array"));
    bn_gguf_close(&g);
    free(copy);
    bn_buf_free(&b);
}

/* One key of `kind` holding the low bytes of `bits`. */
static int read_number(enum bn_gguf_kind kind, uint64_t bits, uint32_t *u, float *f)
{
    struct bn_buf b = {0};
    struct bn_gguf g;
    struct bn_err err;
    void *copy;

    put_header(&b, 3, 0, 1);
    put_name(&b, "k");
    put32(&b, kind);
    bn_buf_put(&b, &bits, (size_t)bn_gguf_kind_bytes(kind));
    assert_int_equal(open_copy(&g, b.p, b.n, &copy, &err), 0);
    int status = u ? bn_gguf_get_u32(&g, "k", u, &err) : bn_gguf_get_f32(&g, "k", f, &err);
    bn_gguf_close(&g);
    free(copy);
    bn_buf_free(&b);
    return status;
}

static uint64_t double_bits(double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

static void test_conversions(void **state)
{
    uint32_t u = 0;
    float f = 0;

    (void)state;
    for (int kind = 0; kind < 13; kind++) {
        if (bn_gguf_kind_bytes((uint32_t)kind) == 0 || kind == BN_GGUF_F32 || kind == BN_GGUF_F64 ||
            kind == BN_GGUF_BOOL)
            continue;
        assert_int_equal(read_number((enum bn_gguf_kind)kind, 100, &u, NULL), 1);
        assert_int_equal(u, 100);
        bool is_signed =
            kind == BN_GGUF_I8 || kind == BN_GGUF_I16 || kind == BN_GGUF_I32 || kind == BN_GGUF_I64;
        if (is_signed || kind == BN_GGUF_U64)
            assert_int_equal(read_number((enum bn_gguf_kind)kind, UINT64_MAX, &u, NULL), -1);
    }
    assert_int_equal(read_number(BN_GGUF_U32, UINT32_MAX, &u, NULL), 1);
    assert_int_equal(u, UINT32_MAX);
    assert_int_equal(read_number(BN_GGUF_U64, 1ull << 32, &u, NULL), -1);
    assert_int_equal(read_number(BN_GGUF_F64, double_bits(0.5), NULL, &f), 1);
    assert_true(f == 0.5f);
    assert_int_equal(read_number(BN_GGUF_F64, double_bits(1e-5), NULL, &f), -1);
    assert_int_equal(read_number(BN_GGUF_F64, double_bits(1e300), NULL, &f), -1);
}

static void test_types(void **state)
{
    uint64_t n;

    (void)state;
    assert_string_equal(bn_type_name(BN_TYPE_I2_S), "I2_S");
    assert_string_equal(bn_type_name(BN_TYPE_F32), "F32");
    assert_null(bn_type_name(4));
    assert_null(bn_type_name(37));
    assert_null(bn_type_name(UINT32_MAX));
    assert_int_equal(bn_type_bytes(BN_TYPE_I2_S, 2560, 2560, &n), 0);
    assert_int_equal(n, 1638432);
    assert_int_equal(bn_type_bytes(BN_TYPE_I2_S, 8640, 3200, &n), 0); /* 67.5 blocks a row, whole in all */
    assert_int_equal(bn_type_bytes(BN_TYPE_I2_S, 100, 1, &n), -1);
    assert_int_equal(bn_type_bytes(BN_TYPE_F16, 2560, 128256, &n), 0);
    assert_int_equal(n, 656670720);
    assert_int_equal(bn_type_bytes(BN_TYPE_Q6_K, 2560, 128256, &n), 0);
    assert_int_equal(n, 269337600);
    assert_int_equal(bn_type_bytes(BN_TYPE_Q8_0, 48, 2, &n), -1);
    assert_int_equal(bn_type_bytes(BN_TYPE_F32, 1ull << 62, 1, &n), -1);
    assert_int_equal(bn_type_bytes(BN_TYPE_F32, 1ull << 33, 1ull << 33, &n), -1);
    assert_int_equal(bn_type_bytes(5, 1, 1, &n), -1);
    assert_null(bn_gguf_kind_name(13));
}

static void test_bad_paths(void **state)
{
    struct bn_gguf g;
    struct bn_err err;
    char *path = in_folder("empty.gguf");

    (void)state;
    assert_int_equal(bn_gguf_open(&g, folder, &err), -1);
    assert_true(matches(err.msg, "^/tmp/[^:]*: is a directory"));
    assert_int_equal(bn_gguf_open(&g, "/nowhere/m.gguf", &err), -1);
    assert_true(matches(err.msg, "^/nowhere/m.gguf: No such file"));
    fclose(fopen(path, "w"));
    assert_int_equal(bn_gguf_open(&g, path, &err), -1);
    assert_true(matches(err.msg, "empty.gguf: the file is empty"));
    free(path);
}

/* ---- writer ---- */

static void write_all_kinds(const char *path)
{
    static const float floats[] = {1.5f, -2};
    static const int32_t ints[] = {3, -4, 5};
    struct bn_str words[] = {BN_STR("x"), BN_STR(""), {"a\0b", 3}};
    struct bn_err err;
    struct bn_gguf_writer *w = bn_gguf_writer_open(path, &err);

    assert_non_null(w);
    bn_gguf_write_u32(w, "u", 4000000000u);
    bn_gguf_write_f32(w, "f", 1e-5f);
    bn_gguf_write_bool(w, "b", true);
    bn_gguf_write_str(w, "s", BN_STR("text"));
    bn_gguf_write_strs(w, "ss", words, BN_COUNT(words));
    bn_gguf_write_i32s(w, "is", ints, BN_COUNT(ints));
    bn_gguf_write_f32s(w, "fs", floats, BN_COUNT(floats));
    bn_gguf_write_strs(w, "none", NULL, 0);
    bn_gguf_write_tensor(w, "vector", BN_TYPE_F32, 3, 1);
    bn_gguf_write_tensor(w, "matrix", BN_TYPE_I2_S, 128, 3);
    bn_gguf_write_begin_data(w);
    bn_gguf_write_data(w, "abcdefgh", 8); /* in two pieces */
    bn_gguf_write_data(w, "ijkl", 4);
    uint8_t block[128];
    memset(block, 0xaa, sizeof block);
    bn_gguf_write_data(w, block, sizeof block);
    assert_int_equal(bn_gguf_writer_close(w, &err), 0);
}

static void test_round_trip(void **state)
{
    char *path = in_folder("round.gguf");
    struct bn_gguf g;
    struct bn_err err;
    uint32_t u;
    float f;
    struct bn_str s;

    (void)state;
    write_all_kinds(path);
    assert_int_equal(bn_gguf_open(&g, path, &err), 0);
    assert_int_equal(g.version, 3);
    assert_int_equal(g.n_kv, 8);
    assert_true(bn_str_is(g.kv[0].key, "u") && bn_str_is(g.kv[7].key, "none")); /* the order is kept */
    assert_int_equal(bn_gguf_get_u32(&g, "u", &u, &err), 1);
    assert_int_equal(u, 4000000000u);
    assert_int_equal(bn_gguf_get_f32(&g, "f", &f, &err), 1);
    assert_true(f == 1e-5f);
    assert_int_equal(bn_gguf_get_str(&g, "s", &s, &err), 1);
    assert_true(bn_str_is(s, "text"));
    const uint8_t *cursor = bn_gguf_find(&g, "ss")->value;
    bn_gguf_next_str(&cursor);
    bn_gguf_next_str(&cursor);
    s = bn_gguf_next_str(&cursor);
    assert_int_equal(s.n, 3);
    assert_memory_equal(s.p, "a\0b", 3);
    assert_int_equal(bn_gguf_find(&g, "is")->count, 3);
    assert_memory_equal(bn_gguf_find(&g, "fs")->value + 4, "\0\0\0\xc0", 4);
    assert_int_equal(bn_gguf_find(&g, "none")->count, 0);
    const struct bn_tensor *vector = bn_gguf_tensor(&g, "vector"), *matrix = bn_gguf_tensor(&g, "matrix");
    assert_int_equal(vector->n_dims, 1);
    assert_memory_equal(vector->data, "abcdefghijkl", 12);
    assert_int_equal(matrix->n_dims, 2);
    assert_int_equal((uintptr_t)matrix->data % 32, 0);
    assert_int_equal(matrix->data[127], 0xaa);
    assert_int_equal(g.size_bytes, g.data_offset + 32 + 128);
    bn_gguf_close(&g);
    unlink(path);
    free(path);
}

static void test_writer_fails(void **state)
{
    struct bn_err err;
    struct stat st;
    char *path = in_folder("given-up.gguf");

    (void)state;
    assert_null(bn_gguf_writer_open("/nowhere/x.gguf", &err));
    assert_true(matches(err.msg, "/nowhere/x.gguf"));
    assert_int_equal(bn_gguf_writer_close(NULL, &err), -1);

    struct bn_gguf_writer *w = bn_gguf_writer_open(path, &err);
    bn_gguf_write_tensor(w, "odd", BN_TYPE_I2_S, 100, 1);
    bn_gguf_write_begin_data(w);
    bn_gguf_writer_fail(w, "a later cause");
    assert_int_equal(bn_gguf_writer_close(w, &err), -1);
    assert_true(
        matches(err.msg, "given-up.gguf: tensor odd: 100 x 1 elements are no possible size for type I2_S$"));
    assert_int_equal(stat(path, &st), -1);
    assert_int_equal(rmdir(folder) == 0 ? mkdir(folder, 0700) : -1, 0); /* and no temporary file either */
    free(path);
}

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
    char *path = in_folder("empty.gguf");

    (void)state;
    unlink(path);
    free(path);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_writer_fails), cmocka_unit_test(test_small),
        cmocka_unit_test(test_typed_reads),  cmocka_unit_test(test_conversions),
        cmocka_unit_test(test_types),        cmocka_unit_test(test_bad_paths),
        cmocka_unit_test(test_round_trip),   cmocka_unit_test(test_flavours),
    };
    return cmocka_run_group_tests_name("gguf", tests, set_up, tear_down);
}

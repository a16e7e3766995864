/* SPDX-License-Identifier: MIT
 * core/gguf on damaged files: each is refused with a line that names the place, and nothing is read outside.
 */
#include "tests/unit/gguf_bytes.h"

/* The bytes are refused with a message that begins with the label and matches. Frees b. */
static void refused(struct bn_buf *b, const char *pattern)
{
    struct bn_gguf g;
    struct bn_err err = {""};
    void *copy;

    assert_int_equal(open_copy(&g, b->p, b->n, &copy, &err), -1);
    assert_true(strncmp(err.msg, "t.gguf: ", 8) == 0);
    assert_true(matches(err.msg, pattern));
    free(copy);
    bn_buf_free(b);
}

static void test_truncated(void **state)
{
    struct bn_buf b = small_file(3);

    (void)state;
    for (size_t n = 0; n < b.n; n++) {
        struct bn_gguf g;
        struct bn_err err = {""};
        void *copy;
        assert_int_equal(open_copy(&g, b.p, n, &copy, &err), -1);
        assert_true(matches(err.msg, "^t.gguf: [^\n]*(byte|empty)"));
        free(copy);
    }
    bn_buf_free(&b);
}

/* Whatever open accepts can be walked without reading outside (ASan watches). */
static void walk(const struct bn_gguf *g)
{
    unsigned sum = 0;

    for (uint64_t i = 0; i < g->n_kv; i++) {
        const uint8_t *cursor = g->kv[i].value;
        bool strings = g->kv[i].kind == BN_GGUF_STRING ||
                       (g->kv[i].kind == BN_GGUF_ARRAY && g->kv[i].element_kind == BN_GGUF_STRING);
        for (uint64_t j = 0; strings && j < g->kv[i].count; j++) {
            struct bn_str s = bn_gguf_next_str(&cursor);
            for (size_t k = 0; k < s.n; k++)
                sum += (unsigned char)s.p[k];
        }
    }
    for (uint64_t i = 0; i < g->n_tensors; i++)
        for (uint64_t k = 0; k < g->tensors[i].size_bytes; k++)
            sum += g->tensors[i].data[k];
    __asm__ volatile("" : : "r"(sum)); /* keeps the reads */
}

static void test_corrupt_bytes(void **state)
{
    struct bn_buf b = small_file(3);
    uint64_t random = 1;
    int accepted = 0, refusals = 0;

    (void)state;
    for (int round = 0; round < 20000; round++) {
        struct bn_gguf g;
        struct bn_err err;
        void *copy = malloc(b.n);
        assert_non_null(copy);
        memcpy(copy, b.p, b.n);
        for (int i = 0; i <= round % 3; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            ((uint8_t *)copy)[(random >> 33) % b.n] = (uint8_t)(random >> 25);
        }
        if (bn_gguf_open_memory(&g, copy, b.n, "t.gguf", &err) == 0) {
            walk(&g);
            bn_gguf_close(&g);
            accepted++;
        } else {
            refusals++;
        }
        free(copy);
    }
    assert_true(accepted > 100 && refusals > 100);
    bn_buf_free(&b);
}

static void test_bad_header(void **state)
{
    struct bn_buf b = {0};

    (void)state;
    refused(&b, "the file is empty, a GGUF file was expected");
    bn_buf_puts(&b, "PK\x03\x04 and more");
    refused(&b, "GGUF magic expected at byte 0, found \"PK\\.\\.\" \\(50 4b 03 04\\)");
    put_header(&b, 1, 0, 0);
    refused(&b, "byte 4: GGUF version 2 or 3 expected, found the obsolete 1");
    put_header(&b, 0x03000000, 0, 0);
    refused(&b, "byte 4: a little-endian GGUF file expected, found a big-endian one \\(version 3\\)");
    put_header(&b, 4, 0, 0);
    refused(&b, "byte 4: GGUF version 2 or 3 expected, found 4");
    put_header(&b, 0, 0, 0);
    refused(&b, "byte 4: .* found 0");
    put_header(&b, 3, UINT64_MAX, 0);
    refused(&b, "byte 8: 18446744073709551615 tensors cannot fit into a file of 24 bytes");
    put_header(&b, 3, 0, 1ull << 60);
    refused(&b, "byte 16: 1152921504606846976 keys cannot fit");
    bn_buf_puts(&b, "GGUF\x03");
    refused(&b, "byte 5: the file ends here, but a GGUF header takes 24 bytes");
}

static void test_bad_keys(void **state)
{
    struct bn_buf b = {0};

    (void)state;
    put_header(&b, 3, 0, 1);
    put64(&b, UINT64_MAX);
    put64(&b, 0);
    refused(
        &b,
        "byte 32: key 1 of 1: the name takes 18446744073709551615 bytes here, but the file ends at byte 40");
    put_header(&b, 3, 0, 1);
    put_name(&b, "");
    put64(&b, 0);
    refused(&b, "byte 24: key 1 of 1: a name expected, found an empty string");
    put_header(&b, 3, 0, 1);
    put_name(&b, "odd");
    put32(&b, 13);
    refused(&b, "byte 35: key odd: a value type from 0 to 12 expected, found 13");
    put_header(&b, 3, 0, 1);
    put_name(&b, "a");
    put32(&b, BN_GGUF_ARRAY);
    put32(&b, BN_GGUF_ARRAY);
    put64(&b, 1);
    refused(&b, "key a: an array of plain elements expected, found an array of arrays");
    put_header(&b, 3, 0, 1);
    put_name(&b, "a");
    put32(&b, BN_GGUF_ARRAY);
    put32(&b, 99);
    put64(&b, 1);
    refused(&b, "key a: an element type from 0 to 12 expected, found 99");
    put_header(&b, 3, 0, 1);
    put_name(&b, "a");
    put32(&b, BN_GGUF_ARRAY);
    put32(&b, BN_GGUF_F64);
    put64(&b, 1ull << 62); /* times 8 wraps to 0 */
    refused(&b, "key a: an array of 4611686018427387904 elements cannot fit");
    put_header(&b, 3, 0, 1);
    put_name(&b, "a");
    put32(&b, BN_GGUF_ARRAY);
    put32(&b, BN_GGUF_STRING);
    put64(&b, UINT64_MAX);
    refused(&b, "key a: a string of an array takes 8 bytes here, but the file ends");
    put_header(&b, 3, 0, 1);
    put_name(&b, "b");
    put32(&b, BN_GGUF_BOOL);
    bn_buf_putc(&b, 2);
    refused(&b, "key b: a bool of 0 or 1 expected, found 2");
    put_header(&b, 3, 0, 3);
    put_u32_key(&b, "twice", 1);
    put_u32_key(&b, "once", 1);
    put_u32_key(&b, "twice", 2);
    refused(&b, "key twice: the name occurs twice");
    put_header(&b, 3, 0, 1);
    put_name(&b, "evil\n\x1b[2J");
    put32(&b, 77);
    refused(&b, "key evil\\?\\?\\[2J: a value type");
}

static void test_bad_alignment(void **state)
{
    static const uint32_t bad[] = {0, 1, 4, 24, 33, 1u << 21, UINT32_MAX};
    struct bn_buf b = {0};

    (void)state;
    for (size_t i = 0; i < BN_COUNT(bad); i++) {
        put_header(&b, 3, 0, 1);
        put_u32_key(&b, "general.alignment", bad[i]);
        refused(&b, "key general.alignment: a power of two from 8 to 1048576 expected, found [0-9]+$");
    }
    put_header(&b, 3, 0, 1);
    put_name(&b, "general.alignment");
    put32(&b, BN_GGUF_STRING);
    put_name(&b, "32");
    refused(&b, "key general.alignment: an integer of 32 bits expected, found a value of kind string");
}

/* A file of one tensor "w" with the given fields and n_data bytes. */
static struct bn_buf one_tensor(uint32_t type, uint64_t ne0, uint64_t ne1, uint64_t offset, size_t n_data)
{
    struct bn_buf b = {0};

    put_header(&b, 3, 1, 0);
    put_tensor(&b, "w", type, ne0, ne1, offset);
    put_data(&b, n_data);
    return b;
}

static void test_bad_tensors(void **state)
{
    struct bn_buf b;

    (void)state;
    b = one_tensor(36, 128, 1, 0, 63);
    refused(&b,
            "tensor w: 63 bytes up to what follows, but 128 x 1 weights of type 36 take 64 \\(I2_S\\), 40 "
            "\\(BITNET32\\)$");
    b = one_tensor(36, 256, 2, 0, 127);
    refused(&b, "tensor w: 128 bytes of data at offset 0 of the data section expected, but it has only 127 "
                "bytes");
    b = one_tensor(36, 256, 2, 0, 192);
    refused(&b, "tensor w: 192 bytes up to what follows, but 256 x 2 weights of type 36 take 160 "
                "\\(I2_S\\), 128 \\(QK256\\), 160 \\(BITNET32\\)$");
    b = one_tensor(36, 256, 2, 160, 128);
    refused(&b, "tensor w: 128 bytes of data at offset 160");
    b = one_tensor(36, 100, 1, 0, 64);
    refused(&b, "tensor w: 100 x 1 elements are no possible size for type I2_S");
    b = one_tensor(60, 256, 1, 0, 64); /* a number of our own, not of files */
    refused(&b, "tensor w: unknown tensor type 60");
    b = one_tensor(61, 256, 1, 0, 80);
    refused(&b, "tensor w: unknown tensor type 61");
    b = one_tensor(0, 8, 1, 64, 64);
    refused(&b, "tensor w: 32 bytes of data at offset 64");
    b = one_tensor(0, 8, 1, (uint64_t)-64, 64);
    refused(&b, "tensor w: 32 bytes of data at offset 18446744073709551552");
    b = one_tensor(0, 8, 1, 16, 64);
    refused(&b, "byte 57: tensor w: an offset that is a multiple of the alignment, 32, expected, found 16");
    b = one_tensor(37, 128, 1, 0, 64);
    refused(&b, "tensor w: unknown tensor type 37");
    b = one_tensor(8, 31, 1, 0, 64);
    refused(&b, "tensor w: 31 x 1 elements are no possible size for type Q8_0");
    b = one_tensor(0, 0, 1, 0, 64);
    refused(&b, "tensor w: dimension 0 is 0, at least 1 was expected");
    b = one_tensor(0, 1ull << 62, 1, 0, 64);
    refused(&b, "tensor w: 4611686018427387904 x 1 elements are no possible size");
    b = one_tensor(0, 1ull << 32, 1ull << 32, 0, 64);
    refused(&b, "tensor w: 4294967296 x 4294967296 elements are no possible size");
}

static void test_bad_dimensions(void **state)
{
    struct bn_buf b = {0};

    (void)state;
    for (uint32_t n_dims = 0; n_dims <= 5; n_dims += 5) {
        put_header(&b, 3, 1, 0);
        put_name(&b, "w");
        put32(&b, n_dims);
        put_data(&b, 64);
        refused(&b, "byte 33: tensor w: 1 to 4 dimensions expected, found [05]");
    }
    put_header(&b, 3, 1, 0);
    put_name(&b, "w");
    put32(&b, 3);
    put64(&b, 1);
    put64(&b, 1ull << 40);
    put64(&b, 1ull << 40);
    put_data(&b, 64);
    refused(&b, "tensor w: the product of the dimensions goes beyond 64 bits");
}

static void test_bad_pairs(void **state)
{
    struct bn_buf b = {0};

    (void)state;
    put_header(&b, 3, 2, 0);
    put_tensor(&b, "w", BN_TYPE_F32, 8, 1, 0);
    put_tensor(&b, "w", BN_TYPE_F32, 8, 1, 32);
    put_data(&b, 64);
    refused(&b, "tensor w: the name occurs twice");
    put_header(&b, 3, 2, 0);
    put_tensor(&b, "second", BN_TYPE_F32, 8, 1, 32);
    put_tensor(&b, "first", BN_TYPE_F32, 9, 1, 0);
    put_data(&b, 64);
    refused(&b, "tensor first: its 36 bytes \\(F32\\) run into the next tensor, second, at byte 160");
    put_header(&b, 3, 2, 0);
    put_tensor(&b, "second", BN_TYPE_I2_S, 256, 3, 128);
    put_tensor(&b, "first", BN_TYPE_I2_S, 256, 3, 0);
    put_data(&b, 128 + 224);
    refused(&b, "tensor first: 128 bytes up to what follows, but 256 x 3 weights of type 36 take 224 "
                "\\(I2_S\\), 192 \\(QK256\\), 240 \\(BITNET32\\)$");
    put_header(&b, 3, 2, 0);
    put_tensor(&b, "second", BN_TYPE_I2_S, 256, 3, 0);
    put_tensor(&b, "first", BN_TYPE_I2_S, 256, 3, 0);
    put_data(&b, 224);
    refused(&b, "tensor (first|second): 0 bytes up to what follows");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_truncated),      cmocka_unit_test(test_corrupt_bytes),
        cmocka_unit_test(test_bad_header),     cmocka_unit_test(test_bad_keys),
        cmocka_unit_test(test_bad_alignment),  cmocka_unit_test(test_bad_tensors),
        cmocka_unit_test(test_bad_dimensions), cmocka_unit_test(test_bad_pairs),
    };
    return cmocka_run_group_tests_name("gguf_bad", tests, NULL, NULL);
}

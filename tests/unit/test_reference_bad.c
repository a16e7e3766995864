/* SPDX-License-Identifier: MIT
 * core/reference on models that it must refuse: each key and tensor that is missing or wrong is named. */
#include "core/gguf_write.h"
#include "core/reference.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { WIDTH = 8, FF = 12, VOCAB = 5, NONE = 0xffffffff };

/* A model of one block, and what is wrong with it. */
struct model {
    const char *arch;
    uint32_t n_layer, n_head, n_head_kv, n_rot; /* NONE = leave the key out */
    float eps;
    const char *scaling; /* rope.scaling.type */
    const char *odd;     /* this tensor … */
    uint32_t type;       /* … has this type, NONE = is left out … */
    uint64_t ne0, ne1;   /* … and this size */
};

static const struct model good = {
    .arch = "llama", .n_layer = 1, .n_head = 2, .n_head_kv = 1, .n_rot = 4, .eps = 1e-5f};
static char path[] = "/tmp/bnprof-test-reference.XXXXXX";

static void put_u32(struct bn_gguf_writer *w, const char *arch, const char *name, uint32_t value)
{
    char key[96];

    snprintf(key, sizeof key, "%s.%s", arch, name);
    if (value != NONE)
        bn_gguf_write_u32(w, key, value);
}

static const struct {
    const char *name;
    uint64_t ne0, ne1;
} tensors[] = {
    {"token_embd.weight", WIDTH, VOCAB},   {"output_norm.weight", WIDTH, 1},
    {"blk.0.attn_norm.weight", WIDTH, 1},  {"blk.0.ffn_norm.weight", WIDTH, 1},
    {"blk.0.attn_q.weight", WIDTH, WIDTH}, {"blk.0.attn_k.weight", WIDTH, 4},
    {"blk.0.attn_v.weight", WIDTH, 4},     {"blk.0.attn_output.weight", WIDTH, WIDTH},
    {"blk.0.ffn_gate.weight", WIDTH, FF},  {"blk.0.ffn_up.weight", WIDTH, FF},
    {"blk.0.ffn_down.weight", FF, WIDTH},
};

static void write_model(const struct model *m)
{
    static const uint8_t zeros[65536];
    struct bn_err err;
    uint64_t sizes[BN_COUNT(tensors)] = {0};
    struct bn_gguf_writer *w = bn_gguf_writer_open(path, &err);

    assert_non_null(w);
    if (m->arch)
        bn_gguf_write_str(w, "general.architecture", bn_str_from(m->arch));
    put_u32(w, "llama", "block_count", m->n_layer);
    put_u32(w, "llama", "embedding_length", WIDTH);
    put_u32(w, "llama", "feed_forward_length", FF);
    put_u32(w, "llama", "attention.head_count", m->n_head);
    put_u32(w, "llama", "attention.head_count_kv", m->n_head_kv);
    put_u32(w, "llama", "rope.dimension_count", m->n_rot);
    bn_gguf_write_f32(w, "llama.attention.layer_norm_rms_epsilon", m->eps);
    if (m->scaling)
        bn_gguf_write_str(w, "llama.rope.scaling.type", bn_str_from(m->scaling));
    for (size_t i = 0; i < BN_COUNT(tensors); i++) {
        bool odd = m->odd && strcmp(m->odd, tensors[i].name) == 0;
        uint32_t type = odd ? m->type : BN_TYPE_F32;
        uint64_t ne0 = odd ? m->ne0 : tensors[i].ne0, ne1 = odd ? m->ne1 : tensors[i].ne1;
        if (type == NONE)
            continue;
        assert_int_equal(bn_type_bytes(type, ne0, ne1, &sizes[i]), 0);
        bn_gguf_write_tensor(w, tensors[i].name, type, ne0, ne1);
    }
    bn_gguf_write_begin_data(w);
    for (size_t i = 0; i < BN_COUNT(tensors); i++) {
        assert_true(sizes[i] <= sizeof zeros);
        bn_gguf_write_data(w, zeros, (size_t)sizes[i]);
    }
    assert_int_equal(bn_gguf_writer_close(w, &err), 0);
}

/* The model is accepted (text NULL), or refused with a message that begins with the path and contains the
 * text. */
static void expect(const struct model *m, const char *text)
{
    struct bn_err err = {""};
    struct bn_gguf g;
    struct bn_reference *ref = NULL;
    double logits[VOCAB];

    write_model(m);
    assert_int_equal(bn_gguf_open(&g, path, &err), 0);
    int status = bn_reference_open(&ref, &g, 4, &err);
    for (uint32_t i = 0; status == 0 && i < 4; i++)
        bn_reference_step(ref, i, logits);
    bn_reference_free(ref);
    bn_gguf_close(&g);
    if (!text && status == 0)
        return;
    if (!text || status == 0 || strncmp(err.msg, path, strlen(path)) != 0 || !strstr(err.msg, text))
        fail_msg("\"%s\" where \"%s\" was expected", err.msg, text ? text : "success");
}

static void test_good(void **state)
{
    struct model m = good;

    (void)state;
    expect(&m, NULL);
    m.n_head_kv = 2; /* then k and v are too small */
    expect(&m, "tensor blk.0.attn_k.weight: 8 x 8 elements expected, found 8 x 4");
}

static void test_bad_keys(void **state)
{
    struct model m = good;

    (void)state;
    m.arch = NULL;
    expect(&m, "key general.architecture: bitnet-b1.58, bitnet-25, bitnet or llama expected");
    m.arch = "falcon";
    expect(&m, "key general.architecture: bitnet-b1.58");
    m.arch = "bitnet"; /* its keys would be bitnet.… */
    expect(&m, "key bitnet.block_count: expected, but the file does not have it");
    m = good, m.n_layer = NONE;
    expect(&m, "key llama.block_count: expected, but the file does not have it");
    m = good, m.n_layer = 0;
    expect(&m, "key llama.block_count: a positive number expected, found 0");
    m = good, m.n_layer = 0xfffffffe;
    expect(&m, "key llama.block_count: more blocks than the file has tensors");
    m = good, m.n_layer = 2;
    expect(&m, "tensor blk.1.attn_q.weight: expected, but the file does not have it");
    m = good, m.n_head = 9; /* more heads than values */
    expect(&m, "key llama.attention.");
    m = good, m.n_head_kv = 3;
    expect(&m, "key llama.attention.head_count_kv: a divisor of attention.head_count expected");
    m = good, m.n_rot = 3;
    expect(&m, "key llama.rope.dimension_count: an even number up to the head's width expected");
    m = good, m.n_rot = 6;
    expect(&m, "key llama.rope.dimension_count");
    m = good, m.eps = -1;
    expect(&m, "key llama.attention.layer_norm_rms_epsilon: a positive number expected");
    m = good, m.eps = (float)INFINITY;
    expect(&m, "key llama.attention.layer_norm_rms_epsilon");
    m = good, m.scaling = "yarn";
    expect(&m, "key llama.rope.scaling.type: none or linear expected");
}

static void test_bad_tensors(void **state)
{
    struct model m = good;

    (void)state;
    for (size_t i = 0; i < BN_COUNT(tensors); i++) { /* each is needed */
        char text[96];
        m.odd = tensors[i].name;
        m.type = NONE;
        snprintf(text, sizeof text, "tensor %s: expected, but the file does not have it", m.odd);
        expect(&m, text);
    }
    m.odd = "blk.0.ffn_down.weight";
    m.type = BN_TYPE_F16, m.ne0 = FF, m.ne1 = WIDTH;
    expect(&m, NULL);
    m.ne1 = WIDTH + 1;
    expect(&m, "tensor blk.0.ffn_down.weight: 12 x 8 elements expected, found 12 x 9");
    m.type = BN_TYPE_Q5_0, m.ne0 = 32;
    expect(&m, "I2_S with rows of whole blocks of 128, TQ1_0, TQ2_0, Q8_0, Q6_K, Q4_K, Q4_0, F32, F16 or "
               "BF16 expected, "
               "found Q5_0");
    m.type = BN_TYPE_I2_S, m.ne0 = 64, m.ne1 = 2;
    expect(&m, "I2_S with rows of whole blocks of 128");
    m.odd = "token_embd.weight";
    m.ne0 = 128;
    expect(&m, "tensor token_embd.weight: Q8_0, Q6_K, Q4_K, Q4_0, F32, F16 or BF16 expected, found I2_S");
}

static int set_up(void **state)
{
    int fd = mkstemp(path);

    (void)state;
    return fd < 0 ? -1 : close(fd);
}

static int tear_down(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad_keys),
        cmocka_unit_test(test_bad_tensors),
    };
    return cmocka_run_group_tests_name("reference_bad", tests, set_up, tear_down);
}

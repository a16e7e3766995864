/* SPDX-License-Identifier: MIT
 * core/prepare: the layout changes where weights lie, never what comes out, and no weight is held twice;
 * files that shrink meanwhile. */
#include "tests/unit/engine.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/builtin.h"
#include "core/lm_head.h"
#include "core/prepare.h"
#include "core/synth.h"
#include "kernels/pack.h"

static void open_pool(struct bn_pool **pool, struct bn_kernels *kernels)
{
    struct bn_err err;

    bn_kernels_init(kernels, bn_cpu_detect());
    assert_int_equal(bn_pool_open(pool, 2, &err), 0);
}

/* The code of element i of row r in each layout, by the definitions of docs/formats.md and kernels/pack.h. */
static int code_in_file(const struct bn_weight *w, size_t r, size_t i)
{
    const uint8_t *block = (const uint8_t *)w->data + (r * w->k + i) / 128 * 32;

    return block[i % 32] >> (6 - 2 * (i % 128 / 32)) & 3;
}

static int code_in_tile(const struct bn_weight *w, size_t r, size_t i)
{
    const uint8_t *tile = (const uint8_t *)w->packed + r / BN_TILE_ROWS * 8 * w->k;

    return tile[i / 16 * BN_PIECE_BYTES + r % BN_TILE_ROWS * 4 + i % 4] >> (6 - 2 * (i % 16 / 4)) & 3;
}

static void check_weight(const struct bn_weight *w)
{
    assert_int_equal(w->layout, BN_LAYOUT_I2S);
    assert_true(w->packed != w->data);
    for (size_t r = 0; r < w->n_rows; r += 7) {
        for (size_t i = 0; i < w->k; i++)
            assert_int_equal(code_in_tile(w, r, i), code_in_file(w, r, i));
    }
}

static void test_codes(void **state)
{
    struct bn_str bytes = bn_builtin_model();
    struct bn_model model;
    struct bn_kernels kernels;
    struct bn_pool *pool;
    struct bn_err err;

    (void)state;
    open_pool(&pool, &kernels);
    assert_int_equal(bn_model_load_memory(&model, bytes.p, bytes.n, "tiny", &err), 0);
    assert_int_equal(bn_model_prepare(&model, &kernels, pool, BN_LAYOUT_I2S, &err), 0);
    for (uint32_t i = 0; i < model.n_layer; i++) {
        const struct bn_layer *l = &model.layers[i];
        const struct bn_weight *all[] = {&l->q, &l->k, &l->v, &l->output, &l->gate, &l->up, &l->down};
        for (size_t w = 0; w < BN_COUNT(all); w++)
            check_weight(all[w]);
    }
    assert_int_equal(model.embedding.layout, BN_LAYOUT_FLOAT);
    assert_ptr_equal(model.embedding.packed, model.embedding.data);
    bn_model_close(&model);
    bn_pool_close(pool);
}

/* A temporary copy of the demo model; the caller frees and removes it. */
static char *copy_of_demo(void)
{
    struct bn_str bytes = bn_builtin_model();
    char *path = bn_xstrdup("/tmp/bnprof-prepare-XXXXXX");
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes.p, bytes.n), bytes.n);
    close(fd);
    return path;
}

static float *logits_in(const char *path, enum bn_layout layout, size_t n, size_t batch)
{
    struct engine e;
    struct bn_err err;
    uint32_t tokens[24];

    assert_int_equal(bn_model_load(&e.model, path, &err), 0);
    open_pool(&e.pool, &e.kernels);
    assert_int_equal(bn_model_prepare(&e.model, &e.kernels, e.pool, layout, &err), 0);
    assert_int_equal(e.model.layers[0].down.layout, layout);
    assert_int_equal(bn_session_open(&e.session, &e.model, &e.kernels, e.pool,
                                     &(struct bn_session_options){.n_ctx = 64}, &err),
                     0);
    fill_tokens(tokens, n, e.model.n_vocab);
    float *logits = logits_after(&e, tokens, n, batch);
    close_engine(&e);
    return logits;
}

static void test_same_logits(void **state)
{
    char *path = copy_of_demo();
    float *expected = logits_in(path, BN_LAYOUT_QK256, 24, 1);
    static const size_t batches[] = {1, 3, 8, 24};

    (void)state;
    for (size_t i = 0; i < BN_COUNT(batches); i++) {
        float *logits = logits_in(path, BN_LAYOUT_I2S, 24, batches[i]);
        assert_memory_equal(logits, expected, 1024 * sizeof *logits);
        free(logits);
    }
    free(expected);
    unlink(path);
    free(path);
}

static void test_cut_file(void **state)
{
    char *path = copy_of_demo();
    struct bn_model model;
    struct bn_kernels kernels;
    struct bn_pool *pool;
    struct bn_err err;

    (void)state;
    open_pool(&pool, &kernels);
    assert_int_equal(bn_model_load(&model, path, &err), 0);
    assert_int_equal(truncate(path, (off_t)(model.gguf.size_bytes / 2)), 0);
    assert_int_equal(bn_model_prepare(&model, &kernels, pool, BN_LAYOUT_I2S, &err), -1);
    assert_non_null(strstr(err.msg, path));
    assert_non_null(strstr(err.msg, "cannot be read any more"));
    bn_model_close(&model);
    bn_pool_close(pool);
    unlink(path);
    free(path);
}

/* ---- memory ---- */

static long peak_rss_bytes(void)
{
    struct rusage usage;

    return getrusage(RUSAGE_SELF, &usage) == 0 ? usage.ru_maxrss * 1024 : 0;
}

/* In a process of its own, whose peak is that of one load: 0 if its memory is what the file and the compact
 * output matrix take, and `slack`. */
static int load_within(const char *path, enum bn_layout layout, long slack)
{
    struct bn_model model;
    struct bn_kernels kernels;
    struct bn_pool *pool;
    struct bn_lm_head head;
    struct bn_err err;
    long before = peak_rss_bytes();

    bn_kernels_init(&kernels, bn_cpu_detect());
    if (bn_pool_open(&pool, 2, &err) != 0 || bn_model_load(&model, path, &err) != 0 ||
        bn_model_prepare(&model, &kernels, pool, layout, &err) != 0 ||
        bn_lm_head_open(&head, &model, &kernels, pool, BN_LM_HEAD_SCREENED, &err) != 0)
        return 1;
    long most = (long)(model.gguf.size_bytes + head.memory_bytes) + slack, used = peak_rss_bytes() - before;
    if (used <= 0 || used > most)
        fprintf(stderr, "%ld bytes resident, at most %ld expected\n", used, most);
    return used <= 0 || used > most;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { OWN_MEMORY = false }; /* a sanitizer's shadows count too */
#else
enum { OWN_MEMORY = true };
#endif

/* 55 MB of ternary weights: held twice they would not fit in the slack. */
static void test_memory(void **state)
{
    static const struct bn_synth_shape shape = {.name = "memory",
                                                .what = "",
                                                .arch = "bitnet-b1.58",
                                                .model_name = "memory",
                                                .n_layer = 8,
                                                .n_embd = 1536,
                                                .n_ff = 4608,
                                                .n_head = 12,
                                                .n_head_kv = 4,
                                                .n_vocab = 2048,
                                                .n_ctx = 64,
                                                .rope_base = 10000.0f,
                                                .tied = true,
                                                .wtype = BN_TYPE_I2_S};
    static const enum bn_layout layouts[] = {BN_LAYOUT_I2S, BN_LAYOUT_QK256, BN_LAYOUT_TL2};
    const struct bn_synth synth = {.shape = &shape, .wtype = BN_TYPE_I2_S, .etype = BN_TYPE_F16, .seed = 1};
    struct bn_err err;

    (void)state;
    if (!OWN_MEMORY)
        skip();
    char *path = copy_of_demo(); /* a name to write to */
    assert_int_equal(bn_synth_write(path, &synth, &err), 0);
    for (size_t i = 0; i < BN_COUNT(layouts); i++) {
        int status = -1;
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
            _exit(load_within(path, layouts[i], 16 << 20));
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
    }
    unlink(path);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_codes),
        cmocka_unit_test(test_same_logits),
        cmocka_unit_test(test_cut_file),
        cmocka_unit_test(test_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

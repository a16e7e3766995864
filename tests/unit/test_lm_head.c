/* SPDX-License-Identifier: MIT
 * Screening gives the n_top largest logits bit for bit, whatever the rows, and the tokens of the demo model
 * are those of the whole matrix. */
#include "core/lm_head.h"

#include <stdio.h>

#include "core/builtin.h"
#include "core/generate.h"
#include "core/linear.h"
#include "core/scope.h"
#include "core/tokenizer.h"
#include "kernels/screen.h"
#include "tests/unit/engine.h"

/* ---- a matrix on its own ---- */

struct matrix {
    struct bn_model model;
    struct bn_kernels kernels;
    struct bn_pool *pool;
    struct bn_session session;
    struct bn_lm_head head;
    float *rows, *x, *expected; /* [n][k], [k], [n] */
    uint32_t *rank;             /* [n]: how many logits come before this one */
    uint8_t *data;
    size_t n, k;
};

static uint64_t rng;

static uint64_t next(void)
{
    uint64_t z = rng += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static size_t below(size_t n)
{
    return next() % n;
}

static float normal(void)
{
    float sum = 0;

    for (int i = 0; i < 12; i++)
        sum += (float)(next() >> 40) * 0x1p-24f - 0.5f;
    return sum;
}

static void open_matrix(struct matrix *m, size_t n, size_t k, uint32_t type, unsigned cpu_flags,
                        unsigned n_threads)
{
    struct bn_err err;

    memset(m, 0, sizeof *m);
    m->n = n;
    m->k = k;
    m->rows = bn_xcalloc(n * k, sizeof *m->rows);
    m->x = bn_xcalloc(k, sizeof *m->x);
    m->expected = bn_xcalloc(n, sizeof *m->expected);
    m->rank = bn_xcalloc(n, sizeof *m->rank);
    m->data = bn_xcalloc(n * k, sizeof(float));
    bn_kernels_init(&m->kernels, cpu_flags);
    assert_int_equal(bn_pool_open(&m->pool, n_threads, &err), 0);
    m->model = (struct bn_model){.gguf.path = "matrix", .n_vocab = (uint32_t)n, .n_embd = (uint32_t)k};
    m->model.lm_head = (struct bn_weight){.data = m->data,
                                          .packed = m->data,
                                          .layout = BN_LAYOUT_FLOAT,
                                          .tile_rows = 1,
                                          .tile_bytes = (uint32_t)bn_type_row_bytes(type, k),
                                          .type = type,
                                          .n_rows = (uint32_t)n,
                                          .k = (uint32_t)k,
                                          .scale = 1.0f,
                                          .extra_scale = 1.0f};
    m->model.lm_head.size_bytes = n * bn_weight_row_bytes(&m->model.lm_head);
    m->session = (struct bn_session){
        .model = &m->model, .kernels = &m->kernels, .pool = m->pool, .n_batch = 1, .lm_head = &m->head};
    m->session.logits = bn_xcalloc(n, sizeof(float));
}

static void close_matrix(struct matrix *m)
{
    bn_lm_head_close(&m->head);
    bn_pool_close(m->pool);
    free(m->session.logits);
    free(m->rows);
    free(m->x);
    free(m->expected);
    free(m->rank);
    free(m->data);
}

/* The rows as the matrix has them, and then as floats again. */
static void store_rows(struct matrix *m)
{
    uint16_t *halves = (uint16_t *)(void *)m->data;

    if (m->model.lm_head.type == BN_TYPE_F32) {
        memcpy(m->data, m->rows, m->n * m->k * sizeof(float));
    } else if (m->model.lm_head.type == BN_TYPE_F16) {
        m->kernels.f32_to_f16(m->rows, halves, m->n * m->k);
        m->kernels.f16_to_f32(halves, m->rows, m->n * m->k);
    } else {
        for (size_t i = 0; i < m->n * m->k; i++) {
            uint32_t bits;
            memcpy(&bits, &m->rows[i], sizeof bits);
            halves[i] = (uint16_t)(bits >> 16);
        }
        m->kernels.bf16_to_f32(halves, m->rows, m->n * m->k);
    }
}

static void encode_rows(struct matrix *m)
{
    struct bn_err err;

    store_rows(m);
    bn_lm_head_close(&m->head);
    if (bn_lm_head_open(&m->head, &m->model, &m->kernels, m->pool, BN_LM_HEAD_SCREENED, &err) != 0)
        fail_msg("%s", err.msg);
}

/* ---- what must hold ---- */

static int by_logit(const void *a, const void *b)
{
    const struct bn_lm_head_candidate *x = a, *y = b;

    return x->y != y->y ? (x->y < y->y) - (x->y > y->y) : (x->id > y->id) - (x->id < y->id);
}

static void rank_rows(struct matrix *m)
{
    struct bn_lm_head_candidate *order = bn_xcalloc(m->n, sizeof *order);

    for (uint32_t r = 0; r < m->n; r++)
        order[r] = (struct bn_lm_head_candidate){isnan(m->expected[r]) ? -INFINITY : m->expected[r], r};
    qsort(order, m->n, sizeof *order, by_logit);
    for (uint32_t i = 0; i < m->n; i++)
        m->rank[order[i].id] = i;
    free(order);
}

static void check_top(struct matrix *m, uint32_t n_top, const char *what)
{
    const float *logits = m->session.logits;

    m->session.n_top = n_top;
    for (size_t r = 0; r < m->n; r++)
        m->session.logits[r] = 1e30f; /* of a token before */
    bn_lm_head_apply(&m->session, m->x);
    for (size_t r = 0; r < m->n; r++) {
        bool exact = memcmp(&logits[r], &m->expected[r], sizeof(float)) == 0;
        if (!exact && logits[r] != -INFINITY)
            fail_msg("%s, n_top %u: logit %zu is %a, expected %a", what, n_top, r, (double)logits[r],
                     (double)m->expected[r]);
        if (!exact && m->rank[r] < n_top)
            fail_msg("%s, n_top %u: row %zu with logit %a was lost", what, n_top, r, (double)m->expected[r]);
    }
}

static void compute_expected(struct matrix *m)
{
    m->session.n_top = 0;
    bn_lm_head_apply(&m->session, m->x);
    memcpy(m->expected, m->session.logits, m->n * sizeof(float));
    bn_linear(&m->session, BN_STAGE_LM_HEAD, &(struct bn_product){&m->model.lm_head, m->session.logits}, 1,
              m->x, 1);
    assert_memory_equal(m->expected, m->session.logits, m->n * sizeof(float));
    rank_rows(m);
}

/* ---- rows and vectors ---- */

enum rows {
    NORMAL,
    EQUAL,
    COPIES,
    LAST_BIT,
    OUTLIERS,
    ZEROS,
    SUBNORMAL,
    NOT_FINITE,
    ONLY_NAN,
    LARGEST,
    SIZES,
    N_ROWS
};
static const char *const row_names[] = {"normal",   "equal",   "copies",    "last bit",
                                        "outliers", "zeros",   "subnormal", "not finite",
                                        "only NaN", "largest", "sizes"};

static float value(enum rows kind, size_t r, size_t i)
{
    switch (kind) {
    case SUBNORMAL:
        return (float)((int)below(7) - 3) * 0x1p-24f;
    case OUTLIERS:
        return normal() * (i == r % 7 ? 500.0f : 0.02f);
    case ZEROS:
        return r % 3 ? 0.0f : normal() * 0.02f;
    case ONLY_NAN:
        return NAN;
    case LARGEST:
        return below(2) ? 65504.0f : -65504.0f;
    case SIZES:
        return normal() * ldexpf(1.0f, (int)(r % 20) - 14);
    default:
        return normal() * 0.02f;
    }
}

static void make_rows(struct matrix *m, enum rows kind)
{
    static const float bad[] = {INFINITY, -INFINITY, NAN};

    for (size_t r = 0; r < m->n; r++) {
        float *row = m->rows + r * m->k;
        bool copy = (kind == EQUAL && r > 0) || (kind == COPIES && r >= 50) || (kind == LAST_BIT && r > 0);

        for (size_t i = 0; i < m->k; i++)
            row[i] = copy ? m->rows[r % (kind == COPIES ? 50 : 1) * m->k + i] : value(kind, r, i);
        if (kind == LAST_BIT) /* of one weight, an F16 */
            row[below(m->k)] *= 1.0f + (below(2) ? 0x1p-10f : -0x1p-10f);
        if (kind == NOT_FINITE && r % 11 == 0)
            row[below(m->k)] = bad[below(3)];
    }
    encode_rows(m);
}

enum vector { ANY, SPIKE, ALIGNED, NULL_VECTOR, WIDE, SMALL, LARGE, BAD, N_VECTORS };
static const char *const vector_names[] = {"any",  "spike", "aligned", "zero",
                                           "wide", "small", "large",   "bad"};

static void make_vector(struct matrix *m, enum vector kind)
{
    static const float scales[N_VECTORS] = {[ANY] = 1,        [SPIKE] = 0.01f, [ALIGNED] = 0.02f, [WIDE] = 1,
                                            [SMALL] = 1e-22f, [LARGE] = 1e18f, [BAD] = 1};
    size_t target = below(m->n);

    for (size_t i = 0; i < m->k; i++) {
        m->x[i] = normal() * scales[kind];
        if (kind == ALIGNED && isfinite(m->rows[target * m->k + i]))
            m->x[i] += m->rows[target * m->k + i];
        if (kind == WIDE)
            m->x[i] = ldexpf(m->x[i], -(int)below(30));
    }
    if (kind == SPIKE)
        m->x[below(m->k)] = 100.0f;
    if (kind == BAD)
        m->x[below(m->k)] = below(2) ? NAN : INFINITY;
    compute_expected(m);
}

static void check_kinds(uint32_t type, size_t n, size_t k, unsigned cpu_flags, unsigned n_threads)
{
    struct matrix m;

    open_matrix(&m, n, k, type, cpu_flags, n_threads);
    for (enum rows rows = 0; rows < N_ROWS; rows++) {
        make_rows(&m, rows);
        for (enum vector vector = 0; vector < N_VECTORS; vector++) {
            char what[160];
            snprintf(what, sizeof what, "type %u, %zu x %zu, %s rows, %s vector, %u threads", type, n, k,
                     row_names[rows], vector_names[vector], n_threads);
            make_vector(&m, vector);
            for (uint32_t n_top = 1; n_top <= n / 16 + 1; n_top *= 3)
                check_top(&m, n_top, what);
        }
    }
    close_matrix(&m);
}

static void test_kinds(void **state)
{
    static const uint32_t types[] = {BN_TYPE_F16, BN_TYPE_BF16, BN_TYPE_F32};
    static const size_t widths[] = {64, 128, 200, 640};
    unsigned sets[4];
    size_t n_sets = flag_sets(sets);

    (void)state;
    rng = 1;
    for (size_t s = 0; s < n_sets; s++) {
        for (size_t t = 0; t < BN_COUNT(types); t++) {
            for (size_t w = 0; w < BN_COUNT(widths); w += s + 1 < n_sets ? 2 : 1)
                check_kinds(types[t], 290 + 32 * w + w, widths[w], sets[s], w % 2 ? 3 : 1);
        }
    }
}

/* Every n_top, on rows with ties at every place. */
static void test_every_top(void **state)
{
    struct matrix m;

    (void)state;
    rng = 2;
    open_matrix(&m, 1601, 128, BN_TYPE_F16, bn_cpu_detect(), 2);
    for (enum rows rows = NORMAL; rows <= LAST_BIT; rows++) {
        make_rows(&m, rows);
        make_vector(&m, ANY);
        for (uint32_t n_top = 1; n_top <= 101; n_top++)
            check_top(&m, n_top, row_names[rows]);
        check_top(&m, 1600, row_names[rows]);
        check_top(&m, UINT32_MAX, row_names[rows]);
    }
    close_matrix(&m);
}

/* ---- the bound is sharp: rows that use it up ---- */

/* x is what the codes of row `target` lose in the planes up to `plane`: its approximation is as wrong as one
 * can be. Rivals, so many that the screening goes on to the last plane, have logits just below: a bound that
 * is a little too small loses the target. */
static void check_sharp(struct matrix *m, enum bn_screen_plane plane, float gap)
{
    static const int shifts[] = {3, 2, 0};
    uint8_t *u = bn_xmalloc(m->k);
    size_t target = below(m->n);
    double logit = 0, square = 0, along = 0, known = 0;

    for (size_t i = 0; i < m->n * m->k; i++)
        m->rows[i] = normal() * (i / m->k == target ? 0.02f : 0.0002f);
    store_rows(m);
    const float *w = m->rows + target * m->k;
    struct bn_screen_row row = m->kernels.screen_encode(w, w, u, m->k);
    for (size_t i = 0; i < m->k; i++) {
        double approximation = ldexp(((u[i] - 64) >> shifts[plane]) + 0.5, shifts[plane]) * (double)row.scale;
        m->x[i] = (float)((double)w[i] - approximation);
        along += approximation * (double)m->x[i];
        known += approximation * approximation;
    }
    for (size_t i = 0; i < m->k; i++) { /* without its part along the approximation, which then is 0 */
        double approximation = ldexp(((u[i] - 64) >> shifts[plane]) + 0.5, shifts[plane]) * (double)row.scale;
        m->x[i] -= (float)(along / known * approximation);
        logit += (double)w[i] * (double)m->x[i];
        square += (double)m->x[i] * (double)m->x[i];
    }
    for (size_t i = 0; i < m->n * m->k; i++) { /* rival . x = logit * (1 - gap) */
        if (i / m->k % 40 == (target + 1) % 40)
            m->rows[i] = (float)(logit * (1 - (double)gap) / square * (double)m->x[i % m->k]);
    }
    encode_rows(m);
    compute_expected(m);
    check_top(m, 1, "sharp");
    assert_int_equal(m->rank[target], 0); /* that is what was tested */
    assert_true(m->head.stats.rows_low > 40);
    assert_int_equal(m->head.stats.n_full, 0);
    free(u);
}

static void test_sharp_bound(void **state)
{
    struct matrix m;

    (void)state;
    rng = 3;
    open_matrix(&m, 2048, 640, BN_TYPE_F32, bn_cpu_detect(), 2);
    for (int i = 0; i < 30; i++)
        check_sharp(&m, (enum bn_screen_plane)(i % 3), i % 2 ? 0.03f : 0.005f);
    close_matrix(&m);
}

/* ---- that it is worth it ---- */

static void test_few_rows(void **state)
{
    struct matrix m;

    (void)state;
    rng = 4;
    open_matrix(&m, 4096, 1024, BN_TYPE_F16, bn_cpu_detect(), 2);
    make_rows(&m, NORMAL);
    for (int i = 0; i < 20; i++) {
        make_vector(&m, i % 2 ? ALIGNED : ANY);
        check_top(&m, 1, "few rows");
    }
    const struct bn_lm_head_stats *s = &m.head.stats;
    assert_int_equal(s->n_tokens, 20);
    assert_int_equal(s->n_full, 0);
    assert_true(s->rows_exact < 20 * m.n / 50);
    assert_true(s->bytes < 20 * m.model.lm_head.size_bytes * 2 / 5);
    assert_true(s->bytes > 20 * m.model.lm_head.size_bytes / 5);
    close_matrix(&m);
}

/* ---- which mode ---- */

static void test_choice(void **state)
{
    struct bn_kernels best, plain;
    struct bn_weight w = {.layout = BN_LAYOUT_FLOAT,
                          .type = BN_TYPE_F16,
                          .n_rows = 1 << 20,
                          .k = 4096,
                          .extra_scale = 1.0f,
                          .size_bytes = 1ull << 33};

    (void)state;
    bn_kernels_init(&best, bn_cpu_detect());
    bn_kernels_init(&plain, 0);
    if (bn_cpu_detect())
        assert_int_equal(bn_lm_head_choose(&w, &best, 1), BN_LM_HEAD_SCREENED);
    assert_int_equal(bn_lm_head_choose(&w, &plain, 1), BN_LM_HEAD_F16);
    assert_int_equal(bn_lm_head_choose(&w, &best, 0), BN_LM_HEAD_F16);
    assert_int_equal(bn_lm_head_choose(&w, &best, 1 << 17), BN_LM_HEAD_F16);
    w.size_bytes = 100000;
    assert_int_equal(bn_lm_head_choose(&w, &best, 1), BN_LM_HEAD_F16);
    w.extra_scale = 2.0f;
    assert_false(bn_lm_head_can_screen(&w));
}

/* A matrix that cannot be screened is refused with a message. */
static void test_refusal(void **state)
{
    struct matrix m;
    struct bn_err err;

    (void)state;
    open_matrix(&m, 64, 64, BN_TYPE_F16, 0, 1);
    m.model.lm_head.extra_scale = 0.5f;
    assert_int_equal(bn_lm_head_open(&m.head, &m.model, &m.kernels, m.pool, BN_LM_HEAD_SCREENED, &err), -1);
    assert_non_null(strstr(err.msg, "matrix: --lm-head screened"));
    close_matrix(&m);
}

/* ---- the matrix made smaller ---- */

/* The error's root mean square over that of the logits is what the bits of a weight allow, and logits are the
 * same on any number of threads. */
static void test_smaller(void **state)
{
    static const double bounds[BN_LM_HEAD_MODES] = {
        [BN_LM_HEAD_Q8_0] = 0.02, [BN_LM_HEAD_Q6_K] = 0.05, [BN_LM_HEAD_Q4_0] = 0.2};
    float first[600];

    (void)state;
    for (enum bn_lm_head_mode mode = BN_LM_HEAD_Q8_0; mode < BN_LM_HEAD_MODES; mode++) {
        for (unsigned t = 1; t <= 3; t++) {
            struct bn_q8 scratch = {bn_xcalloc(512, 1), bn_xcalloc(16, sizeof(float)),
                                    bn_xcalloc(512, sizeof(int16_t))};
            double error = 0, square = 0;
            struct bn_err err;
            struct matrix m;

            rng = 6;
            open_matrix(&m, BN_COUNT(first), 512, BN_TYPE_F16, bn_cpu_detect(), t);
            make_rows(&m, NORMAL);
            bn_lm_head_close(&m.head);
            assert_int_equal(bn_lm_head_open(&m.head, &m.model, &m.kernels, m.pool, mode, &err), 0);
            m.session.q8_0 = m.session.q8_k = scratch;
            for (size_t i = 0; i < m.k; i++)
                m.x[i] = normal();
            bn_linear(&m.session, BN_STAGE_LM_HEAD, &(struct bn_product){&m.model.lm_head, m.expected}, 1,
                      m.x, 1);
            bn_lm_head_apply(&m.session, m.x);
            for (size_t r = 0; r < m.n; r++) {
                double d = (double)m.session.logits[r] - (double)m.expected[r];
                error += d * d;
                square += (double)m.expected[r] * (double)m.expected[r];
            }
            assert_true(error > 0 && sqrt(error / square) < bounds[mode]);
            assert_true(bn_lm_head_bytes(&m.head) < 0.55 * (double)m.model.lm_head.size_bytes);
            if (t == 1)
                memcpy(first, m.session.logits, sizeof first);
            assert_memory_equal(first, m.session.logits, sizeof first);
            close_matrix(&m);
            free(scratch.q);
            free(scratch.d);
            free(scratch.sum);
        }
    }
}

/* ---- tokens ---- */

struct tokens {
    uint32_t ids[4096];
    size_t n;
};

static bool keep(void *user, uint32_t id, size_t index)
{
    struct tokens *t = user;

    (void)index;
    if (t->n < BN_COUNT(t->ids))
        t->ids[t->n++] = id;
    return true;
}

static void generate(struct engine *e, const struct bn_sample_options *options, uint32_t n_prompts,
                     struct tokens *out)
{
    struct bn_sampler sampler;
    struct bn_generator g;
    struct bn_err err;
    uint32_t prompt[6];

    bn_sampler_open(&sampler, options, &e->kernels, e->model.n_vocab);
    bn_generator_open(&g, &e->session, &sampler, NULL, 0, 12, 64, keep, out);
    assert_int_equal(e->session.n_top, options->greedy ? 1 : options->top_k);
    for (uint32_t i = 0; i < n_prompts; i++) {
        for (uint32_t t = 0; t < BN_COUNT(prompt); t++)
            prompt[t] = (i * 2654435761u + t * 40503u * (i + 1)) % e->model.n_vocab;
        assert_int_equal(bn_generate(&g, prompt, BN_COUNT(prompt), &err), 0);
    }
    assert_true(g.decode_allocations == 0 || g.decode_allocations == UINT64_MAX);
    bn_generator_close(&g);
    bn_sampler_close(&sampler);
}

static void check_tokens(const char *path, unsigned cpu_flags, unsigned n_threads, uint32_t n_prompts)
{
    static const struct bn_sample_options options[] = {
        {.greedy = true},
        {.temperature = 0.8f, .top_k = 5, .top_p = 1.0f, .seed = 7},
        {.temperature = 1.2f, .top_k = 30, .top_p = 0.9f, .seed = 8},
        {.temperature = 1.0f, .top_k = 0, .top_p = 0.9f, .seed = 9},
    };
    static struct tokens whole, screened;
    struct bn_lm_head head;
    struct bn_err err;
    struct engine e;

    open_engine(&e, path, cpu_flags, n_threads);
    assert_int_equal(bn_lm_head_open(&head, &e.model, &e.kernels, e.pool, BN_LM_HEAD_SCREENED, &err), 0);
    for (size_t i = 0; i < BN_COUNT(options); i++) {
        whole.n = screened.n = 0;
        e.session.lm_head = NULL;
        generate(&e, &options[i], n_prompts, &whole);
        e.session.lm_head = &head;
        uint64_t before = head.stats.n_tokens;
        generate(&e, &options[i], n_prompts, &screened);
        assert_int_equal(screened.n, whole.n);
        assert_memory_equal(screened.ids, whole.ids, whole.n * sizeof *whole.ids);
        bool asked = bn_sample_top(&options[i]) > 0;
        assert_int_equal(head.stats.n_tokens - before, asked ? screened.n : 0);
    }
    bn_lm_head_close(&head);
    close_engine(&e);
}

static void test_tokens(void **state)
{
    unsigned sets[4];
    size_t n_sets = flag_sets(sets);

    (void)state;
    for (size_t i = 0; i < n_sets; i++) {
        uint32_t n_prompts = i + 1 < n_sets ? 4 : 40; /* the others are slow */
        check_tokens("core/tiny-bitnet-i2s.gguf", sets[i], 1 + (unsigned)i % 3, n_prompts);
        check_tokens("tests/data/stories260k-f16.gguf", sets[i], 2, n_prompts);
        check_tokens("tests/data/stories260k-f32.gguf", sets[i], 1, n_prompts);
    }
}

/* Rows and bytes do not depend on the number of threads either. */
static void test_same_work(void **state)
{
    struct bn_lm_head_stats stats[3];

    (void)state;
    for (unsigned t = 0; t < 3; t++) {
        struct matrix m;
        rng = 5;
        open_matrix(&m, 6000, 512, BN_TYPE_F16, bn_cpu_detect(), t + 1);
        make_rows(&m, NORMAL);
        for (int i = 0; i < 5; i++) {
            make_vector(&m, ANY);
            check_top(&m, 20, "same work");
        }
        stats[t] = m.head.stats;
        close_matrix(&m);
    }
    assert_memory_equal(&stats[1], &stats[0], sizeof stats[0]);
    assert_memory_equal(&stats[2], &stats[0], sizeof stats[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),    cmocka_unit_test(test_every_top), cmocka_unit_test(test_sharp_bound),
        cmocka_unit_test(test_few_rows), cmocka_unit_test(test_choice),    cmocka_unit_test(test_refusal),
        cmocka_unit_test(test_smaller),  cmocka_unit_test(test_tokens),    cmocka_unit_test(test_same_work),
    };

    bn_scope_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT
 * Generation: prefill in batches, then a token at a time. Both are steps and stages of the profile. */
#include "core/generate.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "core/digest.h"
#include "core/forward.h"
#include "core/heap.h"
#include "core/scope.h"

enum { MAX_TOKEN_TIMES = 1 << 24 };

void bn_generator_open(struct bn_generator *g, struct bn_session *session, struct bn_sampler *sampler,
                       const uint32_t *stop_ids, size_t n_stop_ids, size_t max_tokens, size_t n_calls,
                       bn_generate_emit *emit, void *user)
{
    /* A sequence cannot outgrow the context, however many tokens are asked for. */
    size_t at_most = bn_min_size(max_tokens, (size_t)session->n_ctx + 1);

    *g = (struct bn_generator){.session = session,
                               .sampler = sampler,
                               .stop_ids = stop_ids,
                               .n_stop_ids = n_stop_ids,
                               .emit = emit,
                               .user = user,
                               .max_tokens = at_most,
                               .max_token_times = bn_min_size(at_most * n_calls, MAX_TOKEN_TIMES)};
    session->n_top = bn_sample_top(&sampler->options);
    g->tokens = bn_xcalloc(at_most + 1, sizeof *g->tokens);
    g->token_ns = bn_xcalloc(g->max_token_times + 1, sizeof *g->token_ns);
}

void bn_generator_close(struct bn_generator *g)
{
    free(g->tokens);
    free(g->token_ns);
    memset(g, 0, sizeof *g);
}

int bn_generator_check(const struct bn_generator *g, const uint32_t *prompt, size_t n, struct bn_err *err)
{
    const struct bn_session *s = g->session;

    if (n == 0)
        return bn_err_set(err, "the prompt is empty: the model needs at least one token");
    if (n > s->n_ctx)
        return bn_err_set(err, "the prompt has %zu tokens, the context holds %u", n, s->n_ctx);
    for (size_t i = 0; i < n; i++) {
        if (prompt[i] >= s->model->n_vocab)
            return bn_err_set(err, "token id %u is outside the model's vocabulary of %u", prompt[i],
                              s->model->n_vocab);
    }
    return 0;
}

static bool interrupted(struct bn_generator *g)
{
    if (!g->interrupt || !*g->interrupt)
        return false;
    g->end = BN_END_INTERRUPTED;
    return true;
}

static bool is_stop(const struct bn_generator *g, uint32_t id)
{
    for (size_t i = 0; i < g->n_stop_ids; i++) {
        if (g->stop_ids[i] == id)
            return true;
    }
    return false;
}

/* Choose a token, keep it, hand it out. Is there to be another one? */
static bool next_token(struct bn_generator *g, const float *logits)
{
    bn_scope_enter(BN_STAGE_SAMPLE_TOKEN);
    uint32_t id = bn_sample(g->sampler, logits);
    bn_scope_count(g->session->model->n_vocab * sizeof(float), g->session->model->n_vocab);
    g->session->kernel_calls[BN_KERNEL_f32_argmax]++;
    bn_scope_leave();
    g->tokens[g->n_tokens++] = id;
    g->n_generated_tokens++;
    if (is_stop(g, id))
        g->end = BN_END_STOP_TOKEN;
    else if (g->emit && !g->emit(g->user, id, g->n_tokens - 1))
        g->end = BN_END_INTERRUPTED;
    else if (g->n_tokens == g->max_tokens)
        g->end = BN_END_MAX_TOKENS;
    else if (g->session->n_past == g->session->n_ctx)
        g->end = BN_END_CONTEXT_FULL;
    else
        return !interrupted(g);
    return false;
}

static bool prefill(struct bn_generator *g, const uint32_t *prompt, size_t n)
{
    bn_scope_step();
    BN_SCOPE(PREFILL);
    struct bn_session *s = g->session;
    uint64_t start_ns = bn_now_ns();
    const float *logits = NULL;

    for (size_t done = 0, batch; done < n; done += batch) {
        if (interrupted(g))
            return false;
        batch = bn_min_size(s->n_batch, n - done);
        logits = bn_forward(s, prompt + done, batch, done + batch == n);
    }
    g->prompt_ns += bn_now_ns() - start_ns;
    g->n_prompt_tokens += n;
    return next_token(g, logits);
}

static bool decode(struct bn_generator *g)
{
    bn_scope_step();
    BN_SCOPE(DECODE);
    const float *logits = bn_forward(g->session, &g->tokens[g->n_tokens - 1], 1, true);

    return next_token(g, logits);
}

static struct bn_faults faults_now(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (struct bn_faults){(uint64_t)usage.ru_minflt, (uint64_t)usage.ru_majflt};
}

static void add_faults(struct bn_faults *sum, const struct bn_faults *from, const struct bn_faults *to)
{
    sum->minor += to->minor - from->minor;
    sum->major += to->major - from->major;
}

int bn_generate(struct bn_generator *g, const uint32_t *prompt, size_t n, struct bn_err *err)
{
    if (bn_generator_check(g, prompt, n, err) != 0)
        return -1;
    BN_SCOPE(GENERATE);
    uint64_t start_ns = bn_now_ns();
    bn_session_reset(g->session);
    g->n_tokens = 0;
    g->n_sequences++;
    g->end = BN_END_MAX_TOKENS;
    if (g->max_tokens == 0)
        return 0;
    struct bn_faults at_start = faults_now();
    if (g->n_sequences == 1)
        g->load_faults = at_start;
    bool more = prefill(g, prompt, n);
    struct bn_faults at_first = faults_now();
    add_faults(&g->prompt_faults, &at_start, &at_first);
    uint64_t now_ns = bn_now_ns();
    if (g->n_sequences == 1 && g->n_tokens)
        g->first_token_ns = now_ns - start_ns;
    uint64_t allocations = bn_heap_allocations();
    while (more) {
        uint64_t before_ns = now_ns;
        more = decode(g);
        now_ns = bn_now_ns();
        if (g->n_token_times < g->max_token_times)
            g->token_ns[g->n_token_times++] = now_ns - before_ns;
        g->sorted = false;
        g->n_decoded++;
        g->decode_ns += now_ns - before_ns;
    }
    struct bn_faults at_end = faults_now();
    add_faults(&g->decode_faults, &at_first, &at_end);
    if (allocations == UINT64_MAX)
        g->decode_allocations = UINT64_MAX;
    else
        g->decode_allocations += bn_heap_allocations() - allocations;
    return 0;
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

uint64_t bn_generator_quantile(struct bn_generator *g, double q)
{
    if (g->n_token_times == 0)
        return 0;
    if (!g->sorted)
        qsort(g->token_ns, g->n_token_times, sizeof *g->token_ns, compare_u64);
    g->sorted = true;
    return g->token_ns[(size_t)(q * (double)(g->n_token_times - 1) + 0.5)];
}

void bn_token_hash(const uint32_t *ids, size_t n, char hex[17])
{
    struct bn_buf bytes = {0};
    char full[65];

    for (size_t i = 0; i < n; i++) {
        uint8_t le[4] = {(uint8_t)ids[i], (uint8_t)(ids[i] >> 8), (uint8_t)(ids[i] >> 16),
                         (uint8_t)(ids[i] >> 24)};
        bn_buf_put(&bytes, le, sizeof le);
    }
    bn_sha256_hex(bytes.p, bytes.n, full);
    bn_buf_free(&bytes);
    memcpy(hex, full, 16);
    hex[16] = '\0';
}

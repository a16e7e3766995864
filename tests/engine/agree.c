/* SPDX-License-Identifier: MIT
 * The engine on the demo model, with no library but libc, so that it can be built for another machine: are
 * its logits those of the double-precision reference, and which tokens does it choose?
 *
 *   agree CPU-FLAGS     as --cpu takes them: neon, avx2, c …
 *
 * Prints the kernels it used, the distance from the reference and the tokens. Status 1: the distance is above
 * the bound that tests/unit/engine.h derives, or the engine cannot be opened. */
#include "core/forward.h"
#include "core/reference.h"
#include "tools/engine.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { N_PROMPT = 12, N_TOKENS = 40 };

static const double bound = 1e-1;

static uint32_t most_likely(const struct bn_engine *e, const float *logits)
{
    return (uint32_t)e->kernels.f32_argmax(logits, e->model.n_vocab);
}

/* The largest difference over all logits, in units of their root mean square. */
static double distance(const float *logits, const double *expected, size_t n)
{
    double difference = 0.0, square = 0.0;

    for (size_t i = 0; i < n; i++) {
        difference = fmax(difference, fabs(logits[i] - expected[i]));
        square += expected[i] * expected[i];
    }
    return difference / sqrt(square / (double)n);
}

static int open_engine(struct bn_engine *e, const char *cpu, struct bn_err *err)
{
    const struct bn_engine_options options = {.kernel = "auto", .cpu = cpu, .threads = 2, .n_ctx = 64};

    return bn_engine_choose(e, &options, err) != 0 || bn_engine_threads(e, err) != 0 ||
           bn_engine_load(e, err) != 0 || bn_engine_session(e, err) != 0;
}

/* A prompt in one batch, then greedily token after token; `tokens` gets both. Returns the largest distance,
 * infinity where that is not a number. */
static double run(struct bn_engine *e, struct bn_reference *ref, uint32_t *tokens, double *expected)
{
    const float *logits;
    double worst = 0.0;

    for (uint32_t i = 0; i < N_PROMPT; i++) {
        tokens[i] = (i * 37 + 11) % e->model.n_vocab; /* any will do */
        bn_reference_step(ref, tokens[i], expected);
    }
    logits = bn_forward(&e->session, tokens, N_PROMPT, true);
    for (size_t i = N_PROMPT;; i++) {
        const double d = distance(logits, expected, e->model.n_vocab);

        worst = fmax(worst, isnan(d) ? INFINITY : d);
        if (i == N_TOKENS)
            return worst;
        tokens[i] = most_likely(e, logits);
        bn_reference_step(ref, tokens[i], expected);
        logits = bn_forward(&e->session, &tokens[i], 1, true);
    }
}

int main(int argc, char **argv)
{
    static struct bn_engine e;
    struct bn_reference *ref = NULL;
    struct bn_err err = {""};
    uint32_t tokens[N_TOKENS];
    double *expected, worst;

    if (argc != 2) {
        fprintf(stderr, "usage: agree CPU-FLAGS\n");
        return 2;
    }
    if (open_engine(&e, argv[1], &err) != 0 || bn_reference_open(&ref, &e.model.gguf, N_TOKENS, &err) != 0) {
        fprintf(stderr, "agree: %s\n", err.msg);
        return 1;
    }
    expected = bn_xcalloc(e.model.n_vocab, sizeof *expected);
    worst = run(&e, ref, tokens, expected);
    printf("kernels");
    for (int slot = 0; slot < BN_KERNEL_COUNT; slot++) {
        if (e.session.kernel_calls[slot])
            printf(" %s", e.kernels.symbol[slot]);
    }
    printf("\ndistance %.4f of %.1f\ntokens", worst, bound);
    for (int i = N_PROMPT; i < N_TOKENS; i++)
        printf(" %u", tokens[i]);
    printf("\n");
    free(expected);
    bn_reference_free(ref);
    bn_engine_close(&e);
    return worst > bound;
}

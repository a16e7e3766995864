/* SPDX-License-Identifier: MIT
 * Norms: the rows are independent of each other. */
#include "core/norm.h"

struct job {
    struct bn_session *s;
    const float *in, *weight; /* in: [n][width] */
    float *out;
    size_t width;
};

static void norm_rows(void *arg, size_t begin, size_t end, unsigned worker)
{
    const struct job *job = arg;

    (void)worker;
    for (size_t c = begin; c < end; c++)
        job->s->kernels->f32_rmsnorm(job->in + c * job->width, job->weight, job->out + c * job->width,
                                     job->width, job->s->model->norm_eps);
}

void bn_norm(struct bn_session *s, enum bn_stage stage, const float *in, const float *weight, float *out,
             size_t n, size_t width)
{
    struct job job = {s, in, weight, out, width};
    uint64_t values = (uint64_t)n * width;

    bn_scope_enter(stage);
    bn_scope_count((2 * values + width) * sizeof(float), 4 * values);
    s->kernel_calls[BN_KERNEL_f32_rmsnorm] += n;
    bn_pool_run(s->pool, norm_rows, &job, n, 1, values * 2 * sizeof(float));
    bn_scope_leave();
}

static void quantize_rows(void *arg, size_t begin, size_t end, unsigned worker)
{
    const struct job *job = arg;
    struct bn_session *s = job->s;

    (void)worker;
    for (size_t c = begin; c < end; c++) {
        struct bn_act act = s->kernels->i8_rmsnorm(job->in + c * job->width, job->weight,
                                                   s->codes + c * job->width, job->width, s->model->norm_eps);
        s->act_scale[c] = act.scale;
        s->act_sum[c] = act.sum;
    }
}

/* Operations: a norm's four and a quantisation's two. */
void bn_norm_quantize(struct bn_session *s, enum bn_stage stage, const float *in, const float *weight,
                      size_t n, size_t width)
{
    struct job job = {.s = s, .in = in, .weight = weight, .width = width};
    uint64_t values = (uint64_t)n * width;

    bn_scope_enter(stage);
    bn_scope_count((values + width) * sizeof(float) + values, 6 * values);
    s->kernel_calls[BN_KERNEL_i8_rmsnorm] += n;
    bn_pool_run(s->pool, quantize_rows, &job, n, 1, values * 3 * sizeof(float));
    bn_scope_leave();
    bn_scope_fused(BN_STAGE_QUANTIZE_ACTIVATIONS, stage, 1);
}

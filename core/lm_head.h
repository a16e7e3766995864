/* SPDX-License-Identifier: MIT
 * The last product: logits from the normed residual stream. It reads more bytes than all layers together when
 * the matrix has floats, so there are ways round it.
 *
 * Screened: three planes of low-bit codes (kernels/screen.h) stand beside the matrix. The first one gives
 * every logit within a bound that is proved, not estimated (core/screen.h); rows that cannot be among the
 * n_top largest are out, the others go on to the next plane, and the few that are left get the logit that the
 * matrix itself gives, bit for bit. All others get minus infinity: any sampler that looks at the n_top
 * largest only, the lowest id first among equals, chooses what it would have chosen. */
#ifndef CORE_LM_HEAD_H
#define CORE_LM_HEAD_H

#include "core/screen.h"
#include "core/session.h"

enum bn_lm_head_mode {
    BN_LM_HEAD_F16,      /* the file's own matrix, whatever its float type */
    BN_LM_HEAD_SCREENED, /* the same results for those who need a few of them */
    BN_LM_HEAD_Q8_0,     /* from here on other results: the matrix made smaller at load (core/encode.h) */
    BN_LM_HEAD_Q6_K,
    BN_LM_HEAD_Q4_0,
    BN_LM_HEAD_MODES,
};

/* What the screening did, over all tokens since it was opened. */
struct bn_lm_head_stats {
    uint64_t n_tokens;                       /* that were screened */
    uint64_t n_full;                         /* of them, those that needed the whole matrix after all */
    uint64_t rows_mid, rows_low, rows_exact; /* rows that went on to the next plane, and to the matrix */
    uint64_t bytes;                          /* read from planes, their scales and bounds, and the matrix */
};

struct bn_lm_head_candidate {
    float y;
    uint32_t id;
};

/* Planes and scratch; the scratch makes it one session's at a time. A zeroed one is closed. */
struct bn_lm_head {
    enum bn_lm_head_mode mode;
    const struct bn_weight *w; /* the matrix that logits come from: the file's, or &made */
    struct bn_weight made;
    size_t k, n_tiles, n_blocks; /* k: of the codes, w->k rounded up */
    uint8_t *high, *mid, *low;
    float *scale, *norm, *error[BN_SCREEN_PLANES]; /* [n_rows], padded to blocks */

    struct bn_screen_query query;
    float *y;                                /* [n_rows]: approximations */
    float *logits;                           /* the session's, of the current token */
    const float *x;                          /* its input */
    uint32_t *ids;                           /* [n_blocks][block]: rows still in play, ascending */
    uint32_t *n_ids;                         /* [n_blocks] */
    struct bn_lm_head_candidate *candidates; /* [n_rows] */
    uint32_t *best;                          /* [n_blocks]: the row with the largest approximation */
    float least;                             /* so much the n_top-th largest logit is at least */
    struct bn_lm_head_stats stats;
    const struct bn_kernels *kernels;
    void *memory;
    size_t memory_bytes;
};

/* Can the matrix be screened: floats, neither scale nor bias, rows of a length that the kernels take? */
bool bn_lm_head_can_screen(const struct bn_weight *w);

/* The fastest mode that is exact, for a caller who needs the n_top largest logits (0 = all of them): screened
 * where the matrix is read from memory at every token, because it does not fit in the last cache, and where
 * the kernels' instructions make up for the additional work. */
enum bn_lm_head_mode bn_lm_head_choose(const struct bn_weight *w, const struct bn_kernels *kernels,
                                       uint32_t n_top);

/* Codes or blocks of all rows, on all threads of the pool; codes take 7 bits a weight. model and kernels must
 * outlive it, and the head stays where it is. 0, or -1 with a message: no memory, or a matrix that the mode
 * cannot take. */
int bn_lm_head_open(struct bn_lm_head *head, const struct bn_model *model, const struct bn_kernels *kernels,
                    struct bn_pool *pool, enum bn_lm_head_mode mode, struct bn_err *err);
/* Accepts a zeroed and a closed one. */
void bn_lm_head_close(struct bn_lm_head *head);

/* What a token reads of the matrix, or of codes and matrix by the mean of the tokens so far. */
double bn_lm_head_bytes(const struct bn_lm_head *head);

/* session->logits from x: [n_embd]; stage lm_head. Modes other than the first two: what bn_linear gives for
 * the smaller matrix. With session->lm_head screened and session->n_top in
 * 1 … n_vocab / 16, logits that are certainly not among the n_top largest are minus infinity; all others, and
 * in any other case all, are what bn_linear gives. Any number of threads gives the same. Allocates: nothing.
 * Cannot fail. */
void bn_lm_head_apply(struct bn_session *session, const float *x);

#endif

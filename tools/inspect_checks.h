/* SPDX-License-Identifier: MIT
 * Sanity checks of a model file, apart from how they are printed. */
#ifndef TOOLS_INSPECT_CHECKS_H
#define TOOLS_INSPECT_CHECKS_H

#include "core/gguf.h"

struct bn_norm_rms {
    char *name;
    double rms; /* root mean square of the weights */
};

struct bn_inspection {
    struct bn_norm_rms *norms; /* every tensor with "norm" in its name, in the file's order */
    size_t n_norms, cap_norms;
    char **findings; /* what is wrong, one line each */
    size_t n_findings, cap_findings;
    uint64_t n_ternary, n_codes, n_code3; /* ternary tensors, their codes, and codes of 3 */
    char *tokenizer;                      /* a line about the vocabulary; NULL = the file has none */
    char *engine; /* a line: how the engine runs the model; NULL = it does not (a finding) or there
                   * are no tensors to run */
};

/* Read every ternary tensor's codes and scales and every norm; try to load the tokenizer and the model.
 * `file`: the bytes that gguf was opened on, all of which this touches. Cannot fail: what is wrong is a
 * finding. */
void bn_inspect(struct bn_inspection *r, const struct bn_gguf *gguf, struct bn_str file);
void bn_inspection_free(struct bn_inspection *r);

#endif

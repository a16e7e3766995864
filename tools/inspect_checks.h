/* SPDX-License-Identifier: MIT
 * Sanity checks of a model file, apart from how they are printed. */
#ifndef TOOLS_INSPECT_CHECKS_H
#define TOOLS_INSPECT_CHECKS_H

#include "core/gguf.h"

struct bn_norm_rms {
    char *name;
    double rms;
};

struct bn_inspection {
    struct bn_norm_rms *norms; /* every tensor with "norm" in its name */
    size_t n_norms, cap_norms;
    char **findings; /* one line each */
    size_t n_findings, cap_findings;
    uint64_t n_i2s, n_codes, n_code3;
    char tokenizer[160]; /* "" = no vocabulary in the file */
};

/* Read every I2_S tensor's codes and scale and every norm; touches the whole file. */
void bn_inspect(struct bn_inspection *r, const struct bn_gguf *gguf);
void bn_inspection_free(struct bn_inspection *r);

/* One JSON object: file, metadata (arrays by kind and count), tensors, norms, i2s, findings, status "ok" or
 * "failed". */
void bn_inspection_print_json(FILE *f, const struct bn_inspection *r, const struct bn_gguf *gguf);

#endif

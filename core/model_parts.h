/* SPDX-License-Identifier: MIT
 * What the two halves of loading a model share: metadata (model_config) and tensors (model). */
#ifndef CORE_MODEL_PARTS_H
#define CORE_MODEL_PARTS_H

#include "core/model.h"

struct bn_arch {
    const char *name;
    enum bn_activation activation;
    enum bn_rope rope;
    bool sub_norms;
};

enum {
    BN_MODEL_MAX_LAYERS = 4096,
    BN_MODEL_MAX_WIDTH = 1 << 24,
    BN_MODEL_MAX_CONTEXT = 1 << 24,
    BN_MODEL_MAX_NAME = 160,
};

enum bn_need { BN_OPTIONAL, BN_REQUIRED };

struct bn_model_loader {
    struct bn_model *model;
    const struct bn_gguf *gguf;
    const struct bn_arch *arch;
    bool *used; /* [n_tensors] */
    struct bn_err *err;
};

/* General keys, then those of the architecture, into l->model and l->arch. 0, or -1 with a message. */
int bn_model_read_config(struct bn_model_loader *l);

/* Read the number `<arch>.<suffix>` into *out, which holds the default. 0, or -1: it is missing though
 * required, or not min … max. */
int bn_model_read_u32(struct bn_model_loader *l, const char *suffix, enum bn_need need, uint32_t min,
                      uint32_t max, uint32_t *out);

#endif

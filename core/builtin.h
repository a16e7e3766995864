/* SPDX-License-Identifier: MIT
 * The demo model that is linked into the binary. */
#ifndef CORE_BUILTIN_H
#define CORE_BUILTIN_H

#include "core/base.h"

/* How messages, reports and the run info call it in place of a path. */
#define BN_BUILTIN_LABEL "(built in)"

/* The bytes of a complete GGUF file, aligned to 64; they live as long as the program. */
struct bn_str bn_builtin_model(void);

#endif

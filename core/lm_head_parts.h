/* SPDX-License-Identifier: MIT
 * Private to core/lm_head*.c. */
#ifndef CORE_LM_HEAD_PARTS_H
#define CORE_LM_HEAD_PARTS_H

#include "core/lm_head.h"
#include "kernels/screen.h"

enum {
    BN_LM_HEAD_BLOCK = 8 * BN_TILE_ROWS, /* rows that are one piece of work */
    BN_LM_HEAD_SHARE = 16,               /* who needs more than one row in so many needs them all */
};

#endif

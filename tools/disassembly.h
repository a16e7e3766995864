/* SPDX-License-Identifier: MIT
 * Instructions of a range of a file, by objdump. */
#ifndef TOOLS_DISASSEMBLY_H
#define TOOLS_DISASSEMBLY_H

#include "core/base.h"

struct bn_instruction {
    uint64_t vaddr;
    char *text; /* printable */
};

struct bn_disassembly {
    struct bn_instruction *items; /* by vaddr */
    size_t n, capacity;
    bool symbols; /* set by the caller: the file knows all its functions, so "<symbol+0x…>" is true */
};

/* Append the instructions of [start, end) of the file, whose path must begin with '/'. -1: objdump is not
 * there or failed; the message says what. Free with bn_disassembly_free in any case. */
int bn_disassembly_add(struct bn_disassembly *d, const char *path, uint64_t start, uint64_t end,
                       struct bn_err *err);
void bn_disassembly_free(struct bn_disassembly *d);

#endif

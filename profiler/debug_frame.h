/* SPDX-License-Identifier: MIT
 * .debug_frame holds the unwind rules of code that was built without .eh_frame. libunwind as Debian builds it
 * does not read that section, so its entries are written anew in the form of .eh_frame. */
#ifndef PROFILER_DEBUG_FRAME_H
#define PROFILER_DEBUG_FRAME_H

#include <libelf.h>

#include "core/base.h"

/* Append to `out` what stands in the section as .eh_frame entries that lie at `vaddr` on: addresses are
 * relative to their own place, so they hold wherever the image is loaded. section: its bytes, uncompressed;
 * e_ident: of its file. Entries that are damaged, or that use what cannot be carried over (segments, absolute
 * addresses in the rules), are left out and counted: the result. The caller frees `out`. */
size_t bn_debug_frame_convert(const unsigned char *e_ident, Elf_Data *section, uint64_t vaddr,
                              struct bn_buf *out);

#endif

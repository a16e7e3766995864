/* SPDX-License-Identifier: MIT
 * `bnprof inspect`'s output. */
#ifndef TOOLS_INSPECT_REPORT_H
#define TOOLS_INSPECT_REPORT_H

#include "tools/inspect_checks.h"

/* Tables for people. norms: with the root mean square of each norm. */
void bn_inspect_print(FILE *f, const struct bn_inspection *r, const struct bn_gguf *gguf, bool norms);

/* One JSON object: file, gguf_version, alignment, size_bytes, metadata, tensors, types, norms, i2s,
 * tokenizer, engine, findings, status "ok" or "failed". */
void bn_inspect_print_json(FILE *f, const struct bn_inspection *r, const struct bn_gguf *gguf);

#endif

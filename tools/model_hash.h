/* SPDX-License-Identifier: MIT
 * SHA-256 of a model file, remembered between runs: a gigabyte takes seconds. */
#ifndef TOOLS_MODEL_HASH_H
#define TOOLS_MODEL_HASH_H

#include "core/base.h"

/* 64 hex digits of the file's SHA-256, or of the built-in model for BN_BUILTIN_LABEL. Answers are kept in
 * ${XDG_CACHE_HOME:-~/.cache}/bnprof/ by device, inode, size and time of change; a cache that cannot be read
 * or written only costs time. */
int bn_model_sha256(const char *path, char hex[65], struct bn_err *err);

#endif

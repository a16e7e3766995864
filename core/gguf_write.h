/* SPDX-License-Identifier: MIT
 * The other way: metadata and tensors to a GGUF v3 file, streamed. Used by synth and by tests. */
#ifndef CORE_GGUF_WRITE_H
#define CORE_GGUF_WRITE_H

#include "core/gguf.h"

/* Order of calls: open; any number of kv_*; any number of tensor; begin_data; for each tensor, in the same
 * order, data pieces that add up to its size (data pads to the alignment by itself); close. Errors are
 * sticky: they are reported by close, which then removes the file. The file appears at its path only on
 * success. */
struct bn_gguf_writer;

struct bn_gguf_writer *bn_gguf_writer_open(const char *path, struct bn_err *err);
void bn_gguf_write_u32(struct bn_gguf_writer *w, const char *key, uint32_t value);
void bn_gguf_write_f32(struct bn_gguf_writer *w, const char *key, float value);
void bn_gguf_write_bool(struct bn_gguf_writer *w, const char *key, bool value);
void bn_gguf_write_str(struct bn_gguf_writer *w, const char *key, struct bn_str value);
void bn_gguf_write_strs(struct bn_gguf_writer *w, const char *key, const struct bn_str *values, size_t n);
void bn_gguf_write_i32s(struct bn_gguf_writer *w, const char *key, const int32_t *values, size_t n);
void bn_gguf_write_f32s(struct bn_gguf_writer *w, const char *key, const float *values, size_t n);
/* ne1 > 1: a matrix of ne1 rows; else a vector of ne0. */
void bn_gguf_write_tensor(struct bn_gguf_writer *w, const char *name, uint32_t type, uint64_t ne0,
                          uint64_t ne1);
void bn_gguf_write_begin_data(struct bn_gguf_writer *w);
void bn_gguf_write_data(struct bn_gguf_writer *w, const void *bytes, size_t n);
/* Give up: from now on nothing is written, and close reports "PATH: MESSAGE" (of the first failure). */
void bn_gguf_writer_fail(struct bn_gguf_writer *w, const char *format, ...) BN_PRINTF(2, 3);
/* 0 or -1; frees w in any case. A NULL w (open failed) is accepted and returns -1. */
int bn_gguf_writer_close(struct bn_gguf_writer *w, struct bn_err *err);

#endif

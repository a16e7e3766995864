/* SPDX-License-Identifier: MIT
 * Metadata values as text and as JSON. Names and strings come from a stranger's file: what is no printable
 * UTF-8 becomes '?', so that they can neither steer a terminal nor break the JSON. */
#ifndef TOOLS_INSPECT_VALUE_H
#define TOOLS_INSPECT_VALUE_H

#include <cjson/cJSON.h>

#include "core/gguf.h"

/* Append at most max_chars characters of s, "..." behind a cut. */
void bn_inspect_put_str(struct bn_buf *out, struct bn_str s, size_t max_chars);
/* The same as a string of its own; free it. */
char *bn_inspect_str(struct bn_str s, size_t max_chars);

/* A value in one line; of an array its length, kind and first elements. */
void bn_inspect_put_value(struct bn_buf *out, const struct bn_gguf_kv *kv);

/* A number, string or bool; an integer that a double cannot hold is a decimal string, a number that is none
 * is null. An array is {"kind", "count", "first": […]}. The caller owns it. */
cJSON *bn_inspect_value_json(const struct bn_gguf_kv *kv);

#endif

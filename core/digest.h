/* SPDX-License-Identifier: MIT
 * What tells two pieces of bytes apart. Apart from core/base because it needs libcrypto, base needs only
 * libc. */
#ifndef CORE_DIGEST_H
#define CORE_DIGEST_H

#include <stddef.h>

/* SHA-256 as 64 hex digits and NUL. */
void bn_sha256_hex(const void *bytes, size_t n, char hex[65]);

#endif

/* SPDX-License-Identifier: MIT
 * UTF-8: where characters end, and which bytes are none. */
#ifndef CORE_UTF8_H
#define CORE_UTF8_H

#include <stddef.h>

/* Bytes of the well-formed character that s starts with, 1 to 4; 0 when its first byte starts none (stray or
 * cut sequence, overlong form, surrogate, beyond U+10FFFF). n: bytes at s, at least 1. */
static inline unsigned bn_utf8_length(const char *s, size_t n)
{
    const unsigned char *b = (const unsigned char *)s;
    unsigned length, low = 0x80, high = 0xbf; /* what the second byte may be */

    if (b[0] < 0x80)
        return 1;
    if (b[0] < 0xc2 || b[0] > 0xf4)
        return 0;
    length = b[0] < 0xe0 ? 2 : b[0] < 0xf0 ? 3 : 4;
    if (n < length)
        return 0;
    switch (b[0]) {
    case 0xe0:
        low = 0xa0;
        break;
    case 0xed:
        high = 0x9f;
        break;
    case 0xf0:
        low = 0x90;
        break;
    case 0xf4:
        high = 0x8f;
        break;
    }
    if (b[1] < low || b[1] > high)
        return 0;
    for (unsigned i = 2; i < length; i++)
        if ((b[i] & 0xc0) != 0x80)
            return 0;
    return length;
}

/* Bytes at the start of s that are whole, well-formed characters. */
static inline size_t bn_utf8_valid_prefix(const char *s, size_t n)
{
    size_t at = 0;

    while (at < n) {
        unsigned length = bn_utf8_length(s + at, n - at);
        if (length == 0)
            break;
        at += length;
    }
    return at;
}

#endif

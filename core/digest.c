/* SPDX-License-Identifier: MIT
 * SHA-256 by libcrypto. */
#include "core/digest.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

/* Computing a digest of bytes in memory can fail only for want of memory. */
void bn_sha256_hex(const void *bytes, size_t n, char hex[65])
{
    unsigned char digest[32];

    if (EVP_Digest(bytes, n, digest, NULL, EVP_sha256(), NULL) != 1) {
        fprintf(stderr, "bnprof: out of memory\n");
        exit(1);
    }
    for (int i = 0; i < 32; i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

/* SPDX-License-Identifier: MIT
 * libFuzzer's entry for one of the fuzz functions: -DFUZZ=fuzz_elf and so on. */
#include "fuzz_elf.h"
#include "fuzz_part.h"
#include "fuzz_profile.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    FUZZ(bytes, n);
    return 0;
}

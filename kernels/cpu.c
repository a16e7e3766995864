/* SPDX-License-Identifier: MIT
 * CPU flags: read with CPUID and XGETBV or from the kernel's auxiliary vector, lowered by the user's list. */
#include "kernels/cpu.h"

#include <stdio.h>
#include <string.h>
#ifdef __x86_64__
#include <cpuid.h>
#elif defined __aarch64__
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

/* In the order of the ladders: each flag needs all flags of its architecture before it. */
static const struct {
    const char *name;
    unsigned flag;
} flag_names[] = {
    {"avx2", BN_CPU_AVX2}, {"avx512", BN_CPU_AVX512},   {"avx512vnni", BN_CPU_AVX512VNNI},
    {"neon", BN_CPU_NEON}, {"dotprod", BN_CPU_DOTPROD},
};
enum { N_FLAGS = sizeof flag_names / sizeof flag_names[0] };

#ifdef __x86_64__
/* Which register files the operating system saves. Only valid when CPUID says OSXSAVE. */
static unsigned xcr0(void)
{
    unsigned low, high;

    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static int has(unsigned word, unsigned bits)
{
    return (word & bits) == bits;
}

unsigned bn_cpu_detect(void)
{
    const unsigned ymm_state = 0x06, zmm_state = 0xe6; /* SSE, AVX; and opmask, both halves of zmm */
    const unsigned avx512_bits = bit_AVX512F | bit_AVX512DQ | bit_AVX512BW | bit_AVX512VL;
    unsigned a, b, c, d, flags = 0, saved;

    if (!__get_cpuid(1, &a, &b, &c, &d) || !has(c, bit_OSXSAVE | bit_AVX | bit_FMA | bit_F16C))
        return 0;
    saved = xcr0();
    if (!has(saved, ymm_state) || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !has(b, bit_AVX2))
        return 0;
    flags |= BN_CPU_AVX2;
    if (has(saved, zmm_state) && has(b, avx512_bits)) {
        flags |= BN_CPU_AVX512;
        if (has(c, bit_AVX512VNNI))
            flags |= BN_CPU_AVX512VNNI;
    }
    return flags;
}
#elif defined __aarch64__
unsigned bn_cpu_detect(void)
{
    const unsigned long caps = getauxval(AT_HWCAP);

    if (!(caps & HWCAP_ASIMD))
        return 0;
    return BN_CPU_NEON | (caps & HWCAP_ASIMDDP ? BN_CPU_DOTPROD : 0u);
}
#else
unsigned bn_cpu_detect(void)
{
    return 0;
}
#endif

/* Apply one word to *flags; -1 if it is no flag or one that the machine lacks. */
static int apply_word(const char *word, size_t n, unsigned detected, unsigned *flags)
{
    int drop = n > 0 && word[0] == '-';

    if (n == 1 && word[0] == 'c')
        return 0;
    word += drop;
    n -= (size_t)drop;
    for (int i = 0; i < N_FLAGS; i++) {
        unsigned flag = flag_names[i].flag;

        if (strlen(flag_names[i].name) != n || memcmp(flag_names[i].name, word, n) != 0)
            continue;
        if (!(detected & flag))
            return -1;
        if (drop)
            *flags &= flag - 1; /* the flag and all above it */
        else
            *flags |= detected & (flag | (flag - 1)); /* below it lie the other architecture's, too */
        return 0;
    }
    return -1;
}

int bn_cpu_parse(const char *list, unsigned detected, unsigned *out, char *bad, size_t bad_size)
{
    unsigned flags = list[0] == '-' ? detected : 0;

    for (const char *word = list;; word++) {
        size_t n = strcspn(word, ",");

        if (apply_word(word, n, detected, &flags) != 0) {
            snprintf(bad, bad_size, "%.*s", n > 64 ? 64 : (int)n, word);
            return -1;
        }
        word += n;
        if (*word == '\0')
            break;
    }
    *out = flags;
    return 0;
}

const char *bn_cpu_names(unsigned flags, char *buf, size_t size)
{
    size_t used = 0;

    snprintf(buf, size, "c");
    for (int i = 0; i < N_FLAGS; i++) {
        if ((flags & flag_names[i].flag) && used < size)
            used += (size_t)snprintf(buf + used, size - used, "%s%s", used ? "," : "", flag_names[i].name);
    }
    return buf;
}

/* SPDX-License-Identifier: MIT
 * Look at instruction bytes. All of these are recognised from their end or beginning alone. */
#include "profiler/x86_code.h"

#include <string.h>

enum { RBP = 6, RSP = 7 };

/* E8 rel32, or FF /2 of 2 to 7 bytes. */
bool bn_x86_follows_call(const struct bn_image *image, uint64_t vaddr)
{
    const uint8_t *p =
        vaddr >= 7 && bn_image_is_code(image, vaddr - 1) ? bn_image_read(image, vaddr - 7, 7) : NULL;

    if (!p)
        return false;
    p += 7;
    if (p[-5] == 0xe8)
        return true;
    for (int n = 2; n <= 7; n++)
        if (p[-n] == 0xff && (p[-n + 1] & 0x38) == 0x10)
            return true;
    return false;
}

/* mov $15, %rax; syscall: debuggers rely on these very bytes, so they do not change. */
bool bn_x86_is_trampoline(const struct bn_image *image, uint64_t vaddr)
{
    static const uint8_t code[] = {0x48, 0xc7, 0xc0, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05};
    const uint8_t *p = bn_image_read(image, vaddr, sizeof code);

    return p && memcmp(p, code, sizeof code) == 0;
}

bool bn_x86_is_context_start(const struct bn_image *image, uint64_t vaddr)
{
    static const uint8_t code[] = {0x48, 0x89, 0xdc};
    const uint8_t *p = bn_image_read(image, vaddr, sizeof code);

    return p && memcmp(p, code, sizeof code) == 0;
}

/* 58 … 5f, with 41 before it for r8 … r15; c9 is leave. */
int bn_x86_popped(const struct bn_image *image, uint64_t vaddr)
{
    static const uint8_t dwarf_number[] = {0, 2, 1, 3, RSP, RBP, 4, 5};
    const uint8_t *p =
        vaddr >= 2 && bn_image_is_code(image, vaddr - 1) ? bn_image_read(image, vaddr - 2, 2) : NULL;

    if (!p)
        return -1;
    if (p[1] == 0xc9)
        return RBP;
    if (p[1] < 0x58 || p[1] > 0x5f)
        return -1;
    if (p[0] == 0x41)
        return 8 + (p[1] & 7);
    return dwarf_number[p[1] & 7] == RSP ? -1 : dwarf_number[p[1] & 7];
}

bool bn_x86_links_frame(const struct bn_image *image, uint64_t vaddr, uint64_t end)
{
    enum { LOOK_BYTES = 48 };
    size_t n = bn_min_size((size_t)(end - vaddr), LOOK_BYTES);
    const uint8_t *p = end > vaddr ? bn_image_read(image, vaddr, n) : NULL;
    bool pushed = false;

    for (size_t i = 0; p && i + 3 <= n; i++) {
        pushed = pushed || p[i] == 0x55;
        if (pushed && p[i] == 0x48 && p[i + 1] == 0x89 && p[i + 2] == 0xe5)
            return true;
    }
    return false;
}

static const uint8_t endbr64[] = {0xf3, 0x0f, 0x1e, 0xfa};

/* A stub jumps through a table; for the first call it pushes a number and jumps to the section's head, which
 * pushes another word and jumps to the resolver. */
int bn_x86_stub_depth(const struct bn_image *image, uint64_t vaddr)
{
    enum { LONGEST = 7 };
    const uint8_t *p = bn_image_read(image, vaddr, LONGEST);
    const uint8_t *before = vaddr >= 6 ? bn_image_read(image, vaddr - 6, 6) : NULL;

    if (!p)
        return -1;
    if (memcmp(p, endbr64, sizeof endbr64) == 0 || p[0] == 0x68)
        return 0;
    bool head = before && before[0] == 0xff && before[1] == 0x35;
    p += p[0] == 0xf2; /* bnd */
    if (p[0] == 0xff && p[1] == 0x25)
        return head ? 16 : 0;
    return p[0] == 0xe9 || (p[0] == 0xff && p[1] == 0x35) ? 8 : -1;
}

enum bn_x86_return bn_x86_find_return(const struct bn_image *image, uint64_t start, uint64_t vaddr)
{
    static const uint8_t links[2][4] = {{0x55, 0x48, 0x89, 0xe5}, {0x55, 0x48, 0x8b, 0xec}};
    const uint8_t *p = bn_image_read(image, start, 8), *here = bn_image_read(image, vaddr, 2);

    if (!p || !here || vaddr < start)
        return BN_X86_RETURN_UNKNOWN;
    size_t push = memcmp(p, endbr64, sizeof endbr64) == 0 ? sizeof endbr64 : 0;
    if (memcmp(p + push, links[0], 4) != 0 && memcmp(p + push, links[1], 4) != 0)
        return BN_X86_RETURN_UNKNOWN;
    if (vaddr <= start + push || here[0] == 0xc3 || here[0] == 0xc2 || (here[0] == 0xf3 && here[1] == 0xc3))
        return BN_X86_RETURN_AT_RSP;
    if (vaddr == start + push + 1)
        return BN_X86_RETURN_IN_PUSH;
    return here[-1] == 0x5d || here[-1] == 0xc9 ? BN_X86_RETURN_UNKNOWN : BN_X86_RETURN_IN_LINK;
}

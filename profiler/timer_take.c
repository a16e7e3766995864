/* SPDX-License-Identifier: MIT
 * Nothing here takes a lock, allocates, or can fault: the stack is read by process_vm_readv, or page by page
 * after asking the kernel whether a page can be read. */
#include "profiler/timer_take.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { PAGE_BYTES = 4096 }; /* the smallest there is: larger ones are asked about in pieces */

static _Atomic uint32_t can_readv = 1;

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Can the word at this address be read? The kernel copies it before it looks at the first argument, which is
 * wrong. */
static bool readable(uintptr_t address)
{
    return syscall(SYS_rt_sigprocmask, ~0, address, NULL, 8) == -1 && errno != EFAULT;
}

/* memcpy would be checked by a sanitizer, or be somebody else's. */
__attribute__((no_sanitize("address"), no_sanitize("thread"))) static void
copy_words(char *to, uintptr_t from, size_t n)
{
    volatile const uint64_t *word = (volatile const uint64_t *)from; // NOLINT: an address of the stack
    for (size_t i = 0; i < n / 8; i++) {
        uint64_t value = word[i];
        __builtin_memcpy(to + 8 * i, &value, sizeof value);
    }
}

static size_t copy_by_page(char *to, uintptr_t from, size_t n)
{
    size_t done = 0;

    while (done < n && readable(from + done)) {
        size_t part = PAGE_BYTES - ((from + done) & (PAGE_BYTES - 1));
        part = part < n - done ? part : n - done;
        copy_words(to + done, from + done, part);
        done += part;
    }
    return done;
}

/* Up to n bytes, a multiple of 8, from an address that is one too; fewer where the readable memory ends. */
static size_t copy_stack(int32_t pid, char *to, uintptr_t from, size_t n)
{
    enum { PARTS = 18 }; /* pages of 4 KiB that 64 KiB can touch */
    struct iovec local = {.iov_base = to, .iov_len = n}, parts[PARTS];
    size_t n_parts = 0;

    for (size_t done = 0; done < n && n_parts < PARTS;) {
        size_t part = PAGE_BYTES - ((from + done) & (PAGE_BYTES - 1));
        part = part < n - done ? part : n - done;
        parts[n_parts++] = (struct iovec){.iov_base = (void *)(from + done), .iov_len = part}; // NOLINT
        done += part;
    }
    if (atomic_load_explicit(&can_readv, memory_order_relaxed)) {
        long got = syscall(SYS_process_vm_readv, pid, &local, 1, parts, n_parts, 0);
        if (got >= 0 || errno == EFAULT)
            return got > 0 ? (size_t)got & ~(size_t)7 : 0;
        atomic_store_explicit(&can_readv, 0, memory_order_relaxed); /* a seccomp filter, or no such call */
    }
    return copy_by_page(to, from, n);
}

#if defined __x86_64__
enum { N_REGS = 20 };

/* In perf's order: ax bx cx dx si di bp sp ip flags cs ss, r8 to r15. */
static void take_regs(uint64_t *regs, const ucontext_t *u)
{
    static const uint8_t from[10] = {REG_RAX, REG_RBX, REG_RCX, REG_RDX, REG_RSI,
                                     REG_RDI, REG_RBP, REG_RSP, REG_RIP, REG_EFL};
    const greg_t *g = u->uc_mcontext.gregs;

    for (size_t i = 0; i < 10; i++)
        regs[i] = (uint64_t)g[from[i]];
    regs[10] = (uint64_t)g[REG_CSGSFS] & 0xffff;
    regs[11] = (uint64_t)g[REG_CSGSFS] >> 48;
    for (size_t i = 0; i < 8; i++)
        regs[12 + i] = (uint64_t)g[REG_R8 + i];
}

enum { FP_INDEX = 6, SP_INDEX = 7, IP_INDEX = 8 };
#elif defined __aarch64__
enum { N_REGS = 33, FP_INDEX = 29, SP_INDEX = 31, IP_INDEX = 32 };

static void take_regs(uint64_t *regs, const ucontext_t *u)
{
    for (size_t i = 0; i < 31; i++)
        regs[i] = u->uc_mcontext.regs[i];
    regs[SP_INDEX] = u->uc_mcontext.sp;
    regs[IP_INDEX] = u->uc_mcontext.pc;
}
#else
#error "bnprof records on x86-64 and aarch64"
#endif

/* A sample is `struct front`, the chain, `struct back`, the stack; perf_event_open(2) has the order. */
struct front {
    struct perf_event_header head;
    uint64_t ip;
    uint32_t pid, tid;
    uint64_t t_ns;
    uint32_t cpu, reserved;
    uint64_t period;
    uint64_t n_chain;
};

struct back {
    uint64_t abi, regs[N_REGS];
    uint64_t stack_bytes;
};
_Static_assert(__builtin_popcountll(BN_TIMER_REGS) == N_REGS, "as many registers as the mask says");

enum { CHAIN_MAX = 128 };

/* The return addresses that frame pointers link, for a stack that is longer than its copy. As the kernel does
 * it: behind the sampled address, with what stands above each saved frame pointer. */
static size_t follow_links(int32_t pid, uint64_t link, uint64_t from, uint64_t *chain, size_t n)
{
    enum { FAR = 8 << 20 }; /* a frame of this size is none */
    uint64_t frame[2];

    while (n < CHAIN_MAX && link % 8 == 0 && link >= from && link - from < FAR &&
           copy_stack(pid, (char *)frame, (uintptr_t)link, sizeof frame) == sizeof frame && frame[1] != 0) {
        chain[n++] = frame[1];
        from = link + 1;
        link = frame[0];
    }
    return n;
}

static size_t stack_room(const struct bn_timer_slot *slot, uint32_t dump_bytes, uint64_t sp)
{
    size_t room = dump_bytes;

    if (sp % 8 != 0)
        return 0;
    if (sp < slot->stack_end && slot->stack_end - sp < room)
        room = (size_t)(slot->stack_end - sp) & ~(size_t)7;
    return room;
}

void bn_timer_take(struct bn_timer_ring *ring, const struct bn_timer_region *region, int32_t pid,
                   uint64_t weight_ns, const ucontext_t *u)
{
    struct bn_timer_slot *slot = ring->slot;
    struct front front = {.head = {.type = PERF_RECORD_SAMPLE, .misc = PERF_RECORD_MISC_USER},
                          .pid = (uint32_t)pid,
                          .tid = (uint32_t)slot->tid,
                          .t_ns = now_ns(),
                          .period = weight_ns};
    struct back back = {.abi = PERF_SAMPLE_REGS_ABI_64};
    uint64_t chain[CHAIN_MAX] = {(uint64_t)PERF_CONTEXT_USER};

    bn_timer_ring_name(ring, pid, front.t_ns, false);
    take_regs(back.regs, u);
    front.ip = chain[1] = back.regs[IP_INDEX];
    front.n_chain = 2;
    syscall(SYS_getcpu, &front.cpu, NULL, NULL);
    size_t room = stack_room(slot, region->stack_dump_bytes, back.regs[SP_INDEX]);
    if (room == region->stack_dump_bytes)
        front.n_chain = follow_links(pid, back.regs[FP_INDEX], back.regs[SP_INDEX], chain, 2);
    size_t chain_bytes = 8 * (size_t)front.n_chain, size = sizeof front + chain_bytes + sizeof back;
    char *at = bn_timer_ring_reserve(ring, size + room + 8);
    if (!at) {
        atomic_fetch_add_explicit(&slot->lost, 1, memory_order_relaxed);
        return;
    }
    back.stack_bytes = copy_stack(pid, at + size, (uintptr_t)back.regs[SP_INDEX], room);
    memcpy(at + sizeof front, chain, chain_bytes);
    memcpy(at + sizeof front + chain_bytes, &back, sizeof back);
    size += back.stack_bytes;
    if (back.stack_bytes) { /* a last word: how much of it is valid */
        memcpy(at + size, &back.stack_bytes, sizeof back.stack_bytes);
        size += sizeof back.stack_bytes;
    }
    front.head.size = (uint16_t)size;
    memcpy(at, &front, sizeof front);
    bn_timer_ring_commit(ring, size);
    atomic_fetch_add_explicit(&slot->samples, 1, memory_order_relaxed);
}

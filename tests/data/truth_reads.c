/* SPDX-License-Identifier: MIT
 * Half of its time is spent in long system calls: truth_reads ROUNDS. Each round is one call of readv(), of
 * some tens of milliseconds, and then spin() for about as long. Prints the CPU time of both in ns, and the
 * number of calls. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { PIECE = 16 << 20, MAX_PIECES = 120, WANTED_NS = 60000000, JITTER_NS = 16000000 };

static uint64_t cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* A file without blocks is read as zeros, over and over into one buffer: no disk, next to no memory. */
static uint64_t read_long(int fd, char *buffer, int n_pieces)
{
    struct iovec pieces[MAX_PIECES];
    uint64_t start_ns = cpu_ns();

    for (int i = 0; i < n_pieces; i++)
        pieces[i] = (struct iovec){buffer, PIECE};
    if (lseek(fd, 0, SEEK_SET) != 0 || readv(fd, pieces, n_pieces) != (ssize_t)n_pieces * PIECE)
        exit(1);
    return cpu_ns() - start_ns;
}

__attribute__((noinline)) static uint64_t spin(uint64_t ns)
{
    uint64_t start_ns = cpu_ns(), x = 1;

    while (cpu_ns() - start_ns < ns)
        for (int i = 0; i < 20000; i++)
            x = x * 6364136223846793005u + 1442695040888963407u;
    return x ? cpu_ns() - start_ns : 0;
}

int main(int argc, char **argv)
{
    int fd = memfd_create("zeros", MFD_CLOEXEC), rounds = argc > 1 ? atoi(argv[1]) : 10, n_pieces = 2,
        calls = 1;
    char *buffer = malloc(PIECE);

    if (fd < 0 || !buffer || ftruncate(fd, (off_t)MAX_PIECES * PIECE) != 0)
        return 2;
    uint64_t read_ns = read_long(fd, buffer, n_pieces), spin_ns = 0; /* the buffer is there now */
    uint64_t took_ns = read_long(fd, buffer, n_pieces);
    read_ns += took_ns;
    calls++;
    while (n_pieces < MAX_PIECES && took_ns / 2 * (uint64_t)n_pieces < WANTED_NS)
        n_pieces++;
    srand(1);
    for (int i = 0; i < rounds; i++, calls++) {
        took_ns = read_long(fd, buffer, n_pieces);
        read_ns += took_ns;
        /* out of step with the clock's ticks */
        spin_ns += spin(took_ns - JITTER_NS / 2 + (uint64_t)rand() % JITTER_NS);
    }
    printf("%llu %llu %d\n", (unsigned long long)read_ns, (unsigned long long)spin_ns, calls);
    return 0;
}

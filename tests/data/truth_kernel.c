/* SPDX-License-Identifier: MIT
 * Half of its time is the kernel's, until so much CPU time has gone: truth_kernel CPU_MS. It fills memory by
 * system calls. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static uint64_t cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int main(int argc, char **argv)
{
    static unsigned char bytes[1 << 20];
    uint64_t end_ns = (argc > 1 ? strtoull(argv[1], NULL, 10) : 1000) * 1000000u;
    unsigned sum = 0;
    int fd = open("/dev/zero", O_RDONLY);

    if (fd < 0)
        return 1;
    while (cpu_ns() < end_ns) {
        if (read(fd, bytes, sizeof bytes) != (ssize_t)sizeof bytes)
            return 1;
        for (size_t i = 0; i < sizeof bytes / 4; i++)
            sum += bytes[i];
    }
    return sum != 0;
}

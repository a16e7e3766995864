/* SPDX-License-Identifier: MIT
 * Fuzz entries: bytes as profile.part, with and without right checksums, and as perf records. */
#ifndef TESTS_FUZZ_FUZZ_PART_H
#define TESTS_FUZZ_FUZZ_PART_H

#include <linux/perf_event.h>

#include "fuzz_file.h"
#include "profiler/intake.h"
#include "profiler/join.h"
#include "profiler/raw.h"

static inline void fuzz_part(const uint8_t *bytes, size_t n)
{
    char path[32];
    int fd = fuzz_file(bytes, n, path, sizeof path);
    struct bn_profile p;
    struct bn_err err = {.msg = ""};

    bn_profile_init(&p);
    if (bn_join(&p, path, NULL, &err) != 0 && !err.msg[0])
        abort(); /* refused without a word */
    bn_profile_free(&p);
    close(fd);
}

/* Set the checksums that the blocks should have, so that what is behind them is read. */
static inline void fuzz_part_mended(const uint8_t *bytes, size_t n)
{
    uint8_t *copy = (uint8_t *)bn_xmalloc(n + 1);
    struct bn_raw_block block;

    memcpy(copy, bytes, n);
    for (size_t at = 8; at + sizeof block <= n;) {
        memcpy(&block, copy + at, sizeof block);
        if (block.payload_bytes > n - at - sizeof block)
            break;
        block.crc32c = bn_raw_crc32c(0, &block, 8);
        block.crc32c = bn_raw_crc32c(block.crc32c, copy + at + sizeof block, block.payload_bytes);
        memcpy(copy + at, &block, sizeof block);
        at += sizeof block + bn_round_up(block.payload_bytes, 8);
    }
    fuzz_part(copy, n);
    free(copy);
}

/* As the ring would give them: sizes are those that the records tell, as far as they fit. */
static inline void fuzz_records(const uint8_t *bytes, size_t n)
{
    const struct bn_record_format format = {
        .sample_type = PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_CPU |
                       PERF_SAMPLE_PERIOD | PERF_SAMPLE_CALLCHAIN | PERF_SAMPLE_REGS_USER |
                       PERF_SAMPLE_STACK_USER,
        .regs_user = 0xff0fff,
    };
    struct bn_err err;
    struct bn_intake in;
    struct bn_record *r = (struct bn_record *)bn_xcalloc(1, sizeof *r);
    size_t size;

    bn_intake_begin(&in, &format, false);
    for (size_t at = 0; at < n && (size = bn_record_size(bytes + at, n - at)) != 0; at += size) {
        /* alone in its memory, so that a read past its end is seen */
        uint8_t *alone = (uint8_t *)bn_xmalloc(size);
        memcpy(alone, bytes + at, size);
        bn_record_decode(&format, alone, r, &err);
        bn_intake_record(&in, alone);
        free(alone);
    }
    bn_intake_end(&in);
    free(r);
}

#endif

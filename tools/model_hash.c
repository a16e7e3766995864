/* SPDX-License-Identifier: MIT
 * The cache holds one small file for each model file that was hashed: its name is the model's identity, its
 * content the hash. */
#include "tools/model_hash.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/builtin.h"
#include "core/digest.h"

enum {
    SETTLE_SECONDS = 2
}; /* a file that changed just now could change again within one tick of its time stamp */

/* Name of the cache's file for this model, NULL if there is no place for a cache. The caller frees. */
static char *cache_path(const struct stat *st)
{
    const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char *cache = NULL, *dir, *path = NULL;

    if (base && base[0] == '/')
        cache = bn_xstrdup(base);
    else if (home && home[0] == '/')
        cache = bn_xasprintf("%s/.cache", home);
    if (!cache)
        return NULL;
    dir = bn_xasprintf("%s/bnprof", cache);
    (void)mkdir(cache, 0700); /* there already, or the next one fails */
    if (mkdir(dir, 0700) == 0 || errno == EEXIST)
        path = bn_xasprintf("%s/sha256-%" PRIx64 "-%" PRIx64 "-%" PRIx64 "-%" PRIx64 ".%09ld", dir,
                            (uint64_t)st->st_dev, (uint64_t)st->st_ino, (uint64_t)st->st_size,
                            (uint64_t)st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
    free(cache);
    free(dir);
    return path;
}

static bool read_cache(const char *path, char hex[65])
{
    FILE *f = fopen(path, "re");
    size_t n = 0;

    if (f) {
        n = fread(hex, 1, 64, f);
        fclose(f);
    }
    hex[n] = '\0';
    return n == 64 && strspn(hex, "0123456789abcdef") == 64;
}

static void write_cache(const char *path, const char *hex)
{
    struct bn_out out = {0};

    if (bn_out_open(&out, path, NULL) != 0)
        return;
    fprintf(out.f, "%s\n", hex);
    if (bn_out_commit(&out, NULL) != 0)
        bn_out_abort(&out);
}

int bn_model_sha256(const char *path, char hex[65], struct bn_err *err)
{
    struct bn_map map;
    struct stat st;

    if (strcmp(path, BN_BUILTIN_LABEL) == 0) {
        struct bn_str model = bn_builtin_model();
        bn_sha256_hex(model.p, model.n, hex);
        return 0;
    }
    if (stat(path, &st) != 0)
        return bn_err_set(err, "%s: %s", path, strerror(errno));
    char *cache = cache_path(&st);
    int status = 0;
    if (!cache || !read_cache(cache, hex)) {
        status = bn_map_open(&map, path, err);
        if (status == 0) {
            bn_sha256_hex(map.p, map.n, hex);
            bn_map_close(&map);
            if (cache && time(NULL) - st.st_mtim.tv_sec > SETTLE_SECONDS)
                write_cache(cache, hex);
        }
    }
    free(cache);
    return status;
}

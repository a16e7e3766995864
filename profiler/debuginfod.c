/* SPDX-License-Identifier: MIT
 * libdebuginfod is loaded when asked for, as libdw does it: nobody else needs it, or the network, to profile.
 */
#include "profiler/debuginfod.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

struct client;
typedef struct client *begin_fn(void);
typedef void end_fn(struct client *client);
typedef int find_fn(struct client *client, const unsigned char *build_id, int n, char **path);

static struct {
    begin_fn *begin;
    end_fn *end;
    find_fn *find;
    bool allowed;
} library;

int bn_debuginfod_load(struct bn_err *err)
{
    const char *urls = getenv("DEBUGINFOD_URLS");

    if (!urls || !*urls)
        return bn_err_set(err, "debuginfod: DEBUGINFOD_URLS names no servers");
    void *handle = library.find ? NULL : dlopen("libdebuginfod.so.1", RTLD_NOW);
    if (!library.find && !handle)
        return bn_err_set(err, "debuginfod: libdebuginfod.so.1 is not installed (Debian: libdebuginfod1)");
    if (handle) {
        *(void **)&library.begin = dlsym(handle, "debuginfod_begin");
        *(void **)&library.end = dlsym(handle, "debuginfod_end");
        *(void **)&library.find = dlsym(handle, "debuginfod_find_debuginfo");
    }
    if (!library.begin || !library.end || !library.find) {
        library.find = NULL;
        return bn_err_set(err, "debuginfod: libdebuginfod.so.1 lacks functions that it should have");
    }
    return 0;
}

void bn_debuginfod_allow(void)
{
    library.allowed = true;
}

char *bn_debuginfod_find(const uint8_t *build_id, size_t n)
{
    char *path = NULL;

    if (!library.allowed || !library.find || n == 0 || n > 64)
        return NULL;
    struct client *client = library.begin();
    if (!client)
        return NULL;
    int fd = library.find(client, build_id, (int)n, &path);
    library.end(client);
    if (fd < 0)
        return NULL;
    close(fd);
    return path;
}

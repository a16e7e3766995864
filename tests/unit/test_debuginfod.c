/* SPDX-License-Identifier: MIT
 * Debug information from a server: never asked for by itself, used when allowed. The server is a thread here.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <ftw.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "profiler/debug.h"
#include "profiler/debuginfod.h"
#include "profiler/symbols.h"
#include "profiler/symtab.h"

/* Connections are counted, requests for debug information are answered with one file. */
struct server {
    int fd;
    uint16_t port;
    pthread_t thread;
    const char *file;
    volatile int connections;
    volatile bool stop;
};

static void answer(struct server *s, int client)
{
    char request[4096];
    struct bn_map map;
    struct bn_err err;
    ssize_t n = recv(client, request, sizeof request - 1, 0);

    request[n > 0 ? n : 0] = '\0';
    if (!strstr(request, "/debuginfo ") || bn_map_open(&map, s->file, &err) != 0) {
        dprintf(client, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
    }
    dprintf(client,
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %zu\r\n"
            "Connection: close\r\n\r\n",
            map.n);
    for (size_t at = 0; at < map.n;) {
        n = send(client, map.p + at, map.n - at, MSG_NOSIGNAL);
        if (n <= 0)
            break;
        at += (size_t)n;
    }
    bn_map_close(&map);
}

static void *serve(void *arg)
{
    struct server *s = arg;
    struct pollfd p = {.fd = s->fd, .events = POLLIN};

    while (!s->stop) {
        if (poll(&p, 1, 20) <= 0)
            continue;
        int client = accept(s->fd, NULL, NULL);
        if (client < 0)
            continue;
        s->connections++;
        answer(s, client);
        close(client);
    }
    return NULL;
}

static void start_server(struct server *s, const char *file)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;

    *s = (struct server){.file = file, .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    assert_int_equal(bind(s->fd, (struct sockaddr *)&at, size), 0);
    assert_int_equal(listen(s->fd, 16), 0);
    assert_int_equal(getsockname(s->fd, (struct sockaddr *)&at, &size), 0);
    s->port = ntohs(at.sin_port);
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void stop_server(struct server *s)
{
    s->stop = true;
    pthread_join(s->thread, NULL);
    close(s->fd);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

/* The name and line of the one function of the library, from a file without symbols. */
static uint32_t line_of_work(const char *path, uint64_t vaddr, char *name, size_t size)
{
    struct bn_image *image = bn_image_open(path, NULL, 0);
    struct bn_symbols *s = bn_xcalloc(1, sizeof *s);

    assert_true(image->usable);
    bn_symbols_find(s, &(struct bn_place){.image = image, .vaddr = vaddr, .has_vaddr = true});
    snprintf(name, size, "%s", s->frames[0].function);
    uint32_t line = s->frames[0].line;
    bn_symbols_free(s);
    free(s);
    bn_image_free(image);
    return line;
}

/* Where the code of the hidden function is: in the file that still has symbols. */
static uint64_t find_hidden(const char *path)
{
    struct bn_image *image = bn_image_open(path, NULL, 0);
    uint64_t found = 0;

    assert_true(image->usable);
    for (size_t i = 0; i < image->fdes.n; i++) {
        const char *name = bn_symtab_find(image, image->fdes.items[i].start, NULL);
        if (name && strcmp(name, "hidden") == 0)
            found = image->fdes.items[i].start;
    }
    bn_image_free(image);
    return found;
}

static void test_server(void **unused)
{
    char folder[] = "/tmp/test_debuginfod.XXXXXX", name[256];
    struct server server;
    struct bn_err err;

    (void)unused;
    assert_non_null(mkdtemp(folder));
    char *make = bn_xasprintf(
        "cd %s && printf 'static volatile long x;\\n__attribute__((noinline)) static void hidden(long n)\\n"
        "{ for (long i = 0; i < n; i++) x = i; }\\nint main(void) { hidden(200000000); return 0; }\\n' > a.c "
        "&& "
        "gcc -g -O1 -Wl,--build-id -o whole a.c && objcopy --only-keep-debug whole a.debug && "
        "strip -o a whole >/dev/null 2>&1",
        folder);
    bool made = system(make) == 0;
    free(make);
    if (!made) {
        nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
        print_message("# skipped: no gcc, objcopy or strip\n");
        skip();
    }
    char *whole = bn_xasprintf("%s/whole", folder), *stripped = bn_xasprintf("%s/a", folder),
         *debug = bn_xasprintf("%s/a.debug", folder), *cache = bn_xasprintf("%s/cache", folder);
    uint64_t vaddr = find_hidden(whole);
    assert_true(vaddr != 0);
    start_server(&server, debug);
    char *urls = bn_xasprintf("http://127.0.0.1:%u/", server.port);
    setenv("DEBUGINFOD_URLS", urls, 1);
    setenv("DEBUGINFOD_CACHE_PATH", cache, 1);
    setenv("DEBUGINFOD_TIMEOUT", "20", 1);

    /* By itself nobody asks: not when a name is missing, not when a program is recorded. */
    assert_int_equal(line_of_work(stripped, vaddr, name, sizeof name), 0);
    char *nameless = bn_xasprintf("[a+0x%" PRIx64 "]", vaddr);
    assert_string_equal(name, nameless);
    free(nameless);
    const char *build = getenv("BUILD");
    char *record = bn_xasprintf("%s/bnprof record -o %s/d -- %s >/dev/null 2>&1",
                                build ? build : "build/release", folder, stripped);
    bool recorded = system(record) == 0;
    usleep(100000);
    assert_int_equal(server.connections, 0);
    free(record);

    bool loaded = bn_debuginfod_load(&err) == 0;
    assert_int_equal(line_of_work(stripped, vaddr, name, sizeof name), 0); /* loaded is not allowed */
    assert_int_equal(server.connections, 0);
    if (loaded) {
        bn_debuginfod_allow();
        assert_int_equal(line_of_work(stripped, vaddr, name, sizeof name), 3);
        assert_string_equal(name, "hidden");
        assert_true(server.connections >= 1);
        int before = server.connections;
        assert_int_equal(line_of_work(whole, vaddr, name, sizeof name), 3); /* has its own */
        assert_int_equal(server.connections, before);
        record = bn_xasprintf("%s/bnprof record --debuginfod -o %s/e -- %s >/dev/null 2>&1 && "
                              "%s/bnprof hotspots %s/e/latest | grep -q '`hidden`'",
                              build ? build : "build/release", folder, stripped,
                              build ? build : "build/release", folder);
        assert_true(!recorded || system(record) == 0);
        free(record);
    } else {
        print_message("# skipped: %s\n", err.msg);
    }
    stop_server(&server);
    setenv("DEBUGINFOD_URLS", "", 1);
    assert_int_equal(bn_debuginfod_load(&err), -1);
    assert_non_null(strstr(err.msg, "DEBUGINFOD_URLS"));
    nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(whole);
    free(stripped);
    free(debug);
    free(cache);
    free(urls);
    if (!recorded)
        print_message("# skipped: nothing can be recorded here\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_server)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

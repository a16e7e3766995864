/* SPDX-License-Identifier: MIT
 * libbnprof-scope: what a program's scopes leave in the recorder's region, and that every misuse stays within
 * it. The program is this one, started again with a region at hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base.h"
#include "core/scope.h"
#include "include/bnprof/scope.h"

enum { RING = 1 << 12, THREADS = BN_SCOPE_MAX_THREADS };

/* ---- the program ---- */

static void spin_ns(uint64_t ns)
{
    uint64_t end_ns = bn_now_ns() + ns;

    while (bn_now_ns() < end_ns)
        ;
}

static unsigned n_tasks(void)
{
    DIR *dir = opendir("/proc/self/task");
    unsigned n = 0;

    for (const struct dirent *d; dir && (d = readdir(dir));)
        n += d->d_name[0] != '.';
    if (dir)
        closedir(dir);
    return n;
}

static void layer_of(int layer)
{
    static struct bnprof_stage stage = BNPROF_STAGE("feed;forward\n\xc3\xa4");

    BNPROF_SCOPE("layer");
    bnprof_layer(layer);
    BNPROF_SCOPE_OF(&stage);
    bnprof_count(100, 200);
    spin_ns(20000);
}

static int run_plain(void)
{
    bnprof_thread("first");
    for (int i = 0; i < 10; i++) {
        BNPROF_SCOPE("token");
        bnprof_step();
        layer_of(0);
        layer_of(1);
    }
    return bnprof_active() && bnprof_here().layer_ == -1 && bnprof_here().step_ == 0 ? 0 : 1;
}

static int run_off(void)
{
    static struct bnprof_stage stage = BNPROF_STAGE("x");
    unsigned entered = bnprof_enter(&stage);

    bnprof_thread("first");
    bnprof_adopt(bnprof_here());
    bnprof_step();
    bnprof_layer(3);
    bnprof_count(1, 2);
    bnprof_release();
    bnprof_leave_to(entered);
    run_plain();
    return bnprof_active() || entered || stage.id_ || n_tasks() != 1;
}

struct job {
    struct bnprof_place place;
};

static void *work(void *arg)
{
    const struct job *job = arg;
    BNPROF_WORK_FOR(job->place);

    spin_ns(2000000);
    BNPROF_SCOPE("chunk");
    spin_ns(1000000);
    return NULL;
}

static int run_workers(void)
{
    pthread_t thread;

    BNPROF_SCOPE("outer");
    bnprof_layer(7);
    struct job job = {bnprof_here()};
    if (pthread_create(&thread, NULL, work, &job) != 0)
        return 2;
    BNPROF_WAIT();
    pthread_join(thread, NULL);
    return 0;
}

static void *one_scope(void *unused)
{
    (void)unused;
    BNPROF_SCOPE("short");
    return NULL;
}

/* One after the other: more in all than there are slots. The recorder (the test) reads along. */
static int run_short_threads(void)
{
    for (int i = 0; i < THREADS + 100; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, one_scope, NULL) != 0)
            return 2;
        pthread_join(thread, NULL);
        if (i % 100 == 99)
            usleep(20000);
    }
    return 0;
}

static sem_t many_in, many_go;

static void *many_scopes(void *unused)
{
    (void)unused;
    for (int i = 0; i < 3; i++) {
        BNPROF_SCOPE("many");
        if (i == 0) {
            sem_post(&many_in);
            sem_wait(&many_go);
        }
    }
    return NULL;
}

/* All at once. The thread that starts them has no slot yet. */
static int run_many_threads(void)
{
    enum { MANY = THREADS + 12 };
    static pthread_t threads[MANY];

    sem_init(&many_in, 0, 0);
    sem_init(&many_go, 0, 0);
    for (int i = 0; i < MANY; i++)
        if (pthread_create(&threads[i], NULL, many_scopes, NULL) != 0)
            return 2;
    for (int i = 0; i < MANY; i++)
        sem_wait(&many_in);
    for (int i = 0; i < MANY; i++)
        sem_post(&many_go);
    for (int i = 0; i < MANY; i++)
        pthread_join(threads[i], NULL);
    return 0;
}

/* More names and more paths than there is room for, deeper than the stack. */
static int run_tables(void)
{
    static char names[300][24];
    static struct bnprof_stage stages[300];

    for (int i = 0; i < 300; i++) {
        snprintf(names[i], sizeof names[i], "stage %d", i);
        stages[i] = (struct bnprof_stage)BNPROF_STAGE(names[i]);
        unsigned entered = bnprof_enter(&stages[i]);
        for (int k = 0; k < 5; k++) {
            bnprof_enter(&stages[k]);
            bnprof_leave();
        }
        bnprof_leave_to(entered);
    }
    for (int i = 0; i < 100; i++)
        bnprof_enter(&stages[0]);
    for (int i = 0; i < 200; i++)
        bnprof_leave();
    bnprof_adopt((struct bnprof_place){65535, -9, 1});
    bnprof_release();
    bnprof_leave_to(1000);
    bnprof_layer(1 << 20);
    struct bnprof_stage nameless = BNPROF_STAGE(NULL), odd = {"odd", 4000000000u};
    BNPROF_SCOPE_OF(&nameless);
    BNPROF_SCOPE_OF(&odd);
    return bnprof_here().layer_ == INT16_MAX ? 0 : 1;
}

static jmp_buf back;

static void jumps_out(void)
{
    BNPROF_SCOPE("jumps");
    longjmp(back, 1);
}

/* A scope that is never left ends with the guard around it. */
static int run_jump(void)
{
    static struct bnprof_stage open = BNPROF_STAGE("left open");

    for (volatile int i = 0; i < 5; i++) {
        BNPROF_SCOPE("outer");
        bnprof_enter(&open);
        if (setjmp(back) == 0)
            jumps_out();
    }
    return bnprof_here().node_;
}

/* The child's scopes are its own affair; so is a place that it takes along. */
static int run_fork(void)
{
    BNPROF_SCOPE("parent");
    struct job job = {bnprof_here()};
    pid_t pid = fork();
    if (pid == 0) {
        pthread_t thread;
        BNPROF_SCOPE("child");
        bnprof_step();
        bnprof_thread("child");
        if (pthread_create(&thread, NULL, work, &job) == 0)
            pthread_join(thread, NULL);
        _exit(bnprof_active());
    }
    int status;
    return waitpid(pid, &status, 0) == pid && status == 0 ? 0 : 1;
}

/* A process that forks before its first scope leaves the region to whoever comes first. */
static int run_daemon(void)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        {
            BNPROF_SCOPE("daemon");
        }
        _exit(!bnprof_active());
    }
    waitpid(pid, &status, 0);
    {
        BNPROF_SCOPE("late parent");
    }
    return status == 0 && !bnprof_active() ? 0 : 1;
}

static const struct {
    const char *name;
    int (*run)(void);
} programs[] = {
    {"plain", run_plain},         {"off", run_off},           {"workers", run_workers},
    {"short", run_short_threads}, {"many", run_many_threads}, {"tables", run_tables},
    {"jump", run_jump},           {"fork", run_fork},         {"daemon", run_daemon},
};

static int program(const char *name)
{
    for (size_t i = 0; i < BN_COUNT(programs); i++)
        if (strcmp(programs[i].name, name) == 0)
            return programs[i].run();
    return 99;
}

/* ---- the recorder ---- */

static const char *own_file;

struct region {
    struct bn_scope_shared *r;
    int fd;
};

static struct region make_region(uint32_t ring_events)
{
    size_t size = bn_scope_region_bytes(ring_events);
    struct region region = {.fd = memfd_create("scope", 0)};

    assert_true(region.fd >= 3);
    assert_int_equal(ftruncate(region.fd, (off_t)size), 0);
    region.r = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, region.fd, 0);
    assert_true(region.r != MAP_FAILED);
    region.r->magic = BN_SCOPE_MAGIC;
    region.r->version = BN_SCOPE_VERSION;
    region.r->size_bytes = size;
    region.r->ring_events = ring_events;
    return region;
}

static void free_region(struct region *region)
{
    munmap(region->r, region->r->size_bytes);
    close(region->fd);
}

static pid_t start(const struct region *region, const char *name)
{
    pid_t pid = fork();

    if (pid == 0) {
        char text[16];
        snprintf(text, sizeof text, "%d", region->fd);
        setenv("BNPROF_SCOPE_FD", text, 1);
        execl(own_file, own_file, name, (char *)NULL);
        _exit(98);
    }
    assert_true(pid > 0);
    return pid;
}

static pid_t run(const struct region *region, const char *name)
{
    int status;
    pid_t pid = start(region, name);

    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    return pid;
}

/* Node of a path like "token/layer"; 0 = there is none. */
static uint32_t node_of(const struct bn_scope_shared *r, const char *path)
{
    uint32_t at = 0, n = atomic_load(&r->n_nodes);

    while (*path) {
        size_t length = strcspn(path, "/");
        uint32_t next = 0;
        for (uint32_t i = 1; i < n; i++) {
            const char *name = r->stages[r->nodes[i].stage];
            if (r->nodes[i].parent == at && strlen(name) == length && memcmp(name, path, length) == 0)
                next = i;
        }
        if (next == 0)
            return 0;
        at = next;
        path += length + (path[length] == '/');
    }
    return at;
}

static void test_plain(void **unused)
{
    struct region region = make_region(RING);
    const struct bn_scope_shared *r = region.r;

    (void)unused;
    pid_t pid = run(&region, "plain");
    assert_int_equal(pid, atomic_load(&r->pid));
    uint32_t token = node_of(r, "token"), layer = node_of(r, "token/layer"),
             feed = node_of(r, "token/layer/feed,forward?\xc3\xa4");
    struct bn_scope_total t = bn_scope_sum(r, token), l = bn_scope_sum(r, layer), f = bn_scope_sum(r, feed);
    assert_true(token && layer && feed);
    assert_int_equal(t.calls, 10);
    assert_int_equal(l.calls, 20);
    assert_int_equal(f.calls, 20);
    assert_int_equal(f.bytes, 2000);
    assert_int_equal(f.ops, 4000);
    assert_true(f.self_ns >= 20 * 20000);
    assert_int_equal(t.total_ns, t.self_ns + l.total_ns);
    assert_int_equal(atomic_load(&r->n_threads), 1);
    assert_string_equal(r->threads[0].name, "first");
    /* token, step, and twice: layer, feed, layer, token; then outside */
    const uint32_t path[] = {token, token, layer, feed, layer, token, layer, feed, layer, token, 0};
    const struct bn_scope_event *e = bn_scope_ring(region.r, 0);
    assert_int_equal(atomic_load(&r->threads[0].head), 110);
    for (unsigned i = 0; i < 110; i++) {
        unsigned k = i % 11;
        assert_int_equal(e[i].node, path[k]);
        assert_int_equal(e[i].step, k == 0 || k == 10 ? 0 : i / 11 + 1);
        if (e[i].node == feed)
            assert_int_equal(e[i].layer, k > 5);
    }
    free_region(&region);
}

static void test_off(void **unused)
{
    struct region region = make_region(RING);

    (void)unused;
    region.r->version++; /* of another bnprof: not ours to write to */
    run(&region, "off");
    assert_int_equal(atomic_load(&region.r->pid), 0);
    region.r->version--;
    run(&(struct region){region.r, 2}, "off"); /* no region but a terminal or a pipe */
    assert_int_equal(atomic_load(&region.r->pid), 0);
    free_region(&region);
}

static void test_workers(void **unused)
{
    struct region region = make_region(RING);
    const struct bn_scope_shared *r = region.r;

    (void)unused;
    run(&region, "workers");
    struct bn_scope_total outer = bn_scope_sum(r, node_of(r, "outer")),
                          chunk = bn_scope_sum(r, node_of(r, "outer/chunk")),
                          wait = bn_scope_sum(r, node_of(r, "outer/wait"));
    assert_int_equal(outer.calls, 1);
    assert_int_equal(chunk.calls, 1); /* a scope of the worker's own is a call */
    assert_true(outer.worker_ns >= 2000000 && chunk.total_ns >= 1000000);
    assert_true(wait.calls == 1 && wait.total_ns <= outer.total_ns && outer.total_ns >= 3000000);
    assert_int_equal(bn_scope_ring(region.r, 1)[0].layer, 7);
    assert_true(atomic_load(&r->threads[1].end_ns) > 0); /* without a word from the program */
    assert_int_equal(atomic_load(&r->n_threads), 2);
    free_region(&region);
}

/* Slots are given back, and taken again once the recorder has read them. */
static void test_short_threads(void **unused)
{
    struct region region = make_region(RING);
    struct bn_scope_shared *r = region.r;
    pid_t pid = start(&region, "short");
    int status;

    (void)unused;
    while (waitpid(pid, &status, WNOHANG) == 0) {
        for (unsigned i = 0; i < THREADS; i++)
            atomic_store(&r->threads[i].tail, atomic_load(&r->threads[i].head));
        usleep(1000);
    }
    assert_int_equal(status, 0);
    assert_int_equal(bn_scope_sum(r, node_of(r, "short")).calls, THREADS + 100);
    assert_int_equal(atomic_load(&r->n_threads), THREADS);
    assert_int_equal(atomic_load(&r->untimed_threads), 0);
    uint64_t events = atomic_load(&r->past_events);
    assert_true(events > 0);
    for (unsigned i = 0; i < THREADS; i++)
        events += atomic_load(&r->threads[i].events);
    assert_int_equal(events, 2 * (THREADS + 100));
    free_region(&region);
}

static void test_many_threads(void **unused)
{
    struct region region = make_region(RING);
    const struct bn_scope_shared *r = region.r;

    (void)unused;
    run(&region, "many");
    assert_int_equal(atomic_load(&r->n_threads), THREADS);
    assert_int_equal(atomic_load(&r->untimed_threads), 12);
    assert_int_equal(bn_scope_sum(r, node_of(r, "many")).calls, 3 * THREADS);
    free_region(&region);
}

static void test_tables(void **unused)
{
    struct region region = make_region(RING);
    const struct bn_scope_shared *r = region.r;
    struct bn_scope_total sums[BN_SCOPE_MAX_NODES];
    uint64_t calls = 0;

    (void)unused;
    run(&region, "tables");
    assert_int_equal(atomic_load(&r->n_stages), BN_SCOPE_MAX_STAGES);
    assert_string_equal(r->stages[BN_SCOPE_MAX_STAGES - 1], "(more stages)");
    assert_true(atomic_load(&r->refused_stages) >= 300 - 254);
    assert_int_equal(atomic_load(&r->n_nodes), BN_SCOPE_MAX_NODES);
    assert_true(atomic_load(&r->refused_nodes) > 0);
    assert_int_equal(bn_scope_sums(r, sums), BN_SCOPE_MAX_NODES);
    for (unsigned i = 0; i < BN_SCOPE_MAX_NODES; i++)
        calls += sums[i].calls;
    /* What has no node of its own counts for the scope around it; beyond the stack nothing is timed. */
    assert_int_equal(calls, 300 * 6 + BN_SCOPE_MAX_DEPTH + 2);
    free_region(&region);
}

static void test_jump(void **unused)
{
    struct region region = make_region(RING);
    const struct bn_scope_shared *r = region.r;

    (void)unused;
    run(&region, "jump");
    assert_int_equal(bn_scope_sum(r, node_of(r, "outer")).calls, 5);
    assert_int_equal(bn_scope_sum(r, node_of(r, "outer/left open/jumps")).calls, 5);
    free_region(&region);
}

static void test_fork(void **unused)
{
    struct region region = make_region(RING);
    const struct bn_scope_shared *r = region.r;

    (void)unused;
    pid_t pid = run(&region, "fork");
    assert_int_equal(pid, atomic_load(&r->pid));
    assert_int_equal(atomic_load(&r->n_nodes), 2);
    assert_int_equal(atomic_load(&r->n_threads), 1);
    assert_int_equal(atomic_load(&r->threads[0].events), 2);
    assert_int_equal(bn_scope_sum(r, node_of(r, "parent")).calls, 1);
    run(&region, "off"); /* claimed: the next program gets nothing */
    assert_int_equal(atomic_load(&r->n_nodes), 2);
    free_region(&region);
    region = make_region(RING);
    pid = run(&region, "daemon");
    assert_int_not_equal(pid, atomic_load(&region.r->pid));
    assert_int_equal(bn_scope_sum(region.r, node_of(region.r, "daemon")).calls, 1);
    assert_int_equal(atomic_load(&region.r->n_nodes), 2);
    free_region(&region);
}

/* Empty scopes take their own cost and no more: a loop of them is worth nothing once it is taken out. */
static void test_cost(void **unused)
{
    struct region region = make_region(RING);
    struct bn_scope_shared *r = region.r;
    struct bn_scope_total sums[BN_SCOPE_MAX_NODES];
    struct bn_scope_stat *outer = &r->threads[0].stats[1], *inner = &r->threads[0].stats[2];

    (void)unused;
    atomic_store(&r->n_nodes, 3);
    atomic_store(&r->n_threads, 1);
    r->nodes[2].parent = 1;
    r->empty_scope_ns = 60;
    r->empty_inside_ns = 20;
    *inner = (struct bn_scope_stat){.calls = 100, .total_ns = 100 * 20 + 700};
    *outer =
        (struct bn_scope_stat){.calls = 1, .total_ns = 100 * 60 + 20 + 1000, .child_ns = inner->total_ns};
    assert_int_equal(bn_scope_sums(r, sums), 3);
    assert_int_equal(sums[2].self_ns, 700);
    assert_int_equal(sums[2].total_ns, 700);
    assert_int_equal(sums[1].self_ns, 300);
    assert_int_equal(sums[1].total_ns, 1000);
    r->empty_scope_ns = 1e300; /* nonsense: nothing is taken out */
    bn_scope_sums(r, sums);
    assert_int_equal(sums[2].self_ns, inner->total_ns);
    r->empty_scope_ns = 60;
    inner->calls = 1000; /* more than there was: no less than nothing */
    bn_scope_sums(r, sums);
    assert_int_equal(sums[2].self_ns, 0);
    free_region(&region);
}

int main(int argc, char **argv)
{
    if (argc == 2)
        return program(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),        cmocka_unit_test(test_off),
        cmocka_unit_test(test_workers),      cmocka_unit_test(test_short_threads),
        cmocka_unit_test(test_many_threads), cmocka_unit_test(test_tables),
        cmocka_unit_test(test_jump),         cmocka_unit_test(test_fork),
        cmocka_unit_test(test_cost),
    };

    own_file = argv[0];
    return cmocka_run_group_tests(tests, NULL, NULL);
}

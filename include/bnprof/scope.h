/* SPDX-License-Identifier: MIT
 * bnprof/scope.h: mark the stages of a program, so that `bnprof record -- PROGRAM` shows exact calls and
 * times per stage and can say of every sample which stage it fell into. C99 and C++11, gcc and clang; link
 * with `pkg-config --cflags --libs bnprof-scope`. docs/scopes.md has whole examples.
 *
 *     void attention(int layer)
 *     {
 *         BNPROF_SCOPE("attention");           // lasts to the end of the block
 *         bnprof_layer(layer);
 *         …
 *         bnprof_count(bytes, operations);
 *     }
 *
 * When bnprof does not record the program, every call here is a load and a predicted branch: no thread, no
 * allocation, no output. When it does, entering and leaving a scope read the clock once each and write to
 * shared memory; they take no lock but the first time that a thread or a path of stages is seen.
 *
 * All functions may be called on every thread, but not in signal handlers. They cannot fail: what does not
 * fit (512 paths of stages, 256 names, 288 threads at a time, 32 scopes inside each other) is left out and
 * counted, its time stays with the scope around it. After fork the child is not recorded. */
#ifndef BNPROF_SCOPE_H
#define BNPROF_SCOPE_H

#ifdef __cplusplus
extern "C" {
#endif

/* A stage: static, or part of something that lives as long as its scopes. The name is copied at the first
 * use; equal names are one stage. 47 bytes of it count; "wait" is time that is not work: a barrier, an empty
 * queue. */
struct bnprof_stage {
    const char *name;
    unsigned id_; /* the library's */
};
#define BNPROF_STAGE(name)                                                                                   \
    {                                                                                                        \
        name, 0                                                                                              \
    }

/* Where a thread is, to be handed to others with their work. */
struct bnprof_place {
    unsigned short node_;
    short layer_;
    unsigned step_;
};

/* ---- the library's own; use the functions below ---- */

extern unsigned bnprof_on_;
unsigned bnprof_enter_(struct bnprof_stage *stage);
void bnprof_leave_(void);
void bnprof_leave_to_(unsigned depth);
void bnprof_thread_(const char *name);
void bnprof_count_(unsigned long long bytes, unsigned long long ops);
void bnprof_layer_(int layer);
void bnprof_step_(void);
struct bnprof_place bnprof_here_(void);
unsigned bnprof_adopt_(struct bnprof_place place);

/* ---- functions ---- */

/* Is somebody recording? For work that is only done to be counted. */
static inline int bnprof_active(void)
{
    return __builtin_expect(__atomic_load_n(&bnprof_on_, __ATOMIC_RELAXED) != 0, 0);
}

/* Enter a stage below the current one. Returns what bnprof_leave_to wants, 0 when nobody records. */
static inline unsigned bnprof_enter(struct bnprof_stage *stage)
{
    return bnprof_active() ? bnprof_enter_(stage) : 0;
}

/* Leave the innermost scope. One too many is no harm. */
static inline void bnprof_leave(void)
{
    if (bnprof_active())
        bnprof_leave_();
}

/* Leave the scope that bnprof_enter gave this number for, and all that were left open inside it. */
static inline void bnprof_leave_to(unsigned entered)
{
    if (entered)
        bnprof_leave_to_(entered);
}

/* Name this thread, 15 bytes. A thread without a name has the one that the system knows it by. */
static inline void bnprof_thread(const char *name)
{
    if (bnprof_active())
        bnprof_thread_(name);
}

/* Bytes moved and operations done (2 per multiply-add) by the current scope: added to its stage, shown as
 * GB/s and GOP/s. */
static inline void bnprof_count(unsigned long long bytes, unsigned long long ops)
{
    if (bnprof_active())
        bnprof_count_(bytes, ops);
}

/* The layer that scopes entered from now on belong to, -1 = none. It holds until the scope around ends. */
static inline void bnprof_layer(int layer)
{
    if (bnprof_active())
        bnprof_layer_(layer);
}

/* A step of the program begins: a token, a frame, a request. It ends when this thread begins the next one or
 * leaves the scope around. Reports count steps as tokens. */
static inline void bnprof_step(void)
{
    if (bnprof_active())
        bnprof_step_();
}

/* Where this thread is now. */
static inline struct bnprof_place bnprof_here(void)
{
    struct bnprof_place nowhere = {0, -1, 0};
    return bnprof_active() ? bnprof_here_() : nowhere;
}

/* Work for another thread from now until bnprof_release: samples of this thread count for `place`. Its time
 * is shown as worker time there; scopes that it enters meanwhile are calls like any other. Returns what
 * bnprof_leave_to wants, too. */
static inline unsigned bnprof_adopt(struct bnprof_place place)
{
    return bnprof_active() ? bnprof_adopt_(place) : 0;
}

static inline void bnprof_release(void)
{
    bnprof_leave();
}

/* Guards, for the head of a block; the scope lasts to its end, however it is left:
 *   BNPROF_SCOPE("name");             the name is a string literal
 *   BNPROF_SCOPE_OF(&op->stage);      a stage of your own
 *   BNPROF_WORK_FOR(job->place);      adopts the place
 *   BNPROF_WAIT();                    time in which this thread waits
 * In C++ they are objects: bnprof::scope guard(stage); or guard(place); one a line. */

#define BNPROF_JOIN2_(a, b) a##b
#define BNPROF_JOIN_(a, b)  BNPROF_JOIN2_(a, b)

#ifdef __cplusplus
}

namespace bnprof
{
class scope
{
  public:
    explicit scope(struct bnprof_stage &stage) : entered_(bnprof_enter(&stage))
    {
    }
    explicit scope(struct bnprof_place place) : entered_(bnprof_adopt(place))
    {
    }
    ~scope()
    {
        bnprof_leave_to(entered_);
    }
    scope(const scope &) = delete;
    scope &operator=(const scope &) = delete;

  private:
    unsigned entered_;
};
} // namespace bnprof

#define BNPROF_SCOPE(name)                                                                                   \
    static struct bnprof_stage BNPROF_JOIN_(bnprof_stage_, __LINE__) = BNPROF_STAGE("" name);                \
    const ::bnprof::scope BNPROF_JOIN_(bnprof_scope_, __LINE__)(BNPROF_JOIN_(bnprof_stage_, __LINE__))
#define BNPROF_SCOPE_OF(stage) const ::bnprof::scope BNPROF_JOIN_(bnprof_scope_, __LINE__)(*(stage))
#define BNPROF_WORK_FOR(place) const ::bnprof::scope BNPROF_JOIN_(bnprof_scope_, __LINE__)((place))
#else

static inline void bnprof_close_(const unsigned *entered)
{
    bnprof_leave_to(*entered);
}

#define BNPROF_GUARD_(entered)                                                                               \
    __attribute__((cleanup(bnprof_close_), unused)) const unsigned BNPROF_JOIN_(bnprof_scope_, __LINE__) =   \
        entered
#define BNPROF_SCOPE(name)                                                                                   \
    static struct bnprof_stage BNPROF_JOIN_(bnprof_stage_, __LINE__) = BNPROF_STAGE("" name);                \
    BNPROF_GUARD_(bnprof_enter(&BNPROF_JOIN_(bnprof_stage_, __LINE__)))
#define BNPROF_SCOPE_OF(stage) BNPROF_GUARD_(bnprof_enter(stage))
#define BNPROF_WORK_FOR(place) BNPROF_GUARD_(bnprof_adopt(place))
#endif

#define BNPROF_WAIT() BNPROF_SCOPE("wait")

#endif

/* SPDX-License-Identifier: MIT
 * The part of the timer source that runs inside the measured program: a CPU timer for each thread, whose
 * signal handler copies registers and a piece of the stack into shared memory as a perf_event record.
 *
 * Linked into bnprof for its own engine, and into libbnprof-timer.so for other programs. Uses nothing but
 * libc. Every call is cheap and harmless when no recorder asks for samples. */
#ifndef PROFILER_TIMER_INSIDE_H
#define PROFILER_TIMER_INSIDE_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

/* Map the region that BNPROF_TIMER names, announce this process with its mappings, and start the timer of the
 * calling thread. False: nobody listens. Only the first call does anything. */
bool bn_timer_attach(void);

/* Where libc's own sigaction is, for a library that stands in its place; before bn_timer_attach. */
void bn_timer_use_sigaction(int (*real)(int, const struct sigaction *, struct sigaction *));

/* Start and stop the calling thread's timer. parent: the thread that made it (gettid), 0 = unknown. */
void bn_timer_thread_begin(int parent);
void bn_timer_thread_end(void);

/* The process is about to end, by exit or _exit: say how much CPU time it used. */
void bn_timer_process_end(void);

/* In the child of a fork: it is a process of its own, with none of its parent's timers. */
void bn_timer_forked(void);

/* Around a change of the mappings: a dlopen begins; a dlclose begins, and has returned (what the former call
 * returned). */
void bn_timer_loads(void);
uint64_t bn_timer_closing(void);
void bn_timer_closed(uint64_t began_ns);

/* Write down the mappings that came since the last call of this, if there can be any. */
void bn_timer_flush_maps(void);

/* The timers' signal, 0 = no timers run here. */
int bn_timer_signal(void);

/* What the program itself wants done with that signal; `old`, if not NULL, gets what it wanted before. */
void bn_timer_set_action(const struct sigaction *action, struct sigaction *old);

#endif

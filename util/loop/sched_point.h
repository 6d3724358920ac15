/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Named schedule points: SP("pflash.submitted", dev) marks a place where a test may hold the thread
 * or call a hook, to force an interleaving. They exist only in SKIFF_TESTING builds.
 */
#ifndef SKIFF_UTIL_LOOP_SCHED_POINT_H
#define SKIFF_UTIL_LOOP_SCHED_POINT_H

#ifdef SKIFF_TESTING
#define SP(name, object) sched_point_hit(name, object)

/* Blocks while a test holds @name; calls the hook that a test has set for it. */
void sched_point_hit(const char *name, const void *object);
/* Threads that reach @name stop there until sched_point_release(). */
void sched_point_hold(const char *name);
/* Blocks until a thread has stopped at the held point. */
void sched_point_await(const char *name);
void sched_point_release(const char *name);
/* Runs @fn(@arg, object) each time @name is reached; NULL removes it. */
void sched_point_hook(const char *name, void (*fn)(void *arg, const void *object), void *arg);
/* How often @name was reached since the first hold, hook or count call for it. */
unsigned sched_point_count(const char *name);
/* Removes all holds and hooks and releases the threads stopped there. */
void sched_point_reset(void);
#else
#define SP(name, object) ((void)0)
#endif

#endif

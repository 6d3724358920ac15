/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Held things and their ranks.
 *
 * Everything that can make another thread or coroutine wait (a lock, the VM operation lock, a
 * drained section, a parked vCPU, a join) is registered here while it is held. Taking a thing whose
 * rank is not above everything held already, or blocking the thread while holding anything, aborts
 * and prints the stacks of both places. The ranks are the lock order; there is no other list.
 *
 * The set belongs to the running coroutine, or to the thread if none runs: what a coroutine holds
 * across a yield is not held by the loop that continues meanwhile.
 */
#ifndef SKIFF_UTIL_LOOP_HELD_H
#define SKIFF_UTIL_LOOP_HELD_H

#include "util/loop/thread.h"

typedef enum HeldRank {
    RANK_OPERATION = 1, /* the VM operation lock */
    RANK_RUN_STATE,     /* a run-state transition; parked vCPUs */
    RANK_DRAINED,       /* a drained section */
    RANK_BQL,           /* the big lock; device registers, maps, routes */
    RANK_QUEUE,         /* a virtqueue's or channel's own lock; irq gates */
} HeldRank;

/* @thing is the identity, @name describes it (static or outliving the hold). Several things of one
 * rank may be held only if @nestable. */
void held_push(HeldRank rank, const void *thing, const char *name, bool nestable) ANY_THREAD;
void held_pop(HeldRank rank, const void *thing) ANY_THREAD;
bool held_has(const void *thing) ANY_THREAD;
/* Call before the thread blocks outside its loop's epoll: aborts if it holds anything. */
void held_assert_none(const char *about_to) ANY_THREAD;
/* Call before the coroutine yields: aborts if it holds a thread's lock (BQL,
 * queue). */
void held_assert_may_yield(const char *about_to) ANY_THREAD;
/* Prints the things the caller holds to stderr, one per line. */
void held_dump(void) ANY_THREAD;

/* A mutex with a rank. Held for a few instructions or one ioctl; never across a wait. */
typedef struct SKIFF_TSA(capability("mutex")) RankMutex {
    pthread_mutex_t mutex;
    HeldRank rank;
    const char *name;
} RankMutex;

void rank_mutex_init(RankMutex *m, HeldRank rank, const char *name) ANY_THREAD;
void rank_mutex_destroy(RankMutex *m) ANY_THREAD;
void rank_mutex_lock(RankMutex *m) ANY_THREAD SKIFF_TSA(acquire_capability(*m));
void rank_mutex_unlock(RankMutex *m) ANY_THREAD SKIFF_TSA(release_capability(*m));

/*
 * The big lock (BQL). It guards device registers, address maps, PCI config and interrupt routes,
 * nothing else. vCPU threads take it around one register access, main takes it around the device
 * part of a control step. It aborts when an iothread, worker or migration thread takes it, and
 * when a coroutine yields with it.
 */
extern RankMutex bql;
#define BQL_HELD SKIFF_TSA(requires_capability(bql))
void bql_lock(void) SKIFF_TSA(acquire_capability(bql));
void bql_unlock(void) SKIFF_TSA(release_capability(bql));
bool bql_held(void) ANY_THREAD;
/* For callbacks that run under the lock: aborts unless the caller holds it, and informs clang. */
void assert_bql(void) SKIFF_TSA(assert_capability(bql));

#endif

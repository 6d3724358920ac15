/* SPDX-License-Identifier: Apache-2.0 */
#include "util/loop/held.h"

#include <execinfo.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "util/loop/held_int.h"

static __thread HeldSet thread_set;
static __thread HeldSet *coroutine_set; /* NULL: no coroutine runs */

RankMutex bql = {.mutex = PTHREAD_MUTEX_INITIALIZER, .rank = RANK_BQL, .name = "BQL"};

static HeldSet *held_set(void)
{
    return coroutine_set != NULL ? coroutine_set : &thread_set;
}

void held_switch(HeldSet *set)
{
    coroutine_set = set;
}

static const char *held_rank_name(HeldRank rank)
{
    static const char *const names[] = {"?", "operation", "run state", "drained", "BQL", "queue"};
    return names[rank];
}

static void held_print(const HeldThing *t)
{
    fprintf(stderr, "  held: %s (rank %s)\n", t->name, held_rank_name(t->rank));
    fflush(stderr);
#ifdef SKIFF_TESTING
    fprintf(stderr, "  taken at:\n");
    fflush(stderr);
    backtrace_symbols_fd(t->stack, t->depth, STDERR_FILENO);
#endif
}

void held_dump(void)
{
    const HeldSet *set = held_set();
    for (unsigned i = 0; i < set->count; i++) {
        held_print(&set->things[i]);
    }
    if (set != &thread_set) {
        for (unsigned i = 0; i < thread_set.count; i++) {
            held_print(&thread_set.things[i]);
        }
    }
}

void held_push(HeldRank rank, const void *thing, const char *name, bool nestable)
{
    HeldSet *set = held_set();
    for (unsigned i = 0; i < set->count; i++) {
        const HeldThing *t = &set->things[i];
        if (t->rank > rank || (t->rank == rank && !(nestable && t->nestable))) {
            bug_abort("'%s' (rank %s) taken while '%s' (rank %s) is held", name,
                      held_rank_name(rank), t->name, held_rank_name(t->rank));
        }
    }
    if (set->count == HELD_MAX) {
        bug_abort("too many held things at '%s'", name);
    }
    HeldThing *t = &set->things[set->count++];
    t->thing = thing;
    t->name = name;
    t->rank = rank;
    t->nestable = nestable;
#ifdef SKIFF_TESTING
    t->depth = backtrace(t->stack, HELD_STACK_DEPTH);
#endif
}

void held_pop(HeldRank rank, const void *thing)
{
    HeldSet *set = held_set();
    for (unsigned i = set->count; i-- > 0;) {
        if (set->things[i].thing == thing && set->things[i].rank == rank) {
            memmove(&set->things[i], &set->things[i + 1],
                    (set->count - i - 1) * sizeof(set->things[0]));
            set->count--;
            return;
        }
    }
    bug_abort("a thing of rank %s is dropped without being held", held_rank_name(rank));
}

bool held_has(const void *thing)
{
    const HeldSet *set = held_set();
    for (unsigned i = 0; i < set->count; i++) {
        if (set->things[i].thing == thing) {
            return true;
        }
    }
    return false;
}

void held_assert_none(const char *about_to)
{
    const HeldSet *set = held_set();
    if (set->count != 0) {
        bug_abort("about to block in %s while holding '%s'", about_to, set->things[0].name);
    }
    held_assert_thread_none(about_to);
}

void held_assert_thread_none(const char *about_to)
{
    if (thread_set.count != 0) {
        bug_abort("about to %s while the thread holds '%s'", about_to, thread_set.things[0].name);
    }
}

static bool held_is_thread_lock(HeldRank rank)
{
    return rank == RANK_BQL || rank == RANK_QUEUE;
}

void held_assert_may_yield(const char *about_to)
{
    const HeldSet *set = held_set();
    for (unsigned i = 0; i < set->count; i++) {
        if (held_is_thread_lock(set->things[i].rank)) {
            bug_abort("about to yield in %s while holding '%s'", about_to, set->things[i].name);
        }
    }
}

void rank_mutex_init(RankMutex *m, HeldRank rank, const char *name)
{
    pthread_mutex_init(&m->mutex, NULL);
    m->rank = rank;
    m->name = name;
}

void rank_mutex_destroy(RankMutex *m)
{
    pthread_mutex_destroy(&m->mutex);
}

NO_THREAD_SAFETY_ANALYSIS void rank_mutex_lock(RankMutex *m)
{
    held_push(m->rank, m, m->name,
              false); /* before blocking: a wrong order is reported even if it would deadlock */
    pthread_mutex_lock(&m->mutex);
}

NO_THREAD_SAFETY_ANALYSIS void rank_mutex_unlock(RankMutex *m)
{
    held_pop(m->rank, m);
    pthread_mutex_unlock(&m->mutex);
}

NO_THREAD_SAFETY_ANALYSIS void bql_lock(void)
{
    ThreadRole role = thread_role();
    if (role == THREAD_IOTHREAD || role == THREAD_WORKER || role == THREAD_MIGRATION ||
        role == THREAD_NETWORK) {
        bug_abort("the BQL is taken by thread '%s': only vCPUs and main may", thread_name());
    }
    rank_mutex_lock(&bql);
}

NO_THREAD_SAFETY_ANALYSIS void bql_unlock(void)
{
    rank_mutex_unlock(&bql);
}

bool bql_held(void)
{
    return held_has(&bql);
}

NO_THREAD_SAFETY_ANALYSIS void assert_bql(void)
{
    if (__builtin_expect(!bql_held(), 0)) {
        bug_abort("the BQL is not held");
    }
}

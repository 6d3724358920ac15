/* SPDX-License-Identifier: Apache-2.0 */
/* Held sets, for the coroutine switch: util/ only. */
#ifndef SKIFF_UTIL_LOOP_HELD_INT_H
#define SKIFF_UTIL_LOOP_HELD_INT_H

#include "util/loop/held.h"

#define HELD_MAX 16
#define HELD_STACK_DEPTH 10

typedef struct HeldThing {
    const void *thing;
    const char *name;
    HeldRank rank;
    bool nestable;
#ifdef SKIFF_TESTING
    int depth;
    void *stack[HELD_STACK_DEPTH];
#endif
} HeldThing;

typedef struct HeldSet {
    unsigned count;
    HeldThing things[HELD_MAX];
} HeldSet;

/* Makes @set what held_*() work on in this thread; NULL is the thread's own. */
void held_switch(HeldSet *set) ANY_THREAD;
/* The thread's own set holds nothing: aborts otherwise, naming @about_to. */
void held_assert_thread_none(const char *about_to) ANY_THREAD;

#endif

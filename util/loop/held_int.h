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

/* Makes held_*() in this thread work on @set; NULL selects the thread's own set. */
void held_switch(HeldSet *set) ANY_THREAD;
/* Aborts with @about_to in the message unless the thread's own set is empty. */
void held_assert_thread_none(const char *about_to) ANY_THREAD;

#endif

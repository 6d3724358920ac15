/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stacks of coroutines: for coroutine.c only.
 *
 * Stacks are carved from slabs of CO_SLAB_STACKS stacks, one mapping each, so that thousands of
 * stacks need few of the process's mappings (vm.max_map_count). The lowest page of each stack is a
 * guard: an overflow faults and does not corrupt the stack below. There are two kinds of guards:
 *
 *   mprotect()          splits the mapping: two more mappings for each stack. The first stacks have
 *                       these, up to a quarter of the process's mappings, because a debugger that
 *                       writes a core file (gdb's gcore) leaves out the rest of a mapping behind a
 *                       page it cannot read.
 *   MADV_GUARD_INSTALL  costs no mapping (Linux 6.13). All further stacks have these. Earlier
 *                       kernels have no further stacks.
 *
 * All functions may be called from any thread. A call that fails changes nothing.
 */
#ifndef SKIFF_UTIL_LOOP_CO_STACK_H
#define SKIFF_UTIL_LOOP_CO_STACK_H

#include <stddef.h>
#include <stdint.h>
#include "util/loop/thread.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CO_STACK_SIZE ((size_t)1 << 20) /* instrumented frames are large */
#else
#define CO_STACK_SIZE ((size_t)256 << 10) /* virtual: only touched pages cost memory */
#endif
#define CO_SLAB_STACKS 16u

typedef struct CoSlab CoSlab;

typedef struct CoStack {
    uint8_t *base; /* lowest address: the guard page; NULL: no stack */
    void *sp;      /* stack pointer of the suspended coroutine */
    CoSlab *slab;
#ifdef __SANITIZE_THREAD__
    void *fiber;
#endif
} CoStack;

/* The purpose of a stack. Guest requests cannot use the last eighth of the stacks. */
typedef enum CoStackUse { CO_STACK_FOR_ALL, CO_STACK_FOR_REQUEST } CoStackUse;

/* Fills @stack, base included. False: the limit is reached, or the kernel has no memory or mapping
 * left; the caller retries later. */
bool co_stack_alloc(CoStack *stack, CoStackUse use) ANY_THREAD;
/* Returns the stack's memory to the kernel and clears @stack. */
void co_stack_free(CoStack *stack) ANY_THREAD;
/* The number of stacks that guest requests may use, in all threads together. */
unsigned co_stack_request_max(void) ANY_THREAD;
/* How many stacks are allocated. */
unsigned co_stack_count(void) ANY_THREAD;

#ifdef SKIFF_TESTING
/* Tests: called before each system call. A nonzero result is the errno with which the call fails.
 * */
typedef enum CoStackCall { CO_STACK_MAP, CO_STACK_GUARD, CO_STACK_PROTECT } CoStackCall;
typedef int CoStackFault(CoStackCall call);
void co_stack_set_fault(CoStackFault *fault) ANY_THREAD;
#endif

#endif

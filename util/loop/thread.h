/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Thread roles.
 *
 * Every thread has one role for its whole life, and every prototype states which roles may call the
 * function. Under clang the roles are thread-safety capabilities, so `make lint` proves the claims;
 * under gcc they expand to nothing. Where control enters from outside (a thread's start routine, a
 * callback), the first statement is an enter_*() call: it checks the role at run time, in every
 * build, and informs clang.
 *
 * A role is the thread itself. No lock confers one: a vCPU that holds the big lock is still a vCPU.
 */
#ifndef SKIFF_UTIL_LOOP_THREAD_H
#define SKIFF_UTIL_LOOP_THREAD_H

#include <pthread.h>
#include <stdbool.h>

#if defined(__clang__)
#define SKIFF_TSA(x) __attribute__((x))
#else
#define SKIFF_TSA(x)
#endif

/* Before a definition: for the few functions that implement a capability. */
#define NO_THREAD_SAFETY_ANALYSIS SKIFF_TSA(no_thread_safety_analysis)

typedef struct SKIFF_TSA(capability("role")) ThreadRoleCapability {
    char unused;
} ThreadRoleCapability;

extern ThreadRoleCapability role_main;     /* the main loop's thread */
extern ThreadRoleCapability role_iothread; /* a thread that runs an iothread's AioContext */
extern ThreadRoleCapability role_loop;     /* either of the two above */
extern ThreadRoleCapability role_vcpu;
extern ThreadRoleCapability role_worker; /* may block in the kernel */
extern ThreadRoleCapability role_migration;
extern ThreadRoleCapability role_coroutine; /* on a coroutine's stack: may yield */

/* Written after a prototype. RUNS_IN_LOOP code works in main and in iothreads. */
#define RUNS_IN_MAIN SKIFF_TSA(requires_capability(role_main, role_loop))
#define RUNS_IN_IOTHREAD SKIFF_TSA(requires_capability(role_iothread, role_loop))
#define RUNS_IN_LOOP SKIFF_TSA(requires_capability(role_loop))
#define RUNS_IN_VCPU SKIFF_TSA(requires_capability(role_vcpu))
#define RUNS_IN_WORKER SKIFF_TSA(requires_capability(role_worker))
#define RUNS_IN_MIGRATION SKIFF_TSA(requires_capability(role_migration))
#define ANY_THREAD
/* May yield: callable from other coroutine_fn code only. Combine with a role: `coroutine_fn
 * RUNS_IN_IOTHREAD`. */
#define coroutine_fn SKIFF_TSA(requires_capability(role_coroutine))

typedef enum ThreadRole {
    THREAD_NONE, /* not created by thread_start(): threads of tests, early start-up */
    THREAD_MAIN,
    THREAD_IOTHREAD,
    THREAD_VCPU,
    THREAD_WORKER,
    THREAD_MIGRATION,
    THREAD_NETWORK, /* an iothread that also opens sockets: user-mode networks */
} ThreadRole;

/* Names the calling thread ("vcpu/0"; the kernel keeps 15 bytes) and fixes its role. Once per
 * thread; a second call with another role aborts. */
void thread_adopt_role(ThreadRole role, const char *name) ANY_THREAD;

/* Starts a joinable thread that adopts @role and @name before it calls @fn(@arg). False + errno
 * if the kernel refuses. */
bool thread_start(pthread_t *thread, ThreadRole role, const char *name, void *(*fn)(void *),
                  void *arg) ANY_THREAD;

ThreadRole thread_role(void) ANY_THREAD;
const char *thread_name(void) ANY_THREAD; /* never NULL */

/* Sets a hook that each new thread runs after its role is fixed and before anything else, for
 * example to enter a sandbox. An existing thread runs it in thread_run_start_hook(). */
typedef void ThreadStartHook(ThreadRole role);
void thread_set_start_hook(ThreadStartHook *hook) ANY_THREAD;
/* Runs the hook in the calling thread, once per thread; does nothing without a hook. Cheap. */
void thread_run_start_hook(void) ANY_THREAD;

/*
 * enter_*(): abort unless the calling thread has the role (for enter_coroutine: unless on a
 * coroutine's stack). In tests, a thread with THREAD_NONE may call thread_adopt_role() first.
 */
void enter_main(void) SKIFF_TSA(assert_capability(role_main, role_loop));
void enter_vcpu(void) SKIFF_TSA(assert_capability(role_vcpu));
void enter_worker(void) SKIFF_TSA(assert_capability(role_worker));
void enter_migration(void) SKIFF_TSA(assert_capability(role_migration));
void enter_coroutine(void) SKIFF_TSA(assert_capability(role_coroutine));
/* enter_iothread(ctx), enter_loop(ctx): util/loop/aio.h, because they also check the context. */

/* Reports a bug: prints the message, the thread's name, the caller's stack and the things it holds,
 * then aborts. */
void bug_abort(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

#endif

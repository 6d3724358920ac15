/* SPDX-License-Identifier: Apache-2.0 */
#include "util/loop/thread.h"

#include <errno.h>
#include <execinfo.h>
#include <glib.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "util/loop/coroutine.h"
#include "util/loop/held.h"
#include "util/loop/thread_spawner.h"

ThreadRoleCapability role_main, role_iothread, role_loop, role_vcpu, role_worker, role_migration,
    role_coroutine;

static __thread ThreadRole self_role;
static __thread char self_name[32];
static __thread bool self_hook_ran;

static ThreadStartHook *_Atomic start_hook;

static const char *thread_role_name(ThreadRole role)
{
    static const char *const names[] = {"none",   "main",      "iothread", "vcpu",
                                        "worker", "migration", "network"};
    return names[role];
}

void thread_adopt_role(ThreadRole role, const char *name)
{
    if (self_role != THREAD_NONE && self_role != role) {
        bug_abort("thread '%s' is %s and cannot become %s", thread_name(),
                  thread_role_name(self_role), thread_role_name(role));
    }
    self_role = role;
    snprintf(self_name, sizeof(self_name), "%s", name);
    if (role != THREAD_MAIN) { /* the main thread's name is the process' name: "skiff" */
        char kernel_name[16];
        snprintf(kernel_name, sizeof(kernel_name), "%.15s", name);
        pthread_setname_np(pthread_self(), kernel_name);
    }
}

void thread_set_start_hook(ThreadStartHook *hook)
{
    atomic_store(&start_hook, hook);
}

void thread_run_start_hook(void)
{
    ThreadStartHook *hook = atomic_load_explicit(&start_hook, memory_order_acquire);
    if (__builtin_expect(hook != NULL && !self_hook_ran, 0)) {
        self_hook_ran = true;
        hook(self_role);
    }
}

typedef struct ThreadStart {
    ThreadRole role;
    char name[32];
    void *(*fn)(void *arg);
    void *arg;
} ThreadStart;

static void *thread_start_routine(void *opaque)
{
    ThreadStart start = *(ThreadStart *)opaque;
    g_free(opaque);
    thread_adopt_role(start.role, start.name);
    thread_run_start_hook();
    return start.fn(start.arg);
}

bool thread_start(pthread_t *thread, ThreadRole role, const char *name, void *(*fn)(void *),
                  void *arg)
{
    ThreadStart *start = g_new0(ThreadStart, 1);
    start->role = role;
    snprintf(start->name, sizeof(start->name), "%s", name);
    start->fn = fn;
    start->arg = arg;

    /* Main handles signals: a thread starts with all of them blocked except the synchronous
     * ones. */
    sigset_t all, old;
    sigfillset(&all);
    sigdelset(&all, SIGSEGV);
    sigdelset(&all, SIGBUS);
    sigdelset(&all, SIGFPE);
    sigdelset(&all, SIGILL);
    sigdelset(&all, SIGABRT);
    sigdelset(&all, SIGTRAP);
    sigdelset(&all, SIGSYS);
    int ret;
    if (thread_spawner_runs()) {
        ret = thread_spawner_create(thread, thread_start_routine, start);
    } else {
        pthread_sigmask(SIG_SETMASK, &all, &old);
        ret = pthread_create(thread, NULL, thread_start_routine, start);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
    }
    if (ret != 0) {
        g_free(start);
        errno = ret;
        return false;
    }
    return true;
}

ThreadRole thread_role(void)
{
    return self_role;
}

const char *thread_name(void)
{
    return self_name[0] != '\0' ? self_name : "unnamed";
}

static void thread_enter(ThreadRole role)
{
    if (__builtin_expect(self_role != role, 0)) {
        bug_abort("%s code entered by thread '%s', which is %s", thread_role_name(role),
                  thread_name(), thread_role_name(self_role));
    }
}

NO_THREAD_SAFETY_ANALYSIS void enter_main(void)
{
    thread_enter(THREAD_MAIN);
}

NO_THREAD_SAFETY_ANALYSIS void enter_vcpu(void)
{
    thread_enter(THREAD_VCPU);
}

NO_THREAD_SAFETY_ANALYSIS void enter_worker(void)
{
    thread_enter(THREAD_WORKER);
}

NO_THREAD_SAFETY_ANALYSIS void enter_migration(void)
{
    thread_enter(THREAD_MIGRATION);
}

NO_THREAD_SAFETY_ANALYSIS void enter_coroutine(void)
{
    if (__builtin_expect(!in_coroutine(), 0)) {
        bug_abort("coroutine code entered outside a coroutine");
    }
}

void bug_abort(const char *format, ...)
{
    char message[512];
    va_list ap;
    va_start(ap, format);
    vsnprintf(message, sizeof(message), format, ap);
    va_end(ap);
    fprintf(stderr, "skiff: bug: %s\n  in thread '%s'%s\n", message, thread_name(),
            in_coroutine() ? ", on a coroutine" : "");
    fflush(stderr);
    void *frames[32];
    backtrace_symbols_fd(frames, backtrace(frames, 32), STDERR_FILENO);
    held_dump();
    abort();
}

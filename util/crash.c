/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "util/crash.h"

#define CRASH_STACK_BYTES (64 * 1024)

static void (*crash_hook)(void);
/* The thread that runs the hook, or has run it and ends the process; 0: none yet. */
static _Atomic pid_t crash_thread;

static const int crash_signals[] = {SIGSEGV, SIGBUS,  SIGILL, SIGFPE,  SIGABRT, SIGSYS,
                                    SIGTRAP, SIGTERM, SIGINT, SIGQUIT, SIGHUP};

/* Returns true if the calling thread is the first to crash; it then runs the hook. */
static bool crash_begin(void)
{
    pid_t none = 0;

    return atomic_compare_exchange_strong(&crash_thread, &none, gettid());
}

/* The signal is sent again with its default action. It is delivered when the handler returns, at
 * the faulting instruction, so that a core dump shows it. A second thread that crashes meanwhile
 * waits. A second signal of the first thread ends the process at once. */
static void crash_handler(int signal_number, siginfo_t *info, void *context)
{
    struct sigaction action = {.sa_handler = SIG_DFL};

    if (crash_begin()) {
        crash_hook();
    }
    while (atomic_load(&crash_thread) != gettid()) {
        pause();
    }
    sigaction(signal_number, &action, NULL);
    raise(signal_number);
}

void crash_run_hook(void)
{
    if (crash_hook != NULL && crash_begin()) {
        crash_hook();
    }
}

/* Gives the handler its own stack, so that it also runs when the main thread's stack overflows. */
static void crash_give_stack(void)
{
    void *stack = mmap(NULL, CRASH_STACK_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    stack_t alternative = {.ss_sp = stack, .ss_size = CRASH_STACK_BYTES};

    if (stack != MAP_FAILED) {
        sigaltstack(&alternative, NULL);
    }
}

void crash_catch_signals(void (*fn)(void))
{
    struct sigaction action = {.sa_sigaction = crash_handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};

    crash_hook = fn;
    crash_give_stack();
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof(crash_signals) / sizeof(crash_signals[0]); i++) {
        struct sigaction now;

        /* Signals that are ignored (nohup) or caught (a sanitizer) are left alone. */
        if (sigaction(crash_signals[i], NULL, &now) == 0 && !(now.sa_flags & SA_SIGINFO) &&
            now.sa_handler == SIG_DFL) {
            sigaction(crash_signals[i], &action, NULL);
        }
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "util/crash.h"

#define CRASH_STACK_BYTES (64 * 1024)

static void (*crash_hook)(void);
static atomic_flag crash_begun = ATOMIC_FLAG_INIT;

static const int crash_signals[] = {SIGSEGV, SIGBUS,  SIGILL, SIGFPE,  SIGABRT, SIGSYS,
                                    SIGTRAP, SIGTERM, SIGINT, SIGQUIT, SIGHUP};

/* The signal is sent again at its default: it is delivered when the handler returns, at the place
 * where it hit, which is what a core dump should show. A second thread that crashes meanwhile waits
 * for that; a second fault of this one ends the process at once, since the signal is blocked. */
static void crash_handler(int signal_number, siginfo_t *info, void *context)
{
    struct sigaction action = {.sa_handler = SIG_DFL};

    while (atomic_flag_test_and_set(&crash_begun)) {
        pause();
    }
    crash_hook();
    sigaction(signal_number, &action, NULL);
    raise(signal_number);
}

void crash_run_hook(void)
{
    if (crash_hook != NULL && !atomic_flag_test_and_set(&crash_begun)) {
        crash_hook();
    }
}

/* The handler must also run when the main thread's stack is what overflowed. */
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

        /* What is ignored (nohup) or caught (a sanitizer) stays so. */
        if (sigaction(crash_signals[i], NULL, &now) == 0 && !(now.sa_flags & SA_SIGINFO) &&
            now.sa_handler == SIG_DFL) {
            sigaction(crash_signals[i], &action, NULL);
        }
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The crash hook: once the end of a process has begun, further signals do not stop it. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "util/crash.h"

static int signal_in_hook;
static int out_fd;

static void hook(void)
{
    ssize_t n = write(out_fd, "h", 1);
    (void)n;
    if (signal_in_hook != 0) {
        raise(signal_in_hook);
    }
}

/* Runs @fn in a child process that catches signals. Returns the status of waitpid(), and in *@hooks
 * the number of calls of the hook. SIGALRM ends a process that hangs. */
static int run(void (*fn)(void), unsigned *hooks)
{
    int fds[2], status;
    char c;
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit no_core = {0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        out_fd = fds[1];
        signal(SIGSEGV, SIG_DFL); /* cmocka's */
        crash_catch_signals(hook);
        signal(SIGALRM, SIG_DFL);
        alarm(10);
        fn();
        _exit(0);
    }
    close(fds[1]);
    *hooks = 0;
    while (read(fds[0], &c, 1) == 1) {
        ++*hooks;
    }
    close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void be_terminated(void)
{
    raise(SIGTERM);
}

static void a_signal_calls_the_hook_and_ends_the_process(void **state)
{
    unsigned hooks;
    signal_in_hook = 0;
    int status = run(be_terminated, &hooks);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGTERM);
    assert_int_equal(hooks, 1);
}

/* Another signal arrives during the hook: a fault of its own, or a kill. */
static void another_signal_in_the_hook_ends_the_process(void **state)
{
#ifdef __SANITIZE_THREAD__
    skip(); /* ThreadSanitizer holds back signals that arrive in a handler */
#endif
    static const int signals[] = {SIGSEGV, SIGINT, SIGABRT};
    for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        unsigned hooks;
        signal_in_hook = signals[i];
        int status = run(be_terminated, &hooks);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), signals[i]);
        assert_int_equal(hooks, 1);
    }
}

static void be_terminated_after_the_hook(void)
{
    crash_run_hook();
    raise(SIGTERM);
}

static void a_signal_after_the_hook_ends_the_process(void **state)
{
    unsigned hooks;
    signal_in_hook = 0;
    int status = run(be_terminated_after_the_hook, &hooks);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGTERM);
    assert_int_equal(hooks, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_signal_calls_the_hook_and_ends_the_process),
        cmocka_unit_test(another_signal_in_the_hook_ends_the_process),
        cmocka_unit_test(a_signal_after_the_hook_ends_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

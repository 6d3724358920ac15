/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/death.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void death_child(void (*fn)(void *arg), void *arg, int err)
{
    signal(SIGABRT, SIG_DFL);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    dup2(err, STDERR_FILENO);
    alarm(60); /* ends a deadlock; its signal differs from an abort's */
    fn(arg);
    _exit(0);
}

/* Runs the child. Its status; what it wrote to standard error is in @said. */
static int death_run(void (*fn)(void *arg), void *arg, char *said, size_t size)
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(fds[0]);
        death_child(fn, arg, fds[1]);
    }
    close(fds[1]);
    size_t used = 0;
    ssize_t n;
    while (used < size - 1 && (n = read(fds[0], said + used, size - 1 - used)) > 0) {
        used += (size_t)n;
    }
    said[used] = '\0';
    close(fds[0]);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

void assert_dies(void (*fn)(void *arg), void *arg, const char *message)
{
    char said[16384];
    int status = death_run(fn, arg, said, sizeof(said));
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT || strstr(said, message) == NULL) {
        fail_msg("expected death by abort with '%s'; status %#x, said:\n%s", message, status, said);
    }
}

void assert_exits(void (*fn)(void *arg), void *arg)
{
    char said[16384];
    int status = death_run(fn, arg, said, sizeof(said));
    if (status != 0) {
        fail_msg("expected an end without a failure; status %#x, said:\n%s", status, said);
    }
}

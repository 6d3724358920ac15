/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/death.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <signal.h>
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

void assert_dies(void (*fn)(void *arg), void *arg, const char *message)
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(fds[0]);
        death_child(fn, arg, fds[1]);
    }
    close(fds[1]);
    char said[16384];
    size_t used = 0;
    ssize_t n;
    while (used < sizeof(said) - 1 &&
           (n = read(fds[0], said + used, sizeof(said) - 1 - used)) > 0) {
        used += (size_t)n;
    }
    said[used] = '\0';
    close(fds[0]);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT || strstr(said, message) == NULL) {
        fail_msg("expected death by abort with '%s'; status %#x, said:\n%s", message, status, said);
    }
}

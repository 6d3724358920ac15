/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests of standard input and output as a chardev, in separate processes: a guest process with
 * one chardev "a" and a frontend that records its input. It does not use cmocka: the exit status is
 * the result.
 */
#ifndef SKIFF_TESTS_VMM_PROCESS_STDIO_GUEST_H
#define SKIFF_TESTS_VMM_PROCESS_STDIO_GUEST_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/support/chardev_harness.h"

#define CHILD_TIMEOUT_S 60

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            dprintf(STDERR_FILENO, "%s:%d: not so: %s (errno %d)\n", __FILE__, __LINE__,           \
                    #condition, errno);                                                            \
            _exit(99);                                                                             \
        }                                                                                          \
    } while (0)

typedef struct Guest {
    AioContext *ctx;
    Chardev *c;
    RecordingFrontend *f;
} Guest;

static inline Guest guest_begin(const char *options)
{
    Guest g = {.ctx = chardev_harness_begin(), .f = recording_frontend_new(1 << 20)};
    char *message = chardev_harness_add(g.ctx, options);

    enter_main();
    CHECK(!message);
    g.c = chardev_claim("a", "test", NULL);
    CHECK(g.c);
    chardev_attach(g.c, &recording_frontend_ops, g.f);
    chardev_harness_settle(g.ctx);
    return g;
}

static inline void guest_put(Guest *g, const char *text)
{
    CHECK(chardev_write(g->c, (const uint8_t *)text, strlen(text)) == strlen(text));
}

/* Runs until @text has arrived as input. */
static inline void guest_await(Guest *g, const char *text)
{
    STEP_UNTIL(g->ctx, strstr(g->f->received->str, text));
}

/* The test's side: runs @fn in a child, which must succeed. */
static inline void run_in_child(void (*fn)(void *arg), void *arg)
{
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        alarm(CHILD_TIMEOUT_S);
        fn(arg);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

#endif

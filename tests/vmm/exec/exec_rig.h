/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the tests of -exec: skiff's side, with pipes for the three streams. */
#ifndef SKIFF_TESTS_VMM_EXEC_EXEC_RIG_H
#define SKIFF_TESTS_VMM_EXEC_EXEC_RIG_H

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/support/chardev_harness.h"
#include "vmm/exec/exec.h"

typedef struct Fixture {
    AioContext *ctx;
    Exec *exec;
    bool made;
    int in[2], out[2], err[2]; /* pipes: [0] is read, [1] is written */
    unsigned finished;
    const char *command;
    /* a scripted guest */
    RecordingFrontend *guest;
    /* the real agent */
    pid_t agent;
    int wire;
    AioHandler *wire_handler;
    GByteArray *to_agent; /* not yet taken by the agent's socket */
} Fixture;

static inline void on_finished(void *opaque)
{
    ((Fixture *)opaque)->finished++;
}

static inline void make_exec(void *opaque)
{
    Fixture *x = opaque;
    ExecConfig config = {.ctx = x->ctx,
                         .command = x->command,
                         .fds = {x->in[0], x->out[1], x->err[1]},
                         .finished = on_finished,
                         .opaque = x};
    g_autoptr(GError) error = NULL;

    enter_main();
    enter_coroutine();
    x->exec = exec_co_new(&config, &error);
    assert_non_null(x->exec);
    x->made = true;
}

static inline void begin(Fixture *x, const char *command)
{
    x->command = command;
    co_start(x->ctx, make_exec, x);
    STEP_UNTIL(x->ctx, x->made);
}

static inline int set_up(void **state)
{
    Fixture *x = g_new0(Fixture, 1);

    alarm(60);
    x->ctx = chardev_harness_begin();
    x->wire = -1;
    assert_int_equal(pipe2(x->in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(x->out, O_CLOEXEC), 0);
    assert_int_equal(pipe2(x->err, O_CLOEXEC), 0);
    x->guest = recording_frontend_new(1 << 20);
    x->to_agent = g_byte_array_new();
    *state = x;
    return 0;
}

static inline void close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
    }
    *fd = -1;
}

static inline int tear_down(void **state)
{
    Fixture *x = *state;

    enter_main();
    if (x->exec) {
        chardev_attach(exec_chardev(x->exec), NULL, NULL);
        exec_free(x->exec);
    }
    aio_handler_remove(x->wire_handler);
    close_fd(&x->wire);
    if (x->agent > 0) {
        waitpid(x->agent, NULL, 0);
    }
    chardev_harness_end(x->ctx);
    for (unsigned i = 0; i < 2; i++) {
        close_fd(&x->in[i]);
        close_fd(&x->out[i]);
        close_fd(&x->err[i]);
    }
    recording_frontend_free(x->guest);
    g_byte_array_unref(x->to_agent);
    g_free(x);
    alarm(0);
    return 0;
}
static inline void assert_lost(Fixture *x, const char *why)
{
    int status;

    enter_main();
    STEP_UNTIL(x->ctx, x->finished > 0);
    assert_int_equal(exec_state(x->exec), EXEC_STATE_ENDED);
    assert_false(exec_result(x->exec, &status));
    if (why) {
        assert_non_null(exec_failure(x->exec));
        assert_non_null(strstr(exec_failure(x->exec), why));
    }
    chardev_harness_settle(x->ctx);
    assert_int_equal(x->finished, 1);
}

static inline void assert_status(Fixture *x, int expected)
{
    int status = -1;

    enter_main();
    STEP_UNTIL(x->ctx, x->finished > 0);
    assert_true(exec_result(x->exec, &status));
    assert_int_equal(status, expected);
}

#define EXEC_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif

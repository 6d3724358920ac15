/* SPDX-License-Identifier: Apache-2.0 */
/* The event loop reports a hangup of the peer while the descriptor is not read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>
#include "util/loop/aio.h"

typedef struct Fixture {
    AioContext *ctx;
    AioHandler *handler;
    int pair[2];
    unsigned readable, writable, hangups;
} Fixture;

static void on_readable(void *opaque)
{
    ((Fixture *)opaque)->readable++;
}

static void on_writable(void *opaque)
{
    ((Fixture *)opaque)->writable++;
}

static void on_hangup(void *opaque)
{
    ((Fixture *)opaque)->hangups++;
}

static const AioHandlerOps watching = {
    .readable = on_readable, .writable = on_writable, .hangup = on_hangup};

static int set_up(void **state)
{
    Fixture *x = calloc(1, sizeof(*x));

    x->ctx = aio_context_new("test", NULL);
    *state = x;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, x->pair) != 0) {
        return -1;
    }
    x->handler = aio_handler_add(x->ctx, x->pair[0], &watching, x);
    aio_handler_watch(x->handler, false, false);
    return 0;
}

static int tear_down(void **state)
{
    Fixture *x = *state;

    aio_handler_remove(x->handler);
    aio_context_free(x->ctx);
    close(x->pair[0]);
    if (x->pair[1] >= 0) {
        close(x->pair[1]);
    }
    free(x);
    return 0;
}

static void peer_leaves(Fixture *x)
{
    close(x->pair[1]);
    x->pair[1] = -1;
}

static void settle(Fixture *x)
{
    while (aio_context_step(x->ctx, false)) {
        ;
    }
}

static void a_hangup_is_reported_once_while_reading_is_off(void **state)
{
    Fixture *x = *state;

    settle(x);
    assert_int_equal(x->hangups, 0);
    peer_leaves(x);
    settle(x); /* would not return if it were reported again and again */
    assert_int_equal(x->hangups, 1);
    assert_int_equal(x->readable, 0);
}

static void bytes_without_a_hangup_report_none(void **state)
{
    Fixture *x = *state;

    assert_int_equal(write(x->pair[1], "x", 1), 1);
    settle(x);
    assert_int_equal(x->hangups, 0);
    assert_int_equal(x->readable, 0);
}

static void a_shutdown_of_writing_is_reported_too(void **state)
{
    Fixture *x = *state;

    shutdown(x->pair[1], SHUT_WR);
    settle(x);
    assert_int_equal(x->hangups, 1);
}

static void a_handler_that_reads_sees_the_end_by_reading(void **state)
{
    Fixture *x = *state;

    aio_handler_watch(x->handler, true, false);
    peer_leaves(x);
    aio_context_step(x->ctx, false);
    assert_int_equal(x->hangups, 0);
    assert_int_equal(x->readable, 1);
}

static void a_hangup_is_reported_again_when_reading_stops_again(void **state)
{
    Fixture *x = *state;

    peer_leaves(x);
    settle(x);
    aio_handler_watch(x->handler, false, false);
    settle(x);
    assert_int_equal(x->hangups, 1);
    aio_handler_watch(x->handler, true, false);
    aio_handler_watch(x->handler, false, false);
    settle(x);
    assert_int_equal(x->hangups, 2);
}

static void a_hangup_is_reported_to_a_writer_too(void **state)
{
    Fixture *x = *state;

    aio_handler_watch(x->handler, false, true);
    peer_leaves(x);
    aio_context_step(x->ctx, false);
    assert_int_equal(x->hangups, 1);
    assert_int_equal(x->writable, 1);
}

static void remove_in_hangup(void *opaque)
{
    Fixture *x = opaque;

    x->hangups++;
    aio_handler_remove(x->handler);
    x->handler = NULL;
}

static void the_handler_may_be_removed_in_the_hangup_callback(void **state)
{
    static const AioHandlerOps ops = {.readable = on_readable, .hangup = remove_in_hangup};
    Fixture *x = *state;

    aio_handler_remove(x->handler);
    x->handler = aio_handler_add(x->ctx, x->pair[0], &ops, x);
    aio_handler_watch(x->handler, false, false);
    peer_leaves(x);
    settle(x);
    assert_int_equal(x->hangups, 1);
    assert_null(x->handler);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_hangup_is_reported_once_while_reading_is_off, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(bytes_without_a_hangup_report_none, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_shutdown_of_writing_is_reported_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_handler_that_reads_sees_the_end_by_reading, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_hangup_is_reported_again_when_reading_stops_again, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_hangup_is_reported_to_a_writer_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_handler_may_be_removed_in_the_hangup_callback, set_up,
                                        tear_down),
    };

    return cmocka_run_group_tests_name("util/loop/aio hang-up", tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The event loop tells of a peer that leaves while its descriptor is not read. */
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

static void a_peer_that_leaves_is_told_once_while_nothing_is_read(void **state)
{
    Fixture *x = *state;

    settle(x);
    assert_int_equal(x->hangups, 0);
    peer_leaves(x);
    settle(x); /* would not return if it were told again and again */
    assert_int_equal(x->hangups, 1);
    assert_int_equal(x->readable, 0);
}

static void bytes_alone_are_no_hangup(void **state)
{
    Fixture *x = *state;

    assert_int_equal(write(x->pair[1], "x", 1), 1);
    settle(x);
    assert_int_equal(x->hangups, 0);
    assert_int_equal(x->readable, 0);
}

static void a_peer_that_only_stops_writing_is_told_too(void **state)
{
    Fixture *x = *state;

    shutdown(x->pair[1], SHUT_WR);
    settle(x);
    assert_int_equal(x->hangups, 1);
}

static void who_reads_learns_it_by_reading(void **state)
{
    Fixture *x = *state;

    aio_handler_watch(x->handler, true, false);
    peer_leaves(x);
    aio_context_step(x->ctx, false);
    assert_int_equal(x->hangups, 0);
    assert_int_equal(x->readable, 1);
}

static void it_is_told_again_when_reading_has_stopped_again(void **state)
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

static void a_writer_learns_it_as_well(void **state)
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

static void the_handler_may_be_removed_when_it_is_told(void **state)
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
        cmocka_unit_test_setup_teardown(a_peer_that_leaves_is_told_once_while_nothing_is_read,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(bytes_alone_are_no_hangup, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_peer_that_only_stops_writing_is_told_too, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(who_reads_learns_it_by_reading, set_up, tear_down),
        cmocka_unit_test_setup_teardown(it_is_told_again_when_reading_has_stopped_again, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_writer_learns_it_as_well, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_handler_may_be_removed_when_it_is_told, set_up,
                                        tear_down),
    };

    return cmocka_run_group_tests_name("util/loop/aio hang-up", tests, NULL, NULL);
}

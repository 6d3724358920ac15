/* SPDX-License-Identifier: Apache-2.0 */
/* Chardevs shared by several frontends: the escape byte and the focus. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/support/chardev_fixture.h"

static void the_escape_switches_ports_and_sends_breaks(void **state)
{
    ChardevFixture *x = *state;
    RecordingFrontend *g = recording_frontend_new(100);
    Chardev *serial, *monitor;

    chardev_fixture_add(x, "socket,id=a,fd=%d,mux=on", x->pair[0]);
    serial = chardev_fixture_use(x, "a");
    monitor = chardev_fixture_claim("a");
    enter_main();
    chardev_attach(monitor, &recording_frontend_ops, g);
    chardev_harness_settle(x->ctx);
    assert_string_equal(x->f->events->str, "O");
    assert_string_equal(g->events->str, "O");

    chardev_peer_says(x->pair[1], "ab\001bc\001");
    STEP_UNTIL(x->ctx, x->f->received->len == 3);
    chardev_peer_says(x->pair[1], "cquit\n\001\001\001cd");
    STEP_UNTIL(x->ctx, x->f->received->len == 4);
    assert_string_equal(x->f->received->str, "abcd");
    assert_string_equal(x->f->events->str, "OBUF");
    assert_string_equal(g->received->str, "quit\n\001");
    assert_string_equal(g->events->str, "OFU");
    chardev_put_text(monitor, "(skiff) ");
    chardev_put_text(serial, "boot");
    assert_chardev_peer_gets(x, x->pair[1], "(skiff) boot");
    chardev_harness_end(x->ctx);
    recording_frontend_free(g);
    x->ctx = chardev_harness_begin();
}

static void input_typed_ahead_finds_all_ports(void **state)
{
    ChardevFixture *x = *state;
    RecordingFrontend *g = recording_frontend_new(100);

    enter_main();
    chardev_hold_input(true);
    chardev_peer_says(x->pair[1], "\001cquit\n");
    chardev_fixture_add(x, "socket,id=a,fd=%d,mux=on", x->pair[0]);
    chardev_fixture_use(x, "a");
    chardev_harness_settle(x->ctx);
    chardev_attach(chardev_fixture_claim("a"), &recording_frontend_ops, g);
    chardev_harness_settle(x->ctx);
    assert_string_equal(g->received->str, "");
    chardev_hold_input(false);
    STEP_UNTIL(x->ctx, g->received->len == 5);
    assert_string_equal(g->received->str, "quit\n");
    assert_string_equal(x->f->received->str, "");
    chardev_harness_end(x->ctx);
    recording_frontend_free(g);
    x->ctx = chardev_harness_begin();
}

static void count_call(void *opaque)
{
    ++*(int *)opaque;
}

static void the_escape_ends_helps_and_stamps(void **state)
{
    ChardevFixture *x = *state;
    int terminated = 0;
    Chardev *c;

    enter_main();
    aio_context_set_virtual_time(x->ctx, 7);
    chardev_set_terminate_handler(count_call, &terminated);
    chardev_fixture_add(x, "socket,id=a,fd=%d,mux=on", x->pair[0]);
    c = chardev_fixture_use(x, "a");
    chardev_peer_says(x->pair[1], "\001t");
    chardev_harness_settle(x->ctx);
    chardev_put_text(c, "a\n");
    assert_chardev_peer_gets(x, x->pair[1], "[00:00:00.000] a\n");
    chardev_peer_says(x->pair[1], "\001t\001h");
    assert_chardev_peer_gets(x, x->pair[1],
                             "\r\nC-a h    print this help\r\nC-a x    exit skiff\r\n");
    chardev_peer_says(x->pair[1], "\001zx\001x");
    STEP_UNTIL(x->ctx, terminated == 1);
    assert_string_equal(x->f->received->str, "x");
}

static void the_escape_can_be_another_byte(void **state)
{
    ChardevFixture *x = *state;
    int terminated = 0;

    enter_main();
    chardev_set_terminate_handler(count_call, &terminated);
    chardev_set_escape(0x14);
    chardev_fixture_add(x, "socket,id=a,fd=%d,mux=on", x->pair[0]);
    chardev_fixture_use(x, "a");
    chardev_peer_says(x->pair[1], "\001x\024x");
    STEP_UNTIL(x->ctx, terminated == 1);
    assert_string_equal(x->f->received->str, "\001x");
}

static void a_port_that_takes_nothing_holds_the_input_back(void **state)
{
    ChardevFixture *x = *state;
    g_autofree char *much = g_strnfill(20000, 'm');
    Chardev *c;

    x->f->room = 10;
    chardev_fixture_add(x, "socket,id=a,fd=%d,mux=on", x->pair[0]);
    c = chardev_fixture_use(x, "a");
    chardev_peer_says(x->pair[1], much);
    chardev_harness_settle(x->ctx);
    assert_int_equal(x->f->received->len, 10);
    x->f->room = 1 << 20;
    chardev_accept_input(c);
    STEP_UNTIL(x->ctx, x->f->received->len == 20000);
    assert_string_equal(x->f->received->str, much);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CHARDEV_TEST(the_escape_switches_ports_and_sends_breaks),
        CHARDEV_TEST(input_typed_ahead_finds_all_ports),
        CHARDEV_TEST(the_escape_ends_helps_and_stamps),
        CHARDEV_TEST(the_escape_can_be_another_byte),
        CHARDEV_TEST(a_port_that_takes_nothing_holds_the_input_back),
    };

    alarm(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

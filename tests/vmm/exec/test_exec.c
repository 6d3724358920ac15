/* SPDX-License-Identifier: Apache-2.0 */
/* -exec without a VM: skiff's side, with a scripted guest at the port. */
#include "tests/vmm/exec/exec_rig.h"

static void begin_scripted(Fixture *x, const char *command)
{
    enter_main();
    begin(x, command);
    chardev_attach(exec_chardev(x->exec), &recording_frontend_ops, x->guest);
}

static void say(Fixture *x, unsigned type, const void *payload, size_t size)
{
    g_autofree uint8_t *bytes = g_malloc(EXEC_HEADER_BYTES + size);

    bytes[0] = (uint8_t)type;
    bytes[1] = 0;
    bytes[2] = (uint8_t)size;
    bytes[3] = (uint8_t)(size >> 8);
    memcpy(bytes + EXEC_HEADER_BYTES, payload, size);
    assert_int_equal(chardev_write(exec_chardev(x->exec), bytes, EXEC_HEADER_BYTES + size),
                     EXEC_HEADER_BYTES + size);
}

static void greet(Fixture *x, unsigned flags)
{
    uint8_t payload[] = {'S', 'K', 'I', 'F', 'F', 'E', 'X', 'E', 1, 0, (uint8_t)flags, 0};

    enter_main();
    exec_port_changed(x->exec, true);
    say(x, EXEC_HELLO, payload, sizeof(payload));
    chardev_harness_settle(x->ctx);
}

/* The number of frames of @type that the guest has received. */
static unsigned heard(const Fixture *x, unsigned type)
{
    const uint8_t *bytes = (const uint8_t *)x->guest->received->str;
    size_t size = x->guest->received->len;
    unsigned count = 0;

    for (size_t at = 0; at < size;) {
        assert_true(size - at >= EXEC_HEADER_BYTES);
        count += bytes[at] == type;
        at += EXEC_HEADER_BYTES + (bytes[at + 2] | (size_t)bytes[at + 3] << 8);
        assert_true(at <= size);
    }
    return count;
}

static void test_the_command_is_sent_after_the_hello(void **state)
{
    Fixture *x = *state;

    begin_scripted(x, "true");
    chardev_harness_settle(x->ctx);
    assert_int_equal(x->guest->received->len, 0);
    greet(x, 0);
    assert_int_equal(heard(x, EXEC_RUN), 1);
    assert_non_null(strstr(x->guest->received->str + EXEC_HEADER_BYTES + EXEC_RUN_BYTES, "true"));
}

static void test_an_exit_is_acknowledged_and_ends_it(void **state)
{
    Fixture *x = *state;

    begin_scripted(x, "x");
    greet(x, 0);
    say(x, EXEC_EXIT, "\0\7\0\0", 4);
    assert_status(x, 7);
    chardev_harness_settle(x->ctx);
    assert_int_equal(heard(x, EXEC_BYE), 1);
}

static void test_death_by_signal_is_128_and_its_number(void **state)
{
    Fixture *x = *state;

    begin_scripted(x, "x");
    greet(x, 0);
    say(x, EXEC_EXIT, "\1\11\0\0", 4);
    assert_status(x, 137);
}

static void test_an_announced_power_off_is_waited_for(void **state)
{
    Fixture *x = *state;

    enter_main();
    begin_scripted(x, "x");
    greet(x, EXEC_HELLO_POWERS_OFF);
    say(x, EXEC_EXIT, "\0\0\0\0", 4);
    chardev_harness_settle(x->ctx);
    assert_int_equal(x->finished, 0);
    exec_guest_ended(x->exec);
    assert_status(x, 0);
}

static void test_the_wait_for_a_power_off_is_bounded(void **state)
{
    Fixture *x = *state;

    aio_context_set_virtual_time(x->ctx, 0);
    begin_scripted(x, "x");
    greet(x, EXEC_HELLO_POWERS_OFF);
    say(x, EXEC_EXIT, "\0\5\0\0", 4);
    chardev_harness_settle(x->ctx);
    assert_int_equal(x->finished, 0);
    aio_context_set_virtual_time(x->ctx, EXEC_POWER_OFF_NS);
    chardev_harness_settle(x->ctx);
    assert_status(x, 5);
}

static void test_bytes_that_are_no_hello_are_a_protocol_error(void **state)
{
    Fixture *x = *state;

    enter_main();
    begin_scripted(x, "x");
    assert_int_equal(chardev_write(exec_chardev(x->exec), (const uint8_t *)"login: ", 7), 7);
    assert_lost(x, "unknown type");
    assert_int_equal(chardev_write(exec_chardev(x->exec), (const uint8_t *)"more", 4), 4);
}

static void test_another_version_is_a_protocol_error(void **state)
{
    Fixture *x = *state;

    begin_scripted(x, "x");
    say(x, EXEC_HELLO, "SKIFFEXE\2\0\0\0", 12);
    assert_lost(x, "version");
}

static void test_output_before_the_hello_is_a_protocol_error(void **state)
{
    Fixture *x = *state;

    begin_scripted(x, "x");
    say(x, EXEC_STDOUT, "x", 1);
    assert_lost(x, "no greeting");
}

static void test_a_second_hello_is_a_protocol_error(void **state)
{
    Fixture *x = *state;

    begin_scripted(x, "x");
    greet(x, 0);
    say(x, EXEC_HELLO, "SKIFFEXE\1\0\0\0", 12);
    assert_lost(x, "second greeting");
}

static void test_more_output_than_the_window_is_a_protocol_error(void **state)
{
    Fixture *x = *state;
    static const uint8_t data[EXEC_DATA_MAX];

    begin_scripted(x, "x");
    greet(x, 0);
    close_fd(&x->err[0]); /* output is dropped then, and the window grows by it */
    for (size_t sent = 0; sent < EXEC_WINDOW_BYTES; sent += sizeof(data)) {
        say(x, EXEC_STDERR, data, sizeof(data));
    }
    say(x, EXEC_STDERR, data, 1);
    assert_lost(x, "more output");
}

static void test_too_large_a_window_is_a_protocol_error(void **state)
{
    Fixture *x = *state;

    begin_scripted(x, "x");
    greet(x, 0);
    say(x, EXEC_STDIN_WINDOW, "\377\377\377\377", 4);
    assert_lost(x, "window");
}

static void test_a_closed_port_loses_a_running_command(void **state)
{
    Fixture *x = *state;

    enter_main();
    aio_context_set_virtual_time(x->ctx, 0);
    begin_scripted(x, "x");
    exec_port_changed(x->exec, true);
    exec_port_changed(x->exec, false); /* before EXEC_HELLO: it may open the port again */
    greet(x, 0);
    exec_port_changed(x->exec, false);
    chardev_harness_settle(x->ctx);
    assert_int_equal(exec_state(x->exec), EXEC_STATE_RUNNING);
    aio_context_set_virtual_time(x->ctx, EXEC_CLOSE_NS);
    chardev_harness_settle(x->ctx);
    assert_lost(x, "closed its port");
}

static void test_a_guest_that_closes_the_port_and_ends_has_ended(void **state)
{
    Fixture *x = *state;

    enter_main();
    begin_scripted(x, "x");
    greet(x, 0);
    exec_port_changed(x->exec, false);
    exec_guest_ended(x->exec);
    assert_lost(x, NULL);
    assert_null(exec_failure(x->exec));
}

static void test_another_agent_is_not_the_one_that_ran_the_command(void **state)
{
    Fixture *x = *state;

    enter_main();
    begin_scripted(x, "x");
    greet(x, 0);
    exec_port_changed(x->exec, false);
    exec_port_changed(x->exec, true);
    assert_lost(x, "closed its port");
}

static void test_a_guest_that_ends_is_lost_after_its_last_output(void **state)
{
    Fixture *x = *state;
    char text[8] = "";

    enter_main();
    begin_scripted(x, "x");
    greet(x, 0);
    exec_guest_ended(x->exec);
    say(x, EXEC_STDOUT, "last", 4); /* was in the queue */
    assert_lost(x, NULL);
    assert_null(exec_failure(x->exec));
    assert_int_equal(read(x->out[0], text, sizeof(text)), 4);
}

static void test_an_exit_in_the_queue_counts_when_the_guest_ends(void **state)
{
    Fixture *x = *state;

    enter_main();
    begin_scripted(x, "x");
    greet(x, 0);
    exec_guest_ended(x->exec);
    say(x, EXEC_EXIT, "\0\3\0\0", 4);
    assert_status(x, 3);
}

static void test_a_guest_without_an_agent_just_ends(void **state)
{
    Fixture *x = *state;

    enter_main();
    begin_scripted(x, "x");
    exec_guest_ended(x->exec);
    assert_lost(x, NULL);
    assert_false(exec_has_agent(x->exec));
}

static void test_input_is_sent_as_far_as_there_is_a_window(void **state)
{
    Fixture *x = *state;

    begin_scripted(x, "x");
    assert_int_equal(write(x->in[1], "0123456789", 10), 10);
    greet(x, 0);
    assert_int_equal(heard(x, EXEC_STDIN), 0);
    say(x, EXEC_STDIN_WINDOW, "\4\0\0\0", 4);
    STEP_UNTIL(x->ctx, heard(x, EXEC_STDIN) == 1);
    chardev_harness_settle(x->ctx);
    assert_int_equal(heard(x, EXEC_STDIN), 1);
    close_fd(&x->in[1]);
    say(x, EXEC_STDIN_WINDOW, "\100\0\0\0", 4);
    STEP_UNTIL(x->ctx, heard(x, EXEC_STDIN_END) == 1);
    assert_int_equal(heard(x, EXEC_STDIN), 2);
}

static void test_input_that_ended_before_is_sent_too(void **state)
{
    Fixture *x = *state;

    close_fd(&x->in[1]);
    begin_scripted(x, "x");
    chardev_harness_settle(x->ctx);
    greet(x, 0);
    say(x, EXEC_STDIN_WINDOW, "\4\0\0\0", 4);
    STEP_UNTIL(x->ctx, heard(x, EXEC_STDIN_END) == 1);
}

static void test_a_closed_output_is_sent_to_the_agent(void **state)
{
    Fixture *x = *state;

    begin_scripted(x, "x");
    greet(x, 0);
    close_fd(&x->out[0]);
    say(x, EXEC_STDOUT, "x", 1);
    STEP_UNTIL(x->ctx, heard(x, EXEC_CLOSE) == 1);
    say(x, EXEC_EXIT, "\0\0\0\0", 4);
    assert_status(x, 0);
}

static void test_the_blocking_mode_of_descriptors_is_kept(void **state)
{
    Fixture *x = *state;

    begin_scripted(x, "x");
    greet(x, 0);
    say(x, EXEC_STDOUT, "x", 1);
    say(x, EXEC_STDERR, "x", 1);
    chardev_harness_settle(x->ctx);
    assert_int_equal(fcntl(x->in[0], F_GETFL) & O_NONBLOCK, 0);
    assert_int_equal(fcntl(x->out[1], F_GETFL) & O_NONBLOCK, 0);
    assert_int_equal(fcntl(x->err[1], F_GETFL) & O_NONBLOCK, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        EXEC_TEST(test_the_command_is_sent_after_the_hello),
        EXEC_TEST(test_an_exit_is_acknowledged_and_ends_it),
        EXEC_TEST(test_death_by_signal_is_128_and_its_number),
        EXEC_TEST(test_an_announced_power_off_is_waited_for),
        EXEC_TEST(test_the_wait_for_a_power_off_is_bounded),
        EXEC_TEST(test_bytes_that_are_no_hello_are_a_protocol_error),
        EXEC_TEST(test_another_version_is_a_protocol_error),
        EXEC_TEST(test_output_before_the_hello_is_a_protocol_error),
        EXEC_TEST(test_a_second_hello_is_a_protocol_error),
        EXEC_TEST(test_more_output_than_the_window_is_a_protocol_error),
        EXEC_TEST(test_too_large_a_window_is_a_protocol_error),
        EXEC_TEST(test_a_closed_port_loses_a_running_command),
        EXEC_TEST(test_a_guest_that_closes_the_port_and_ends_has_ended),
        EXEC_TEST(test_another_agent_is_not_the_one_that_ran_the_command),
        EXEC_TEST(test_a_guest_that_ends_is_lost_after_its_last_output),
        EXEC_TEST(test_an_exit_in_the_queue_counts_when_the_guest_ends),
        EXEC_TEST(test_a_guest_without_an_agent_just_ends),
        EXEC_TEST(test_input_is_sent_as_far_as_there_is_a_window),
        EXEC_TEST(test_input_that_ended_before_is_sent_too),
        EXEC_TEST(test_a_closed_output_is_sent_to_the_agent),
        EXEC_TEST(test_the_blocking_mode_of_descriptors_is_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

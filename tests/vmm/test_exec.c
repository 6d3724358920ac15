/* SPDX-License-Identifier: Apache-2.0 */
/*
 * -exec without a VM: skiff's end, with a scripted guest at the port, and with the real agent at
 * the other end of a socket pair.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
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
#include "vmm/exec.h"

#define AGENT "build/agent/skiff-agent"

typedef struct Fixture {
    AioContext *ctx;
    Exec *exec;
    bool made;
    int in[2], out[2], err[2]; /* pipes: [0] is read, [1] is written */
    unsigned finished;
    const char *command;
    /* a scripted guest */
    RecordingFrontend *guest;
    /* the agent */
    pid_t agent;
    int wire;
    AioHandler *wire_handler;
    GByteArray *to_agent; /* what the agent's socket has not taken */
} Fixture;

static void on_finished(void *opaque)
{
    ((Fixture *)opaque)->finished++;
}

static void make_exec(void *opaque)
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

static void begin(Fixture *x, const char *command)
{
    x->command = command;
    co_start(x->ctx, make_exec, x);
    STEP_UNTIL(x->ctx, x->made);
}

static int set_up(void **state)
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

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
    }
    *fd = -1;
}

static int tear_down(void **state)
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

/* ---- a scripted guest ---- */

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

/* How many frames of @type the guest has got. */
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

static void assert_lost(Fixture *x, const char *why)
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

static void assert_status(Fixture *x, int expected)
{
    int status = -1;

    enter_main();
    STEP_UNTIL(x->ctx, x->finished > 0);
    assert_true(exec_result(x->exec, &status));
    assert_int_equal(status, expected);
}

static void test_the_command_is_sent_once_the_agent_has_greeted(void **state)
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

static void test_a_guest_that_will_switch_off_is_waited_for(void **state)
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

static void test_a_guest_that_does_not_switch_off_is_not_waited_for_for_ever(void **state)
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

static void test_bytes_that_are_no_greeting_lose_it(void **state)
{
    Fixture *x = *state;

    enter_main();
    begin_scripted(x, "x");
    assert_int_equal(chardev_write(exec_chardev(x->exec), (const uint8_t *)"login: ", 7), 7);
    assert_lost(x, "no known type");
    assert_int_equal(chardev_write(exec_chardev(x->exec), (const uint8_t *)"more", 4), 4);
}

static void test_another_version_loses_it(void **state)
{
    Fixture *x = *state;

    begin_scripted(x, "x");
    say(x, EXEC_HELLO, "SKIFFEXE\2\0\0\0", 12);
    assert_lost(x, "version");
}

static void test_output_before_the_greeting_loses_it(void **state)
{
    Fixture *x = *state;

    begin_scripted(x, "x");
    say(x, EXEC_STDOUT, "x", 1);
    assert_lost(x, "no greeting");
}

static void test_a_second_greeting_loses_it(void **state)
{
    Fixture *x = *state;

    begin_scripted(x, "x");
    greet(x, 0);
    say(x, EXEC_HELLO, "SKIFFEXE\1\0\0\0", 12);
    assert_lost(x, "second greeting");
}

static void test_more_output_than_granted_loses_it(void **state)
{
    Fixture *x = *state;
    static const uint8_t data[EXEC_DATA_MAX];

    begin_scripted(x, "x");
    greet(x, 0);
    close_fd(&x->err[0]); /* what is written there is dropped, and room only granted by frames */
    for (size_t sent = 0; sent < EXEC_WINDOW_BYTES; sent += sizeof(data)) {
        say(x, EXEC_STDERR, data, sizeof(data));
    }
    say(x, EXEC_STDERR, data, 1);
    assert_lost(x, "more output");
}

static void test_too_large_a_window_loses_it(void **state)
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
    exec_port_changed(x->exec, false); /* before it has greeted: may come again */
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

static void test_a_guest_that_ends_loses_it_after_its_last_words(void **state)
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
    assert_false(exec_met_agent(x->exec));
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

static void test_input_that_ended_before_is_told_too(void **state)
{
    Fixture *x = *state;

    close_fd(&x->in[1]);
    begin_scripted(x, "x");
    chardev_harness_settle(x->ctx);
    greet(x, 0);
    say(x, EXEC_STDIN_WINDOW, "\4\0\0\0", 4);
    STEP_UNTIL(x->ctx, heard(x, EXEC_STDIN_END) == 1);
}

static void test_an_output_that_nobody_reads_is_told(void **state)
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

static void test_the_blocking_mode_of_descriptors_stays(void **state)
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

/* ---- the real agent ---- */

static size_t wire_can_receive(void *opaque)
{
    return ((Fixture *)opaque)->to_agent->len == 0 ? 16384 : 0;
}

static void wire_flush(Fixture *x)
{
    ssize_t n = send(x->wire, x->to_agent->data, x->to_agent->len, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n > 0) {
        g_byte_array_remove_range(x->to_agent, 0, (guint)n);
    }
    aio_handler_watch(x->wire_handler, true, x->to_agent->len > 0);
}

static void wire_receive(void *opaque, const uint8_t *data, size_t size)
{
    Fixture *x = opaque;

    g_byte_array_append(x->to_agent, data, (guint)size);
    wire_flush(x);
}

static void wire_writable(void *opaque)
{
    Fixture *x = opaque;

    wire_flush(x);
    chardev_accept_input(exec_chardev(x->exec));
}

static void wire_readable(void *opaque)
{
    Fixture *x = opaque;
    uint8_t data[8192];
    ssize_t n = recv(x->wire, data, sizeof(data), MSG_DONTWAIT);

    enter_main();
    if (n > 0) {
        chardev_write(exec_chardev(x->exec), data, (size_t)n);
    } else if (n == 0) {
        aio_handler_watch(x->wire_handler, false, false);
        exec_port_changed(x->exec, false);
    }
}

static const AioHandlerOps wire_ops = {.readable = wire_readable, .writable = wire_writable};
static const ChardevFrontendOps wire_frontend_ops = {.can_receive = wire_can_receive,
                                                     .receive = wire_receive};

static void begin_with_agent(Fixture *x, const char *command)
{
    int pair[2];

    enter_main();
    if (access(AGENT, X_OK) != 0) {
        skip(); /* make agent */
    }
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    x->agent = fork();
    if (x->agent == 0) {
        dup2(pair[1], 3);
        execl(AGENT, AGENT, "--fd", "3", (char *)NULL);
        _exit(1);
    }
    close(pair[1]);
    x->wire = pair[0];
    begin(x, command);
    x->wire_handler = aio_handler_add(x->ctx, x->wire, &wire_ops, x);
    chardev_attach(exec_chardev(x->exec), &wire_frontend_ops, x);
}

/* Reads the pipe to its end, or what is in it, without blocking. */
static size_t take(int fd, GString *into)
{
    char data[4096];
    ssize_t n;
    size_t total = 0;

    fcntl(fd, F_SETFL, O_NONBLOCK);
    while ((n = read(fd, data, sizeof(data))) > 0) {
        g_string_append_len(into, data, n);
        total += (size_t)n;
    }
    return total;
}

static void assert_text(int fd, const char *expected)
{
    g_autoptr(GString) text = g_string_new(NULL);

    take(fd, text);
    assert_string_equal(text->str, expected);
}

static void test_the_agent_runs_a_command_with_separate_streams(void **state)
{
    Fixture *x = *state;

    begin_with_agent(x, "echo out; echo err >&2; exit 7");
    assert_status(x, 7);
    assert_text(x->out[0], "out\n");
    assert_text(x->err[0], "err\n");
}

static void test_the_agent_tells_death_by_signal(void **state)
{
    Fixture *x = *state;

    begin_with_agent(x, "kill -9 $$");
    assert_status(x, 137);
}

static void test_the_agent_feeds_input_to_its_end(void **state)
{
    Fixture *x = *state;

    begin_with_agent(x, "wc -c");
    assert_int_equal(write(x->in[1], "0123456789", 10), 10);
    close_fd(&x->in[1]);
    assert_status(x, 0);
    assert_text(x->out[0], "10\n");
}

/* Both directions full all the time, and a reader that takes its time. */
static void test_megabytes_go_through_both_ways(void **state)
{
    Fixture *x = *state;
    enum { TOTAL = 3 << 20 };
    g_autoptr(GString) sent = g_string_sized_new(TOTAL);
    g_autoptr(GString) got = g_string_new(NULL);
    size_t written = 0;

    for (unsigned i = 0; i < TOTAL; i++) {
        g_string_append_c(sent, (char)(i * 7 + (i >> 9)));
    }
    begin_with_agent(x, "cat");
    fcntl(x->in[1], F_SETFL, O_NONBLOCK);
    while (x->finished == 0) {
        if (written < TOTAL) {
            ssize_t n = write(x->in[1], sent->str + written, TOTAL - written);
            written += n > 0 ? (size_t)n : 0;
        } else {
            close_fd(&x->in[1]);
        }
        aio_context_step(x->ctx, false);
        take(x->out[0], got);
    }
    assert_status(x, 0);
    assert_int_equal(got->len, TOTAL);
    assert_memory_equal(got->str, sent->str, TOTAL);
}

/* Nobody reads standard output, the command fills it: standard error comes nevertheless, and
 * nothing is lost in the end. */
static void test_a_full_stream_does_not_hold_up_the_other(void **state)
{
    Fixture *x = *state;
    g_autoptr(GString) errors = g_string_new(NULL), output = g_string_new(NULL);

    struct pollfd full = {.fd = x->out[1], .events = POLLOUT};

    begin_with_agent(x, "head -c 1000000 /dev/zero & read line; echo here >&2; wait");
    while (poll(&full, 1, 0) > 0) {
        aio_context_step(x->ctx, true);
    }
    assert_int_equal(write(x->in[1], "\n", 1), 1);
    while (errors->len == 0) {
        aio_context_step(x->ctx, true);
        take(x->err[0], errors);
    }
    assert_string_equal(errors->str, "here\n");
    while (x->finished == 0) {
        aio_context_step(x->ctx, output->len == 1000000);
        take(x->out[0], output);
    }
    assert_status(x, 0);
    assert_int_equal(output->len, 1000000);
}

static void test_a_command_that_reads_no_input_is_not_held_up(void **state)
{
    Fixture *x = *state;
    g_autofree char *flood = g_strnfill(60000, 'x');

    begin_with_agent(x, "echo done");
    assert_int_equal(write(x->in[1], flood, 60000), 60000);
    assert_status(x, 0);
    assert_text(x->out[0], "done\n");
}

static void test_a_process_that_stays_behind_is_not_waited_for(void **state)
{
    Fixture *x = *state;

    begin_with_agent(x, "sleep 5 & echo $!");
    assert_status(x, 0);
    g_autoptr(GString) pid = g_string_new(NULL);
    take(x->out[0], pid);
    kill(atoi(pid->str), SIGKILL);
}

static void test_a_reader_that_leaves_ends_an_endless_command(void **state)
{
    Fixture *x = *state;

    begin_with_agent(x, "yes");
    aio_context_step(x->ctx, true);
    close_fd(&x->out[0]);
    assert_status(x, 128 + SIGPIPE);
}

static void test_an_agent_that_dies_loses_the_command(void **state)
{
    Fixture *x = *state;

    begin_with_agent(x, "kill -9 $PPID; sleep 5");
    assert_lost(x, "closed its port");
}

#define EXEC_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EXEC_TEST(test_the_command_is_sent_once_the_agent_has_greeted),
        EXEC_TEST(test_an_exit_is_acknowledged_and_ends_it),
        EXEC_TEST(test_death_by_signal_is_128_and_its_number),
        EXEC_TEST(test_a_guest_that_will_switch_off_is_waited_for),
        EXEC_TEST(test_a_guest_that_does_not_switch_off_is_not_waited_for_for_ever),
        EXEC_TEST(test_bytes_that_are_no_greeting_lose_it),
        EXEC_TEST(test_another_version_loses_it),
        EXEC_TEST(test_output_before_the_greeting_loses_it),
        EXEC_TEST(test_a_second_greeting_loses_it),
        EXEC_TEST(test_more_output_than_granted_loses_it),
        EXEC_TEST(test_too_large_a_window_loses_it),
        EXEC_TEST(test_a_closed_port_loses_a_running_command),
        EXEC_TEST(test_a_guest_that_closes_the_port_and_ends_has_ended),
        EXEC_TEST(test_another_agent_is_not_the_one_that_ran_the_command),
        EXEC_TEST(test_a_guest_that_ends_loses_it_after_its_last_words),
        EXEC_TEST(test_an_exit_in_the_queue_counts_when_the_guest_ends),
        EXEC_TEST(test_a_guest_without_an_agent_just_ends),
        EXEC_TEST(test_input_is_sent_as_far_as_there_is_a_window),
        EXEC_TEST(test_input_that_ended_before_is_told_too),
        EXEC_TEST(test_an_output_that_nobody_reads_is_told),
        EXEC_TEST(test_the_blocking_mode_of_descriptors_stays),
        EXEC_TEST(test_the_agent_runs_a_command_with_separate_streams),
        EXEC_TEST(test_the_agent_tells_death_by_signal),
        EXEC_TEST(test_the_agent_feeds_input_to_its_end),
        EXEC_TEST(test_megabytes_go_through_both_ways),
        EXEC_TEST(test_a_full_stream_does_not_hold_up_the_other),
        EXEC_TEST(test_a_command_that_reads_no_input_is_not_held_up),
        EXEC_TEST(test_a_process_that_stays_behind_is_not_waited_for),
        EXEC_TEST(test_a_reader_that_leaves_ends_an_endless_command),
        EXEC_TEST(test_an_agent_that_dies_loses_the_command),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

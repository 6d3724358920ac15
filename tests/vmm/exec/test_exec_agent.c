/* SPDX-License-Identifier: Apache-2.0 */
/* -exec without a VM: skiff's side, with the real agent at the other end of a socket pair. */
#include <poll.h>
#include <signal.h>
#include "tests/vmm/exec/exec_rig.h"

#define AGENT "build/agent/skiff-agent"

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
    exec_port_changed(x->exec, true);
}

/* Reads the pipe to its end, or all available bytes, without blocking. */
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

static void test_the_agent_reports_death_by_signal(void **state)
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

/* Both directions are always full, and the reader is slow. */
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

/* The command fills standard output, which nothing reads: standard error still arrives, and no data
 * is lost in the end. */
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

    begin_with_agent(x, "echo done"); /* it may skip: what is allocated before would leak */
    g_autofree char *flood = g_strnfill(60000, 'x');
    assert_int_equal(write(x->in[1], flood, 60000), 60000);
    assert_status(x, 0);
    assert_text(x->out[0], "done\n");
}

static void test_a_background_process_is_not_waited_for(void **state)
{
    Fixture *x = *state;

    begin_with_agent(x, "sleep 5 & echo $!");
    assert_status(x, 0);
    g_autoptr(GString) pid = g_string_new(NULL);
    take(x->out[0], pid);
    assert_true(atoi(pid->str) > 1);
    kill(atoi(pid->str), SIGKILL);
}

static void test_a_closed_reader_ends_an_endless_command(void **state)
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        EXEC_TEST(test_the_agent_runs_a_command_with_separate_streams),
        EXEC_TEST(test_the_agent_reports_death_by_signal),
        EXEC_TEST(test_the_agent_feeds_input_to_its_end),
        EXEC_TEST(test_megabytes_go_through_both_ways),
        EXEC_TEST(test_a_full_stream_does_not_hold_up_the_other),
        EXEC_TEST(test_a_command_that_reads_no_input_is_not_held_up),
        EXEC_TEST(test_a_background_process_is_not_waited_for),
        EXEC_TEST(test_a_closed_reader_ends_an_endless_command),
        EXEC_TEST(test_an_agent_that_dies_loses_the_command),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Peers that disconnect: their earlier input is read, and one that shuts down only its sending side
 * gets the answers. Servers that cannot accept a client. */
#include <fcntl.h>
#include <limits.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/support/chardev_fixture.h"
#include "util/loop/coroutine.h"
#include "util/sys/sys_fault.h"

#define SECOND_NS INT64_C(1000000000)

static void pass_time(ChardevFixture *x, int64_t ns)
{
    aio_context_set_virtual_time(x->ctx, aio_now_ns(x->ctx) + ns);
    chardev_harness_settle(x->ctx);
}

static Chardev *serve(ChardevFixture *x, const char *more)
{
    g_autofree char *path = chardev_fixture_path(x, "sock");

    aio_context_set_virtual_time(x->ctx, 1);
    chardev_fixture_add(x, "socket,id=a,path=%s,server=on,wait=off%s", path, more);
    return chardev_fixture_use(x, "a");
}

static int make_client(ChardevFixture *x)
{
    g_autofree char *path = chardev_fixture_path(x, "sock");
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    strncpy(un.sun_path, path, sizeof(un.sun_path) - 1);
    assert_int_equal(connect(fd, (struct sockaddr *)&un, sizeof(un)), 0);
    return fd;
}

/* Connects, sends @text and shuts down its sending side. The frontend has received it and owes
 * answers. */
static int ask(ChardevFixture *x, const char *text)
{
    int fd = make_client(x);

    x->f->answering = true;
    chardev_peer_says(fd, text);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    chardev_harness_settle(x->ctx);
    assert_string_equal(x->f->received->str, text);
    g_string_truncate(x->f->received, 0);
    return fd;
}

static void finish_answers(ChardevFixture *x, Chardev *c)
{
    enter_main();
    x->f->answering = false;
    chardev_accept_input(c);
    chardev_harness_settle(x->ctx);
}

static void assert_end_of_file(int fd)
{
    char byte;

    assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), 0);
}

/* The first write fails before the first byte is read: a monitor greets every client. */
static void input_of_a_client_is_read_although_writing_to_it_fails(void **state)
{
    ChardevFixture *x = *state;
    Chardev *c = serve(x, "");
    int fd = make_client(x);

    enter_main();
    x->f->room = 0;
    chardev_peer_says(fd, "bye");
    close(fd);
    STEP_UNTIL(x->ctx, chardev_connected(c));
    chardev_put_text(c, "hello");
    chardev_harness_settle(x->ctx);
    assert_true(chardev_connected(c));
    x->f->room = 100;
    chardev_accept_input(c);
    STEP_UNTIL(x->ctx, !chardev_connected(c));
    assert_string_equal(x->f->received->str, "bye");
    assert_string_equal(x->f->events->str, "OC");
}

static void a_client_whose_input_is_not_taken_is_replaced_by_the_next(void **state)
{
    ChardevFixture *x = *state;
    Chardev *c = serve(x, "");
    int fd = make_client(x);

    x->f->room = 0;
    chardev_peer_says(fd, "bye");
    close(fd);
    STEP_UNTIL(x->ctx, chardev_connected(c));
    chardev_put_text(c, "hello");
    chardev_harness_settle(x->ctx);
    fd = make_client(x);
    pass_time(x, SECOND_NS);
    assert_string_equal(x->f->events->str, "O");
    pass_time(x, 5 * SECOND_NS);
    assert_string_equal(x->f->events->str, "OCO");
    close(fd);
}

static void a_client_that_shut_down_sending_gets_the_answers(void **state)
{
    ChardevFixture *x = *state;
    Chardev *c = serve(x, "");
    int fd = ask(x, "ask");

    pass_time(x, 3600 * SECOND_NS);
    assert_true(chardev_connected(c));
    chardev_put_text(c, "answer");
    finish_answers(x, c);
    assert_chardev_peer_gets(x, fd, "answer");
    STEP_UNTIL(x->ctx, !chardev_connected(c));
    assert_end_of_file(fd);
    assert_string_equal(x->f->events->str, "OC");
    close(fd);
}

/* More than the socket holds: output that is not written yet keeps the connection too. */
static void a_long_answer_is_written_to_its_end(void **state)
{
    ChardevFixture *x = *state;
    g_autofree char *big = g_strnfill(50000, '-');
    Chardev *c = serve(x, "");
    int fd = make_client(x), small = 1;
    size_t got = 0;
    char piece[4096];
    ssize_t n;

    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    x->f->answering = true;
    chardev_harness_settle(x->ctx);
    assert_int_equal(chardev_put_text(c, big), 50000);
    finish_answers(x, c);
    while ((n = recv(fd, piece, sizeof(piece), MSG_DONTWAIT)) != 0) {
        got += n > 0 ? (size_t)n : 0;
        chardev_harness_settle(x->ctx);
    }
    assert_int_equal(got, 50000);
    assert_false(chardev_connected(c));
    close(fd);
}

static void a_client_without_pending_data_is_disconnected_at_once(void **state)
{
    ChardevFixture *x = *state;
    Chardev *c = serve(x, "");
    int fd = make_client(x);

    STEP_UNTIL(x->ctx, chardev_connected(c));
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    STEP_UNTIL(x->ctx, !chardev_connected(c));
    assert_end_of_file(fd);
    close(fd);
}

static void a_client_that_does_not_wait_for_its_answers_is_noticed(void **state)
{
    ChardevFixture *x = *state;
    Chardev *c = serve(x, "");

    close(ask(x, "ask"));
    assert_true(chardev_connected(c));
    pass_time(x, SECOND_NS);
    assert_false(chardev_connected(c));
}

static void a_client_that_waits_long_for_answers_is_replaced_by_the_next(void **state)
{
    ChardevFixture *x = *state;
    Chardev *c = serve(x, "");
    int first = ask(x, "ask"), second = make_client(x);

    pass_time(x, 4 * SECOND_NS);
    assert_string_equal(x->f->events->str, "O");
    pass_time(x, SECOND_NS);
    assert_string_equal(x->f->events->str, "OCO");
    assert_end_of_file(first);
    finish_answers(x, c);
    chardev_put_text(c, "for the second");
    assert_chardev_peer_gets(x, second, "for the second");
    close(first);
    close(second);
}

static void ports_of_a_mux_answer_too(void **state)
{
    ChardevFixture *x = *state;
    Chardev *c = serve(x, ",mux=on");
    int fd = ask(x, "ask");

    pass_time(x, SECOND_NS);
    assert_true(chardev_connected(c));
    finish_answers(x, c);
    assert_false(chardev_connected(c));
    assert_end_of_file(fd);
    close(fd);
}

static void a_port_gets_the_end_of_input_after_the_input(void **state)
{
    ChardevFixture *x = *state;
    Chardev *c = serve(x, ",mux=on");
    int fd = make_client(x);

    enter_main();
    x->f->room = 0;
    chardev_peer_says(fd, "first");
    STEP_UNTIL(x->ctx, chardev_connected(c));
    chardev_harness_settle(x->ctx);
    close(fd);
    STEP_UNTIL(x->ctx, !chardev_connected(c));
    fd = make_client(x);
    chardev_peer_says(fd, "second");
    chardev_harness_settle(x->ctx);
    assert_string_equal(x->f->events->str, "O");
    x->f->room = 5;
    chardev_accept_input(c);
    chardev_harness_settle(x->ctx);
    assert_string_equal(x->f->events->str, "OCO");
    assert_string_equal(x->f->received->str, "first");
    x->f->room = 100;
    chardev_accept_input(c);
    chardev_harness_settle(x->ctx);
    assert_string_equal(x->f->received->str, "firstsecond");
    close(fd);
}

static void input_written_to_a_pty_between_two_polls_arrives(void **state)
{
    ChardevFixture *x = *state;
    g_autofree char *link = chardev_fixture_path(x, "tty");
    char byte;
    int fd;

    aio_context_set_virtual_time(x->ctx, 1);
    chardev_fixture_add(x, "pty,id=a,path=%s", link);
    chardev_fixture_use(x, "a");
    fd = open(link, O_RDWR | O_NOCTTY);
    chardev_peer_says(fd, "quit\n");
    close(fd);
    aio_context_set_virtual_time(x->ctx, aio_now_ns(x->ctx) + SECOND_NS);
    STEP_UNTIL(x->ctx, x->f->events->len == 2);
    assert_string_equal(x->f->received->str, "quit\n");
    assert_string_equal(x->f->events->str, "OC");
    /* Output written without a peer does not reach the next one. */
    fd = open(link, O_RDWR | O_NOCTTY | O_NONBLOCK);
    assert_int_equal(read(fd, &byte, 1), -1);
    close(fd);
}

/* ---- no descriptor left ---- */

static void a_server_without_descriptors_takes_the_client_later(void **state)
{
    ChardevFixture *x = *state;
    Chardev *c = serve(x, "");
    int fd = make_client(x);
    struct rlimit limit, none;
    unsigned turns = 0;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = (struct rlimit){.rlim_cur = 0, .rlim_max = limit.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    while (turns < 100 && aio_context_step(x->ctx, false)) {
        turns++;
    }
    assert_true(turns < 100); /* the loop becomes idle */
    assert_false(chardev_connected(c));
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    pass_time(x, SECOND_NS);
    assert_true(chardev_connected(c));
    close(fd);
}

/* ---- removed while its log is being written ---- */

typedef struct HeldWrite {
    sem_t entered, end;
} HeldWrite;

/* The worker that writes the log stands here. */
static void hold_worker(void *opaque, const char *call)
{
    HeldWrite *held = opaque;

    if (thread_role() == THREAD_WORKER) {
        sem_post(&held->entered);
        sem_wait(&held->end);
    }
}

typedef struct Removal {
    Chardev *c;
    bool done;
} Removal;

static void remove_run(void *opaque)
{
    Removal *r = opaque;

    enter_main();
    enter_coroutine();
    chardev_release(r->c);
    assert_true(chardev_co_remove("a", NULL));
    r->done = true;
}

/* Removes @c, whose removal waits for its log, and has @come called meanwhile. The loop's end finds
 * what was left in it. */
static void remove_while_writing(ChardevFixture *x, Chardev *c, int (*come)(ChardevFixture *x))
{
    static const SysFault writes = {.calls = "write", .after = UINT_MAX};
    HeldWrite held;
    Removal removal = {.c = c};
    int fd;

    sem_init(&held.entered, 0, 0);
    sem_init(&held.end, 0, 0);
    sys_fault_set(&writes);
    sys_fault_hook(hold_worker, &held);
    chardev_put_text(c, "to the log");
    while (sem_trywait(&held.entered) != 0) {
        aio_context_step(x->ctx, false);
    }
    co_start(x->ctx, remove_run, &removal);
    chardev_harness_settle(x->ctx);
    assert_false(removal.done);
    fd = come(x);
    chardev_harness_settle(x->ctx);
    sys_fault_hook(NULL, NULL);
    sys_fault_set(NULL);
    sem_post(&held.end);
    STEP_UNTIL(x->ctx, removal.done);
    close(fd);
}

static void a_server_that_is_being_removed_takes_no_client(void **state)
{
    ChardevFixture *x = *state;
    g_autofree char *log = g_strdup_printf(",logfile=%s/log", x->dir);

    remove_while_writing(x, serve(x, log), make_client);
}

static int open_pty(ChardevFixture *x)
{
    g_autofree char *link = chardev_fixture_path(x, "tty");
    int fd = open(link, O_RDWR | O_NOCTTY);

    assert_true(fd >= 0);
    pass_time(x, SECOND_NS);
    return fd;
}

static void a_pty_that_is_being_removed_looks_for_nobody(void **state)
{
    ChardevFixture *x = *state;

    aio_context_set_virtual_time(x->ctx, 1);
    chardev_fixture_add(x, "pty,id=a,path=%s/tty,logfile=%s/log", x->dir, x->dir);
    remove_while_writing(x, chardev_fixture_use(x, "a"), open_pty);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CHARDEV_TEST(input_of_a_client_is_read_although_writing_to_it_fails),
        CHARDEV_TEST(a_client_whose_input_is_not_taken_is_replaced_by_the_next),
        CHARDEV_TEST(a_client_that_shut_down_sending_gets_the_answers),
        CHARDEV_TEST(a_long_answer_is_written_to_its_end),
        CHARDEV_TEST(a_client_without_pending_data_is_disconnected_at_once),
        CHARDEV_TEST(a_client_that_does_not_wait_for_its_answers_is_noticed),
        CHARDEV_TEST(a_client_that_waits_long_for_answers_is_replaced_by_the_next),
        CHARDEV_TEST(ports_of_a_mux_answer_too),
        CHARDEV_TEST(a_port_gets_the_end_of_input_after_the_input),
        CHARDEV_TEST(input_written_to_a_pty_between_two_polls_arrives),
        CHARDEV_TEST(a_server_without_descriptors_takes_the_client_later),
        CHARDEV_TEST(a_server_that_is_being_removed_takes_no_client),
        CHARDEV_TEST(a_pty_that_is_being_removed_looks_for_nobody),
    };

    alarm(120);
    return cmocka_run_group_tests_name("hw/chardev/leaving", tests, NULL, NULL);
}

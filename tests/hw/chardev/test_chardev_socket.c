/* SPDX-License-Identifier: Apache-2.0 */
/* Chardevs on sockets: servers, clients, and invalid options. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/support/chardev_fixture.h"

static int unix_client(const char *path)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    strncpy(un.sun_path, path, sizeof(un.sun_path) - 1);
    assert_int_equal(connect(fd, (struct sockaddr *)&un, sizeof(un)), 0);
    return fd;
}

static int unix_server(const char *path)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    strncpy(un.sun_path, path, sizeof(un.sun_path) - 1);
    assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
    assert_int_equal(listen(fd, 4), 0);
    return fd;
}

static void find_filename(const ChardevInfo *info, void *opaque)
{
    g_string_printf(opaque, "%s %s %d", info->id, info->filename, info->connected);
}

static void assert_info(const char *expected)
{
    g_autoptr(GString) found = g_string_new(NULL);

    enter_main();
    chardev_foreach(find_filename, found);
    assert_string_equal(found->str, expected);
}

static void a_server_serves_one_client_after_the_other(void **state)
{
    ChardevFixture *x = *state;
    g_autofree char *path = chardev_fixture_path(x, "sock");
    g_autofree char *away = g_strdup_printf("a disconnected:unix:%s,server=on 0", path);
    g_autofree char *here = g_strdup_printf("a unix:%s,server=on 1", path);
    int first, second;
    Chardev *c;

    chardev_fixture_add(x, "socket,id=a,path=%s,server=on,wait=off", path);
    c = chardev_fixture_use(x, "a");
    chardev_put_text(c, "lost\n");
    assert_info(away);
    first = unix_client(path);
    second = unix_client(path);
    STEP_UNTIL(x->ctx, chardev_connected(c));
    assert_string_equal(x->f->events->str, "O");
    assert_info(here);
    chardev_peer_says(second, "patience");
    chardev_peer_says(first, "in");
    STEP_UNTIL(x->ctx, x->f->received->len == 2);
    chardev_put_text(c, "out");
    assert_chardev_peer_gets(x, first, "out");
    chardev_harness_settle(x->ctx);
    assert_string_equal(x->f->received->str, "in");
    close(first);
    STEP_UNTIL(x->ctx, x->f->received->len == 10);
    assert_string_equal(x->f->events->str, "OCO");
    assert_string_equal(x->f->received->str, "inpatience");
    close(second);
    STEP_UNTIL(x->ctx, !chardev_connected(c));
    assert_info(away);
}

static void a_reader_that_vanishes_frees_the_ring(void **state)
{
    ChardevFixture *x = *state;
    g_autofree char *path = chardev_fixture_path(x, "sock"), *big = g_strnfill(1 << 20, '-');
    unsigned before;
    Chardev *c;
    int fd;

    chardev_fixture_add(x, "socket,id=a,path=%s,server=on,wait=off", path);
    c = chardev_fixture_use(x, "a");
    fd = unix_client(path);
    STEP_UNTIL(x->ctx, chardev_connected(c));
    while (chardev_put_text(c, big) > 0) {
        chardev_harness_settle(x->ctx);
    }
    before = x->f->writable;
    close(fd);
    STEP_UNTIL(x->ctx, !chardev_connected(c));
    assert_int_equal(x->f->writable, before + 1);
    assert_int_equal(chardev_put_text(c, "goes nowhere"), 12);
}

/* A server whose frontend has no room. */
static Chardev *serve_without_room(ChardevFixture *x, const char *path)
{
    x->f->room = 0;
    chardev_fixture_add(x, "socket,id=a,path=%s,server=on,wait=off", path);
    return chardev_fixture_use(x, "a");
}

static void a_client_that_leaves_is_noticed_without_reading(void **state)
{
    ChardevFixture *x = *state;
    g_autofree char *path = chardev_fixture_path(x, "sock");
    Chardev *c = serve_without_room(x, path);

    for (unsigned round = 0; round < 2; round++) { /* a client disconnects for the next one */
        int fd = unix_client(path);

        STEP_UNTIL(x->ctx, chardev_connected(c));
        close(fd);
        STEP_UNTIL(x->ctx, !chardev_connected(c));
    }
    assert_string_equal(x->f->events->str, "OCOC");
}

static void input_of_a_client_that_left_waits_for_the_frontend(void **state)
{
    ChardevFixture *x = *state;
    g_autofree char *path = chardev_fixture_path(x, "sock");
    Chardev *c = serve_without_room(x, path);
    int fd = unix_client(path);

    enter_main();
    chardev_peer_says(fd, "bye");
    close(fd);
    STEP_UNTIL(x->ctx, chardev_connected(c));
    chardev_harness_settle(x->ctx);
    assert_true(chardev_connected(c));
    x->f->room = 2;
    chardev_accept_input(c);
    STEP_UNTIL(x->ctx, x->f->received->len == 2);
    x->f->room = 1;
    chardev_accept_input(c);
    STEP_UNTIL(x->ctx, !chardev_connected(c)); /* no room again, and no input left */
    assert_string_equal(x->f->received->str, "bye");
}

static void a_waiting_server_opens_with_its_first_client(void **state)
{
    ChardevFixture *x = *state;
    g_autofree char *path = chardev_fixture_path(x, "sock");
    g_autofree char *options = g_strdup_printf("socket,id=a,path=%s,server=on", path);
    bool done = false;
    int fd;

    chardev_harness_add_begin(x->ctx, options, &done);
    STEP_UNTIL(x->ctx, access(path, F_OK) == 0);
    chardev_harness_settle(x->ctx);
    assert_false(done);
    fd = unix_client(path);
    STEP_UNTIL(x->ctx, done);
    assert_true(chardev_connected(chardev_fixture_claim("a")));
    close(fd);
}

static void a_dead_socket_is_replaced_and_a_live_one_is_not(void **state)
{
    ChardevFixture *x = *state;
    g_autofree char *path = chardev_fixture_path(x, "sock"),
                    *file = chardev_fixture_path(x, "file");
    int fd = unix_server(path);

    assert_chardev_add_fails(x, "Address already in use", "socket,id=a,path=%s,server=on,wait=off",
                             path);
    close(fd);
    chardev_fixture_add(x, "socket,id=a,path=%s,server=on,wait=off", path);
    assert_true(g_file_set_contents(file, "precious", -1, NULL));
    assert_chardev_add_fails(x, "Address already in use", "socket,id=b,path=%s,server=on,wait=off",
                             file);
    assert_int_equal(access(file, F_OK), 0);
}

static void a_server_removes_its_socket_at_the_end(void **state)
{
    ChardevFixture *x = *state;
    g_autofree char *path = chardev_fixture_path(x, "sock");

    chardev_fixture_add(x, "socket,id=a,path=%s,server=on,wait=off", path);
    assert_int_equal(access(path, F_OK), 0);
    chardev_harness_end(x->ctx);
    assert_int_equal(access(path, F_OK), -1);
    x->ctx = chardev_harness_begin();
    chardev_fixture_add(x, "socket,id=a,path=%s,server=on,wait=off", path);
    chardev_leave();
    assert_int_equal(access(path, F_OK), -1);
}

/* As -daemonize does after everything is open. */
static void a_relative_socket_is_removed_after_the_directory_has_changed(void **state)
{
    ChardevFixture *x = *state;
    g_autofree char *path = chardev_fixture_path(x, "sock");
    g_autofree char *before = g_get_current_dir();

    assert_int_equal(chdir(x->dir), 0);
    chardev_fixture_add(x, "socket,id=a,path=sock,server=on,wait=off");
    assert_int_equal(chdir(before), 0);
    chardev_harness_end(x->ctx);
    assert_int_equal(access(path, F_OK), -1);
    x->ctx = chardev_harness_begin();
}

static void a_socket_of_another_program_stays(void **state)
{
    ChardevFixture *x = *state;
    g_autofree char *path = chardev_fixture_path(x, "sock");
    g_autofree char *other = chardev_fixture_path(x, "other");
    int fd;

    chardev_fixture_add(x, "socket,id=a,path=%s,server=on,wait=off", path);
    fd = unix_server(other); /* next to the first, so it has another inode */
    assert_int_equal(rename(other, path), 0);
    chardev_leave();
    assert_int_equal(access(path, F_OK), 0);
    chardev_harness_end(x->ctx);
    assert_int_equal(access(path, F_OK), 0);
    x->ctx = chardev_harness_begin();
    close(fd);
}

static void a_client_finds_a_relative_socket_after_the_directory_has_changed(void **state)
{
    ChardevFixture *x = *state;
    g_autofree char *path = chardev_fixture_path(x, "sock");
    g_autofree char *before = g_get_current_dir();
    int listener;
    Chardev *c;

    assert_int_equal(chdir(x->dir), 0);
    chardev_fixture_add(x, "socket,id=a,path=sock,reconnect-ms=1");
    assert_int_equal(chdir(before), 0);
    c = chardev_fixture_use(x, "a");
    assert_false(chardev_connected(c));
    listener = unix_server(path);
    STEP_UNTIL(x->ctx, chardev_connected(c));
    close(listener);
}

/* The server may wait for its first client (wait=on): a connection would be taken for that
 * client. */
static void a_live_server_sees_no_connection_when_its_address_is_in_use(void **state)
{
    ChardevFixture *x = *state;
    g_autofree char *path = chardev_fixture_path(x, "sock");
    int fd = unix_server(path);

    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    assert_chardev_add_fails(x, "Address already in use", "socket,id=a,path=%s,server=on,wait=off",
                             path);
    assert_int_equal(accept(fd, NULL, NULL), -1);
    assert_int_equal(errno, EAGAIN);
    close(fd);
}

static void a_socket_that_does_not_listen_yet_is_not_replaced(void **state)
{
    ChardevFixture *x = *state;
    g_autofree char *path = chardev_fixture_path(x, "sock");
    struct sockaddr_un un = {.sun_family = AF_UNIX};

    for (int type = SOCK_STREAM; type <= SOCK_DGRAM; type++) {
        int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

        strncpy(un.sun_path, path, sizeof(un.sun_path) - 1);
        assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
        assert_chardev_add_fails(x, "Address already in use",
                                 "socket,id=a,path=%s,server=on,wait=off", path);
        close(fd);
        assert_int_equal(unlink(path), 0);
    }
}

static unsigned tcp_port(void)
{
    g_autoptr(GString) found = g_string_new(NULL);
    unsigned port = 0;

    enter_main();
    chardev_foreach(find_filename, found);
    assert_int_equal(sscanf(found->str, "a disconnected:tcp:127.0.0.1:%u,server=on", &port), 1);
    return port;
}

static void tcp_works_from_both_ends(void **state)
{
    ChardevFixture *x = *state;
    RecordingFrontend *g = recording_frontend_new(100);
    Chardev *a, *b;

    chardev_fixture_add(x, "socket,id=a,host=127.0.0.1,port=0,server=on,wait=off");
    a = chardev_fixture_use(x, "a");
    chardev_fixture_add(x, "socket,id=b,host=127.0.0.1,port=0x%x", tcp_port());
    b = chardev_fixture_claim("b");
    enter_main();
    chardev_attach(b, &recording_frontend_ops, g);
    chardev_put_text(b, "ping");
    STEP_UNTIL(x->ctx, x->f->received->len == 4);
    chardev_put_text(a, "pong");
    STEP_UNTIL(x->ctx, g->received->len == 4);
    assert_string_equal(x->f->received->str, "ping");
    assert_string_equal(g->received->str, "pong");
    chardev_harness_end(x->ctx);
    recording_frontend_free(g);
    x->ctx = chardev_harness_begin();
}

static void a_client_without_a_server_fails_or_tries_again(void **state)
{
    ChardevFixture *x = *state;
    g_autofree char *path = chardev_fixture_path(x, "sock");
    int listener, fd;
    Chardev *c;

    assert_chardev_add_fails(x, "can't connect to unix:", "socket,id=a,path=%s", path);
    chardev_fixture_add(x, "socket,id=a,path=%s,reconnect-ms=1", path);
    c = chardev_fixture_use(x, "a");
    assert_false(chardev_connected(c));
    listener = unix_server(path);
    STEP_UNTIL(x->ctx, chardev_connected(c));
    fd = accept(listener, NULL, NULL);
    close(fd);
    STEP_UNTIL(x->ctx, !strcmp(x->f->events->str, "OCO"));
    close(listener);
}

/* A frontend that makes all transfers itself. */
typedef struct Borrower {
    Chardev *chardev;
    unsigned opened, closed;
    int fd; /* as CHARDEV_OPENED found it */
} Borrower;

static void borrower_event(void *opaque, ChardevEvent event)
{
    Borrower *b = opaque;
    enter_main();
    b->opened += event == CHARDEV_OPENED;
    b->closed += event == CHARDEV_CLOSED;
    b->fd = chardev_socket_fd(b->chardev);
}

static void a_frontend_borrows_the_socket_of_each_connection(void **state)
{
    static const ChardevFrontendOps ops = {.event = borrower_event};
    ChardevFixture *x = *state;
    g_autofree char *path = chardev_fixture_path(x, "sock");
    int listener = unix_server(path);
    char byte = 0;
    enter_main();
    chardev_fixture_add(x, "socket,id=a,path=%s,reconnect-ms=1", path);
    chardev_fixture_add(x, "null,id=n");
    Borrower b = {.chardev = chardev_fixture_claim("a")};
    assert_true(chardev_is_socket(b.chardev));
    assert_false(chardev_is_socket(chardev_fixture_claim("n")));
    chardev_attach(b.chardev, &ops, &b);
    for (unsigned i = 0; i < 3; i++) {
        STEP_UNTIL(x->ctx, b.opened == i + 1);
        int fd = accept(listener, NULL, NULL);
        assert_true(b.fd >= 0);
        assert_int_equal(send(fd, "x", 1, 0), 1);
        chardev_harness_settle(x->ctx);
        assert_int_equal(recv(b.fd, &byte, 1, MSG_DONTWAIT), 1); /* the chardev has not read it */
        if (i == 1) { /* the peer leaves; the chardev may notice it first */
            close(fd);
            STEP_UNTIL(x->ctx, b.closed == i + 1);
        } else {
            chardev_disconnect(b.chardev);
            assert_int_equal(b.closed, i + 1);
            assert_int_equal(recv(fd, &byte, 1, 0), 0);
            close(fd);
        }
        assert_int_equal(b.fd, -1);
    }
    chardev_attach(b.chardev, NULL, NULL);
    close(listener);
}

static void contradictory_socket_options_are_refused(void **state)
{
    ChardevFixture *x = *state;
    g_autofree char *longer = g_strnfill(200, 'x');

    assert_chardev_add_fails(x, "expects one of path=", "socket,id=a");
    assert_chardev_add_fails(x, "expects one of path=", "socket,id=a,path=x,host=y,port=1");
    assert_chardev_add_fails(x, "port=: is missing", "socket,id=a,host=y");
    assert_chardev_add_fails(x, "port=65536: expects a number", "socket,id=a,host=y,port=65536");
    assert_chardev_add_fails(x, "port=http: expects a number", "socket,id=a,host=y,port=http");
    assert_chardev_add_fails(x, "port=0: expects a number", "socket,id=a,host=127.0.0.1,port=0");
    assert_chardev_add_fails(x, "has 1 to 107 bytes", "socket,id=a,path=%s", longer);
    assert_chardev_add_fails(x, "has 1 to 107 bytes", "socket,id=a,path=");
    assert_chardev_add_fails(x, "wait is for server=on", "socket,id=a,path=x,wait=off");
    assert_chardev_add_fails(x, "wait=maybe: expects on or off",
                             "socket,id=a,path=x,server=on,wait=maybe");
    assert_chardev_add_fails(x, "reconnect is for clients",
                             "socket,id=a,path=x,server=on,reconnect=1");
    assert_chardev_add_fails(x, "skiff has no telnet=on", "socket,id=a,path=x,telnet=on");
    assert_chardev_add_fails(x, "skiff has no tls-creds", "socket,id=a,path=x,tls-creds=t");
    assert_chardev_add_fails(x, "fd=1: expects a number", "socket,id=a,fd=1");
    assert_chardev_add_fails(x, "is not a connected socket", "socket,id=a,fd=999");
    assert_chardev_add_fails(x, "is not a listening socket", "socket,id=a,server=on,fd=%d",
                             x->pair[0]);
}

static void an_inherited_descriptor_stays_blocking(void **state)
{
    ChardevFixture *x = *state;

    chardev_fixture_add(x, "socket,id=a,fd=%d", x->pair[0]);
    chardev_fixture_use(x, "a");
    chardev_harness_settle(x->ctx);
    assert_int_equal(fcntl(x->pair[0], F_GETFL) & O_NONBLOCK, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CHARDEV_TEST(a_server_serves_one_client_after_the_other),
        CHARDEV_TEST(a_reader_that_vanishes_frees_the_ring),
        CHARDEV_TEST(a_client_that_leaves_is_noticed_without_reading),
        CHARDEV_TEST(input_of_a_client_that_left_waits_for_the_frontend),
        CHARDEV_TEST(a_waiting_server_opens_with_its_first_client),
        CHARDEV_TEST(a_dead_socket_is_replaced_and_a_live_one_is_not),
        CHARDEV_TEST(a_server_removes_its_socket_at_the_end),
        CHARDEV_TEST(a_relative_socket_is_removed_after_the_directory_has_changed),
        CHARDEV_TEST(a_socket_of_another_program_stays),
        CHARDEV_TEST(a_client_finds_a_relative_socket_after_the_directory_has_changed),
        CHARDEV_TEST(a_live_server_sees_no_connection_when_its_address_is_in_use),
        CHARDEV_TEST(a_socket_that_does_not_listen_yet_is_not_replaced),
        CHARDEV_TEST(tcp_works_from_both_ends),
        CHARDEV_TEST(a_frontend_borrows_the_socket_of_each_connection),
        CHARDEV_TEST(a_client_without_a_server_fails_or_tries_again),
        CHARDEV_TEST(contradictory_socket_options_are_refused),
        CHARDEV_TEST(an_inherited_descriptor_stays_blocking),
    };

    alarm(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

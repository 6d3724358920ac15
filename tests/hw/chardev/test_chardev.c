/* SPDX-License-Identifier: Apache-2.0 */
/* Chardevs on files and pseudo-terminals, their input and their users. Other tests: the ring
 * (test_chardev_ring), sockets (test_chardev_socket), sharing (test_chardev_mux), standard input
 * and output (test_terminal). */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/support/chardev_fixture.h"

/* ---- files ---- */

static void a_file_gets_the_output(void **state)
{
    ChardevFixture *x = *state;
    g_autofree char *path = chardev_fixture_path(x, "out");
    Chardev *c;

    assert_true(g_file_set_contents(path, "before", -1, NULL));
    chardev_fixture_add(x, "file,id=a,path=%s", path);
    c = chardev_fixture_claim("a");
    assert_true(chardev_connected(c));
    assert_int_equal(chardev_put_text(c, "hello\n"), 6);
    aio_context_step(x->ctx, false);
    assert_int_equal(chardev_put_text(c, "world\n"), 6);
    assert_chardev_file_has(x, "out", "hello\nworld\n");
    assert_int_equal(chardev_put_text(c, "again\n"), 6);
    chardev_harness_settle(x->ctx);
    assert_chardev_file_has(x, "out", "hello\nworld\nagain\n");
}

static void append_keeps_the_file(void **state)
{
    ChardevFixture *x = *state;
    g_autofree char *path = chardev_fixture_path(x, "out");

    assert_true(g_file_set_contents(path, "before\n", -1, NULL));
    chardev_fixture_add(x, "file,id=a,path=%s,append=on", path);
    chardev_put_text(chardev_fixture_claim("a"), "after\n");
    assert_chardev_file_has(x, "out", "before\nafter\n");
}

static void an_error_names_the_file_that_cannot_be_opened(void **state)
{
    ChardevFixture *x = *state;
    g_autofree char *fifo = chardev_fixture_path(x, "fifo");

    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_chardev_add_fails(x, "can't open '/nonexistent/x': No such file",
                             "file,id=a,path=/nonexistent/x");
    assert_chardev_add_fails(x, "a FIFO without a reader", "file,id=a,path=%s", fifo);
    assert_chardev_add_fails(x, "a FIFO without a reader", "null,id=a,logfile=%s", fifo);
    /* As /dev/stdout if it is a socket. */
    assert_chardev_add_fails(x, "a socket is not opened by its path",
                             "file,id=a,path=/proc/self/fd/%d", x->pair[0]);
    assert_chardev_add_fails(x, "a socket is not opened by its path",
                             "null,id=a,logfile=/proc/self/fd/%d", x->pair[0]);
    assert_chardev_add_fails(x, "can't open log '/nonexistent/x'",
                             "null,id=a,logfile=/nonexistent/x");
    assert_chardev_add_fails(x, "logappend needs logfile", "null,id=a,logappend=on");
    assert_chardev_add_fails(x, "option 'path' is missing", "file,id=a");
    assert_chardev_add_fails(x, "skiff has no chardev 'vc'; nearest is pty", "vc,id=a");
    assert_chardev_add_fails(x, "id= is missing", "null");
    assert_chardev_add_fails(x, "the backend is missing", "id=x");
    assert_chardev_add_fails(x, "no option 'pth'; did you mean 'path'?", "file,id=a,pth=x");
    assert_chardev_add_fails(x, "no option 'path'", "null,id=a,path=x");
}

static void the_log_file_gets_it_too_connected_or_not(void **state)
{
    ChardevFixture *x = *state;
    g_autofree char *path = chardev_fixture_path(x, "log"), *sock = chardev_fixture_path(x, "sock");
    Chardev *c;

    assert_true(g_file_set_contents(path, "old\n", -1, NULL));
    chardev_fixture_add(x, "socket,id=a,path=%s,server=on,wait=off,logfile=%s,logappend=on", sock,
                        path);
    c = chardev_fixture_claim("a");
    assert_false(chardev_connected(c));
    chardev_put_text(c, "nobody listens\n");
    assert_chardev_file_has(x, "log", "old\nnobody listens\n");
}

static void lines_begin_with_the_time_since_start(void **state)
{
    ChardevFixture *x = *state;
    g_autofree char *path = chardev_fixture_path(x, "out");
    Chardev *c;

    aio_context_set_virtual_time(x->ctx, 5000000000);
    chardev_fixture_add(x, "file,id=a,path=%s,timestamps=on", path);
    c = chardev_fixture_claim("a");
    chardev_put_text(c, "one\ntw");
    aio_context_set_virtual_time(x->ctx, 5000000000 + 3723004000000);
    assert_int_equal(chardev_put_text(c, "o\nthree\n"), 8);
    assert_chardev_file_has(x, "out",
                            "[00:00:00.000] one\n[00:00:00.000] two\n[01:02:03.004] three\n");
}

static void a_full_disk_loses_bytes_not_the_guest(void **state)
{
    ChardevFixture *x = *state;
    g_autofree char *text = g_strnfill(30000, 'x');
    Chardev *c;

    chardev_fixture_add(x, "file,id=a,path=/dev/full");
    c = chardev_fixture_use(x, "a");
    for (int i = 0; i < 5; i++) {
        STEP_UNTIL(x->ctx, chardev_put_text(c, text) == 30000);
    }
    enter_main();
    assert_true(chardev_flush_all_blocking(10000));
}

static void null_takes_everything(void **state)
{
    ChardevFixture *x = *state;
    g_autofree char *big = g_strnfill(40000, '-');
    Chardev *c;

    chardev_fixture_add(x, "null,id=a");
    c = chardev_fixture_use(x, "a");
    for (int i = 0; i < 10; i++) {
        assert_int_equal(chardev_put_text(c, big), 40000);
    }
    assert_int_equal(chardev_put_text(NULL, "nowhere"), 7);
    chardev_harness_settle(x->ctx);
    assert_string_equal(x->f->events->str, "O");
}

/* ---- input ---- */

static void input_comes_as_the_frontend_has_room(void **state)
{
    ChardevFixture *x = *state;
    Chardev *c;

    x->f->room = 3;
    chardev_fixture_add(x, "socket,id=a,fd=%d", x->pair[0]);
    chardev_peer_says(x->pair[1], "0123456789");
    c = chardev_fixture_use(x, "a");
    STEP_UNTIL(x->ctx, x->f->received->len == 3);
    chardev_harness_settle(x->ctx);
    assert_string_equal(x->f->received->str, "012");
    x->f->room = 5;
    chardev_accept_input(c);
    STEP_UNTIL(x->ctx, x->f->received->len == 8);
    chardev_harness_settle(x->ctx);
    assert_string_equal(x->f->received->str, "01234567");
}

static void a_detached_frontend_gets_nothing(void **state)
{
    ChardevFixture *x = *state;
    Chardev *c;

    chardev_fixture_add(x, "socket,id=a,fd=%d", x->pair[0]);
    c = chardev_fixture_use(x, "a");
    chardev_harness_settle(x->ctx);
    enter_main();
    chardev_attach(c, NULL, NULL);
    chardev_peer_says(x->pair[1], "x");
    chardev_harness_settle(x->ctx);
    assert_int_equal(x->f->received->len, 0);
    chardev_attach(c, &recording_frontend_ops, x->f);
    STEP_UNTIL(x->ctx, x->f->received->len == 1);
}

/* ---- pseudo-terminals ---- */

static void pass_time(ChardevFixture *x)
{
    aio_context_set_virtual_time(x->ctx, aio_now_ns(x->ctx) + 1000000000);
    chardev_harness_settle(x->ctx);
}

static void a_pty_is_connected_while_it_is_open(void **state)
{
    ChardevFixture *x = *state;
    g_autofree char *link = chardev_fixture_path(x, "tty");
    struct termios settings;
    char buf[16];
    Chardev *c;
    int fd;

    aio_context_set_virtual_time(x->ctx, 1);
    chardev_fixture_add(x, "pty,id=a,path=%s", link);
    c = chardev_fixture_use(x, "a");
    chardev_put_text(c, "nobody sees this");
    pass_time(x);
    assert_false(chardev_connected(c));
    for (int round = 0; round < 2; round++) {
        fd = open(link, O_RDWR | O_NOCTTY);
        assert_true(fd >= 0);
        assert_int_equal(tcgetattr(fd, &settings), 0);
        assert_int_equal(settings.c_lflag & (ICANON | ECHO), 0);
        pass_time(x);
        assert_true(chardev_connected(c));
        chardev_put_text(c, "login: ");
        chardev_harness_settle(x->ctx);
        assert_int_equal(read(fd, buf, sizeof(buf)), 7);
        chardev_peer_says(fd, "root\n");
        STEP_UNTIL(x->ctx, x->f->received->len == 5);
        assert_string_equal(x->f->received->str, "root\n");
        g_string_truncate(x->f->received, 0);
        close(fd);
        STEP_UNTIL(x->ctx, !chardev_connected(c));
    }
    assert_string_equal(x->f->events->str, "OCOC");
    assert_chardev_add_fails(x, "can't make the link", "pty,id=b,path=%s", link);
}

static void the_link_to_a_pty_is_removed_after_the_directory_has_changed(void **state)
{
    ChardevFixture *x = *state;
    g_autofree char *link = chardev_fixture_path(x, "tty"), *before = g_get_current_dir();

    assert_int_equal(chdir(x->dir), 0);
    chardev_fixture_add(x, "pty,id=a,path=tty");
    assert_int_equal(chdir(before), 0);
    chardev_harness_end(x->ctx);
    assert_false(g_file_test(link, G_FILE_TEST_IS_SYMLINK));
    x->ctx = chardev_harness_begin();
}

/* ---- users ---- */

static void a_chardev_has_one_user(void **state)
{
    ChardevFixture *x = *state;
    g_autoptr(GError) error = NULL;
    Chardev *c;

    enter_main();
    chardev_fixture_add(x, "null,id=a");
    chardev_fixture_add(x, "null,id=m,mux=on");
    assert_chardev_add_fails(x, "there is a chardev 'a' already", "null,id=a");
    assert_null(chardev_claim("b", "serial1", &error));
    assert_string_equal(error->message, "there is no chardev 'b'");
    g_clear_error(&error);
    c = chardev_fixture_claim("a");
    assert_null(chardev_claim("a", "serial1", &error));
    assert_non_null(strstr(error->message, "chardev 'a' is in use by test"));
    g_clear_error(&error);
    chardev_release(c);
    assert_ptr_equal(chardev_fixture_claim("a"), c);
    c = chardev_fixture_claim("m");
    for (int i = 1; i < 4; i++) {
        assert_ptr_not_equal(chardev_fixture_claim("m"), c);
    }
    assert_null(chardev_claim("m", "serial1", &error));
    assert_non_null(strstr(error->message, "shared by 4 already"));
    chardev_release(c);
    assert_ptr_equal(chardev_fixture_claim("m"), c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CHARDEV_TEST(a_file_gets_the_output),
        CHARDEV_TEST(append_keeps_the_file),
        CHARDEV_TEST(an_error_names_the_file_that_cannot_be_opened),
        CHARDEV_TEST(the_log_file_gets_it_too_connected_or_not),
        CHARDEV_TEST(lines_begin_with_the_time_since_start),
        CHARDEV_TEST(a_full_disk_loses_bytes_not_the_guest),
        CHARDEV_TEST(null_takes_everything),
        CHARDEV_TEST(input_comes_as_the_frontend_has_room),
        CHARDEV_TEST(a_detached_frontend_gets_nothing),
        CHARDEV_TEST(a_pty_is_connected_while_it_is_open),
        CHARDEV_TEST(the_link_to_a_pty_is_removed_after_the_directory_has_changed),
        CHARDEV_TEST(a_chardev_has_one_user),
    };

    alarm(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

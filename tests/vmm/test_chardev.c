/* SPDX-License-Identifier: Apache-2.0 */
/* Chardevs on real files, sockets and pseudo-terminals. Standard input and output: test_terminal.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/support/chardev_harness.h"

typedef struct Fixture {
    AioContext *ctx;
    char *dir;
    int pair[2]; /* [0] is given to a chardev, [1] is the peer's */
    RecordingFrontend *f;
} Fixture;

static int set_up(void **state)
{
    Fixture *x = g_new0(Fixture, 1);

    x->ctx = chardev_harness_begin();
    x->dir = g_dir_make_tmp("skiff-chardev-XXXXXX", NULL);
    x->f = recording_frontend_new(1 << 20);
    *state = x;
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, x->pair);
}

static int tear_down(void **state)
{
    Fixture *x = *state;
    g_autofree char *remove = g_strdup_printf("rm -rf '%s'", x->dir);

    chardev_harness_end(x->ctx);
    close(x->pair[0]);
    if (x->pair[1] >= 0) {
        close(x->pair[1]);
    }
    recording_frontend_free(x->f);
    if (system(remove) != 0) {
        return -1;
    }
    g_free(x->dir);
    g_free(x);
    return 0;
}

static void add(Fixture *x, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void add(Fixture *x, const char *format, ...)
{
    g_autofree char *options = NULL, *message = NULL;
    va_list ap;

    va_start(ap, format);
    options = g_strdup_vprintf(format, ap);
    va_end(ap);
    message = chardev_harness_add(x->ctx, options);
    if (message) {
        fail_msg("%s: %s", options, message);
    }
}

static void assert_add_fails(Fixture *x, const char *part, const char *format, ...)
    G_GNUC_PRINTF(3, 4);
static void assert_add_fails(Fixture *x, const char *part, const char *format, ...)
{
    g_autofree char *options = NULL, *message = NULL;
    va_list ap;

    va_start(ap, format);
    options = g_strdup_vprintf(format, ap);
    va_end(ap);
    message = chardev_harness_add(x->ctx, options);
    if (!message) {
        fail_msg("accepted: %s", options);
    }
    if (!strstr(message, part)) {
        fail_msg("'%s' is not in: %s", part, message);
    }
}

static Chardev *claim(const char *id)
{
    g_autoptr(GError) error = NULL;
    Chardev *c;

    enter_main();
    c = chardev_claim(id, "test", &error);
    if (!c) {
        fail_msg("%s", error->message);
    }
    return c;
}

/* Claims and attaches the fixture's frontend. */
static Chardev *use(Fixture *x, const char *id)
{
    Chardev *c = claim(id);

    enter_main();
    chardev_attach(c, &recording_frontend_ops, x->f);
    return c;
}

static size_t put(Chardev *c, const char *text)
{
    return chardev_write(c, (const uint8_t *)text, strlen(text));
}

static char *file_in(Fixture *x, const char *name)
{
    return g_build_filename(x->dir, name, NULL);
}

static void assert_file_has(Fixture *x, const char *name, const char *expected)
{
    g_autofree char *path = file_in(x, name);
    g_autofree char *text = NULL;

    enter_main();
    assert_true(chardev_flush_all_blocking(10000));
    assert_true(g_file_get_contents(path, &text, NULL, NULL));
    assert_string_equal(text, expected);
}

/* Reads until the peer has @expected. */
static void assert_peer_gets(Fixture *x, int fd, const char *expected)
{
    size_t length = strlen(expected), have = 0;
    g_autofree char *got = g_malloc0(length + 1);

    while (have < length) {
        ssize_t n = recv(fd, got + have, length - have, MSG_DONTWAIT);

        if (n < 0) {
            assert_int_equal(errno, EAGAIN);
            aio_context_step(x->ctx, true);
        } else {
            assert_true(n > 0);
            have += (size_t)n;
        }
    }
    assert_string_equal(got, expected);
}

static void peer_says(int fd, const char *text)
{
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

/* ---- files ---- */

static void a_file_gets_the_output(void **state)
{
    Fixture *x = *state;
    g_autofree char *path = file_in(x, "out");
    Chardev *c;

    assert_true(g_file_set_contents(path, "before", -1, NULL));
    add(x, "file,id=a,path=%s", path);
    c = claim("a");
    assert_true(chardev_connected(c));
    assert_int_equal(put(c, "hello\n"), 6);
    aio_context_step(x->ctx, false);
    assert_int_equal(put(c, "world\n"), 6);
    assert_file_has(x, "out", "hello\nworld\n");
    assert_int_equal(put(c, "again\n"), 6);
    chardev_harness_settle(x->ctx);
    assert_file_has(x, "out", "hello\nworld\nagain\n");
}

static void append_keeps_what_is_there(void **state)
{
    Fixture *x = *state;
    g_autofree char *path = file_in(x, "out");

    assert_true(g_file_set_contents(path, "before\n", -1, NULL));
    add(x, "file,id=a,path=%s,append=on", path);
    put(claim("a"), "after\n");
    assert_file_has(x, "out", "before\nafter\n");
}

static void what_can_not_be_opened_is_named(void **state)
{
    Fixture *x = *state;
    g_autofree char *fifo = file_in(x, "fifo");

    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_add_fails(x, "can't open '/nonexistent/x': No such file",
                     "file,id=a,path=/nonexistent/x");
    assert_add_fails(x, "a FIFO nobody reads", "file,id=a,path=%s", fifo);
    assert_add_fails(x, "can't open log '/nonexistent/x'", "null,id=a,logfile=/nonexistent/x");
    assert_add_fails(x, "logappend wants logfile", "null,id=a,logappend=on");
    assert_add_fails(x, "option 'path' is missing", "file,id=a");
    assert_add_fails(x, "skiff has no chardev 'vc'; nearest is pty", "vc,id=a");
    assert_add_fails(x, "id= is missing", "null");
    assert_add_fails(x, "the backend is missing", "id=x");
    assert_add_fails(x, "no option 'pth'; did you mean 'path'?", "file,id=a,pth=x");
    assert_add_fails(x, "no option 'path'", "null,id=a,path=x");
}

static void the_log_file_gets_it_too_connected_or_not(void **state)
{
    Fixture *x = *state;
    g_autofree char *path = file_in(x, "log"), *sock = file_in(x, "sock");
    Chardev *c;

    assert_true(g_file_set_contents(path, "old\n", -1, NULL));
    add(x, "socket,id=a,path=%s,server=on,wait=off,logfile=%s,logappend=on", sock, path);
    c = claim("a");
    assert_false(chardev_connected(c));
    put(c, "nobody listens\n");
    assert_file_has(x, "log", "old\nnobody listens\n");
}

static void lines_begin_with_the_time_since_start(void **state)
{
    Fixture *x = *state;
    g_autofree char *path = file_in(x, "out");
    Chardev *c;

    aio_context_set_virtual_time(x->ctx, 5000000000);
    add(x, "file,id=a,path=%s,timestamps=on", path);
    c = claim("a");
    put(c, "one\ntw");
    aio_context_set_virtual_time(x->ctx, 5000000000 + 3723004000000);
    assert_int_equal(put(c, "o\nthree\n"), 8);
    assert_file_has(x, "out", "[00:00:00.000] one\n[00:00:00.000] two\n[01:02:03.004] three\n");
}

static void a_full_disk_loses_bytes_not_the_guest(void **state)
{
    Fixture *x = *state;
    g_autofree char *text = g_strnfill(30000, 'x');
    Chardev *c;

    add(x, "file,id=a,path=/dev/full");
    c = use(x, "a");
    for (int i = 0; i < 5; i++) {
        STEP_UNTIL(x->ctx, put(c, text) == 30000);
    }
    enter_main();
    assert_true(chardev_flush_all_blocking(10000));
}

/* ---- the ring ---- */

static void a_full_ring_takes_less_and_tells_when_there_is_room(void **state)
{
    Fixture *x = *state;
    g_autoptr(GString) sent = g_string_new(NULL);
    g_autoptr(GString) got = g_string_new(NULL);
    Chardev *c;
    size_t n;

    add(x, "socket,id=a,fd=%d", x->pair[0]);
    c = use(x, "a");
    for (unsigned i = 0;; i++) {
        g_autofree char *line = g_strdup_printf("line %u\n", i);

        n = put(c, line);
        g_string_append_len(sent, line, (gssize)n);
        if (n < strlen(line)) {
            break;
        }
        if (i % 100 == 0) {
            chardev_harness_settle(x->ctx); /* fills the socket first */
        }
    }
    chardev_harness_settle(x->ctx);
    assert_int_equal(put(c, ""), 0);
    while (got->len < sent->len) {
        char buf[4096];
        ssize_t r = recv(x->pair[1], buf, sizeof(buf), MSG_DONTWAIT);

        if (r > 0) {
            g_string_append_len(got, buf, r);
        } else {
            aio_context_step(x->ctx, true);
        }
    }
    assert_string_equal(got->str, sent->str);
    STEP_UNTIL(x->ctx, x->f->writable == 1);
    assert_int_equal(put(c, "more"), 4);
    assert_peer_gets(x, x->pair[1], "more");
}

static void output_without_a_reader_is_dropped_but_shown_as_tail(void **state)
{
    Fixture *x = *state;
    g_autofree char *path = file_in(x, "sock"), *big = g_strnfill(50000, '-');
    uint8_t tail[16];
    Chardev *c;

    add(x, "socket,id=a,path=%s,server=on,wait=off", path);
    c = claim("a");
    assert_int_equal(chardev_tail(c, tail, sizeof(tail)), 0);
    put(c, "abc");
    assert_int_equal(chardev_tail(c, tail, sizeof(tail)), 3);
    assert_memory_equal(tail, "abc", 3);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(put(c, big), 50000);
    }
    put(c, "the last line\n");
    assert_int_equal(chardev_tail(c, tail, sizeof(tail)), 16);
    assert_memory_equal(tail, "--the last line\n", 16);
}

static void the_tail_survives_a_full_ring(void **state)
{
    Fixture *x = *state;
    g_autofree uint8_t *tail = g_malloc(100000);
    g_autofree char *big = g_strnfill(1 << 20, '-');
    size_t taken, size;
    Chardev *c;

    add(x, "socket,id=a,fd=%d", x->pair[0]);
    c = claim("a");
    put(c, "first");
    taken = put(c, big); /* before the loop could write anything */
    assert_true(taken > 40000 && taken < 100000);
    size = chardev_tail(c, tail, 100000);
    assert_true(size >= 4096 && size < 100000);
    for (size_t i = 0; i < size; i++) {
        assert_int_equal(tail[i], '-');
    }
}

static void flushing_is_bounded_when_nobody_reads(void **state)
{
    Fixture *x = *state;
    g_autofree char *big = g_strnfill(1 << 20, '-');
    Chardev *c;

    enter_main();
    add(x, "socket,id=a,fd=%d", x->pair[0]);
    c = claim("a");
    do {
        put(c, big);
    } while (chardev_flush_all_blocking(1)); /* until the socket is full */
    assert_false(chardev_flush_all_blocking(20));
}

static void flushing_writes_what_the_loop_has_not(void **state)
{
    Fixture *x = *state;
    char buf[64];

    enter_main();
    add(x, "socket,id=a,fd=%d", x->pair[0]);
    put(claim("a"), "last words");
    assert_true(chardev_flush_all_blocking(10000));
    assert_int_equal(recv(x->pair[1], buf, sizeof(buf), MSG_DONTWAIT), 10);
}

#define WRITER_BYTES 300000

typedef struct Writer {
    Chardev *c;
    uint8_t base; /* writes base, base + 1, ... base + 127, base, ... */
    pthread_t thread;
} Writer;

static void *write_cycle(void *opaque)
{
    Writer *w = opaque;
    uint8_t chunk[97];

    for (size_t done = 0; done < WRITER_BYTES;) {
        size_t n, size = MIN(sizeof(chunk), WRITER_BYTES - done);

        for (size_t i = 0; i < size; i++) {
            chunk[i] = (uint8_t)(w->base + (done + i) % 128);
        }
        n = chardev_write(w->c, chunk, size);
        done += n;
        if (n == 0) {
            sched_yield();
        }
    }
    return NULL;
}

/* Bytes of two writers mix; each one's come whole and in order, to the reader and to the log. */
static void writers_in_several_threads_lose_nothing(void **state)
{
    Fixture *x = *state;
    g_autofree char *path = file_in(x, "log"), *log = NULL;
    g_autoptr(GByteArray) all = g_byte_array_new();
    Writer w[2] = {{.base = 0}, {.base = 128}};
    size_t count[2] = {0}, log_size;

    add(x, "socket,id=a,fd=%d,logfile=%s", x->pair[0], path);
    w[0].c = w[1].c = claim("a");
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&w[i].thread, NULL, write_cycle, &w[i]), 0);
    }
    while (all->len < 2 * WRITER_BYTES) {
        uint8_t buf[4096];
        ssize_t n = recv(x->pair[1], buf, sizeof(buf), MSG_DONTWAIT);

        if (n > 0) {
            g_byte_array_append(all, buf, (guint)n);
        } else {
            aio_context_step(x->ctx, true);
        }
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(w[i].thread, NULL);
    }
    for (size_t i = 0; i < all->len; i++) {
        unsigned who = all->data[i] / 128;

        assert_int_equal(all->data[i] % 128, count[who]++ % 128);
    }
    enter_main();
    assert_true(chardev_flush_all_blocking(10000));
    assert_true(g_file_get_contents(path, &log, &log_size, NULL));
    assert_int_equal(log_size, all->len);
    assert_memory_equal(log, all->data, log_size);
}

static void null_takes_everything(void **state)
{
    Fixture *x = *state;
    g_autofree char *big = g_strnfill(40000, '-');
    Chardev *c;

    add(x, "null,id=a");
    c = use(x, "a");
    for (int i = 0; i < 10; i++) {
        assert_int_equal(put(c, big), 40000);
    }
    assert_int_equal(put(NULL, "nowhere"), 7);
    chardev_harness_settle(x->ctx);
    assert_string_equal(x->f->events->str, "O");
}

/* ---- input ---- */

static void input_comes_as_the_frontend_has_room(void **state)
{
    Fixture *x = *state;
    Chardev *c;

    x->f->room = 3;
    add(x, "socket,id=a,fd=%d", x->pair[0]);
    peer_says(x->pair[1], "0123456789");
    c = use(x, "a");
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
    Fixture *x = *state;
    Chardev *c;

    add(x, "socket,id=a,fd=%d", x->pair[0]);
    c = use(x, "a");
    chardev_harness_settle(x->ctx);
    enter_main();
    chardev_attach(c, NULL, NULL);
    peer_says(x->pair[1], "x");
    chardev_harness_settle(x->ctx);
    assert_int_equal(x->f->received->len, 0);
    chardev_attach(c, &recording_frontend_ops, x->f);
    STEP_UNTIL(x->ctx, x->f->received->len == 1);
}

/* ---- sockets ---- */

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
    Fixture *x = *state;
    g_autofree char *path = file_in(x, "sock");
    g_autofree char *away = g_strdup_printf("a disconnected:unix:%s,server=on 0", path);
    g_autofree char *here = g_strdup_printf("a unix:%s,server=on 1", path);
    int first, second;
    Chardev *c;

    add(x, "socket,id=a,path=%s,server=on,wait=off", path);
    c = use(x, "a");
    put(c, "lost\n");
    assert_info(away);
    first = unix_client(path);
    second = unix_client(path);
    STEP_UNTIL(x->ctx, chardev_connected(c));
    assert_string_equal(x->f->events->str, "O");
    assert_info(here);
    peer_says(second, "patience");
    peer_says(first, "in");
    STEP_UNTIL(x->ctx, x->f->received->len == 2);
    put(c, "out");
    assert_peer_gets(x, first, "out");
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
    Fixture *x = *state;
    g_autofree char *path = file_in(x, "sock"), *big = g_strnfill(1 << 20, '-');
    unsigned before;
    Chardev *c;
    int fd;

    add(x, "socket,id=a,path=%s,server=on,wait=off", path);
    c = use(x, "a");
    fd = unix_client(path);
    STEP_UNTIL(x->ctx, chardev_connected(c));
    while (put(c, big) > 0) {
        chardev_harness_settle(x->ctx);
    }
    before = x->f->writable;
    close(fd);
    STEP_UNTIL(x->ctx, !chardev_connected(c));
    assert_int_equal(x->f->writable, before + 1);
    assert_int_equal(put(c, "goes nowhere"), 12);
}

static void a_waiting_server_opens_with_its_first_client(void **state)
{
    Fixture *x = *state;
    g_autofree char *path = file_in(x, "sock");
    g_autofree char *options = g_strdup_printf("socket,id=a,path=%s,server=on", path);
    bool done = false;
    int fd;

    chardev_harness_add_begin(x->ctx, options, &done);
    STEP_UNTIL(x->ctx, access(path, F_OK) == 0);
    chardev_harness_settle(x->ctx);
    assert_false(done);
    fd = unix_client(path);
    STEP_UNTIL(x->ctx, done);
    assert_true(chardev_connected(claim("a")));
    close(fd);
}

static void a_dead_socket_is_replaced_and_a_live_one_is_not(void **state)
{
    Fixture *x = *state;
    g_autofree char *path = file_in(x, "sock"), *file = file_in(x, "file");
    int fd = unix_server(path);

    assert_add_fails(x, "Address already in use", "socket,id=a,path=%s,server=on,wait=off", path);
    close(fd);
    add(x, "socket,id=a,path=%s,server=on,wait=off", path);
    assert_true(g_file_set_contents(file, "precious", -1, NULL));
    assert_add_fails(x, "Address already in use", "socket,id=b,path=%s,server=on,wait=off", file);
    assert_int_equal(access(file, F_OK), 0);
}

static void a_server_removes_its_socket_at_the_end(void **state)
{
    Fixture *x = *state;
    g_autofree char *path = file_in(x, "sock");

    add(x, "socket,id=a,path=%s,server=on,wait=off", path);
    assert_int_equal(access(path, F_OK), 0);
    chardev_harness_end(x->ctx);
    assert_int_equal(access(path, F_OK), -1);
    x->ctx = chardev_harness_begin();
    add(x, "socket,id=a,path=%s,server=on,wait=off", path);
    chardev_leave();
    assert_int_equal(access(path, F_OK), -1);
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
    Fixture *x = *state;
    RecordingFrontend *g = recording_frontend_new(100);
    Chardev *a, *b;

    add(x, "socket,id=a,host=127.0.0.1,port=0,server=on,wait=off");
    a = use(x, "a");
    add(x, "socket,id=b,host=127.0.0.1,port=%u", tcp_port());
    b = claim("b");
    enter_main();
    chardev_attach(b, &recording_frontend_ops, g);
    put(b, "ping");
    STEP_UNTIL(x->ctx, x->f->received->len == 4);
    put(a, "pong");
    STEP_UNTIL(x->ctx, g->received->len == 4);
    assert_string_equal(x->f->received->str, "ping");
    assert_string_equal(g->received->str, "pong");
    chardev_harness_end(x->ctx);
    recording_frontend_free(g);
    x->ctx = chardev_harness_begin();
}

static void a_client_without_a_server_fails_or_tries_again(void **state)
{
    Fixture *x = *state;
    g_autofree char *path = file_in(x, "sock");
    int listener, fd;
    Chardev *c;

    assert_add_fails(x, "can't connect to unix:", "socket,id=a,path=%s", path);
    add(x, "socket,id=a,path=%s,reconnect-ms=1", path);
    c = use(x, "a");
    assert_false(chardev_connected(c));
    listener = unix_server(path);
    STEP_UNTIL(x->ctx, chardev_connected(c));
    fd = accept(listener, NULL, NULL);
    close(fd);
    STEP_UNTIL(x->ctx, !strcmp(x->f->events->str, "OCO"));
    close(listener);
}

static void socket_options_that_contradict_are_refused(void **state)
{
    Fixture *x = *state;
    g_autofree char *longer = g_strnfill(200, 'x');

    assert_add_fails(x, "wants one of path=", "socket,id=a");
    assert_add_fails(x, "wants one of path=", "socket,id=a,path=x,host=y,port=1");
    assert_add_fails(x, "port=: is missing", "socket,id=a,host=y");
    assert_add_fails(x, "port=65536: wants a number", "socket,id=a,host=y,port=65536");
    assert_add_fails(x, "port=http: wants a number", "socket,id=a,host=y,port=http");
    assert_add_fails(x, "port=0: wants a number", "socket,id=a,host=127.0.0.1,port=0");
    assert_add_fails(x, "has 1 to 107 bytes", "socket,id=a,path=%s", longer);
    assert_add_fails(x, "has 1 to 107 bytes", "socket,id=a,path=");
    assert_add_fails(x, "wait is for server=on", "socket,id=a,path=x,wait=off");
    assert_add_fails(x, "wait=maybe: wants on or off", "socket,id=a,path=x,server=on,wait=maybe");
    assert_add_fails(x, "reconnect is for clients", "socket,id=a,path=x,server=on,reconnect=1");
    assert_add_fails(x, "skiff has no telnet=on", "socket,id=a,path=x,telnet=on");
    assert_add_fails(x, "skiff has no tls-creds", "socket,id=a,path=x,tls-creds=t");
    assert_add_fails(x, "fd=1: wants a number", "socket,id=a,fd=1");
    assert_add_fails(x, "is not a connected socket", "socket,id=a,fd=999");
    assert_add_fails(x, "is not a listening socket", "socket,id=a,server=on,fd=%d", x->pair[0]);
}

static void an_inherited_descriptor_stays_blocking(void **state)
{
    Fixture *x = *state;

    add(x, "socket,id=a,fd=%d", x->pair[0]);
    use(x, "a");
    chardev_harness_settle(x->ctx);
    assert_int_equal(fcntl(x->pair[0], F_GETFL) & O_NONBLOCK, 0);
}

/* ---- pseudo-terminals ---- */

static void pass_time(Fixture *x)
{
    aio_context_set_virtual_time(x->ctx, aio_now_ns(x->ctx) + 1000000000);
    chardev_harness_settle(x->ctx);
}

static void a_pty_knows_when_somebody_is_there(void **state)
{
    Fixture *x = *state;
    g_autofree char *link = file_in(x, "tty");
    struct termios settings;
    char buf[16];
    Chardev *c;
    int fd;

    aio_context_set_virtual_time(x->ctx, 1);
    add(x, "pty,id=a,path=%s", link);
    c = use(x, "a");
    put(c, "nobody sees this");
    pass_time(x);
    assert_false(chardev_connected(c));
    for (int round = 0; round < 2; round++) {
        fd = open(link, O_RDWR | O_NOCTTY);
        assert_true(fd >= 0);
        assert_int_equal(tcgetattr(fd, &settings), 0);
        assert_int_equal(settings.c_lflag & (ICANON | ECHO), 0);
        pass_time(x);
        assert_true(chardev_connected(c));
        put(c, "login: ");
        chardev_harness_settle(x->ctx);
        assert_int_equal(read(fd, buf, sizeof(buf)), 7);
        peer_says(fd, "root\n");
        STEP_UNTIL(x->ctx, x->f->received->len == 5);
        assert_string_equal(x->f->received->str, "root\n");
        g_string_truncate(x->f->received, 0);
        close(fd);
        STEP_UNTIL(x->ctx, !chardev_connected(c));
    }
    assert_string_equal(x->f->events->str, "OCOC");
    assert_add_fails(x, "can't make the link", "pty,id=b,path=%s", link);
}

/* ---- mux ---- */

static void the_escape_switches_ports_and_sends_breaks(void **state)
{
    Fixture *x = *state;
    RecordingFrontend *g = recording_frontend_new(100);
    Chardev *serial, *monitor;

    add(x, "socket,id=a,fd=%d,mux=on", x->pair[0]);
    serial = use(x, "a");
    monitor = claim("a");
    enter_main();
    chardev_attach(monitor, &recording_frontend_ops, g);
    chardev_harness_settle(x->ctx);
    assert_string_equal(x->f->events->str, "O");
    assert_string_equal(g->events->str, "O");

    peer_says(x->pair[1], "ab\001bc\001");
    STEP_UNTIL(x->ctx, x->f->received->len == 3);
    peer_says(x->pair[1], "cquit\n\001\001\001cd");
    STEP_UNTIL(x->ctx, x->f->received->len == 4);
    assert_string_equal(x->f->received->str, "abcd");
    assert_string_equal(x->f->events->str, "OBUF");
    assert_string_equal(g->received->str, "quit\n\001");
    assert_string_equal(g->events->str, "OFU");
    put(monitor, "(skiff) ");
    put(serial, "boot");
    assert_peer_gets(x, x->pair[1], "(skiff) boot");
    chardev_harness_end(x->ctx);
    recording_frontend_free(g);
    x->ctx = chardev_harness_begin();
}

static void what_was_typed_ahead_finds_all_ports_in_place(void **state)
{
    Fixture *x = *state;
    RecordingFrontend *g = recording_frontend_new(100);

    enter_main();
    chardev_hold_input(true);
    peer_says(x->pair[1], "\001cquit\n");
    add(x, "socket,id=a,fd=%d,mux=on", x->pair[0]);
    use(x, "a");
    chardev_harness_settle(x->ctx);
    chardev_attach(claim("a"), &recording_frontend_ops, g);
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
    Fixture *x = *state;
    int terminated = 0;
    Chardev *c;

    enter_main();
    aio_context_set_virtual_time(x->ctx, 7);
    chardev_set_terminate_handler(count_call, &terminated);
    add(x, "socket,id=a,fd=%d,mux=on", x->pair[0]);
    c = use(x, "a");
    peer_says(x->pair[1], "\001t");
    chardev_harness_settle(x->ctx);
    put(c, "a\n");
    assert_peer_gets(x, x->pair[1], "[00:00:00.000] a\n");
    peer_says(x->pair[1], "\001t\001h");
    assert_peer_gets(x, x->pair[1], "\r\nC-a h    print this help\r\nC-a x    exit skiff\r\n");
    peer_says(x->pair[1], "\001zx\001x");
    STEP_UNTIL(x->ctx, terminated == 1);
    assert_string_equal(x->f->received->str, "x");
}

static void the_escape_can_be_another_byte(void **state)
{
    Fixture *x = *state;
    int terminated = 0;

    enter_main();
    chardev_set_terminate_handler(count_call, &terminated);
    chardev_set_escape(0x14);
    add(x, "socket,id=a,fd=%d,mux=on", x->pair[0]);
    use(x, "a");
    peer_says(x->pair[1], "\001x\024x");
    STEP_UNTIL(x->ctx, terminated == 1);
    assert_string_equal(x->f->received->str, "\001x");
}

static void a_port_that_takes_nothing_holds_the_input_back(void **state)
{
    Fixture *x = *state;
    g_autofree char *much = g_strnfill(20000, 'm');
    Chardev *c;

    x->f->room = 10;
    add(x, "socket,id=a,fd=%d,mux=on", x->pair[0]);
    c = use(x, "a");
    peer_says(x->pair[1], much);
    chardev_harness_settle(x->ctx);
    assert_int_equal(x->f->received->len, 10);
    x->f->room = 1 << 20;
    chardev_accept_input(c);
    STEP_UNTIL(x->ctx, x->f->received->len == 20000);
    assert_string_equal(x->f->received->str, much);
}

static void users_are_told_apart(void **state)
{
    Fixture *x = *state;
    g_autoptr(GError) error = NULL;
    Chardev *c;

    enter_main();
    add(x, "null,id=a");
    add(x, "null,id=m,mux=on");
    assert_add_fails(x, "there is a chardev 'a' already", "null,id=a");
    assert_null(chardev_claim("b", "serial1", &error));
    assert_string_equal(error->message, "there is no chardev 'b'");
    g_clear_error(&error);
    c = claim("a");
    assert_null(chardev_claim("a", "serial1", &error));
    assert_non_null(strstr(error->message, "chardev 'a' is in use by test"));
    g_clear_error(&error);
    chardev_release(c);
    assert_ptr_equal(claim("a"), c);
    c = claim("m");
    for (int i = 1; i < 4; i++) {
        assert_ptr_not_equal(claim("m"), c);
    }
    assert_null(chardev_claim("m", "serial1", &error));
    assert_non_null(strstr(error->message, "shared by 4 already"));
    chardev_release(c);
    assert_ptr_equal(claim("m"), c);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_file_gets_the_output),
        TEST(append_keeps_what_is_there),
        TEST(what_can_not_be_opened_is_named),
        TEST(the_log_file_gets_it_too_connected_or_not),
        TEST(lines_begin_with_the_time_since_start),
        TEST(a_full_disk_loses_bytes_not_the_guest),
        TEST(a_full_ring_takes_less_and_tells_when_there_is_room),
        TEST(output_without_a_reader_is_dropped_but_shown_as_tail),
        TEST(the_tail_survives_a_full_ring),
        TEST(flushing_is_bounded_when_nobody_reads),
        TEST(flushing_writes_what_the_loop_has_not),
        TEST(writers_in_several_threads_lose_nothing),
        TEST(null_takes_everything),
        TEST(input_comes_as_the_frontend_has_room),
        TEST(a_detached_frontend_gets_nothing),
        TEST(a_server_serves_one_client_after_the_other),
        TEST(a_reader_that_vanishes_frees_the_ring),
        TEST(a_waiting_server_opens_with_its_first_client),
        TEST(a_dead_socket_is_replaced_and_a_live_one_is_not),
        TEST(a_server_removes_its_socket_at_the_end),
        TEST(tcp_works_from_both_ends),
        TEST(a_client_without_a_server_fails_or_tries_again),
        TEST(socket_options_that_contradict_are_refused),
        TEST(an_inherited_descriptor_stays_blocking),
        TEST(a_pty_knows_when_somebody_is_there),
        TEST(the_escape_switches_ports_and_sends_breaks),
        TEST(what_was_typed_ahead_finds_all_ports_in_place),
        TEST(the_escape_ends_helps_and_stamps),
        TEST(the_escape_can_be_another_byte),
        TEST(a_port_that_takes_nothing_holds_the_input_back),
        TEST(users_are_told_apart),
    };

    alarm(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

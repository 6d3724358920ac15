/* SPDX-License-Identifier: Apache-2.0 */
/* The server of fake_nbd_conn.h, and the client in the test. */
#ifndef SKIFF_TESTS_BLOCK_NBD_FAKE_NBD_H
#define SKIFF_TESTS_BLOCK_NBD_FAKE_NBD_H

#include "tests/block/nbd/fake_nbd_conn.h"

/* ---- the server ---- */

static const AioHandlerOps fake_conn_ops = {.readable = fake_conn_ready,
                                            .writable = fake_conn_ready};

static void fake_accept(void *opaque)
{
    FakeNbd *f = opaque;
    enter_main();
    int fd = accept4(f->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        return;
    }
    FakeConn *c = g_new0(FakeConn, 1);
    assert_true(f->accepted < FAKE_CONNS);
    *c = (FakeConn){.fake = f, .index = f->accepted++, .fd = fd};
    c->limited = c->index >= f->limit_from && c->index < f->limit_to;
    c->handler = aio_handler_add(test_main, fd, &fake_conn_ops, c);
    aio_handler_watch(c->handler, false, false);
    f->conns[c->index] = c;
    f->open++;
    co_start(test_main, fake_conn_run, c);
}

static const AioHandlerOps fake_accept_ops = {.readable = fake_accept};

static inline void fake_listen(FakeNbd *f)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    unlink(f->path);
    strcpy(un.sun_path, f->path);
    f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(f->listener, (struct sockaddr *)&un, sizeof(un)), 0);
    assert_int_equal(listen(f->listener, 16), 0);
    f->accepter = aio_handler_add(test_main, f->listener, &fake_accept_ops, f);
}

/* A server of @size bytes of pseudo-random content. */
static inline void fake_start(FakeNbd *f, uint64_t size, uint16_t flags)
{
    static unsigned serial;
    *f = (FakeNbd){.size = size, .flags = flags, .cut_sent = -1, .cut_received = -1};
    f->data = g_malloc(size);
    test_fill(f->data, size, 1);
    co_queue_init(&f->held);
    snprintf(f->path, sizeof(f->path), "/tmp/skiff-nbd-%d-%u", (int)getpid(), serial++);
    fake_listen(f);
}

/* All commands that wait get their replies. */
static inline RUNS_IN_MAIN void fake_release(FakeNbd *f)
{
    f->hold = false;
    co_queue_wake_all(&f->held);
}

/* Hangs up. */
static inline RUNS_IN_MAIN void fake_end_conn(FakeConn *c)
{
    c->ended = true;
    shutdown(c->fd, SHUT_RDWR);
    co_queue_wake_all(&c->fake->held);
    fake_conn_ready(c);
}

/* Hangs up all connections, and accepts no more until fake_listen(). */
static inline coroutine_fn RUNS_IN_MAIN void fake_down(FakeNbd *f)
{
    if (f->accepter != NULL) {
        aio_handler_remove(f->accepter);
        close(f->listener);
        unlink(f->path);
        f->accepter = NULL;
    }
    for (unsigned i = 0; i < FAKE_CONNS; i++) {
        if (f->conns[i] != NULL) {
            fake_end_conn(f->conns[i]);
        }
    }
    while (f->open > 0) {
        co_yield_turn();
    }
}

static inline coroutine_fn RUNS_IN_MAIN void fake_stop(FakeNbd *f)
{
    fake_down(f);
    g_free(f->data);
}

static inline char *fake_options(const FakeNbd *f, const char *more)
{
    return g_strdup_printf("nbd,server.type=unix,server.path=%s%s%s", f->path,
                           more[0] != '\0' ? "," : "", more);
}

static inline coroutine_fn RUNS_IN_MAIN BlockBackend *fake_blk(const FakeNbd *f, const char *more)
{
    g_autofree char *text = fake_options(f, more);
    return test_blk("disk", text, true);
}

static inline coroutine_fn RUNS_IN_MAIN void fake_open_fails(const FakeNbd *f, const char *more,
                                                             const char *says)
{
    g_autofree char *text = fake_options(f, more);
    test_open_fails(text, says);
}

/* Sets the time of main and of the home. It never goes back. */
static inline void fake_set_home_time(void *opaque)
{
    const int64_t *now_ns = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    aio_context_set_virtual_time(test_home, *now_ns);
}

static int64_t fake_now_ns;

static inline coroutine_fn RUNS_IN_MAIN void fake_pass_time(int64_t seconds)
{
    fake_now_ns += seconds * 1000000000;
    test_in_home(fake_set_home_time, &fake_now_ns);
    aio_context_set_virtual_time(test_main, fake_now_ns);
    co_yield_turn();
    co_yield_turn();
    test_settle();
}

/* Runs main's loop until the condition holds. */
#define TEST_UNTIL(condition)                                                                      \
    do {                                                                                           \
        while (!(condition)) {                                                                     \
            co_yield_turn();                                                                       \
        }                                                                                          \
    } while (0)

#endif

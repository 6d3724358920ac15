/* SPDX-License-Identifier: Apache-2.0 */
/* Output of a chardev: its ring, its tail, its flush, and several writers. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>
#include "hw/chardev/chardev_int.h"
#include "tests/support/chardev_fixture.h"

static void a_full_ring_takes_less_and_tells_when_there_is_room(void **state)
{
    ChardevFixture *x = *state;
    g_autoptr(GString) sent = g_string_new(NULL);
    g_autoptr(GString) got = g_string_new(NULL);
    Chardev *c;
    size_t n;

    chardev_fixture_add(x, "socket,id=a,fd=%d", x->pair[0]);
    c = chardev_fixture_use(x, "a");
    for (unsigned i = 0;; i++) {
        g_autofree char *line = g_strdup_printf("line %u\n", i);

        n = chardev_put_text(c, line);
        g_string_append_len(sent, line, (gssize)n);
        if (n < strlen(line)) {
            break;
        }
        if (i % 100 == 0) {
            chardev_harness_settle(x->ctx); /* fills the socket first */
        }
    }
    chardev_harness_settle(x->ctx);
    assert_int_equal(chardev_put_text(c, ""), 0);
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
    assert_int_equal(chardev_put_text(c, "more"), 4);
    assert_chardev_peer_gets(x, x->pair[1], "more");
}

static void a_full_ring_has_a_reserve(void **state)
{
    ChardevFixture *x = *state;
    g_autofree char *bytes = g_strnfill(STREAM_RING_BYTES, 'x');
    size_t sent = 0, got = 0, n;

    chardev_fixture_add(x, "socket,id=a,fd=%d", x->pair[0]);
    Chardev *c = chardev_fixture_use(x, "a");
    do {
        n = chardev_write(c, (const uint8_t *)bytes, STREAM_RING_BYTES);
        sent += n;
        chardev_harness_settle(x->ctx); /* fills the socket first */
    } while (n > 0);
    unsigned before = x->f->writable;
    n = chardev_write_reserved(c, (const uint8_t *)bytes, STREAM_RING_BYTES);
    assert_int_equal(n, STREAM_RESERVE_BYTES);
    assert_int_equal(chardev_write_reserved(c, (const uint8_t *)bytes, 1), 0);
    sent += n;
    while (got < sent) {
        char buf[4096];
        ssize_t r = recv(x->pair[1], buf, sizeof(buf), MSG_DONTWAIT);

        if (r > 0) {
            got += (size_t)r;
        } else {
            aio_context_step(x->ctx, true);
        }
    }
    STEP_UNTIL(x->ctx, x->f->writable > before);
    assert_int_equal(chardev_put_text(c, "more"), 4);
    assert_chardev_peer_gets(x, x->pair[1], "more");
}

static void output_without_a_reader_is_dropped_but_shown_as_tail(void **state)
{
    ChardevFixture *x = *state;
    g_autofree char *path = chardev_fixture_path(x, "sock"), *big = g_strnfill(50000, '-');
    uint8_t tail[16];
    Chardev *c;

    chardev_fixture_add(x, "socket,id=a,path=%s,server=on,wait=off", path);
    c = chardev_fixture_claim("a");
    assert_int_equal(chardev_tail(c, tail, sizeof(tail)), 0);
    chardev_put_text(c, "abc");
    assert_int_equal(chardev_tail(c, tail, sizeof(tail)), 3);
    assert_memory_equal(tail, "abc", 3);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(chardev_put_text(c, big), 50000);
    }
    chardev_put_text(c, "the last line\n");
    assert_int_equal(chardev_tail(c, tail, sizeof(tail)), 16);
    assert_memory_equal(tail, "--the last line\n", 16);
}

static void the_tail_survives_a_full_ring(void **state)
{
    ChardevFixture *x = *state;
    g_autofree uint8_t *tail = g_malloc(100000);
    g_autofree char *big = g_strnfill(1 << 20, '-');
    size_t taken, size;
    Chardev *c;

    chardev_fixture_add(x, "socket,id=a,fd=%d", x->pair[0]);
    c = chardev_fixture_claim("a");
    chardev_put_text(c, "first");
    taken = chardev_put_text(c, big); /* before the loop could write anything */
    assert_true(taken > 40000 && taken < 100000);
    size = chardev_tail(c, tail, 100000);
    assert_true(size >= 4096 && size < 100000);
    for (size_t i = 0; i < size; i++) {
        assert_int_equal(tail[i], '-');
    }
}

static void flushing_is_bounded_without_a_reader(void **state)
{
    ChardevFixture *x = *state;
    g_autofree char *big = g_strnfill(1 << 20, '-');
    Chardev *c;

    enter_main();
    chardev_fixture_add(x, "socket,id=a,fd=%d", x->pair[0]);
    c = chardev_fixture_claim("a");
    do {
        chardev_put_text(c, big);
    } while (chardev_flush_all_blocking(1)); /* until the socket is full */
    assert_false(chardev_flush_all_blocking(20));
}

static void flushing_writes_the_rest_of_the_ring(void **state)
{
    ChardevFixture *x = *state;
    char buf[64];

    enter_main();
    chardev_fixture_add(x, "socket,id=a,fd=%d", x->pair[0]);
    chardev_put_text(chardev_fixture_claim("a"), "last words");
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

/* Bytes of two writers mix; the bytes of each arrive completely and in order, at the reader and in
 * the log. */
static void writers_in_several_threads_lose_nothing(void **state)
{
    ChardevFixture *x = *state;
    g_autofree char *path = chardev_fixture_path(x, "log"), *log = NULL;
    g_autoptr(GByteArray) all = g_byte_array_new();
    Writer w[2] = {{.base = 0}, {.base = 128}};
    size_t count[2] = {0}, log_size;

    chardev_fixture_add(x, "socket,id=a,fd=%d,logfile=%s", x->pair[0], path);
    w[0].c = w[1].c = chardev_fixture_claim("a");
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        CHARDEV_TEST(a_full_ring_takes_less_and_tells_when_there_is_room),
        CHARDEV_TEST(a_full_ring_has_a_reserve),
        CHARDEV_TEST(output_without_a_reader_is_dropped_but_shown_as_tail),
        CHARDEV_TEST(the_tail_survives_a_full_ring),
        CHARDEV_TEST(flushing_is_bounded_without_a_reader),
        CHARDEV_TEST(flushing_writes_the_rest_of_the_ring),
        CHARDEV_TEST(writers_in_several_threads_lose_nothing),
    };

    alarm(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The queue of frames between two loops: order, bounds, two threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <glib.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include "hw/net/net_ring.h"

#define SIZE 4096u

static bool put(NetRing *r, uint8_t byte, uint32_t bytes)
{
    uint8_t data[SIZE];
    struct iovec iov[2] = {{data, 1}, {data + 1, sizeof(data) - 1}};
    memset(data, byte, sizeof(data));
    return net_ring_put(r, iov, 2, 0, bytes);
}

static void take(NetRing *r, uint8_t byte, uint32_t bytes)
{
    uint32_t got;
    const uint8_t *frame = net_ring_peek(r, &got);
    assert_non_null(frame);
    assert_int_equal(got, bytes);
    for (uint32_t i = 0; i < bytes; i++) {
        assert_int_equal(frame[i], byte);
    }
    net_ring_pop(r);
}

static void frames_come_out_in_order(void **state)
{
    NetRing r;
    uint32_t bytes;
    net_ring_init(&r, SIZE);
    assert_null(net_ring_peek(&r, &bytes));
    for (unsigned i = 0; i < 1000; i++) { /* around the buffer many times */
        assert_true(put(&r, (uint8_t)i, 14 + i % 900));
        assert_true(put(&r, (uint8_t)(i + 1), 1));
        take(&r, (uint8_t)i, 14 + i % 900);
        take(&r, (uint8_t)(i + 1), 1);
        assert_null(net_ring_peek(&r, &bytes));
        assert_int_equal(net_ring_used(&r), 0);
    }
    net_ring_clear(&r);
}

static void a_full_ring_takes_nothing_until_there_is_room(void **state)
{
    NetRing r;
    net_ring_init(&r, SIZE);
    for (unsigned i = 0; i < 4; i++) {
        assert_true(put(&r, (uint8_t)i, 1020));
    }
    assert_int_equal(net_ring_used(&r), SIZE);
    assert_false(put(&r, 9, 1));
    take(&r, 0, 1020);
    assert_false(put(&r, 9, 1021));
    assert_true(put(&r, 9, 1020));
    net_ring_clear(&r);
}

static void a_frame_that_does_not_fit_before_the_end_starts_at_the_beginning(void **state)
{
    NetRing r;
    net_ring_init(&r, SIZE);
    assert_true(put(&r, 1, 1500));
    assert_true(put(&r, 2, 1500));
    assert_false(put(&r, 3, 1500)); /* the gap counts */
    take(&r, 1, 1500);
    assert_true(put(&r, 3, 1400));
    take(&r, 2, 1500);
    take(&r, 3, 1400);
    net_ring_clear(&r);
}

#define ROUNDS 5000u

static void *putter(void *opaque)
{
    for (uint32_t i = 0; i < ROUNDS;) {
        uint32_t data[64];
        struct iovec iov = {data, sizeof(data)};
        uint32_t bytes = 4 + (i * 7) % 200;
        data[0] = i;
        memset(data + 1, (int)i, sizeof(data) - 4);
        if (net_ring_put(opaque, &iov, 1, 0, bytes)) {
            i++;
        } else {
            sched_yield();
        }
    }
    return NULL;
}

static void two_threads_pass_frames(void **state)
{
    NetRing r;
    pthread_t thread;
    net_ring_init(&r, SIZE);
    pthread_create(&thread, NULL, putter, &r);
    for (uint32_t i = 0; i < ROUNDS;) {
        uint32_t bytes, number;
        const uint8_t *frame = net_ring_peek(&r, &bytes);
        if (frame == NULL) {
            sched_yield();
            continue;
        }
        memcpy(&number, frame, sizeof(number));
        assert_int_equal(number, i);
        assert_int_equal(bytes, 4 + (i * 7) % 200);
        assert_true(bytes == 4 || frame[bytes - 1] == (uint8_t)i);
        net_ring_pop(&r);
        i++;
    }
    pthread_join(thread, NULL);
    assert_int_equal(net_ring_used(&r), 0);
    net_ring_clear(&r);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_come_out_in_order),
        cmocka_unit_test(a_full_ring_takes_nothing_until_there_is_room),
        cmocka_unit_test(a_frame_that_does_not_fit_before_the_end_starts_at_the_beginning),
        cmocka_unit_test(two_threads_pass_frames),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The event loop: bottom halves, descriptors, timers, polling. Its rules: test_loop_rules. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "util/loop/aio.h"
#include "util/loop/iothread.h"
#include "util/loop/sched_point.h"
#include "util/sys/sys_fault.h"

static int loop_setup(void **state)
{
    *state = aio_context_new("test", NULL);
    return *state == NULL;
}

static int loop_teardown(void **state)
{
    aio_context_free(*state);
    return 0;
}

static void count_call(void *opaque)
{
    (*(int *)opaque)++;
}

typedef struct Log {
    AioContext *ctx;
    AioBh bh, other;
    char text[64];
    unsigned count;
} Log;

static void log_a(void *opaque)
{
    Log *log = opaque;
    log->text[log->count++] = 'a';
}

static void log_b_again(void *opaque)
{
    Log *log = opaque;
    log->text[log->count++] = 'b';
    if (log->count < 4) {
        aio_bh_schedule(&log->bh);
    }
}

static void bottom_halves_run_in_order_once_per_scheduling(void **state)
{
    Log log = {.ctx = *state};
    AioBh a;
    aio_bh_init(&a, log.ctx, log_a, &log);
    aio_bh_init(&log.bh, log.ctx, log_b_again, &log);
    aio_bh_schedule(&a);
    aio_bh_schedule(&a);
    aio_bh_schedule(&log.bh);
    assert_true(aio_context_step(log.ctx, false));
    assert_string_equal(log.text, "ab");
    assert_true(aio_context_step(log.ctx, false));
    assert_string_equal(log.text, "abb"); /* rescheduled in its own run: next turn */
    while (aio_context_step(log.ctx, false)) {
    }
    assert_string_equal(log.text, "abbb");
}

static void a_cancelled_bottom_half_does_not_run(void **state)
{
    Log log = {.ctx = *state};
    AioBh first, second, third;
    aio_bh_init(&first, log.ctx, log_a, &log);
    aio_bh_init(&second, log.ctx, log_a, &log);
    aio_bh_init(&third, log.ctx, log_a, &log);
    aio_bh_schedule(&first);
    aio_bh_schedule(&second);
    aio_bh_schedule(&third);
    aio_bh_cancel(&third);
    aio_bh_cancel(&first);
    aio_bh_cancel(&first);
    aio_bh_schedule(&first);
    aio_context_step(log.ctx, false);
    assert_int_equal(log.count, 2);
    aio_bh_cancel(&first);
    assert_false(aio_context_step(log.ctx, false));
}

static void post_self(void *opaque)
{
    Log *log = opaque;
    log->count++;
    if (log->text[0] != 'r') {
        aio_post(log->ctx, post_self, log);
    }
}

static void readable_once(void *opaque)
{
    Log *log = opaque;
    log->text[0] = 'r';
}

static void work_that_posts_itself_starves_no_descriptor(void **state)
{
    Log log = {.ctx = *state};
    int fd = eventfd(1, EFD_CLOEXEC);
    static const AioHandlerOps ops = {.readable = readable_once};
    AioHandler *h = aio_handler_add(log.ctx, fd, &ops, &log);
    aio_post(log.ctx, post_self, &log);
    aio_context_step(log.ctx, true);
    assert_int_equal(log.text[0], 'r');
    assert_int_equal(log.count, 1);
    aio_context_step(log.ctx, false);
    assert_int_equal(log.count, 2);
    aio_handler_remove(h);
    close(fd);
}

static void a_turn_runs_a_bounded_number_of_bottom_halves(void **state)
{
    int calls = 0;
    for (unsigned i = 0; i < 2 * AIO_TURN_BUDGET + 1; i++) {
        aio_post(*state, count_call, &calls);
    }
    aio_context_step(*state, false);
    assert_int_equal(calls, AIO_TURN_BUDGET);
    aio_context_step(*state, true);
    aio_context_step(*state, true);
    assert_int_equal(calls, 2 * AIO_TURN_BUDGET + 1);
}

static void *schedule_bh(void *bh)
{
    aio_bh_schedule(bh);
    return NULL;
}

static void *release_marked(void *opaque)
{
    sched_point_release("aio.bh.marked");
    return NULL;
}

static void a_bottom_half_may_be_cancelled_while_another_thread_schedules_it(void **state)
{
    int calls = 0;
    AioBh bh;
    aio_bh_init(&bh, *state, count_call, &calls);
    sched_point_hold("aio.bh.marked");
    pthread_t scheduler, releaser;
    thread_start(&scheduler, THREAD_VCPU, "vcpu/0", schedule_bh, &bh);
    sched_point_await("aio.bh.marked");
    thread_start(&releaser, THREAD_WORKER, "worker/0", release_marked, NULL);
    aio_bh_cancel(&bh); /* marked, not yet pushed */
    pthread_join(scheduler, NULL);
    pthread_join(releaser, NULL);
    aio_context_step(*state, false);
    assert_int_equal(calls, 0);
    sched_point_reset();
    aio_bh_schedule(&bh);
    aio_context_step(*state, false);
    assert_int_equal(calls, 1);
}

typedef struct Remover {
    AioHandler *self, *other;
    int calls;
} Remover;

static void remove_both(void *opaque)
{
    Remover *r = opaque;
    r->calls++;
    aio_handler_remove(r->self);
    aio_handler_remove(r->other);
}

static void handlers_may_be_removed_while_events_are_dispatched(void **state)
{
    int fd1 = eventfd(1, EFD_CLOEXEC), fd2 = eventfd(1, EFD_CLOEXEC);
    Remover a = {0}, b = {0};
    static const AioHandlerOps ops = {.readable = remove_both};
    a.self = b.other = aio_handler_add(*state, fd1, &ops, &a);
    b.self = a.other = aio_handler_add(*state, fd2, &ops, &b);
    aio_context_step(*state, true);
    assert_int_equal(a.calls + b.calls, 1);
    assert_false(aio_context_step(*state, false));
    close(fd1);
    close(fd2);
}

static void a_regular_file_that_is_not_watched_lets_the_loop_sleep(void **state)
{
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    int calls = 0, timer_calls = 0;
    static const AioHandlerOps ops = {.readable = count_call};
    AioTimer timer;
    AioHandler *h = aio_handler_add(*state, fd, &ops, &calls);
    aio_handler_watch(h, false, false);
    aio_timer_init(&timer, *state, count_call, &timer_calls);
    aio_timer_arm(&timer, aio_now_ns(*state) + 100000000);
    aio_context_step(*state, true); /* sleeps until the timer is due */
    aio_context_step(*state, false);
    assert_int_equal(timer_calls, 1);
    assert_int_equal(calls, 0);
    aio_handler_remove(h);
    close(fd);
}

static void a_regular_file_is_always_ready(void **state)
{
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    int calls = 0;
    static const AioHandlerOps ops = {.readable = count_call};
    AioHandler *h = aio_handler_add(*state, fd, &ops, &calls);
    assert_true(aio_context_step(*state, true));
    assert_int_equal(calls, 1);
    aio_handler_watch(h, false, false);
    assert_false(aio_context_step(*state, false));
    assert_int_equal(calls, 1);
    aio_handler_remove(h);
    close(fd);
}

static void timers_fire_in_order_of_their_deadlines_in_virtual_time(void **state)
{
    AioContext *ctx = *state;
    aio_context_set_virtual_time(ctx, 1000);
    AioTimer timers[20];
    int fired[20] = {0};
    for (int i = 0; i < 20; i++) {
        aio_timer_init(&timers[i], ctx, count_call, &fired[i]);
        aio_timer_arm(&timers[i], 1000 + (i * 7 % 20) * 10 + 10);
    }
    aio_timer_disarm(&timers[3]);
    aio_timer_arm(&timers[4], 5000);
    for (int64_t now = 1000; now <= 1200; now += 10) {
        aio_context_set_virtual_time(ctx, now);
        aio_context_step(ctx, false);
        for (int i = 0; i < 20; i++) {
            bool due = i != 3 && i != 4 && 1000 + (i * 7 % 20) * 10 + 10 <= now;
            assert_int_equal(fired[i], due);
        }
    }
    aio_timer_disarm(&timers[4]);
}

typedef struct Memory {
    int available, processed, begun, ended, posted;
} Memory;

static bool memory_poll(void *opaque)
{
    return ((Memory *)opaque)->available > 0;
}

static void memory_ready(void *opaque)
{
    Memory *m = opaque;
    m->available--;
    m->processed++;
}

static void memory_begin(void *opaque)
{
    ((Memory *)opaque)->begun++;
}

/* Work that arrives while notifications are turned on again, and so causes none. */
static void memory_end(void *opaque)
{
    Memory *m = opaque;
    m->ended++;
    m->available++;
}

static const AioHandlerOps memory_ops = {.poll = memory_poll,
                                         .poll_ready = memory_ready,
                                         .poll_begin = memory_begin,
                                         .poll_end = memory_end};

static void work_that_arrives_as_polling_ends_is_not_lost(void **state)
{
    Memory m = {0};
    int fd =
        eventfd(1, EFD_CLOEXEC); /* makes the first blocking wait short, so that polling starts */
    static const AioHandlerOps wake = {.readable = count_call};
    int wakes = 0;
    AioHandler *hw = aio_handler_add(*state, fd, &wake, &wakes);
    AioHandler *h = aio_handler_add(*state, -1, &memory_ops, &m);
    aio_context_set_polling(*state, INT64_C(3600) * 1000000000);
    aio_context_step(*state, true); /* a short blocking wait: polling starts after it */
    assert_int_equal(m.begun, 0);
    aio_handler_remove(hw);
    close(fd);
    aio_context_step(*state, true);
    assert_int_equal(m.begun, 1);
    assert_int_equal(m.ended, 1);
    assert_int_equal(m.processed, 1);
    aio_handler_remove(h);
}

/* A context that has begun to poll: its first blocking wait was short. */
static AioHandler *memory_poll_forever(AioContext *ctx, Memory *m)
{
    AioHandler *h = aio_handler_add(ctx, -1, &memory_ops, m);
    aio_context_set_polling(ctx, INT64_C(3600) * 1000000000);
    aio_post(ctx, count_call, &m->posted);
    aio_context_step(ctx, true); /* a turn with work does not block */
    int fd = eventfd(1, EFD_CLOEXEC);
    static const AioHandlerOps wake = {.readable = count_call};
    AioHandler *hw = aio_handler_add(ctx, fd, &wake, &m->posted);
    aio_context_step(ctx, true);
    aio_handler_remove(hw);
    close(fd);
    m->available = 1000;
    aio_context_step(ctx, true);
    assert_int_equal(m->begun, 1);
    return h;
}

static void turns_with_other_work_leave_notifications_off_and_poll(void **state)
{
    Memory m = {0};
    AioHandler *h = memory_poll_forever(*state, &m);
    int before = m.processed;
    for (int i = 0; i < 100; i++) {
        aio_post(*state, count_call, &m.posted);
        aio_context_step(*state, true);
    }
    assert_int_equal(m.processed - before, 100);
    assert_int_equal(m.begun, 1);
    assert_int_equal(m.ended, 0);
    aio_handler_remove(h);
}

static void descriptors_are_served_while_polling_always_finds_work(void **state)
{
    Memory m = {0};
    AioHandler *h = memory_poll_forever(*state, &m);
    int fd = eventfd(1, EFD_CLOEXEC), wakes = 0;
    static const AioHandlerOps wake = {.readable = count_call};
    AioHandler *hw = aio_handler_add(*state, fd, &wake, &wakes);
    for (int i = 0; i < 20; i++) {
        aio_context_step(*state, true);
    }
    assert_true(wakes >= 2);
    assert_true(m.processed >= 20);
    aio_handler_remove(hw);
    aio_handler_remove(h);
    close(fd);
}

static void a_descriptor_without_poll_is_seen_while_the_loop_polls(void **state)
{
    Memory m = {0};
    AioHandler *h = memory_poll_forever(*state, &m);
    int fd = eventfd(1, EFD_CLOEXEC), wakes = 0;
    static const AioHandlerOps wake = {.readable = count_call};
    AioHandler *hw = aio_handler_add(*state, fd, &wake, &wakes);
    m.available = 0;
    aio_context_step(*state, true);
    assert_true(wakes >= 1);
    assert_int_equal(m.ended, 0); /* it polls on */
    aio_handler_remove(hw);
    aio_handler_remove(h);
    close(fd);
}

/* Sleeps for four times as long as the loop may poll. */
static void wait_a_little_too_long(AioContext *ctx, AioTimer *timer, Memory *m)
{
    aio_timer_arm(timer, aio_now_ns(ctx) + 40000000);
    for (int fired = m->posted; m->posted == fired;) {
        aio_context_step(ctx, true);
    }
}

/* Waits that are longer than the loop may poll, but not much: polling is tried if there are descriptors that
 * cannot be polled, and rarely if it finds nothing. */
static void polling_is_tried_after_waits_that_are_a_little_too_long(void **state)
{
    Memory m = {0};
    static const AioHandlerOps ops = {
        .poll = memory_poll, .poll_ready = memory_ready, .poll_begin = memory_begin};
    AioHandler *h = aio_handler_add(*state, -1, &ops, &m);
    AioTimer timer;
    aio_timer_init(&timer, *state, count_call, &m.posted);
    aio_context_set_polling(*state, 10000000);
    for (int i = 0; i < 6; i++) {
        wait_a_little_too_long(*state, &timer, &m);
    }
    assert_int_equal(m.begun, 0); /* all that it waits for can be polled: a disk's loop */
    int fd = eventfd(0, EFD_CLOEXEC), wakes = 0;
    static const AioHandlerOps wake = {.readable = count_call};
    AioHandler *hw = aio_handler_add(*state, fd, &wake, &wakes);
    for (int i = 0; i < 100 && m.begun == 0; i++) { /* of an overloaded host all may be too long */
        wait_a_little_too_long(*state, &timer, &m);
    }
    assert_int_equal(m.begun, 1);
    for (int i = 0; i < 6; i++) {
        wait_a_little_too_long(*state, &timer, &m);
    }
    assert_in_range(m.begun, 1, 4);
    assert_int_equal(wakes, 0);
    aio_handler_remove(hw);
    aio_handler_remove(h);
    close(fd);
}

typedef struct PingPong {
    AioContext *a, *b;
    unsigned left;
    bool done;
} PingPong;

static void pong(void *opaque);

static void ping(void *opaque)
{
    PingPong *p = opaque;
    enter_iothread(p->a);
    if (--p->left == 0) {
        __atomic_store_n(&p->done, true, __ATOMIC_RELEASE);
    } else {
        aio_post(p->b, pong, p);
    }
}

static void pong(void *opaque)
{
    PingPong *p = opaque;
    enter_iothread(p->b);
    aio_post(p->a, ping, p);
}

static void no_wake_is_lost_between_two_threads(void **state)
{
    (void)state;
    IoThread *t1 = iothread_new("one", 0, NULL), *t2 = iothread_new("two", 20000, NULL);
    PingPong p = {.a = iothread_context(t1), .b = iothread_context(t2), .left = 20000};
    aio_post(p.a, ping, &p);
    while (!__atomic_load_n(&p.done, __ATOMIC_ACQUIRE)) {
        sched_yield();
    }
    iothread_free(t1);
    iothread_free(t2);
}

static void a_descriptor_is_watched_later_if_the_kernel_lacks_memory(void **state)
{
    AioContext *ctx = *state;
    static const AioHandlerOps ops = {.readable = count_call};
    static const int errors[] = {ENOSPC, ENOMEM};
    int fd = eventfd(1, EFD_CLOEXEC);
    int64_t now_ns = 1000;
    for (unsigned i = 0; i < 2; i++) {
        int calls = 0;
        aio_context_set_virtual_time(ctx, now_ns);
        sys_fault_set(&(SysFault){.calls = "epoll_ctl", .count = 2, .error = errors[i]});
        AioHandler *h = aio_handler_add(ctx, fd, &ops, &calls);
        aio_context_step(ctx, false);
        assert_int_equal(sys_fault_hits(), 1);
        for (unsigned tries = 0; tries < 2; tries++) {
            aio_context_set_virtual_time(ctx, now_ns += 10000000);
            assert_int_equal(calls, 0);
            aio_context_step(ctx, false);
        }
        assert_int_equal(sys_fault_hits(), 2);
        assert_int_equal(calls, 1);
        /* A handler that is removed before it is watched is not retried. */
        sys_fault_set(&(SysFault){.calls = "epoll_ctl", .error = errors[i]});
        aio_handler_remove(aio_handler_add(ctx, fd, &ops, &calls));
        aio_context_set_virtual_time(ctx, now_ns += 10000000);
        aio_context_step(ctx, false);
        assert_int_equal(sys_fault_hits(), 1);
        sys_fault_set(NULL);
        aio_handler_remove(h);
    }
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(bottom_halves_run_in_order_once_per_scheduling, loop_setup,
                                        loop_teardown),
        cmocka_unit_test_setup_teardown(a_cancelled_bottom_half_does_not_run, loop_setup,
                                        loop_teardown),
        cmocka_unit_test_setup_teardown(handlers_may_be_removed_while_events_are_dispatched,
                                        loop_setup, loop_teardown),
        cmocka_unit_test_setup_teardown(a_regular_file_that_is_not_watched_lets_the_loop_sleep,
                                        loop_setup, loop_teardown),
        cmocka_unit_test_setup_teardown(a_regular_file_is_always_ready, loop_setup, loop_teardown),
        cmocka_unit_test_setup_teardown(a_descriptor_is_watched_later_if_the_kernel_lacks_memory,
                                        loop_setup, loop_teardown),
        cmocka_unit_test_setup_teardown(timers_fire_in_order_of_their_deadlines_in_virtual_time,
                                        loop_setup, loop_teardown),
        cmocka_unit_test_setup_teardown(work_that_arrives_as_polling_ends_is_not_lost, loop_setup,
                                        loop_teardown),
        cmocka_unit_test_setup_teardown(turns_with_other_work_leave_notifications_off_and_poll,
                                        loop_setup, loop_teardown),
        cmocka_unit_test_setup_teardown(descriptors_are_served_while_polling_always_finds_work,
                                        loop_setup, loop_teardown),
        cmocka_unit_test_setup_teardown(a_descriptor_without_poll_is_seen_while_the_loop_polls,
                                        loop_setup, loop_teardown),
        cmocka_unit_test_setup_teardown(polling_is_tried_after_waits_that_are_a_little_too_long,
                                        loop_setup, loop_teardown),
        cmocka_unit_test_setup_teardown(
            a_bottom_half_may_be_cancelled_while_another_thread_schedules_it, loop_setup,
            loop_teardown),
        cmocka_unit_test(no_wake_is_lost_between_two_threads),
        cmocka_unit_test_setup_teardown(work_that_posts_itself_starves_no_descriptor, loop_setup,
                                        loop_teardown),
        cmocka_unit_test_setup_teardown(a_turn_runs_a_bounded_number_of_bottom_halves, loop_setup,
                                        loop_teardown),
    };
    return cmocka_run_group_tests_name("util/loop/aio", tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "hw/core/vm_clock.h"
#include "tests/support/fake_machine.h"

static FakeMachine *m;

static int set_up(void **unused)
{
    m = fake_machine_new();
    return 0;
}

static int tear_down(void **unused)
{
    fake_machine_free(m);
    return 0;
}

static void test_time_stands_still_while_paused(void **unused)
{
    assert_int_equal(vm_clock_now_ns(), 0);
    fake_machine_advance(m, 100);
    assert_int_equal(vm_clock_now_ns(), 100);
    vm_clock_pause();
    vm_clock_pause();
    fake_machine_advance(m, 1000);
    assert_int_equal(vm_clock_now_ns(), 100);
    vm_clock_resume();
    vm_clock_resume();
    fake_machine_advance(m, 10);
    assert_int_equal(vm_clock_now_ns(), 110);
    vm_clock_pause();
    vm_clock_set_ns(5000);
    vm_clock_resume();
    assert_int_equal(vm_clock_now_ns(), 5000);
}

static unsigned fired;

static void count_fire(void *opaque)
{
    assert_bql();
    fired++;
}

static void arm(VmTimer *t, int64_t deadline_ns)
{
    bql_lock();
    vm_timer_arm(t, deadline_ns);
    bql_unlock();
}

static void test_timer_fires_once_by_vm_time(void **unused)
{
    VmTimer t;
    fired = 0;
    vm_timer_init(&t, count_fire, NULL);
    arm(&t, 1000);
    fake_machine_advance(m, 999);
    assert_int_equal(fired, 0);
    vm_clock_pause();
    fake_machine_advance(m, 100000);
    assert_int_equal(fired, 0);
    vm_clock_resume();
    fake_machine_advance(m, 1);
    assert_int_equal(fired, 1);
    fake_machine_advance(m, 10000);
    assert_int_equal(fired, 1);
    vm_timer_fini(&t);
}

static void test_timer_is_put_off_brought_forward_and_disarmed(void **unused)
{
    VmTimer t;
    fired = 0;
    vm_timer_init(&t, count_fire, NULL);
    arm(&t, 1000);
    arm(&t, 2000);
    fake_machine_advance(m, 1500);
    assert_int_equal(fired, 0);
    fake_machine_advance(m, 500);
    assert_int_equal(fired, 1);
    arm(&t, 9000);
    fake_machine_run(m);
    arm(&t, 3000);
    fake_machine_advance(m, 1000);
    assert_int_equal(fired, 2);
    arm(&t, 4000);
    bql_lock();
    vm_timer_disarm(&t);
    bql_unlock();
    fake_machine_advance(m, 10000);
    assert_int_equal(fired, 2);
    arm(&t, 20000);
    vm_timer_fini(&t); /* armed, with its bottom half pending */
    fake_machine_advance(m, 10000);
    assert_int_equal(fired, 2);
}

static void *vcpu_arms(void *opaque)
{
    thread_adopt_role(THREAD_VCPU, "vcpu/0");
    arm(opaque, 500);
    return NULL;
}

static void test_a_vcpu_arms_what_main_fires(void **unused)
{
    VmTimer t;
    pthread_t thread;
    fired = 0;
    vm_timer_init(&t, count_fire, NULL);
    assert_int_equal(pthread_create(&thread, NULL, vcpu_arms, &t), 0);
    pthread_join(thread, NULL);
    fake_machine_advance(m, 500);
    assert_int_equal(fired, 1);
    vm_timer_fini(&t);
}

static void test_listener_is_called_at_resume(void **unused)
{
    VmClockListener l = {.resumed = count_fire};
    fired = 0;
    vm_clock_listen(&l);
    vm_clock_pause();
    assert_int_equal(fired, 0);
    vm_clock_resume();
    assert_int_equal(fired, 1);
    vm_clock_unlisten(&l);
    vm_clock_pause();
    vm_clock_resume();
    assert_int_equal(fired, 1);
}

static void test_wall_time_can_be_set(void **unused)
{
    vm_clock_set_wall_ns(INT64_C(1700000000000000000));
    fake_machine_advance(m, 7);
    vm_clock_pause();
    assert_true(vm_clock_wall_ns() == INT64_C(1700000000000000007));
    fake_machine_advance(m, 3);
    assert_true(vm_clock_wall_ns() == INT64_C(1700000000000000010));
    vm_clock_resume();
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_time_stands_still_while_paused),
        TEST(test_timer_fires_once_by_vm_time),
        TEST(test_timer_is_put_off_brought_forward_and_disarmed),
        TEST(test_a_vcpu_arms_what_main_fires),
        TEST(test_listener_is_called_at_resume),
        TEST(test_wall_time_can_be_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

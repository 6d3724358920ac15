/* SPDX-License-Identifier: Apache-2.0 */
/* The clocks that the RTC may follow, and lost periodic ticks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "hw/core/vm_clock.h"
#include "tests/support/fake_machine.h"

#define GSI 8
#define S INT64_C(1000000000)
#define START_S INT64_C(1700000000) /* 22:13:20 UTC */
#define TICK_NS (S / 1024)          /* rate 6, rounded down */

enum { SEC = 0, MIN_ = 2, HOUR = 4, A = 10, B = 11, C = 12 };
#define PIE 0x40
#define PF_IRQF 0xc0

static FakeMachine *m;
static Device *rtc;

static void begin(const char *properties)
{
    m = fake_machine_new();
    vm_clock_set_wall_ns(START_S * S + S / 4);
    rtc = fake_device(m, "mc146818rtc", properties);
}

static int tear_down(void **unused)
{
    vm_clock_resume();
    fake_device_gone(rtc);
    fake_machine_free(m);
    return 0;
}

static uint8_t get(unsigned index)
{
    fake_out8(m, 0x70, (uint8_t)index);
    return fake_in8(m, 0x71);
}

static void set(unsigned index, uint8_t value)
{
    fake_out8(m, 0x70, (uint8_t)index);
    fake_out8(m, 0x71, value);
}

static void assert_clock(unsigned hour, unsigned min, unsigned sec)
{
    assert_int_equal(get(HOUR), hour);
    assert_int_equal(get(MIN_), min);
    assert_int_equal(get(SEC), sec);
}

static void save(GByteArray *saved)
{
    bql_lock();
    rtc->type->pre_save(rtc);
    bql_unlock();
    state_save(rtc->type->state, rtc, saved);
}

static void load(const GByteArray *saved)
{
    size_t used;
    assert_true(state_load(rtc->type->state, rtc, saved->data, saved->len, &used, NULL));
    bql_lock();
    assert_true(rtc->type->post_load(rtc, NULL));
    bql_unlock();
}

/* ---- clock= ---- */

static void test_host_follows_the_hosts_calendar(void **unused)
{
    begin("clock=host");
    vm_clock_pause();
    fake_machine_advance(m, 10 * S);
    vm_clock_resume();
    assert_clock(0x22, 0x13, 0x30);
    vm_clock_set_wall_ns((START_S + 3600) * S); /* the host's clock was set */
    assert_clock(0x23, 0x13, 0x20);
}

static void test_rt_does_not_follow_a_host_whose_clock_is_set(void **unused)
{
    begin("clock=rt");
    assert_clock(0x22, 0x13, 0x20);
    vm_clock_set_wall_ns((START_S + 3600) * S);
    vm_clock_pause();
    fake_machine_advance(m, 10 * S);
    vm_clock_resume();
    assert_clock(0x22, 0x13, 0x30);
}

static void test_vm_stands_while_the_vm_is_stopped(void **unused)
{
    begin("clock=vm");
    assert_clock(0x22, 0x13, 0x20);
    fake_machine_advance(m, S * 3 / 4 - 1);
    assert_clock(0x22, 0x13, 0x20);
    vm_clock_pause();
    fake_machine_advance(m, 100 * S);
    assert_clock(0x22, 0x13, 0x20);
    vm_clock_resume();
    fake_machine_advance(m, 1);
    assert_clock(0x22, 0x13, 0x21);
}

static void test_vm_begins_at_a_given_date(void **unused)
{
    begin("clock=vm,base=2006-06-17T16:01:21");
    assert_clock(0x16, 0x01, 0x21);
    fake_machine_advance(m, 10 * S);
    assert_clock(0x16, 0x01, 0x31);
}

static void test_vm_goes_on_after_save_and_load(void **unused)
{
    begin("clock=vm");
    fake_machine_advance(m, 10 * S);
    vm_clock_pause();
    g_autoptr(GByteArray) saved = g_byte_array_new();
    save(saved);
    vm_clock_set_ns(99); /* another machine's clock */
    fake_machine_advance(m, 1000 * S);
    load(saved);
    vm_clock_resume();
    assert_clock(0x22, 0x13, 0x30);
    fake_machine_advance(m, S);
    assert_clock(0x22, 0x13, 0x31);
}

/* ---- lost_tick_policy= ---- */

static void start_ticks(void)
{
    set(B, PIE | 2);
    assert_int_equal(get(C) & PF_IRQF, 0);
    m->gsi_raised[GSI] = 0;
}

/* Reads C until no interrupt is left, as a guest does; returns the number of interrupts with PF. */
static unsigned handle_interrupts(void)
{
    unsigned count = 0;
    while (m->gsi_level[GSI]) {
        assert_int_equal(get(C) & PF_IRQF, PF_IRQF);
        count++;
    }
    return count;
}

static void test_lost_ticks_are_dropped(void **unused)
{
    begin("lost_tick_policy=discard");
    start_ticks();
    fake_machine_advance(m, 10 * TICK_NS + 100);
    assert_int_equal(handle_interrupts(), 1);
    assert_int_equal(m->gsi_raised[GSI], 1);
}

static void test_lost_ticks_come_later(void **unused)
{
    begin("lost_tick_policy=slew");
    start_ticks();
    fake_machine_advance(m, 10 * TICK_NS + 100);
    assert_int_equal(handle_interrupts(), 10);
    assert_int_equal(m->gsi_raised[GSI], 10); /* each is an edge */
    fake_machine_advance(m, TICK_NS + 100);
    assert_int_equal(handle_interrupts(), 1);
}

static void test_at_most_20_come_in_a_row(void **unused)
{
    begin("lost_tick_policy=slew");
    start_ticks();
    fake_machine_advance(m, 100 * TICK_NS + 1000);
    unsigned total = handle_interrupts();
    assert_int_equal(total, 21);
    for (unsigned i = 0; i < 3; i++) {
        fake_machine_advance(m, TICK_NS + 100);
        unsigned now = handle_interrupts();
        assert_int_equal(now, 21);
        total += now;
    }
    fake_machine_advance(m, TICK_NS + 100);
    total += handle_interrupts();
    assert_int_equal(total, 104);
}

static void test_ticks_of_a_stopped_vm_are_not_lost(void **unused)
{
    begin("lost_tick_policy=slew");
    start_ticks();
    fake_machine_advance(m, 2 * TICK_NS + 100);
    vm_clock_pause();
    fake_machine_advance(m, 100 * TICK_NS);
    vm_clock_resume();
    assert_int_equal(handle_interrupts(), 2);
}

static void test_another_rate_converts_lost_ticks(void **unused)
{
    begin("lost_tick_policy=slew");
    start_ticks();
    fake_machine_advance(m, 11 * TICK_NS + 100);
    set(A, 0x27); /* 512 Hz */
    assert_int_equal(handle_interrupts(), 6);
    fake_machine_advance(m, 11 * TICK_NS);
    set(B, 2); /* without the interrupt nothing is lost */
    get(C);
    set(B, PIE | 2);
    assert_int_equal(handle_interrupts(), 0);
}

static void test_lost_ticks_survive_save_and_load(void **unused)
{
    begin("lost_tick_policy=slew");
    start_ticks();
    fake_machine_advance(m, 5 * TICK_NS + 100);
    assert_int_equal(get(C) & PF_IRQF, PF_IRQF);
    vm_clock_pause();
    assert_true(state_check_coverage(rtc->type->state, NULL));
    g_autoptr(GByteArray) saved = g_byte_array_new();
    save(saved);
    bql_lock();
    rtc->type->reset(rtc);
    bql_unlock();
    assert_int_equal(handle_interrupts(), 0);
    load(saved);
    vm_clock_resume();
    assert_int_equal(handle_interrupts(), 4);
}

#define TEST(fn) cmocka_unit_test_teardown(fn, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_host_follows_the_hosts_calendar),
        TEST(test_rt_does_not_follow_a_host_whose_clock_is_set),
        TEST(test_vm_stands_while_the_vm_is_stopped),
        TEST(test_vm_begins_at_a_given_date),
        TEST(test_vm_goes_on_after_save_and_load),
        TEST(test_lost_ticks_are_dropped),
        TEST(test_lost_ticks_come_later),
        TEST(test_at_most_20_come_in_a_row),
        TEST(test_ticks_of_a_stopped_vm_are_not_lost),
        TEST(test_another_rate_converts_lost_ticks),
        TEST(test_lost_ticks_survive_save_and_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

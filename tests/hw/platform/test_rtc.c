/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "hw/core/vm_clock.h"
#include "hw/platform/rtc.h"
#include "tests/support/fake_machine.h"

#define GSI 8
#define S INT64_C(1000000000)
#define START_S INT64_C(1700000000) /* Tue 2023-11-14 22:13:20 UTC */

enum { SEC = 0, MIN_ = 2, HOUR = 4, WDAY = 6, DAY = 7, MON = 8, YEAR = 9, CENT = 0x32 };
enum { A = 10, B = 11, C = 12, D = 13 };

static FakeMachine *m;
static Device *rtc;

static int set_up(void **unused)
{
    m = fake_machine_new();
    vm_clock_set_wall_ns(START_S * S);
    rtc = fake_device(m, "mc146818rtc", NULL);
    return 0;
}

static int tear_down(void **unused)
{
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

static void assert_time(unsigned cent, unsigned year, unsigned mon, unsigned day, unsigned wday,
                        unsigned hour, unsigned min, unsigned sec)
{
    assert_int_equal(get(SEC), sec);
    assert_int_equal(get(MIN_), min);
    assert_int_equal(get(HOUR), hour);
    assert_int_equal(get(WDAY), wday);
    assert_int_equal(get(DAY), day);
    assert_int_equal(get(MON), mon);
    assert_int_equal(get(YEAR), year);
    assert_int_equal(get(CENT), cent);
}

static void test_time_is_the_hosts_in_bcd(void **unused)
{
    assert_time(0x20, 0x23, 0x11, 0x14, 3, 0x22, 0x13, 0x20);
    fake_machine_advance(m, 2 * 3600 * S);
    assert_time(0x20, 0x23, 0x11, 0x15, 4, 0x00, 0x13, 0x20);
    assert_int_equal(get(A), 0x26);
    assert_int_equal(get(B), 0x02);
    assert_int_equal(get(D), 0x80);
}

static void test_binary_and_12_hour_forms(void **unused)
{
    set(B, 0x06);
    assert_time(20, 23, 11, 14, 3, 22, 13, 20);
    set(B, 0x04);
    assert_int_equal(get(HOUR), 0x80 | 10);
    set(B, 0x00);
    assert_int_equal(get(HOUR), 0x80 | 0x10);
    fake_machine_advance(m, 2 * 3600 * S); /* 00:13 */
    assert_int_equal(get(HOUR), 0x12);
    fake_machine_advance(m, 12 * 3600 * S);
    assert_int_equal(get(HOUR), 0x92);
}

static void test_guest_sets_the_time(void **unused)
{
    set(B, 0x82);
    set(SEC, 0x59);
    set(MIN_, 0x59);
    set(HOUR, 0x23);
    set(DAY, 0x28);
    set(MON, 0x02);
    set(YEAR, 0x24);
    set(CENT, 0x20);
    fake_machine_advance(m, 5 * S);
    assert_int_equal(get(SEC), 0x59); /* it is stopped */
    set(B, 0x02);
    assert_time(0x20, 0x24, 0x02, 0x28, 4, 0x23, 0x59, 0x59);
    fake_machine_advance(m, S);
    assert_time(0x20, 0x24, 0x02, 0x29, 5, 0x00, 0x00, 0x00);
    set(HOUR, 0x07); /* without SET, too */
    assert_time(0x20, 0x24, 0x02, 0x29, 5, 0x07, 0x00, 0x00);
}

static void test_divider_reset_starts_half_a_second_before_an_update(void **unused)
{
    fake_machine_advance(m, S / 10);
    set(A, 0x76);
    fake_machine_advance(m, 3 * S);
    assert_int_equal(get(SEC), 0x20);
    set(A, 0x26);
    fake_machine_advance(m, S / 2 - 1);
    assert_int_equal(get(SEC), 0x20);
    assert_int_equal(get(A), 0xa6); /* update in progress */
    fake_machine_advance(m, 1);
    assert_int_equal(get(SEC), 0x21);
    assert_int_equal(get(A), 0x26);
}

static void test_update_in_progress_comes_before_the_second(void **unused)
{
    fake_machine_advance(m, S - 244001);
    assert_int_equal(get(A), 0x26);
    fake_machine_advance(m, 1);
    assert_int_equal(get(A), 0xa6);
    set(B, 0x82);
    assert_int_equal(get(A), 0x26);
}

static void test_update_interrupt(void **unused)
{
    set(B, 0x12);
    fake_machine_advance(m, S - 1);
    assert_false(m->gsi_level[GSI]);
    fake_machine_advance(m, 1);
    assert_true(m->gsi_level[GSI]);
    assert_int_equal(get(C), 0x90 | 0x40); /* the period's flag is set as well */
    assert_false(m->gsi_level[GSI]);
    assert_int_equal(get(C), 0);
    fake_machine_advance(m, S);
    assert_true(m->gsi_level[GSI]);
    set(B, 0x92); /* SET turns it off */
    assert_int_equal(get(B), 0x82);
    assert_false(m->gsi_level[GSI]);
}

static void test_flags_come_up_without_interrupts(void **unused)
{
    set(A, 0x20);
    assert_int_equal(get(C), 0);
    fake_machine_advance(m, S);
    assert_int_equal(get(C), 0x10);
    assert_int_equal(m->gsi_raised[GSI], 0);
}

static void test_alarm_interrupt(void **unused)
{
    set(A, 0x20);
    set(1, 0x05);
    set(3, 0x14);
    set(5, 0x22);
    set(B, 0x22);
    get(C);
    fake_machine_advance(m, 45 * S - 1);
    assert_false(m->gsi_level[GSI]);
    fake_machine_advance(m, 1);
    assert_true(m->gsi_level[GSI]);
    assert_int_equal(get(C), 0xb0);
    fake_machine_advance(m, 86399 * S);
    assert_false(m->gsi_level[GSI]);
    fake_machine_advance(m, 1 * S); /* the same time the next day */
    assert_true(m->gsi_level[GSI]);
}

static void test_alarm_wildcards(void **unused)
{
    set(A, 0x20);
    set(1, 0x00);
    set(3, 0xff);
    set(5, 0xc0);
    set(B, 0x22);
    unsigned raised = 0;
    for (unsigned i = 0; i < 10; i++) {
        fake_machine_advance(m, 60 * S);
        raised += m->gsi_level[GSI];
        get(C);
    }
    assert_int_equal(raised, 10);
    set(1, 0xff); /* every second */
    fake_machine_advance(m, S);
    assert_true(m->gsi_level[GSI]);
    set(1, 0x61); /* never */
    get(C);
    fake_machine_advance(m, 200000 * S);
    assert_false(m->gsi_level[GSI]);
}

static void test_periodic_interrupt(void **unused)
{
    static const struct {
        uint8_t rate;
        int64_t period_ns;
    } rates[] = {{15, S / 2}, {6, S / 1024}, {3, S / 8192}, {1, S / 256}, {2, S / 128}};
    for (unsigned i = 0; i < G_N_ELEMENTS(rates); i++) {
        set(B, 0x02);
        set(A, 0x20 | rates[i].rate);
        get(C);
        set(B, 0x42);
        unsigned ticks = 0;
        for (unsigned n = 0; n < 20; n++) {
            fake_machine_advance(m, rates[i].period_ns + 1);
            ticks += m->gsi_level[GSI];
            assert_int_equal(get(C) & 0xc0, 0xc0);
            assert_false(m->gsi_level[GSI]);
        }
        assert_int_equal(ticks, 20);
    }
    set(A, 0x20);
    get(C);
    fake_machine_advance(m, S);
    assert_false(m->gsi_level[GSI]);
}

static void test_time_goes_on_while_the_vm_is_stopped(void **unused)
{
    set(B, 0x42);
    get(C);
    vm_clock_pause();
    fake_machine_advance(m, 10 * S);
    assert_false(m->gsi_level[GSI]); /* no interrupt meanwhile */
    set(B, 0x22);
    set(1, 0xff);
    set(3, 0xff);
    set(5, 0xff);
    fake_machine_advance(m, 10 * S);
    vm_clock_resume();
    assert_true(m->gsi_level[GSI]); /* the alarm was due */
    assert_int_equal(get(SEC), 0x40);
}

static void test_cmos_and_time_last_through_reset(void **unused)
{
    rtc_set_cmos(rtc, 0x5f, 3);
    set(0x60, 0x99);
    set(HOUR, 0x01);
    set(B, 0x72);
    fake_machine_advance(m, S);
    assert_true(m->gsi_level[GSI]);
    bql_lock();
    rtc->type->reset(rtc);
    bql_unlock();
    assert_false(m->gsi_level[GSI]);
    assert_int_equal(get(B), 0x02);
    assert_int_equal(get(0x5f), 3);
    assert_int_equal(get(0x60), 0x99);
    assert_int_equal(get(HOUR), 0x01);
    fake_out8(m, 0x70, 0x80 | 0x60); /* bit 7 masks the NMI */
    assert_int_equal(fake_in8(m, 0x71), 0x99);
    assert_int_equal(fake_in8(m, 0x70), 0xff);
}

static void test_memory_size_bytes(void **unused)
{
    rtc_set_memory_size(rtc, UINT64_C(0xb0000000), UINT64_C(5) << 30);
    assert_int_equal(get(0x15) | get(0x16) << 8, 640);
    assert_int_equal(get(0x17) | get(0x18) << 8, 0xffff);
    assert_int_equal(get(0x34) | get(0x35) << 8, 0xb000 - 0x100);
    assert_int_equal(get(0x5b) | get(0x5c) << 8 | get(0x5d) << 16, 5 << 14);
}

static bool base_works(const char *properties)
{
    Device *dev = device_new(device_type_find("mc146818rtc"), &m->env, NULL);
    g_autoptr(OptDict) dict = opt_dict_parse(properties, NULL, NULL);
    bool ok = device_set_properties(dev, dict, NULL) && device_realize(dev, NULL);
    if (ok) {
        fake_device_gone(dev);
    } else {
        device_free(dev);
    }
    return ok;
}

static void test_base_property(void **unused)
{
    fake_device_gone(rtc);
    rtc = fake_device(m, "mc146818rtc", "base=2006-06-17T16:01:21");
    assert_time(0x20, 0x06, 0x06, 0x17, 7, 0x16, 0x01, 0x21);
    fake_device_gone(rtc);
    assert_true(base_works("base=localtime"));
    assert_true(base_works("base=1999-12-31"));
    static const char *const bad[] = {"base=", "base=now", "base=2023-02-30",
                                      "base=2023-01-01T25:00:00", "base=2023-01-01x"};
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        if (base_works(bad[i])) {
            fail_msg("%s was taken", bad[i]);
        }
    }
    rtc = fake_device(m, "mc146818rtc", NULL);
}

static void test_state_survives_save_and_load(void **unused)
{
    assert_true(state_check_coverage(rtc->type->state, NULL));
    set(HOUR, 0x03);
    set(0x44, 0x55);
    set(B, 0x12);
    g_autoptr(GByteArray) saved = g_byte_array_new();
    state_save(rtc->type->state, rtc, saved);
    set(HOUR, 0x11);
    set(B, 0x86);
    set(0x44, 0);
    size_t used;
    assert_true(state_load(rtc->type->state, rtc, saved->data, saved->len, &used, NULL));
    bql_lock();
    assert_true(rtc->type->post_load(rtc, NULL));
    bql_unlock();
    assert_int_equal(get(HOUR), 0x03);
    assert_int_equal(get(0x44), 0x55);
    fake_machine_advance(m, S);
    assert_true(m->gsi_level[GSI]);
}

static void test_a_stream_with_an_impossible_time_is_refused(void **unused)
{
    g_autoptr(GByteArray) saved = g_byte_array_new();
    state_save(rtc->type->state, rtc, saved);
    size_t offset_at = 1 + strlen("mc146818rtc") + 2 + 4, used;
    memset(saved->data + offset_at, 0x7f, 8);
    assert_true(state_load(rtc->type->state, rtc, saved->data, saved->len, &used, NULL));
    g_autoptr(GError) error = NULL;
    bql_lock();
    assert_false(rtc->type->post_load(rtc, &error));
    bql_unlock();
    assert_non_null(error);
}

static void test_hostile_accesses_do_no_harm(void **unused)
{
    uint32_t x = 3;
    for (unsigned i = 0; i < 30000; i++) {
        x = x * 1664525 + 1013904223;
        unsigned size = 1 + (x >> 16) % 8;
        if ((x >> 5) % 3 != 0) {
            fake_out8(m, 0x70, (x >> 8) % 5 != 0 ? (x >> 12) % 14 : (uint8_t)(x >> 12));
            fake_write(m->env.pio, 0x71, x * UINT64_C(0x100000001), (x >> 6) % 7 != 0 ? 1 : size);
        } else {
            fake_read(m->env.pio, 0x70 + (x >> 9) % 2, size);
        }
        fake_machine_advance(m, (x >> 7) % 100 == 0 ? x * INT64_C(1000) : x % 65536);
    }
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_time_is_the_hosts_in_bcd),
        TEST(test_binary_and_12_hour_forms),
        TEST(test_guest_sets_the_time),
        TEST(test_divider_reset_starts_half_a_second_before_an_update),
        TEST(test_update_in_progress_comes_before_the_second),
        TEST(test_update_interrupt),
        TEST(test_flags_come_up_without_interrupts),
        TEST(test_alarm_interrupt),
        TEST(test_alarm_wildcards),
        TEST(test_periodic_interrupt),
        TEST(test_time_goes_on_while_the_vm_is_stopped),
        TEST(test_cmos_and_time_last_through_reset),
        TEST(test_memory_size_bytes),
        TEST(test_base_property),
        TEST(test_state_survives_save_and_load),
        TEST(test_a_stream_with_an_impossible_time_is_refused),
        TEST(test_hostile_accesses_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The TCO watchdog of the LPC bridge, driven as Linux's lpc_ich and iTCO_wdt do, in virtual time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "hw/core/vm_clock.h"
#include "tests/hw/platform/watchdog_test.h"
#include "tests/support/pci_dummy.h"

#define LPC_DEVFN (0x1f << 3)
#define TCO 0x660
#define RLD (TCO + 0x00)
#define STS1 (TCO + 0x04)
#define STS2 (TCO + 0x06)
#define CNT1 (TCO + 0x08)
#define TMR (TCO + 0x12)
#define HALT 0x0800
#define LOCK 0x1000
#define RCBA 0xfed1c000u
#define GCS (RCBA + 0x3410)
#define NO_REBOOT 0x20
#define TICK_NS INT64_C(600000000)

static PciFixture *f;
static FakeMachine *m;
static Device *lpc;

static int set_up_with(const char *properties)
{
    f = pci_fixture_new();
    m = f->m;
    lpc = fake_device(m, "ich9-lpc", properties);
    return 0;
}

static int set_up(void **unused)
{
    return set_up_with(NULL);
}

static int tear_down(void **unused)
{
    vm_clock_resume();
    fake_device_gone(lpc);
    pci_fixture_free(f);
    return 0;
}

static void reset(void)
{
    bql_lock();
    lpc->type->reset(lpc);
    bql_unlock();
}

static uint32_t gcs(void)
{
    return (uint32_t)fake_read(m->env.mmio, GCS, 4);
}

/* As iTCO_wdt: the time-out is twice @ticks. */
static void start(uint16_t ticks)
{
    fake_write(m->env.mmio, GCS, gcs() & ~(uint32_t)NO_REBOOT, 4);
    fake_out16(m, TMR, (uint16_t)((fake_in16(m, TMR) & 0xfc00) | ticks));
    assert_int_equal(fake_in16(m, TMR) & 0x3ff, ticks);
    fake_out16(m, RLD, 1);
    fake_out16(m, CNT1, (uint16_t)(fake_in16(m, CNT1) & ~HALT));
}

static void pass(int64_t duration_ns)
{
    watchdog_pass(m, duration_ns);
}

static bool has_expired(void)
{
    return watchdog_has_expired(m);
}

static void test_linux_finds_it(void **unused)
{
    uint32_t rcba = pci_cf8_read(f, LPC_DEVFN, 0xf0, 4);
    assert_int_equal(rcba, RCBA | 1);
    assert_int_equal(pci_cf8_read(f, LPC_DEVFN, 0x40, 4) & 0xff80, 0x600);
    assert_int_equal(gcs(), NO_REBOOT);
    fake_write(m->env.mmio, GCS, 0, 4);
    assert_int_equal(gcs(), 0);
    assert_int_equal(fake_in16(m, CNT1), HALT);
    pass(10000 * TICK_NS);
    assert_false(has_expired());
}

static void test_it_expires_at_the_second_time_out(void **unused)
{
    start(10);
    pass(4 * TICK_NS + 1);
    assert_int_equal(fake_in16(m, RLD), 5);
    pass(7 * TICK_NS);
    assert_int_equal(fake_in16(m, STS1), 0x08);
    assert_int_equal(fake_in16(m, STS2), 0);
    pass(8 * TICK_NS);
    assert_false(has_expired());
    pass(2 * TICK_NS);
    assert_true(has_expired());
    assert_int_equal(fake_in16(m, STS2), 0x06);
    pass(10000 * TICK_NS);
    assert_false(has_expired());
}

static void test_a_reload_starts_again(void **unused)
{
    start(10);
    for (unsigned i = 0; i < 20; i++) {
        pass((i % 2 == 0 ? 9 : 19) * TICK_NS);
        fake_out16(m, RLD, 1);
    }
    assert_false(has_expired());
    pass(19 * TICK_NS);
    assert_false(has_expired());
    pass(2 * TICK_NS);
    assert_true(has_expired());
}

static void test_no_reboot_means_no_action(void **unused)
{
    start(10);
    fake_write(m->env.mmio, GCS, NO_REBOOT, 4);
    pass(25 * TICK_NS);
    assert_int_equal(fake_in16(m, STS2), 0x06);
    pass(1000 * TICK_NS);
    assert_false(has_expired());
    fake_write(m->env.mmio, GCS, 0, 4); /* it counts still */
    pass(20 * TICK_NS);
    assert_true(has_expired());
}

static void test_a_halted_timer_does_not_count(void **unused)
{
    start(10);
    pass(4 * TICK_NS + 1);
    fake_out16(m, CNT1, HALT);
    pass(1000 * TICK_NS);
    assert_false(has_expired());
    assert_int_equal(fake_in16(m, RLD), 5);
    fake_out16(m, RLD, 1); /* does not start it */
    pass(1000 * TICK_NS);
    assert_false(has_expired());
}

static void test_a_small_value_does_not_start_it(void **unused)
{
    start(1);
    pass(1000 * TICK_NS);
    assert_false(has_expired());
}

/* A timer of no length would keep main's loop busy for ever: this would hang. */
static void test_a_small_value_while_it_runs_leaves_main_time(void **unused)
{
    start(4);
    fake_write(m->env.mmio, GCS, NO_REBOOT, 4);
    fake_out16(m, TMR, 0);
    pass(1000 * TICK_NS);
    assert_false(has_expired());
}

static void test_status_bits_are_cleared_by_ones(void **unused)
{
    fake_out8(m, TCO + 2, 0x5a);
    fake_out8(m, TCO + 3, 0xa5);
    assert_int_equal(fake_in16(m, TCO + 2), 0xa55a);
    assert_int_equal(fake_in16(m, STS1), 0x06);
    fake_out16(m, STS1, 0x02);
    assert_int_equal(fake_in16(m, STS1), 0x04);
    fake_out8(m, STS1, 0xff);
    assert_int_equal(fake_in16(m, STS1), 0);
    start(10);
    pass(21 * TICK_NS);
    fake_out16(m, STS2, 0x02);
    assert_int_equal(fake_in16(m, STS2), 0x04);
    fake_out16(m, STS2, 0x04);
    assert_int_equal(fake_in16(m, STS2), 0);
}

static void test_the_lock_holds_until_a_reset(void **unused)
{
    fake_out16(m, CNT1, LOCK | HALT);
    fake_out16(m, CNT1, HALT);
    assert_int_equal(fake_in16(m, CNT1), LOCK | HALT);
    reset();
    assert_int_equal(fake_in16(m, CNT1), HALT);
}

static void test_a_reset_stops_it_and_keeps_the_second_time_out(void **unused)
{
    start(10);
    pass(21 * TICK_NS);
    assert_true(has_expired());
    reset();
    assert_int_equal(fake_in16(m, STS1), 0);
    assert_int_equal(fake_in16(m, STS2), 0x06);
    assert_int_equal(fake_in16(m, TMR), 4);
    assert_int_equal(gcs(), NO_REBOOT);
    start(10);
    reset();
    pass(1000 * TICK_NS);
    assert_false(has_expired());
}

static void test_a_stopped_vm_does_not_expire(void **unused)
{
    start(10);
    pass(15 * TICK_NS);
    vm_clock_pause();
    pass(1000 * TICK_NS);
    assert_false(has_expired());
    vm_clock_resume();
    pass(4 * TICK_NS);
    assert_false(has_expired());
    pass(2 * TICK_NS);
    assert_true(has_expired());
}

static void test_the_registers_follow_their_bases(void **unused)
{
    pci_cf8_write(f, LPC_DEVFN, 0x40, 0xb001, 4);
    assert_int_equal(fake_in16(m, TMR), 0xffff);
    assert_int_equal(fake_in16(m, 0xb072), 4);
    pci_cf8_write(f, LPC_DEVFN, 0x44, 0, 1);
    assert_int_equal(fake_in16(m, 0xb072), 0xffff);
    pci_cf8_write(f, LPC_DEVFN, 0xf0, 0xfe000001, 4);
    assert_int_equal(gcs(), UINT32_MAX);
    assert_int_equal(fake_read(m->env.mmio, 0xfe003410, 4), NO_REBOOT);
    assert_int_equal(fake_read(m->env.mmio, 0xfe003404, 4), 0); /* no HPET */
    pci_cf8_write(f, LPC_DEVFN, 0xf0, 0xfe000000, 4);
    assert_int_equal(fake_read(m->env.mmio, 0xfe003410, 4), UINT32_MAX);
    pci_cf8_write(f, LPC_DEVFN, 0x40, 0xff81, 4); /* the last ports */
    pci_cf8_write(f, LPC_DEVFN, 0x44, 0x80, 1);
    assert_int_equal(fake_in16(m, 0xfff2), 4);
    reset();
    assert_int_equal(fake_in16(m, TMR), 4);
    assert_int_equal(gcs(), NO_REBOOT);
}

static void test_a_strap_keeps_no_reboot_set(void **unused)
{
    fake_device_gone(lpc);
    lpc = fake_device(m, "ich9-lpc", "noreboot=on");
    fake_write(m->env.mmio, GCS, 0, 4);
    assert_int_equal(gcs(), NO_REBOOT);
    start(10);
    pass(1000 * TICK_NS);
    assert_false(has_expired());
}

static void test_it_goes_on_after_save_and_load(void **unused)
{
    size_t used;
    assert_true(state_check_coverage(lpc->type->state, NULL));
    g_autoptr(GByteArray) saved = g_byte_array_new();
    start(10);
    pass(15 * TICK_NS);
    vm_clock_pause();
    bql_lock();
    lpc->type->pre_save(lpc);
    bql_unlock();
    state_save(lpc->type->state, lpc, saved);
    reset();
    vm_clock_set_ns(99); /* another machine's clock */
    assert_true(state_load(lpc->type->state, lpc, saved->data, saved->len, &used, NULL));
    bql_lock();
    assert_true(lpc->type->post_load(lpc, NULL));
    bql_unlock();
    vm_clock_resume();
    assert_int_equal(fake_in16(m, STS1), 0x08);
    assert_int_equal(gcs(), 0);
    pass(4 * TICK_NS);
    assert_false(has_expired());
    pass(2 * TICK_NS);
    assert_true(has_expired());
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_linux_finds_it),
        TEST(test_it_expires_at_the_second_time_out),
        TEST(test_a_reload_starts_again),
        TEST(test_no_reboot_means_no_action),
        TEST(test_a_halted_timer_does_not_count),
        TEST(test_a_small_value_does_not_start_it),
        TEST(test_a_small_value_while_it_runs_leaves_main_time),
        TEST(test_status_bits_are_cleared_by_ones),
        TEST(test_the_lock_holds_until_a_reset),
        TEST(test_a_reset_stops_it_and_keeps_the_second_time_out),
        TEST(test_a_stopped_vm_does_not_expire),
        TEST(test_the_registers_follow_their_bases),
        TEST(test_a_strap_keeps_no_reboot_set),
        TEST(test_it_goes_on_after_save_and_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

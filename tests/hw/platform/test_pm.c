/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "hw/core/vm_clock.h"
#include "hw/platform/lpc.h"
#include "tests/support/pci_dummy.h"

#define PM 0x600
#define STS (PM + 0)
#define EN (PM + 2)
#define CNT (PM + 4)
#define TMR (PM + 8)
#define SCI 9
#define LPC_DEVFN (0x1f << 3)

static PciFixture *f;
static FakeMachine *m;
static Device *lpc;

static int set_up(void **unused)
{
    f = pci_fixture_new();
    m = f->m;
    lpc = fake_device(m, "ich9-lpc", NULL);
    return 0;
}

static int tear_down(void **unused)
{
    fake_device_gone(lpc);
    pci_fixture_free(f);
    return 0;
}

static void reset_lpc(void)
{
    bql_lock();
    lpc->type->reset(lpc);
    bql_unlock();
}

static void test_identity_and_firmware_checks_are_right(void **unused)
{
    assert_int_equal(pci_cf8_read(f, LPC_DEVFN, 0, 4), 0x29188086);
    assert_int_equal(pci_cf8_read(f, LPC_DEVFN, 0x08, 4), 0x06010002);
    assert_int_equal(pci_cf8_read(f, LPC_DEVFN, 0x40, 4), PM | 1);
    assert_int_equal(pci_cf8_read(f, LPC_DEVFN, 0x44, 1), 0x80);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(pci_cf8_read(f, LPC_DEVFN, 0x60 + i, 1), 0x80);
        pci_cf8_write(f, LPC_DEVFN, 0x68 + i, 0x0b, 1);
        assert_int_equal(pci_cf8_read(f, LPC_DEVFN, 0x68 + i, 1), 0x0b);
    }
    pci_cf8_write(f, LPC_DEVFN, 0xf0, 0xfed1c001, 4);
    assert_int_equal(pci_cf8_read(f, LPC_DEVFN, 0xf0, 4), 0xfed1c001);
    assert_int_equal(fake_in32(m, PM + 0x30) & 0x20, 0x20); /* no SMM to set up */
}

static void test_pmbase_moves_the_block(void **unused)
{
    assert_int_equal(fake_in16(m, CNT), 1);
    pci_cf8_write(f, LPC_DEVFN, 0x40, 0xb001, 4);
    assert_int_equal(fake_in16(m, CNT), 0xffff);
    assert_int_equal(fake_in16(m, 0xb004), 1);
    pci_cf8_write(f, LPC_DEVFN, 0x44, 0, 1);
    assert_int_equal(fake_in16(m, 0xb004), 0xffff);
    reset_lpc();
    assert_int_equal(fake_in16(m, CNT), 1);
}

static void test_timer_counts_vm_time_in_24_bits(void **unused)
{
    uint32_t start = fake_in32(m, TMR);
    fake_machine_advance(m, 1000000000);
    assert_int_equal((fake_in32(m, TMR) - start) & 0xffffff, 3579545);
    vm_clock_pause();
    fake_machine_advance(m, 1000000000);
    assert_int_equal((fake_in32(m, TMR) - start) & 0xffffff, 3579545);
    vm_clock_resume();
    fake_machine_advance(m, INT64_C(4) * 1000000000);
    assert_int_equal(fake_in32(m, TMR), 5 * 3579545 & 0xffffff);
    assert_int_equal(fake_in8(m, TMR + 3), 0);
    assert_int_equal(fake_in16(m, TMR + 1), 0xffff); /* not aligned */
    fake_out32(m, TMR, 0);
    assert_int_equal(fake_in32(m, TMR), 5 * 3579545 & 0xffffff);
}

static void test_timer_overflow_raises_the_sci(void **unused)
{
    const int64_t half_ns = INT64_C(8388608) * 1000000000 / 3579545; /* 2^23 ticks */
    fake_out16(m, EN, 0x0001);
    fake_machine_advance(m, half_ns - 1000);
    assert_false(m->gsi_level[SCI]);
    assert_int_equal(fake_in16(m, STS), 0);
    fake_machine_advance(m, 2000);
    assert_true(m->gsi_level[SCI]);
    assert_int_equal(fake_in16(m, STS), 1);
    fake_out16(m, STS, 1);
    assert_false(m->gsi_level[SCI]);
    fake_machine_advance(m, half_ns);
    assert_true(m->gsi_level[SCI]);
    fake_out16(m, EN, 0);
    assert_false(m->gsi_level[SCI]);
    fake_out16(m, STS, 1);
    fake_machine_advance(m, half_ns); /* no timer is armed, but the bit is set */
    assert_int_equal(fake_in16(m, STS), 1);
}

static void test_power_button(void **unused)
{
    lpc_press_power_button(lpc);
    assert_false(m->gsi_level[SCI]);
    assert_int_equal(fake_in16(m, STS), 0x100);
    fake_out16(m, EN, 0x100);
    assert_true(m->gsi_level[SCI]);
    fake_out8(m, STS + 1, 0x01);
    assert_false(m->gsi_level[SCI]);
    assert_int_equal(fake_in32(m, STS), 0x01000000);
    lpc_press_power_button(lpc);
    assert_true(m->gsi_level[SCI]);
    reset_lpc();
    assert_false(m->gsi_level[SCI]);
}

static void test_smi_command_switches_acpi_mode(void **unused)
{
    fake_out16(m, EN, 0x100);
    lpc_press_power_button(lpc);
    fake_out8(m, 0xb2, 3);
    assert_int_equal(fake_in16(m, CNT), 0);
    assert_false(m->gsi_level[SCI]);
    fake_out8(m, 0xb2, 2);
    assert_int_equal(fake_in16(m, CNT), 1);
    assert_true(m->gsi_level[SCI]);
    fake_out8(m, 0xb3, 0x5a);
    assert_int_equal(fake_in16(m, 0xb2), 0x5a02);
    fake_out16(m, CNT, 0); /* SCI_EN is read-only for the system */
    assert_int_equal(fake_in16(m, CNT), 1);
}

static void test_soft_off(void **unused)
{
    fake_out16(m, CNT, 0x0001);
    assert_int_equal(m->request_count, 0);
    fake_out16(m, CNT, 0x2001);
    assert_int_equal(fake_machine_last_request(m).request, VM_REQUEST_POWEROFF);
    assert_int_equal(fake_in16(m, CNT), 1);
    fake_out16(m, CNT, 0x2000 | 7 << 10);
    assert_int_equal(m->request_count, 2);
    fake_out16(m, CNT, 0x2000 | 1 << 10); /* S3, which does not exist */
    assert_int_equal(m->request_count, 2);
    assert_int_equal(fake_in16(m, STS) & 0x8000, 0x8000);
    fake_out8(m, CNT + 1, 0x20);
    assert_int_equal(m->request_count, 3);
}

static void test_reset_register(void **unused)
{
    fake_out8(m, 0xcf9, 0x02);
    assert_int_equal(fake_in8(m, 0xcf9), 0x02);
    assert_int_equal(m->request_count, 0);
    fake_out8(m, 0xcf9, 0x06);
    assert_int_equal(fake_machine_last_request(m).request, VM_REQUEST_RESET);
    /* a config address with the same bits has no effect */
    fake_out32(m, 0xcf8, 0x80000600);
    assert_int_equal(m->request_count, 1);
    assert_int_equal(fake_in32(m, 0xcf8), 0x80000600);
}

static void test_gpe_registers(void **unused)
{
    fake_out8(m, PM + 0x2f, 0x80);
    fake_out32(m, PM + 0x28, 0x12345678);
    assert_int_equal(fake_in32(m, PM + 0x28), 0x12345678);
    assert_int_equal(fake_in32(m, PM + 0x2c), 0x80000000);
    assert_int_equal(fake_in32(m, PM + 0x20), 0);
    fake_out32(m, PM + 0x20, ~0u);
    assert_false(m->gsi_level[SCI]);
}

static void test_a_gpe_that_occurs_once_is_there_until_it_is_cleared(void **unused)
{
    fake_out32(m, PM + 0x28, 1 << 5);
    bql_lock();
    lpc_raise_gpe(lpc, 5);
    lpc_raise_gpe(lpc, 6); /* not enabled */
    bql_unlock();
    assert_int_equal(fake_in32(m, PM + 0x20), 3 << 5);
    assert_true(m->gsi_level[SCI]);
    fake_out32(m, PM + 0x20, 1 << 5);
    assert_int_equal(fake_in32(m, PM + 0x20), 1 << 6);
    assert_false(m->gsi_level[SCI]);
}

static void test_timer_goes_on_after_save_and_load(void **unused)
{
    assert_true(state_check_coverage(lpc->type->state, NULL));
    assert_true(state_check_coverage(lpc->type->base_state, NULL));
    fake_machine_advance(m, 1234567);
    fake_out16(m, EN, 0x100);
    lpc_press_power_button(lpc);
    vm_clock_pause();
    uint32_t ticks = fake_in32(m, TMR);
    bql_lock();
    lpc->type->pre_save(lpc);
    bql_unlock();
    g_autoptr(GByteArray) saved = g_byte_array_new();
    state_save(lpc->type->state, lpc, saved);
    reset_lpc();
    vm_clock_set_ns(99); /* another machine's clock */
    size_t used;
    assert_true(state_load(lpc->type->state, lpc, saved->data, saved->len, &used, NULL));
    bql_lock();
    assert_true(lpc->type->post_load(lpc, NULL));
    bql_unlock();
    vm_clock_resume();
    assert_int_equal(fake_in32(m, TMR), ticks);
    assert_true(m->gsi_level[SCI]);
}

static void test_hostile_accesses_do_no_harm(void **unused)
{
    uint32_t x = 7;
    for (unsigned i = 0; i < 20000; i++) {
        x = x * 1664525 + 1013904223;
        unsigned size = 1 + (x >> 16) % 8;
        unsigned port = (x >> 8) % 4 == 0 ? 0xb0 + (x >> 24) % 8 : PM - 8 + (x >> 20) % 0x90;
        if ((x >> 5) % 2 != 0) {
            fake_write(m->env.pio, port, x * UINT64_C(0x100000001), size);
        } else {
            fake_read(m->env.pio, port, size);
        }
        fake_machine_advance(m, x % 4096);
    }
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_identity_and_firmware_checks_are_right),
        TEST(test_pmbase_moves_the_block),
        TEST(test_timer_counts_vm_time_in_24_bits),
        TEST(test_timer_overflow_raises_the_sci),
        TEST(test_power_button),
        TEST(test_smi_command_switches_acpi_mode),
        TEST(test_soft_off),
        TEST(test_reset_register),
        TEST(test_gpe_registers),
        TEST(test_a_gpe_that_occurs_once_is_there_until_it_is_cleared),
        TEST(test_timer_goes_on_after_save_and_load),
        TEST(test_hostile_accesses_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

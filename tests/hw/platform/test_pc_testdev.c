/* SPDX-License-Identifier: Apache-2.0 */
/* pc-testdev, which kvm-unit-tests use. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "tests/support/fake_machine.h"

#define MEMORY UINT64_C(0xff000000)

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

/* ---- pc-testdev ---- */

static void ports_keep_their_value(void **unused)
{
    Device *dev = fake_device(m, "pc-testdev", NULL);
    fake_out32(m, 0xe0, 0x12345678);
    assert_int_equal(fake_in32(m, 0xe0), 0x12345678);
    assert_int_equal(fake_in16(m, 0xe2), 0x1234);
    fake_out8(m, 0xe1, 0xff);
    assert_int_equal(fake_in32(m, 0xe0), 0x1234ff78);
    fake_out16(m, 0xe2, 0xabcd);
    assert_int_equal(fake_in32(m, 0xe8), 0xabcdff78); /* the same bytes, one at a time */
    fake_out32(m, 0xe8, 0x01020304);
    assert_int_equal(fake_in8(m, 0xe3), 0x01);
    fake_device_gone(dev);
    assert_int_equal(fake_in32(m, 0xe0), UINT32_MAX);
}

static void memory_keeps_its_value(void **unused)
{
    Device *dev = fake_device(m, "pc-testdev", NULL);
    AddressSpace *mmio = m->env.mmio;
    fake_write(mmio, MEMORY, 0x1122334455667788, 8);
    assert_int_equal(fake_read(mmio, MEMORY + 3, 2), 0x4455);
    fake_write(mmio, MEMORY + 0xffff, 0xa5, 1);
    assert_int_equal(fake_read(mmio, MEMORY + 0xfffc, 4), 0xa5000000);
    assert_int_equal(fake_read(mmio, MEMORY + 0xfffe, 4) & 0xffff, 0xa500); /* over the end */
    fake_device_gone(dev);
    assert_int_equal(fake_read(mmio, MEMORY, 4), UINT32_MAX);
}

static void each_port_is_an_interrupt_line(void **unused)
{
    Device *dev = fake_device(m, "pc-testdev", NULL);
    fake_out8(m, 0x200e, 1);
    assert_true(m->gsi_level[14]);
    fake_out8(m, 0x2017, 0xff);
    assert_true(m->gsi_level[23]);
    fake_out8(m, 0x200e, 0);
    assert_false(m->gsi_level[14]);
    assert_int_equal(m->gsi_raised[14], 1);
    fake_out32(m, 0x2005, 1); /* one line, whatever the width */
    assert_true(m->gsi_level[5]);
    assert_false(m->gsi_level[6]);
    fake_device_gone(dev);
    assert_false(m->gsi_level[5]);
    assert_false(m->gsi_level[23]);
}

static void a_reset_lowers_lines_and_clears_memory(void **unused)
{
    Device *dev = fake_device(m, "pc-testdev", NULL);
    fake_out8(m, 0x2003, 1);
    fake_out32(m, 0xe0, 1);
    fake_write(m->env.mmio, MEMORY, 1, 4);
    bql_lock();
    dev->type->reset(dev);
    bql_unlock();
    assert_false(m->gsi_level[3]);
    assert_int_equal(fake_in32(m, 0xe0), 0);
    assert_int_equal(fake_read(m->env.mmio, MEMORY, 4), 0);
    fake_device_gone(dev);
}

static void a_flushed_page_keeps_its_data_and_stays_writable(void **unused)
{
    Device *dev = fake_device(m, "pc-testdev", NULL);
    uint32_t *page = guest_ram_map(&m->ram, 0x5000, 4096, true);
    page[1] = 0xdeadbeef;
    fake_out32(m, 0xe4, 0x5123);
    assert_int_equal(page[1], 0xdeadbeef);
    page[1] = 1;
    fake_out32(m, 0xe4, 0xfffff000); /* no RAM */
    assert_int_equal(fake_in32(m, 0xe4), 0);
    fake_device_gone(dev);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(ports_keep_their_value),
        TEST(memory_keeps_its_value),
        TEST(each_port_is_an_interrupt_line),
        TEST(a_reset_lowers_lines_and_clears_memory),
        TEST(a_flushed_page_keeps_its_data_and_stays_writable),
    };
    return cmocka_run_group_tests_name("hw/platform/pc_testdev", tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time and the state of devices: between a save and a load the VM's clock stands, and the host's calendar goes on.
 */
#include "tests/migration/device_state_rig.h"
#include "hw/core/vm_clock.h"
#include "hw/firmware/vmgenid.h"
#include "hw/platform/pm.h"
#include "hw/platform/tco.h"

#define S INT64_C(1000000000)
#define TCO_BASE (PM_DEFAULT_BASE + TCO_OFFSET)

/* In small steps, so that timers that follow one another are not late. */
static void advance(DeviceRack *r, int64_t ns)
{
    for (; ns > 0; ns -= S / 100) {
        fake_machine_advance(r->m, MIN(ns, S / 100));
    }
}

/* A rack in which @begin has been done, @ns ago. */
static Left leave_after(void (*begin)(DeviceRack *r), int64_t ns)
{
    g_autoptr(GError) error = NULL;
    DeviceRack *r = device_rack_new(RACK_WALL_NS);
    begin(r);
    advance(r, ns);
    device_rack_stop(r);
    Left left = {.stream = device_rack_save(r, &error)};
    assert_no_error(error);
    left.guest = device_rack_leave(r);
    device_rack_free(r);
    return left;
}

/* It arrives when the host's calendar is @pause_ns later, and runs. */
static DeviceRack *arrive_after(Left *l, int64_t pause_ns)
{
    l->guest->wall_ns += pause_ns;
    DeviceRack *r = arrive(l);
    load(r, l);
    assert_int_equal(vm_clock_now_ns(), l->guest->clock_ns);
    device_rack_start(r);
    return r;
}

static void gone(DeviceRack *r, Left *l)
{
    device_rack_stop(r);
    device_rack_free(r);
    left_clear(l);
}

/* ---- the VM's clock ---- */

static void begin_pm_timer(DeviceRack *r)
{
}

static void the_acpi_timer_goes_on_where_it_stood(void **state)
{
    Left l = leave_after(begin_pm_timer, 3 * S);
    DeviceRack *r = arrive_after(&l, 3600 * S);
    uint32_t before = fake_in32(r->m, PM_DEFAULT_BASE + 8);
    uint64_t expected = (uint64_t)l.guest->clock_ns * 3579545 / S;
    assert_in_range(before, (expected & 0xffffff) - 1, (expected & 0xffffff) + 1);
    fake_machine_advance(r->m, S);
    assert_in_range((fake_in32(r->m, PM_DEFAULT_BASE + 8) - before) & 0xffffff, 3579544, 3579546);
    gone(r, &l);
}

static void begin_tco(DeviceRack *r)
{
    fake_out16(r->m, TCO_BASE + 0x12, 10); /* 6 s */
    fake_out16(r->m, TCO_BASE + 0x08, 0);
}

/* A watchdog expires after the time that it had left. */
static void a_watchdog_has_the_time_that_it_had(void **state)
{
    Left l = leave_after(begin_tco, 4 * S);
    DeviceRack *r = arrive_after(&l, 3600 * S);
    fake_machine_advance(r->m, 2 * S - S / 10);
    assert_int_equal(fake_in16(r->m, TCO_BASE + 0x04) & 8, 0);
    fake_machine_advance(r->m, S / 5);
    assert_int_equal(fake_in16(r->m, TCO_BASE + 0x04) & 8, 8); /* TIMEOUT */
    gone(r, &l);
}

static void esb_config(DeviceRack *r, unsigned offset, uint32_t value, unsigned size)
{
    const PciDevice *pci = (const PciDevice *)(void *)device_rack_find(r, "i6300esb");
    uint64_t ecam = pci_bus_windows(r->bench->bus)->ecam_base + ((uint64_t)pci->devfn << 12);
    fake_write(r->m->env.mmio, ecam + offset, value, size);
}

/* With preloads of 1 MHz ticks, each of its two stages takes about a second. */
static void begin_esb(DeviceRack *r)
{
    const PciDevice *pci = (const PciDevice *)(void *)device_rack_find(r, "i6300esb");
    esb_config(r, 0x60, 4, 2);
    esb_config(r, 0x68, 2, 1);
    assert_non_null(pci->bars[0].region->space);
}

static void the_pci_watchdog_has_the_time_that_it_had(void **state)
{
    Left l = leave_after(begin_esb, S);
    DeviceRack *r = arrive_after(&l, 3600 * S);
    const int64_t both_ns = 2 * (INT64_C(0xfffff) << 5) * 1000 / 33;
    advance(r, both_ns - S - S / 10);
    assert_int_equal(r->m->request_count, 0);
    advance(r, S / 5);
    assert_int_equal(fake_machine_last_request(r->m).request, VM_REQUEST_WATCHDOG);
    gone(r, &l);
}

/* ---- the calendar ---- */

static void begin_alarm(DeviceRack *r)
{
    static const uint8_t writes[][2] = {{0x0b, 0x26}, {1, 0xff}, {3, 0xff}, {5, 0xff}};
    for (unsigned i = 0; i < G_N_ELEMENTS(writes); i++) {
        fake_out8(r->m, 0x70, writes[i][0]);
        fake_out8(r->m, 0x71, writes[i][1]);
    }
    fake_out8(r->m, 0x70, 0x0c);
    fake_in8(r->m, 0x71);
    fake_out8(r->m, 0x70, 1); /* at the next full minute and a half */
    fake_out8(r->m, 0x71, 30);
}

static uint8_t cmos(DeviceRack *r, uint8_t index)
{
    fake_out8(r->m, 0x70, index);
    return fake_in8(r->m, 0x71);
}

/* 1700000000 is 22:13:20. */
static void the_time_of_day_has_moved_on_and_an_alarm_that_was_due_comes_at_once(void **state)
{
    Left l = leave_after(begin_alarm, S);
    assert_false(l.guest->gsi_level[8]);
    DeviceRack *r = arrive_after(&l, 40 * S);
    assert_true(r->m->gsi_level[8]);
    assert_int_equal(cmos(r, 0x0c) & 0xa0, 0xa0);
    assert_int_equal(cmos(r, 0), 1);
    assert_int_equal(cmos(r, 2), 14);
    assert_int_equal(cmos(r, 4), 22);
    gone(r, &l);
}

static void an_alarm_that_is_not_due_waits(void **state)
{
    Left l = leave_after(begin_alarm, S);
    DeviceRack *r = arrive_after(&l, 5 * S);
    assert_false(r->m->gsi_level[8]);
    fake_machine_advance(r->m, 5 * S);
    assert_true(r->m->gsi_level[8]);
    gone(r, &l);
}

static void begin_ticks(DeviceRack *r)
{
    fake_out8(r->m, 0x70, 0x0a);
    fake_out8(r->m, 0x71, 0x2f); /* 2 Hz, no interrupt */
    cmos(r, 0x0c);
}

/* A guest that polls the flag finds the tick of before the save. */
static void a_tick_that_nobody_has_seen_is_saved(void **state)
{
    Left l = leave_after(begin_ticks, S);
    DeviceRack *r = arrive_after(&l, 0);
    assert_int_equal(cmos(r, 0x0c) & 0x40, 0x40);
    assert_int_equal(cmos(r, 0x0c) & 0x40, 0);
    gone(r, &l);
}

/* ---- identity ---- */

static uint64_t genid_gpa;

static void begin_genid(DeviceRack *r)
{
    genid_gpa = virtio_bench_alloc(r->bench, 4096);
    bql_lock();
    assert_true(vmgenid_place(device_rack_find(r, "vmgenid"), genid_gpa));
    bql_unlock();
}

/* The guest's memory has the id of the process that loaded it, marked as written. */
static void the_generation_id_is_that_of_the_new_process(void **state)
{
    Left l = leave_after(begin_genid, S);
    memset(l.guest->ram + genid_gpa, 0xee, 4096); /* as if another process had saved it */
    DeviceRack *r = arrive_after(&l, 0);
    const uint8_t *page = virtio_bench_ram(r->bench, genid_gpa, 4096);
    assert_int_equal(page[39], 0xee);
    assert_int_equal(page[40], 0x33); /* 00112233-... */
    assert_int_equal(page[55], 0xff);
    assert_int_equal(page[56], 0xee);
    gone(r, &l);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_acpi_timer_goes_on_where_it_stood),
        cmocka_unit_test(a_watchdog_has_the_time_that_it_had),
        cmocka_unit_test(the_pci_watchdog_has_the_time_that_it_had),
        cmocka_unit_test(the_time_of_day_has_moved_on_and_an_alarm_that_was_due_comes_at_once),
        cmocka_unit_test(an_alarm_that_is_not_due_waits),
        cmocka_unit_test(a_tick_that_nobody_has_seen_is_saved),
        cmocka_unit_test(the_generation_id_is_that_of_the_new_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* PCI's Bus Master Enable: without it a device accesses no guest memory. PCI 3.0 §6.2.2 */
#include "tests/hw/virtio/virtio_blk_bench.h"

#define COMMAND 0x04
#define MEMORY 2
#define MASTER 4
#define CONFIG_DATA 0x100 /* of the MSI-X vectors, see virtio_guest_enable_msix() */
#define QUEUE_DATA 0x101

static MmioResult write_command(Fixture *f, IoAccess *a, uint64_t value, unsigned size)
{
    *a = (IoAccess){.size = (uint8_t)size, .is_write = true, .value = value};
    return virtio_guest_access(&f->guest, virtio_guest_ecam(&f->guest) + COMMAND, a);
}

static uint64_t read_command(Fixture *f)
{
    return virtio_guest_read(&f->guest, virtio_guest_ecam(&f->guest) + COMMAND, 2);
}

static BlkRequest request_of(Fixture *f)
{
    BlkRequest r;
    blk_request_init(&r, &f->queue, 512);
    return r;
}

/* The request is sent and kicked, and not taken. */
static void assert_untouched(Fixture *f, BlkRequest *r)
{
    uint32_t id, len;
    assert_false(virtio_guest_used(&f->queue, &id, &len));
    assert_int_equal(blk_request_status(r), BLK_PENDING);
    assert_int_equal(block_mem_waiting(f->disk.node), 0);
}

static void assert_served(Fixture *f, BlkRequest *r)
{
    uint32_t id, len;
    assert_true(virtio_guest_used(&f->queue, &id, &len));
    assert_int_equal(id, r->head);
    assert_int_equal(blk_request_status(r), BLK_OK);
}

static void a_driver_without_it_is_not_served_until_it_sets_it(void **state)
{
    Fixture *f = *state;
    bring_up_disk(f, "size=1M", NULL, ~0ull);
    assert_true(virtio_guest_negotiate(&f->guest, ~0ull));
    virtio_guest_set_master(&f->guest, false);
    virtio_guest_queue(&f->guest, &f->queue, 0, 0, 1);
    virtio_guest_driver_ok(&f->guest);
    BlkRequest r = request_of(f);
    blk_request_send(&r, BLK_IN, 0, 512);
    assert_untouched(f, &r);
    assert_int_equal(virtio_guest_status(&f->guest), 15);
    virtio_guest_set_master(&f->guest, true);
    assert_served(f, &r);
}

static void kicks_while_it_is_clear_are_not_lost(void **state)
{
    Fixture *f = *state;
    bring_up(f, NULL);
    BlkRequest r = request_of(f);
    for (unsigned i = 0; i < 20; i++) {
        virtio_guest_set_master(&f->guest, false);
        blk_request_send(&r, BLK_IN, 0, 512);
        if (i % 2) {
            virtio_guest_kick(&f->queue);
        }
        assert_untouched(f, &r);
        virtio_guest_set_master(&f->guest, true);
        assert_served(f, &r);
    }
}

static void clearing_it_retires_when_nothing_is_in_flight(void **state)
{
    Fixture *f = *state;
    IoAccess clear, other;
    bring_up_disk(f, "size=1M,manual=on", NULL, ~0ull);
    BlkRequest held = request_of(f), late = request_of(f);
    blk_request_send(&held, BLK_IN, 0, 512);
    virtio_bench_settle(f->bench);
    assert_int_equal(write_command(f, &clear, MEMORY, 2), MMIO_PENDING);
    assert_int_equal(write_command(f, &other, 0x400 | MEMORY, 2), MMIO_PENDING); /* another vCPU */
    virtio_bench_settle(f->bench); /* until then the iothread may take requests */
    blk_request_send(&late, BLK_IN, 0, 512);
    virtio_bench_settle(f->bench);
    assert_false(completion_done(&clear.waiter.done));
    assert_int_equal(read_command(f), MEMORY | MASTER);
    assert_int_equal(block_mem_waiting(f->disk.node), 1); /* the late one was not taken */

    assert_true(blk_disk_complete(&f->disk, 0));
    assert_true(completion_done(&clear.waiter.done));
    assert_true(completion_done(&other.waiter.done));
    fake_machine_settle(f->bench->machine);
    assert_int_equal(fake_machine_delivered(f->bench->machine, QUEUE_DATA), 1);
    assert_int_equal(write_command(f, &clear, MEMORY, 2), MMIO_DONE);
    assert_int_equal(read_command(f), MEMORY);
    assert_int_equal(write_command(f, &other, 0x400 | MEMORY, 2), MMIO_DONE);
    assert_served(f, &held);
    assert_untouched(f, &late);
    blk_disk_set_manual(&f->disk, false);
    virtio_guest_set_master(&f->guest, true);
    assert_served(f, &late);
}

/* A pended write of a vCPU is dispatched again; other vCPUs' writes came before it. */
static void writes_meanwhile_do_not_undo_a_pended_write(void **state)
{
    Fixture *f = *state;
    IoAccess clear, set;
    bring_up_disk(f, "size=1M,manual=on", NULL, ~0ull);
    BlkRequest held = request_of(f), late = request_of(f);
    blk_request_send(&held, BLK_IN, 0, 512);
    virtio_bench_settle(f->bench);
    assert_int_equal(write_command(f, &clear, MEMORY, 2), MMIO_PENDING);
    assert_int_equal(write_command(f, &set, 0x400 | MEMORY | MASTER, 2), MMIO_DONE);
    assert_true(blk_disk_complete(&f->disk, 0));
    assert_true(completion_done(&clear.waiter.done));
    assert_int_equal(write_command(f, &clear, MEMORY, 2), MMIO_DONE);
    assert_served(f, &held);
    blk_request_send(&late, BLK_IN, 0, 512);
    assert_untouched(f, &late);
}

static void a_reset_meanwhile_finishes_both(void **state)
{
    Fixture *f = *state;
    IoAccess clear, status = {.size = 1};
    bring_up_disk(f, "size=1M,manual=on", NULL, ~0ull);
    BlkRequest held = request_of(f);
    blk_request_send(&held, BLK_IN, 0, 512);
    virtio_bench_settle(f->bench);
    assert_int_equal(write_command(f, &clear, MEMORY, 2), MMIO_PENDING);
    virtio_guest_set_status(&f->guest, 0);
    assert_int_equal(
        virtio_guest_access(&f->guest, f->guest.common + VIRTIO_COMMON_STATUS, &status),
        MMIO_PENDING);
    assert_true(blk_disk_complete(&f->disk, 0));
    assert_true(completion_done(&status.waiter.done));
    assert_true(completion_done(&clear.waiter.done));
    assert_int_equal(write_command(f, &clear, MEMORY, 2), MMIO_DONE);
    assert_int_equal(virtio_guest_status(&f->guest), 0);
    assert_int_equal(read_command(f), MEMORY);
}

static void only_the_bit_itself_counts(void **state)
{
    Fixture *f = *state;
    IoAccess a;
    bring_up(f, NULL);
    BlkRequest r = request_of(f);
    uint64_t high = virtio_guest_ecam(&f->guest) + COMMAND + 1;
    virtio_guest_write(&f->guest, high, 0, 1); /* the other byte of the register */
    assert_int_equal(write_command(f, &a, MASTER | MEMORY, 1), MMIO_DONE);
    assert_int_equal(write_command(f, &a, 0xffff0000u | MASTER | MEMORY, 4), MMIO_DONE);
    assert_int_equal(blk_request_run(&r, BLK_IN, 0, 512), BLK_OK);
    for (unsigned size = 1; size <= 4; size *= 2) {
        virtio_guest_write(&f->guest, virtio_guest_ecam(&f->guest) + COMMAND, MEMORY, size);
        blk_request_send(&r, BLK_IN, 0, 512);
        assert_untouched(f, &r);
        virtio_guest_set_master(&f->guest, true);
        assert_served(f, &r);
    }
}

static void stop_and_cont_leave_it_clear(void **state)
{
    Fixture *f = *state;
    bring_up(f, NULL);
    BlkRequest r = request_of(f);
    virtio_guest_set_master(&f->guest, false);
    blk_request_send(&r, BLK_IN, 0, 512);
    virtio_bench_stop(f->bench, f->dev);
    virtio_bench_start(f->bench, f->dev);
    assert_untouched(f, &r);
    virtio_guest_set_master(&f->guest, true);
    assert_served(f, &r);
    virtio_bench_stop(f->bench, f->dev);
    virtio_guest_set_master(&f->guest, false);
    virtio_guest_set_master(&f->guest, true);
    blk_request_send(&r, BLK_IN, 0, 512);
    assert_untouched(f, &r);
    virtio_bench_start(f->bench, f->dev);
    assert_served(f, &r);
}

static void saved_state_has_it(void **state)
{
    Fixture *f = *state;
    bring_up(f, NULL);
    BlkRequest r = request_of(f);
    virtio_guest_set_master(&f->guest, false);
    blk_request_send(&r, BLK_IN, 0, 512);
    virtio_bench_stop(f->bench, f->dev);
    g_autoptr(GByteArray) clear = virtio_bench_save(f->bench, f->dev);
    virtio_guest_set_master(&f->guest, true);
    g_autoptr(GByteArray) set = virtio_bench_save(f->bench, f->dev);
    assert_null(virtio_bench_load(f->bench, f->dev, clear));
    virtio_bench_start(f->bench, f->dev);
    assert_untouched(f, &r);
    virtio_bench_stop(f->bench, f->dev);
    assert_null(virtio_bench_load(f->bench, f->dev, set));
    virtio_bench_start(f->bench, f->dev);
    assert_served(f, &r);
}

static void a_system_reset_clears_it(void **state)
{
    Fixture *f = *state;
    bring_up(f, NULL);
    virtio_bench_reset(f->bench, f->dev);
    assert_int_equal(read_command(f) & MASTER, 0);
    virtio_guest_enable_msix(&f->guest);
    assert_int_equal(f->bench->machine->attached, 0);
    virtio_guest_set_master(&f->guest, true);
    assert_true(f->bench->machine->attached > 0);
}

static void a_device_without_it_can_be_unplugged(void **state)
{
    Fixture *f = *state;
    bring_up(f, NULL);
    BlkRequest r = request_of(f);
    virtio_guest_set_master(&f->guest, false);
    blk_request_send(&r, BLK_IN, 0, 512);
    virtio_bench_unplug(f->bench, f->dev);
    blk_disk_close(&f->disk);
    f->dev = NULL;
}

static void an_interrupt_waits_for_it(void **state)
{
    Fixture *f = *state;
    FakeMachine *m = f->bench->machine;
    bring_up(f, NULL);
    virtio_guest_set_master(&f->guest, false);
    bql_lock();
    virtio_config_changed(&f->guest.dev->vdev);
    bql_unlock();
    fake_machine_settle(m);
    assert_int_equal(fake_machine_delivered(m, CONFIG_DATA), 0);
    virtio_guest_set_master(&f->guest, true);
    fake_machine_settle(m);
    assert_int_equal(fake_machine_delivered(m, CONFIG_DATA), 1);
}

static void clearing_and_setting_under_load_loses_no_request(void **state)
{
    Fixture *f = *state;
    uint32_t id, len;
    bring_up(f, NULL);
    BlkRequest r = request_of(f);
    for (unsigned i = 0; i < 300; i++) {
        blk_request_send(&r, BLK_IN, 0, 512);
        virtio_guest_set_master(&f->guest, false); /* waits for the request if it was taken */
        virtio_guest_set_master(&f->guest, true);
        assert_true(virtio_guest_used(&f->queue, &id, &len));
        assert_int_equal(id, r.head);
        assert_int_equal(blk_request_status(&r), BLK_OK);
        assert_false(vring_driver_take_used(&f->queue.ring, &id, &len)); /* once */
    }
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_driver_without_it_is_not_served_until_it_sets_it),
        TEST(kicks_while_it_is_clear_are_not_lost),
        TEST(clearing_it_retires_when_nothing_is_in_flight),
        TEST(writes_meanwhile_do_not_undo_a_pended_write),
        TEST(a_reset_meanwhile_finishes_both),
        TEST(only_the_bit_itself_counts),
        TEST(stop_and_cont_leave_it_clear),
        TEST(saved_state_has_it),
        TEST(a_system_reset_clears_it),
        TEST(a_device_without_it_can_be_unplugged),
        TEST(an_interrupt_waits_for_it),
        TEST(clearing_and_setting_under_load_loses_no_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

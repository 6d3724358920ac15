/* SPDX-License-Identifier: Apache-2.0 */
/* Removals of devices whose requests hang: they hold nothing that others need. */
#include "tests/vmm/vm/hotplug_rig.h"

#include "hw/scsi/scsi.h"

#define RNG "{'driver':'virtio-rng-pci','id':'rng'}"

/* ---- hanging devices ---- */

static void hang_disk(void)
{
    plug_disk();
    blk_request_send(&rig->request, BLK_OUT, 0, 512);
    rig_settle();
    assert_int_equal(block_mem_waiting(rig->disk.node), 1);
}

/* A command to LUN 0 whose read the disk holds. */
typedef struct HungCommand {
    ScsiRequest r;
    uint8_t data[2048];
    struct iovec iov;
    ScsiOutcome outcome;
    bool ended;
} HungCommand;

static HungCommand hung;

static void hung_run(void *opaque)
{
    enter_coroutine();
    enter_iothread(hung.r.bus->home);
    hung.outcome = scsi_request_co_run(&hung.r);
    hung.ended = true;
}

static void clear_attentions(void *opaque)
{
    enter_coroutine();
    enter_iothread(hung.r.bus->home);
    ScsiLun *lun = scsi_bus_find(hung.r.bus, 0, 0);
    __atomic_store_n(&lun->state.attentions, 0, __ATOMIC_RELAXED);
}

static RUNS_IN_MAIN void hang_lun(const char *type)
{
    static const uint8_t read_one[10] = {SCSI_READ_10, 0, 0, 0, 0, 0, 0, 0, 1};
    g_autofree char *lun = g_strdup_printf("{'driver':'%s','id':'lun','drive':'disk'}", type);
    execute("device_add", "{'driver':'virtio-scsi-pci','id':'scsi','addr':'5'}");
    execute("device_add", lun);
    hung = (HungCommand){
        .r.bus = device("scsi")->child_bus, .r.in_num = 1, .r.in_len = sizeof(hung.data)};
    hung.iov = (struct iovec){.iov_base = hung.data, .iov_len = sizeof(hung.data)};
    hung.r.in = &hung.iov;
    memcpy(hung.r.cdb, read_one, sizeof(read_one));
    co_start(hung.r.bus->home, clear_attentions, NULL);
    co_start(hung.r.bus->home, hung_run, NULL);
    rig_settle();
    assert_int_equal(block_mem_waiting(rig->disk.node), 1);
}

/* Time for everything that has a limit. */
static void pass_time(void)
{
    aio_context_set_virtual_time(rig->vm.ctx, aio_now_ns(rig->vm.ctx) + SECOND_NS / 10);
    rig_settle();
}

static void another_device_comes_and_goes(void)
{
    Command add, del;
    command_start(&add, "device_add", RNG);
    assert_true(add.done);
    assert_null(add.error);
    command_clear(&add);
    command_start(&del, "device_del", "{'id':'rng'}");
    assert_true(del.done);
    command_clear(&del);
}

static void refuse(const char *name, const char *args, const char *text)
{
    Command c;
    command_start(&c, name, args);
    assert_true(c.done);
    assert_non_null(c.error);
    assert_string_equal(c.error, text);
    command_clear(&c);
}

/* ---- tests ---- */

static void a_disk_that_hangs_after_its_ejection_holds_nothing(void **state)
{
    enter_main();
    hang_disk();
    out32(EJECT, 1u << SLOT);
    rig_settle();
    another_device_comes_and_goes();
    refuse("device_add", DISK, "Duplicate device ID 'disk'");
    refuse("device_del", "{'id':'disk'}", "Device disk is already in the process of unplug");
    assert_string_equal(rig->deleted->str, "");
    complete_all();
    assert_string_equal(rig->deleted->str, "disk ");
    execute("device_add", DISK);
}

static void a_scsi_disk_that_hangs_is_removed_when_its_requests_have_ended(void **state)
{
    Command del;
    enter_main();
    hang_lun("scsi-hd");
    command_start(&del, "device_del", "{'id':'lun'}");
    pass_time();
    assert_true(del.done);
    assert_null(del.error);
    command_clear(&del);
    another_device_comes_and_goes();
    refuse("device_del", "{'id':'lun'}", "Device lun is already in the process of unplug");
    assert_non_null(device("lun"));
    assert_string_equal(rig->deleted->str, "");
    complete_all();
    assert_true(hung.ended && hung.outcome == SCSI_ABORTED);
    assert_string_equal(rig->deleted->str, "lun ");
    assert_null(device("lun"));
}

/* The controller is ejected meanwhile; nothing is plugged into it any more. */
static void a_controller_goes_after_its_disk_that_hangs(void **state)
{
    Command del;
    enter_main();
    hang_lun("scsi-hd");
    command_start(&del, "device_del", "{'id':'lun'}");
    pass_time();
    assert_true(del.done);
    command_clear(&del);
    out32(EJECT, 1u << SLOT);
    rig_settle();
    refuse("device_add", "{'driver':'scsi-cd','id':'cd','bus':'scsi.0'}", "Bus 'scsi.0' not found");
    another_device_comes_and_goes();
    assert_string_equal(rig->deleted->str, "");
    complete_all();
    assert_string_equal(rig->deleted->str, "lun scsi ");
}

/* A medium that hangs stays on the open tray until its requests have ended. */
static void a_medium_that_hangs_is_not_taken_out(void **state)
{
    Command eject;
    enter_main();
    hang_lun("scsi-cd");
    command_start(&eject, "eject", "{'id':'lun'}");
    while (!eject.done) { /* it waits on the clock of the iothread */
        virtio_bench_step(rig->bench);
    }
    assert_string_equal(eject.error,
                        "The medium of device 'lun' is in use: requests to node 'disk' have not "
                        "ended. It is on the open tray; try again");
    command_clear(&eject);
    another_device_comes_and_goes();
    complete_all();
    assert_true(hung.ended && hung.outcome == SCSI_ABORTED);
    assert_non_null(blk_find("lun"));
    execute("blockdev-remove-medium", "{'id':'lun'}");
    assert_null(blk_find("lun"));
    execute("blockdev-insert-medium", "{'id':'lun','node-name':'disk'}");
    assert_non_null(blk_find("lun"));
}

/* A stop waits for the disk, as always; the removal ends at the latest with the reset. */
static void a_reset_ends_a_removal_under_way(void **state)
{
    Command del;
    enter_main();
    hang_lun("scsi-hd");
    command_start(&del, "device_del", "{'id':'lun'}");
    pass_time();
    command_clear(&del);
    out32(EJECT, 1u << SLOT);
    run_state_request_reset(&rig->vm.run);
    rig_settle();
    assert_int_equal(rig->resets, 0);
    complete_all();
    assert_int_equal(rig->resets, 1);
    assert_string_equal(rig->deleted->str, "lun scsi ");
    assert_string_equal(run_state_name(&rig->vm.run), "running");
}

static void request_stop_and_start(void *arg, const void *object)
{
    sched_point_hook("hotplug.remove", NULL, NULL); /* once */
    run_state_request_stop(&rig->vm.run, STOP_PAUSED);
    run_state_request_start(&rig->vm.run);
}

/* The queues of a device that leaves are taken back once, although the VM starts again. */
static void a_device_that_leaves_is_not_started(void **state)
{
    enter_main();
    hang_disk();
    sched_point_hook("hotplug.remove", request_stop_and_start, NULL);
    out32(EJECT, 1u << SLOT);
    complete_all();
    assert_string_equal(rig->deleted->str, "disk ");
    assert_string_equal(run_state_name(&rig->vm.run), "running");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(a_disk_that_hangs_after_its_ejection_holds_nothing),
        T(a_scsi_disk_that_hangs_is_removed_when_its_requests_have_ended),
        T(a_controller_goes_after_its_disk_that_hangs),
        T(a_medium_that_hangs_is_not_taken_out),
        T(a_reset_ends_a_removal_under_way),
        T(a_device_that_leaves_is_not_started),
    };
    return cmocka_run_group_tests_name("vmm/vm/vm_removal", tests, NULL, NULL);
}

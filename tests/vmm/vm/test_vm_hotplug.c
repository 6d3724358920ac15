/* SPDX-License-Identifier: Apache-2.0 */
/* device_add and device_del: plug and unplug, with requests in flight, in every run state. */
#include "tests/vmm/vm/hotplug_rig.h"

#include "tests/support/fake_chardev.h"

static void refuse(const char *name, const char *args, const char *text)
{
    Command c;
    command_start(&c, name, args);
    assert_true(c.done);
    assert_non_null(c.error);
    assert_non_null(strstr(c.error, text));
    command_clear(&c);
}

static void hold_one(void)
{
    unsigned before = block_mem_waiting(rig->disk.node);
    blk_request_send(&rig->request, BLK_OUT, 0, 512);
    rig_settle();
    assert_int_equal(block_mem_waiting(rig->disk.node), before + 1);
}

static void a_disk_is_plugged_used_and_unplugged(void **state)
{
    enter_main();
    for (unsigned round = 0; round < 20; round++) {
        plug_disk();
        assert_int_equal(in32(PRESENT) >> SLOT & 1, 1);
        assert_int_equal(blk_request_run(&rig->request, BLK_OUT, round, 512), BLK_OK);
        execute("device_del", "{'id':'disk'}");
        assert_string_equal(rig->deleted->str, "");
        out32(WANTED, 1u << SLOT);
        out32(EJECT, 1u << SLOT);
        rig_settle();
        assert_string_equal(rig->deleted->str, "disk ");
        assert_null(device("disk"));
        assert_null(blk_find("disk"));
        g_string_truncate(rig->deleted, 0);
    }
}

static void an_ejection_waits_for_requests_in_flight_but_no_vcpu_does(void **state)
{
    enter_main();
    plug_disk();
    hold_one();
    out32(EJECT, 1u << SLOT); /* retires at once */
    assert_int_equal(in32(PRESENT) >> SLOT & 1, 0);
    rig_settle();
    assert_string_equal(rig->deleted->str, "");
    refuse("device_list", "{}", "has not been found"); /* main continues */
    complete_all();
    assert_string_equal(rig->deleted->str, "disk ");
}

/* A driver's reset is under way when another vCPU ejects the device. */
static void a_waiting_access_ends_with_an_empty_slot(void **state)
{
    IoAccess status = {.size = 1};
    enter_main();
    plug_disk();
    uint64_t gpa = rig->guest.common + VIRTIO_COMMON_STATUS;
    hold_one();
    virtio_guest_set_status(&rig->guest, 0);
    assert_int_equal(virtio_guest_access(&rig->guest, gpa, &status), MMIO_PENDING);
    out32(EJECT, 1u << SLOT);
    rig_settle();
    assert_false(completion_done(&status.waiter.done));
    complete_all();
    assert_string_equal(rig->deleted->str, "disk ");
    assert_true(completion_done(&status.waiter.done));
    assert_int_equal(virtio_guest_access(&rig->guest, gpa, &status), MMIO_DONE);
    assert_int_equal(status.value, 0xff);
}

/* Without function 0 the guest cannot find the others, and has nothing to eject. */
static void a_device_unknown_to_the_guest_is_removed_without_a_request(void **state)
{
    enter_main();
    execute("device_add", "{'driver':'virtio-rng-pci','id':'one','addr':'6.1'}");
    execute("device_add", "{'driver':'virtio-rng-pci','id':'two','addr':'6.2'}");
    assert_int_equal(in32(PRESENT) >> 6 & 1, 0);
    execute("device_del", "{'id':'one'}");
    assert_string_equal(rig->deleted->str, "one ");
    assert_int_equal(in32(WANTED), 0);
    execute("device_add",
            "{'driver':'virtio-rng-pci','id':'zero','addr':'6','multifunction':'on'}");
    assert_int_equal(in32(PRESENT) >> 6 & 1, 1);
    execute("device_del", "{'id':'two'}");
    assert_int_equal(in32(WANTED), 1u << 6);
    out32(EJECT, 1u << 6);
    rig_settle();
    assert_null(device("zero"));
    assert_null(device("two"));
}

static void a_reset_counts_as_an_ejection(void **state)
{
    enter_main();
    plug_disk();
    execute("device_add", "{'driver':'virtio-rng-pci','id':'stays','addr':'6'}");
    execute("device_del", "{'id':'disk'}");
    out32(WANTED, 1u << SLOT); /* it has read the request, and does not answer */
    hold_one();
    run_state_request_reset(&rig->vm.run);
    rig_settle();
    assert_string_equal(rig->deleted->str, "");
    complete_all();
    assert_string_equal(rig->deleted->str, "disk ");
    assert_int_equal(rig->resets, 1);
    assert_non_null(device("stays"));
    assert_string_equal(run_state_name(&rig->vm.run), "running");
}

static void a_reset_right_after_an_ejection_removes_once(void **state)
{
    enter_main();
    plug_disk();
    hold_one();
    run_state_request_reset(&rig->vm.run);
    out32(EJECT, 1u << SLOT);
    rig_settle();
    complete_all();
    assert_string_equal(rig->deleted->str, "disk ");
    assert_int_equal(rig->resets, 1);
}

static void a_device_is_plugged_and_unplugged_while_the_vm_is_stopped(void **state)
{
    enter_main();
    run_state_request_stop(&rig->vm.run, STOP_PAUSED);
    rig_settle();
    plug_disk();
    blk_request_send(&rig->request, BLK_OUT, 0, 512);
    rig_settle();
    assert_int_equal(block_mem_waiting(rig->disk.node), 0);
    run_state_request_start(&rig->vm.run);
    rig_settle();
    assert_int_equal(block_mem_waiting(rig->disk.node), 1); /* its queues were handed over */
    out32(EJECT, 1u << SLOT);
    run_state_request_stop(&rig->vm.run, STOP_PAUSED);
    rig_settle();
    complete_all();
    assert_string_equal(rig->deleted->str, "disk ");
    assert_string_equal(run_state_name(&rig->vm.run), "paused");
}

static void a_refused_device_leaves_nothing(void **state)
{
    enter_main();
    const char *const bad[] = {
        "{'driver':'virtio-blk-pci','id':'x','drive':'nothing'}",
        "{'driver':'virtio-blk-pci','id':'x','drive':'disk','queue-size':3}",
        "{'driver':'virtio-blk-pci','id':'x','drive':'disk','iothread':'none'}",
        "{'driver':'virtio-blk-pci','id':'x','drive':'disk','addr':'1f'}",
        "{'driver':'virtio-blk-pci','id':'x','drive':'disk','addr':[1]}",
        "{'driver':'virtio-blk-pci','id':'x','drive':'disk','addr':null}",
        "{'driver':'virtio-blk-pci','id':'x','drive':{'a':1}}",
        "{'driver':'virtio-blk-pci','id':'x','drive':'disk','a b':1}",
        "{'driver':'virtio-blk-pci','id':'','drive':'disk'}",
        "{'driver':'virtio-blk-pci','id':'x','drive':'disk','packed':true}",
        "{'driver':'','id':'x'}",
        "{'driver':'virtserialport','id':'x'}",
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        refuse("device_add", bad[i], "");
        assert_int_equal(rig->vm.machine.devices->len, 0);
        assert_null(blk_find("x"));
        assert_int_equal(in32(PRESENT), 1u << 31); /* the bench has no host bridge */
    }
    plug_disk();
}

static bool refuse_to_start(Device *dev, GError **error)
{
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_IO, "disk: no back end");
    return false;
}

static DeviceType refusing_type;

static void let_it_refuse(void *arg, const void *object)
{
    Device *dev = (Device *)(uintptr_t)object;
    refusing_type = *dev->type;
    refusing_type.co_start = refuse_to_start;
    dev->type = &refusing_type;
}

static void a_device_whose_queues_are_refused_leaves_nothing(void **state)
{
    enter_main();
    sched_point_hook("hotplug.realized", let_it_refuse, NULL);
    refuse("device_add", DISK, "disk: no back end");
    sched_point_hook("hotplug.realized", NULL, NULL);
    assert_int_equal(rig->vm.machine.devices->len, 0);
    assert_string_equal(rig->deleted->str, "");
    assert_int_equal(in32(PRESENT), 1u << 31);
    assert_string_equal(run_state_name(&rig->vm.run), "running");
    plug_disk();
}

static void a_port_is_removed_at_once_and_with_its_device(void **state)
{
    enter_main();
    FakeChardev *chardev = fake_chardev_new("c0");
    execute("device_add", "{'driver':'virtio-serial-pci','id':'serial','addr':'5'}");
    for (unsigned round = 0; round < 3; round++) {
        execute("device_add", "{'driver':'virtserialport','id':'port','chardev':'c0'}");
        refuse("device_add", "{'driver':'virtserialport','id':'two','chardev':'c0'}", "c0");
        execute("device_del", "{'id':'/machine/peripheral/port'}");
        assert_string_equal(rig->deleted->str, "port ");
        g_string_truncate(rig->deleted, 0);
    }
    execute("device_add", "{'driver':'virtserialport','id':'port','chardev':'c0'}");
    execute("device_add", "{'driver':'virtconsole'}");
    out32(EJECT, 1u << SLOT);
    rig_settle();
    assert_string_equal(rig->deleted->str, "port ? serial ");
    fake_chardev_free(chardev);
}

/* ---- disks without an id ---- */

static void query_block_run(void *opaque)
{
    char **text = opaque;
    enter_main();
    enter_coroutine();
    struct json_object *list = qmp_co_execute(&rig->vm, NULL, "query-block", NULL, NULL);
    *text = g_strdup(json_object_to_json_string_ext(list, JSON_C_TO_STRING_PLAIN |
                                                              JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(list);
}

static char *query_block(void)
{
    char *text = NULL;
    co_start(rig->vm.ctx, query_block_run, &text);
    rig_settle();
    return text;
}

static void disks_without_an_id_have_paths_of_their_own(void **state)
{
    enter_main();
    execute("blockdev-add", "{'driver':'null-co','node-name':'n1','size':1048576}");
    execute("device_add", "{'driver':'virtio-blk-pci','drive':'disk','addr':'5'}");
    execute("device_add", "{'driver':'virtio-blk-pci','drive':'n1','addr':'6'}");
    g_autofree char *both = query_block();
    assert_non_null(strstr(both, "\"qdev\":\"/machine/peripheral-anon/device[0]/virtio-backend\""));
    assert_non_null(strstr(both, "\"qdev\":\"/machine/peripheral-anon/device[1]/virtio-backend\""));
    out32(EJECT, 1u << 5);
    rig_settle();
    execute("device_add", "{'driver':'virtio-blk-pci','drive':'disk','addr':'5'}");
    g_autofree char *again = query_block();
    const char *second = strstr(again, "device[1]/virtio-backend"), *node = strstr(again, "\"n1\"");
    const char *third = strstr(again, "device[2]/virtio-backend");
    assert_true(second != NULL && node > second && third != NULL);
    assert_true(third > node || second > third); /* n1 is that of device[1] */
    out32(EJECT, 1u << 5 | 1u << 6);
    rig_settle();
    execute("blockdev-del", "{'node-name':'n1'}");
}

/* ---- quit ---- */

static void quit_ends(ExitStatus status)
{
    enter_main();
    vm_quit(&rig->vm, status);
    rig_settle();
    aio_context_set_virtual_time(rig->vm.ctx, aio_now_ns(rig->vm.ctx) + 6 * SECOND_NS);
    aio_context_run(rig->vm.ctx); /* ends only by the quit */
    assert_int_equal(rig->vm.life.exit_status, status);
    complete_all();
}

static void quit_while_an_unplug_request_is_pending(void **state)
{
    enter_main();
    plug_disk();
    hold_one();
    execute("device_del", "{'id':'disk'}");
    quit_ends(EXIT_STATUS_TIMEOUT);
}

static void quit_while_a_removal_waits(void **state)
{
    enter_main();
    plug_disk();
    hold_one();
    out32(EJECT, 1u << SLOT);
    rig_settle();
    quit_ends(EXIT_STATUS_TIMEOUT);
    assert_string_equal(rig->deleted->str, "disk ");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_disk_is_plugged_used_and_unplugged, set_up_fast,
                                        tear_down),
        T(an_ejection_waits_for_requests_in_flight_but_no_vcpu_does),
        T(a_waiting_access_ends_with_an_empty_slot),
        T(a_device_unknown_to_the_guest_is_removed_without_a_request),
        T(a_reset_counts_as_an_ejection),
        T(a_reset_right_after_an_ejection_removes_once),
        T(a_device_is_plugged_and_unplugged_while_the_vm_is_stopped),
        T(a_refused_device_leaves_nothing),
        T(a_device_whose_queues_are_refused_leaves_nothing),
        T(a_port_is_removed_at_once_and_with_its_device),
        T(disks_without_an_id_have_paths_of_their_own),
        T(quit_while_an_unplug_request_is_pending),
        T(quit_while_a_removal_waits),
    };
    return cmocka_run_group_tests_name("vmm/vm/vm_hotplug", tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The balloon in QMP: commands, event, properties. tests/hw/virtio/test_virtio_balloon.c tests the
 * device. */
#include "hw/virtio/virtio_balloon.h"
#include "tests/vmm/monitor/qmp/qmp_rig.h"

#define RAM_BYTES (UINT64_C(64) << 20)

static char balloon_id[] = "b0", balloon_path[] = "/machine/peripheral/b0";

/* A balloon without a transport: main's side needs the state and the size of RAM only. */
static VirtioBalloon *add_balloon(QmpRig *rig, VirtioBalloon *b)
{
    static VirtioLane lane; /* stopped */
    GuestRam *ram = &rig->vm.machine.ram;
    *ram = (GuestRam){.count = 1, .blocks = {{.size = RAM_BYTES, .fd = -1}}};
    rig->vm.machine.env.ram = ram;
    rig->vm.machine.env.main_ctx = rig->vm.ctx;
    *b = (VirtioBalloon){0};
    b->base.pci.base = (Device){.type = &virtio_balloon_pci_type,
                                .id = balloon_id,
                                .path = balloon_path,
                                .env = &rig->vm.machine.env,
                                .realized = true};
    b->base.vdev.state = &b->state.virtio;
    b->base.vdev.dev = &b->base.pci.base;
    b->base.vdev.home = rig->vm.ctx;
    b->base.vdev.lanes = &lane;
    virtio_balloon_stats_init(b);
    g_ptr_array_add(rig->vm.machine.devices, b);
    return b;
}

static void remove_balloon(QmpRig *rig, VirtioBalloon *b)
{
    virtio_balloon_set_poll_interval(&b->base.pci.base, 0);
    rig_settle(rig);
    g_ptr_array_set_size(rig->vm.machine.devices, 0);
}

static void without_a_balloon_the_commands_fail(void **state)
{
    QmpRig *rig = *state;
    qmp_fails(rig, "query-balloon", NULL, "DeviceNotActive",
              "No balloon device has been activated");
    qmp_fails(rig, "balloon", "{'value':1}", "DeviceNotActive",
              "No balloon device has been activated");
}

static void the_target_is_set_and_the_size_reported(void **state)
{
    QmpRig *rig = *state;
    VirtioBalloon balloon, *b = add_balloon(rig, &balloon);
    qmp_returns(rig, "query-balloon", NULL, "{\"actual\":67108864}");
    qmp_returns(rig, "balloon", "{'value':50331648}", "{}");
    assert_int_equal(b->state.num_pages, (16 << 20) / 4096);
    b->state.actual = 256;
    qmp_returns(rig, "query-balloon", NULL, "{\"actual\":66060288}");
    qmp_fails(rig, "balloon", "{'value':0}", "GenericError", "Parameter 'target' expects a size");
    qmp_fails(rig, "balloon", "{'value':-1}", "GenericError", "Parameter 'target' expects a size");
    assert_int_equal(b->state.num_pages, (16 << 20) / 4096);
    remove_balloon(rig, b);
}

static void a_balloon_that_is_being_unplugged_is_none(void **state)
{
    QmpRig *rig = *state;
    VirtioBalloon balloon, *b = add_balloon(rig, &balloon);
    b->base.pci.base.leaving = true;
    qmp_fails(rig, "query-balloon", NULL, "DeviceNotActive", "No balloon device");
    remove_balloon(rig, b);
}

static void its_properties_have_statistics_and_an_interval(void **state)
{
    QmpRig *rig = *state;
    VirtioBalloon balloon, *b = add_balloon(rig, &balloon);
    const char *interval = "'path':'b0','property':'guest-stats-polling-interval'";
    g_autofree char *get = g_strdup_printf("{%s}", interval);
    b->stats.values[5] = 12345;
    b->stats.updated_s = 99;
    qmp_returns(rig, "qom-get", "{'path':'b0','property':'guest-stats'}",
                "\"stat-total-memory\":12345");
    qmp_returns(rig, "qom-get", "{'path':'b0','property':'guest-stats'}",
                "\"stat-free-memory\":18446744073709551615");
    qmp_returns(rig, "qom-get", "{'path':'b0','property':'guest-stats'}", "\"last-update\":99");
    qmp_returns(rig, "qom-list", "{'path':'b0'}",
                "{\"name\":\"guest-stats\",\"type\":\"guest statistics\"}");
    qmp_returns(rig, "qom-get", get, "0");
    g_autofree char *set = g_strdup_printf("{%s,'value':3}", interval);
    qmp_returns(rig, "qom-set", set, "{}");
    assert_int_equal(virtio_balloon_poll_interval(&b->base.pci.base), 3);
    qmp_returns(rig, "qom-get", get, "3");
    g_autofree char *negative = g_strdup_printf("{%s,'value':-1}", interval);
    qmp_fails(rig, "qom-set", negative, "GenericError", "timer value must be greater than zero");
    g_autofree char *big = g_strdup_printf("{%s,'value':4294967296}", interval);
    qmp_fails(rig, "qom-set", big, "GenericError", "timer value is too big");
    g_autofree char *word = g_strdup_printf("{%s,'value':'x'}", interval);
    qmp_fails(rig, "qom-set", word, "GenericError", "expected: integer");
    qmp_fails(rig, "qom-set", "{'path':'b0','property':'guest-stats','value':1}", "GenericError",
              "Insufficient permission");
    remove_balloon(rig, b);
}

static void events_are_rate_limited(void **state)
{
    QmpRig *rig = *state;
    enter_main();
    aio_context_set_virtual_time(rig->vm.ctx, 0);
    for (unsigned i = 1; i <= 1000; i++) {
        VM_ANNOUNCE(&rig->vm, balloon_changed, i);
    }
    assert_string_equal(rig->events->str, "BALLOON_CHANGE{\"actual\":1}");
    aio_context_set_virtual_time(rig->vm.ctx, 1000000000);
    rig_settle(rig);
    assert_non_null(strstr(rig->events->str, " BALLOON_CHANGE{\"actual\":1000}"));
    g_string_truncate(rig->events, 0);
    aio_context_set_virtual_time(rig->vm.ctx, 3000000000);
    rig_settle(rig);
    assert_string_equal(rig->events->str, ""); /* nothing has changed */
    VM_ANNOUNCE(&rig->vm, balloon_changed, 7);
    assert_string_equal(rig->events->str, "BALLOON_CHANGE{\"actual\":7}");
    aio_context_set_virtual_time(rig->vm.ctx, 5000000000);
    rig_settle(rig);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        QMP_TEST(without_a_balloon_the_commands_fail),
        QMP_TEST(the_target_is_set_and_the_size_reported),
        QMP_TEST(a_balloon_that_is_being_unplugged_is_none),
        QMP_TEST(its_properties_have_statistics_and_an_interval),
        QMP_TEST(events_are_rate_limited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

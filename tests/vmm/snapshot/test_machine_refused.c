/* SPDX-License-Identifier: Apache-2.0 */
/* tier: kvm */
/* timeout: 300 */
/* What is refused, and changes nothing: streams of other machines, a KVM that fails. A machine whose devices came or
 * went. */
#include <errno.h>
#include "hw/scsi/scsi_medium.h"
#include "migration/device_state.h"
#include "tests/support/state_seal.h"
#include "tests/vmm/snapshot/snapshot_rig.h"
#include "util/sys/sys_fault.h"
#include "vmm/snapshot/machine_options.h"

/* ---- what is wrong ---- */

static coroutine_fn RUNS_IN_MAIN void rig_expect_refused(Rig *r, const GByteArray *stream,
                                                         const char *message)
{
    g_autoptr(GError) error = NULL;
    if (machine_state_stage(&r->vm, stream, &error) != NULL) {
        fail_msg("accepted: %s", message);
    }
    if (strstr(error->message, message) == NULL) {
        fail_msg("'%s' is not in: %s", message, error->message);
    }
}

/* The stream that was put aside, with the first @text replaced by one of the same length. */
static GByteArray *rig_patched(const Rig *r, const char *text, const char *by)
{
    size_t size = strlen(text);
    GByteArray *copy = g_byte_array_new();
    g_byte_array_append(copy, r->stream->data, r->stream->len);
    uint8_t *at = memmem(copy->data, copy->len, text, size);
    assert_non_null(at);
    assert_int_equal(strlen(by), size);
    memcpy(at, by, size);
    state_seal(copy);
    return copy;
}

static RUNS_IN_MAIN void rig_expect_patch_refused(Rig *r, const char *text, const char *by,
                                                  const char *message)
{
    g_autoptr(GByteArray) wrong = rig_patched(r, text, by);
    rig_expect_refused(r, wrong, message);
}

/* The sections that were put aside, and one more. */
static RUNS_IN_MAIN GByteArray *rig_with_extra_section(Rig *r, const VmStopped *token)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(StateWriter) w = state_writer_new();
    g_autoptr(StateStream) s = state_stream_decode(r->stream->data, r->stream->len, &error);
    g_autoptr(MachineParts) parts = machine_parts_load(&r->vm.machine, s, &error);
    const VmStateSaved vm = {.ran = true};
    for (unsigned i = 0; i < s->texts->len; i++) {
        const StateText *t = s->texts->pdata[i];
        assert_true(state_writer_text(w, t->name, t->value, &error));
    }
    assert_true(state_writer_section(w, "/machine", &machine_vm_state_desc, &vm, 0, &error));
    assert_true(machine_parts_save(parts, w, &error));
    bql_lock();
    assert_true(device_state_save(r->vm.machine.devices, token, w, &error));
    bql_unlock();
    assert_true(
        state_writer_section(w, "/machine/peripheral/x", &machine_vm_state_desc, &vm, 0, &error));
    return state_writer_end(w, &error);
}

static void stopped_wrong_streams(Rig *r, const VmStopped *token)
{
    enter_main();
    enter_coroutine();
    rig_co_put_aside(r, token);
    rig_expect_patch_refused(r, "16777216", "16777217", "memory is 16777217, not 16777216");
    rig_expect_patch_refused(r, "x86_64", "x86_65", "architecture is x86_65, not x86_64");
    rig_expect_patch_refused(r, "/machine/cpu/1", "/machine/cpu/7",
                             "/machine/cpu/1: the state has no section x86-vcpu");
    g_autoptr(GByteArray) extra = rig_with_extra_section(r, token);
    rig_expect_refused(r, extra,
                       "section vm of /machine/peripheral/x, which this machine does not");
    for (guint size = 0; size < r->stream->len; size++) {
        GByteArray cut = {.data = r->stream->data, .len = size};
        g_autoptr(GError) error = NULL;
        assert_null(machine_state_stage(&r->vm, &cut, &error));
        assert_non_null(error);
    }
    rig_co_expect_state(r, r->stream, token); /* nothing has changed */
}

static void body_wrong_streams(Rig *r)
{
    enter_main();
    enter_coroutine();
    rig_while_stopped(r, stopped_wrong_streams);
}

/* Each call to KVM in turn fails: it is named, and the machine is as before. The failure of some calls does not
 * matter. */
static void stopped_refused_by_kvm(Rig *r, const VmStopped *token)
{
    enter_main();
    enter_coroutine();
    g_autoptr(GByteArray) before = rig_co_save(r, token);
    int64_t before_ns = vm_clock_now_ns();
    unsigned calls = 0, refused = 0;
    for (bool hit = true; hit; calls++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(MachineStateLoad) l = machine_state_stage(&r->vm, r->stream, &error);
        assert_non_null(l);
        sys_fault_set(&(SysFault){.calls = "ioctl", .after = calls, .count = 1, .error = EIO});
        bool ok = machine_state_co_apply(&r->vm, l, token, &error);
        hit = sys_fault_hits() != 0;
        sys_fault_set(NULL);
        if (!ok) {
            assert_non_null(strstr(error->message, "KVM"));
            refused++;
        } else if (hit) {
            assert_true(rig_co_apply(r, before, token, &error));
        }
        if (hit) {
            assert_int_equal(vm_clock_now_ns(), before_ns);
            rig_co_expect_state(r, before, token);
        }
    }
    assert_true(refused > 60);
    memcpy(r->vm.machine.memory->host, r->ram, r->vm.machine.memory->size);
    r->accesses = r->kept_accesses;
}

static void body_refused_by_kvm(Rig *r)
{
    enter_main();
    enter_coroutine();
    rig_while_stopped(r, stopped_compare_and_put_aside);
    GuestModel kept = r->model;
    rig_await(r, GUEST_STEPS, r->model.steps + 2);
    rig_while_stopped(r, stopped_refused_by_kvm);
    r->model = kept; /* the last load was successful */
    rig_await(r, GUEST_STEPS, r->model.steps + 2);
    rig_while_stopped(r, stopped_compare_and_put_aside);
}

/* ---- a device that refuses when vCPUs and chips are loaded ---- */

static const DeviceType *refusing_real;
static unsigned refusing_calls;

static bool refusing_post_load(Device *dev, GError **error)
{
    if (refusing_calls++ == 0) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_VALUE, "not today");
        return false;
    }
    return refusing_real->post_load(dev, error);
}

static void stopped_refused_by_device(Rig *r, const VmStopped *token)
{
    enter_main();
    enter_coroutine();
    g_autoptr(GError) error = NULL;
    g_autoptr(GByteArray) before = rig_co_save(r, token);
    int64_t before_ns = vm_clock_now_ns();
    Device *dev = machine_find_device(&r->vm.machine, "early");
    DeviceType type = *dev->type;
    refusing_real = dev->type;
    type.post_load = refusing_post_load;
    dev->type = &type;
    assert_false(rig_co_apply(r, r->stream, token, &error));
    assert_int_equal(refusing_calls, 2); /* the old state was put back */
    dev->type = refusing_real;
    assert_non_null(strstr(error->message, "/machine/peripheral/early: not today"));
    assert_int_equal(vm_clock_now_ns(), before_ns);
    rig_co_expect_state(r, before, token);
}

static void body_refused_by_device(Rig *r)
{
    enter_main();
    enter_coroutine();
    rig_while_stopped(r, stopped_compare_and_put_aside);
    rig_await(r, GUEST_STEPS, r->model.steps + 2);
    rig_while_stopped(r, stopped_refused_by_device);
    rig_await(r, GUEST_STEPS, r->model.steps + 2); /* with the state that it had */
    rig_while_stopped(r, stopped_compare_and_put_aside);
}

/* ---- devices that came and went ---- */

static const char *rig_changed; /* part of the text that says so; NULL: there is none */

/* Saves, and puts the stream aside. */
static void stopped_devices(Rig *r, const VmStopped *token)
{
    enter_main();
    enter_coroutine();
    g_autoptr(GError) error = NULL;
    g_clear_pointer(&r->stream, g_byte_array_unref);
    r->stream = rig_co_save(r, token);
    g_autoptr(StateStream) s = state_stream_decode(r->stream->data, r->stream->len, &error);
    const char *changed = state_stream_text(s, MACHINE_TEXT_CHANGED);
    if (rig_changed == NULL) {
        assert_null(changed);
    } else {
        assert_non_null(strstr(changed, rig_changed));
    }
}

static void stopped_apply(Rig *r, const VmStopped *token)
{
    enter_main();
    enter_coroutine();
    assert_true(rig_co_apply(r, r->stream, token, NULL));
    rig_co_expect_state(r, r->stream, token);
}

static void stopped_leaving(Rig *r, const VmStopped *token)
{
    enter_main();
    enter_coroutine();
    g_autoptr(GError) error = NULL;
    assert_null(machine_state_co_save(&r->vm, token, &error));
    assert_non_null(strstr(error->message, "device 'early' is being removed"));
}

static void stopped_reset(Rig *r, const VmStopped *token)
{
    enter_main();
    enter_coroutine();
    assert_true(r->vm.run.ops->co_reset(r->vm.run.opaque, NULL));
}

/* The guest does not eject it; a reset counts as that. */
static coroutine_fn RUNS_IN_MAIN void rig_co_unplug(Rig *r, const char *id)
{
    VmRemoval *removal = NULL;
    vm_operation_begin(&r->vm.run);
    assert_true(vm_unplug(&r->vm, machine_find_device(&r->vm.machine, id), &removal, NULL));
    vm_operation_end(&r->vm.run);
    assert_null(removal);
    rig_while_stopped(r, stopped_reset);
    assert_null(machine_find_device(&r->vm.machine, id));
}

static void body_devices(Rig *r)
{
    enter_main();
    enter_coroutine();
    g_autoptr(OptDict) opts = opt_dict_new();
    opt_dict_set(opts, "driver", "virtio-rng-pci");
    opt_dict_set(opts, "id", "late");
    vm_operation_begin(&r->vm.run);
    assert_non_null(vm_co_plug(&r->vm, opts, NULL, NULL));
    vm_operation_end(&r->vm.run);
    rig_changed = "device 'late' was plugged in";
    rig_while_stopped(r, stopped_devices);
    rig_while_stopped(r, stopped_apply);
    rig_co_unplug(r, "late");
    rig_expect_refused(r, r->stream, "/machine/peripheral/late, which this machine does not have");
    rig_changed = NULL;
    rig_while_stopped(r, stopped_devices);
    rig_co_unplug(r, "early");
    rig_expect_refused(r, r->stream, "/machine/peripheral/early, which this machine does not have");
    rig_changed = "device 'early' was removed";
    rig_while_stopped(r, stopped_devices);
    rig_while_stopped(r, stopped_apply);
}

/* A removal is half-way while the device's requests are out. */
static void body_leaving(Rig *r)
{
    enter_main();
    enter_coroutine();
    rig_changed = NULL;
    rig_while_stopped(r, stopped_devices);
    Device *dev = machine_find_device(&r->vm.machine, "early");
    dev->leaving = true;
    rig_while_stopped(r, stopped_leaving);
    rig_expect_refused(r, r->stream, "device 'early' is being removed");
    dev->leaving = false;
    rig_while_stopped(r, stopped_devices);
}

/* The first slot of "early" in the text of addresses becomes another one. */
static void stopped_elsewhere(Rig *r, const VmStopped *token)
{
    enter_main();
    enter_coroutine();
    static const char path[] = "/machine/peripheral/early=/pci@i0cf8/";
    rig_changed = NULL;
    stopped_devices(r, token);
    const char *at = memmem(r->stream->data, r->stream->len, path, strlen(path));
    assert_non_null(at);
    const char *slot = strchr(at + strlen(path), '@') + 1;
    g_autofree char *was = g_strndup(at, (size_t)(slot - at) + 1);
    g_autofree char *other = g_strdup(was);
    other[strlen(other) - 1] = *slot == '9' ? '8' : '9';
    rig_expect_patch_refused(r, was, other, "device 'early' was at /pci@i0cf8/");
    other[strlen(path) - strlen("=/pci@i0cf8/")] = 'x';
    rig_expect_patch_refused(r, was, other, "an address that is none");
}

static void body_elsewhere(Rig *r)
{
    enter_main();
    enter_coroutine();
    rig_while_stopped(r, stopped_elsewhere);
}

/* ---- a medium that was taken out and put back ---- */

static coroutine_fn RUNS_IN_MAIN void rig_co_with_medium(Rig *r, const char *node)
{
    Device *dev = machine_find_device(&r->vm.machine, "cd");
    vm_operation_begin(&r->vm.run);
    ScsiLun *lun = scsi_medium_drive(dev);
    if (node == NULL) {
        assert_true(scsi_medium_open_tray(lun, true));
        assert_true(scsi_medium_co_remove(lun, INT64_C(60000000000)));
    } else {
        assert_true(scsi_medium_co_insert(lun, node, NULL));
        scsi_medium_close_tray(lun);
    }
    vm_operation_end(&r->vm.run);
}

static void body_disks(Rig *r)
{
    enter_main();
    enter_coroutine();
    rig_changed = NULL;
    rig_while_stopped(r, stopped_devices);
    rig_co_with_medium(r, NULL);
    rig_changed = "no disk shows node 'first', as one did then";
    rig_while_stopped(r, stopped_devices);
    rig_co_with_medium(r, "second");
    rig_changed = "a disk shows node 'second', which no disk showed then";
    rig_while_stopped(r, stopped_devices);
    rig_while_stopped(r, stopped_apply);
    rig_co_with_medium(r, NULL);
    rig_co_with_medium(r, "first");
    rig_changed = NULL;
    rig_while_stopped(r, stopped_devices);
}

RIG_TEST(wrong_streams_are_refused_by_name, body_wrong_streams)
RIG_TEST(a_kvm_that_refuses_changes_nothing, body_refused_by_kvm)
RIG_TEST(a_device_that_refuses_changes_nothing, body_refused_by_device)
RIG_TEST(other_disks_than_at_the_start_are_told, body_disks)
RIG_TEST(a_device_that_is_elsewhere_is_refused_by_name, body_elsewhere)
RIG_TEST(a_device_that_leaves_is_refused_by_name, body_leaving)
RIG_TEST(other_devices_than_at_the_start_are_told, body_devices)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_streams_are_refused_by_name),
        cmocka_unit_test(a_kvm_that_refuses_changes_nothing),
        cmocka_unit_test(a_device_that_refuses_changes_nothing),
        cmocka_unit_test(other_disks_than_at_the_start_are_told),
        cmocka_unit_test(a_device_that_is_elsewhere_is_refused_by_name),
        cmocka_unit_test(a_device_that_leaves_is_refused_by_name),
        cmocka_unit_test(other_devices_than_at_the_start_are_told), /* the last */
    };
    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A VM without KVM whose devices are plugged and unplugged: QMP's commands, the run state, the
 * hotplug registers and one virtio-blk disk in slot 5. The test's thread is main, and also a vCPU
 * unless that is real; the iothread is real. */
#ifndef SKIFF_TESTS_VMM_VM_HOTPLUG_RIG_H
#define SKIFF_TESTS_VMM_VM_HOTPLUG_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "hw/platform/acpi_hotplug.h"
#include "tests/support/blk_guest.h"
#include "util/loop/sched_point.h"
#include "vmm/monitor/qmp/qmp.h"
#include "vmm/vm/vm_hotplug.h"
#include "vmm/monitor/commands/qmp_events.h"

#define WANTED (ACPI_HOTPLUG_PORT + 0x4)
#define PRESENT (ACPI_HOTPLUG_PORT + 0x8)
#define EJECT (ACPI_HOTPLUG_PORT + 0xc)
#define ECAM UINT64_C(0xe0000000)
#define SLOT 5u
#define DISK "{'driver':'virtio-blk-pci','id':'disk','drive':'disk','addr':'5'}"
#define SECOND_NS INT64_C(1000000000)

typedef struct Rig {
    Vm vm;
    VmConfig config;
    VirtioBench *bench;
    Device *lpc;
    MachineOps ops;
    Machine machine;
    BlkDisk disk;
    VirtioGuest guest;
    VirtioGuestQueue queue;
    BlkRequest request;
    QmpEventListener listener;
    GString *deleted; /* "disk port " */
    const char *point;
    unsigned resets;
    bool visited;
} Rig;

static Rig *rig; /* MachineOps have another opaque */

/* ---- the machine ---- */

static void rig_request(void *opaque, int vm_request_, int64_t detail)
{
    vm_request(&rig->vm, vm_request_, detail);
}

static void rig_nothing(void *opaque)
{
}

static void rig_stop_backends(void *opaque)
{
    enter_main();
    enter_coroutine();
    for (unsigned i = rig->vm.machine.devices->len; i-- > 0;) {
        Device *dev = rig->vm.machine.devices->pdata[i];
        if (dev->type->co_stop) {
            dev->type->co_stop(dev);
        }
    }
}

static bool rig_start_backends(void *opaque, GError **error)
{
    enter_main();
    enter_coroutine();
    for (unsigned i = 0; i < rig->vm.machine.devices->len; i++) {
        Device *dev = rig->vm.machine.devices->pdata[i];
        if (!device_co_start(dev, error)) {
            return false;
        }
    }
    return true;
}

static void rig_drain(void *opaque)
{
    enter_main();
    enter_coroutine();
    backends_co_drain();
}

static bool rig_reset(void *opaque, GError **error)
{
    enter_main();
    enter_coroutine();
    rig->resets++;
    vm_co_finish_unplugs(&rig->vm);
    bql_lock();
    for (unsigned i = 0; i < rig->vm.machine.devices->len; i++) {
        Device *dev = rig->vm.machine.devices->pdata[i];
        if (dev->type->reset) {
            dev->type->reset(dev);
        }
    }
    rig->lpc->type->reset(rig->lpc);
    bql_unlock();
    return true;
}

static const RunStateOps rig_ops = {
    .co_park = rig_nothing,
    .unpark = rig_nothing,
    .co_stop_backends = rig_stop_backends,
    .co_start_backends = rig_start_backends,
    .co_drain = rig_drain,
    .co_reset = rig_reset,
};

static void rig_event(QmpEventListener *l, const QmpEvent *event, struct json_object *data,
                      int64_t realtime_us)
{
    struct json_object *id;
    if (strcmp(event->name, "DEVICE_DELETED") == 0) {
        bool named = json_object_object_get_ex(data, "device", &id);
        g_string_append_printf(rig->deleted, "%s ", named ? json_object_get_string(id) : "?");
    }
}

static void rig_fill_vm(void)
{
    FakeMachine *m = rig->bench->machine;
    Vm *vm = &rig->vm;
    rig->machine = m->machine;
    rig->machine.request = rig_request;
    m->env.machine = &rig->machine;
    vm_config_init(&rig->config);
    vm->config = &rig->config;
    vm->ctx = rig->bench->main_ctx;
    vm->machine.env = m->env;
    vm->machine.pci = rig->bench->bus;
    vm->machine.backends = &vm->backends;
    vm->machine.devices = g_ptr_array_new();
    vm->backends.drives = g_ptr_array_new();
    vm->built = true;
    enter_main();
    run_state_init(&vm->run, vm->ctx, &rig_ops, rig);
    vm_hotplug_init(vm);
    vm_life_init(vm);
    qmp_events_init(vm);
    rig->lpc = fake_device(m, "ich9-lpc", NULL);
}

static void rig_settle(void)
{
    virtio_bench_settle(rig->bench);
}

static int set_up_disk(void **state, const char *disk)
{
    rig = g_new0(Rig, 1);
    rig->bench = virtio_bench_new();
    rig->deleted = g_string_new(NULL);
    rig_fill_vm();
    enter_main();
    blk_disk_open(&rig->disk, rig->bench, disk);
    rig->listener.event = rig_event;
    qmp_event_listen(&rig->listener);
    run_state_request_start(&rig->vm.run);
    rig_settle();
    *state = rig;
    return 0;
}

static inline int set_up(void **state)
{
    return set_up_disk(state, "size=1M,manual=on");
}

static inline int set_up_fast(void **state)
{
    return set_up_disk(state, "size=1M");
}

static void delete_all(void *opaque)
{
    enter_main();
    enter_coroutine();
    vm_operation_begin(&rig->vm.run);
    rig_stop_backends(NULL);
    while (rig->vm.machine.devices->len > 0) {
        Device *dev = rig->vm.machine.devices->pdata[rig->vm.machine.devices->len - 1];
        device_unrealize(dev);
        g_ptr_array_remove_index(rig->vm.machine.devices, rig->vm.machine.devices->len - 1);
        device_free(dev);
    }
    vm_operation_end(&rig->vm.run);
}

static int tear_down(void **state)
{
    enter_main();
    sched_point_reset();
    virtio_bench_run(rig->bench, delete_all, NULL);
    blk_disk_close(&rig->disk);
    fake_device_gone(rig->lpc);
    qmp_event_unlisten(&rig->listener);
    aio_timer_disarm(&rig->vm.life.quit_timer);
    g_ptr_array_free(rig->vm.machine.devices, TRUE);
    vm_hotplug_clear(&rig->vm);
    g_ptr_array_free(rig->vm.backends.drives, TRUE);
    vm_config_clear(&rig->config);
    g_string_free(rig->deleted, TRUE);
    virtio_bench_free(rig->bench);
    g_free(rig);
    return 0;
}

/* ---- commands ---- */

typedef struct Command {
    const char *name;
    char *args;
    bool done;
    char *error;
} Command;

static void command_run(void *opaque)
{
    Command *c = opaque;
    enter_main();
    enter_coroutine();
    g_autoptr(GError) error = NULL;
    struct json_object *args = json_tokener_parse(c->args);
    json_object_put(qmp_co_execute(&rig->vm, NULL, c->name, args, &error));
    json_object_put(args);
    c->error = error != NULL ? g_strdup(error->message) : NULL;
    c->done = true;
}

/* @args in JSON, with ' for ". */
static void command_start(Command *c, const char *name, const char *args)
{
    *c = (Command){.name = name, .args = g_strdelimit(g_strdup(args), "'", '"')};
    co_start(rig->vm.ctx, command_run, c);
    rig_settle();
}

static void command_clear(Command *c)
{
    g_free(c->args);
    g_free(c->error);
}

static void execute(const char *name, const char *args)
{
    Command c;
    command_start(&c, name, args);
    assert_true(c.done);
    assert_null(c.error);
    command_clear(&c);
}

/* ---- the guest ---- */

static RUNS_IN_MAIN Device *device(const char *id)
{
    return machine_find_device(&rig->vm.machine, id);
}

static RUNS_IN_MAIN void guest_takes_disk(void)
{
    bql_lock();
    pci_bus_assign_resources(rig->bench->bus);
    bql_unlock();
    virtio_guest_init(&rig->guest, rig->bench, device("disk"));
    assert_true(virtio_guest_negotiate(&rig->guest, ~0ull));
    virtio_guest_enable_msix(&rig->guest);
    virtio_guest_queue(&rig->guest, &rig->queue, 0, 0, 1);
    virtio_guest_driver_ok(&rig->guest);
    rig_settle();
    blk_request_init(&rig->request, &rig->queue, 512);
}

static inline RUNS_IN_MAIN void plug_disk(void)
{
    execute("device_add", DISK);
    guest_takes_disk();
}

static inline void out32(unsigned port, uint32_t value)
{
    fake_out32(rig->bench->machine, (uint16_t)port, value);
}

static inline uint32_t in32(unsigned port)
{
    return fake_in32(rig->bench->machine, (uint16_t)port);
}

/* Completes all requests that the disk holds, and their consequences: a stop flushes. */
static inline void complete_all(void)
{
    do {
        rig_settle();
    } while (blk_disk_complete(&rig->disk, 0));
    rig_settle();
}

#endif

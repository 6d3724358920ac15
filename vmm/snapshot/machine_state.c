/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/snapshot/machine_state.h"

#include <inttypes.h>
#include "hw/core/vm_clock.h"
#include "migration/device_state.h"
#include "vmm/snapshot/machine_addresses.h"
#include "vmm/snapshot/machine_disks.h"
#include "vmm/snapshot/machine_options.h"
#include "vmm/snapshot/machine_parts.h"
#include "vmm/snapshot/machine_state_int.h"
#include "vmm/snapshot/machine_state_parts.h"

#define VM_INSTANCE "/machine"

struct MachineStateLoad {
    VmStateSaved vm;
    MachineParts *parts;
    DeviceStateLoad *devices;
    GPtrArray *others; /* machine_state_parts.h */
};

static const StateField vm_fields[] = {
    STATE_FIELD_MAX(VmStateSaved, STATE_U64, clock_ns, DEVICE_STATE_CLOCK_MAX),
    STATE_FIELD_MAX(VmStateSaved, STATE_U64, wall_ns, INT64_MAX),
    STATE_FIELD(VmStateSaved, STATE_BOOL, ran),
    STATE_FIELD_MAX(VmStateSaved, STATE_U8, reason, STOP_REASON_COUNT - 1),
    STATE_FIELD(VmStateSaved, STATE_BOOL, panicked),
    STATE_PADDING(VmStateSaved, pad),
    STATE_FIELD(VmStateSaved, STATE_U32, events),
    {0}};

static bool state_check_vm(const void *state, GError **error)
{
    const VmStateSaved *s = state;
    if (vm_pending_events_are_valid(s->events)) {
        return true;
    }
    g_set_error(error, STATE_ERROR, STATE_ERROR_VALUE, "unknown events 0x%x", s->events);
    return false;
}

const StateDesc machine_vm_state_desc = {.name = "vm",
                                         .version = 1,
                                         .min_version = 1,
                                         .struct_size = sizeof(VmStateSaved),
                                         .fields = vm_fields,
                                         .check = state_check_vm};

/* ---- HEAD ---- */

/* What a machine has to have in common with the one that was saved. */
typedef struct StateIdentity {
    const char *name;
    char *value;
} StateIdentity;
#define IDENTITY_COUNT 5

static RUNS_IN_MAIN void state_identity(const Vm *vm, StateIdentity id[IDENTITY_COUNT])
{
    const VmMachine *m = &vm->machine;
    id[0] = (StateIdentity){"architecture", g_strdup(ARCH_NAME)};
    id[1] = (StateIdentity){"accelerator", g_strdup("kvm")};
    id[2] = (StateIdentity){"machine", g_strdup("q35")};
    id[3] = (StateIdentity){"memory", g_strdup_printf("%" PRIu64, m->memory->size)};
    id[4] = (StateIdentity){"cpus", g_strdup_printf("%u", vcpus_count(m->vcpus))};
}

static void state_identity_clear(StateIdentity id[IDENTITY_COUNT])
{
    for (unsigned i = 0; i < IDENTITY_COUNT; i++) {
        g_free(id[i].value);
    }
}

static bool state_write_escaped(StateWriter *w, const char *name, const char *value, GError **error)
{
    g_autofree char *text = machine_text_escape(value);
    return state_writer_text(w, name, text, error);
}

/* The text "changed": why the options do not make this machine. */
static RUNS_IN_MAIN bool state_write_changed(const Vm *vm, StateWriter *w, GError **error)
{
    g_autofree char *devices = vm_devices_changed(vm);
    g_autofree char *disks = devices == NULL ? machine_disks_changed() : NULL;
    const char *changed = devices != NULL ? devices : disks;
    return changed == NULL || state_write_escaped(w, MACHINE_TEXT_CHANGED, changed, error);
}

static RUNS_IN_MAIN bool state_write_head(const Vm *vm, StateWriter *w, GError **error)
{
    const VmConfig *config = vm->config;
    StateIdentity id[IDENTITY_COUNT];
    bool ok = state_writer_text(w, "program", "skiff", error) &&
              state_writer_text(w, "version", SKIFF_VERSION, error);
    state_identity(vm, id);
    for (unsigned i = 0; i < IDENTITY_COUNT && ok; i++) {
        ok = state_writer_text(w, id[i].name, id[i].value, error);
    }
    state_identity_clear(id);
    return ok &&
           state_write_escaped(w, "cpu", config->machine.cpu != NULL ? config->machine.cpu : "host",
                               error) &&
           state_write_escaped(w, "directory", config->directory, error) &&
           state_write_changed(vm, w, error) &&
           machine_addresses_write(vm->machine.devices, w, error) &&
           machine_options_write(config->options, w, error);
}

static RUNS_IN_MAIN bool state_check_head(const Vm *vm, const StateStream *s, GError **error)
{
    StateIdentity id[IDENTITY_COUNT];
    bool ok = state_stream_expect(s, "program", "skiff", error);
    state_identity(vm, id);
    for (unsigned i = 0; i < IDENTITY_COUNT && ok; i++) {
        ok = state_stream_expect(s, id[i].name, id[i].value, error);
    }
    state_identity_clear(id);
    return ok && machine_addresses_check(vm->machine.devices, s, error);
}

/* ---- the VM itself ---- */

static RUNS_IN_MAIN bool state_write_vm(const Vm *vm, VmPending pending, StateWriter *w,
                                        GError **error)
{
    const VmStateSaved s = {.clock_ns = (uint64_t)vm_clock_now_ns(),
                            .wall_ns = (uint64_t)vm_clock_wall_ns(),
                            .ran = vm->run.run_requested,
                            .reason = (uint8_t)vm->run.reason,
                            .panicked = pending.panicked,
                            .events = pending.events};
    return state_writer_section(w, VM_INSTANCE, &machine_vm_state_desc, &s, 0, error);
}

/* ---- devices ---- */

static RUNS_IN_MAIN bool state_write_devices(Vm *vm, const VmStopped *token, StateWriter *w,
                                             GError **error)
{
    bql_lock();
    bool ok = device_state_save(vm->machine.devices, token, w, error);
    bql_unlock();
    return ok;
}

/* Sets the VM's clock, too. */
static RUNS_IN_MAIN bool state_apply_devices(MachineStateLoad *l, const VmStopped *token,
                                             GError **error)
{
    device_state_set_clock(l->devices, (int64_t)l->vm.clock_ns);
    bql_lock();
    bool ok = device_state_apply(l->devices, token, error);
    bql_unlock();
    return ok;
}

/* ---- the whole ---- */

GByteArray *machine_state_co_save(Vm *vm, const VmStopped *token, GError **error)
{
    g_autoptr(StateWriter) w = state_writer_new();
    VmPending pending;
    if (!vm_take_pending(vm, &pending, error) || !vm_check_no_removal(vm, error) ||
        !state_write_head(vm, w, error)) {
        return NULL;
    }
    g_autoptr(MachineParts) parts = machine_parts_co_read(&vm->machine, token, error);
    if (parts == NULL || !state_write_vm(vm, pending, w, error) ||
        !machine_parts_save(parts, w, error) || !state_write_devices(vm, token, w, error) ||
        !machine_state_parts_save(vm, w, error)) {
        return NULL;
    }
    return state_writer_end(w, error);
}

MachineStateLoad *machine_state_stage(Vm *vm, const GByteArray *stream, GError **error)
{
    g_autoptr(StateStream) s = state_stream_decode(stream->data, stream->len, error);
    if (s == NULL || !vm_check_no_removal(vm, error) || !state_check_head(vm, s, error)) {
        return NULL;
    }
    g_autoptr(MachineStateLoad) l = g_new0(MachineStateLoad, 1);
    if (!state_stream_load(s, VM_INSTANCE, &machine_vm_state_desc, &l->vm, false, error)) {
        return NULL;
    }
    l->parts = machine_parts_load(&vm->machine, s, error);
    if (l->parts == NULL) {
        return NULL;
    }
    l->devices = device_state_stage(vm->machine.devices, s, error);
    if (l->devices == NULL) {
        return NULL;
    }
    l->others = machine_state_parts_stage(vm, s, error);
    return l->others != NULL && state_stream_all_taken(s, error) ? g_steal_pointer(&l) : NULL;
}

bool machine_state_ran(const MachineStateLoad *l)
{
    return l->vm.ran;
}

bool machine_state_co_apply(Vm *vm, MachineStateLoad *l, const VmStopped *token, GError **error)
{
    g_autoptr(MachineParts) before = machine_parts_co_read(&vm->machine, token, error);
    if (before == NULL || !machine_parts_co_write(&vm->machine, l->parts, before, token, error)) {
        return false;
    }
    if (!state_apply_devices(l, token, error)) {
        machine_parts_co_put_back(&vm->machine, before, token);
        return false;
    }
    machine_state_parts_apply(vm, l->others);
    run_state_set_loaded(&vm->run, token, l->vm.ran ? STOP_PAUSED : (StopReason)l->vm.reason);
    vm_was_loaded(vm, (VmPending){.events = l->vm.events, .panicked = l->vm.panicked});
    return true;
}

void machine_state_load_free(MachineStateLoad *l)
{
    if (l != NULL) {
        device_state_load_free(l->devices);
        machine_parts_free(l->parts);
        g_clear_pointer(&l->others, g_ptr_array_unref);
        g_free(l);
    }
}

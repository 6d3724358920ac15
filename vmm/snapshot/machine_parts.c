/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/snapshot/machine_parts.h"

#include "util/log.h"
#include "util/loop/worker.h"

#define PARTS_CHIPS "/machine"
#define PARTS_VCPU "/machine/cpu/%u"

MachineParts *machine_parts_new(unsigned vcpus)
{
    MachineParts *parts = g_malloc0(sizeof(*parts) + vcpus * sizeof(parts->vcpus[0]));
    parts->count = vcpus;
    parts->chips = arch_vm_state_new();
    for (unsigned i = 0; i < vcpus; i++) {
        parts->vcpus[i] = arch_vcpu_state_new();
    }
    return parts;
}

void machine_parts_free(MachineParts *parts)
{
    if (parts != NULL) {
        for (unsigned i = 0; i < parts->count; i++) {
            arch_vcpu_state_free(parts->vcpus[i]);
        }
        arch_vm_state_free(parts->chips);
        g_free(parts);
    }
}

/* ---- in a vCPU's thread ---- */

typedef struct PartsCall {
    const ArchCpus *cpus;
    ArchVcpuState *read;
    const ArchVcpuState *write;
    bool ok;
    GError *error;
} PartsCall;

static void parts_read_vcpu(Vcpu *v, void *opaque)
{
    enter_vcpu();
    PartsCall *c = opaque;
    c->ok = arch_vcpu_save(c->cpus, vcpu_fd(v), vcpu_index(v), c->read, &c->error);
}

static void parts_write_vcpu(Vcpu *v, void *opaque)
{
    enter_vcpu();
    PartsCall *c = opaque;
    c->ok = arch_vcpu_load(c->cpus, vcpu_fd(v), vcpu_index(v), c->write, &c->error);
}

static coroutine_fn RUNS_IN_MAIN bool parts_co_call(VmMachine *m, unsigned index, VcpuCallFn *fn,
                                                    PartsCall *call, GError **error)
{
    call->cpus = vcpus_arch(m->vcpus);
    vcpus_co_call(m->vcpus, index, fn, call);
    if (call->error != NULL) {
        g_propagate_error(error, call->error);
    }
    return call->ok;
}

/* ---- in main ---- */

MachineParts *machine_parts_co_read(VmMachine *m, const VmStopped *token, GError **error)
{
    g_autoptr(MachineParts) parts = machine_parts_new(vcpus_count(m->vcpus));
    for (unsigned i = 0; i < parts->count; i++) {
        PartsCall call = {.read = parts->vcpus[i]};
        if (!parts_co_call(m, i, parts_read_vcpu, &call, error)) {
            return NULL;
        }
    }
    return arch_vm_save(&m->kvm, parts->chips, error) ? g_steal_pointer(&parts) : NULL;
}

static coroutine_fn RUNS_IN_MAIN bool parts_co_write_vcpu(VmMachine *m, const MachineParts *parts,
                                                          unsigned index, GError **error)
{
    PartsCall call = {.write = parts->vcpus[index]};
    return parts_co_call(m, index, parts_write_vcpu, &call, error);
}

static void parts_log_failure(const GError *error)
{
    log_error("the state before the failed load cannot be put back: %s", error->message);
}

static coroutine_fn RUNS_IN_MAIN void
parts_co_put_back_vcpus(VmMachine *m, const MachineParts *before, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        g_autoptr(GError) error = NULL;
        if (!parts_co_write_vcpu(m, before, i, &error)) {
            parts_log_failure(error);
        }
    }
}

typedef struct PartsChips {
    Kvm *kvm;
    const ArchVmState *state;
    GError *error;
} PartsChips;

static WorkerLane parts_lane; /* the stopped VM waits for it, not for other calls that hang */

/* KVM waits when it creates a PIT. */
static int parts_write_chips(void *opaque)
{
    enter_worker();
    PartsChips *c = opaque;
    return arch_vm_load(c->kvm, c->state, &c->error) ? 0 : -1;
}

static coroutine_fn RUNS_IN_MAIN bool parts_co_write_chips(VmMachine *m, const MachineParts *parts,
                                                           GError **error)
{
    PartsChips chips = {.kvm = &m->kvm, .state = parts->chips};
    if (co_run_in_lane(&parts_lane, parts_write_chips, &chips) == 0) {
        return true;
    }
    g_propagate_error(error, chips.error);
    return false;
}

bool machine_parts_co_write(VmMachine *m, const MachineParts *parts, const MachineParts *before,
                            const VmStopped *token, GError **error)
{
    g_assert(parts->count == vcpus_count(m->vcpus) && before->count == parts->count);
    for (unsigned i = 0; i < parts->count; i++) {
        if (!parts_co_write_vcpu(m, parts, i, error)) {
            parts_co_put_back_vcpus(m, before, i);
            return false;
        }
    }
    if (!parts_co_write_chips(m, parts, error)) {
        parts_co_put_back_vcpus(m, before, parts->count);
        return false;
    }
    return true;
}

void machine_parts_co_put_back(VmMachine *m, const MachineParts *before, const VmStopped *token)
{
    g_autoptr(GError) error = NULL;
    parts_co_put_back_vcpus(m, before, before->count);
    if (!parts_co_write_chips(m, before, &error)) {
        parts_log_failure(error);
    }
}

/* ---- as sections ---- */

bool machine_parts_save(const MachineParts *parts, StateWriter *w, GError **error)
{
    for (unsigned i = 0; i < parts->count; i++) {
        g_autofree char *instance = g_strdup_printf(PARTS_VCPU, i);
        if (!state_writer_section(w, instance, &arch_vcpu_state_desc, parts->vcpus[i], 0, error)) {
            return false;
        }
    }
    return state_writer_section(w, PARTS_CHIPS, &arch_vm_state_desc, parts->chips, 0, error);
}

MachineParts *machine_parts_load(VmMachine *m, StateStream *s, GError **error)
{
    g_autoptr(MachineParts) parts = machine_parts_new(vcpus_count(m->vcpus));
    for (unsigned i = 0; i < parts->count; i++) {
        g_autofree char *instance = g_strdup_printf(PARTS_VCPU, i);
        if (!state_stream_load(s, instance, &arch_vcpu_state_desc, parts->vcpus[i], false, error) ||
            !arch_vcpu_state_check(vcpus_arch(m->vcpus), i, parts->vcpus[i], error)) {
            return NULL;
        }
    }
    return state_stream_load(s, PARTS_CHIPS, &arch_vm_state_desc, parts->chips, false, error)
               ? g_steal_pointer(&parts)
               : NULL;
}

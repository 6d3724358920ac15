/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handles the exits of vCPUs. KVM api.rst §5 "The kvm_run structure".
 *
 * A register access is dispatched under the BQL. When the device pends it, the vCPU releases the
 * BQL, waits, and dispatches it again; only here does a vCPU wait for a loop.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include "util/log.h"
#include "util/loop/sched_point.h"
#include "vmm/vcpu/vcpu_int.h"

/* One dispatch of an access. True: the access is complete. False: the vCPU waits for
 * access->waiter.done and dispatches it again. */
static bool vcpu_dispatch(Vcpu *v, AddressSpace *space, uint64_t address, IoAccess *access)
    BQL_HELD RUNS_IN_VCPU;
static bool vcpu_dispatch(Vcpu *v, AddressSpace *space, uint64_t address, IoAccess *access)
{
    v->cancellable = NULL;
    access->must_retire = atomic_load(&v->requests) != 0;
    if (address_space_dispatch(space, address, access, NULL) == MMIO_DONE) {
        return true;
    }
    if (!access->must_retire) {
        v->cancellable = &access->waiter;
        /* A request is set before its sender takes the BQL to cancel the wait. */
        if (atomic_load(&v->requests) != 0) {
            pended_cancel(&access->waiter);
        }
    }
    return false;
}

/* Returns the value read. */
static uint64_t vcpu_access(Vcpu *v, AddressSpace *space, uint64_t address, unsigned size,
                            bool is_write, uint64_t value) RUNS_IN_VCPU;
static uint64_t vcpu_access(Vcpu *v, AddressSpace *space, uint64_t address, unsigned size,
                            bool is_write, uint64_t value)
{
    /* The same object in each round: it records which parts of a split access are complete. */
    IoAccess access = {
        .value = is_write ? value : UINT64_MAX, .size = (uint8_t)size, .is_write = is_write};
    for (;;) {
        bql_lock();
        bool complete = vcpu_dispatch(v, space, address, &access);
        bql_unlock();
        if (complete) {
            return access.value;
        }
        SP("vcpu.pended", NULL);
        completion_wait(&access.waiter.done, access.waiter.what);
    }
}

static void vcpu_event(Vcpu *v, int event)
{
    v->halted = true;
    v->set->config.event(v->set->config.opaque, event);
}

static void vcpu_exit_io(Vcpu *v) RUNS_IN_VCPU;
static void vcpu_exit_io(Vcpu *v)
{
    struct kvm_run *run = v->run;
    const VcpuDebugger *debugger = atomic_load(&v->set->debugger);
    if (debugger != NULL && debugger->io_exit(v, run, v->set->debugger_opaque)) {
        vcpu_event(v, VCPU_EVENT_DEBUG);
        return;
    }
    uint8_t *data = (uint8_t *)run + run->io.data_offset;
    bool is_write = run->io.direction == KVM_EXIT_IO_OUT;
    unsigned size = run->io.size;
    for (uint32_t i = 0; i < run->io.count; i++, data += size) {
        uint64_t value = 0;
        if (is_write) {
            memcpy(&value, data, size);
        }
        value = vcpu_access(v, v->set->config.pio, run->io.port, size, is_write, value);
        if (!is_write) {
            memcpy(data, &value, size);
        }
    }
    v->exit_pending = true;
}

static void vcpu_exit_mmio(Vcpu *v) RUNS_IN_VCPU;
static void vcpu_exit_mmio(Vcpu *v)
{
    struct kvm_run *run = v->run;
    bool is_write = run->mmio.is_write != 0;
    unsigned size = run->mmio.len;
    /* KVM splits at pages, not at powers of two: the remainder is accessed byte by byte. */
    unsigned step = size == 1 || size == 2 || size == 4 || size == 8 ? size : 1;
    for (unsigned at = 0; at < size; at += step) {
        uint64_t value = 0;
        memcpy(&value, run->mmio.data + at, step);
        value =
            vcpu_access(v, v->set->config.mmio, run->mmio.phys_addr + at, step, is_write, value);
        if (!is_write) {
            memcpy(run->mmio.data + at, &value, step);
        }
    }
    v->exit_pending = true;
}

/* Into the log, whatever its target is: -D, -daemonize. */
static void vcpu_log_registers(Vcpu *v) RUNS_IN_VCPU;
static void vcpu_log_registers(Vcpu *v)
{
    char *text = NULL, *rest = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL) {
        return;
    }
    arch_vcpu_dump(v->fd, v->index, out);
    fclose(out);
    for (char *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        log_error("%s", line);
    }
    free(text);
}

/* Logs the message and the registers, and ends the run. */
static void vcpu_fail(Vcpu *v, const char *format, ...) RUNS_IN_VCPU
    __attribute__((format(printf, 2, 3)));
static void vcpu_fail(Vcpu *v, const char *format, ...)
{
    char what[256];
    va_list ap;
    va_start(ap, format);
    vsnprintf(what, sizeof(what), format, ap);
    va_end(ap);
    log_error("vCPU %u: %s", v->index, what);
    vcpu_log_registers(v);
    vcpu_event(v, VCPU_EVENT_FAILED);
}

static void vcpu_exit_internal_error(Vcpu *v) RUNS_IN_VCPU;
static void vcpu_exit_internal_error(Vcpu *v)
{
    static const char *const names[] = {
        [KVM_INTERNAL_ERROR_EMULATION] = "an instruction that KVM cannot emulate",
        [KVM_INTERNAL_ERROR_SIMUL_EX] = "simultaneous exceptions",
        [KVM_INTERNAL_ERROR_DELIVERY_EV] = "event delivery",
        [KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON] = "an unexpected exit"};
    uint32_t suberror = v->run->internal.suberror;
    const char *name = suberror < G_N_ELEMENTS(names) ? names[suberror] : NULL;
    vcpu_fail(v, "KVM internal error, suberror %u (%s)", suberror, name != NULL ? name : "unknown");
}

static void vcpu_exit_system_event(Vcpu *v) RUNS_IN_VCPU;
static void vcpu_exit_system_event(Vcpu *v)
{
    switch (v->run->system_event.type) {
    case KVM_SYSTEM_EVENT_SHUTDOWN:
        vcpu_event(v, VM_REQUEST_POWEROFF);
        break;
    case KVM_SYSTEM_EVENT_RESET:
        vcpu_event(v, VM_REQUEST_RESET);
        break;
    case KVM_SYSTEM_EVENT_CRASH: /* the guest continues, to write its dump for instance */
        v->set->config.event(v->set->config.opaque, VM_REQUEST_PANIC);
        break;
    default:
        vcpu_fail(v, "unknown system event %u", v->run->system_event.type);
        break;
    }
}

static void vcpu_exit_debug(Vcpu *v) RUNS_IN_VCPU;
static void vcpu_exit_debug(Vcpu *v)
{
    const struct kvm_debug_exit_arch exit = v->run->debug.arch;
    const VcpuDebugger *debugger = atomic_load(&v->set->debugger);
    if (debugger == NULL || debugger->debug_exit(v, &exit, v->set->debugger_opaque)) {
        vcpu_event(v, VCPU_EVENT_DEBUG);
    }
}

static void vcpu_handle_exit(Vcpu *v) RUNS_IN_VCPU;
static void vcpu_handle_exit(Vcpu *v)
{
    switch (v->run->exit_reason) {
    case KVM_EXIT_IO:
        vcpu_exit_io(v);
        break;
    case KVM_EXIT_MMIO:
        vcpu_exit_mmio(v);
        break;
    case KVM_EXIT_INTR:
    case KVM_EXIT_IRQ_WINDOW_OPEN:
        break;
    case KVM_EXIT_DEBUG:
        vcpu_exit_debug(v);
        break;
    case KVM_EXIT_SHUTDOWN:
        vcpu_event(v, VCPU_EVENT_TRIPLE_FAULT);
        break;
    case KVM_EXIT_SYSTEM_EVENT:
        vcpu_exit_system_event(v);
        break;
    case KVM_EXIT_INTERNAL_ERROR:
        vcpu_exit_internal_error(v);
        break;
    case KVM_EXIT_FAIL_ENTRY:
        vcpu_fail(v, "the processor refuses to enter the guest, hardware reason %#" PRIx64,
                  (uint64_t)v->run->fail_entry.hardware_entry_failure_reason);
        break;
    case KVM_EXIT_HLT:
        vcpu_fail(v, "the guest halted and nothing can wake it: KVM has no interrupt controller");
        break;
    default:
        vcpu_fail(v, "KVM exit reason %u is unknown to skiff", v->run->exit_reason);
        break;
    }
}

void vcpu_run_once(Vcpu *v)
{
    int ret = ioctl(v->fd, KVM_RUN, 0);
    int err = errno;
    v->exit_pending = false;
    if (ret == 0) {
        vcpu_handle_exit(v);
        return;
    }
    if (err == EINTR || err == EAGAIN) {
        /* A kick sets its request first; the request is checked after this. */
        __atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
        return;
    }
    if (err == EFAULT) {
        vcpu_fail(v, "KVM cannot access guest memory: %s", g_strerror(err));
    } else {
        vcpu_fail(v, "KVM_RUN: %s", g_strerror(err));
    }
}

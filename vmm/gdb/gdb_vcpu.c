/* SPDX-License-Identifier: Apache-2.0 */
/* The vCPUs' part of breakpoints, in their threads: KVM's debug settings, and whether a debug exit
 * belongs to the debugger. */
#include <string.h>
#include <sys/ioctl.h>
#include "util/log.h"
#include "vmm/gdb/gdb_int.h"
#include "vmm/machine/guest_memory.h"

/* Whether some breakpoint requires single-steps. */
static bool gdb_vcpu_must_step(const GdbBreakpoints *b)
{
    bool must = false;
    for (unsigned i = 0; i < b->stepped->len; i++) {
        must |= !g_array_index(b->stepped, GdbStepped, i).in_memory;
    }
    return must;
}

/* The debug settings of this vCPU. */
static ArchDebug gdb_vcpu_settings(GdbBreakpoints *b, Vcpu *v, bool *user_step)
{
    rank_mutex_lock(&b->lock);
    ArchDebug debug = b->debug;
    *user_step = b->vcpus[vcpu_index(v)].step;
    debug.step = *user_step || gdb_vcpu_must_step(b);
    rank_mutex_unlock(&b->lock);
    debug.step_blocks_interrupts = *user_step && b->blocks_interrupts;
    return debug;
}

static RUNS_IN_VCPU void gdb_vcpu_apply(GdbBreakpoints *b, Vcpu *v)
{
    GdbVcpu *gv = &b->vcpus[vcpu_index(v)];
    bool user_step;
    ArchDebug debug = gdb_vcpu_settings(b, v, &user_step);
    bool wanted = debug.software || debug.step || debug.traps;
    for (unsigned i = 0; i < ARCH_HW_BREAKPOINTS; i++) {
        wanted |= debug.hw[i].used;
    }
    if (!wanted && !gv->applied) {
        return;
    }
    gv->applied = wanted;
    g_autoptr(GError) error = NULL;
    if (!arch_debug_apply(vcpu_fd(v), &debug, &error)) {
        log_warn("gdb: vCPU %u: %s", vcpu_index(v), error->message);
    }
}

static void gdb_vcpu_resumed(Vcpu *v, void *opaque)
{
    enter_vcpu();
    gdb_vcpu_apply(opaque, v);
}

void gdb_vcpu_apply_call(Vcpu *v, void *opaque)
{
    gdb_vcpu_apply(opaque, v);
}

/* ---- why it stopped ---- */

static RUNS_IN_VCPU bool gdb_vcpu_is_at_software(GdbBreakpoints *b, Vcpu *v, uint64_t pc)
{
    ArchPaging paging;
    ArchTranslation t;
    arch_vcpu_get_paging(vcpu_fd(v), &paging);
    if (!arch_translate(&paging, &b->vm->machine.ram, pc, &t, NULL)) {
        return false;
    }
    rank_mutex_lock(&b->lock);
    bool found = gdb_software_find(b, t.gpa) != NULL;
    rank_mutex_unlock(&b->lock);
    return found;
}

/* Translates an address that was not mapped before: from now on the breakpoint can be in memory. */
static void gdb_vcpu_place(GdbBreakpoints *b, const ArchPaging *paging, GdbStepped *s)
{
    ArchTranslation t;
    if (arch_paging_is_on(paging) &&
        arch_translate(paging, &b->vm->machine.ram, s->address, &t, NULL) &&
        gdb_software_insert(b, t.gpa, NULL)) {
        s->gpa = t.gpa;
        s->in_memory = true;
    }
}

static GdbStopKind gdb_stepped_kind(const GdbStepped *s)
{
    return s->type == GDB_BREAK_SOFTWARE ? GDB_STOP_SOFTWARE : GDB_STOP_HARDWARE;
}

/* Checks the breakpoints after a step. */
static RUNS_IN_VCPU GdbStop gdb_vcpu_check_breakpoints(GdbBreakpoints *b, Vcpu *v, uint64_t pc)
{
    GdbStop stop = {0};
    ArchPaging paging;
    arch_vcpu_get_paging(vcpu_fd(v), &paging);
    rank_mutex_lock(&b->lock);
    for (unsigned i = 0; stop.kind == GDB_STOP_NONE && i < b->stepped->len; i++) {
        GdbStepped *s = &g_array_index(b->stepped, GdbStepped, i);
        uint8_t now[GDB_WATCH_SIZE_MAX];
        if (s->type < GDB_WATCH_WRITE) {
            if (pc == s->address) {
                stop.kind = gdb_stepped_kind(s);
            } else if (!s->in_memory) {
                gdb_vcpu_place(b, &paging, s);
            }
        } else if (guest_physical_read(&b->vm->machine.ram, s->gpa, now, s->size, NULL) &&
                   memcmp(now, s->last, s->size) != 0) {
            memcpy(s->last, now, s->size);
            stop = (GdbStop){.kind = GDB_STOP_WATCH, .type = s->type, .address = s->address};
        }
    }
    rank_mutex_unlock(&b->lock);
    return stop;
}

static RUNS_IN_VCPU GdbStop gdb_vcpu_why(GdbBreakpoints *b, Vcpu *v, ArchDebugCause cause,
                                         const ArchHwBreakpoint *hw, GdbBreakpointType type,
                                         uint64_t pc, bool user_step)
{
    GdbStop stop = {0};
    switch (cause) {
    case ARCH_DEBUG_STEP:
        stop = gdb_vcpu_check_breakpoints(b, v, pc);
        if (stop.kind == GDB_STOP_NONE && user_step) {
            stop.kind = GDB_STOP_STEP;
        }
        break;
    case ARCH_DEBUG_HARDWARE:
        stop = (GdbStop){.kind = type == GDB_BREAK_SOFTWARE   ? GDB_STOP_SOFTWARE
                                 : type == GDB_BREAK_HARDWARE ? GDB_STOP_HARDWARE
                                                              : GDB_STOP_WATCH,
                         .type = type,
                         .address = hw->address};
        break;
    case ARCH_DEBUG_SOFTWARE:
        stop.kind = gdb_vcpu_is_at_software(b, v, pc) ? GDB_STOP_SOFTWARE : GDB_STOP_NONE;
        break;
    case ARCH_DEBUG_FOREIGN:
        break;
    }
    return stop;
}

static void gdb_vcpu_note(GdbBreakpoints *b, Vcpu *v, GdbStop stop)
{
    rank_mutex_lock(&b->lock);
    b->vcpus[vcpu_index(v)].stop = stop;
    rank_mutex_unlock(&b->lock);
}

static bool gdb_vcpu_debug_exit(Vcpu *v, const struct kvm_debug_exit_arch *exit, void *opaque)
{
    enter_vcpu();
    GdbBreakpoints *b = opaque;
    uint64_t pc;
    unsigned slot;
    bool user_step;
    ArchDebug debug = gdb_vcpu_settings(b, v, &user_step);
    ArchDebugCause cause = arch_debug_cause(exit, &debug, &pc, &slot);
    GdbStop stop = gdb_vcpu_why(b, v, cause, &debug.hw[slot], b->slot_types[slot], pc, user_step);
    if (stop.kind != GDB_STOP_NONE) {
        gdb_vcpu_note(b, v, stop);
        return true;
    }
    if (cause == ARCH_DEBUG_STEP) {
        gdb_vcpu_apply(b, v); /* the guest may have just loaded flags without it */
    } else if (!debug.traps || !arch_debug_drop_trap(vcpu_fd(v), exit)) {
        arch_debug_reinject(vcpu_fd(v), exit, &debug);
    }
    return false;
}

/* The instruction has been executed or will be: setting the vCPU's address undoes it. */
static RUNS_IN_VCPU void gdb_vcpu_undo_step(Vcpu *v, struct kvm_run *run, uint64_t pc)
{
    run->immediate_exit = 1;
    /* EINTR: the exit is complete, and no instruction was executed */
    ioctl(vcpu_fd(v), KVM_RUN, 0);
    run->immediate_exit = 0;
    arch_gdb_set_pc(vcpu_fd(v), pc);
}

static bool gdb_vcpu_io_exit(Vcpu *v, struct kvm_run *run, void *opaque)
{
    enter_vcpu();
    GdbBreakpoints *b = opaque;
    uint64_t pc[2];
    rank_mutex_lock(&b->lock);
    bool any = !b->abilities.instruction && b->software->len > 0;
    rank_mutex_unlock(&b->lock);
    if (!any || !arch_debug_is_fallback(vcpu_fd(v), run, pc)) {
        return false;
    }
    for (unsigned i = 0; i < 2; i++) {
        if (gdb_vcpu_is_at_software(b, v, pc[i])) {
            gdb_vcpu_undo_step(v, run, pc[i]);
            gdb_vcpu_note(b, v, (GdbStop){.kind = GDB_STOP_SOFTWARE});
            return true;
        }
    }
    return false;
}

const VcpuDebugger gdb_vcpu_debugger = {
    .debug_exit = gdb_vcpu_debug_exit, .io_exit = gdb_vcpu_io_exit, .resumed = gdb_vcpu_resumed};

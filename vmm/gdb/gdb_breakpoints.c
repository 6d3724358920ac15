/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/gdb/gdb_breakpoints.h"

#include <inttypes.h>
#include <string.h>
#include "util/log.h"
#include "vmm/gdb/gdb_int.h"
#include "vmm/machine/guest_memory.h"

/* ---- break instructions in memory ---- */

GdbSoftware *gdb_software_find(GdbBreakpoints *b, uint64_t gpa)
{
    for (unsigned i = 0; i < b->software->len; i++) {
        GdbSoftware *s = &g_array_index(b->software, GdbSoftware, i);
        if (s->gpa == gpa) {
            return s;
        }
    }
    return NULL;
}

bool gdb_software_insert(GdbBreakpoints *b, uint64_t gpa, GError **error)
{
    GdbSoftware added = {.gpa = gpa, .users = 1};
    GdbSoftware *there = gdb_software_find(b, gpa);
    if (there != NULL) {
        there->users++;
        return true;
    }
    if (!guest_physical_read(&b->vm->machine.ram, gpa, &added.own, 1, error)) {
        return false;
    }
    g_array_append_val(b->software, added);
    b->debug.software = b->abilities.instruction;
    return b->lifted || guest_physical_write(&b->vm->machine.ram, gpa, &b->instruction, 1, error);
}

/* Restores the guest's byte only if the break instruction is still there: the guest may have loaded
 * other code. */
static void gdb_software_remove(GdbBreakpoints *b, uint64_t gpa)
{
    rank_mutex_lock(&b->lock);
    GdbSoftware *s = gdb_software_find(b, gpa);
    if (s != NULL && --s->users == 0) {
        uint8_t now;
        if (guest_physical_read(&b->vm->machine.ram, gpa, &now, 1, NULL) && now == b->instruction) {
            guest_physical_write(&b->vm->machine.ram, gpa, &s->own, 1, NULL);
        }
        g_array_remove_index_fast(b->software,
                                  (guint)(s - (GdbSoftware *)(void *)b->software->data));
        b->debug.software = b->abilities.instruction && b->software->len > 0;
    }
    rank_mutex_unlock(&b->lock);
}

/* ---- debug registers ---- */

static void gdb_registers_release(GdbBreakpoints *b, unsigned slots)
{
    rank_mutex_lock(&b->lock);
    for (unsigned i = 0; i < ARCH_HW_BREAKPOINTS; i++) {
        if ((slots & 1u << i) != 0) {
            b->debug.hw[i] = (ArchHwBreakpoint){0};
        }
    }
    rank_mutex_unlock(&b->lock);
}

/* Finds a free one for [address, address+size); -1: there is none. */
static int gdb_register_take(GdbBreakpoints *b, GdbBreakpointType type, ArchHwKind kind,
                             uint64_t address, unsigned size)
{
    int slot = -1;
    rank_mutex_lock(&b->lock);
    for (int i = 0; slot < 0 && i < ARCH_HW_BREAKPOINTS; i++) {
        if (!b->debug.hw[i].used) {
            b->debug.hw[i] =
                (ArchHwBreakpoint){.used = true, .kind = kind, .address = address, .size = size};
            b->slot_types[i] = type;
            slot = i;
        }
    }
    rank_mutex_unlock(&b->lock);
    return slot;
}

/* The largest range at @address that one register can watch. */
static unsigned gdb_register_piece(uint64_t address, uint64_t size)
{
    unsigned piece = 8;
    while (piece > size || (address & (piece - 1)) != 0) {
        piece /= 2;
    }
    return piece;
}

/* Takes as many registers as needed. False: there are too few; then none is taken. */
static bool gdb_registers_insert(GdbBreakpoints *b, GdbBreakpoint *bp, GError **error)
{
    bool watch = bp->type >= GDB_WATCH_WRITE;
    ArchHwKind kind = !watch                        ? ARCH_HW_EXECUTE
                      : bp->type == GDB_WATCH_WRITE ? ARCH_HW_WRITE
                                                    : ARCH_HW_ACCESS;
    uint64_t size = watch ? bp->size : 1;
    for (uint64_t done = 0; done < size;) {
        unsigned piece = gdb_register_piece(bp->address + done, size - done);
        int slot = gdb_register_take(b, bp->type, kind, bp->address + done, piece);
        if (slot < 0) {
            gdb_registers_release(b, bp->slots);
            bp->slots = 0;
            g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOSPC,
                        "the processor's %d debug registers are taken", ARCH_HW_BREAKPOINTS);
            return false;
        }
        bp->slots |= 1u << slot;
        done += piece;
    }
    bp->place = GDB_IN_REGISTER;
    return true;
}

/* ---- steps ---- */

static bool gdb_stepped_insert(GdbBreakpoints *b, GdbBreakpoint *bp, const ArchPaging *paging,
                               GError **error)
{
    GdbStepped added = {.type = bp->type, .address = bp->address, .size = bp->size};
    bool watch = bp->type >= GDB_WATCH_WRITE;
    ArchTranslation t = {.gpa = bp->address, .page_size = 4096};
    if (bp->type == GDB_WATCH_READ || bp->type == GDB_WATCH_ACCESS) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOSYS,
                    "this host's KVM does not report reads; nearest is watching for writes");
        return false;
    }
    if (watch &&
        ((paging != NULL && !arch_translate(paging, &b->vm->machine.ram, bp->address, &t, error)) ||
         !guest_physical_read(&b->vm->machine.ram, t.gpa, added.last, bp->size, error))) {
        return false;
    }
    added.gpa = bp->gpa = t.gpa;
    bp->place = GDB_BY_STEPS;
    rank_mutex_lock(&b->lock);
    g_array_append_val(b->stepped, added);
    b->debug.traps = true; /* from now on: see the header */
    rank_mutex_unlock(&b->lock);
    return true;
}

static GdbStepped *gdb_stepped_find(GdbBreakpoints *b, const GdbBreakpoint *bp)
{
    for (unsigned i = 0; i < b->stepped->len; i++) {
        GdbStepped *s = &g_array_index(b->stepped, GdbStepped, i);
        if (s->type == bp->type && s->address == bp->address && s->size == bp->size) {
            return s;
        }
    }
    return NULL;
}

/* Returns to steps, from a break instruction in memory. */
static void gdb_stepped_leave_memory(GdbBreakpoints *b, const GdbBreakpoint *bp)
{
    rank_mutex_lock(&b->lock);
    GdbStepped *s = gdb_stepped_find(b, bp);
    uint64_t gpa = s->gpa;
    bool was_in_memory = s->in_memory;
    s->in_memory = false;
    rank_mutex_unlock(&b->lock);
    if (was_in_memory) {
        gdb_software_remove(b, gpa);
    }
}

static void gdb_stepped_remove(GdbBreakpoints *b, const GdbBreakpoint *bp)
{
    gdb_stepped_leave_memory(b, bp);
    rank_mutex_lock(&b->lock);
    GdbStepped *s = gdb_stepped_find(b, bp);
    g_array_remove_index_fast(b->stepped, (guint)(s - (GdbStepped *)(void *)b->stepped->data));
    rank_mutex_unlock(&b->lock);
}

/* Invariant 2: running vCPUs apply a change now. */
static coroutine_fn RUNS_IN_MAIN void gdb_breakpoints_co_changed(GdbBreakpoints *b)
{
    for (unsigned i = 0;
         !vcpus_parked(b->vm->machine.vcpus) && i < vcpus_count(b->vm->machine.vcpus); i++) {
        vcpus_co_call(b->vm->machine.vcpus, i, gdb_vcpu_apply_call, b);
    }
}

void gdb_breakpoints_init(GdbBreakpoints *b, Vm *vm, const ArchDebugAbilities *abilities)
{
    *b = (GdbBreakpoints){.vm = vm, .abilities = *abilities};
    b->instruction = abilities->instruction ? ARCH_BREAK_INSTRUCTION : ARCH_BREAK_FALLBACK;
    b->blocks_interrupts = arch_debug_can_block_interrupts(&vm->machine.kvm);
    b->set = g_array_new(false, true, sizeof(GdbBreakpoint));
    b->software = g_array_new(false, true, sizeof(GdbSoftware));
    b->stepped = g_array_new(false, true, sizeof(GdbStepped));
    b->vcpus = g_new0(GdbVcpu, vcpus_count(vm->machine.vcpus));
    rank_mutex_init(&b->lock, RANK_QUEUE, "breakpoints");
    vcpus_set_debugger(vm->machine.vcpus, &gdb_vcpu_debugger, b);
}

/* ---- the set ---- */

static GdbBreakpoint *gdb_breakpoint_find(GdbBreakpoints *b, GdbBreakpointType type,
                                          uint64_t address, uint64_t size)
{
    bool watch = type >= GDB_WATCH_WRITE;
    for (unsigned i = 0; i < b->set->len; i++) {
        GdbBreakpoint *bp = &g_array_index(b->set, GdbBreakpoint, i);
        if (bp->type == type && bp->address == address && (!watch || bp->size == size)) {
            return bp;
        }
    }
    return NULL;
}

/* In debug registers, where they work; otherwise by steps. */
static bool gdb_breakpoint_place_hardware(GdbBreakpoints *b, GdbBreakpoint *bp,
                                          const ArchPaging *paging, GError **error)
{
    bool works = bp->type >= GDB_WATCH_WRITE ? b->abilities.watch : b->abilities.execute;
    return works ? gdb_registers_insert(b, bp, error) : gdb_stepped_insert(b, bp, paging, error);
}

/* In memory where the address is mapped permanently, otherwise in a register. */
static bool gdb_breakpoint_place(GdbBreakpoints *b, GdbBreakpoint *bp, const ArchPaging *paging,
                                 GError **error)
{
    ArchTranslation t = {.gpa = bp->address};
    bool mapped =
        paging == NULL || arch_translate(paging, &b->vm->machine.ram, bp->address, &t, NULL);
    bool settled = mapped && (paging == NULL || arch_paging_is_on(paging));
    if (!settled && gdb_breakpoint_place_hardware(b, bp, paging, mapped ? NULL : error)) {
        return true;
    }
    if (!mapped) {
        g_prefix_error(error, "%#" PRIx64 " is not mapped yet, and ", bp->address);
        return false;
    }
    bp->gpa = t.gpa;
    bp->place = GDB_IN_MEMORY;
    rank_mutex_lock(&b->lock);
    bool ok = gdb_software_insert(b, t.gpa, error);
    rank_mutex_unlock(&b->lock);
    return ok;
}

bool gdb_breakpoints_co_insert(GdbBreakpoints *b, GdbBreakpointType type, uint64_t address,
                               uint64_t size, unsigned cpu, bool physical, GError **error)
{
    if (gdb_breakpoint_find(b, type, address, size) != NULL) {
        return true;
    }
    if (b->set->len >= GDB_BREAKPOINTS_MAX || size > GDB_WATCH_SIZE_MAX || size == 0) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOSPC,
                    "at most %d breakpoints, watching 1 to %d bytes each", GDB_BREAKPOINTS_MAX,
                    GDB_WATCH_SIZE_MAX);
        return false;
    }
    GdbBreakpoint bp = {.type = type, .address = address, .size = size};
    ArchPaging now;
    const ArchPaging *paging = physical ? NULL : &now;
    guest_co_get_paging(&b->vm->machine, cpu, &now);
    if (!(type == GDB_BREAK_SOFTWARE ? gdb_breakpoint_place(b, &bp, paging, error)
                                     : gdb_breakpoint_place_hardware(b, &bp, paging, error))) {
        return false;
    }
    g_array_append_val(b->set, bp);
    gdb_breakpoints_co_changed(b);
    return true;
}

static void gdb_breakpoint_displace(GdbBreakpoints *b, const GdbBreakpoint *bp)
{
    if (bp->place == GDB_IN_MEMORY) {
        gdb_software_remove(b, bp->gpa);
    } else if (bp->place == GDB_IN_REGISTER) {
        gdb_registers_release(b, bp->slots);
    } else if (bp->place == GDB_BY_STEPS) {
        gdb_stepped_remove(b, bp);
    }
}

void gdb_breakpoints_co_remove(GdbBreakpoints *b, GdbBreakpointType type, uint64_t address,
                               uint64_t size)
{
    GdbBreakpoint *bp = gdb_breakpoint_find(b, type, address, size);
    if (bp != NULL) {
        gdb_breakpoint_displace(b, bp);
        g_array_remove_index(b->set, (guint)(bp - (GdbBreakpoint *)(void *)b->set->data));
        gdb_breakpoints_co_changed(b);
    }
}

void gdb_breakpoints_co_remove_all(GdbBreakpoints *b)
{
    for (unsigned i = 0; i < b->set->len; i++) {
        gdb_breakpoint_displace(b, &g_array_index(b->set, GdbBreakpoint, i));
    }
    g_array_set_size(b->set, 0);
    for (unsigned i = 0; i < vcpus_count(b->vm->machine.vcpus); i++) {
        gdb_breakpoints_set_step(b, i, false);
    }
    gdb_breakpoints_drop_stops(b);
    gdb_breakpoints_co_changed(b);
}

/* Its page is unknown or not mapped yet, so a register is used. */
static RUNS_IN_MAIN void gdb_breakpoint_leave_memory(GdbBreakpoints *b, GdbBreakpoint *bp,
                                                     const char *because)
{
    if (bp->place == GDB_BY_STEPS) {
        gdb_stepped_leave_memory(b, bp);
    }
    if (bp->place == GDB_IN_REGISTER || bp->place == GDB_BY_STEPS) {
        return;
    }
    gdb_breakpoint_displace(b, bp);
    bp->place = GDB_LOST;
    g_autoptr(GError) error = NULL;
    bp->slots = 0;
    if (!gdb_breakpoint_place_hardware(b, bp, NULL, &error)) {
        log_warn("gdb: the breakpoint at %#" PRIx64 " is lost by %s: %s", bp->address, because,
                 error->message);
    }
}

void gdb_breakpoints_reset(GdbBreakpoints *b)
{
    for (unsigned i = 0; i < b->set->len; i++) {
        gdb_breakpoint_leave_memory(b, &g_array_index(b->set, GdbBreakpoint, i), "the reset");
    }
    gdb_breakpoints_drop_stops(b);
}

/* ---- while memory is captured or replaced ---- */

/* Replaces @from by @to where it still stands. False: another byte stands there. */
static bool gdb_software_swap(GdbBreakpoints *b, const GdbSoftware *s, uint8_t from, uint8_t to)
{
    uint8_t now;
    return guest_physical_read(&b->vm->machine.ram, s->gpa, &now, 1, NULL) && now == from &&
           guest_physical_write(&b->vm->machine.ram, s->gpa, &to, 1, NULL);
}

void gdb_breakpoints_lift(GdbBreakpoints *b)
{
    rank_mutex_lock(&b->lock);
    b->lifted = true; /* also those that come meanwhile */
    for (unsigned i = 0; i < b->software->len; i++) {
        const GdbSoftware *s = &g_array_index(b->software, GdbSoftware, i);
        gdb_software_swap(b, s, b->instruction, s->own);
    }
    rank_mutex_unlock(&b->lock);
}

/* Whether the breakpoint is meant to be in memory and is not. */
static RUNS_IN_MAIN bool gdb_breakpoint_is_gone(GdbBreakpoints *b, const GdbBreakpoint *bp)
{
    rank_mutex_lock(&b->lock);
    const GdbStepped *stepped = bp->place == GDB_BY_STEPS ? gdb_stepped_find(b, bp) : NULL;
    bool in_memory = bp->place == GDB_IN_MEMORY || (stepped != NULL && stepped->in_memory);
    uint64_t gpa = stepped != NULL ? stepped->gpa : bp->gpa;
    uint8_t now = 0;
    bool gone = in_memory && (!guest_physical_read(&b->vm->machine.ram, gpa, &now, 1, NULL) ||
                              now != b->instruction);
    rank_mutex_unlock(&b->lock);
    return gone;
}

void gdb_breakpoints_plant(GdbBreakpoints *b)
{
    rank_mutex_lock(&b->lock);
    b->lifted = false;
    for (unsigned i = 0; i < b->software->len; i++) {
        const GdbSoftware *s = &g_array_index(b->software, GdbSoftware, i);
        gdb_software_swap(b, s, s->own, b->instruction);
    }
    rank_mutex_unlock(&b->lock);
    for (unsigned i = 0; i < b->set->len; i++) {
        GdbBreakpoint *bp = &g_array_index(b->set, GdbBreakpoint, i);
        if (gdb_breakpoint_is_gone(b, bp)) {
            gdb_breakpoint_leave_memory(b, bp, "other memory");
        }
    }
}

/* ---- steps and stops ---- */

void gdb_breakpoints_set_step(GdbBreakpoints *b, unsigned cpu, bool step)
{
    rank_mutex_lock(&b->lock);
    b->vcpus[cpu].step = step;
    rank_mutex_unlock(&b->lock);
}

/* A breakpoint recurs when the vCPU resumes; a watched access does not. */
bool gdb_breakpoints_take_stop(GdbBreakpoints *b, unsigned *cpu, GdbStop *stop)
{
    unsigned count = vcpus_count(b->vm->machine.vcpus);
    bool found = false;
    rank_mutex_lock(&b->lock);
    for (unsigned i = 0; !found && i < count; i++) {
        unsigned at = (*cpu + i) % count;
        if (b->vcpus[at].stop.kind != GDB_STOP_NONE) {
            found = true;
            *stop = b->vcpus[at].stop;
            b->vcpus[at].stop.kind = GDB_STOP_NONE;
            *cpu = at;
        }
    }
    for (unsigned i = 0; i < count; i++) {
        if (b->vcpus[i].stop.kind != GDB_STOP_WATCH) {
            b->vcpus[i].stop.kind = GDB_STOP_NONE;
        }
    }
    rank_mutex_unlock(&b->lock);
    return found;
}

bool gdb_breakpoints_has_stop(GdbBreakpoints *b)
{
    bool found = false;
    rank_mutex_lock(&b->lock);
    for (unsigned i = 0; i < vcpus_count(b->vm->machine.vcpus); i++) {
        found |= b->vcpus[i].stop.kind != GDB_STOP_NONE;
    }
    rank_mutex_unlock(&b->lock);
    return found;
}

void gdb_breakpoints_drop_stops(GdbBreakpoints *b)
{
    rank_mutex_lock(&b->lock);
    for (unsigned i = 0; i < vcpus_count(b->vm->machine.vcpus); i++) {
        b->vcpus[i].stop.kind = GDB_STOP_NONE;
    }
    rank_mutex_unlock(&b->lock);
}

/* ---- memory ---- */

void gdb_breakpoints_hide(GdbBreakpoints *b, uint64_t gpa, uint8_t *bytes, size_t size)
{
    rank_mutex_lock(&b->lock);
    for (unsigned i = 0; i < b->software->len; i++) {
        const GdbSoftware *s = &g_array_index(b->software, GdbSoftware, i);
        if (s->gpa >= gpa && s->gpa - gpa < size && bytes[s->gpa - gpa] == b->instruction) {
            bytes[s->gpa - gpa] = s->own;
        }
    }
    rank_mutex_unlock(&b->lock);
}

bool gdb_breakpoints_write(GdbBreakpoints *b, uint64_t gpa, const uint8_t *bytes, size_t size,
                           GError **error)
{
    g_autofree uint8_t *copy = g_memdup2(bytes, size);
    rank_mutex_lock(&b->lock);
    for (unsigned i = 0; i < b->software->len; i++) {
        GdbSoftware *s = &g_array_index(b->software, GdbSoftware, i);
        if (s->gpa >= gpa && s->gpa - gpa < size) {
            s->own = copy[s->gpa - gpa];
            copy[s->gpa - gpa] = b->lifted ? s->own : b->instruction;
        }
    }
    bool ok = guest_physical_write(&b->vm->machine.ram, gpa, copy, size, error);
    rank_mutex_unlock(&b->lock);
    return ok;
}

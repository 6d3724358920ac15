/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's memory for debuggers and dumps: by a vCPU's own page tables, or by physical address.
 * RAM and ROM only, never device registers, whose reads have side effects.
 *
 * The VM may run meanwhile; the data read is then as consistent as for another processor. The
 * guest's tables may hold anything: an unmapped address is an error. All pages are translated
 * before the first byte is copied, so a bad address leaves nothing half done unless the guest
 * changes its tables in that moment.
 */
#ifndef SKIFF_VMM_MACHINE_GUEST_MEMORY_H
#define SKIFF_VMM_MACHINE_GUEST_MEMORY_H

#include "hw/core/ram.h"
#include "vmm/machine/machine.h"

/* ---- by the page tables of vCPU @cpu, as they are now. False + error ---- */
bool guest_co_translate(VmMachine *m, unsigned cpu, uint64_t gva, uint64_t *gpa, GError **error)
    coroutine_fn RUNS_IN_MAIN;
bool guest_co_read_virtual(VmMachine *m, unsigned cpu, uint64_t gva, void *buf, size_t size,
                           GError **error) coroutine_fn RUNS_IN_MAIN;
/* Ignores page protection and writes to ROM too: breakpoints are written this way. */
bool guest_co_write_virtual(VmMachine *m, unsigned cpu, uint64_t gva, const void *buf, size_t size,
                            GError **error) coroutine_fn RUNS_IN_MAIN;
/* The registers that translation depends on, for many translations at one moment. */
void guest_co_get_paging(VmMachine *m, unsigned cpu, ArchPaging *paging) coroutine_fn RUNS_IN_MAIN;

/* ---- the same at given registers ---- */
bool guest_paging_read(const ArchPaging *paging, const GuestRam *ram, uint64_t gva, void *buf,
                       size_t size, GError **error) ANY_THREAD;
bool guest_paging_write(const ArchPaging *paging, const GuestRam *ram, uint64_t gva,
                        const void *buf, size_t size, GError **error) ANY_THREAD;

/* ---- by physical address; writes go to ROM too ---- */
bool guest_physical_read(const GuestRam *ram, uint64_t gpa, void *buf, size_t size, GError **error)
    ANY_THREAD;
bool guest_physical_write(const GuestRam *ram, uint64_t gpa, const void *buf, size_t size,
                          GError **error) ANY_THREAD;

#endif

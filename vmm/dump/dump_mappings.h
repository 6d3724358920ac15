/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mappings of the guest's page tables, as a list for a dump; and the notes that the guest keeps
 * in its memory. The guest is hostile: the number of tables read and the list are bounded. The VM
 * is stopped.
 */
#ifndef SKIFF_VMM_DUMP_DUMP_MAPPINGS_H
#define SKIFF_VMM_DUMP_DUMP_MAPPINGS_H

#include "vmm/arch/arch.h"
#include "vmm/dump/dump_elf.h"

/* The maximum number of page tables read, for all vCPUs together; this takes about a second. With
 * pages of 4 KiB they map 256 GiB. */
#define DUMP_MAX_TABLES (UINT64_C(1) << 17)

/* The mappings (DumpMapping) of all vCPUs by ascending address, neighbours joined; where several
 * map one address, the first one's. NULL: no vCPU uses paging; or, with @error, there are too
 * many. */
GArray *dump_mappings_new(const ArchPaging *paging, unsigned count, const GuestRam *ram,
                          GError **error) ANY_THREAD;

/* Appends the ELF note of at most @size bytes at @gpa, which the guest has announced. False: there
 * is none, or it does not fit in @size. */
bool dump_add_guest_note(GByteArray *notes, const GuestRam *ram, uint64_t gpa, uint32_t size)
    ANY_THREAD;

/* Appends Linux' VMCOREINFO note (release, symbols, KASLR offset) if @ram holds exactly one; with
 * several, one may be left from before a reboot. Linux keeps it at the beginning of a page
 * (kernel/vmcore_info.c, append_elf_note()). */
void dump_add_vmcoreinfo(GByteArray *notes, const GuestRam *ram) ANY_THREAD;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest's page tables map, as a list for a dump; and what else is found in guest memory
 * for it. The guest is hostile: the tables read and the list are bounded. The VM is stopped.
 */
#ifndef SKIFF_VMM_DUMP_DUMP_MAPPINGS_H
#define SKIFF_VMM_DUMP_DUMP_MAPPINGS_H

#include "vmm/arch/arch.h"
#include "vmm/dump/dump_elf.h"

/* Page tables looked through at most, all vCPUs together, which takes about a second: with pages of
 * 4 KiB they map 256 GiB. */
#define DUMP_MAX_TABLES (UINT64_C(1) << 17)

/* The mappings (DumpMapping) of all vCPUs by ascending address, neighbours joined; of an address
 * that several map, the first one's. NULL: no vCPU uses paging; or, with @error, there are too
 * many. */
GArray *dump_mappings_new(const ArchPaging *paging, unsigned count, const GuestRam *ram,
                          GError **error) ANY_THREAD;

/* Appends Linux' VMCOREINFO note (release, symbols, where KASLR has put the kernel) if it is found
 * once in @ram; with several, one may be left from before a reboot. Linux keeps it at the beginning
 * of a page (kernel/vmcore_info.c, append_elf_note()). */
void dump_add_vmcoreinfo(GByteArray *notes, const GuestRam *ram) ANY_THREAD;

#endif

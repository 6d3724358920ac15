/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The processor's page walk in software, for debuggers and dumps: translates a vCPU's linear
 * address. Reads the guest's tables and changes nothing in them (no accessed or dirty bits).
 *
 * The tables are the guest's and may hold anything. A walk reads at most five entries, each once,
 * and only from RAM, so it always ends. Permission bits are reported, not enforced: a debugger may
 * read what the guest's user mode may not.
 *
 * Source: Intel SDM volume 3, chapter 4 "Paging"; AMD APM volume 2, chapter 5.
 */
#ifndef SKIFF_VMM_ARCH_X86_64_PAGE_WALK_H
#define SKIFF_VMM_ARCH_X86_64_PAGE_WALK_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include "hw/core/ram.h"
#include "util/loop/thread.h"

#define X86_CR0_PE (UINT64_C(1) << 0)
#define X86_CR0_PG (UINT64_C(1) << 31)
#define X86_CR4_PSE (UINT64_C(1) << 4)
#define X86_CR4_PAE (UINT64_C(1) << 5)
#define X86_CR4_LA57 (UINT64_C(1) << 12)
#define X86_EFER_LMA (UINT64_C(1) << 10)
#define X86_EFER_NXE (UINT64_C(1) << 11)

/* The registers that a translation depends on. */
typedef struct ArchPaging {
    uint64_t cr0, cr3, cr4, efer;
} ArchPaging;

/* The result of a translation. */
typedef struct ArchTranslation {
    uint64_t gpa;
    uint64_t page_size;              /* bytes: the smallest unit that is translated as one */
    bool writable, user, executable; /* by the tables of all levels */
} ArchTranslation;

#endif

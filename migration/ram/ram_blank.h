/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages of guest RAM that are surely zero, found without reading them. A save that reads a page to find that it is zero
 * costs a second for 2 GiB, and in a memfd the read allocates the page.
 *
 *   memory                            a page is blank if
 *   private, anonymous                its entry in the page tables is empty (never touched, or given back), or is the
 *                                     kernel's page of zeroes. Swap, migration and markers are entries of another kind
 *   shared (fd >= 0)                  it is in a hole of the file. Page tables do not tell: another process may have
 *                                     written it, and the kernel drops entries of memory that has contents
 *   mapped from a state file          never: what is not there has the file's contents
 *   ROM, flash                        as private memory, which it is
 *
 * Where the kernel does not tell, no page is blank, and all are read.
 *
 * Order. Like a read, the answer is of the time of the call: a page that was written before is not blank, since the
 * write has filled its entry or the file first. A page that is written afterwards may be in the answer. So whoever asks has to do
 * so at a time when he could as well read the page, and a later write has to be caught by whatever catches it after a read:
 *   1. passes: the pass has begun, and the log with it. The write marks the page, which comes with a later pass.
 *   2. a forked child: the page tables of the child, which nobody writes, not those of this process.
 *   3. write protection: capture_wp.h.
 */
#ifndef SKIFF_MIGRATION_RAM_RAM_BLANK_H
#define SKIFF_MIGRATION_RAM_RAM_BLANK_H

#include "migration/ram/ram_pages.h"

/* Sets the bit of each of @pages pages of @b from page @first on that is blank, and clears the others. Bit 0 of @bits, as
 * of a page map, is page @first; whole words are written. @pid: the process whose memory it is, at the same address: a child,
 * or 0. */
void ram_blank_find(const RamBlock *b, int pid, uint64_t first, uint64_t pages, uint64_t *bits)
    RUNS_IN_WORKER;
/* Of the bits of @pages pages. */
uint64_t ram_blank_count(const uint64_t *bits, uint64_t pages) ANY_THREAD;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that is mapped from a state file, read in the background: a page that has not come by itself when the guest
 * needs it is there already.
 *
 *   start --> a worker: for each 4 MiB of data in the file, read ahead, map, rest as long as that took --> end
 *               ^ skiff quits: it stops behind the piece under way
 *
 * Holes of the file are left alone. The worker has a lane of its own and is not waited for: storage that hangs, hangs
 * nobody else, and skiff's end does not wait. Resting leaves the guest half of the storage's time at least.
 *
 * Sources: madvise(2) MADV_POPULATE_READ (Linux 5.14; without it the data is in the page cache), posix_fadvise(2).
 */
#ifndef SKIFF_VMM_SNAPSHOT_PREFAULT_H
#define SKIFF_VMM_SNAPSHOT_PREFAULT_H

#include "vmm/vm/vm.h"

/* Remembers the file @fd, of which memory of @vm is a private mapping (RamBlock.of_file); makes a descriptor of its own. Once
 * in a process. */
void prefault_prepare(Vm *vm, int fd) RUNS_IN_MAIN;
/* Begins; nothing if nothing was prepared. */
void prefault_start(void) RUNS_IN_MAIN;

#endif

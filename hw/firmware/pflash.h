/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cfi.pflash01: a bank of flash with the content of a disk.
 *
 * In array mode the guest reads a read-only mapping of the bank, without an exit. A command hides
 * the mapping (MachineOps.set_rom_mapped), so reads exit and give the status until the array is back.
 *
 * A program, an erase and a flush are pended accesses:
 *
 *   vCPU: command --BQL--> begin: owner = its access, MMIO_PENDING; the BQL is dropped
 *   home of the backend: coroutine: write or flush, ret; signal the access
 *   vCPU: the access is dispatched again --BQL--> end: array, status; owner = NULL; others go on
 *
 * Another vCPU's access meanwhile is pended until the end. Neither main nor the BQL is needed for the
 * I/O, so a busy monitor delays no program, and a hung backend delays no monitor.
 *
 * What is on the disk, also after a kill or a power cut:
 *   1. When the store of a program or erase has retired, its data was written to the backend. Where
 *      a format keeps metadata in memory (qcow2), so was what leads to the data. It survives the
 *      death of the process.
 *   2. When a write that leads to array mode has retired, all earlier data is on stable storage.
 *      Without a write cache (cache=writethrough) that is so at each program.
 *   3. After a cut during a program each word is old or new; of a buffered program a prefix is new,
 *      in units of BLOCK_SECTOR_SIZE. After a cut during an erase each sector of the block is old or
 *      erased.
 *
 * Invariants
 *   1. owner is set from begin to end of one operation; the mapping is hidden meanwhile.
 *   2. The array changes at the end of an operation, under the BQL, by what the disk has of it.
 *   3. No owner while the vCPUs are parked: parking waits for the access. So reset, save and load
 *      find no operation, and each mode of cfi.h can be saved.
 */
#ifndef SKIFF_HW_FIRMWARE_PFLASH_H
#define SKIFF_HW_FIRMWARE_PFLASH_H

#include "block/block.h"
#include "hw/core/device.h"
#include "hw/firmware/cfi.h"

/* Places the bank at @base: its memory becomes a block of RAM that the guest and DMA only read.
 * Before the VM is created. */
void pflash_map(Device *dev, uint64_t base) RUNS_IN_MAIN;
/* Its content, borrowed: @pflash_size() bytes. */
const uint8_t *pflash_array(const Device *dev) ANY_THREAD;
uint64_t pflash_size(const Device *dev) ANY_THREAD;

#endif

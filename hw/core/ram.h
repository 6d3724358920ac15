/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest RAM as devices see it: a few blocks of guest-physical address space with a host mapping.
 *
 * The set of blocks is built before any vCPU or queue runs and never changes afterwards, so lookups
 * from any thread need no lock. DMA goes to RAM only (R5): an address that is not wholly RAM is the
 * device's error, never an access.
 */
#ifndef SKIFF_HW_CORE_RAM_H
#define SKIFF_HW_CORE_RAM_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include "util/loop/thread.h"

typedef struct RamBlock {
    uint64_t gpa;
    uint64_t size;
    uint8_t *host;
    bool read_only; /* ROM: the guest and DMA read it only */
    int fd;         /* memfd behind it, or -1 */
    uint64_t fd_offset;
    const char *name;
} RamBlock;

#define GUEST_RAM_MAX_BLOCKS 8

typedef struct GuestRam {
    RamBlock blocks[GUEST_RAM_MAX_BLOCKS]; /* sorted by gpa, not overlapping */
    unsigned count;
} GuestRam;

/* Adds a mapping the caller owns. Aborts on overlap (a board's bug). Before anything runs. */
void guest_ram_add(GuestRam *ram, const RamBlock *block) ANY_THREAD;
/* Host address of [gpa, gpa+len), all inside one block; NULL when any byte is not RAM, or is
 * read-only and @write. len 0 is NULL. */
void *guest_ram_map(const GuestRam *ram, uint64_t gpa, uint64_t len, bool write) ANY_THREAD;
/* Copies; false (nothing copied) when not wholly RAM. May span adjacent blocks. */
bool guest_ram_read(const GuestRam *ram, uint64_t gpa, void *buf, uint64_t len) ANY_THREAD;
bool guest_ram_write(const GuestRam *ram, uint64_t gpa, const void *buf, uint64_t len) ANY_THREAD;
/* Bytes of RAM (not ROM) below/above 4 GiB. */
uint64_t guest_ram_below_4g(const GuestRam *ram) ANY_THREAD;
uint64_t guest_ram_above_4g(const GuestRam *ram) ANY_THREAD;

#endif

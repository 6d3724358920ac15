/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory table that a vhost back end gets: guest RAM as regions of this process' memory.
 *
 * Only RAM that the guest and devices may write is in it. A back end can write all that it knows, so ROM
 * is left out; a descriptor that points to ROM is then a device error, as it is for writes of skiff's own
 * devices. The blocks of GuestRam do not change once the machine is built (hw/core/ram.h), and the table
 * is built at each start of a back end, so nothing has to be followed while it runs.
 */
#ifndef SKIFF_HW_VHOST_VHOST_MEMORY_H
#define SKIFF_HW_VHOST_VHOST_MEMORY_H

#include "hw/core/ram.h"

typedef struct VhostRegion {
    uint64_t gpa;
    uint64_t size;
    void *host;
    int fd; /* the memfd behind it, or -1 */
    uint64_t fd_offset;
} VhostRegion;

typedef struct VhostMemory {
    VhostRegion regions[GUEST_RAM_MAX_BLOCKS]; /* sorted by gpa */
    unsigned count;
} VhostMemory;

/* False + error: more than @max_regions regions, or @needs_fds and a region has no descriptor. */
bool vhost_memory_build(const GuestRam *ram, unsigned max_regions, bool needs_fds,
                        VhostMemory *memory, GError **error) ANY_THREAD;
/* One past the last guest-physical address in the table: the size of what a VhostLog covers. */
uint64_t vhost_memory_end(const VhostMemory *memory) ANY_THREAD;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/vhost/vhost_memory.h"

#include "util/opts/opts.h"

bool vhost_memory_build(const GuestRam *ram, unsigned max_regions, bool needs_fds,
                        VhostMemory *memory, GError **error)
{
    memory->count = 0;
    for (unsigned i = 0; i < ram->count; i++) {
        const RamBlock *b = &ram->blocks[i];
        if (b->read_only) {
            continue;
        }
        if (needs_fds && b->fd < 0) {
            g_set_error(
                error, OPT_ERROR, OPT_ERROR_VALUE,
                "guest memory is not shared; add -object "
                "memory-backend-memfd,id=mem,size=SIZE,share=on -machine memory-backend=mem");
            return false;
        }
        if (memory->count == max_regions) {
            g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                        "the back end accepts only %u regions of memory", max_regions);
            return false;
        }
        memory->regions[memory->count++] = (VhostRegion){.gpa = b->gpa,
                                                         .size = b->size,
                                                         .host = b->host,
                                                         .fd = b->fd,
                                                         .fd_offset = b->fd_offset};
    }
    return true;
}

uint64_t vhost_memory_end(const VhostMemory *memory)
{
    if (memory->count == 0) {
        return 0;
    }
    const VhostRegion *last = &memory->regions[memory->count - 1];
    return last->gpa + last->size;
}

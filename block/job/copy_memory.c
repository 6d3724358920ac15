/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory of a copy: what claims have reserved, and buffers that are kept for later claims. New
 * memory costs a page fault for each page, which is most of the processor time of a copy.
 *
 * Invariant: the buffers of claims and those that are kept have at most BlockCopy.memory bytes. Only
 * copy_reserve_more() exceeds that.
 */
#include <stdlib.h>
#include "block/job/copy_int.h"

#define MEMORY_UNIT ((uint64_t)4096)
#define MEMORY_SPARE_MIN ((uint64_t)64 << 10) /* smaller buffers are not kept */

/* At the begin of a buffer that no claim uses. */
typedef struct CopySpare {
    struct CopySpare *next;
    uint64_t size;
} CopySpare;

/* ---- reservations ---- */

/* Of few sizes, so that a later claim finds a buffer that fits. */
uint64_t copy_memory_for(const BlockCopy *c, uint64_t bytes)
{
    uint64_t size = MEMORY_UNIT;
    while (size < bytes && size < c->chunk_max) {
        size *= 2;
    }
    return bytes == 0 ? 0 : MIN(size, MAX(c->chunk_max, MEMORY_UNIT));
}

bool copy_reserve(BlockCopy *c, uint64_t bytes)
{
    uint64_t size = copy_memory_for(c, bytes);
    if (c->memory_used + size > c->memory) {
        return false;
    }
    c->memory_used += size;
    return true;
}

void copy_reserve_more(BlockCopy *c, uint64_t bytes)
{
    c->memory_used += copy_memory_for(c, bytes);
}

/* ---- buffers ---- */

void copy_free_spare(BlockCopy *c)
{
    while (c->spare != NULL) {
        CopySpare *s = c->spare;
        c->spare = s->next;
        free(s);
    }
    c->spare_bytes = 0;
}

bool copy_get_buffer(CopyClaim *k)
{
    BlockCopy *c = k->copy;
    for (CopySpare **link = &c->spare; *link != NULL; link = &(*link)->next) {
        CopySpare *s = *link;
        if (s->size == k->memory) {
            *link = s->next;
            c->spare_bytes -= s->size;
            k->data = (uint8_t *)s;
            return true;
        }
    }
    if (c->memory_used + c->spare_bytes > c->memory) {
        copy_free_spare(c);
    }
    void *data;
    bool ok = posix_memalign(&data, BLOCK_MEMORY_ALIGNMENT_MAX, k->memory) == 0;
    k->data = ok ? data : NULL;
    return ok;
}

static RUNS_IN_IOTHREAD void copy_put_buffer(BlockCopy *c, void *data, uint64_t size)
{
    if (size < MEMORY_SPARE_MIN || c->memory_used + c->spare_bytes + size > c->memory) {
        free(data);
        return;
    }
    CopySpare *s = data;
    *s = (CopySpare){.next = c->spare, .size = size};
    c->spare = s;
    c->spare_bytes += size;
}

void copy_release_memory(CopyClaim *k)
{
    BlockCopy *c = k->copy;
    c->memory_used -= k->memory;
    if (k->data != NULL) {
        copy_put_buffer(c, g_steal_pointer(&k->data), k->memory);
    }
    k->memory = 0;
    co_queue_wake_all(&c->memory_waiters);
}

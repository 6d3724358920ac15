/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/net/net_ring.h"

#include <assert.h>
#include <glib.h>
#include <string.h>
#include "util/iov.h"

#define NET_RING_ALIGN 4u
#define NET_RING_WRAP UINT32_MAX

void net_ring_init(NetRing *r, uint32_t size)
{
    assert(size >= NET_RING_ALIGN && (size & (size - 1)) == 0);
    *r = (NetRing){.data = g_malloc(size), .size = size};
}

void net_ring_clear(NetRing *r)
{
    g_clear_pointer(&r->data, g_free);
}

uint32_t net_ring_used(const NetRing *r)
{
    return atomic_load_explicit(&r->tail, memory_order_acquire) - atomic_load(&r->head);
}

/* The space of a record. */
static uint32_t net_ring_record(uint32_t bytes)
{
    return (uint32_t)sizeof(uint32_t) + ((bytes + NET_RING_ALIGN - 1) & ~(NET_RING_ALIGN - 1));
}

static uint32_t *net_ring_word(const NetRing *r, uint32_t position)
{
    return (uint32_t *)(void *)(r->data + (position & (r->size - 1)));
}

bool net_ring_put(NetRing *r, const struct iovec *iov, unsigned count, size_t offset,
                  uint32_t bytes)
{
    uint32_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
    uint32_t free_space = r->size - (tail - atomic_load(&r->head));
    uint32_t to_end = r->size - (tail & (r->size - 1)), need = net_ring_record(bytes);
    uint32_t gap = need > to_end ? to_end : 0;
    assert(bytes <= r->size / 2 - NET_RING_ALIGN);
    if (gap + need > free_space) {
        return false;
    }
    if (gap != 0) {
        *net_ring_word(r, tail) = NET_RING_WRAP;
        tail += gap;
    }
    *net_ring_word(r, tail) = bytes;
    size_t copied = iov_copy_to_buf(iov, count, offset,
                                    r->data + (tail & (r->size - 1)) + sizeof(uint32_t), bytes);
    assert(copied == bytes);
    atomic_store_explicit(&r->tail, tail + need, memory_order_release);
    return true;
}

/* The oldest record, past a gap. NULL: there is none. A gap and the record behind it come together, so the tail is
 * read once. */
static uint32_t *net_ring_oldest(NetRing *r)
{
    uint32_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
    if (head == atomic_load_explicit(&r->tail, memory_order_acquire)) {
        return NULL;
    }
    if (*net_ring_word(r, head) == NET_RING_WRAP) {
        head += r->size - (head & (r->size - 1));
        atomic_store(&r->head, head);
    }
    return net_ring_word(r, head);
}

const uint8_t *net_ring_peek(NetRing *r, uint32_t *bytes)
{
    uint32_t *record = net_ring_oldest(r);
    if (record == NULL) {
        return NULL;
    }
    *bytes = *record;
    return (const uint8_t *)(record + 1);
}

void net_ring_pop(NetRing *r)
{
    const uint32_t *record = net_ring_oldest(r);
    assert(record != NULL);
    uint32_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
    atomic_store(&r->head, head + net_ring_record(*record));
}

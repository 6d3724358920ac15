/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/vring_driver.h"

#include <glib.h>
#include <string.h>

static uint64_t align_up(uint64_t n, uint64_t align)
{
    return (n + align - 1) / align * align;
}

uint64_t vring_driver_bytes(unsigned size)
{
    return align_up((uint64_t)size * sizeof(VringDesc), 4096) +
           align_up(vring_avail_bytes(size), 4096) + align_up(vring_used_bytes(size), 4096);
}

void vring_driver_init(VringDriver *d, const GuestRam *ram, uint64_t gpa, unsigned size)
{
    *d = (VringDriver){.ram = ram, .size = size, .desc_gpa = gpa};
    d->avail_gpa = gpa + align_up((uint64_t)size * sizeof(VringDesc), 4096);
    d->used_gpa = d->avail_gpa + align_up(vring_avail_bytes(size), 4096);
    d->desc = guest_ram_map(ram, gpa, vring_driver_bytes(size), true);
    g_assert_nonnull(d->desc);
    memset(d->desc, 0, vring_driver_bytes(size));
    d->avail = guest_ram_map(ram, d->avail_gpa, vring_avail_bytes(size), true);
    d->used = guest_ram_map(ram, d->used_gpa, vring_used_bytes(size), true);
}

VirtQueueSetup vring_driver_setup(const VringDriver *d, bool event_idx, bool indirect)
{
    return (VirtQueueSetup){.desc_gpa = d->desc_gpa,
                            .avail_gpa = d->avail_gpa,
                            .used_gpa = d->used_gpa,
                            .size = (uint16_t)d->size,
                            .event_idx = event_idx,
                            .indirect = indirect};
}

static VringDesc desc_of(const VringBuffer *b, bool last, uint16_t next)
{
    return (VringDesc){
        .addr = b->gpa,
        .len = b->len,
        .flags = (uint16_t)((b->write ? VRING_DESC_F_WRITE : 0) | (last ? 0 : VRING_DESC_F_NEXT)),
        .next = last ? 0 : next};
}

uint16_t vring_driver_chain(VringDriver *d, const VringBuffer *buffers, unsigned count)
{
    uint16_t head = d->next_desc;
    for (unsigned i = 0; i < count; i++) {
        uint16_t at = d->next_desc;
        d->next_desc = (uint16_t)((d->next_desc + 1) % d->size);
        d->desc[at] = desc_of(&buffers[i], i + 1 == count, d->next_desc);
    }
    return head;
}

uint16_t vring_driver_indirect(VringDriver *d, uint64_t table_gpa, const VringBuffer *buffers,
                               unsigned count)
{
    VringDesc *table = guest_ram_map(d->ram, table_gpa, count * sizeof(VringDesc), true);
    g_assert_nonnull(table);
    for (unsigned i = 0; i < count; i++) {
        VringDesc desc = desc_of(&buffers[i], i + 1 == count, (uint16_t)(i + 1));
        memcpy(&table[i], &desc, sizeof(desc));
    }
    return vring_driver_indirect_again(d, table_gpa, count);
}

uint16_t vring_driver_indirect_again(VringDriver *d, uint64_t table_gpa, unsigned count)
{
    uint16_t head = d->next_desc;
    d->next_desc = (uint16_t)((d->next_desc + 1) % d->size);
    d->desc[head] = (VringDesc){.addr = table_gpa,
                                .len = (uint32_t)(count * sizeof(VringDesc)),
                                .flags = VRING_DESC_F_INDIRECT};
    return head;
}

void vring_driver_offer(VringDriver *d, uint16_t head)
{
    atomic_store_explicit(&d->avail->ring[d->avail_idx % d->size], head, memory_order_relaxed);
    d->avail_idx++;
    atomic_store(&d->avail->idx, d->avail_idx);
}

bool vring_driver_wants_kick(const VringDriver *d, uint16_t old, bool event_idx)
{
    if (!event_idx) {
        return !(atomic_load(&d->used->flags) & VRING_USED_F_NO_NOTIFY);
    }
    const _Atomic uint16_t *event = (const _Atomic uint16_t *)(const void *)&d->used->ring[d->size];
    return vring_need_event(atomic_load(event), d->avail_idx, old);
}

void vring_driver_set_used_event(VringDriver *d, uint16_t event)
{
    atomic_store(&d->avail->ring[d->size], event);
}

bool vring_driver_take_used(VringDriver *d, uint32_t *id, uint32_t *len)
{
    if (atomic_load_explicit(&d->used->idx, memory_order_acquire) == d->last_used) {
        return false;
    }
    VringUsedElement *e = &d->used->ring[d->last_used % d->size];
    *id = atomic_load_explicit(&e->id, memory_order_relaxed);
    *len = atomic_load_explicit(&e->len, memory_order_relaxed);
    d->last_used++;
    return true;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/virtqueue.h"
#include "lib/cpu.h"
#include "lib/exit.h"
#include "lib/memory.h"
#include "lib/virtio_regs.h"

#define DESC_NEXT 1
#define DESC_WRITE 2
#define DESC_INDIRECT 4
#define AVAIL_NO_INTERRUPT 1
#define USED_NO_NOTIFY 1

/* Word offsets in the avail ring. */
#define AVAIL_FLAGS 0
#define AVAIL_IDX 1
#define AVAIL_RING 2

typedef struct UsedEntry {
    uint32_t head, written;
} UsedEntry;

static volatile uint16_t *used_flags(const Virtqueue *queue)
{
    return (volatile uint16_t *)queue->used;
}

static volatile uint16_t *used_idx(const Virtqueue *queue)
{
    return (volatile uint16_t *)(queue->used + 2);
}

static volatile UsedEntry *used_ring(const Virtqueue *queue)
{
    return (volatile UsedEntry *)(queue->used + 4);
}

static volatile uint16_t *avail_event(const Virtqueue *queue)
{
    return (volatile uint16_t *)(queue->used + 4 + sizeof(UsedEntry) * queue->size);
}

static volatile uint16_t *used_event(const Virtqueue *queue)
{
    return &queue->avail[AVAIL_RING + queue->size];
}

static void write_address(uint64_t gpa, const volatile void *ring)
{
    uint64_t address = (uint64_t)ring;
    mmio_write32(gpa, (uint32_t)address);
    mmio_write32(gpa + 4, (uint32_t)(address >> 32));
}

static void forbid_interrupts(Virtqueue *queue)
{
    if (queue->event_idx) {
        /* The value farthest from the device's index; reached only after 65535 more. */
        *used_event(queue) = (uint16_t)(queue->used_idx - 1);
    } else {
        queue->avail[AVAIL_FLAGS] = AVAIL_NO_INTERRUPT;
    }
}

static void allocate(Virtqueue *queue, bool indirect)
{
    size_t size = queue->size;
    queue->descs = memory_alloc(size * sizeof(VirtqueueDesc), 4096);
    queue->avail = memory_alloc(2 * (AVAIL_RING + size + 1), 4096);
    queue->used = memory_alloc(4 + size * sizeof(UsedEntry) + 2, 4096);
    queue->tokens = memory_alloc(size * sizeof(void *), 64);
    queue->chain_sizes = memory_alloc(size * sizeof(uint16_t), 64);
    if (indirect) {
        queue->indirect = memory_alloc(size * VIRTQUEUE_MAX_INDIRECT * sizeof(VirtqueueDesc), 4096);
    }
    for (uint16_t i = 0; i < queue->size; i++) {
        queue->descs[i].next = i + 1;
    }
    queue->free_count = queue->size;
}

void virtqueue_setup(Virtqueue *queue, VirtioDevice *dev, uint16_t index, uint16_t size,
                     uint16_t vector)
{
    uint64_t common = dev->common_gpa;
    mmio_write16(common + COMMON_QUEUE_SELECT, index);
    uint16_t largest = mmio_read16(common + COMMON_QUEUE_SIZE);
    if (largest == 0) {
        guest_fail("virtio queue %u is not there", index);
    }
    *queue = (Virtqueue){.index = index, .size = size < largest ? size : largest};
    queue->event_idx = dev->features & VIRTIO_F_EVENT_IDX;
    allocate(queue, dev->features & VIRTIO_F_INDIRECT_DESC);
    forbid_interrupts(queue);
    mmio_write16(common + COMMON_QUEUE_SIZE, queue->size);
    mmio_write16(common + COMMON_QUEUE_VECTOR, vector);
    if (mmio_read16(common + COMMON_QUEUE_VECTOR) != vector) {
        guest_fail("virtio queue %u refuses MSI-X entry %u", index, vector);
    }
    write_address(common + COMMON_QUEUE_DESC, queue->descs);
    write_address(common + COMMON_QUEUE_DRIVER, queue->avail);
    write_address(common + COMMON_QUEUE_DEVICE, queue->used);
    uint16_t offset = mmio_read16(common + COMMON_QUEUE_NOTIFY_OFFSET);
    queue->notify_gpa = dev->notify_gpa + (uint64_t)offset * dev->notify_multiplier;
    mmio_write16(common + COMMON_QUEUE_ENABLE, 1);
}

static void fill_desc(VirtqueueDesc *desc, const VirtqueueBuffer *buffer, bool write, bool last)
{
    desc->address = (uint64_t)buffer->data;
    desc->size = buffer->size;
    desc->flags = (uint16_t)((write ? DESC_WRITE : 0) | (last ? 0 : DESC_NEXT));
}

static void add_indirect(Virtqueue *queue, const VirtqueueBuffer *buffers, unsigned out_count,
                         unsigned count)
{
    uint16_t head = queue->free_head;
    VirtqueueDesc *desc = &queue->descs[head];
    VirtqueueDesc *table = &queue->indirect[head * VIRTQUEUE_MAX_INDIRECT];
    for (unsigned i = 0; i < count; i++) {
        fill_desc(&table[i], &buffers[i], i >= out_count, i == count - 1);
        table[i].next = (uint16_t)(i + 1);
    }
    queue->free_head = desc->next;
    queue->free_count--;
    queue->chain_sizes[head] = 1;
    desc->address = (uint64_t)table;
    desc->size = count * (uint32_t)sizeof(*table);
    desc->flags = DESC_INDIRECT;
}

static void add_direct(Virtqueue *queue, const VirtqueueBuffer *buffers, unsigned out_count,
                       unsigned count)
{
    uint16_t head = queue->free_head;
    uint16_t at = head;
    for (unsigned i = 0; i < count; i++) {
        fill_desc(&queue->descs[at], &buffers[i], i >= out_count, i == count - 1);
        at = queue->descs[at].next;
    }
    queue->free_head = at;
    queue->free_count = (uint16_t)(queue->free_count - count);
    queue->chain_sizes[head] = (uint16_t)count;
}

bool virtqueue_add(Virtqueue *queue, const VirtqueueBuffer *buffers, unsigned out_count,
                   unsigned in_count, void *token, bool indirect)
{
    unsigned count = out_count + in_count;
    uint16_t head = queue->free_head;
    if (indirect && queue->indirect && count <= VIRTQUEUE_MAX_INDIRECT) {
        if (queue->free_count == 0) {
            return false;
        }
        add_indirect(queue, buffers, out_count, count);
    } else {
        if (queue->free_count < count) {
            return false;
        }
        add_direct(queue, buffers, out_count, count);
    }
    queue->tokens[head] = token;
    queue->avail[AVAIL_RING + queue->avail_idx % queue->size] = head;
    queue->avail_idx++;
    return true;
}

void virtqueue_kick(Virtqueue *queue)
{
    uint16_t old = queue->kicked_idx;
    if (old == queue->avail_idx) {
        return;
    }
    __atomic_store_n(&queue->avail[AVAIL_IDX], queue->avail_idx, __ATOMIC_RELEASE);
    queue->kicked_idx = queue->avail_idx;
    /* The index must be visible before the check whether the device needs a kick. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    bool notify;
    if (queue->event_idx) {
        uint16_t event = *avail_event(queue);
        notify = (uint16_t)(queue->avail_idx - event - 1) < (uint16_t)(queue->avail_idx - old);
    } else {
        notify = !(*used_flags(queue) & USED_NO_NOTIFY);
    }
    if (notify) {
        queue->kicks++;
        mmio_write16(queue->notify_gpa, queue->index);
    }
}

static void give_back(Virtqueue *queue, uint16_t head)
{
    uint16_t last = head;
    for (uint16_t i = 1; i < queue->chain_sizes[head]; i++) {
        last = queue->descs[last].next;
    }
    queue->descs[last].next = queue->free_head;
    queue->free_head = head;
    queue->free_count = (uint16_t)(queue->free_count + queue->chain_sizes[head]);
    queue->chain_sizes[head] = 0;
}

void *virtqueue_take(Virtqueue *queue, uint32_t *written)
{
    if (__atomic_load_n(used_idx(queue), __ATOMIC_ACQUIRE) == queue->used_idx) {
        return NULL;
    }
    volatile UsedEntry *entry = &used_ring(queue)[queue->used_idx % queue->size];
    uint32_t head = entry->head;
    *written = entry->written;
    queue->used_idx++;
    if (head >= queue->size || queue->chain_sizes[head] == 0) {
        guest_fail("virtio queue %u: used ring names head %u, which is not in flight", queue->index,
                   head);
    }
    void *token = queue->tokens[head];
    give_back(queue, (uint16_t)head);
    forbid_interrupts(queue);
    return token;
}

bool virtqueue_want_interrupt(Virtqueue *queue)
{
    if (queue->event_idx) {
        *used_event(queue) = queue->used_idx;
    } else {
        queue->avail[AVAIL_FLAGS] = 0;
    }
    /* The request must be visible before the check for an earlier completion. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return __atomic_load_n(used_idx(queue), __ATOMIC_ACQUIRE) == queue->used_idx;
}

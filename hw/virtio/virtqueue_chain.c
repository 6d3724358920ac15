/* SPDX-License-Identifier: Apache-2.0 */
/* From a head to iovecs: each descriptor of a chain is read once, checked, and mapped. */
#include <glib.h>
#include <inttypes.h>
#include <string.h>
#include "hw/virtio/virtqueue_int.h"

/* Reads one descriptor once, so that the checked value is the used one, whatever the guest
 * writes. */
static VringDesc desc_read(const VringDesc *at)
{
    union {
        VringDesc desc;
        uint64_t word[2];
    } copy;
    if ((uintptr_t)at % sizeof(uint64_t) == 0) {
        const uint64_t *words = (const uint64_t *)(const void *)at;
        copy.word[0] = __atomic_load_n(&words[0], __ATOMIC_RELAXED);
        copy.word[1] = __atomic_load_n(&words[1], __ATOMIC_RELAXED);
    } else { /* an INDIRECT table may be unaligned */
        memcpy(&copy, at, sizeof(copy));
        __asm__ volatile("" ::: "memory"); /* no second read of guest memory */
    }
    return copy.desc;
}

/* State of the walk along one chain. */
typedef struct Chain {
    VirtQueueElement *element;
    struct iovec *iov;      /* max_size of them */
    VirtQueueSpan *spans;   /* the same */
    unsigned count;         /* used so far */
    const VringDesc *table; /* the ring's, then an INDIRECT one if there is one */
    uint32_t table_size;
    uint32_t seen; /* descriptors in this table: more than it has entries is a loop */
    bool in_indirect;
} Chain;

static bool chain_add_buffer(VirtQueue *vq, Chain *chain, const VringDesc *desc)
{
    bool write = desc->flags & VRING_DESC_F_WRITE;
    VirtQueueElement *e = chain->element;
    if (!write && e->in_num) {
        virtqueue_fail(vq, "head %u: readable descriptor behind a writable one", e->head);
        return false;
    }
    /* The spec's limit is the queue size. A driver that was given a smaller ring than it asked for
     * may still build INDIRECT tables for the size that the device offered, so that is the limit
     * here. */
    if (chain->count == vq->max_size) {
        virtqueue_fail(vq, "head %u: chain longer than %u descriptors", e->head, vq->max_size);
        return false;
    }
    void *host = guest_ram_map(vq->ram, desc->addr, desc->len, write);
    if (!host) {
        virtqueue_fail(vq, "head %u: %s 0x%" PRIx64 "+0x%x is not RAM", e->head,
                       write ? "writable" : "readable", desc->addr, desc->len);
        return false;
    }
    chain->spans[chain->count] = (VirtQueueSpan){.gpa = desc->addr, .len = desc->len};
    chain->iov[chain->count++] = (struct iovec){.iov_base = host, .iov_len = desc->len};
    uint64_t *total = write ? &e->in_len : &e->out_len;
    unsigned *num = write ? &e->in_num : &e->out_num;
    *total += desc->len;
    *num += 1;
    if (e->out_len + e->in_len > UINT32_MAX) {
        virtqueue_fail(vq, "head %u: chain of more than 4 GiB", e->head);
        return false;
    }
    return true;
}

static bool chain_enter_indirect(VirtQueue *vq, Chain *chain, const VringDesc *desc)
{
    unsigned head = chain->element->head;
    if (!vq->setup.indirect || chain->in_indirect) {
        virtqueue_fail(vq, "head %u: INDIRECT %s", head,
                       chain->in_indirect ? "inside INDIRECT" : "was not negotiated");
        return false;
    }
    /* `next` has 16 bits: a longer table cannot be walked. WRITE is ignored (§2.7.5.3.2). */
    if ((desc->flags & VRING_DESC_F_NEXT) || !desc->len || desc->len % sizeof(VringDesc) ||
        desc->len / sizeof(VringDesc) > UINT16_MAX + 1u) {
        virtqueue_fail(vq, "head %u: INDIRECT table of 0x%x bytes, flags 0x%x", head, desc->len,
                       desc->flags);
        return false;
    }
    chain->table = guest_ram_map(vq->ram, desc->addr, desc->len, false);
    if (!chain->table) {
        virtqueue_fail(vq, "head %u: INDIRECT table 0x%" PRIx64 "+0x%x is not RAM", head,
                       desc->addr, desc->len);
        return false;
    }
    chain->table_size = desc->len / sizeof(VringDesc);
    chain->seen = 0;
    chain->in_indirect = true;
    return true;
}

static bool chain_walk(VirtQueue *vq, Chain *chain, uint32_t index)
{
    for (;;) {
        if (index >= chain->table_size) {
            virtqueue_fail(vq, "head %u: next %u outside a table of %u", chain->element->head,
                           index, chain->table_size);
            return false;
        }
        if (chain->seen++ == chain->table_size) {
            virtqueue_fail(vq, "head %u: descriptors form a loop", chain->element->head);
            return false;
        }
        VringDesc desc = desc_read(&chain->table[index]);
        if (desc.flags & VRING_DESC_F_INDIRECT) {
            if (!chain_enter_indirect(vq, chain, &desc)) {
                return false;
            }
            index = 0;
            continue;
        }
        if (!chain_add_buffer(vq, chain, &desc)) {
            return false;
        }
        if (!(desc.flags & VRING_DESC_F_NEXT)) {
            return true;
        }
        index = desc.next;
    }
}

bool virtqueue_read_chain(VirtQueue *vq, VirtQueueElement *element)
{
    size_t at = (size_t)element->slot * vq->max_size;
    struct iovec *iov = vq->iovs + at;
    element->out_num = element->in_num = 0;
    element->out_len = element->in_len = 0;
    Chain chain = {.element = element,
                   .iov = iov,
                   .spans = vq->spans + at,
                   .table = vq->desc,
                   .table_size = vq->setup.size};
    if (!chain_walk(vq, &chain, element->head)) {
        return false;
    }
    element->out = iov;
    element->in = iov + element->out_num;
    element->first_in = (uint16_t)element->out_num;
    element->descs = (uint16_t)chain.count;
    return true;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <glib.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "hw/virtio/virtqueue.h"
#include "hw/virtio/vring.h"

#define HEAD_WORDS (VIRTQUEUE_MAX_SIZE / 64)

struct VirtQueue {
    /* fixed */
    unsigned max_size;
    size_t request_size;
    uint8_t *requests;   /* max_size of request_size bytes */
    struct iovec *iovs;  /* max_size of max_size; pages nobody needs are never touched */
    uint16_t *free_slot; /* stack */
    unsigned free_count;

    /* while started */
    bool started;
    char broken[VIRTQUEUE_REASON_SIZE]; /* "": works */
    const GuestRam *ram;
    VirtQueueSetup setup;
    const VringDesc *desc;
    VringAvail *avail;
    VringUsed *used;
    uint16_t last_avail;     /* next entry to pop */
    uint16_t shadow_avail;   /* avail.idx when it was last read */
    uint16_t used_idx;       /* next entry to fill */
    uint16_t published_used; /* used.idx in guest memory */
    bool first_flush;        /* the driver's used_event may be from before our start */
    unsigned in_flight;
    unsigned retry_count;
    uint64_t busy[HEAD_WORDS];   /* in flight, parked or to be retried */
    uint64_t parked[HEAD_WORDS]; /* set aside since the start */
    uint64_t retry[HEAD_WORDS];  /* set aside before the start, not popped yet */
};

static bool bit_test(const uint64_t *map, unsigned n)
{
    return map[n / 64] >> (n % 64) & 1;
}

static void bit_set(uint64_t *map, unsigned n)
{
    map[n / 64] |= 1ull << (n % 64);
}

static void bit_clear(uint64_t *map, unsigned n)
{
    map[n / 64] &= ~(1ull << (n % 64));
}

VirtQueue *virtqueue_new(unsigned max_size, size_t request_size)
{
    assert(max_size && max_size <= VIRTQUEUE_MAX_SIZE && !(max_size & (max_size - 1)));
    assert(request_size >= sizeof(VirtQueueElement));
    VirtQueue *vq = g_new0(VirtQueue, 1);
    vq->max_size = max_size;
    vq->request_size = (request_size + 15) & ~(size_t)15;
    vq->requests = g_malloc0(max_size * vq->request_size);
    vq->iovs = g_new(struct iovec, (size_t)max_size * max_size);
    vq->free_slot = g_new0(uint16_t, max_size);
    return vq;
}

void virtqueue_free(VirtQueue *vq)
{
    if (!vq) {
        return;
    }
    assert(!vq->started);
    g_free(vq->requests);
    g_free(vq->iovs);
    g_free(vq->free_slot);
    g_free(vq);
}

static void __attribute__((format(printf, 2, 0)))
break_v(VirtQueue *vq, const char *format, va_list args)
{
    if (!vq->broken[0]) {
        vsnprintf(vq->broken, sizeof(vq->broken), format, args);
    }
}

static void __attribute__((format(printf, 2, 3))) fail(VirtQueue *vq, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    break_v(vq, format, args);
    va_end(args);
}

void virtqueue_break(VirtQueue *vq, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    break_v(vq, format, args);
    va_end(args);
}

const char *virtqueue_broken(const VirtQueue *vq)
{
    return vq->broken[0] ? vq->broken : NULL;
}

bool virtqueue_started(const VirtQueue *vq)
{
    return vq->started;
}

unsigned virtqueue_in_flight(const VirtQueue *vq)
{
    return vq->in_flight;
}

/* ---- start and stop ---- */

static void *ring_map(VirtQueue *vq, const char *what, uint64_t gpa, uint64_t bytes, unsigned align,
                      bool write)
{
    if (gpa % align) {
        fail(vq, "%s at 0x%" PRIx64 " is not aligned to %u", what, gpa, align);
        return NULL;
    }
    void *host = guest_ram_map(vq->ram, gpa, bytes, write);
    if (!host) {
        fail(vq, "%s at 0x%" PRIx64 " is not RAM", what, gpa);
    }
    return host;
}

static bool rings_map(VirtQueue *vq)
{
    const VirtQueueSetup *s = &vq->setup;
    if (!s->size || s->size > vq->max_size || (s->size & (s->size - 1))) {
        fail(vq, "queue size %u is not a power of two up to %u", s->size, vq->max_size);
        return false;
    }
    vq->desc = ring_map(vq, "descriptor table", s->desc_gpa, (uint64_t)s->size * sizeof(VringDesc),
                        VRING_DESC_ALIGN, false);
    vq->avail = ring_map(vq, "available ring", s->avail_gpa, vring_avail_bytes(s->size),
                         VRING_AVAIL_ALIGN, false);
    vq->used =
        ring_map(vq, "used ring", s->used_gpa, vring_used_bytes(s->size), VRING_USED_ALIGN, true);
    return !vq->broken[0];
}

static void parked_load(VirtQueue *vq, const VirtQueuePosition *from)
{
    for (unsigned head = 0; head < vq->setup.size; head++) {
        if (from->parked[head / 8] >> (head % 8) & 1) {
            bit_set(vq->busy, head);
            bit_set(vq->retry, head);
            vq->retry_count++;
        }
    }
}

bool virtqueue_start(VirtQueue *vq, const GuestRam *ram, const VirtQueueSetup *setup,
                     const VirtQueuePosition *from)
{
    assert(!vq->started);
    vq->started = true;
    vq->broken[0] = '\0';
    vq->ram = ram;
    vq->setup = *setup;
    vq->last_avail = from->last_avail;
    vq->shadow_avail = from->last_avail;
    vq->used_idx = from->used;
    vq->published_used = from->used;
    vq->first_flush = true;
    vq->in_flight = 0;
    vq->retry_count = 0;
    memset(vq->busy, 0, sizeof(vq->busy));
    memset(vq->parked, 0, sizeof(vq->parked));
    memset(vq->retry, 0, sizeof(vq->retry));
    vq->free_count = vq->max_size;
    for (unsigned i = 0; i < vq->max_size; i++) {
        vq->free_slot[i] = (uint16_t)(vq->max_size - 1 - i);
    }
    if (!rings_map(vq)) {
        return false;
    }
    parked_load(vq, from);
    return true;
}

void virtqueue_stop(VirtQueue *vq, VirtQueuePosition *to)
{
    assert(vq->started && !vq->in_flight);
    memset(to, 0, sizeof(*to));
    to->last_avail = vq->last_avail;
    to->used = vq->used_idx;
    for (unsigned head = 0; head < VIRTQUEUE_MAX_SIZE; head++) {
        if (bit_test(vq->parked, head) || bit_test(vq->retry, head)) {
            to->parked[head / 8] |= (uint8_t)(1u << (head % 8));
        }
    }
    vq->started = false;
    vq->desc = NULL;
    vq->avail = NULL;
    vq->used = NULL;
}

/* ---- taking a chain ---- */

/* Reads one descriptor once: what is checked is what is used, whatever the guest writes meanwhile.
 */
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
    } else { /* an INDIRECT table may lie anywhere */
        memcpy(&copy, at, sizeof(copy));
        __asm__ volatile("" ::: "memory"); /* no second read of guest memory */
    }
    return copy.desc;
}

/* The walk along one chain. */
typedef struct Chain {
    VirtQueueElement *element;
    struct iovec *iov;      /* max_size of them */
    unsigned count;         /* used so far */
    const VringDesc *table; /* the ring's, then perhaps an INDIRECT one */
    uint32_t table_size;
    uint32_t seen; /* in this table: more than it has entries is a loop */
    bool in_indirect;
} Chain;

static bool chain_add_buffer(VirtQueue *vq, Chain *chain, const VringDesc *desc)
{
    bool write = desc->flags & VRING_DESC_F_WRITE;
    VirtQueueElement *e = chain->element;
    if (!write && e->in_num) {
        fail(vq, "head %u: readable descriptor behind a writable one", e->head);
        return false;
    }
    /* The spec's bound is the queue size. A driver that was given a smaller ring than it asked for
     * may still build INDIRECT tables for the size the device offered, so that is the bound. */
    if (chain->count == vq->max_size) {
        fail(vq, "head %u: chain longer than %u descriptors", e->head, vq->max_size);
        return false;
    }
    void *host = guest_ram_map(vq->ram, desc->addr, desc->len, write);
    if (!host) {
        fail(vq, "head %u: %s 0x%" PRIx64 "+0x%x is not RAM", e->head,
             write ? "writable" : "readable", desc->addr, desc->len);
        return false;
    }
    chain->iov[chain->count++] = (struct iovec){.iov_base = host, .iov_len = desc->len};
    uint64_t *total = write ? &e->in_len : &e->out_len;
    unsigned *num = write ? &e->in_num : &e->out_num;
    *total += desc->len;
    *num += 1;
    if (e->out_len + e->in_len > UINT32_MAX) {
        fail(vq, "head %u: chain of more than 4 GiB", e->head);
        return false;
    }
    return true;
}

static bool chain_enter_indirect(VirtQueue *vq, Chain *chain, const VringDesc *desc)
{
    unsigned head = chain->element->head;
    if (!vq->setup.indirect || chain->in_indirect) {
        fail(vq, "head %u: INDIRECT %s", head,
             chain->in_indirect ? "inside INDIRECT" : "was not negotiated");
        return false;
    }
    /* `next` has 16 bits: a longer table could not be walked. WRITE is ignored (§2.7.5.3.2). */
    if ((desc->flags & VRING_DESC_F_NEXT) || !desc->len || desc->len % sizeof(VringDesc) ||
        desc->len / sizeof(VringDesc) > UINT16_MAX + 1u) {
        fail(vq, "head %u: INDIRECT table of 0x%x bytes, flags 0x%x", head, desc->len, desc->flags);
        return false;
    }
    chain->table = guest_ram_map(vq->ram, desc->addr, desc->len, false);
    if (!chain->table) {
        fail(vq, "head %u: INDIRECT table 0x%" PRIx64 "+0x%x is not RAM", head, desc->addr,
             desc->len);
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
            fail(vq, "head %u: next %u outside a table of %u", chain->element->head, index,
                 chain->table_size);
            return false;
        }
        if (chain->seen++ == chain->table_size) {
            fail(vq, "head %u: descriptors form a loop", chain->element->head);
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

/* Fills @element from the chain at element->head. */
static bool element_read(VirtQueue *vq, VirtQueueElement *element)
{
    struct iovec *iov = vq->iovs + (size_t)element->slot * vq->max_size;
    element->out_num = element->in_num = 0;
    element->out_len = element->in_len = 0;
    Chain chain = {.element = element, .iov = iov, .table = vq->desc, .table_size = vq->setup.size};
    if (!chain_walk(vq, &chain, element->head)) {
        return false;
    }
    element->out = iov;
    element->in = iov + element->out_num;
    return true;
}

/* ---- pop ---- */

void virtqueue_look(VirtQueue *vq)
{
    if (!vq->started || vq->broken[0]) {
        return;
    }
    uint16_t idx = atomic_load_explicit(&vq->avail->idx, memory_order_acquire);
    if ((uint16_t)(idx - vq->last_avail) > vq->setup.size) {
        fail(vq, "available index jumped from %u to %u in a queue of %u", vq->last_avail, idx,
             vq->setup.size);
        return;
    }
    vq->shadow_avail = idx;
}

static VirtQueueElement *element_take(VirtQueue *vq, uint16_t head)
{
    assert(vq->free_count);
    uint16_t slot = vq->free_slot[--vq->free_count];
    VirtQueueElement *e =
        (VirtQueueElement *)(void *)(vq->requests + (size_t)slot * vq->request_size);
    e->slot = slot;
    e->head = head;
    if (!element_read(vq, e)) {
        vq->free_slot[vq->free_count++] = slot;
        return NULL;
    }
    vq->in_flight++;
    return e;
}

static void element_release(VirtQueue *vq, VirtQueueElement *element)
{
    assert(vq->in_flight && bit_test(vq->busy, element->head));
    vq->in_flight--;
    vq->free_slot[vq->free_count++] = element->slot;
}

static VirtQueueElement *pop_retried(VirtQueue *vq)
{
    unsigned word = 0;
    while (!vq->retry[word]) {
        word++;
    }
    unsigned head = word * 64 + (unsigned)__builtin_ctzll(vq->retry[word]);
    VirtQueueElement *e = element_take(vq, (uint16_t)head);
    if (e) {
        bit_clear(vq->retry, head);
        vq->retry_count--;
    }
    return e;
}

void *virtqueue_pop(VirtQueue *vq)
{
    if (!vq->started || vq->broken[0]) {
        return NULL;
    }
    if (vq->retry_count) {
        return pop_retried(vq);
    }
    if (vq->shadow_avail == vq->last_avail) {
        virtqueue_look(vq);
    }
    if (vq->broken[0] || vq->shadow_avail == vq->last_avail) {
        return NULL;
    }
    unsigned slot = vq->last_avail & (vq->setup.size - 1u);
    uint16_t head = atomic_load_explicit(&vq->avail->ring[slot], memory_order_relaxed);
    if (head >= vq->setup.size) {
        fail(vq, "head %u in a queue of %u", head, vq->setup.size);
        return NULL;
    }
    if (bit_test(vq->busy, head)) {
        fail(vq, "head %u made available while still in flight", head);
        return NULL;
    }
    VirtQueueElement *e = element_take(vq, head);
    if (e) {
        bit_set(vq->busy, head);
        vq->last_avail++;
    }
    return e;
}

void virtqueue_unpop(VirtQueue *vq, VirtQueueElement *element)
{
    element_release(vq, element);
    bit_clear(vq->busy, element->head);
    vq->last_avail--;
}

void virtqueue_park(VirtQueue *vq, VirtQueueElement *element)
{
    element_release(vq, element);
    bit_set(vq->parked, element->head);
}

/* ---- push and flush ---- */

void virtqueue_push(VirtQueue *vq, VirtQueueElement *element, uint32_t len)
{
    assert(vq->started);
    element_release(vq, element);
    bit_clear(vq->busy, element->head);
    VringUsedElement *entry = &vq->used->ring[vq->used_idx & (vq->setup.size - 1u)];
    atomic_store_explicit(&entry->id, element->head, memory_order_relaxed);
    atomic_store_explicit(&entry->len, len, memory_order_relaxed);
    vq->used_idx++;
}

bool virtqueue_flush(VirtQueue *vq)
{
    if (!vq->started || !vq->used || vq->published_used == vq->used_idx) {
        return false;
    }
    uint16_t old = vq->published_used;
    vq->published_used = vq->used_idx;
    /* The store of idx and the load of the driver's wish must not pass each other, or driver and
     * device each miss the other's: both are sequentially consistent. */
    atomic_store_explicit(&vq->used->idx, vq->used_idx, memory_order_seq_cst);
    if (!vq->setup.event_idx) {
        uint16_t flags = atomic_load_explicit(&vq->avail->flags, memory_order_seq_cst);
        return !(flags & VRING_AVAIL_F_NO_INTERRUPT);
    }
    uint16_t event = atomic_load_explicit(&vq->avail->ring[vq->setup.size], memory_order_seq_cst);
    bool wanted = vq->first_flush || vring_need_event(event, vq->used_idx, old);
    vq->first_flush = false;
    return wanted;
}

/* ---- notifications from the driver ---- */

void virtqueue_set_notification(VirtQueue *vq, bool enabled)
{
    if (!vq->started || vq->broken[0]) {
        return;
    }
    if (!vq->setup.event_idx) {
        atomic_store_explicit(&vq->used->flags, enabled ? 0 : VRING_USED_F_NO_NOTIFY,
                              memory_order_seq_cst);
        return;
    }
    /* An avail_event that lies behind keeps the driver quiet, so there is nothing to write to
     * disable. */
    if (enabled) {
        _Atomic uint16_t *avail_event = (_Atomic uint16_t *)(void *)&vq->used->ring[vq->setup.size];
        atomic_store_explicit(avail_event, vq->shadow_avail, memory_order_seq_cst);
    }
}

bool virtqueue_has_new(const VirtQueue *vq)
{
    return vq->started && !vq->broken[0] &&
           atomic_load_explicit(&vq->avail->idx, memory_order_seq_cst) != vq->shadow_avail;
}

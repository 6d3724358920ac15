/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-balloon: the guest's statistics. virtio_balloon.h has the protocol between the threads. */
#include <string.h>
#include "hw/virtio/virtio_balloon.h"
#include "util/iov.h"

/* A driver sends one entry for each tag that it knows. Further entries of a buffer are ignored. */
#define BALLOON_STATS_MAX 64u

const char *const virtio_balloon_stat_names[VIRTIO_BALLOON_STAT_COUNT + 1] = {
    "stat-swap-in",
    "stat-swap-out",
    "stat-major-faults",
    "stat-minor-faults",
    "stat-free-memory",
    "stat-total-memory",
    "stat-available-memory",
    "stat-disk-caches",
    "stat-htlb-pgalloc",
    "stat-htlb-pgfail",
    "stat-oom-kills",
    "stat-alloc-stalls",
    "stat-async-scans",
    "stat-direct-scans",
    "stat-async-reclaims",
    "stat-direct-reclaims",
    NULL,
};

typedef struct __attribute__((packed)) BalloonStat {
    uint16_t tag;
    uint64_t value;
} BalloonStat;

/* ---- home loop ---- */

static RUNS_IN_LOOP void balloon_stats_read(VirtioBalloon *b, const VirtQueueElement *e)
{
    BalloonStat stats[BALLOON_STATS_MAX];
    size_t bytes = iov_copy_to_buf(e->out, e->out_num, 0, stats, sizeof(stats));
    memset(b->slot.values, 0xff, sizeof(b->slot.values));
    for (size_t i = 0; i < bytes / sizeof(stats[0]); i++) {
        if (stats[i].tag < VIRTIO_BALLOON_STAT_COUNT) {
            b->slot.values[stats[i].tag] = stats[i].value;
        }
    }
    b->slot.updated_s = g_get_real_time() / G_USEC_PER_SEC;
}

/* The protocol has one buffer. A driver that offers a second one gets the first back. */
void virtio_balloon_stats_receive(VirtioBalloon *b)
{
    VirtioDevice *vdev = &b->base.vdev;
    VirtQueueElement *e;
    while ((e = virtio_pop(vdev, VIRTIO_BALLOON_STATS)) != NULL) {
        if (b->stats_buffer != NULL) {
            virtio_complete(vdev, VIRTIO_BALLOON_STATS, b->stats_buffer, 0);
        }
        b->stats_buffer = e;
        if (!atomic_load_explicit(&b->slot_with_main, memory_order_acquire)) {
            balloon_stats_read(b, e);
            atomic_store_explicit(&b->slot_with_main, true, memory_order_release);
            aio_bh_schedule(&b->stats_bh);
        }
    }
}

void virtio_balloon_stats_release(VirtioBalloon *b)
{
    if (b->stats_buffer != NULL) {
        virtio_unpop(&b->base.vdev, VIRTIO_BALLOON_STATS, g_steal_pointer(&b->stats_buffer));
    }
}

static void balloon_stats_wanted(void *opaque)
{
    VirtioBalloon *b = opaque;
    VirtioDevice *vdev = &b->base.vdev;
    enter_loop(vdev->home);
    if (virtio_taking(vdev) && b->stats_buffer != NULL) {
        virtio_complete(vdev, VIRTIO_BALLOON_STATS, g_steal_pointer(&b->stats_buffer), 0);
    }
}

/* ---- main ---- */

static void balloon_stats_arrived(void *opaque)
{
    VirtioBalloon *b = opaque;
    enter_main();
    b->stats = b->slot;
    atomic_store_explicit(&b->slot_with_main, false, memory_order_release);
}

static void balloon_poll_due(void *opaque)
{
    VirtioBalloon *b = opaque;
    enter_main();
    aio_bh_schedule(&b->poll_bh);
    aio_timer_arm(&b->poll, aio_now_ns(b->poll.ctx) + b->poll_interval_s * INT64_C(1000000000));
}

void virtio_balloon_set_poll_interval(Device *dev, uint32_t seconds)
{
    VirtioBalloon *b = (VirtioBalloon *)(void *)dev;
    if (b->poll_interval_s == seconds) {
        return;
    }
    b->poll_interval_s = seconds;
    aio_timer_disarm(&b->poll);
    if (seconds != 0) {
        balloon_poll_due(b);
    }
}

uint32_t virtio_balloon_poll_interval(const Device *dev)
{
    return ((const VirtioBalloon *)(const void *)dev)->poll_interval_s;
}

const VirtioBalloonStats *virtio_balloon_stats(const Device *dev)
{
    return &((const VirtioBalloon *)(const void *)dev)->stats;
}

void virtio_balloon_stats_init(VirtioBalloon *b)
{
    AioContext *main_ctx = b->base.pci.base.env->main_ctx;
    memset(b->stats.values, 0xff, sizeof(b->stats.values));
    aio_bh_init(&b->poll_bh, b->base.vdev.home, balloon_stats_wanted, b);
    aio_bh_init(&b->stats_bh, main_ctx, balloon_stats_arrived, b);
    aio_timer_init(&b->poll, main_ctx, balloon_poll_due, b);
}

static void balloon_cancel_at_home(void *opaque)
{
    VirtioBalloon *b = opaque;
    enter_loop(b->base.vdev.home);
    aio_bh_cancel(&b->poll_bh);
}

void virtio_balloon_stats_co_cleanup(VirtioBalloon *b)
{
    aio_timer_disarm(&b->poll);
    co_call_in(b->base.vdev.home, balloon_cancel_at_home, b);
    aio_bh_cancel(&b->stats_bh);
}

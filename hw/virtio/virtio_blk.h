/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk-pci, shared by its two files: requests (virtio_blk.c) and the device
 * (virtio_blk_pci.c). */
#ifndef SKIFF_HW_VIRTIO_VIRTIO_BLK_H
#define SKIFF_HW_VIRTIO_VIRTIO_BLK_H

#include <stddef.h>
#include "hw/core/disk.h"
#include "hw/virtio/virtio_mapping.h"
#include "hw/virtio/virtio_pci.h"
#include "util/loop/batch.h"

/* §5.2.3 */
#define VIRTIO_BLK_F_SEG_MAX (1ull << 2)
#define VIRTIO_BLK_F_RO (1ull << 5)
#define VIRTIO_BLK_F_BLK_SIZE (1ull << 6)
#define VIRTIO_BLK_F_FLUSH (1ull << 9)
#define VIRTIO_BLK_F_TOPOLOGY (1ull << 10)
#define VIRTIO_BLK_F_CONFIG_WCE (1ull << 11)
#define VIRTIO_BLK_F_MQ (1ull << 12)
#define VIRTIO_BLK_F_DISCARD (1ull << 13)
#define VIRTIO_BLK_F_WRITE_ZEROES (1ull << 14)

typedef struct VirtioBlkState {
    VirtioState virtio;
    bool writeback; /* the cache mode that the guest sees and may change */
    uint8_t pad[7];
} VirtioBlkState;

/* The requests that pass between an iothread of the mapping and the home. */
typedef struct VirtioBlkLane {
    LoopBatch visits;  /* to the home: those of a kick together */
    LoopBatch results; /* back: those that end in a turn of the home together */
    BlkLane *block;    /* executes reads and writes in the iothread itself, if it can */
} VirtioBlkLane;

typedef struct VirtioBlk {
    VirtioPci base;
    /* links */
    BlockBackend *blk;
    /* config */
    char *drive, *iothread, *serial;
    VirtioMapping mapping;
    VirtioBlkLane *lanes; /* of each iothread of the mapping; the home does not use its own */
    uint16_t num_queues, queue_size;
    uint64_t logical_block_size, physical_block_size, min_io_size, opt_io_size;
    uint64_t discard_granularity;
    uint32_t max_discard_sectors, max_write_zeroes_sectors;
    int write_cache; /* on, off, auto */
    bool config_wce, discard, write_zeroes;
    int werror, rerror;
    bool default_writeback;
    /* runtime, home */
    bool stopping;
    CoQueue visitors; /* requests of other iothreads that wait for the end of a drained section */
    /* state */
    VirtioBlkState state;
} VirtioBlk;

extern const DeviceType virtio_blk_pci_type;

static inline VirtioBlk *virtio_blk_from(VirtioDevice *vdev)
{
    return (VirtioBlk *)(void *)((uint8_t *)vdev - offsetof(VirtioBlk, base.vdev));
}

/* Home loop: VirtioOps.handle_queue. */
void virtio_blk_handle_queue(VirtioDevice *vdev, unsigned index);
size_t virtio_blk_request_size(void) ANY_THREAD;
/* Makes the lanes of the mapping, for the device and for its backend. */
void virtio_blk_co_init_lanes(VirtioBlk *b) coroutine_fn RUNS_IN_MAIN;

#endif

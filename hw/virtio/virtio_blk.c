/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk-pci: a disk (virtio 1.2 §5.2).
 *
 * The device's home loop is its drive's: one thread handles doorbell, ring, block request and
 * interrupt. With iothread-vq-mapping other iothreads have some of the rings. They execute reads and
 * writes themselves if nothing has to see these on their way to the file (block/lane.h). Other requests
 * go to the home in batches, are checked and executed there, and come back in batches. The execution
 * of a request is a coroutine; its struct is in the queue's storage.
 *
 *   popped --header is invalid--> the device needs a reset
 *     | coroutine: blk_co_*()
 *     +--done, or error that is reported or ignored--> used ring
 *     +--still throttled when the device stops--> parked; popped again after `cont`
 *     +--error, werror/rerror=stop--> parked, a stop is requested; popped again after `cont`
 */
#include <errno.h>
#include "block/block.h"
#include "hw/virtio/trace_events.h"
#include "hw/virtio/virtio_blk.h"
#include "util/iov.h"

/* §5.2.6 */
enum {
    VIRTIO_BLK_T_IN = 0,
    VIRTIO_BLK_T_OUT = 1,
    VIRTIO_BLK_T_FLUSH = 4,
    VIRTIO_BLK_T_GET_ID = 8,
    VIRTIO_BLK_T_DISCARD = 11,
    VIRTIO_BLK_T_WRITE_ZEROES = 13,
};
enum { VIRTIO_BLK_S_OK = 0, VIRTIO_BLK_S_IOERR = 1, VIRTIO_BLK_S_UNSUPP = 2 };
#define VIRTIO_BLK_ID_BYTES 20
#define VIRTIO_BLK_RANGE_UNMAP 1u

typedef struct VirtioBlkHeader {
    uint32_t type;
    uint32_t reserved;
    uint64_t sector;
} VirtioBlkHeader;

typedef struct VirtioBlkRange {
    uint64_t sector;
    uint32_t num_sectors;
    uint32_t flags;
} VirtioBlkRange;

typedef struct VirtioBlkRequest {
    VirtQueueElement elem;
    LoopBatchItem item;    /* in a batch of its lane */
    BlkLaneRequest direct; /* executed by the lane itself */
    VirtioBlk *dev;
    unsigned queue;
    VirtioBlkHeader header;
    uint8_t *status;  /* the last device-writable byte */
    uint32_t written; /* device-writable bytes, for the used ring */
    /* set by the execution, in the device's home */
    uint8_t result; /* VIRTIO_BLK_S_* */
    bool park;      /* it has no result: it is executed again after `cont` */
} VirtioBlkRequest;

/* ---- the result of an execution ---- */

/* Turns the backend's result of a valid request into the guest's. */
static RUNS_IN_LOOP void virtio_blk_request_done(VirtioBlkRequest *r, bool is_read, int ret)
{
    VirtioBlk *b = r->dev;
    const Machine *m = b->base.pci.base.env->machine;
    trace_virtio_blk_complete(device_label(&b->base.pci.base), r->header.type, r->header.sector,
                              ret);
    if (ret == BLK_NOT_STARTED) {
        r->park = true;
        return;
    }
    r->result = VIRTIO_BLK_S_OK;
    if (ret >= 0) {
        return;
    }
    DeviceIoAction action = disk_error_action(is_read ? b->rerror : b->werror, is_read, -ret);
    disk_error_report(&b->base.pci.base, b->blk, is_read, action, -ret);
    if (action == DEVICE_IO_STOP) {
        r->park = true;
        machine_request(m, VM_REQUEST_STOP_IO_ERROR, -ret);
    } else if (action != DEVICE_IO_IGNORE) {
        r->result = VIRTIO_BLK_S_IOERR;
    }
}

/* ---- request types ---- */

/* Whether [sector, sector + bytes / 512) is on the disk and consists of whole logical blocks. */
static bool virtio_blk_range_ok(const VirtioBlk *b, uint64_t sector, uint64_t bytes)
{
    uint64_t capacity = blk_size(b->blk) / BLOCK_SECTOR_SIZE;
    uint64_t count = bytes / BLOCK_SECTOR_SIZE;
    uint64_t sectors_per_block = b->logical_block_size / BLOCK_SECTOR_SIZE;
    return bytes % b->logical_block_size == 0 && sector % sectors_per_block == 0 &&
           sector <= capacity && count <= capacity - sector;
}

static coroutine_fn RUNS_IN_IOTHREAD void virtio_blk_request_read(VirtioBlkRequest *r)
{
    VirtQueueElement *e = &r->elem;
    uint64_t bytes = e->in_len;
    if (!virtio_blk_range_ok(r->dev, r->header.sector, bytes)) {
        blk_account_invalid(r->dev->blk, BLK_OP_READ);
        r->result = VIRTIO_BLK_S_IOERR;
        return;
    }
    int ret = blk_co_preadv(r->dev->blk, r->header.sector * BLOCK_SECTOR_SIZE, bytes, e->in,
                            e->in_num, 0);
    virtio_blk_request_done(r, true, ret);
}

static coroutine_fn RUNS_IN_IOTHREAD void virtio_blk_request_write(VirtioBlkRequest *r)
{
    VirtQueueElement *e = &r->elem;
    uint64_t bytes = e->out_len;
    if (blk_read_only(r->dev->blk) || !virtio_blk_range_ok(r->dev, r->header.sector, bytes)) {
        blk_account_invalid(r->dev->blk, BLK_OP_WRITE);
        r->result = VIRTIO_BLK_S_IOERR;
        return;
    }
    int ret = blk_co_pwritev(r->dev->blk, r->header.sector * BLOCK_SECTOR_SIZE, bytes, e->out,
                             e->out_num, 0);
    virtio_blk_request_done(r, false, ret);
}

/* DISCARD and WRITE_ZEROES, with one range each (max_discard_seg and max_write_zeroes_seg are
 * 1). */
static coroutine_fn RUNS_IN_IOTHREAD void virtio_blk_request_range(VirtioBlkRequest *r)
{
    VirtioBlk *b = r->dev;
    bool discard = r->header.type == VIRTIO_BLK_T_DISCARD;
    uint64_t feature = discard ? VIRTIO_BLK_F_DISCARD : VIRTIO_BLK_F_WRITE_ZEROES;
    uint32_t max = discard ? b->max_discard_sectors : b->max_write_zeroes_sectors;
    uint32_t flags_known = discard ? 0 : VIRTIO_BLK_RANGE_UNMAP;
    VirtioBlkRange range = {0};
    if (!virtio_has_feature(&b->base.vdev, feature)) {
        r->result = VIRTIO_BLK_S_UNSUPP;
        return;
    }
    if (r->elem.out_len != sizeof(range)) {
        r->result = VIRTIO_BLK_S_IOERR;
        return;
    }
    iov_copy_to_buf(r->elem.out, r->elem.out_num, 0, &range, sizeof(range));
    if (range.flags & ~flags_known) { /* §5.2.6.2 */
        r->result = VIRTIO_BLK_S_UNSUPP;
        return;
    }
    uint64_t bytes = (uint64_t)range.num_sectors * BLOCK_SECTOR_SIZE;
    if (blk_read_only(b->blk) || range.num_sectors > max ||
        !virtio_blk_range_ok(b, range.sector, bytes)) {
        blk_account_invalid(b->blk, discard ? BLK_OP_UNMAP : BLK_OP_WRITE);
        r->result = VIRTIO_BLK_S_IOERR;
        return;
    }
    uint64_t offset = range.sector * BLOCK_SECTOR_SIZE;
    unsigned flags = range.flags & VIRTIO_BLK_RANGE_UNMAP ? BLOCK_REQ_MAY_UNMAP : 0;
    int ret = discard ? blk_co_discard(b->blk, offset, bytes)
                      : blk_co_write_zeroes(b->blk, offset, bytes, flags);
    virtio_blk_request_done(r, false, ret);
}

static RUNS_IN_LOOP void virtio_blk_request_get_id(VirtioBlkRequest *r)
{
    char id[VIRTIO_BLK_ID_BYTES] = {0}; /* no NUL if all 20 are used */
    const char *serial = r->dev->serial ? r->dev->serial : "";
    memcpy(id, serial, strnlen(serial, sizeof(id)));
    iov_copy_from_buf(r->elem.in, r->elem.in_num, 0, id, MIN(sizeof(id), r->elem.in_len));
    r->result = VIRTIO_BLK_S_OK;
}

static coroutine_fn RUNS_IN_IOTHREAD void virtio_blk_request_execute(VirtioBlkRequest *r)
{
    switch (r->header.type) {
    case VIRTIO_BLK_T_IN:
        virtio_blk_request_read(r);
        return;
    case VIRTIO_BLK_T_OUT:
        virtio_blk_request_write(r);
        return;
    case VIRTIO_BLK_T_FLUSH:
        virtio_blk_request_done(r, false, blk_co_flush(r->dev->blk));
        return;
    case VIRTIO_BLK_T_DISCARD:
    case VIRTIO_BLK_T_WRITE_ZEROES:
        virtio_blk_request_range(r);
        return;
    case VIRTIO_BLK_T_GET_ID:
        virtio_blk_request_get_id(r);
        return;
    default:
        r->result = VIRTIO_BLK_S_UNSUPP;
        return;
    }
}

/* ---- from the ring and back ---- */

/* The execution has ended, in the loop of the ring. */
static RUNS_IN_IOTHREAD void virtio_blk_request_finish(VirtioBlkRequest *r)
{
    VirtioDevice *vdev = &r->dev->base.vdev;
    if (r->park) {
        virtio_park(vdev, r->queue, &r->elem);
        return;
    }
    *r->status = r->result;
    virtio_complete(vdev, r->queue, &r->elem, r->written);
}

static void virtio_blk_request_run(void *opaque)
{
    VirtioBlkRequest *r = opaque;
    enter_coroutine();
    enter_iothread(r->dev->base.vdev.home);
    virtio_blk_request_execute(r);
    virtio_blk_request_finish(r);
}

/* ---- requests of another iothread's ring ---- */

/* Whether the lane executes the request itself: a read or write that needs nothing of the home. What is
 * invalid is refused, and counted, in the home. */
static RUNS_IN_IOTHREAD bool virtio_blk_begin_direct(VirtioBlkLane *lane, VirtioBlkRequest *r)
{
    const VirtioBlk *b = r->dev;
    const VirtQueueElement *e = &r->elem;
    bool is_write = r->header.type == VIRTIO_BLK_T_OUT;
    uint64_t sector = r->header.sector;
    uint64_t bytes = is_write ? e->out_len : e->in_len;
    if (!lane->block || (!is_write && r->header.type != VIRTIO_BLK_T_IN) ||
        sector > UINT64_MAX / BLOCK_SECTOR_SIZE || bytes % b->logical_block_size ||
        sector % (b->logical_block_size / BLOCK_SECTOR_SIZE)) {
        return false;
    }
    r->direct = (BlkLaneRequest){.is_write = is_write,
                                 .offset = sector * BLOCK_SECTOR_SIZE,
                                 .bytes = bytes,
                                 .iov = is_write ? e->out : e->in,
                                 .niov = is_write ? e->out_num : e->in_num};
    return blk_lane_begin(lane->block, &r->direct);
}

static void virtio_blk_direct_run(void *opaque)
{
    VirtioBlkRequest *r = opaque;
    VirtioBlk *b = r->dev;
    enter_coroutine();
    enter_iothread(virtio_queue_home(&b->base.vdev, r->queue));
    int ret = blk_lane_co_run(b->lanes[b->mapping.queue_lanes[r->queue]].block, &r->direct);
    virtio_blk_request_done(r, !r->direct.is_write, ret);
    virtio_blk_request_finish(r);
}

/* In the home. The request waits while the device is quiesced, which stops the home's rings only.
 * When the device stops meanwhile, it comes back unexecuted. */
static void virtio_blk_visit_run(void *opaque)
{
    VirtioBlkRequest *r = opaque;
    VirtioBlk *b = r->dev;
    enter_coroutine();
    enter_iothread(b->base.vdev.home);
    while (b->base.vdev.quiesced && !b->stopping) {
        co_queue_wait(&b->visitors, "the end of a drained section");
    }
    if (b->base.vdev.quiesced) {
        r->park = true;
    } else {
        virtio_blk_request_execute(r);
    }
    LoopBatch *results = &b->lanes[b->mapping.queue_lanes[r->queue]].results;
    loop_batch_add(results, &r->item);
    loop_batch_send_later(results);
}

static VirtioBlkRequest *virtio_blk_request_of(LoopBatchItem *item)
{
    return (VirtioBlkRequest *)(void *)((uint8_t *)item - offsetof(VirtioBlkRequest, item));
}

static void virtio_blk_visit(void *opaque, LoopBatchItem *item)
{
    const VirtioBlk *b = opaque;
    enter_iothread(b->base.vdev.home);
    co_start_now(b->base.vdev.home, virtio_blk_visit_run, virtio_blk_request_of(item));
}

static void virtio_blk_result(void *opaque, LoopBatchItem *item)
{
    const VirtioBlk *b = opaque;
    VirtioBlkRequest *r = virtio_blk_request_of(item);
    enter_iothread(virtio_queue_home(&b->base.vdev, r->queue));
    virtio_blk_request_finish(r);
}

void virtio_blk_co_init_lanes(VirtioBlk *b)
{
    AioContext *home = b->mapping.homes[0];
    b->lanes = g_new0(VirtioBlkLane, b->mapping.count);
    if (b->mapping.count > 1) {
        blk_co_add_lanes(b->blk, b->mapping.homes + 1, b->mapping.count - 1);
    }
    for (unsigned i = 0; i < b->mapping.count; i++) {
        VirtioBlkLane *lane = &b->lanes[i];
        loop_batch_init(&lane->visits, b->mapping.homes[i], home, virtio_blk_visit, b);
        loop_batch_init(&lane->results, home, b->mapping.homes[i], virtio_blk_result, b);
        lane->block = i > 0 ? blk_lane(b->blk, i - 1) : NULL;
    }
}

/* ---- parsing ---- */

/* Removes the last byte of the device-writable part and returns it. */
static uint8_t *virtio_blk_cut_status(VirtQueueElement *e)
{
    struct iovec *last = &e->in[e->in_num - 1]; /* never empty: virtqueue.c */
    uint8_t *status = (uint8_t *)last->iov_base + last->iov_len - 1;
    e->in_len--;
    if (!--last->iov_len) {
        e->in_num--;
    }
    return status;
}

/* The driver chooses the framing (§2.7.4): header and status are found by position. */
static RUNS_IN_LOOP bool virtio_blk_request_parse(VirtioBlkRequest *r)
{
    VirtQueueElement *e = &r->elem;
    if (e->out_len < sizeof(r->header) || e->in_len < 1) {
        virtio_fail_request(&r->dev->base.vdev, r->queue, e, "no room for header or status");
        return false;
    }
    r->written = (uint32_t)e->in_len;
    iov_copy_to_buf(e->out, e->out_num, 0, &r->header, sizeof(r->header));
    iov_discard_front(&e->out, &e->out_num, sizeof(r->header));
    e->out_len -= sizeof(r->header);
    r->status = virtio_blk_cut_status(e);
    trace_virtio_blk_submit(device_label(&r->dev->base.pci.base), r->header.type, r->header.sector,
                            e->out_len + e->in_len);
    return true;
}

/* A valid request begins. */
static RUNS_IN_IOTHREAD void virtio_blk_request_start(AioContext *home, VirtioBlkRequest *r)
{
    VirtioBlk *b = r->dev;
    VirtioBlkLane *lane =
        home != b->base.vdev.home ? &b->lanes[b->mapping.queue_lanes[r->queue]] : NULL;
    if (!lane) {
        co_start_now(home, virtio_blk_request_run, r);
    } else if (virtio_blk_begin_direct(lane, r)) {
        co_start_now(home, virtio_blk_direct_run, r);
    } else {
        loop_batch_add(&lane->visits, &r->item);
    }
}

void virtio_blk_handle_queue(VirtioDevice *vdev, unsigned index)
{
    VirtioBlk *b = virtio_blk_from(vdev);
    AioContext *home = virtio_queue_home(vdev, index);
    enter_iothread(home);
    VirtioBlkRequest *r;
    while ((r = virtio_pop(vdev, index))) {
        r->dev = b;
        r->queue = index;
        r->park = false;
        if (virtio_blk_request_parse(r)) {
            virtio_blk_request_start(home, r);
        }
    }
    if (home != vdev->home) {
        loop_batch_send(&b->lanes[b->mapping.queue_lanes[index]].visits);
    }
}

size_t virtio_blk_request_size(void)
{
    return sizeof(VirtioBlkRequest);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests of virtio-scsi (virtio 1.2 §5.6.6.1).
 *
 *   popped --header or response has no room--> the device needs a reset
 *     | coroutine: scsi_request_co_run()
 *     +--ended--> response, used ring
 *     +--held---> list of held requests; parked when the queues stop, or ended by task management
 */
#include "hw/virtio/trace_events.h"
#include "hw/virtio/virtio_scsi.h"
#include "util/iov.h"

#define REQUEST_HEADER 19 /* bytes before the CDB: lun, tag, task_attr, prio, crn */
#define RESPONSE_HEADER 12
#define LUN_BYTES 8
#define LUN_FLAT 0x4000 /* flat space addressing, SAM-5 §4.7.7.4 */

/* ---- addresses ---- */

bool virtio_scsi_parse_lun(const uint8_t *lun, uint8_t *target, uint16_t *number)
{
    static const uint8_t zero[4];
    *target = lun[1];
    *number = scsi_be16(lun + 2) & 0x3fff;
    return lun[0] == 1 && (lun[2] & 0x80) == 0 && memcmp(lun + 4, zero, sizeof(zero)) == 0;
}

void virtio_scsi_put_lun(uint8_t *lun, const ScsiLun *of)
{
    memset(lun, 0, LUN_BYTES);
    lun[0] = 1;
    lun[1] = (uint8_t)of->target;
    scsi_put16(lun + 2, (uint16_t)(of->lun < 256 ? of->lun : LUN_FLAT | of->lun));
}

/* ---- the response ---- */

void virtio_scsi_cut_response(VirtioScsiRequest *r, size_t bytes)
{
    VirtQueueElement *e = &r->elem;
    unsigned n = 0;
    r->written = (uint32_t)e->in_len;
    while (n < e->in_num && bytes >= e->in[n].iov_len) {
        bytes -= e->in[n++].iov_len;
    }
    r->response_num = n;
    r->response_tail = (struct iovec){0};
    if (bytes) { /* the rest of this element is data */
        struct iovec *split = &e->in[n];
        r->response_tail = (struct iovec){.iov_base = split->iov_base, .iov_len = bytes};
        split->iov_base = (uint8_t *)split->iov_base + bytes;
        split->iov_len -= bytes;
    }
}

void virtio_scsi_respond(VirtioScsiRequest *r, const uint8_t *response, size_t bytes)
{
    size_t done = iov_copy_from_buf(r->elem.in, r->response_num, 0, response, bytes);
    iov_copy_from_buf(&r->response_tail, 1, 0, response + done, bytes - done);
    virtio_scsi_request_end(r, VIRTIO_SCSI_COMPLETE, NULL);
}

static RUNS_IN_LOOP void request_respond(VirtioScsiRequest *r, uint8_t response)
{
    uint8_t out[RESPONSE_HEADER + SCSI_SENSE_FIXED_BYTES] = {0};
    const ScsiRequest *q = &r->scsi;
    bool ok = response == VIRTIO_SCSI_S_OK;
    uint32_t sense = ok ? MIN(q->sense_len, r->dev->sense_size) : 0;
    uint32_t resid = (uint32_t)(r->data_len - (ok ? q->transferred : 0));
    memcpy(out, &sense, sizeof(sense));
    memcpy(out + 4, &resid, sizeof(resid));
    out[10] = ok ? q->status : 0;
    out[11] = response;
    memcpy(out + RESPONSE_HEADER, q->sense, sense);
    trace_virtio_scsi_complete(device_label(&r->dev->base.pci.base), q->tag, response, q->status,
                               resid);
    virtio_scsi_respond(r, out, RESPONSE_HEADER + sense);
}

static uint8_t response_of(ScsiOutcome outcome)
{
    switch (outcome) {
    case SCSI_DONE:
        return VIRTIO_SCSI_S_OK;
    case SCSI_BAD_TARGET:
        return VIRTIO_SCSI_S_BAD_TARGET;
    case SCSI_OVERRUN:
        return VIRTIO_SCSI_S_OVERRUN;
    case SCSI_ABORTED:
        return VIRTIO_SCSI_S_ABORTED;
    case SCSI_RESET:
        return VIRTIO_SCSI_S_RESET;
    default:
        return VIRTIO_SCSI_S_FAILURE;
    }
}

/* ---- held requests ---- */

static VirtioScsiRequest *request_from(ScsiRequest *q)
{
    return (VirtioScsiRequest *)(void *)((uint8_t *)q - offsetof(VirtioScsiRequest, scsi));
}

static RUNS_IN_LOOP void request_hold(VirtioScsiRequest *r)
{
    VirtioScsi *s = r->dev;
    if (virtio_stopping(&s->base.vdev)) {
        scsi_request_release(&r->scsi);
        virtio_scsi_request_end(r, VIRTIO_SCSI_PARK, NULL);
        return;
    }
    r->held_next = s->held;
    r->held_link = &s->held;
    if (s->held) {
        s->held->held_link = &r->held_next;
    }
    s->held = r;
}

static void request_unhold(VirtioScsiRequest *r)
{
    *r->held_link = r->held_next;
    if (r->held_next) {
        r->held_next->held_link = r->held_link;
    }
}

void virtio_scsi_held_ended(ScsiRequest *q)
{
    VirtioScsiRequest *r = request_from(q);
    enter_loop(r->dev->base.vdev.home);
    request_unhold(r);
    request_respond(r, response_of(q->outcome));
}

void virtio_scsi_park_held(VirtioScsi *s)
{
    while (s->held) {
        VirtioScsiRequest *r = s->held;
        request_unhold(r);
        scsi_request_release(&r->scsi);
        virtio_scsi_request_end(r, VIRTIO_SCSI_PARK, NULL);
    }
}

/* ---- execution ---- */

static RUNS_IN_LOOP void request_count_begun(VirtioScsi *s, uint64_t *begun)
{
    if (begun) {
        (*begun)++;
        co_queue_wake_all(&s->arrivals);
    }
}

static void request_run(void *opaque)
{
    VirtioScsiRequest *r = opaque;
    enter_coroutine();
    enter_iothread(r->dev->base.vdev.home);
    request_count_begun(r->dev, r->begun);
    ScsiOutcome outcome = scsi_request_co_run(&r->scsi);
    if (outcome == SCSI_HELD) {
        request_hold(r);
    } else {
        request_respond(r, response_of(outcome));
    }
}

/* The driver chooses the framing (§2.7.4): header, response and data are found by position. False:
 * the request has ended. */
static RUNS_IN_LOOP bool request_parse(VirtioScsiRequest *r)
{
    uint8_t header[REQUEST_HEADER + VIRTIO_SCSI_CDB_SIZE_MAX];
    VirtioScsi *s = r->dev;
    VirtQueueElement *e = &r->elem;
    ScsiRequest *q = &r->scsi;
    size_t request = REQUEST_HEADER + s->cdb_size, response = RESPONSE_HEADER + s->sense_size;
    if (e->out_len < request || e->in_len < response) {
        virtio_scsi_request_end(r, VIRTIO_SCSI_FAIL, "no room for header or response");
        return false;
    }
    iov_copy_to_buf(e->out, e->out_num, 0, header, request);
    iov_discard_front(&e->out, &e->out_num, request);
    virtio_scsi_cut_response(r, response);
    memset(q, 0, sizeof(*q));
    q->bus = &s->bus;
    memcpy(&q->tag, header + LUN_BYTES, sizeof(q->tag));
    memcpy(q->cdb, header + REQUEST_HEADER, MIN(s->cdb_size, SCSI_CDB_MAX));
    q->out = e->out;
    q->out_num = e->out_num;
    q->out_len = e->out_len - request;
    q->in = e->in + r->response_num;
    q->in_num = e->in_num - r->response_num;
    q->in_len = e->in_len - response;
    r->data_len = q->in_len + q->out_len;
    if (q->in_len && q->out_len) { /* INOUT is not offered */
        request_respond(r, VIRTIO_SCSI_S_FAILURE);
        return false;
    }
    if (!virtio_scsi_parse_lun(header, &q->target, &q->lun_number)) {
        request_respond(r, VIRTIO_SCSI_S_BAD_TARGET);
        return false;
    }
    return true;
}

void virtio_scsi_begin(VirtioScsiRequest *r, uint64_t *begun)
{
    VirtioScsi *s = r->dev;
    r->begun = begun;
    if (request_parse(r)) {
        co_start_now(s->base.vdev.home, request_run, r);
    } else {
        request_count_begun(s, begun);
    }
}

void virtio_scsi_take_requests(VirtioScsi *s, unsigned index, unsigned max)
{
    VirtioScsiRequest *r;
    if (virtio_scsi_send_home(s, index, max)) {
        return;
    }
    while (max-- && (r = virtio_pop(&s->base.vdev, index))) {
        r->dev = s;
        r->queue = index;
        virtio_scsi_begin(r, NULL);
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The control queue and the event queue of virtio-scsi (virtio 1.2 §5.6.6.2, §5.6.6.3). */
#include "hw/virtio/trace_events.h"
#include "hw/virtio/virtio_scsi.h"
#include "util/iov.h"

/* Types of control requests. */
enum { CONTROL_TMF = 0, CONTROL_AN_QUERY = 1, CONTROL_AN_SUBSCRIBE = 2 };
#define TMF_BYTES 24 /* type, subtype, lun, tag */
#define AN_BYTES 16  /* type, lun, event_requested */
#define AN_RESPONSE_BYTES 5
#define EVENT_BYTES 16 /* event, lun, reason */

/* ---- task management ---- */

/* Subtypes; NULL in the table: rejected (CLEAR ACA). */
static bool tmf_function(uint32_t subtype, ScsiTaskFunction *function)
{
    static const ScsiTaskFunction functions[] = {
        [0] = SCSI_TASK_ABORT,       [1] = SCSI_TASK_ABORT_SET, [3] = SCSI_TASK_CLEAR_SET,
        [4] = SCSI_TASK_NEXUS_RESET, [5] = SCSI_TASK_LUN_RESET, [6] = SCSI_TASK_QUERY,
        [7] = SCSI_TASK_QUERY_SET};
    if (subtype >= G_N_ELEMENTS(functions) || subtype == 2) {
        return false;
    }
    *function = functions[subtype];
    return true;
}

static coroutine_fn RUNS_IN_IOTHREAD uint8_t tmf_execute(VirtioScsiRequest *r)
{
    static const uint8_t responses[] = {
        [SCSI_TASK_COMPLETE] = VIRTIO_SCSI_S_OK,
        [SCSI_TASK_SUCCEEDED] = VIRTIO_SCSI_S_FUNCTION_SUCCEEDED,
        [SCSI_TASK_BAD_TARGET] = VIRTIO_SCSI_S_BAD_TARGET,
        [SCSI_TASK_INCORRECT_LUN] = VIRTIO_SCSI_S_INCORRECT_LUN,
    };
    ScsiTaskFunction function;
    bool waited;
    if (!tmf_function(r->function, &function)) {
        return VIRTIO_SCSI_S_FUNCTION_REJECTED;
    }
    if (!r->lun_ok) {
        return VIRTIO_SCSI_S_BAD_TARGET;
    }
    ScsiTaskResult result =
        scsi_task_co_manage(&r->dev->bus, function, r->target, r->lun, r->tag, &waited);
    /* The driver sees the used entries of cancelled requests first (§5.6.6.2); and those of requests
     * that have just ended, which may be on their way to the loops of their queues. */
    if (waited || r->dev->mapping.count > 1) {
        virtio_scsi_co_flush(r->dev);
    }
    return responses[result];
}

static void tmf_run(void *opaque)
{
    VirtioScsiRequest *r = opaque;
    enter_coroutine();
    enter_iothread(r->dev->base.vdev.home);
    virtio_scsi_co_collect(r->dev);
    uint8_t response = tmf_execute(r);
    virtio_scsi_respond(r, &response, sizeof(response));
}

/* A function concerns what the driver made available before it, whichever queue is looked at
 * first. Those of other iothreads are collected by the function's coroutine. */
static RUNS_IN_LOOP void take_earlier_requests(VirtioScsi *s)
{
    VirtioDevice *vdev = &s->base.vdev;
    for (unsigned i = VIRTIO_SCSI_FIRST_REQUEST_QUEUE; i < vdev->num_queues; i++) {
        if (virtio_queue_home(vdev, i) == vdev->home) {
            virtio_scsi_take_requests(s, i, vdev->queue_size);
        }
    }
}

static RUNS_IN_LOOP void control_tmf(VirtioScsiRequest *r)
{
    uint8_t request[TMF_BYTES];
    VirtioScsi *s = r->dev;
    VirtQueueElement *e = &r->elem;
    if (e->out_len < TMF_BYTES || e->in_len < 1) {
        virtio_fail_request(&s->base.vdev, r->queue, e, "task management without room");
        return;
    }
    iov_copy_to_buf(e->out, e->out_num, 0, request, sizeof(request));
    memcpy(&r->function, request + 4, sizeof(r->function));
    r->lun_ok = virtio_scsi_parse_lun(request + 8, &r->target, &r->lun);
    memcpy(&r->tag, request + 16, sizeof(r->tag));
    virtio_scsi_cut_response(r, 1);
    take_earlier_requests(s);
    co_start_now(s->base.vdev.home, tmf_run, r);
}

/* ---- asynchronous notification, §5.6.6.2: no event is supported ---- */

static RUNS_IN_LOOP void control_notification(VirtioScsiRequest *r)
{
    uint8_t response[AN_RESPONSE_BYTES] = {0}; /* event_actual, S_OK */
    VirtQueueElement *e = &r->elem;
    if (e->out_len < AN_BYTES || e->in_len < sizeof(response)) {
        virtio_fail_request(&r->dev->base.vdev, r->queue, e, "notification request without room");
        return;
    }
    virtio_scsi_cut_response(r, sizeof(response));
    virtio_scsi_respond(r, response, sizeof(response));
}

void virtio_scsi_handle_control(VirtioScsi *s)
{
    VirtioDevice *vdev = &s->base.vdev;
    VirtioScsiRequest *r;
    while ((r = virtio_pop(vdev, VIRTIO_SCSI_CONTROL_QUEUE))) {
        uint32_t type = UINT32_MAX;
        r->dev = s;
        r->queue = VIRTIO_SCSI_CONTROL_QUEUE;
        iov_copy_to_buf(r->elem.out, r->elem.out_num, 0, &type, sizeof(type));
        switch (type) {
        case CONTROL_TMF:
            control_tmf(r);
            break;
        case CONTROL_AN_QUERY:
        case CONTROL_AN_SUBSCRIBE:
            control_notification(r);
            break;
        default:
            virtio_fail_request(vdev, r->queue, &r->elem, "unknown control request");
            break;
        }
    }
}

/* ---- events ---- */

/* Sends an event, or notes that one was missed. @lun: 8 bytes, or NULL. */
static RUNS_IN_LOOP void event_send(VirtioScsi *s, uint32_t event, const uint8_t *lun,
                                    uint32_t reason)
{
    uint8_t out[EVENT_BYTES] = {0};
    VirtioDevice *vdev = &s->base.vdev;
    VirtioScsiRequest *r = virtio_pop(vdev, VIRTIO_SCSI_EVENT_QUEUE);
    trace_virtio_scsi_event(device_label(vdev->dev), event, reason, r == NULL);
    if (!r) {
        s->state.events_missed = true;
        return;
    }
    r->dev = s;
    r->queue = VIRTIO_SCSI_EVENT_QUEUE;
    if (r->elem.in_len < sizeof(out)) {
        virtio_fail_request(vdev, r->queue, &r->elem, "no room for an event");
        s->state.events_missed = true;
        return;
    }
    if (s->state.events_missed) {
        event |= VIRTIO_SCSI_T_EVENTS_MISSED;
        s->state.events_missed = false;
    }
    memcpy(out, &event, sizeof(event));
    if (lun) {
        memcpy(out + 4, lun, 8);
    }
    memcpy(out + 12, &reason, sizeof(reason));
    virtio_scsi_cut_response(r, sizeof(out));
    virtio_scsi_respond(r, out, sizeof(out));
}

void virtio_scsi_handle_events(VirtioScsi *s)
{
    if (s->state.events_missed) {
        event_send(s, VIRTIO_SCSI_T_NO_EVENT, NULL, 0);
    }
}

/* ---- logical units come and go ---- */

typedef struct LunEvent {
    VirtioScsi *dev;
    uint8_t lun[8];
    uint32_t reason;
    bool running; /* the home loop has the queues */
} LunEvent;

static void lun_event_at_home(void *opaque)
{
    LunEvent *e = opaque;
    enter_coroutine();
    enter_iothread(e->dev->base.vdev.home);
    e->running = virtio_running(&e->dev->base.vdev);
    if (e->running && virtio_has_feature(&e->dev->base.vdev, VIRTIO_SCSI_F_HOTPLUG)) {
        event_send(e->dev, VIRTIO_SCSI_T_TRANSPORT_RESET, e->lun, e->reason);
    }
}

void virtio_scsi_lun_changed(ScsiBus *bus, const ScsiLun *lun, bool present)
{
    VirtioScsi *s = virtio_scsi_of_bus(bus);
    VirtioDevice *vdev = &s->base.vdev;
    LunEvent e = {.dev = s,
                  .reason = present ? VIRTIO_SCSI_EVT_RESET_RESCAN : VIRTIO_SCSI_EVT_RESET_REMOVED};
    enter_main();
    enter_coroutine();
    virtio_scsi_put_lun(e.lun, lun);
    co_call_in(vdev->home, lun_event_at_home, &e);
    if (e.running) {
        return;
    }
    bql_lock();
    if ((s->state.virtio.status & VIRTIO_STATUS_DRIVER_OK) &&
        virtio_has_feature(vdev, VIRTIO_SCSI_F_HOTPLUG)) {
        s->state.events_missed = true; /* the driver scans again */
    }
    bql_unlock();
}

/* ---- parameters change ---- */

void virtio_scsi_report_changed(VirtioScsi *s)
{
    VirtioDevice *vdev = &s->base.vdev;
    GHashTableIter iter;
    gpointer value;
    if (!virtio_running(vdev)) {
        return; /* reported after the start */
    }
    g_hash_table_iter_init(&iter, s->bus.home_luns);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        ScsiLun *lun = value;
        ScsiSense sense = SCSI_CAPACITY_CHANGED;
        uint8_t address[8];
        if (!atomic_exchange(&lun->changed, false) ||
            !virtio_has_feature(vdev, VIRTIO_SCSI_F_CHANGE)) {
            continue;
        }
        virtio_scsi_put_lun(address, lun);
        event_send(s, VIRTIO_SCSI_T_PARAM_CHANGE, address, sense.asc | (uint32_t)sense.ascq << 8);
    }
}

void virtio_scsi_capacity_changed(ScsiBus *bus)
{
    aio_bh_schedule(&virtio_scsi_of_bus(bus)->changed_bh);
}

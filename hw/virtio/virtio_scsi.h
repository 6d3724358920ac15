/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-scsi-pci: a SCSI controller (virtio 1.2 §5.6). Shared by its files: requests
 * (virtio_scsi.c), queues of other iothreads (virtio_scsi_lanes.c), task management and events
 * (virtio_scsi_control.c), the device (virtio_scsi_pci.c).
 *
 *   queue 0    control: task management and AN queries, driver to device
 *   queue 1    event: buffers for events, which stay in the ring until there is an event
 *   queue 2n   requests
 *
 * Logical units are devices of their own on the controller's bus (hw/scsi); their drives live in the
 * controller's home loop. It serves all queues; with iothread-vq-mapping other iothreads serve request
 * queues, and send the requests to the home.
 *
 * A request that is held after an I/O error (hw/scsi/scsi.h) stays in flight until the queues stop;
 * task management can cancel it meanwhile. At the stop it is parked, and runs again after `cont`.
 */
#ifndef SKIFF_HW_VIRTIO_VIRTIO_SCSI_H
#define SKIFF_HW_VIRTIO_VIRTIO_SCSI_H

#include "hw/scsi/scsi.h"
#include "hw/virtio/virtio_mapping.h"
#include "hw/virtio/virtio_pci.h"
#include "util/loop/batch.h"

#define VIRTIO_SCSI_CONTROL_QUEUE 0
#define VIRTIO_SCSI_EVENT_QUEUE 1
#define VIRTIO_SCSI_FIRST_REQUEST_QUEUE 2
#define VIRTIO_SCSI_MAX_REQUEST_QUEUES (VIRTIO_MAX_QUEUES - VIRTIO_SCSI_FIRST_REQUEST_QUEUE)

/* §5.6.3 */
#define VIRTIO_SCSI_F_HOTPLUG (1ull << 1)
#define VIRTIO_SCSI_F_CHANGE (1ull << 2)

/* §5.6.4: defaults, and the limits of this device. */
#define VIRTIO_SCSI_SENSE_SIZE 96
#define VIRTIO_SCSI_SENSE_SIZE_MAX 65535
#define VIRTIO_SCSI_CDB_SIZE 32
#define VIRTIO_SCSI_CDB_SIZE_MAX 255

/* Values of `response`, §5.6.6.1 and §5.6.6.2. */
enum {
    VIRTIO_SCSI_S_OK = 0, /* of task management: function complete */
    VIRTIO_SCSI_S_OVERRUN = 1,
    VIRTIO_SCSI_S_ABORTED = 2,
    VIRTIO_SCSI_S_BAD_TARGET = 3,
    VIRTIO_SCSI_S_RESET = 4,
    VIRTIO_SCSI_S_FAILURE = 9,
    VIRTIO_SCSI_S_FUNCTION_SUCCEEDED = 10,
    VIRTIO_SCSI_S_FUNCTION_REJECTED = 11,
    VIRTIO_SCSI_S_INCORRECT_LUN = 12,
};

/* §5.6.6.3 */
enum {
    VIRTIO_SCSI_T_NO_EVENT = 0,
    VIRTIO_SCSI_T_TRANSPORT_RESET = 1,
    VIRTIO_SCSI_T_PARAM_CHANGE = 3,
};
#define VIRTIO_SCSI_T_EVENTS_MISSED 0x80000000u
enum { VIRTIO_SCSI_EVT_RESET_RESCAN = 1, VIRTIO_SCSI_EVT_RESET_REMOVED = 2 };

typedef struct VirtioScsiState {
    VirtioState virtio;
    uint32_t sense_size, cdb_size; /* written by the driver before DRIVER_OK */
    bool events_missed;            /* reported with the next event buffer */
    uint8_t pad[7];
} VirtioScsiState;

typedef struct VirtioScsi VirtioScsi;

/* What the loop of the queue does with a request at its end. */
typedef enum VirtioScsiEnd {
    VIRTIO_SCSI_COMPLETE,
    VIRTIO_SCSI_PARK, /* it is executed again after `cont` */
    VIRTIO_SCSI_FAIL, /* it was invalid: the device needs a reset */
} VirtioScsiEnd;

/* An iothread of the mapping that is not the home. */
typedef struct VirtioScsiLane {
    VirtioScsi *dev;
    AioContext *home;  /* its loop */
    LoopBatch visits;  /* to the controller's home: those of a kick together */
    LoopBatch results; /* back: those that end in a turn of the home together */
    /* its loop */
    uint64_t sent, returned;
    CoQueue returns; /* waits for `returned` */
    /* the controller's home */
    uint64_t arrived, ended; /* arrived: has begun, and is in its task set if it gets there */
} VirtioScsiLane;

/* A request of any queue, in the queue's storage. */
typedef struct VirtioScsiRequest {
    VirtQueueElement elem;
    LoopBatchItem item; /* of a lane */
    VirtioScsiEnd end;
    const char *reason; /* for VIRTIO_SCSI_FAIL */
    uint64_t *begun;    /* incremented when it has begun; NULL: none */
    VirtioScsi *dev;
    unsigned queue;
    uint32_t written; /* device-writable bytes, for the used ring */
    /* The response's place: whole elements of elem.in, then a part of one. */
    unsigned response_num;
    struct iovec response_tail;
    union {
        struct { /* of the request queues */
            ScsiRequest scsi;
            uint64_t data_len; /* the guest's data buffer */
            struct VirtioScsiRequest *held_next, **held_link;
        };
        struct { /* of the control queue */
            uint32_t function;
            bool lun_ok;
            uint8_t target;
            uint16_t lun;
            uint64_t tag;
        };
    };
} VirtioScsiRequest;

struct VirtioScsi {
    VirtioPci base;
    ScsiBus bus;
    /* config */
    char *iothread;
    VirtioMapping mapping;
    VirtioScsiLane *lanes; /* of each iothread of the mapping; the first one is the home, unused */
    uint16_t num_queues, queue_size; /* request queues; entries of a queue */
    uint32_t max_sectors, cmd_per_lun, seg_max;
    bool hotplug, param_change;
    /* state: events_missed is the home loop's while the queues run, else the BQL's */
    VirtioScsiState state;
    /* runtime, home loop */
    VirtioScsiRequest *held;            /* after an I/O error */
    unsigned sense_size, cdb_size;      /* of this start */
    LoopBatchItem *early, **early_tail; /* requests that came before the start */
    CoQueue arrivals;                   /* waits for `arrived` of a lane, or for collects_ended */
    uint64_t collects_begun, collects_ended;
    /* runtime: a logical unit has `changed` set */
    AioBh changed_bh; /* home */
};

extern const DeviceType virtio_scsi_pci_type;

static inline VirtioScsi *virtio_scsi_from(VirtioDevice *vdev)
{
    return (VirtioScsi *)(void *)((uint8_t *)vdev - offsetof(VirtioScsi, base.vdev));
}

static inline VirtioScsi *virtio_scsi_of_bus(ScsiBus *bus)
{
    return (VirtioScsi *)(void *)((uint8_t *)bus - offsetof(VirtioScsi, bus));
}

/* §5.6.6.1: a target and a LUN. False: the driver addresses something else. */
bool virtio_scsi_parse_lun(const uint8_t *lun, uint8_t *target, uint16_t *number) ANY_THREAD;
/* In the form that REPORT LUNS has: Linux compares the two. */
void virtio_scsi_put_lun(uint8_t *lun, const ScsiLun *of) ANY_THREAD;

/* ---- virtio_scsi.c: home loop ---- */
/* Takes requests of queue @index, at most @max of them. */
void virtio_scsi_take_requests(VirtioScsi *s, unsigned index, unsigned max) RUNS_IN_LOOP;
/* Splits the device-writable part: @bytes of response, then data. */
void virtio_scsi_cut_response(VirtioScsiRequest *r, size_t bytes) RUNS_IN_LOOP;
/* Writes @bytes of response and completes the request. */
void virtio_scsi_respond(VirtioScsiRequest *r, const uint8_t *response, size_t bytes) RUNS_IN_LOOP;
/* Parses a request in the home, and executes it. Increments *@begun, if not NULL, when it is in the task
 * set or has ended. */
void virtio_scsi_begin(VirtioScsiRequest *r, uint64_t *begun) RUNS_IN_LOOP;
/* Parks what is held; the queues are about to stop. */
void virtio_scsi_park_held(VirtioScsi *s) RUNS_IN_LOOP;
/* ScsiBusOps.held_ended. */
void virtio_scsi_held_ended(ScsiRequest *r);

/* ---- virtio_scsi_lanes.c ---- */
/* In the home, or in the loop of the request's queue if that is the home: the request has ended. */
void virtio_scsi_request_end(VirtioScsiRequest *r, VirtioScsiEnd end, const char *reason)
    RUNS_IN_LOOP;
/* In the loop of queue @index: sends its requests, at most @max, to the home. False: that is the home. */
bool virtio_scsi_send_home(VirtioScsi *s, unsigned index, unsigned max) RUNS_IN_LOOP;
/* Home: the queues have started. */
void virtio_scsi_begin_early(VirtioScsi *s) RUNS_IN_LOOP;
/* Home: takes what is available in the queues of other iothreads; returns when it has begun. */
void virtio_scsi_co_collect(VirtioScsi *s) coroutine_fn RUNS_IN_IOTHREAD;
/* Home: makes the used entries of all requests that have ended visible to the driver. */
void virtio_scsi_co_flush(VirtioScsi *s) coroutine_fn RUNS_IN_IOTHREAD;
void virtio_scsi_init_lanes(VirtioScsi *s) RUNS_IN_MAIN;
void virtio_scsi_free_lanes(VirtioScsi *s) RUNS_IN_MAIN;

/* ---- virtio_scsi_control.c ---- */
void virtio_scsi_handle_control(VirtioScsi *s) RUNS_IN_LOOP;
void virtio_scsi_handle_events(VirtioScsi *s) RUNS_IN_LOOP;
/* ScsiBusOps. */
void virtio_scsi_lun_changed(ScsiBus *bus, const ScsiLun *lun, bool present);
void virtio_scsi_capacity_changed(ScsiBus *bus);
/* Home: reports the changes of logical units. */
void virtio_scsi_report_changed(VirtioScsi *s) RUNS_IN_LOOP;

#endif

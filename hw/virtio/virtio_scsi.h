/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-scsi-pci: a SCSI controller (virtio 1.2 §5.6). Shared by its files: requests
 * (virtio_scsi.c), task management and events (virtio_scsi_control.c), the device
 * (virtio_scsi_pci.c).
 *
 *   queue 0    control: task management and AN queries, driver to device
 *   queue 1    event: buffers for events, which stay in the ring until there is an event
 *   queue 2n   requests
 *
 * Logical units are devices of their own on the controller's bus (hw/scsi); their drives live in the
 * controller's home loop, which serves all queues.
 *
 * A request that is held after an I/O error (hw/scsi/scsi.h) stays in flight until the queues stop;
 * task management can cancel it meanwhile. At the stop it is parked, and runs again after `cont`.
 */
#ifndef SKIFF_HW_VIRTIO_VIRTIO_SCSI_H
#define SKIFF_HW_VIRTIO_VIRTIO_SCSI_H

#include "hw/scsi/scsi.h"
#include "hw/virtio/virtio_pci.h"

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

/* A request of any queue, in the queue's storage. */
typedef struct VirtioScsiRequest {
    VirtQueueElement elem;
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
    uint16_t num_queues, queue_size; /* request queues; entries of a queue */
    uint32_t max_sectors, cmd_per_lun, seg_max;
    bool hotplug, param_change;
    /* state: events_missed is the home loop's while the queues run, else the BQL's */
    VirtioScsiState state;
    /* runtime, home loop */
    VirtioScsiRequest *held;       /* after an I/O error */
    unsigned sense_size, cdb_size; /* of this start */
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
/* Parks what is held; the queues are about to stop. */
void virtio_scsi_park_held(VirtioScsi *s) RUNS_IN_LOOP;
/* ScsiBusOps.held_ended. */
void virtio_scsi_held_ended(ScsiRequest *r);

/* ---- virtio_scsi_control.c ---- */
void virtio_scsi_handle_control(VirtioScsi *s) RUNS_IN_LOOP;
void virtio_scsi_handle_events(VirtioScsi *s) RUNS_IN_LOOP;
/* ScsiBusOps. */
void virtio_scsi_lun_changed(ScsiBus *bus, const ScsiLun *lun, bool present);
void virtio_scsi_capacity_changed(ScsiBus *bus);
/* Home: reports the changes of logical units. */
void virtio_scsi_report_changed(VirtioScsi *s) RUNS_IN_LOOP;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio-scsi controller with a disk on the mem driver, and a guest's requests to it. */
#ifndef SKIFF_TESTS_SUPPORT_SCSI_GUEST_H
#define SKIFF_TESTS_SUPPORT_SCSI_GUEST_H

#include "hw/virtio/virtio_scsi.h"
#include "tests/support/blk_guest.h"

#define SCSI_CALL_LUNS 8

typedef struct ScsiGuest {
    VirtioBench *bench;
    BlkDisk disk; /* node "disk" */
    Device *controller;
    Device *luns[SCSI_CALL_LUNS]; /* in the order they were added */
    unsigned lun_count;
    VirtioGuest guest;
    VirtioGuestQueue control, events, requests[4];
    unsigned request_queues;
} ScsiGuest;

/* A controller with @controller properties and queues for the driver with @features. Node "disk" is
 * driver=mem with @disk options. No logical unit yet. */
void scsi_guest_open(ScsiGuest *g, const char *disk, const char *controller, uint64_t features);
/* Negotiates and sets the queues up, after a reset of the guest. */
void scsi_guest_bring_up(ScsiGuest *g, uint64_t features);
/* Adds a device of @type ("scsi-hd"), as device_add would. Aborts with the error's text. */
Device *scsi_guest_add(ScsiGuest *g, const char *type, const char *properties);
/* The error's text (to be freed), or NULL. */
char *scsi_guest_try_add(ScsiGuest *g, const char *type, const char *properties);
void scsi_guest_remove(ScsiGuest *g, Device *dev);
void scsi_guest_close(ScsiGuest *g);

/* ---- requests ---- */

enum { SCSI_DIR_NONE, SCSI_DIR_IN, SCSI_DIR_OUT };

/* Results of scsi_call_run() that are no status: the response code, or no answer. */
#define SCSI_CALL_RESPONSE 0x100
#define SCSI_CALL_PENDING 0xfff

typedef struct ScsiCall {
    VirtioGuestQueue *queue;
    uint64_t header, response, data; /* gpa */
    uint32_t bytes;                  /* room for data */
    uint8_t target;
    uint16_t lun;
    uint64_t tag;
    uint16_t head;
} ScsiCall;

void scsi_call_init(ScsiCall *c, VirtioGuestQueue *q, uint32_t bytes);
/* Fills the request in, without offering it. Returns the number of buffers. */
unsigned scsi_call_build(ScsiCall *c, const uint8_t *cdb, int direction, uint32_t bytes,
                         VringBuffer chain[3]);
/* Offers the request and kicks. @cdb has the length of its group. */
void scsi_call_send(ScsiCall *c, const uint8_t *cdb, int direction, uint32_t bytes);
/* The same, and waits: the status, SCSI_CALL_RESPONSE | response, or SCSI_CALL_PENDING. */
unsigned scsi_call_run(ScsiCall *c, const uint8_t *cdb, int direction, uint32_t bytes);
/* What the response in memory says. */
unsigned scsi_call_result(ScsiCall *c);
uint8_t *scsi_call_data(ScsiCall *c);
uint32_t scsi_call_resid(ScsiCall *c);
/* Key, ASC and ASCQ of the sense data, as 0xKAAQQ; 0: none. Fixed or descriptor format. */
uint32_t scsi_call_sense(ScsiCall *c);
/* TEST UNIT READY until it reports no unit attention. */
void scsi_call_clear_attentions(ScsiCall *c);

/* A task management function; @subtype of §5.6.6.2. */
typedef struct ScsiTmf {
    VirtioGuestQueue *queue;
    uint64_t request, response; /* gpa */
    uint16_t head;
} ScsiTmf;
void scsi_tmf_init(ScsiTmf *t, VirtioGuestQueue *q);
void scsi_tmf_send(ScsiTmf *t, uint32_t subtype, uint8_t target, uint16_t lun, uint64_t tag);
/* The response byte: 0xff while there is none. */
uint8_t scsi_tmf_response(ScsiTmf *t);

/* Settles and takes all used entries of @q. Whether that of @head was among them. */
bool scsi_guest_took(VirtioGuestQueue *q, uint16_t head);

#endif

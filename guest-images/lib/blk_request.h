/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request of virtio-blk, or of a disk on virtio-scsi, with the most unusual memory layout that the specification allows: data at
 * any offset, split into segments anywhere, header split, status right after the data in one
 * descriptor. Poisoned guards on both sides of the data detect wrong writes of the device. One CPU
 * uses a request at a time; blk_request_init() is for the boot CPU. Source: virtio 1.2 §2.7.4,
 * §5.2.6.
 *
 *   blk_request_init -> { choose kind and range -> blk_request_place -> write the data ->
 *   blk_request_lay_out -> virtqueue_add ... virtqueue_take -> blk_request_check_guards } repeated
 */
#ifndef LIB_BLK_REQUEST_H
#define LIB_BLK_REQUEST_H

#include <stdbool.h>
#include <stdint.h>
#include "lib/blk.h"
#include "lib/scsi.h"
#include "lib/random.h"

#define BLK_REQUEST_MAX_SEGMENTS 16
#define BLK_REQUEST_MAX_RANGES 8
#define BLK_REQUEST_MAX_BUFFERS (BLK_REQUEST_MAX_SEGMENTS + 4)

typedef enum BlkKind {
    BLK_KIND_READ,
    BLK_KIND_WRITE,
    BLK_KIND_FLUSH,
    BLK_KIND_DISCARD,
    BLK_KIND_ZEROES,
    BLK_KIND_ID,
    BLK_KIND_COUNT
} BlkKind;

typedef struct BlkRequest {
    /* chosen by the user; no sectors for flush and get-id */
    BlkKind kind;
    uint64_t sector, sector_count;
    /* set by blk_request_place() */
    uint8_t *data;
    uint32_t data_size;
    /* set by blk_request_lay_out() */
    volatile uint8_t *status;
    uint32_t in_size; /* the used length that the device must report */
    unsigned buffer_count, out_count;
    VirtqueueBuffer buffers[BLK_REQUEST_MAX_BUFFERS];
    /* private */
    uint8_t *memory;
    BlkHeader header;
    volatile uint8_t own_status;
    BlkRange ranges[BLK_REQUEST_MAX_RANGES];
    ScsiHeader scsi_header;
    ScsiResponse scsi_response;
    uint8_t unmap_list[8 + 16 * BLK_REQUEST_MAX_RANGES];
} BlkRequest;

/* Allocates memory for up to @max_sectors of data. */
void blk_request_init(BlkRequest *request, uint64_t max_sectors);

/* Places and poisons data and guards: at any byte if @odd, else at sectors. */
void blk_request_place(BlkRequest *request, Random *random, bool odd);

/*
 * Fills the buffers, at most as many as a ring of @ring_size takes. Returns the number of buffers
 * that the device reads; those come first.
 */
unsigned blk_request_lay_out(BlkRequest *request, const BlkDevice *blk, Random *random,
                             unsigned ring_size, bool odd);

/* Whether the device says so. */
bool blk_request_succeeded(const BlkRequest *request);
/* Whether it met a unit attention (SAM-5 §5.14) and was not executed; then prepares it to be sent
 * again as it is. */
bool blk_request_retry(BlkRequest *request);

/* Ends the guest if the device wrote to a guard. */
void blk_request_check_guards(const BlkRequest *request);

const char *blk_request_name(const BlkRequest *request);

#endif

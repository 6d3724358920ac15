/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests of virtio-scsi: a command, its response, and the few commands that a disk needs.
 * Source: virtio 1.2 §5.6, SBC-3.
 */
#ifndef LIB_SCSI_H
#define LIB_SCSI_H

#include <stdbool.h>
#include <stdint.h>
#include "lib/virtqueue.h"

#define SCSI_FIRST_QUEUE 2 /* after the control queue and the event queue, which stay unused */

#define SCSI_CHECK_CONDITION 2
#define SCSI_UNIT_ATTENTION 6 /* sense key */

typedef struct __attribute__((packed)) ScsiHeader {
    uint8_t lun[8];
    uint64_t tag;
    uint8_t attributes, priority, crn;
    uint8_t cdb[32];
} ScsiHeader;

typedef struct __attribute__((packed)) ScsiResponse {
    uint32_t sense_size, residual;
    uint16_t qualifier;
    volatile uint8_t status, response;
    uint8_t sense[96];
} ScsiResponse;

/* Addresses the disk at `target=` (0) and `lun=` (0), with an empty CDB. The tag is the header's
 * address. */
void scsi_prepare(ScsiHeader *header, ScsiResponse *response);
/* READ (16) or WRITE (16). */
void scsi_set_transfer(ScsiHeader *header, bool is_write, uint64_t sector, uint32_t sectors);
void scsi_set_flush(ScsiHeader *header);
/* WRITE SAME (16) of zeroes, without data. */
void scsi_set_zeroes(ScsiHeader *header, uint64_t sector, uint32_t sectors, bool unmap);
/* UNMAP with a list of @bytes. */
void scsi_set_unmap(ScsiHeader *header, uint16_t bytes);
/* The list: a header for @count ranges, and range @index. */
void scsi_put_unmap_header(uint8_t *list, unsigned count);
void scsi_put_unmap_range(uint8_t *list, unsigned index, uint64_t sector, uint32_t sectors);

/* Waits, polling, until the disk is ready; returns its sectors of 512 bytes. Before other use of
 * @ring. Ends the guest if that fails. */
uint64_t scsi_read_capacity(Virtqueue *ring);

#endif

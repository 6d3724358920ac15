/* SPDX-License-Identifier: Apache-2.0 */
/* Sense data: why a command failed (SPC-4 §4.5). Stateless: any thread. */
#ifndef SKIFF_HW_SCSI_SCSI_SENSE_H
#define SKIFF_HW_SCSI_SCSI_SENSE_H

#include <stdbool.h>
#include <stdint.h>
#include "util/loop/thread.h"

#define SCSI_SENSE_FIXED_BYTES 18
#define SCSI_SENSE_DESCRIPTOR_BYTES 8

/* A sense key, an additional sense code and its qualifier (SPC-4 tables 48 and D.2). */
typedef struct ScsiSense {
    uint8_t key, asc, ascq;
} ScsiSense;

#define SCSI_SENSE(k, a, q) ((ScsiSense){.key = (k), .asc = (a), .ascq = (q)})

#define SCSI_NO_SENSE SCSI_SENSE(0x0, 0x00, 0x00)
#define SCSI_NOT_READY_NO_MEDIUM SCSI_SENSE(0x2, 0x3a, 0x00)
#define SCSI_REMOVAL_PREVENTED_NOT_READY SCSI_SENSE(0x2, 0x53, 0x02)
#define SCSI_TARGET_FAILURE SCSI_SENSE(0x4, 0x44, 0x00)
#define SCSI_PARAMETER_LIST_LENGTH SCSI_SENSE(0x5, 0x1a, 0x00)
#define SCSI_INVALID_OPCODE SCSI_SENSE(0x5, 0x20, 0x00)
#define SCSI_LBA_OUT_OF_RANGE SCSI_SENSE(0x5, 0x21, 0x00)
#define SCSI_INVALID_FIELD SCSI_SENSE(0x5, 0x24, 0x00)
#define SCSI_LUN_NOT_SUPPORTED SCSI_SENSE(0x5, 0x25, 0x00)
#define SCSI_INVALID_PARAMETER SCSI_SENSE(0x5, 0x26, 0x00)
#define SCSI_SAVING_NOT_SUPPORTED SCSI_SENSE(0x5, 0x39, 0x00)
#define SCSI_REMOVAL_PREVENTED SCSI_SENSE(0x5, 0x53, 0x02)
#define SCSI_RESET_OCCURRED SCSI_SENSE(0x6, 0x29, 0x00)
#define SCSI_CAPACITY_CHANGED SCSI_SENSE(0x6, 0x2a, 0x09)
#define SCSI_MEDIUM_CHANGED SCSI_SENSE(0x6, 0x28, 0x00)
#define SCSI_MEDIUM_REMOVED SCSI_SENSE(0x6, 0x3a, 0x00)
#define SCSI_LUNS_CHANGED SCSI_SENSE(0x6, 0x3f, 0x0e)
#define SCSI_WRITE_PROTECTED SCSI_SENSE(0x7, 0x27, 0x00)
#define SCSI_SPACE_ALLOCATION_FAILED SCSI_SENSE(0x7, 0x27, 0x07)
#define SCSI_IO_ERROR SCSI_SENSE(0xb, 0x00, 0x06)
#define SCSI_MISCOMPARE SCSI_SENSE(0xe, 0x1d, 0x00)

/* Current sense data in fixed (SPC-4 §4.5.3) or descriptor (§4.5.2) format. Returns its length: at
 * most SCSI_SENSE_FIXED_BYTES. */
unsigned scsi_sense_build(ScsiSense s, bool descriptor, uint8_t *out) ANY_THREAD;
/* The sense for a request that failed with @error (errno). */
ScsiSense scsi_sense_of_errno(int error) ANY_THREAD;

#endif

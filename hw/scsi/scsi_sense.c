/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/scsi/scsi_sense.h"

#include <errno.h>
#include <string.h>

#define CURRENT_FIXED 0x70
#define CURRENT_DESCRIPTOR 0x72

unsigned scsi_sense_build(ScsiSense s, bool descriptor, uint8_t *out)
{
    if (descriptor) {
        memset(out, 0, SCSI_SENSE_DESCRIPTOR_BYTES);
        out[0] = CURRENT_DESCRIPTOR;
        out[1] = s.key;
        out[2] = s.asc;
        out[3] = s.ascq;
        return SCSI_SENSE_DESCRIPTOR_BYTES;
    }
    memset(out, 0, SCSI_SENSE_FIXED_BYTES);
    out[0] = CURRENT_FIXED;
    out[2] = s.key;
    out[7] = SCSI_SENSE_FIXED_BYTES - 8; /* additional sense length */
    out[12] = s.asc;
    out[13] = s.ascq;
    return SCSI_SENSE_FIXED_BYTES;
}

ScsiSense scsi_sense_of_errno(int error)
{
    switch (error) {
    case ENOMEDIUM:
        return SCSI_NOT_READY_NO_MEDIUM;
    case ENOMEM:
        return SCSI_TARGET_FAILURE;
    case EINVAL:
        return SCSI_INVALID_FIELD;
    case ENOSPC:
        return SCSI_SPACE_ALLOCATION_FAILED;
    default:
        return SCSI_IO_ERROR;
    }
}

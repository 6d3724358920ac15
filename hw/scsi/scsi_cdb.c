/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/scsi/scsi_cdb.h"

/* SPC-4 §4.2.5.1: the group code is in the upper three bits. */
unsigned scsi_cdb_length(const uint8_t *cdb)
{
    if (cdb[0] == SCSI_VARIABLE_LENGTH) {
        return cdb[7] % 4 || cdb[7] + 8u > SCSI_CDB_MAX ? 0 : cdb[7] + 8u;
    }
    switch (cdb[0] >> 5) {
    case 0:
        return 6;
    case 1:
    case 2:
        return 10;
    case 4:
        return 16;
    case 5:
        return 12;
    default:
        return 0;
    }
}

uint64_t scsi_cdb_lba(const uint8_t *cdb)
{
    switch (cdb[0] >> 5) {
    case 0:
        return scsi_be24(cdb + 1) & 0x1fffff;
    case 4:
        return scsi_be64(cdb + 2);
    default:
        return scsi_be32(cdb + 2);
    }
}

uint32_t scsi_cdb_blocks(const uint8_t *cdb)
{
    switch (cdb[0] >> 5) {
    case 0:
        return cdb[4] ? cdb[4] : 256;
    case 4:
        return scsi_be32(cdb + 10);
    case 5:
        return scsi_be32(cdb + 6);
    default:
        return scsi_be16(cdb + 7);
    }
}

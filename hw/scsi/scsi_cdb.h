/* SPDX-License-Identifier: Apache-2.0 */
/* Command descriptor blocks (SPC-4 §4.2). Stateless: any thread. */
#ifndef SKIFF_HW_SCSI_SCSI_CDB_H
#define SKIFF_HW_SCSI_SCSI_CDB_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include "util/loop/thread.h"

#define SCSI_CDB_MAX 32 /* longer ones have no command here */

/* Operation codes of SPC-4, SBC-3 and MMC-6. */
enum {
    SCSI_TEST_UNIT_READY = 0x00,
    SCSI_REQUEST_SENSE = 0x03,
    SCSI_READ_6 = 0x08,
    SCSI_WRITE_6 = 0x0a,
    SCSI_INQUIRY = 0x12,
    SCSI_MODE_SELECT_6 = 0x15,
    SCSI_MODE_SENSE_6 = 0x1a,
    SCSI_START_STOP_UNIT = 0x1b,
    SCSI_PREVENT_ALLOW = 0x1e,
    SCSI_READ_CAPACITY_10 = 0x25,
    SCSI_READ_10 = 0x28,
    SCSI_WRITE_10 = 0x2a,
    SCSI_SEEK_10 = 0x2b,
    SCSI_WRITE_AND_VERIFY_10 = 0x2e,
    SCSI_VERIFY_10 = 0x2f,
    SCSI_SYNCHRONIZE_CACHE_10 = 0x35,
    SCSI_WRITE_SAME_10 = 0x41,
    SCSI_UNMAP = 0x42,
    SCSI_READ_TOC = 0x43,
    SCSI_GET_CONFIGURATION = 0x46,
    SCSI_GET_EVENT_STATUS = 0x4a,
    SCSI_READ_DISC_INFORMATION = 0x51,
    SCSI_MODE_SELECT_10 = 0x55,
    SCSI_MODE_SENSE_10 = 0x5a,
    SCSI_VARIABLE_LENGTH = 0x7f,
    SCSI_READ_16 = 0x88,
    SCSI_WRITE_16 = 0x8a,
    SCSI_WRITE_AND_VERIFY_16 = 0x8e,
    SCSI_VERIFY_16 = 0x8f,
    SCSI_SYNCHRONIZE_CACHE_16 = 0x91,
    SCSI_WRITE_SAME_16 = 0x93,
    SCSI_SERVICE_ACTION_IN_16 = 0x9e, /* READ CAPACITY (16) is action 0x10 */
    SCSI_REPORT_LUNS = 0xa0,
    SCSI_MAINTENANCE_IN = 0xa3, /* REPORT SUPPORTED OPERATION CODES is action 0x0c */
    SCSI_READ_12 = 0xa8,
    SCSI_WRITE_12 = 0xaa,
    SCSI_VERIFY_12 = 0xaf,
    SCSI_MECHANISM_STATUS = 0xbd,
};

enum { SCSI_READ_CAPACITY_16_ACTION = 0x10, SCSI_REPORT_OPCODES_ACTION = 0x0c };

/* Big-endian fields. */
static inline uint16_t scsi_be16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t scsi_be24(const uint8_t *p)
{
    return (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
}

static inline uint32_t scsi_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | scsi_be24(p + 1);
}

static inline uint64_t scsi_be64(const uint8_t *p)
{
    return (uint64_t)scsi_be32(p) << 32 | scsi_be32(p + 4);
}

static inline void scsi_put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static inline void scsi_put24(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 16);
    scsi_put16(p + 1, (uint16_t)v);
}

static inline void scsi_put32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    scsi_put24(p + 1, v);
}

static inline void scsi_put64(uint8_t *p, uint64_t v)
{
    scsi_put32(p, (uint32_t)(v >> 32));
    scsi_put32(p + 4, (uint32_t)v);
}

/* The length of a CDB by its group code, or for variable length by its field: 0 when there is no
 * such group or the length is not a multiple of 4. */
unsigned scsi_cdb_length(const uint8_t *cdb) ANY_THREAD;
/* Of commands that have these fields: the logical block address, and the number of blocks as
 * written (READ (6): 0 means 256). */
uint64_t scsi_cdb_lba(const uint8_t *cdb) ANY_THREAD;
uint32_t scsi_cdb_blocks(const uint8_t *cdb) ANY_THREAD;

#endif

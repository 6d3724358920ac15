/* SPDX-License-Identifier: Apache-2.0 */
/* Vital product data: SPC-4 §7.8, SBC-3 §6.6. */
#include "hw/scsi/scsi_int.h"

enum {
    VPD_SUPPORTED = 0x00,
    VPD_SERIAL = 0x80,
    VPD_IDENTIFICATION = 0x83,
    VPD_BLOCK_LIMITS = 0xb0,
    VPD_BLOCK_CHARACTERISTICS = 0xb1,
    VPD_PROVISIONING = 0xb2,
};
#define VPD_TEXT_MAX 247 /* of a designator: its page has one byte for the length of all */
#define UNMAP_DESCRIPTORS_MAX 255
#define PROVISIONING_UNMAP_SAME 0xe0 /* LBPU, LBPWS, LBPWS10 */
#define PROVISIONING_THIN 2
#define PROVISIONING_FULL 1

static size_t vpd_serial(const ScsiLun *lun, uint8_t *body)
{
    size_t bytes = strlen(lun->serial);
    memcpy(body, lun->serial, bytes);
    return bytes;
}

/* One designator: code set and protocol, association and type, the designator. */
static size_t designator(uint8_t *at, uint8_t code_set, uint8_t type, const void *data,
                         size_t bytes)
{
    at[0] = code_set;
    at[1] = type;
    at[3] = (uint8_t)bytes;
    memcpy(at + 4, data, bytes);
    return 4 + bytes;
}

/* The vendor specific text, and the NAA identifier if wwn= is given. */
static size_t vpd_identification(const ScsiLun *lun, uint8_t *body)
{
    uint8_t naa[8];
    size_t bytes = 0;
    const char *text = lun->device_id ? lun->device_id : lun->serial ? lun->serial : lun->drive;
    if (text && *text) {
        bytes += designator(body, 0x2, 0x0, text, strnlen(text, VPD_TEXT_MAX));
    }
    if (lun->wwn) {
        scsi_put64(naa, lun->wwn);
        bytes += designator(body + bytes, 0x1, 0x3, naa, sizeof(naa));
    }
    return bytes;
}

static uint32_t in_blocks(const ScsiLun *lun, uint64_t bytes)
{
    return (uint32_t)MIN(bytes / lun->logical_block_size, UINT32_MAX);
}

/* SBC-3 §6.6.4 */
static size_t vpd_block_limits(const ScsiLun *lun, uint8_t *body)
{
    uint64_t max = lun->max_io_size;
    uint64_t bus_max = (uint64_t)lun->bus->max_transfer_sectors * BLOCK_SECTOR_SIZE;
    if (bus_max && (!max || bus_max < max)) {
        max = bus_max;
    }
    body[0] = 1; /* WSNZ */
    scsi_put16(body + 2, (uint16_t)MIN(in_blocks(lun, lun->min_io_size), UINT16_MAX));
    scsi_put32(body + 4, in_blocks(lun, max));
    scsi_put32(body + 8, in_blocks(lun, lun->opt_io_size));
    if (lun->discard_granularity) {
        scsi_put32(body + 16, in_blocks(lun, lun->max_unmap_size));
        scsi_put32(body + 20, UNMAP_DESCRIPTORS_MAX);
        scsi_put32(body + 24, in_blocks(lun, lun->discard_granularity));
    }
    return 0x3c;
}

/* SBC-3 §6.6.3 */
static size_t vpd_characteristics(const ScsiLun *lun, uint8_t *body)
{
    scsi_put16(body, lun->rotation_rate);
    return 0x3c;
}

/* SBC-3 §6.6.6 */
static size_t vpd_provisioning(const ScsiLun *lun, uint8_t *body)
{
    body[1] = PROVISIONING_UNMAP_SAME;
    body[2] = lun->discard_granularity ? PROVISIONING_THIN : PROVISIONING_FULL;
    return 4;
}

static size_t vpd_supported(const ScsiLun *lun, uint8_t *body)
{
    size_t n = 0;
    body[n++] = VPD_SUPPORTED;
    if (lun->serial) {
        body[n++] = VPD_SERIAL;
    }
    body[n++] = VPD_IDENTIFICATION;
    if (lun->type == SCSI_TYPE_DISK) {
        body[n++] = VPD_BLOCK_LIMITS;
        body[n++] = VPD_BLOCK_CHARACTERISTICS;
        body[n++] = VPD_PROVISIONING;
    }
    return n;
}

static bool vpd_has(const ScsiLun *lun, uint8_t code)
{
    uint8_t codes[8];
    size_t n = vpd_supported(lun, codes);
    return memchr(codes, code, n) != NULL;
}

size_t scsi_vpd_page(const ScsiLun *lun, uint8_t code, uint8_t *page)
{
    uint8_t *body = page + 4;
    size_t bytes = 0;
    if (!vpd_has(lun, code)) {
        return 0;
    }
    page[0] = lun->type;
    page[1] = code;
    switch (code) {
    case VPD_SUPPORTED:
        bytes = vpd_supported(lun, body);
        break;
    case VPD_SERIAL:
        bytes = vpd_serial(lun, body);
        break;
    case VPD_IDENTIFICATION:
        bytes = vpd_identification(lun, body);
        break;
    case VPD_BLOCK_LIMITS:
        bytes = vpd_block_limits(lun, body);
        break;
    case VPD_BLOCK_CHARACTERISTICS:
        bytes = vpd_characteristics(lun, body);
        break;
    default:
        bytes = vpd_provisioning(lun, body);
        break;
    }
    scsi_put16(page + 2, (uint16_t)bytes);
    return 4 + bytes;
}

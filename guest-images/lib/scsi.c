/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/scsi.h"
#include "lib/bootinfo.h"
#include "lib/cpu.h"
#include "lib/exit.h"
#include "lib/text.h"

enum {
    OP_TEST_UNIT_READY = 0x00,
    OP_READ_16 = 0x88,
    OP_WRITE_16 = 0x8a,
    OP_WRITE_SAME_16 = 0x93,
    OP_READ_CAPACITY_16 = 0x9e,
    OP_SYNCHRONIZE_CACHE = 0x35,
    OP_UNMAP = 0x42,
};
#define ACTION_READ_CAPACITY_16 0x10
#define SAME_NDOB 0x01
#define SAME_UNMAP 0x08
#define FLAT_LUN 0x40
#define READY_TRIES 16

static void put(uint8_t *at, unsigned bytes, uint64_t value)
{
    for (unsigned i = 0; i < bytes; i++) {
        at[i] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
    }
}

void scsi_prepare(ScsiHeader *header, ScsiResponse *response)
{
    uint64_t lun = bootinfo_get_number("lun", 0);
    memset(header, 0, sizeof(*header));
    header->lun[0] = 1;
    header->lun[1] = (uint8_t)bootinfo_get_number("target", 0);
    header->lun[2] = (uint8_t)(FLAT_LUN | lun >> 8);
    header->lun[3] = (uint8_t)lun;
    header->tag = (uint64_t)header;
    response->status = response->response = 0xff;
}

static void set_16(ScsiHeader *header, uint8_t op, uint8_t flags, uint64_t sector, uint32_t sectors)
{
    header->cdb[0] = op;
    header->cdb[1] = flags;
    put(header->cdb + 2, 8, sector);
    put(header->cdb + 10, 4, sectors);
}

void scsi_set_transfer(ScsiHeader *header, bool is_write, uint64_t sector, uint32_t sectors)
{
    set_16(header, is_write ? OP_WRITE_16 : OP_READ_16, 0, sector, sectors);
}

void scsi_set_flush(ScsiHeader *header)
{
    header->cdb[0] = OP_SYNCHRONIZE_CACHE;
}

void scsi_set_zeroes(ScsiHeader *header, uint64_t sector, uint32_t sectors, bool unmap)
{
    set_16(header, OP_WRITE_SAME_16, SAME_NDOB | (unmap ? SAME_UNMAP : 0), sector, sectors);
}

void scsi_set_unmap(ScsiHeader *header, uint16_t bytes)
{
    header->cdb[0] = OP_UNMAP;
    put(header->cdb + 7, 2, bytes);
}

void scsi_put_unmap_header(uint8_t *list, unsigned count)
{
    memset(list, 0, 8);
    put(list, 2, 6 + 16 * count);
    put(list + 2, 2, 16 * count);
}

void scsi_put_unmap_range(uint8_t *list, unsigned index, uint64_t sector, uint32_t sectors)
{
    uint8_t *at = list + 8 + 16 * index;
    memset(at, 0, 16);
    put(at, 8, sector);
    put(at + 8, 4, sectors);
}

/* Runs one command with @bytes of data for us; returns whether it succeeded. */
static bool run(Virtqueue *ring, ScsiHeader *header, ScsiResponse *response, void *data,
                uint32_t bytes)
{
    uint32_t written;
    VirtqueueBuffer buffers[] = {
        {header, sizeof(*header)}, {response, sizeof(*response)}, {data, bytes}};
    if (!virtqueue_add(ring, buffers, 1, bytes ? 2 : 1, header, false)) {
        guest_fail("virtio-scsi: no room for a request");
    }
    virtqueue_kick(ring);
    while (virtqueue_take(ring, &written) == NULL) {
        cpu_pause();
    }
    return response->response == 0 && response->status == 0;
}

uint64_t scsi_read_capacity(Virtqueue *ring)
{
    static ScsiHeader header;
    static ScsiResponse response;
    static uint8_t data[32];
    bool ready = false;
    for (unsigned i = 0; i < READY_TRIES && !ready; i++) { /* unit attentions come first */
        scsi_prepare(&header, &response);
        header.cdb[0] = OP_TEST_UNIT_READY;
        ready = run(ring, &header, &response, NULL, 0);
    }
    scsi_prepare(&header, &response);
    set_16(&header, OP_READ_CAPACITY_16, ACTION_READ_CAPACITY_16, 0, sizeof(data));
    if (!ready || !run(ring, &header, &response, data, sizeof(data))) {
        guest_fail("virtio-scsi: the disk is not ready: response %u, status %u, sense %x/%x/%x",
                   response.response, response.status, response.sense[2], response.sense[12],
                   response.sense[13]);
    }
    uint64_t last = 0;
    for (unsigned i = 0; i < 8; i++) {
        last = last << 8 | data[i];
    }
    if (data[10] != 2 || data[11] != 0) {
        guest_refuse(EXIT_USAGE, "virtio-scsi: the disk's blocks have not 512 bytes");
    }
    return last + 1;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/blk_request.h"
#include "lib/exit.h"
#include "lib/memory.h"
#include "lib/text.h"

#define GUARD_SIZE 64
#define POISON 0xdb

static const uint32_t kind_types[BLK_KIND_COUNT] = {BLK_READ,    BLK_WRITE,        BLK_FLUSH,
                                                    BLK_DISCARD, BLK_WRITE_ZEROES, BLK_GET_ID};

const char *blk_request_name(const BlkRequest *request)
{
    static const char *const names[BLK_KIND_COUNT] = {"read",    "write",  "flush",
                                                      "discard", "zeroes", "get-id"};
    return names[request->kind];
}

void blk_request_init(BlkRequest *request, uint64_t max_sectors)
{
    /* a sector for the guard before, one for the offset, one for the guard after */
    request->memory = memory_alloc((max_sectors + 3) << BLK_SECTOR_SHIFT, MEMORY_PAGE_SIZE);
}

void blk_request_place(BlkRequest *request, Random *random, bool odd)
{
    uint32_t offset = odd ? (uint32_t)random_below(random, BLK_SECTOR_SIZE) : 0;
    request->data = request->memory + BLK_SECTOR_SIZE + offset;
    request->data_size = 0;
    if (request->kind == BLK_KIND_READ || request->kind == BLK_KIND_WRITE) {
        request->data_size = (uint32_t)request->sector_count << BLK_SECTOR_SHIFT;
    } else if (request->kind == BLK_KIND_ID) {
        request->data_size = BLK_ID_SIZE;
    }
    memset(request->data - GUARD_SIZE, POISON, request->data_size + 2 * GUARD_SIZE);
}

static void add_buffer(BlkRequest *request, volatile void *data, uint32_t size)
{
    request->buffers[request->buffer_count++] = (VirtqueueBuffer){(void *)(uint64_t)data, size};
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* Splits the data into random segments, at most @limit. */
static void add_segments(BlkRequest *request, Random *random, uint32_t limit, bool odd)
{
    uint8_t *data = request->data;
    uint32_t size = request->data_size;
    uint32_t unit = odd && random_chance(random, 2) ? 1 : BLK_SECTOR_SIZE;
    uint32_t units = size / unit;
    limit = smaller(smaller(limit, BLK_REQUEST_MAX_SEGMENTS), units);
    uint32_t count = 1;
    if (limit > 1 && random_chance(random, 2)) {
        count += (uint32_t)random_below(random, limit);
        count = smaller(count, limit);
    }
    for (; count > 1; count--) {
        uint32_t part = 1 + (uint32_t)random_below(random, units - (count - 1));
        add_buffer(request, data, part * unit);
        data += part * unit;
        size -= part * unit;
        units -= part;
    }
    add_buffer(request, data, size);
}

/* Splits the sectors into random ranges, at most as many as the device takes. */
static void add_ranges(BlkRequest *request, const BlkDevice *blk, Random *random)
{
    bool zeroes = request->kind == BLK_KIND_ZEROES;
    uint64_t limit = zeroes ? blk->zeroes_max_segments : blk->discard_max_segments;
    limit = limit < BLK_REQUEST_MAX_RANGES ? limit : BLK_REQUEST_MAX_RANGES;
    limit = limit < request->sector_count ? limit : request->sector_count;
    unsigned count = 1 + (unsigned)random_below(random, limit ? limit : 1);
    uint32_t flags = zeroes && blk->may_unmap && random_chance(random, 2) ? BLK_RANGE_UNMAP : 0;
    uint64_t sector = request->sector, left = request->sector_count;
    for (unsigned i = 0; i < count; i++) {
        uint64_t others = count - 1 - i;
        uint64_t part = others ? 1 + random_below(random, left - others) : left;
        request->ranges[i] = (BlkRange){sector, (uint32_t)part, flags};
        sector += part;
        left -= part;
    }
    add_buffer(request, request->ranges, count * (uint32_t)sizeof(BlkRange));
}

/* Sometimes in two pieces. */
static void add_cut(BlkRequest *request, Random *random, void *header, uint32_t size)
{
    uint32_t cut = random_chance(random, 16) ? 1 + (uint32_t)random_below(random, size - 1) : 0;
    if (cut) {
        add_buffer(request, header, cut);
    }
    add_buffer(request, (uint8_t *)header + cut, size - cut);
}

static void add_header(BlkRequest *request, Random *random)
{
    bool at_sector = request->kind == BLK_KIND_READ || request->kind == BLK_KIND_WRITE;
    request->header = (BlkHeader){kind_types[request->kind], 0, at_sector ? request->sector : 0};
    add_cut(request, random, &request->header, sizeof(BlkHeader));
}

/* ---- virtio-scsi ---- */

/* The ranges of add_ranges() as the list of an UNMAP. */
static void add_unmap_list(BlkRequest *request, const BlkDevice *blk, Random *random)
{
    add_ranges(request, blk, random);
    VirtqueueBuffer *list = &request->buffers[request->buffer_count - 1];
    unsigned count = list->size / (unsigned)sizeof(BlkRange);
    scsi_put_unmap_header(request->unmap_list, count);
    for (unsigned i = 0; i < count; i++) {
        const BlkRange *range = &request->ranges[i];
        scsi_put_unmap_range(request->unmap_list, i, range->sector, range->sector_count);
    }
    *list = (VirtqueueBuffer){request->unmap_list, 8 + 16 * count};
    scsi_set_unmap(&request->scsi_header, (uint16_t)list->size);
}

static unsigned lay_out_scsi(BlkRequest *request, const BlkDevice *blk, Random *random,
                             uint32_t limit, bool odd)
{
    ScsiHeader *header = &request->scsi_header;
    uint32_t sectors = (uint32_t)request->sector_count;
    scsi_prepare(header, &request->scsi_response);
    add_cut(request, random, header, sizeof(*header));
    switch (request->kind) {
    case BLK_KIND_WRITE:
        scsi_set_transfer(header, true, request->sector, sectors);
        add_segments(request, random, limit, odd);
        break;
    case BLK_KIND_READ:
        scsi_set_transfer(header, false, request->sector, sectors);
        break;
    case BLK_KIND_DISCARD:
        add_unmap_list(request, blk, random);
        break;
    case BLK_KIND_ZEROES:
        scsi_set_zeroes(header, request->sector, sectors, random_chance(random, 2));
        break;
    default:
        scsi_set_flush(header);
        break;
    }
    unsigned out_count = request->buffer_count;
    add_buffer(request, &request->scsi_response, sizeof(ScsiResponse));
    request->in_size = sizeof(ScsiResponse);
    if (request->kind == BLK_KIND_READ) {
        add_segments(request, random, limit, odd);
        request->in_size += request->data_size;
    }
    request->status = &request->scsi_response.response;
    request->out_count = out_count;
    return out_count;
}

bool blk_request_retry(BlkRequest *request)
{
    ScsiResponse *response = &request->scsi_response;
    bool attention = request->status == &response->response && response->response == 0 &&
                     response->status == SCSI_CHECK_CONDITION &&
                     (response->sense[2] & 0xf) == SCSI_UNIT_ATTENTION;
    if (attention) {
        response->status = response->response = BLK_STATUS_UNTOUCHED;
    }
    return attention;
}

bool blk_request_succeeded(const BlkRequest *request)
{
    bool scsi = request->status == &request->scsi_response.response;
    return *request->status == BLK_STATUS_OK && (!scsi || request->scsi_response.status == 0);
}

unsigned blk_request_lay_out(BlkRequest *request, const BlkDevice *blk, Random *random,
                             unsigned ring_size, bool odd)
{
    uint32_t limit =
        smaller(blk->segment_max, ring_size - (BLK_REQUEST_MAX_BUFFERS - BLK_REQUEST_MAX_SEGMENTS));
    request->buffer_count = 0;
    if (blk->scsi) {
        return lay_out_scsi(request, blk, random, limit, odd);
    }
    add_header(request, random);
    if (request->kind == BLK_KIND_WRITE) {
        add_segments(request, random, limit, odd);
    } else if (request->kind == BLK_KIND_DISCARD || request->kind == BLK_KIND_ZEROES) {
        add_ranges(request, blk, random);
    }
    unsigned out_count = request->buffer_count;
    bool device_writes = request->kind == BLK_KIND_READ || request->kind == BLK_KIND_ID;
    if (request->kind == BLK_KIND_READ) {
        add_segments(request, random, limit, odd);
    } else if (request->kind == BLK_KIND_ID) {
        add_buffer(request, request->data, request->data_size);
    }
    if (device_writes && random_chance(random, 8)) {
        request->status = request->data + request->data_size;
        request->buffers[request->buffer_count - 1].size++;
    } else {
        request->status = &request->own_status;
        add_buffer(request, &request->own_status, 1);
    }
    *request->status = BLK_STATUS_UNTOUCHED;
    request->in_size = (device_writes ? request->data_size : 0) + 1;
    return out_count;
}

static void check_guard(const BlkRequest *request, const uint8_t *guard, unsigned skip)
{
    for (unsigned i = skip; i < GUARD_SIZE; i++) {
        if (guard[i] != POISON) {
            guest_fail("%s of lba=%lu count=%lu: byte %ld from its data is 0x%x",
                       blk_request_name(request), request->sector, request->sector_count,
                       (long)(guard + i - request->data), guard[i]);
        }
    }
}

void blk_request_check_guards(const BlkRequest *request)
{
    check_guard(request, request->data - GUARD_SIZE, 0);
    check_guard(request, request->data + request->data_size,
                request->status == request->data + request->data_size ? 1 : 0);
}

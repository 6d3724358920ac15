/* SPDX-License-Identifier: Apache-2.0 */
#include "migration/ram/ram_image_int.h"

#include <errno.h>
#include <string.h>
#include "util/zero.h"

/* In a worker: copies the piece out of the machine and marks its pages that are not zero. */
static int ram_save_read(void *opaque)
{
    RamPiece *p = opaque;
    enter_worker();
    const RamImageSave *s = p->streams->opaque;
    int ret = s->read(s->opaque, p->block, p->offset, p->buf, (size_t)p->pages * GUEST_RAM_PAGE);
    for (uint32_t i = 0; i < p->pages && ret == 0; i++) {
        if (!bytes_are_zero(p->buf + (size_t)i * GUEST_RAM_PAGE, GUEST_RAM_PAGE)) {
            ram_map_set(p->map, i);
        }
    }
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int ram_save_run(RamImageSave *s, RamPiece *p, uint32_t first,
                                                      uint32_t end)
{
    const RamImageBlock *b = &p->streams->image->blocks[p->block];
    uint64_t from = (uint64_t)first * GUEST_RAM_PAGE,
             bytes = (uint64_t)(end - first) * GUEST_RAM_PAGE;
    uint64_t at = s->offset + b->data_offset + p->offset + from;
    if (!ram_map_test(p->map, first)) {
        return s->target_is_zero ? 0 : blk_co_write_zeroes(s->blk, at, bytes, BLOCK_REQ_MAY_UNMAP);
    }
    struct iovec iov = {p->buf + from, bytes};
    s->data += bytes;
    return blk_co_pwritev(s->blk, at, bytes, &iov, 1, 0);
}

static coroutine_fn int ram_save_piece(RamPiece *p)
{
    RamImageSave *s = p->streams->opaque;
    enter_iothread(blk_home(s->blk));
    int ret = co_run_in_worker(ram_save_read, p);
    for (uint32_t i = 0; i < p->pages && ret == 0;) {
        uint32_t end = ram_map_run_end(p, i);
        ret = s->cancelled ? -ECANCELED : ram_save_run(s, p, i, end);
        i = end;
    }
    s->done += (uint64_t)p->pages * GUEST_RAM_PAGE;
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int ram_save_header(RamImageSave *s, uint8_t *header)
{
    struct iovec iov = {header, RAM_IMAGE_HEADER};
    int ret = blk_co_pwritev(s->blk, s->offset, RAM_IMAGE_HEADER, &iov, 1, 0);
    return ret != 0 ? ret : blk_co_flush(s->blk);
}

static coroutine_fn RUNS_IN_IOTHREAD int ram_save_maps(RamImageSave *s, RamImage *image,
                                                       RamStreams *streams)
{
    int ret = 0;
    for (unsigned i = 0; i < image->count && ret == 0; i++) {
        RamImageBlock *b = &image->blocks[i];
        struct iovec iov = {streams->maps[i], ram_image_map_bytes(b)};
        b->map_crc = ram_streams_map_crc(streams, i);
        ret = blk_co_pwritev(s->blk, s->offset + b->map_offset, iov.iov_len, &iov, 1, 0);
    }
    return ret != 0 ? ret : blk_co_flush(s->blk);
}

int ram_image_co_save(RamImageSave *s, RamImage *image)
{
    g_autofree uint8_t *header = g_malloc0(RAM_IMAGE_HEADER);
    RamStreams streams = {
        .image = image, .co_run = ram_save_piece, .opaque = s, .cancelled = &s->cancelled};
    int ret = blk_size(s->blk) < s->offset || blk_size(s->blk) - s->offset < image->bytes
                  ? -ENOSPC
                  : ram_streams_alloc_maps(&streams);
    if (ret == 0) {
        ret = ram_save_header(s, header);
    }
    if (ret == 0) {
        ret = ram_streams_co_run(&streams);
    }
    if (ret == 0) {
        ret = ram_save_maps(s, image, &streams);
    }
    if (ret == 0) {
        ret = s->cancelled ? -ECANCELED : 0;
    }
    if (ret == 0) {
        ram_image_encode(image, header);
        ret = ram_save_header(s, header);
    }
    ram_streams_free_maps(&streams);
    return ret;
}

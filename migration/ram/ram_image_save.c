/* SPDX-License-Identifier: Apache-2.0 */
#include "migration/ram/ram_image_int.h"

#include <errno.h>
#include <string.h>
#include "migration/ram/ram_blank.h"
#include "util/loop/sched_point.h"
#include "util/zero.h"

/* ---- pages that need not be read ---- */

/* Of @pages pages from byte @offset on of a block. 0 or -errno. */
static RUNS_IN_WORKER int ram_save_find_blank(const RamImageSave *s, unsigned block,
                                              uint64_t offset, uint64_t pages, uint64_t *bits)
{
    if (s->in_place != NULL) {
        ram_blank_find(&s->in_place->blocks[block], 0, offset / GUEST_RAM_PAGE, pages, bits);
        return 0;
    }
    if (s->blank == NULL) {
        memset(bits, 0, (pages + 63) / 64 * sizeof(bits[0]));
        return 0;
    }
    return s->blank(s->opaque, block, offset, pages, bits);
}

/* In a worker, at the begin of a pass over all pages: those of all blocks. */
static int ram_save_find_all_blank(void *opaque)
{
    const RamImageSave *s = opaque;
    enter_worker();
    const RamImage *image = s->streams->image;
    int ret = 0;
    for (unsigned i = 0; i < image->count; i++) {
        uint64_t size = image->blocks[i].size;
        for (uint64_t at = 0; at < size && ret == 0; at += RAM_BLANK_STEP) {
            ret =
                s->cancelled
                    ? -ECANCELED
                    : ram_save_find_blank(s, i, at, MIN(size - at, RAM_BLANK_STEP) / GUEST_RAM_PAGE,
                                          s->streams->blank.maps[i] + at / GUEST_RAM_PAGE / 64);
        }
    }
    SP("ram_save.blank", s);
    return ret;
}

/* Sorts the wanted pages that are blank. */
static void ram_save_sort_blank(RamPiece *p, const uint64_t *blank)
{
    const RamImageSave *s = p->streams->opaque;
    bool all = p->streams->wanted == NULL && !s->target_is_zero;
    for (unsigned i = 0; i < (p->pages + 63) / 64; i++) {
        uint64_t found = p->wanted[i] & blank[i];
        p->zero[i] |= all ? found : found & p->map[i];
        p->map[i] &= ~found;
        p->wanted[i] &= ~found;
    }
}

/* Looks at the pages around those that a pass over some pages wants: the VM may be stopped meanwhile. 0 or -errno. */
static RUNS_IN_WORKER int ram_save_look(RamPiece *p)
{
    uint64_t blank[RAM_PIECE_WORDS] = {0};
    unsigned first = 0, end = RAM_PIECE_WORDS;
    while (p->wanted[first] == 0) {
        first++;
    }
    while (p->wanted[end - 1] == 0) {
        end--;
    }
    uint64_t pages = MIN(end * 64, p->pages) - first * 64;
    uint64_t offset = p->offset + (uint64_t)first * 64 * GUEST_RAM_PAGE;
    int ret = ram_save_find_blank(p->streams->opaque, p->block, offset, pages, blank + first);
    if (ret == 0) {
        ram_save_sort_blank(p, blank);
    }
    return ret;
}

/* ---- one piece ---- */

/* The piece as it is written. */
static const uint8_t *ram_save_bytes(const RamPiece *p)
{
    const RamImageSave *s = p->streams->opaque;
    return s->in_place != NULL ? s->in_place->blocks[p->block].host + p->offset : p->buf;
}

/* Sorts the wanted pages of a run, which have been read. A page that is zero in the file already is left alone. */
static void ram_save_sort(RamPiece *p, uint32_t first, uint32_t end)
{
    const RamImageSave *s = p->streams->opaque;
    const uint8_t *bytes = ram_save_bytes(p);
    for (uint32_t i = first; i < end; i++) {
        if (!bytes_are_zero(bytes + (size_t)i * GUEST_RAM_PAGE, GUEST_RAM_PAGE)) {
            ram_map_set(p->map, i);
            ram_map_set(p->data, i);
        } else if (ram_map_test(p->map, i) || (p->streams->wanted == NULL && !s->target_is_zero)) {
            ram_map_clear(p->map, i);
            ram_map_set(p->zero, i);
        }
    }
}

/* In a worker: copies the wanted pages out of the machine, unless they are written in place, and sorts them. */
static int ram_save_read(void *opaque)
{
    RamPiece *p = opaque;
    enter_worker();
    const RamImageSave *s = p->streams->opaque;
    int found = p->streams->wanted != NULL ? ram_save_look(p) : 0;
    if (found != 0) {
        return found;
    }
    for (uint32_t first, end = 0; ram_piece_next_run(p, p->wanted, &first, &end);) {
        size_t at = (size_t)first * GUEST_RAM_PAGE, size = (size_t)(end - first) * GUEST_RAM_PAGE;
        int ret = s->in_place != NULL
                      ? 0
                      : s->read(s->opaque, p->block, p->offset + at, p->buf + at, size);
        if (ret != 0) {
            return ret;
        }
        ram_save_sort(p, first, end);
    }
    return 0;
}

/* Fills in the wanted pages, and sorts those that are known to be blank. Their number with these. */
static uint64_t ram_save_want(RamPiece *p)
{
    const RamPages *from = p->streams->wanted;
    uint64_t first = p->offset / GUEST_RAM_PAGE / 64, count = 0;
    memset(p->data, 0, sizeof(p->data));
    memset(p->zero, 0, sizeof(p->zero));
    if (from == NULL) {
        memset(p->wanted, 0xff, sizeof(p->wanted));
        ram_save_sort_blank(p, p->streams->blank.maps[p->block] + first);
        return p->pages;
    }
    memset(p->wanted, 0, sizeof(p->wanted));
    for (unsigned i = 0; i < (p->pages + 63) / 64; i++) {
        p->wanted[i] = from->maps[p->block][first + i];
        count += (unsigned)__builtin_popcountll(p->wanted[i]);
    }
    return count;
}

static uint64_t ram_save_place(const RamPiece *p, uint32_t first)
{
    const RamImageSave *s = p->streams->opaque;
    const RamImageBlock *b = &p->streams->image->blocks[p->block];
    return s->offset + b->data_offset + p->offset + (uint64_t)first * GUEST_RAM_PAGE;
}

static coroutine_fn int ram_save_zeroes(RamPiece *p, uint32_t first, uint32_t end)
{
    const RamImageSave *s = p->streams->opaque;
    enter_iothread(blk_home(s->blk));
    return s->cancelled
               ? -ECANCELED
               : blk_co_write_zeroes(s->blk, ram_save_place(p, first),
                                     (uint64_t)(end - first) * GUEST_RAM_PAGE, BLOCK_REQ_MAY_UNMAP);
}

static coroutine_fn int ram_save_data(RamPiece *p, uint32_t first, uint32_t end)
{
    RamImageSave *s = p->streams->opaque;
    enter_iothread(blk_home(s->blk));
    const uint8_t *bytes = ram_save_bytes(p) + (size_t)first * GUEST_RAM_PAGE;
    struct iovec iov = {(uint8_t *)(uintptr_t)bytes, (size_t)(end - first) * GUEST_RAM_PAGE};
    if (s->cancelled) {
        return -ECANCELED;
    }
    s->data += iov.iov_len;
    return blk_co_pwritev(s->blk, ram_save_place(p, first), iov.iov_len, &iov, 1, 0);
}

static coroutine_fn int ram_save_piece(RamPiece *p)
{
    RamImageSave *s = p->streams->opaque;
    enter_iothread(blk_home(s->blk));
    uint64_t wanted = ram_save_want(p);
    if (wanted == 0) {
        return 0;
    }
    uint32_t first, end = 0;
    int ret =
        ram_piece_next_run(p, p->wanted, &first, &end) ? co_run_in_worker(ram_save_read, p) : 0;
    ret = ret != 0 ? ret : ram_piece_co_runs(p, p->zero, ram_save_zeroes);
    ret = ret != 0 ? ret : ram_piece_co_runs(p, p->data, ram_save_data);
    s->done += wanted * GUEST_RAM_PAGE;
    return ret;
}

/* ---- the image ---- */

static coroutine_fn RUNS_IN_IOTHREAD int ram_save_header(RamImageSave *s, const RamImage *image)
{
    g_autofree uint8_t *header = g_malloc0(RAM_IMAGE_HEADER);
    if (image != NULL) {
        ram_image_encode(image, header);
    }
    struct iovec iov = {header, RAM_IMAGE_HEADER};
    int ret = blk_co_pwritev(s->blk, s->offset, RAM_IMAGE_HEADER, &iov, 1, 0);
    return ret != 0 ? ret : blk_co_flush(s->blk);
}

static coroutine_fn RUNS_IN_IOTHREAD int ram_save_maps(RamImageSave *s, RamImage *image)
{
    int ret = 0;
    for (unsigned i = 0; i < image->count && ret == 0; i++) {
        RamImageBlock *b = &image->blocks[i];
        struct iovec iov = {s->streams->pages.maps[i], ram_image_map_bytes(b)};
        b->map_crc = ram_streams_map_crc(s->streams, i);
        ret = blk_co_pwritev(s->blk, s->offset + b->map_offset, iov.iov_len, &iov, 1, 0);
    }
    return ret != 0 ? ret : blk_co_flush(s->blk);
}

int ram_image_co_begin(RamImageSave *s, RamImage *image)
{
    g_assert(s->streams == NULL);
    s->streams = g_new0(RamStreams, 1);
    *s->streams = (RamStreams){.image = image,
                               .co_run = ram_save_piece,
                               .opaque = s,
                               .buffered = s->in_place == NULL,
                               .cancelled = &s->cancelled};
    if (blk_size(s->blk) < s->offset || blk_size(s->blk) - s->offset < image->bytes) {
        return -ENOSPC;
    }
    int ret = ram_streams_alloc_maps(s->streams);
    return ret != 0 ? ret : ram_save_header(s, NULL);
}

static coroutine_fn RUNS_IN_IOTHREAD int ram_save_all(RamImageSave *s)
{
    RamStreams *streams = s->streams;
    int ret = 0;
    for (unsigned i = 0; i < streams->image->count && ret == 0; i++) {
        ret = ram_pages_add(&streams->blank, i, streams->image->blocks[i].size);
    }
    ret = ret != 0 ? ret : co_run_in_worker(ram_save_find_all_blank, s);
    ret = ret != 0 ? ret : ram_streams_co_run(streams);
    ram_pages_free(&streams->blank);
    return ret;
}

int ram_image_co_pass(RamImageSave *s, const RamPages *pages)
{
    s->streams->wanted = pages;
    s->streams->hurry = pages == NULL && s->urgent != NULL ? s : NULL;
    return pages == NULL ? ram_save_all(s) : ram_streams_co_run(s->streams);
}

int ram_image_co_end(RamImageSave *s, RamImage *image, int ret)
{
    ret = ret != 0 ? ret : ram_save_maps(s, image);
    if (ret == 0) {
        ret = s->cancelled ? -ECANCELED : ram_save_header(s, image);
    }
    ram_pages_free(&s->streams->pages);
    g_clear_pointer(&s->streams, g_free);
    return ret;
}

int ram_image_co_save(RamImageSave *s, RamImage *image)
{
    int ret = ram_image_co_begin(s, image);
    ret = ret != 0 ? ret : ram_image_co_pass(s, NULL);
    return ram_image_co_end(s, image, ret);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "migration/ram/ram_image_int.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include "migration/ram/ram_blank.h"
#include "util/zero.h"

typedef struct RamImageLoad {
    BlockBackend *blk;
    uint64_t offset;
    const GuestRam *ram;
} RamImageLoad;

/* In a worker: pages that are zero in the image. Those that are zero in RAM are left alone, and those that are blank are not even
 * read, so that they need no memory in a fresh machine. */
static int ram_load_zero(void *opaque)
{
    RamPiece *p = opaque;
    enter_worker();
    const RamImageLoad *l = p->streams->opaque;
    const RamBlock *b = &l->ram->blocks[p->block];
    uint64_t blank[RAM_PIECE_WORDS];
    ram_blank_find(b, 0, p->offset / GUEST_RAM_PAGE, p->pages, blank);
    for (uint32_t i = 0; i < p->pages; i++) {
        uint64_t at = p->offset + (uint64_t)i * GUEST_RAM_PAGE;
        if (!ram_map_test(p->map, i) && !ram_map_test(blank, i) &&
            !bytes_are_zero(b->host + at, GUEST_RAM_PAGE)) {
            memset(b->host + at, 0, GUEST_RAM_PAGE);
            guest_ram_mark(l->ram, b->gpa + at, GUEST_RAM_PAGE);
        }
    }
    return 0;
}

static bool ram_load_has_zeroes(const RamPiece *p)
{
    return !ram_map_test(p->map, 0) || ram_map_run_end(p->map, p->pages, 0) < p->pages;
}

static coroutine_fn int ram_load_data(RamPiece *p, uint32_t first, uint32_t end)
{
    const RamImageLoad *l = p->streams->opaque;
    enter_iothread(blk_home(l->blk));
    const RamImageBlock *b = &p->streams->image->blocks[p->block];
    const RamBlock *to = &l->ram->blocks[p->block];
    uint64_t at = p->offset + (uint64_t)first * GUEST_RAM_PAGE;
    struct iovec iov = {to->host + at, (size_t)(end - first) * GUEST_RAM_PAGE};
    int ret = blk_co_preadv(l->blk, l->offset + b->data_offset + at, iov.iov_len, &iov, 1, 0);
    guest_ram_mark(l->ram, to->gpa + at, iov.iov_len);
    return ret;
}

static coroutine_fn int ram_load_piece(RamPiece *p)
{
    const RamImageLoad *l = p->streams->opaque;
    enter_iothread(blk_home(l->blk));
    int ret = ram_load_has_zeroes(p) ? co_run_in_worker(ram_load_zero, p) : 0;
    return ret != 0 ? ret : ram_piece_co_runs(p, p->map, ram_load_data);
}

static bool ram_load_fails(GError **error, int ret)
{
    if (ret != 0) {
        g_set_error(error, RAM_IMAGE_ERROR, RAM_IMAGE_ERROR_IO,
                    "the image of memory cannot be read: %s", g_strerror(-ret));
    }
    return ret != 0;
}

/* Whether the bits behind the last page are clear. */
static bool ram_load_map_ends(const RamStreams *s, unsigned block)
{
    const RamImageBlock *b = &s->image->blocks[block];
    uint64_t pages = b->size / GUEST_RAM_PAGE, bits = ram_image_map_bytes(b) * 8;
    uint64_t whole = (pages + 63) / 64 * 64;
    for (uint64_t page = pages; page < whole; page++) {
        if (ram_map_test(s->pages.maps[block], page)) {
            return false;
        }
    }
    return bytes_are_zero(s->pages.maps[block] + whole / 64, (bits - whole) / 8);
}

static coroutine_fn RUNS_IN_IOTHREAD bool ram_load_maps(RamImageLoad *l, RamStreams *s,
                                                        GError **error)
{
    if (ram_load_fails(error, ram_streams_alloc_maps(s))) {
        return false;
    }
    for (unsigned i = 0; i < s->image->count; i++) {
        const RamImageBlock *b = &s->image->blocks[i];
        struct iovec iov = {s->pages.maps[i], ram_image_map_bytes(b)};
        if (ram_load_fails(
                error, blk_co_preadv(l->blk, l->offset + b->map_offset, iov.iov_len, &iov, 1, 0))) {
            return false;
        }
        if (ram_streams_map_crc(s, i) != b->map_crc || !ram_load_map_ends(s, i)) {
            g_set_error(error, RAM_IMAGE_ERROR, RAM_IMAGE_ERROR_FORMAT,
                        "no valid image of memory: the page map of '%s' is damaged", b->name);
            return false;
        }
    }
    return true;
}

static coroutine_fn RUNS_IN_IOTHREAD bool ram_load_header(RamImageLoad *l, RamImage *image,
                                                          GError **error)
{
    g_autofree uint8_t *header = g_malloc(RAM_IMAGE_HEADER);
    struct iovec iov = {header, RAM_IMAGE_HEADER};
    uint64_t size = blk_size(l->blk);
    if (size < l->offset || size - l->offset < RAM_IMAGE_HEADER) {
        g_set_error(error, RAM_IMAGE_ERROR, RAM_IMAGE_ERROR_FORMAT,
                    "no valid image of memory: the file is too short");
        return false;
    }
    return !ram_load_fails(error, blk_co_preadv(l->blk, l->offset, RAM_IMAGE_HEADER, &iov, 1, 0)) &&
           ram_image_decode(image, header, size - l->offset, error);
}

static coroutine_fn RUNS_IN_IOTHREAD bool ram_load_check(RamImageLoad *l, RamImage *image,
                                                         RamStreams *s, GError **error)
{
    return ram_load_header(l, image, error) && ram_image_matches(image, l->ram, error) &&
           ram_load_maps(l, s, error);
}

bool ram_image_co_check(BlockBackend *blk, uint64_t offset, const GuestRam *ram, GError **error)
{
    RamImage image;
    RamImageLoad l = {.blk = blk, .offset = offset, .ram = ram};
    RamStreams s = {.image = &image};
    bool ok = ram_load_check(&l, &image, &s, error);
    ram_pages_free(&s.pages);
    return ok;
}

bool ram_image_co_load(BlockBackend *blk, uint64_t offset, const GuestRam *ram, GError **error)
{
    RamImage image;
    RamImageLoad l = {.blk = blk, .offset = offset, .ram = ram};
    RamStreams s = {.image = &image, .co_run = ram_load_piece, .opaque = &l};
    bool ok =
        ram_load_check(&l, &image, &s, error) && !ram_load_fails(error, ram_streams_co_run(&s));
    ram_pages_free(&s.pages);
    return ok;
}

/* ---- mapping ---- */

typedef struct RamMap {
    const RamImage *image;
    GuestRam *ram;
    int fd;
    uint64_t offset;
    RamStreams *streams;
} RamMap;

static int ram_map_block(const RamMap *m, unsigned i)
{
    RamBlock *b = &m->ram->blocks[i];
    off_t at = (off_t)(m->offset + m->image->blocks[i].data_offset);
    void *host = mmap(b->host, b->size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED, m->fd, at);
    if (host == MAP_FAILED) {
        return -errno;
    }
    madvise(host, b->size, MADV_DONTDUMP); /* as of other guest memory */
    b->of_file = true;
    b->fd_offset = (uint64_t)at;
    return 0;
}

static int ram_map_in_worker(void *opaque)
{
    enter_worker();
    RamMap *m = opaque;
    int ret = 0;
    for (unsigned i = 0; i < m->ram->count && ret == 0; i++) {
        m->streams->skipped[i] = !m->ram->blocks[i].read_only && m->ram->blocks[i].fd < 0;
        ret = m->streams->skipped[i] ? ram_map_block(m, i) : 0;
    }
    return ret;
}

bool ram_image_co_map(BlockBackend *blk, int fd, uint64_t offset, GuestRam *ram, GError **error)
{
    RamImage image;
    RamImageLoad l = {.blk = blk, .offset = offset, .ram = ram};
    RamStreams s = {.image = &image, .co_run = ram_load_piece, .opaque = &l};
    RamMap m = {.image = &image, .ram = ram, .fd = fd, .offset = offset, .streams = &s};
    bool ok = ram_load_check(&l, &image, &s, error) &&
              !ram_load_fails(error, co_run_in_worker(ram_map_in_worker, &m)) &&
              !ram_load_fails(error, ram_streams_co_run(&s));
    ram_pages_free(&s.pages);
    return ok;
}

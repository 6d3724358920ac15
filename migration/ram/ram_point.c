/* SPDX-License-Identifier: Apache-2.0 */
#include "migration/ram/ram_point.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include "migration/ram/capture_fork.h"
#include "migration/ram/ram_blank.h"
#include "migration/ram/ram_image.h"

#define POINT_STEP (UINT64_C(8) << 20) /* bytes that are looked at with one call */

struct RamPoint {
    const GuestRam *ram;
    CaptureFork *fork;                     /* NULL: plain copies */
    uint8_t *copies[GUEST_RAM_MAX_BLOCKS]; /* of each block */
};

/* ---- plain copies ---- */

static bool point_page_is_zero(const uint8_t *page)
{
    return page[0] == 0 && memcmp(page, page + 1, GUEST_RAM_PAGE - 1) == 0;
}

/* Those that were never touched are not read, which would give them memory. */
static RUNS_IN_WORKER void point_copy_pages(const RamBlock *b, uint8_t *copy, uint64_t first,
                                            uint64_t pages)
{
    uint64_t blank[POINT_STEP / GUEST_RAM_PAGE / 64];
    ram_blank_find(b, 0, first, pages, blank);
    for (uint64_t i = 0; i < pages; i++) {
        uint64_t at = (first + i) * GUEST_RAM_PAGE;
        if (!ram_map_test(blank, i) && !point_page_is_zero(b->host + at)) {
            memcpy(copy + at, b->host + at, GUEST_RAM_PAGE);
        }
    }
}

static RUNS_IN_WORKER bool point_copy_block(RamPoint *p, unsigned i, GError **error)
{
    const RamBlock *b = &p->ram->blocks[i];
    uint8_t *copy = mmap(NULL, b->size, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (copy == MAP_FAILED) {
        g_set_error(error, RAM_IMAGE_ERROR, RAM_IMAGE_ERROR_IO,
                    "no memory for a copy of '%s', %" PRIu64 " MiB: %s", b->name, b->size >> 20,
                    g_strerror(errno));
        return false;
    }
    p->copies[i] = copy;
    for (uint64_t at = 0; at < b->size; at += POINT_STEP) {
        point_copy_pages(b, copy, at / GUEST_RAM_PAGE,
                         MIN(b->size - at, POINT_STEP) / GUEST_RAM_PAGE);
    }
    return true;
}

static RUNS_IN_WORKER bool point_copy_all(RamPoint *p, GError **error)
{
    for (unsigned i = 0; i < p->ram->count; i++) {
        if (!point_copy_block(p, i, error)) {
            return false;
        }
    }
    return true;
}

/* ---- the point ---- */

RamPoint *ram_point_new(const GuestRam *ram, GError **error)
{
    RamPoint *p = g_new0(RamPoint, 1);
    p->ram = ram;
    bool ok;
    if (capture_fork_possible(ram, NULL)) {
        p->fork = capture_fork_begin(ram, error);
        ok = p->fork != NULL;
    } else {
        ok = point_copy_all(p, error);
    }
    if (!ok) {
        ram_point_free(p);
        return NULL;
    }
    return p;
}

void ram_point_free(RamPoint *p)
{
    if (p == NULL) {
        return;
    }
    capture_fork_free(p->fork);
    for (unsigned i = 0; i < GUEST_RAM_MAX_BLOCKS; i++) {
        if (p->copies[i] != NULL) {
            munmap(p->copies[i], p->ram->blocks[i].size);
        }
    }
    g_free(p);
}

bool ram_point_copies_on_write(const RamPoint *p)
{
    return p->fork != NULL;
}

int ram_point_check(const RamPoint *p)
{
    uint8_t byte;
    return p->fork != NULL ? capture_fork_read(p->fork, 0, 0, &byte, 1) : 0;
}

/* ---- back ---- */

/* Runs of pages that are put back with one call. */
typedef struct PointBatch {
    const RamPoint *point;
    unsigned block;
    struct iovec runs[IOV_MAX];
    unsigned count;
} PointBatch;

static RUNS_IN_WORKER int point_flush(PointBatch *b)
{
    unsigned count = b->count;
    b->count = 0;
    if (b->point->fork != NULL) {
        return capture_fork_restore(b->point->fork, b->runs, count);
    }
    for (unsigned i = 0; i < count; i++) {
        uint8_t *to = b->runs[i].iov_base;
        memcpy(to, b->point->copies[b->block] + (to - b->point->ram->blocks[b->block].host),
               b->runs[i].iov_len);
    }
    return 0;
}

static RUNS_IN_WORKER int point_add_run(PointBatch *b, uint32_t first, uint32_t end)
{
    b->runs[b->count++] = (struct iovec){
        b->point->ram->blocks[b->block].host + (uint64_t)first * GUEST_RAM_PAGE,
        (size_t)(end - first) * GUEST_RAM_PAGE,
    };
    return b->count == G_N_ELEMENTS(b->runs) ? point_flush(b) : 0;
}

/* The next page of the set from @page on; @pages: there is none. */
static uint32_t point_find(const uint64_t *map, uint32_t page, uint32_t pages)
{
    while (page < pages) {
        uint64_t bits = GUINT64_FROM_LE(map[page / 64]) >> (page % 64);
        if (bits != 0) {
            return page + (unsigned)__builtin_ctzll(bits);
        }
        page = (page / 64 + 1) * 64;
    }
    return pages;
}

int ram_point_restore(const RamPoint *p, const RamPages *pages)
{
    g_autofree PointBatch *b = g_new(PointBatch, 1);
    b->point = p;
    b->count = 0;
    int ret = 0;
    for (b->block = 0; b->block < p->ram->count && ret == 0; b->block++) {
        const uint64_t *map = pages->maps[b->block];
        uint32_t count = (uint32_t)(p->ram->blocks[b->block].size / GUEST_RAM_PAGE);
        uint32_t page = point_find(map, 0, count);
        while (page < count && ret == 0) {
            uint32_t end = ram_map_run_end(map, count, page);
            ret = point_add_run(b, page, end);
            page = point_find(map, end, count);
        }
        ret = ret == 0 ? point_flush(b) : ret;
    }
    return ret;
}

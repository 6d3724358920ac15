/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which parts of a file are holes. A query costs at most two lseek() in a worker, and the extent
 * found answers later queries: a file system that answers slowly is asked once for each extent.
 *
 * Any change that has ended since an extent was found makes it invalid (FileState.changes). Other
 * processes may change the file too where no lock keeps them out: there only data is remembered,
 * which is a true answer for a hole as well.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "block/file/driver_file.h"

typedef struct FileSeek {
    const FileState *s;
    uint64_t offset;
    FileExtent found;
} FileSeek;

/* 0 with the offset in *@found; -ENXIO: there is none; or -errno. */
static RUNS_IN_WORKER int file_seek(const FileState *s, uint64_t offset, int whence,
                                    uint64_t *found)
{
    off_t at = lseek(s->fd, (off_t)offset, whence);
    if (at < 0) {
        return -errno;
    }
    *found = (uint64_t)at;
    return *found < offset ? -EIO : 0; /* a file system that lies */
}

static int file_seek_work(void *opaque)
{
    FileSeek *k = opaque;
    enter_worker();
    k->found = (FileExtent){.start = k->offset, .is_hole = true};
    int ret = file_seek(k->s, k->offset, SEEK_DATA, &k->found.end);
    if (ret == -ENXIO) {
        k->found.end = UINT64_MAX; /* a hole up to the end, or beyond it */
        return 0;
    }
    if (ret < 0 || k->found.end > k->offset) {
        return ret;
    }
    k->found.is_hole = false;
    ret = file_seek(k->s, k->offset, SEEK_HOLE, &k->found.end);
    /* The file may have changed between the two calls. */
    return ret == 0 && k->found.end == k->offset ? -EBUSY : ret;
}

static bool file_extent_valid(const FileState *s, uint64_t offset)
{
    const FileExtent *e = &s->extent;
    return e->changes == s->changes && offset >= e->start && offset < e->end;
}

static bool file_others_may_write(const BlockNode *n)
{
    const FileState *s = n->state;
    return n->flags.force_share || s->locking == FILE_LOCKING_OFF;
}

/* An extent that begins at @offset or before. False: unknown, which is data. */
static coroutine_fn RUNS_IN_IOTHREAD bool file_co_find_extent(BlockNode *n, uint64_t offset,
                                                              FileExtent *e)
{
    FileState *s = n->state;
    if (file_extent_valid(s, offset)) {
        *e = s->extent;
        return true;
    }
    FileSeek k = {.s = s, .offset = offset};
    uint64_t changes = s->changes;
    int ret = co_run_in_lane(&s->lane, file_seek_work, &k);
    if (ret == -EINVAL || ret == -EOPNOTSUPP) {
        s->no_seek_data = true; /* not tried again */
    }
    *e = k.found;
    e->changes = changes;
    if (ret == 0 && !(e->is_hole && file_others_may_write(n))) {
        s->extent = *e;
    }
    return ret == 0;
}

int file_co_block_status(BlockNode *n, uint64_t offset, uint64_t bytes, bool precise,
                         BlockStatus *status)
{
    FileState *s = n->state;
    FileExtent e;
    *status = (BlockStatus){.bytes = bytes,
                            .flags = BLOCK_STATUS_DATA | BLOCK_STATUS_OFFSET_VALID,
                            .map_node = n,
                            .map_offset = offset};
    if (!precise || s->no_seek_data || !file_co_find_extent(n, offset, &e)) {
        return 0;
    }
    /* Data ends unaligned at the end of the file only; a hole may do so anywhere. */
    uint64_t alignment = n->limits.request_alignment;
    uint64_t end = e.end;
    if (end < offset + bytes) {
        end = e.is_hole ? block_align_down(end, alignment) : block_align_up(end, alignment);
    }
    if (e.is_hole && end > offset) {
        status->flags = BLOCK_STATUS_ZERO | BLOCK_STATUS_OFFSET_VALID;
    }
    if (end > offset) {
        status->bytes = MIN(bytes, end - offset);
    } else {
        status->bytes = MIN(bytes, alignment); /* part hole, part data */
    }
    return 0;
}

typedef struct FileAllocated {
    const FileState *s;
    int64_t bytes;
} FileAllocated;

static int file_allocated_work(void *opaque)
{
    FileAllocated *a = opaque;
    struct stat st;
    enter_worker();
    a->bytes = fstat(a->s->fd, &st) == 0 ? (int64_t)st.st_blocks * 512 : -errno;
    return 0;
}

int64_t file_co_allocated_size(BlockNode *n)
{
    FileState *s = n->state;
    FileAllocated a = {.s = s};
    co_run_in_lane(&s->lane, file_allocated_work, &a);
    return a.bytes;
}

int64_t file_allocated_size(const BlockNode *n)
{
    const FileState *s = n->state;
    struct statx st;
    int ret = statx(s->fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_BLOCKS, &st);
    return ret == 0 ? (int64_t)st.stx_blocks * 512 : -errno;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Discard, write-zeroes and truncate of files and devices: blocking system calls, in workers. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "block/file/driver_file.h"

typedef struct FileWork {
    const FileState *s;
    uint64_t offset, bytes;
    int mode;              /* of fallocate() */
    unsigned long request; /* of ioctl() */
} FileWork;

static int file_result(int ret)
{
    if (ret == 0) {
        return 0;
    }
    /* All of these mean that the file system or device does not support the operation. */
    return errno == EOPNOTSUPP || errno == ENOSYS || errno == ENOTTY ? -ENOTSUP : -errno;
}

static int file_fallocate_work(void *opaque)
{
    const FileWork *w = opaque;
    enter_worker();
    int ret;
    do {
        ret = fallocate(w->s->fd, w->mode, (off_t)w->offset, (off_t)w->bytes);
    } while (ret != 0 && errno == EINTR);
    return file_result(ret);
}

static int file_ioctl_work(void *opaque)
{
    const FileWork *w = opaque;
    uint64_t range[2] = {w->offset, w->bytes};
    enter_worker();
    int ret;
    do {
        ret = ioctl(w->s->fd, w->request, range);
    } while (ret != 0 && errno == EINTR);
    return file_result(ret);
}

static int file_truncate_work(void *opaque)
{
    const FileWork *w = opaque;
    enter_worker();
    int ret;
    do {
        ret = ftruncate(w->s->fd, (off_t)w->bytes);
    } while (ret != 0 && errno == EINTR);
    return file_result(ret);
}

static coroutine_fn RUNS_IN_IOTHREAD int file_co_fallocate(FileState *s, uint64_t offset,
                                                           uint64_t bytes, int mode, bool *missing)
{
    if (*missing) {
        return -ENOTSUP;
    }
    FileWork w = {.s = s, .offset = offset, .bytes = bytes, .mode = mode};
    int ret = co_run_in_lane(&s->lane, file_fallocate_work, &w);
    file_changed(s);
    if (ret == -ENOTSUP) {
        *missing = true; /* not tried again */
    }
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int file_co_punch(FileState *s, uint64_t offset,
                                                       uint64_t bytes)
{
    return file_co_fallocate(s, offset, bytes, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                             &s->no_punch_hole);
}

static coroutine_fn RUNS_IN_IOTHREAD int file_co_ioctl(FileState *s, uint64_t offset,
                                                       uint64_t bytes, unsigned long request)
{
    FileWork w = {.s = s, .offset = offset, .bytes = bytes, .request = request};
    int ret = co_run_in_lane(&s->lane, file_ioctl_work, &w);
    file_changed(s);
    return ret;
}

int file_co_discard(BlockNode *n, uint64_t offset, uint64_t bytes)
{
    FileState *s = n->state;
    if (s->is_device) {
        return file_co_ioctl(s, offset, bytes, BLKDISCARD);
    }
    return file_co_punch(s, offset, bytes);
}

/* A hole reads as zeroes. If blocks must stay allocated, or past the end, the range is zeroed. */
int file_co_write_zeroes(BlockNode *n, uint64_t offset, uint64_t bytes, unsigned flags)
{
    FileState *s = n->state;
    bool grows = offset + bytes > block_node_size(n);
    int ret = -ENOTSUP;
    if ((flags & BLOCK_REQ_MAY_UNMAP) != 0 && !grows) {
        ret = file_co_punch(s, offset, bytes);
    }
    if (ret == -ENOTSUP && s->is_device && (flags & BLOCK_REQ_NO_FALLBACK) != 0) {
        return ret; /* the kernel may write zeroes to the device */
    }
    if (ret == -ENOTSUP && s->is_device) {
        ret = file_co_ioctl(s, offset, bytes, BLKZEROOUT);
    } else if (ret == -ENOTSUP) {
        ret = file_co_fallocate(s, offset, bytes, FALLOC_FL_ZERO_RANGE, &s->no_zero_range);
    }
    return ret;
}

/* The host sets the size of a device: it may have grown since it was opened, and a node may cover
 * only a part of it. */
static int file_check_device_work(void *opaque)
{
    const FileWork *w = opaque;
    uint64_t size;
    enter_worker();
    int ret = file_get_size(w->s, &size);
    return ret == 0 && w->bytes > size ? -ENOSPC : ret;
}

int file_co_truncate(BlockNode *n, uint64_t size)
{
    FileState *s = n->state;
    FileWork w = {.s = s, .bytes = size};
    int ret =
        co_run_in_lane(&s->lane, s->is_device ? file_check_device_work : file_truncate_work, &w);
    file_changed(s);
    return ret;
}

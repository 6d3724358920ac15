/* SPDX-License-Identifier: Apache-2.0 */
/* Opens and examines a file or device. All functions may block: workers only. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <stdlib.h>
#include "block/file/driver_file.h"
#include "block/drivers.h"
#include "util/fdset.h"
#include "util/loop/sched_point.h"

/* In place of an errno: an option asks for what this file does not have; without it, the file can be used. */
#define FILE_FAIL_OPTION (-1)

/* @err 0: @format says it all. */
__attribute__((format(printf, 4, 5))) static bool file_fail(const FileState *s, int err,
                                                            GError **error, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *text = g_strdup_vprintf(format, ap);
    va_end(ap);
    if (err > 0) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN, "'%s': %s: %s", s->filename, text,
                    g_strerror(err));
    } else {
        int code = err == FILE_FAIL_OPTION ? BLOCK_ERROR_UNSUPPORTED : BLOCK_ERROR_OPEN;
        g_set_error(error, BLOCK_ERROR, code, "'%s' %s", s->filename, text);
    }
    return false;
}

/* Uses O_NONBLOCK, because the open of a FIFO would wait for its other end. */
static int file_try_open(const FileState *s, bool read_only)
{
    int flags = (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    int fd;
    if (fdset_is_path(s->filename)) {
        fd = fdset_dup_fd(s->filename, flags);
        errno = fd < 0 ? -fd : 0;
        return fd < 0 ? -1 : fd;
    }
    do {
        fd = open(s->filename, flags);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

static bool file_open_fd(BlockNode *n, GError **error)
{
    FileState *s = n->state;
    s->fd = file_try_open(s, n->flags.read_only);
    if (s->fd < 0 && !n->flags.read_only && (errno == EACCES || errno == EPERM || errno == EROFS)) {
        int err = errno;
        int fd = file_try_open(s, true);
        if (fd >= 0 && !n->flags.auto_read_only) {
            close(fd);
            return file_fail(s, err, error, "cannot be opened for writing (read-only=on works)");
        }
        errno = err;
        if (fd >= 0) {
            s->fd = fd;
            n->flags.read_only = true;
        }
    }
    return s->fd >= 0 || file_fail(s, errno, error, "cannot be opened");
}

static const char *file_kind(mode_t mode)
{
    return S_ISDIR(mode)    ? "is a directory"
           : S_ISFIFO(mode) ? "is a FIFO"
           : S_ISCHR(mode)  ? "is a character device"
           : S_ISREG(mode)  ? "is a regular file"
                            : "is not a file";
}

static bool file_check_kind(BlockNode *n, struct stat *st, GError **error)
{
    FileState *s = n->state;
    if (fstat(s->fd, st) != 0) {
        return file_fail(s, errno, error, "fstat");
    }
    s->is_device = S_ISBLK(st->st_mode);
    if (n->drv == &block_driver_host_device && !s->is_device) {
        return file_fail(s, 0, error,
                         "%s; driver=host_device accepts block devices (driver=file "
                         "accepts regular files too)",
                         file_kind(st->st_mode));
    }
    if (!s->is_device && !S_ISREG(st->st_mode)) {
        return file_fail(s, 0, error, "%s; driver=file accepts regular files and block devices",
                         file_kind(st->st_mode));
    }
    return true;
}

static bool file_set_flags(BlockNode *n, GError **error)
{
    FileState *s = n->state;
    int flags = fcntl(s->fd, F_GETFL);
    if (flags >= 0) {
        flags = (flags & ~O_NONBLOCK) | (n->flags.cache_direct ? O_DIRECT : 0);
        flags = fcntl(s->fd, F_SETFL, flags);
    }
    if (flags == 0) {
        return true;
    }
    if (n->flags.cache_direct && errno == EINVAL) {
        return file_fail(s, FILE_FAIL_OPTION, error,
                         "is on a file system without O_DIRECT; use cache.direct=off "
                         "(cache=writeback)");
    }
    return file_fail(s, errno, error, "fcntl");
}

int file_get_size(const FileState *s, uint64_t *size)
{
    struct stat st;
    if (s->is_device) {
        return ioctl(s->fd, BLKGETSIZE64, size) == 0 ? 0 : -errno;
    }
    if (fstat(s->fd, &st) != 0) {
        return -errno;
    }
    *size = (uint64_t)st.st_size;
    return 0;
}

static RUNS_IN_WORKER bool file_find_size(BlockNode *n, GError **error)
{
    const FileState *s = n->state;
    uint64_t size;
    int ret = file_get_size(s, &size);
    if (ret < 0) {
        return file_fail(s, -ret, error, "its size");
    }
    /* The rest of the last sector reads as zeroes and exists once it is written. */
    atomic_store(&n->size, block_align_up(size, BLOCK_SECTOR_SIZE));
    return true;
}

/* ---- alignment for O_DIRECT ---- */

static bool file_direct_read_works(int fd, uint32_t alignment, uint32_t length)
{
    void *buffer;
    if (posix_memalign(&buffer, alignment, length) != 0) {
        return false;
    }
    ssize_t got = pread(fd, buffer, length, 0);
    int err = errno;
    free(buffer);
    return got >= 0 || err != EINVAL;
}

/* The kernel does not report the alignment, so it is tried out. */
static bool file_probe_alignment(BlockNode *n)
{
    const FileState *s = n->state;
    for (uint32_t a = BLOCK_SECTOR_SIZE; a <= BLOCK_MEMORY_ALIGNMENT_MAX; a *= 2) {
        if (file_direct_read_works(s->fd, BLOCK_MEMORY_ALIGNMENT_MAX, a)) {
            n->limits.request_alignment = a;
            n->limits.memory_alignment = a;
            return true;
        }
    }
    return false;
}

static bool file_query_alignment(BlockNode *n, bool *unsupported)
{
    const FileState *s = n->state;
    *unsupported = false;
#ifdef STATX_DIOALIGN
    struct statx stx;
    if (statx(s->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 &&
        (stx.stx_mask & STATX_DIOALIGN) != 0) {
        *unsupported = stx.stx_dio_offset_align == 0;
        n->limits.request_alignment = stx.stx_dio_offset_align;
        n->limits.memory_alignment = stx.stx_dio_mem_align;
        return !*unsupported;
    }
#endif
    return false;
}

static bool file_find_alignment(BlockNode *n, GError **error)
{
    FileState *s = n->state;
    int sector = 0;
    if (s->is_device && ioctl(s->fd, BLKSSZGET, &sector) == 0 && sector > 0) {
        n->limits.zero_alignment = (uint32_t)sector;
    }
    if (!n->flags.cache_direct) {
        return true;
    }
    bool unsupported;
    if (!file_query_alignment(n, &unsupported) && (unsupported || !file_probe_alignment(n))) {
        return file_fail(s, FILE_FAIL_OPTION, error,
                         "cannot be used with O_DIRECT; use cache.direct=off");
    }
    if (!n->flags.read_only && !block_is_aligned(block_node_size(n), n->limits.request_alignment)) {
        return file_fail(s, FILE_FAIL_OPTION, error,
                         "has %" G_GUINT64_FORMAT " bytes, not a multiple of the %u that O_DIRECT "
                         "requires for writes; use cache.direct=off, or resize it",
                         block_node_size(n), n->limits.request_alignment);
    }
    return true;
}

FileLockMode file_lock_mode(const FileState *s, const BlockNodeFlags *flags)
{
    return (FileLockMode){
        .locking = (FileLocking)s->locking,
        .write = !flags->read_only,
        .force_share = flags->force_share,
    };
}

/* Called before any lock is touched: the name may now lead to another file. That file must not be
 * locked, and its locks do not protect the file that is open. */
static bool file_check_same(const FileState *s, const struct stat *st, GError **error)
{
    struct stat old_st;
    const FileState *old = s->replaces != NULL ? s->replaces->state : NULL;
    if (old == NULL || (fstat(old->fd, &old_st) == 0 && old_st.st_dev == st->st_dev &&
                        old_st.st_ino == st->st_ino)) {
        return true;
    }
    return file_fail(s, 0, error, "is another file than the one that is open");
}

static RUNS_IN_WORKER bool file_take_locks(const BlockNode *n, GError **error)
{
    const FileState *s = n->state;
    FileLockMode mode = file_lock_mode(s, &n->flags);
    if (s->replaces == NULL) {
        return file_lock(s->fd, s->filename, &mode, error);
    }
    const FileState *old = s->replaces->state;
    FileLockMode old_mode = file_lock_mode(old, &s->replaces->flags);
    return file_lock_extend(s->fd, old->fd, s->filename, &old_mode, &mode, error);
}

/* Undoes file_take_locks() on the descriptor that is open now. */
static RUNS_IN_WORKER void file_forget_locks(const BlockNode *n)
{
    const FileState *s = n->state;
    if (s->replaces != NULL) {
        const FileState *old = s->replaces->state;
        FileLockMode mode = file_lock_mode(s, &n->flags);
        FileLockMode old_mode = file_lock_mode(old, &s->replaces->flags);
        file_lock_forget(old->fd, &old_mode, &mode);
    }
}

/* Reads the size and the limits, under the locks. */
static RUNS_IN_WORKER bool file_examine(BlockNode *n, GError **error)
{
    if (!file_take_locks(n, error)) {
        return false;
    }
    if (file_find_size(n, error) && file_find_alignment(n, error)) {
        return true;
    }
    file_forget_locks(n);
    return false;
}

bool file_open(BlockNode *n, GError **error)
{
    FileState *s = n->state;
    struct stat st;
    SP("file.open", n);
    if (!file_open_fd(n, error)) {
        return false;
    }
    if (file_check_kind(n, &st, error) && file_check_same(s, &st, error) &&
        file_set_flags(n, error) && file_examine(n, error)) {
        return true;
    }
    close(s->fd);
    return false;
}

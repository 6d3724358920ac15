/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/dump/dump_target.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "util/fdset.h"
#include "util/zero.h"

#define DUMP_TARGET_MODE 0600 /* guest memory holds the guest's secrets */
#define DUMP_TARGET_PAGE 4096u
#define DUMP_TARGET_MAX_WRITE ((size_t)1 << 20)

static bool dump_target_fail(GError **error, const char *what, int errnum)
{
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errnum), "dump: %s: %s", what,
                g_strerror(errnum));
    return false;
}

static bool dump_target_is_cancelled(DumpTarget *t, GError **error)
{
    if (!atomic_load(&t->cancel->cancelled)) {
        return false;
    }
    dump_target_fail(error, "aborted, since skiff quits", ECANCELED);
    return true;
}

/* ---- opening ---- */

bool dump_cancel_init(DumpCancel *c, GError **error)
{
    c->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return c->fd >= 0 || dump_target_fail(error, "eventfd", errno);
}

void dump_cancel_all(DumpCancel *c)
{
    uint64_t one = 1;
    atomic_store(&c->cancelled, true);
    ssize_t n = write(c->fd, &one, sizeof(one));
    (void)n; /* it is readable already */
}

void dump_target_init(DumpTarget *t, const DumpCancel *cancel)
{
    *t = (DumpTarget){.fd = -1, .cancel = cancel};
}

/* Whether zeroes can become holes: the range holds no other data. */
static bool dump_target_can_be_sparse(DumpTarget *t, const struct stat *st, int flags)
{
    off_t at = lseek(t->fd, 0, SEEK_CUR);
    if (at < 0 || (flags & O_APPEND) != 0 || st->st_size > at) {
        return false;
    }
    t->base = (uint64_t)at;
    return true;
}

static bool dump_target_take(DumpTarget *t, int fd, GError **error)
{
    struct stat st;
    t->fd = fd;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fstat(fd, &st) != 0) {
        return dump_target_fail(error, "the file descriptor", errno);
    }
    if ((flags & O_ACCMODE) == O_RDONLY || (flags & O_PATH) != 0) {
        return dump_target_fail(error, "the file descriptor is not open for writing", EBADF);
    }
    if (S_ISREG(st.st_mode)) {
        t->kind = dump_target_can_be_sparse(t, &st, flags) ? DUMP_TARGET_SPARSE : DUMP_TARGET_FILE;
    } else if (S_ISSOCK(st.st_mode)) {
        t->kind = DUMP_TARGET_SOCKET;
    } else {
        t->kind = S_ISBLK(st.st_mode) ? DUMP_TARGET_FILE : DUMP_TARGET_STREAM;
    }
    return true;
}

bool dump_target_adopt(DumpTarget *t, int fd, GError **error)
{
    if (dump_target_take(t, fd, error)) {
        return true;
    }
    dump_target_close(t, false, NULL);
    return false;
}

static int dump_target_open_fd(const char *path)
{
    if (fdset_is_path(path)) {
        int fd = fdset_dup_fd(path, O_WRONLY);
        errno = fd < 0 ? -fd : 0;
        return fd;
    }
    /* A FIFO without a reader is an error (ENXIO) instead of an endless wait. */
    return open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
                DUMP_TARGET_MODE);
}

bool dump_target_open(DumpTarget *t, const char *path, GError **error)
{
    int fd = dump_target_open_fd(path);
    if (fd < 0) {
        int errnum = errno;
        g_autofree char *shown = g_utf8_make_valid(path, -1);
        struct stat found;
        bool fifo = errnum == ENXIO && stat(path, &found) == 0 && S_ISFIFO(found.st_mode);
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errnum),
                    "Could not open '%s': %s%s", shown, g_strerror(errnum),
                    fifo ? " (a FIFO needs a reader)" : "");
        return false;
    }
    if (!dump_target_adopt(t, fd, error)) {
        return false;
    }
    struct stat st;
    if (!fdset_is_path(path) && fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
        owned_path_set(&t->file, path);
    }
    return true;
}

/* ---- writing ---- */

/* Waits until the target takes data, or the dump is cancelled. */
static bool dump_target_wait(DumpTarget *t, GError **error)
{
    struct pollfd fds[] = {{.fd = t->fd, .events = POLLOUT},
                           {.fd = t->cancel->fd, .events = POLLIN}};
    while (poll(fds, G_N_ELEMENTS(fds), -1) < 0) {
        if (errno != EINTR) {
            return dump_target_fail(error, "poll", errno);
        }
    }
    return true;
}

/* Writes as much as one system call takes; -1 and errno. */
static ssize_t dump_target_write_some(DumpTarget *t, const uint8_t *data, uint64_t size)
{
    size_t n = (size_t)MIN(size, DUMP_TARGET_MAX_WRITE);
    switch (t->kind) {
    case DUMP_TARGET_SPARSE:
        return pwrite(t->fd, data, n, (off_t)(t->base + t->at));
    case DUMP_TARGET_FILE:
        return write(t->fd, data, n);
    case DUMP_TARGET_STREAM:
        /* A pipe that poll() reports writable takes PIPE_BUF bytes without blocking (pipe(7)). */
        return write(t->fd, data, MIN(n, (size_t)PIPE_BUF));
    case DUMP_TARGET_SOCKET:
        return send(t->fd, data, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    return -1;
}

static bool dump_target_write_all(DumpTarget *t, const uint8_t *data, uint64_t size, GError **error)
{
    while (size > 0) {
        bool waits = t->kind == DUMP_TARGET_STREAM || t->kind == DUMP_TARGET_SOCKET;
        if (waits && !dump_target_wait(t, error)) {
            return false;
        }
        if (dump_target_is_cancelled(t, error)) {
            return false;
        }
        ssize_t n = dump_target_write_some(t, data, size);
        if (n < 0 && (errno == EINTR || (waits && errno == EAGAIN))) {
            continue;
        }
        if (n <= 0) {
            return dump_target_fail(error, "failed to save memory", n < 0 ? errno : ENOSPC);
        }
        data += n;
        size -= (uint64_t)n;
        t->at += (uint64_t)n;
    }
    return true;
}

/* The number of bytes at @data that are pages of zeroes (@zero), or other pages. */
static uint64_t dump_target_run(const uint8_t *data, uint64_t size, bool zero)
{
    uint64_t run = 0;
    while (run < size) {
        uint64_t page = MIN(size - run, DUMP_TARGET_PAGE);
        if (bytes_are_zero(data + run, page) != zero) {
            break;
        }
        run += page;
    }
    return run;
}

bool dump_target_write(DumpTarget *t, const uint8_t *data, uint64_t size, GError **error)
{
    if (t->kind != DUMP_TARGET_SPARSE) {
        return dump_target_write_all(t, data, size, error);
    }
    while (size > 0) {
        uint64_t hole = dump_target_run(data, size, true);
        t->at += hole;
        uint64_t full = dump_target_run(data + hole, size - hole, false);
        if (dump_target_is_cancelled(t, error) ||
            !dump_target_write_all(t, data + hole, full, error)) {
            return false;
        }
        data += hole + full;
        size -= hole + full;
    }
    return true;
}

bool dump_target_close(DumpTarget *t, bool complete, GError **error)
{
    bool ok = true;
    if (t->fd >= 0) {
        off_t end = (off_t)(t->base + t->at);
        if (complete && t->kind == DUMP_TARGET_SPARSE &&
            (ftruncate(t->fd, end) != 0 || lseek(t->fd, end, SEEK_SET) != end)) {
            ok = dump_target_fail(error, "failed to save memory", errno);
        }
        if (close(t->fd) != 0 && ok && complete) {
            ok = dump_target_fail(error, "failed to save memory", errno);
        }
        t->fd = -1;
    }
    if (!(complete && ok)) {
        owned_path_unlink(&t->file);
    }
    owned_path_clear(&t->file);
    return ok;
}

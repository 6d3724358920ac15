/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Using inherited descriptors.
 *
 * O_NONBLOCK is a property of the open file description, which skiff shares with its shell and with
 * the other programs of its pipeline. Setting it there breaks them ("resource temporarily
 * unavailable" in the next program). So a terminal, pipe or FIFO is opened again through
 * /proc/self/fd, a socket is used with MSG_DONTWAIT, and a worker uses the rest.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "hw/chardev/chardev_int.h"

int chardev_fd_private(int inherited, int flags, FdMode *mode, bool *owned)
{
    char path[32];
    struct stat st;
    int fd;

    *owned = false;
    if (fstat(inherited, &st) < 0) {
        *mode = FD_BLOCKING;
        return inherited;
    }
    if (S_ISSOCK(st.st_mode)) {
        *mode = FD_SOCKET;
        return inherited;
    }
    if (!S_ISFIFO(st.st_mode) && !isatty(inherited)) {
        /* A regular file's offset is part of the description and must stay shared. */
        *mode = FD_BLOCKING;
        return inherited;
    }
    snprintf(path, sizeof(path), "/proc/self/fd/%d", inherited);
    fd = open(path, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) {
        *mode = FD_POLLED; /* another user's terminal, or no /proc: still usable */
        return inherited;
    }
    *mode = FD_NONBLOCK;
    *owned = true;
    return fd;
}

FdMode chardev_fd_mode(int fd)
{
    struct stat st;
    bool paced = fstat(fd, &st) == 0 && (S_ISFIFO(st.st_mode) || isatty(fd));

    return paced ? FD_NONBLOCK : FD_BLOCKING;
}

const char *chardev_open_failure(const char *path, int err)
{
    struct stat st;

    enter_worker();
    if (err != ENXIO || stat(path, &st) < 0) {
        return g_strerror(err);
    }
    if (S_ISSOCK(st.st_mode)) {
        return "a socket is not opened by its path; nearest is chardev 'socket', or 'stdio' if it "
               "is "
               "standard output";
    }
    return S_ISFIFO(st.st_mode) ? "a FIFO without a reader" : g_strerror(err);
}

ssize_t chardev_fd_read(int fd, FdMode mode, void *buf, size_t size)
{
    ssize_t n;

    do {
        n = mode == FD_SOCKET ? recv(fd, buf, size, MSG_DONTWAIT) : read(fd, buf, size);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

ssize_t chardev_fd_write(int fd, FdMode mode, const void *buf, size_t size)
{
    ssize_t n;

    do {
        n = mode == FD_SOCKET ? send(fd, buf, size, MSG_DONTWAIT | MSG_NOSIGNAL)
                              : write(fd, buf, size);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

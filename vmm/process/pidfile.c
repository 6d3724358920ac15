/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/process/pidfile.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "util/log.h"
#include "util/owned_path.h"

static int pidfile_fd = -1; /* stays open, since closing it releases the lock */
static OwnedPath pidfile_made;

static bool pidfile_fail(GError **error, const char *path, const char *advice)
{
    int err = errno;
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(err), "-pidfile %s: %s", path,
                advice != NULL ? advice : g_strerror(err));
    return false;
}

/* Opens and locks @path. If its holder removed the file in between, retries. -1 + errno. */
static int pidfile_open_locked(const char *path)
{
    for (;;) {
        /* O_NONBLOCK: opening a FIFO must not block. */
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0600);
        if (fd < 0) {
            return -1;
        }
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        struct stat mine, there;
        if (fcntl(fd, F_OFD_SETLK, &lock) != 0 || fstat(fd, &mine) != 0) {
            int err = errno;
            close(fd);
            errno = err;
            return -1;
        }
        if (!S_ISREG(mine.st_mode)) {
            close(fd);
            errno = ENOTSUP;
            return -1;
        }
        if (stat(path, &there) == 0 && there.st_dev == mine.st_dev && there.st_ino == mine.st_ino) {
            return fd;
        }
        close(fd);
    }
}

bool pidfile_write(const char *path, GError **error)
{
    int fd = pidfile_open_locked(path);
    if (fd < 0) {
        return pidfile_fail(error, path,
                            errno == EAGAIN    ? "a running VM uses this file; choose another"
                            : errno == ENOTSUP ? "is no regular file"
                                               : NULL);
    }
    g_autofree char *text = g_strdup_printf("%d\n", (int)getpid());
    size_t size = strlen(text);
    if (ftruncate(fd, 0) != 0 || write(fd, text, size) != (ssize_t)size) {
        pidfile_fail(error, path, NULL);
        close(fd);
        return false;
    }
    pidfile_fd = fd;
    owned_path_set(&pidfile_made, path); /* otherwise an empty file is left */
    return true;
}

void pidfile_remove(void)
{
    if (pidfile_fd < 0) {
        return;
    }
    /* Done before the lock is released, so no other process has written to the file. A process that
     * may not remove it leaves it empty; the next process takes it over. */
    if (!owned_path_unlink(&pidfile_made) && ftruncate(pidfile_fd, 0) != 0) {
        log_warn("-pidfile %s: cannot be removed: %s", pidfile_made.path, g_strerror(errno));
    }
    close(pidfile_fd);
    pidfile_fd = -1;
    owned_path_clear(&pidfile_made);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/boot/boot_int.h"

G_DEFINE_QUARK(skiff - boot - error, boot_error)

bool boot_file_error(GError **error, int code, const BootFile *file, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, BOOT_ERROR, code, "%s %s: %s", file->option, file->path, text);
    return false;
}

static bool boot_file_check(BootFile *file, GError **error)
{
    struct stat st;
    if (fstat(file->fd, &st) < 0) {
        return boot_file_error(error, BOOT_ERROR_FILE, file, "%s", g_strerror(errno));
    }
    if (S_ISDIR(st.st_mode)) {
        return boot_file_error(error, BOOT_ERROR_FILE, file, "is a directory; name a file");
    }
    if (!S_ISREG(st.st_mode)) {
        return boot_file_error(error, BOOT_ERROR_FILE, file,
                               "is not a regular file (it is read again at every reset); "
                               "copy it into one");
    }
    if (st.st_size == 0) {
        return boot_file_error(error, BOOT_ERROR_FORMAT, file, "is empty");
    }
    file->size = (uint64_t)st.st_size;
    return true;
}

bool boot_file_open(BootFile *file, const char *option, const char *path, GError **error)
{
    file->option = option;
    file->path = g_strdup(path);
    /* O_NONBLOCK: opening a FIFO must not wait for its writer. */
    file->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file->fd < 0) {
        boot_file_error(error, BOOT_ERROR_FILE, file, "cannot be opened: %s", g_strerror(errno));
    }
    if (file->fd < 0 || !boot_file_check(file, error)) {
        boot_file_close(file);
        return false;
    }
    return true;
}

void boot_file_close(BootFile *file)
{
    /* A zeroed BootFile was never opened: descriptor 0 does not belong to it. */
    if (file->path != NULL && file->fd >= 0) {
        close(file->fd);
    }
    g_free(file->path);
    file->path = NULL;
    file->fd = -1;
}

bool boot_file_read(const BootFile *file, uint64_t offset, void *buf, uint64_t len,
                    const char *what, GError **error)
{
    uint8_t *at = buf;
    if (offset > file->size || len > file->size - offset) {
        return boot_file_error(error, BOOT_ERROR_FORMAT, file,
                               "is truncated: %s needs %" PRIu64 " bytes at offset 0x%" PRIx64
                               ", the file ends at 0x%" PRIx64,
                               what, len, offset, file->size);
    }
    while (len > 0) {
        ssize_t n = pread(file->fd, at, MIN(len, (uint64_t)1 << 30), (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return boot_file_error(error, BOOT_ERROR_FILE, file,
                                   "reading %s at offset 0x%" PRIx64 " failed: %s", what, offset,
                                   n < 0 ? g_strerror(errno) : "the file has become shorter");
        }
        at += n;
        offset += (uint64_t)n;
        len -= (uint64_t)n;
    }
    return true;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "util/user_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "util/opts/opts.h"

#define USER_FILE_STEP 65536

static bool file_fail(GError **error, int err)
{
    g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "%s", g_strerror(err));
    return false;
}

static bool file_is_too_large(GError **error, uint64_t max)
{
    g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                "is too large: at most %" G_GUINT64_FORMAT " bytes fit", max);
    return false;
}

/* @max becomes the most that this file may have, @room what to allocate first. */
static bool file_check(int fd, uint64_t *max, uint64_t *room, GError **error)
{
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return file_fail(error, errno);
    }
    *room = USER_FILE_STEP;
    if (!S_ISREG(st.st_mode)) {
        *max = MIN(*max, USER_FILE_STREAM_MAX);
        return true;
    }
    *room += (uint64_t)st.st_size;
    return (uint64_t)st.st_size <= *max || file_is_too_large(error, *max);
}

/* Reads until the end. The file may grow meanwhile. */
static bool file_read_all(int fd, uint64_t max, uint64_t room, uint8_t **data, uint64_t *size,
                          GError **error)
{
    for (;;) {
        if (*data == NULL || *size == room) {
            room = *data == NULL ? room : room * 2;
            uint8_t *larger = g_try_realloc(*data, room);
            if (larger == NULL) {
                return file_fail(error, ENOMEM);
            }
            *data = larger;
        }
        ssize_t n = read(fd, *data + *size, room - *size);
        if (n == 0) {
            return true;
        }
        if (n < 0 && errno != EINTR) {
            return file_fail(error, errno);
        }
        *size += n > 0 ? (uint64_t)n : 0;
        if (*size > max) {
            return file_is_too_large(error, max);
        }
    }
}

GBytes *user_file_read(const char *path, uint64_t max, GError **error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
        file_fail(error, errno);
        return NULL;
    }
    uint64_t room = 0, size = 0;
    uint8_t *data = NULL;
    bool ok =
        file_check(fd, &max, &room, error) && file_read_all(fd, max, room, &data, &size, error);
    close(fd);
    if (!ok) {
        g_free(data);
        return NULL;
    }
    return g_bytes_new_take(data, size);
}

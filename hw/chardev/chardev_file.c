/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include "hw/chardev/chardev_int.h"

typedef struct ChardevFile {
    ChardevStream stream;
    char *path;  /* config */
    bool append; /* config */
    int fd;
    const char *failure; /* reason of a failed open */
} ChardevFile;

static int chardev_file_open_in_worker(void *opaque)
{
    ChardevFile *f = opaque;

    enter_worker();
    /* O_NONBLOCK: opening a FIFO without a reader fails instead of blocking a worker. */
    f->fd = open(f->path,
                 O_WRONLY | O_CREAT | O_NONBLOCK | O_CLOEXEC | O_NOCTTY |
                     (f->append ? O_APPEND : O_TRUNC),
                 0666);
    if (f->fd < 0) {
        int err = errno;

        f->failure = chardev_open_failure(f->path, err);
        return -err;
    }
    return 0;
}

static bool chardev_file_co_open(ChardevStream *s, GError **error)
{
    ChardevFile *f = (ChardevFile *)s;
    int ret;

    enter_coroutine();
    enter_main();
    f->fd = -1;
    ret = co_run_in_worker(chardev_file_open_in_worker, f);
    if (ret < 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(-ret), "can't open '%s': %s",
                    f->path, f->failure);
        return false;
    }
    s->filename = g_strdup_printf("file:%s", f->path);
    sink_start(&s->out, f->fd, chardev_fd_mode(f->fd), f->path);
    stream_set_connected(s, true);
    return true;
}

static void chardev_file_close(ChardevStream *s)
{
    ChardevFile *f = (ChardevFile *)s;

    if (f->fd >= 0) {
        close(f->fd);
    }
}

static const OptSpec chardev_file_options[] = {
    OPT_SPEC(ChardevFile, "path", OPT_STRING, path, .help = "file to write", .required = true),
    OPT_SPEC(ChardevFile, "append", OPT_BOOL, append, .help = "append to the file", .def = "off"),
    {0},
};

const ChardevBackend chardev_file_backend = {
    .name = "file",
    .description = "output goes to a file; no input",
    .instance_size = sizeof(ChardevFile),
    .options = chardev_file_options,
    .co_open = chardev_file_co_open,
    .close = chardev_file_close,
};

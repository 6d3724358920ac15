/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors that skiff was started with, for its own use (-exec, -notify). Not a backend of
 * -chardev. */
#include <fcntl.h>
#include <unistd.h>
#include "hw/chardev/chardev_int.h"
#include "hw/chardev/terminal.h"

#define INHERITED_NONE UINT32_MAX

typedef struct ChardevInherited {
    ChardevStream stream;
    uint32_t in, out; /* config */
    int in_fd, out_fd;
    bool in_owned, out_owned, has_stdio;
} ChardevInherited;

static bool chardev_inherited_co_open(ChardevStream *s, GError **error)
{
    ChardevInherited *d = (ChardevInherited *)s;
    FdMode mode;

    enter_main();
    if (d->in == STDIN_FILENO) {
        if (!stdio_claim(error)) {
            return false;
        }
        d->has_stdio = true;
    }
    stream_set_connected(s, true);
    if (d->out != INHERITED_NONE) {
        d->out_fd = chardev_fd_private((int)d->out, O_WRONLY, &mode, &d->out_owned);
        s->filename = g_strdup_printf("fd:%u", d->out);
        sink_start(&s->out, d->out_fd, mode, s->filename);
    }
    if (d->in != INHERITED_NONE) {
        d->in_fd = chardev_fd_private((int)d->in, O_RDONLY, &mode, &d->in_owned);
        s->filename = s->filename ? s->filename : g_strdup_printf("fd:%u", d->in);
        stream_input_start(s, d->in_fd, mode);
    }
    return true;
}

static void chardev_inherited_close(ChardevStream *s)
{
    ChardevInherited *d = (ChardevInherited *)s;

    enter_main();
    if (d->in_owned) {
        close(d->in_fd);
    }
    if (d->out_owned) {
        close(d->out_fd);
    }
    if (d->has_stdio) {
        stdio_release();
    }
}

static void chardev_inherited_hangup(ChardevStream *s, int error_number)
{
    enter_main();
    stream_set_connected(s, false);
}

static bool chardev_inherited_may_read(ChardevStream *s)
{
    return terminal_may_use(s->in_fd);
}

static const OptSpec chardev_inherited_options[] = {
    OPT_SPEC(ChardevInherited, "in", OPT_U32, in, .def = "4294967295"),
    OPT_SPEC(ChardevInherited, "out", OPT_U32, out, .def = "4294967295"),
    {0},
};

const ChardevBackend chardev_inherited_backend = {
    .name = "fd",
    .description = "inherited descriptors",
    .instance_size = sizeof(ChardevInherited),
    .options = chardev_inherited_options,
    .co_open = chardev_inherited_co_open,
    .close = chardev_inherited_close,
    .hangup = chardev_inherited_hangup,
    .may_read = chardev_inherited_may_read,
};

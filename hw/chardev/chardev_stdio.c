/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <unistd.h>
#include "hw/chardev/chardev_int.h"
#include "hw/chardev/terminal.h"

typedef struct ChardevStdio {
    ChardevStream stream;
    bool signal; /* config */
    int in_fd, out_fd;
    bool in_owned, out_owned, is_terminal;
    bool opened;
    AioBh resume_bh;
} ChardevStdio;

static bool stdio_in_use; /* main */

bool stdio_claim(GError **error)
{
    if (stdio_in_use) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "stdio is used already; several users share it with mon:stdio or mux=on");
        return false;
    }
    stdio_in_use = true;
    return true;
}

void stdio_release(void)
{
    stdio_in_use = false;
}

/* SIGCONT: input typed while in the background may be read now. */
static void chardev_stdio_resume(void *opaque)
{
    enter_main();
    stream_input_kick(opaque);
}

static bool chardev_stdio_co_open(ChardevStream *s, GError **error)
{
    ChardevStdio *d = (ChardevStdio *)s;
    FdMode in_mode, out_mode;

    enter_main();
    if (!stdio_claim(error)) {
        return false;
    }
    d->opened = true;
    aio_bh_init(&d->resume_bh, s->ctx, chardev_stdio_resume, s);
    d->in_fd = chardev_fd_private(STDIN_FILENO, O_RDONLY, &in_mode, &d->in_owned);
    d->out_fd = chardev_fd_private(STDOUT_FILENO, O_WRONLY, &out_mode, &d->out_owned);
    s->filename = g_strdup("stdio");
    d->is_terminal = isatty(STDIN_FILENO);
    if (d->is_terminal) {
        s->interactive = true;
        terminal_open(STDIN_FILENO, d->signal, &d->resume_bh);
    }
    sink_start(&s->out, d->out_fd, out_mode, "standard output");
    stream_input_start(s, d->in_fd, in_mode);
    stream_set_connected(s, true);
    return true;
}

static void chardev_stdio_close(ChardevStream *s)
{
    ChardevStdio *d = (ChardevStdio *)s;

    enter_main();
    if (!d->opened) {
        return;
    }
    if (d->is_terminal) {
        terminal_close();
        aio_bh_cancel(&d->resume_bh);
    }
    if (d->in_owned) {
        close(d->in_fd);
    }
    if (d->out_owned) {
        close(d->out_fd);
    }
    stdio_release();
}

/* The end of input is ignored: `skiff </dev/null` keeps running. Output without a reader is
 * dropped, with a warning. */
static void chardev_stdio_hangup(ChardevStream *s, int error_number)
{
    if (error_number != 0 && !s->out.active) {
        log_warn("chardev '%s': standard output: %s; its output is dropped from now on", s->base.id,
                 g_strerror(error_number));
    }
}

static bool chardev_stdio_may_read(ChardevStream *s)
{
    enter_main();
    return !((ChardevStdio *)s)->is_terminal || terminal_use();
}

static const OptSpec chardev_stdio_options[] = {
    OPT_SPEC(ChardevStdio, "signal", OPT_BOOL, signal,
             .help = "Ctrl-C and Ctrl-Z send signals to skiff and are not input", .def = "on"),
    {0},
};

const ChardevBackend chardev_stdio_backend = {
    .name = "stdio",
    .description = "standard input and output; a terminal is set raw",
    .instance_size = sizeof(ChardevStdio),
    .options = chardev_stdio_options,
    .co_open = chardev_stdio_co_open,
    .close = chardev_stdio_close,
    .hangup = chardev_stdio_hangup,
    .may_read = chardev_stdio_may_read,
};

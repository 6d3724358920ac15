/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pseudo-terminal whose other side a user opens (`screen /dev/pts/N`).
 *
 * The kernel reports when the other side is closed (POLLHUP) but not when it is opened again, and
 * epoll would report the hangup for ever. So while the other side is closed, a timer polls the
 * descriptor instead of the loop. A user that opened, wrote and closed between two polls has left
 * input: it is read, and its end is the hangup.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>
#include "hw/chardev/chardev_int.h"
#include "util/owned_path.h"

#define PTY_LOOK_NS (200 * INT64_C(1000000))

typedef struct ChardevPty {
    ChardevStream stream;
    char *link;     /* config: "path" */
    int master;     /* -1: not open */
    int out;        /* a second number for `master`: epoll takes each once */
    OwnedPath made; /* the link, once it exists */
    char name[64];
    AioTimer look;
} ChardevPty;

static void chardev_pty_look(void *opaque)
{
    ChardevPty *p = opaque;
    ChardevStream *s = &p->stream;
    struct pollfd fd = {.fd = p->master, .events = POLLIN};

    enter_main();
    if (poll(&fd, 1, 0) < 0 || (fd.revents & (POLLHUP | POLLIN)) == POLLHUP) {
        aio_timer_arm(&p->look, aio_now_ns(s->ctx) + PTY_LOOK_NS);
        return;
    }
    sink_start(&s->out, p->out, FD_NONBLOCK, p->name);
    stream_set_connected(s, true);
    stream_input_start(s, p->master, FD_NONBLOCK);
}

static void chardev_pty_hangup(ChardevStream *s, int error_number)
{
    ChardevPty *p = (ChardevPty *)s;

    enter_main();
    sink_stop(&s->out);
    stream_input_stop(s);
    tcflush(p->master, TCOFLUSH); /* output for the last reader is not for the next one */
    stream_set_connected(s, false);
    aio_timer_arm(&p->look, aio_now_ns(s->ctx) + PTY_LOOK_NS);
}

/* Opens both sides. The other side is opened only to make it raw, which persists after its
 * close. */
static int chardev_pty_open(ChardevPty *p)
{
    struct termios settings;
    int slave, ret = 0;

    p->out = -1;
    p->master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (p->master < 0 || grantpt(p->master) < 0 || unlockpt(p->master) < 0) {
        return -errno;
    }
    p->out = fcntl(p->master, F_DUPFD_CLOEXEC, 3);
    if (p->out < 0) {
        return -errno;
    }
    ret = ptsname_r(p->master, p->name, sizeof(p->name));
    if (ret != 0) {
        return -ret;
    }
    slave = open(p->name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave < 0) {
        return -errno;
    }
    if (tcgetattr(slave, &settings) < 0) {
        ret = -errno;
    } else {
        cfmakeraw(&settings);
        ret = tcsetattr(slave, TCSANOW, &settings) < 0 ? -errno : 0;
    }
    close(slave);
    return ret;
}

/* Prints the line that scripts expect. If standard output has no reader the line is dropped, since
 * chardev-add, whose reply has the name, must not wait for one. */
static void chardev_pty_tell(const ChardevPty *p)
{
    const char *id = p->stream.base.id;
    struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};

    if (poll(&out, 1, 0) == 1 && (out.revents & POLLOUT)) {
        printf("char device redirected to %s (label %.1000s)\n", p->name, id); /* < PIPE_BUF */
        fflush(stdout);
    } else {
        log_info("chardev '%s' is %s; standard output had no room for this line", id, p->name);
    }
}

static bool chardev_pty_co_open(ChardevStream *s, GError **error)
{
    ChardevPty *p = (ChardevPty *)s;
    int ret;

    enter_main();
    ret = chardev_pty_open(p);
    if (ret < 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(-ret),
                    "can't make a pseudo-terminal: %s", g_strerror(-ret));
        return false;
    }
    if (p->link) {
        if (symlink(p->name, p->link) < 0) {
            g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno),
                        "can't make the link '%s' to %s: %s", p->link, p->name, g_strerror(errno));
            return false;
        }
        owned_path_set(&p->made, p->link); /* without an entry it would not be removed */
    }
    s->filename = g_strdup_printf("pty:%s", p->name);
    aio_timer_init(&p->look, s->ctx, chardev_pty_look, p);
    aio_timer_arm(&p->look, aio_now_ns(s->ctx) + PTY_LOOK_NS);
    chardev_pty_tell(p);
    return true;
}

static void chardev_pty_unlink(ChardevStream *s)
{
    ChardevPty *p = (ChardevPty *)s;

    owned_path_unlink(&p->made);
}

static void chardev_pty_stop(ChardevStream *s)
{
    ChardevPty *p = (ChardevPty *)s;

    if (p->look.fn) {
        aio_timer_disarm(&p->look);
    }
}

static void chardev_pty_close(ChardevStream *s)
{
    ChardevPty *p = (ChardevPty *)s;

    owned_path_clear(&p->made);
    if (p->out >= 0) {
        close(p->out);
    }
    if (p->master >= 0) {
        close(p->master);
    }
}

static const OptSpec chardev_pty_options[] = {
    OPT_SPEC(ChardevPty, "path", OPT_STRING, link, .help = "path of a symbolic link to it"),
    {0},
};

const ChardevBackend chardev_pty_backend = {
    .name = "pty",
    .description = "a pseudo-terminal, whose name is printed",
    .instance_size = sizeof(ChardevPty),
    .options = chardev_pty_options,
    .co_open = chardev_pty_co_open,
    .stop = chardev_pty_stop,
    .unlink = chardev_pty_unlink,
    .close = chardev_pty_close,
    .hangup = chardev_pty_hangup,
};

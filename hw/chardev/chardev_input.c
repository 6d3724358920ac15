/* SPDX-License-Identifier: Apache-2.0 */
/* Input of a stream. It is read while the frontend has room, by main, or by a worker if it may
 * block. */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>
#include "hw/chardev/chardev_int.h"

#define INPUT_MAY_READ_NS (200 * INT64_C(1000000))

static RUNS_IN_MAIN bool stream_may_read(ChardevStream *s)
{
    return !s->backend->may_read || s->backend->may_read(s);
}

static RUNS_IN_MAIN size_t stream_input_room(ChardevStream *s)
{
    const ChardevFrontendOps *frontend = s->base.frontend;

    if (chardev_input_held() || s->in_fd < 0 || !frontend || !frontend->receive ||
        !stream_may_read(s)) {
        return 0;
    }
    return frontend->can_receive
               ? MIN(frontend->can_receive(s->base.frontend_opaque), STREAM_INPUT_BYTES)
               : STREAM_INPUT_BYTES;
}

/* Passes on the result of a read. False when the input has ended. */
static RUNS_IN_MAIN bool stream_input_result(ChardevStream *s, const uint8_t *data, ssize_t n)
{
    if (n > 0) {
        if (s->base.frontend && s->base.frontend->receive) {
            s->base.frontend->receive(s->base.frontend_opaque, data, (size_t)n);
        }
        return true;
    }
    if (n == -EAGAIN || n == -EWOULDBLOCK) {
        return true;
    }
    stream_input_stop(s);
    if (s->backend->hangup) {
        s->backend->hangup(s, (int)-n);
    }
    return false;
}

static RUNS_IN_MAIN ssize_t stream_input_read(ChardevStream *s, uint8_t *data, size_t size)
{
    return s->backend->read ? s->backend->read(s, data, size)
                            : chardev_fd_read(s->in_fd, s->in_mode, data, size);
}

/* Closes the descriptors that the frontend did not take, so that a peer cannot use up skiff's. */
static void stream_close_passed_fds(ChardevStream *s)
{
    while (s->passed_count > 0) {
        close(s->passed_fds[--s->passed_count]);
    }
}

static void stream_input_readable(void *opaque)
{
    ChardevStream *s = opaque;
    uint8_t data[STREAM_INPUT_BYTES];
    size_t room;

    enter_main();
    room = stream_input_room(s);
    if (room > 0) {
        bool goes_on = stream_input_result(s, data, stream_input_read(s, data, room));

        stream_close_passed_fds(s);
        if (!goes_on) {
            return;
        }
    }
    stream_input_kick(s);
}

/* The peer disconnected while nothing was read. Its earlier input waits for the frontend; without
 * any, the stream ends now, since waiting would only delay the next peer. */
static void stream_input_hangup(void *opaque)
{
    ChardevStream *s = opaque;
    uint8_t byte;
    ssize_t n;

    enter_main();
    do {
        n = recv(s->in_fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n <= 0) {
        stream_input_result(s, &byte, n < 0 ? -errno : 0);
    }
}

static const AioHandlerOps stream_input_ops = {.readable = stream_input_readable};
static const AioHandlerOps stream_socket_input_ops = {.readable = stream_input_readable,
                                                      .hangup = stream_input_hangup};

static void stream_input_look(void *opaque)
{
    enter_main();
    stream_input_kick(opaque);
}

/* ---- descriptors that may block ---- */

typedef struct StreamRead {
    int fd;
    size_t size;
    ssize_t result;
    uint8_t data[STREAM_INPUT_BYTES];
} StreamRead;

static int stream_read_in_worker(void *opaque)
{
    StreamRead *r = opaque;

    enter_worker();
    r->result = chardev_fd_read(r->fd, FD_BLOCKING, r->data, r->size);
    return 0;
}

static void stream_input_coroutine(void *opaque)
{
    ChardevStream *s = opaque;
    StreamRead r;

    enter_coroutine();
    enter_main();
    while ((r.size = stream_input_room(s)) > 0) {
        r.fd = s->in_fd;
        co_run_in_lane(&stream_lane, stream_read_in_worker, &r);
        if (s->in_fd < 0 || !stream_input_result(s, r.data, r.result)) {
            break;
        }
    }
    s->in_running = false;
    stream_coroutine_end(s);
}

/* ---- interface ---- */

void stream_input_init(ChardevStream *s)
{
    s->in_fd = -1;
    aio_timer_init(&s->may_read_timer, s->ctx, stream_input_look, s);
}

void stream_input_start(ChardevStream *s, int fd, FdMode mode)
{
    s->in_fd = fd;
    s->in_mode = mode;
    if (mode != FD_BLOCKING) {
        s->in_handler = aio_handler_add(
            s->ctx, fd, mode == FD_SOCKET ? &stream_socket_input_ops : &stream_input_ops, s);
        aio_handler_watch(s->in_handler, false, false);
    }
    stream_input_kick(s);
}

void stream_input_stop(ChardevStream *s)
{
    aio_handler_remove(s->in_handler);
    aio_timer_disarm(&s->may_read_timer);
    s->in_handler = NULL;
    s->in_fd = -1;
}

void stream_input_kick(ChardevStream *s)
{
    bool wanted = stream_input_room(s) > 0;

    if (!wanted && s->in_fd >= 0 && !stream_may_read(s)) {
        aio_timer_arm(&s->may_read_timer, aio_now_ns(s->ctx) + INPUT_MAY_READ_NS);
    }
    if (s->in_handler) {
        aio_handler_watch(s->in_handler, wanted, false);
    } else if (wanted && !s->in_running) {
        s->in_running = true;
        stream_coroutine_begin(s);
        co_start(s->ctx, stream_input_coroutine, s);
    }
}

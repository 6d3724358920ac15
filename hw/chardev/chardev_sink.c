/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sink: one descriptor that a stream's output is written to.
 *
 *   IDLE --sink_kick: bytes pending, fd may block--> QUEUED --worker--> BUSY --worker--> DONE
 *     DONE --sink_reap--> IDLE          QUEUED --a handler of a fatal signal--> IDLE
 *
 * A descriptor that does not block is written by main; its sink stays IDLE.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "hw/chardev/chardev_int.h"

/* Writes of one kick: a reader as fast as the guest must not keep main from its other work. */
#define SINK_WRITES_PER_KICK 4
/* Total time that a crashing process waits for a reader. */
#define SINK_CRASH_WAIT_MS 100

/* Set by a handler of a fatal signal, which writes the output; main then begins no write. */
static _Atomic bool sink_crashing;

void sink_init(ChardevSink *sink, ChardevStream *s)
{
    sink->stream = s;
    sink->ring = &s->ring;
    sink->fd = -1;
}

/* The contiguous bytes of the ring from @position. */
static size_t sink_peek_at(const ChardevSink *sink, uint64_t position, const uint8_t **data)
{
    uint64_t pending = atomic_load(&sink->ring->written) - position;
    size_t at = position % STREAM_RING_BYTES;

    *data = sink->ring->bytes + at;
    return MIN(pending, STREAM_RING_BYTES - at);
}

/* The pending bytes. */
static size_t sink_peek(const ChardevSink *sink, const uint8_t **data)
{
    return sink_peek_at(sink, atomic_load(&sink->position), data);
}

/* Counts the bytes from @from as written. A signal handler in another thread may have done so
 * already. */
static void sink_advance(ChardevSink *sink, uint64_t from, size_t bytes)
{
    rank_mutex_lock(&sink->stream->lock);
    atomic_compare_exchange_strong(&sink->position, &from, from + bytes);
    rank_mutex_unlock(&sink->stream->lock);
}

static const AioHandlerOps sink_handler_ops;

static void sink_watch(ChardevSink *sink, bool on)
{
    if (on && !sink->handler) {
        sink->handler = aio_handler_add(sink->stream->ctx, sink->fd, &sink_handler_ops, sink);
    } else if (!on) {
        aio_handler_remove(sink->handler);
        sink->handler = NULL;
    }
}

void sink_start(ChardevSink *sink, int fd, FdMode mode, const char *what)
{
    sink->fd = fd;
    sink->mode = mode;
    sink->what = what;
    sink->ready = false;
    rank_mutex_lock(&sink->stream->lock);
    atomic_store(&sink->position, atomic_load(&sink->ring->written));
    sink->active = true;
    rank_mutex_unlock(&sink->stream->lock);
}

void sink_stop(ChardevSink *sink)
{
    sink_watch(sink, false);
    rank_mutex_lock(&sink->stream->lock);
    sink->active = false;
    rank_mutex_unlock(&sink->stream->lock);
}

/* Storage errors that a user can resolve. */
static bool sink_error_passes(int error_number)
{
    return error_number == ENOSPC || error_number == EDQUOT || error_number == EFBIG;
}

/* Handles @result of a write of @chunk bytes from position @from. False when this sink cannot
 * continue now. */
static RUNS_IN_MAIN bool sink_take_result(ChardevSink *sink, uint64_t from, size_t chunk,
                                          ssize_t result)
{
    ChardevStream *s = sink->stream;

    if (result >= 0) {
        sink_advance(sink, from, (size_t)result);
        return true;
    }
    if (result == -EAGAIN || result == -EWOULDBLOCK) {
        return false;
    }
    if (sink == &s->out && s->backend->hangup && !sink_error_passes((int)-result)) {
        /* The reader is gone, at least until the backend starts the sink again. */
        sink_stop(sink);
        s->backend->hangup(s, (int)-result);
        return false;
    }
    /* A full disk may have room again later: these bytes are lost, the next ones are tried. */
    log_limited(&sink->limit, "chardev '%s': %s: %s: %zu bytes of output lost", s->base.id,
                sink->what, g_strerror((int)-result), chunk);
    s->output_lost |= sink == &s->out;
    sink_advance(sink, from, chunk);
    return true;
}

/* ---- descriptors that may block ---- */

static int sink_write_in_worker(void *opaque)
{
    ChardevSink *sink = opaque;
    const uint8_t *data = sink->ring->bytes + sink->from % STREAM_RING_BYTES;

    int queued = SINK_QUEUED;

    enter_worker();
    if (!atomic_compare_exchange_strong(&sink->work, &queued, SINK_BUSY)) {
        return 0; /* the crash handler writes it */
    }
    sink->result = chardev_fd_write(sink->fd, sink->mode, data, sink->chunk);
    atomic_store(&sink->work, SINK_DONE);
    return 0;
}

/* Takes the worker's result. Called by the coroutine and, when the loop has ended before the
 * coroutine runs again, by the flush; the second call finds nothing. */
static RUNS_IN_MAIN void sink_reap(ChardevSink *sink)
{
    if (atomic_load(&sink->work) != SINK_DONE) {
        return;
    }
    atomic_store(&sink->work, SINK_IDLE);
    if (sink->active) {
        sink_take_result(sink, sink->from, sink->chunk, sink->result);
    }
}

static void sink_worker_coroutine(void *opaque)
{
    ChardevSink *sink = opaque;
    ChardevStream *s = sink->stream;
    const uint8_t *data;

    enter_coroutine();
    enter_main();
    sink->from = atomic_load(&sink->position);
    sink->chunk = sink_peek(sink, &data);
    if (sink->mode == FD_POLLED) {
        sink->chunk = MIN(sink->chunk, PIPE_BUF); /* poll() promises room for it */
    }
    if (sink->active && sink->chunk > 0 && !atomic_load(&sink_crashing)) {
        /* Last: from now on the worker may run, whether or not the loop does. */
        atomic_store(&sink->work, SINK_QUEUED);
        co_run_in_lane(&stream_lane, sink_write_in_worker, sink);
        sink_reap(sink);
    }
    sink->ready = false;
    sink->running = false;
    sink_kick(sink);
    stream_check_room(s);
    stream_coroutine_end(s);
}

/* ---- main's part ---- */

static RUNS_IN_MAIN void sink_kick_nonblocking(ChardevSink *sink)
{
    const uint8_t *data;
    size_t size;

    for (unsigned i = 0; i < SINK_WRITES_PER_KICK; i++) {
        uint64_t from = atomic_load(&sink->position);

        size = sink_peek(sink, &data);
        if (size == 0) {
            sink_watch(sink, false);
            return;
        }
        if (!sink_take_result(sink, from, size,
                              chardev_fd_write(sink->fd, sink->mode, data, size))) {
            break;
        }
    }
    if (sink->active) {
        sink_watch(sink, true);
    }
}

void sink_kick(ChardevSink *sink)
{
    const uint8_t *data;
    size_t size;

    if (!sink->active || sink->running || atomic_load(&sink_crashing)) {
        return;
    }
    if (sink->mode == FD_NONBLOCK || sink->mode == FD_SOCKET) {
        sink_kick_nonblocking(sink);
        return;
    }
    size = sink_peek(sink, &data);
    if (size == 0) {
        return;
    }
    if (sink->mode == FD_POLLED && !sink->ready) {
        sink_watch(sink, true);
        return;
    }
    sink->running = true;
    stream_coroutine_begin(sink->stream);
    co_start(sink->stream->ctx, sink_worker_coroutine, sink);
}

static void sink_writable(void *opaque)
{
    ChardevSink *sink = opaque;
    ChardevStream *s = sink->stream;

    enter_main();
    sink->ready = true;
    if (sink->mode == FD_POLLED) {
        sink_watch(sink, false);
    }
    sink_kick(sink);
    stream_check_room(s);
}

static const AioHandlerOps sink_handler_ops = {.writable = sink_writable};

/* ---- flush at exit ---- */

static int64_t sink_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static int sink_ms_until(int64_t deadline_ns)
{
    int64_t left = (deadline_ns - sink_now_ns() + 999999) / 1000000;

    return left < 0 ? 0 : (int)MIN(left, INT_MAX);
}

bool sink_flush_blocking(ChardevSink *sink, int64_t deadline_ns)
{
    const uint8_t *data;
    size_t size;

    while (sink->active) {
        struct pollfd p = {.fd = sink->fd, .events = POLLOUT};

        if (atomic_load(&sink->work) == SINK_BUSY || atomic_load(&sink->work) == SINK_QUEUED) {
            if (sink_ms_until(deadline_ns) == 0) {
                return false;
            }
            poll(NULL, 0, 1); /* the loop has ended, so nothing can wake this thread */
            continue;
        }
        sink_reap(sink);
        size = sink->active ? sink_peek(sink, &data) : 0;
        if (size == 0) {
            return true;
        }
        if (poll(&p, 1, sink_ms_until(deadline_ns)) == 0) {
            return false;
        }
        size = MIN(size, PIPE_BUF);
        sink_take_result(sink, atomic_load(&sink->position), size,
                         chardev_fd_write(sink->fd, sink->mode, data, size));
    }
    return true;
}

/* Gives a worker that is about to write the time to do so, since it dies with the process. The
 * worker may be the crashed thread. */
static void sink_wait_for_worker(ChardevSink *sink)
{
    for (int ms = 0; ms < SINK_CRASH_WAIT_MS && atomic_load(&sink->work) == SINK_BUSY; ms++) {
        poll(NULL, 0, 1);
    }
}

void sink_flush_crash(ChardevSink *sink)
{
    int wait_ms = SINK_CRASH_WAIT_MS;
    uint64_t position;
    int work = SINK_QUEUED;

    atomic_store(&sink_crashing, true);
    if (!sink->active || !sink->ring->bytes) {
        return;
    }
    if (!atomic_compare_exchange_strong(&sink->work, &work, SINK_IDLE) && work != SINK_IDLE) {
        uint64_t from = sink->from;

        sink_wait_for_worker(sink);
        /* Counts the worker's bytes; main may be about to count them too. */
        atomic_compare_exchange_strong(&sink->position, &from, from + sink->chunk);
        atomic_store(&sink->work, SINK_IDLE);
    }
    /* From now on only this position is used: main may add to the sink's own. */
    position = atomic_load(&sink->position);
    for (;;) {
        struct pollfd p = {.fd = sink->fd, .events = POLLOUT};
        const uint8_t *data;
        size_t size = sink_peek_at(sink, position, &data);
        ssize_t n;

        if (size == 0 || size > STREAM_RING_BYTES || poll(&p, 1, wait_ms) == 0) {
            return;
        }
        n = chardev_fd_write(sink->fd, sink->mode, data, MIN(size, PIPE_BUF));
        if (n < 0 && n != -EAGAIN) {
            return;
        }
        if (n > 0) {
            position += (uint64_t)n;
            atomic_store(&sink->position, position);
        } else {
            wait_ms = 0; /* poll() was wrong: do not wait again */
        }
    }
}

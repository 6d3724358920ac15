/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <unistd.h>
#include "hw/chardev/chardev_int.h"

/* "[hh:mm:ss.mmm] " */
#define STREAM_STAMP_BYTES 15

_Static_assert(STREAM_TAIL_BYTES + STREAM_RESERVE_BYTES < STREAM_RING_BYTES / 2,
               "most of the ring is for output");

WorkerLane stream_lane;

static void stream_flush_bh(void *opaque);
static void stream_input_bh(void *opaque);

void stream_init(ChardevStream *s, const ChardevBackend *backend, AioContext *ctx, char *id_taken)
{
    s->base.ops = &chardev_stream_ops;
    s->base.id = id_taken;
    s->backend = backend;
    s->ctx = ctx;
    s->ring.bytes = g_malloc(STREAM_RING_BYTES);
    s->line_start = true;
    s->start_ns = aio_now_ns(ctx);
    stream_input_init(s);
    rank_mutex_init(&s->lock, RANK_QUEUE, "chardev");
    aio_bh_init(&s->flush_bh, ctx, stream_flush_bh, s);
    aio_bh_init(&s->input_bh, ctx, stream_input_bh, s);
    sink_init(&s->out, s);
    sink_init(&s->log, s);
    co_queue_init(&s->idle);
    co_queue_init(&s->flushed);
}

void stream_co_free(ChardevStream *s)
{
    s->closing = true;
    s->ending = false;
    sink_stop(&s->out);
    sink_stop(&s->log);
    stream_input_stop(s);
    if (s->opened && s->backend->stop) {
        s->backend->stop(s);
    }
    co_queue_wake_all(&s->flushed);
    while (s->coroutines > 0) {
        co_queue_wait(&s->idle, "a chardev's last transfer");
    }
    if (s->opened && s->backend->unlink) {
        s->backend->unlink(s);
    }
    if (s->opened && s->backend->close) {
        s->backend->close(s);
    }
    if (s->mux) {
        mux_free(s->mux);
    }
    aio_bh_cancel(&s->flush_bh);
    aio_bh_cancel(&s->input_bh);
    watch_free(s->watch);
    if (s->log.fd >= 0) {
        close(s->log.fd);
    }
    opts_clear(s->options_table, s);
    g_free(s->options_table);
    rank_mutex_destroy(&s->lock);
    g_free(s->ring.bytes);
    g_free(s->log_ring.bytes);
    g_free(s->filename);
    g_free(s->user);
    g_free(s->base.id);
    g_free(s);
}

void stream_coroutine_begin(ChardevStream *s)
{
    s->coroutines++;
}

void stream_coroutine_end(ChardevStream *s)
{
    if (--s->coroutines == 0) {
        co_queue_wake_all(&s->idle);
    }
}

/* ---- the ring ---- */

/* Number of bytes in @r that are not written out. */
static size_t stream_ring_pending(const ChardevStream *s, const StreamRing *r)
{
    const ChardevSink *const sinks[] = {&s->out, &s->log};
    uint64_t written = atomic_load_explicit(&r->written, memory_order_relaxed);
    uint64_t pending = 0;

    for (unsigned i = 0; i < G_N_ELEMENTS(sinks); i++) {
        if (sinks[i]->active && sinks[i]->ring == r) {
            uint64_t behind = written - atomic_load(&sinks[i]->position);

            pending = MAX(pending, behind);
        }
    }
    return (size_t)pending;
}

static size_t stream_pending(const ChardevStream *s)
{
    return MAX(stream_ring_pending(s, &s->ring), stream_ring_pending(s, &s->log_ring));
}

/* Number of bytes that a write may take now, including @stamp for a time stamp. Called with the
 * lock. */
static size_t stream_room(const ChardevStream *s, bool stamp, bool reserved)
{
    const StreamRing *const rings[] = {&s->ring, &s->log_ring};
    size_t least = STREAM_RING_BYTES;

    for (unsigned i = 0; i < G_N_ELEMENTS(rings); i++) {
        size_t used = STREAM_TAIL_BYTES + (reserved ? 0 : STREAM_RESERVE_BYTES) +
                      stream_ring_pending(s, rings[i]) +
                      (stamp && rings[i]->stamped ? STREAM_STAMP_BYTES : 0);

        least = MIN(least, used < STREAM_RING_BYTES ? STREAM_RING_BYTES - used : 0);
    }
    return least;
}

/* Called with the lock and with room. */
static void stream_ring_put(StreamRing *r, const uint8_t *data, size_t size)
{
    uint64_t written = atomic_load_explicit(&r->written, memory_order_relaxed);
    size_t at = written % STREAM_RING_BYTES;
    size_t first = MIN(size, STREAM_RING_BYTES - at);

    if (r->bytes) {
        memcpy(r->bytes + at, data, first);
        memcpy(r->bytes, data + first, size - first);
        atomic_store(&r->written, written + size);
    }
}

static void stream_put(ChardevStream *s, const uint8_t *data, size_t size)
{
    stream_ring_put(&s->ring, data, size);
    stream_ring_put(&s->log_ring, data, size);
    if (s->watch != NULL) {
        watch_feed(s->watch, data, size);
    }
    s->line_start = size > 0 ? data[size - 1] == '\n' : s->line_start;
}

static void stream_put_stamp(ChardevStream *s)
{
    StreamRing *const rings[] = {&s->ring, &s->log_ring};
    char stamp[STREAM_STAMP_BYTES + 17];
    unsigned ms = (unsigned)((aio_now_ns(s->ctx) - s->start_ns) / 1000000 % (100 * 3600 * 1000));
    int n = snprintf(stamp, sizeof(stamp), "[%02u:%02u:%02u.%03u] ", ms / 3600000, ms / 60000 % 60,
                     ms / 1000 % 60, ms % 1000);

    for (unsigned i = 0; i < G_N_ELEMENTS(rings); i++) {
        if (rings[i]->stamped) {
            stream_ring_put(rings[i], (const uint8_t *)stamp, (size_t)n);
        }
    }
}

/* As stream_put() of the bytes that fit, with a time at the begin of each line. Returns the number
 * of bytes of @data taken. */
static size_t stream_put_stamped(ChardevStream *s, const uint8_t *data, size_t size, bool reserved)
{
    size_t taken = 0;

    while (taken < size) {
        const uint8_t *newline = memchr(data + taken, '\n', size - taken);
        size_t line = newline ? (size_t)(newline - data) + 1 - taken : size - taken;

        line = MIN(line, stream_room(s, s->line_start, reserved));
        if (line == 0) {
            break;
        }
        if (s->line_start) {
            stream_put_stamp(s);
        }
        stream_put(s, data + taken, line);
        taken += line;
    }
    return taken;
}

static size_t stream_write(Chardev *c, const uint8_t *data, size_t size, bool reserved)
{
    ChardevStream *s = (ChardevStream *)c;
    size_t taken;
    bool kick;

    rank_mutex_lock(&s->lock);
    if (s->ring.stamped || s->log_ring.stamped) {
        taken = stream_put_stamped(s, data, size, reserved);
    } else {
        taken = MIN(size, stream_room(s, false, reserved));
        stream_put(s, data, taken);
    }
    s->want_room = s->want_room || taken < size;
    kick = taken < size || s->out.active || s->log.active;
    rank_mutex_unlock(&s->lock);
    if (kick) {
        aio_bh_schedule(&s->flush_bh);
    }
    return taken;
}

void stream_set_up_stamps(ChardevStream *s)
{
    s->ring.stamped = s->timestamps;
    if (s->logtimestamp && s->logfile) {
        s->log_ring.bytes = g_malloc(STREAM_RING_BYTES);
        s->log_ring.stamped = true;
        s->log.ring = &s->log_ring;
    }
}

static void stream_flush_bh(void *opaque)
{
    ChardevStream *s = opaque;

    enter_main();
    sink_kick(&s->out);
    sink_kick(&s->log);
    stream_check_room(s);
}

bool stream_is_answering(ChardevStream *s)
{
    const ChardevFrontendOps *frontend = s->base.frontend;

    return (s->out.active && atomic_load(&s->out.position) != atomic_load(&s->out.ring->written)) ||
           (frontend && frontend->is_answering && frontend->is_answering(s->base.frontend_opaque));
}

static RUNS_IN_MAIN void stream_check_end(ChardevStream *s)
{
    if (s->ending && !stream_is_answering(s)) {
        s->ending = false;
        s->backend->hangup(s, 0);
    }
}

void stream_check_room(ChardevStream *s)
{
    const ChardevFrontendOps *frontend = s->base.frontend;
    bool tell;

    rank_mutex_lock(&s->lock);
    tell = s->want_room && stream_room(s, true, false) >= STREAM_RING_BYTES / 4;
    if (tell) {
        s->want_room = false;
    }
    rank_mutex_unlock(&s->lock);
    if (tell && frontend && frontend->writable) {
        frontend->writable(s->base.frontend_opaque);
    }
    if (stream_pending(s) == 0) {
        co_queue_wake_all(&s->flushed);
    }
    stream_check_end(s);
}

void stream_co_flush(ChardevStream *s)
{
    stream_coroutine_begin(s);
    while (!s->closing && stream_pending(s) > 0) {
        co_queue_wait(&s->flushed, "a chardev's reader");
    }
    stream_coroutine_end(s);
}

size_t stream_tail(ChardevStream *s, uint8_t *buf, size_t size)
{
    uint64_t written, from;

    rank_mutex_lock(&s->lock);
    written = atomic_load(&s->ring.written);
    size = MIN(size, MIN(written, STREAM_TAIL_BYTES));
    from = written - size;
    for (size_t i = 0; i < size; i++) {
        buf[i] = s->ring.bytes[(from + i) % STREAM_RING_BYTES];
    }
    rank_mutex_unlock(&s->lock);
    return size;
}

void stream_set_timestamps(ChardevStream *s, bool on)
{
    rank_mutex_lock(&s->lock);
    s->ring.stamped = on;
    rank_mutex_unlock(&s->lock);
}

bool stream_timestamps(ChardevStream *s)
{
    bool on;

    rank_mutex_lock(&s->lock);
    on = s->ring.stamped;
    rank_mutex_unlock(&s->lock);
    return on;
}

/* ---- the frontend's side ---- */

void stream_event(ChardevStream *s, ChardevEvent event)
{
    if (s->base.frontend && s->base.frontend->event) {
        s->base.frontend->event(s->base.frontend_opaque, event);
    }
}

void stream_set_connected(ChardevStream *s, bool connected)
{
    if (atomic_exchange(&s->connected, connected) != connected) {
        s->announce = false;
        stream_event(s, connected ? CHARDEV_OPENED : CHARDEV_CLOSED);
        stream_check_room(s); /* without a reader the ring has room */
    }
}

static void stream_attach(Chardev *c)
{
    ChardevStream *s = (ChardevStream *)c;

    enter_main();
    s->announce = c->frontend != NULL && atomic_load(&s->connected);
    if (!c->frontend) {
        stream_input_kick(s);
        aio_bh_schedule(&s->input_bh); /* no answer is pending any more */
        return;
    }
    /* Later: the frontend may still be setting itself up. */
    aio_bh_schedule(&s->input_bh);
}

static void stream_accept_input(Chardev *c)
{
    aio_bh_schedule(&((ChardevStream *)c)->input_bh);
}

static bool stream_connected(const Chardev *c)
{
    return atomic_load(&((const ChardevStream *)c)->connected);
}

static int stream_take_fd(Chardev *c)
{
    ChardevStream *s = (ChardevStream *)c;
    int fd;

    if (s->passed_count == 0) {
        return -1;
    }
    fd = s->passed_fds[0];
    s->passed_count--;
    memmove(s->passed_fds, s->passed_fds + 1, s->passed_count * sizeof(s->passed_fds[0]));
    return fd;
}

static bool stream_is_socket(const Chardev *c)
{
    enter_main();
    return ((const ChardevStream *)c)->backend->end_connection != NULL;
}

static int stream_socket_fd(const Chardev *c)
{
    const ChardevStream *s = (const ChardevStream *)c;
    enter_main();
    return s->backend->connection(s);
}

static void stream_disconnect(Chardev *c)
{
    ChardevStream *s = (ChardevStream *)c;
    enter_main();
    if (atomic_load(&s->connected)) {
        s->backend->end_connection(s);
    }
}

static void stream_input_bh(void *opaque)
{
    ChardevStream *s = opaque;

    enter_main();
    if (s->announce) {
        s->announce = false;
        stream_event(s, CHARDEV_OPENED);
    }
    stream_input_kick(s);
    stream_check_end(s);
}

const ChardevOps chardev_stream_ops = {
    .write = stream_write,
    .attach = stream_attach,
    .accept_input = stream_accept_input,
    .connected = stream_connected,
    .take_fd = stream_take_fd,
    .is_socket = stream_is_socket,
    .socket_fd = stream_socket_fd,
    .disconnect = stream_disconnect,
};

void stream_watch(ChardevStream *s, ChardevWatch *watch)
{
    rank_mutex_lock(&s->lock);
    ChardevWatch *old = s->watch;
    s->watch = watch;
    rank_mutex_unlock(&s->lock);
    watch_free(old);
}

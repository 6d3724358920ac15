/* SPDX-License-Identifier: Apache-2.0 */
/* The requests of a session: reading them, limits, the end. In the home of the export. */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include "block/nbd/nbd_int.h"
#include "block/node.h"
#include "block/trace_events.h"
#include "util/loop/sched_point.h"

/* Sessions that are served, of all exports. */
static _Atomic unsigned session_serving;

/* ---- limits ---- */

uint64_t nbd_session_share(void)
{
    unsigned count = atomic_load_explicit(&session_serving, memory_order_relaxed);
    return MAX(NBD_MEMORY / MAX(count, 1), NBD_SHARE_MIN);
}

/* The sessions of an export share the requests that its loop allows it, as a device's. */
static RUNS_IN_IOTHREAD unsigned session_request_max(const NbdSession *s)
{
    unsigned all = co_requests_limit(s->export->home);
    return CLAMP(all / s->export->serving, 1, NBD_REQUESTS_MAX);
}

/* ---- buffers ---- */

static RUNS_IN_IOTHREAD void session_free_spare(NbdSession *s)
{
    while (s->spare != NULL) {
        NbdBuffer *b = s->spare;
        s->spare = b->next;
        free(b);
    }
    s->spare_bytes = 0;
}

/* A spare buffer that is large enough, and not much larger, or a new one. NULL: there is no memory. */
static RUNS_IN_IOTHREAD void *session_get_buffer(NbdSession *s, uint64_t *size)
{
    for (NbdBuffer **link = &s->spare; *link != NULL; link = &(*link)->next) {
        NbdBuffer *b = *link;
        if (b->size >= *size && b->size / 4 <= *size) {
            *link = b->next;
            s->spare_bytes -= b->size;
            *size = b->size;
            return b;
        }
    }
    void *data;
    return posix_memalign(&data, BLOCK_MEMORY_ALIGNMENT_MAX, *size) == 0 ? data : NULL;
}

static RUNS_IN_IOTHREAD void session_put_buffer(NbdSession *s, void *data, uint64_t size)
{
    if (s->spare_bytes + s->bytes + size > MIN(nbd_session_share(), NBD_SPARE_MAX)) {
        free(data);
        return;
    }
    NbdBuffer *b = data;
    *b = (NbdBuffer){.next = s->spare, .size = size};
    s->spare = b;
    s->spare_bytes += size;
}

/* ---- requests in progress ---- */

/* Waits until the session may begin a request with a buffer of @size bytes. With no request in
 * progress it always may. */
static coroutine_fn RUNS_IN_IOTHREAD void session_co_wait_for_room(NbdSession *s, uint64_t size)
{
    while (s->requests > 0 &&
           (s->requests >= session_request_max(s) || s->bytes + size > nbd_session_share())) {
        co_queue_wait(&s->room, "the end of a request of the same NBD client");
    }
    if (s->bytes + s->spare_bytes + size > nbd_session_share()) {
        session_free_spare(s);
    }
}

/* The buffer that a request needs. *@too_long: the data does not fit in it. */
static uint64_t session_buffer_size(const NbdRequest *r, bool *too_long)
{
    uint64_t share = nbd_session_share(), piece = MIN(share, NBD_PIECE_MAX), size = 0;
    bool one_reply = r->session->mode == NBD_MODE_SIMPLE || (r->flags & NBD_CMD_FLAG_DF) != 0;
    *too_long = false;
    switch (r->type) {
    case NBD_CMD_READ:
        size = MIN(r->length, one_reply ? share : piece);
        *too_long = one_reply && r->length > share;
        break;
    case NBD_CMD_WRITE:
        *too_long = r->length > share;
        size = *too_long ? piece : r->length;
        break;
    case NBD_CMD_CACHE:
        size = MIN(r->length, piece);
        break;
    case NBD_CMD_BLOCK_STATUS:
        size = 8 + (uint64_t)NBD_EXTENTS_MAX * 16;
        break;
    default:
        break;
    }
    return block_align_up(size, BLOCK_MEMORY_ALIGNMENT_MAX);
}

/* ---- requests ---- */

/* NULL: there is no memory. */
static RUNS_IN_IOTHREAD NbdRequest *session_begin_request(const NbdRequest *like)
{
    NbdSession *s = like->session;
    uint64_t size = like->size;
    void *data = size > 0 ? session_get_buffer(s, &size) : NULL;
    if (size > 0 && data == NULL) {
        return NULL;
    }
    NbdRequest *r = g_new(NbdRequest, 1);
    *r = *like;
    r->data = data;
    r->capacity = size;
    s->requests++;
    s->bytes += r->capacity;
    return r;
}

void nbd_request_free(NbdRequest *r)
{
    NbdSession *s = r->session;
    s->requests--;
    s->bytes -= r->capacity;
    if (r->data != NULL) {
        session_put_buffer(s, r->data, r->capacity);
    }
    g_free(r);
    co_queue_wake_all(&s->room);
}

/* Ends all waits for the client: the connection is of no use any more. */
static void session_abort(NbdSession *s)
{
    atomic_store(&s->killed, true);
    shutdown(s->channel.fd, SHUT_RDWR);
}

static void session_run_request(void *opaque)
{
    NbdRequest *r = opaque;
    enter_coroutine();
    enter_iothread(r->session->export->home);
    SP("nbd.request", r->session);
    if (atomic_load(&r->session->killed) || nbd_request_co_run(r) < 0) {
        session_abort(r->session);
    }
    nbd_request_free(r);
}

/* ---- reading ---- */

/* 1; 0 at the end of the input; -errno. */
static coroutine_fn RUNS_IN_IOTHREAD int session_co_read_header(NbdRequest *r)
{
    NbdSession *s = r->session;
    uint8_t h[NBD_EXT_REQUEST_SIZE];
    bool extended = s->mode == NBD_MODE_EXTENDED;
    int ret =
        nbd_channel_co_read(&s->channel, h, extended ? NBD_EXT_REQUEST_SIZE : NBD_REQUEST_SIZE);
    if (ret != 1) {
        return ret;
    }
    if (nbd_get32(h) != (extended ? NBD_EXT_REQUEST_MAGIC : NBD_REQUEST_MAGIC)) {
        return -EPROTO;
    }
    r->flags = nbd_get16(h + 4);
    r->type = nbd_get16(h + 6);
    r->cookie = nbd_get64(h + 8);
    r->offset = nbd_get64(h + 16);
    r->length = extended ? nbd_get64(h + 24) : nbd_get32(h + 24);
    r->contexts = s->contexts;
    trace_nbd_request(s->channel.fd, r->type, r->flags, r->cookie, r->offset, r->length);
    return 1;
}

static bool session_has_payload(const NbdRequest *r)
{
    return r->type == NBD_CMD_WRITE ||
           (r->session->mode == NBD_MODE_EXTENDED && (r->flags & NBD_CMD_FLAG_PAYLOAD_LEN) != 0);
}

/* The request is refused: its payload is dropped. */
static coroutine_fn RUNS_IN_IOTHREAD int session_co_refuse(const NbdRequest *r, uint64_t payload,
                                                           uint32_t error, const char *why)
{
    int ret = nbd_channel_co_skip(&r->session->channel, payload);
    if (ret != 1) {
        return ret < 0 ? ret : -ECONNRESET;
    }
    trace_nbd_request_refused(r->session->channel.fd, r->type, error, why);
    ret = nbd_reply_co_error(r, error, why);
    co_yield_turn(); /* others have their turns */
    return ret;
}

/* The payload of BLOCK_STATUS: the length of the range, and context ids. */
static bool session_parse_status(NbdRequest *r, uint64_t payload)
{
    uint64_t contexts = 0;
    for (uint64_t at = 8; at < payload; at += 4) {
        uint32_t id = nbd_get32(r->data + at);
        if (id >= NBD_CONTEXTS_MAX || (r->contexts & UINT64_C(1) << id) == 0) {
            return false;
        }
        contexts |= UINT64_C(1) << id;
    }
    r->length = nbd_get64(r->data);
    r->contexts = contexts;
    r->flags &= (uint16_t)~NBD_CMD_FLAG_PAYLOAD_LEN;
    return true;
}

/* Reads the payload into the buffer. The request's end if there is none to start: <= 0. */
static coroutine_fn RUNS_IN_IOTHREAD int session_co_read_payload(NbdRequest *r, uint64_t payload)
{
    const char *why = "the metadata contexts of BLOCK_STATUS were not negotiated";
    uint32_t error = NBD_EINVAL;
    int ret = nbd_channel_co_read(&r->session->channel, r->data, payload);
    if (ret != 1) {
        return ret < 0 ? ret : -ECONNRESET;
    }
    if (r->type != NBD_CMD_BLOCK_STATUS) {
        return 1;
    }
    if (session_parse_status(r, payload)) {
        error = nbd_request_check(r, &why);
    }
    return error == 0 ? 1 : session_co_refuse(r, 0, error, why);
}

/* A request that may begin. */
static coroutine_fn RUNS_IN_IOTHREAD int session_co_start(NbdRequest *like, uint64_t payload)
{
    NbdSession *s = like->session;
    like->size = session_buffer_size(like, &like->too_long);
    if (like->too_long && like->type == NBD_CMD_READ && s->mode != NBD_MODE_SIMPLE) {
        return session_co_refuse(like, 0, NBD_EOVERFLOW, "too long for one chunk");
    }
    session_co_wait_for_room(s, like->size);
    if (atomic_load(&s->killed)) {
        return -ECANCELED;
    }
    NbdRequest *r = session_begin_request(like);
    if (r == NULL) {
        return session_co_refuse(like, payload, NBD_ENOMEM, "out of memory");
    }
    int ret = 1;
    if (payload > 0 && r->too_long) {
        ret = nbd_request_co_write_pieces(r);
    } else if (payload > 0) {
        ret = session_co_read_payload(r, payload);
    }
    if (ret != 1) {
        nbd_request_free(r);
        return ret;
    }
    co_start(s->export->home, session_run_request, r);
    return 0;
}

/* Reads a request and starts it. 0; -errno: it was the last one, -ESHUTDOWN at a proper end. */
static coroutine_fn RUNS_IN_IOTHREAD int session_co_next(NbdSession *s)
{
    NbdRequest r = {.session = s};
    const char *why = NULL;
    int ret = session_co_read_header(&r);
    if (ret != 1) {
        s->hung_up = true;
        return ret < 0 ? ret : -ESHUTDOWN;
    }
    if (r.type == NBD_CMD_DISC || atomic_load(&s->killed)) {
        return -ESHUTDOWN;
    }
    uint64_t payload = session_has_payload(&r) ? r.length : 0;
    if (payload > NBD_DATA_MAX) {
        return -EMSGSIZE;
    }
    uint32_t error = nbd_request_check(&r, &why);
    return error == 0 ? session_co_start(&r, payload) : session_co_refuse(&r, payload, error, why);
}

/* ---- begin and end ---- */

static RUNS_IN_IOTHREAD void session_begin(NbdSession *s)
{
    NbdExport *e = s->export;
    s->state = NBD_SERVING;
    co_queue_init(&s->room);
    co_queue_init(&s->senders);
    nbd_channel_attach(&s->channel, e->home);
    atomic_fetch_add(&session_serving, 1);
    if (e->serving++ == 0) {
        co_requests_begin(e->home, NBD_REQUESTS_MAX);
    }
}

static void session_left(void *opaque)
{
    NbdSession *s = opaque;
    enter_main();
    NbdExport *e = s->export;
    nbd_session_free(s);
    nbd_export_leave(e);
}

static coroutine_fn RUNS_IN_IOTHREAD void session_co_end(NbdSession *s, int ret)
{
    NbdExport *e = s->export;
    trace_nbd_session_ending(s->channel.fd, ret, s->requests);
    s->state = NBD_ENDING;
    if (ret != -ESHUTDOWN) {
        session_abort(s);
    }
    while (s->requests > 0) { /* their replies are due */
        co_queue_wait(&s->room, "the end of an NBD client's requests");
    }
    session_free_spare(s);
    if (--e->serving == 0) {
        co_requests_end(e->home, NBD_REQUESTS_MAX);
    }
    atomic_fetch_sub(&session_serving, 1);
    nbd_channel_detach(&s->channel);
    s->state = NBD_ENDED;
    aio_post(nbd_main(), session_left, s);
}

void nbd_session_serve(void *opaque)
{
    NbdSession *s = opaque;
    enter_coroutine();
    enter_iothread(s->export->home);
    session_begin(s);
    int ret;
    do {
        ret = session_co_next(s);
    } while (ret == 0);
    session_co_end(s, ret);
}

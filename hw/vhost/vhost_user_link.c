/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/vhost/vhost_user_link.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "hw/vhost/trace_events.h"
#include "util/loop/sched_point.h"

struct VhostUserLink {
    AioContext *ctx;
    const VhostUserLinkEvents *events;
    void *opaque;
    unsigned references; /* the user's, and one for each request */
    int fd;              /* -1: CLOSED */
    AioHandler *handler;
    bool writing; /* the handler also waits until the socket is writable */
    VhostUserReader reader;
    char *why; /* CLOSED: the reason */
    /* the request under way */
    bool busy;
    const VhostUserMessage *awaiting; /* its reply has not come */
    VhostUserMessage *reply;          /* where the reply goes */
    CoQueue turn;                     /* requests that wait for it to end */
    CoQueue progress;                 /* the request waits for the socket or the reply */
    /* the back end's channel */
    int channel_fd; /* -1: none */
    AioHandler *channel;
    VhostUserReader channel_reader;
};

static void link_unref(VhostUserLink *link)
{
    if (--link->references == 0) {
        g_assert(link->fd < 0 && !link->busy);
        g_free(link->why);
        g_free(link);
    }
}

static RUNS_IN_MAIN void link_close_channel(VhostUserLink *link)
{
    if (link->channel_fd >= 0) {
        aio_handler_remove(link->channel);
        vhost_user_reader_clear(&link->channel_reader);
        close(link->channel_fd);
        link->channel_fd = -1;
    }
}

/* Moves the link to CLOSED. */
static RUNS_IN_MAIN void link_shut(VhostUserLink *link, const char *why)
{
    if (link->fd < 0) {
        return;
    }
    trace_vhost_user_closed(link->fd, why);
    link->why = g_strdup(why);
    aio_handler_remove(link->handler);
    shutdown(link->fd, SHUT_RDWR); /* the peer notices, also if others have the socket open */
    close(link->fd);
    link->fd = -1;
    link->awaiting = NULL;
    vhost_user_reader_clear(&link->reader);
    link_close_channel(link);
    co_queue_wake_all(&link->progress);
    co_queue_wake_all(&link->turn);
}

/* The same for a fault of the peer. */
static RUNS_IN_MAIN void link_lose(VhostUserLink *link, const char *why)
{
    if (link->fd < 0) {
        return;
    }
    link->references++; /* the callback may close it */
    link_shut(link, why);
    if (link->events != NULL) {
        link->events->lost(link->opaque, why);
    }
    link_unref(link);
}

/* ---- the main socket ---- */

static RUNS_IN_MAIN void link_received(VhostUserLink *link)
{
    g_autoptr(GError) error = NULL;
    VhostUserMessage *m = &link->reader.message;
    trace_vhost_user_received(link->fd, m->header.request, m->header.size, m->fd_count);
    if (link->awaiting == NULL) {
        g_autofree char *why =
            g_strdup_printf("the peer sends type %u without being asked", m->header.request);
        link_lose(link, why);
        return;
    }
    if (!vhost_user_check_reply(link->awaiting, m, &error)) {
        link_lose(link, error->message);
        return;
    }
    *link->reply = *m;
    m->fd_count = 0; /* the request has them now */
    link->awaiting = NULL;
    vhost_user_reader_clear(&link->reader);
    co_queue_wake_all(&link->progress);
}

static void link_readable(void *opaque)
{
    VhostUserLink *link = opaque;
    g_autoptr(GError) error = NULL;
    enter_main();
    switch (vhost_user_read(&link->reader, link->fd, &error)) {
    case VHOST_USER_WHOLE:
        link_received(link);
        return;
    case VHOST_USER_LOST:
        link_lose(link, error->message);
        return;
    case VHOST_USER_WAIT:
        return;
    }
}

static void link_writable(void *opaque)
{
    VhostUserLink *link = opaque;
    enter_main();
    aio_handler_watch(link->handler, true, false);
    co_queue_wake_all(&link->progress);
}

static const AioHandlerOps link_ops = {.readable = link_readable, .writable = link_writable};

VhostUserLink *vhost_user_link_new(AioContext *ctx, int fd, const VhostUserLinkEvents *events,
                                   void *opaque)
{
    VhostUserLink *link = g_new0(VhostUserLink, 1);
    link->ctx = ctx;
    link->events = events;
    link->opaque = opaque;
    link->references = 1;
    link->fd = fd;
    link->channel_fd = -1;
    co_queue_init(&link->turn);
    co_queue_init(&link->progress);
    link->handler = aio_handler_add(ctx, fd, &link_ops, link);
    aio_handler_watch(link->handler, true, false);
    return link;
}

void vhost_user_link_close(VhostUserLink *link)
{
    if (link != NULL) {
        link->events = NULL;
        link_shut(link, "the connection was closed");
        link_unref(link);
    }
}

/* ---- requests ---- */

static bool link_failed(const VhostUserLink *link, const VhostUserMessage *m, GError **error)
{
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_IO, "%s: %s",
                vhost_user_request_name(m->header.request), link->why);
    return false;
}

/* Waits for a change of the socket or the request. At the deadline the link is closed. */
static coroutine_fn RUNS_IN_MAIN void link_co_wait(VhostUserLink *link, const VhostUserMessage *m,
                                                   int64_t deadline_ns)
{
    if (!co_queue_wait_until(&link->progress, "a vhost-user back end", deadline_ns)) {
        g_autofree char *why = g_strdup_printf("it does not answer %s in time",
                                               vhost_user_request_name(m->header.request));
        link_lose(link, why);
    }
}

static coroutine_fn RUNS_IN_MAIN void link_co_send(VhostUserLink *link, const VhostUserMessage *m,
                                                   int64_t deadline_ns)
{
    size_t sent = 0;
    while (link->fd >= 0) {
        g_autoptr(GError) error = NULL;
        switch (vhost_user_write(m, link->fd, &sent, &error)) {
        case VHOST_USER_WHOLE:
            return;
        case VHOST_USER_LOST:
            link_lose(link, error->message);
            return;
        case VHOST_USER_WAIT:
            aio_handler_watch(link->handler, true, true);
            link_co_wait(link, m, deadline_ns);
            break;
        }
    }
}

static bool link_accepted(const VhostUserMessage *request, const VhostUserMessage *reply,
                          GError **error)
{
    if (vhost_user_has_reply(request->header.request) || reply->payload.u64 == 0) {
        return true;
    }
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                "the back end refuses %s (%" G_GUINT64_FORMAT ")",
                vhost_user_request_name(request->header.request), reply->payload.u64);
    return false;
}

/* The request under way: sends it and waits for the reply. */
static coroutine_fn RUNS_IN_MAIN bool link_co_exchange(VhostUserLink *link,
                                                       VhostUserMessage *message,
                                                       int64_t deadline_ns, GError **error)
{
    const VhostUserMessage request = *message;
    bool wants_reply = vhost_user_has_reply(request.header.request) ||
                       (request.header.flags & VHOST_USER_NEED_REPLY) != 0;
    trace_vhost_user_request(link->fd, vhost_user_request_name(request.header.request),
                             request.header.size, request.fd_count);
    message->fd_count = 0;
    if (wants_reply) {
        link->awaiting = &request;
        link->reply = message;
    }
    link_co_send(link, &request, deadline_ns);
    SP("vhost_user.sent", link);
    while (link->fd >= 0 && link->awaiting != NULL) {
        link_co_wait(link, &request, deadline_ns);
    }
    if (link->fd < 0) {
        vhost_user_close_fds(message); /* of a reply that came before the end */
        return link_failed(link, &request, error);
    }
    return !wants_reply || link_accepted(&request, message, error);
}

bool vhost_user_link_co_request(VhostUserLink *link, VhostUserMessage *message, int64_t deadline_ns,
                                GError **error)
{
    link->references++;
    while (link->busy) {
        co_queue_wait(&link->turn, "another vhost-user request");
    }
    link->busy = true;
    bool ok = link->fd >= 0 ? link_co_exchange(link, message, deadline_ns, error)
                            : link_failed(link, message, error);
    link->busy = false;
    co_queue_wake_one(&link->turn);
    link_unref(link);
    return ok;
}

/* ---- the back end's channel ---- */

/* The answer to a message of the back end; skiff has done what it asks for, or knows no such message. */
static RUNS_IN_MAIN void link_answer_channel(VhostUserLink *link, const VhostUserMessage *m,
                                             bool done)
{
    if ((m->header.flags & VHOST_USER_NEED_REPLY) == 0) {
        return;
    }
    size_t sent = 0;
    VhostUserMessage answer = {
        .header = {.request = m->header.request,
                   .flags = VHOST_USER_VERSION | VHOST_USER_REPLY,
                   .size = sizeof(uint64_t)},
        .payload.u64 = done ? 0 : 1,
    };
    if (vhost_user_write(&answer, link->channel_fd, &sent, NULL) != VHOST_USER_WHOLE) {
        link_close_channel(link); /* it asks without reading the answers */
    }
}

static void link_channel_readable(void *opaque)
{
    VhostUserLink *link = opaque;
    VhostUserReader *r = &link->channel_reader;
    g_autoptr(GError) error = NULL;
    enter_main();
    VhostUserTransfer got = vhost_user_read(r, link->channel_fd, &error);
    if (got == VHOST_USER_WAIT) {
        return;
    }
    if (got == VHOST_USER_LOST || !vhost_user_check_backend_request(&r->message, &error)) {
        trace_vhost_user_channel_closed(link->channel_fd, error->message);
        link_close_channel(link);
        return;
    }
    bool known = r->message.header.request == VHOST_USER_BACKEND_CONFIG_CHANGE_MSG;
    link->references++; /* the callback may close it */
    link_answer_channel(link, &r->message, known);
    vhost_user_reader_clear(r);
    if (known && link->events != NULL) {
        link->events->config_changed(link->opaque);
    }
    link_unref(link);
}

static const AioHandlerOps link_channel_ops = {.readable = link_channel_readable};

bool vhost_user_link_co_open_channel(VhostUserLink *link, int64_t deadline_ns, GError **error)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno),
                    "no socket for messages of the back end: %s", g_strerror(errno));
        return false;
    }
    VhostUserMessage m = vhost_user_message(VHOST_USER_SET_BACKEND_REQ_FD, 0);
    m.fds[0] = pair[1];
    m.fd_count = 1;
    bool ok = vhost_user_link_co_request(link, &m, deadline_ns, error);
    close(pair[1]);
    if (!ok || link->fd < 0) {
        close(pair[0]);
        return ok ? link_failed(link, &m, error) : false;
    }
    g_assert(link->channel_fd < 0);
    link->channel_fd = pair[0];
    link->channel = aio_handler_add(link->ctx, pair[0], &link_channel_ops, link);
    aio_handler_watch(link->channel, true, false);
    return true;
}

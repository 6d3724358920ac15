/* SPDX-License-Identifier: Apache-2.0 */
/* Handlers of an event loop: what epoll watches for them, and their dispatch. */
#include <errno.h>
#include <sys/epoll.h>
#include "util/loop/aio_int.h"

/* The interval of retries for descriptors that epoll had no memory to watch. */
#define AIO_WATCH_RETRY_NS 10000000

static void aio_handler_set_late(AioHandler *h, bool late)
{
    AioContext *ctx = h->ctx;
    ctx->late_handlers += late - h->late;
    h->late = late;
    if (late && ctx->late_timer.heap_index == 0) {
        aio_timer_arm(&ctx->late_timer, aio_now_ns(ctx) + AIO_WATCH_RETRY_NS);
    }
}

/* Called before `events` changes. */
static void aio_handler_count_blind(AioHandler *h, uint32_t events)
{
    if (h->ops->poll == NULL) {
        h->ctx->blind += (events != 0) - (h->events != 0);
    }
}

static void aio_handler_apply(AioHandler *h, uint32_t events)
{
    aio_handler_count_blind(h, events);
    if (h->always_ready) {
        h->ctx->always_ready += (events != 0) - (h->events != 0);
        h->events = events;
        return;
    }
    struct epoll_event ev = {.events = events, .data.ptr = h};
    int op = !h->in_epoll ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    aio_handler_set_late(h, false);
    if (events == 0) {
        if (h->in_epoll) {
            epoll_ctl(h->ctx->epoll_fd, EPOLL_CTL_DEL, h->fd, NULL);
            h->in_epoll = false;
        }
    } else if (epoll_ctl(h->ctx->epoll_fd, op, h->fd, &ev) == 0) {
        h->in_epoll = true;
    } else if (errno == EPERM) { /* a regular file is always ready */
        h->always_ready = true;
        h->ctx->always_ready++;
    } else if (errno == ENOMEM || errno == ENOSPC) { /* ENOSPC: fs.epoll.max_user_watches */
        aio_handler_set_late(h, true);
    } else {
        bug_abort("epoll_ctl on fd %d of '%s': %s", h->fd, h->ctx->name, g_strerror(errno));
    }
    h->events = events;
}

static void aio_handlers_retry(void *opaque)
{
    AioContext *ctx = opaque;
    for (AioHandler *h = ctx->handlers; h != NULL && ctx->late_handlers != 0; h = h->next) {
        if (h->late) {
            aio_handler_apply(h, h->events);
        }
    }
}

void aio_handlers_init(AioContext *ctx)
{
    aio_timer_init(&ctx->late_timer, ctx, aio_handlers_retry, ctx);
}

AioHandler *aio_handler_add(AioContext *ctx, int fd, const AioHandlerOps *ops, void *opaque)
{
    assert_home(ctx);
    AioHandler *h = g_new0(AioHandler, 1);
    *h = (AioHandler){.ctx = ctx, .fd = fd, .ops = ops, .opaque = opaque, .next = ctx->handlers};
    if (ctx->handlers != NULL) {
        ctx->handlers->prev = h;
    }
    ctx->handlers = h;
    if (ops->poll != NULL) {
        ctx->pollers++;
        if (ctx->polling && ops->poll_begin != NULL) {
            ops->poll_begin(opaque);
        }
    }
    aio_handler_watch(h, ops->readable != NULL, ops->writable != NULL);
    return h;
}

void aio_handler_watch(AioHandler *h, bool readable, bool writable)
{
    assert_home(h->ctx);
    uint32_t events = (readable ? EPOLLIN : 0) | (writable ? EPOLLOUT : 0);
    h->hung_up = h->hung_up && !readable;
    if (h->ops->hangup != NULL && !readable && !h->hung_up) {
        events |= EPOLLRDHUP;
    }
    if (h->fd >= 0 && events != h->events) {
        aio_handler_apply(h, events);
    }
}

void aio_handler_remove(AioHandler *h)
{
    if (h == NULL) {
        return;
    }
    AioContext *ctx = h->ctx;
    assert_home(ctx);
    if (h->in_epoll) {
        epoll_ctl(ctx->epoll_fd, EPOLL_CTL_DEL, h->fd, NULL);
    }
    aio_handler_set_late(h, false);
    aio_handler_count_blind(h, 0);
    ctx->always_ready -= h->always_ready && h->events != 0;
    if (h->ops->poll != NULL) {
        ctx->pollers--;
        if (ctx->polling && h->ops->poll_end != NULL) {
            h->ops->poll_end(h->opaque);
        }
    }
    if (h->next != NULL) {
        h->next->prev = h->prev;
    }
    if (h->prev != NULL) {
        h->prev->next = h->next;
    } else {
        ctx->handlers = h->next;
    }
    h->dead = true;
    if (!ctx->running) {
        g_free(h);
        return;
    }
    /* `next` stays valid: a walk that is at @h follows it back to live handlers. */
    h->dead_next = ctx->dead;
    ctx->dead = h;
}

void aio_handlers_reap(AioContext *ctx)
{
    while (ctx->dead != NULL) {
        AioHandler *h = ctx->dead;
        ctx->dead = h->dead_next;
        g_free(h);
    }
}

bool aio_handler_dispatch(AioHandler *h, uint32_t events)
{
    bool called = false;
    if ((events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0 && (h->events & EPOLLIN) != 0 && !h->dead) {
        h->ops->readable(h->opaque);
        called = true;
    }
    if ((events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0 && !h->dead &&
        (h->events & EPOLLOUT) != 0) {
        h->ops->writable(h->opaque);
        called = true;
    }
    if ((events & (EPOLLRDHUP | EPOLLERR | EPOLLHUP)) != 0 && !h->dead &&
        (h->events & EPOLLRDHUP) != 0) {
        h->hung_up = true;
        aio_handler_apply(h, h->events & ~(uint32_t)EPOLLRDHUP);
        h->ops->hangup(h->opaque);
        called = true;
    }
    return called;
}

void aio_handlers_flush(AioContext *ctx)
{
    for (AioHandler *h = ctx->handlers; h != NULL; h = h->next) {
        if (!h->dead && h->ops->flush != NULL) {
            h->ops->flush(h->opaque);
        }
    }
}

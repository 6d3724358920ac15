/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The NBD client: connections that carry requests. All of it runs in the node's home.
 *
 *   DOWN --attach--> UP --end of file, error, garbage--> lost: DOWN, message to main
 */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include "block/nbd/nbd_client_int.h"
#include "block/trace_events.h"
#include "util/loop/sched_point.h"

#define LINK_REPLIES_MAX 64u /* of one dispatch, so that other work of the loop has its turn */

/* ---- requests without a connection ---- */

static void links_give_up(void *opaque)
{
    NbdClient *c = opaque;
    enter_iothread(c->home);
    c->given_up = true;
    if (c->up == 0) {
        co_queue_wake_all(&c->waiting);
    }
}

/* The last link is lost. */
static RUNS_IN_IOTHREAD void links_begin_outage(NbdClient *c)
{
    if (c->reconnect_delay_s == 0 || !c->reconnects) {
        c->given_up = true;
    }
    if (c->given_up) {
        co_queue_wake_all(&c->waiting);
    } else if (c->delay.heap_index == 0) {
        aio_timer_arm(&c->delay, aio_now_ns(c->home) + c->reconnect_delay_s * NBD_CLIENT_SECOND);
    }
}

/* A reply has come: the outage is over. */
static RUNS_IN_IOTHREAD void links_end_outage(NbdClient *c)
{
    c->given_up = false;
    if (c->delay.heap_index != 0) {
        aio_timer_disarm(&c->delay);
    }
}

/* ---- the end of a connection ---- */

static RUNS_IN_IOTHREAD void link_complete(NbdClientCommand *cmd, int ret)
{
    NbdLink *l = cmd->link;
    *cmd->back = cmd->next;
    if (cmd->next != NULL) {
        cmd->next->back = cmd->back;
    }
    l->in_flight--;
    cmd->ret = ret;
    co_wake(cmd->token);
}

/* libnbd has completed the commands of a dead handle; what it may have left is completed here, after
 * the close, when nothing reaches their buffers any more. */
static RUNS_IN_IOTHREAD void link_lose(NbdLink *l)
{
    NbdClient *c = l->client;
    trace_block_nbd_lost(c->node->name, (unsigned)(l - c->links), l->in_flight, l->replies);
    aio_handler_remove(l->handler);
    l->handler = NULL;
    nbd_close(l->handle);
    l->handle = NULL;
    while (l->commands != NULL) {
        link_complete(l->commands, NBD_LOST);
    }
    c->up--;
    if (c->up == 0) {
        links_begin_outage(c);
    }
    l->lost_in_use = l->replies > 0;
    aio_bh_schedule(&l->lost);
    SP("nbd.lost", l);
}

static void link_lost_in_main(void *opaque)
{
    NbdLink *l = opaque;
    enter_main();
    log_limited(&l->client->limit, "node '%s': the connection to NBD server '%s' is lost%s",
                l->client->target->node_name, l->client->target->name,
                l->client->reconnects ? "; connecting again" : "");
    if (l->lost_in_use) {
        l->failures = 0;
    }
    nbd_client_reconnect(l);
}

/* Follows libnbd's state after each call. False: the link is down. */
static RUNS_IN_IOTHREAD bool link_update(NbdLink *l)
{
    if (nbd_aio_is_dead(l->handle) != 0 || nbd_aio_is_closed(l->handle) != 0) {
        link_lose(l);
        return false;
    }
    unsigned direction = nbd_aio_get_direction(l->handle);
    bool reads = (direction & LIBNBD_AIO_DIRECTION_READ) != 0;
    bool writes = (direction & LIBNBD_AIO_DIRECTION_WRITE) != 0;
    if (reads != l->reads || writes != l->writes) {
        l->reads = reads;
        l->writes = writes;
        aio_handler_watch(l->handler, reads, writes);
    }
    return true;
}

/* ---- events ---- */

static RUNS_IN_IOTHREAD bool link_has_more(const NbdLink *l)
{
    struct pollfd p = {.fd = l->fd, .events = POLLIN};
    return l->reads && poll(&p, 1, 0) > 0;
}

/* libnbd takes about one reply per call. It must not be called without data: it would then wait for a
 * reply, and send no command before that. */
static void link_readable(void *opaque)
{
    NbdLink *l = opaque;
    enter_iothread(l->client->home);
    for (unsigned i = 0; i < LINK_REPLIES_MAX; i++) {
        uint64_t before = l->replies;
        nbd_aio_notify_read(l->handle); /* a failure shows in the state */
        if (!link_update(l) || l->replies == before || l->in_flight == 0 || !link_has_more(l)) {
            return;
        }
    }
}

static void link_writable(void *opaque)
{
    NbdLink *l = opaque;
    enter_iothread(l->client->home);
    nbd_aio_notify_write(l->handle);
    link_update(l);
}

static const AioHandlerOps link_ops = {.readable = link_readable, .writable = link_writable};

static RUNS_IN_IOTHREAD void link_watch(NbdLink *l)
{
    l->fd = nbd_aio_get_fd(l->handle);
    l->handler = aio_handler_add(l->client->home, l->fd, &link_ops, l);
    l->reads = l->writes = true;
    link_update(l);
}

void nbd_links_init(NbdClient *c)
{
    co_queue_init(&c->waiting);
    co_queue_init(&c->bounce_waiters);
    aio_timer_init(&c->delay, c->home, links_give_up, c);
    for (unsigned i = 0; i < c->link_count; i++) {
        c->links[i].client = c;
        aio_bh_init(&c->links[i].lost, c->main, link_lost_in_main, &c->links[i]);
    }
}

void nbd_link_attach(NbdLink *l, struct nbd_handle *handle)
{
    NbdClient *c = l->client;
    assert(l->handle == NULL && l->commands == NULL);
    trace_block_nbd_up(c->node->name, (unsigned)(l - c->links));
    l->handle = handle;
    l->replies = 0;
    c->up++;
    link_watch(l);
    co_queue_wake_all(&c->waiting);
    SP("nbd.up", l);
}

/* ---- moving, closing ---- */

void nbd_links_leave(NbdClient *c)
{
    for (unsigned i = 0; i < c->link_count; i++) {
        aio_handler_remove(c->links[i].handler);
        c->links[i].handler = NULL;
    }
    c->delay_left_ns = 0;
    if (c->delay.heap_index != 0) {
        int64_t left_ns = c->delay.deadline_ns - aio_now_ns(c->home); /* MAX() evaluates twice */
        c->delay_left_ns = MAX(left_ns, 1);
        aio_timer_disarm(&c->delay);
    }
}

void nbd_links_enter(NbdClient *c)
{
    aio_timer_init(&c->delay, c->home, links_give_up, c);
    if (c->delay_left_ns != 0) {
        aio_timer_arm(&c->delay, aio_now_ns(c->home) + c->delay_left_ns);
    }
    for (unsigned i = 0; i < c->link_count; i++) {
        if (c->links[i].handle != NULL) {
            link_watch(&c->links[i]);
        }
    }
}

void nbd_links_close(NbdClient *c)
{
    nbd_links_leave(c);
    for (unsigned i = 0; i < c->link_count; i++) {
        NbdLink *l = &c->links[i];
        assert(l->commands == NULL);
        if (l->handle != NULL) {
            nbd_aio_disconnect(l->handle, 0); /* sent if the socket takes it at once */
            nbd_close(l->handle);
            l->handle = NULL;
        }
    }
    c->up = 0;
}

/* ---- commands ---- */

/* libnbd has a reply, or the connection is lost. Called within libnbd's calls. Returns 1: libnbd
 * forgets the command. */
static int link_completed(void *opaque, int *error)
{
    NbdClientCommand *cmd = opaque;
    NbdLink *l = cmd->link;
    enter_iothread(l->client->home);
    bool lost = *error == ENOTCONN; /* no error of a server is translated to this */
    if (!lost && l->replies++ == 0) {
        links_end_outage(l->client);
    }
    link_complete(cmd, lost ? NBD_LOST : -*error);
    return 1;
}

/* Takes the first extent of an answer to NBD_OP_STATUS. */
static int link_take_status(void *opaque, const char *context, uint64_t offset, uint32_t *entries,
                            size_t count, int *error)
{
    NbdClientCommand *cmd = opaque;
    if (offset == cmd->offset && count >= 2 && cmd->status_bytes == 0) {
        cmd->status_bytes = entries[0];
        cmd->status_flags = entries[1];
    }
    return 0;
}

static RUNS_IN_IOTHREAD int64_t link_submit(NbdLink *l, NbdClientCommand *cmd)
{
    nbd_completion_callback done = {.callback = link_completed, .user_data = cmd};
    nbd_extent_callback extent = {.callback = link_take_status, .user_data = cmd};
    switch (cmd->op) {
    case NBD_OP_READ:
        return nbd_aio_pread(l->handle, cmd->buffer, cmd->bytes, cmd->offset, done, cmd->flags);
    case NBD_OP_WRITE:
        return nbd_aio_pwrite(l->handle, cmd->buffer, cmd->bytes, cmd->offset, done, cmd->flags);
    case NBD_OP_FLUSH:
        return nbd_aio_flush(l->handle, done, cmd->flags);
    case NBD_OP_TRIM:
        return nbd_aio_trim(l->handle, cmd->bytes, cmd->offset, done, cmd->flags);
    case NBD_OP_ZERO:
        return nbd_aio_zero(l->handle, cmd->bytes, cmd->offset, done, cmd->flags);
    case NBD_OP_STATUS:
        return nbd_aio_block_status(l->handle, cmd->bytes, cmd->offset, extent, done, cmd->flags);
    }
    return -1;
}

int nbd_link_co_command(NbdLink *l, NbdClientCommand *cmd)
{
    cmd->link = l;
    cmd->token = co_arm();
    cmd->status_bytes = 0;
    cmd->next = l->commands;
    cmd->back = &l->commands;
    if (cmd->next != NULL) {
        cmd->next->back = &cmd->next;
    }
    l->commands = cmd;
    l->in_flight++;
    bool refused = link_submit(l, cmd) < 0; /* libnbd has not taken it */
    int err = refused ? nbd_get_errno() : 0;
    if (refused) {
        link_complete(cmd, err == ENOTCONN ? NBD_LOST : err > 0 ? -err : -EIO);
    }
    if (link_update(l) && err == ENOTCONN) {
        link_lose(l);
    }
    co_wait(cmd->token);
    return cmd->ret;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/vhost_user_peer.h"

#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include "hw/virtio/vring.h"

static void peer_readable(void *opaque);
static const AioHandlerOps peer_ops = {.readable = peer_readable};

static void peer_replace_fd(int *place, int fd)
{
    if (*place >= 0) {
        close(*place);
    }
    *place = fd;
}

VhostUserPeer *vhost_user_peer_new(FakeChardev *chardev)
{
    VhostUserPeer *p = g_new0(VhostUserPeer, 1);
    p->chardev = chardev;
    p->ctx = chardev->ctx;
    p->features = PEER_FEATURES;
    p->protocol = PEER_PROTOCOL;
    p->units = PEER_RINGS;
    p->fd = p->channel = p->log_fd = p->inflight_fd = -1;
    for (unsigned i = 0; i < PEER_RINGS; i++) {
        p->rings[i].kick = p->rings[i].call = p->rings[i].err = -1;
    }
    p->requests = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    return p;
}

void vhost_user_peer_connect(VhostUserPeer *p)
{
    int pair[2];
    g_assert(p->fd < 0);
    g_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
    p->fd = pair[0];
    p->is_mute = false;
    p->handler = aio_handler_add(p->ctx, p->fd, &peer_ops, p);
    aio_handler_watch(p->handler, true, false);
    fake_chardev_connect(p->chardev, pair[1]);
}

static void peer_unmap(VhostUserPeer *p)
{
    for (unsigned i = 0; i < p->memory.count; i++) {
        munmap(p->maps[i], p->memory.regions[i].size + p->memory.regions[i].mmap_offset);
    }
    p->memory.count = 0;
}

void vhost_user_peer_kill(VhostUserPeer *p)
{
    if (p->fd < 0) {
        return;
    }
    aio_handler_remove(p->handler);
    vhost_user_reader_clear(&p->reader);
    peer_replace_fd(&p->fd, -1);
    peer_replace_fd(&p->channel, -1);
    peer_replace_fd(&p->log_fd, -1);
    peer_replace_fd(&p->inflight_fd, -1);
    for (unsigned i = 0; i < PEER_RINGS; i++) {
        PeerRing *r = &p->rings[i];
        peer_replace_fd(&r->kick, -1);
        peer_replace_fd(&r->call, -1);
        peer_replace_fd(&r->err, -1);
        *r = (PeerRing){.kick = -1, .call = -1, .err = -1};
    }
    peer_unmap(p);
}

void vhost_user_peer_free(VhostUserPeer *p)
{
    vhost_user_peer_kill(p);
    g_array_free(p->requests, TRUE);
    g_free(p);
}

unsigned vhost_user_peer_count(const VhostUserPeer *p, uint32_t request)
{
    unsigned n = 0;
    for (unsigned i = 0; i < p->requests->len; i++) {
        n += g_array_index(p->requests, uint32_t, i) == request;
    }
    return n;
}

void vhost_user_peer_send(VhostUserPeer *p, uint32_t request, bool need_reply)
{
    size_t sent = 0;
    VhostUserMessage m = {
        .header = {request, VHOST_USER_VERSION | (need_reply ? VHOST_USER_NEED_REPLY : 0), 0}};
    g_assert(p->channel >= 0);
    vhost_user_write(&m, p->channel, &sent, NULL);
}

/* ---- messages ---- */

static void peer_map(VhostUserPeer *p, VhostUserMessage *m)
{
    peer_unmap(p);
    g_assert(m->payload.memory.count <= VHOST_USER_MAX_REGIONS &&
             m->payload.memory.count == m->fd_count);
    p->memory = m->payload.memory;
    for (unsigned i = 0; i < p->memory.count; i++) {
        const VhostUserRegion *r = &p->memory.regions[i];
        p->maps[i] =
            mmap(NULL, r->size + r->mmap_offset, PROT_READ | PROT_WRITE, MAP_SHARED, m->fds[i], 0);
        g_assert(p->maps[i] != MAP_FAILED);
    }
}

static PeerRing *peer_ring(VhostUserPeer *p, uint64_t index)
{
    g_assert((index & 0xff) < PEER_RINGS);
    return &p->rings[index & 0xff];
}

static int peer_taken_fd(VhostUserMessage *m)
{
    return m->fd_count > 0 ? vhost_user_take_fd(m, 0) : -1;
}

/* Of a ring: true if @m was such a message. */
static bool peer_handle_ring(VhostUserPeer *p, VhostUserMessage *m, VhostUserMessage *reply)
{
    PeerRing *r;
    switch (m->header.request) {
    case VHOST_USER_SET_VRING_NUM:
        peer_ring(p, m->payload.state.index)->num = m->payload.state.num;
        return true;
    case VHOST_USER_SET_VRING_BASE:
        peer_ring(p, m->payload.state.index)->base = m->payload.state.num;
        return true;
    case VHOST_USER_SET_VRING_ADDR:
        peer_ring(p, m->payload.address.index)->address = m->payload.address;
        return true;
    case VHOST_USER_SET_VRING_ENABLE:
        peer_ring(p, m->payload.state.index)->enabled = m->payload.state.num != 0;
        return true;
    case VHOST_USER_SET_VRING_KICK:
        r = peer_ring(p, m->payload.u64);
        peer_replace_fd(&r->kick, peer_taken_fd(m));
        r->started = true;
        return true;
    case VHOST_USER_SET_VRING_CALL:
        peer_replace_fd(&peer_ring(p, m->payload.u64)->call, peer_taken_fd(m));
        return true;
    case VHOST_USER_SET_VRING_ERR:
        peer_replace_fd(&peer_ring(p, m->payload.u64)->err, peer_taken_fd(m));
        return true;
    case VHOST_USER_GET_VRING_BASE:
        r = peer_ring(p, m->payload.state.index);
        r->started = false;
        peer_replace_fd(&r->kick, -1);
        peer_replace_fd(&r->call, -1);
        reply->header.size = sizeof(VhostUserVringState);
        reply->payload.state = (VhostUserVringState){m->payload.state.index, r->base};
        return true;
    default:
        return false;
    }
}

static void peer_reply_u64(VhostUserMessage *reply, uint64_t value)
{
    reply->header.size = sizeof(uint64_t);
    reply->payload.u64 = value;
}

static void peer_reply_inflight(VhostUserPeer *p, const VhostUserMessage *m,
                                VhostUserMessage *reply)
{
    int fd = memfd_create("inflight", MFD_CLOEXEC);
    g_assert(fd >= 0 && ftruncate(fd, 4096) == 0);
    peer_replace_fd(&p->inflight_fd, fd);
    reply->header.size = VHOST_USER_INFLIGHT_SIZE;
    reply->payload.inflight = m->payload.inflight;
    reply->payload.inflight.mmap_size = 4096;
    reply->fds[0] = fd;
    reply->fd_count = 1;
}

static void peer_handle(VhostUserPeer *p, VhostUserMessage *m, VhostUserMessage *reply)
{
    if (peer_handle_ring(p, m, reply)) {
        return;
    }
    switch (m->header.request) {
    case VHOST_USER_GET_FEATURES:
        peer_reply_u64(reply, p->features);
        return;
    case VHOST_USER_SET_FEATURES:
        p->acked_features = m->payload.u64;
        return;
    case VHOST_USER_GET_PROTOCOL_FEATURES:
        peer_reply_u64(reply, p->protocol);
        return;
    case VHOST_USER_SET_PROTOCOL_FEATURES:
        p->acked_protocol = m->payload.u64;
        return;
    case VHOST_USER_GET_QUEUE_NUM:
        peer_reply_u64(reply, p->units);
        return;
    case VHOST_USER_SET_MEM_TABLE:
        peer_map(p, m);
        return;
    case VHOST_USER_SET_BACKEND_REQ_FD:
        peer_replace_fd(&p->channel, peer_taken_fd(m));
        return;
    case VHOST_USER_SET_LOG_BASE:
        peer_replace_fd(&p->log_fd, peer_taken_fd(m));
        peer_reply_u64(reply, 0);
        return;
    case VHOST_USER_GET_CONFIG:
        reply->header.size = p->refuse == VHOST_USER_GET_CONFIG ? 0 : m->header.size;
        reply->payload.config = m->payload.config;
        memcpy(reply->payload.config.bytes, p->config, sizeof(p->config));
        return;
    case VHOST_USER_SET_CONFIG:
        memcpy(p->config + m->payload.config.offset, m->payload.config.bytes,
               m->payload.config.size);
        return;
    case VHOST_USER_GET_INFLIGHT_FD:
        peer_reply_inflight(p, m, reply);
        return;
    case VHOST_USER_SET_INFLIGHT_FD:
        p->inflight = m->payload.inflight;
        peer_replace_fd(&p->inflight_fd, peer_taken_fd(m));
        return;
    default:
        return;
    }
}

static void peer_received(VhostUserPeer *p, VhostUserMessage *m)
{
    VhostUserMessage reply = {
        .header = {.request = m->header.request, .flags = VHOST_USER_VERSION | VHOST_USER_REPLY}};
    g_array_append_val(p->requests, m->header.request);
    p->is_mute = p->is_mute || m->header.request == p->mute;
    if (p->is_mute) {
        return;
    }
    bool acked = (p->acked_protocol >> VHOST_USER_PROTOCOL_F_REPLY_ACK & 1) != 0;
    bool wanted = vhost_user_has_reply(m->header.request);
    peer_handle(p, m, &reply);
    if (!wanted && acked && (m->header.flags & VHOST_USER_NEED_REPLY) != 0) {
        peer_reply_u64(&reply, m->header.request == p->refuse);
        wanted = true;
    }
    if (wanted && p->lie != NULL) {
        p->lie(p, &reply);
    }
    size_t sent = 0;
    if (wanted && p->fd >= 0) {
        vhost_user_write(&reply, p->fd, &sent, NULL);
    }
}

static void peer_readable(void *opaque)
{
    VhostUserPeer *p = opaque;
    switch (vhost_user_read(&p->reader, p->fd, NULL)) {
    case VHOST_USER_WHOLE:
        peer_received(p, &p->reader.message);
        vhost_user_reader_clear(&p->reader);
        return;
    case VHOST_USER_LOST:
        p->lost++;
        vhost_user_peer_kill(p);
        return;
    case VHOST_USER_WAIT:
        return;
    }
}

/* ---- rings ---- */

/* Where the front end's address @at is here. */
static void *peer_at(const VhostUserPeer *p, uint64_t at, bool is_gpa)
{
    for (unsigned i = 0; i < p->memory.count; i++) {
        const VhostUserRegion *r = &p->memory.regions[i];
        uint64_t base = is_gpa ? r->gpa : r->user_address;
        if (at >= base && at - base < r->size) {
            return p->maps[i] + r->mmap_offset + (at - base);
        }
    }
    g_error("the front end has no memory at %#" G_GINT64_MODIFIER "x", at);
}

static uint32_t peer_fill_chain(const VhostUserPeer *p, const VringDesc *table, uint16_t head)
{
    uint32_t filled = 0;
    for (uint16_t at = head;; at = table[at].next) {
        if ((table[at].flags & VRING_DESC_F_WRITE) != 0) {
            memset(peer_at(p, table[at].addr, true), PEER_MARK, table[at].len);
            filled += table[at].len;
        }
        if ((table[at].flags & VRING_DESC_F_NEXT) == 0) {
            return filled;
        }
    }
}

unsigned vhost_user_peer_serve(VhostUserPeer *p, unsigned index)
{
    PeerRing *r = &p->rings[index];
    eventfd_t kicks;
    unsigned served = 0;
    if (!r->started || !r->enabled || eventfd_read(r->kick, &kicks) != 0) {
        return 0;
    }
    const VringDesc *table = peer_at(p, r->address.desc, false);
    VringAvail *avail = peer_at(p, r->address.avail, false);
    VringUsed *used = peer_at(p, r->address.used, false);
    while ((uint16_t)r->base != avail->idx) {
        uint16_t head = avail->ring[r->base % r->num];
        VringUsedElement *e = &used->ring[used->idx % r->num];
        e->id = head;
        e->len = peer_fill_chain(p, table, head);
        used->idx++;
        r->base = (uint16_t)(r->base + 1);
        served++;
    }
    if (served > 0 && r->call >= 0) {
        eventfd_write(r->call, 1);
    }
    return served;
}

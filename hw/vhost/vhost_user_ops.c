/* SPDX-License-Identifier: Apache-2.0 */
/* The operations of a VhostDev as vhost-user messages. */
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "hw/vhost/vhost_user.h"

/* Of SET_VRING_ADDR: writes to the used ring are logged. */
#define VRING_ADDRESS_LOG 1u

static VhostUser *user_from(VhostDev *dev)
{
    return (VhostUser *)(void *)dev;
}

bool vhost_user_has_protocol(const VhostUser *u, unsigned bit)
{
    return (u->protocol_features >> bit & 1) != 0;
}

bool vhost_user_co_send(VhostUser *u, VhostUserMessage *m, bool ack, int64_t deadline_ns,
                        GError **error)
{
    if (u->link == NULL) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_IO, "%s: there is no connection",
                    vhost_user_request_name(m->header.request));
        return false;
    }
    if (ack && vhost_user_has_protocol(u, VHOST_USER_PROTOCOL_F_REPLY_ACK) &&
        !vhost_user_has_reply(m->header.request)) {
        m->header.flags |= VHOST_USER_NEED_REPLY;
    }
    return vhost_user_link_co_request(u->link, m, deadline_ns, error);
}

static coroutine_fn RUNS_IN_MAIN bool ops_co_send(VhostDev *dev, VhostUserMessage *m, bool ack,
                                                  GError **error)
{
    return vhost_user_co_send(user_from(dev), m, ack, dev->deadline_ns, error);
}

/* Returns when the back end has executed all earlier messages. */
static coroutine_fn RUNS_IN_MAIN bool ops_co_sync(VhostDev *dev, GError **error)
{
    VhostUserMessage m = vhost_user_message(VHOST_USER_GET_FEATURES, 0);
    return ops_co_send(dev, &m, false, error);
}

static coroutine_fn RUNS_IN_MAIN bool ops_co_send_u64(VhostDev *dev, VhostUserRequest request,
                                                      uint64_t value, bool ack, GError **error)
{
    VhostUserMessage m = vhost_user_message(request, sizeof(m.payload.u64));
    m.payload.u64 = value;
    return ops_co_send(dev, &m, ack, error);
}

static coroutine_fn RUNS_IN_MAIN bool ops_co_send_state(VhostDev *dev, VhostUserRequest request,
                                                        unsigned index, unsigned num, bool ack,
                                                        GError **error)
{
    VhostUserMessage m = vhost_user_message(request, sizeof(m.payload.state));
    m.payload.state = (VhostUserVringState){.index = index, .num = num};
    return ops_co_send(dev, &m, ack, error);
}

/* @fd -1: none. */
static coroutine_fn RUNS_IN_MAIN bool ops_co_send_vring_fd(VhostDev *dev, VhostUserRequest request,
                                                           unsigned index, int fd, GError **error)
{
    VhostUserMessage m = vhost_user_message(request, sizeof(m.payload.u64));
    m.payload.u64 = index | (fd < 0 ? VHOST_USER_VRING_NO_FD : 0);
    m.fds[0] = fd;
    m.fd_count = fd < 0 ? 0 : 1;
    return ops_co_send(dev, &m, false, error);
}

static bool ops_co_set_features(VhostDev *dev, uint64_t features, GError **error)
{
    VhostUser *u = user_from(dev);
    enter_main();
    enter_coroutine();
    uint64_t own = u->peer_features & VHOST_USER_F_PROTOCOL_FEATURES;
    if (atomic_load(&u->session_lost)) {
        g_set_error(
            error, G_FILE_ERROR, G_FILE_ERROR_PIPE,
            "what the back end kept for the driver is lost; the driver must reset the device");
        return false;
    }
    return ops_co_send_u64(dev, VHOST_USER_SET_FEATURES, features | own, true, error);
}

static bool ops_co_set_memory(VhostDev *dev, const VhostMemory *memory, GError **error)
{
    enter_main();
    enter_coroutine();
    uint32_t size =
        (uint32_t)(offsetof(VhostUserMemory, regions) + memory->count * sizeof(VhostUserRegion));
    VhostUserMessage m = vhost_user_message(VHOST_USER_SET_MEM_TABLE, size);
    g_assert(memory->count <= VHOST_USER_MAX_REGIONS);
    m.payload.memory.count = memory->count;
    for (unsigned i = 0; i < memory->count; i++) {
        const VhostRegion *r = &memory->regions[i];
        m.payload.memory.regions[i] = (VhostUserRegion){.gpa = r->gpa,
                                                        .size = r->size,
                                                        .user_address = (uintptr_t)r->host,
                                                        .mmap_offset = r->fd_offset};
        m.fds[m.fd_count++] = r->fd;
    }
    return ops_co_send(dev, &m, true, error);
}

/* ---- requests in flight ---- */

void vhost_user_drop_inflight(VhostUser *u)
{
    if (u->inflight_fd >= 0) {
        close(u->inflight_fd);
        u->inflight_fd = -1;
    }
}

static coroutine_fn RUNS_IN_MAIN bool ops_co_get_inflight(VhostDev *dev, const VhostStart *start,
                                                          GError **error)
{
    VhostUser *u = user_from(dev);
    uint16_t size = 0;
    for (unsigned i = 0; i < start->count; i++) {
        size = MAX(size, start->vrings[i].size);
    }
    VhostUserMessage m = vhost_user_message(VHOST_USER_GET_INFLIGHT_FD, VHOST_USER_INFLIGHT_SIZE);
    m.payload.inflight.num_queues = (uint16_t)u->needs.vrings;
    m.payload.inflight.queue_size = size;
    if (!ops_co_send(dev, &m, false, error)) {
        return false;
    }
    if (m.fd_count == 0 || m.payload.inflight.mmap_size == 0) {
        vhost_user_close_fds(&m);
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_IO,
                    "GET_INFLIGHT_FD: the back end has no memory for its requests");
        return false;
    }
    u->inflight = (VhostUserInflight){.mmap_size = m.payload.inflight.mmap_size,
                                      .mmap_offset = m.payload.inflight.mmap_offset,
                                      .num_queues = (uint16_t)u->needs.vrings,
                                      .queue_size = size};
    u->inflight_fd = vhost_user_take_fd(&m, 0);
    return true;
}

static bool ops_co_prepare(VhostDev *dev, const VhostStart *start, GError **error)
{
    VhostUser *u = user_from(dev);
    enter_main();
    enter_coroutine();
    if (atomic_exchange(&u->inflight_void, false)) {
        vhost_user_drop_inflight(u);
    }
    if (!vhost_user_has_protocol(u, VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD)) {
        return true;
    }
    if (u->inflight_fd < 0 && !ops_co_get_inflight(dev, start, error)) {
        return false;
    }
    VhostUserMessage m = vhost_user_message(VHOST_USER_SET_INFLIGHT_FD, VHOST_USER_INFLIGHT_SIZE);
    m.payload.inflight = u->inflight;
    m.fds[0] = u->inflight_fd;
    m.fd_count = 1;
    return ops_co_send(dev, &m, true, error);
}

/* ---- vrings ---- */

static coroutine_fn RUNS_IN_MAIN bool ops_co_set_address(VhostDev *dev, const VhostVring *v,
                                                         bool logged, GError **error)
{
    VhostUserMessage m = vhost_user_message(VHOST_USER_SET_VRING_ADDR, sizeof(m.payload.address));
    m.payload.address = (VhostUserVringAddress){.index = v->index,
                                                .flags = logged ? VRING_ADDRESS_LOG : 0,
                                                .desc = (uintptr_t)v->desc,
                                                .used = (uintptr_t)v->used,
                                                .avail = (uintptr_t)v->avail,
                                                .log = logged ? v->used_gpa : 0};
    return ops_co_send(dev, &m, true, error);
}

/* The kick comes last: many back ends begin to serve the ring with it. */
static bool ops_co_set_vring(VhostDev *dev, const VhostVring *v, GError **error)
{
    enter_main();
    enter_coroutine();
    return ops_co_send_state(dev, VHOST_USER_SET_VRING_NUM, v->index, v->size, false, error) &&
           ops_co_send_state(dev, VHOST_USER_SET_VRING_BASE, v->index, v->base, false, error) &&
           ops_co_set_address(dev, v, dev->log != NULL, error) &&
           ops_co_send_vring_fd(dev, VHOST_USER_SET_VRING_CALL, v->index, v->call_fd, error) &&
           (v->err_fd < 0 ||
            ops_co_send_vring_fd(dev, VHOST_USER_SET_VRING_ERR, v->index, v->err_fd, error)) &&
           ops_co_send_vring_fd(dev, VHOST_USER_SET_VRING_KICK, v->index, v->kick_fd, error);
}

static bool ops_co_set_call(VhostDev *dev, unsigned index, int fd, GError **error)
{
    enter_main();
    enter_coroutine();
    return ops_co_send_vring_fd(dev, VHOST_USER_SET_VRING_CALL, index, fd, error) &&
           ops_co_sync(dev, error);
}

/* Kicks that came before, and interrupts that a lost back end did not send. */
static void ops_signal_all(const VhostUser *u, const VhostStart *start)
{
    for (unsigned i = 0; i < start->count; i++) {
        const VhostVring *v = &start->vrings[i];
        if (v->kick_fd >= 0) {
            eventfd_write(v->kick_fd, 1);
        }
        if (v->call_fd >= 0 && u->replaced) {
            eventfd_write(v->call_fd, 1);
        }
    }
}

static coroutine_fn RUNS_IN_MAIN bool ops_co_enable(VhostDev *dev, const VhostStart *start, bool on,
                                                    int64_t deadline_ns, GError **error)
{
    VhostUser *u = user_from(dev);
    if ((u->peer_features & VHOST_USER_F_PROTOCOL_FEATURES) == 0) {
        return true; /* a ring runs from its kick descriptor to GET_VRING_BASE */
    }
    for (unsigned i = 0; i < start->count; i++) {
        VhostUserMessage m =
            vhost_user_message(VHOST_USER_SET_VRING_ENABLE, sizeof(m.payload.state));
        m.payload.state.index = start->vrings[i].index;
        m.payload.state.num = on && start->vrings[i].index < u->enabled;
        if (!vhost_user_co_send(u, &m, false, deadline_ns, error)) {
            return false;
        }
    }
    return true;
}

bool vhost_user_co_enable(VhostUser *u)
{
    VhostDev *dev = &u->dev;
    for (unsigned i = 0; i < dev->num_vrings && dev->phase == VHOST_RUNNING; i++) {
        VhostUserMessage m =
            vhost_user_message(VHOST_USER_SET_VRING_ENABLE, sizeof(m.payload.state));
        m.payload.state.index = i;
        m.payload.state.num = i < u->enabled;
        if ((u->served >> i & 1) != 0 &&
            !vhost_user_co_send(u, &m, false, aio_now_ns(dev->ctx) + dev->timeout_ns, NULL)) {
            return false;
        }
    }
    return dev->phase == VHOST_RUNNING;
}

static bool ops_co_run(VhostDev *dev, const VhostStart *start, bool on, GError **error)
{
    VhostUser *u = user_from(dev);
    enter_main();
    enter_coroutine();
    if (on) {
        u->served = 0;
        for (unsigned i = 0; i < start->count; i++) {
            u->served |= 1ull << start->vrings[i].index;
        }
        atomic_store(&u->session, true);
    }
    if (!ops_co_enable(dev, start, on, dev->deadline_ns, error)) {
        return false;
    }
    if (on) {
        if (!ops_co_sync(dev, error)) {
            return false;
        }
        ops_signal_all(u, start);
        u->replaced = false;
    }
    return true;
}

static bool ops_co_stop_vring(VhostDev *dev, unsigned index, uint16_t *last_avail, GError **error)
{
    VhostUser *u = user_from(dev);
    enter_main();
    enter_coroutine();
    VhostUserMessage m = vhost_user_message(VHOST_USER_GET_VRING_BASE, sizeof(m.payload.state));
    m.payload.state.index = index;
    if (!ops_co_send(dev, &m, false, error)) {
        return false;
    }
    *last_avail = (uint16_t)m.payload.state.num;
    u->served &= ~(1ull << index);
    if (u->served == 0) { /* nothing is in flight */
        atomic_store(&u->inflight_void, true);
        atomic_store(&u->session, u->needs.stateful && atomic_load(&u->session));
    }
    return true;
}

/* ---- the log of writes ---- */

static coroutine_fn RUNS_IN_MAIN bool ops_co_set_log_base(VhostDev *dev, const VhostLog *log,
                                                          GError **error)
{
    if (log == NULL) {
        return true; /* without the feature it is not used */
    }
    VhostUserMessage m = vhost_user_message(VHOST_USER_SET_LOG_BASE, sizeof(m.payload.log));
    m.payload.log = (VhostUserLogArea){.mmap_size = log->bytes};
    m.fds[0] = log->fd;
    m.fd_count = 1;
    return ops_co_send(dev, &m, false, error);
}

static bool ops_co_set_log(VhostDev *dev, const VhostLog *log, const VhostStart *start,
                           GError **error)
{
    enter_main();
    enter_coroutine();
    uint64_t features = (start->features & dev->features & ~VHOST_F_LOG_WRITES) |
                        (log != NULL ? VHOST_F_LOG_WRITES : 0);
    if (!ops_co_set_log_base(dev, log, error) || !ops_co_set_features(dev, features, error)) {
        return false;
    }
    /* Before the vrings are set up, they get their addresses later. */
    for (unsigned i = 0; dev->phase == VHOST_RUNNING && i < start->count; i++) {
        if (!ops_co_set_address(dev, &start->vrings[i], log != NULL, error)) {
            return false;
        }
    }
    return ops_co_sync(dev, error);
}

static void ops_give_up(VhostDev *dev)
{
    VhostUser *u = user_from(dev);
    enter_main();
    if (u->link != NULL) {
        vhost_user_link_close(g_steal_pointer(&u->link));
        u->replaced = true;
        aio_bh_schedule(&u->presence_bh);
        if (atomic_load(&u->session) && !u->dev.reconnects) {
            atomic_store(&u->session_lost, true);
        }
        chardev_disconnect(u->chardev);
    }
}

const VhostOps vhost_user_ops = {
    .co_set_features = ops_co_set_features,
    .co_set_memory = ops_co_set_memory,
    .co_prepare = ops_co_prepare,
    .co_set_vring = ops_co_set_vring,
    .co_set_call = ops_co_set_call,
    .co_run = ops_co_run,
    .co_stop_vring = ops_co_stop_vring,
    .co_set_log = ops_co_set_log,
    .give_up = ops_give_up,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* A NIC's end of its connection to a back end. */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include "hw/net/net_int.h"
#include "util/iov.h"
#include "util/loop/sched_point.h"

/* Frames that are dropped in one turn. */
#define NET_DROP_BUDGET 64

NetClient *net_clients;

/* ---- the set of clients (main) ---- */

static RUNS_IN_MAIN char *net_client_make_name(const NetClient *c)
{
    for (unsigned n = 0;; n++) {
        g_autofree char *name = g_strdup_printf("%s.%u", c->ops->model, n);
        const NetClient *other = net_clients;
        while (other != NULL && strcmp(other->name, name) != 0) {
            other = other->next;
        }
        if (other == NULL) {
            return g_steal_pointer(&name);
        }
    }
}

static RUNS_IN_MAIN NetBackend *net_client_find_backend(const char *id, GError **error)
{
    NetBackend *b = net_find(id);
    if (b == NULL || b->leaving) {
        g_autofree char *shown = opt_excerpt(id);
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "netdev=%s: there is no -netdev with id=%s",
                    shown, shown);
        return NULL;
    }
    if (b->client != NULL) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "netdev=%s: it is in use by %s", id,
                    b->client->name);
        return NULL;
    }
    return b;
}

void net_choose_mac(uint8_t mac[NET_MAC_BYTES])
{
    static const uint8_t first[NET_MAC_BYTES] = {0x52, 0x54, 0x00,
                                                 0x12, 0x34, 0x56}; /* as in QEMU */
    memcpy(mac, first, NET_MAC_BYTES);
    for (const NetClient *c = net_clients; c != NULL;) {
        if (memcmp(c->mac, mac, NET_MAC_BYTES) == 0) {
            mac[5]++;
            c = net_clients;
        } else {
            c = c->next;
        }
    }
}

/* ---- the receive filter ---- */

static void (*net_filter_hook)(NetClient *c, void *opaque);
static void *net_filter_hook_opaque;

void net_set_filter_hook(void (*fn)(NetClient *c, void *opaque), void *opaque)
{
    net_filter_hook = fn;
    net_filter_hook_opaque = opaque;
}

static void net_client_filter_bh(void *opaque)
{
    enter_main();
    if (net_filter_hook != NULL) {
        net_filter_hook(opaque, net_filter_hook_opaque);
    }
}

void net_client_filter_changed(NetClient *c)
{
    if (!atomic_exchange(&c->filter_noted, true)) {
        aio_bh_schedule(&c->filter_bh);
    }
}

void net_client_get_filter(NetClient *c, NetFilter *to)
{
    atomic_store(&c->filter_noted, false); /* before the copy: a later change is announced */
    c->ops->get_filter(c, to);
}

/* ---- attaching and detaching (main) ---- */

bool net_client_attach(NetClient *c, const char *id, const char *netdev, GError **error)
{
    NetBackend *b = netdev != NULL ? net_client_find_backend(netdev, error) : NULL;
    if (netdev != NULL && b == NULL) {
        return false;
    }
    co_queue_init(&c->configured);
    aio_bh_init(&c->filter_bh, net_main_context(), net_client_filter_bh, c);
    c->name = id != NULL ? g_strdup(id) : net_client_make_name(c);
    c->backend = c->data = b;
    if (b != NULL) {
        b->client = c;
        c->admin_down = b->admin_down;
    }
    NetClient **end = &net_clients;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = c;
    net_client_update_link(c);
    return true;
}

static void net_client_detach_at_home(void *opaque)
{
    NetClient *c = opaque;
    NetBackend *b = c->data;
    enter_coroutine();
    enter_loop(c->home);
    while (c->configuring) {
        co_queue_wait(&c->configured, "a network configuration");
    }
    for (unsigned q = 0; q < b->queues; q++) {
        if ((c->started >> q & 1) && b->type->queue_stop != NULL) {
            b->type->queue_stop(b, q);
        }
    }
    c->data = NULL;
    c->has_applied = c->refused = false;
    for (unsigned q = 0; q < b->queues; q++) {
        if (c->started >> q & 1) { /* what waits for room is dropped now */
            c->ops->writable(c, q);
        }
    }
}

void net_client_co_detach(NetClient *c)
{
    NetBackend *b = c->backend;
    if (b == NULL) {
        return;
    }
    if (c->ops->co_detaching != NULL) {
        c->ops->co_detaching(c);
    }
    co_call_in(c->home, net_client_detach_at_home, c);
    c->backend = NULL;
    b->client = NULL;
    net_client_update_link(c);
}

void net_client_co_leave(NetClient *c)
{
    assert(!c->started);
    net_client_co_detach(c);
    NetClient **at = &net_clients;
    while (*at != c) {
        at = &(*at)->next;
    }
    *at = c->next;
    aio_bh_cancel(&c->filter_bh);
    g_clear_pointer(&c->name, g_free);
}

/* ---- the link ---- */

void net_client_update_link(NetClient *c)
{
    const NetBackend *b = c->backend;
    bool down = c->admin_down || (b != NULL && b->no_carrier);
    bool drop = down || (b != NULL && b->admin_down);
    atomic_store(&c->link, (down ? NET_LINK_GUEST_DOWN : 0) | (drop ? NET_LINK_DROP : 0));
    c->ops->link_changed(c);
}

bool net_client_link_up(const NetClient *c)
{
    return !(atomic_load(&c->link) & NET_LINK_GUEST_DOWN);
}

bool net_client_is_set_down(const NetClient *c)
{
    return c->admin_down || (c->backend != NULL && c->backend->admin_down);
}

static bool net_client_drops(const NetClient *c)
{
    return atomic_load_explicit(&c->link, memory_order_relaxed) & NET_LINK_DROP;
}

/* ---- the data path (home) ---- */

/* The back end, if it has queue @queue. */
static NetBackend *net_client_backend_of(const NetClient *c, unsigned queue)
{
    return c->data != NULL && queue < c->data->queues ? c->data : NULL;
}

/* Watches the queue if the client does, and the configuration is applied. */
static RUNS_IN_LOOP void net_client_update_watch(NetClient *c, unsigned queue)
{
    NetBackend *b = net_client_backend_of(c, queue);
    if (b != NULL && (c->started >> queue & 1)) {
        b->type->watch(b, queue, (c->watched >> queue & 1) && !c->configuring);
    }
}

void net_client_start_queue(NetClient *c, unsigned queue)
{
    NetBackend *b = net_client_backend_of(c, queue);
    assert_home(c->home);
    assert(queue < NET_MAX_QUEUES && !(c->started >> queue & 1));
    c->started |= 1u << queue;
    c->watched &= ~(1u << queue);
    if (b != NULL && b->type->queue_start != NULL) {
        b->type->queue_start(b, queue, c->home);
    }
}

void net_client_stop_queue(NetClient *c, unsigned queue)
{
    NetBackend *b = net_client_backend_of(c, queue);
    assert_home(c->home);
    assert(c->started >> queue & 1);
    c->started &= ~(1u << queue);
    c->watched &= ~(1u << queue);
    if (b != NULL && b->type->queue_stop != NULL) {
        b->type->queue_stop(b, queue);
    }
}

void net_client_watch(NetClient *c, unsigned queue, bool on)
{
    assert_home(c->home);
    if ((bool)(c->watched >> queue & 1) == on) {
        return;
    }
    c->watched ^= 1u << queue;
    net_client_update_watch(c, queue);
}

static void net_client_count(_Atomic uint64_t *counter)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

/* What a frame with @gso_type asks of its receiver; UINT32_MAX: nobody knows the type. */
static uint32_t net_gso_offloads(uint8_t gso_type)
{
    switch (gso_type) {
    case NET_HEADER_GSO_NONE:
        return 0;
    case NET_HEADER_GSO_TCPV4:
        return NET_OFFLOAD_TSO4;
    case NET_HEADER_GSO_TCPV6:
        return NET_OFFLOAD_TSO6;
    case NET_HEADER_GSO_UDP:
        return NET_OFFLOAD_UFO;
    case NET_HEADER_GSO_UDP_L4:
        return NET_OFFLOAD_USO4 | NET_OFFLOAD_USO6; /* one of them */
    default:
        return UINT32_MAX;
    }
}

/* Whether the client takes such a frame. The kernel queues frames, and those from before a change of the
 * configuration may use offloads that the client does not accept any more. */
static bool net_client_accepts(const NetClient *c, const struct iovec *iov, unsigned count)
{
    uint8_t start[2]; /* flags, gso_type */
    uint32_t may = c->wanted.receive_offloads;
    if (iov_copy_to_buf(iov, count, 0, start, sizeof(start)) != sizeof(start)) {
        return false;
    }
    uint32_t gso = net_gso_offloads(start[1] & (uint8_t)~NET_HEADER_GSO_ECN);
    return (!(start[0] & NET_HEADER_NEEDS_CSUM) || (may & NET_OFFLOAD_CSUM)) &&
           (!(start[1] & NET_HEADER_GSO_ECN) || (may & NET_OFFLOAD_ECN)) && gso != UINT32_MAX &&
           (gso == 0 || (may & gso));
}

ssize_t net_client_receive(NetClient *c, unsigned queue, const struct iovec *iov, unsigned count)
{
    NetBackend *b = net_client_backend_of(c, queue);
    assert_home(c->home);
    if (b == NULL || c->configuring) {
        return -EAGAIN;
    }
    for (unsigned i = 0; i < NET_DROP_BUDGET; i++) {
        ssize_t length = b->type->receive(b, queue, iov, count);
        if (length < 0) {
            return length;
        }
        if (length <= NET_FRAME_MAX && !net_client_drops(c) && net_client_accepts(c, iov, count)) {
            net_client_count(&c->received);
            return length;
        }
        net_client_count(&c->dropped);
    }
    return -EAGAIN; /* readable() comes again in the next turn */
}

ssize_t net_client_send(NetClient *c, unsigned queue, const struct iovec *iov, unsigned count)
{
    NetBackend *b = net_client_backend_of(c, queue);
    assert_home(c->home);
    ssize_t ret = 0;
    if (b != NULL && !net_client_drops(c)) {
        ret = b->type->send(b, queue, iov, count);
        if (ret == -EAGAIN) {
            return ret;
        }
        net_client_count(ret < 0 ? &c->dropped : &c->sent);
        return ret;
    }
    net_client_count(&c->dropped);
    return 0;
}

void net_backend_readable(NetBackend *b, unsigned queue)
{
    NetClient *c = b->client;
    assert_home(c->home);
    assert(c->started >> queue & 1);
    c->ops->readable(c, queue);
}

void net_backend_writable(NetBackend *b, unsigned queue)
{
    NetClient *c = b->client;
    assert_home(c->home);
    assert(c->started >> queue & 1);
    c->ops->writable(c, queue);
}

/* ---- announcements ---- */

static void net_client_announce_at_home(void *opaque)
{
    NetClient *c = opaque;
    enter_loop(c->home);
    if (!(c->started & 1)) {
        return;
    }
    /* RFC 903: request reverse, from and for the NIC */
    static const uint8_t arp[] = {0x80, 0x35, 0, 1, 8, 0, NET_MAC_BYTES, 4, 0, 3};
    uint8_t frame[sizeof(NetHeader) + 60] = {0}, *at = frame + sizeof(NetHeader);
    memset(at, 0xff, NET_MAC_BYTES);
    memcpy(at + 6, c->mac, NET_MAC_BYTES);
    memcpy(at + 12, arp, sizeof(arp));
    memcpy(at + 22, c->mac, NET_MAC_BYTES);
    memcpy(at + 32, c->mac, NET_MAC_BYTES);
    struct iovec iov = {frame, sizeof(frame)};
    net_client_send(c, 0, &iov, 1);
}

void net_client_co_announce(NetClient *c)
{
    co_call_in(c->home, net_client_announce_at_home, c);
    if (c->ops->announce != NULL) {
        c->ops->announce(c);
    }
}

/* ---- the configuration (home) ---- */

static bool net_config_equal(const NetConfig *a, const NetConfig *b)
{
    return a->receive_offloads == b->receive_offloads && a->queues == b->queues;
}

/* Whether the back end need not be asked for what is wanted. */
static bool net_client_is_configured(const NetClient *c)
{
    return c->data == NULL || c->data->type->co_configure == NULL ||
           (c->has_applied && net_config_equal(&c->wanted, &c->applied));
}

static void net_client_configure_entry(void *opaque)
{
    NetClient *c = opaque;
    enter_coroutine();
    enter_loop(c->home);
    while (!net_client_is_configured(c)) { /* it may have changed meanwhile */
        NetConfig config = c->wanted;
        SP("net.configure", c);
        c->refused = !c->data->type->co_configure(c->data, &config);
        c->applied = config;
        c->has_applied = true;
    }
    c->configuring = false;
    for (unsigned q = 0; q < NET_MAX_QUEUES; q++) {
        net_client_update_watch(c, q);
    }
    co_queue_wake_all(&c->configured);
}

void net_client_configure(NetClient *c, const NetConfig *config)
{
    assert_home(c->home);
    c->wanted = *config;
    if (c->configuring) {
        return;
    }
    c->has_applied = c->has_applied && !c->refused; /* it is asked again */
    if (net_client_is_configured(c)) {
        return;
    }
    c->configuring = true;
    for (unsigned q = 0; q < NET_MAX_QUEUES; q++) {
        net_client_update_watch(c, q);
    }
    co_start_now(c->home, net_client_configure_entry, c);
}

bool net_client_co_await_configured(NetClient *c)
{
    assert_home(c->home);
    while (c->configuring) {
        co_queue_wait(&c->configured, "a network configuration");
    }
    return !c->refused;
}

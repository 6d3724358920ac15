/* SPDX-License-Identifier: Apache-2.0 */
/* The device: features, config space, start and stop of its queues, the link. */
#include <assert.h>
#include <string.h>
#include "hw/virtio/trace_events.h"
#include "hw/virtio/virtio_net.h"

#define VIRTIO_NET_DEVICE_ID 1

/* Bits of the config space's status, §5.1.4. */
enum { VIRTIO_NET_S_LINK_UP = 1, VIRTIO_NET_S_ANNOUNCE = 2 };

typedef struct VirtioNetConfig {
    uint8_t mac[NET_MAC_BYTES];
    uint16_t status;
    uint16_t max_virtqueue_pairs;
    uint16_t mtu;
    uint32_t speed; /* Mbit/s */
    uint8_t duplex;
} __attribute__((packed)) VirtioNetConfig;

G_STATIC_ASSERT(sizeof(VirtioNetConfig) == VIRTIO_NET_CONFIG_SIZE);

/* ---- features ---- */

/* What a guest's feature lets frames leave to it or to the back end. */
static const struct {
    uint64_t feature;
    uint32_t offload;
} net_guest_offloads[] =
    {
        {VIRTIO_NET_F_GUEST_CSUM, NET_OFFLOAD_CSUM}, {VIRTIO_NET_F_GUEST_TSO4, NET_OFFLOAD_TSO4},
        {VIRTIO_NET_F_GUEST_TSO6, NET_OFFLOAD_TSO6}, {VIRTIO_NET_F_GUEST_ECN, NET_OFFLOAD_ECN},
        {VIRTIO_NET_F_GUEST_UFO, NET_OFFLOAD_UFO},   {VIRTIO_NET_F_GUEST_USO4, NET_OFFLOAD_USO4},
        {VIRTIO_NET_F_GUEST_USO6, NET_OFFLOAD_USO6},
},
  net_host_offloads[] = {
      {VIRTIO_NET_F_CSUM, NET_OFFLOAD_CSUM},
      {VIRTIO_NET_F_HOST_TSO4, NET_OFFLOAD_TSO4},
      {VIRTIO_NET_F_HOST_TSO6, NET_OFFLOAD_TSO6},
      {VIRTIO_NET_F_HOST_ECN, NET_OFFLOAD_ECN},
      {VIRTIO_NET_F_HOST_UFO, NET_OFFLOAD_UFO},
      {VIRTIO_NET_F_HOST_USO, NET_OFFLOAD_USO4 | NET_OFFLOAD_USO6},
};

uint64_t virtio_net_guest_offloads_of(uint64_t features)
{
    uint64_t all = 0;
    for (unsigned i = 0; i < G_N_ELEMENTS(net_guest_offloads); i++) {
        all |= net_guest_offloads[i].feature;
    }
    return features & all;
}

uint64_t virtio_net_offered(const VirtioNet *n)
{
    uint64_t lacking = 0;
    for (unsigned i = 0; i < G_N_ELEMENTS(net_guest_offloads); i++) {
        if (!(n->can_receive & net_guest_offloads[i].offload)) {
            lacking |= net_guest_offloads[i].feature;
        }
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(net_host_offloads); i++) {
        if ((n->can_send & net_host_offloads[i].offload) != net_host_offloads[i].offload) {
            lacking |= net_host_offloads[i].feature;
        }
    }
    uint64_t features = n->wanted & ~lacking;
    /* A feature that needs another one is not offered without it (§5.1.3.1). */
    uint64_t need_csum = VIRTIO_NET_F_HOST_TSO4 | VIRTIO_NET_F_HOST_TSO6 | VIRTIO_NET_F_HOST_ECN |
                         VIRTIO_NET_F_HOST_UFO | VIRTIO_NET_F_HOST_USO;
    uint64_t need_guest_csum = virtio_net_guest_offloads_of(~0ull) & ~VIRTIO_NET_F_GUEST_CSUM;
    uint64_t need_control = VIRTIO_NET_F_CTRL_RX | VIRTIO_NET_F_CTRL_VLAN |
                            VIRTIO_NET_F_CTRL_RX_EXTRA | VIRTIO_NET_F_GUEST_ANNOUNCE |
                            VIRTIO_NET_F_MQ | VIRTIO_NET_F_CTRL_MAC_ADDR |
                            VIRTIO_NET_F_CTRL_GUEST_OFFLOADS;
    features &= features & VIRTIO_NET_F_CSUM ? ~0ull : ~need_csum;
    features &= features & VIRTIO_NET_F_GUEST_CSUM ? ~0ull : ~need_guest_csum;
    features &= features & VIRTIO_NET_F_CTRL_VQ ? ~0ull : ~need_control;
    features &= features & VIRTIO_NET_F_STATUS ? ~0ull : ~VIRTIO_NET_F_GUEST_ANNOUNCE;
    return features;
}

/* ---- registers (BQL) ---- */

static void net_get_config(VirtioDevice *vdev, uint8_t *config)
{
    VirtioNet *n = virtio_net_from(vdev);
    uint64_t mac = __atomic_load_n(&n->state.mac, __ATOMIC_RELAXED);
    uint8_t announce = __atomic_load_n(&n->state.announce, __ATOMIC_RELAXED);
    unsigned status = (net_client_link_up(&n->client) ? VIRTIO_NET_S_LINK_UP : 0) |
                      (announce ? VIRTIO_NET_S_ANNOUNCE : 0);
    VirtioNetConfig c = {.status = GUINT16_TO_LE((uint16_t)status),
                         .max_virtqueue_pairs = GUINT16_TO_LE((uint16_t)n->pairs),
                         .mtu = GUINT16_TO_LE(n->host_mtu),
                         .speed = GUINT32_TO_LE(n->link_speed),
                         .duplex = n->link_duplex};
    for (unsigned i = 0; i < NET_MAC_BYTES; i++) {
        c.mac[i] = (uint8_t)(mac >> (8 * i));
    }
    memcpy(config, &c, sizeof(c));
}

static void net_negotiated(VirtioDevice *vdev)
{
    VirtioNet *n = virtio_net_from(vdev);
    assert_bql();
    n->state.guest_offloads = virtio_net_guest_offloads_of(vdev->state->driver_features);
    if (virtio_has_feature(vdev, VIRTIO_NET_F_CTRL_VLAN)) {
        rank_mutex_lock(&n->filter_lock);
        memset(n->state.filter.vlans, 0, sizeof(n->state.filter.vlans));
        rank_mutex_unlock(&n->filter_lock);
    }
    virtio_net_vhost_negotiated(n);
}

static void net_reset(VirtioDevice *vdev)
{
    VirtioNet *n = virtio_net_from(vdev);
    uint64_t mac = 0;
    for (unsigned i = 0; i < NET_MAC_BYTES; i++) {
        mac |= (uint64_t)n->client.mac[i] << (8 * i);
    }
    __atomic_store_n(&n->state.mac, mac, __ATOMIC_RELAXED);
    __atomic_store_n(&n->state.announce, 0, __ATOMIC_RELAXED);
    rank_mutex_lock(&n->filter_lock);
    net_filter_reset(&n->state.filter, n->client.mac);
    rank_mutex_unlock(&n->filter_lock);
    n->state.guest_offloads = 0;
    n->state.pairs = 1;
}

/* ---- the queues (home loop) ---- */

void assert_virtio_net_state(const VirtioNet *n)
{
    for (unsigned i = 0; i < n->pairs; i++) {
        const VirtioNetPair *p = &n->queues[i];
        assert(p->phase != VIRTIO_NET_RX_READY || !p->pending_len); /* 2 */
        assert(p->phase != VIRTIO_NET_RX_READY || i < n->state.pairs);
        assert((p->phase == VIRTIO_NET_RX_READY) == (n->client.watched >> i & 1));
        assert(!virtio_running(&n->base.vdev) ||
               (p->phase == VIRTIO_NET_RX_READY) == n->base.vdev.queues[virtio_net_rx(i)].silent);
    }
}

void virtio_net_configure(VirtioNet *n)
{
    NetConfig config = {.queues = n->state.pairs};
    for (unsigned i = 0; i < G_N_ELEMENTS(net_guest_offloads); i++) {
        if (n->state.guest_offloads & net_guest_offloads[i].feature) {
            config.receive_offloads |= net_guest_offloads[i].offload;
        }
    }
    /* Drivers may negotiate a feature without those that it needs. */
    if (!(config.receive_offloads & NET_OFFLOAD_CSUM)) {
        config.receive_offloads = 0;
    }
    if (!(config.receive_offloads & (NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6))) {
        config.receive_offloads &= ~(uint32_t)NET_OFFLOAD_ECN;
    }
    config.receive_offloads &= n->can_receive;
    net_client_configure(&n->client, &config);
}

static void net_started(VirtioDevice *vdev)
{
    VirtioNet *n = virtio_net_from(vdev);
    enter_loop(vdev->home);
    n->has_data_queues = vdev->queues[virtio_net_rx(0)].at_home;
    for (unsigned i = 0; n->has_data_queues && i < n->pairs; i++) {
        VirtioNetPair *p = &n->queues[i];
        if (p->pending == NULL) {
            p->pending = g_malloc(NET_FRAME_MAX); /* not touched before it is used */
        }
        p->tx_full = false;
        p->expected = 0;
        net_client_start_queue(&n->client, i);
    }
    virtio_net_configure(n);
    assert_virtio_net_state(n);
}

static void net_stopping(VirtioDevice *vdev)
{
    VirtioNet *n = virtio_net_from(vdev);
    enter_loop(vdev->home);
    for (unsigned i = 0; n->has_data_queues && i < n->pairs; i++) {
        virtio_net_rx_stop(n, i);
        net_client_stop_queue(&n->client, i);
    }
    assert_virtio_net_state(n);
}

static void net_handle_queue(VirtioDevice *vdev, unsigned index)
{
    VirtioNet *n = virtio_net_from(vdev);
    enter_loop(vdev->home);
    unsigned pairs = virtio_has_feature(vdev, VIRTIO_NET_F_MQ) ? n->pairs : 1;
    if (index < 2 * pairs) {
        if (index % 2 == 0) {
            virtio_net_rx_serve(n, index / 2);
        } else {
            virtio_net_tx_serve(n, index / 2);
        }
    } else if (index == 2 * pairs && virtio_has_feature(vdev, VIRTIO_NET_F_CTRL_VQ)) {
        virtio_net_control_serve(n, index);
    }
}

const VirtioOps virtio_net_ops = {
    .device_id = VIRTIO_NET_DEVICE_ID,
    .get_config = net_get_config,
    .negotiated = net_negotiated,
    .reset = net_reset,
    .started = net_started,
    .stopping = net_stopping,
    .handle_queue = net_handle_queue,
};

/* ---- the client of the network ---- */

static VirtioNet *net_from_client(NetClient *c)
{
    return (VirtioNet *)(void *)((uint8_t *)c - offsetof(VirtioNet, client));
}

static void net_readable(NetClient *c, unsigned queue)
{
    enter_loop(c->home);
    virtio_net_rx_readable(net_from_client(c), queue);
}

static void net_writable(NetClient *c, unsigned queue)
{
    enter_loop(c->home);
    virtio_net_tx_writable(net_from_client(c), queue);
}

static void net_link_changed(NetClient *c)
{
    VirtioNet *n = net_from_client(c);
    enter_main();
    if (!n->base.pci.base.realized) {
        return;
    }
    bql_lock();
    if (virtio_has_feature(&n->base.vdev, VIRTIO_NET_F_STATUS)) {
        virtio_config_changed(&n->base.vdev);
    }
    bql_unlock();
    virtio_net_vhost_link_changed(n);
}

static void net_co_detaching(NetClient *c)
{
    enter_main();
    enter_coroutine();
    virtio_net_vhost_co_detaching(net_from_client(c));
}

/* §5.1.6.5.4: the driver sends the announcement itself. */
static void net_announce(NetClient *c)
{
    VirtioNet *n = net_from_client(c);
    enter_main();
    bql_lock();
    if (virtio_has_feature(&n->base.vdev, VIRTIO_NET_F_GUEST_ANNOUNCE) &&
        virtio_phase(&n->base.vdev) == VIRTIO_LIVE) {
        __atomic_store_n(&n->state.announce, 1, __ATOMIC_RELAXED);
        virtio_config_changed(&n->base.vdev);
    }
    bql_unlock();
}

void virtio_net_set_mac(Device *dev, const uint8_t mac[NET_MAC_BYTES])
{
    VirtioNet *n = (VirtioNet *)(void *)dev;
    uint64_t value = 0;
    g_assert(dev->type == &virtio_net_pci_type);
    for (unsigned i = 0; i < NET_MAC_BYTES; i++) {
        value |= (uint64_t)mac[i] << (8 * i);
    }
    bql_lock();
    memcpy(n->client.mac, mac, NET_MAC_BYTES);
    __atomic_store_n(&n->state.mac, value, __ATOMIC_RELAXED);
    virtio_config_changed(&n->base.vdev);
    bql_unlock();
}

static void net_get_filter(NetClient *c, NetFilter *to)
{
    VirtioNet *n = net_from_client(c);
    enter_main();
    rank_mutex_lock(&n->filter_lock);
    *to = n->state.filter;
    rank_mutex_unlock(&n->filter_lock);
}

const NetClientOps virtio_net_client_ops = {
    .model = "virtio-net-pci",
    .readable = net_readable,
    .writable = net_writable,
    .link_changed = net_link_changed,
    .announce = net_announce,
    .get_filter = net_get_filter,
    .co_detaching = net_co_detaching,
};

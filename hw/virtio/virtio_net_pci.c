/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net-pci: properties, realize, tables. */
#include <inttypes.h>
#include <string.h>
#include "hw/virtio/virtio_net.h"
#include "util/loop/worker.h"

#define PCI_CLASS_NETWORK_ETHERNET 0x020000
#define VIRTIO_NET_QUEUE_SIZE_MIN 256 /* as in QEMU */

/* The features that properties offer, in the order of VirtioNet.offers. */
static const uint64_t virtio_net_offers[VIRTIO_NET_OFFERS] = {
    VIRTIO_NET_F_CSUM,
    VIRTIO_NET_F_GUEST_CSUM,
    VIRTIO_NET_F_GUEST_TSO4,
    VIRTIO_NET_F_GUEST_TSO6,
    VIRTIO_NET_F_GUEST_ECN,
    VIRTIO_NET_F_GUEST_UFO,
    VIRTIO_NET_F_GUEST_USO4,
    VIRTIO_NET_F_GUEST_USO6,
    VIRTIO_NET_F_HOST_TSO4,
    VIRTIO_NET_F_HOST_TSO6,
    VIRTIO_NET_F_HOST_ECN,
    VIRTIO_NET_F_HOST_UFO,
    VIRTIO_NET_F_HOST_USO,
    VIRTIO_NET_F_MRG_RXBUF,
    VIRTIO_NET_F_STATUS,
    VIRTIO_NET_F_CTRL_VQ,
    VIRTIO_NET_F_CTRL_RX,
    VIRTIO_NET_F_CTRL_VLAN,
    VIRTIO_NET_F_CTRL_RX_EXTRA,
    VIRTIO_NET_F_CTRL_MAC_ADDR,
    VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
    VIRTIO_NET_F_GUEST_ANNOUNCE,
    VIRTIO_NET_F_MQ,
};

static VirtioNet *net_pci_from(Device *dev)
{
    return (VirtioNet *)(void *)dev;
}

/* ---- realize ---- */

#define refuse(error, ...) (g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, __VA_ARGS__), false)

static bool net_pci_check_queue_size(const char *name, unsigned size, GError **error)
{
    return size >= VIRTIO_NET_QUEUE_SIZE_MIN && !(size & (size - 1))
               ? true
               : refuse(error, "%s=%u is not a power of two from %u to %u", name, size,
                        VIRTIO_NET_QUEUE_SIZE_MIN, VIRTQUEUE_MAX_SIZE);
}

/* "52:54:00:12:34:56" */
static bool net_pci_parse_mac(const char *text, uint8_t mac[NET_MAC_BYTES])
{
    for (unsigned i = 0; i < NET_MAC_BYTES; i++, text += 3) {
        if (!g_ascii_isxdigit(text[0]) || !g_ascii_isxdigit(text[1]) ||
            text[2] != (i + 1 < NET_MAC_BYTES ? ':' : '\0')) {
            return false;
        }
        mac[i] = (uint8_t)(g_ascii_xdigit_value(text[0]) << 4 | g_ascii_xdigit_value(text[1]));
    }
    return true;
}

static RUNS_IN_MAIN bool net_pci_check_mac(VirtioNet *n, GError **error)
{
    if (n->mac_text == NULL) {
        net_choose_mac(n->client.mac);
        return true;
    }
    if (!net_pci_parse_mac(n->mac_text, n->client.mac)) {
        return refuse(error, "mac=%s: an address is needed as in 52:54:00:12:34:56", n->mac_text);
    }
    return n->client.mac[0] & 1 ? refuse(error, "mac=%s is a multicast address", n->mac_text)
                                : true;
}

/* speed= is -1 (unknown) or Mbit/s. */
static bool net_pci_check_speed(VirtioNet *n, GError **error)
{
    uint64_t speed = UINT32_MAX;
    if (strcmp(n->speed_text, "-1") != 0 &&
        !opt_parse_u64(n->speed_text, 0, INT32_MAX, &speed, error)) {
        g_prefix_error(error, "speed=: ");
        return false;
    }
    n->link_speed = (uint32_t)speed;
    n->link_duplex = n->duplex == 0 ? 0xff : (uint8_t)(n->duplex - 1);
    if (speed != UINT32_MAX || n->duplex) {
        n->wanted |= VIRTIO_NET_F_SPEED_DUPLEX;
    }
    return true;
}

static RUNS_IN_MAIN bool net_pci_check_properties(VirtioNet *n, GError **error)
{
    for (unsigned i = 0; i < VIRTIO_NET_OFFERS; i++) {
        n->wanted |= n->offers[i] ? virtio_net_offers[i] : 0;
    }
    n->wanted |= VIRTIO_NET_F_MAC | (n->host_mtu ? VIRTIO_NET_F_MTU : 0);
    if (n->host_mtu && n->host_mtu < 68) {
        return refuse(error, "host_mtu=%u is below 68", n->host_mtu);
    }
    return net_pci_check_queue_size("rx_queue_size", n->rx_queue_size, error) &&
           net_pci_check_queue_size("tx_queue_size", n->tx_queue_size, error) &&
           net_pci_check_mac(n, error) && net_pci_check_speed(n, error);
}

static RUNS_IN_MAIN bool net_pci_find_home(VirtioNet *n, GError **error)
{
    const DeviceEnv *env = n->base.pci.base.env;
    const NetBackend *b = n->netdev != NULL ? net_find(n->netdev) : NULL;
    n->client.home = env->default_iothread;
    if (n->iothread != NULL) {
        n->client.home = env->find_iothread ? env->find_iothread(env->opaque, n->iothread) : NULL;
    } else if (b != NULL && b->nic_thread != NULL) {
        n->home_thread = iothread_ref(b->nic_thread);
        n->client.home = iothread_context(n->home_thread);
    }
    return n->client.home != NULL ? true
                                  : refuse(error, "iothread=%s: there is no -object iothread,id=%s",
                                           n->iothread, n->iothread);
}

static RUNS_IN_MAIN bool net_pci_connect(VirtioNet *n, GError **error)
{
    n->client.ops = &virtio_net_client_ops;
    n->client.owner = n;
    if (!net_client_attach(&n->client, n->base.pci.base.id, n->netdev, error)) {
        return false;
    }
    const NetBackend *b = n->client.backend;
    n->pairs = b != NULL && (n->wanted & VIRTIO_NET_F_MQ) ? b->queues : 1;
    n->can_send = b != NULL ? b->can_send : 0;
    n->can_receive = b != NULL ? b->can_receive : 0;
    if (n->pairs == 1) {
        n->wanted &= ~VIRTIO_NET_F_MQ;
    }
    return true;
}

static RUNS_IN_MAIN void net_pci_init_virtio(VirtioNet *n)
{
    VirtioDevice *vdev = &n->base.vdev;
    vdev->ops = &virtio_net_ops;
    vdev->home = n->client.home;
    vdev->num_queues = 2 * n->pairs + 1;
    vdev->queue_size = MAX(n->rx_queue_size, n->tx_queue_size);
    vdev->config_size = VIRTIO_NET_CONFIG_SIZE;
    vdev->features = virtio_net_offered(n);
    n->base.class_code = PCI_CLASS_NETWORK_ETHERNET;
    n->elements = g_new(VirtQueueElement *, VIRTQUEUE_MAX_SIZE);
    n->iov = g_new(struct iovec, VIRTQUEUE_MAX_SIZE);
    n->scratch = g_malloc(NET_FRAME_MAX);
    co_queue_init(&n->control_ended);
}

static RUNS_IN_MAIN void net_pci_free(VirtioNet *n)
{
    g_clear_pointer(&n->elements, g_free);
    g_clear_pointer(&n->iov, g_free);
    g_clear_pointer(&n->scratch, g_free);
    for (unsigned i = 0; i < VIRTIO_NET_MAX_PAIRS; i++) {
        g_clear_pointer(&n->queues[i].pending, g_free);
    }
}

static int net_pci_leave_thread(void *opaque)
{
    enter_worker();
    iothread_free(opaque); /* the last owner joins it */
    return 0;
}

/* The last step of the NIC's end: nothing of it is at home any more. */
static coroutine_fn RUNS_IN_MAIN void net_pci_co_leave_home(VirtioNet *n)
{
    n->client.home = NULL;
    if (n->home_thread != NULL) {
        co_run_in_worker(net_pci_leave_thread, g_steal_pointer(&n->home_thread));
    }
}

static coroutine_fn RUNS_IN_MAIN bool net_pci_co_realize(VirtioNet *n, GError **error)
{
    Device *dev = &n->base.pci.base;
    n->base.vdev.state = &n->state.virtio;
    n->base.vdev.dev = dev;
    n->base.pci.rom.fallback = "efi-virtio.rom";
    rank_mutex_init(&n->filter_lock, RANK_QUEUE, "receive filter");
    if (!net_pci_check_properties(n, error) || !net_pci_find_home(n, error) ||
        !net_pci_connect(n, error)) {
        return false;
    }
    if (!virtio_net_vhost_realize(n, error)) {
        net_client_co_leave(&n->client);
        return false;
    }
    net_pci_init_virtio(n);
    if (!virtio_pci_realize(&n->base, error)) {
        virtio_net_vhost_co_unrealize(n);
        net_client_co_leave(&n->client);
        net_pci_free(n);
        return false;
    }
    return true;
}

static bool net_pci_realize(Device *dev, GError **error)
{
    VirtioNet *n = net_pci_from(dev);
    enter_main();
    enter_coroutine();
    bool ok = net_pci_co_realize(n, error);
    if (!ok) {
        net_pci_co_leave_home(n);
    }
    return ok;
}

static void net_pci_settle(void *opaque)
{
    VirtioNet *n = opaque;
    enter_coroutine();
    enter_loop(n->base.vdev.home);
    virtio_net_control_co_settle(n);
}

static void net_pci_unrealize(Device *dev)
{
    VirtioNet *n = net_pci_from(dev);
    enter_main();
    enter_coroutine();
    co_call_in(n->base.vdev.home, net_pci_settle, n);
    virtio_net_vhost_co_unrealize(n);
    net_client_co_leave(&n->client);
    virtio_pci_unrealize(&n->base);
    net_pci_free(n);
    net_pci_co_leave_home(n);
}

static bool net_pci_check_state(const Device *dev, const void *state, GError **error)
{
    const VirtioNet *n = (const VirtioNet *)(const void *)dev;
    const VirtioNetState *s = state;
    const NetFilter *f = &s->filter;
    uint64_t driver = s->virtio.driver_features, can = virtio_net_guest_offloads_of(driver);
    unsigned most = driver & VIRTIO_NET_F_MQ ? n->pairs : 1;
    if (f->count > NET_FILTER_MACS || f->first_multi > f->count || s->pairs < 1 ||
        s->pairs > most || (s->guest_offloads & ~can)) {
        return refuse(error, "%s: saved state has %u addresses, %u pairs, offloads 0x%" PRIx64,
                      device_label(dev), f->count, s->pairs, s->guest_offloads);
    }
    return virtio_pci_check_state(dev, state, error);
}

static bool net_pci_post_load(Device *dev, GError **error)
{
    VirtioNet *n = net_pci_from(dev);
    assert_bql();
    if (!net_pci_check_state(dev, &n->state, error) || !virtio_pci_post_load(dev, error)) {
        return false;
    }
    virtio_net_vhost_negotiated(n);
    return true;
}

static void net_pci_firmware_path(const Device *dev, GString *path)
{
    g_string_append(path, "/ethernet-phy@0");
}

/* ---- tables ---- */

static const StateField net_filter_fields[] = {
    STATE_ARRAY(NetFilter, STATE_U8, mac),
    STATE_FIELD(NetFilter, STATE_BOOL, promisc),
    STATE_FIELD(NetFilter, STATE_BOOL, allmulti),
    STATE_FIELD(NetFilter, STATE_BOOL, alluni),
    STATE_FIELD(NetFilter, STATE_BOOL, nomulti),
    STATE_FIELD(NetFilter, STATE_BOOL, nouni),
    STATE_FIELD(NetFilter, STATE_BOOL, nobcast),
    STATE_FIELD(NetFilter, STATE_BOOL, uni_overflow),
    STATE_FIELD(NetFilter, STATE_BOOL, multi_overflow),
    STATE_FIELD_MAX(NetFilter, STATE_U8, count, NET_FILTER_MACS),
    STATE_FIELD_MAX(NetFilter, STATE_U8, first_multi, NET_FILTER_MACS),
    STATE_ARRAY(NetFilter, STATE_U8, macs),
    STATE_ARRAY(NetFilter, STATE_U8, vlans),
    {0},
};

static const StateDesc net_filter_desc = {.name = "virtio-net-filter",
                                          .version = 1,
                                          .min_version = 1,
                                          .struct_size = sizeof(NetFilter),
                                          .fields = net_filter_fields};

static const StateField net_fields[] = {
    STATE_STRUCT_ONE(VirtioNetState, virtio, &virtio_state_desc),
    STATE_FIELD(VirtioNetState, STATE_U64, guest_offloads),
    STATE_FIELD(VirtioNetState, STATE_U64, mac),
    STATE_STRUCT_ONE(VirtioNetState, filter, &net_filter_desc),
    STATE_FIELD(VirtioNetState, STATE_U16, pairs),
    STATE_FIELD_MAX(VirtioNetState, STATE_U8, announce, 1),
    STATE_ARRAY(VirtioNetState, STATE_PAD, pad),
    {0},
};

static const StateDesc net_state_desc =
    STATE_DESC("virtio-net", 1, VirtioNet, state, VirtioNetState, net_fields);

static const char *const net_tx_names[] = {"bh", NULL};
static const char *const net_duplex_names[] = {"unknown", "half", "full", NULL};

#define NET_OFFER(property, index, default_value, text)                                            \
    OPT_SPEC(VirtioNet, property, OPT_BOOL, offers[index], .def = default_value, .help = text)

static const OptSpec net_pci_properties[] = {
    VIRTIO_PCI_PROPERTIES(VirtioNet, base, "128"),
    OPT_SPEC(VirtioNet, "netdev", OPT_STRING, netdev,
             .help = "id of the -netdev it is connected to"),
    OPT_SPEC(VirtioNet, "mac", OPT_STRING, mac_text,
             .help =
                 "address, as in 52:54:00:12:34:56 (default: the first that is free from there)"),
    OPT_SPEC(VirtioNet, "iothread", OPT_STRING, iothread, .help = "iothread that serves the NIC"),
    OPT_SPEC(VirtioNet, "rx_queue_size", OPT_U16, rx_queue_size, .def = "256",
             .max = VIRTQUEUE_MAX_SIZE, .help = "entries of a receive queue, a power of two"),
    OPT_SPEC(VirtioNet, "tx_queue_size", OPT_U16, tx_queue_size, .def = "256",
             .max = VIRTQUEUE_MAX_SIZE, .help = "entries of a transmit queue, a power of two"),
    OPT_SPEC(VirtioNet, "host_mtu", OPT_U16, host_mtu, .help = "MTU for the guest; 0: none is set"),
    OPT_SPEC(VirtioNet, "speed", OPT_STRING, speed_text, .def = "-1",
             .help = "link speed for the guest, in Mbit/s; -1: unknown"),
    OPT_SPEC(VirtioNet, "duplex", OPT_ENUM, duplex, .def = "unknown", .names = net_duplex_names,
             .help = "link mode for the guest"),
    OPT_SPEC(VirtioNet, "tx", OPT_ENUM, tx, .def = "bh", .names = net_tx_names,
             .help = "always bh: frames are sent at once"),
    NET_OFFER("csum", 0, "on", "the guest may leave checksums to the host"),
    NET_OFFER("guest_csum", 1, "on", "the guest accepts frames without checksums"),
    NET_OFFER("guest_tso4", 2, "on", "the guest accepts large TCP frames"),
    NET_OFFER("guest_tso6", 3, "on", "the guest accepts large TCP frames (IPv6)"),
    NET_OFFER("guest_ecn", 4, "on", "the guest accepts large TCP frames with ECN"),
    NET_OFFER("guest_ufo", 5, "on", "the guest accepts large UDP frames"),
    NET_OFFER("guest_uso4", 6, "on", "the guest accepts UDP frames to be segmented"),
    NET_OFFER("guest_uso6", 7, "on", "the guest accepts UDP frames to be segmented (IPv6)"),
    NET_OFFER("host_tso4", 8, "on", "the guest may send large TCP frames"),
    NET_OFFER("host_tso6", 9, "on", "the guest may send large TCP frames (IPv6)"),
    NET_OFFER("host_ecn", 10, "on", "the guest may send large TCP frames with ECN"),
    NET_OFFER("host_ufo", 11, "on", "the guest may send large UDP frames"),
    NET_OFFER("host_uso", 12, "on", "the guest may send UDP frames to be segmented"),
    NET_OFFER("mrg_rxbuf", 13, "on", "a frame may take several receive buffers"),
    NET_OFFER("status", 14, "on", "the guest sees the link"),
    NET_OFFER("ctrl_vq", 15, "on", "offer the control queue"),
    NET_OFFER("ctrl_rx", 16, "on", "the guest sets receive modes and addresses"),
    NET_OFFER("ctrl_vlan", 17, "on", "the guest filters VLANs"),
    NET_OFFER("ctrl_rx_extra", 18, "on", "further receive modes"),
    NET_OFFER("ctrl_mac_addr", 19, "on", "the guest sets its address"),
    NET_OFFER("ctrl_guest_offloads", 20, "on", "the guest changes what it accepts"),
    NET_OFFER("guest_announce", 21, "on", "the guest announces itself when it is asked to"),
    NET_OFFER("mq", 22, "off", "use all queues of the netdev"),
    {0},
};

const DeviceType virtio_net_pci_type = {
    .name = "virtio-net-pci",
    .description = "virtio network card",
    .instance_size = sizeof(VirtioNet),
    .properties = net_pci_properties,
    .base_state = &pci_device_state_desc,
    .state = &net_state_desc,
    .user_creatable = true,
    .bus = "pci",
    .firmware_path = net_pci_firmware_path,
    .realize = net_pci_realize,
    .reset = virtio_pci_reset,
    .unrealize = net_pci_unrealize,
    .co_start = virtio_pci_co_start,
    .co_stop = virtio_pci_co_stop,
    .pre_save = virtio_pci_pre_save,
    .check_state = net_pci_check_state,
    .post_load = net_pci_post_load,
};

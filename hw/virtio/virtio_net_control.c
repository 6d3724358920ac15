/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control queue (virtio 1.2 §5.1.6.5). One coroutine in the home loop executes commands, one after the
 * other, since some wait for the back end. It exists while there are commands.
 *
 *   class, command (1 byte each), data   device-readable
 *   ack (1 byte)                         device-writable
 */
#include <string.h>
#include "hw/virtio/trace_events.h"
#include "hw/virtio/virtio_net.h"
#include "util/iov.h"
#include "util/loop/sched_point.h"

#define VIRTIO_NET_CONTROL_BUDGET 64 /* commands in one turn of the loop */
enum { VIRTIO_NET_OK = 0, VIRTIO_NET_ERR = 1 };

/* What a command's handler gets. */
typedef struct ControlCommand {
    const VirtQueueElement *e;
    size_t offset; /* of the next byte of the data */
} ControlCommand;

/* Takes @bytes of the data. False: there are fewer. */
static bool control_take(ControlCommand *c, void *to, size_t bytes)
{
    size_t copied = iov_copy_to_buf(c->e->out, c->e->out_num, c->offset, to, bytes);
    c->offset += copied;
    return copied == bytes;
}

/* Whether all data has been taken. */
static bool control_at_end(const ControlCommand *c)
{
    return c->offset == c->e->out_len;
}

/* ---- the commands ---- */

/* Class 0: receive modes. */
static bool control_rx(VirtioNet *n, uint8_t command, ControlCommand *c)
{
    NetFilter *f = &n->state.filter;
    bool *const modes[] = {&f->promisc, &f->allmulti, &f->alluni,
                           &f->nomulti, &f->nouni,    &f->nobcast};
    uint64_t need = command < 2 ? VIRTIO_NET_F_CTRL_RX : VIRTIO_NET_F_CTRL_RX_EXTRA;
    uint8_t on;
    if (command >= G_N_ELEMENTS(modes) || !virtio_has_feature(&n->base.vdev, need) ||
        !control_take(c, &on, 1) || !control_at_end(c)) {
        return false;
    }
    rank_mutex_lock(&n->filter_lock);
    *modes[command] = on != 0;
    rank_mutex_unlock(&n->filter_lock);
    return true;
}

/* One of the two lists of MAC_TABLE_SET, into @f; *@overflow: it is too long to be kept. */
static bool control_mac_list(NetFilter *f, ControlCommand *c, bool *overflow)
{
    uint32_t count;
    if (!control_take(c, &count, sizeof(count))) {
        return false;
    }
    uint64_t entries = GUINT32_FROM_LE(count);
    if (entries * NET_MAC_BYTES > c->e->out_len - c->offset) {
        return false;
    }
    *overflow = entries > NET_FILTER_MACS - (unsigned)f->count;
    if (*overflow) {
        c->offset += entries * NET_MAC_BYTES;
        return true;
    }
    bool ok = control_take(c, f->macs + (size_t)f->count * NET_MAC_BYTES, entries * NET_MAC_BYTES);
    f->count = (uint8_t)(f->count + entries);
    return ok;
}

static void control_set_mac(VirtioNet *n, const uint8_t mac[NET_MAC_BYTES])
{
    uint64_t value = 0;
    for (unsigned i = 0; i < NET_MAC_BYTES; i++) {
        value |= (uint64_t)mac[i] << (8 * i);
    }
    rank_mutex_lock(&n->filter_lock);
    memcpy(n->state.filter.mac, mac, NET_MAC_BYTES);
    rank_mutex_unlock(&n->filter_lock);
    __atomic_store_n(&n->state.mac, value, __ATOMIC_RELAXED);
}

/* Class 1: the table of addresses, and the device's own. */
static bool control_mac(VirtioNet *n, uint8_t command, ControlCommand *c)
{
    if (command == 0 && virtio_has_feature(&n->base.vdev, VIRTIO_NET_F_CTRL_RX)) {
        NetFilter f = n->state.filter;
        f.count = 0;
        memset(f.macs, 0, sizeof(f.macs));
        if (!control_mac_list(&f, c, &f.uni_overflow)) {
            return false;
        }
        f.first_multi = f.count;
        if (!control_mac_list(&f, c, &f.multi_overflow) || !control_at_end(c)) {
            return false;
        }
        rank_mutex_lock(&n->filter_lock);
        n->state.filter = f; /* all or nothing */
        rank_mutex_unlock(&n->filter_lock);
        return true;
    }
    uint8_t mac[NET_MAC_BYTES];
    if (command != 1 || !virtio_has_feature(&n->base.vdev, VIRTIO_NET_F_CTRL_MAC_ADDR) ||
        !control_take(c, mac, sizeof(mac)) || !control_at_end(c)) {
        return false;
    }
    control_set_mac(n, mac);
    return true;
}

/* Class 2: VLANs. */
static bool control_vlan(VirtioNet *n, uint8_t command, ControlCommand *c)
{
    uint16_t id;
    if (command > 1 || !virtio_has_feature(&n->base.vdev, VIRTIO_NET_F_CTRL_VLAN) ||
        !control_take(c, &id, sizeof(id)) || !control_at_end(c)) {
        return false;
    }
    unsigned vlan = GUINT16_FROM_LE(id);
    if (vlan >= NET_VLANS) {
        return false;
    }
    uint8_t bit = (uint8_t)(1u << (vlan % 8)), *byte = &n->state.filter.vlans[vlan / 8];
    rank_mutex_lock(&n->filter_lock);
    *byte = command == 0 ? *byte | bit : *byte & (uint8_t)~bit;
    rank_mutex_unlock(&n->filter_lock);
    return true;
}

/* Class 3: the driver has seen ANNOUNCE. */
static bool control_announce(VirtioNet *n, uint8_t command, ControlCommand *c)
{
    if (command != 0 || !virtio_has_feature(&n->base.vdev, VIRTIO_NET_F_GUEST_ANNOUNCE) ||
        !control_at_end(c)) {
        return false;
    }
    return __atomic_exchange_n(&n->state.announce, 0, __ATOMIC_RELAXED) != 0;
}

static RUNS_IN_LOOP void control_use_pairs(VirtioNet *n, unsigned pairs)
{
    unsigned before = n->state.pairs;
    n->state.pairs = (uint16_t)pairs;
    for (unsigned i = pairs; i < before; i++) {
        virtio_net_rx_stop(n, i);
    }
    for (unsigned i = before; i < pairs; i++) {
        virtio_look(&n->base.vdev, virtio_net_rx(i));
    }
}

/* Makes `state` effective. False: the host refuses. */
static coroutine_fn RUNS_IN_LOOP bool control_co_configure(VirtioNet *n)
{
    virtio_net_configure(n);
    return net_client_co_await_configured(&n->client);
}

/* Class 4: the number of pairs. */
static coroutine_fn RUNS_IN_LOOP bool control_mq(VirtioNet *n, uint8_t command, ControlCommand *c)
{
    uint16_t pairs;
    if (command != 0 || !virtio_has_feature(&n->base.vdev, VIRTIO_NET_F_MQ) ||
        !control_take(c, &pairs, sizeof(pairs)) || !control_at_end(c)) {
        return false;
    }
    pairs = GUINT16_FROM_LE(pairs);
    if (pairs < 1 || pairs > n->pairs) {
        return false;
    }
    unsigned before = n->state.pairs;
    if (pairs < before) {
        virtio_net_vhost_co_use_pairs(n, pairs);
    }
    control_use_pairs(n, pairs);
    bool ok = control_co_configure(n);
    if (!ok) {
        control_use_pairs(n, before);
        control_co_configure(n);
    }
    virtio_net_vhost_co_use_pairs(n, n->state.pairs);
    return ok;
}

/* Class 5: what received frames may leave to the guest. */
static coroutine_fn RUNS_IN_LOOP bool control_offloads(VirtioNet *n, uint8_t command,
                                                       ControlCommand *c)
{
    VirtioDevice *vdev = &n->base.vdev;
    uint64_t offloads;
    if (command != 0 || !virtio_has_feature(vdev, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) ||
        !control_take(c, &offloads, sizeof(offloads)) || !control_at_end(c)) {
        return false;
    }
    offloads = GUINT64_FROM_LE(offloads);
    if (offloads & ~virtio_net_guest_offloads_of(vdev->state->driver_features)) {
        return false;
    }
    uint64_t before = n->state.guest_offloads;
    n->state.guest_offloads = offloads;
    bool ok = control_co_configure(n);
    if (!ok) {
        n->state.guest_offloads = before;
        control_co_configure(n);
    }
    return ok;
}

static coroutine_fn RUNS_IN_LOOP bool control_execute(VirtioNet *n, uint8_t class, uint8_t command,
                                                      ControlCommand *c)
{
    switch (class) {
    case 0:
        return control_rx(n, command, c);
    case 1:
        return control_mac(n, command, c);
    case 2:
        return control_vlan(n, command, c);
    case 3:
        return control_announce(n, command, c);
    case 4:
        return control_mq(n, command, c);
    case 5:
        return control_offloads(n, command, c);
    default:
        return false;
    }
}

/* ---- the queue ---- */

static coroutine_fn RUNS_IN_LOOP void control_command(VirtioNet *n, unsigned queue,
                                                      VirtQueueElement *e)
{
    VirtioDevice *vdev = &n->base.vdev;
    ControlCommand c = {.e = e};
    uint8_t head[2];
    if (!control_take(&c, head, sizeof(head)) || e->in_len < 1) {
        virtio_fail_request(vdev, queue, e, "not a control command");
        return;
    }
    SP("virtio_net.control", n);
    bool ok = control_execute(n, head[0], head[1], &c);
    uint8_t ack = ok ? VIRTIO_NET_OK : VIRTIO_NET_ERR;
    trace_virtio_net_control(device_label(vdev->dev), head[0], head[1], ok);
    if (ok && head[0] <= 2) {
        net_client_filter_changed(&n->client);
    }
    iov_copy_from_buf(e->in, e->in_num, 0, &ack, 1);
    virtio_complete(vdev, queue, e, 1);
}

static void control_run(void *opaque)
{
    VirtioNet *n = opaque;
    VirtioDevice *vdev = &n->base.vdev;
    enter_coroutine();
    enter_loop(vdev->home);
    VirtQueueElement *e = n->control_first;
    unsigned budget = VIRTIO_NET_CONTROL_BUDGET;
    do {
        control_command(n, n->control_queue, e);
        if (--budget == 0) {
            budget = VIRTIO_NET_CONTROL_BUDGET;
            co_yield_turn();
        }
    } while ((e = virtio_pop(vdev, n->control_queue)));
    n->control_running = false;
    virtio_look(vdev,
                n->control_queue); /* it may have ended at the limit of one call of handle_queue */
    co_queue_wake_all(&n->control_ended);
}

void virtio_net_control_serve(VirtioNet *n, unsigned queue)
{
    if (n->control_running) {
        return; /* it takes what has come */
    }
    n->control_queue = queue;
    n->control_first = virtio_pop(&n->base.vdev, queue);
    if (n->control_first != NULL) {
        n->control_running = true;
        co_start_now(n->base.vdev.home, control_run, n);
    }
}

void virtio_net_control_co_settle(VirtioNet *n)
{
    while (n->control_running) {
        co_queue_wait(&n->control_ended, "a control command");
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/net/net_vhost_user.h"

#include <errno.h>
#include <stdatomic.h>
#include "hw/chardev/chardev_set.h"
#include "hw/vhost/vhost_user.h"

/* virtio 1.2 §5.1.3: what the process implements. The rest of virtio-net is the NIC's. */
#define NET_F_CSUM 0
#define NET_F_GUEST_CSUM 1
#define NET_F_CTRL_GUEST_OFFLOADS 2
#define NET_F_MRG_RXBUF 15
static const struct {
    unsigned host, guest; /* feature bits */
    uint32_t offload;
} offloads[] = {
    {NET_F_CSUM, NET_F_GUEST_CSUM, NET_OFFLOAD_CSUM},
    {11, 7, NET_OFFLOAD_TSO4},
    {12, 8, NET_OFFLOAD_TSO6},
    {13, 9, NET_OFFLOAD_ECN},
    {14, 10, NET_OFFLOAD_UFO},
    {56, 54, NET_OFFLOAD_USO4},
    {56, 55, NET_OFFLOAD_USO6},
};

typedef struct NetVhostUser {
    NetBackend base;
    /* config */
    char *chardev_id;
    uint32_t pairs;
    bool force; /* accepted: there is nothing to fall back to */
    /* runtime, main */
    Chardev *chardev;
    VhostUser user;
    AioBh pairs_bh;
    _Atomic unsigned pairs_wanted; /* the latest configuration's; the home writes it */
} NetVhostUser;

static NetVhostUser *net_vhost_user_from(NetBackend *b)
{
    return (NetVhostUser *)(void *)b;
}

/* ---- the link ---- */

static void net_vhost_user_presence_changed(void *opaque)
{
    NetVhostUser *v = opaque;
    enter_main();
    net_backend_set_carrier(&v->base, v->user.dev.usable);
}

static const VhostUserEvents net_vhost_user_events = {.presence_changed =
                                                          net_vhost_user_presence_changed};

/* ---- pairs in use ---- */

static void net_vhost_user_use_pairs(void *opaque)
{
    NetVhostUser *v = opaque;
    enter_main();
    vhost_user_set_enabled(&v->user, 2 * atomic_load(&v->pairs_wanted));
}

/* The driver's choice. Its home does not wait until the process knows it. */
static bool net_vhost_user_configure(NetBackend *b, const NetConfig *config)
{
    NetVhostUser *v = net_vhost_user_from(b);
    atomic_store(&v->pairs_wanted, config->queues);
    aio_bh_schedule(&v->pairs_bh);
    return true;
}

/* ---- life cycle ---- */

static uint64_t net_vhost_user_features(void)
{
    uint64_t bits = (1ull << NET_F_MRG_RXBUF) | (1ull << NET_F_CTRL_GUEST_OFFLOADS);
    for (size_t i = 0; i < G_N_ELEMENTS(offloads); i++) {
        bits |= (1ull << offloads[i].host) | (1ull << offloads[i].guest);
    }
    return bits;
}

static RUNS_IN_MAIN void net_vhost_user_note_offloads(NetVhostUser *v)
{
    uint64_t has = v->user.dev.features;
    for (size_t i = 0; i < G_N_ELEMENTS(offloads); i++) {
        v->base.can_send |= (has >> offloads[i].host & 1) != 0 ? offloads[i].offload : 0;
        v->base.can_receive |= (has >> offloads[i].guest & 1) != 0 ? offloads[i].offload : 0;
    }
}

static bool net_vhost_user_co_open(NetBackend *b, GError **error)
{
    NetVhostUser *v = net_vhost_user_from(b);
    g_autofree char *user = g_strdup_printf("netdev %s", b->id);
    VhostUserNeeds needs = {.vrings = 2 * v->pairs, .vrings_per_unit = 2, .in_order = true};
    enter_main();
    enter_coroutine();
    aio_bh_init(&v->pairs_bh, b->main_ctx, net_vhost_user_use_pairs, v);
    v->chardev = chardev_claim(v->chardev_id, user, error);
    if (v->chardev == NULL || !vhost_user_co_open(&v->user, &needs, v->chardev, b->main_ctx, NULL,
                                                  b->id, &net_vhost_user_events, v, error)) {
        return false;
    }
    net_vhost_user_note_offloads(v);
    b->queues = v->pairs;
    b->vhost_only = true;
    b->info = g_strdup_printf("chardev=%s", v->chardev_id);
    return true;
}

static void net_vhost_user_co_close(NetBackend *b)
{
    NetVhostUser *v = net_vhost_user_from(b);
    enter_main();
    enter_coroutine();
    aio_bh_cancel(&v->pairs_bh);
    vhost_user_co_close(&v->user);
    chardev_release(v->chardev);
    v->chardev = NULL;
}

static unsigned net_vhost_user_parts(NetBackend *b, NetVhostPart parts[NET_MAX_QUEUES])
{
    NetVhostUser *v = net_vhost_user_from(b);
    enter_main();
    parts[0] = (NetVhostPart){.dev = &v->user.dev,
                              .first_queue = 0,
                              .count = 2 * v->pairs,
                              .features = net_vhost_user_features()};
    return 1;
}

/* Nothing passes through the NIC's home. */
static void net_vhost_user_watch(NetBackend *b, unsigned queue, bool on)
{
}

static ssize_t net_vhost_user_receive(NetBackend *b, unsigned queue, const struct iovec *iov,
                                      unsigned count)
{
    return -EAGAIN;
}

static ssize_t net_vhost_user_send(NetBackend *b, unsigned queue, const struct iovec *iov,
                                   unsigned count)
{
    return -ENETDOWN;
}

static const OptSpec net_vhost_user_options[] = {
    OPT_SPEC(NetVhostUser, "chardev", OPT_STRING, chardev_id, .required = true,
             .help = "socket chardev of the process that serves the queues"),
    OPT_SPEC(NetVhostUser, "queues", OPT_U32, pairs, .def = "1", .min = 1, .max = NET_MAX_QUEUES,
             .help = "pairs of queues"),
    OPT_SPEC(NetVhostUser, "vhostforce", OPT_BOOL, force, .def = "off",
             .help = "accepted: the queues are never served by skiff"),
    {0},
};

const NetType net_vhost_user_type = {
    .name = "vhost-user",
    .description = "another process serves the NIC's queues",
    .instance_size = sizeof(NetVhostUser),
    .options = net_vhost_user_options,
    .co_open = net_vhost_user_co_open,
    .co_close = net_vhost_user_co_close,
    .co_configure = net_vhost_user_configure,
    .watch = net_vhost_user_watch,
    .receive = net_vhost_user_receive,
    .send = net_vhost_user_send,
    .vhost_parts = net_vhost_user_parts,
};

/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/virtio/virtio_net_vhost.h"

#include "hw/virtio/virtio_net.h"

/* ---- which parts run ---- */

/* The pairs that a part begins with, and so the parts that @pairs need. */
static RUNS_IN_MAIN unsigned net_vhost_parts_of(const VirtioVhost *v, unsigned pairs)
{
    unsigned parts = 0;
    while (parts < v->num_parts && v->parts[parts].first_queue < 2 * pairs) {
        parts++;
    }
    return parts;
}

static RUNS_IN_MAIN void net_vhost_update(VirtioNet *n)
{
    bool moves = !n->vhost.detached && atomic_load(&n->client.link) == 0;
    virtio_vhost_use(&n->vhost.vhost,
                     moves ? net_vhost_parts_of(&n->vhost.vhost, n->vhost.pairs) : 0);
}

/* Whether the home loop has the queues, to drop their frames. */
static RUNS_IN_MAIN bool net_vhost_drops(const VirtioNet *n)
{
    bool down =
        n->vhost.awaited ? net_client_is_set_down(&n->client) : atomic_load(&n->client.link) != 0;
    return n->vhost.detached || down;
}

void virtio_net_vhost_link_changed(VirtioNet *n)
{
    if (n->vhost.active) {
        net_vhost_update(n);
        bql_lock();
        virtio_use_back_end(&n->base.vdev, !net_vhost_drops(n));
        bql_unlock();
    }
}

/* ---- hooks of the start ---- */

typedef struct NetVhostConfigure {
    VirtioNet *n;
    bool ok;
} NetVhostConfigure;

static void net_vhost_configure_at_home(void *opaque)
{
    NetVhostConfigure *c = opaque;
    enter_coroutine();
    enter_loop(c->n->base.vdev.home);
    virtio_net_configure(c->n);
    c->ok = net_client_co_await_configured(&c->n->client);
}

/* Queues of the tap device are attached and its offloads set before vhost reads from it: nobody drops the
 * frames that the driver does not take. The home loop has no queue yet, so `state` is not in use. */
static bool net_vhost_co_starting(VirtioVhost *v, GError **error)
{
    VirtioNet *n = v->opaque;
    enter_main();
    enter_coroutine();
    if (n->vhost.detached) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NODEV,
                    "the netdev of vhost has been removed");
        return false;
    }
    if (v->phase == VIRTIO_VHOST_STARTING) { /* else the home loop has the control queue */
        NetVhostConfigure c = {.n = n};
        n->vhost.pairs = n->state.pairs;
        co_call_in(n->base.vdev.home, net_vhost_configure_at_home, &c);
        if (!c.ok) {
            g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED,
                        "the netdev of vhost cannot be configured");
            return false;
        }
    }
    net_vhost_update(n);
    return true;
}

static const VirtioVhostHooks net_vhost_hooks = {.co_starting = net_vhost_co_starting};

/* ---- a control command ---- */

typedef struct NetVhostUse {
    VirtioNet *n;
    unsigned pairs;
} NetVhostUse;

static void net_vhost_use_in_main(void *opaque)
{
    const NetVhostUse *use = opaque;
    enter_main();
    enter_coroutine();
    use->n->vhost.pairs = use->pairs;
    net_vhost_update(use->n);
    virtio_vhost_co_settle(&use->n->vhost.vhost);
}

void virtio_net_vhost_co_use_pairs(VirtioNet *n, unsigned pairs)
{
    if (n->vhost.active && !n->has_data_queues) {
        NetVhostUse use = {.n = n, .pairs = pairs};
        co_call_in(n->base.pci.base.env->main_ctx, net_vhost_use_in_main, &use);
    }
}

/* ---- features ---- */

void virtio_net_vhost_negotiated(VirtioNet *n)
{
    VirtioDevice *vdev = &n->base.vdev;
    if (n->vhost.active) {
        unsigned pairs = virtio_has_feature(vdev, VIRTIO_NET_F_MQ) ? n->pairs : 1;
        bool control = virtio_has_feature(vdev, VIRTIO_NET_F_CTRL_VQ);
        vdev->home_queues = control ? 1ull << (2 * pairs) : 0;
    }
}

static RUNS_IN_MAIN void net_vhost_offer(VirtioNet *n, const NetVhostPart *part)
{
    n->wanted = vhost_offer(part->dev, n->wanted, part->features);
    n->base.event_idx &= (part->dev->features & VIRTIO_F_EVENT_IDX) != 0;
    n->base.indirect_desc &= (part->dev->features & VIRTIO_F_INDIRECT_DESC) != 0;
}

/* ---- life cycle ---- */

bool virtio_net_vhost_realize(VirtioNet *n, GError **error)
{
    NetBackend *b = n->client.backend;
    NetVhostPart parts[NET_MAX_QUEUES];
    unsigned count = b != NULL && b->type->vhost_parts != NULL ? b->type->vhost_parts(b, parts) : 0;
    VirtioVhost *v = &n->vhost.vhost;
    if (count == 0) {
        return true;
    }
    if (!virtio_vhost_init(v, &n->base.vdev, n->base.pci.base.env, error)) {
        return false;
    }
    for (unsigned i = 0; i < count; i++) {
        virtio_vhost_add(v, parts[i].dev, parts[i].first_queue, parts[i].count);
        net_vhost_offer(n, &parts[i]);
    }
    v->hooks = &net_vhost_hooks;
    v->opaque = n;
    n->vhost.active = true;
    n->vhost.pairs = 1;
    n->vhost.awaited = b->vhost_only;
    n->base.vdev.back_end_off = net_vhost_drops(n);
    n->base.vdev.back_end = b->vhost_only ? &virtio_vhost_ops : &virtio_vhost_fallback_ops;
    return true;
}

void virtio_net_vhost_co_unrealize(VirtioNet *n)
{
    if (n->vhost.active) {
        virtio_vhost_co_cleanup(&n->vhost.vhost);
        n->vhost.active = false;
    }
}

void virtio_net_vhost_co_detaching(VirtioNet *n)
{
    if (n->vhost.active) {
        n->vhost.detached = true;
        virtio_vhost_co_drop(&n->vhost.vhost);
    }
}

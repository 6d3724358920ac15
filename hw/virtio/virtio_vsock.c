/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vhost-vsock-pci: sockets between host and guest (virtio 1.2 §5.10). The kernel serves the receive and the
 * transmit queue (hw/vhost/vhost_vsock.h). The event queue is the home loop's: after a load, one event
 * says that all connections are gone.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include "hw/vhost/vhost_vsock.h"
#include "hw/virtio/virtio_pci.h"
#include "hw/virtio/virtio_vhost.h"
#include "util/iov.h"

#define VIRTIO_VSOCK_DEVICE_ID 19
#define VIRTIO_VSOCK_F_SEQPACKET (1ull << 1)
#define VIRTIO_VSOCK_EVENT_TRANSPORT_RESET 0
#define PCI_CLASS_OTHERS 0x00ff00
#define VSOCK_QUEUES 3
#define VSOCK_QUEUE_SIZE 128
#define VSOCK_EVENT_QUEUE 2
/* 0 to 2 are the hypervisor, loopback and the host; the highest is "any". */
#define VSOCK_FIRST_CID 3
#define VSOCK_LAST_CID 0xfffffffe

enum { VSOCK_SEQPACKET_AUTO, VSOCK_SEQPACKET_ON, VSOCK_SEQPACKET_OFF };
static const char *const virtio_vsock_seqpacket_names[] = {"auto", "on", "off", NULL};

typedef struct VirtioVsockState {
    VirtioState virtio;
} VirtioVsockState;

typedef struct VirtioVsock {
    VirtioPci base;
    /* config */
    uint64_t guest_cid;
    uint32_t vhostfd; /* UINT32_MAX: none */
    int seqpacket;
    /* state */
    VirtioVsockState state;
    /* runtime */
    VhostKernel kernel;
    VirtioVhost vhost;
    _Atomic bool connections_gone; /* set after a load, cleared by the home loop */
} VirtioVsock;

static VirtioVsock *virtio_vsock_from(VirtioDevice *vdev)
{
    return (VirtioVsock *)(void *)((uint8_t *)vdev - offsetof(VirtioVsock, base.vdev));
}

static void virtio_vsock_get_config(VirtioDevice *vdev, uint8_t *config)
{
    uint64_t cid = GUINT64_TO_LE(virtio_vsock_from(vdev)->guest_cid);
    memcpy(config, &cid, sizeof(cid));
}

/* The event queue. Its buffers stay in the ring until there is an event. */
static void virtio_vsock_handle_queue(VirtioDevice *vdev, unsigned index)
{
    VirtioVsock *s = virtio_vsock_from(vdev);
    uint32_t event = GUINT32_TO_LE(VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
    VirtQueueElement *e;
    enter_loop(vdev->home);
    if (index != VSOCK_EVENT_QUEUE || !s->connections_gone || !(e = virtio_pop(vdev, index))) {
        return;
    }
    if (e->in_len < sizeof(event)) {
        virtio_fail_request(vdev, index, e, "no room for an event");
        return;
    }
    s->connections_gone = false;
    iov_copy_from_buf(e->in, e->in_num, 0, &event, sizeof(event));
    virtio_complete(vdev, index, e, sizeof(event));
}

static const VirtioOps virtio_vsock_ops = {
    .device_id = VIRTIO_VSOCK_DEVICE_ID,
    .get_config = virtio_vsock_get_config,
    .handle_queue = virtio_vsock_handle_queue,
};

/* The descriptor vhostfd= becomes skiff's. -1: none was passed. */
static bool virtio_vsock_take_fd(const VirtioVsock *s, int *fd, GError **error)
{
    *fd = -1;
    if (s->vhostfd == UINT32_MAX) {
        return true;
    }
    if (s->vhostfd > INT_MAX || fcntl((int)s->vhostfd, F_SETFD, FD_CLOEXEC) != 0) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "vhostfd=%u: skiff has inherited no such descriptor", s->vhostfd);
        return false;
    }
    *fd = (int)s->vhostfd;
    return true;
}

static coroutine_fn RUNS_IN_MAIN bool virtio_vsock_co_open(VirtioVsock *s, const DeviceEnv *env,
                                                           GError **error)
{
    int fd;
    if (s->guest_cid < VSOCK_FIRST_CID || s->guest_cid > VSOCK_LAST_CID) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "guest-cid=%" G_GUINT64_FORMAT ": the address of a guest is %u to %u",
                    s->guest_cid, VSOCK_FIRST_CID, VSOCK_LAST_CID);
        return false;
    }
    return virtio_vsock_take_fd(s, &fd, error) &&
           vhost_vsock_co_open(&s->kernel, fd, s->guest_cid, env->main_ctx, env->ram, "vhost-vsock",
                               error);
}

/* Ring features and seqpacket are what the kernel offers. */
static bool virtio_vsock_offer(VirtioVsock *s, GError **error)
{
    uint64_t has = s->kernel.dev.features;
    if (s->seqpacket == VSOCK_SEQPACKET_ON && !(has & VIRTIO_VSOCK_F_SEQPACKET)) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "seqpacket=on: the host's kernel does not have it; use seqpacket=auto");
        return false;
    }
    s->base.vdev.features =
        s->seqpacket == VSOCK_SEQPACKET_OFF ? 0 : has & VIRTIO_VSOCK_F_SEQPACKET;
    s->base.event_idx &= (has & VIRTIO_F_EVENT_IDX) != 0;
    s->base.indirect_desc &= (has & VIRTIO_F_INDIRECT_DESC) != 0;
    return true;
}

static bool virtio_vsock_realize(Device *dev, GError **error)
{
    VirtioVsock *s = (VirtioVsock *)(void *)dev;
    VirtioDevice *vdev = &s->base.vdev;
    enter_main();
    enter_coroutine();
    vdev->dev = dev;
    if (!virtio_vsock_co_open(s, dev->env, error)) {
        return false;
    }
    if (!virtio_vhost_init(&s->vhost, vdev, dev->env, error)) {
        vhost_kernel_co_close(&s->kernel);
        return false;
    }
    virtio_vhost_add(&s->vhost, &s->kernel.dev, 0, VHOST_VSOCK_VRINGS);
    vdev->home = dev->env->default_iothread;
    vdev->ops = &virtio_vsock_ops;
    vdev->state = &s->state.virtio;
    vdev->num_queues = VSOCK_QUEUES;
    vdev->queue_size = VSOCK_QUEUE_SIZE;
    vdev->config_size = sizeof(uint64_t);
    vdev->back_end = &virtio_vhost_ops;
    vdev->home_queues = 1u << VSOCK_EVENT_QUEUE;
    s->base.class_code = PCI_CLASS_OTHERS;
    if (virtio_vsock_offer(s, error) && virtio_pci_realize(&s->base, error)) {
        return true;
    }
    virtio_vhost_co_cleanup(&s->vhost);
    vhost_kernel_co_close(&s->kernel);
    return false;
}

static void virtio_vsock_unrealize(Device *dev)
{
    VirtioVsock *s = (VirtioVsock *)(void *)dev;
    enter_main();
    enter_coroutine();
    virtio_pci_unrealize(&s->base);
    virtio_vhost_co_cleanup(&s->vhost);
    vhost_kernel_co_close(&s->kernel);
}

static bool virtio_vsock_post_load(Device *dev, GError **error)
{
    VirtioVsock *s = (VirtioVsock *)(void *)dev;
    assert_bql();
    if (!virtio_pci_post_load(dev, error)) {
        return false;
    }
    s->connections_gone = true;
    return true;
}

static const StateField virtio_vsock_fields[] = {
    {.name = "virtio",
     .type = STATE_STRUCT,
     .offset = offsetof(VirtioVsockState, virtio),
     .size = sizeof(VirtioState),
     .count = 1,
     .sub = &virtio_state_desc},
    {0},
};

static const StateDesc virtio_vsock_state_desc =
    STATE_DESC("virtio-vsock", 1, VirtioVsock, state, VirtioVsockState, virtio_vsock_fields);

static const OptSpec virtio_vsock_properties[] = {
    VIRTIO_PCI_PROPERTIES(VirtioVsock, base, "128"),
    OPT_SPEC(VirtioVsock, "guest-cid", OPT_U64, guest_cid, .max = UINT64_MAX,
             .help = "the guest's address, unique on the host: 3 or more; required"),
    OPT_SPEC(VirtioVsock, "vhostfd", OPT_U32, vhostfd, .def = "4294967295", .max = UINT32_MAX,
             .help = "inherited descriptor of /dev/vhost-vsock; default: skiff opens the file"),
    OPT_SPEC(VirtioVsock, "seqpacket", OPT_ENUM, seqpacket, .def = "auto",
             .names = virtio_vsock_seqpacket_names,
             .help = "offer SOCK_SEQPACKET; auto: if the host can"),
    {0},
};

const DeviceType virtio_vsock_pci_type = {
    .name = "vhost-vsock-pci",
    .description = "sockets between host and guest, by the host's kernel",
    .instance_size = sizeof(VirtioVsock),
    .properties = virtio_vsock_properties,
    .base_state = &pci_device_state_desc,
    .state = &virtio_vsock_state_desc,
    .user_creatable = true,
    .bus = "pci",
    .realize = virtio_vsock_realize,
    .reset = virtio_pci_reset,
    .unrealize = virtio_vsock_unrealize,
    .co_start = virtio_pci_co_start,
    .co_stop = virtio_pci_co_stop,
    .pre_save = virtio_pci_pre_save,
    .check_state = virtio_pci_check_state,
    .post_load = virtio_vsock_post_load,
};

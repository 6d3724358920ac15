/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-rng-pci: random bytes (virtio 1.2 §5.4).
 *
 * The iothread fills buffers from getrandom(2). Each buffer gets a bounded number of bytes, so that
 * a guest cannot block the loop; the driver then adds another. With max-bytes and period, the bytes
 * of a period are counted; further buffers stay in the ring until the period ends.
 */
#include <assert.h>
#include <errno.h>
#include <sys/random.h>
#include "hw/virtio/virtio_pci.h"

#define VIRTIO_RNG_DEVICE_ID 4
#define PCI_CLASS_OTHERS 0x00ff00
#define VIRTIO_RNG_QUEUE_SIZE 8
#define VIRTIO_RNG_PIECE 4096

typedef struct VirtioRngState {
    VirtioState virtio;
} VirtioRngState;

typedef struct VirtioRng {
    VirtioPci base;
    /* config */
    char *iothread;
    char *rng; /* id of an object; NULL: the host kernel's generator, which is also behind every
                * object */
    uint64_t max_bytes;
    uint32_t period_ms;
    /* state */
    VirtioRngState state;
    /* runtime, home loop. Reset, stop and start do not change the quota. */
    uint64_t left;         /* bytes of this period */
    int64_t period_end_ns; /* of the loop's clock; valid while left < max_bytes */
    AioTimer period;
} VirtioRng;

static VirtioRng *rng_from(VirtioDevice *vdev)
{
    return (VirtioRng *)(void *)((uint8_t *)vdev - offsetof(VirtioRng, base.vdev));
}

/* Fills up to @bytes of the device-writable part. */
static size_t virtio_rng_fill(const VirtQueueElement *e, size_t bytes)
{
    size_t filled = 0;
    for (unsigned i = 0; i < e->in_num && filled < bytes; i++) {
        size_t n = MIN(e->in[i].iov_len, bytes - filled);
        ssize_t got = getrandom(e->in[i].iov_base, n, GRND_NONBLOCK);
        if (got < 0) {
            break; /* the host has no randomness yet: the driver adds the buffer again */
        }
        filled += (size_t)got;
        if ((size_t)got < n) {
            break;
        }
    }
    return filled;
}

static void virtio_rng_count(VirtioRng *r, size_t bytes)
{
    if (r->max_bytes == UINT64_MAX || !bytes) {
        return;
    }
    if (r->left == r->max_bytes) { /* the period begins */
        r->period_end_ns = aio_now_ns(r->base.vdev.home) + r->period_ms * 1000000ll;
        aio_timer_arm(&r->period, r->period_end_ns);
    }
    r->left -= bytes;
}

static void virtio_rng_handle_queue(VirtioDevice *vdev, unsigned index)
{
    VirtioRng *r = rng_from(vdev);
    VirtQueueElement *e;
    enter_loop(vdev->home);
    while (r->left && (e = virtio_pop(vdev, index))) {
        if (!e->in_len) {
            virtio_fail_request(vdev, index, e, "nothing device-writable to fill");
            return;
        }
        size_t filled = virtio_rng_fill(e, MIN(r->left, VIRTIO_RNG_PIECE));
        virtio_rng_count(r, filled);
        virtio_complete(vdev, index, e, (uint32_t)filled);
    }
}

static void virtio_rng_period_over(void *opaque)
{
    VirtioRng *r = opaque;
    enter_loop(r->base.vdev.home);
    r->left = r->max_bytes;
    virtio_look(&r->base.vdev, 0);
}

static void virtio_rng_started(VirtioDevice *vdev)
{
    VirtioRng *r = rng_from(vdev);
    if (r->left == r->max_bytes) {
        return;
    }
    if (aio_now_ns(vdev->home) >= r->period_end_ns) {
        r->left = r->max_bytes;
    } else {
        aio_timer_arm(&r->period, r->period_end_ns);
    }
}

static void virtio_rng_stopping(VirtioDevice *vdev)
{
    aio_timer_disarm(&rng_from(vdev)->period);
}

static const VirtioOps virtio_rng_ops = {
    .device_id = VIRTIO_RNG_DEVICE_ID,
    .started = virtio_rng_started,
    .stopping = virtio_rng_stopping,
    .handle_queue = virtio_rng_handle_queue,
};

static bool virtio_rng_realize(Device *dev, GError **error)
{
    VirtioRng *r = (VirtioRng *)(void *)dev;
    enter_main();
    VirtioDevice *vdev = &r->base.vdev;
    vdev->home = dev->env->default_iothread;
    if (r->iothread) {
        vdev->home =
            dev->env->find_iothread ? dev->env->find_iothread(dev->env->opaque, r->iothread) : NULL;
        if (!vdev->home) {
            g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                        "iothread=%s: there is no -object iothread,id=%s", r->iothread,
                        r->iothread);
            return false;
        }
    }
    if (r->rng && !(dev->env->has_rng && dev->env->has_rng(dev->env->opaque, r->rng))) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "rng=%s: there is no -object rng-random,id=%s", r->rng, r->rng);
        return false;
    }
    vdev->ops = &virtio_rng_ops;
    vdev->state = &r->state.virtio;
    vdev->num_queues = 1;
    vdev->queue_size = VIRTIO_RNG_QUEUE_SIZE;
    vdev->features = 0;
    r->left = r->max_bytes;
    r->base.class_code = PCI_CLASS_OTHERS;
    aio_timer_init(&r->period, vdev->home, virtio_rng_period_over, r);
    return virtio_pci_realize(&r->base, error);
}

static void virtio_rng_unrealize(Device *dev)
{
    enter_main();
    virtio_pci_unrealize(&((VirtioRng *)(void *)dev)->base);
}

static const StateField virtio_rng_fields[] = {
    {.name = "virtio",
     .type = STATE_STRUCT,
     .offset = offsetof(VirtioRngState, virtio),
     .size = sizeof(VirtioState),
     .count = 1,
     .sub = &virtio_state_desc},
    {0},
};

static const StateDesc virtio_rng_state_desc =
    STATE_DESC("virtio-rng", 1, VirtioRng, state, VirtioRngState, virtio_rng_fields);

static const OptSpec virtio_rng_properties[] = {
    VIRTIO_PCI_PROPERTIES(VirtioRng, base, "128"),
    OPT_SPEC(VirtioRng, "iothread", OPT_STRING, iothread, .help = "iothread that serves the queue"),
    OPT_SPEC(VirtioRng, "rng", OPT_STRING, rng,
             .help = "id of an rng-random or rng-builtin object"),
    OPT_SPEC(VirtioRng, "max-bytes", OPT_U64, max_bytes, .def = "18446744073709551615", .min = 1,
             .max = UINT64_MAX, .help = "maximum number of bytes in one period"),
    OPT_SPEC(VirtioRng, "period", OPT_U32, period_ms, .def = "65536", .min = 1, .max = UINT32_MAX,
             .help = "milliseconds"),
    {0},
};

const DeviceType virtio_rng_pci_type = {
    .name = "virtio-rng-pci",
    .description = "virtio source of random bytes",
    .instance_size = sizeof(VirtioRng),
    .properties = virtio_rng_properties,
    .base_state = &pci_device_state_desc,
    .state = &virtio_rng_state_desc,
    .user_creatable = true,
    .bus = "pci",
    .realize = virtio_rng_realize,
    .reset = virtio_pci_reset,
    .unrealize = virtio_rng_unrealize,
    .co_start = virtio_pci_co_start,
    .co_stop = virtio_pci_co_stop,
    .pre_save = virtio_pci_pre_save,
    .check_state = virtio_pci_check_state,
    .post_load = virtio_pci_post_load,
};

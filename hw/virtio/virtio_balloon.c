/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-balloon-pci: the device, its config and its tables. */
#include <string.h>
#include "hw/virtio/trace_events.h"
#include "hw/virtio/virtio_balloon.h"

#define VIRTIO_BALLOON_DEVICE_ID 5
#define VIRTIO_BALLOON_QUEUE_SIZE 128
#define PCI_CLASS_OTHERS 0x00ff00

/* §5.5.4, little-endian */
typedef struct VirtioBalloonConfig {
    uint32_t num_pages;
    uint32_t actual;
    uint32_t free_page_hint_cmd_id;
    uint32_t poison_val;
} VirtioBalloonConfig;

static VirtioBalloon *balloon_from_device(Device *dev)
{
    return (VirtioBalloon *)(void *)dev;
}

static uint64_t balloon_ram_bytes(const VirtioBalloon *b)
{
    const GuestRam *ram = b->base.pci.base.env->ram;
    return guest_ram_below_4g(ram) + guest_ram_above_4g(ram);
}

/* ---- size ---- */

void virtio_balloon_set_target(Device *dev, uint64_t bytes)
{
    VirtioBalloon *b = balloon_from_device(dev);
    uint64_t all = balloon_ram_bytes(b);
    uint64_t pages = (all - MIN(all, bytes)) >> VIRTIO_BALLOON_PFN_SHIFT;
    bql_lock();
    b->state.num_pages = (uint32_t)MIN(pages, UINT32_MAX);
    trace_virtio_balloon_size(device_label(dev), b->state.num_pages, b->state.actual);
    virtio_config_changed(&b->base.vdev);
    bql_unlock();
}

uint64_t virtio_balloon_actual(Device *dev)
{
    const VirtioBalloon *b = balloon_from_device(dev);
    uint64_t all = balloon_ram_bytes(b);
    bql_lock();
    uint64_t given = (uint64_t)b->state.actual << VIRTIO_BALLOON_PFN_SHIFT;
    bql_unlock();
    return all - MIN(all, given);
}

static BQL_HELD void balloon_set_actual(VirtioBalloon *b, uint32_t actual)
{
    if (actual != b->state.actual) {
        b->state.actual = actual;
        trace_virtio_balloon_size(device_label(&b->base.pci.base), b->state.num_pages, actual);
        aio_bh_schedule(&b->changed_bh);
    }
}

static void balloon_changed(void *opaque)
{
    VirtioBalloon *b = opaque;
    const DeviceEnv *env = b->base.pci.base.env;
    enter_main();
    if (env->balloon_changed != NULL) {
        env->balloon_changed(env->opaque, virtio_balloon_actual(&b->base.pci.base));
    }
}

/* ---- registers ---- */

static VirtioBalloonConfig balloon_config(const VirtioBalloon *b)
{
    return (VirtioBalloonConfig){.num_pages = b->state.num_pages,
                                 .actual = b->state.actual,
                                 .poison_val = b->state.poison_val};
}

static void balloon_get_config(VirtioDevice *vdev, uint8_t *config)
{
    assert_bql();
    VirtioBalloonConfig c = balloon_config(virtio_balloon_from(vdev));
    memcpy(config, &c, vdev->config_size);
}

static void balloon_set_config(VirtioDevice *vdev, unsigned offset, unsigned size, uint32_t value)
{
    assert_bql();
    VirtioBalloon *b = virtio_balloon_from(vdev);
    VirtioBalloonConfig c = balloon_config(b);
    memcpy((uint8_t *)&c + offset, &value, size);
    balloon_set_actual(b, c.actual);
    if (virtio_has_feature(vdev, VIRTIO_BALLOON_F_PAGE_POISON)) {
        __atomic_store_n(&b->state.poison_val, c.poison_val, __ATOMIC_RELAXED);
    }
}

/* After a reset no page is in the balloon, and the wish stays. */
static void balloon_reset(VirtioDevice *vdev)
{
    assert_bql();
    VirtioBalloon *b = virtio_balloon_from(vdev);
    balloon_set_actual(b, 0);
    __atomic_store_n(&b->state.poison_val, 0, __ATOMIC_RELAXED);
}

/* ---- queues ---- */

/* The pages come back when the guest touches them. */
static RUNS_IN_LOOP void balloon_deflate(VirtioDevice *vdev)
{
    VirtQueueElement *e;
    while ((e = virtio_pop(vdev, VIRTIO_BALLOON_DEFLATE)) != NULL) {
        virtio_complete(vdev, VIRTIO_BALLOON_DEFLATE, e, 0);
    }
}

static void balloon_handle_queue(VirtioDevice *vdev, unsigned index)
{
    VirtioBalloon *b = virtio_balloon_from(vdev);
    enter_loop(vdev->home);
    switch (index) {
    case VIRTIO_BALLOON_INFLATE:
        virtio_balloon_serve(&b->inflate);
        break;
    case VIRTIO_BALLOON_DEFLATE:
        balloon_deflate(vdev);
        break;
    case VIRTIO_BALLOON_STATS:
        virtio_balloon_stats_receive(b);
        break;
    default:
        virtio_balloon_serve(&b->reporting);
        break;
    }
}

static void balloon_stopping(VirtioDevice *vdev)
{
    enter_loop(vdev->home);
    virtio_balloon_stats_release(virtio_balloon_from(vdev));
}

static const VirtioOps balloon_ops = {
    .device_id = VIRTIO_BALLOON_DEVICE_ID,
    .get_config = balloon_get_config,
    .set_config = balloon_set_config,
    .reset = balloon_reset,
    .stopping = balloon_stopping,
    .handle_queue = balloon_handle_queue,
};

/* ---- life cycle ---- */

static RUNS_IN_MAIN bool balloon_check_options(VirtioBalloon *b, GError **error)
{
    const DeviceEnv *env = b->base.pci.base.env;
    b->base.vdev.home = env->default_iothread;
    if (b->free_page_hint) {
        g_set_error(
            error, OPT_ERROR, OPT_ERROR_VALUE,
            "skiff has no free page hints (free-page-hint=on), which are for migration; nearest "
            "is free-page-reporting=on");
        return false;
    }
    if (b->iothread != NULL) {
        b->base.vdev.home =
            env->find_iothread ? env->find_iothread(env->opaque, b->iothread) : NULL;
    }
    if (b->base.vdev.home == NULL) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "iothread=%s: there is no -object iothread,id=%s", b->iothread, b->iothread);
        return false;
    }
    return true;
}

static bool balloon_realize(Device *dev, GError **error)
{
    VirtioBalloon *b = balloon_from_device(dev);
    VirtioDevice *vdev = &b->base.vdev;
    enter_main();
    if (!balloon_check_options(b, error)) {
        return false;
    }
    vdev->ops = &balloon_ops;
    vdev->state = &b->state.virtio;
    vdev->num_queues =
        b->free_page_reporting ? VIRTIO_BALLOON_REPORTING + 1 : VIRTIO_BALLOON_STATS + 1;
    vdev->queue_size = VIRTIO_BALLOON_QUEUE_SIZE;
    vdev->config_size = b->page_poison ? sizeof(VirtioBalloonConfig)
                                       : offsetof(VirtioBalloonConfig, free_page_hint_cmd_id);
    vdev->features = VIRTIO_BALLOON_F_STATS_VQ |
                     (b->deflate_on_oom ? VIRTIO_BALLOON_F_DEFLATE_ON_OOM : 0) |
                     (b->page_poison ? VIRTIO_BALLOON_F_PAGE_POISON : 0) |
                     (b->free_page_reporting ? VIRTIO_BALLOON_F_PAGE_REPORTING : 0);
    b->base.class_code = PCI_CLASS_OTHERS;
    virtio_balloon_server_init(&b->inflate, b, VIRTIO_BALLOON_INFLATE);
    virtio_balloon_server_init(&b->reporting, b, VIRTIO_BALLOON_REPORTING);
    aio_bh_init(&b->changed_bh, dev->env->main_ctx, balloon_changed, b);
    virtio_balloon_stats_init(b);
    return virtio_pci_realize(&b->base, error);
}

static void balloon_unrealize(Device *dev)
{
    VirtioBalloon *b = balloon_from_device(dev);
    enter_main();
    enter_coroutine();
    virtio_balloon_stats_co_cleanup(b);
    virtio_pci_unrealize(&b->base);
    aio_bh_cancel(&b->changed_bh);
}

static const StateField balloon_fields[] = {
    {.name = "virtio",
     .type = STATE_STRUCT,
     .offset = offsetof(VirtioBalloonState, virtio),
     .size = sizeof(VirtioState),
     .count = 1,
     .sub = &virtio_state_desc},
    STATE_FIELD(VirtioBalloonState, STATE_U32, num_pages),
    STATE_FIELD(VirtioBalloonState, STATE_U32, actual),
    STATE_FIELD(VirtioBalloonState, STATE_U32, poison_val),
    STATE_ARRAY(VirtioBalloonState, STATE_PAD, pad),
    {0},
};

static const StateDesc balloon_state_desc =
    STATE_DESC("virtio-balloon", 1, VirtioBalloon, state, VirtioBalloonState, balloon_fields);

static const OptSpec balloon_properties[] = {
    VIRTIO_PCI_PROPERTIES(VirtioBalloon, base, "128"),
    OPT_SPEC(VirtioBalloon, "iothread", OPT_STRING, iothread,
             .help = "iothread that serves the queues"),
    OPT_SPEC(VirtioBalloon, "deflate-on-oom", OPT_BOOL, deflate_on_oom, .def = "off",
             .help = "the guest takes memory back before it kills a process"),
    OPT_SPEC(VirtioBalloon, "free-page-reporting", OPT_BOOL, free_page_reporting, .def = "off",
             .help = "the guest reports free pages, which the host gets back"),
    OPT_SPEC(VirtioBalloon, "page-poison", OPT_BOOL, page_poison, .def = "on",
             .help = "offer VIRTIO_BALLOON_F_PAGE_POISON"),
    OPT_SPEC(VirtioBalloon, "free-page-hint", OPT_BOOL, free_page_hint, .def = "off",
             .help = "always off: for migration only"),
    {0},
};

const DeviceType virtio_balloon_pci_type = {
    .name = "virtio-balloon-pci",
    .description = "virtio memory balloon",
    .instance_size = sizeof(VirtioBalloon),
    .properties = balloon_properties,
    .base_state = &pci_device_state_desc,
    .state = &balloon_state_desc,
    .user_creatable = true,
    .single = true,
    .bus = "pci",
    .realize = balloon_realize,
    .reset = virtio_pci_reset,
    .unrealize = balloon_unrealize,
    .co_start = virtio_pci_co_start,
    .co_stop = virtio_pci_co_stop,
    .pre_save = virtio_pci_pre_save,
    .check_state = virtio_pci_check_state,
    .post_load = virtio_pci_post_load,
};

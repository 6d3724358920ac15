/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vhost-user-blk-pci: a disk that another process serves (virtio 1.2 §5.2), such as
 * qemu-storage-daemon. The back end has the disk's configuration space; skiff shows a copy to the driver,
 * with the number of queues that the device has.
 *
 * Requests complete in any order, so a back end that is lost is replaced without the driver's notice only
 * if it keeps the list of those in flight (INFLIGHT_SHMFD); else the device needs a reset.
 */
#include <string.h>
#include "hw/virtio/vhost_user_device.h"
#include "hw/virtio/virtio_blk.h"

#define BLK_DEVICE_ID 2
#define PCI_CLASS_STORAGE_SCSI 0x010000
#define BLK_QUEUES_AUTO 0

/* Parts of struct virtio_blk_config, §5.2.4, that the device changes; it ends before the fields for zoned
 * disks. */
#define BLK_CONFIG_SIZE 60
#define BLK_CONFIG_WCE 32
#define BLK_CONFIG_NUM_QUEUES 34

#define VIRTIO_BLK_F_SIZE_MAX (1ull << 1)
#define VIRTIO_BLK_F_GEOMETRY (1ull << 4)
#define BLK_FEATURES                                                                               \
    (VIRTIO_BLK_F_SIZE_MAX | VIRTIO_BLK_F_SEG_MAX | VIRTIO_BLK_F_GEOMETRY | VIRTIO_BLK_F_RO |      \
     VIRTIO_BLK_F_BLK_SIZE | VIRTIO_BLK_F_FLUSH | VIRTIO_BLK_F_TOPOLOGY)

typedef struct VhostUserBlkState {
    VirtioState virtio;
} VhostUserBlkState;

typedef struct VhostUserBlk {
    VhostUserDevice user;
    /* config */
    uint16_t num_queues, queue_size;
    bool config_wce, discard, write_zeroes;
    /* state */
    VhostUserBlkState state;
    /* runtime, BQL */
    uint8_t config[BLK_CONFIG_SIZE]; /* as the driver sees it */
    uint8_t wce_wanted;              /* the driver's latest write */
    /* main */
    AioBh wce_bh;
    bool wce_writing; /* the coroutine exists */
    bool wce_again;   /* a write came meanwhile */
    CoQueue wce_done;
} VhostUserBlk;

static VhostUserBlk *blk_from(Device *dev)
{
    return (VhostUserBlk *)(void *)dev;
}

/* ---- configuration space ---- */

static void blk_get_config(VirtioDevice *vdev, uint8_t *config)
{
    memcpy(config, blk_from(vdev->dev)->config, BLK_CONFIG_SIZE);
}

/* Takes over what the back end says. */
static BQL_HELD void blk_take_config(VhostUserBlk *b)
{
    uint16_t queues = GUINT16_TO_LE(b->num_queues);
    memcpy(b->config, b->user.user.config, BLK_CONFIG_SIZE);
    memcpy(b->config + BLK_CONFIG_NUM_QUEUES, &queues, sizeof(queues));
}

static void blk_config_changed(void *opaque)
{
    VhostUserBlk *b = opaque;
    enter_main();
    bql_lock();
    if (b->user.base.pci.base.realized) {
        blk_take_config(b);
        virtio_config_changed(&b->user.base.vdev);
    }
    bql_unlock();
}

static const VhostUserEvents blk_events = {.config_changed = blk_config_changed};

/* The write cache is all that a driver may change. */
static void blk_set_config(VirtioDevice *vdev, unsigned offset, unsigned size, uint32_t value)
{
    VhostUserBlk *b = blk_from(vdev->dev);
    assert_bql();
    if (offset != BLK_CONFIG_WCE || size != 1 ||
        !virtio_has_feature(vdev, VIRTIO_BLK_F_CONFIG_WCE)) {
        return;
    }
    b->wce_wanted = (value & 1) != 0;
    b->config[BLK_CONFIG_WCE] = b->wce_wanted;
    aio_bh_schedule(&b->wce_bh);
}

static void blk_write_wce(void *opaque)
{
    VhostUserBlk *b = opaque;
    enter_main();
    enter_coroutine();
    do {
        g_autoptr(GError) error = NULL;
        b->wce_again = false;
        bql_lock();
        uint8_t wanted = b->wce_wanted;
        bql_unlock();
        if (!vhost_user_co_set_config(&b->user.user, BLK_CONFIG_WCE, &wanted, 1, &error)) {
            log_limited(&b->user.base.pci.base.log_limit, "%s: the write cache is unchanged: %s",
                        device_label(&b->user.base.pci.base), error->message);
        }
    } while (b->wce_again);
    b->wce_writing = false;
    co_queue_wake_all(&b->wce_done);
}

static void blk_begin_write_wce(void *opaque)
{
    VhostUserBlk *b = opaque;
    enter_main();
    b->wce_again = true;
    if (!b->wce_writing) {
        b->wce_writing = true;
        co_start(b->user.base.pci.base.env->main_ctx, blk_write_wce, b);
    }
}

/* ---- life cycle ---- */

static const VirtioOps blk_ops = {
    .device_id = BLK_DEVICE_ID,
    .get_config = blk_get_config,
    .set_config = blk_set_config,
    .reset = vhost_user_device_reset,
    .handle_queue = vhost_user_device_handle_queue,
};

static bool blk_check(const VhostUserBlk *b, GError **error)
{
    if ((b->queue_size & (b->queue_size - 1)) != 0) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "queue-size=%u is not a power of two from 4 to %d", b->queue_size,
                    VIRTQUEUE_MAX_SIZE);
        return false;
    }
    return true;
}

static RUNS_IN_MAIN void blk_choose_queues(VhostUserBlk *b)
{
    if (b->num_queues == BLK_QUEUES_AUTO) {
        unsigned most = MIN(b->user.user.dev.num_vrings, VIRTIO_MAX_QUEUES);
        b->num_queues = (uint16_t)CLAMP(b->user.base.pci.base.env->cpu_count, 1, most);
        b->user.user.needs.vrings = b->num_queues; /* of a later back end, too */
    }
}

static uint64_t blk_features(const VhostUserBlk *b)
{
    return BLK_FEATURES | (b->config_wce ? VIRTIO_BLK_F_CONFIG_WCE : 0) |
           (b->discard ? VIRTIO_BLK_F_DISCARD : 0) |
           (b->write_zeroes ? VIRTIO_BLK_F_WRITE_ZEROES : 0) |
           (b->num_queues > 1 ? VIRTIO_BLK_F_MQ : 0);
}

static bool blk_co_open(Device *dev, GError **error)
{
    VhostUserBlk *b = blk_from(dev);
    VhostUserNeeds needs = {
        .vrings = MAX(1, b->num_queues), .vrings_per_unit = 1, .config_size = BLK_CONFIG_SIZE};
    enter_main();
    enter_coroutine();
    return blk_check(b, error) && vhost_user_device_co_open(&b->user, &needs, &blk_events, error);
}

static void blk_co_close(Device *dev)
{
    enter_main();
    enter_coroutine();
    vhost_user_device_co_close(&blk_from(dev)->user);
}

static bool blk_realize(Device *dev, GError **error)
{
    VhostUserBlk *b = blk_from(dev);
    VirtioDevice *vdev = &b->user.base.vdev;
    enter_main();
    enter_coroutine();
    blk_choose_queues(b);
    bql_lock();
    blk_take_config(b);
    bql_unlock();
    aio_bh_init(&b->wce_bh, dev->env->main_ctx, blk_begin_write_wce, b);
    co_queue_init(&b->wce_done);
    vdev->ops = &blk_ops;
    vdev->state = &b->state.virtio;
    vdev->num_queues = b->num_queues;
    vdev->queue_size = b->queue_size;
    vdev->config_size = BLK_CONFIG_SIZE;
    b->user.base.class_code = PCI_CLASS_STORAGE_SCSI;
    return vhost_user_device_co_realize(&b->user, blk_features(b), error);
}

static void blk_unrealize(Device *dev)
{
    VhostUserBlk *b = blk_from(dev);
    enter_main();
    enter_coroutine();
    aio_bh_cancel(&b->wce_bh);
    while (b->wce_writing) {
        co_queue_wait(&b->wce_done, "the write cache of a vhost-user disk");
    }
    vhost_user_device_co_unrealize(&b->user);
}

static void blk_firmware_path(const Device *dev, GString *path)
{
    g_string_append(path, "/disk@0,0");
}

static const StateField blk_fields[] = {
    STATE_STRUCT_ONE(VhostUserBlkState, virtio, &virtio_state_desc),
    {0},
};

static const StateDesc blk_state_desc =
    STATE_DESC("vhost-user-blk", 1, VhostUserBlk, state, VhostUserBlkState, blk_fields);

static const OptSpec blk_properties[] = {
    VHOST_USER_DEVICE_PROPERTIES(VhostUserBlk, user),
    OPT_SPEC(VhostUserBlk, "num-queues", OPT_U16, num_queues, .max = VIRTIO_MAX_QUEUES,
             .help = "request queues; 0: one per processor, if the back end has as many"),
    OPT_SPEC(VhostUserBlk, "queue-size", OPT_U16, queue_size, .def = "128", .min = 4,
             .max = VIRTQUEUE_MAX_SIZE, .help = "entries of a queue, a power of two"),
    OPT_SPEC(VhostUserBlk, "config-wce", OPT_BOOL, config_wce, .def = "on",
             .help = "the guest may turn the write cache on and off"),
    OPT_SPEC(VhostUserBlk, "discard", OPT_BOOL, discard, .def = "on",
             .help = "offer discard, if the back end has it"),
    OPT_SPEC(VhostUserBlk, "write-zeroes", OPT_BOOL, write_zeroes, .def = "on",
             .help = "offer write-zeroes, if the back end has it"),
    {0},
};

const DeviceType vhost_user_blk_pci_type = {
    .name = "vhost-user-blk-pci",
    .description = "virtio disk that another process serves",
    .instance_size = sizeof(VhostUserBlk),
    .properties = blk_properties,
    .base_state = &pci_device_state_desc,
    .state = &blk_state_desc,
    .user_creatable = true,
    .shares_ram = true,
    .data_outside = true,
    .bus = "pci",
    .firmware_path = blk_firmware_path,
    .co_open = blk_co_open,
    .co_close = blk_co_close,
    .realize = blk_realize,
    .reset = virtio_pci_reset,
    .unrealize = blk_unrealize,
    .co_start = vhost_user_device_co_start,
    .co_stop = virtio_pci_co_stop,
    .pre_save = virtio_pci_pre_save,
    .can_save = vhost_user_device_can_save,
    .check_state = virtio_pci_check_state,
    .post_load = vhost_user_device_post_load,
};

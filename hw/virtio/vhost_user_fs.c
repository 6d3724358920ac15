/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vhost-user-fs-pci: a folder of the host (virtio 1.2 §5.11), which another process serves: virtiofsd.
 *
 * Queue 0 is for requests of high priority, the others for requests. The back end keeps the state of the
 * guest's session, so a new one cannot continue for one that was lost: the device needs a reset.
 */
#include <string.h>
#include "hw/virtio/vhost_user_device.h"

#define VIRTIO_FS_DEVICE_ID 26
#define PCI_CLASS_STORAGE_OTHER 0x018000
#define FS_TAG_BYTES 36

typedef struct VhostUserFsState {
    VirtioState virtio;
} VhostUserFsState;

typedef struct VhostUserFs {
    VhostUserDevice user;
    /* config */
    char *tag;
    uint16_t num_request_queues, queue_size;
    /* state */
    VhostUserFsState state;
} VhostUserFs;

/* struct virtio_fs_config, §5.11.4. */
typedef struct VirtioFsConfig {
    char tag[FS_TAG_BYTES]; /* padded with zeroes */
    uint32_t num_request_queues;
} VirtioFsConfig;

static VhostUserFs *fs_from(Device *dev)
{
    return (VhostUserFs *)(void *)dev;
}

static void fs_get_config(VirtioDevice *vdev, uint8_t *config)
{
    const VhostUserFs *fs = fs_from(vdev->dev);
    VirtioFsConfig c = {.num_request_queues = GUINT32_TO_LE(fs->num_request_queues)};
    memcpy(c.tag, fs->tag, strlen(fs->tag)); /* at most FS_TAG_BYTES */
    memcpy(config, &c, sizeof(c));
}

static const VirtioOps fs_ops = {
    .device_id = VIRTIO_FS_DEVICE_ID,
    .get_config = fs_get_config,
    .reset = vhost_user_device_reset,
    .handle_queue = vhost_user_device_handle_queue,
};

static bool fs_check(const VhostUserFs *fs, GError **error)
{
    size_t length = strlen(fs->tag);
    if (length == 0 || length > FS_TAG_BYTES) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "tag=%s: the name of the file system has 1 to %d bytes", fs->tag, FS_TAG_BYTES);
        return false;
    }
    if ((fs->queue_size & (fs->queue_size - 1)) != 0) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "queue-size=%u is not a power of two from 4 to %d", fs->queue_size,
                    VIRTQUEUE_MAX_SIZE);
        return false;
    }
    return true;
}

static bool fs_co_open(Device *dev, GError **error)
{
    VhostUserFs *fs = fs_from(dev);
    VhostUserNeeds needs = {
        .vrings = 1u + fs->num_request_queues, .vrings_per_unit = 1, .stateful = true};
    enter_main();
    enter_coroutine();
    return fs_check(fs, error) && vhost_user_device_co_open(&fs->user, &needs, NULL, error);
}

static void fs_co_close(Device *dev)
{
    enter_main();
    enter_coroutine();
    vhost_user_device_co_close(&fs_from(dev)->user);
}

static bool fs_realize(Device *dev, GError **error)
{
    VhostUserFs *fs = fs_from(dev);
    VirtioDevice *vdev = &fs->user.base.vdev;
    unsigned queues = 1u + fs->num_request_queues;
    enter_main();
    enter_coroutine();
    vdev->ops = &fs_ops;
    vdev->state = &fs->state.virtio;
    vdev->num_queues = queues;
    vdev->queue_size = fs->queue_size;
    vdev->config_size = sizeof(VirtioFsConfig);
    fs->user.base.class_code = PCI_CLASS_STORAGE_OTHER;
    return vhost_user_device_co_realize(&fs->user, 0, error);
}

static void fs_unrealize(Device *dev)
{
    enter_main();
    enter_coroutine();
    vhost_user_device_co_unrealize(&fs_from(dev)->user);
}

/* A session is in the process that serves the guest. It begins with the driver, before a folder is mounted. */
static bool fs_check_session(const Device *dev, const VhostUserFsState *s, GError **error)
{
    if ((s->virtio.status & VIRTIO_STATUS_DRIVER_OK) == 0) {
        return true;
    }
    g_set_error(
        error, STATE_ERROR, STATE_ERROR_VALUE,
        "%s: the guest uses tag=%s, and its back end's session cannot be saved: have the guest "
        "unmount it and unload its driver, or unplug the device",
        device_label(dev), ((const VhostUserFs *)(const void *)dev)->tag);
    return false;
}

static bool fs_can_save(const Device *dev, GError **error)
{
    assert_bql();
    return fs_check_session(dev, &((const VhostUserFs *)(const void *)dev)->state, error);
}

static bool fs_check_state(const Device *dev, const void *state, GError **error)
{
    return fs_check_session(dev, state, error) && virtio_pci_check_state(dev, state, error);
}

static bool fs_post_load(Device *dev, GError **error)
{
    assert_bql();
    return fs_check_session(dev, &fs_from(dev)->state, error) &&
           vhost_user_device_post_load(dev, error);
}

static const StateField fs_fields[] = {
    STATE_STRUCT_ONE(VhostUserFsState, virtio, &virtio_state_desc),
    {0},
};

static const StateDesc fs_state_desc =
    STATE_DESC("vhost-user-fs", 1, VhostUserFs, state, VhostUserFsState, fs_fields);

static const OptSpec fs_properties[] = {
    VHOST_USER_DEVICE_PROPERTIES(VhostUserFs, user),
    OPT_SPEC(VhostUserFs, "tag", OPT_STRING, tag, .required = true,
             .help = "name by which the guest mounts it, at most 36 bytes"),
    OPT_SPEC(VhostUserFs, "num-request-queues", OPT_U16, num_request_queues, .def = "1", .min = 1,
             .max = VIRTIO_MAX_QUEUES - 1, .help = "request queues"),
    OPT_SPEC(VhostUserFs, "queue-size", OPT_U16, queue_size, .def = "128", .min = 4,
             .max = VIRTQUEUE_MAX_SIZE, .help = "entries of a queue, a power of two"),
    {0},
};

const DeviceType vhost_user_fs_pci_type = {
    .name = "vhost-user-fs-pci",
    .description = "folder of the host, served by virtiofsd",
    .instance_size = sizeof(VhostUserFs),
    .properties = fs_properties,
    .base_state = &pci_device_state_desc,
    .state = &fs_state_desc,
    .user_creatable = true,
    .shares_ram = true,
    .data_outside = true,
    .bus = "pci",
    .co_open = fs_co_open,
    .co_close = fs_co_close,
    .realize = fs_realize,
    .reset = virtio_pci_reset,
    .unrealize = fs_unrealize,
    .co_start = vhost_user_device_co_start,
    .co_stop = virtio_pci_co_stop,
    .pre_save = virtio_pci_pre_save,
    .can_save = fs_can_save,
    .check_state = fs_check_state,
    .post_load = fs_post_load,
};

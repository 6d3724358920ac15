/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What virtio devices with a vhost-user back end have in common: the chardev, the back end, and who serves
 * the queues. A device type embeds VhostUserDevice first, has the rows of VHOST_USER_DEVICE_PROPERTIES,
 * and calls these functions in its realize and unrealize. It has VirtioOps of its own.
 */
#ifndef SKIFF_HW_VIRTIO_VHOST_USER_DEVICE_H
#define SKIFF_HW_VIRTIO_VHOST_USER_DEVICE_H

#include "hw/vhost/vhost_user.h"
#include "hw/virtio/virtio_pci.h"
#include "hw/virtio/virtio_vhost.h"

typedef struct VhostUserDevice {
    VirtioPci base;
    /* config */
    char *chardev_id;
    /* runtime */
    Chardev *chardev;
    VhostUser user;
    VirtioVhost vhost;
} VhostUserDevice;

#define VHOST_USER_DEVICE_PROPERTIES(T, m)                                                         \
    VIRTIO_PCI_PROPERTIES(T, m.base, "128"),                                                       \
        OPT_SPEC(T, "chardev", OPT_STRING, m.chardev_id, .required = true,                         \
                 .help = "socket chardev of the back end")

static inline VhostUserDevice *vhost_user_device_of(VirtioDevice *vdev)
{
    return (VhostUserDevice *)(void *)((uint8_t *)vdev - offsetof(VhostUserDevice, base.vdev));
}

/* Takes the chardev and waits for the back end. After a failure nothing is taken. */
bool vhost_user_device_co_open(VhostUserDevice *d, const VhostUserNeeds *needs,
                               const VhostUserEvents *events, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* Then: realizes the virtio device, whose ops, state, queues, class code and config size are set. It
 * offers those of @features (the device type's own) that the back end has. A failure closes the back end. */
bool vhost_user_device_co_realize(VhostUserDevice *d, uint64_t features, GError **error)
    coroutine_fn RUNS_IN_MAIN;
void vhost_user_device_co_unrealize(VhostUserDevice *d) coroutine_fn RUNS_IN_MAIN;
void vhost_user_device_co_close(VhostUserDevice *d) coroutine_fn RUNS_IN_MAIN;

/* For a DeviceType: a device whose driver must reset it does not hold up the VM. */
bool vhost_user_device_co_start(Device *dev, GError **error);
/* For a DeviceType: refuses while a lost back end has requests that are nowhere else. */
bool vhost_user_device_can_save(const Device *dev, GError **error);
/* For a DeviceType: the rings are new to the back end. */
bool vhost_user_device_post_load(Device *dev, GError **error);

/* For VirtioOps: the home loop serves no queue; a reset makes the rings new. */
void vhost_user_device_handle_queue(VirtioDevice *vdev, unsigned index);
void vhost_user_device_reset(VirtioDevice *vdev);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/virtio/vhost_user_device.h"

void vhost_user_device_handle_queue(VirtioDevice *vdev, unsigned index)
{
    enter_loop(virtio_queue_home(vdev, index));
    bug_abort("%s: the home loop serves queue %u", device_label(vdev->dev), index);
}

void vhost_user_device_reset(VirtioDevice *vdev)
{
    vhost_user_forget_requests(&vhost_user_device_of(vdev)->user);
}

bool vhost_user_device_co_start(Device *dev, GError **error)
{
    VhostUserDevice *d = (VhostUserDevice *)(void *)dev;
    VirtioDevice *vdev = &d->base.vdev;
    enter_main();
    enter_coroutine();
    bool needs_reset = vhost_user_needs_reset(&d->user);
    bql_lock();
    if (needs_reset && virtio_phase(vdev) == VIRTIO_LIVE) {
        log_limited(&dev->log_limit, "%s: %s; the device needs a reset", device_label(dev),
                    d->user.dev.why);
        virtio_set_needs_reset(vdev);
    }
    bql_unlock();
    return virtio_pci_co_start(dev, error);
}

bool vhost_user_device_can_save(const Device *dev, GError **error)
{
    const VhostUserDevice *d = (const VhostUserDevice *)(const void *)dev;
    enter_main();
    assert_bql();
    if (virtio_phase(&d->base.vdev) != VIRTIO_LIVE || !vhost_user_keeps_state(&d->user)) {
        return true; /* what a driver has lost with a reset to come is lost anyway */
    }
    g_set_error(
        error, STATE_ERROR, STATE_ERROR_VALUE,
        "%s: its back end was lost with requests in flight; let the machine go on until it is back",
        device_label(dev));
    return false;
}

bool vhost_user_device_post_load(Device *dev, GError **error)
{
    VhostUserDevice *d = (VhostUserDevice *)(void *)dev;
    if (!virtio_pci_post_load(dev, error)) {
        return false;
    }
    vhost_user_forget_requests(&d->user);
    return true;
}

bool vhost_user_device_co_open(VhostUserDevice *d, const VhostUserNeeds *needs,
                               const VhostUserEvents *events, GError **error)
{
    Device *dev = &d->base.pci.base;
    const DeviceEnv *env = dev->env;
    if (!device_find_chardev(dev, d->chardev_id, &d->chardev, error)) {
        return false;
    }
    if (!vhost_user_co_open(&d->user, needs, d->chardev, env->main_ctx, env->ram, device_label(dev),
                            events, d, error)) {
        device_release_chardev(dev, &d->chardev);
        return false;
    }
    return true;
}

void vhost_user_device_co_close(VhostUserDevice *d)
{
    vhost_user_co_close(&d->user);
    device_release_chardev(&d->base.pci.base, &d->chardev);
}

bool vhost_user_device_co_realize(VhostUserDevice *d, uint64_t features, GError **error)
{
    VirtioDevice *vdev = &d->base.vdev;
    uint64_t has = d->user.dev.features;
    vdev->dev = &d->base.pci.base;
    if (!virtio_vhost_init(&d->vhost, vdev, vdev->dev->env, error)) {
        vhost_user_device_co_close(d);
        return false;
    }
    virtio_vhost_add(&d->vhost, &d->user.dev, 0, vdev->num_queues);
    vdev->home = vdev->dev->env->default_iothread;
    vdev->back_end = &virtio_vhost_ops;
    vdev->features = features & has;
    d->base.event_idx &= (has & VIRTIO_F_EVENT_IDX) != 0;
    d->base.indirect_desc &= (has & VIRTIO_F_INDIRECT_DESC) != 0;
    if (!virtio_pci_realize(&d->base, error)) {
        virtio_vhost_co_cleanup(&d->vhost);
        vhost_user_device_co_close(d);
        return false;
    }
    return true;
}

void vhost_user_device_co_unrealize(VhostUserDevice *d)
{
    virtio_pci_unrealize(&d->base);
    virtio_vhost_co_cleanup(&d->vhost);
    vhost_user_device_co_close(d);
}

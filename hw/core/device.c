/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/core/device.h"

static const OptSpec device_no_properties[] = {{0}};

static const OptSpec *device_properties(const DeviceType *type)
{
    return type->properties != NULL ? type->properties : device_no_properties;
}

Device *device_new(const DeviceType *type, const DeviceEnv *env, const char *id)
{
    g_assert(type->instance_size >= sizeof(Device));
    Device *dev = g_malloc0(type->instance_size);
    dev->type = type;
    dev->env = env;
    dev->id = g_strdup(id);
    dev->bootindex = DEVICE_NO_BOOTINDEX;
    opts_init(device_properties(type), dev);
    return dev;
}

bool device_set_properties(Device *dev, OptDict *opts, GError **error)
{
    g_assert(!dev->realized);
    return opts_bind(device_properties(dev->type), dev, opts, dev->type->name, error);
}

bool device_co_open(Device *dev, GError **error)
{
    g_assert(!dev->opened);
    dev->opened = dev->type->co_open == NULL || dev->type->co_open(dev, error);
    return dev->opened;
}

void device_co_close(Device *dev)
{
    if (dev->opened && !dev->realized) {
        dev->opened = false;
        if (dev->type->co_close != NULL) {
            dev->type->co_close(dev);
        }
    }
}

bool device_realize(Device *dev, GError **error)
{
    g_assert(!dev->realized);
    if (!dev->opened && !device_co_open(dev, error)) {
        return false;
    }
    if (dev->type->realize != NULL && !dev->type->realize(dev, error)) {
        dev->opened = false;
        return false;
    }
    bql_lock();
    if (dev->type->reset != NULL) {
        dev->type->reset(dev);
    }
    dev->realized = true;
    bql_unlock();
    return true;
}

void device_unrealize(Device *dev)
{
    if (!dev->realized) {
        return;
    }
    bql_lock();
    dev->realized = false; /* first, so that the bus hides it from the guest */
    bql_unlock();
    dev->opened = false;
    if (dev->type->unrealize != NULL) {
        dev->type->unrealize(dev);
    }
}

void device_free(Device *dev)
{
    if (dev == NULL) {
        return;
    }
    g_assert(!dev->realized && !dev->opened);
    opts_clear(device_properties(dev->type), dev);
    g_free(dev->id);
    g_free(dev->path);
    g_free(dev);
}

bool device_co_start(Device *dev, GError **error)
{
    return dev->leaving || dev->type->co_start == NULL || dev->type->co_start(dev, error);
}

void device_co_retire(Device *dev)
{
    if (dev->type->co_retire != NULL) {
        dev->type->co_retire(dev);
    } else if (dev->type->co_stop != NULL) {
        dev->type->co_stop(dev);
    }
}

bool device_find_chardev(const Device *dev, const char *id, Chardev **chardev, GError **error)
{
    *chardev = NULL;
    if (id == NULL) {
        return true;
    }
    *chardev = dev->env->find_chardev(dev->env->opaque, id, device_label(dev), error);
    return *chardev != NULL;
}

void device_release_chardev(const Device *dev, Chardev **chardev)
{
    Chardev *c = g_steal_pointer(chardev);
    if (c == NULL) {
        return;
    }
    chardev_attach(c, NULL, NULL);
    if (dev->env->release_chardev != NULL) {
        dev->env->release_chardev(dev->env->opaque, c);
    }
}

const char *device_label(const Device *dev)
{
    return dev->id != NULL ? dev->id : dev->type->name;
}

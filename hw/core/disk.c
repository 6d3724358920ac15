/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/core/disk.h"

#include <errno.h>

#define refuse(error, ...) (g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, __VA_ARGS__), false)

const char *const disk_error_names[] = {"auto", "report", "ignore", "enospc", "stop", NULL};

/* ---- errors ---- */

bool disk_error_check(int rerror, GError **error)
{
    if (rerror == DISK_ERROR_ENOSPC) {
        return refuse(error, "rerror=enospc: a read cannot fill a disk; report, ignore, stop");
    }
    return true;
}

DeviceIoAction disk_error_action(int policy, bool is_read, int error)
{
    if (policy == DISK_ERROR_AUTO) {
        policy = is_read ? DISK_ERROR_REPORT : DISK_ERROR_ENOSPC;
    }
    if (policy == DISK_ERROR_STOP || (policy == DISK_ERROR_ENOSPC && error == ENOSPC)) {
        return DEVICE_IO_STOP;
    }
    return policy == DISK_ERROR_IGNORE ? DEVICE_IO_IGNORE : DEVICE_IO_REPORT;
}

void disk_error_report(const Device *dev, BlockBackend *blk, bool is_read, DeviceIoAction action,
                       int error)
{
    DeviceIoError e = {.node = block_node_name(blk_root(blk)),
                       .is_read = is_read,
                       .action = action,
                       .error = error};
    if (action == DEVICE_IO_STOP) {
        blk_set_io_status(blk, error == ENOSPC ? BLK_IO_NOSPACE : BLK_IO_FAILED);
    }
    if (dev->env->io_error != NULL) {
        dev->env->io_error(dev->env->opaque, dev, &e);
    }
}

/* ---- the backend ---- */

AioContext *disk_find_iothread(const Device *dev, const char *iothread, GError **error)
{
    const DeviceEnv *env = dev->env;
    AioContext *found = env->find_iothread ? env->find_iothread(env->opaque, iothread) : NULL;
    if (!found) {
        (void)refuse(error, "iothread=%s: there is no -object iothread,id=%s", iothread, iothread);
    }
    return found;
}

/* The user's id; a device without one gets a number. */
static RUNS_IN_MAIN char *disk_backend_name(const Device *dev)
{
    char *name = g_strdup(device_label(dev));
    for (unsigned n = 1; !dev->id && blk_find(name); n++) {
        g_free(name);
        name = g_strdup_printf("%s#%u", device_label(dev), n);
    }
    return name;
}

BlockBackend *disk_co_open(const Device *dev, const char *drive, AioContext *home, bool read_only,
                           GError **error)
{
    BlockNode *node = block_node_find(drive);
    if (node && home && !block_co_move(node, home, error)) {
        return NULL;
    }
    node = block_node_find(drive); /* again: the node may have changed while it moved */
    if (!node) {
        (void)refuse(error, "drive=%s: there is no such -blockdev or -drive", drive);
        return NULL;
    }
    g_autofree char *name = disk_backend_name(dev);
    BlockBackend *blk = blk_co_new(name, node, !read_only && !block_node_read_only(node), error);
    if (blk) {
        blk_set_owner(blk, dev);
    }
    return blk;
}

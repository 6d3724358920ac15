/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/vhost/vhost_vsock.h"

#include <errno.h>
#include <linux/vhost.h>

static bool vsock_co_run(VhostKernel *k, const VhostStart *start, bool on, GError **error)
{
    int running = on;
    VhostBatch b = {0};
    enter_main();
    enter_coroutine();
    VHOST_BATCH_ADD(&b, VHOST_VSOCK_SET_RUNNING, &running, sizeof(running));
    return vhost_kernel_co_calls(k, &b, error);
}

static const VhostKernelKind vsock_kind = {
    .path = "/dev/vhost-vsock",
    .hint =
        "load the module vhost_vsock, and let skiff's user read and write the file (group kvm), or "
        "pass an open descriptor by vhostfd=",
    .num_vrings = VHOST_VSOCK_VRINGS,
    .co_run = vsock_co_run,
};

bool vhost_vsock_co_open(VhostKernel *k, int fd, uint64_t cid, AioContext *ctx, const GuestRam *ram,
                         const char *name, GError **error)
{
    VhostBatch b = {0};
    if (!vhost_kernel_co_open(k, &vsock_kind, fd, ctx, ram, name, error)) {
        return false;
    }
    VHOST_BATCH_ADD(&b, VHOST_VSOCK_SET_GUEST_CID, &cid, sizeof(cid));
    if (vhost_kernel_co_calls(k, &b, error)) {
        return true;
    }
    g_prefix_error(error, "guest-cid=%" G_GUINT64_FORMAT " cannot be reserved: ", cid);
    vhost_kernel_co_close(k);
    return false;
}

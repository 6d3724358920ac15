/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/vhost/vhost_net.h"

#include <linux/vhost.h>

/* Connects the vrings to the tap queue. The kernel finishes what is in flight before it returns from
 * disconnecting. */
static bool net_co_run(VhostKernel *k, const VhostStart *start, bool on, GError **error)
{
    const VhostNet *n = (VhostNet *)(void *)k;
    VhostBatch b = {0};
    enter_main();
    enter_coroutine();
    for (unsigned i = 0; i < start->count; i++) {
        struct vhost_vring_file file = {start->vrings[i].index, on ? n->tap_fd : VHOST_FILE_UNBIND};
        VHOST_BATCH_ADD(&b, VHOST_NET_SET_BACKEND, &file, sizeof(file));
    }
    return b.count == 0 || vhost_kernel_co_calls(k, &b, error);
}

static const VhostKernelKind net_kind = {
    .path = "/dev/vhost-net",
    .hint = "load the module vhost_net, and let skiff's user read and write the file, or pass an "
            "open descriptor by vhostfd=",
    .num_vrings = VHOST_NET_VRINGS,
    .co_run = net_co_run,
};

bool vhost_net_co_open(VhostNet *n, int fd, int tap_fd, AioContext *ctx, const char *name,
                       GError **error)
{
    n->tap_fd = tap_fd;
    return vhost_kernel_co_open(&n->kernel, &net_kind, fd, ctx, NULL, name, error);
}

void vhost_net_co_close(VhostNet *n)
{
    vhost_kernel_co_close(&n->kernel);
}

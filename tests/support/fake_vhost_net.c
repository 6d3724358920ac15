/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/fake_vhost_net.h"

#define TAP_FD 0 /* any descriptor: the fake does not use it */

static struct {
    VhostNet pairs[FAKE_VHOST_NET_PAIRS];
    unsigned count, wanted;
    AioContext *ctx;
    NetType type;
    const NetType *types[2];
} nets;

static unsigned nets_vhost_parts(NetBackend *b, NetVhostPart parts[NET_MAX_QUEUES])
{
    for (unsigned i = 0; i < nets.count; i++) {
        parts[i] = (NetVhostPart){.dev = &nets.pairs[i].kernel.dev,
                                  .first_queue = 2 * i,
                                  .count = 2,
                                  .features = VHOST_NET_FEATURES};
    }
    return nets.count;
}

static void nets_open(void *opaque)
{
    GError *error = NULL;
    enter_main();
    enter_coroutine();
    for (; nets.count < nets.wanted; nets.count++) {
        if (!vhost_net_co_open(&nets.pairs[nets.count], -1, TAP_FD, nets.ctx, "vhost-net",
                               &error)) {
            g_error("%s", error->message);
        }
    }
}

void fake_vhost_net_open(VirtioBench *b, FakeVhost *kernel, unsigned pairs)
{
    g_assert(nets.count == 0 && pairs <= FAKE_VHOST_NET_PAIRS);
    nets.type = *fake_net_types[0];
    nets.type.vhost_parts = nets_vhost_parts;
    nets.types[0] = &nets.type;
    nets.ctx = b->main_ctx;
    nets.wanted = pairs;
    enter_main();
    net_setup(nets.types, b->main_ctx);
    kernel->offered |= VHOST_NET_FEATURES;
    virtio_bench_run(b, nets_open, NULL);
}

void fake_vhost_net_leave(void *opaque)
{
    enter_main();
    enter_coroutine();
    while (nets.count > 0) {
        vhost_net_co_close(&nets.pairs[--nets.count]);
    }
}

void fake_vhost_net_close(VirtioBench *b, FakeVhost *kernel)
{
    virtio_bench_run(b, fake_vhost_net_leave, NULL);
    while (fake_vhost_open_count(kernel) > 0) {
        aio_context_step(b->main_ctx, true);
    }
}

VhostDev *fake_vhost_net_dev(unsigned pair)
{
    return &nets.pairs[pair].kernel.dev;
}

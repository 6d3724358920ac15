/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net on the kernel's vhost-net, as tests/support/fake_vhost.h plays it. */
#ifndef SKIFF_TESTS_HW_VIRTIO_VIRTIO_NET_VHOST_BENCH_H
#define SKIFF_TESTS_HW_VIRTIO_VIRTIO_NET_VHOST_BENCH_H

#include "hw/core/memory_users.h"
#include "tests/hw/virtio/virtio_net_bench.h"
#include "tests/support/fake_vhost_net.h"

static FakeVhost *vhost;

static inline int set_up_vhost(void **state)
{
    set_up_machine(state);
    Fixture *f = *state;
    vhost = fake_vhost_new("/dev/vhost-net", &f->bench->machine->ram);
    fake_vhost_net_open(f->bench, vhost, PAIRS_MAX);
    add_nic(f, "queues=4,offloads=on", "mq=on");
    return 0;
}

static inline void await_owner(Fixture *f, VirtioOwner wanted)
{
    while (f->nic->base.vdev.owner != wanted) {
        aio_context_step(f->bench->main_ctx, true);
    }
}

static inline void bring_up_vhost(Fixture *f)
{
    bring_up(f, ALL_FEATURES);
    await_owner(f, VIRTIO_OWNER_BACK_END);
    virtio_bench_settle(f->bench);
}

static inline int tear_down_vhost(void **state)
{
    Fixture *f = *state;
    enter_main();
    sys_fault_set(NULL);
    if (f->dev) {
        virtio_bench_unplug(f->bench, f->dev);
        f->dev = NULL;
    }
    assert_int_equal(memory_users(), 0);
    fake_vhost_net_close(f->bench, vhost);
    fake_vhost_free(vhost);
    return tear_down(state);
}

/* Steps main until the VhostDevs of exactly @pairs pairs run. */
static inline void await_running(Fixture *f, unsigned pairs)
{
    while (f->nic->vhost.vhost.running != pairs || f->nic->vhost.vhost.working) {
        aio_context_step(f->bench->main_ctx, true);
    }
}

static inline void assert_connected(unsigned pairs)
{
    enter_main();
    for (unsigned i = 0; i < PAIRS_MAX; i++) {
        for (unsigned n = 0; n < 2; n++) {
            assert_int_equal(vhost->instances[i].vrings[n].connected, i < pairs);
        }
    }
    assert_int_equal(memory_users(), pairs);
}

static inline uint8_t use_pairs_and_wait(Fixture *f, uint16_t pairs)
{
    uint8_t ack;
    control_send(f, 4, 0, &pairs, sizeof(pairs));
    while ((ack = control_ack(f)) == ACK_NONE) {
        aio_context_step(f->bench->main_ctx, false);
    }
    return ack;
}

static inline void assert_kernel_serves(Fixture *f, unsigned pair)
{
    uint32_t id, len;
    offer(f, pair, 2048);
    assert_int_equal(fake_vhost_serve(vhost, pair, 0), 1);
    assert_true(virtio_guest_used(&f->rx[pair], &id, &len));
    transmit(f, pair, NULL, FRAME_BYTES, 1, 0);
    assert_int_equal(fake_vhost_serve(vhost, pair, 1), 1);
    assert_true(virtio_guest_used(&f->tx[pair], &id, &len));
    assert_nothing_sent(f, pair); /* not by the home loop */
}

static inline void assert_home_serves(Fixture *f)
{
    enter_main();
    transmit(f, 0, NULL, FRAME_BYTES, 3, 0);
    assert_sent(f, 0, FRAME_BYTES, 3);
    assert_tx_completed(f, 0);
    assert_int_equal(memory_users(), 0);
}

#endif

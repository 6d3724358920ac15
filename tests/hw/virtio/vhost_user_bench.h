/* SPDX-License-Identifier: Apache-2.0 */
/* A machine with a device whose back end is a VhostUserPeer, the test's. */
#ifndef SKIFF_TESTS_HW_VIRTIO_VHOST_USER_BENCH_H
#define SKIFF_TESTS_HW_VIRTIO_VHOST_USER_BENCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "hw/virtio/vhost_user_device.h"
#include "tests/support/vhost_user_peer.h"
#include "tests/support/virtio_guest.h"

#define DATA_BYTES 4096

typedef struct Fixture {
    VirtioBench *bench;
    FakeChardev *chardev;
    VhostUserPeer *peer;
    Device *dev; /* NULL: none */
    VirtioGuest guest;
    VirtioGuestQueue queue; /* the one that tests use: `index` */
    unsigned index;
    uint64_t data;
} Fixture;

static inline Fixture *fixture_new(void)
{
    Fixture *f = g_new0(Fixture, 1);
    f->bench = virtio_bench_new();
    f->data = virtio_bench_alloc(f->bench, DATA_BYTES);
    f->chardev = fake_chardev_new_socket("c", f->bench->main_ctx);
    f->peer = vhost_user_peer_new(f->chardev);
    return f;
}

static inline void fixture_free(Fixture *f)
{
    if (f->dev != NULL) {
        virtio_bench_unplug(f->bench, f->dev);
    }
    vhost_user_peer_free(f->peer);
    fake_chardev_free(f->chardev);
    virtio_bench_free(f->bench);
    g_free(f);
}

/* A device that runs, without a driver. */
static inline void add_device(Fixture *f, const char *type, const char *properties)
{
    vhost_user_peer_connect(f->peer);
    f->dev = virtio_bench_device(f->bench, type, properties);
    virtio_bench_start(f->bench, f->dev);
    virtio_guest_init(&f->guest, f->bench, f->dev);
}

/* The error of a device that cannot be made; to be freed. */
static inline char *refused_device(Fixture *f, const char *type, const char *properties)
{
    Device *dev = NULL;
    char *text = virtio_bench_try_device(f->bench, type, properties, NULL, &dev);
    assert_non_null(text);
    return text;
}

static inline void bring_up(Fixture *f)
{
    assert_true(virtio_guest_negotiate(&f->guest, ~0ull));
    virtio_guest_enable_msix(&f->guest);
    virtio_guest_queue(&f->guest, &f->queue, f->index, 0, 1);
    virtio_guest_driver_ok(&f->guest);
    virtio_bench_settle(f->bench);
}

static inline VirtioOwner owner(const Fixture *f)
{
    return ((VhostUserDevice *)(void *)f->dev)->base.vdev.owner;
}

/* Offers a buffer. */
static inline void offer(Fixture *f)
{
    VringBuffer b = {f->data, DATA_BYTES, true};
    memset(virtio_bench_ram(f->bench, f->data, DATA_BYTES), 0, DATA_BYTES);
    virtio_guest_add(&f->queue, &b, 1);
}

/* Whether the peer serves exactly one buffer, with an interrupt. */
static inline bool served(Fixture *f)
{
    uint32_t id, len;
    FakeMachine *m = f->bench->machine;
    unsigned before;
    virtio_bench_settle(f->bench);
    fake_machine_settle(m);
    before = fake_machine_delivered(m, 0x101);
    vhost_user_peer_serve(f->peer, f->index);
    if (!virtio_guest_used(&f->queue, &id, &len)) {
        return false;
    }
    fake_machine_settle(m);
    assert_int_equal(fake_machine_delivered(m, 0x101), before + 1);
    assert_int_equal(len, DATA_BYTES);
    assert_int_equal(*(char *)virtio_bench_ram(f->bench, f->data, 1), PEER_MARK);
    return !virtio_guest_used(&f->queue, &id, &len);
}

#endif

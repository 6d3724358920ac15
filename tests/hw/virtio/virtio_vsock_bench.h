/* SPDX-License-Identifier: Apache-2.0 */
/* A machine with a vhost-vsock-pci on the kernel's vhost as tests/support/fake_vhost.h plays it. */
#ifndef SKIFF_TESTS_HW_VIRTIO_VIRTIO_VSOCK_BENCH_H
#define SKIFF_TESTS_HW_VIRTIO_VIRTIO_VSOCK_BENCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "hw/core/memory_users.h"
#include "hw/virtio/virtio_vhost.h"
#include "tests/support/fake_vhost.h"
#include "tests/support/virtio_guest.h"

#define QUEUES 3
#define RX 0
#define TX 1
#define EVENTS 2
#define DATA_BYTES 64
#define CONFIG_DATA 0x100 /* of MSI-X vector 0; queue n has vector n + 1 */
#define FIVE_SECONDS 5000000000ll

typedef struct Fixture {
    VirtioBench *bench;
    FakeVhost *vhost;
    Device *dev;
    VirtioGuest guest;
    VirtioGuestQueue queues[QUEUES];
    uint64_t data;
} Fixture;

static inline int set_up_machine(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    f->bench = virtio_bench_new();
    f->data = virtio_bench_alloc(f->bench, DATA_BYTES);
    f->vhost = fake_vhost_new("/dev/vhost-vsock", &f->bench->machine->ram);
    *state = f;
    return 0;
}

static inline int set_up(void **state)
{
    set_up_machine(state);
    Fixture *f = *state;
    f->dev = virtio_bench_device(f->bench, "vhost-vsock-pci", "guest-cid=7");
    virtio_bench_start(f->bench, f->dev);
    virtio_guest_init(&f->guest, f->bench, f->dev);
    return 0;
}

static inline int tear_down(void **state)
{
    Fixture *f = *state;
    sys_fault_set(NULL);
    if (f->dev) {
        virtio_bench_unplug(f->bench, f->dev);
    }
    fake_vhost_free(f->vhost);
    enter_main();
    assert_int_equal(memory_users(), 0);
    virtio_bench_free(f->bench);
    g_free(f);
    return 0;
}

static inline VirtioDevice *device(const Fixture *f)
{
    return &((VirtioPci *)(void *)f->dev)->vdev;
}

static inline VirtioOwner owner(const Fixture *f)
{
    return device(f)->owner;
}

/* Steps main, which waits for workers, until the queues have the owner. */
static inline void await_owner(Fixture *f, VirtioOwner wanted)
{
    while (owner(f) != wanted) {
        aio_context_step(f->bench->main_ctx, true);
    }
}

static inline void set_up_queues(Fixture *f)
{
    assert_true(virtio_guest_negotiate(&f->guest, ~0ull));
    virtio_guest_common_write(&f->guest, VIRTIO_COMMON_CONFIG_VECTOR, 0, 2);
    for (unsigned i = 0; i < QUEUES; i++) {
        virtio_guest_queue(&f->guest, &f->queues[i], i, 16, i + 1);
    }
    virtio_guest_driver_ok(&f->guest);
}

static inline void bring_up(Fixture *f)
{
    set_up_queues(f);
    await_owner(f, VIRTIO_OWNER_BACK_END);
}

static inline void offer(Fixture *f, unsigned index)
{
    VringBuffer b = {f->data, DATA_BYTES, index != TX};
    virtio_guest_add(&f->queues[index], &b, 1);
}

/* The kernel serves one request of queue @index of instance @instance. */
static inline void assert_served_by(Fixture *f, unsigned instance, unsigned index)
{
    uint32_t id, len;
    assert_int_equal(fake_vhost_serve(f->vhost, instance, index), 1);
    assert_true(virtio_guest_used(&f->queues[index], &id, &len));
    assert_false(virtio_guest_used(&f->queues[index], &id, &len));
}

static inline void assert_served(Fixture *f, unsigned index)
{
    assert_served_by(f, 0, index);
}

#endif

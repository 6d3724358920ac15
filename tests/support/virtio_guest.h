/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest's virtio-pci driver, and the machine around it, without KVM: the test's thread is main
 * and also the vCPU; one iothread is real.
 *
 * virtio_bench_settle() waits until the iothread is idle, so a test knows what has happened and
 * never sleeps. Dirty memory is always logged: a write by the device side that is not marked dirty
 * fails the test at its end (ram_watch.h).
 */
#ifndef SKIFF_TESTS_SUPPORT_VIRTIO_GUEST_H
#define SKIFF_TESTS_SUPPORT_VIRTIO_GUEST_H

#include "hw/virtio/virtio_pci.h"
#include "tests/support/fake_machine.h"
#include "tests/support/ram_watch.h"
#include "tests/support/vring_driver.h"
#include "util/loop/iothread.h"

/* ---- the machine ---- */

typedef struct VirtioBench {
    FakeMachine *machine;
    IoThread *iothread;
    IoThread *other;             /* "io2"; NULL until a device looks for it */
    AioContext *main_ctx, *home; /* home: that of the first one, "io" */
    PciBus *bus;
    uint64_t ram_next;   /* address of the guest's next allocation */
    RamWatch *watch;     /* the machine's RAM */
    GuestRam driver_ram; /* the same RAM, for writes of the driver */
} VirtioBench;

VirtioBench *virtio_bench_new(void);
void virtio_bench_free(VirtioBench *b);
/* Runs @fn(@opaque) as a coroutine in main to its end. */
void virtio_bench_run(VirtioBench *b, void (*fn)(void *opaque), void *opaque);
/* Runs @fn(@opaque) as a coroutine in the iothread and waits for it. */
void virtio_bench_at_home(VirtioBench *b, void (*fn)(void *opaque), void *opaque);
/* Runs one turn of main if it has work. */
void virtio_bench_step(VirtioBench *b);
/* Returns when both threads have done all work caused so far, except work that waits for the
 * test. */
void virtio_bench_settle(VirtioBench *b);
/* Guest memory, zeroed, page-aligned. */
uint64_t virtio_bench_alloc(VirtioBench *b, uint64_t bytes);
void *virtio_bench_ram(VirtioBench *b, uint64_t gpa, uint64_t bytes);

/* ---- devices ---- */
/* Realized, BARs assigned, queues not started. Aborts with the error's text. */
Device *virtio_bench_device(VirtioBench *b, const char *type, const char *properties);
/* The same for a type that is not in the table. */
Device *virtio_bench_device_of(VirtioBench *b, const DeviceType *type, const char *properties);
/* The same with a parent; the error's text when that fails (to be freed), else NULL. */
char *virtio_bench_try_device(VirtioBench *b, const char *type, const char *properties,
                              Device *parent, Device **dev);
/* Stops, unrealizes, frees. */
void virtio_bench_unplug(VirtioBench *b, Device *dev);
void virtio_bench_start(VirtioBench *b, Device *dev); /* as at `cont` */
/* The same; the error's text when that fails (to be freed), else NULL. */
char *virtio_bench_try_start(VirtioBench *b, Device *dev);
void virtio_bench_stop(VirtioBench *b, Device *dev);  /* as at `stop`; waits */
void virtio_bench_reset(VirtioBench *b, Device *dev); /* as at system reset: stop, reset, start */
/* Saves and loads the state of @dev, which is stopped. The error's text (to be freed) if it is refused; the
 * device is unchanged then. */
GByteArray *virtio_bench_save(VirtioBench *b, Device *dev);
char *virtio_bench_load(VirtioBench *b, Device *dev, const GByteArray *saved);

/* ---- the driver ---- */

typedef struct VirtioGuest {
    VirtioBench *bench;
    VirtioPci *dev;
    uint64_t common, isr, config, notify; /* gpa, found through the capabilities */
    uint32_t notify_multiplier;
    unsigned config_size;
    uint64_t features; /* negotiated */
    /* Called while an access is pending, so that the test can act. May be NULL. */
    void (*pended)(void *opaque);
    void *opaque;
} VirtioGuest;

typedef struct VirtioGuestQueue {
    VirtioGuest *guest;
    unsigned index;
    bool event_idx;
    VringDriver ring;
} VirtioGuestQueue;

/* Finds the structures of §4.1.4 through the capability list. */
void virtio_guest_init(VirtioGuest *g, VirtioBench *b, Device *dev);
/* The ECAM address of its config space. */
uint64_t virtio_guest_ecam(const VirtioGuest *g);
/* Sets Bus Master in the command register; clearing it waits for requests in flight. */
void virtio_guest_set_master(VirtioGuest *g, bool on);
/* A register access. A pending one waits like a vCPU while main runs. */
uint64_t virtio_guest_read(VirtioGuest *g, uint64_t gpa, unsigned size);
void virtio_guest_write(VirtioGuest *g, uint64_t gpa, uint64_t value, unsigned size);
/* The same without waiting: @a shows what is pending. */
MmioResult virtio_guest_access(VirtioGuest *g, uint64_t gpa, IoAccess *a);
uint32_t virtio_guest_common_read(VirtioGuest *g, unsigned offset, unsigned size);
void virtio_guest_common_write(VirtioGuest *g, unsigned offset, uint64_t value, unsigned size);
uint8_t virtio_guest_status(VirtioGuest *g);
void virtio_guest_set_status(VirtioGuest *g, uint8_t status);
uint64_t virtio_guest_offered(VirtioGuest *g);
/* Writes 0 and waits until it reads 0. */
void virtio_guest_reset(VirtioGuest *g);
/* From reset to FEATURES_OK, as a bus master, with those of @wanted that are offered. Returns
 * whether the device accepted them. */
bool virtio_guest_negotiate(VirtioGuest *g, uint64_t wanted);
/* Sets queue @index up and enables it; @vector may be VIRTIO_NO_VECTOR. size 0: the device's. */
void virtio_guest_queue(VirtioGuest *g, VirtioGuestQueue *q, unsigned index, unsigned size,
                        unsigned vector);
void virtio_guest_driver_ok(VirtioGuest *g);
/* Enables MSI-X; vector n delivers data 0x100 + n. */
void virtio_guest_enable_msix(VirtioGuest *g);

/* Offers a chain and kicks if the device requests it. Returns its head. */
uint16_t virtio_guest_add(VirtioGuestQueue *q, const VringBuffer *buffers, unsigned count);
/* The doorbell: through the machine's ioeventfd if there is one, like KVM, else the register.
 */
void virtio_guest_kick(VirtioGuestQueue *q);
/* Takes the next used buffer; false: none, after both threads have settled. */
bool virtio_guest_used(VirtioGuestQueue *q, uint32_t *id, uint32_t *len);

#endif

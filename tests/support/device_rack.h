/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine with a device of each type of hw/device_types.c, without KVM: what is saved and loaded together.
 * All that they need of the host is played: disks in memory, chardevs, a network, back ends of vhost.
 *
 * device_rack_stir() brings each device into a state that differs from that after a reset, by the guest's
 * means. The drivers of the virtio devices can go on in another rack (device_rack_adopt()), which has been
 * given the RAM and the state of the first.
 *
 * One rack exists at a time. Its clock is virtual.
 */
#ifndef SKIFF_TESTS_SUPPORT_DEVICE_RACK_H
#define SKIFF_TESTS_SUPPORT_DEVICE_RACK_H

#include "migration/device_state.h"
#include "tests/support/blk_guest.h"
#include "tests/support/fake_chardev.h"
#include "tests/support/fake_vhost.h"
#include "tests/support/vhost_user_peer.h"

#define RACK_QUEUES 8
#define RACK_DRIVERS 10
#define RACK_DISKS 4
#define RACK_CHARDEVS 6
#define RACK_FLASH_GPA 0xfff00000u
#define RACK_WALL_NS INT64_C(1700000000000000000)

/* The driver of a virtio device. */
typedef struct RackDriver {
    const char *name; /* of the device */
    VirtioGuest guest;
    VirtioGuestQueue queues[RACK_QUEUES];
    unsigned count; /* of the queues that are set up */
} RackDriver;

typedef struct DeviceRack {
    VirtioBench *bench;
    FakeMachine *m;
    GPtrArray *devices; /* Device, in order of creation */
    BlkDisk disks[RACK_DISKS];
    FakeChardev *chardevs[RACK_CHARDEVS];
    VhostUserPeer *peers[2];
    FakeVhost *vhost;
    RackDriver drivers[RACK_DRIVERS];
    bool running;
} DeviceRack;

/* What a rack leaves for the next one: the guest's RAM, and what its drivers know. */
typedef struct RackGuest {
    uint8_t *ram;
    uint64_t ram_next;
    int64_t clock_ns, wall_ns;
    bool gsi_level[FAKE_GSI_COUNT];
    uint64_t intx; /* bit n: device n has its INTx high */
    RackDriver drivers[RACK_DRIVERS];
} RackGuest;

/* A rack whose devices run, all as after a reset. The host's calendar time is @wall_ns. */
DeviceRack *device_rack_new(int64_t wall_ns);
void device_rack_free(DeviceRack *r);
/* Removes the device that was added last. */
void device_rack_remove_last(DeviceRack *r);
/* The device with path "/machine/rack/NAME": its type's name, with ".2" for the second one. */
Device *device_rack_find(const DeviceRack *r, const char *name);
RackDriver *device_rack_driver(DeviceRack *r, const char *name);
/* Stop and start all devices and the clock, as `stop` and `cont` do. */
void device_rack_stop(DeviceRack *r);
void device_rack_start(DeviceRack *r);
/* As a reset of the stopped machine. */
void device_rack_reset(DeviceRack *r);

/* The devices do not run. A whole stream; NULL + error. */
GByteArray *device_rack_save(DeviceRack *r, GError **error);
/* Stages and applies. */
bool device_rack_load(DeviceRack *r, const GByteArray *stream, int64_t clock_ns, GError **error);
/* The devices' state as it is: all tables of all devices. */
GByteArray *device_rack_tables(DeviceRack *r);

/* Bit n: device n is of PCI and has its INTx high. */
uint64_t device_rack_intx(const DeviceRack *r);
/* The devices do not run. */
RackGuest *device_rack_leave(DeviceRack *r);
void device_rack_adopt(DeviceRack *r, const RackGuest *guest);
void rack_guest_free(RackGuest *g);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RackGuest, rack_guest_free)

/* ---- device_rack_stir.c ---- */
/* With @msix, drivers use MSI-X with all vectors masked; else INTx, and each of them has its line high. */
void device_rack_stir(DeviceRack *r, bool msix);
/* Offers a new buffer in a queue of the driver; returns its address. */
uint64_t device_rack_offer(DeviceRack *r, RackDriver *d, unsigned queue, uint32_t bytes,
                           bool write);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices: types, life cycle, properties.
 *
 * A DeviceType is a const table at the end of the device's one file. All steps of the life cycle
 * run in main under the VM operation lock (at start-up: before anything runs):
 *
 *   device_new --> [properties set] --> [open] --> realize --> (reset)* --> unrealize --> free
 *
 * A device struct begins with `Device base` and has four marked groups: links (borrowed), config
 * (properties; fixed at realize), state (a nested struct named `state`, saved; its StateDesc covers
 * it without a gap), runtime (rebuilt on load). Its DeviceEnv has all that it may use; a device
 * contains no address of the board.
 */
#ifndef SKIFF_HW_CORE_DEVICE_H
#define SKIFF_HW_CORE_DEVICE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include "hw/core/address_space.h"
#include "hw/core/chardev.h"
#include "hw/core/irq.h"
#include "hw/core/ram.h"
#include "util/loop/coroutine.h"
#include "util/log.h"
#include "util/opts/opts.h"
#include "util/state/state.h"

typedef struct Device Device;
typedef struct DeviceType DeviceType;

/* The action after an I/O error, as set by werror= and rerror=. */
typedef enum DeviceIoAction { DEVICE_IO_IGNORE, DEVICE_IO_REPORT, DEVICE_IO_STOP } DeviceIoAction;

typedef struct DeviceIoError {
    const char *node; /* name of the disk's node */
    bool is_read;
    DeviceIoAction action;
    int error; /* errno */
} DeviceIoError;

/* What the board gives to every device; lives as long as the machine. */
typedef struct DeviceEnv {
    const Machine *machine;
    GuestRam *ram;
    AddressSpace *mmio;
    AddressSpace *pio;
    AioContext *main_ctx;
    AioContext *default_iothread; /* always present */
    void *opaque;                 /* first argument of the callbacks below */
    /* The context of iothread @id, or NULL if there is none. */
    AioContext *(*find_iothread)(void *opaque, const char *id);
    /* Whether the random source @id exists. May be NULL: no random source exists. */
    bool (*has_rng)(void *opaque, const char *id);
    /* Reserves chardev @id for @user. Fails if there is no such chardev or another user has it. */
    Chardev *(*find_chardev)(void *opaque, const char *id, const char *user, GError **error);
    /* Ends the reservation. May be NULL: chardevs then stay reserved. */
    void (*release_chardev)(void *opaque, Chardev *chardev);
    /* The guest opened or closed its side of a virtio-serial port. In main, no lock held. May be
     * NULL. */
    void (*serial_port_changed)(void *opaque, const Device *port, bool open);
    /* The tray of the drive @dev has opened or closed. Any thread. May be NULL. */
    void (*tray_moved)(void *opaque, const Device *dev, bool open);
    /* The guest has changed how much memory it has left, in bytes. In main, no lock held. May be
     * NULL. */
    void (*balloon_changed)(void *opaque, uint64_t actual);
    /* The ACPI general-purpose event @gpe has occurred. In main, BQL held. May be NULL. */
    void (*acpi_event)(void *opaque, unsigned gpe);
    IrqGate *const *gates; /* by GSI; a NULL entry, or a GSI past the end, is not connected */
    unsigned gate_count;
    unsigned cpu_count; /* vCPUs; 0 counts as 1 */
    /* I/O of @dev failed; @e is borrowed. Any thread. May be NULL. */
    void (*io_error)(void *opaque, const Device *dev, const DeviceIoError *e);
    struct PciBus *pci_bus; /* the root bus; NULL before it exists */
    Device *fw_cfg;         /* fw_cfg.h; NULL before it exists */
    bool has_firmware;      /* the guest boots by firmware, which looks at expansion ROMs */
} DeviceEnv;

struct DeviceType {
    const char *name;        /* as in -device: "virtio-blk-pci" */
    const char *description; /* one line for -device help */
    size_t instance_size;
    const OptSpec *properties;   /* offsets into the instance; ends with {0}; may be NULL */
    const StateDesc *base_state; /* the bus' part of the instance, saved first
                                  * (pci_device_state_desc); may be NULL */
    const StateDesc *state;      /* NULL: nothing to save */
    bool user_creatable;         /* by -device */
    bool shares_ram;             /* another process maps guest RAM: it needs a descriptor */
    bool
        data_outside; /* the guest's data is in another process, which has it neither frozen nor copied
                                  * with the machine */
    bool single;      /* a machine has one at most */
    const char *bus; /* the bus it plugs into: "pci", "isa", "virtio-serial", "SCSI" or NULL */
    /* Appends the device's own part of its firmware path, "/disk@0,0", to the path of the device
     * it is plugged into, or of its own PCI function. NULL: firmware does not boot from it. */
    void (*firmware_path)(const Device *dev, GString *path);
    const char *provides_bus; /* the bus it provides: "virtio-serial", "SCSI", or NULL */

    /* The part of realize that may take seconds: connects to a process that serves the device. A coroutine in main,
     * without the VM operation lock; other devices come and go meanwhile, and of the machine only `env` is used. A
     * failed co_open releases everything. co_close undoes it if realize is not called. Both may be NULL. */
    bool (*co_open)(Device *dev, GError **error);
    void (*co_close)(Device *dev);
    /* Creates what the config describes; a failed realize releases everything, also what co_open took. A coroutine in main
     * (opening a backend waits for its iothread), before or between register accesses. */
    bool (*realize)(Device *dev, GError **error);
    /* Sets registers to power-on. Called with vCPUs parked and queues stopped; BQL held. */
    void (*reset)(Device *dev);
    /* A coroutine in main: releases what realize took. Queues are already stopped. */
    void (*unrealize)(Device *dev);
    /* Start and stop the queues; coroutines in main. NULL for devices without queues. co_start
     * polls the queues once; false + error: the device stays stopped. co_stop returns when no
     * request is in flight in the device's threads. */
    bool (*co_start)(Device *dev, GError **error);
    void (*co_stop)(Device *dev);
    /* The first part of an unplug: takes nothing new, and returns when nothing is in flight. A
     * coroutine in main, without the VM operation lock: a stop, a start and a reset may come
     * meanwhile. NULL: co_stop does that. */
    void (*co_retire)(Device *dev);
    /* Before a save, VM stopped, BQL held: updates `state` from where the current value is kept
     * (eventfd counters, the clock). May be NULL. */
    void (*pre_save)(Device *dev);
    /* Whether the device can be saved now, VM stopped, BQL held. False + error: a part of its state is where
     * skiff cannot save it. NULL: it can. */
    bool (*can_save)(const Device *dev, GError **error);
    /* Whether the device can have @state, a struct that `state` describes, not the device's own. In main;
     * only the device's config is looked at, and nothing is changed. NULL: what fits the table is possible. */
    bool (*check_state)(const Device *dev, const void *state, GError **error);
    /* After a load, before start, BQL held: rebuilds `runtime`. False + error: the state is impossible; then
     * nothing but `state` has changed. */
    bool (*post_load)(Device *dev, GError **error);
};

struct Device {
    const DeviceType *type;
    char *id;   /* -device id=, or NULL */
    char *path; /* "/machine/peripheral/ID", as in QEMU; NULL until it is set */
    const DeviceEnv *env;
    Device *bus_device; /* parent, borrowed */
    void *child_bus;    /* a ScsiBus, while a controller is realized; else NULL */
    uint32_t bootindex; /* property of types that firmware boots from; UINT32_MAX: none */
    bool opened;        /* co_open was called, and neither co_close nor unrealize since */
    bool realized;
    bool leaving;       /* main: it is being unplugged, and is not started any more */
    LogLimit log_limit; /* for log_guest_error() */
};

/* Finds a type by name or alias; NULL when unknown. The table is hw/device_types.c, one row per
 * type. */
const DeviceType *device_type_find(const char *name) ANY_THREAD;
/* The alias that -device accepts for the type @name, or NULL. */
const char *device_type_alias(const char *name) ANY_THREAD;
/* NULL-terminated array of all types. */
const DeviceType *const *device_type_all(void) ANY_THREAD;

/* Returns a zeroed, unrealized instance with its properties at their defaults. The caller owns
 * it. */
Device *device_new(const DeviceType *type, const DeviceEnv *env, const char *id) ANY_THREAD;
/* Sets properties from @opts. A property that is unknown, ill-typed or out of range is an error;
 * the message names the type, the property and the accepted values. */
bool device_set_properties(Device *dev, OptDict *opts, GError **error) ANY_THREAD;
/* Opens what device_realize() would open and wait for. */
bool device_co_open(Device *dev, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Closes it. Does nothing for a device that is not open, or is realized. */
void device_co_close(Device *dev) coroutine_fn RUNS_IN_MAIN;
/* Opens (if that has not happened), realizes and resets the device, so that it is at power-on. */
bool device_realize(Device *dev, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Does nothing for a device that is not realized. */
void device_unrealize(Device *dev) coroutine_fn RUNS_IN_MAIN;
void device_free(Device *dev) ANY_THREAD;
/* Starts the queues, unless there are none or the device is being unplugged. */
bool device_co_start(Device *dev, GError **error) coroutine_fn RUNS_IN_MAIN;
/* The first part of an unplug. The caller has set dev->leaving under the VM operation lock. */
void device_co_retire(Device *dev) coroutine_fn RUNS_IN_MAIN;
/* Reserves chardev @id; for a NULL @id sets *@chardev to NULL. False + error if there is no such
 * chardev or another device has it. */
bool device_find_chardev(const Device *dev, const char *id, Chardev **chardev, GError **error)
    RUNS_IN_MAIN;
/* Detaches and releases *@chardev, which may be NULL. */
void device_release_chardev(const Device *dev, Chardev **chardev) RUNS_IN_MAIN;
/* A row for the table of properties of a type that firmware boots from. */
#define DEVICE_BOOTINDEX_PROPERTY                                                                  \
    OPT_SPEC(Device, "bootindex", OPT_U32, bootindex, .def = "4294967295",                         \
             .help = "place in the firmware's boot order")
#define DEVICE_NO_BOOTINDEX UINT32_MAX

/* The device's name in messages: its id, else its type's name. */
const char *device_label(const Device *dev) ANY_THREAD;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices: types, life cycle, properties.
 *
 * A DeviceType is a const table at the end of the device's one file. Life cycle, all steps in main
 * under the VM operation lock (at start-up: before anything runs):
 *
 *   device_new --> [properties set] --> realize --> (reset)* --> unrealize --> free
 *
 * A device struct begins with `Device base` and has four marked groups: links (borrowed), config
 * (properties; fixed at realize), state (a nested struct named `state`, saved; its StateDesc covers
 * it without a gap), runtime (rebuilt on load). It is handed what it needs and knows no address.
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

/* What a device makes of an I/O error: as werror= and rerror= say. */
typedef enum DeviceIoAction { DEVICE_IO_IGNORE, DEVICE_IO_REPORT, DEVICE_IO_STOP } DeviceIoAction;

typedef struct DeviceIoError {
    const char *node; /* of the disk */
    bool is_read;
    DeviceIoAction action;
    int error; /* errno */
} DeviceIoError;

/* What the board hands to every device; lives as long as the machine. */
typedef struct DeviceEnv {
    const Machine *machine;
    GuestRam *ram;
    AddressSpace *mmio;
    AddressSpace *pio;
    AioContext *main_ctx;
    AioContext *default_iothread; /* there is always at least one */
    void *opaque;                 /* first argument of the callbacks below */
    /* The context of iothread @id; NULL: there is none of that name. */
    AioContext *(*find_iothread)(void *opaque, const char *id);
    /* Whether there is a source of random bytes of that name. NULL: there are none. */
    bool (*has_rng)(void *opaque, const char *id);
    /* The chardev @id, which is @user's from then on. NULL + error: there is none, or it is another
     * one's. */
    Chardev *(*find_chardev)(void *opaque, const char *id, const char *user, GError **error);
    /* Gives it back: another device may have it. NULL: chardevs are never given back. */
    void (*release_chardev)(void *opaque, Chardev *chardev);
    /* The guest has opened or closed its side of a virtio-serial port. In main, no lock held. NULL:
     * nobody wants to know. */
    void (*serial_port_changed)(void *opaque, const Device *port, bool open);
    IrqGate *const *gates; /* by GSI; a NULL entry or one past the end goes nowhere */
    unsigned gate_count;
    unsigned cpu_count; /* vCPUs; 0 counts as 1 */
    /* I/O of @dev has failed; @e is borrowed. Any thread. NULL: nobody wants to know. */
    void (*io_error)(void *opaque, const Device *dev, const DeviceIoError *e);
    struct PciBus *pci_bus; /* the root bus; NULL: the machine has none (or not yet) */
} DeviceEnv;

struct DeviceType {
    const char *name;        /* as in -device: "virtio-blk-pci" */
    const char *description; /* one line for -device help */
    size_t instance_size;
    const OptSpec *properties;   /* offsets into the instance; ends with {0}; NULL: none */
    const StateDesc *base_state; /* the bus' part of the instance, saved first
                                    (pci_device_state_desc); NULL: none */
    const StateDesc *state;      /* NULL: nothing to save */
    bool user_creatable;         /* by -device */
    const char *bus;             /* what it plugs into: "pci", "isa", "virtio-serial" or NULL */
    const char *provides_bus;    /* what plugs into it: "virtio-serial", or NULL */

    /* Builds what the config asks for; on failure leaves nothing behind. A coroutine in main
     * (opening a backend waits for its iothread), before or between register accesses. */
    bool (*realize)(Device *dev, GError **error);
    /* Registers back to power-on. Called with vCPUs parked and queues taken back; BQL held. */
    void (*reset)(Device *dev);
    /* A coroutine in main: gives up what realize took; queues have been taken back before. */
    void (*unrealize)(Device *dev);
    /* Queues: hand over / take back; coroutines in main. NULL for devices without. `start` looks at
     * the queues at once. False + error: it cannot start, and is as stopped as before. `stop`
     * returns when no request is in flight in the device's threads. */
    bool (*co_start)(Device *dev, GError **error);
    void (*co_stop)(Device *dev);
    /* Before a save, VM stopped, BQL held: brings `state` up to date where the truth is elsewhere
     * (eventfd counters, the clock). NULL: `state` always is. */
    void (*pre_save)(Device *dev);
    /* After a load, before start, BQL held: checks and rebuilds `runtime`. */
    bool (*post_load)(Device *dev, GError **error);
};

struct Device {
    const DeviceType *type;
    char *id;   /* -device id=, or NULL */
    char *path; /* "/machine/peripheral/ID", as in QEMU; NULL: nobody has given it one */
    const DeviceEnv *env;
    Device *bus_device; /* parent, borrowed */
    bool realized;
    LogLimit log_limit; /* for log_guest_error() */
};

/* By name or alias; NULL when unknown. The table is hw/device_types.c: one row per type. */
const DeviceType *device_type_find(const char *name) ANY_THREAD;
/* The other name that -device takes for the type @name, or NULL. */
const char *device_type_alias(const char *name) ANY_THREAD;
/* NULL-terminated array of all types. */
const DeviceType *const *device_type_all(void) ANY_THREAD;

/* A zeroed instance with its properties at their defaults. Realized by nobody; the caller owns it.
 */
Device *device_new(const DeviceType *type, const DeviceEnv *env, const char *id) ANY_THREAD;
/* Sets properties from @opts; what is unknown, ill-typed or out of range is an error that names the
 * type, the property and what would work. */
bool device_set_properties(Device *dev, OptDict *opts, GError **error) ANY_THREAD;
/* Realizes, then resets once, so that the device is at power-on. */
bool device_realize(Device *dev, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Nothing when it is not realized. */
void device_unrealize(Device *dev) coroutine_fn RUNS_IN_MAIN;
void device_free(Device *dev) ANY_THREAD;
/* The chardev of that id; @id NULL is none: *@chardev is NULL then. False + error when there is no
 * such chardev, or another device has it. */
bool device_find_chardev(const Device *dev, const char *id, Chardev **chardev, GError **error)
    RUNS_IN_MAIN;
/* Gives *@chardev back, if it is one; detached. */
void device_release_chardev(const Device *dev, Chardev **chardev) RUNS_IN_MAIN;
/* What to call it in messages: its id, else its type's name. */
const char *device_label(const Device *dev) ANY_THREAD;

#endif

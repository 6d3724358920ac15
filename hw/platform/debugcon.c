/* SPDX-License-Identifier: Apache-2.0 */
/*
 * isa-debugcon: each byte written to the port is output. Reading returns a constant by which
 * firmware detects the port (Bochs' 0xe9 hack).
 *
 * The port has no busy status, and no output may be lost. So while the chardev is full, a write is
 * pended until the chardev has room. When the vCPU is to stop, the byte goes into the chardev's
 * reserve; it is lost only when that is full too, after many stops without a reader.
 */
#include "hw/platform/isa.h"
#include "hw/platform/trace_events.h"

typedef struct Debugcon {
    Device base;
    /* config */
    uint32_t iobase, readback;
    char *chardev_id;
    /* runtime */
    Chardev *chardev;
    IoRegion region;
    Pended full;
} Debugcon;

static MmioResult debugcon_access(void *opaque, IoAccess *access)
{
    Debugcon *d = opaque;
    assert_bql();
    if (!access->is_write) {
        access->value = d->readback;
        return MMIO_DONE;
    }
    uint8_t byte = (uint8_t)access->value;
    if (!access->must_retire) {
        if (chardev_write(d->chardev, &byte, 1) != 0) {
            return MMIO_DONE;
        }
        trace_debugcon_full(device_label(&d->base));
        return pended_wait_for(&d->full, access);
    }
    if (chardev_write_reserved(d->chardev, &byte, 1) == 0) {
        log_limited(&d->base.log_limit,
                    "%s: output is lost: the VM stops, and chardev '%s' has no reader",
                    device_label(&d->base), d->chardev_id);
    }
    return MMIO_DONE;
}

static const IoRegionOps debugcon_ops = {.access = debugcon_access, .min_size = 1, .max_size = 1};

static void debugcon_writable(void *opaque)
{
    Debugcon *d = opaque;
    enter_main();
    bql_lock();
    pended_finish(&d->full);
    bql_unlock();
}

static size_t debugcon_can_receive(void *opaque)
{
    return 0;
}

static void debugcon_event(void *opaque, ChardevEvent event)
{
    /* A disconnected peer may make room: the chardev then drops output. */
    debugcon_writable(opaque);
}

static const ChardevFrontendOps debugcon_frontend = {
    .can_receive = debugcon_can_receive,
    .event = debugcon_event,
    .writable = debugcon_writable,
};

static bool debugcon_realize(Device *dev, GError **error)
{
    Debugcon *d = (Debugcon *)dev;
    enter_main();
    d->full.what = "debug console output";
    d->region = (IoRegion){.name = "isa-debugcon", .ops = &debugcon_ops, .opaque = d, .size = 1};
    if (!device_find_chardev(dev, d->chardev_id, &d->chardev, error) ||
        !isa_device_attach(dev, &d->region, d->iobase, error)) {
        return false;
    }
    if (d->chardev != NULL) {
        chardev_attach(d->chardev, &debugcon_frontend, d);
    }
    return true;
}

static void debugcon_unrealize(Device *dev)
{
    Debugcon *d = (Debugcon *)dev;
    enter_main();
    isa_device_detach(&d->region);
    if (d->chardev != NULL) {
        chardev_attach(d->chardev, NULL, NULL);
    }
    bql_lock();
    pended_finish(&d->full); /* the accesses are dispatched again and find no device */
    bql_unlock();
}

static const OptSpec debugcon_properties[] = {
    {.name = "iobase",
     .type = OPT_U32,
     .offset = offsetof(Debugcon, iobase),
     .help = "port",
     .def = "0xe9",
     .max = 0xffff},
    {.name = "readback",
     .type = OPT_U32,
     .offset = offsetof(Debugcon, readback),
     .help = "value that the port reads as",
     .def = "0xe9",
     .max = 0xff},
    {.name = "chardev",
     .type = OPT_STRING,
     .offset = offsetof(Debugcon, chardev_id),
     .help = "chardev of the output (default: none)"},
    {0},
};

const DeviceType debugcon_type = {
    .name = "isa-debugcon",
    .description = "debug console: one port, output only",
    .instance_size = sizeof(Debugcon),
    .properties = debugcon_properties,
    .user_creatable = true,
    .bus = "isa",
    .realize = debugcon_realize,
    .unrealize = debugcon_unrealize,
};

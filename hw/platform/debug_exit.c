/* SPDX-License-Identifier: Apache-2.0 */
/* isa-debug-exit: a write ends the VM; skiff's exit status is (value << 1) | 1. */
#include "hw/platform/isa.h"

typedef struct DebugExit {
    Device base;
    /* config */
    uint32_t iobase, iosize;
    /* runtime */
    IoRegion region;
} DebugExit;

static MmioResult debug_exit_access(void *opaque, IoAccess *access)
{
    DebugExit *d = opaque;
    assert_bql();
    if (access->is_write) {
        const Machine *machine = d->base.env->machine;
        machine_request(machine, VM_REQUEST_DEBUG_EXIT, (int64_t)access->value);
    } else {
        access->value = 0;
    }
    return MMIO_DONE;
}

static const IoRegionOps debug_exit_ops = {
    .access = debug_exit_access, .min_size = 1, .max_size = 4, .unaligned = true};

static bool debug_exit_realize(Device *dev, GError **error)
{
    DebugExit *d = (DebugExit *)dev;
    enter_main();
    d->region = (IoRegion){
        .name = "isa-debug-exit", .ops = &debug_exit_ops, .opaque = d, .size = d->iosize};
    return isa_device_attach(dev, &d->region, d->iobase, error);
}

static void debug_exit_unrealize(Device *dev)
{
    enter_main();
    isa_device_detach(&((DebugExit *)dev)->region);
}

static const OptSpec debug_exit_properties[] = {
    {.name = "iobase",
     .type = OPT_U32,
     .offset = offsetof(DebugExit, iobase),
     .help = "first port",
     .def = "0x501",
     .max = 0xffff},
    {.name = "iosize",
     .type = OPT_U32,
     .offset = offsetof(DebugExit, iosize),
     .help = "number of ports",
     .def = "2",
     .min = 1,
     .max = 8},
    {0},
};

const DeviceType debug_exit_type = {
    .name = "isa-debug-exit",
    .description = "ends the VM with an exit status set by the guest",
    .instance_size = sizeof(DebugExit),
    .properties = debug_exit_properties,
    .user_creatable = true,
    .bus = "isa",
    .realize = debug_exit_realize,
    .unrealize = debug_exit_unrealize,
};

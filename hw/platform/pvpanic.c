/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pvpanic on ISA: the guest reads which events the port accepts and writes the one that happened.
 * Linux Documentation: bit 0 panicked, bit 1 crash dump loaded.
 */
#include "hw/platform/isa.h"

#define PVPANIC_PANICKED 1
#define PVPANIC_CRASH_LOADED 2
#define PVPANIC_EVENTS (PVPANIC_PANICKED | PVPANIC_CRASH_LOADED)

typedef struct Pvpanic {
    Device base;
    /* config */
    uint32_t ioport, events;
    /* runtime */
    IoRegion region;
} Pvpanic;

static MmioResult pvpanic_access(void *opaque, IoAccess *access)
{
    Pvpanic *p = opaque;
    assert_bql();
    if (!access->is_write) {
        access->value = p->events;
        return MMIO_DONE;
    }
    uint64_t known = access->value & p->events;
    if (known != access->value) {
        log_guest_error(&p->base.log_limit, device_label(&p->base), "unknown panic event 0x%x",
                        (unsigned)access->value);
    }
    if (known != 0) {
        const Machine *machine = p->base.env->machine;
        machine_request(machine, VM_REQUEST_PANIC, (int64_t)known);
    }
    return MMIO_DONE;
}

static const IoRegionOps pvpanic_ops = {.access = pvpanic_access, .min_size = 1, .max_size = 1};

static bool pvpanic_realize(Device *dev, GError **error)
{
    Pvpanic *p = (Pvpanic *)dev;
    enter_main();
    p->region = (IoRegion){.name = "pvpanic", .ops = &pvpanic_ops, .opaque = p, .size = 1};
    return isa_device_attach(dev, &p->region, p->ioport, error);
}

static void pvpanic_unrealize(Device *dev)
{
    enter_main();
    isa_device_detach(&((Pvpanic *)dev)->region);
}

static const OptSpec pvpanic_properties[] = {
    {.name = "ioport",
     .type = OPT_U32,
     .offset = offsetof(Pvpanic, ioport),
     .help = "port",
     .def = "0x505",
     .max = 0xffff},
    {.name = "events",
     .type = OPT_U32,
     .offset = offsetof(Pvpanic, events),
     .help = "events that the guest may report: 1 panicked, 2 crash dump loaded, 3 both",
     .def = "3",
     .max = PVPANIC_EVENTS},
    {0},
};

const DeviceType pvpanic_type = {
    .name = "pvpanic",
    .description = "port on which the guest reports a panic",
    .instance_size = sizeof(Pvpanic),
    .properties = pvpanic_properties,
    .user_creatable = true,
    .bus = "isa",
    .realize = pvpanic_realize,
    .unrealize = pvpanic_unrealize,
};

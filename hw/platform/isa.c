/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/platform/isa.h"

#define ISA_PORT_COUNT UINT64_C(0x10000)
#define ISA_PRIORITY 1 /* above PCI BARs, which have 0 */

bool isa_region_attach(AddressSpace *pio, const char *who, IoRegion *region, uint32_t port,
                       GError **error)
{
    if (port >= ISA_PORT_COUNT || region->size > ISA_PORT_COUNT - port) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "%s: ports 0x%x-0x%" G_GINT64_MODIFIER "x do not exist: the last is 0xffff",
                    who, port, port + region->size - 1);
        return false;
    }
    bql_lock();
    const IoRegion *other = address_space_find_overlap(pio, port, region->size);
    while (other != NULL && other->priority < ISA_PRIORITY) {
        uint64_t after = other->base + other->size;
        other = after < port + region->size
                    ? address_space_find_overlap(pio, MAX(after, port),
                                                 port + region->size - MAX(after, port))
                    : NULL;
    }
    if (other == NULL) {
        address_space_map(pio, region, port, ISA_PRIORITY);
    } else {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "%s: ports 0x%x-0x%x are taken by %s (0x%x-0x%x)", who, port,
                    port + (unsigned)region->size - 1, other->name, (unsigned)other->base,
                    (unsigned)(other->base + other->size - 1));
    }
    bql_unlock();
    return other == NULL;
}

bool isa_device_attach(Device *dev, IoRegion *region, uint32_t port, GError **error)
{
    return isa_region_attach(dev->env->pio, device_label(dev), region, port, error);
}

void isa_device_detach(IoRegion *region)
{
    bql_lock();
    address_space_unmap(region);
    bql_unlock();
}

void isa_irq_connect(const Device *dev, IrqLine *line, unsigned irq)
{
    bool exists = irq != 0 && irq < dev->env->gate_count;
    irq_line_init(line, exists ? dev->env->gates[irq] : NULL);
}

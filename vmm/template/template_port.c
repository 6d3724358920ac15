/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/template/template_port.h"

#include "hw/platform/isa.h"

static struct {
    IoRegion region;
    AioBh written;
} template_port;

static MmioResult template_port_access(void *opaque, IoAccess *access)
{
    assert_bql();
    if (access->is_write) {
        aio_bh_schedule(&template_port.written);
    } else {
        access->value = 0;
    }
    return MMIO_DONE;
}

static const IoRegionOps template_port_ops = {
    .access = template_port_access, .min_size = 1, .max_size = 4, .unaligned = true};

bool template_port_open(Vm *vm, uint32_t port, void (*written)(void *opaque), GError **error)
{
    aio_bh_init(&template_port.written, vm->ctx, written, NULL);
    template_port.region =
        (IoRegion){.name = "-snapshot-at port=", .ops = &template_port_ops, .size = 1};
    return isa_region_attach(vm->machine.pio, template_port.region.name, &template_port.region,
                             port, error);
}

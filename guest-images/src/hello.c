/* SPDX-License-Identifier: Apache-2.0 */
/* Prints a banner and what the loader handed over, and passes. */
#include "lib/guest.h"

static uint32_t sum_bytes(const BootRange *module)
{
    const uint8_t *bytes = (const uint8_t *)module->base;
    uint32_t sum = 0;
    for (uint64_t i = 0; i < module->size; i++) {
        sum += bytes[i];
    }
    return sum;
}

void guest_main(void)
{
    uint64_t ram = 0;
    for (unsigned i = 0; i < bootinfo.range_count; i++) {
        if (bootinfo.ranges[i].type == BOOTINFO_TYPE_RAM) {
            ram += bootinfo.ranges[i].size;
        }
    }
    printf("hello: skiff guest, entered by %s\n",
           bootinfo.protocol == BOOT_PROTOCOL_PVH ? "PVH" : "Multiboot");
    printf("hello: command line: %s\n", bootinfo.command_line);
    printf("hello: memory: %lu KiB in %u ranges\n", ram >> 10, bootinfo.range_count);
    for (unsigned i = 0; i < bootinfo.module_count; i++) {
        const BootRange *module = &bootinfo.modules[i];
        printf("hello: module %u: size=%lu sum=%u\n", i, module->size, sum_bytes(module));
    }
    printf("hello: PASS\n");
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prints a banner and the loader's information, and passes. With `ram=touch` it also writes to
 * every 2 MiB of RAM from 16 MiB on, also above 4 GiB, and checks each value; not together with
 * modules, which would be overwritten.
 */
#include "lib/guest.h"
#include "lib/memory.h"

#define TOUCH_START (16ul << 20)
#define TOUCH_STEP (2ul << 20)

static uint32_t sum_bytes(const BootRange *module)
{
    const uint8_t *bytes = (const uint8_t *)module->base;
    uint32_t sum = 0;
    for (uint64_t i = 0; i < module->size; i++) {
        sum += bytes[i];
    }
    return sum;
}

/* Writes its own address to each word, or checks it; returns the number of words. */
static uint64_t touch_range(const BootRange *range, bool check)
{
    uint64_t count = 0;
    uint64_t start = range->base < TOUCH_START ? TOUCH_START : range->base;
    for (uint64_t gpa = start; gpa + TOUCH_STEP <= range->base + range->size; gpa += TOUCH_STEP) {
        volatile uint64_t *word = (volatile uint64_t *)gpa;
        if (!check) {
            *word = gpa;
        } else if (*word != gpa) {
            guest_fail("hello: RAM at 0x%lx holds 0x%lx", gpa, *word);
        }
        count++;
    }
    return count;
}

static void touch_ram(void)
{
    uint64_t count = 0;
    for (unsigned pass = 0; pass < 3; pass++) {
        for (unsigned i = 0; i < bootinfo.range_count; i++) {
            const BootRange *range = &bootinfo.ranges[i];
            if (range->type != BOOTINFO_TYPE_RAM) {
                continue;
            }
            if (pass == 0) {
                memory_map(range->base, range->size);
            } else {
                count += touch_range(range, pass == 2);
            }
        }
    }
    printf("hello: ram: %lu places kept what was written\n", count / 2);
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
    if (bootinfo_is_value("ram", "touch")) {
        touch_ram();
    }
    printf("hello: PASS\n");
}

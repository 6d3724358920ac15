/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/flash.h"
#include "lib/bootinfo.h"
#include "lib/cpu.h"
#include "lib/exit.h"

#define ROM_BASE 0xfffe0000u /* guests.mk */

uint32_t flash_read(const Flash *f, uint32_t at, unsigned size)
{
    return size == 1   ? mmio_read8(f->base + at)
           : size == 2 ? mmio_read16(f->base + at)
                       : mmio_read32(f->base + at);
}

void flash_write(const Flash *f, uint32_t at, uint32_t value, unsigned size)
{
    if (size == 1) {
        mmio_write8(f->base + at, (uint8_t)value);
    } else if (size == 2) {
        mmio_write16(f->base + at, (uint16_t)value);
    } else {
        mmio_write32(f->base + at, value);
    }
}

Flash flash_find(void)
{
    Flash f = {.size = (uint32_t)bootinfo_get_number("size", 64 << 10)};
    f.base = bootinfo_get_number("base", ROM_BASE - f.size);
    flash_write(&f, 0, FLASH_CLEAR, 1);
    flash_write(&f, 0, FLASH_STATUS, 1);
    uint32_t status = flash_read(&f, 0, 1);
    flash_write(&f, 0, FLASH_ARRAY, 1);
    if (status != 0) {
        guest_refuse(EXIT_MISSING, "no flash at 0x%lx: status 0x%x", f.base, status);
    }
    return f;
}

static void expect_ready(const Flash *f, uint32_t at, const char *what)
{
    uint32_t status = flash_read(f, at, 1);
    if (status != FLASH_READY) {
        guest_fail("%s at 0x%x: status 0x%x", what, at, status);
    }
}

void flash_program(const Flash *f, uint32_t at, uint32_t value, unsigned size)
{
    flash_write(f, at, FLASH_PROGRAM, 1);
    flash_write(f, at, value, size);
    expect_ready(f, at, "program");
}

void flash_erase(const Flash *f, uint32_t at)
{
    flash_write(f, at, FLASH_ERASE, 1);
    flash_write(f, at, FLASH_CONFIRM, 1);
    expect_ready(f, at, "erase");
}

void flash_show_array(const Flash *f)
{
    flash_write(f, 0, FLASH_ARRAY, 1);
}

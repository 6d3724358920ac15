/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/board/x86_64/flash.h"

#include "hw/firmware/pflash.h"
#include "vmm/arch/x86_64/layout.h"

#define FLASH_UNITS BACKENDS_PFLASH_COUNT

/* The node or drive of @unit; NULL: there is none. False + error: two are given. */
static RUNS_IN_MAIN bool flash_find(const VmMachine *m, unsigned unit, const char **name,
                                    GError **error)
{
    const char *node = m->config->pflash[unit];
    const char *drive = backends_pflash_drive(m->backends, unit);
    if (node != NULL && drive != NULL) {
        g_set_error(
            error, OPT_ERROR, OPT_ERROR_DUPLICATE,
            "-machine pflash%u=%s and -drive if=pflash,unit=%u are the same flash: give one", unit,
            node, unit);
        return false;
    }
    *name = node != NULL ? node : drive;
    return true;
}

bool x86_flash_is_given(const VmMachine *m)
{
    for (unsigned unit = 0; unit < FLASH_UNITS; unit++) {
        if (m->config->pflash[unit] != NULL || backends_pflash_drive(m->backends, unit) != NULL) {
            return true;
        }
    }
    return false;
}

static coroutine_fn RUNS_IN_MAIN Device *flash_co_add_unit(VmMachine *m, unsigned unit,
                                                           const char *drive, GError **error)
{
    g_autofree char *id = g_strdup_printf("system.flash%u", unit);
    g_autoptr(OptDict) props = opt_dict_new();
    opt_dict_set(props, "drive", drive);
    backends_apply_drive_defaults(m->backends, props);
    Device *dev = machine_co_add_device(m, "cfi.pflash01", id, props, error);
    if (dev != NULL) {
        g_free(dev->path);
        dev->path = g_strdup_printf("/machine/%s", id);
    }
    return dev;
}

bool x86_flash_co_add(VmMachine *m, BootRom *rom, GError **error)
{
    uint64_t total = 0;
    for (unsigned unit = 0; unit < FLASH_UNITS; unit++) {
        const char *drive;
        if (!flash_find(m, unit, &drive, error)) {
            return false;
        }
        if (drive == NULL) {
            continue;
        }
        if (unit > 0 && total == 0) {
            g_set_error(error, OPT_ERROR, OPT_ERROR_MISSING,
                        "pflash%u requires pflash0, where the processor starts", unit);
            return false;
        }
        Device *dev = flash_co_add_unit(m, unit, drive, error);
        if (dev == NULL) {
            return false;
        }
        uint64_t size = pflash_size(dev);
        if (size > X86_ROM_MAX_SIZE - total) {
            g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                        "the flash drives have %" G_GUINT64_FORMAT " KiB together; the machine has "
                        "room for %u MiB",
                        (total + size) >> 10, (unsigned)(X86_ROM_MAX_SIZE >> 20));
            return false;
        }
        total += size;
        pflash_map(dev, X86_4GIB - total);
        if (unit == 0) {
            *rom = (BootRom){.content = pflash_array(dev), .size = size};
        }
    }
    return true;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/board/x86_64/board_boot.h"

#include <string.h>
#include "hw/firmware/fw_cfg.h"
#include "hw/platform/rtc.h"
#include "vmm/machine/boot_order.h"

#define FILE_BOOT_MENU_WAIT "etc/boot-menu-wait"
#define CMOS_BOOT_3 0x38
#define CMOS_BOOT_1_AND_2 0x3d
#define CMOS_LAST_CPU 0x5f

/* The device types as SeaBIOS has them in CMOS: 1 floppy, 2 disk, 3 CD, 4 network. */
static uint8_t board_boot_code(char drive)
{
    switch (drive) {
    case 'a':
    case 'b':
        return 1;
    case 'c':
        return 2;
    case 'd':
        return 3;
    case 'n':
        return 4;
    default:
        return 0;
    }
}

static RUNS_IN_MAIN void board_boot_set_cmos(const VmMachine *m, Device *rtc, unsigned cpus,
                                             bool first)
{
    uint8_t codes[3] = {0};
    const char *drives = machine_boot_drives(m, first);
    for (unsigned i = 0; i < G_N_ELEMENTS(codes) && drives[i] != '\0'; i++) {
        codes[i] = board_boot_code(drives[i]);
    }
    rtc_set_cmos(rtc, CMOS_BOOT_1_AND_2, (uint8_t)(codes[1] << 4 | codes[0]));
    rtc_set_cmos(rtc, CMOS_BOOT_3, (uint8_t)(codes[2] << 4));
    rtc_set_cmos(rtc, CMOS_LAST_CPU, (uint8_t)(cpus - 1));
}

static RUNS_IN_MAIN GBytes *board_boot_order(const VmMachine *m)
{
    char *order = machine_boot_order(m);
    return order != NULL ? g_bytes_new_take(order, strlen(order) + 1) : g_bytes_new(NULL, 0);
}

static GBytes *board_boot_number(int32_t value, unsigned size)
{
    const uint32_t le = GUINT32_TO_LE((uint32_t)value);
    return g_bytes_new(&le, size);
}

bool board_boot_add(const VmMachine *m, Device *fw_cfg, GError **error)
{
    const BootConfig *boot = &m->config->boot;
    int32_t timeout = boot->reboot_timeout_ms == BOOT_TIMEOUT_UNSET ? -1 : boot->reboot_timeout_ms;
    fw_cfg_set_number(fw_cfg, FW_CFG_BOOT_MENU, boot->menu, 2);
    return fw_cfg_add_file(fw_cfg, "bootorder", g_bytes_new(NULL, 0), error) &&
           fw_cfg_add_file(fw_cfg, "etc/boot-fail-wait", board_boot_number(timeout, 4), error) &&
           (boot->splash_time_ms < 0 ||
            fw_cfg_add_file(fw_cfg, FILE_BOOT_MENU_WAIT, board_boot_number(boot->splash_time_ms, 2),
                            error));
}

void board_boot_update(const VmMachine *m, Device *rtc, Device *fw_cfg, unsigned cpus, bool first)
{
    board_boot_set_cmos(m, rtc, cpus, first);
    fw_cfg_set_file(fw_cfg, "bootorder", board_boot_order(m));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The devices that the board always has, and those that the command line's backends bring with them. */
#include <string.h>
#include "vmm/board/x86_64/board_devices.h"

typedef enum BoardCondition {
    BOARD_ALWAYS,
    BOARD_COM1,
    BOARD_COM2,
    BOARD_DEBUGCON,
    BOARD_LPC,
    BOARD_RTC,
    BOARD_UNLESS_GIVEN, /* -device may create it with other properties */
} BoardCondition;

/* One row per device, in order of creation. */
static const struct BoardRow {
    const char *type;
    const char *properties;
    BoardCondition when;
} board_rows[] = {
    /* clang-format off */
    {"q35-host",     "",        BOARD_ALWAYS},
    {"ich9-lpc",     "",        BOARD_LPC},
    {"i8042",        "",        BOARD_ALWAYS},
    {"post-port",    "",        BOARD_ALWAYS},
    {"fw_cfg_io",    "",        BOARD_ALWAYS},
    {"mc146818rtc",  "",        BOARD_RTC},
    {"isa-serial",   "index=0", BOARD_COM1},
    {"isa-serial",   "index=1", BOARD_COM2},
    {"isa-debugcon", "",        BOARD_DEBUGCON},
    {"pvpanic",      "",        BOARD_UNLESS_GIVEN},
    /* clang-format on */
};

static const char *board_serial(const VmMachine *m, unsigned index)
{
    return index < m->backends->serials->len ? m->backends->serials->pdata[index] : NULL;
}

static bool board_is_given(const VmMachine *m, const char *type)
{
    for (unsigned i = 0; i < m->config->devices->len; i++) {
        if (g_strcmp0(opt_dict_get(m->config->devices->pdata[i], "driver"), type) == 0) {
            return true;
        }
    }
    return false;
}

/* Adds the command line's settings for the row's device to @props. False: the machine has no such
 * device. */
static bool board_row_properties(const VmMachine *m, const struct BoardRow *row, OptDict *props)
{
    const char *chardev = NULL;
    switch (row->when) {
    case BOARD_ALWAYS:
        return true;
    case BOARD_LPC:
        opt_dict_set(props, "noreboot", m->config->tco_no_reboot ? "on" : "off");
        return true;
    case BOARD_RTC:
        if (m->config->rtc_base != NULL) {
            opt_dict_set(props, "base", m->config->rtc_base);
        }
        return true;
    case BOARD_UNLESS_GIVEN:
        return !board_is_given(m, row->type);
    case BOARD_COM1:
        chardev = board_serial(m, 0);
        break;
    case BOARD_COM2:
        chardev = board_serial(m, 1);
        break;
    case BOARD_DEBUGCON:
        chardev = m->backends->debugcon;
        break;
    }
    if (chardev != NULL) {
        opt_dict_set(props, "chardev", chardev);
    }
    return chardev != NULL;
}

static coroutine_fn RUNS_IN_MAIN bool board_co_add_row(VmMachine *m, const struct BoardRow *row,
                                                       GError **error)
{
    g_autoptr(OptDict) props =
        row->properties[0] != '\0' ? opt_dict_parse(row->properties, NULL, error) : opt_dict_new();
    if (props == NULL) {
        return false;
    }
    return !board_row_properties(m, row, props) ||
           machine_co_add_device(m, row->type, NULL, props, error) != NULL;
}

bool x86_board_co_add_devices(VmMachine *m, GError **error)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(board_rows); i++) {
        if (!board_co_add_row(m, &board_rows[i], error)) {
            return false;
        }
    }
    return true;
}

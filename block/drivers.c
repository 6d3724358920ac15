/* SPDX-License-Identifier: Apache-2.0 */
/* The drivers there are. */
#include <string.h>
#include "block/drivers.h"

const BlockDriver *const block_drivers[] = {
    &block_driver_fault,    &block_driver_file,    &block_driver_host_device, &block_driver_mem,
    &block_driver_null_aio, &block_driver_null_co, &block_driver_raw,         NULL,
};

const char *const *block_driver_names(void)
{
    static const char *names[G_N_ELEMENTS(block_drivers)];
    static gsize once;
    if (g_once_init_enter(&once)) {
        for (unsigned i = 0; block_drivers[i] != NULL; i++) {
            names[i] = block_drivers[i]->name;
        }
        g_once_init_leave(&once, 1);
    }
    return names;
}

const BlockDriver *block_driver_find(const char *name)
{
    for (unsigned i = 0; block_drivers[i] != NULL; i++) {
        if (strcmp(block_drivers[i]->name, name) == 0) {
            return block_drivers[i];
        }
    }
    return NULL;
}

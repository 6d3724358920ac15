/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <string.h>
#include "block/node.h"

static const BlockDriver *const *driver_table;
static const char **driver_names;

void block_setup(const BlockDriver *const drivers[])
{
    unsigned count = 0;
    while (drivers[count] != NULL) {
        count++;
    }
    g_free(driver_names);
    driver_names = g_new0(const char *, count + 1);
    for (unsigned i = 0; i < count; i++) {
        driver_names[i] = drivers[i]->name;
    }
    driver_table = drivers;
}

const char *const *block_driver_names(void)
{
    assert(driver_table != NULL);
    return driver_names;
}

const BlockDriver *block_driver_find(const char *name)
{
    assert(driver_table != NULL);
    for (unsigned i = 0; driver_table[i] != NULL; i++) {
        if (strcmp(driver_table[i]->name, name) == 0) {
            return driver_table[i];
        }
    }
    return NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Sets the lists that skiff's main() sets before anything else, for every test
 * program. */
#include "block/drivers.h"
#include "vmm/monitor/qmp_tables.h"

static __attribute__((constructor)) void tables_set(void)
{
    block_setup(block_drivers);
    qmp_setup(qmp_groups);
}

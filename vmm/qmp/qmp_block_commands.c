/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/qmp/qmp.h"
#include "vmm/qmp/qmp_tables.h"

const QmpCommand qmp_block_commands[] = {{0}};
const QmpEvent qmp_block_events[] = {{0}};

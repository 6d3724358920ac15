/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/qmp/qmp.h"
#include "vmm/qmp/qmp_tables.h"

const QmpCommand qmp_chardev_commands[] = {{0}};
const QmpEvent qmp_chardev_events[] = {{0}};

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices whose data is in another process (DeviceType.data_outside): vhost-user-blk-pci, vhost-user-fs-pci. skiff can
 * neither freeze it at the instant of memory nor put it back, so a machine with one cannot go back to an earlier state
 * together with its disks.
 */
#ifndef SKIFF_VMM_SNAPSHOT_MACHINE_OUTSIDE_H
#define SKIFF_VMM_SNAPSHOT_MACHINE_OUTSIDE_H

#include <glib.h>
#include <stdbool.h>
#include "util/loop/thread.h"

/* False + error (STATE_ERROR_MACHINE), which names all such devices of @devices (Device). */
bool machine_outside_check(const GPtrArray *devices, GError **error) RUNS_IN_MAIN;

#endif

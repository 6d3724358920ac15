/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log of what vhost back ends write into guest memory: a logger of GuestRam (hw/core/ram.h).
 *
 * All back ends share one bitmap with a bit for each page of guest-physical address space, in memory that
 * another process can map. They set bits after their writes. A sync takes the bits and marks the pages.
 *
 * guest_ram_co_log_start() waits until each back end that runs has confirmed that it logs; one that starts
 * later logs from its start on. What a back end has logged before it stopped stays until the next sync. The
 * bitmap is freed with the last back end, unless one was lost: it may still have it.
 */
#ifndef SKIFF_HW_VHOST_VHOST_LOG_H
#define SKIFF_HW_VHOST_VHOST_LOG_H

#include "hw/vhost/vhost.h"

/* @dev may run from now on, and its writes to @ram are logged with the others. */
void vhost_log_attach(VhostDev *dev, GuestRam *ram) RUNS_IN_MAIN;
/* @dev does not run any more. What it has logged is marked. */
void vhost_log_detach(VhostDev *dev) RUNS_IN_MAIN;

#endif

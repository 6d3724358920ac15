/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory that stays where it is for a while: an operation that protects pages (migration/ram/capture_wp.h) would
 * miss those that are given back and come again. */
#ifndef SKIFF_HW_CORE_RAM_KEEP_H
#define SKIFF_HW_CORE_RAM_KEEP_H

#include "hw/core/ram.h"

/* From now on guest_ram_discard() fails with -EBUSY and changes nothing, for all RAM of the process; returns when no
 * discard is under way. Each call is undone by one of guest_ram_keep_end(). */
void guest_ram_keep_begin(void) RUNS_IN_WORKER;
void guest_ram_keep_end(void) ANY_THREAD;
unsigned guest_ram_keepers(void) RUNS_IN_WORKER;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Other processes that map guest memory and write it (vhost-user back ends). A protection of this process' pages does not cover
 * their writes.
 *
 * Functions of main.
 */
#ifndef SKIFF_HW_CORE_RAM_OUTSIDE_H
#define SKIFF_HW_CORE_RAM_OUTSIDE_H

#include "util/loop/thread.h"

/* Who has to know when one comes. Owned by the caller, from watch to unwatch. */
typedef struct RamOutsideWatch {
    void (*come)(void *opaque);
    void *opaque;
    struct RamOutsideWatch *next;
} RamOutsideWatch;

/* Before the process gets memory: the watches are called. */
void ram_outside_begin(void) RUNS_IN_MAIN;
/* It has no memory any more. */
void ram_outside_end(void) RUNS_IN_MAIN;
unsigned ram_outside_count(void) RUNS_IN_MAIN;

/* @come is called for each that comes from now on. */
void ram_outside_watch(RamOutsideWatch *w, void (*come)(void *opaque), void *opaque) RUNS_IN_MAIN;
void ram_outside_unwatch(RamOutsideWatch *w) RUNS_IN_MAIN;

#endif

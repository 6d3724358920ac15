/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A point in time to which guest RAM can go back, again and again: a copy of RAM, from which the pages that have
 * changed since are put back.
 *
 * Private memory is copied on write (capture_fork.h): the copy costs memory for pages that change after the point,
 * once. Where there is no such copy (memory that is shared, a memfd; a filter of system calls), all of RAM is copied
 * at once, except pages of zeroes; those that were never touched are not even read. So the copy takes at most as much memory as RAM has.
 *
 * The caller knows which pages have changed: it logs dirty memory from the point on. It is called while the VM is
 * stopped.
 */
#ifndef SKIFF_MIGRATION_RAM_RAM_POINT_H
#define SKIFF_MIGRATION_RAM_RAM_POINT_H

#include "migration/ram/ram_pages.h"

typedef struct RamPoint RamPoint;

/* The point is now. @ram is borrowed until the end. The caller owns the result. NULL + @error. */
RamPoint *ram_point_new(const GuestRam *ram, GError **error) RUNS_IN_WORKER;
/* Whether the copy can still be read: its process may have been killed. 0 or -errno. */
int ram_point_check(const RamPoint *p) RUNS_IN_WORKER;
/* Makes the pages in the set as they were at the point. 0, or -errno: then some pages may be as before. */
int ram_point_restore(const RamPoint *p, const RamPages *pages) RUNS_IN_WORKER;
/* Whether memory is copied on write; else all of it was copied. */
bool ram_point_copies_on_write(const RamPoint *p) ANY_THREAD;
void ram_point_free(RamPoint *p) RUNS_IN_WORKER;

#endif

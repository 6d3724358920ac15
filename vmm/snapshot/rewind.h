/* SPDX-License-Identifier: Apache-2.0 */
/*
 * x-rewind: the machine goes back to a point that is held in memory, again and again, in the same process. For
 * fuzzers and test loops.
 *
 *   from         what happens                                                          to
 *   NONE, LOST   point                                                                 TAKING
 *   HELD         point: another one                                                    TAKING
 *   TAKING       it is taken                                                           HELD
 *   TAKING       it has failed: as before                                              NONE, HELD, LOST
 *   TAKING       it has failed: the disks of the earlier point could not be kept       LOST
 *   HELD         rewind                                                                REWINDING
 *   HELD         rewind: the copy of RAM, or the log, is gone; nothing has changed     LOST
 *   REWINDING    it is back                                                            HELD
 *   REWINDING    it has failed half-way: the VM stays stopped                          LOST
 *   HELD, LOST   end                                                                   NONE
 *   HELD, LOST   end: the disks could not be kept                                      LOST
 *
 *   point    stops the VM, saves the state of vCPUs, chips and devices in memory, logs dirty memory from then on, copies
 *            RAM on write (ram_point.h), and puts an overlay above each disk (rewind_disks.h)
 *   rewind   stops the VM; puts back the pages that have changed, then the state of the rest; empties the overlays. The
 *            VM runs if it ran at the point
 *   end      gives the point up; the machine is left as it is, and disks get what their overlays have
 *
 * Invariants
 *   1. The state moves under the VM operation lock only.
 *   2. HELD and REWINDING have a copy of RAM, a checked state and the log of dirty memory; NONE and LOST have none.
 *      LOST can have overlays, with what the guest has written.
 *   3. A page that differs from the copy is in the set of dirty pages, in the log, or written by a vCPU since. A rewind
 *      that has failed before it changed anything loses none.
 *   4. A rewind that has failed half-way leaves the VM stopped for the reason "internal-error": only a reset lets it
 *      run.
 *   5. A user's stop that comes while a rewind is under way counts.
 *   6. While a point is held no other save logs dirty memory (savevm.h), and no job runs during a point and a rewind.
 *
 * rewind_moves[] (rewind.c) has the moves; another one aborts. Functions of main.
 */
#ifndef SKIFF_VMM_SNAPSHOT_REWIND_H
#define SKIFF_VMM_SNAPSHOT_REWIND_H

#include "vmm/vm/vm.h"

typedef enum RewindState {
    REWIND_NONE,
    REWIND_TAKING,
    REWIND_HELD,
    REWIND_REWINDING,
    REWIND_LOST,
    REWIND_STATE_COUNT,
} RewindState;

typedef struct RewindInfo {
    RewindState state;
    const char *error;    /* of LOST; borrowed */
    bool copies_on_write; /* HELD, REWINDING: the copy of RAM; else all of it was copied */
    uint64_t rewinds;     /* to this point */
    uint64_t pages;       /* put back by the last one, of GUEST_RAM_PAGE bytes */
    int64_t last_ns;      /* that it took, from the stop of the VM to its start */
} RewindInfo;

/* Takes the point. False + error: something cannot go back, and is named; an earlier point is still held. */
bool rewind_co_point(Vm *vm, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Goes back to it. False + error: nothing has changed, or the state is LOST. */
bool rewind_co_back(Vm *vm, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Gives the point up. False + error: there is none. */
bool rewind_co_end(Vm *vm, GError **error) coroutine_fn RUNS_IN_MAIN;
RewindInfo rewind_info(void) RUNS_IN_MAIN;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RAM copied in passes while the guest runs: all of it, then what has changed since, until little is left or passes
 * do not make it less. The last pass, with the VM stopped, gives the copy the instant of the stop.
 *
 *   start_log --> copy (VM runs) --> copy_last (VM stopped) --> stop_log
 *      false: somebody who writes memory cannot log: copy_last copies everything
 *
 * Invariant: dirty memory is logged from a successful start_log to stop_log, and its bits are taken in main.
 *
 * Functions of main.
 */
#ifndef SKIFF_VMM_SNAPSHOT_LIVE_RAM_H
#define SKIFF_VMM_SNAPSHOT_LIVE_RAM_H

#include "vmm/snapshot/state_target.h"
#include "vmm/vm/vm.h"

typedef struct LiveRam {
    Vm *vm;
    StateTarget *target; /* borrowed; open */
    bool logging;
    unsigned passes; /* over memory */
} LiveRam;

/* Takes the operation lock meanwhile. False + @error: somebody cannot log; with @busy: another operation has the log,
 * of which there is one, so that this save must fail. */
bool live_ram_co_start_log(LiveRam *l, bool *busy, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Under the operation lock. Does nothing if there is no log. */
void live_ram_co_stop_log(LiveRam *l) coroutine_fn RUNS_IN_MAIN;
/* Copies while the guest runs, without the operation lock. False + @error: the target has failed, or was
 * cancelled. */
bool live_ram_co_copy(LiveRam *l, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Copies the rest: what has changed, or everything without a log. False + @error as above. */
bool live_ram_co_copy_last(LiveRam *l, const VmStopped *token, GError **error)
    coroutine_fn RUNS_IN_MAIN;

#endif

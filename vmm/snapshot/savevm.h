/* SPDX-License-Identifier: Apache-2.0 */
/*
 * savevm-start and savevm-end: the state of the machine into a file, while the guest runs on as long as possible.
 *
 *   NONE ----start----> ACTIVE --everything is written--> COMPLETED ---end---> NONE
 *    ^                   |  |                              (the VM is stopped)
 *    |                   |  +--an error, the end of skiff--> FAILED --end--> NONE, --start--> ACTIVE
 *    +----cancelled------+
 *
 * RAM is copied in passes: all of it, then what has changed since, while the guest runs. When little is left, or
 * passes do not make it less, the VM is stopped and the rest is copied, with the state of vCPUs, chips and
 * devices: all is of that one instant. The VM then stays stopped until savevm-end, so that its disks can be
 * snapshotted at the same instant. Proxmox' commands and states.
 *
 * Invariants
 *   1. ACTIVE has one coroutine in main, which alone moves ACTIVE on.
 *   2. It holds the VM operation lock only while it starts the log of dirty memory, and from the stop of the VM
 *      to the end; never while it waits for the file with the VM running.
 *   3. A cancel ends every wait for the file at once (state_target.h). The VM runs again if it ran, and a user's
 *      stop meanwhile counts.
 *   4. Dirty memory is logged in ACTIVE only, and its bits are taken in main.
 *   5. COMPLETED, and only that, owes the VM a start: at savevm-end, if it ran.
 *
 * savevm_moves[] (savevm.c) has the moves; another one aborts. Functions of main.
 */
#ifndef SKIFF_VMM_SNAPSHOT_SAVEVM_H
#define SKIFF_VMM_SNAPSHOT_SAVEVM_H

#include "vmm/vm/vm.h"

typedef enum SavevmState {
    SAVEVM_NONE,
    SAVEVM_ACTIVE,
    SAVEVM_COMPLETED,
    SAVEVM_FAILED,
    SAVEVM_STATE_COUNT,
} SavevmState;

typedef struct SavevmInfo {
    SavevmState state;
    const char *error; /* of FAILED; borrowed */
    uint64_t bytes;    /* of guest memory written */
    int64_t total_ns;  /* since the start, or that the save took */
    int64_t pause_ns;  /* from the stop of the VM to COMPLETED */
    unsigned passes;   /* over memory */
} SavevmInfo;

/* Opens @path, which is made if it does not exist, and returns: the save goes on in the background. @path NULL
 * saves no memory: it only stops the VM, for snapshots of its disks. False + error: a save is under way or
 * waits for savevm-end, or the file is not usable. */
bool savevm_co_start(Vm *vm, const char *path, GError **error) coroutine_fn RUNS_IN_MAIN;
/* The same; the file is in the page cache afterwards, for machines that will soon map it. */
bool savevm_co_start_cached(Vm *vm, const char *path, GError **error) coroutine_fn RUNS_IN_MAIN;
/* COMPLETED: starts the VM if it ran. ACTIVE: cancels, and waits until the VM is as before, for at most
 * SAVEVM_CANCEL_NS. False + error: there is no save. */
bool savevm_co_end(Vm *vm, GError **error) coroutine_fn RUNS_IN_MAIN;
#define SAVEVM_CANCEL_NS (INT64_C(5) * 1000000000)
/* Waits until no save is ACTIVE. */
void savevm_co_wait(void) coroutine_fn RUNS_IN_MAIN;
SavevmInfo savevm_info(void) RUNS_IN_MAIN;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots of the whole machine inside its qcow2 disks, as jobs: QEMU's snapshot-save, snapshot-load and
 * snapshot-delete. All disks get an internal snapshot with the same name; one of them also has the machine's state
 * (migration/state_file.h) in it.
 *
 * snapshot-save, which the guest notices only as a short stop:
 *
 *   PREPARE   lock: names are looked up; each image begins a snapshot (flush, dirty bit); the state area is opened
 *   LIVE      while the guest runs: memory is protected, if it will be frozen so (frozen_ram.h); without a frozen copy it
 *             is written in passes (live_ram.h)
 *   FREEZE    lock: the VM is stopped; vCPUs, chips and devices are copied; memory is frozen (frozen_ram.h),
 *             or its last pass is made; all disks switch in one drained section; the VM goes on
 *   RAISE     the images count what their snapshots have, beside the guest
 *   MEMORY    the frozen memory and the state are written behind the running guest
 *   STORE     the snapshot tables are written, last that of the image with the state
 *   END       lock: the operations on the images end
 *
 *   PREPARE --> [LIVE] --> FREEZE --> RAISE --> MEMORY --> STORE --> END
 *      |           ^          |          |         |          |       ^
 *      |           +--frozen--+          |         |          |       |
 *      +-----------+----------+----------+---------+----------+--> UNDO (an error, or a cancel before STORE)
 *
 * Invariants
 *   1. The lock (of VM operations) is held in PREPARE, FREEZE and END only; memory is never written while it is held,
 *      but for a last pass.
 *   2. Between the stop of the VM and the switch of the last disk nothing runs: memory, devices and disks are of one
 *      instant.
 *   3. Until the last snapshot table is on disk, no image has a snapshot with a state and this name. What is in other
 *      images after a crash has no state: it is refused by name, and snapshot-delete removes it.
 *   4. After an error or a cancel the tables have what they had before.
 *   5. A cancel in STORE comes too late: the job succeeds.
 *
 * snapshot-load: the state is read while the guest runs; then, under the lock, it is checked against the machine, the VM
 * is stopped, the disks become what they were, memory and devices are loaded, and the VM goes on if it ran before the
 * load. Nothing is changed before everything was checked. If a part then fails, the VM stays stopped until a reset.
 *
 * snapshot-delete: first the image with the state, so that what is left after a crash cannot be taken for a snapshot
 * of the machine.
 */
#ifndef SKIFF_VMM_SNAPSHOT_SNAPSHOT_JOB_H
#define SKIFF_VMM_SNAPSHOT_SNAPSHOT_JOB_H

#include "vmm/snapshot/frozen_ram.h"
#include "vmm/snapshot/snapshot_disks.h"
#include "vmm/vm/vm.h"

typedef struct SnapshotJobConfig {
    Vm *vm;
    const char *id; /* of the job */
    const char *tag;
    const char *state;        /* the node that has the machine's state; save, load: NULL: chosen */
    const char *const *names; /* of nodes, NULL at the end */
    bool replaces;        /* save: older snapshots with this name go once the new one is complete */
    FrozenRamWay capture; /* save: how */
    bool dismissed;       /* the job goes when it has concluded */
} SnapshotJobConfig;

/* An operation on internal snapshots of @n to its end. Under the operation lock, which is released while the image's
 * tables are walked. False + @error. */
bool snapshot_co_operate(Vm *vm, BlockNode *n, const BlockSnapshotOp *op, GError **error)
    coroutine_fn RUNS_IN_MAIN;

/* They check what can be refused at once, and start the job. The result is borrowed, as job_new()'s. NULL + @error. Under
 * the operation lock. */
Job *snapshot_save_start(const SnapshotJobConfig *config, GError **error) RUNS_IN_MAIN;
Job *snapshot_load_start(const SnapshotJobConfig *config, GError **error) RUNS_IN_MAIN;
Job *snapshot_delete_start(const SnapshotJobConfig *config, GError **error) RUNS_IN_MAIN;

/* What snapshot-save took from the guest. */
typedef struct SnapshotSaveInfo {
    const char
        *capture;     /* "fork", "write-protection", "passes" or "stopped"; NULL: not yet frozen */
    char *why_passes; /* why memory was not frozen; NULL: it was */
    int64_t pause_ns; /* from the request to stop the VM until it was requested to run */
    uint64_t bytes;   /* of memory written */
} SnapshotSaveInfo;
/* NULL: no such job. */
const SnapshotSaveInfo *snapshot_save_info(const Job *job) RUNS_IN_MAIN;

/* Loads @tag into a machine that has been built and has not run, from all disks. Under the operation lock. False + @error:
 * the machine must not run. */
bool snapshot_load_co_at_start(Vm *vm, const char *tag, GError **error) coroutine_fn RUNS_IN_MAIN;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* What the jobs on snapshots of the machine share. Only for this folder. */
#ifndef SKIFF_VMM_SNAPSHOT_SNAPSHOT_JOB_INT_H
#define SKIFF_VMM_SNAPSHOT_SNAPSHOT_JOB_INT_H

#include "util/job/job.h"
#include "vmm/snapshot/snapshot_job.h"

/* The first member of a job's state. */
typedef struct SnapshotJob {
    Vm *vm;
    char *tag, *state;
    char **names;
} SnapshotJob;

void snapshot_job_init(SnapshotJob *j, const SnapshotJobConfig *config) ANY_THREAD;
void snapshot_job_clear(SnapshotJob *j) ANY_THREAD;
/* Creates and starts a job whose step runs in main. Takes @state on success. */
Job *snapshot_job_new(const JobDriver *driver, const SnapshotJobConfig *config, void *state,
                      GError **error) RUNS_IN_MAIN;
/* Looks the names up, under the operation lock. Freed by g_free(). NULL + @error: that of snapshot_disks_find(), or the
 * snapshot's name is empty. */
SnapshotDisks *snapshot_job_disks(const SnapshotJob *j, GError **error) RUNS_IN_MAIN;

/* ---- snapshot_delete.c ---- */
/* Deletes the snapshot with this id. Takes the operation lock where it needs it. False + @error. */
bool snapshot_co_delete_one(Vm *vm, const char *node, const char *id, GError **error)
    coroutine_fn RUNS_IN_MAIN;

/* ---- snapshot_older.c: the snapshots with the name of a new one, which go once that is complete ---- */
typedef struct SnapshotOlder SnapshotOlder;
SnapshotOlder *snapshot_older_new(const char *tag) ANY_THREAD;
void snapshot_older_free(SnapshotOlder *o) ANY_THREAD;
/* Adds those that @n has now. */
void snapshot_older_note(SnapshotOlder *o, BlockNode *n) RUNS_IN_MAIN;
/* One that cannot be deleted remains, and the log says so. Takes the operation lock where it needs it. */
void snapshot_older_co_delete(const SnapshotOlder *o, Vm *vm) coroutine_fn RUNS_IN_MAIN;
/* Deletes a snapshot with the name in @node that is not among them: the save that has made it has failed. */
void snapshot_older_co_delete_others(const SnapshotOlder *o, Vm *vm, const char *node)
    coroutine_fn RUNS_IN_MAIN;

/* Whether a snapshot-save is under way, which may have yet to read what memory was. */
bool snapshot_save_is_running(void) RUNS_IN_MAIN;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dumps of guest memory: an ELF core file for crash and gdb.
 *
 * There is one dump at a time. It is a control operation: it holds the VM operation lock and a
 * VmStopped token from the stop of the VM until everything is written. Then the VM runs again if it
 * ran before, unless a stop was requested meanwhile. Everything that may block (opening, scanning
 * guest memory, writing, closing) runs in a worker; main continues meanwhile. When skiff quits, the
 * dump is aborted.
 *
 *   NONE, COMPLETED, FAILED --dump_co_begin()--> ACTIVE --dump_co_run()--> COMPLETED or FAILED
 *
 * A regular file of a failed dump is removed, so a file under a dump's name is always complete.
 */
#ifndef SKIFF_VMM_DUMP_DUMP_H
#define SKIFF_VMM_DUMP_DUMP_H

#include "vmm/vm/vm.h"

typedef enum DumpStatus {
    DUMP_NONE,
    DUMP_ACTIVE,
    DUMP_COMPLETED,
    DUMP_FAILED,
} DumpStatus;

/* Of the dump that runs, or of the last one; bytes of guest memory. */
typedef struct DumpProgress {
    DumpStatus status;
    uint64_t completed, total;
} DumpProgress;

typedef struct DumpOptions {
    const char *path;       /* created, or truncated */
    int fd;                 /* used when path is NULL; the dump takes ownership */
    bool paging;            /* virtual mappings, from the page tables of the vCPUs */
    uint64_t begin, length; /* only RAM in this range of physical addresses; length 0: all */
} DumpOptions;

/* Opens the file. False + error: a dump is under way, or the file is not usable. */
bool dump_co_begin(Vm *vm, const DumpOptions *options, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Runs the dump that dump_co_begin() prepared. Calls @ended at its end, before the VM resumes; its
 * @error is NULL on success. False + error: it has failed. */
typedef void DumpEndedFn(const GError *error); /* main */
bool dump_co_run(Vm *vm, DumpEndedFn *ended, GError **error) coroutine_fn RUNS_IN_MAIN;
DumpProgress dump_progress(void) RUNS_IN_MAIN;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dumps of guest memory: an ELF core file for crash and gdb.
 *
 * There is one dump at a time. It is a control operation: it holds the VM operation lock, and a
 * VmStopped token, from the stop of the VM until all is written; then the VM runs again if it ran
 * before, unless a stop was asked for meanwhile. All that may block (opening, looking through guest
 * memory, writing, closing) is done by a worker; main goes on meanwhile. When skiff is to end, the
 * dump is given up.
 *
 *   NONE, COMPLETED, FAILED --dump_co_begin()--> ACTIVE --dump_co_run()--> COMPLETED or FAILED
 *
 * A regular file that a failed dump was written to is removed: what is there under the name of a
 * dump is a whole one.
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

/* Of the dump that runs, or ran last; bytes of guest memory. */
typedef struct DumpProgress {
    DumpStatus status;
    uint64_t completed, total;
} DumpProgress;

typedef struct DumpOptions {
    const char *path;       /* created, or made empty */
    int fd;                 /* path NULL: where to instead; the dump's from then on */
    bool paging;            /* virtual mappings, by the page tables of the vCPUs */
    uint64_t begin, length; /* only RAM in this range of physical addresses; length 0: all */
} DumpOptions;

/* Opens the file. False + error: a dump is under way, or the file is no good. */
bool dump_co_begin(Vm *vm, const DumpOptions *options, GError **error) coroutine_fn RUNS_IN_MAIN;
/* The dump that was begun. @ended is told when it has ended, before the VM goes on; @error NULL:
 * well. False + error: it has failed. */
typedef void DumpEndedFn(const GError *error); /* main */
bool dump_co_run(Vm *vm, DumpEndedFn *ended, GError **error) coroutine_fn RUNS_IN_MAIN;
DumpProgress dump_progress(void) RUNS_IN_MAIN;

#endif

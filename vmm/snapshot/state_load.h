/* SPDX-License-Identifier: Apache-2.0 */
/* Loads a state file into a machine. */
#ifndef SKIFF_VMM_SNAPSHOT_STATE_LOAD_H
#define SKIFF_VMM_SNAPSHOT_STATE_LOAD_H

#include "vmm/vm/vm.h"

/* ---- the parts ---- */
typedef struct StateLoad {
    const char *path; /* borrowed */
    GuestRam *ram;
    int fd; /* of a file that is mapped, or -1 */
    BlockBackend *blk;
    GByteArray *stream; /* owned by the user of the struct */
    /* of a call in the home */
    bool ok;
    GError *error;
} StateLoad;
/* Reads the stream, which is not checked. False + @error. */
bool state_load_co_stream(StateLoad *l, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Whether there is an image of memory for this machine. False + @error. */
bool state_load_co_check_memory(StateLoad *l, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Loads or maps memory. VM stopped. False + @error: parts of it may have changed. */
bool state_load_co_memory(StateLoad *l, GError **error) coroutine_fn RUNS_IN_MAIN;

/* ---- the whole, into a machine that has been built and has not run ---- */
/* With @map memory is mapped from a regular file (ram_image_co_map()), which stays open and locked. The VM is to run
 * afterwards only if it was to run when it was saved. Reads, checks, then loads memory, vCPUs, chips and devices. Under the
 * operation lock, VM stopped. False +
 * @error, which names the file and what is wrong: the machine must not run. */
bool state_load_co(Vm *vm, const char *path, bool map, GError **error) coroutine_fn RUNS_IN_MAIN;

#endif

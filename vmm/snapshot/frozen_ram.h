/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RAM that is read as it was at one instant while the guest runs on, by the way that costs the guest least:
 *
 *   fork               a child process that shares memory copy-on-write (capture_fork.h): private memory whose page
 *                      tables are copied within FROZEN_RAM_FORK_NS, as predicted from its pages
 *   write-protection   by userfaultfd (capture_wp.h): shared memory, and all for which a fork would take longer
 *
 *   NONE --prepare--> PREPARED (the VM runs) --freeze--> FROZEN (the VM is stopped) --free--> NONE
 *                        |                      |                                      ^
 *                        +----------------------+-------------- free ------------------+
 *
 * Invariants
 *   1. cancel() takes effect at once, also while reads are under way and storage hangs.
 *   2. Write protection is given up when another process comes that has the memory mapped (hw/core/ram_outside.h): its
 *      writes would be missed. It is watched for before the first wait of prepare, until free.
 *   3. Nobody waits for the worker of a step but the coroutine that has called it; it takes no time of storage.
 *
 * Functions of main.
 */
#ifndef SKIFF_VMM_SNAPSHOT_FROZEN_RAM_H
#define SKIFF_VMM_SNAPSHOT_FROZEN_RAM_H

#include "hw/core/ram_outside.h"
#include "migration/ram/capture_fork.h"
#include "migration/ram/capture_wp.h"
#include "vmm/vm/vm.h"

#define FROZEN_RAM_FORK_NS INT64_C(5000000)

/* What the user asks for. The order is that of frozen_ram_ways. */
typedef enum FrozenRamWay {
    FROZEN_RAM_AUTO,
    FROZEN_RAM_FORK,
    FROZEN_RAM_WP,
    FROZEN_RAM_PASSES, /* not frozen */
} FrozenRamWay;
extern const char *const frozen_ram_ways[]; /* NULL at the end */

typedef struct FrozenRam {
    Vm *vm;
    FrozenRamWay way;  /* in: AUTO or one of them; out: what was prepared */
    CaptureFork *fork; /* FROZEN */
    CaptureWp *wp;     /* PREPARED, FROZEN */
    RamOutsideWatch watch;
    bool watching;
    bool cancelled, outside; /* cancel() was called; a process has come */
} FrozenRam;

/* Chooses a way and prepares it, while the VM runs. False + @error: there is none, or it was cancelled. */
bool frozen_ram_co_prepare(FrozenRam *f, GError **error) coroutine_fn RUNS_IN_MAIN;
/* The instant is now. False + @error: it has failed; free() follows. */
bool frozen_ram_co_freeze(FrozenRam *f, const VmStopped *token, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* Copies memory of the instant. 0 or -errno. FROZEN. */
int frozen_ram_read(const FrozenRam *f, unsigned block, uint64_t offset, void *buf, size_t len)
    RUNS_IN_WORKER;
/* RamImageSave.blank: which pages were zero at the instant, as far as that is known. FROZEN. */
int frozen_ram_blank(const FrozenRam *f, unsigned block, uint64_t offset, uint64_t pages,
                     uint64_t *bits) RUNS_IN_WORKER;
/* RamImageSave.urgent. FROZEN. */
bool frozen_ram_urgent(const FrozenRam *f, unsigned *block, uint64_t *offset) ANY_THREAD;
/* Reads fail from now on, and the guest's writes cost nothing any more. Any state. */
void frozen_ram_cancel(FrozenRam *f) RUNS_IN_MAIN;
/* Why reads fail, if not because of cancel(); NULL: they do not. */
const char *frozen_ram_failure(const FrozenRam *f) RUNS_IN_MAIN;
/* No read is under way, and the VM is not stopped for it. Another prepare may follow. */
void frozen_ram_co_free(FrozenRam *f) coroutine_fn RUNS_IN_MAIN;

#endif

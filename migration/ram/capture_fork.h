/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A frozen copy of guest RAM: a child process that shares RAM copy-on-write, and never runs skiff's code.
 *
 *   NONE --capture_fork_begin()--> FROZEN --capture_fork_end()--> ENDED
 *          (VM stopped)              |  reads, while the VM runs on    ^ reads fail with -ESRCH
 *                                    +------- the child is killed -----+
 *
 * Invariants
 *   1. All bytes that reads return are of the instant of begin, which the caller takes while no vCPU, no
 *      device and nobody outside the process writes RAM (VmStopped).
 *   2. The child makes a few system calls that take no memory of skiff's, with all signals blocked: it closes
 *      all descriptors but a pidfd of skiff, so no file, lock or socket lives longer because of it, and waits
 *      until skiff's process has ended. Then it exits.
 *   3. An end frees the copy at once, also while reads are under way and while the file that they are
 *      written to hangs.
 *   4. Memory that is shared (a memfd) has no copy: begin refuses it.
 *   5. Blank pages (ram_blank.h) are those of the child's page tables, which are of the instant, too. Those of skiff
 *      change: a page with contents may be given back after the instant.
 *
 * The rest of the process stays mapped in the child. To exclude it with MADV_DONTFORK would take it away
 * from the child of any fork() that another thread makes at the same time. PR_SET_PDEATHSIG is not used: it
 * reports the end of the thread that forked, which is a worker.
 *
 * Begin costs the copy of page tables, some ms for each GiB with small pages. From then on each first write
 * of the guest to a page costs a fault and, until the end, the memory of a page. Nothing bounds that memory
 * but the size of RAM.
 *
 * Sources: clone(2), pidfd_open(2), process_vm_readv(2), close_range(2).
 */
#ifndef SKIFF_MIGRATION_RAM_CAPTURE_FORK_H
#define SKIFF_MIGRATION_RAM_CAPTURE_FORK_H

#include <sys/uio.h>
#include "hw/core/ram.h"

typedef struct CaptureFork CaptureFork;

/* Whether all of @ram can be captured so; false + @error: the reason. */
bool capture_fork_possible(const GuestRam *ram, GError **error) ANY_THREAD;
/* How long the fork will take, from the number of small and huge pages. Reads /proc: some ms for each GiB of small pages,
 * while the VM may run. */
int64_t capture_fork_predict_ns(const GuestRam *ram) RUNS_IN_WORKER;
/* Makes the copy, and reads a byte of it. @ram is borrowed until the end. The caller owns the result. NULL +
 * @error. Blocks for the time of the copy of the page tables. */
CaptureFork *capture_fork_begin(const GuestRam *ram, GError **error) RUNS_IN_WORKER;
/* A RamImageReadFn; @opaque is the CaptureFork. -ESRCH: it has ended. */
int capture_fork_read(void *opaque, unsigned block, uint64_t offset, void *buf, size_t len)
    RUNS_IN_WORKER;
/* A RamImageBlankFn; @opaque is the CaptureFork. -errno: it has ended, and what was found is not true. */
int capture_fork_blank(void *opaque, unsigned block, uint64_t offset, uint64_t pages,
                       uint64_t *bits) RUNS_IN_WORKER;
/* Makes the parts @runs of RAM, addresses in it, as they are in the copy, while nobody uses them: few system calls
 * for many runs. @runs is used up. 0, or -errno; then some are as before. */
int capture_fork_restore(const CaptureFork *c, struct iovec *runs, unsigned count) RUNS_IN_WORKER;
/* Frees the copy; reads that are under way or follow fail. */
void capture_fork_end(CaptureFork *c) ANY_THREAD;
/* No read is under way. Ends it if it has not ended, and waits for the child's exit, which was killed. */
void capture_fork_free(CaptureFork *c) RUNS_IN_WORKER;
/* Duration of begin's fork. */
int64_t capture_fork_pause_ns(const CaptureFork *c) ANY_THREAD;
/* The child's process id, for reports and tests. */
int capture_fork_pid(const CaptureFork *c) ANY_THREAD;

#endif

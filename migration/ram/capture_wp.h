/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest RAM frozen by write protection (userfaultfd): who writes a page for the first time waits until the
 * capture thread has copied it, a few microseconds. Works for shared memory too, and its cost at the instant does
 * not grow with RAM: pages are protected beforehand, in rounds, while the guest runs and opens some of them again.
 *
 *   new            arm                   every page was              freeze                   end, an error
 *   ----> IDLE -----------> ARMING -----------------------> ARMED -----------> FROZEN ------------------------+
 *          |                  |       protected once        |  ^                                              |
 *          |                  |             more than a few |  | protected                                    |
 *          |                  |             pages are open  +--+ again                                        v
 *          +------------------+-----------------------------+-----------------------------> ENDING --------> ENDED
 *                                end, an error                      no memory is registered any more
 *
 *   from     by                     to
 *   IDLE     wp_call_arm()          ARMING
 *   ARMING   wp_arm_chunk()         ARMED
 *   ARMED    wp_call_freeze()       FROZEN   (all pages are protected)
 *   these    wp_leave()             ENDING   (capture_wp_end(), or an error)
 *   ENDING   wp_release_chunk()     ENDED    (the thread ends)
 *
 * A page:
 *
 *   before the instant   OPEN <--> PROTECTED     a write opens it, a round protects it
 *                        OPEN --> EMPTY          private memory: the first round finds that it is not there
 *                        EMPTY --> OPEN          an access: the thread has given it zeroes
 *   after it             PROTECTED --> HELD      a write: its bytes are in the pool, the writer goes on
 *                        PROTECTED, HELD, EMPTY --> SAVED   read, or not wanted; nothing of it is kept
 *
 * Invariants
 *   1. The capture thread alone uses the userfaultfd, the states of pages and the pool. Others post calls to it.
 *   2. In FROZEN the bytes of the instant are in memory if the page is PROTECTED, in the pool if it is HELD, and zeroes if it
 *      is EMPTY.
 *   3. In FROZEN no page loses its protection before it is HELD or SAVED. The set of EMPTY pages does not change.
 *   4. The capture thread waits for its own descriptors only. It takes no lock but that of its list of calls, no
 *      memory from malloc, and neither reads nor writes guest memory that is not there; it has the kernel fill that. So everybody's write goes on, in main, in iothreads and in the
 *      kernel too, whatever the file does.
 *   5. Memory held is bounded: from `bound` bytes on vCPUs are braked (they wait outside the guest, where any request
 *      to park or to call them finds them), until an eighth of it is free. Beyond the bound comes only what vCPUs
 *      write until they have left the guest, and what devices write for requests in flight.
 *   6. While memory is registered nobody discards pages of it (hw/core/ram_keep.h), which would drop their protection.
 *   7. In ENDED no memory is registered or held, discards work, nobody waits for a fault, vCPUs are not braked, and reads
 *      fail, whenever the owner comes to free it.
 *   8. From ARMING on the thread alone fills private memory that is not there: the memory is registered for that (MISSING) before
 *      the thread looks which pages are not there. So a page that was found EMPTY stays so until the thread serves the fault of
 *      whoever uses it. If no such fault came before the instant, its bytes of the instant are zeroes. No protection is needed, and
 *      no tables for one: memory that was never touched costs nothing. A look without the registration would be wrong: the page
 *      may be written between the look and the instant.
 *
 * A read copies memory first and asks the capture thread afterwards. The thread overwrites the pages that are HELD.
 * The others were PROTECTED all the time, or the thread would have seen the write before the call.
 *
 * Not covered: other processes that have the memory mapped (vhost-user); the caller keeps such a machine out.
 *
 * Shared memory that was never touched is protected, too: a page that this process has no entry for may have contents. Its
 * holes are found at the time of the read (capture_wp_blank()).
 *
 * Permission: CAP_SYS_PTRACE, vm.unprivileged_userfaultfd=1, or access to /dev/userfaultfd. Faults of the kernel have to be
 * handled, since KVM and vhost write memory. Linux 5.19 protects shared memory; private memory that was never touched
 * is protected from 6.4 on, and populated for reading before if there is little of it.
 *
 * Sources: userfaultfd(2), ioctl_userfaultfd(2), Documentation/admin-guide/mm/userfaultfd.rst "Write Protect
 * Notifications".
 */
#ifndef SKIFF_MIGRATION_RAM_CAPTURE_WP_H
#define SKIFF_MIGRATION_RAM_CAPTURE_WP_H

#include "hw/core/ram.h"

typedef struct CaptureWp CaptureWp;

typedef struct CaptureWpConfig {
    const GuestRam *ram; /* borrowed until the end */
    uint64_t bound;      /* bytes of pages that are held; 0: a quarter of RAM, at least 64 MiB */
    /* Keeps vCPUs out of the guest, or lets them in. Called by the capture thread; returns at once. NULL: nobody
     * is braked. */
    void (*brake)(void *opaque, bool on);
    void *opaque;
    /* How long vCPUs may be braked while nothing is read; then the capture is given up, with -ETIMEDOUT. 0: 10 s,
     * before guests report that their processors hang. */
    unsigned patience_ms;
} CaptureWpConfig;

/* Registers memory and starts the thread. The caller owns the result. NULL + @error: this memory, kernel or user
 * cannot. */
CaptureWp *capture_wp_new(const CaptureWpConfig *config, GError **error) RUNS_IN_WORKER;
/* Whether capture_wp_new() may succeed, as far as it can be known without an attempt. False + @error. */
bool capture_wp_possible(const GuestRam *ram, GError **error) ANY_THREAD;
/* Protects all memory while the VM runs. Returns when few pages are open, or when rounds do not make them fewer; they
 * go on until the freeze. 0 or -errno. */
int capture_wp_arm(CaptureWp *c) RUNS_IN_WORKER;
/* The instant is now: nobody writes memory (VmStopped) until it returns. 0 or -errno. */
int capture_wp_freeze(CaptureWp *c) RUNS_IN_WORKER;
/* A RamImageReadFn; @opaque is the CaptureWp. Each page can be read once, in any order. -ECANCELED: it was ended. */
int capture_wp_read(void *opaque, unsigned block, uint64_t offset, void *buf, size_t len)
    RUNS_IN_WORKER;
/* A RamImageBlankFn; @opaque is the CaptureWp. @offset: of a multiple of 64 pages. What is found counts as read.
 * -ECANCELED as above. */
int capture_wp_blank(void *opaque, unsigned block, uint64_t offset, uint64_t pages, uint64_t *bits)
    RUNS_IN_WORKER;
/* A page that is held, once half of the bound is: what holds many is best read first. False: there is no hurry. */
bool capture_wp_urgent(const CaptureWp *c, unsigned *block, uint64_t *offset) ANY_THREAD;
/* Ends it at once, also while reads are under way: they and those that follow fail. */
void capture_wp_end(CaptureWp *c) ANY_THREAD;
/* Gives it up for the reason @why, a literal: as an end, but capture_wp_failure() has the reason. */
void capture_wp_give_up(CaptureWp *c, const char *why) ANY_THREAD;
/* Why it has ended by itself or was given up; NULL: it has not. */
const char *capture_wp_failure(const CaptureWp *c) ANY_THREAD;
/* No call is under way. Ends it if it has not ended, and waits for the thread. */
void capture_wp_free(CaptureWp *c) RUNS_IN_WORKER;

typedef struct CaptureWpStats {
    unsigned rounds;         /* over memory, before the instant */
    uint64_t open_at_freeze; /* pages that were protected at the instant itself */
    uint64_t held_peak;      /* most bytes held at a time */
    unsigned brakes;         /* so often vCPUs were braked */
} CaptureWpStats;
/* As of the end of the last call, or a later turn of the capture thread. */
CaptureWpStats capture_wp_stats(const CaptureWp *c) ANY_THREAD;

#endif

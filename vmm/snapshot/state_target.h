/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file that a machine's state is being written to, in an iothread of its own. It works step by step; its user
 * waits for each step and can stop waiting at any time, whatever the file does.
 *
 *             do                 the step ends             leave            the file is closed
 *   IDLE ------------> BUSY ----------------------> IDLE ---------> LEAVING -------------------> freed
 *                       |                                              ^
 *                       +--- cancel, leave: the step goes on ----------+
 *                                                       (it ends)
 *
 * Invariants
 *   1. There is one step at a time, in one coroutine of main, which alone opens, writes and closes the file.
 *   2. After state_target_cancel() no call waits, and the file does not stay valid.
 *   3. Guest RAM is only read in a step. A step that hangs does not read: it waits for the file. One that goes
 *      on after a cancel reads at most the pieces that its workers have begun.
 *   4. A file that was made for the save is removed if the save is not completed. But when its user has left before
 *      it was open, nothing is written to it or removed: it may be the next save's.
 *
 * Functions of main; co_* yield.
 */
#ifndef SKIFF_VMM_SNAPSHOT_STATE_TARGET_H
#define SKIFF_VMM_SNAPSHOT_STATE_TARGET_H

#include "migration/state_file.h"

typedef struct StateTarget StateTarget;

/* @ctx: main's. @ram lives as long as the process. The file is opened by the first step. */
StateTarget *state_target_new(const char *path, const GuestRam *ram, AioContext *ctx,
                              GError **error) RUNS_IN_MAIN;
/* Before the first step: the file is to be in the page cache, for machines that will soon map it. Else it is written past it,
 * where the file system can do that. */
void state_target_keep_cached(StateTarget *t) RUNS_IN_MAIN;
/* The same in @node (a reference of its own), which reads as zeroes and belongs to the graph of a disk: called under the
 * operation lock, which is taken again to close it. @name: for messages. After a cancel,
 * state_target_co_leave() waits as long as the node's requests last: its user holds no lock then. */
StateTarget *state_target_new_on(BlockNode *node, const char *name, const GuestRam *ram,
                                 AioContext *ctx, GError **error) coroutine_fn RUNS_IN_MAIN;
/* What passes copy to a buffer and write, instead of guest memory as it is, and which pages of it need not be read (may be NULL). While
 * there is no step. */
void state_target_set_source(StateTarget *t, RamImageReadFn *read, RamImageBlankFn *blank,
                             void *opaque) RUNS_IN_MAIN;
/* The source's RamImageSave.urgent. */
void state_target_set_urgent(StateTarget *t, bool (*urgent)(void *opaque, unsigned *block,
                                                            uint64_t *offset)) RUNS_IN_MAIN;
/* The size that the state of @ram needs in a node. False + @error: this RAM cannot be saved. */
bool state_target_plan(const GuestRam *ram, uint64_t *bytes, GError **error) RUNS_IN_MAIN;
/* Opens the file, or makes it, or truncates it; a block device has to be large enough. False + @error, here and
 * below: the save has failed, or was cancelled; state_target_co_leave() follows. */
bool state_target_co_open(StateTarget *t, GError **error) coroutine_fn RUNS_IN_MAIN;
/* A pass over all pages, or over those taken by state_target_take_dirty(). */
bool state_target_co_pass(StateTarget *t, bool dirty, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Takes dirty pages (guest_ram_log_take()) for the next pass. Returns the number of all that wait for it. IDLE. */
uint64_t state_target_take_dirty(StateTarget *t) RUNS_IN_MAIN;
/* The last step: makes the file valid. Takes a reference to @stream. */
bool state_target_co_complete(StateTarget *t, GByteArray *stream, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* Makes the step under way fail for its user at once, and all later ones. */
void state_target_cancel(StateTarget *t) RUNS_IN_MAIN;
/* Whether it was cancelled; then sets @error. */
bool state_target_is_cancelled(const StateTarget *t, GError **error) RUNS_IN_MAIN;
/* Gives @t up. Waits until the file is closed; after a cancel not for long. A cancel may come until it returns. */
void state_target_co_leave(StateTarget *t) coroutine_fn RUNS_IN_MAIN;
/* Of guest memory. */
uint64_t state_target_pages(const StateTarget *t) RUNS_IN_MAIN;
/* Bytes of guest memory written so far, each time that they were. */
uint64_t state_target_bytes(const StateTarget *t) RUNS_IN_MAIN;

#endif

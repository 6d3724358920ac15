/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block layer's border: what devices, jobs and the command line use.
 *
 * A BlockNode is one element of a graph (file, raw, qcow2, null, mem, fault, ...), opened from
 * options, reference-counted, at home in one iothread's context. A BlockBackend is a user's handle
 * on the root node of a graph: the border where contracts are checked (offset and length in range,
 * aligned to nothing the caller must know, ret <= 0 exactly once, in the home context), where
 * requests are counted and where drain stops them.
 *
 * Requests are coroutines in the home context: `coroutine_fn RUNS_IN_IOTHREAD`. Life cycle and
 * drain are control steps in main.
 */
#ifndef SKIFF_BLOCK_BLOCK_H
#define SKIFF_BLOCK_BLOCK_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>
#include "util/coroutine.h"
#include "util/opts.h"

typedef struct BlockNode BlockNode;
typedef struct BlockBackend BlockBackend;

enum {
    BLOCK_REQ_FUA = 1 << 0,      /* on stable storage before completion */
    BLOCK_REQ_MAY_UNMAP = 1 << 1 /* write-zeroes may deallocate */
};

/* What the backend can do and wants, constant while open except size. */
typedef struct BlockLimits {
    uint32_t request_alignment; /* bytes; the border aligns for the caller */
    uint32_t opt_transfer;      /* bytes, 0: no wish */
    uint64_t max_discard;       /* bytes; 0: discard unsupported (completes 0 doing nothing) */
    uint64_t max_write_zeroes;  /* bytes */
} BlockLimits;

/* ---- opening (main; -blockdev / -drive options, QEMU's spelling) ---- */
/* Opens a node tree: "driver", "node-name", "read-only", "cache.direct", "cache.no-flush",
 * "discard", "aio", "filename", "file" (nested or a node-name) ... The node lives in @home.
 * Blocking system calls run in workers. NULL + error. The caller owns one reference. */
BlockNode *block_co_open(const OptDict *opts, AioContext *home, GError **error)
    coroutine_fn RUNS_IN_MAIN;
BlockNode *block_node_find(const char *node_name) RUNS_IN_MAIN; /* borrowed */
void block_node_ref(BlockNode *n) RUNS_IN_MAIN;
/* The last one closes the file; may wait for its iothread. */
void block_co_unref(BlockNode *n) coroutine_fn RUNS_IN_MAIN;
const char *block_node_name(const BlockNode *n) ANY_THREAD;
AioContext *block_node_home(const BlockNode *n) ANY_THREAD;

/* A new backend on @root (takes a reference). One writer per node: a second backend with @writable
 * fails and says who has it. */
BlockBackend *blk_co_new(const char *name, BlockNode *root, bool writable, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* Drains, then lets go of the root. */
void blk_co_free(BlockBackend *blk) coroutine_fn RUNS_IN_MAIN;
const char *blk_name(const BlockBackend *blk) ANY_THREAD;
AioContext *blk_home(const BlockBackend *blk) ANY_THREAD;
bool blk_read_only(const BlockBackend *blk) ANY_THREAD;
uint64_t blk_size(const BlockBackend *blk)
    ANY_THREAD; /* bytes, a multiple of 512; atomically read */
BlockLimits blk_limits(const BlockBackend *blk) ANY_THREAD;

typedef struct BlkNotify {
    void (*resized)(void *opaque); /* in main */
    /* In the home context: drained section begins/ends for this backend: the device stops/starts
     * taking new requests from the guest. `resume` must look at its queues. NULL: the border queues
     * what still comes. */
    void (*quiesce)(void *opaque);
    void (*resume)(void *opaque);
    void *opaque;
} BlkNotify;
void blk_set_notify(BlockBackend *blk, const BlkNotify *notify) RUNS_IN_MAIN;

/* ---- requests (home iothread) ---- */
/* 0 or -errno. [offset, offset+bytes) beyond blk_size() is -EINVAL... sum of iov lengths equals
 * bytes (asserted). */
int blk_co_preadv(BlockBackend *blk, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                  unsigned niov, unsigned flags) coroutine_fn RUNS_IN_IOTHREAD;
int blk_co_pwritev(BlockBackend *blk, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                   unsigned niov, unsigned flags) coroutine_fn RUNS_IN_IOTHREAD;
int blk_co_flush(BlockBackend *blk) coroutine_fn RUNS_IN_IOTHREAD;
int blk_co_discard(BlockBackend *blk, uint64_t offset, uint64_t bytes)
    coroutine_fn RUNS_IN_IOTHREAD;
int blk_co_write_zeroes(BlockBackend *blk, uint64_t offset, uint64_t bytes, unsigned flags)
    coroutine_fn RUNS_IN_IOTHREAD;
int blk_co_truncate(BlockBackend *blk, uint64_t size, GError **error) coroutine_fn RUNS_IN_MAIN;

/* ---- drain (main; counted, never polled) ---- */
/* Returns when none of the backends has a request in flight; from then to the end their new
 * requests queue (and are not in flight). Sections nest. */
void co_drained_begin(BlockBackend *const *blks, unsigned count) coroutine_fn RUNS_IN_MAIN;
/* Never waits. Queued requests go on, devices look at their queues again. */
void co_drained_end(BlockBackend *const *blks, unsigned count) RUNS_IN_MAIN;
/* Requests in flight now; for queries and tests. */
unsigned blk_in_flight(const BlockBackend *blk) ANY_THREAD;

/* ---- for -drive/-blockdev help and query ---- */
const char *const *block_driver_names(void) ANY_THREAD; /* NULL-terminated */

#endif

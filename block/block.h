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
#include "util/loop/coroutine.h"
#include "util/opts/opts.h"

typedef struct BlockNode BlockNode;
typedef struct BlockBackend BlockBackend;

enum {
    BLOCK_REQ_FUA = 1 << 0,      /* on stable storage before completion */
    BLOCK_REQ_MAY_UNMAP = 1 << 1 /* write-zeroes may deallocate */
};

#define BLOCK_ERROR block_error_quark()
GQuark block_error_quark(void);
enum {
    BLOCK_ERROR_OPTION, /* an option is missing, unknown or contradicts another */
    BLOCK_ERROR_OPEN,   /* the system refused */
    BLOCK_ERROR_IN_USE, /* a name, a node or a file is taken */
};

#define BLOCK_NODE_NAME_MAX 31 /* bytes, as QEMU has it */
#define BLOCK_SECTOR_SIZE 512u /* sizes are multiples of it, as virtio-blk counts in it */

/* What the backend can do and wants, constant while open. The border splits and aligns for the
 * caller; the numbers are what saves it the work. All in bytes. */
typedef struct BlockLimits {
    uint32_t request_alignment; /* of offset and length; a power of two, at least 1 */
    uint32_t memory_alignment;  /* of each buffer's address; a power of two, at least 1 */
    uint32_t zero_alignment;    /* of discard and write-zeroes; a power of two, at least 1 */
    uint32_t opt_transfer;      /* 0: no wish */
    uint64_t max_transfer;      /* of one read or write */
    uint32_t max_iov;           /* elements of one read or write */
    uint64_t max_discard;       /* 0: discard unsupported (completes 0 doing nothing) */
    uint64_t max_write_zeroes;
} BlockLimits;

/* ---- opening (main; -blockdev / -drive options, QEMU's spelling) ---- */
/* Opens a node tree: "driver", "node-name", "read-only", "cache.direct", "cache.no-flush",
 * "discard", "aio", "filename", "file" (nested or a node-name) ... The node lives in @home, or where
 * the node lives that it names as its "file".
 * Blocking system calls run in workers. NULL + error. The caller owns one reference. */
BlockNode *block_co_open(const OptDict *opts, AioContext *home, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* The same for a user's node, by -blockdev or blockdev-add: the reference is the node's own, until
 * block_co_delete(). It has a name. */
BlockNode *block_co_add(const OptDict *opts, AioContext *home, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* Drops a user's node; false + error when there is none of that name, or it is in use. */
bool block_co_delete(const char *node_name, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Opens nodes anew with other options: read-only, cache.*, discard, locking, aio can change; what
 * is not given is at its default. Each of @opts names its node. All change or none does, and what
 * is in flight ends before. Under the operation lock. */
bool block_co_reopen(OptDict *const *opts, unsigned count, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* Moves a node that nobody uses, and all below it, to @home. */
bool block_co_move(BlockNode *n, AioContext *home, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Resizes node @n: through the backend that writes to it, or one of its own when none does. */
int block_node_co_resize(BlockNode *n, uint64_t size, GError **error) coroutine_fn RUNS_IN_MAIN;
BlockNode *block_node_find(const char *node_name) RUNS_IN_MAIN; /* borrowed; NULL: none */
/* All open nodes in the order they were made: an array to be freed with g_free(). */
BlockNode **block_node_list(unsigned *count) RUNS_IN_MAIN;
/* Whether a node lives in @home, also one that is still being opened or closed: @home has to stay.
 */
bool block_home_in_use(const AioContext *home) RUNS_IN_MAIN;

/* What there is to tell about a node; strings are borrowed. */
typedef struct BlockNodeInfo {
    const char *driver;
    const char *filename; /* the file's it is stored in at last; NULL: none */
    BlockNode *child;     /* NULL: none */
    bool read_only, cache_direct, cache_no_flush;
    uint64_t size;
} BlockNodeInfo;
void block_node_info(const BlockNode *n, BlockNodeInfo *info) RUNS_IN_MAIN;
void block_node_ref(BlockNode *n) RUNS_IN_MAIN;
/* The last one closes the file; may wait for its iothread. */
void block_co_unref(BlockNode *n) coroutine_fn RUNS_IN_MAIN;
const char *block_node_name(const BlockNode *n) ANY_THREAD;
AioContext *block_node_home(const BlockNode *n) ANY_THREAD;
bool block_node_read_only(const BlockNode *n) ANY_THREAD;

/* A new backend on @root (takes a reference). One writer per node: a second backend with @writable
 * fails and says who has it. */
BlockBackend *blk_co_new(const char *name, BlockNode *root, bool writable, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* Drains, then lets go of the root. */
void blk_co_free(BlockBackend *blk) coroutine_fn RUNS_IN_MAIN;
const char *blk_name(const BlockBackend *blk) ANY_THREAD;
AioContext *blk_home(const BlockBackend *blk) ANY_THREAD;
BlockBackend *blk_find(const char *name) RUNS_IN_MAIN;   /* borrowed; NULL: none */
BlockNode *blk_root(const BlockBackend *blk) ANY_THREAD; /* borrowed */
/* All backends there are: an array of *@count borrowed pointers, to be freed with g_free(). */
BlockBackend **blk_list(unsigned *count) RUNS_IN_MAIN;
bool blk_read_only(const BlockBackend *blk) ANY_THREAD;
uint64_t blk_size(const BlockBackend *blk)
    ANY_THREAD; /* bytes, a multiple of 512; atomically read */
BlockLimits blk_limits(const BlockBackend *blk) ANY_THREAD;
/* Off (cache=writethrough|directsync, or the guest's choice): each write has FUA. On at first. */
void blk_set_write_cache(BlockBackend *blk, bool on) ANY_THREAD;
bool blk_write_cache(const BlockBackend *blk) ANY_THREAD;

typedef struct BlkNotify {
    void (*resized)(void *opaque); /* in main */
    /* In the home context: drained section begins/ends for this backend: the device stops/starts
     * taking new requests from the guest. `resume` must look at its queues. NULL: the border queues
     * what still comes. */
    void (*quiesce)(void *opaque);
    void (*resume)(void *opaque);
    void *opaque;
} BlkNotify;
/* @notify is copied; NULL: none. Before the first request and drained section, or inside a drained
 * section: the home context looks at it in between. */
void blk_set_notify(BlockBackend *blk, const BlkNotify *notify) RUNS_IN_MAIN;

/* ---- requests (home iothread) ---- */
/*
 * 0 or -errno: -EINVAL when [offset, offset+bytes) is not within blk_size(), -EPERM for a write to
 * a read-only backend. Nothing needs to be aligned. The sum of the iov lengths equals bytes
 * (asserted). No bytes: 0, and the driver is not asked. A flag that the operation does not honour
 * aborts: a write has BLOCK_REQ_FUA, write-zeroes both, a read none.
 *
 * A request is in flight until the code that follows it in the caller's coroutine has run up to its
 * next yield: what completes it towards the guest there is done before a drain returns.
 */
int blk_co_preadv(BlockBackend *blk, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                  unsigned niov, unsigned flags) coroutine_fn RUNS_IN_IOTHREAD;
int blk_co_pwritev(BlockBackend *blk, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                   unsigned niov, unsigned flags) coroutine_fn RUNS_IN_IOTHREAD;
int blk_co_flush(BlockBackend *blk) coroutine_fn RUNS_IN_IOTHREAD;
int blk_co_discard(BlockBackend *blk, uint64_t offset, uint64_t bytes)
    coroutine_fn RUNS_IN_IOTHREAD;
int blk_co_write_zeroes(BlockBackend *blk, uint64_t offset, uint64_t bytes, unsigned flags)
    coroutine_fn RUNS_IN_IOTHREAD;
/* Drains around it; then `resized` is called for all backends of the node. 0 or -errno with @error.
 * @size is a multiple of BLOCK_SECTOR_SIZE and of request_alignment. */
int blk_co_truncate(BlockBackend *blk, uint64_t size, GError **error) coroutine_fn RUNS_IN_MAIN;

/*
 * A macro operation: several requests of one coroutine that a drain sees as one (a discard of many
 * ranges; read, change, write back). It counts once from begin to end; once begun, its parts go on
 * while a drained section waits for it, where other requests queue. `begin` may wait as a request
 * does. @macro lives on the coroutine's stack; the coroutine that began it ends it.
 */
typedef struct BlkMacro {
    Coroutine *owner;
    struct BlkMacro *next, **link;
} BlkMacro;
void blk_co_macro_begin(BlockBackend *blk, BlkMacro *macro) coroutine_fn RUNS_IN_IOTHREAD;
void blk_macro_end(BlockBackend *blk, BlkMacro *macro) RUNS_IN_IOTHREAD;

/* ---- drain (main; counted, never polled) ---- */
/* Returns when none of the backends has a request in flight; from then to the end their new
 * requests queue (and are not in flight). Sections nest. The coroutine that begins one ends it,
 * with the same list. */
void co_drained_begin(BlockBackend *const *blks, unsigned count) coroutine_fn RUNS_IN_MAIN;
/* Never waits. Queued requests go on, devices look at their queues again. */
void co_drained_end(BlockBackend *const *blks, unsigned count) RUNS_IN_MAIN;
/* Requests in flight now; for queries and tests. */
unsigned blk_in_flight(const BlockBackend *blk) ANY_THREAD;

/* ---- statistics: counted at the border in the home context, asked for anywhere ---- */
typedef enum BlkOp { BLK_OP_READ, BLK_OP_WRITE, BLK_OP_FLUSH, BLK_OP_UNMAP, BLK_OP_COUNT } BlkOp;

typedef struct BlkStats {
    uint64_t bytes[BLK_OP_COUNT];      /* of what succeeded */
    uint64_t operations[BLK_OP_COUNT]; /* that succeeded */
    uint64_t failed[BLK_OP_COUNT];
    uint64_t invalid[BLK_OP_COUNT]; /* could not be: beyond the end */
    uint64_t time_ns[BLK_OP_COUNT]; /* from begin to end, of all but the invalid */
    uint64_t write_end;             /* the highest byte written, plus one */
    int64_t idle_ns;                /* since the last request ended; -1: there was none */
} BlkStats;
void blk_stats(const BlockBackend *blk, BlkStats *stats) ANY_THREAD;
/* The caller refused a request of its own client that it could have made none of. */
void blk_account_invalid(BlockBackend *blk, BlkOp op) RUNS_IN_IOTHREAD;

/* Whether an error of this backend has stopped the VM: the device says so, a continue clears it. */
typedef enum BlkIoStatus { BLK_IO_OK, BLK_IO_FAILED, BLK_IO_NOSPACE } BlkIoStatus;
void blk_set_io_status(BlockBackend *blk, BlkIoStatus status) ANY_THREAD;
BlkIoStatus blk_io_status(const BlockBackend *blk) ANY_THREAD;

/* Latency histograms: @count boundaries (ns, ascending, above 0) make @count + 1 bins, which begin
 * at zero. @boundaries NULL: none any more. */
#define BLK_HISTOGRAM_MAX 1024u
bool blk_histogram_ok(const uint64_t *boundaries, unsigned count) ANY_THREAD;
void blk_co_set_histogram(BlockBackend *blk, BlkOp op, const uint64_t *boundaries, unsigned count)
    coroutine_fn RUNS_IN_MAIN;
/* The number of bins, of which at most @max are stored; 0: there is no histogram. *@boundaries is
 * borrowed until main yields. */
unsigned blk_histogram(const BlockBackend *blk, BlkOp op, const uint64_t **boundaries,
                       uint64_t *bins, unsigned max) RUNS_IN_MAIN;

/* ---- for -drive/-blockdev help and query ---- */
const char *const *block_driver_names(void) ANY_THREAD; /* NULL-terminated */

#endif

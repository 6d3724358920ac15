/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the block layer: nodes and their drivers.
 *
 *   BlockBackend (backend.c, drain.c)    counts requests, queues them in drained sections
 *        |  root
 *   BlockNode "raw" (node.c)             block_node_co_*() in node_io.c: range, alignment,
 * splitting |  file                         for the driver below; checks what the driver returns
 *   BlockNode "file" -> engine           system calls
 *
 * Invariants
 *   1. A node's requests run in its home context only; its graph is changed in main only, while no
 *      request of it is in flight.
 *   2. A driver is asked only for what its limits allow: aligned, short enough, never zero bytes.
 *   3. A driver op returns 0 or -errno, on the coroutine and in the context it was called in.
 *   4. What runs below a backend is counted at the node it runs in (block_node_begin()).
 *   5. At most one parent (backend or node) may write to a node: node->writer names it.
 */
#ifndef SKIFF_BLOCK_NODE_H
#define SKIFF_BLOCK_NODE_H

#include <stdatomic.h>
#include "block/block.h"
#include "util/iov.h"

#define BLOCK_SIZE_MAX ((uint64_t)1 << 62)       /* so that sums of offsets never wrap */
#define BLOCK_ALIGNMENT_MAX ((uint64_t)64 << 10) /* of requests */
#define BLOCK_MEMORY_ALIGNMENT_MAX ((size_t)4096)

/* Nodes below a node: a request goes down the chain by calls, on its coroutine's stack. */
#define BLOCK_DEPTH_MAX 64u

typedef struct BlockReopen BlockReopen;

typedef struct BlockDriver {
    const char *name; /* "driver=" */
    const char *help; /* one line */
    size_t state_size;
    const OptSpec *options; /* bound to the state before co_open(); cleared after co_close() */
    bool has_file;          /* has a child "file", opened before co_open() */
    bool can_grow;          /* reads past the end give zeroes, writes there extend */
    bool has_fua;           /* co_pwritev() honours BLOCK_REQ_FUA */

    /* Coroutines in main. clang knows no roles of function pointers: they stand here and at the
     * functions.
     * co_open fills node->limits (preset to no limits) and node->size. On failure it leaves nothing
     * open.
     */
    bool (*co_open)(BlockNode *n, GError **error);
    void (*co_close)(BlockNode *n); /* may be NULL */

    /* Coroutines in the home context. */
    int (*co_preadv)(BlockNode *n, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                     unsigned niov);
    int (*co_pwritev)(BlockNode *n, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                      unsigned niov, unsigned flags);
    /* What was written before is on stable storage. NULL: only the child is flushed. */
    int (*co_flush)(BlockNode *n);
    /* NULL or -ENOTSUP: done nothing, which is allowed. */
    int (*co_discard)(BlockNode *n, uint64_t offset, uint64_t bytes);
    /* NULL or -ENOTSUP: zeroes are written instead. */
    int (*co_write_zeroes)(BlockNode *n, uint64_t offset, uint64_t bytes, unsigned flags);
    /* NULL or -ENOTSUP: the size is fixed. The caller updates node->size. */
    int (*co_truncate)(BlockNode *n, uint64_t size);

    /* For queries, in main. NULL: the node has no name outside skiff. */
    const char *(*filename)(const BlockNode *n);

    /*
     * Reopening (block/core/reopen.c), in main and drained. prepare, a coroutine, finds out whether the
     * node can be as @r says and changes nothing that shows; then commit for all nodes, not
     * yielding, or for none; then clean, a coroutine, of what is left over. NULL: options of the
     * driver's own cannot change, the node's can.
     */
    bool (*co_reopen_prepare)(BlockNode *n, BlockReopen *r, GError **error);
    void (*reopen_commit)(BlockNode *n, BlockReopen *r);
    void (*co_reopen_clean)(BlockNode *n, BlockReopen *r, bool committed);
    /* The child has other limits than when the node was opened. NULL: no matter. */
    void (*child_changed)(BlockNode *n);

    /*
     * To another home, coroutines in main. prepare takes what the node needs there into *@state and
     * changes nothing that shows; finish, with nothing in flight and the new home in place, uses it
     * and releases what it replaces, or, not @committed, releases it. NULL, both: nothing of the
     * state is bound to the home.
     */
    bool (*co_move_prepare)(BlockNode *n, AioContext *home, void **state, GError **error);
    void (*co_move_finish)(BlockNode *n, void *state, bool committed);
} BlockDriver;

/* Sets the drivers that images and nodes may name. Called once, before any other thread runs.
 * @drivers is NULL-terminated and lives for ever: block_drivers of block/drivers.h, or a test's. */
void block_setup(const BlockDriver *const drivers[]) ANY_THREAD;
/* NULL if there is no driver of that name. */
const BlockDriver *block_driver_find(const char *name) ANY_THREAD;

typedef struct BlockTracked BlockTracked;

/* What a reopen may change. */
typedef struct BlockNodeFlags {
    bool read_only;
    bool auto_read_only; /* read_only may become true while opening */
    bool cache_direct;
    bool cache_no_flush;
    bool discard_unmap;
    bool force_share;
} BlockNodeFlags;

struct BlockNode {
    /* links */
    const BlockDriver *drv;
    AioContext *home;
    BlockNode *file; /* owned reference; NULL: a leaf */
    char *writer;    /* main: who may write, in words for an error text; NULL: nobody */

    /* config, fixed once open but for a reopen: main, drained */
    char *name;
    void *state;
    BlockNodeFlags flags;
    bool write_taken; /* of the child */
    bool moving;      /* to another home: nobody may come to use it meanwhile */
    void *move_state; /* the driver's, while moving */
    bool owned;       /* a user's: by -blockdev or blockdev-add, to be deleted by blockdev-del */
    unsigned serial;  /* nodes are listed in the order they were made */
    BlockLimits limits;

    /* runtime */
    unsigned refs; /* main */
    bool open;     /* main: block_node_find() knows it */
    _Atomic uint64_t size;
    BlockTracked *tracked; /* home: writes in flight, only where alignment makes them meet */
    uint64_t tracked_sequence;
    uint64_t bounced;           /* home: memory that unaligned requests have */
    CoQueue bounce_waiters;     /* home: those that wait for some */
    _Atomic unsigned in_flight; /* home: requests to it and operations of its own */
    unsigned quiesced;          /* home: drained sections that cover it */
    struct BlockNodeWait *waiting, **waiting_tail; /* home: operations that wait for their end */
};

/* A node as it is to be. */
struct BlockReopen {
    BlockNode *node;
    BlockNodeFlags flags;
    void *state; /* options as asked for; what prepare adds; after commit what was there before */
    BlockLimits limits; /* prepare's, as co_open's; the present ones, read in the drained section */
    uint64_t size;
    int flush_ret;
    bool prepared;
};

static inline uint64_t block_node_size(const BlockNode *n)
{
    return atomic_load_explicit(&n->size, memory_order_relaxed);
}

/* @who ("device 'disk0'", "node 'fmt0'") becomes the node's only writer; false + error names the
 * one there is, or that the node is read-only. */
bool block_node_take_write(BlockNode *n, const char *who, GError **error) RUNS_IN_MAIN;
void block_node_drop_write(BlockNode *n) RUNS_IN_MAIN;

/* ---- requests to a node: by backends and by the drivers above it ---- */
int block_node_co_preadv(BlockNode *n, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                         unsigned niov) coroutine_fn RUNS_IN_IOTHREAD;
int block_node_co_pwritev(BlockNode *n, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                          unsigned niov, unsigned flags) coroutine_fn RUNS_IN_IOTHREAD;
int block_node_co_flush(BlockNode *n) coroutine_fn RUNS_IN_IOTHREAD;
int block_node_co_discard(BlockNode *n, uint64_t offset, uint64_t bytes)
    coroutine_fn RUNS_IN_IOTHREAD;
int block_node_co_write_zeroes(BlockNode *n, uint64_t offset, uint64_t bytes, unsigned flags)
    coroutine_fn RUNS_IN_IOTHREAD;
int block_node_co_truncate(BlockNode *n, uint64_t size) coroutine_fn RUNS_IN_IOTHREAD;

/* ---- what is done below a backend's border (block/core/drain.c) ---- */
/*
 * Each request to a node is counted there while it runs, whoever made it. A driver or a job counts
 * what it does on its own account too, be it for longer than a request lasts (a write that goes on
 * after its completion) or without one (a timer, a copy in the background). A drained section of a
 * backend begins when the backend and all nodes below it have nothing in flight; moving and closing
 * a node wait for the same.
 *
 * block_node_co_begin() waits while a drained section covers the node; its caller holds nothing
 * that a request needs. block_node_begin() does not wait: it is for code that runs within a counted
 * request or operation and continues it.
 */
void block_node_co_begin(BlockNode *n) coroutine_fn RUNS_IN_IOTHREAD;
static inline unsigned block_node_in_flight(const BlockNode *n)
{
    return atomic_load_explicit(&n->in_flight, memory_order_relaxed);
}
RUNS_IN_IOTHREAD static inline void block_node_begin(BlockNode *n)
{
    assert_home(n->home);
    atomic_store_explicit(&n->in_flight, block_node_in_flight(n) + 1, memory_order_relaxed);
}
void block_node_kick_drains(const BlockNode *n) RUNS_IN_IOTHREAD; /* for block_node_end() */
RUNS_IN_IOTHREAD static inline void block_node_end(BlockNode *n)
{
    assert_home(n->home);
    unsigned count = block_node_in_flight(n);
    if (count == 0) {
        bug_abort("node '%s': an operation ends that was not in flight", n->name);
    }
    atomic_store_explicit(&n->in_flight, count - 1, memory_order_relaxed);
    if (__builtin_expect(count == 1 && n->quiesced > 0, 0)) {
        block_node_kick_drains(n);
    }
}

/* ---- writes that meet in one aligned block (block/core/track.c) ---- */
/*
 * A write that covers only part of an aligned block is a read, a change and a write: another write
 * into the same block in between would be lost. So writes of a node with an alignment are tracked:
 * one that is `serialising` waits for all older overlapping ones, and any waits for older
 * overlapping serialising ones. Waits point to older requests only, so they end.
 */
struct BlockTracked {
    BlockTracked *next, **link;
    uint64_t offset, bytes; /* aligned outwards */
    uint64_t sequence;
    bool serialising;
    CoQueue waiters;
};
void block_track_co_begin(BlockNode *n, BlockTracked *t, uint64_t offset, uint64_t bytes,
                          bool serialising) coroutine_fn RUNS_IN_IOTHREAD;
void block_track_end(BlockTracked *t) RUNS_IN_IOTHREAD;

static inline bool block_is_aligned(uint64_t value, uint64_t alignment)
{
    return (value & (alignment - 1)) == 0;
}
static inline uint64_t block_align_down(uint64_t value, uint64_t alignment)
{
    return value & ~(alignment - 1);
}
static inline uint64_t block_align_up(uint64_t value, uint64_t alignment)
{
    return (value + alignment - 1) & ~(alignment - 1);
}

#endif

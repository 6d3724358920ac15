/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the block layer: nodes and their drivers.
 *
 *   BlockBackend (backend*.c, drain.c)   counts requests, queues them in drained sections
 *        |  root
 *   BlockNode "raw" (node.c)             block_node_co_*() (node_io.c): range, alignment, splits
 *        |  file                         for the driver below; checks what the driver returns
 *   BlockNode "file" -> engine           system calls
 *
 * Invariants
 *   1. A node's requests run in its home context only; its graph is changed in main only, while no
 *      request of it is in flight.
 *   2. A driver gets only requests that its limits allow: aligned, short enough, never zero bytes.
 *   3. A driver op returns 0 or -errno, on the coroutine and in the context it was called in.
 *   4. Activity below a backend is counted at the node it runs in (block_node_begin()).
 *   5. Each user of a node, a parent node or a backend, has an edge to it. An edge exists only if its
 *      uses are compatible with those of all others (block/core/edge.c): a node has one writer at
 *      most, and none while a user needs its data unchanged.
 *   6. The children of an open node, and the root of a backend, change only in a graph change
 *      (block/graph.h): these nodes, and every node and backend above them, have nothing in flight
 *      then. All nodes below a node live in its home.
 *   7. The sections that cover a node are those of the backends above it and of the node itself. A
 *      graph change moves them with the edges, so that a section that began before the change holds
 *      for the graph after it.
 */
#ifndef SKIFF_BLOCK_NODE_H
#define SKIFF_BLOCK_NODE_H

#include <stdatomic.h>
#include "block/block.h"
#include "util/iov.h"

#define BLOCK_SIZE_MAX ((uint64_t)1 << 62)       /* so that sums of offsets never wrap */
#define BLOCK_ALIGNMENT_MAX ((uint64_t)64 << 10) /* of requests */
#define BLOCK_MEMORY_ALIGNMENT_MAX ((size_t)4096)

/* The longest path below a node: a request goes down by calls, on its coroutine's stack. */
#define BLOCK_DEPTH_MAX 64u

typedef struct BlockReopen BlockReopen;
struct BlockLaneDriver; /* block/lane.h */
struct BlkLanes;

/* A flag of BlockStatus that only drivers set, together with BLOCK_STATUS_OFFSET_VALID: the answer is
 * that of map_node at map_offset. */
enum {
    BLOCK_STATUS_RAW = 1 << 16,
    /* Data that may be a hole of map_node: it is searched for one. Only in precise answers. */
    BLOCK_STATUS_RECURSE = 1 << 17,
    /* Instead of DATA and ZERO: what the bytes are is unknown, and is not looked for below. */
    BLOCK_STATUS_NOTHING = 1 << 18,
};

/* What a user does with a node, and what it lets others do. */
typedef enum BlockUse {
    BLOCK_USE_READ = 1 << 0,
    BLOCK_USE_WRITE = 1 << 1,
    BLOCK_USE_RESIZE = 1 << 2,
    BLOCK_USE_UNCHANGED = 1 << 3, /* the data that the user reads must not change */
    BLOCK_USE_GRAPH = 1 << 4,     /* a job that will change the edges here; one at most */
} BlockUse;
#define BLOCK_USE_ALL                                                                              \
    ((unsigned)(BLOCK_USE_READ | BLOCK_USE_WRITE | BLOCK_USE_RESIZE | BLOCK_USE_UNCHANGED |        \
                BLOCK_USE_GRAPH))

typedef enum BlockChildRole {
    BLOCK_ROLE_FILE,    /* reads; writes and resizes if the parent is writable */
    BLOCK_ROLE_DATA,    /* the same */
    BLOCK_ROLE_BACKING, /* reads, and needs the data unchanged */
} BlockChildRole;

/* One use of a node. Main only, except that requests and drains follow the nodes. */
typedef struct BlockEdge {
    BlockNode *parent; /* NULL: the user is a backend or a job */
    BlockBackend *blk; /* NULL: the user is a node or a job */
    BlockNode *node;   /* owned reference */
    char *name;        /* of the child in its parent: "file", "backing"; else NULL */
    char *user;        /* for errors: "drive 'disk0'", "node 'fmt0'", "job 'job0'" */
    const char *reads; /* for errors: the option that makes the user a reader, or NULL; static */
    BlockChildRole role;
    bool stays;   /* a replacement of the node does not change the edge */
    bool kept;    /* a backup copies to the parent what is about to change in the node */
    bool awaited; /* a job's: drained sections wait for what it does in the node */
    bool aside; /* the parent uses the node's storage, not its disk: sections of the node skip it */
    unsigned uses, shares; /* BlockUse */
} BlockEdge;

/* What a step of such an operation returns. */
typedef enum BlockSnapshotStep {
    BLOCK_SNAPSHOT_ENDED,
    BLOCK_SNAPSHOT_MORE,   /* there is more to do */
    BLOCK_SNAPSHOT_RAISED, /* CREATE: only the part is left that puts the snapshot into the image */
} BlockSnapshotStep;

/* Which state area is opened. */
typedef struct BlockStateOpen {
    bool existing; /* of a snapshot in the image, to be read; else of the one being created */
    const char *id, *name; /* of the first such snapshot; NULL: any */
} BlockStateOpen;

/* How a driver operates on internal snapshots (block/core/snapshot.c): coroutines in the home. begin,
 * and if it succeeds, switch, and then step until it does not return 1 or 2. The node is drained during
 * switch for CREATE, and from switch until the end for APPLY; requests run at all other times. After
 * an error *@what says what could not be done; NULL: the -errno says it. */
typedef struct BlockSnapshotDriver {
    int (*co_begin)(BlockNode *n, const BlockSnapshotOp *op, const char **what);
    int (*co_switch)(BlockNode *n, const char **what);
    /* A BlockSnapshotStep; -errno: the operation has failed, and ended. */
    int (*co_step)(BlockNode *n, BlockSnapshotOp *op, const char **what);
    /* Instead of a step of CREATE, or of the switch: from now on the steps undo it. As co_step. */
    int (*co_cancel)(BlockNode *n);
    /* In main. Creates the node of a state area; @n becomes its child. NULL: the format has none. */
    BlockNode *(*co_open_state)(BlockNode *n, const BlockStateOpen *how, GError **error);
} BlockSnapshotDriver;

/* How a driver keeps dirty bitmaps in the image (block/dirty_bitmap.h). It loads them in co_open, and
 * stores them when the image is completed on disk. */
typedef struct BlockBitmapDriver {
    /* In main. Whether the image can have bitmaps. */
    bool (*supports)(const BlockNode *n);
    /* In main. Whether a new bitmap can become persistent. */
    bool (*can_store)(const BlockNode *n, const char *name, uint32_t granularity, GError **error);
    /* Coroutines in the home. co_change makes sure that no stored bitmap is taken for valid until it
     * is stored again. 0 or -errno. */
    int (*co_change)(BlockNode *n);
    /* Removes a bitmap from the image; 0 also if it is not there. */
    int (*co_remove)(BlockNode *n, const char *name);
} BlockBitmapDriver;

/* What a node can do. A driver states what its nodes can do at most; co_open and child_changed set
 * what this node can. Zeroing and extents are not here: a driver that cannot says so when asked. */
typedef struct BlockCaps {
    bool grows; /* reads past the end give zeroes, writes there extend */
    bool fua;   /* co_pwritev() honours BLOCK_REQ_FUA */
} BlockCaps;

typedef struct BlockDriver {
    const char *name; /* "driver=" */
    const char *help; /* one line */
    size_t state_size;
    const OptSpec *options; /* bound to the state before co_open(); cleared after co_close() */
    bool has_file;          /* has a child "file", opened before co_open() */
    bool is_filter;         /* queries show its file as the image below it */
    /* What the node shows does not change although what is below it changes: such a change is the
     * work of the job that has put it there. */
    bool hides_changes;
    bool shows_file; /* what queries show of its image is that of its file */
    bool is_remote;  /* its storage is not on this host */
    /* Further children that co_open() may open with block_node_co_open_child(); NULL-terminated.
     * Their options are not bound to the state. NULL: none. */
    const char *const *children;
    BlockCaps caps; /* of a node before co_open() changes them */

    /* Coroutines in main. clang cannot check thread roles of function pointers: the comments here
     * and the prototypes of the functions state them.
     * co_open fills node->limits (preset to no limits), node->caps (preset) and node->size. On failure it leaves nothing
     * open.
     */
    bool (*co_open)(BlockNode *n, GError **error);
    void (*co_close)(BlockNode *n); /* may be NULL */

    /* Coroutines in the home context. */
    int (*co_preadv)(BlockNode *n, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                     unsigned niov);
    int (*co_pwritev)(BlockNode *n, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                      unsigned niov, unsigned flags);
    /* A write with BLOCK_REQ_COMPRESSED. -EINVAL: not whole clusters. NULL or -ENOTSUP: the node
     * cannot compress. */
    int (*co_pwrite_compressed)(BlockNode *n, uint64_t offset, uint64_t bytes,
                                const struct iovec *iov, unsigned niov);
    /* Returns when all earlier writes are on stable storage, those to children too. NULL: the
     * children are flushed. */
    int (*co_flush)(BlockNode *n);
    /* NULL or -ENOTSUP: nothing is done, which is allowed. */
    int (*co_discard)(BlockNode *n, uint64_t offset, uint64_t bytes);
    /* NULL or -ENOTSUP: zeroes are written instead. */
    int (*co_write_zeroes)(BlockNode *n, uint64_t offset, uint64_t bytes, unsigned flags);
    /* Describes the bytes from @offset on, at most @bytes of them, in *@status, which is preset to
     * zeroes. Offset, @bytes and the answer's length are aligned; the answer is not empty. Flags:
     * DATA, ZERO, both, or neither (bytes of the backing node; zeroes if there is none), and
     * OFFSET_VALID, BLOCK_STATUS_RAW, _RECURSE, _NOTHING. NULL: everything is data. */
    int (*co_block_status)(BlockNode *n, uint64_t offset, uint64_t bytes, bool precise,
                           BlockStatus *status);
    /* Returns the bytes that the node itself uses on the host, or -errno. NULL: nothing is known, or
     * the node uses only what its children use. */
    int64_t (*co_allocated_size)(BlockNode *n);
    /* In main: the same, as far as the host knows it without asking the storage. */
    int64_t (*allocated_size)(const BlockNode *n);
    /* Fills @info, which is preset to zeroes. NULL: the image says nothing. */
    bool (*co_image_info)(BlockNode *n, BlockImageInfo *info, GError **error);
    /* Completes on disk what a close would; the node may be used further. 0 or -errno. NULL: there
     * is nothing to do beyond a flush. */
    int (*co_complete)(BlockNode *n);
    /* As block_node_co_change_backing() and block_node_co_make_empty(). NULL: not possible. */
    int (*co_change_backing)(BlockNode *n, const char *name, const char *format);
    int (*co_make_empty)(BlockNode *n);
    /* As block_node_co_view_snapshot(). NULL: the format has no snapshots. */
    bool (*co_view_snapshot)(BlockNode *n, const char *id, const char *name, GError **error);
    const BlockSnapshotDriver *snapshots; /* NULL: the format has none */
    const BlockBitmapDriver *bitmaps;     /* NULL: the format cannot keep them */
    /* Allocates a part of the node, which reads as zeroes and keeps reading so; not with mode off.
     * NULL: the driver has no metadata; zeroes are written. */
    int (*co_preallocate)(BlockNode *n, uint64_t offset, uint64_t bytes, BlockPreallocation mode);
    /* NULL or -ENOTSUP: the size is fixed. The caller updates node->size. */
    int (*co_truncate)(BlockNode *n, uint64_t size);

    const struct BlockLaneDriver *lane; /* NULL: only the home can execute requests */

    /* For queries, in main. NULL: the node has no file name. */
    const char *(*filename)(const BlockNode *n);
    /* In main: the value of the option "aio" that the node was opened with. NULL: it has none. */
    const char *(*aio)(const BlockNode *n);

    /*
     * Reopening (block/core/reopen.c), in main and drained. prepare, a coroutine, checks whether
     * the node can become as @r describes and changes nothing visible. Then commit is called for
     * all nodes without yielding, or for none. Then clean, a coroutine, releases what is left over.
     * NULL: the driver's own options cannot change; the node's can.
     */
    bool (*co_reopen_prepare)(BlockNode *n, BlockReopen *r, GError **error);
    void (*reopen_commit)(BlockNode *n, BlockReopen *r);
    void (*co_reopen_clean)(BlockNode *n, BlockReopen *r, bool committed);
    /* The limits, caps or size of a child, or a child itself, have changed since the node was
     * opened; it has a child "file". Sets what follows from them: limits, caps, size, and what the
     * state has of the children. In main, drained, without a yield. May be NULL. */
    void (*child_changed)(BlockNode *n);
    /* Whether @child can become the child @name. In main. May be NULL: any node can. */
    bool (*check_child)(const BlockNode *n, const char *name, const BlockNode *child,
                        GError **error);

    /* In the home. Ends the delays that the driver adds to requests, and their waits for what can hang,
     * also of those that wait; or allows them again. On while a drained section covers the node, and
     * while a device above it waits for its requests (BlockNode.lifted). NULL: the driver adds no
     * delays. */
    void (*lift)(BlockNode *n, bool on);

    /*
     * Moving to another home, coroutines in main. prepare stores in *@state what the node needs
     * there and changes nothing visible. finish is called with nothing in flight. If @committed,
     * the new home is set: it uses @state and releases what @state replaces; else it releases
     * @state. Both NULL: the driver's state is not bound to the home.
     */
    bool (*co_move_prepare)(BlockNode *n, AioContext *home, void **state, GError **error);
    void (*co_move_finish)(BlockNode *n, void *state, bool committed);
} BlockDriver;

/* Sets the drivers available to images and nodes. Called once, before any other thread runs.
 * @drivers is NULL-terminated and never freed: block_drivers of block/drivers.h, or a test's. */
void block_setup(const BlockDriver *const drivers[]) ANY_THREAD;
/* Returns NULL if no driver has that name. */
const BlockDriver *block_driver_find(const char *name) ANY_THREAD;

typedef struct BlockTracked BlockTracked;
typedef struct BlockDirtyBitmap BlockDirtyBitmap;

/* The tracked requests of a node, see below. */
typedef struct BlockTrack {
    BlockTracked *root;
    uint64_t sequence;
    unsigned serialisers; /* tracked requests that are serialising */
    unsigned users;       /* who have asked for it */
    uint64_t unit;        /* the largest one that they have asked for */
    uint32_t random;
} BlockTrack;

/* Flags that a reopen may change. */
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
    BlockNode *file;                   /* the node of the edge "file"; NULL: none */
    BlockNode *backing;                /* the node of the edge "backing"; NULL: none */
    GPtrArray *children;               /* BlockEdge, owned, in the order of opening */
    GPtrArray *parents;                /* main: BlockEdge of each user */
    struct BlockGraphChange *changing; /* main: the change that it takes part in; NULL: none */

    /* config, fixed once open; a reopen changes it in main, drained */
    char *name;
    void *state;
    BlockNodeFlags flags;
    unsigned height;        /* nodes on the longest path down, itself included */
    OptDict *child_options; /* during co_open: options of the driver's children */
    bool moving;            /* to another home; new users are refused meanwhile */
    bool snapshotting;      /* an operation on internal snapshots runs */
    void *move_state;       /* the driver's, while moving */
    bool copy_on_read;      /* reads copy to the node what they find below; set before requests */
    bool owned;             /* created by -blockdev or blockdev-add; blockdev-del deletes it */
    unsigned serial;        /* creation order, for listings */
    BlockLimits limits;
    BlockCaps caps;
    BlockImageInfo *image_info; /* main: the last one that was published; NULL: none */

    /* runtime */
    unsigned refs;             /* main */
    GPtrArray *bitmap_names;   /* main: BlockDirtyBitmap, owned */
    BlockDirtyBitmap *bitmaps; /* home: the same ones */
    bool open;                 /* main: between co_open and co_close */
    bool created;              /* main: by block_node_create() */
    bool unnamed;              /* main: the same, and the user has not given the name */
    bool hidden;               /* main: nobody sees its data, so its backing node may change */
    bool temporary;            /* main: its file has no name, so its data is lost when skiff ends */
    bool
        keeps_reads; /* home: a write waits for older reads of the same bytes; the node is tracked */
    bool detached;   /* main: created, and outside of the graph */
    _Atomic(BlockImageInfo *) published_info; /* which main has not taken yet; NULL: none */
    _Atomic uint64_t size;
    BlockTrack track;           /* home */
    uint64_t bounced;           /* home: memory used by unaligned requests */
    CoQueue bounce_waiters;     /* home: requests that wait for such memory */
    _Atomic unsigned in_flight; /* home: its requests and its own operations */
    struct BlkLanes *lanes;     /* home: whose lanes pass the node; NULL: nobody's */
    unsigned quiesced;          /* home: drained sections that cover it */
    unsigned lifted;            /* home: sections and devices for which its delays have ended */
    struct BlockNodeWait *waiting, **waiting_tail; /* home: operations that wait for them to end */
};

/* The future state of a node. */
struct BlockReopen {
    BlockNode *node;
    BlockNodeFlags flags;
    void *state;        /* requested options, what prepare adds; after commit the old state */
    BlockLimits limits; /* the present ones; prepare changes them like co_open */
    uint64_t size;
    int flush_ret;
    bool prepared;
};

static inline uint64_t block_node_size(const BlockNode *n)
{
    return atomic_load_explicit(&n->size, memory_order_relaxed);
}

/* For child_changed: the size of @n follows that of a child, its dirty bitmaps follow too. */
void block_node_follow_size(BlockNode *n, uint64_t size) RUNS_IN_MAIN;
/* Returns the child @name, or NULL if there is none. Borrowed. */
BlockNode *block_node_child(const BlockNode *n, const char *name) ANY_THREAD;
/* Opens or refers to child @name as option @name of @n's description says. If that option is absent,
 * @implied describes the child, and NULL means that there is none, which is no error. JSON null and
 * the empty string also mean that there is none. @implied is consumed. Called by the driver's
 * co_open. The node has no child of that name on failure; @error is set. */
bool block_node_co_open_child(BlockNode *n, const char *name, BlockChildRole role, OptDict *implied,
                              GError **error) coroutine_fn RUNS_IN_MAIN;
/* Whether a backend or another user, but a job, sees the data of @n. */
bool block_node_is_seen(const BlockNode *n) RUNS_IN_MAIN;
/* Whether @below is @n or below it. */
bool block_node_reaches(const BlockNode *n, const BlockNode *below) ANY_THREAD;
/* Describes the only writer of the node ("drive 'disk0'"), or returns NULL. Borrowed. */
const char *block_node_writer(const BlockNode *n) RUNS_IN_MAIN;
/* Name of the file at the bottom of the node's chain, borrowed; NULL: it has none. */
const char *block_node_filename(const BlockNode *n) ANY_THREAD;
/* Whether that file is not on this host. */
bool block_node_is_remote(const BlockNode *n) ANY_THREAD;
/* The option "aio" of that file, a string constant; NULL: it has none. */
const char *block_node_aio(const BlockNode *n) RUNS_IN_MAIN;
/* The option "cache.direct" of that file. */
bool block_node_file_direct(const BlockNode *n) RUNS_IN_MAIN;

/* Publishes what the node's image says about itself, for block_node_image_info(). Consumes @info. In
 * the node's home, or in main while the node is opened. */
void block_node_publish_image_info(BlockNode *n, BlockImageInfo *info) ANY_THREAD;

/* ---- requests to a node: from backends and from the drivers above ---- */
int block_node_co_preadv(BlockNode *n, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                         unsigned niov) coroutine_fn RUNS_IN_IOTHREAD;
/* The same; what the node does not hold itself is written to it (copy-on-read). The node was
 * prepared. */
int block_node_co_preadv_copying(BlockNode *n, uint64_t offset, uint64_t bytes,
                                 const struct iovec *iov, unsigned niov)
    coroutine_fn RUNS_IN_IOTHREAD;
int block_node_co_pwritev(BlockNode *n, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                          unsigned niov, unsigned flags) coroutine_fn RUNS_IN_IOTHREAD;
int block_node_co_flush(BlockNode *n) coroutine_fn RUNS_IN_IOTHREAD;
int block_node_co_discard(BlockNode *n, uint64_t offset, uint64_t bytes)
    coroutine_fn RUNS_IN_IOTHREAD;
int block_node_co_write_zeroes(BlockNode *n, uint64_t offset, uint64_t bytes, unsigned flags)
    coroutine_fn RUNS_IN_IOTHREAD;
int block_node_co_truncate(BlockNode *n, uint64_t size) coroutine_fn RUNS_IN_IOTHREAD;
/* As blk_co_block_status(). Beyond the end the answer is empty, with BLOCK_STATUS_EOF. */
int block_node_co_block_status(BlockNode *n, uint64_t offset, uint64_t bytes, bool precise,
                               BlockStatus *status) coroutine_fn RUNS_IN_IOTHREAD;

/* ---- operations of filters (block/core/filter.c) ---- */
/* Limits, caps and size are those of the file: for child_changed, and in co_open. */
void block_filter_child_changed(BlockNode *n) RUNS_IN_MAIN;
/* The file does it, or its answer holds. */
int block_filter_co_preadv(BlockNode *n, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                           unsigned niov) coroutine_fn RUNS_IN_IOTHREAD;
int block_filter_co_block_status(BlockNode *n, uint64_t offset, uint64_t bytes, bool precise,
                                 BlockStatus *status) coroutine_fn RUNS_IN_IOTHREAD;

/* ---- copy-on-read (block/core/copy_read.c) ---- */
/* Makes the node track what changes it from now on, for block_node_co_preadv_copying(). No write is
 * in flight. False + @error: it is read-only. */
bool block_node_co_prepare_copying(BlockNode *n, GError **error) coroutine_fn RUNS_IN_MAIN;
void block_node_co_end_copying(BlockNode *n) coroutine_fn RUNS_IN_MAIN;
/* The user of that tracking gets another child, in child_changed. */
void block_node_move_copying(BlockNode *from, BlockNode *to) RUNS_IN_MAIN;

/* ---- activity below a backend (block/core/drain.c) ---- */
/*
 * Each request to a node is counted at the node while it runs, whatever its source. A driver or a
 * job also counts its own activity if it lasts longer than a request (a write that continues after
 * its completion) or has none (a timer, a copy in the background). A drained section of a backend
 * begins when the backend and all nodes below it have nothing in flight; moving and closing a node
 * wait for the same.
 *
 * block_node_co_begin() waits while a drained section covers the node; its caller must hold nothing
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
        bug_abort("node '%s': an operation ends without being in flight", n->name);
    }
    atomic_store_explicit(&n->in_flight, count - 1, memory_order_relaxed);
    if (__builtin_expect(count == 1 && n->quiesced > 0, 0)) {
        block_node_kick_drains(n);
    }
}

/* ---- requests that meet (block/core/track.c) ---- */
/*
 * A write that covers only part of an aligned block is a read, a change and a write; a read that
 * copies to the node what it finds below is a read and a write. Another write to the same bytes in
 * between would be lost. So a node tracks what changes it, rounded outwards to its alignment, or to
 * a larger unit while it has users that ask for that. A request that is `serialising` waits for all
 * older ones that it overlaps, and every request waits for older serialising ones that overlap it.
 * Waits are for older requests only, so there is no cycle.
 *
 * Tracked requests form a tree that is ordered by their start and a heap by random priorities. Each
 * one has the summary of its subtree, so a search skips parts without an overlap.
 */
typedef struct BlockTrackSummary {
    uint64_t end;    /* the greatest end; 0: there is no such request */
    uint64_t newest; /* the greatest sequence number */
} BlockTrackSummary;

struct BlockTracked {
    BlockTracked *left, *right;
    uint64_t offset, end; /* rounded outwards */
    uint64_t sequence;
    uint32_t priority;
    bool serialising;
    uint64_t oldest; /* of the subtree: the smallest sequence number */
    BlockTrackSummary all, serialisers;
    CoQueue waiters;
};

/* Whether changes of the node have to be tracked. */
static inline bool block_track_needed(const BlockNode *n)
{
    return n->limits.request_alignment > 1 || n->track.users > 0;
}
/* Begins to track a request, and returns when it may run. The node needs it. */
void block_track_co_begin(BlockNode *n, BlockTracked *t, uint64_t offset, uint64_t bytes,
                          bool serialising) coroutine_fn RUNS_IN_IOTHREAD;
void block_track_end(BlockNode *n, BlockTracked *t) RUNS_IN_IOTHREAD;
/* A user asks for tracking of changes from now on, in units of @unit, a power of two, or of a larger
 * one that others have asked for; and ends that. The changes in flight are not tracked. */
void block_track_co_add_user(BlockNode *n, uint64_t unit) coroutine_fn RUNS_IN_IOTHREAD;
void block_track_remove_user(BlockNode *n) RUNS_IN_IOTHREAD;

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

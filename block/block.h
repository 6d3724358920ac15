/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public interface of the block layer, for devices, jobs and the command line.
 *
 * A BlockNode is one element of a graph (file, raw, qcow2, null, mem, fault, ...), opened from
 * options, reference-counted, homed in one iothread's context. A BlockBackend is a user's handle on
 * the root node of a graph. It is the border where contracts are checked (offset and length in
 * range, no alignment required, ret <= 0 exactly once, in the home context), where requests are
 * counted and where drain stops them.
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
    BLOCK_REQ_FUA = 1 << 0,       /* on stable storage before completion */
    BLOCK_REQ_MAY_UNMAP = 1 << 1, /* write-zeroes may deallocate */
    /* A write is stored compressed: whole clusters of the image, or up to the end of the disk. */
    BLOCK_REQ_COMPRESSED = 1 << 2,
    /* Write-zeroes gives -ENOTSUP instead of writing zeroes as data. A part may be zeroed then. */
    BLOCK_REQ_NO_FALLBACK = 1 << 3,
};

typedef enum BlockPreallocation {
    BLOCK_PREALLOCATION_OFF,
    BLOCK_PREALLOCATION_METADATA, /* of the image's format; the file gets no storage */
    BLOCK_PREALLOCATION_FALLOC,   /* storage is reserved */
    BLOCK_PREALLOCATION_FULL,     /* zeroes are written */
} BlockPreallocation;

#define BLOCK_ERROR block_error_quark()
GQuark block_error_quark(void);
enum {
    BLOCK_ERROR_OPTION, /* an option is missing, unknown or contradicts another */
    BLOCK_ERROR_OPEN,   /* a system call failed */
    BLOCK_ERROR_IN_USE, /* a name, a node or a file is taken */
    BLOCK_ERROR_DEPTH,  /* too many nodes below one */
    /* cache.direct= or aio= asks for what this file or host does not have; another value may work */
    BLOCK_ERROR_UNSUPPORTED,
};

#define BLOCK_NODE_NAME_MAX 31 /* bytes, as QEMU has it */
#define BLOCK_SECTOR_SIZE 512u /* sizes are multiples of it, as virtio-blk counts in it */

/* Capabilities and preferences of the backend, constant while open. The border splits and aligns
 * for the caller; with these numbers the caller can avoid that. All in bytes. */
typedef struct BlockLimits {
    uint32_t request_alignment; /* of offset and length; a power of two, at least 1 */
    uint32_t memory_alignment;  /* of each buffer's address; a power of two, at least 1 */
    uint32_t zero_alignment;    /* of discard and write-zeroes; a power of two, at least 1 */
    uint32_t opt_transfer;      /* 0: no preference */
    uint64_t max_transfer;      /* of one read or write */
    uint32_t max_iov;           /* elements of one read or write */
    uint64_t max_discard;       /* 0: discard unsupported (completes 0 doing nothing) */
    uint64_t max_write_zeroes;
} BlockLimits;

/* What a node holds in a range of its bytes: each flag is true for the whole range. A node with a
 * backing node that holds nothing itself has the backing node's status. */
enum {
    BLOCK_STATUS_DATA = 1 << 0, /* reads come from storage, maybe as zeroes */
    BLOCK_STATUS_ZERO = 1 << 1, /* reads give zeroes */
    /* The bytes are in map_node from map_offset on, as is. With ZERO and without DATA: map_node has
     * space for them there, with any content. */
    BLOCK_STATUS_OFFSET_VALID = 1 << 2,
    /* The node that is @depth backing nodes below determines the bytes. Without it, no node does:
     * they are beyond the end of the backing node, or there is none. */
    BLOCK_STATUS_ALLOCATED = 1 << 3,
    BLOCK_STATUS_EOF = 1 << 4, /* the range ends where the node ends */
};

typedef struct BlockStatus {
    uint64_t bytes;      /* length of the range; 0 only at the end of the node */
    unsigned flags;      /* BLOCK_STATUS_* */
    BlockNode *map_node; /* borrowed; NULL without BLOCK_STATUS_OFFSET_VALID */
    uint64_t map_offset; /* byte in map_node */
    unsigned depth;      /* backing nodes between the node and the one that has this status */
} BlockStatus;

/* ---- opening (main; -blockdev / -drive options, QEMU's spelling) ---- */
/* Opens a node tree: "driver", "node-name", "read-only", "cache.direct", "cache.no-flush",
 * "discard", "aio", "filename", "file" (nested or a node-name) ... The node lives in @home, or in
 * the home of the existing node that "file" names. Blocking system calls run in workers. NULL +
 * error. The caller owns one reference. */
BlockNode *block_co_open(const OptDict *opts, AioContext *home, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* The same for a named node of a user (-blockdev or blockdev-add). The node holds its own reference
 * until block_co_delete(). */
BlockNode *block_co_add(const OptDict *opts, AioContext *home, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* Deletes a user's node; false + error if none has that name or it is in use. */
bool block_co_delete(const char *node_name, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Reopens nodes with other options: read-only, cache.*, discard, locking and aio can change; an
 * absent option gets its default. Each of @opts names its node. All change or none does. Requests
 * in flight end before. Under the operation lock. */
bool block_co_reopen(OptDict *const *opts, unsigned count, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* Makes the node read-only or writable, and its files with it; all else stays. Under the operation
 * lock. */
bool block_node_co_set_read_only(BlockNode *n, bool read_only, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* Makes the node read-only, and its files with it, unless it is in use as a writable one. False: for
 * @patience_ns nothing has ended, and requests are in flight; the node is as it was. Under the operation
 * lock. */
bool block_node_co_try_make_read_only(BlockNode *n, int64_t patience_ns) coroutine_fn RUNS_IN_MAIN;
/* Moves an unused node and all nodes below it to @home. */
bool block_co_move(BlockNode *n, AioContext *home, GError **error) coroutine_fn RUNS_IN_MAIN;
/* The same for a caller that has @held references to @n, and maybe its user's one is another. */
bool block_co_move_held(BlockNode *n, AioContext *home, unsigned held, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* Resizes node @n: through the backend that writes to it, else through a temporary one. */
int block_node_co_resize(BlockNode *n, uint64_t size, GError **error) coroutine_fn RUNS_IN_MAIN;
BlockNode *block_node_find(const char *node_name) RUNS_IN_MAIN; /* borrowed; NULL: none */
/* All open nodes in creation order: an array to be freed with g_free(). */
BlockNode **block_node_list(unsigned *count) RUNS_IN_MAIN;
/* Completes the image of @n on disk as a close would; the node can be used further. 0 or -errno. */
int block_node_co_complete(BlockNode *n) coroutine_fn RUNS_IN_MAIN;
/* Completes all images on disk as a close would, for a process that ends without closing them. One that
 * hangs delays only those below it. */
void block_co_complete_all(void) coroutine_fn RUNS_IN_MAIN;
/* The same while users may still make requests: first, new requests are held in all backends, for good.
 * What has begun in an image ends before it is completed. Images without a completion are flushed.
 * Without the operation lock. The process ends after it. */
void block_co_complete_all_held(void) coroutine_fn RUNS_IN_MAIN;
/* Whether a node lives in @home, also one that is being opened or closed. @home must then stay.
 */
bool block_home_in_use(const AioContext *home) RUNS_IN_MAIN;

/* Information about a node; strings are borrowed. */
typedef struct BlockNodeInfo {
    const char *driver;
    const char *filename; /* of the file at the bottom of its files; NULL: none */
    BlockNode *child;     /* "file"; NULL: none */
    BlockNode *backing;   /* NULL: none */
    BlockNode *filtered;  /* the node that a filter shows as its own; NULL: it is none */
    bool read_only, cache_direct, cache_no_flush;
    uint64_t size;
} BlockNodeInfo;
void block_node_info(const BlockNode *n, BlockNodeInfo *info) RUNS_IN_MAIN;
/* The bytes that the node and its children use on the host, without backing nodes. In the home of
 * @n. -errno: not all of them are known. */
int64_t block_node_co_allocated_size(BlockNode *n) coroutine_fn RUNS_IN_IOTHREAD;
/* The same, for queries: what the host knows without asking the storage, which waits for nothing. */
int64_t block_node_allocated_size(const BlockNode *n) RUNS_IN_MAIN;

typedef struct BlockSnapshotInfo {
    char *id, *name;
    uint64_t vm_state_size;
    uint32_t date_s, date_ns; /* since 1970 */
    uint64_t vm_clock_ns;
    uint64_t icount; /* UINT64_MAX: unknown */
} BlockSnapshotInfo;

/* What an image says about itself. All is owned. */
typedef struct BlockImageInfo {
    uint64_t cluster_size; /* 0: the format has no clusters */
    bool dirty;            /* it was not closed cleanly */
    char *backing_name;    /* as in the image; NULL: none */
    char *backing_path;    /* the file that the name means; NULL: unknown */
    char *backing_format;  /* NULL: the image does not say */
    BlockSnapshotInfo *snapshots;
    unsigned snapshot_count;
    struct json_object *specific; /* {"type": ..., "data": ...} of QEMU; NULL: none */
} BlockImageInfo;
/* What the image of @n says about itself, for queries: as its driver has it in memory, which waits
 * for nothing. Without bitmaps. Borrowed until main yields; NULL: the driver says nothing. */
const BlockImageInfo *block_node_image_info(BlockNode *n) RUNS_IN_MAIN;
/* In the home of @n. False + @error; else block_image_info_clear() frees what is in @info. */
bool block_node_co_image_info(BlockNode *n, BlockImageInfo *info, GError **error)
    coroutine_fn RUNS_IN_IOTHREAD;
/* Makes the node, which is read-only and has no request in flight, show the disk as the internal
 * snapshot with that id and name has it; NULL: any. False + @error: unchanged. */
bool block_node_co_view_snapshot(BlockNode *n, const char *id, const char *name, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* Changes the name of the backing file, and its format, in the image of @n, which is writable. The
 * node's backing child stays as it is. NULL: none. 0 or -errno: -ENOTSUP the format has none; -ENOSPC
 * no room for the name. In the home of @n. */
int block_node_co_change_backing(BlockNode *n, const char *name, const char *format)
    coroutine_fn RUNS_IN_IOTHREAD;
/* Removes everything that the image of @n, which is writable, holds itself: the backing file shows
 * everywhere. 0 or -errno. In the home of @n. */
int block_node_co_make_empty(BlockNode *n) coroutine_fn RUNS_IN_IOTHREAD;
void block_image_info_clear(BlockImageInfo *info) ANY_THREAD;

/* The first snapshot with that id and name; NULL: any. Borrowed; NULL: none. */
const BlockSnapshotInfo *block_image_find_snapshot(const BlockImageInfo *info, const char *id,
                                                   const char *name) ANY_THREAD;

/* ---- internal snapshots (block/core/snapshot.c) ---- */
/* Describes a snapshot that is made now, without the guest's clock. @name is borrowed. */
BlockSnapshotInfo block_snapshot_info_now(const char *name) ANY_THREAD;
/* One such operation of a node runs at a time. The node stays where it is meanwhile. 0, or -errno
 * with @error, whose message the caller puts after its own; then the image is as it was, but may
 * have lost space. */
/* Creates a snapshot of the disk with @name and the times of @info; the format chooses its id. A
 * writer's requests stop only for the time that it takes to copy a table in memory. Returns when the
 * snapshot is on stable storage. */
int block_node_co_snapshot_create(BlockNode *n, const BlockSnapshotInfo *info, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* Makes the disk as the first snapshot with @id_or_name as its id has it, or else as its name.
 * Drained until the end. The size of the node can change. */
int block_node_co_snapshot_apply(BlockNode *n, const char *id_or_name, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* Deletes the first snapshot with that id and name; NULL: any. A writer's requests go on. */
int block_node_co_snapshot_delete(BlockNode *n, const char *id, const char *name, GError **error)
    coroutine_fn RUNS_IN_MAIN;

typedef enum BlockSnapshotKind {
    BLOCK_SNAPSHOT_CREATE,
    BLOCK_SNAPSHOT_APPLY,
    BLOCK_SNAPSHOT_DELETE,
} BlockSnapshotKind;

/* An operation on internal snapshots. */
typedef struct BlockSnapshotOp {
    BlockSnapshotKind kind;
    const BlockSnapshotInfo *info; /* CREATE */
    const char *id, *name;         /* APPLY: the name is also looked up as an id */
    uint64_t size;                 /* APPLY: of the node afterwards; set by the driver */
} BlockSnapshotOp;

typedef struct BlockSnapshotRun BlockSnapshotRun;
/* The same in three parts: begin and end change the graph and drain, so a user with an operation lock
 * holds it there; run lasts as long as the image has tables, and stops in drained sections. The texts
 * of @op stay valid until begin returns. NULL: *@ret and @error say why. */
BlockSnapshotRun *block_node_co_snapshot_begin(BlockNode *n, const BlockSnapshotOp *op, int *ret,
                                               GError **error) coroutine_fn RUNS_IN_MAIN;
void block_snapshot_co_run(BlockSnapshotRun *s) coroutine_fn RUNS_IN_MAIN;
BlockNode *block_snapshot_node(const BlockSnapshotRun *s) RUNS_IN_MAIN; /* borrowed */
/* Frees @s. 0, or -errno with @error. */
int block_snapshot_co_end(BlockSnapshotRun *s, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Creation in more parts, for a snapshot of several disks at one point in time. prepare does what can
 * wait for the image, outside of a drained section. Inside one of the caller that covers the node,
 * switch freezes the disk. Then follows run, or run_drained inside the section, and end, outside of
 * it in any case. prepare: NULL + @error. switch and run_drained: false + @error, and end follows. The
 * texts of @info stay valid until prepare returns. */
BlockSnapshotRun *block_node_co_snapshot_prepare(BlockNode *n, const BlockSnapshotInfo *info,
                                                 GError **error) coroutine_fn RUNS_IN_MAIN;
/* block_node_co_snapshot_apply() in two parts, for several disks: all are prepared, which finds what refuses; then each
 * is applied, which frees @s, or ended, which leaves the disk as it is. */
BlockSnapshotRun *block_node_co_snapshot_prepare_apply(BlockNode *n, const char *id_or_name,
                                                       GError **error) coroutine_fn RUNS_IN_MAIN;
int block_snapshot_co_apply(BlockSnapshotRun *s, GError **error) coroutine_fn RUNS_IN_MAIN;
bool block_snapshot_co_switch(BlockSnapshotRun *s, GError **error) coroutine_fn RUNS_IN_MAIN;
bool block_snapshot_co_run_drained(BlockSnapshotRun *s, GError **error) coroutine_fn RUNS_IN_MAIN;
/* All of run but the last part of a creation, which puts the snapshot into the image: the requests of a
 * writer are as before then. Does nothing after an error. run follows, with or without it. */
void block_snapshot_co_raise(BlockSnapshotRun *s) coroutine_fn RUNS_IN_MAIN;
/* From prepare on, at any time before that last part: undoes a creation, instead of what is left of it.
 * Also while another coroutine waits in raise or run, which then undoes it: requests to the state area that
 * are in flight end before, later ones end with -ECANCELED. run follows, or goes on, and end gives
 * -ECANCELED. */
void block_snapshot_cancel(BlockSnapshotRun *s) RUNS_IN_MAIN;
/*
 * The state area of a snapshot: the state of a machine, vm_state_size bytes. A snapshot that is created
 * with a size has an area of its own, which reads as zeroes until it is written to. Its node is opened
 * between prepare and the last part of the run; its user puts a backend on it, writable, and frees backend
 * and node before that part and before the run of a cancelled creation. It can be used before and after the
 * switch. What it has becomes durable with the snapshot, and is freed if that is not created. No
 * drained section of a user of the disk, nor of block_nodes_co_drained_begin(), waits for its requests;
 * changes of the graph and the completion of the image do. If the image is completed on disk meanwhile, its
 * requests end with -ECANCELED.
 * Owned reference. NULL + @error.
 */
BlockNode *block_snapshot_co_open_state(BlockSnapshotRun *s, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* The state area of the first snapshot of @n with that id and name (NULL: any), to be read. It is not
 * deleted while the node is open. @n can be read-only. Owned reference. NULL + @error: there is no such
 * snapshot, or it has no state. */
BlockNode *block_node_co_open_snapshot_state(BlockNode *n, const char *id, const char *name,
                                             GError **error) coroutine_fn RUNS_IN_MAIN;
/* Whether the format of the node has internal snapshots. */
bool block_node_can_snapshot(const BlockNode *n) ANY_THREAD;
/* Whether a format of @blk's image keeps metadata in memory: a write without FUA may then be lost with
 * the process until the next flush. In flight, so that the graph stays. */
bool blk_defers_metadata(const BlockBackend *blk) RUNS_IN_IOTHREAD;
/* Whether the format of the node has compressed writes. */
bool block_node_can_compress(const BlockNode *n) ANY_THREAD;

/* Makes all reads of a node copy to it what they find below, until it closes. The node has no user
 * yet. False + @error: it is read-only. */
bool block_node_co_set_copy_on_read(BlockNode *n, GError **error) coroutine_fn RUNS_IN_MAIN;

void block_node_ref(BlockNode *n) RUNS_IN_MAIN;
/* Drops a reference. The last one closes the file; may wait for its iothread. */
void block_co_unref(BlockNode *n) coroutine_fn RUNS_IN_MAIN;
const char *block_node_name(const BlockNode *n) ANY_THREAD;
AioContext *block_node_home(const BlockNode *n) ANY_THREAD;
bool block_node_read_only(const BlockNode *n) ANY_THREAD;

/* A new backend on @root (takes a reference). One writer per node: a second backend with @writable
 * fails; the error names the writer. */
BlockBackend *blk_co_new(const char *name, BlockNode *root, bool writable, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* The same for a user that is no drive; @user describes it in errors ("export 'e0'"), and the
 * literal @reads is the option that makes it a reader. blk_find() does not find such a backend, and queries of
 * drives do not show it. */
BlockBackend *blk_co_new_for(const char *user, const char *reads, BlockNode *root, bool writable,
                             GError **error) coroutine_fn RUNS_IN_MAIN;
/* Whether it was made by blk_co_new(). */
bool blk_is_drive(const BlockBackend *blk) ANY_THREAD;
/* Drains, then drops the reference to the root. */
void blk_co_free(BlockBackend *blk) coroutine_fn RUNS_IN_MAIN;
const char *blk_name(const BlockBackend *blk) ANY_THREAD;
AioContext *blk_home(const BlockBackend *blk) ANY_THREAD;
BlockBackend *blk_find(const char *name) RUNS_IN_MAIN;   /* borrowed; NULL: none */
BlockNode *blk_root(const BlockBackend *blk) ANY_THREAD; /* borrowed */
/* All backends: an array of *@count borrowed pointers, to be freed with g_free(). */
BlockBackend **blk_list(unsigned *count) RUNS_IN_MAIN;
/* The same without those that are no drives. */
BlockBackend **blk_list_drives(unsigned *count) RUNS_IN_MAIN;
bool blk_read_only(const BlockBackend *blk) ANY_THREAD;
/* Bytes, a multiple of 512: the size of the root at the end of the last drained section. Nothing inside a
 * section is visible, such as a filter that is being inserted. */
uint64_t blk_size(const BlockBackend *blk) ANY_THREAD;
BlockLimits blk_limits(const BlockBackend *blk) ANY_THREAD;
/* When off, each write has FUA. Off by cache=writethrough|directsync or the guest; initially on. */
void blk_set_write_cache(BlockBackend *blk, bool on) ANY_THREAD;
bool blk_write_cache(const BlockBackend *blk) ANY_THREAD;

/* Returned by a request instead of an -errno, only while the backend hurries: it was not started. */
#define BLK_NOT_STARTED (-0x10000)

/* Requests of all backends that live in an iothread, since it runs. */
typedef struct BlkActivity {
    uint64_t begun, ended;
} BlkActivity;
/* Of the calling iothread. */
BlkActivity blk_activity(void) RUNS_IN_IOTHREAD;

typedef struct BlkNotify {
    void (*resized)(void *opaque); /* in main */
    /* In the home context, when a drained section begins or ends for this backend: the device
     * stops or starts taking requests from the guest. `resume` must process its queues. NULL: the
     * border queues requests. */
    void (*quiesce)(void *opaque);
    void (*resume)(void *opaque);
    void *opaque;
} BlkNotify;
/* The device that has the backend; NULL: none. The block layer only keeps it. */
void blk_set_owner(BlockBackend *blk, const void *owner) RUNS_IN_MAIN;
const void *blk_owner(const BlockBackend *blk) RUNS_IN_MAIN;
/* @notify is copied; NULL: none. Called before the first request and drained section, or inside a
 * drained section, since the home context reads it at other times. */
void blk_set_notify(BlockBackend *blk, const BlkNotify *notify) RUNS_IN_MAIN;

/* ---- requests (home iothread) ---- */
/*
 * 0 or -errno: -EINVAL when [offset, offset+bytes) is not within blk_size(), -EPERM for a write to
 * a read-only backend. Nothing needs to be aligned. The sum of the iov lengths equals bytes
 * (asserted). A request of 0 bytes returns 0 without a call of the driver. A flag that the
 * operation does not support aborts: writes support BLOCK_REQ_FUA and BLOCK_REQ_COMPRESSED,
 * write-zeroes BLOCK_REQ_FUA, BLOCK_REQ_MAY_UNMAP and BLOCK_REQ_NO_FALLBACK, reads none. A compressed write to a node that
 * cannot compress gives -ENOTSUP, one of other bytes than whole clusters -EINVAL.
 *
 * A request is in flight until the code that follows it in the caller's coroutine has run up to its
 * next yield. So the completion towards the guest in that code is done before a drain returns.
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
/* Stores in *@status what is known about the bytes from @offset on: a range of one kind, at most
 * @bytes long. @precise: searches for zeroes also below storage that the root's driver calls data.
 * Without it only whether the root has BLOCK_STATUS_ALLOCATED has to be exact, and backing nodes are
 * not searched: where the root holds nothing, there is neither DATA nor ZERO nor ALLOCATED. In
 * flight like a request, absent from the statistics. 0 or -errno. */
int blk_co_block_status(BlockBackend *blk, uint64_t offset, uint64_t bytes, bool precise,
                        BlockStatus *status) coroutine_fn RUNS_IN_IOTHREAD;
/* Drains, truncates, then calls `resized` for all backends of the node. 0 or -errno with @error.
 * @size is a multiple of BLOCK_SECTOR_SIZE and of request_alignment. */
int blk_co_truncate(BlockBackend *blk, uint64_t size, GError **error) coroutine_fn RUNS_IN_MAIN;

/*
 * A macro operation: several requests of one coroutine that a drain counts as one (a discard of
 * many ranges; read, change, write back). It counts once from begin to end. A drained section waits
 * for it, and its parts run meanwhile; other requests queue. `begin` may wait like a request.
 * @macro lives on the coroutine's stack; the coroutine that began it ends it.
 */
typedef struct BlkMacro {
    Coroutine *owner;
    struct BlkMacro *next, **link;
} BlkMacro;
void blk_co_macro_begin(BlockBackend *blk, BlkMacro *macro) coroutine_fn RUNS_IN_IOTHREAD;
void blk_macro_end(BlockBackend *blk, BlkMacro *macro) RUNS_IN_IOTHREAD;

/* On while a device waits for all its requests to end, for a stop or a reset. Requests that wait at
 * the border, for the end of a drained section or by throttling, end with BLK_NOT_STARTED; so do
 * later ones that would have to wait. Throttling of the nodes below ends meanwhile. */
void blk_set_hurry(BlockBackend *blk, bool on) RUNS_IN_IOTHREAD;

/* ---- lanes: other loops that execute reads and writes themselves (block/lane.h) ---- */
typedef struct BlkLane BlkLane;
typedef struct BlkLaneRequest {
    bool is_write;
    uint64_t offset, bytes;
    const struct iovec *iov;
    unsigned niov;
} BlkLaneRequest;
/* Gives @blk a lane in each of @loops, none of which is its home. Once, before requests; the loops
 * outlive the backend. */
void blk_co_add_lanes(BlockBackend *blk, AioContext *const *loops, unsigned count)
    coroutine_fn RUNS_IN_MAIN;
/* The lane in loop @i; NULL: there is none. */
BlkLane *blk_lane(const BlockBackend *blk, unsigned i) ANY_THREAD;
/* In the lane's loop. Whether the lane executes @r. Then it is in flight, and the caller runs
 * blk_lane_co_run() with the same request; else the request belongs to the home. */
bool blk_lane_begin(BlkLane *lane, const BlkLaneRequest *r) RUNS_IN_IOTHREAD;
/* The result is that of blk_co_preadv() or blk_co_pwritev(). In flight as requests there. */
int blk_lane_co_run(BlkLane *lane, const BlkLaneRequest *r) coroutine_fn RUNS_IN_IOTHREAD;

/* ---- drain (main; counted, never polled) ---- */
/* Returns when none of the backends has a request in flight. From then until the end their new
 * requests queue (and are not in flight). Sections nest. The coroutine that begins one ends it,
 * with the same list. */
void co_drained_begin(BlockBackend *const *blks, unsigned count) coroutine_fn RUNS_IN_MAIN;
/* Never waits. Resumes queued requests; devices process their queues again. */
void co_drained_end(BlockBackend *const *blks, unsigned count) RUNS_IN_MAIN;
/* The same for all backends that use the disk of one of the nodes, directly or through other nodes, and for
 * what these nodes do on their own account. The nodes stay as they are until the end. */
typedef struct BlockSection BlockSection;
BlockSection *block_nodes_co_drained_begin(BlockNode *const *nodes, unsigned count)
    coroutine_fn RUNS_IN_MAIN;
void block_nodes_co_drained_end(BlockSection *section) coroutine_fn RUNS_IN_MAIN;
/* Requests in flight now; for queries and tests. */
unsigned blk_in_flight(const BlockBackend *blk) ANY_THREAD;

/* ---- statistics: counted at the border in the home context, read anywhere ---- */
typedef enum BlkOp { BLK_OP_READ, BLK_OP_WRITE, BLK_OP_FLUSH, BLK_OP_UNMAP, BLK_OP_COUNT } BlkOp;

typedef struct BlkStats {
    uint64_t bytes[BLK_OP_COUNT];      /* of successful requests */
    uint64_t operations[BLK_OP_COUNT]; /* successful ones */
    uint64_t failed[BLK_OP_COUNT];
    uint64_t invalid[BLK_OP_COUNT]; /* refused: beyond the end */
    uint64_t time_ns[BLK_OP_COUNT]; /* from begin to end, without invalid ones */
    uint64_t write_end;             /* the highest byte written, plus one */
    int64_t idle_ns;                /* since the last request ended; -1: no request yet */
} BlkStats;
void blk_stats(const BlockBackend *blk, BlkStats *stats) ANY_THREAD;
/* Counts a client's request that the caller refused before it became a request of the backend. */
void blk_account_invalid(BlockBackend *blk, BlkOp op) RUNS_IN_IOTHREAD;

/* Whether an error of this backend has stopped the VM: set by the device, cleared on resume. */
typedef enum BlkIoStatus { BLK_IO_OK, BLK_IO_FAILED, BLK_IO_NOSPACE } BlkIoStatus;
void blk_set_io_status(BlockBackend *blk, BlkIoStatus status) ANY_THREAD;
BlkIoStatus blk_io_status(const BlockBackend *blk) ANY_THREAD;

/* Latency histograms: @count boundaries (ns, ascending, above 0) make @count + 1 bins, which begin
 * at zero. @boundaries NULL removes the histogram. */
#define BLK_HISTOGRAM_MAX 1024u
bool blk_histogram_ok(const uint64_t *boundaries, unsigned count) ANY_THREAD;
void blk_co_set_histogram(BlockBackend *blk, BlkOp op, const uint64_t *boundaries, unsigned count)
    coroutine_fn RUNS_IN_MAIN;
/* Returns the number of bins and stores at most @max of them; 0: no histogram. *@boundaries is
 * borrowed until main yields. */
unsigned blk_histogram(const BlockBackend *blk, BlkOp op, const uint64_t **boundaries,
                       uint64_t *bins, unsigned max) RUNS_IN_MAIN;

/* ---- for -drive/-blockdev help and query ---- */
const char *const *block_driver_names(void) ANY_THREAD; /* NULL-terminated */

#endif

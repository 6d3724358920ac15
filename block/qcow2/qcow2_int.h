/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the qcow2 driver.
 *
 *   qcow2_open.c      options, opening and closing
 *   qcow2_header.c    the header and its checks; qcow2_extension.c: the rest of its cluster
 *   qcow2_children.c  the data file and the backing file; qcow2_probe.c: what a file contains
 *   qcow2_snapshot.c  the table of internal snapshots;  qcow2_view.c: the disk as one has it
 *   qcow2_snap.h      creating, applying and deleting snapshots, and its files
 *   qcow2_area.h      the state of a machine that a snapshot has, and its files
 *   qcow2_bitmap.h    persistent dirty bitmaps, and its files
 *   qcow2_cache.c     slices of tables in memory;  qcow2_cache_write.c: dirty ones
 *   qcow2_map.c       from an offset on the disk to what is there
 *   qcow2_read.c      reads;  qcow2_compress.c: of compressed clusters;  qcow2_codec.c: zlib, zstd
 *   qcow2_parts.c     parts of a request that run at the same time
 *   qcow2_status.c    block status;  qcow2_info.c: what `info` shows
 *   qcow2_backing.c   another backing file, and header; an empty image
 *   qcow2_amend.h     other options of an image, and its files
 *   qcow2_writer.h    writing, and its files
 *   qcow2_check.h     check and repair;  qcow2_repair.c: when an image is opened
 *   qcow2_create.h    new images
 *
 * Everything but opening and closing runs in the node's home, in one thread: there are no locks.
 * State that a coroutine has read can change while it waits, so a mapping is used, or copied, before
 * the next wait. A cluster that loses its reference meanwhile stays as it is until the request ends
 * (qcow2_free.c).
 */
#ifndef SKIFF_BLOCK_QCOW2_QCOW2_INT_H
#define SKIFF_BLOCK_QCOW2_QCOW2_INT_H

#include "block/node.h"
#include "block/qcow2/qcow2_area.h"
#include "block/qcow2/qcow2_bitmap.h"
#include "block/qcow2/qcow2_snap.h"
#include "block/qcow2/qcow2_writer.h"
#include "util/loop/worker.h"

typedef struct Qcow2Compressor Qcow2Compressor;

/* ---- the node's state ---- */

typedef struct Qcow2State {
    /* config: options */
    uint64_t l2_cache_size;
    uint64_t l2_slice_size;
    uint64_t clean_interval_s;
    Qcow2Overlap overlap;
    /* config: the image */
    Qcow2Header header;
    BlockNode *data; /* the data file, or the file */
    Qcow2Table l1;   /* header.l1_size entries */
    Qcow2Snapshot *snapshots;
    uint32_t snapshot_count;
    uint64_t snapshot_bytes; /* length of the table */
    Qcow2Bitmaps bitmaps;
    /* runtime, in the home */
    Qcow2Cache l2;
    AioTimer clean_timer;
    unsigned decompressing, compressing; /* clusters */
    CoQueue decompress_waiters, compress_waiters;
    Qcow2Compressor *compressors; /* spare ones, until the node is closed */
    WorkerLane lane;              /* of compression and decompression */
    bool corrupt_logged;
    bool preallocation_checked, preallocated; /* qcow2_status.c */
    /* of a node that can write */
    Qcow2Writer w;
    Qcow2Snap snap;
    Qcow2Area *areas; /* of snapshots in the image, that are open to be read */
} Qcow2State;

/* The name of the image for messages: the file's name, else the node's. */
const char *qcow2_who(const BlockNode *n) ANY_THREAD;
/* Logs once that the image is corrupt; from then on writes are refused. Returns -EIO. */
int qcow2_corrupt(const BlockNode *n, const char *format, ...) RUNS_IN_IOTHREAD
    __attribute__((format(printf, 2, 3)));
/* The same for damaged data: writes to other parts of the disk do no harm. */
int qcow2_damaged(const BlockNode *n, const char *format, ...) RUNS_IN_IOTHREAD
    __attribute__((format(printf, 2, 3)));

/* ---- qcow2_repair.c ---- */
/* Whether the image is to be written to, and was not closed after writing. */
bool qcow2_needs_repair(const BlockNode *n) ANY_THREAD;
/* Repairs it, before anything but the header is loaded. False + @error: errors remain. */
bool qcow2_co_repair(BlockNode *n, GError **error) coroutine_fn RUNS_IN_IOTHREAD;

/* ---- qcow2_children.c ---- */
/* Opens or refers to the children "data-file" and "backing", after the header was read. On failure
 * the core closes those that are open. */
bool qcow2_co_open_children(BlockNode *n, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Another node has become the file or the data file. */
void qcow2_child_changed(BlockNode *n) RUNS_IN_MAIN;

/* ---- qcow2_snapshot.c ---- */
/* Reads and checks the table. False + @error. */
bool qcow2_co_load_snapshots(BlockNode *n, GError **error) coroutine_fn RUNS_IN_IOTHREAD;
void qcow2_snapshots_free(Qcow2State *s) ANY_THREAD;
/* Finds the first snapshot with that id and name; NULL: any. NULL: there is none. */
const Qcow2Snapshot *qcow2_snapshot_find(const Qcow2State *s, const char *id, const char *name)
    ANY_THREAD;

/* ---- qcow2_map.c ---- */
typedef enum Qcow2Kind {
    QCOW2_UNALLOCATED, /* as the backing file, or zeroes */
    QCOW2_ZERO,
    QCOW2_DATA,       /* at @host of the data file */
    QCOW2_COMPRESSED, /* @host and @length describe the data of the whole cluster */
} Qcow2Kind;

typedef struct Qcow2Extent {
    Qcow2Kind kind;
    uint64_t bytes;  /* that are of this kind */
    uint64_t host;   /* DATA, reserved: of the first byte; COMPRESSED: of the compressed data */
    uint64_t length; /* COMPRESSED: at most so many bytes of compressed data */
    bool reserved;   /* ZERO, UNALLOCATED: the entry has a cluster, whose content is not used */
} Qcow2Extent;

/* An L2 entry and, with extended L2 entries, its bitmap. */
typedef struct Qcow2Entry {
    uint64_t entry, bitmap;
} Qcow2Entry;
Qcow2Entry qcow2_get_entry(const Qcow2State *s, const Qcow2Slice *slice, uint64_t index) ANY_THREAD;
void qcow2_set_entry(const Qcow2State *s, const Qcow2Slice *slice, uint64_t index, Qcow2Entry m)
    ANY_THREAD;
/* 0, or -EIO: the entry for @offset of the disk contradicts the format. */
int qcow2_check_entry(const BlockNode *n, uint64_t offset, Qcow2Entry m) RUNS_IN_IOTHREAD;
/* Where the data of a compressed cluster is: at most *@length bytes. */
void qcow2_compressed_place(const Qcow2State *s, Qcow2Entry m, uint64_t *host, uint64_t *length)
    ANY_THREAD;
/* Whether the entry has a cluster in the data file, which is not compressed. */
bool qcow2_has_cluster(const Qcow2State *s, Qcow2Entry m) ANY_THREAD;
/* As qcow2_free_later(), for the cluster or the compressed data that the entry has in the image's file
 * (qcow2_free.c). */
void qcow2_free_entry(BlockNode *n, Qcow2Entry m, bool discard) RUNS_IN_IOTHREAD;
/* An L1 table in memory, in host order, and the cache of its L2 tables. Behind its end nothing is
 * allocated. */
typedef struct Qcow2Map {
    const uint64_t *l1;
    uint32_t count;
    Qcow2Cache *tables;
} Qcow2Map;
/* Finds what is at @offset of what @m maps. 0 with 1 to @bytes bytes in @e, or -errno. */
int qcow2_co_map_in(BlockNode *n, const Qcow2Map *m, uint64_t offset, uint64_t bytes,
                    Qcow2Extent *e) coroutine_fn RUNS_IN_IOTHREAD;
/* The same for the disk. */
int qcow2_co_map(BlockNode *n, uint64_t offset, uint64_t bytes, Qcow2Extent *e)
    coroutine_fn RUNS_IN_IOTHREAD;

/* ---- qcow2_read.c ---- */
int qcow2_co_preadv(BlockNode *n, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                    unsigned niov) coroutine_fn RUNS_IN_IOTHREAD;
/* Reads what @m maps; what is not allocated reads as zeroes. */
int qcow2_co_read_map(BlockNode *n, const Qcow2Map *m, uint64_t offset, uint64_t bytes,
                      const struct iovec *iov, unsigned niov) coroutine_fn RUNS_IN_IOTHREAD;
/* Reads from a child; what lies beyond its end reads as zeroes. */
int qcow2_co_read_child(BlockNode *child, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                        unsigned niov) coroutine_fn RUNS_IN_IOTHREAD;
/* Reads metadata, which must lie within the file: else -EIO. */
int qcow2_co_read_table(BlockNode *file, uint64_t offset, uint64_t bytes, void *buffer)
    coroutine_fn RUNS_IN_IOTHREAD;

/* ---- qcow2_status.c ---- */
int qcow2_co_block_status(BlockNode *n, uint64_t offset, uint64_t bytes, bool precise,
                          BlockStatus *status) coroutine_fn RUNS_IN_IOTHREAD;

/* ---- qcow2_backing.c ---- */
int qcow2_co_change_backing(BlockNode *n, const char *name, const char *format)
    coroutine_fn RUNS_IN_IOTHREAD;
int qcow2_co_make_empty(BlockNode *n) coroutine_fn RUNS_IN_IOTHREAD;
/* Writes the header's cluster anew, between commits: version, length, names, feature bits and the width
 * of refcounts as in @h. On success the caller takes them over in the node's header. 0 or -errno;
 * -ENOSPC: the names do not fit. */
int qcow2_co_write_header_cluster(BlockNode *n, const Qcow2Header *h) coroutine_fn RUNS_IN_IOTHREAD;

/* ---- qcow2_view.c ---- */
bool qcow2_co_view_snapshot(BlockNode *n, const char *id, const char *name, GError **error)
    coroutine_fn RUNS_IN_IOTHREAD;

/* ---- qcow2_info.c ---- */
/* Publishes what queries show: called when the header's flags, the backing file's name or the list of
 * snapshots have changed. In the home, or in main while the node is opened. */
void qcow2_publish_info(BlockNode *n) ANY_THREAD;
bool qcow2_co_image_info(BlockNode *n, BlockImageInfo *info, GError **error)
    coroutine_fn RUNS_IN_IOTHREAD;

/* ---- qcow2_parts.c ---- */
/* Parts of a request, each with a coroutine of its own. Zero-initialized when there are none. */
typedef struct Qcow2Parts {
    unsigned running;
    int ret;         /* the first error of a part; then no other part starts its work */
    CoQueue waiters; /* the request */
} Qcow2Parts;
#define QCOW2_PARTS_MAX 16u /* of a request at a time */
/* Counts a part whose coroutine is about to be started. Waits while QCOW2_PARTS_MAX parts run. */
void qcow2_parts_co_begin(Qcow2Parts *p) coroutine_fn RUNS_IN_IOTHREAD;
/* A part ends with @ret, 0 or -errno. The request may free @p when it runs the next time. */
void qcow2_part_end(Qcow2Parts *p, int ret) RUNS_IN_IOTHREAD;
/* Waits for all parts. Returns @ret, or if that is 0 the first error of a part. */
int qcow2_parts_co_wait(Qcow2Parts *p, int ret) coroutine_fn RUNS_IN_IOTHREAD;

/* ---- qcow2_compress.c ---- */
/* Reads @bytes at @offset of the disk, which are within one compressed cluster. */
int qcow2_co_read_compressed(BlockNode *n, uint64_t offset, uint64_t bytes, const Qcow2Extent *e,
                             const struct iovec *iov, unsigned niov, size_t skip)
    coroutine_fn RUNS_IN_IOTHREAD;
/* Starts the same as a part of a request, whose buffers stay valid until all parts have ended. False:
 * as many clusters of the node as may be are decompressed already. So the parts of all requests
 * together have few coroutines. */
bool qcow2_co_start_compressed(Qcow2Parts *parts, BlockNode *n, uint64_t offset,
                               const Qcow2Extent *e, const struct iovec *iov, unsigned niov,
                               size_t skip) coroutine_fn RUNS_IN_IOTHREAD;
/* How many clusters of a node are read and decompressed, and how many are compressed and written, at
 * a time. Each needs at most three times its size. */
unsigned qcow2_compress_limit(const Qcow2State *s) ANY_THREAD;

/* ---- qcow2_codec.c ---- */
/* The memory that the compression of a cluster of @size bytes needs. It is expensive to make, so it is
 * kept in a list of spare ones. NULL: there is not enough. */
Qcow2Compressor *qcow2_compressor_get(Qcow2Compressor **spare, unsigned type, size_t size)
    RUNS_IN_IOTHREAD;
void qcow2_compressor_put(Qcow2Compressor **spare, Qcow2Compressor *c) RUNS_IN_IOTHREAD;
void qcow2_compressors_free(Qcow2Compressor **spare) ANY_THREAD;
uint8_t *qcow2_compressor_input(const Qcow2Compressor *c) ANY_THREAD;
uint8_t *qcow2_compressor_output(const Qcow2Compressor *c) ANY_THREAD;
/* Compresses the input into the output. Returns the length, less than a cluster; 0: it would be larger,
 * or there is no memory. */
size_t qcow2_compress(Qcow2Compressor *c) ANY_THREAD;
/* Decompresses @in into exactly @out_size bytes. 0 or -EIO. */
int qcow2_decompress(unsigned type, const uint8_t *in, size_t in_size, uint8_t *out,
                     size_t out_size) ANY_THREAD;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing to an image: the state, and what the files that write share.
 *
 *   qcow2_write.c     writes; qcow2_cow.c: the rest of a cluster that a write covers partially
 *   qcow2_write_compressed.c   compressed writes;  qcow2_pack.c: where their data goes
 *   qcow2_preallocate.c   clusters that are allocated in advance
 *   qcow2_zero.c      zeroes and discards;  qcow2_resize.c: other sizes of the disk
 *   qcow2_lock.c      which requests on guest clusters may run together
 *   qcow2_l2.c        L2 tables that can be changed, and their entries
 *   qcow2_overlap.c   metadata that must not be overwritten
 *   qcow2_alloc.c     allocation of clusters;  qcow2_free.c: clusters that lose their reference
 *   qcow2_refcount.c  refcounts;  qcow2_refcount_grow.c: more refcount blocks, a larger table
 *   qcow2_commit.c    metadata to disk, in order;  qcow2_update.c: the header
 *   qcow2_table.c     L1 table and refcount table;  qcow2_writer.c: begin and end of writing
 *
 * Data goes to disk at once. Metadata changes in memory: in dirty slices, the refcount table, the L1
 * table and the header. A commit writes what has changed when it begins:
 *
 *   in memory            data and new tables are on disk, nothing refers to them
 *     | capture          (copies of all changes; later changes belong to the next commit)
 *     v
 *   refcounts            increments, and decrements that an earlier commit has permitted
 *     | flush
 *     v
 *   refcount table       entries of new refcount blocks;  flush
 *   header               the places of new tables;        flush
 *     |
 *     v
 *   L2 slices, L1        references to clusters with a refcount on disk
 *     | flush
 *     v
 *   frees                clusters whose reference is gone from disk may be decremented
 *
 * Invariants
 *   1. On disk, a cluster that is referenced has at least that refcount (unless the dirty bit is
 *      set). So a crash at any write leaves leaks at most.
 *   2. On disk, a reference leads to data or a table that was flushed before it.
 *   3. A cluster is allocated again only after no reference to it is on disk, and after the requests
 *      have ended that were in flight when its reference went.
 *   4. One commit runs at a time. If it fails, all that it has captured is dirty again, and the next
 *      one writes it.
 *   5. Entries of a guest cluster change only under its exclusive lock; a write to a cluster that is
 *      in place holds its shared lock.
 *   6. Waits: memory to compress -> request lock -> memory for COW, place for compressed data ->
 *      commit -> slices of refcounts. None of them waits for one to its left.
 *   7. A cluster that compressed data is being packed into has a reference for that, beside those of
 *      its entries: it is not allocated again, and its space on the host is not given back.
 *
 * Everything runs in the home of the node, in one thread.
 */
#ifndef SKIFF_BLOCK_QCOW2_QCOW2_WRITER_H
#define SKIFF_BLOCK_QCOW2_QCOW2_WRITER_H

#include "block/qcow2/qcow2_cache.h"
#include "block/qcow2/qcow2_header.h"

#define QCOW2_SECTOR 512u        /* tables and header are written in these, each atomically */
#define QCOW2_SECTOR_ENTRIES 64u /* of the L1 table and the refcount table */

/* A table of 64-bit entries in memory, in host order, and its sectors that differ from the disk. */
typedef struct Qcow2Table {
    uint64_t *entries;
    uint32_t count;
    uint64_t *dirty; /* one bit for each sector */
    uint32_t dirty_sectors;
    /* Of each cluster that an entry leads to, the bit of its hash is set. NULL: not made yet. */
    uint64_t *places;
    unsigned places_bits, cluster_bits; /* 1 << places_bits bits */
    uint32_t spare; /* so many further entries can be added before it is made anew */
} Qcow2Table;

/* A request in flight, in the order of their begins. */
typedef struct Qcow2Use {
    uint64_t sequence;
    struct Qcow2Use *prev, *next;
} Qcow2Use;

/* Clusters that each lose one reference. */
typedef struct Qcow2Free {
    uint64_t cluster, count;
    bool discard; /* the guest's discard: the host's space is given back too */
} Qcow2Free;

/* Frees that a commit has permitted; they wait for requests up to @sequence. */
typedef struct Qcow2FreeBatch {
    uint64_t sequence;
    GArray *frees; /* Qcow2Free */
} Qcow2FreeBatch;

#define QCOW2_FREES_MAX 65536u /* extents; then a commit begins */

typedef struct Qcow2LockCell Qcow2LockCell;
#define QCOW2_LOCK_BUCKETS 1024u

typedef struct Qcow2Writer {
    /* config */
    uint64_t refcount_cache_size; /* option */
    bool loaded;                  /* the tables below are in memory: the node can write */
    /* the header */
    bool begun;         /* its flags allow changes of the image */
    bool beginning;     /* a coroutine writes them */
    bool lazy;          /* the dirty bit is set, refcounts are written at the end */
    bool header_dirty;  /* its fields differ from the disk */
    bool header_unsure; /* the write of its feature bits has failed */
    bool flags_wrong;   /* an error has left flags COPIED that do not match: stays dirty */
    bool corrupt;       /* writes are refused */
    bool corrupt_saved; /* or cannot be */
    CoQueue begin_waiters;
    uint8_t sector[QCOW2_SECTOR]; /* the first one, as on disk */
    /* tables */
    Qcow2Table refcount_table;
    Qcow2Cache refcounts;
    /* allocation */
    uint64_t hint;  /* no cluster below is free */
    uint64_t freed; /* the lowest one that became free during the search; UINT64_MAX: none */
    uint64_t fresh; /* clusters from here on were never written: they read as zeroes */
    bool allocating;
    CoQueue alloc_waiters;
    /* compressed data */
    uint64_t pack_at; /* byte in the file where the next data goes; 0: it goes to a new cluster */
    bool packing;
    CoQueue pack_waiters;
    /* commits */
    bool committing; /* or the header changes */
    uint64_t commits_begun, commits_ended;
    uint64_t commit_failed; /* the number of the last one that failed */
    int commit_error;
    bool data_written; /* which the next commit refers to */
    CoQueue commit_waiters;
    GArray *frees; /* Qcow2Free: of the next commit */
    GQueue batches;
    bool freeing;
    CoQueue free_waiters;
    /* requests */
    uint64_t sequence;
    Qcow2Use *first_use, *last_use;
    Qcow2LockCell **cells, *spare_cells;
    unsigned spare_count;
    uint64_t cow_memory;
    CoQueue cow_waiters;
    /* L2 tables */
    bool adding_l2;
    unsigned births; /* tables of zeroes that are being written */
    CoQueue l2_waiters;
} Qcow2Writer;

/* ---- qcow2_writer.c ---- */
/* Reads what a writable node needs. False + @error: the image cannot be written to. */
bool qcow2_co_load_writer(BlockNode *n, GError **error) coroutine_fn RUNS_IN_IOTHREAD;
/* Writes everything, clears the dirty bit. 0 or -errno. The node has no request in flight. */
int qcow2_co_finish_writer(BlockNode *n) coroutine_fn RUNS_IN_IOTHREAD;
void qcow2_writer_free(Qcow2Writer *w) ANY_THREAD;

/* ---- qcow2_table.c ---- */
/* Takes @entries, in the image's order, and owns them. */
void qcow2_table_init(Qcow2Table *t, uint64_t *entries, uint32_t count) ANY_THREAD;
void qcow2_table_free(Qcow2Table *t) ANY_THREAD;
/* Changes an entry; its sector is dirty then. */
void qcow2_table_set(Qcow2Table *t, uint64_t index, uint64_t value) RUNS_IN_IOTHREAD;
/* Whether an entry leads to a cluster that has bytes of [host, host + bytes). */
bool qcow2_table_leads_to(const Qcow2Table *t, unsigned cluster_bits, uint64_t host, uint64_t bytes)
    RUNS_IN_IOTHREAD;
/* Makes the table longer; all new entries are 0, and no sector is dirty. */
void qcow2_table_extend(Qcow2Table *t, uint32_t count) RUNS_IN_IOTHREAD;
/* Writes the whole table to @offset of the file, filled with zeroes to whole clusters. */
int qcow2_co_write_table(BlockNode *n, const Qcow2Table *t, uint64_t offset)
    coroutine_fn RUNS_IN_IOTHREAD;

typedef struct Qcow2Sector {
    uint32_t number;
    uint64_t entries[QCOW2_SECTOR_ENTRIES]; /* in the image's order */
} Qcow2Sector;
/* Copies the dirty sectors, which are clean then. Returns Qcow2Sector elements. */
GArray *qcow2_table_capture(Qcow2Table *t) RUNS_IN_IOTHREAD;
int qcow2_co_write_sectors(BlockNode *n, const GArray *sectors, uint64_t offset)
    coroutine_fn RUNS_IN_IOTHREAD;
/* Frees the copies; sectors that were not @written are dirty again. */
void qcow2_table_release(Qcow2Table *t, GArray *sectors, bool written) RUNS_IN_IOTHREAD;

/* ---- qcow2_update.c ---- */
/* Prepares the image for changes, once: marks bitmaps, clears autoclear bits, sets the dirty bit. 0
 * or -errno; -EIO if the image is corrupt. */
int qcow2_co_begin_change(BlockNode *n) coroutine_fn RUNS_IN_IOTHREAD;
/* Makes @sector, the first sector of the image, from @old and the fields of the header. */
void qcow2_header_encode(const Qcow2Header *h, const uint8_t *old, uint8_t *sector) ANY_THREAD;
/* Writes the first sector, without a flush. */
int qcow2_co_write_header(BlockNode *n, const uint8_t *sector) coroutine_fn RUNS_IN_IOTHREAD;
/* Sets the dirty bit on disk, if the format has it, whether or not it is set in memory. After an
 * error the disk may have either; a later change of the header writes it. 0 or -errno. */
int qcow2_co_set_dirty(BlockNode *n) coroutine_fn RUNS_IN_IOTHREAD;
/* Clears the dirty bit on disk; everything else has been flushed. */
int qcow2_co_clear_dirty(BlockNode *n) coroutine_fn RUNS_IN_IOTHREAD;
/* Sets the corrupt bit on disk if the image was found corrupt. Returns @ret. */
int qcow2_co_save_corrupt(BlockNode *n, int ret) coroutine_fn RUNS_IN_IOTHREAD;

/* ---- qcow2_refcount.c ---- */
/* The number of refcounts in a block is 1 << this. */
unsigned qcow2_block_bits(const BlockNode *n) ANY_THREAD;
/* Stores in *@block the offset of the block that has @cluster; 0: there is none. 0 or -EIO. */
int qcow2_refcount_block(const BlockNode *n, uint64_t cluster, uint64_t *block) RUNS_IN_IOTHREAD;
/* Loads the slice that has the refcount of @cluster. @index: of the refcount in the slice; @count:
 * how many refcounts follow in the slice, itself included. The slice is NULL if there is no block. */
int qcow2_co_get_refcounts(BlockNode *n, uint64_t cluster, Qcow2Slice **slice, uint64_t *index,
                           uint64_t *count) coroutine_fn RUNS_IN_IOTHREAD;
/* Increases (@by 1) or decreases (-1) the refcounts of @count clusters. 0; -EINVAL: a refcount has
 * its maximum; -EIO: it is 0 already. *@done clusters were changed. */
int qcow2_co_change_refcounts(BlockNode *n, uint64_t cluster, uint64_t count, int by,
                              uint64_t *done) coroutine_fn RUNS_IN_IOTHREAD;

/* ---- qcow2_refcount_grow.c ---- */
/* Creates refcount blocks from cluster @first on, which has no block, so that they cover it, the new
 * blocks, a new table if it has to grow, and @more clusters behind them. 0 or -errno. Called by the
 * allocator only. */
int qcow2_co_grow_refcounts(BlockNode *n, uint64_t first, uint64_t more)
    coroutine_fn RUNS_IN_IOTHREAD;

/* ---- qcow2_alloc.c ---- */
/* While an image is written to, its file ends so many bytes at most behind the last cluster. */
#define QCOW2_ROOM ((uint64_t)32 << 20)

typedef struct Qcow2Run {
    uint64_t host;  /* byte in the file */
    uint64_t count; /* clusters */
    bool fresh;     /* reads as zeroes */
} Qcow2Run;

/* Allocates a run of 1 to @want clusters, or with @whole of exactly @want. 0 or -errno. */
int qcow2_co_alloc(BlockNode *n, uint64_t want, bool whole, Qcow2Run *run)
    coroutine_fn RUNS_IN_IOTHREAD;
/* Frees clusters at once, which nothing has referred to yet. */
void qcow2_co_unalloc(BlockNode *n, const Qcow2Run *run) coroutine_fn RUNS_IN_IOTHREAD;
/* Writing ends: cuts the room at the end of the file off. @packed_end: the end of compressed data, which
 * may be in the last cluster; or 0. 0 or -errno. */
int qcow2_co_trim_room(BlockNode *n, uint64_t packed_end) coroutine_fn RUNS_IN_IOTHREAD;
/* Clusters from @cluster on have become free: the search for free ones begins there at the latest. */
void qcow2_note_free(Qcow2Writer *w, uint64_t cluster) RUNS_IN_IOTHREAD;
/* Allocates a run for a table, and makes sure that no cache holds anything there. */
int qcow2_co_alloc_table(BlockNode *n, uint64_t want, Qcow2Run *run) coroutine_fn RUNS_IN_IOTHREAD;

/* ---- qcow2_overlap.c ---- */
/* Structures of metadata, in the order of Qcow2Overlap.switches. */
typedef enum Qcow2OverlapStructure {
    QCOW2_OVERLAP_HEADER,
    QCOW2_OVERLAP_ACTIVE_L1,
    QCOW2_OVERLAP_ACTIVE_L2,
    QCOW2_OVERLAP_REFCOUNT_TABLE,
    QCOW2_OVERLAP_REFCOUNT_BLOCK,
    QCOW2_OVERLAP_SNAPSHOT_TABLE,
    QCOW2_OVERLAP_INACTIVE_L1,
    QCOW2_OVERLAP_INACTIVE_L2,
    QCOW2_OVERLAP_BITMAP_DIRECTORY,
    QCOW2_OVERLAP_COUNT,
} Qcow2OverlapStructure;

/* The option overlap-check. */
typedef struct Qcow2Overlap {
    int check, template;               /* qcow2_overlap_templates */
    int switches[QCOW2_OVERLAP_COUNT]; /* qcow2_overlap_switches */
    unsigned structures;               /* a bit for each that data is compared with */
} Qcow2Overlap;
extern const char *const qcow2_overlap_templates[], *const qcow2_overlap_switches[];
/* Takes the option. False + @error: it asks for what skiff does not have. */
bool qcow2_open_overlap(const BlockNode *n, GError **error) ANY_THREAD;
/* Whether [host, host + bytes) of the file, where data is about to be written, has nothing of the
 * structures that the option names. Else the image is corrupt: -EIO. */
int qcow2_check_data(const BlockNode *n, uint64_t host, uint64_t bytes) RUNS_IN_IOTHREAD;
/* Whether no table that is in memory, nor one that such a table leads to, has clusters of the run,
 * whose refcounts are 0. Else the image is corrupt: -EIO. */
int qcow2_check_free(const BlockNode *n, uint64_t first, uint64_t count) RUNS_IN_IOTHREAD;
/* Whether [host, host + bytes) of the file has no header and no table. Else the image is corrupt:
 * -EIO. */
int qcow2_check_overlap(const BlockNode *n, uint64_t host, uint64_t bytes) RUNS_IN_IOTHREAD;
/* The same without the bitmap directory. */
int qcow2_check_tables(const BlockNode *n, uint64_t host, uint64_t bytes) RUNS_IN_IOTHREAD;

/* ---- qcow2_pack.c ---- */
/* Finds a place for @bytes of compressed data, less than a cluster, and counts a reference to the
 * clusters that it touches, one or two. 0 or -errno. */
int qcow2_co_pack(BlockNode *n, uint64_t bytes, uint64_t *host) coroutine_fn RUNS_IN_IOTHREAD;
/* Drops that reference, which no entry has. The place is not used again. */
void qcow2_co_unpack(BlockNode *n, uint64_t host, uint64_t bytes) coroutine_fn RUNS_IN_IOTHREAD;
/* Drops the reference of the cluster that is being packed; the next data goes to a new one. */
void qcow2_co_pack_end(BlockNode *n) coroutine_fn RUNS_IN_IOTHREAD;

/* ---- qcow2_free.c ---- */
void qcow2_use_begin(Qcow2Writer *w, Qcow2Use *use) RUNS_IN_IOTHREAD;
void qcow2_use_end(BlockNode *n, Qcow2Use *use) RUNS_IN_IOTHREAD;
/* Notes that the clusters of [host, host + bytes) lose a reference with the next commit. */
void qcow2_free_later(BlockNode *n, uint64_t host, uint64_t bytes, bool discard) RUNS_IN_IOTHREAD;
/* Permits frees, whose references are gone from disk. */
void qcow2_free_permit(Qcow2Writer *w, GArray *frees) RUNS_IN_IOTHREAD;
/* Begins to decrement in the background what is permitted and used by no request. An error, or a
 * drained section, leaves the rest for later. */
void qcow2_free_start(BlockNode *n) RUNS_IN_IOTHREAD;
/* The same, and waits for it. */
void qcow2_co_free_all(BlockNode *n) coroutine_fn RUNS_IN_IOTHREAD;
/* Decrements one extent at once, and shortens it by what is done. No reference to it is left on disk
 * or in a request. 0 or -errno. */
int qcow2_co_free_extent(BlockNode *n, Qcow2Free *f) coroutine_fn RUNS_IN_IOTHREAD;
/* The same for its first clusters, with one discard at most. */
int qcow2_co_free_some(BlockNode *n, Qcow2Free *f) coroutine_fn RUNS_IN_IOTHREAD;
/* Commits, so that clusters become free that wait for it, and begins @use anew. False: there are
 * none, or the commit has failed. */
bool qcow2_co_reclaim(BlockNode *n, Qcow2Use *use) coroutine_fn RUNS_IN_IOTHREAD;

/* ---- qcow2_commit.c ---- */
/* Everything that has changed before the call is on stable storage after it. 0 or -errno. */
int qcow2_co_flush(BlockNode *n) coroutine_fn RUNS_IN_IOTHREAD;
/* Waits for the commit that runs, or makes one, so that slices become clean. 0 or -errno. */
int qcow2_co_make_room(BlockNode *n) coroutine_fn RUNS_IN_IOTHREAD;
/* Between these no commit runs: for a change of the header alone. */
void qcow2_co_commit_begin(Qcow2Writer *w) coroutine_fn RUNS_IN_IOTHREAD;
void qcow2_commit_end(Qcow2Writer *w) RUNS_IN_IOTHREAD;

/* ---- qcow2_lock.c ---- */
#define QCOW2_LOCK_MAX 256u /* clusters */
/* Locks @count guest clusters, in ascending order. Fair for each cluster. A coroutine that holds a
 * lock does not take another one. */
void qcow2_co_lock(Qcow2Writer *w, uint64_t cluster, uint64_t count, bool exclusive)
    coroutine_fn RUNS_IN_IOTHREAD;
void qcow2_unlock(Qcow2Writer *w, uint64_t cluster, uint64_t count) RUNS_IN_IOTHREAD;
void qcow2_lock_init(Qcow2Writer *w) ANY_THREAD;
void qcow2_lock_free(Qcow2Writer *w) ANY_THREAD;

/* ---- qcow2_l2.c ---- */
/* Loads the slice with the entry for @offset of the disk, to be changed before the next wait. If
 * there is no L2 table, or it is shared, there is a new one then. 0 or -errno. */
int qcow2_co_change_l2(BlockNode *n, uint64_t offset, Qcow2Slice **slice, uint64_t *index)
    coroutine_fn RUNS_IN_IOTHREAD;
/* Loads it to be read; *@slice is NULL if there is no L2 table. */
int qcow2_co_look_l2(BlockNode *n, uint64_t offset, Qcow2Slice **slice, uint64_t *index)
    coroutine_fn RUNS_IN_IOTHREAD;
/* Returns when the file has all new tables. 0 or -errno; a later call repeats what has failed. */
int qcow2_co_settle_l2(BlockNode *n) coroutine_fn RUNS_IN_IOTHREAD;
/* Writes a table of zeroes. */
int qcow2_co_write_zero_table(BlockNode *n, uint64_t table) coroutine_fn RUNS_IN_IOTHREAD;
/* Bytes of the disk that a slice of an L2 table maps. */
uint64_t qcow2_slice_covers(const BlockNode *n) ANY_THREAD;

/* ---- requests: operations of the driver ---- */
int qcow2_co_pwritev(BlockNode *n, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                     unsigned niov, unsigned flags) coroutine_fn RUNS_IN_IOTHREAD;
int qcow2_co_pwrite_compressed(BlockNode *n, uint64_t offset, uint64_t bytes,
                               const struct iovec *iov, unsigned niov)
    coroutine_fn RUNS_IN_IOTHREAD;
/* How many of @bytes from @offset on are a piece: in one slice, and lockable. */
uint64_t qcow2_piece(const BlockNode *n, uint64_t offset, uint64_t bytes) ANY_THREAD;
int qcow2_co_write_zeroes(BlockNode *n, uint64_t offset, uint64_t bytes, unsigned flags)
    coroutine_fn RUNS_IN_IOTHREAD;
/* Writes zeroes as data. */
int qcow2_co_write_zero_data(BlockNode *n, uint64_t offset, uint64_t bytes)
    coroutine_fn RUNS_IN_IOTHREAD;
/* Makes whole clusters beyond the disk's new end unallocated. */
int qcow2_co_cut(BlockNode *n, uint64_t offset, uint64_t bytes) coroutine_fn RUNS_IN_IOTHREAD;
int qcow2_co_discard(BlockNode *n, uint64_t offset, uint64_t bytes) coroutine_fn RUNS_IN_IOTHREAD;
/* Allocates the clusters of a part of the disk that have none; it keeps reading as zeroes. */
int qcow2_co_preallocate(BlockNode *n, uint64_t offset, uint64_t bytes, BlockPreallocation mode)
    coroutine_fn RUNS_IN_IOTHREAD;
int qcow2_co_truncate(BlockNode *n, uint64_t size) coroutine_fn RUNS_IN_IOTHREAD;

/* ---- qcow2_cow.c ---- */
/* A write to clusters that get new entries: [from, to) is written, counted from the start of the
 * first cluster; of it, the request has [from + head, to - tail). */
typedef struct Qcow2Cow {
    uint64_t guest; /* of the first cluster */
    uint64_t host;
    bool fresh;          /* the clusters read as zeroes */
    uint64_t head, tail; /* bytes to be copied */
    uint64_t from, to;
} Qcow2Cow;
/* Writes the request's data, iov from @skip on, with the head and the tail. 0 or -errno. */
int qcow2_co_write_cow(BlockNode *n, const Qcow2Cow *c, const struct iovec *iov, unsigned niov,
                       uint64_t skip) coroutine_fn RUNS_IN_IOTHREAD;
/* Writes @bytes of the buffers from @skip on to the data file. */
int qcow2_co_write_part(BlockNode *n, uint64_t host, uint64_t bytes, const struct iovec *iov,
                        unsigned niov, uint64_t skip) coroutine_fn RUNS_IN_IOTHREAD;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the check of an image.
 *
 *   qcow2_check.c            the order of things
 *   qcow2_check_counts.c     computed refcounts in memory
 *   qcow2_check_tables.c     references from L1 and L2 tables
 *   qcow2_check_snapshots.c  the snapshot table;  qcow2_check_bitmaps.c  bitmaps
 *   qcow2_check_refcounts.c  refcount blocks: compared with the computed refcounts
 *   qcow2_check_copied.c     the flag "copied" of entries
 *   qcow2_check_overlap.c    metadata that something else refers to
 *   qcow2_check_repair.c     changes in place;  qcow2_check_rebuild.c  new refcounts
 *   qcow2_check_rewrite.c    a new snapshot table
 *
 * Tables are shared: snapshots refer to the same L2 tables, and a hostile image can name one table
 * millions of times. So each part of the file that is a table is read once, and what it refers to is
 * counted with the number of references to it, its weight.
 */
#ifndef SKIFF_BLOCK_QCOW2_QCOW2_CHECK_INT_H
#define SKIFF_BLOCK_QCOW2_QCOW2_CHECK_INT_H

#include "block/qcow2/qcow2_check.h"
#include "block/qcow2/qcow2_header.h"

#define QCOW2_COUNTS_PIECE 512u
/* An L2 table that is not aligned is not found by its cluster: it is read for each reference, up to
 * this number of them. */
#define QCOW2_CHECK_UNALIGNED_MAX 1000u

/* A number for each cluster of the file. */
typedef struct Qcow2Counts {
    unsigned width; /* of a number: 1, 2 or 4 bytes */
    uint32_t max;   /* the largest number */
    uint64_t size;  /* clusters */
    void **pieces;  /* NULL: zeroes */
} Qcow2Counts;

typedef struct Qcow2Check {
    Qcow2CheckRequest *request;
    Qcow2CheckResult *result; /* of the request */
    BlockNode *file;
    Qcow2Header header;
    uint64_t cluster_size;
    uint64_t file_size;
    uint64_t clusters; /* that the file has or that are referred to */
    uint64_t *refcount_table;
    uint64_t refcount_entries;
    uint64_t memory;       /* used by the counts */
    Qcow2Counts counts;    /* references to each cluster; later the stored refcounts */
    Qcow2Counts l2_tables; /* references from L1 tables to L2 tables */
    Qcow2Counts active_l2; /* from the active L1 table */
    unsigned unaligned_l2, unaligned_copied; /* such tables that were read */
    unsigned fix;                            /* QCOW2_FIX_... that are still to be done */
    GArray *zeroes;                          /* Qcow2CheckZero: entries to be repaired */
    Qcow2Counts metadata;                    /* 1: a structure that has exactly one reference */
    uint64_t overlaps;                       /* found; corruptions that no repair removes */
    uint32_t incomplete_snapshots;           /* entries of the snapshot table */
    bool fix_copied;                         /* the flags that are wrong are corrected */
    bool must_rebuild;                       /* refcounts cannot be mended in place */
    uint8_t *buffer;                         /* QCOW2_CHECK_BUFFER bytes, for one table at a time */
} Qcow2Check;

#define QCOW2_CHECK_ZEROES_MAX (1u << 20) /* a second repair does the rest */
/* An entry that becomes one of zeroes without a cluster. */
typedef struct Qcow2CheckZero {
    uint64_t table; /* the cluster of the L2 table */
    uint64_t index;
} Qcow2CheckZero;

#define QCOW2_CHECK_BUFFER ((uint64_t)2 << 20) /* at least a cluster */
_Static_assert(QCOW2_CHECK_BUFFER >= (uint64_t)1 << QCOW2_CLUSTER_BITS_MAX, "a cluster fits");

/* ---- qcow2_check.c ---- */
/* Reports a line. */
void qcow2_check_report(const Qcow2Check *c, const char *format, ...) RUNS_IN_IOTHREAD
    __attribute__((format(printf, 2, 3)));
/* Writes a part of the file. */
int qcow2_check_co_write(const Qcow2Check *c, uint64_t offset, uint64_t bytes, const void *buffer)
    coroutine_fn RUNS_IN_IOTHREAD;
/* Reads a part of the file; what lies beyond its end reads as zeroes. */
int qcow2_check_co_read(const Qcow2Check *c, uint64_t offset, uint64_t bytes, void *buffer)
    coroutine_fn RUNS_IN_IOTHREAD;

/* ---- qcow2_check_counts.c ---- */
/* @max is the largest number that is needed; numbers above 32 bits are not. False: out of memory. */
bool qcow2_counts_init(Qcow2Counts *counts, uint64_t size, uint64_t max) ANY_THREAD;
void qcow2_counts_free(Qcow2Counts *counts) ANY_THREAD;
static inline uint32_t qcow2_counts_get(const Qcow2Counts *counts, uint64_t cluster)
{
    const void *piece =
        cluster < counts->size ? counts->pieces[cluster / QCOW2_COUNTS_PIECE] : NULL;
    uint64_t at = cluster % QCOW2_COUNTS_PIECE;
    return piece == NULL        ? 0
           : counts->width == 2 ? ((const uint16_t *)piece)[at]
           : counts->width == 1 ? ((const uint8_t *)piece)[at]
                                : ((const uint32_t *)piece)[at];
}
/* Sets the number, at most the largest one. False: the limit of memory is reached, reported. */
bool qcow2_counts_set(Qcow2Check *c, Qcow2Counts *counts, uint64_t cluster, uint64_t number)
    RUNS_IN_IOTHREAD;
/* The next cluster from @cluster on that can have a number above zero; c->size if there is none. */
uint64_t qcow2_counts_next(const Qcow2Counts *counts, uint64_t cluster) ANY_THREAD;
/* Counts @weight references to each cluster of a part of the file, and reports a part that is not
 * in the file. 0 or -ENOMEM. */
int qcow2_check_count(Qcow2Check *c, uint64_t offset, uint64_t bytes, uint32_t weight)
    RUNS_IN_IOTHREAD;

/* Parts of the file, and how many times each is named. */
typedef struct Qcow2CheckPart {
    uint64_t offset, bytes;
} Qcow2CheckPart;
typedef int Qcow2CheckPartFn(Qcow2Check *c, uint64_t offset, uint64_t bytes, uint32_t weight);
/* Calls @fn, a coroutine in the home, for parts that do not overlap and cover @parts (of
 * Qcow2CheckPart); @weight is the number of @parts that contain it. Ends with the first error. */
int qcow2_check_co_sweep(Qcow2Check *c, const GArray *parts, Qcow2CheckPartFn *fn)
    coroutine_fn RUNS_IN_IOTHREAD;
/* Counts references to tables, @parts, then calls @fn for their contents as above. */
int qcow2_check_co_tables(Qcow2Check *c, const GArray *parts, Qcow2CheckPartFn *fn)
    coroutine_fn RUNS_IN_IOTHREAD;

/* ---- qcow2_check_tables.c ---- */
/* What kind of cluster an L2 entry describes. */
typedef enum Qcow2CheckKind {
    QCOW2_CHECK_NONE,
    QCOW2_CHECK_COMPRESSED,
    QCOW2_CHECK_ALLOCATED, /* data, or zeroes that have a cluster */
    QCOW2_CHECK_ZERO,      /* without a cluster */
} Qcow2CheckKind;
Qcow2CheckKind qcow2_check_kind(const Qcow2Check *c, uint64_t entry) ANY_THREAD;
/* Counts references to L2 tables from the active L1 table, and from parts of those of snapshots. */
int qcow2_check_co_active_l1(Qcow2Check *c) coroutine_fn RUNS_IN_IOTHREAD;
int qcow2_check_co_snapshot_l1(Qcow2Check *c, uint64_t offset, uint64_t bytes, uint32_t weight)
    coroutine_fn RUNS_IN_IOTHREAD;
/* Counts references from all L2 tables that were found. */
int qcow2_check_co_l2_tables(Qcow2Check *c) coroutine_fn RUNS_IN_IOTHREAD;
/* Reads each L2 table whose number in @refs is not zero, and calls @fn. Ends with the first error. */
typedef int Qcow2CheckL2Fn(Qcow2Check *c, uint64_t cluster, uint8_t *table);
int qcow2_check_co_each_l2(Qcow2Check *c, const Qcow2Counts *refs, Qcow2CheckL2Fn *fn)
    coroutine_fn RUNS_IN_IOTHREAD;

/* ---- qcow2_check_snapshots.c, qcow2_check_bitmaps.c ---- */
int qcow2_check_co_snapshots(Qcow2Check *c) coroutine_fn RUNS_IN_IOTHREAD;
int qcow2_check_co_bitmaps(Qcow2Check *c) coroutine_fn RUNS_IN_IOTHREAD;

/* ---- qcow2_check_refcounts.c ---- */
int qcow2_check_co_load_refcount_table(Qcow2Check *c) coroutine_fn RUNS_IN_IOTHREAD;
/* Counts references to the refcount table and to refcount blocks. */
int qcow2_check_co_refcount_blocks(Qcow2Check *c) coroutine_fn RUNS_IN_IOTHREAD;
#define QCOW2_REFCOUNT_TABLE_RESERVED ((uint64_t)0x1ff)
/* Compares. Without a repair, replaces the computed refcounts by the stored ones. */
int qcow2_check_co_compare(Qcow2Check *c) coroutine_fn RUNS_IN_IOTHREAD;
/* The stored refcount of a cluster, which may lie beyond the end of the file. After the comparison.
 * 0 or -errno. */
int qcow2_check_co_stored(Qcow2Check *c, uint64_t cluster, uint64_t *count)
    coroutine_fn RUNS_IN_IOTHREAD;

/* ---- qcow2_check_copied.c ---- */
int qcow2_check_co_copied(Qcow2Check *c) coroutine_fn RUNS_IN_IOTHREAD;

/* ---- qcow2_check_overlap.c ---- */
/* Marks clusters of a structure that nothing else may refer to. 0 or -ENOMEM. */
int qcow2_check_mark_metadata(Qcow2Check *c, uint64_t offset, uint64_t bytes) RUNS_IN_IOTHREAD;
/* Reports a cluster of metadata with more references than it can have. Its stored refcount is right,
 * so nothing else is wrong with it. */
void qcow2_check_report_overlap(Qcow2Check *c, uint64_t cluster) RUNS_IN_IOTHREAD;
/* The same for all clusters. */
void qcow2_check_overlaps(Qcow2Check *c) RUNS_IN_IOTHREAD;

/* ---- qcow2_check_repair.c ---- */
/* Whether a cluster is used as L2 table and as nothing else. Not before everything is counted. */
bool qcow2_check_is_only_l2(const Qcow2Check *c, uint64_t cluster) ANY_THREAD;
/* Repairs the entries in c->zeroes. */
int qcow2_check_co_fix_zeroes(Qcow2Check *c) coroutine_fn RUNS_IN_IOTHREAD;
/* Changes stored refcounts as c->fix allows, then replaces the computed ones by those. */
int qcow2_check_co_fix_refcounts(Qcow2Check *c) coroutine_fn RUNS_IN_IOTHREAD;
/* Clears the flags "dirty" and "corrupt" of the image. */
int qcow2_check_co_mark_clean(Qcow2Check *c) coroutine_fn RUNS_IN_IOTHREAD;

/* ---- qcow2_check_rewrite.c ---- */
/* Writes the snapshot table anew if it has incomplete entries that are to be repaired. The counts are
 * those of the repaired refcounts. */
int qcow2_check_co_rewrite_snapshots(Qcow2Check *c) coroutine_fn RUNS_IN_IOTHREAD;

/* ---- qcow2_check_rebuild.c ---- */
/* Writes the computed refcounts into a new refcount table and new blocks. The counts are not usable
 * afterwards, since the old ones are leaked. */
int qcow2_check_co_rebuild(Qcow2Check *c) coroutine_fn RUNS_IN_IOTHREAD;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * New images.
 *
 *   header | refcount table | refcount blocks | L1 table | L2 table, its clusters | L2 table, ...
 *
 * L2 tables and clusters exist with preallocation only. The header is written last: until then the
 * file is no image.
 */
#ifndef SKIFF_BLOCK_QCOW2_QCOW2_CREATE_H
#define SKIFF_BLOCK_QCOW2_QCOW2_CREATE_H

#include "block/core/preallocate.h"
#include "block/qcow2/qcow2_header.h"

typedef struct Qcow2CreateOptions {
    uint64_t size;    /* of the disk, a multiple of 512 */
    unsigned version; /* 2 or 3 */
    uint64_t cluster_size;
    uint64_t refcount_bits;
    bool lazy_refcounts;
    bool extended_l2;
    unsigned compression; /* QCOW2_COMPRESSION_... */
    /* Borrowed; NULL: none. */
    const char *backing_file, *backing_format;
    const char *data_file;
    bool data_file_raw;
    BlockPreallocation preallocation;
} Qcow2CreateOptions;

/* Checks the options and how they fit together. Does no I/O. */
bool qcow2_create_check(const Qcow2CreateOptions *o, GError **error) ANY_THREAD;

typedef struct Qcow2CreateRequest {
    const Qcow2CreateOptions *options; /* checked */
    BlockNode *file;                   /* writable; what it has is lost */
    BlockNode *data;                   /* the data file, writable; NULL: none */
    bool dirty_file; /* the file cannot be emptied: what is not written is not zero */
    GError *error;   /* owned by the caller */
} Qcow2CreateRequest;

/* Writes the image. False + r->error: the file is no image. Runs in the file's home. */
bool qcow2_co_create(Qcow2CreateRequest *r) coroutine_fn RUNS_IN_IOTHREAD;

/* ---- qcow2_header_write.c ---- */
/* Writes the header, its extensions and the backing file's name into @cluster, whose size is the
 * image's cluster size. @h has no extensions that skiff does not know. False + @error: they do not
 * fit. */
bool qcow2_header_write(const Qcow2Header *h, uint8_t *cluster, GError **error) ANY_THREAD;

#endif

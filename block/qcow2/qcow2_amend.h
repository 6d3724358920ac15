/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Other options of an image that exists.
 *
 *   qcow2_amend.c            the checks, and the options that only the header has
 *   qcow2_amend_version.c    versions 2 and 3
 *   qcow2_amend_refcounts.c  refcounts of another width
 *
 * Everything is checked before anything changes. Each step leaves a valid image: what is new is on
 * stable storage before the header leads to it, and what is old becomes free after that. So a crash
 * leaves an image with some of the new options, and leaks at most.
 */
#ifndef SKIFF_BLOCK_QCOW2_QCOW2_AMEND_H
#define SKIFF_BLOCK_QCOW2_QCOW2_AMEND_H

#include "block/block.h"

typedef enum Qcow2AmendBool { QCOW2_AMEND_KEEP, QCOW2_AMEND_OFF, QCOW2_AMEND_ON } Qcow2AmendBool;

/* What is to change. Texts are borrowed. */
typedef struct Qcow2Amend {
    unsigned version;       /* 2 or 3; 0: as it is */
    uint64_t refcount_bits; /* 0: as they are */
    bool has_refcount_bits;
    Qcow2AmendBool lazy_refcounts, data_file_raw;
    const char *data_file;                     /* NULL: as it is; "": no name */
    const char *backing_file, *backing_format; /* must be as they are; both NULL: not checked */
    uint64_t
        size; /* only for the checks: the size that the caller gives the disk afterwards; 0: none.
                    * With it, version 2 needs another call. */
} Qcow2Amend;

/* The error of another backing file. */
#define QCOW2_AMEND_NO_BACKING "Cannot amend the backing file"
/* Changes the options of @n, a writable qcow2 node without other requests. In its home. False +
 * @error; then nothing has changed, unless reading or writing has failed. */
bool qcow2_co_amend(BlockNode *n, const Qcow2Amend *a, GError **error)
    coroutine_fn RUNS_IN_IOTHREAD;

/* ---- for the files of this module ---- */
bool qcow2_amend_refuse(GError **error, const char *text) ANY_THREAD;
/* Reports a failed step. False. */
bool qcow2_amend_failed(GError **error, const char *what, int ret) ANY_THREAD;
/* Whether the image can become version 2. False + @error. */
bool qcow2_co_check_downgrade(BlockNode *n, const Qcow2Amend *a, GError **error)
    coroutine_fn RUNS_IN_IOTHREAD;
bool qcow2_co_upgrade(BlockNode *n, GError **error) coroutine_fn RUNS_IN_IOTHREAD;
bool qcow2_co_downgrade(BlockNode *n, GError **error) coroutine_fn RUNS_IN_IOTHREAD;
/* Whether no refcount is too large for the width. False + @error. */
bool qcow2_co_check_refcount_order(BlockNode *n, unsigned order, GError **error)
    coroutine_fn RUNS_IN_IOTHREAD;
bool qcow2_co_change_refcount_order(BlockNode *n, unsigned order, GError **error)
    coroutine_fn RUNS_IN_IOTHREAD;

#endif

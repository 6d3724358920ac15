/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs that create an image, or change the options of one: blockdev-create and x-blockdev-amend.
 *
 * Nobody else can use the nodes meanwhile: their users are refused. A cancel takes effect when the
 * data step ends. Functions of main; false + @error: there is no job. The job runs when they return,
 * and stays until it is dismissed. Texts and options are copied.
 */
#ifndef SKIFF_BLOCK_JOB_CREATE_H
#define SKIFF_BLOCK_JOB_CREATE_H

#include "block/qcow2/qcow2_amend.h"
#include "block/qcow2/qcow2_create.h"

typedef struct BlockCreateFile {
    const char *filename;
    uint64_t size;
    BlockPreallocation preallocation;
} BlockCreateFile;

/* Makes a file that reads as zeroes; what a file of that name has is lost. If the job fails, a file
 * that it has made is removed. */
bool block_create_file(const char *id, const BlockCreateFile *o, AioContext *home, GError **error)
    RUNS_IN_MAIN;
/* Writes an empty qcow2 image to @file, and with a data file (else NULL) to @data. They live in one
 * home. Bad options are an error of the job. */
bool block_co_create_qcow2(const char *id, const Qcow2CreateOptions *o, BlockNode *file,
                           BlockNode *data, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Changes options of @n, a qcow2 node. Of @a's texts none is given. */
bool block_co_amend_qcow2(const char *id, BlockNode *n, const Qcow2Amend *a, GError **error)
    coroutine_fn RUNS_IN_MAIN;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file driver's inside: a regular file or a host block device.
 *
 *   driver_file.c   requests, through an engine
 *   file_open.c     opening and finding out, in a worker
 *   file_lock.c     keeping other processes out
 *   file_zero.c     discard and write-zeroes, in workers
 */
#ifndef SKIFF_BLOCK_DRIVER_FILE_H
#define SKIFF_BLOCK_DRIVER_FILE_H

#include "block/block_int.h"
#include "block/engine.h"

typedef enum FileLocking { FILE_LOCKING_AUTO, FILE_LOCKING_ON, FILE_LOCKING_OFF } FileLocking;

typedef struct FileState {
    /* config */
    char *filename;
    int aio;     /* BlockEngineKind */
    int locking; /* FileLocking */

    /* fixed once open */
    int fd;
    bool is_device;
    BlockEngine *engine;

    /* runtime, home */
    bool no_punch_hole; /* the file system said so */
    bool no_zero_range;
    int flush_error; /* sticky, see file_co_flush() */
} FileState;

/* Opens s->fd, takes the locks, fills node->size, node->limits and s->is_device. In a worker. */
bool file_open(BlockNode *n, GError **error) RUNS_IN_WORKER;

/* Locks @fd against other processes (and other nodes of this one); the lock lives as long as the
 * open file. */
bool file_lock(int fd, const char *filename, FileLocking locking, bool write, bool force_share,
               GError **error) RUNS_IN_WORKER;

int file_co_discard(BlockNode *n, uint64_t offset, uint64_t bytes) coroutine_fn RUNS_IN_IOTHREAD;
int file_co_write_zeroes(BlockNode *n, uint64_t offset, uint64_t bytes, unsigned flags)
    coroutine_fn RUNS_IN_IOTHREAD;
int file_co_truncate(BlockNode *n, uint64_t size) coroutine_fn RUNS_IN_IOTHREAD;

#endif

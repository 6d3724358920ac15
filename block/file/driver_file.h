/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Internals of the file driver: a regular file or a host block device.
 *
 *   driver_file.c   requests, through an engine
 *   file_sync.c     flushes
 *   file_open.c     opening and examining, in a worker
 *   file_reopen.c   reopening with other options, and moving to another iothread
 *   file_lock.c     locks against other processes
 *   file_zero.c     discard and write-zeroes, in workers
 *   file_status.c   which parts of a file are holes, in workers
 *   file_new.c      files for new images
 *   file_opener.c   the lane of calls that find files by their names
 */
#ifndef SKIFF_BLOCK_FILE_DRIVER_FILE_H
#define SKIFF_BLOCK_FILE_DRIVER_FILE_H

#include "block/node.h"
#include "block/engine/engine.h"

typedef enum FileLocking { FILE_LOCKING_AUTO, FILE_LOCKING_ON, FILE_LOCKING_OFF } FileLocking;

/* Part of a file that is data or a hole throughout. */
typedef struct FileExtent {
    uint64_t start, end; /* empty: none is known */
    uint64_t changes;    /* the count at which it was found; any later change makes it invalid */
    bool is_hole;
} FileExtent;

typedef struct FileState {
    /* config */
    char *filename;
    int aio;     /* BlockEngineKind */
    int locking; /* FileLocking */

    /* fixed once open */
    int fd;
    const BlockNode *replaces; /* during a reopen: the node with its present state; else NULL */
    bool is_device;
    BlockEngine *engine;

    /* runtime, home */
    bool no_punch_hole; /* set when the file system refused */
    bool no_zero_range;
    bool syncing; /* file_sync.c; one fdatasync() at a time */
    CoQueue sync_waiters;
    uint64_t syncs_begun, syncs_ended;
    uint64_t sync_failed;     /* number of the last failed sync; 0: none */
    int sync_error;           /* its error */
    int flush_error;          /* every later flush fails with it; 0: none */
    _Atomic uint64_t changes; /* counts writes, discards, ... that have ended, for file_status.c;
                                 written by lanes too */
    FileExtent extent;        /* the last one found */
    bool no_seek_data;        /* set when the file system refused */
    WorkerLane lane;          /* a hang in this lane does not block other files */
} FileState;

/* Opens s->fd, takes the locks, fills node->size, node->limits and s->is_device. With s->replaces:
 * fails if the name now leads to another file. In a worker. */
bool file_open(BlockNode *n, GError **error) RUNS_IN_WORKER;

/* The size of the file or device that s->fd is open on. 0 or -errno. */
int file_get_size(const FileState *s, uint64_t *size) RUNS_IN_WORKER;

/* The rights that a descriptor's locks stand for. */
typedef struct FileLockMode {
    FileLocking locking;
    bool write;
    bool force_share;
} FileLockMode;

/* Locks @fd against other processes and other nodes of this process; the lock lives as long as the
 * open file description. */
bool file_lock(int fd, const char *filename, const FileLockMode *mode, GError **error)
    RUNS_IN_WORKER;
/* The same for @fd, another descriptor of the file that @old_fd has locked with mode @old. @old_fd
 * keeps its locks and also gets those of @mode, until it is closed or file_lock_forget() is called.
 * On failure its locks are unchanged. */
bool file_lock_extend(int fd, int old_fd, const char *filename, const FileLockMode *old,
                      const FileLockMode *mode, GError **error) RUNS_IN_WORKER;
/* Removes the locks that file_lock_extend() added to @old_fd. */
void file_lock_forget(int old_fd, const FileLockMode *old, const FileLockMode *mode) RUNS_IN_WORKER;
/* The lock mode of a node that is open or being opened. */
FileLockMode file_lock_mode(const FileState *s, const BlockNodeFlags *flags) ANY_THREAD;

/* BlockDriver.co_reopen_*, co_move_*. */
bool file_co_reopen_prepare(BlockNode *n, BlockReopen *r, GError **error) coroutine_fn RUNS_IN_MAIN;
void file_reopen_commit(BlockNode *n, BlockReopen *r) RUNS_IN_MAIN;
void file_co_reopen_clean(BlockNode *n, BlockReopen *r, bool committed) coroutine_fn RUNS_IN_MAIN;
bool file_co_move_prepare(BlockNode *n, AioContext *home, void **state, GError **error)
    coroutine_fn RUNS_IN_MAIN;
void file_co_move_finish(BlockNode *n, void *state, bool committed) coroutine_fn RUNS_IN_MAIN;
/* Whether the engine that aio= asks for can serve the file with these flags. */
bool file_check_engine(const FileState *s, bool cache_direct, GError **error) ANY_THREAD;

/* Returns when all earlier writes are on stable storage. 0 or -errno. */
int file_co_sync(BlockNode *n) coroutine_fn RUNS_IN_IOTHREAD;
/* One call to engine @e, that of the home or of a lane, repeated after EINTR. Returns bytes or
 * -errno. */
int64_t file_co_io(const BlockNode *n, BlockEngine *e, BlockIo *io) coroutine_fn RUNS_IN_IOTHREAD;

int file_co_discard(BlockNode *n, uint64_t offset, uint64_t bytes) coroutine_fn RUNS_IN_IOTHREAD;
int file_co_write_zeroes(BlockNode *n, uint64_t offset, uint64_t bytes, unsigned flags)
    coroutine_fn RUNS_IN_IOTHREAD;
int file_co_truncate(BlockNode *n, uint64_t size) coroutine_fn RUNS_IN_IOTHREAD;
int file_co_block_status(BlockNode *n, uint64_t offset, uint64_t bytes, bool precise,
                         BlockStatus *status) coroutine_fn RUNS_IN_IOTHREAD;
/* Bytes that the file uses on the host, or -errno. */
int64_t file_co_allocated_size(BlockNode *n) coroutine_fn RUNS_IN_IOTHREAD;
/* The same as the kernel has it in memory, which does not wait for a network file system. */
int64_t file_allocated_size(const BlockNode *n) RUNS_IN_MAIN;
/* Content has changed: extents found before are no longer valid. */
static inline void file_changed(FileState *s)
{
    atomic_fetch_add(&s->changes, 1);
}

#endif

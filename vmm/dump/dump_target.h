/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The output of a dump: a file, a block device, a pipe or a socket, by path or as a passed
 * descriptor. Written sequentially, by a worker.
 *
 * In a regular file with no data behind the start position, pages of zeroes become holes. Outputs
 * that may block for ever (a pipe, a socket, a terminal) are written without blocking; the wait for
 * them ends when the dump is cancelled. A regular file may hang only as its file system does.
 */
#ifndef SKIFF_VMM_DUMP_DUMP_TARGET_H
#define SKIFF_VMM_DUMP_DUMP_TARGET_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include "util/owned_path.h"
#include "util/loop/thread.h"

typedef enum DumpTargetKind {
    DUMP_TARGET_SPARSE, /* pwrite(), zeroes are left out */
    DUMP_TARGET_FILE,   /* write() */
    DUMP_TARGET_STREAM, /* poll(), write() */
    DUMP_TARGET_SOCKET, /* poll(), send() */
} DumpTargetKind;

/* Cancels all dumps, from any thread, permanently. */
typedef struct DumpCancel {
    int fd; /* eventfd: readable once cancelled */
    _Atomic bool cancelled;
} DumpCancel;

typedef struct DumpTarget {
    const DumpCancel *cancel;
    int fd; /* owned; -1: not open */
    DumpTargetKind kind;
    OwnedPath file; /* a regular file that open() created or truncated */
    uint64_t base;  /* SPARSE: file offset of the dump's first byte */
    uint64_t at;    /* number of bytes of the dump written so far */
} DumpTarget;

bool dump_cancel_init(DumpCancel *c, GError **error) ANY_THREAD;
void dump_cancel_all(DumpCancel *c) ANY_THREAD;

/* Not open. @cancel is borrowed. */
void dump_target_init(DumpTarget *t, const DumpCancel *cancel) ANY_THREAD;
/* @path may name a set of descriptors (/dev/fdset/N). */
bool dump_target_open(DumpTarget *t, const char *path, GError **error) RUNS_IN_WORKER;
/* Takes ownership of @fd, also on failure. */
bool dump_target_adopt(DumpTarget *t, int fd, GError **error) RUNS_IN_WORKER;
/* Writes the next @size bytes. */
bool dump_target_write(DumpTarget *t, const uint8_t *data, uint64_t size, GError **error)
    RUNS_IN_WORKER;
/* @complete: all was written; otherwise a regular file is removed. */
bool dump_target_close(DumpTarget *t, bool complete, GError **error) RUNS_IN_WORKER;

#endif

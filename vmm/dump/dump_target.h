/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a dump is written to: a file, a block device, a pipe, a socket, by path or as a descriptor
 * that somebody handed over. Written from its beginning to its end; for a worker.
 *
 * In a regular file with nothing behind the place it is written to, pages of zeroes become holes.
 * To what may keep a writer waiting for ever (a pipe, a socket, a terminal) only as much is written
 * as it takes at once; waiting for it ends when the dump is cancelled. A regular file may hang only
 * as its file system does.
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

/* Says, from any thread, that dumps are to end; for good. */
typedef struct DumpCancel {
    int fd; /* eventfd: readable then */
    _Atomic bool cancelled;
} DumpCancel;

typedef struct DumpTarget {
    const DumpCancel *cancel;
    int fd; /* owned; -1: not open */
    DumpTargetKind kind;
    OwnedPath file; /* a regular file that open() made or emptied */
    uint64_t base;  /* SPARSE: where in the file the dump begins */
    uint64_t at;    /* how much of the dump has been written */
} DumpTarget;

bool dump_cancel_init(DumpCancel *c, GError **error) ANY_THREAD;
void dump_cancel_all(DumpCancel *c) ANY_THREAD;

/* Not open. @cancel is borrowed. */
void dump_target_init(DumpTarget *t, const DumpCancel *cancel) ANY_THREAD;
/* @path may name a set of descriptors (/dev/fdset/N). */
bool dump_target_open(DumpTarget *t, const char *path, GError **error) RUNS_IN_WORKER;
/* Takes @fd, also when it is no good. */
bool dump_target_adopt(DumpTarget *t, int fd, GError **error) RUNS_IN_WORKER;
/* The next @size bytes. */
bool dump_target_write(DumpTarget *t, const uint8_t *data, uint64_t size, GError **error)
    RUNS_IN_WORKER;
/* @complete: all was written; else what there is of a file is removed. */
bool dump_target_close(DumpTarget *t, bool complete, GError **error) RUNS_IN_WORKER;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state file: a whole stopped machine in one file or block device.
 *
 *   +---------------------+-----------------------------+
 *   | state stream        | image of RAM                |
 *   | up to 64 MiB        | from 64 MiB (ram_image.h)   |
 *   +---------------------+-----------------------------+
 *
 * The stream has a fixed region, so RAM can be written before the state of devices is known, and mapped.
 *
 * Invariants
 *   1. The stream's prefix is valid only while everything else is complete. A save clears it first, on stable
 *      storage, and writes it last, after a flush. So the two parts of a valid file are of one save.
 *   2. A load changes nothing before the whole stream, the header of the image and its page maps are checked.
 *
 * All functions run in the home of the file. docs/state-format.md has the bytes.
 */
#ifndef SKIFF_MIGRATION_STATE_FILE_H
#define SKIFF_MIGRATION_STATE_FILE_H

#include "migration/ram/ram_image.h"
#include "util/state/state_stream.h"

#define STATE_FILE_RAM_OFFSET STATE_STREAM_MAX

/* Bytes of a file with this image; a multiple of 4 KiB. */
uint64_t state_file_bytes(const RamImage *image) ANY_THREAD;

/* Fills in @s->offset. Then begin, passes of ram_image.h, and end, which takes the machine's stream. 0 or
 * -errno. End follows whatever begin returned; with @ret not 0, which it returns, the file stays invalid. */
int state_file_co_begin(RamImageSave *s, RamImage *image) coroutine_fn RUNS_IN_IOTHREAD;
int state_file_co_end(RamImageSave *s, RamImage *image, const GByteArray *stream, int ret)
    coroutine_fn RUNS_IN_IOTHREAD;

/* Makes the file invalid, durably. 0 or -errno. */
int state_file_co_clear(BlockBackend *blk) coroutine_fn RUNS_IN_IOTHREAD;

/* Reads the stream; its CRCs are checked when it is decoded. NULL + @error: the file has none, or cannot be
 * read. */
GByteArray *state_file_co_read_stream(BlockBackend *blk, GError **error)
    coroutine_fn RUNS_IN_IOTHREAD;

#endif

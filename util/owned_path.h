/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A name in the file system that skiff has made and removes at the end: a socket, a link, a file.
 *
 * The path is kept absolute, so that it stays the same name when the process changes its directory.
 * The name is removed only while it leads to the same file (device and inode): somebody else may
 * have put a file of his own there, and after a chroot the path means something else.
 */
#ifndef SKIFF_UTIL_OWNED_PATH_H
#define SKIFF_UTIL_OWNED_PATH_H

#include <stdbool.h>
#include <sys/types.h>
#include "util/loop/thread.h"

/* Zeroed: no name. */
typedef struct OwnedPath {
    char *path; /* absolute; owned. NULL: no name */
    dev_t device;
    ino_t inode;
} OwnedPath;

/* Takes note of @path, which exists and is now skiff's; a relative one is of the current directory.
 * A symbolic link counts itself, not what it leads to. False + errno when it is not there. */
bool owned_path_set(OwnedPath *o, const char *path) ANY_THREAD;
/* Whether the name still leads to that file. Async-signal-safe. */
bool owned_path_is_ours(const OwnedPath *o) ANY_THREAD;
/* Removes the name if owned_path_is_ours(). False: nothing was removed. Async-signal-safe. */
bool owned_path_unlink(const OwnedPath *o) ANY_THREAD;
/* Forgets the name, and leaves it. */
void owned_path_clear(OwnedPath *o) ANY_THREAD;

#endif

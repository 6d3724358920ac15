/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A name in the file system that skiff has created and removes at the end: a socket, link or file.
 *
 * The path is kept absolute, so that it stays valid when the process changes its directory. The
 * name is removed only while it leads to the same file (device and inode): another process may
 * have put its own file there, and after a chroot the path means something else.
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

/* Records @path, which exists and now belongs to skiff; a relative one is made absolute. A symbolic
 * link is recorded itself, not its target. False + errno when the name does not exist. */
bool owned_path_set(OwnedPath *o, const char *path) ANY_THREAD;
/* Whether the name still leads to that file. Async-signal-safe. */
bool owned_path_is_ours(const OwnedPath *o) ANY_THREAD;
/* Removes the name if owned_path_is_ours(). False: nothing was removed. Async-signal-safe. */
bool owned_path_unlink(const OwnedPath *o) ANY_THREAD;
/* Forgets the name without removing it. */
void owned_path_clear(OwnedPath *o) ANY_THREAD;

#endif

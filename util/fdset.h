/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sets of file descriptors that a client has passed to skiff (QMP add-fd). Opening the file name
 * "/dev/fdset/N" duplicates the descriptor of set N whose access mode fits. The process has one
 * list of sets; any thread may use it.
 */
#ifndef SKIFF_UTIL_FDSET_H
#define SKIFF_UTIL_FDSET_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include "util/loop/thread.h"

#define FDSET_PREFIX "/dev/fdset/"

/* Whether @path names a set, well-formed or not. Such a name is never opened as a file. */
bool fdset_is_path(const char *path) ANY_THREAD;
/* Duplicates the descriptor of the set @path that fits the open(2) @flags; the result is owned by
 * the caller and close-on-exec. Status flags (O_DIRECT, O_APPEND ...) are set on the open file
 * description, which is shared with the client. -errno: -EINVAL the name is malformed, -ENOENT
 * there is no such set, -EACCES no descriptor of the set has this access mode. */
int fdset_dup_fd(const char *path, int flags) ANY_THREAD;

/* Adds @fd (taken, also on failure) to the set @id, or to a new set if @id < 0. Returns the set's
 * id, or -1 and @error. @opaque is a note for fdset_foreach(); may be NULL. */
int64_t fdset_add(int64_t id, int fd, const char *opaque, GError **error) ANY_THREAD;
/* Closes one descriptor of a set, or all if @fd < 0; an empty set is removed. Duplicates stay
 * open. */
bool fdset_remove(int64_t id, int fd, GError **error) ANY_THREAD;

/* Calls @fn for each descriptor, set by set, ids ascending. @fn must not call fdset functions. */
void fdset_foreach(void (*fn)(int64_t id, int fd, const char *note, void *opaque), void *opaque)
    ANY_THREAD;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sets of file descriptors that a client has handed over (QMP add-fd), to be opened by the name
 * "/dev/fdset/N" in place of a file: the one of the set N whose access mode fits is duplicated. The
 * process has one list of sets; any thread may use it.
 */
#ifndef SKIFF_UTIL_FDSET_H
#define SKIFF_UTIL_FDSET_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include "util/loop/thread.h"

#define FDSET_PREFIX "/dev/fdset/"

/* Whether @path names a set, well-formed or not: such a name is never a file's. */
bool fdset_is_path(const char *path) ANY_THREAD;
/* A descriptor of the caller's own (close-on-exec) for the set that @path names, opened as
 * open(2)'s @flags say. The status flags among them (O_DIRECT, O_APPEND ...) are set on the
 * description, which is shared with whoever handed it over. -errno: -EINVAL the name is malformed,
 * -ENOENT there is no such set, -EACCES none of the set has this access mode. */
int fdset_dup_fd(const char *path, int flags) ANY_THREAD;

/* Adds @fd (taken, also on failure) to the set @id, or with @id < 0 to a new one. Returns the set's
 * id, or -1 and @error. @opaque is a note for whoever lists the sets; NULL: none. */
int64_t fdset_add(int64_t id, int fd, const char *opaque, GError **error) ANY_THREAD;
/* Closes one descriptor of a set, or with @fd < 0 all; an empty set is gone. What was duplicated
 * from it stays open. */
bool fdset_remove(int64_t id, int fd, GError **error) ANY_THREAD;

/* Calls back for each descriptor, set by set, ids ascending. @fn must not come back here. */
void fdset_foreach(void (*fn)(int64_t id, int fd, const char *note, void *opaque), void *opaque)
    ANY_THREAD;

#endif

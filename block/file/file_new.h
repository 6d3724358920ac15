/* SPDX-License-Identifier: Apache-2.0 */
/* Files that are made for new images. Workers do it; paths are borrowed until the calls return. */
#ifndef SKIFF_BLOCK_FILE_FILE_NEW_H
#define SKIFF_BLOCK_FILE_FILE_NEW_H

#include <stdbool.h>
#include <sys/types.h>
#include "util/loop/coroutine.h"

/* Makes an empty file with @mode, less the umask. 0, -EEXIST if there is something of that name, -EBUSY if too many files
 * are being opened (file_opener.h), or another -errno. */
int file_co_make(const char *path, mode_t mode) coroutine_fn;
#define FILE_NEW_IMAGE_MODE 0644
void file_co_remove(const char *path) coroutine_fn;
/* Whether @path is a block device. */
bool file_co_is_device(const char *path) coroutine_fn;
/* Whether @path is not a file that other users can read, or that belongs to another user. */
bool file_co_is_private(const char *path) coroutine_fn;

#endif

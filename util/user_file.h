/* SPDX-License-Identifier: Apache-2.0 */
/* Whole files that the user names for firmware: -fw_cfg file=, -smbios file= and path=, romfile= of a device. */
#ifndef SKIFF_UTIL_USER_FILE_H
#define SKIFF_UTIL_USER_FILE_H

#include <glib.h>
#include <stdint.h>
#include "util/loop/thread.h"

#define USER_FILE_STREAM_MAX (UINT64_C(64) << 20)

/* Reads @path to its end. NULL + error when it has more than @max bytes; a file without a size (a
 * pipe, /dev/zero) may have USER_FILE_STREAM_MAX at most. No more than that is read or allocated.
 * The error does not name the file. Waits for the kernel: in a worker. */
GBytes *user_file_read(const char *path, uint64_t max, GError **error) ANY_THREAD;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that find a file by its name: they hang while its storage does not answer, each in a worker. They have a lane
 * of their own, so that other files and everything else in workers goes on whatever the number of opens that hang.
 */
#ifndef SKIFF_BLOCK_FILE_FILE_OPENER_H
#define SKIFF_BLOCK_FILE_FILE_OPENER_H

#include <glib.h>
#include <stdbool.h>
#include "util/loop/coroutine.h"

/* How long a call waits for one of WORKER_LANE_MAX others to end. */
#define FILE_OPENER_PATIENCE_NS (INT64_C(10) * 1000000000)

/* Runs @fn in a worker; *@ret is what it returns. False + @error, of the file @path: it has not run and does not, since too
 * many others hang. */
bool file_co_run_opener(const char *path, int (*fn)(void *opaque), void *opaque, int *ret,
                        GError **error) coroutine_fn;
/* The same; it waits for as long as it takes. */
int file_co_run_opener_late(int (*fn)(void *opaque), void *opaque) coroutine_fn;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Whether memory holds zeroes only. */
#ifndef SKIFF_UTIL_ZERO_H
#define SKIFF_UTIL_ZERO_H

#include <stdbool.h>
#include <stddef.h>
#include "util/loop/thread.h"

/* Whether all @size bytes at @data are zero; true if there are none. No alignment is required. */
bool bytes_are_zero(const void *data, size_t size) ANY_THREAD;

#endif

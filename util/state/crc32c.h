/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32C (Castagnoli polynomial, reflected; RFC 3720 §12.1), for data that is checked, not authenticated. */
#ifndef SKIFF_UTIL_STATE_CRC32C_H
#define SKIFF_UTIL_STATE_CRC32C_H

#include <stddef.h>
#include <stdint.h>
#include "util/loop/thread.h"

/* Continues @crc, which is 0 at the start, over @size bytes. */
uint32_t crc32c(uint32_t crc, const void *data, size_t size) ANY_THREAD;
/* The same without the processor's instruction; for tests. */
uint32_t crc32c_plain(uint32_t crc, const void *data, size_t size) ANY_THREAD;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest RAM that records writes by the device side. One memory has two mappings; the device's one
 * is write-protected by userfaultfd. A write there, also by the kernel in a system call, is
 * recorded by page and then allowed. The driver side writes through the other mapping, which is not
 * recorded.
 *
 * If this is not available (no userfaultfd; ThreadSanitizer, which compares addresses), there is
 * one plain mapping and ram_watch_works() is false.
 */
#ifndef SKIFF_TESTS_SUPPORT_RAM_WATCH_H
#define SKIFF_TESTS_SUPPORT_RAM_WATCH_H

#include "hw/core/ram.h"

typedef struct RamWatch RamWatch;

RamWatch *ram_watch_new(uint64_t size);
void ram_watch_free(RamWatch *w);
bool ram_watch_works(const RamWatch *w);
/* The two mappings; the same one if watching does not work. */
uint8_t *ram_watch_device(const RamWatch *w);
uint8_t *ram_watch_driver(const RamWatch *w);
/* The memfd behind both. */
int ram_watch_fd(const RamWatch *w);
/* The lowest page written since the start that has no bit in @dirty (one bit per page), or
 * UINT64_MAX. No writer may be active. */
uint64_t ram_watch_unmarked(RamWatch *w, const uint64_t *dirty);

#endif

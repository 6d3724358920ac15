/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest RAM whose writes by the device's side are seen: two mappings of one memory, of which the
 * device's is write-protected by userfaultfd. A write there, also one by the kernel in a system
 * call, is noted by page and then let through. What the driver's side writes goes through the other
 * mapping and is not noted.
 *
 * Where that cannot be had (no userfaultfd; under ThreadSanitizer, which compares addresses) there
 * is one plain mapping and ram_watch_works() is false.
 */
#ifndef SKIFF_TESTS_SUPPORT_RAM_WATCH_H
#define SKIFF_TESTS_SUPPORT_RAM_WATCH_H

#include "hw/core/ram.h"

typedef struct RamWatch RamWatch;

RamWatch *ram_watch_new(uint64_t size);
void ram_watch_free(RamWatch *w);
bool ram_watch_works(const RamWatch *w);
/* The two mappings; the same when it does not work. */
uint8_t *ram_watch_device(const RamWatch *w);
uint8_t *ram_watch_driver(const RamWatch *w);
/* The lowest page that was written since the start and has no bit in @dirty (a bit for each page),
 * or UINT64_MAX. All writers are quiet. */
uint64_t ram_watch_unmarked(RamWatch *w, const uint64_t *dirty);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest RAM: an allocator that only grows, and mappings above 4 GiB. Boot CPU only. All memory is
 * mapped one to one, so an address is a guest-physical address.
 */
#ifndef LIB_MEMORY_H
#define LIB_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#define MEMORY_PAGE_SIZE 4096ul

/* Allocates @size zeroed bytes below 4 GiB at a multiple of @align (a power of 2). Ends the guest
 * if there are none. */
void *memory_alloc(size_t size, size_t align);

/* Number of bytes that memory_alloc() can still allocate. */
uint64_t memory_left(void);

/* Maps [@gpa, @gpa + @size); below 4 GiB everything is always mapped. */
void memory_map(uint64_t gpa, uint64_t size);

#endif

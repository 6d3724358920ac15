/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The content that guests write to a sector. A sector read back shows its place and the time of its
 * write:
 *
 *   word 0       LBA
 *   word 1       generation << 32 | seed (32 bits)
 *   word 2-63    a stream derived from the first two
 *
 * Generation 0 means unknown content, 1 means zeroes. Any CPU.
 */
#ifndef LIB_PATTERN_H
#define LIB_PATTERN_H

#include <stdbool.h>
#include <stdint.h>

#define PATTERN_UNKNOWN 0u
#define PATTERN_ZEROES 1u
#define PATTERN_FIRST 2u

/* Fills 512 bytes; @data needs no alignment. */
void pattern_fill(void *data, uint64_t lba, uint32_t generation, uint32_t seed);

/* Whether these 512 bytes are as pattern_fill() wrote them (any generation). UNKNOWN is always
 * right. */
bool pattern_is_right(const void *data, uint64_t lba, uint32_t generation, uint32_t seed);

/* Prints the first word that differs, and the write that the sector's content belongs to. */
void pattern_report(const void *data, uint64_t lba, uint32_t generation, uint32_t seed);

#endif

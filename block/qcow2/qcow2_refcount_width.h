/* SPDX-License-Identifier: Apache-2.0 */
/* Refcounts of any width, 1 << order bits, in a refcount block. */
#ifndef SKIFF_BLOCK_QCOW2_QCOW2_REFCOUNT_WIDTH_H
#define SKIFF_BLOCK_QCOW2_QCOW2_REFCOUNT_WIDTH_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t qcow2_refcount_max(unsigned order)
{
    return order == 6 ? UINT64_MAX : ((uint64_t)1 << (1u << order)) - 1;
}

/* Narrow refcounts begin at the lowest bit of a byte; wide ones are big-endian. */
static inline uint64_t qcow2_refcount_get(const void *block, uint64_t index, unsigned order)
{
    const uint8_t *bytes = block;
    if (order < 3) {
        unsigned per_byte_bits = 3 - order;
        unsigned shift = (unsigned)(index & ((1u << per_byte_bits) - 1)) << order;
        return bytes[index >> per_byte_bits] >> shift & ((1u << (1u << order)) - 1);
    }
    uint64_t value = 0;
    unsigned length = 1u << (order - 3);
    memcpy((uint8_t *)&value + sizeof(value) - length, bytes + index * length, length);
    return be64toh(value);
}

static inline void qcow2_refcount_set(void *block, uint64_t index, unsigned order, uint64_t value)
{
    uint8_t *bytes = block;
    if (order < 3) {
        unsigned per_byte_bits = 3 - order;
        unsigned shift = (unsigned)(index & ((1u << per_byte_bits) - 1)) << order;
        uint8_t *byte = &bytes[index >> per_byte_bits];
        unsigned mask = ((1u << (1u << order)) - 1) << shift;
        *byte = (uint8_t)((*byte & ~mask) | (value << shift & mask));
        return;
    }
    unsigned length = 1u << (order - 3);
    value = htobe64(value);
    memcpy(bytes + index * length, (const uint8_t *)&value + sizeof(value) - length, length);
}

#endif

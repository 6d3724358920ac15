/* SPDX-License-Identifier: Apache-2.0 */
#include "util/state/crc32c.h"

#include <pthread.h>
#include <string.h>

#define CRC32C_POLYNOMIAL 0x82f63b78u /* 0x1edc6f41 with its bits reflected */

static uint32_t crc32c_table[256];
static pthread_once_t crc32c_once = PTHREAD_ONCE_INIT;

static void crc32c_fill(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (unsigned bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (crc & 1 ? CRC32C_POLYNOMIAL : 0);
        }
        crc32c_table[i] = crc;
    }
}

static uint32_t crc32c_by_table(uint32_t crc, const uint8_t *bytes, size_t size)
{
    pthread_once(&crc32c_once, crc32c_fill);
    for (size_t i = 0; i < size; i++) {
        crc = crc >> 8 ^ crc32c_table[(crc ^ bytes[i]) & 0xff];
    }
    return crc;
}

#ifdef __x86_64__
/* The instruction CRC32 of SSE4.2 has this polynomial. */
__attribute__((target("sse4.2"))) static uint32_t
crc32c_by_instruction(uint32_t crc, const uint8_t *bytes, size_t size)
{
    uint64_t wide = crc;
    for (; size >= sizeof(uint64_t); bytes += sizeof(uint64_t), size -= sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, bytes, sizeof(word));
        wide = __builtin_ia32_crc32di(wide, word);
    }
    crc = (uint32_t)wide;
    for (; size > 0; bytes++, size--) {
        crc = __builtin_ia32_crc32qi(crc, *bytes);
    }
    return crc;
}
#endif

uint32_t crc32c(uint32_t crc, const void *data, size_t size)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("sse4.2")) {
        return ~crc32c_by_instruction(~crc, data, size);
    }
#endif
    return ~crc32c_by_table(~crc, data, size);
}

uint32_t crc32c_plain(uint32_t crc, const void *data, size_t size)
{
    return ~crc32c_by_table(~crc, data, size);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "util/state/crc32c.h"

#include <pthread.h>

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

uint32_t crc32c(uint32_t crc, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    pthread_once(&crc32c_once, crc32c_fill);
    crc = ~crc;
    for (size_t i = 0; i < size; i++) {
        crc = crc >> 8 ^ crc32c_table[(crc ^ bytes[i]) & 0xff];
    }
    return ~crc;
}

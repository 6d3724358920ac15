/* SPDX-License-Identifier: Apache-2.0 */
/* Whether memory holds zeroes only: 64 bytes in a step, which compilers turn into vector code. */
#include "util/zero.h"

#include <stdint.h>
#include <string.h>

bool bytes_are_zero(const void *data, size_t size)
{
    const uint8_t *at = data;
    for (; size >= 64; at += 64, size -= 64) {
        uint64_t w[8];
        memcpy(w, at, sizeof(w));
        if ((w[0] | w[1] | w[2] | w[3] | w[4] | w[5] | w[6] | w[7]) != 0) {
            return false;
        }
    }
    for (; size > 0; at++, size--) {
        if (*at != 0) {
            return false;
        }
    }
    return true;
}

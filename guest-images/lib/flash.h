/* SPDX-License-Identifier: Apache-2.0 */
/* Flash with Intel commands, as the machine's firmware device. One CPU uses it at a time. */
#ifndef LIB_FLASH_H
#define LIB_FLASH_H

#include <stdint.h>

#define FLASH_BLOCK 4096u
#define FLASH_READY 0x80

enum {
    FLASH_PROGRAM = 0x40,
    FLASH_ERASE = 0x20,
    FLASH_CLEAR = 0x50,
    FLASH_STATUS = 0x70,
    FLASH_CONFIRM = 0xd0,
    FLASH_BUFFER = 0xe8,
    FLASH_ARRAY = 0xff,
};

typedef struct Flash {
    uint64_t base;
    uint32_t size;
} Flash;

/* The flash below the guest's own ROM, of the words `size=` (64k) and `base=`. Ends the guest when
 * there is none. */
Flash flash_find(void);

uint32_t flash_read(const Flash *f, uint32_t at, unsigned size);
void flash_write(const Flash *f, uint32_t at, uint32_t value, unsigned size);
/* A failed status ends the guest. The status stays readable. */
void flash_program(const Flash *f, uint32_t at, uint32_t value, unsigned size);
void flash_erase(const Flash *f, uint32_t at);
void flash_show_array(const Flash *f);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a bank of Intel-command flash does, for guests and for unit tests (tests/support): the bytes
 * of its array and the answer to each read. Written from the data sheet and from QEMU's visible
 * behaviour, apart from skiff's own code. A program and an erase take no time.
 */
#ifndef LIB_FLASH_MODEL_H
#define LIB_FLASH_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#define FLASH_MODEL_BLOCKS 4096u
#define FLASH_MODEL_WORDS 2048u

typedef struct FlashModel {
    uint8_t *array; /* borrowed */
    uint32_t size, block;
    unsigned bank;               /* bytes of the bus */
    unsigned chip, chip_at_most; /* bytes of a chip's bus, now and at most; 0: one chip answers */
    uint16_t id[4];
    bool read_only;
    /* what the commands did */
    uint8_t status;
    uint8_t shows;     /* 'a'rray, 's'tatus, 'i'dentifiers, 'q'uery */
    uint8_t command;   /* under way; 0: none */
    unsigned cycle;    /* of that command: writes so far */
    uint32_t promised; /* words of a buffered program that are still to come */
    uint32_t queued;   /* bytes that came */
    uint32_t window;   /* of the first one */
    bool strayed;      /* one was outside of it */
    uint32_t places[FLASH_MODEL_WORDS * 4];
    uint8_t bytes[FLASH_MODEL_WORDS * 4];
    uint8_t locked[FLASH_MODEL_BLOCKS];
    /* the last store's effect on the array: bytes [changed_at, changed_end) */
    uint32_t changed_at, changed_end;
} FlashModel;

/* Power-on. The members up to read_only are set. */
void flash_model_reset(FlashModel *m);
uint32_t flash_model_read(const FlashModel *m, uint32_t at, unsigned size);
void flash_model_write(FlashModel *m, uint32_t at, uint32_t value, unsigned size);

#endif

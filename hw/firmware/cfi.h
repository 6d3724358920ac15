/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command machine of a bank of CFI flash with the Intel command set (JEDEC JESD68.01, Intel
 * command set 0001; Intel StrataFlash J3 datasheet). It knows registers and bytes; it does no I/O.
 *
 *   any mode but the five below: a write is a command
 *
 *   ff, f0, 00, 50 --> ARRAY      70, b0, d0 --> STATUS     90 --> ID      98 --> QUERY
 *   any other command --> ARRAY
 *
 *   10, 40 --> PROGRAM --data--> program --> STATUS
 *   20 --> ERASE --d0--> erase --> STATUS
 *             \--ff--> ARRAY     \--else: SR.4, SR.5--> STATUS
 *   60 --> LOCK --01: lock, d0: unlock--> STATUS  (ff and else as ERASE)
 *   e8 --> BUFFER_COUNT --count--> BUFFER_DATA --count + 1 words--> BUFFER_CONFIRM
 *             \--too large: SR.4, SR.5--> STATUS                        |
 *                                        program --> STATUS <--d0-------+
 *                                        SR.4, SR.5 --> STATUS <--else--+
 *
 * "program" and "erase" are operations: cfi_write() describes one and the caller carries it out,
 * then calls cfi_end(). Meanwhile the bank takes no access, so no command meets an operation that
 * runs, and a suspend always finds that the operation has ended (SR.7 set, SR.6 and SR.2 clear).
 *
 * Invariants
 *   1. The array changes only in cfi_end(), by what the operation has stored.
 *   2. A program clears bits only; an erase sets all bits of one block.
 *   3. In BUFFER_DATA and BUFFER_CONFIRM the buffer is within one window, which is aligned to the
 *      buffer's size and within one block.
 *   4. A locked block, and a read-only bank, never changes.
 *
 * The chips of a bank work in lockstep: a command in the lowest lane is a command to all. What QEMU
 * fixes and OVMF relies on is the same here: after 50 the status is 00, not 80; 50 leads to the
 * array; without a device width one chip answers the query for the whole bank.
 */
#ifndef SKIFF_HW_FIRMWARE_CFI_H
#define SKIFF_HW_FIRMWARE_CFI_H

#include <stdbool.h>
#include <stdint.h>
#include "util/loop/thread.h"
#include "util/state/state.h"

#define CFI_BUFFER_MAX 2048u /* bytes of the largest write buffer of a bank */
#define CFI_BLOCKS_MAX 4096u
#define CFI_QUERY_SIZE 0x40u

/* Status register. */
enum {
    CFI_SR_READY = 0x80,
    CFI_SR_ERASE_ERROR = 0x20,
    CFI_SR_PROGRAM_ERROR = 0x10,
    CFI_SR_LOCKED = 0x02,
};

typedef enum CfiMode {
    CFI_ARRAY,
    CFI_STATUS,
    CFI_ID,
    CFI_QUERY,
    CFI_PROGRAM,
    CFI_ERASE,
    CFI_LOCK,
    CFI_BUFFER_COUNT,
    CFI_BUFFER_DATA,
    CFI_BUFFER_CONFIRM,
    CFI_MODE_COUNT,
} CfiMode;

/* What is saved. */
typedef struct CfiState {
    uint8_t mode; /* CfiMode */
    uint8_t status;
    bool buffer_error; /* a word was outside of the buffer's window */
    bool unflushed;    /* data was written since the last flush */
    uint32_t words_left;
    uint32_t window;                   /* offset of the buffer's window in the bank */
    uint32_t buffer_first, buffer_end; /* bytes of the buffer with data; equal: none */
    uint8_t buffer[CFI_BUFFER_MAX];    /* without data: ff */
    uint8_t locked[CFI_BLOCKS_MAX / 8];
} CfiState;

extern const StateField cfi_state_fields[];

typedef struct CfiGeometry {
    uint8_t bank_width;       /* of the bus: 1, 2 or 4 */
    uint8_t device_width;     /* of a chip in this bank; 0: one chip answers for all */
    uint8_t max_device_width; /* of the chip; 0 with device_width 0 */
    uint32_t block_size;      /* of the bank: a power of two, 4 KiB at least */
    uint32_t block_count;
    uint16_t id[4];
} CfiGeometry;

typedef struct CfiFlash {
    /* fixed by cfi_init() */
    CfiGeometry geometry;
    uint32_t size, buffer_size;
    bool read_only;
    uint8_t query[CFI_QUERY_SIZE];
    CfiState *state; /* borrowed */
    uint8_t *array;  /* borrowed, @size bytes */
    uint8_t *result; /* borrowed, block_size bytes: what an operation writes */
} CfiFlash;

typedef enum CfiOperationKind { CFI_OP_NONE, CFI_OP_PROGRAM, CFI_OP_ERASE } CfiOperationKind;

/* The bytes [offset, offset + bytes) of the bank become those at flash->result. */
typedef struct CfiOperation {
    CfiOperationKind kind;
    uint32_t offset, bytes;
} CfiOperation;

/* False + error when a bank of that geometry cannot exist. */
bool cfi_check_geometry(const CfiGeometry *g, GError **error) ANY_THREAD;
/* The geometry was checked. @array has the bank's content, @result room for one block. */
void cfi_init(CfiFlash *f, const CfiGeometry *g, CfiState *state, uint8_t *array, uint8_t *result,
              bool read_only) ANY_THREAD;
/* Power-on: reads give the array, no block is locked. */
void cfi_reset(CfiFlash *f) ANY_THREAD;
/* A read of @size (1, 2, 4) bytes at @offset, all within the bank. */
uint32_t cfi_read(const CfiFlash *f, uint32_t offset, unsigned size) ANY_THREAD;
/* A write. Returns the operation that it begins; CFI_OP_NONE: none. */
CfiOperation cfi_write(CfiFlash *f, uint32_t offset, uint32_t value, unsigned size) ANY_THREAD;
/* The operation has ended: the first @done bytes are stored. Fewer than op->bytes: it has failed. */
void cfi_end(CfiFlash *f, const CfiOperation *op, uint32_t done) ANY_THREAD;
/* Whether @s can be the state of this bank; its own is not looked at. */
bool cfi_check_state(const CfiFlash *f, const CfiState *s, GError **error) ANY_THREAD;
/* Aborts when an invariant is broken. */
void assert_cfi_state(const CfiFlash *f) ANY_THREAD;

/* ---- cfi_query.c ---- */
/* Fills the query table of one chip. */
void cfi_query_init(CfiFlash *f) ANY_THREAD;
/* Reads in ID and QUERY mode. */
uint32_t cfi_read_id(const CfiFlash *f, uint32_t offset, unsigned size) ANY_THREAD;
uint32_t cfi_read_query(const CfiFlash *f, uint32_t offset, unsigned size) ANY_THREAD;
/* Whether the block that holds @offset is locked. */
bool cfi_is_locked(const CfiFlash *f, uint32_t offset) ANY_THREAD;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a bank says about itself: identifiers, lock state, the CFI query table (JESD68.01 §2; the
 * values are those of QEMU's pflash_cfi01).
 *
 * A bank is described with or without the width of its chips. Without it one chip answers for the
 * whole bank, at addresses that count in words of the bank. With it each chip of the bank answers
 * in its lane, at addresses that count in words of the chip's greatest width: a wide chip in x8 mode
 * repeats its bytes.
 */
#include "hw/firmware/cfi.h"

#include <string.h>

#define CFI_ID_MASK 0xffu

/* The offset of the query's and the identifiers' words from a bank's start of block. */
enum { CFI_ID_MANUFACTURER = 0, CFI_ID_DEVICE = 1, CFI_ID_LOCK = 2 };

static void query_put16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
}

static unsigned log2_of(uint32_t value)
{
    return value == 0 ? 0 : (unsigned)__builtin_ctz(value);
}

static unsigned query_chips(const CfiGeometry *g)
{
    return g->device_width != 0 ? g->bank_width / g->device_width : 1;
}

void cfi_query_init(CfiFlash *f)
{
    const CfiGeometry *g = &f->geometry;
    uint8_t *q = f->query;
    uint32_t chip_block = g->block_size / query_chips(g);
    uint32_t chip_size = chip_block * g->block_count;
    memset(q, 0, CFI_QUERY_SIZE);
    memcpy(q + 0x10, "QRY", 3);
    query_put16(q + 0x13, 1);              /* primary command set: Intel */
    query_put16(q + 0x15, 0x31);           /* its table, below */
    q[0x1b] = 0x45;                        /* Vcc 4.5 V ... */
    q[0x1c] = 0x55;                        /* ... 5.5 V; no Vpp pin */
    q[0x1f] = 0x07;                        /* typical 2^n us: word */
    q[0x20] = 0x07;                        /* buffer */
    q[0x21] = 0x0a;                        /* erase, 2^n ms; no chip erase */
    q[0x23] = 0x04;                        /* at most 2^n times that: word */
    q[0x24] = 0x04;                        /* buffer */
    q[0x25] = 0x04;                        /* erase */
    q[0x27] = (uint8_t)log2_of(chip_size); /* of a size that is no power of two: its lowest bit */
    q[0x28] = 0x02;                        /* x8 and x16 */
    q[0x2a] = (uint8_t)log2_of(f->buffer_size);
    q[0x2c] = 1; /* one region of equal blocks */
    query_put16(q + 0x2d, g->block_count - 1);
    query_put16(q + 0x2f, chip_block >> 8);
    memcpy(q + 0x31, "PRI10", 5);
    q[0x3f] = 0x01; /* protection fields */
}

/* ---- reads ---- */

/* What the chips say about word @at: @resp of each, in all lanes of the bank. */
static uint32_t lanes_replicate(const CfiGeometry *g, uint32_t resp)
{
    uint32_t value = 0;
    unsigned bits = g->device_width * 8u;
    uint32_t mask = bits == 32 ? UINT32_MAX : (UINT32_C(1) << bits) - 1;
    for (unsigned at = 0; at < g->bank_width * 8u; at += bits) {
        value |= (resp & mask) << at;
    }
    return value;
}

/* The word that a chip sees at bank offset @offset. */
static uint32_t chip_word(const CfiGeometry *g, uint32_t offset)
{
    return offset >>
           (log2_of(g->bank_width) + log2_of(g->max_device_width) - log2_of(g->device_width));
}

static uint32_t id_word(const CfiFlash *f, uint32_t offset, uint32_t word)
{
    switch (word & CFI_ID_MASK) {
    case CFI_ID_MANUFACTURER:
        return f->geometry.id[0];
    case CFI_ID_DEVICE:
        return f->geometry.id[1];
    case CFI_ID_LOCK:
        return cfi_is_locked(f, offset);
    default:
        return 0;
    }
}

/* Without a device width the four identifiers are two words. */
static uint32_t id_word_of_bank(const CfiFlash *f, uint32_t offset)
{
    const uint16_t *id = f->geometry.id;
    switch ((offset & CFI_ID_MASK) >> log2_of(f->geometry.bank_width)) {
    case CFI_ID_MANUFACTURER:
        return (uint32_t)id[0] << 8 | id[1];
    case CFI_ID_DEVICE:
        return (uint32_t)id[2] << 8 | id[3];
    case CFI_ID_LOCK:
        return cfi_is_locked(f, offset);
    default:
        return 0;
    }
}

static uint32_t query_word(const CfiFlash *f, uint32_t word)
{
    return word < CFI_QUERY_SIZE ? f->query[word] : 0;
}

/* A read that is wider than the bank has the words of several addresses. */
static uint32_t gather(const CfiFlash *f, uint32_t offset, unsigned size,
                       uint32_t (*word_at)(const CfiFlash *f, uint32_t offset))
{
    const CfiGeometry *g = &f->geometry;
    uint32_t value = 0;
    for (unsigned at = 0; at < size; at += g->bank_width) {
        value |= lanes_replicate(g, word_at(f, offset + at)) << (at * 8);
    }
    return value;
}

static uint32_t id_at(const CfiFlash *f, uint32_t offset)
{
    return id_word(f, offset, chip_word(&f->geometry, offset));
}

static uint32_t query_at(const CfiFlash *f, uint32_t offset)
{
    return query_word(f, chip_word(&f->geometry, offset));
}

uint32_t cfi_read_id(const CfiFlash *f, uint32_t offset, unsigned size)
{
    return f->geometry.device_width == 0 ? id_word_of_bank(f, offset)
                                         : gather(f, offset, size, id_at);
}

uint32_t cfi_read_query(const CfiFlash *f, uint32_t offset, unsigned size)
{
    if (f->geometry.device_width != 0) {
        return gather(f, offset, size, query_at);
    }
    return query_word(f, (offset & CFI_ID_MASK) >> log2_of(f->geometry.bank_width));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by fw_cfg.c (items, selector and data port) and fw_cfg_dma.c (the DMA register). */
#ifndef SKIFF_HW_FIRMWARE_FW_CFG_INT_H
#define SKIFF_HW_FIRMWARE_FW_CFG_INT_H

#include "hw/firmware/fw_cfg.h"
#include "util/loop/aio.h"

#define FW_CFG_ENTRY_MASK 0x3fff /* a key without its two flags */
#define FW_CFG_ARCH_ITEMS 8

typedef struct FwCfgState {
    uint64_t dma_address; /* the register's halves that were written so far */
    uint32_t offset;      /* into the selected item */
    uint16_t key;
    uint8_t reserved[2];
} FwCfgState;

/* The bytes of an item: `bytes`, or for a writable file `data`. */
typedef struct FwCfgItem {
    GBytes *bytes; /* NULL: none */
    uint8_t *data; /* borrowed; NULL: read-only */
    uint32_t size; /* of data */
    void (*written)(void *opaque, uint32_t offset, uint32_t size);
    void *opaque;
} FwCfgItem;

typedef struct FwCfgFile {
    char *name;
    FwCfgItem item;
    bool generated;
} FwCfgFile;

/* A DMA operation. It exists from the write of the register until all bytes are moved. */
typedef struct FwCfgTransfer {
    const IoAccess *owner; /* the pended access that drives it; NULL: no transfer */
    uint64_t descriptor_gpa;
    uint64_t gpa;    /* the next byte */
    uint32_t length; /* bytes left */
    uint32_t operation;
} FwCfgTransfer;

typedef struct FwCfg {
    Device base;
    FwCfgState state;
    /* config: set by the board and by other devices */
    FwCfgItem items[FW_CFG_FILE_FIRST];
    FwCfgItem arch_items[FW_CFG_ARCH_ITEMS];
    GPtrArray *files; /* FwCfgFile, by name */
    void (*generate)(void *opaque);
    void *generate_opaque;
    /* runtime */
    bool generated; /* since the reset */
    IoRegion region, dma_region;
    FwCfgTransfer transfer; /* BQL */
    Pended pended;          /* accesses that wait for the transfer's next piece, or for its end */
    AioBh resume;           /* main: ends the wait */
} FwCfg;

/* Whether an access has to wait, since another one's transfer is under way. */
static inline bool fw_cfg_is_busy(const FwCfg *f, const IoAccess *access)
{
    return f->transfer.owner != NULL && f->transfer.owner != access;
}

void fw_cfg_select(FwCfg *f, uint16_t key) BQL_HELD;
/* The selected item, or NULL if there is none. */
FwCfgItem *fw_cfg_selected(FwCfg *f) BQL_HELD;
const uint8_t *fw_cfg_item_data(const FwCfgItem *item, uint32_t *size) ANY_THREAD;

/* Pends @access until main has had a turn. */
MmioResult fw_cfg_wait(FwCfg *f, IoAccess *access) BQL_HELD;

/* ---- fw_cfg_dma.c ---- */
extern const IoRegionOps fw_cfg_dma_ops;

#endif

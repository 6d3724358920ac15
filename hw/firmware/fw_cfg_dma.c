/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The DMA interface of fw_cfg. A write of a descriptor's address starts an operation:
 *
 *   +-------------+------------+-------------+
 *   | control u32 | length u32 | address u64 |  big-endian
 *   +-------------+------------+-------------+
 *
 *   idle --register written--> transfer --all bytes moved, or an error--> idle
 *
 * 1. The descriptor is read once, when the operation starts.
 * 2. The write of the register retires after the control field is written: 0, or the error bit.
 * 3. One dispatch moves at most FW_CFG_DMA_CHUNK bytes. Until the rest is moved the access is
 *    pended, and so is every other access to the device; main has a turn before each next piece.
 * 4. Bytes that are not RAM, a range that wraps, and a range that overlaps the descriptor are
 *    errors.
 */
#include "hw/firmware/fw_cfg_int.h"

#include <inttypes.h>
#include <string.h>

#define DMA_SIGNATURE UINT64_C(0x51454d5520434647) /* "QEMU CFG" */
#define DMA_DESCRIPTOR_SIZE 16
#define DMA_ZEROS 4096

enum { /* the control field */
       DMA_ERROR = 1u << 0,
       DMA_READ = 1u << 1,
       DMA_SKIP = 1u << 2,
       DMA_SELECT = 1u << 3, /* the key is in the upper 16 bits */
       DMA_WRITE = 1u << 4,
};

static void dma_finish(FwCfg *f, uint32_t control) BQL_HELD;
static void dma_finish(FwCfg *f, uint32_t control)
{
    const uint32_t be = GUINT32_TO_BE(control);
    const FwCfgTransfer *t = &f->transfer;
    bool written = guest_ram_write(f->base.env->ram, t->descriptor_gpa, &be, sizeof(be));
    if (control != 0 || !written) {
        log_guest_error(&f->base.log_limit, device_label(&f->base),
                        "DMA with its descriptor at 0x%" PRIx64 " failed%s", t->descriptor_gpa,
                        written ? "" : ": the descriptor is not in RAM");
    }
    f->transfer = (FwCfgTransfer){0};
}

/* Whether the bytes of the transfer can exist: they do not wrap, and the control field is not among
 * them. */
static bool dma_range_is_possible(const FwCfgTransfer *t)
{
    if (t->operation == DMA_SKIP || t->length == 0) {
        return true;
    }
    return t->length - 1 <= UINT64_MAX - t->gpa &&
           (t->gpa + (t->length - 1) < t->descriptor_gpa ||
            t->gpa > t->descriptor_gpa + (DMA_DESCRIPTOR_SIZE - 1));
}

/* Reads the descriptor, and selects. True: the transfer may begin. */
static bool dma_start(FwCfg *f, uint64_t descriptor_gpa) BQL_HELD;
static bool dma_start(FwCfg *f, uint64_t descriptor_gpa)
{
    struct {
        uint32_t control, length;
        uint64_t gpa;
    } d;
    G_STATIC_ASSERT(sizeof(d) == DMA_DESCRIPTOR_SIZE);
    FwCfgTransfer *t = &f->transfer;
    *t = (FwCfgTransfer){.descriptor_gpa = descriptor_gpa};
    if (!guest_ram_read(f->base.env->ram, descriptor_gpa, &d, sizeof(d))) {
        return false;
    }
    uint32_t control = GUINT32_FROM_BE(d.control);
    if (control & DMA_SELECT) {
        fw_cfg_select(f, (uint16_t)(control >> 16));
    }
    t->gpa = GUINT64_FROM_BE(d.gpa);
    t->operation = control & DMA_READ    ? DMA_READ
                   : control & DMA_WRITE ? DMA_WRITE
                   : control & DMA_SKIP  ? DMA_SKIP
                                         : 0;
    t->length = t->operation != 0 ? GUINT32_FROM_BE(d.length) : 0;
    return dma_range_is_possible(t);
}

/* ---- pieces: each moves the next @size bytes ---- */

static bool dma_zero(FwCfg *f, uint32_t size)
{
    static const uint8_t zeros[DMA_ZEROS];
    for (uint32_t done = 0; done < size; done += DMA_ZEROS) {
        if (!guest_ram_write(f->base.env->ram, f->transfer.gpa + done, zeros,
                             MIN(size - done, DMA_ZEROS))) {
            return false;
        }
    }
    return true;
}

static bool dma_write_item(FwCfg *f, FwCfgItem *item, uint32_t size)
{
    if (item->data == NULL || size != f->transfer.length ||
        !guest_ram_read(f->base.env->ram, f->transfer.gpa, item->data + f->state.offset, size)) {
        return false;
    }
    if (item->written != NULL) {
        item->written(item->opaque, f->state.offset, size);
    }
    return true;
}

/* Moves the next bytes, at most @limit, and advances. False: error. */
static bool dma_move(FwCfg *f, uint32_t limit) BQL_HELD;
static bool dma_move(FwCfg *f, uint32_t limit)
{
    FwCfgTransfer *t = &f->transfer;
    FwCfgItem *item = fw_cfg_selected(f);
    uint32_t end = 0, size = t->operation == DMA_SKIP ? t->length : MIN(t->length, limit);
    const uint8_t *data = item != NULL ? fw_cfg_item_data(item, &end) : NULL;
    bool inside = f->state.offset < end, ok = true;
    if (inside) {
        size = MIN(size, end - f->state.offset);
    }
    if (t->operation == DMA_READ) {
        ok = inside ? guest_ram_write(f->base.env->ram, t->gpa, data + f->state.offset, size)
                    : dma_zero(f, size);
    } else if (t->operation == DMA_WRITE) {
        ok = inside && dma_write_item(f, item, size);
    } else if (!inside) {
        size = t->length; /* a skip beyond the end does nothing */
    }
    f->state.offset += inside ? size : 0;
    t->gpa += size;
    t->length -= size;
    return ok;
}

/* Moves the next piece. */
static MmioResult dma_run(FwCfg *f, IoAccess *access) BQL_HELD;
static MmioResult dma_run(FwCfg *f, IoAccess *access)
{
    FwCfgTransfer *t = &f->transfer;
    uint32_t before = t->length;
    while (t->length != 0 && before - t->length < FW_CFG_DMA_CHUNK) {
        if (!dma_move(f, FW_CFG_DMA_CHUNK - (before - t->length))) {
            dma_finish(f, DMA_ERROR);
            return MMIO_DONE;
        }
    }
    if (t->length != 0) {
        t->owner = access;
        return fw_cfg_wait(f, access);
    }
    dma_finish(f, 0);
    return MMIO_DONE;
}

/* ---- the register ---- */

static MmioResult dma_write_register(FwCfg *f, IoAccess *access) BQL_HELD;
static MmioResult dma_write_register(FwCfg *f, IoAccess *access)
{
    uint64_t address = f->state.dma_address;
    if (access->size == 8 && access->offset == 0) {
        address = GUINT64_SWAP_LE_BE(access->value);
    } else if (access->size == 4 && access->offset == 0) {
        f->state.dma_address = (uint64_t)GUINT32_SWAP_LE_BE((uint32_t)access->value) << 32;
        return MMIO_DONE;
    } else if (access->size == 4 && access->offset == 4) {
        address |= GUINT32_SWAP_LE_BE((uint32_t)access->value);
    } else {
        return MMIO_DONE;
    }
    f->state.dma_address = 0;
    if (!dma_start(f, address)) {
        dma_finish(f, DMA_ERROR);
        return MMIO_DONE;
    }
    return dma_run(f, access);
}

static MmioResult dma_access(void *opaque, IoAccess *access)
{
    FwCfg *f = opaque;
    assert_bql();
    if (!access->is_write) {
        uint64_t signature = GUINT64_SWAP_LE_BE(DMA_SIGNATURE);
        access->value = signature >> (8 * access->offset);
        return MMIO_DONE;
    }
    if (fw_cfg_is_busy(f, access)) {
        return fw_cfg_wait(f, access);
    }
    return f->transfer.owner != NULL ? dma_run(f, access) : dma_write_register(f, access);
}

const IoRegionOps fw_cfg_dma_ops = {.access = dma_access, .min_size = 1, .max_size = 8};

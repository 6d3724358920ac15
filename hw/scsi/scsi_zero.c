/* SPDX-License-Identifier: Apache-2.0 */
/* SBC-3: UNMAP and WRITE SAME. */
#include "hw/scsi/scsi_int.h"
#include "util/zero.h"

#define CDB_ANCHOR 0x01 /* UNMAP */
#define UNMAP_HEADER_BYTES 8
#define UNMAP_DESCRIPTOR_BYTES 16
#define SAME_UNMAP 0x08
#define SAME_UNSUPPORTED 0xf6 /* WRPROTECT, ANCHOR, PBDATA, LBDATA */
#define SAME_NDOB 0x01        /* WRITE SAME (16): zeroes, no data */

/* ---- UNMAP, SBC-3 §5.28 ---- */

/* One descriptor. False: @r has ended. */
static coroutine_fn RUNS_IN_IOTHREAD bool unmap_descriptor(ScsiRequest *r, const uint8_t *d,
                                                           uint64_t *total_blocks)
{
    const ScsiLun *lun = r->lun;
    uint64_t lba = scsi_be64(d), blocks = scsi_be32(d + 8);
    *total_blocks += blocks;
    if (*total_blocks > lun->max_unmap_size / lun->logical_block_size) {
        scsi_check(r, SCSI_INVALID_PARAMETER);
        return false;
    }
    if (!scsi_check_range(r, lba, blocks, BLK_OP_UNMAP)) {
        return false;
    }
    int ret = SCSI_IO(
        r, blk_co_discard(r->blk, lba * lun->logical_block_size, blocks * lun->logical_block_size));
    if (ret < 0) {
        scsi_io_done(r, false, ret, 0);
        return false;
    }
    return true;
}

void scsi_run_unmap(ScsiRequest *r)
{
    uint8_t header[UNMAP_HEADER_BYTES], d[UNMAP_DESCRIPTOR_BYTES];
    uint64_t total_blocks = 0;
    if (r->cdb[1] & CDB_ANCHOR) {
        scsi_check(r, SCSI_INVALID_FIELD);
        return;
    }
    if (!r->xfer) {
        scsi_good(r);
        return;
    }
    if (r->xfer < sizeof(header)) {
        scsi_check(r, SCSI_PARAMETER_LIST_LENGTH);
        return;
    }
    iov_copy_to_buf(r->out, r->out_num, 0, header, sizeof(header));
    uint64_t bytes = scsi_be16(header + 2);
    if (scsi_be16(header) + 2u > r->xfer || bytes + sizeof(header) > r->xfer) {
        scsi_check(r, SCSI_PARAMETER_LIST_LENGTH);
        return;
    }
    if (!scsi_check_writable(r, BLK_OP_UNMAP)) {
        return;
    }
    uint64_t count = bytes / sizeof(d); /* an incomplete descriptor is ignored */
    for (uint64_t i = 0; i < count && scsi_goes_on(r); i++) {
        iov_copy_to_buf(r->out, r->out_num, sizeof(header) + i * sizeof(d), d, sizeof(d));
        if (!unmap_descriptor(r, d, &total_blocks)) {
            return;
        }
    }
    r->transferred = r->xfer;
    scsi_good(r);
}

/* ---- WRITE SAME, SBC-3 §5.42 ---- */

/* Where a request looks whether it was cancelled. */
#define SAME_ZEROES_PART (1ull << 30)
/* A block of this size at most is on the stack while it is searched for zeroes, so WRITE SAME with
 * zeroes needs no buffer. */
#define SAME_STACK_BLOCK 4096u

static uint64_t same_offset(const ScsiRequest *r)
{
    return scsi_cdb_lba(r->cdb) * r->lun->logical_block_size;
}

static uint64_t same_bytes(const ScsiRequest *r)
{
    return (uint64_t)scsi_cdb_blocks(r->cdb) * r->lun->logical_block_size;
}

static coroutine_fn RUNS_IN_IOTHREAD void same_zeroes(ScsiRequest *r)
{
    unsigned flags = r->cdb[1] & SAME_UNMAP ? BLOCK_REQ_MAY_UNMAP : 0;
    uint64_t offset = same_offset(r), left = same_bytes(r);
    int ret = 0;
    while (left && ret >= 0 && scsi_goes_on(r)) {
        uint64_t n = MIN(left, SAME_ZEROES_PART);
        ret = SCSI_IO(r, blk_co_write_zeroes(r->blk, offset, n, flags));
        offset += n;
        left -= n;
        co_yield_turn(); /* a driver may complete all parts at once */
    }
    scsi_io_done(r, false, ret, r->xfer);
}

/* Fills the buffer with copies of the block at its start and writes them. */
static coroutine_fn RUNS_IN_IOTHREAD int same_write_copies(ScsiRequest *r, uint8_t *buffer)
{
    size_t block = (size_t)r->lun->logical_block_size;
    uint64_t offset = same_offset(r), left = same_bytes(r);
    size_t room = MIN(2 * SCSI_BOUNCE_BYTES / block * block, left);
    for (size_t at = block; at < room; at += block) {
        memcpy(buffer + at, buffer, block);
    }
    int ret = 0;
    while (left && ret >= 0 && scsi_goes_on(r)) {
        struct iovec iov = {.iov_base = buffer, .iov_len = MIN(room, left)};
        ret = SCSI_IO(r, blk_co_pwritev(r->blk, offset, iov.iov_len, &iov, 1, 0));
        offset += iov.iov_len;
        left -= iov.iov_len;
        co_yield_turn();
    }
    return ret;
}

/* @block: the guest's data, or NULL if it is still in guest memory. */
static coroutine_fn RUNS_IN_IOTHREAD void same_copies(ScsiRequest *r, const uint8_t *block)
{
    uint8_t *buffer = scsi_bounce_co_take(r);
    if (!buffer) {
        return;
    }
    if (block) {
        memcpy(buffer, block, r->xfer);
    } else {
        iov_copy_to_buf(r->out, r->out_num, 0, buffer, r->xfer);
    }
    int ret = same_write_copies(r, buffer);
    scsi_bounce_put(r, buffer);
    scsi_io_done(r, false, ret, r->xfer);
}

static coroutine_fn RUNS_IN_IOTHREAD void same_small_block(ScsiRequest *r)
{
    uint8_t block[SAME_STACK_BLOCK];
    iov_copy_to_buf(r->out, r->out_num, 0, block, r->xfer);
    if (bytes_are_zero(block, r->xfer)) { /* also without data (NDOB) */
        same_zeroes(r);
    } else {
        same_copies(r, block);
    }
}

void scsi_run_write_same(ScsiRequest *r)
{
    bool is_16 = r->cdb[0] == SCSI_WRITE_SAME_16;
    uint8_t unsupported = SAME_UNSUPPORTED | (is_16 ? 0 : SAME_NDOB);
    uint64_t blocks = scsi_cdb_blocks(r->cdb);
    if (!scsi_check_writable(r, BLK_OP_WRITE)) {
        return;
    }
    if (!blocks || (r->cdb[1] & unsupported)) { /* WSNZ: no blocks does not mean all of them */
        scsi_check(r, SCSI_INVALID_FIELD);
        return;
    }
    if (!scsi_check_range(r, scsi_cdb_lba(r->cdb), blocks, BLK_OP_WRITE)) {
        return;
    }
    if (r->xfer <= SAME_STACK_BLOCK) {
        same_small_block(r);
    } else {
        same_copies(r, NULL);
    }
}

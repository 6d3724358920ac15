/* SPDX-License-Identifier: Apache-2.0 */
/* SBC-3: reads, writes, verification, capacity, flush. */
#include "hw/scsi/scsi_int.h"

#define CDB_PROTECT 0xe0 /* RDPROTECT and the like: no protection information here */
#define CDB_FUA 0x08
#define CDB_BYTCHK 0x06
#define CDB_BYTCHK_DATA 0x02
#define CDB_PMI 0x01
#define CAPACITY_16_BYTES 32
#define CAPACITY_LBPME 0x80 /* logical blocks can be unmapped */

static bool cdb_is_6(const ScsiRequest *r)
{
    return r->cdb[0] >> 5 == 0;
}

static bool cdb_has_fua(const ScsiRequest *r)
{
    return !cdb_is_6(r) && (r->cdb[1] & CDB_FUA);
}

static RUNS_IN_LOOP bool cdb_check_protect(ScsiRequest *r)
{
    if (!cdb_is_6(r) && (r->cdb[1] & CDB_PROTECT)) {
        scsi_check(r, SCSI_INVALID_FIELD);
        return false;
    }
    return true;
}

static uint64_t request_offset(const ScsiRequest *r)
{
    return scsi_cdb_lba(r->cdb) * r->lun->logical_block_size;
}

/* SBC-3 §5.10: with FUA the data comes from the medium, so what is cached goes there first. */
void scsi_run_read(ScsiRequest *r)
{
    if (!cdb_check_protect(r) ||
        !scsi_check_range(r, scsi_cdb_lba(r->cdb), scsi_cdb_blocks(r->cdb), BLK_OP_READ)) {
        return;
    }
    int ret = cdb_has_fua(r) && !blk_read_only(r->blk) ? SCSI_IO(r, blk_co_flush(r->blk)) : 0;
    if (ret >= 0 && r->xfer) {
        ret = SCSI_IO(r, blk_co_preadv(r->blk, request_offset(r), r->xfer, r->in, r->in_num, 0));
    }
    scsi_io_done(r, true, ret, r->xfer);
}

void scsi_run_write(ScsiRequest *r)
{
    if (!cdb_check_protect(r) || !scsi_check_writable(r, BLK_OP_WRITE) ||
        !scsi_check_range(r, scsi_cdb_lba(r->cdb), scsi_cdb_blocks(r->cdb), BLK_OP_WRITE)) {
        return;
    }
    int ret = 0;
    if (r->xfer) {
        ret = SCSI_IO(r, blk_co_pwritev(r->blk, request_offset(r), r->xfer, r->out, r->out_num,
                                        cdb_has_fua(r) ? BLOCK_REQ_FUA : 0));
    }
    scsi_io_done(r, false, ret, r->xfer);
}

/* ---- verification ---- */

uint8_t *scsi_bounce_co_take(ScsiRequest *r)
{
    ScsiLun *lun = r->lun;
    while (lun->bounce_busy && r->cancel == SCSI_DONE) {
        co_queue_wait(&lun->bounce_free, "the buffer of a SCSI device");
    }
    if (r->cancel != SCSI_DONE) {
        return NULL;
    }
    uint8_t *buffer = g_try_malloc(2 * SCSI_BOUNCE_BYTES);
    if (!buffer) {
        scsi_check(r, SCSI_TARGET_FAILURE);
        co_queue_wake_one(&lun->bounce_free); /* this request does not use its turn */
        return NULL;
    }
    lun->bounce_busy = true;
    return buffer;
}

void scsi_bounce_put(ScsiRequest *r, uint8_t *buffer)
{
    g_free(buffer);
    r->lun->bounce_busy = false;
    co_queue_wake_one(&r->lun->bounce_free);
}

/* Reads the blocks in parts; with BYTCHK=1 compares them with the guest's data. */
static coroutine_fn RUNS_IN_IOTHREAD void verify_parts(ScsiRequest *r, uint8_t *buffer)
{
    uint8_t *expected = buffer + SCSI_BOUNCE_BYTES;
    uint64_t offset = request_offset(r);
    uint64_t bytes = (uint64_t)scsi_cdb_blocks(r->cdb) * r->lun->logical_block_size;
    for (uint64_t done = 0; done < bytes && scsi_goes_on(r);) {
        size_t n = MIN(bytes - done, SCSI_BOUNCE_BYTES);
        struct iovec iov = {.iov_base = buffer, .iov_len = n};
        int ret = SCSI_IO(r, blk_co_preadv(r->blk, offset + done, n, &iov, 1, 0));
        if (ret < 0) {
            scsi_io_done(r, true, ret, 0);
            return;
        }
        if (r->xfer) {
            iov_copy_to_buf(r->out, r->out_num, done, expected, n);
            if (memcmp(buffer, expected, n) != 0) {
                scsi_check(r, SCSI_MISCOMPARE);
                return;
            }
        }
        done += n;
        co_yield_turn(); /* a driver may complete all reads at once, and there can be millions */
    }
    r->transferred = r->xfer;
    scsi_good(r);
}

/* SBC-3 §5.22 */
void scsi_run_verify(ScsiRequest *r)
{
    uint8_t check = r->cdb[1] & CDB_BYTCHK;
    if (!cdb_check_protect(r)) {
        return;
    }
    if (check != 0 && check != CDB_BYTCHK_DATA) {
        scsi_check(r, SCSI_INVALID_FIELD);
        return;
    }
    if (!scsi_check_range(r, scsi_cdb_lba(r->cdb), scsi_cdb_blocks(r->cdb), BLK_OP_READ)) {
        return;
    }
    uint8_t *buffer = scsi_bounce_co_take(r);
    if (buffer) {
        verify_parts(r, buffer);
        scsi_bounce_put(r, buffer);
    }
}

/* ---- capacity ---- */

/* SBC-3 §5.15 */
void scsi_run_read_capacity_10(ScsiRequest *r)
{
    uint8_t out[8];
    uint64_t blocks = scsi_lun_blocks(r->lun, r->blk);
    if (!(r->cdb[8] & CDB_PMI) && scsi_be32(r->cdb + 2)) {
        scsi_check(r, SCSI_INVALID_FIELD);
        return;
    }
    if (!blocks) {
        scsi_check(r,
                   r->lun->type == SCSI_TYPE_CD ? SCSI_NOT_READY_NO_MEDIUM : SCSI_LBA_OUT_OF_RANGE);
        return;
    }
    scsi_put32(out, (uint32_t)MIN(blocks - 1, UINT32_MAX));
    scsi_put32(out + 4, (uint32_t)r->lun->logical_block_size);
    scsi_reply(r, out, sizeof(out));
}

/* SBC-3 §5.16 */
void scsi_run_read_capacity_16(ScsiRequest *r)
{
    uint8_t out[CAPACITY_16_BYTES] = {0};
    const ScsiLun *lun = r->lun;
    uint64_t blocks = scsi_lun_blocks(lun, r->blk);
    if (!(r->cdb[14] & CDB_PMI) && scsi_be64(r->cdb + 2)) {
        scsi_check(r, SCSI_INVALID_FIELD);
        return;
    }
    if (!blocks) {
        scsi_check(r, SCSI_LBA_OUT_OF_RANGE);
        return;
    }
    scsi_put64(out, blocks - 1);
    scsi_put32(out + 8, (uint32_t)lun->logical_block_size);
    out[13] = (uint8_t)__builtin_ctzll(lun->physical_block_size / lun->logical_block_size);
    out[14] = lun->discard_granularity ? CAPACITY_LBPME : 0;
    scsi_reply(r, out, sizeof(out));
}

/* ---- the rest ---- */

/* SBC-3 §5.21. The whole cache is written, whatever range is given; IMMED may wait. */
void scsi_run_synchronize_cache(ScsiRequest *r)
{
    int ret = blk_read_only(r->blk) ? 0 : SCSI_IO(r, blk_co_flush(r->blk));
    scsi_io_done(r, false, ret, 0);
}

void scsi_run_seek(ScsiRequest *r)
{
    if (scsi_check_range(r, scsi_cdb_lba(r->cdb), 1, BLK_OP_READ)) {
        scsi_good(r);
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A request's way: task set, transfer length, unit attention, command, result. */
#include "hw/scsi/scsi_int.h"
#include "hw/scsi/trace_events.h"
#include "util/loop/sched_point.h"

#define CDB_BYTCHK 0x06
#define CDB_NDOB 0x01

/* ---- the task set ---- */

static RUNS_IN_LOOP void task_enter(ScsiRequest *r, ScsiLun *lun)
{
    r->lun = lun;
    r->blk = lun->home_blk;
    r->number = r->bus->next_number++;
    r->next = NULL;
    r->link = lun->tasks_tail;
    *lun->tasks_tail = r;
    lun->tasks_tail = &r->next;
}

static RUNS_IN_LOOP void task_leave(ScsiRequest *r)
{
    ScsiLun *lun = r->lun;
    *r->link = r->next;
    if (r->next) {
        r->next->link = r->link;
    } else {
        lun->tasks_tail = r->link;
    }
    r->held = false;
    co_queue_wake_all(&lun->bus->task_ended);
}

void scsi_request_release(ScsiRequest *r)
{
    g_assert(r->held);
    task_leave(r);
}

/* ---- results ---- */

void scsi_good(ScsiRequest *r)
{
    r->status = SCSI_STATUS_GOOD;
}

void scsi_check(ScsiRequest *r, ScsiSense s)
{
    r->status = SCSI_STATUS_CHECK_CONDITION;
    bool descriptor = r->lun && r->lun->state.descriptor_sense;
    r->sense_len = scsi_sense_build(s, descriptor, r->sense);
    trace_scsi_check(device_label(r->bus->controller), r->target, r->lun_number, r->cdb[0], s.key,
                     s.asc, s.ascq);
}

void scsi_reply(ScsiRequest *r, const uint8_t *data, size_t bytes)
{
    bytes = MIN(bytes, r->xfer);
    r->transferred = iov_copy_from_buf(r->in, r->in_num, 0, data, bytes);
    scsi_good(r);
}

bool scsi_io_again(const ScsiRequest *r, int ret)
{
    return ret == BLK_NOT_STARTED && r->cancel == SCSI_DONE && !r->bus->hurries;
}

bool scsi_goes_on(ScsiRequest *r)
{
    if (r->bus->hurries) {
        r->outcome = SCSI_HELD;
    }
    return r->cancel == SCSI_DONE && !r->bus->hurries;
}

void scsi_io_done(ScsiRequest *r, bool is_read, int ret, uint64_t transferred)
{
    ScsiLun *lun = r->lun;
    const Device *dev = &lun->base;
    if (ret >= 0) {
        r->transferred = transferred;
        scsi_good(r);
        return;
    }
    if (ret == BLK_NOT_STARTED) {
        r->outcome = SCSI_HELD;
        return;
    }
    DeviceIoAction action = disk_error_action(is_read ? lun->rerror : lun->werror, is_read, -ret);
    if (action == DEVICE_IO_STOP && r->cancel != SCSI_DONE) {
        action = DEVICE_IO_REPORT; /* nobody waits for it any more */
    }
    disk_error_report(dev, r->blk, is_read, action, -ret);
    if (action == DEVICE_IO_STOP) {
        r->outcome = SCSI_HELD;
        machine_request(dev->env->machine, VM_REQUEST_STOP_IO_ERROR, -ret);
    } else if (action == DEVICE_IO_IGNORE) {
        r->transferred = transferred;
        scsi_good(r);
    } else {
        scsi_check(r, scsi_sense_of_errno(-ret));
    }
}

/* ---- checks ---- */

bool scsi_check_range(ScsiRequest *r, uint64_t lba, uint64_t blocks, BlkOp op)
{
    uint64_t capacity = scsi_lun_blocks(r->lun, r->blk);
    if (lba <= capacity && blocks <= capacity - lba) {
        return true;
    }
    blk_account_invalid(r->blk, op);
    scsi_check(r, SCSI_LBA_OUT_OF_RANGE);
    return false;
}

bool scsi_check_writable(ScsiRequest *r, BlkOp op)
{
    if (!blk_read_only(r->blk)) {
        return true;
    }
    blk_account_invalid(r->blk, op);
    scsi_check(r, SCSI_WRITE_PROTECTED);
    return false;
}

/* ---- data ---- */

/* The bytes that the CDB asks for; *@out: from the guest. */
static uint64_t request_xfer(const ScsiRequest *r, ScsiTransfer transfer, bool *out)
{
    const uint8_t *cdb = r->cdb;
    uint64_t block_size = r->lun ? r->lun->logical_block_size : 0;
    uint64_t blocks = scsi_cdb_blocks(cdb);
    *out = transfer >= SCSI_XFER_LIST_4 && transfer != SCSI_XFER_READ;
    switch (transfer) {
    case SCSI_XFER_NONE:
        return 0;
    case SCSI_XFER_ALLOC_4:
    case SCSI_XFER_LIST_4:
        return cdb[4];
    case SCSI_XFER_ALLOC_3:
        return scsi_be16(cdb + 3);
    case SCSI_XFER_ALLOC_7:
    case SCSI_XFER_LIST_7:
        return scsi_be16(cdb + 7);
    case SCSI_XFER_ALLOC_8:
        return scsi_be16(cdb + 8);
    case SCSI_XFER_ALLOC_6:
        return scsi_be32(cdb + 6);
    case SCSI_XFER_ALLOC_10:
        return scsi_be32(cdb + 10);
    case SCSI_XFER_CAPACITY_10:
        return 8;
    case SCSI_XFER_READ:
    case SCSI_XFER_WRITE:
        return blocks * block_size;
    case SCSI_XFER_VERIFY:
        return cdb[1] & CDB_BYTCHK ? blocks * block_size : 0;
    case SCSI_XFER_SAME:
        return cdb[0] == SCSI_WRITE_SAME_16 && (cdb[1] & CDB_NDOB) ? 0 : block_size;
    }
    return 0;
}

/* Cuts a list to @bytes, which it has. */
static void iov_cut(struct iovec *iov, unsigned *num, uint64_t bytes)
{
    unsigned n = 0;
    while (bytes) {
        iov[n].iov_len = MIN(iov[n].iov_len, bytes);
        bytes -= iov[n].iov_len;
        n++;
    }
    *num = n;
}

/* Makes the lists as long as the CDB says. False: they are shorter. */
static bool request_fit(ScsiRequest *r, ScsiTransfer transfer)
{
    bool out;
    r->xfer = request_xfer(r, transfer, &out);
    if (r->xfer > (out ? r->out_len : r->in_len)) {
        return false;
    }
    if (out) {
        iov_cut(r->out, &r->out_num, r->xfer);
    } else {
        iov_cut(r->in, &r->in_num, r->xfer);
    }
    return true;
}

/* ---- execution ---- */

static bool cdb_has_length(const uint8_t *cdb)
{
    return scsi_cdb_length(cdb) != 0;
}

static coroutine_fn RUNS_IN_IOTHREAD void request_execute(ScsiRequest *r)
{
    ScsiLun *lun = r->lun;
    ScsiSense attention;
    const ScsiCommand *c = cdb_has_length(r->cdb) ? scsi_command_find(r->cdb, lun->type) : NULL;
    if (c && !request_fit(r, c->transfer)) {
        r->outcome = SCSI_OVERRUN;
        return;
    }
    if (!(c && (c->flags & SCSI_KEEPS_ATTENTION)) && scsi_lun_take_attention(lun, &attention)) {
        scsi_check(r, attention);
        return;
    }
    if (!c) {
        scsi_check(r, SCSI_INVALID_OPCODE);
        return;
    }
    if ((c->flags & SCSI_NEEDS_MEDIUM) && (!r->blk || scsi_lun_tray_open(lun))) {
        scsi_check(r, SCSI_NOT_READY_NO_MEDIUM);
        return;
    }
    c->run(r);
}

/* A target exists if it has a logical unit; commands to others of its numbers are answered. */
static coroutine_fn RUNS_IN_IOTHREAD ScsiOutcome request_run_absent(ScsiRequest *r)
{
    static const ScsiTransfer transfers[256] = {[SCSI_INQUIRY] = SCSI_XFER_ALLOC_3,
                                                [SCSI_REPORT_LUNS] = SCSI_XFER_ALLOC_6,
                                                [SCSI_REQUEST_SENSE] = SCSI_XFER_ALLOC_4};
    if (!scsi_bus_has_target(r->bus, r->target)) {
        return SCSI_BAD_TARGET;
    }
    if (!request_fit(r, transfers[r->cdb[0]])) {
        return SCSI_OVERRUN;
    }
    scsi_run_absent(r);
    return SCSI_DONE;
}

ScsiOutcome scsi_request_co_run(ScsiRequest *r)
{
    ScsiLun *lun = scsi_bus_find(r->bus, r->target, r->lun_number);
    r->status = SCSI_STATUS_GOOD;
    r->sense_len = 0;
    r->transferred = 0;
    r->lun = NULL;
    r->outcome = r->cancel = SCSI_DONE;
    r->held = false;
    trace_scsi_request(device_label(r->bus->controller), r->target, r->lun_number, r->tag,
                       r->cdb[0]);
    if (!lun) {
        return request_run_absent(r);
    }
    task_enter(r, lun);
    request_execute(r);
    SP("scsi.executed", r);
    if (r->outcome == SCSI_HELD && r->cancel == SCSI_DONE) {
        r->held = true;
        return SCSI_HELD;
    }
    task_leave(r);
    return r->cancel != SCSI_DONE ? r->cancel : r->outcome;
}

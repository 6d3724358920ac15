/* SPDX-License-Identifier: Apache-2.0 */
/* Internals of hw/scsi: what commands use. Home loop, except where a prototype says otherwise. */
#ifndef SKIFF_HW_SCSI_SCSI_INT_H
#define SKIFF_HW_SCSI_SCSI_INT_H

#include <errno.h>
#include "hw/scsi/scsi.h"
#include "util/iov.h"

#define SCSI_BOUNCE_BYTES 65536u

/* How much data the CDB of a command asks for, and its direction. */
typedef enum ScsiTransfer {
    SCSI_XFER_NONE,
    SCSI_XFER_ALLOC_4,     /* in: allocation length, a byte at 4 */
    SCSI_XFER_ALLOC_3,     /* in: 16 bits at 3 */
    SCSI_XFER_ALLOC_7,     /* in: 16 bits at 7 */
    SCSI_XFER_ALLOC_8,     /* in: 16 bits at 8 */
    SCSI_XFER_ALLOC_6,     /* in: 32 bits at 6 */
    SCSI_XFER_ALLOC_10,    /* in: 32 bits at 10 */
    SCSI_XFER_CAPACITY_10, /* in: 8 bytes */
    SCSI_XFER_LIST_4,      /* out: parameter list length, a byte at 4 */
    SCSI_XFER_LIST_7,      /* out: 16 bits at 7 */
    SCSI_XFER_READ,        /* in: blocks */
    SCSI_XFER_WRITE,       /* out: blocks */
    SCSI_XFER_VERIFY,      /* out: blocks, if BYTCHK is set */
    SCSI_XFER_SAME,        /* out: a block, unless NDOB is set */
} ScsiTransfer;

enum { SCSI_FOR_DISK = 1, SCSI_FOR_CD = 2, SCSI_FOR_ALL = 3 };
enum {
    SCSI_NEEDS_MEDIUM = 1,    /* NOT READY without one */
    SCSI_KEEPS_ATTENTION = 2, /* executed although a unit attention is pending (SPC-4 §5.14) */
};

typedef struct ScsiCommand {
    uint8_t opcode;
    int16_t action; /* the service action, or -1 */
    uint8_t kinds;  /* SCSI_FOR_* */
    uint8_t flags;
    ScsiTransfer transfer;
    void (*run)(ScsiRequest *r); /* coroutine_fn RUNS_IN_IOTHREAD; sets the status */
} ScsiCommand;

/* The command of @cdb for a device of @type; NULL: not supported. */
const ScsiCommand *scsi_command_find(const uint8_t *cdb, uint8_t type) ANY_THREAD;

/* ---- results (scsi_request.c) ---- */
void scsi_good(ScsiRequest *r) RUNS_IN_LOOP;
void scsi_check(ScsiRequest *r, ScsiSense s) RUNS_IN_LOOP;
/* Data in: at most the allocation length of @data. */
void scsi_reply(ScsiRequest *r, const uint8_t *data, size_t bytes) RUNS_IN_LOOP;
/* The end of I/O: GOOD with @transferred bytes, or what the error policy says. */
void scsi_io_done(ScsiRequest *r, bool is_read, int ret, uint64_t transferred) RUNS_IN_LOOP;
/* Whether [lba, lba + blocks) is on the medium. If not, ends @r and counts an invalid @op. */
bool scsi_check_range(ScsiRequest *r, uint64_t lba, uint64_t blocks, BlkOp op) RUNS_IN_IOTHREAD;
/* The same for a medium that can be written. */
bool scsi_check_writable(ScsiRequest *r, BlkOp op) RUNS_IN_IOTHREAD;

/* Whether a command of several parts begins the next one. If not, @r was cancelled, or it is held
 * because the bus hurries: it runs again from its start, so a stop waits for one part at most. */
bool scsi_goes_on(ScsiRequest *r) RUNS_IN_LOOP;
/* Whether a request of the backend that has returned @ret is made again: it was returned unstarted
 * because another command was cancelled. */
bool scsi_io_again(const ScsiRequest *r, int ret) RUNS_IN_LOOP;
/* A request of the backend for @r. */
#define SCSI_IO(r, call)                                                                           \
    __extension__({                                                                                \
        int io_ret_;                                                                               \
        do {                                                                                       \
            io_ret_ = (call);                                                                      \
        } while (scsi_io_again(r, io_ret_));                                                       \
        io_ret_;                                                                                   \
    })

/* ---- the backend of a logical unit, at home (scsi_bus.c) ---- */
/* Main has changed lun->blk. */
void scsi_lun_set_home_blk(ScsiLun *lun) RUNS_IN_IOTHREAD;

/* ---- logical units (scsi_lun.c) ---- */
/* Logical blocks of the medium; 0 without one. */
uint64_t scsi_lun_blocks(const ScsiLun *lun, const BlockBackend *blk) ANY_THREAD;
/* The most important pending unit attention is reported: cleared. False: none is pending. */
bool scsi_lun_take_attention(ScsiLun *lun, ScsiSense *s) ANY_THREAD;
/* Clears a pending unit attention. */
void scsi_lun_clear_attention(ScsiLun *lun, uint8_t attention) ANY_THREAD;
/* Opens or closes the tray, and announces it if it moves. */
void scsi_lun_move_tray(ScsiLun *lun, bool open) ANY_THREAD;
bool scsi_lun_tray_open(const ScsiLun *lun) ANY_THREAD;
bool scsi_lun_tray_locked(const ScsiLun *lun) ANY_THREAD;
/* Sets WCE: without it, later writes to @blk (NULL: no medium) have FUA. */
void scsi_lun_set_write_cache(ScsiLun *lun, BlockBackend *blk, bool on) ANY_THREAD;

/* ---- commands: coroutines of the home loop ---- */
/* scsi_primary.c */
void scsi_run_test_unit_ready(ScsiRequest *r) coroutine_fn RUNS_IN_IOTHREAD;
void scsi_run_inquiry(ScsiRequest *r) coroutine_fn RUNS_IN_IOTHREAD;
void scsi_run_request_sense(ScsiRequest *r) coroutine_fn RUNS_IN_IOTHREAD;
void scsi_run_report_luns(ScsiRequest *r) coroutine_fn RUNS_IN_IOTHREAD;
void scsi_run_prevent_allow(ScsiRequest *r) coroutine_fn RUNS_IN_IOTHREAD;
void scsi_run_start_stop(ScsiRequest *r) coroutine_fn RUNS_IN_IOTHREAD;
/* For a logical unit that does not exist in a target that does. */
void scsi_run_absent(ScsiRequest *r) coroutine_fn RUNS_IN_IOTHREAD;
/* scsi_vpd.c: fills @page (SCSI_VPD_BYTES, zeroed) with VPD page @code. Returns its length, 0: not
 * supported. */
#define SCSI_VPD_BYTES 512
size_t scsi_vpd_page(const ScsiLun *lun, uint8_t code, uint8_t *page) RUNS_IN_LOOP;
/* scsi_mode.c */
void scsi_run_mode_sense(ScsiRequest *r) coroutine_fn RUNS_IN_IOTHREAD;
void scsi_run_mode_select(ScsiRequest *r) coroutine_fn RUNS_IN_IOTHREAD;
/* scsi_block.c */
void scsi_run_read(ScsiRequest *r) coroutine_fn RUNS_IN_IOTHREAD;
void scsi_run_write(ScsiRequest *r) coroutine_fn RUNS_IN_IOTHREAD;
void scsi_run_verify(ScsiRequest *r) coroutine_fn RUNS_IN_IOTHREAD;
void scsi_run_read_capacity_10(ScsiRequest *r) coroutine_fn RUNS_IN_IOTHREAD;
void scsi_run_read_capacity_16(ScsiRequest *r) coroutine_fn RUNS_IN_IOTHREAD;
void scsi_run_synchronize_cache(ScsiRequest *r) coroutine_fn RUNS_IN_IOTHREAD;
void scsi_run_seek(ScsiRequest *r) coroutine_fn RUNS_IN_IOTHREAD;
/* scsi_zero.c */
void scsi_run_unmap(ScsiRequest *r) coroutine_fn RUNS_IN_IOTHREAD;
void scsi_run_write_same(ScsiRequest *r) coroutine_fn RUNS_IN_IOTHREAD;
/* scsi_mmc.c */
void scsi_run_read_toc(ScsiRequest *r) coroutine_fn RUNS_IN_IOTHREAD;
void scsi_run_get_configuration(ScsiRequest *r) coroutine_fn RUNS_IN_IOTHREAD;
void scsi_run_get_event_status(ScsiRequest *r) coroutine_fn RUNS_IN_IOTHREAD;
void scsi_run_read_disc_information(ScsiRequest *r) coroutine_fn RUNS_IN_IOTHREAD;
void scsi_run_mechanism_status(ScsiRequest *r) coroutine_fn RUNS_IN_IOTHREAD;

/* ---- scsi_task.c ---- */
/* Cancels all requests of @lun and returns when those have ended. False: not within @timeout_ns. */
bool scsi_task_co_cancel_all(ScsiLun *lun, ScsiOutcome how, int64_t timeout_ns)
    coroutine_fn RUNS_IN_IOTHREAD;

/* ---- the bounce buffer (scsi_block.c) ---- */
/* A buffer of SCSI_BOUNCE_BYTES; one command of a logical unit has it at a time, so a guest cannot
 * make many of them. NULL: cancelled meanwhile, or @r has ended for lack of memory. */
uint8_t *scsi_bounce_co_take(ScsiRequest *r) coroutine_fn RUNS_IN_IOTHREAD;
void scsi_bounce_put(ScsiRequest *r, uint8_t *buffer) RUNS_IN_LOOP;

#endif

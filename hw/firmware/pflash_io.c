/* SPDX-License-Identifier: Apache-2.0 */
/* The flash's side in the home of its backend: writes and flushes. */
#include "hw/firmware/pflash_int.h"
#include "util/loop/sched_point.h"

/* Metadata of a format covers at least this many bytes of the disk in most images; a smaller unit
 * would only cost flushes. */
#define PFLASH_METADATA_UNIT 65536u
#define PFLASH_NO_REGION UINT64_MAX

/* ---- writes ---- */

static coroutine_fn RUNS_IN_IOTHREAD int
pflash_co_write(Pflash *p, uint64_t offset, const uint8_t *data, uint64_t bytes, unsigned flags)
{
    union { /* iovecs are not const */
        const uint8_t *in;
        void *out;
    } base = {.in = data};
    struct iovec iov = {.iov_base = base.out, .iov_len = bytes};
    return blk_co_pwritev(p->blk, offset, bytes, &iov, 1, flags);
}

/* Whether a write to @offset may be lost with the process unless it has FUA: the first one to a
 * region since the last flush, of a format that keeps metadata in memory. */
static RUNS_IN_IOTHREAD bool pflash_needs_metadata(const Pflash *p, uint64_t offset)
{
    return blk_defers_metadata(p->blk) && p->metadata_at != offset / PFLASH_METADATA_UNIT;
}

/* In ascending order, each sector on stable storage before the next begins: a power cut leaves a
 * prefix. An erase may leave any sectors, so it is one write. */
static coroutine_fn RUNS_IN_IOTHREAD int pflash_co_store(Pflash *p)
{
    PflashWork *w = &p->work;
    const CfiOperation *op = &w->op;
    bool metadata = pflash_needs_metadata(p, op->offset);
    p->metadata_at = PFLASH_NO_REGION;
    while (w->done < op->bytes) {
        uint32_t at = op->offset + w->done;
        uint32_t room = BLOCK_SECTOR_SIZE - at % BLOCK_SECTOR_SIZE;
        uint32_t left = op->bytes - w->done;
        uint32_t bytes = op->kind == CFI_OP_ERASE ? left : MIN(left, room);
        unsigned flags = metadata || bytes < left ? BLOCK_REQ_FUA : 0;
        int ret = pflash_co_write(p, at, p->result + w->done, bytes, flags);
        if (ret < 0) {
            return ret;
        }
        w->done += bytes;
    }
    p->metadata_at = op->offset / PFLASH_METADATA_UNIT;
    return 0;
}

static coroutine_fn RUNS_IN_IOTHREAD int pflash_co_flush(Pflash *p)
{
    p->metadata_at = PFLASH_NO_REGION;
    return blk_co_flush(p->blk);
}

void pflash_work_run(void *opaque)
{
    Pflash *p = opaque;
    enter_coroutine();
    enter_iothread(blk_home(p->blk));
    BlkMacro macro;
    SP("pflash.begun", p);
    /* One operation for a drained section. The graph stays as it is meanwhile. */
    blk_co_macro_begin(p->blk, &macro);
    p->work.ret = p->work.op.kind == CFI_OP_NONE ? pflash_co_flush(p) : pflash_co_store(p);
    blk_macro_end(p->blk, &macro);
    SP("pflash.written", p);
    /* From here on the work may be the next operation's. */
    completion_signal(&p->work.owner->waiter.done, 0);
}

/* ---- start-up ---- */

typedef struct PflashRead {
    Pflash *p;
    int ret;
} PflashRead;

static void pflash_read_at_home(void *opaque)
{
    PflashRead *r = opaque;
    Pflash *p = r->p;
    enter_coroutine();
    enter_iothread(blk_home(p->blk));
    struct iovec iov = {.iov_base = p->array, .iov_len = p->size};
    p->metadata_at = PFLASH_NO_REGION;
    r->ret = blk_co_preadv(p->blk, 0, p->size, &iov, 1, 0);
}

int pflash_co_read_all(Pflash *p)
{
    PflashRead r = {.p = p};
    co_call_in(blk_home(p->blk), pflash_read_at_home, &r);
    return r.ret;
}

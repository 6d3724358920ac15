/* SPDX-License-Identifier: Apache-2.0 */
/* The flash's side in the home of its backend: writes and flushes. */
#include "hw/firmware/pflash_int.h"
#include "util/loop/sched_point.h"

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

/* Where the bytes of a write are in the image's file. Unknown: nowhere yet, or in several places. */
typedef struct PflashPlace {
    bool known;
    const BlockNode *node;
    uint64_t offset;
} PflashPlace;

static coroutine_fn RUNS_IN_IOTHREAD PflashPlace pflash_co_find(Pflash *p, const CfiOperation *op)
{
    BlockStatus status;
    int ret = blk_co_block_status(p->blk, op->offset, op->bytes, false, &status);
    unsigned wanted = BLOCK_STATUS_DATA | BLOCK_STATUS_OFFSET_VALID;
    bool known = ret == 0 && status.bytes >= op->bytes && (status.flags & wanted) == wanted;
    return known
               ? (PflashPlace){.known = true, .node = status.map_node, .offset = status.map_offset}
               : (PflashPlace){0};
}

/* Whether a write has changed only data: it was and is in the same place. */
static bool pflash_same_place(const PflashPlace *a, const PflashPlace *b)
{
    return a->known && b->known && a->node == b->node && a->offset == b->offset;
}

/* In ascending order, each sector on stable storage before the next begins: a power cut leaves a
 * prefix. An erase may leave any sectors, so it is one write. */
static coroutine_fn RUNS_IN_IOTHREAD int pflash_co_write_all(Pflash *p)
{
    PflashWork *w = &p->work;
    const CfiOperation *op = &w->op;
    while (w->done < op->bytes) {
        uint32_t at = op->offset + w->done;
        uint32_t room = BLOCK_SECTOR_SIZE - at % BLOCK_SECTOR_SIZE;
        uint32_t left = op->bytes - w->done;
        uint32_t bytes = op->kind == CFI_OP_ERASE ? left : MIN(left, room);
        unsigned flags = bytes < left ? BLOCK_REQ_FUA : 0;
        int ret = pflash_co_write(p, at, p->result + w->done, bytes, flags);
        if (ret < 0) {
            return ret;
        }
        w->done += bytes;
    }
    return 0;
}

/* A format may keep in memory what leads to data in a new place; a flush writes that. */
static coroutine_fn RUNS_IN_IOTHREAD int pflash_co_store(Pflash *p)
{
    const CfiOperation *op = &p->work.op;
    if (!blk_defers_metadata(p->blk)) {
        return pflash_co_write_all(p);
    }
    PflashPlace before = pflash_co_find(p, op);
    int ret = pflash_co_write_all(p);
    PflashPlace after = pflash_co_find(p, op);
    return ret < 0 || pflash_same_place(&before, &after) ? ret : blk_co_flush(p->blk);
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
    p->work.ret = p->work.op.kind == CFI_OP_NONE ? blk_co_flush(p->blk) : pflash_co_store(p);
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
    r->ret = blk_co_preadv(p->blk, 0, p->size, &iov, 1, 0);
}

int pflash_co_read_all(Pflash *p)
{
    PflashRead r = {.p = p};
    co_call_in(blk_home(p->blk), pflash_read_at_home, &r);
    return r.ret;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies images. Several coroutines take pieces in order; each reads its piece and writes it, in
 * order if the target needs that. Block status tells which pieces are zeroes and need no read. Pieces
 * that are compressed are whole clusters of the target, which can have data of several sources.
 */
#include "block/img/img_copy.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "block/node.h"
#include "util/zero.h"

#define COPY_PIECE ((uint64_t)2 << 20)
#define COPY_ZERO_PIECE ((uint64_t)64 << 20) /* of zeroes that are not read */
#define COPY_BLOCK 4096u                     /* in which zeroes are searched for */
#define COPY_NS_PER_S 1000000000.0

typedef struct CopyPiece {
    unsigned source;       /* the first one */
    uint64_t offset;       /* in the target */
    uint64_t source_start; /* of that source in the target */
    uint64_t bytes;
    uint64_t number;
    bool zero;
} CopyPiece;

static void copy_fail(ImgCopy *c, const char *what, uint64_t offset, int ret)
{
    if (!c->failed) {
        img_error("error while %s %" PRIu64 ": %s", what, offset, g_strerror(-ret));
    }
    c->failed = true;
}

/* ---- taking pieces ---- */

static coroutine_fn RUNS_IN_IOTHREAD bool copy_co_status(ImgCopy *c)
{
    while (c->next - c->source_start >= c->sources[c->source].size) {
        c->source_start += c->sources[c->source].size;
        c->source++;
        c->status.bytes = 0;
    }
    if (c->status.bytes > 0 && c->next < c->status_start + c->status.bytes) {
        return true; /* the last answer reaches beyond c->next */
    }
    const ImgCopySource *s = &c->sources[c->source];
    uint64_t at = c->next - c->source_start;
    int ret = blk_co_block_status(s->blk, at, s->size - at, true, &c->status);
    c->status_start = c->next;
    if (ret < 0 && c->salvage) {
        img_error("warning: error while reading block status at offset %" PRIu64 ": %s", at,
                  g_strerror(-ret));
        c->status = (BlockStatus){.bytes = MIN(s->size - at, BLOCK_SECTOR_SIZE),
                                  .flags = BLOCK_STATUS_ZERO};
        ret = 0;
    }
    if (ret < 0) {
        copy_fail(c, "reading block status at offset", at, ret);
    }
    return ret == 0;
}

/* Waits until the rate allows the next piece. */
static coroutine_fn RUNS_IN_IOTHREAD void copy_co_limit(const ImgCopy *c, uint64_t copied)
{
    if (c->rate > 0) {
        double due = (double)copied / (double)c->rate * COPY_NS_PER_S;
        int64_t now = aio_now_ns(aio_context_current()) - c->started_ns;
        if ((double)now < due) {
            co_sleep_ns((int64_t)due - now);
        }
    }
}

/* Whether the target has the content of the range at c->next already. */
static bool copy_may_skip(const ImgCopy *c)
{
    bool zero = (c->status.flags & BLOCK_STATUS_ZERO) != 0;
    if (c->held_only) {
        return (c->status.flags & BLOCK_STATUS_ALLOCATED) == 0 && c->status.depth == c->last_depth;
    }
    if (c->backed) {
        return c->status.depth > 0 || (zero && c->next >= c->backing_size);
    }
    return zero && c->zeroes;
}

/* Makes a piece whole units; fewer bytes than a unit become a unit of data. Returns whether they are
 * of one kind as before. */
static bool copy_round(const ImgCopy *c, CopyPiece *p)
{
    uint64_t left = c->total - p->offset;
    if (c->unit == 0 || p->bytes == left) {
        return true;
    }
    if (p->bytes >= c->unit) {
        p->bytes = block_align_down(p->bytes, c->unit);
        return true;
    }
    p->bytes = MIN(c->unit, left);
    p->zero = false;
    return false;
}

/* The piece at c->next. False: nothing has to be done with it. */
static bool copy_decide(const ImgCopy *c, CopyPiece *p)
{
    bool zero = (c->status.flags & BLOCK_STATUS_ZERO) != 0;
    uint64_t rest = c->status_start + c->status.bytes - c->next;
    bool skip = copy_may_skip(c);
    bool large = zero && c->min_sparse > 0 && c->target->blk != NULL;
    if (c->backed && c->next < c->backing_size) {
        rest = MIN(rest, c->backing_size - c->next); /* zeroes beyond it are skipped */
    }
    *p = (CopyPiece){
        .source = c->source,
        .offset = c->next,
        .source_start = c->source_start,
        .bytes = skip ? rest : MIN(rest, large ? COPY_ZERO_PIECE : COPY_PIECE),
        .zero = zero,
    };
    return !copy_round(c, p) || !skip;
}

/* Takes the next piece that has to be copied. False: there is none. */
static coroutine_fn RUNS_IN_IOTHREAD bool copy_co_take(ImgCopy *c, CopyPiece *p)
{
    bool found = false;
    img_turn_co_take(&c->turn);
    while (!found && !c->failed && c->next < c->total && copy_co_status(c)) {
        found = copy_decide(c, p);
        if (found) {
            p->number = c->taken++;
            copy_co_limit(c, c->next);
        }
        c->next += p->bytes;
    }
    img_progress_set(c->progress, c->next, c->total);
    img_turn_give(&c->turn);
    return found;
}

/* ---- reading ---- */

/* The part of a piece that one source has. */
typedef struct CopyPart {
    BlockBackend *blk;
    uint64_t offset; /* in the source */
    uint64_t bytes;
    uint64_t target; /* offset in the target */
    uint8_t *data;
} CopyPart;

/* What cannot be read becomes zeroes, sector by sector. */
static coroutine_fn RUNS_IN_IOTHREAD void copy_co_salvage(const CopyPart *p)
{
    for (uint64_t at = 0; at < p->bytes; at += BLOCK_SECTOR_SIZE) {
        struct iovec iov = {p->data + at, BLOCK_SECTOR_SIZE};
        int ret = blk_co_preadv(p->blk, p->offset + at, BLOCK_SECTOR_SIZE, &iov, 1, 0);
        if (ret < 0) {
            img_error("warning: error while reading offset %" PRIu64 ": %s", p->target + at,
                      g_strerror(-ret));
            memset(p->data + at, 0, BLOCK_SECTOR_SIZE);
        }
    }
}

static coroutine_fn RUNS_IN_IOTHREAD bool copy_co_read_part(ImgCopy *c, const CopyPart *p)
{
    struct iovec iov = {p->data, p->bytes};
    int ret = blk_co_preadv(p->blk, p->offset, p->bytes, &iov, 1, 0);
    if (ret < 0 && c->salvage) {
        copy_co_salvage(p);
    } else if (ret < 0) {
        copy_fail(c, "reading at byte", p->target, ret);
        return false;
    }
    return true;
}

static coroutine_fn RUNS_IN_IOTHREAD bool copy_co_read(ImgCopy *c, const CopyPiece *p,
                                                       uint8_t *buffer)
{
    uint64_t start = p->source_start, done = 0;
    bool ok = true;
    if (p->zero) {
        if (p->bytes <= COPY_PIECE) {
            memset(buffer, 0, p->bytes); /* for a stream, and where all is written */
        }
        return true;
    }
    for (unsigned i = p->source; ok && done < p->bytes; i++) {
        const ImgCopySource *s = &c->sources[i];
        CopyPart part = {.blk = s->blk,
                         .offset = p->offset + done - start,
                         .target = p->offset + done,
                         .data = buffer + done};
        part.bytes = MIN(p->bytes - done, s->size - part.offset);
        ok = copy_co_read_part(c, &part);
        done += part.bytes;
        start += s->size;
    }
    return ok;
}

/* ---- writing ---- */

/* The length of the run of zeroes, or of other data, at the beginning of the buffer. Zeroes that
 * are fewer than min_sparse count as data. */
static uint64_t copy_run(const ImgCopy *c, const uint8_t *buffer, uint64_t bytes, bool *zero)
{
    uint64_t min = MIN(MAX(c->min_sparse, c->unit), bytes);
    uint64_t block = MIN(c->unit > 0 ? c->unit : COPY_BLOCK, min); /* whole units are compressed */
    uint64_t data = 0, zeroes = 0;
    *zero = false;
    if (c->min_sparse == 0) {
        return bytes;
    }
    while (data + zeroes < bytes) {
        uint64_t at = data + zeroes, length = MIN(block, bytes - at);
        if (bytes_are_zero(buffer + at, length)) {
            zeroes += length;
        } else if (zeroes >= min) {
            break;
        } else {
            data = at + length;
            zeroes = 0;
        }
    }
    *zero = data == 0 && zeroes >= min;
    return *zero ? zeroes : zeroes >= min ? data : data + zeroes;
}

static coroutine_fn RUNS_IN_IOTHREAD int copy_co_write_run(ImgCopy *c, uint64_t offset,
                                                           uint8_t *data, uint64_t bytes, bool zero)
{
    BlockBackend *blk = c->target->blk;
    struct iovec iov = {data, bytes};
    if (!zero) {
        bool whole =
            c->unit > 0 && (block_is_aligned(bytes, c->unit) || offset + bytes == blk_size(blk));
        return blk_co_pwritev(blk, offset, bytes, &iov, 1, whole ? BLOCK_REQ_COMPRESSED : 0);
    }
    return c->zeroes ? 0 : blk_co_write_zeroes(blk, offset, bytes, BLOCK_REQ_MAY_UNMAP);
}

static coroutine_fn RUNS_IN_IOTHREAD int copy_co_write(ImgCopy *c, const CopyPiece *p,
                                                       uint8_t *buffer)
{
    if (c->target->blk == NULL) {
        return img_target_co_stream(c->target, buffer, p->bytes);
    }
    if (p->zero && c->min_sparse > 0) {
        return copy_co_write_run(c, p->offset, NULL, p->bytes, true);
    }
    for (uint64_t done = 0; done < p->bytes;) {
        bool zero;
        uint64_t length = copy_run(c, buffer + done, p->bytes - done, &zero);
        int ret = copy_co_write_run(c, p->offset + done, buffer + done, length, zero);
        if (ret < 0) {
            return ret;
        }
        done += length;
    }
    return 0;
}

/* Writes the piece when it is its turn. */
static coroutine_fn RUNS_IN_IOTHREAD void copy_co_write_in_order(ImgCopy *c, const CopyPiece *p,
                                                                 uint8_t *buffer)
{
    while (c->in_order && !c->failed && c->written < p->number) {
        co_queue_wait(&c->order, "the piece before to be written");
    }
    if (!c->failed) {
        int ret = copy_co_write(c, p, buffer);
        if (ret < 0) {
            copy_fail(c, "writing at byte", p->offset, ret);
        }
    }
    c->written++;
    co_queue_wake_all(&c->order);
}

static void copy_work(void *opaque)
{
    ImgCopy *c = opaque;
    CopyPiece p = {0};
    enter_coroutine();
    enter_iothread(aio_context_current());
    uint8_t *buffer = img_buffer_new(COPY_PIECE);
    while (copy_co_take(c, &p)) {
        if (copy_co_read(c, &p, buffer)) {
            copy_co_write_in_order(c, &p, buffer);
        } else {
            co_queue_wake_all(&c->order);
        }
    }
    free(buffer);
}

bool img_copy_co_run(Img *img, ImgCopy *c)
{
    img_turn_init(&c->turn);
    co_queue_init(&c->order);
    c->started_ns = aio_now_ns(img->home);
    img_progress_set(c->progress, 0, c->total);
    img_co_crew(img, c->crew, copy_work, c);
    return !c->failed;
}

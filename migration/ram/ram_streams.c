/* SPDX-License-Identifier: Apache-2.0 */
#include "migration/ram/ram_image_int.h"

#include <errno.h>
#include <stdlib.h>
#include <zlib.h>

int ram_streams_alloc_maps(RamStreams *s)
{
    int ret = 0;
    for (unsigned i = 0; i < s->image->count && ret == 0; i++) {
        ret = ram_pages_add(&s->pages, i, s->image->blocks[i].size);
    }
    return ret;
}

uint32_t ram_streams_map_crc(const RamStreams *s, unsigned block)
{
    uint64_t bytes = ram_image_map_bytes(&s->image->blocks[block]);
    return (uint32_t)crc32_z(0, (const uint8_t *)s->pages.maps[block], bytes);
}

/* ---- runs ---- */

bool ram_piece_next_run(const RamPiece *p, const uint64_t *bits, uint32_t *first, uint32_t *end)
{
    uint32_t at = *end;
    while (at < p->pages && !ram_map_test(bits, at)) {
        at++;
    }
    if (at == p->pages) {
        return false;
    }
    *first = at;
    *end = ram_map_run_end(bits, p->pages, at);
    return true;
}

typedef struct RamRuns {
    RamPiece *piece;
    const uint64_t *bits;
    RamRunFn *fn;
    uint32_t first, end; /* the next run */
    bool more;
    unsigned running; /* coroutines */
    int ret;
    CoQueue ended;
} RamRuns;

static void ram_runs_one(void *opaque)
{
    RamRuns *r = opaque;
    enter_coroutine();
    enter_iothread(co_context(co_self()));
    while (r->more && r->ret == 0) {
        uint32_t first = r->first, end = r->end;
        r->more = ram_piece_next_run(r->piece, r->bits, &r->first, &r->end);
        int ret = r->fn(r->piece, first, end);
        r->ret = r->ret != 0 ? r->ret : ret;
    }
    if (--r->running == 0) {
        co_queue_wake_all(&r->ended);
    }
}

int ram_piece_co_runs(RamPiece *p, const uint64_t *bits, RamRunFn *fn)
{
    RamRuns r = {.piece = p, .bits = bits, .fn = fn};
    co_queue_init(&r.ended);
    r.more = ram_piece_next_run(p, bits, &r.first, &r.end);
    if (!r.more) {
        return 0;
    }
    uint32_t first = r.first, end = r.end;
    r.more = ram_piece_next_run(p, bits, &r.first, &r.end);
    for (unsigned i = 1; r.more && i < RAM_RUNS; i++) {
        r.running++;
        co_start(co_context(co_self()), ram_runs_one, &r);
    }
    int ret = fn(p, first, end); /* most pieces have one run */
    r.ret = r.ret != 0 ? r.ret : ret;
    while (r.running > 0) {
        co_queue_wait(&r.ended, "runs of pages");
    }
    return r.ret;
}

/* ---- pieces ---- */

static void ram_streams_give(const RamStreams *s, RamPiece *p, unsigned block, uint64_t offset)
{
    p->block = block;
    p->offset = offset;
    p->pages = (uint32_t)(MIN(s->image->blocks[block].size - offset, RAM_PIECE) / GUEST_RAM_PAGE);
    p->map = s->pages.maps[block] + offset / GUEST_RAM_PAGE / 64;
}

/* A piece ahead of its turn. False: none is wanted so, or it was taken already. */
static bool ram_streams_urgent(const RamStreams *s, RamPiece *p)
{
    unsigned block;
    uint64_t offset;
    if (s->hurry == NULL || !s->hurry->urgent(s->hurry->opaque, &block, &offset)) {
        return false;
    }
    uint64_t piece = offset / RAM_PIECE;
    if (block < s->block || (block == s->block && piece < s->offset / RAM_PIECE) ||
        ram_map_test(s->taken[block], piece)) {
        return false;
    }
    ram_map_set(s->taken[block], piece);
    ram_streams_give(s, p, block, piece * RAM_PIECE);
    return true;
}

/* The next one in order. False: there is none. */
static bool ram_streams_turn(RamStreams *s, RamPiece *p)
{
    while (s->block < s->image->count && s->skipped[s->block]) {
        s->block++;
    }
    if (s->block == s->image->count) {
        return false;
    }
    ram_streams_give(s, p, s->block, s->offset);
    s->offset += (uint64_t)p->pages * GUEST_RAM_PAGE;
    if (s->offset == s->image->blocks[s->block].size) {
        s->block++;
        s->offset = 0;
    }
    return true;
}

/* False: no piece is left, or the streams end early. */
static bool ram_streams_next(RamStreams *s, RamPiece *p)
{
    if (s->ret == 0 && s->cancelled != NULL && *s->cancelled) {
        s->ret = -ECANCELED;
    }
    if (s->ret != 0) {
        return false;
    }
    bool found = ram_streams_urgent(s, p);
    while (!found && ram_streams_turn(s, p)) {
        found = s->hurry == NULL || !ram_map_test(s->taken[p->block], p->offset / RAM_PIECE);
    }
    return found;
}

static int ram_streams_alloc_taken(RamStreams *s)
{
    int ret = 0;
    for (unsigned i = 0; s->hurry != NULL && i < s->image->count && ret == 0; i++) {
        s->taken[i] = g_try_new0(uint64_t, s->image->blocks[i].size / RAM_PIECE / 64 + 1);
        ret = s->taken[i] != NULL ? 0 : -ENOMEM;
    }
    return ret;
}

static void ram_streams_one(void *opaque)
{
    RamStreams *s = opaque;
    enter_coroutine();
    enter_iothread(co_context(co_self()));
    RamPiece p = {.streams = s};
    p.buf = s->buffered ? aligned_alloc(GUEST_RAM_PAGE, RAM_PIECE) : NULL;
    if (s->buffered && p.buf == NULL) {
        s->ret = s->ret != 0 ? s->ret : -ENOMEM;
    }
    while (ram_streams_next(s, &p)) {
        int ret = s->co_run(&p);
        if (ret < 0 && s->ret == 0) {
            s->ret = ret;
        }
    }
    free(p.buf);
    s->running--;
    co_queue_wake_all(&s->ended);
}

int ram_streams_co_run(RamStreams *s)
{
    co_queue_init(&s->ended);
    s->block = 0;
    s->offset = 0;
    s->ret = ram_streams_alloc_taken(s);
    for (unsigned i = 0; i < RAM_STREAMS; i++) {
        s->running++;
        co_start(co_context(co_self()), ram_streams_one, s);
    }
    while (s->running > 0) {
        co_queue_wait(&s->ended, "RAM streams");
    }
    for (unsigned i = 0; i < GUEST_RAM_MAX_BLOCKS; i++) {
        g_clear_pointer(&s->taken[i], g_free);
    }
    return s->ret;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commits: changed metadata goes to disk, in the order that qcow2_writer.h explains. The header's
 * dirty bit makes the order of refcounts unnecessary: then they are written at the end only.
 *
 *   idle --capture--> refcounts --> table --> header --> L2, L1 --> permitted --> idle
 *                         \-----------\----------\-----------\--error--> restored --> idle
 *
 * A flush that arrives during a commit waits for the next one, which serves all such flushes.
 */
#include "block/qcow2/qcow2_int.h"

typedef struct Commit {
    GArray *refcounts, *l2; /* Qcow2Copy */
    GArray *table, *l1;     /* Qcow2Sector */
    uint64_t table_offset, l1_offset;
    bool header, data, lazy;
    uint8_t sector[QCOW2_SECTOR]; /* of the header */
    GArray *frees;
} Commit;

/* ---- capture and release ---- */

static RUNS_IN_IOTHREAD void commit_capture(BlockNode *n, Commit *c)
{
    Qcow2State *s = n->state;
    Qcow2Writer *w = &s->w;
    *c = (Commit){
        .lazy = w->lazy,
        .table = qcow2_table_capture(&w->refcount_table),
        .l1 = qcow2_table_capture(&s->l1),
        .l2 = qcow2_cache_capture(&s->l2),
        .table_offset = s->header.refcount_offset,
        .l1_offset = s->header.l1_offset,
        .header = w->header_dirty,
        .data = w->data_written,
        .frees = w->frees,
    };
    c->refcounts =
        c->lazy ? g_array_new(false, false, sizeof(Qcow2Copy)) : qcow2_cache_capture(&w->refcounts);
    qcow2_header_encode(&s->header, w->sector, c->sector);
    w->header_dirty = w->data_written = false;
    w->frees = g_array_new(false, false, sizeof(Qcow2Free));
}

static RUNS_IN_IOTHREAD void commit_release(BlockNode *n, Commit *c, bool written)
{
    Qcow2State *s = n->state;
    Qcow2Writer *w = &s->w;
    qcow2_cache_release(&w->refcounts, c->refcounts, written);
    qcow2_cache_release(&s->l2, c->l2, written);
    qcow2_table_release(&w->refcount_table, c->table, written);
    qcow2_table_release(&s->l1, c->l1, written);
    if (written) {
        qcow2_free_permit(w, c->frees);
        return;
    }
    w->header_dirty = w->header_dirty || c->header;
    w->data_written = w->data_written || c->data;
    g_array_append_vals(w->frees, c->frees->data, c->frees->len);
    g_array_unref(c->frees);
}

/* ---- the phases ---- */

static coroutine_fn RUNS_IN_IOTHREAD int commit_flush(BlockNode *n)
{
    Qcow2State *s = n->state;
    int ret = s->data != n->file ? block_node_co_flush(s->data) : 0;
    return ret == 0 ? block_node_co_flush(n->file) : ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int commit_refcounts(BlockNode *n, const Commit *c)
{
    Qcow2State *s = n->state;
    bool later = c->table->len > 0 || c->header || c->l2->len > 0 || c->l1->len > 0;
    int ret = qcow2_cache_co_write(&s->w.refcounts, n->file, c->refcounts);
    if (ret == 0 && later && (c->refcounts->len > 0 || c->table->len > 0 || c->header || c->data)) {
        ret = commit_flush(n);
    }
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int commit_tables(BlockNode *n, const Commit *c)
{
    int ret = 0;
    if (c->table->len > 0) {
        ret = qcow2_co_write_sectors(n, c->table, c->table_offset);
        ret = ret == 0 ? commit_flush(n) : ret;
    }
    if (ret == 0 && c->header) {
        ret = qcow2_co_write_header(n, c->sector);
        ret = ret == 0 ? commit_flush(n) : ret;
    }
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int commit_references(BlockNode *n, const Commit *c)
{
    Qcow2State *s = n->state;
    int ret = qcow2_cache_co_write(&s->l2, n->file, c->l2);
    if (ret == 0) {
        ret = qcow2_co_write_sectors(n, c->l1, c->l1_offset);
    }
    return ret == 0 ? commit_flush(n) : ret;
}

/* Waits until nothing is being written that the capture has to see on disk. */
static coroutine_fn RUNS_IN_IOTHREAD int commit_settle(BlockNode *n)
{
    Qcow2State *s = n->state;
    int ret = 0;
    while (ret == 0 && (s->l2.zeroes->len > 0 || s->w.refcounts.evicting > 0)) {
        qcow2_cache_co_settle(&s->w.refcounts);
        ret = qcow2_co_settle_l2(n);
    }
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int commit_run(BlockNode *n)
{
    Commit c;
    int ret = commit_settle(n);
    if (ret < 0) {
        return ret;
    }
    commit_capture(n, &c);
    ret = commit_refcounts(n, &c);
    if (ret == 0) {
        ret = commit_tables(n, &c);
    }
    if (ret == 0) {
        ret = commit_references(n, &c);
    }
    commit_release(n, &c, ret == 0);
    qcow2_free_start(n);
    return ret;
}

/* ---- one at a time ---- */

static coroutine_fn RUNS_IN_IOTHREAD int commit_once(BlockNode *n)
{
    Qcow2State *s = n->state;
    Qcow2Writer *w = &s->w;
    uint64_t number = ++w->commits_begun;
    w->committing = true;
    int ret = commit_run(n);
    w->committing = false;
    w->commits_ended = number;
    if (ret < 0) {
        w->commit_failed = number;
        w->commit_error = ret;
    }
    co_queue_wake_all(&w->commit_waiters);
    return ret;
}

int qcow2_co_flush(BlockNode *n)
{
    Qcow2State *s = n->state;
    Qcow2Writer *w = &s->w;
    uint64_t number = w->commits_begun + 1;
    while (w->commits_ended < number) {
        if (w->committing) {
            co_queue_wait(&w->commit_waiters, "an earlier flush of a qcow2 image");
        } else {
            commit_once(n);
        }
    }
    return qcow2_co_save_corrupt(n, w->commit_failed >= number ? w->commit_error : 0);
}

int qcow2_co_make_room(BlockNode *n)
{
    Qcow2State *s = n->state;
    Qcow2Writer *w = &s->w;
    if (!w->committing) {
        return commit_once(n);
    }
    uint64_t number = w->commits_begun;
    bool commit = w->commits_ended < number; /* else a change of the header */
    do {
        co_queue_wait(&w->commit_waiters, "an earlier flush of a qcow2 image");
    } while (w->commits_ended < number);
    return commit && w->commit_failed >= number ? w->commit_error : 0;
}

void qcow2_co_commit_begin(Qcow2Writer *w)
{
    while (w->committing) {
        co_queue_wait(&w->commit_waiters, "an earlier flush of a qcow2 image");
    }
    w->committing = true;
}

void qcow2_commit_end(Qcow2Writer *w)
{
    w->committing = false;
    co_queue_wake_all(&w->commit_waiters);
}

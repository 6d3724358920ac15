/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Applying a snapshot: the disk becomes what it was, also in its size. Nothing else is in flight.
 *
 *   raise    the counts of all that the snapshot reaches
 *   store    flush; a copy of its L1 table to new clusters; the header with the copy and the size
 *   lower    the counts of all that the old L1 table reaches
 *
 * All clusters of the new disk are shared with the snapshot, so no entry of it has COPIED.
 */
#include <errno.h>
#include "block/qcow2/qcow2_int.h"

#define APPLY_FLUSHES 3u /* changes, then frees, then their refcounts */

int qcow2_co_apply_begin(BlockNode *n, const BlockSnapshotOp *op)
{
    const Qcow2State *s = n->state;
    const Qcow2Snapshot *snap = qcow2_snapshot_find(s, op->name, NULL);
    if (snap == NULL) {
        snap = qcow2_snapshot_find(s, NULL, op->name);
    }
    if (snap == NULL) {
        return -ENOENT;
    }
    ((Qcow2State *)n->state)->snap.target =
        (Qcow2Snapshot){.id = g_strdup(snap->id), .name = g_strdup(snap->name)};
    return 0;
}

/* L1 entries that the disk needs; those behind are of the state of a machine. 0: too many. */
static uint64_t apply_entries(const Qcow2State *s, const Qcow2Snapshot *snap)
{
    uint64_t entries = MAX(qcow2_l1_needed(&s->header, snap->disk_size), 1);
    bool fits = snap->disk_size <= BLOCK_SIZE_MAX && entries <= QCOW2_L1_BYTES_MAX / 8;
    return fits ? entries : 0;
}

int qcow2_co_apply_switch(BlockNode *n)
{
    Qcow2State *s = n->state;
    Qcow2Snap *p = &s->snap;
    const Qcow2Snapshot *snap = qcow2_snapshot_find(s, p->target.id, p->target.name);
    int ret = snap != NULL ? 0 : -ENOENT;
    for (unsigned i = 0; i < APPLY_FLUSHES && ret == 0; i++) {
        ret = qcow2_co_flush(n);
        qcow2_co_free_all(n);
    }
    uint64_t entries = ret == 0 ? apply_entries(s, snap) : 0;
    if (ret == 0) {
        ret = entries != 0 ? qcow2_co_walk_snapshot(n, snap) : -EFBIG;
    }
    if (ret < 0) {
        return ret;
    }
    p->walk.flags = QCOW2_WALK_TABLES;
    p->walk.l1 = g_renew(uint64_t, p->walk.l1, entries);
    p->walk.count = (uint32_t)MIN(p->walk.count, entries);
    memset(p->walk.l1 + p->walk.count, 0, (entries - p->walk.count) * sizeof(uint64_t));
    p->walk.count = (uint32_t)entries;
    p->target.disk_size = snap->disk_size;
    return 0;
}

/* ---- the switch on disk ---- */

typedef struct ApplyDisk {
    Qcow2Table l1;
    uint64_t l1_offset, size;
} ApplyDisk;

static RUNS_IN_IOTHREAD void apply_set_disk(BlockNode *n, const ApplyDisk *d)
{
    Qcow2State *s = n->state;
    s->l1 = d->l1;
    s->header.l1_offset = d->l1_offset;
    s->header.l1_size = d->l1.count;
    s->header.size = d->size;
    s->w.header_dirty = true;
    s->w.data_written = true; /* the L1 table is to be flushed before the header */
    s->preallocation_checked = false;
}

/* Writes a copy of the snapshot's L1 table to new clusters. */
static coroutine_fn RUNS_IN_IOTHREAD int apply_write_l1(BlockNode *n, ApplyDisk *d, Qcow2Run *run)
{
    const Qcow2State *s = n->state;
    const Qcow2Walk *k = &s->snap.walk;
    uint64_t cluster = qcow2_cluster_size(&s->header);
    uint64_t bytes = block_align_up((uint64_t)k->count * sizeof(uint64_t), cluster);
    int ret = qcow2_co_alloc_table(n, bytes / cluster, run);
    if (ret < 0) {
        return ret;
    }
    *d = (ApplyDisk){.l1_offset = run->host, .size = s->snap.target.disk_size};
    qcow2_table_init(&d->l1, g_new0(uint64_t, k->count), k->count);
    for (uint32_t i = 0; i < k->count; i++) {
        d->l1.entries[i] = k->l1[i] & ~QCOW2_ENTRY_COPIED;
    }
    ret = qcow2_co_write_table(n, &d->l1, run->host);
    if (ret < 0) {
        qcow2_table_free(&d->l1);
        qcow2_co_unalloc(n, run);
    }
    return ret;
}

/* The walk goes on over the old L1 table. */
static RUNS_IN_IOTHREAD void apply_leave(BlockNode *n, ApplyDisk *old)
{
    Qcow2State *s = n->state;
    Qcow2Snap *p = &s->snap;
    qcow2_walk_clear(&p->walk);
    p->walk = (Qcow2Walk){.l1 = old->l1.entries, .count = old->l1.count, .flags = QCOW2_WALK_NONE};
    p->old_l1 = old->l1_offset;
    p->old_l1_bytes = old->l1.count * sizeof(uint64_t);
    old->l1.entries = NULL;
    qcow2_table_free(&old->l1);
}

int qcow2_co_apply_store(BlockNode *n, bool *unsure)
{
    Qcow2State *s = n->state;
    ApplyDisk old = {.l1_offset = s->header.l1_offset, .size = s->header.size}, new_disk;
    Qcow2Run run;
    int ret = qcow2_co_flush(n);
    if (ret == 0) {
        ret = apply_write_l1(n, &new_disk, &run);
    }
    if (ret < 0) {
        return ret;
    }
    old.l1 = s->l1; /* the allocation for the new one may have added to what it owns */
    apply_set_disk(n, &new_disk);
    ret = qcow2_co_flush(n);
    if (ret == 0) {
        apply_leave(n, &old);
        return 0;
    }
    new_disk.l1 = s->l1; /* so may the flush */
    apply_set_disk(n, &old);
    *unsure = qcow2_co_flush(n) < 0;
    qcow2_table_free(&new_disk.l1);
    if (!*unsure) {
        qcow2_co_unalloc(n, &run);
    }
    return ret;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Creating a snapshot.
 *
 *   begin    a flush, so that little is left to be written; the requests go on
 *   switch   drained: a copy of the L1 table in memory, in constant time but for its length
 *   walk     counts of all that the copy reaches are raised; the guest's writes allocate
 *   store    flush; L1 table and snapshot table to new clusters; the header
 */
#include <errno.h>
#include <stdlib.h>
#include "block/qcow2/qcow2_int.h"

/* The largest id that is a number, plus one, as in QEMU. */
static char *create_id(const Qcow2State *s)
{
    unsigned long max = 0;
    for (uint32_t i = 0; i < s->snapshot_count; i++) {
        max = MAX(max, strtoul(s->snapshots[i].id, NULL, 10));
    }
    return g_strdup_printf("%lu", max + 1);
}

int qcow2_co_create_begin(BlockNode *n, const BlockSnapshotOp *op)
{
    Qcow2State *s = n->state;
    Qcow2Snap *p = &s->snap;
    if (s->snapshot_count >= QCOW2_SNAPSHOTS_MAX || strlen(op->info->name) > UINT16_MAX) {
        return -EFBIG;
    }
    p->target = (Qcow2Snapshot){
        .id = create_id(s),
        .name = g_strdup(op->info->name),
        .date_s = op->info->date_s,
        .date_ns = op->info->date_ns,
        .vm_clock_ns = op->info->vm_clock_ns,
        .icount = op->info->icount,
    };
    return qcow2_co_flush(n);
}

void qcow2_create_switch(BlockNode *n)
{
    Qcow2State *s = n->state;
    Qcow2Snap *p = &s->snap;
    p->target.disk_size = s->header.size;
    p->target.l1_size = s->l1.count;
    p->walk = (Qcow2Walk){
        .l1 = g_memdup2(s->l1.entries, s->l1.count * sizeof(uint64_t)),
        .count = s->l1.count,
        .flags = QCOW2_WALK_ACTIVE,
    };
    p->fresh = g_array_new(false, true, sizeof(uint64_t));
}

/* Writes the copy of the L1 table, without flags: they mean nothing there. */
static coroutine_fn RUNS_IN_IOTHREAD int create_write_l1(BlockNode *n, Qcow2Run *run)
{
    Qcow2State *s = n->state;
    const Qcow2Walk *k = &s->snap.walk;
    uint64_t cluster = qcow2_cluster_size(&s->header);
    uint64_t bytes = block_align_up((uint64_t)k->count * sizeof(uint64_t), cluster);
    *run = (Qcow2Run){0};
    if (bytes == 0) {
        return 0;
    }
    for (uint32_t i = 0; i < k->count; i++) {
        k->l1[i] &= ~QCOW2_ENTRY_COPIED;
    }
    int ret = qcow2_co_alloc_table(n, bytes / cluster, run);
    if (ret < 0) {
        return ret;
    }
    Qcow2Table table = {.entries = k->l1, .count = k->count};
    ret = qcow2_co_write_table(n, &table, run->host);
    if (ret < 0) {
        qcow2_co_unalloc(n, run);
    }
    return ret;
}

int qcow2_co_create_store(BlockNode *n, bool *unsure)
{
    Qcow2State *s = n->state;
    Qcow2Snap *p = &s->snap;
    Qcow2Run run;
    int ret = qcow2_co_flush(n);
    if (ret == 0) {
        ret = create_write_l1(n, &run);
    }
    if (ret < 0) {
        return ret;
    }
    p->target.l1_offset = run.host;
    ret = qcow2_co_store_snapshots(n, &p->target, UINT32_MAX, unsure);
    if (ret == 0) {
        p->target = (Qcow2Snapshot){0};
    } else if (!*unsure && run.count > 0) {
        qcow2_co_unalloc(n, &run);
    }
    return ret;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Creating a snapshot.
 *
 *   begin    a flush, so that little is left to be written; the requests go on
 *   switch   drained: a copy of the L1 table in memory, in constant time but for its length
 *   walk     counts of all that the copy reaches are raised; the guest's writes allocate
 *   store    tables of the state area; flush; L1 table and snapshot table to new clusters; the header
 *
 * What the active L1 table has behind the entries of the disk is the state of another snapshot, which
 * QEMU leaves there. It is not copied.
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

int qcow2_co_create_begin(BlockNode *n, const BlockSnapshotOp *op, const char **what)
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
        .vm_state_size = op->info->vm_state_size,
    };
    if (op->info->vm_state_size > 0) {
        int ret = qcow2_area_new(n, op->info->vm_state_size, &p->area);
        if (ret < 0) {
            *what = "the state of the machine is too large for the clusters of the image";
            return ret;
        }
    }
    return qcow2_co_flush(n);
}

void qcow2_create_switch(BlockNode *n)
{
    Qcow2State *s = n->state;
    Qcow2Snap *p = &s->snap;
    uint32_t count =
        (uint32_t)MIN(qcow2_l1_needed(&s->header, s->header.size), (uint64_t)s->l1.count);
    p->target.disk_size = s->header.size;
    p->walk = (Qcow2Walk){
        .l1 = g_memdup2(s->l1.entries, count * sizeof(uint64_t)),
        .count = count,
        .flags = QCOW2_WALK_ACTIVE,
    };
    p->fresh = g_array_new(false, true, sizeof(uint64_t));
}

/* The entries of the disk, and behind them those of the state area, without flags: they mean nothing
 * there. */
static uint64_t *create_l1(const Qcow2State *s, uint32_t *count)
{
    const Qcow2Walk *k = &s->snap.walk;
    const Qcow2Area *a = s->snap.area;
    *count = k->count + (a != NULL ? a->count : 0);
    uint64_t *l1 = g_new(uint64_t, *count);
    for (uint32_t i = 0; i < k->count; i++) {
        l1[i] = k->l1[i] & ~QCOW2_ENTRY_COPIED;
    }
    for (uint32_t i = k->count; i < *count; i++) {
        l1[i] = a->l1[i - k->count];
    }
    return l1;
}

/* Writes the L1 table of the snapshot. */
static coroutine_fn RUNS_IN_IOTHREAD int create_write_l1(BlockNode *n, Qcow2Run *run)
{
    Qcow2State *s = n->state;
    uint64_t cluster = qcow2_cluster_size(&s->header);
    uint32_t count;
    g_autofree uint64_t *l1 = create_l1(s, &count);
    uint64_t bytes = block_align_up((uint64_t)count * sizeof(uint64_t), cluster);
    *run = (Qcow2Run){0};
    s->snap.target.l1_size = count;
    if (bytes == 0) {
        return 0;
    }
    int ret = qcow2_co_alloc_table(n, bytes / cluster, run);
    if (ret < 0) {
        return ret;
    }
    Qcow2Table table = {.entries = l1, .count = count};
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
    int ret = p->area != NULL ? qcow2_co_area_store(p->area) : 0;
    if (ret == 0) {
        ret = qcow2_co_flush(n);
    }
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

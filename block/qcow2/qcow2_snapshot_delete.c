/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deleting a snapshot: first the table without it is on disk, then the counts of all that it reaches
 * are lowered. Requests go on all the time.
 */
#include <errno.h>
#include "block/qcow2/qcow2_int.h"

int qcow2_co_walk_snapshot(BlockNode *n, const Qcow2Snapshot *snap)
{
    Qcow2State *s = n->state;
    uint64_t bytes = snap->l1_size * sizeof(uint64_t);
    g_autofree uint64_t *l1 = g_malloc(bytes);
    int ret = bytes > 0 ? qcow2_co_read_table(n->file, snap->l1_offset, bytes, l1) : 0;
    if (ret < 0) {
        return ret;
    }
    for (uint32_t i = 0; i < snap->l1_size; i++) {
        l1[i] = be64toh(l1[i]);
    }
    s->snap.walk = (Qcow2Walk){.l1 = g_steal_pointer(&l1), .count = snap->l1_size};
    return 0;
}

int qcow2_co_delete_begin(BlockNode *n, const BlockSnapshotOp *op, const char **what)
{
    Qcow2State *s = n->state;
    Qcow2Snap *p = &s->snap;
    const Qcow2Snapshot *snap = qcow2_snapshot_find(s, op->id, op->name);
    bool unsure = false;
    if (snap == NULL) {
        *what = "Can't find the snapshot";
        return -ENOENT;
    }
    if (qcow2_area_is_open(n, snap)) {
        *what = "The state of the machine in the snapshot is being read";
        return -EBUSY;
    }
    uint32_t index = (uint32_t)(snap - s->snapshots);
    p->target = (Qcow2Snapshot){.id = g_strdup(snap->id), .name = g_strdup(snap->name)};
    int ret = qcow2_co_walk_snapshot(n, snap);
    if (ret == 0) {
        ret = qcow2_co_set_dirty(n);
    }
    if (ret == 0) {
        p->walk.flags = QCOW2_WALK_ACTIVE;
        p->old_l1 = snap->l1_offset;
        p->old_l1_bytes = snap->l1_size * sizeof(uint64_t);
        ret = qcow2_co_store_snapshots(n, NULL, index, &unsure);
    }
    if (ret < 0) {
        *what = "Failed to remove snapshot from snapshot list";
    }
    return ret;
}

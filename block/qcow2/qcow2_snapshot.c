/* SPDX-License-Identifier: Apache-2.0 */
/* The table of internal snapshots: read entry by entry, so that a count costs no memory that the
 * file does not have. */
#include <errno.h>
#include "block/qcow2/qcow2_int.h"

void qcow2_snapshot_clear(Qcow2Snapshot *snap)
{
    g_free(snap->id);
    g_free(snap->name);
    g_free(snap->unknown);
    *snap = (Qcow2Snapshot){0};
}

void qcow2_snapshots_free(Qcow2State *s)
{
    for (uint32_t i = 0; i < s->snapshot_count; i++) {
        qcow2_snapshot_clear(&s->snapshots[i]);
    }
    g_clear_pointer(&s->snapshots, g_free);
    s->snapshot_count = 0;
}

static bool snapshot_matches(const Qcow2Snapshot *s, const char *id, const char *name)
{
    return (id == NULL || strcmp(s->id, id) == 0) && (name == NULL || strcmp(s->name, name) == 0);
}

const Qcow2Snapshot *qcow2_snapshot_find(const Qcow2State *s, const char *id, const char *name)
{
    for (uint32_t i = 0; i < s->snapshot_count; i++) {
        if (snapshot_matches(&s->snapshots[i], id, name)) {
            return &s->snapshots[i];
        }
    }
    return NULL;
}

static bool snapshot_refuse(const BlockNode *n, uint32_t index, const char *wrong, GError **error)
{
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN, "%s: qcow2 snapshot table: entry %u %s",
                qcow2_who(n), index, wrong);
    return false;
}

static bool snapshot_check(const BlockNode *n, uint32_t index, const Qcow2DiskSnapshot *d,
                           GError **error)
{
    const Qcow2State *s = n->state;
    uint64_t offset = be64toh(d->l1_table_offset);
    uint64_t l1_bytes = (uint64_t)be32toh(d->l1_size) * sizeof(uint64_t);
    uint64_t size = block_node_size(n->file);
    if (be32toh(d->extra_data_size) > QCOW2_SNAPSHOT_EXTRA_MAX) {
        return snapshot_refuse(n, index, "has an extra_data_size above 1024", error);
    }
    if (l1_bytes > QCOW2_L1_BYTES_MAX) {
        return snapshot_refuse(n, index, "has an l1_size that is too large", error);
    }
    if (!block_is_aligned(offset, qcow2_cluster_size(&s->header))) {
        return snapshot_refuse(n, index, "has an l1_table_offset that is not a cluster's", error);
    }
    if (l1_bytes > 0 && (offset > size || l1_bytes > size - offset)) {
        return snapshot_refuse(n, index, "has an L1 table that ends beyond the end of the file",
                               error);
    }
    return true;
}

void qcow2_snapshot_decode(const Qcow2DiskSnapshot *d, const uint8_t *rest, uint64_t disk_size,
                           Qcow2Snapshot *snap)
{
    uint32_t extra = be32toh(d->extra_data_size);
    uint16_t id_size = be16toh(d->id_size), name_size = be16toh(d->name_size);
    *snap = (Qcow2Snapshot){
        .l1_offset = be64toh(d->l1_table_offset),
        .l1_size = be32toh(d->l1_size),
        .vm_state_size = be32toh(d->vm_state_size),
        .disk_size = disk_size,
        .date_s = be32toh(d->date_seconds),
        .date_ns = be32toh(d->date_nanoseconds),
        .vm_clock_ns = be64toh(d->vm_clock_ns),
        .icount = UINT64_MAX,
        .id = g_strndup((const char *)rest + extra, id_size),
        .name = g_strndup((const char *)rest + extra + id_size, name_size),
    };
    if (extra >= offsetof(Qcow2DiskSnapshotExtra, disk_size)) {
        snap->vm_state_size = qcow2_get64(rest);
    }
    if (extra >= offsetof(Qcow2DiskSnapshotExtra, icount)) {
        snap->disk_size = qcow2_get64(rest + offsetof(Qcow2DiskSnapshotExtra, disk_size));
    }
    if (extra >= sizeof(Qcow2DiskSnapshotExtra)) {
        snap->icount = qcow2_get64(rest + offsetof(Qcow2DiskSnapshotExtra, icount));
        snap->unknown_size = extra - (uint32_t)sizeof(Qcow2DiskSnapshotExtra);
        snap->unknown = g_memdup2(rest + sizeof(Qcow2DiskSnapshotExtra), snap->unknown_size);
    }
}

/* Reads the entry at *@at and moves *@at behind it. */
static coroutine_fn RUNS_IN_IOTHREAD bool snapshot_load(BlockNode *n, uint32_t index, uint64_t *at,
                                                        GError **error)
{
    Qcow2State *s = n->state;
    Qcow2DiskSnapshot d;
    int ret = qcow2_co_read_table(n->file, *at, sizeof(d), &d);
    if (ret < 0) {
        return snapshot_refuse(n, index, "cannot be read, or lies beyond the end of the file",
                               error);
    }
    if (!snapshot_check(n, index, &d, error)) {
        return false;
    }
    uint64_t rest_size =
        (uint64_t)be32toh(d.extra_data_size) + be16toh(d.id_size) + be16toh(d.name_size);
    g_autofree uint8_t *rest = g_malloc(rest_size + 1);
    if (rest_size > 0 && qcow2_co_read_table(n->file, *at + sizeof(d), rest_size, rest) < 0) {
        return snapshot_refuse(n, index, "ends beyond the end of the file", error);
    }
    qcow2_snapshot_decode(&d, rest, s->header.size, &s->snapshots[s->snapshot_count++]);
    *at += (sizeof(d) + rest_size + 7) / 8 * 8;
    return true;
}

bool qcow2_co_load_snapshots(BlockNode *n, GError **error)
{
    Qcow2State *s = n->state;
    uint64_t at = s->header.snapshots_offset;
    s->snapshots = g_new0(Qcow2Snapshot, s->header.snapshots);
    for (uint32_t i = 0; i < s->header.snapshots; i++) {
        if (!snapshot_load(n, i, &at, error)) {
            qcow2_snapshots_free(s);
            return false;
        }
        if (at - s->header.snapshots_offset > QCOW2_SNAPSHOT_TABLE_MAX) {
            qcow2_snapshots_free(s);
            return snapshot_refuse(n, i, "is beyond the largest supported table, 64 MiB", error);
        }
    }
    s->snapshot_bytes = at - s->header.snapshots_offset;
    return true;
}

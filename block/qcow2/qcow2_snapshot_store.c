/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing the snapshot table: always a new one, at a new place. The header, which a commit writes
 * after everything else is on disk, leads to the new table; then the old one is freed.
 */
#include <errno.h>
#include "block/qcow2/qcow2_int.h"

/* ---- the table as on disk ---- */

uint64_t qcow2_snapshot_length(const Qcow2Snapshot *snap)
{
    uint64_t size = sizeof(Qcow2DiskSnapshot) + sizeof(Qcow2DiskSnapshotExtra) +
                    snap->unknown_size + strlen(snap->id) + strlen(snap->name);
    return (size + 7) / 8 * 8;
}

static uint8_t *store_append(uint8_t *at, const void *bytes, size_t length)
{
    if (length > 0) {
        memcpy(at, bytes, length);
    }
    return at + length;
}

uint8_t *qcow2_snapshot_encode(uint8_t *at, const Qcow2Snapshot *snap)
{
    size_t id_size = strlen(snap->id), name_size = strlen(snap->name);
    Qcow2DiskSnapshot d = {
        .l1_table_offset = htobe64(snap->l1_offset),
        .l1_size = htobe32(snap->l1_size),
        .id_size = htobe16((uint16_t)id_size),
        .name_size = htobe16((uint16_t)name_size),
        .date_seconds = htobe32(snap->date_s),
        .date_nanoseconds = htobe32(snap->date_ns),
        .vm_clock_ns = htobe64(snap->vm_clock_ns),
        .vm_state_size =
            htobe32(snap->vm_state_size > UINT32_MAX ? 0 : (uint32_t)snap->vm_state_size),
        .extra_data_size = htobe32((uint32_t)sizeof(Qcow2DiskSnapshotExtra) + snap->unknown_size),
    };
    Qcow2DiskSnapshotExtra e = {
        .vm_state_size = htobe64(snap->vm_state_size),
        .disk_size = htobe64(snap->disk_size),
        .icount = htobe64(snap->icount),
    };
    uint8_t *start = at;
    at = store_append(at, &d, sizeof(d));
    at = store_append(at, &e, sizeof(e));
    at = store_append(at, snap->unknown, snap->unknown_size);
    at = store_append(at, snap->id, id_size);
    store_append(at, snap->name, name_size);
    return start + qcow2_snapshot_length(snap);
}

/* Writes the snapshots of @list to new clusters. The run is empty if there are none. */
static coroutine_fn RUNS_IN_IOTHREAD int store_write(BlockNode *n, const GPtrArray *list,
                                                     Qcow2Run *run)
{
    const Qcow2State *s = n->state;
    uint64_t bytes = 0, cluster = qcow2_cluster_size(&s->header);
    for (unsigned i = 0; i < list->len; i++) {
        bytes += qcow2_snapshot_length(list->pdata[i]);
    }
    *run = (Qcow2Run){0};
    if (bytes == 0) {
        return 0;
    }
    if (bytes > QCOW2_SNAPSHOT_TABLE_MAX) {
        return -EFBIG;
    }
    bytes = block_align_up(bytes, cluster);
    int ret = qcow2_co_alloc_table(n, bytes / cluster, run);
    if (ret < 0) {
        return ret;
    }
    g_autofree uint8_t *buffer = g_malloc0(bytes), *at = buffer;
    for (unsigned i = 0; i < list->len; i++) {
        at = qcow2_snapshot_encode(at, list->pdata[i]);
    }
    at = NULL;
    struct iovec iov = {buffer, bytes};
    ret = block_node_co_pwritev(n->file, run->host, bytes, &iov, 1, 0);
    if (ret < 0) {
        qcow2_co_unalloc(n, run);
    }
    return ret;
}

/* ---- the switch ---- */

typedef struct StorePlace {
    uint32_t count;
    uint64_t offset;
} StorePlace;

static RUNS_IN_IOTHREAD void store_set_place(BlockNode *n, StorePlace place)
{
    Qcow2State *s = n->state;
    s->header.snapshots = place.count;
    s->header.snapshots_offset = place.offset;
    s->w.header_dirty = true;
    s->w.data_written = true; /* the table is to be flushed before the header */
}

/* Makes the header lead to the new table. If that fails, it leads to the old one again, unless that
 * fails too. */
static coroutine_fn RUNS_IN_IOTHREAD int store_switch(BlockNode *n, StorePlace place, bool *unsure)
{
    const Qcow2State *s = n->state;
    StorePlace old = {s->header.snapshots, s->header.snapshots_offset};
    store_set_place(n, place);
    int ret = qcow2_co_flush(n);
    if (ret < 0) {
        store_set_place(n, old);
        *unsure = qcow2_co_flush(n) < 0;
    }
    return ret;
}

/* Takes over the new list in memory. */
static RUNS_IN_IOTHREAD void store_take(Qcow2State *s, const Qcow2Snapshot *add, uint32_t leave)
{
    if (leave != UINT32_MAX) {
        qcow2_snapshot_clear(&s->snapshots[leave]);
        memmove(&s->snapshots[leave], &s->snapshots[leave + 1],
                (s->snapshot_count - leave - 1) * sizeof(s->snapshots[0]));
        s->snapshot_count--;
    }
    if (add != NULL) {
        s->snapshots = g_renew(Qcow2Snapshot, s->snapshots, s->snapshot_count + 1);
        s->snapshots[s->snapshot_count++] = *add;
    }
    s->snapshot_bytes = 0;
    for (uint32_t i = 0; i < s->snapshot_count; i++) {
        s->snapshot_bytes += qcow2_snapshot_length(&s->snapshots[i]);
    }
}

int qcow2_co_store_snapshots(BlockNode *n, const Qcow2Snapshot *add, uint32_t leave, bool *unsure)
{
    Qcow2State *s = n->state;
    g_autoptr(GPtrArray) list = g_ptr_array_new();
    uint64_t old = s->header.snapshots_offset, old_bytes = s->snapshot_bytes;
    Qcow2Run run;
    for (uint32_t i = 0; i < s->snapshot_count; i++) {
        if (i != leave) {
            g_ptr_array_add(list, &s->snapshots[i]);
        }
    }
    if (add != NULL) {
        g_ptr_array_add(list, (gpointer)(uintptr_t)add);
    }
    int ret = store_write(n, list, &run);
    if (ret < 0) {
        return ret;
    }
    ret = store_switch(n, (StorePlace){list->len, run.host}, unsure);
    if (ret < 0) {
        if (!*unsure && run.count > 0) {
            qcow2_co_unalloc(n, &run);
        }
        return ret;
    }
    store_take(s, add, leave);
    qcow2_publish_info(n);
    if (old_bytes > 0) {
        qcow2_free_later(n, old, old_bytes, true);
    }
    return 0;
}

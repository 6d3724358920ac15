/* SPDX-License-Identifier: Apache-2.0 */
/* The snapshot table, and references from the L1 tables of snapshots. */
#include <errno.h>
#include "block/qcow2/qcow2_check_int.h"

/* An entry of the table, and where the next one begins. */
typedef struct SnapshotsEntry {
    Qcow2DiskSnapshot disk;
    uint64_t end;
    char *id, *name; /* owned */
} SnapshotsEntry;

static RUNS_IN_IOTHREAD int snapshots_refuse(Qcow2Check *c, uint32_t index, const char *wrong)
{
    qcow2_check_report(c, "ERROR failed to read the snapshot table: entry %u %s", index, wrong);
    c->result->check_errors++;
    return -EINVAL;
}

static coroutine_fn RUNS_IN_IOTHREAD int snapshots_read(Qcow2Check *c, uint32_t index, uint64_t at,
                                                        SnapshotsEntry *e)
{
    if (at > c->file_size || c->file_size - at < sizeof(e->disk)) {
        return snapshots_refuse(c, index, "lies beyond the end of the file");
    }
    int ret = qcow2_check_co_read(c, at, sizeof(e->disk), &e->disk);
    if (ret < 0) {
        snapshots_refuse(c, index, g_strerror(-ret));
        return ret;
    }
    uint32_t extra = be32toh(e->disk.extra_data_size);
    uint64_t id_size = be16toh(e->disk.id_size), name_size = be16toh(e->disk.name_size);
    at += sizeof(e->disk);
    if (extra > QCOW2_SNAPSHOT_EXTRA_MAX) {
        return snapshots_refuse(c, index, "has an extra_data_size above 1024");
    }
    if (extra + id_size + name_size > c->file_size - at) {
        return snapshots_refuse(c, index, "ends beyond the end of the file");
    }
    g_autofree uint8_t *texts = g_malloc(id_size + name_size + 1);
    ret = qcow2_check_co_read(c, at + extra, id_size + name_size, texts);
    if (ret < 0) {
        snapshots_refuse(c, index, g_strerror(-ret));
        return ret;
    }
    e->id = g_strndup((const char *)texts, id_size);
    e->name = g_strndup((const char *)texts + id_size, name_size);
    e->end = (at + extra + id_size + name_size + 7) / 8 * 8;
    return 0;
}

/* Adds the L1 table to @tables if it can be used. */
static RUNS_IN_IOTHREAD void snapshots_take(Qcow2Check *c, uint32_t index, const SnapshotsEntry *e,
                                            GArray *tables)
{
    uint32_t size = be32toh(e->disk.l1_size);
    Qcow2CheckPart table = {.offset = be64toh(e->disk.l1_table_offset),
                            .bytes = (uint64_t)size * sizeof(uint64_t)};
    if (c->header.version >= 3 &&
        be32toh(e->disk.extra_data_size) < offsetof(Qcow2DiskSnapshotExtra, icount)) {
        bool fix = (c->request->fix & QCOW2_FIX_ERRORS) != 0;
        qcow2_check_report(c, "%s snapshot table entry %u is incomplete",
                           fix ? "Repairing" : "ERROR", index);
        c->incomplete_snapshots++;
        c->result->corruptions += !fix; /* else counted when the table is written */
    }
    g_autofree char *id = opt_excerpt(e->id), *name = opt_excerpt(e->name);
    if (!block_is_aligned(table.offset, c->cluster_size)) {
        qcow2_check_report(c,
                           "ERROR snapshot %s (%s) l1_offset=%#" PRIx64
                           ": L1 table is not cluster aligned; snapshot table entry corrupted",
                           id, name, table.offset);
        c->result->corruptions++;
    } else if (table.bytes > QCOW2_L1_BYTES_MAX) {
        qcow2_check_report(c,
                           "ERROR snapshot %s (%s) l1_size=%#" PRIx32
                           ": L1 table is too large; snapshot table entry corrupted",
                           id, name, size);
        c->result->corruptions++;
    } else {
        g_array_append_val(tables, table);
    }
}

int qcow2_check_co_snapshots(Qcow2Check *c)
{
    g_autoptr(GArray) tables = g_array_new(false, false, sizeof(Qcow2CheckPart));
    uint64_t at = c->header.snapshots_offset;
    c->incomplete_snapshots = 0;
    if (qcow2_has_data_file(&c->header) && c->header.snapshots > 0) {
        qcow2_check_report(c, "ERROR %u snapshots in image with data file", c->header.snapshots);
        c->result->corruptions++;
    }
    for (uint32_t i = 0; i < c->header.snapshots; i++) {
        SnapshotsEntry e = {0};
        int ret = snapshots_read(c, i, at, &e);
        if (ret == 0) {
            snapshots_take(c, i, &e, tables);
            at = e.end;
        }
        if (ret == 0 && at - c->header.snapshots_offset > QCOW2_SNAPSHOT_TABLE_MAX) {
            ret = snapshots_refuse(c, i, "is beyond the largest supported table, 64 MiB");
        }
        g_free(e.id);
        g_free(e.name);
        if (ret < 0) {
            return ret;
        }
    }
    int ret = qcow2_check_co_tables(c, tables, qcow2_check_co_snapshot_l1);
    if (ret == 0) {
        ret = qcow2_check_mark_metadata(c, c->header.snapshots_offset,
                                        at - c->header.snapshots_offset);
    }
    return ret == 0 ? qcow2_check_count(c, c->header.snapshots_offset,
                                        at - c->header.snapshots_offset, 1)
                    : ret;
}

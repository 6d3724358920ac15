/* SPDX-License-Identifier: Apache-2.0 */
/* A read-only node shows the disk as an internal snapshot has it: the L1 table is the snapshot's. */
#include "block/qcow2/qcow2_int.h"

/* L1 entries for the snapshot's disk. 0: it is too large. */
static uint64_t view_entries(const Qcow2State *s, const Qcow2Snapshot *snap)
{
    uint64_t entries = snap->disk_size / qcow2_table_covers(&s->header) + 1;
    bool fits = snap->disk_size <= BLOCK_SIZE_MAX && snap->l1_size <= QCOW2_L1_BYTES_MAX / 8 &&
                entries <= QCOW2_L1_BYTES_MAX / 8 + 1;
    return fits ? MAX(entries, snap->l1_size) : 0;
}

bool qcow2_co_view_snapshot(BlockNode *n, const char *id, const char *name, GError **error)
{
    Qcow2State *s = n->state;
    const Qcow2Snapshot *snap = qcow2_snapshot_find(s, id, name);
    if (snap == NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, "Can't find snapshot");
        return false;
    }
    uint64_t entries = view_entries(s, snap);
    if (entries == 0) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN,
                    "%s: the disk of snapshot '%s' is too large", qcow2_who(n), snap->name);
        return false;
    }
    g_autofree uint64_t *l1 = g_new0(uint64_t, entries); /* what the table lacks is unallocated */
    int ret = snap->l1_size > 0 ? qcow2_co_read_table(n->file, snap->l1_offset,
                                                      snap->l1_size * sizeof(uint64_t), l1)
                                : 0;
    if (ret < 0) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN,
                    "%s: reading the L1 table of snapshot '%s': %s", qcow2_who(n), snap->name,
                    g_strerror(-ret));
        return false;
    }
    qcow2_table_free(&s->l1);
    qcow2_table_init(&s->l1, g_steal_pointer(&l1), (uint32_t)entries);
    atomic_store(&n->size, block_align_down(snap->disk_size, BLOCK_SECTOR_SIZE));
    return true;
}

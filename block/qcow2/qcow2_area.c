/* SPDX-License-Identifier: Apache-2.0 */
/* State areas and their tables: qcow2_area.h. */
#include <errno.h>
#include "block/qcow2/qcow2_int.h"

#define AREA_SLICE 4096u                   /* of a table, at most */
#define AREA_CACHE_MAX ((uint64_t)1 << 20) /* bytes: enough for 8 GiB with clusters of 64 KiB */
#define AREA_CACHE_SLICES 32u              /* at least */

/* ---- life ---- */

static Qcow2Area *area_alloc(BlockNode *n, uint64_t size, uint32_t count)
{
    const Qcow2State *s = n->state;
    uint64_t cluster = qcow2_cluster_size(&s->header);
    size_t slice = MIN(cluster, AREA_SLICE);
    uint64_t bytes = CLAMP(count * cluster, AREA_CACHE_SLICES * slice, AREA_CACHE_MAX);
    Qcow2Area *a = g_new0(Qcow2Area, 1);
    a->image = n;
    a->size = size;
    a->count = count;
    a->l1 = g_new0(uint64_t, count);
    a->refs = 1;
    qcow2_cache_init(&a->tables, bytes, slice, cluster, false);
    co_queue_init(&a->waiters);
    return a;
}

int qcow2_area_new(BlockNode *n, uint64_t size, Qcow2Area **area)
{
    const Qcow2State *s = n->state;
    uint64_t most = QCOW2_L1_BYTES_MAX / sizeof(uint64_t);
    uint64_t disk = qcow2_l1_needed(&s->header, s->header.size);
    if (size > BLOCK_SIZE_MAX) {
        return -EFBIG;
    }
    size = block_align_up(size, BLOCK_SECTOR_SIZE);
    uint64_t count = qcow2_l1_needed(&s->header, size);
    if (disk > most || count > most - disk) {
        return -EFBIG;
    }
    *area = area_alloc(n, size, (uint32_t)count);
    return 0;
}

void qcow2_area_ref(Qcow2Area *a)
{
    a->refs++;
}

static RUNS_IN_IOTHREAD void area_unlist(Qcow2Area *a)
{
    Qcow2Area **link = &((Qcow2State *)a->image->state)->areas;
    while (*link != NULL && *link != a) {
        link = &(*link)->next;
    }
    if (*link != NULL) {
        *link = a->next;
    }
}

void qcow2_area_unref(Qcow2Area *a)
{
    if (a == NULL || --a->refs > 0) {
        return;
    }
    area_unlist(a);
    qcow2_cache_destroy(&a->tables);
    g_free(a->l1);
    g_free(a->id);
    g_free(a->name);
    g_free(a);
}

/* ---- areas of snapshots in the image ---- */

/* Reads the entries of the snapshot's L1 table from number @first on. */
static coroutine_fn RUNS_IN_IOTHREAD int area_read_l1(Qcow2Area *a, uint64_t table, uint64_t first)
{
    uint64_t bytes = a->count * sizeof(uint64_t);
    int ret = bytes > 0 ? qcow2_co_read_table(a->image->file, table + first * sizeof(uint64_t),
                                              bytes, a->l1)
                        : 0;
    for (uint32_t i = 0; i < a->count && ret == 0; i++) {
        a->l1[i] = be64toh(a->l1[i]) & ~QCOW2_ENTRY_COPIED;
    }
    return ret;
}

/* A snapshot that is being deleted is in the list until the table without it is on disk. */
static RUNS_IN_IOTHREAD bool area_is_going(const Qcow2State *s, const Qcow2Snapshot *snap)
{
    const Qcow2Snap *p = &s->snap;
    return p->state != QCOW2_SNAP_IDLE && p->kind == BLOCK_SNAPSHOT_DELETE &&
           p->target.id != NULL && strcmp(p->target.id, snap->id) == 0 &&
           strcmp(p->target.name, snap->name) == 0;
}

Qcow2Area *qcow2_co_area_open(BlockNode *n, const Qcow2Snapshot *snap, GError **error)
{
    Qcow2State *s = n->state;
    uint64_t size = snap->vm_state_size, table = snap->l1_offset;
    uint64_t first = MIN(qcow2_l1_needed(&s->header, snap->disk_size), snap->l1_size);
    const char *wrong = size == 0                ? "has no state of a machine"
                        : size > BLOCK_SIZE_MAX  ? "has a state of a machine of an invalid size"
                        : area_is_going(s, snap) ? "is being deleted"
                                                 : NULL;
    if (wrong != NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, "%s: snapshot '%s' %s", qcow2_who(n),
                    snap->name, wrong);
        return NULL;
    }
    size = block_align_up(size, BLOCK_SECTOR_SIZE);
    uint64_t count = MIN(qcow2_l1_needed(&s->header, size), snap->l1_size - first);
    Qcow2Area *a = area_alloc(n, size, (uint32_t)count);
    a->id = g_strdup(snap->id);
    a->name = g_strdup(snap->name);
    a->next = s->areas;
    s->areas = a; /* from now on the snapshot is not deleted */
    int ret = area_read_l1(a, table, first);
    if (ret < 0) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN,
                    "%s: reading the L1 table of snapshot '%s': %s", qcow2_who(n), a->name,
                    g_strerror(-ret));
        qcow2_area_unref(a);
        return NULL;
    }
    return a;
}

bool qcow2_area_is_open(const BlockNode *n, const Qcow2Snapshot *snap)
{
    const Qcow2State *s = n->state;
    const Qcow2Area *a = s->areas;
    while (a != NULL && (strcmp(a->id, snap->id) != 0 || strcmp(a->name, snap->name) != 0)) {
        a = a->next;
    }
    return a != NULL;
}

/* ---- requests ---- */

int qcow2_area_begin(Qcow2Area *a)
{
    if (a->sealed) {
        return -ECANCELED;
    }
    a->requests++;
    return 0;
}

void qcow2_area_end(Qcow2Area *a)
{
    if (--a->requests == 0) {
        co_queue_wake_all(&a->waiters);
    }
}

void qcow2_co_area_seal(Qcow2Area *a)
{
    a->sealed = true;
    while (a->requests > 0) {
        co_queue_wait(&a->waiters, "requests to the state area of a snapshot");
    }
}

/* ---- tables ---- */

static uint64_t area_index(const Qcow2Area *a, uint64_t offset)
{
    const Qcow2State *s = a->image->state;
    return offset / qcow2_table_covers(&s->header);
}

uint64_t qcow2_area_slice_covers(const Qcow2Area *a)
{
    const Qcow2State *s = a->image->state;
    return a->tables.slice_size / qcow2_l2_entry_length(&s->header) << s->header.cluster_bits;
}

bool qcow2_area_has_table(const Qcow2Area *a, uint64_t offset)
{
    return a->l1[area_index(a, offset)] != 0;
}

static coroutine_fn RUNS_IN_IOTHREAD int area_add(Qcow2Area *a, uint64_t index)
{
    Qcow2Run run;
    int ret = qcow2_co_alloc_table(a->image, 1, &run);
    if (ret < 0) {
        return ret;
    }
    ret = qcow2_co_write_zero_table(a->image, run.host);
    if (ret < 0) {
        qcow2_co_unalloc(a->image, &run);
        return ret;
    }
    a->l1[index] = run.host;
    return 0;
}

int qcow2_co_area_add_table(Qcow2Area *a, uint64_t offset)
{
    uint64_t index = area_index(a, offset);
    int ret = 0;
    while (a->l1[index] == 0 && ret == 0) {
        if (a->adding) {
            co_queue_wait(&a->waiters, "a new L2 table of a state area");
            continue;
        }
        a->adding = true;
        ret = area_add(a, index);
        a->adding = false;
        co_queue_wake_all(&a->waiters);
    }
    return ret;
}

int qcow2_co_area_get(Qcow2Area *a, uint64_t offset, Qcow2Slice **slice, uint64_t *index)
{
    const Qcow2State *s = a->image->state;
    uint64_t entry_length = qcow2_l2_entry_length(&s->header);
    uint64_t entries = qcow2_cluster_size(&s->header) / entry_length;
    uint64_t at = (offset >> s->header.cluster_bits) % entries * entry_length;
    *index = at % a->tables.slice_size / entry_length;
    return qcow2_cache_co_get(
        &a->tables, a->image->file,
        a->l1[area_index(a, offset)] + block_align_down(at, a->tables.slice_size), slice);
}

int qcow2_co_area_store(Qcow2Area *a)
{
    Qcow2State *s = a->image->state;
    qcow2_cache_co_settle(&a->tables);
    GArray *copies = qcow2_cache_capture(&a->tables);
    int ret = qcow2_cache_co_write(&a->tables, a->image->file, copies);
    qcow2_cache_release(&a->tables, copies, ret == 0);
    s->w.data_written = true; /* what refers to them is flushed later */
    return ret;
}

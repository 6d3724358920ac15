/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/snapshot/snapshot_disks.h"

#include <string.h>
#include "block/graph.h"
#include "util/log.h"
#include "vmm/snapshot/machine_disks.h"

static bool disks_contain(const SnapshotDisks *d, const BlockNode *n)
{
    for (unsigned i = 0; i < d->count; i++) {
        if (d->nodes[i] == n) {
            return true;
        }
    }
    return false;
}

static bool disks_refuse(GError **error, const char *format, const char *name)
{
    g_autofree char *message = g_strdup_printf(format, name);
    g_set_error_literal(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, message);
    return false;
}

static RUNS_IN_MAIN bool disks_add(SnapshotDisks *d, const char *name, GError **error)
{
    BlockNode *n = block_node_find(name);
    if (n == NULL) {
        return disks_refuse(error, "No block device node '%s'", name);
    }
    if (block_node_read_only(n)) {
        return disks_refuse(error, "Device '%s' is read only", name);
    }
    if (!block_node_can_snapshot(n)) {
        return disks_refuse(error, "Device '%s' is writable but does not support snapshots", name);
    }
    if (!disks_contain(d, n)) {
        d->nodes[d->count++] = n;
    }
    return true;
}

static RUNS_IN_MAIN bool disks_choose(SnapshotDisks *d, const char *state, GError **error)
{
    d->state = block_node_find(state);
    if (d->state == NULL || !disks_contain(d, d->state)) {
        return disks_refuse(error, "vmstate block device '%s' does not exist", state);
    }
    return true;
}

SnapshotDisks *snapshot_disks_find(const char *const *names, const char *state, GError **error)
{
    unsigned max = g_strv_length((char **)(uintptr_t)names);
    g_autofree SnapshotDisks *d = g_malloc0(sizeof(*d) + max * sizeof(BlockNode *));
    for (unsigned i = 0; i < max; i++) {
        if (!disks_add(d, names[i], error)) {
            return NULL;
        }
    }
    if (d->count == 0) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, "No block device can accept snapshots");
        return NULL;
    }
    return state == NULL || disks_choose(d, state, error) ? g_steal_pointer(&d) : NULL;
}

char **snapshot_disks_all(void)
{
    unsigned count;
    g_autofree BlockBackend **list = blk_list_drives(&count);
    GPtrArray *names = g_ptr_array_new();
    for (unsigned i = 0; i < count; i++) {
        const BlockNode *n = block_node_below_jobs(blk_root(list[i]));
        if (!block_node_read_only(n)) {
            g_ptr_array_add(names, g_strdup(block_node_name(n)));
        }
    }
    g_ptr_array_add(names, NULL);
    return (char **)g_ptr_array_free(names, false);
}

BlockNode *snapshot_disks_largest(const SnapshotDisks *d)
{
    BlockNode *largest = d->nodes[0];
    for (unsigned i = 1; i < d->count; i++) {
        if (block_node_size(d->nodes[i]) > block_node_size(largest)) {
            largest = d->nodes[i];
        }
    }
    return largest;
}

const BlockSnapshotInfo *snapshot_disk_has(BlockNode *n, const char *tag)
{
    const BlockImageInfo *info = block_node_image_info(n);
    return info != NULL ? block_image_find_snapshot(info, NULL, tag) : NULL;
}

unsigned snapshot_disks_having(const SnapshotDisks *d, const char *tag)
{
    unsigned having = 0;
    for (unsigned i = 0; i < d->count; i++) {
        having += snapshot_disk_has(d->nodes[i], tag) != NULL;
    }
    return having;
}

/* Whether one save has made both. */
static bool disks_same_save(const BlockSnapshotInfo *a, const BlockSnapshotInfo *b)
{
    return strcmp(a->name, b->name) == 0 && a->date_s == b->date_s && a->date_ns == b->date_ns &&
           a->vm_clock_ns == b->vm_clock_ns;
}

/* The ids of the snapshots that the save of @of has made in all nodes; NULL: one has none. */
static RUNS_IN_MAIN char **disks_set_of(const SnapshotDisks *d, const BlockSnapshotInfo *of)
{
    g_auto(GStrv) ids = g_new0(char *, d->count + 1);
    for (unsigned i = 0; i < d->count; i++) {
        const BlockImageInfo *info = block_node_image_info(d->nodes[i]);
        for (unsigned k = 0; info != NULL && k < info->snapshot_count && ids[i] == NULL; k++) {
            if (disks_same_save(&info->snapshots[k], of)) {
                ids[i] = g_strdup(info->snapshots[k].id);
            }
        }
        if (ids[i] == NULL) {
            return NULL;
        }
    }
    return g_steal_pointer(&ids);
}

/* The newest set whose state is in @n. */
static RUNS_IN_MAIN char **disks_set_in(const SnapshotDisks *d, BlockNode *n, const char *tag)
{
    const BlockImageInfo *info = block_node_image_info(n);
    char **ids = NULL;
    for (unsigned k = info != NULL ? info->snapshot_count : 0; k-- > 0 && ids == NULL;) {
        const BlockSnapshotInfo *s = &info->snapshots[k];
        if (strcmp(s->name, tag) == 0 && s->vm_state_size > 0) {
            ids = disks_set_of(d, s);
        }
    }
    return ids;
}

char **snapshot_disks_find_set(SnapshotDisks *d, const char *tag, GError **error)
{
    for (unsigned i = 0; i < d->count; i++) {
        BlockNode *n = d->nodes[i];
        char **ids = d->state == NULL || d->state == n ? disks_set_in(d, n, tag) : NULL;
        if (ids != NULL) {
            d->state = n;
            return ids;
        }
    }
    if (snapshot_disks_having(d, tag) < d->count) {
        disks_refuse(error, "Snapshot '%s' does not exist in one or more devices", tag);
    } else {
        disks_refuse(error,
                     "Snapshot '%s' has no machine's state for all of these disks; 'skiff-img "
                     "snapshot -a' makes one disk as it was",
                     tag);
    }
    return NULL;
}

void snapshot_disks_warn_of_temporary(const SnapshotDisks *d, Backends *b, const char *tag)
{
    g_autofree char *names = machine_disks_temporary_of(b, d->nodes, d->count);
    if (names != NULL) {
        log_warn("snapshot-save: snapshot '%s' of disk %s is in a temporary file: it can be loaded "
                 "until skiff ends, and is lost then",
                 tag, names);
    }
}

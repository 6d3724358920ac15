/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/snapshot/snapshot_older.h"

#include <string.h>
#include "util/log.h"
#include "vmm/snapshot/snapshot_job_int.h"

typedef struct OlderSnapshot {
    char *node, *id;
} OlderSnapshot;

static void older_free(void *opaque)
{
    OlderSnapshot *o = opaque;
    g_free(o->node);
    g_free(o->id);
    g_free(o);
}

GPtrArray *snapshot_older_new(void)
{
    return g_ptr_array_new_with_free_func(older_free);
}

static bool older_has(const GPtrArray *older, const char *node, const char *id)
{
    for (unsigned i = 0; i < older->len; i++) {
        const OlderSnapshot *o = older->pdata[i];
        if (strcmp(o->node, node) == 0 && strcmp(o->id, id) == 0) {
            return true;
        }
    }
    return false;
}

void snapshot_older_note(GPtrArray *older, BlockNode *n, const char *tag)
{
    const BlockImageInfo *info = block_node_image_info(n);
    for (unsigned i = 0; info != NULL && i < info->snapshot_count; i++) {
        if (strcmp(info->snapshots[i].name, tag) == 0) {
            OlderSnapshot *o = g_new(OlderSnapshot, 1);
            *o = (OlderSnapshot){g_strdup(block_node_name(n)), g_strdup(info->snapshots[i].id)};
            g_ptr_array_add(older, o);
        }
    }
}

void snapshot_older_co_delete(const GPtrArray *older, Vm *vm, const char *tag)
{
    for (unsigned i = 0; i < older->len; i++) {
        const OlderSnapshot *o = older->pdata[i];
        g_autoptr(GError) error = NULL;
        if (!snapshot_co_delete_one(vm, o->node, o->id, &error)) {
            log_warn("snapshot-save: the older snapshot '%s' of '%s' remains: %s", tag, o->node,
                     error->message);
        }
    }
}

void snapshot_older_co_delete_others(const GPtrArray *older, Vm *vm, const char *node,
                                     const char *tag)
{
    g_autofree char *id = NULL;
    BlockNode *n = block_node_find(node);
    const BlockImageInfo *info = n != NULL ? block_node_image_info(n) : NULL;
    for (unsigned i = 0; info != NULL && i < info->snapshot_count && id == NULL; i++) {
        const BlockSnapshotInfo *found = &info->snapshots[i];
        if (strcmp(found->name, tag) == 0 && !older_has(older, node, found->id)) {
            id = g_strdup(found->id);
        }
    }
    g_autoptr(GError) error = NULL;
    if (id != NULL && !snapshot_co_delete_one(vm, node, id, &error)) {
        log_warn(
            "snapshot-save: snapshot '%s' of '%s', which has no state of the machine, remains: "
            "%s",
            tag, node, error->message);
    }
}

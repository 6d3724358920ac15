/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include "util/log.h"
#include "vmm/snapshot/snapshot_job_int.h"

typedef struct OlderSnapshot {
    char *node, *id;
} OlderSnapshot;

struct SnapshotOlder {
    char *tag;
    GArray *list; /* of OlderSnapshot */
};

static void older_clear(void *opaque)
{
    OlderSnapshot *s = opaque;
    g_free(s->node);
    g_free(s->id);
}

SnapshotOlder *snapshot_older_new(const char *tag)
{
    SnapshotOlder *o = g_new(SnapshotOlder, 1);
    *o = (SnapshotOlder){g_strdup(tag), g_array_new(false, false, sizeof(OlderSnapshot))};
    g_array_set_clear_func(o->list, older_clear);
    return o;
}

void snapshot_older_free(SnapshotOlder *o)
{
    g_array_unref(o->list);
    g_free(o->tag);
    g_free(o);
}

void snapshot_older_note(SnapshotOlder *o, BlockNode *n)
{
    const BlockImageInfo *info = block_node_image_info(n);
    for (unsigned i = 0; info != NULL && i < info->snapshot_count; i++) {
        if (strcmp(info->snapshots[i].name, o->tag) == 0) {
            OlderSnapshot s = {g_strdup(block_node_name(n)), g_strdup(info->snapshots[i].id)};
            g_array_append_val(o->list, s);
        }
    }
}

static bool older_has(const SnapshotOlder *o, const char *node, const char *id)
{
    for (unsigned i = 0; i < o->list->len; i++) {
        const OlderSnapshot *s = &g_array_index(o->list, OlderSnapshot, i);
        if (strcmp(s->node, node) == 0 && strcmp(s->id, id) == 0) {
            return true;
        }
    }
    return false;
}

void snapshot_older_co_delete(const SnapshotOlder *o, Vm *vm)
{
    for (unsigned i = 0; i < o->list->len; i++) {
        const OlderSnapshot *s = &g_array_index(o->list, OlderSnapshot, i);
        g_autoptr(GError) error = NULL;
        if (!snapshot_co_delete_one(vm, s->node, s->id, &error)) {
            log_warn("snapshot-save: the older snapshot '%s' of '%s' remains: %s", o->tag, s->node,
                     error->message);
        }
    }
}

void snapshot_older_co_delete_others(const SnapshotOlder *o, Vm *vm, const char *node)
{
    g_autofree char *id = NULL;
    BlockNode *n = block_node_find(node);
    const BlockImageInfo *info = n != NULL ? block_node_image_info(n) : NULL;
    for (unsigned i = 0; info != NULL && i < info->snapshot_count && id == NULL; i++) {
        const BlockSnapshotInfo *found = &info->snapshots[i];
        if (strcmp(found->name, o->tag) == 0 && !older_has(o, node, found->id)) {
            id = g_strdup(found->id);
        }
    }
    g_autoptr(GError) error = NULL;
    if (id != NULL && !snapshot_co_delete_one(vm, node, id, &error)) {
        log_warn(
            "snapshot-save: snapshot '%s' of '%s', which has no state of the machine, remains: "
            "%s",
            o->tag, node, error->message);
    }
}

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

bool snapshot_older_has(const SnapshotOlder *o, const char *node, const char *id)
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

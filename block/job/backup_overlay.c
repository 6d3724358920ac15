/* SPDX-License-Identifier: Apache-2.0 */
#include "block/job/backup_overlay.h"

/* Finds the backing edges at and below @n that lead to @source. */
static RUNS_IN_MAIN void overlay_find(GPtrArray *edges, const BlockNode *n, const BlockNode *source)
{
    for (unsigned i = 0; n != source && i < n->children->len; i++) {
        BlockEdge *e = n->children->pdata[i];
        if (e->node == source && e->role == BLOCK_ROLE_BACKING) {
            g_ptr_array_add(edges, e);
        }
        overlay_find(edges, e->node, source);
    }
}

static void overlay_keep_at_home(void *opaque)
{
    BlockNode *n = opaque;
    enter_coroutine();
    enter_iothread(n->home);
    block_track_co_add_user(n, 1);
    n->keeps_reads = true;
}

static void overlay_unkeep_at_home(void *opaque)
{
    BlockNode *n = opaque;
    enter_coroutine();
    enter_iothread(n->home);
    n->keeps_reads = false;
    block_track_remove_user(n);
}

void backup_overlay_co_keep(BackupOverlay *o, BlockNode *target, BlockNode *source)
{
    g_autoptr(GPtrArray) edges = g_ptr_array_new();
    overlay_find(edges, target, source);
    if (edges->len == 0) {
        return;
    }
    o->target = target;
    o->edges = g_steal_pointer(&edges);
    for (unsigned i = 0; i < o->edges->len; i++) {
        BlockEdge *e = o->edges->pdata[i];
        e->kept = e->stays = true;
    }
    co_call_in(target->home, overlay_keep_at_home, target);
}

void backup_overlay_co_unkeep(BackupOverlay *o)
{
    if (o->edges == NULL) {
        return;
    }
    co_call_in(o->target->home, overlay_unkeep_at_home, o->target);
    for (unsigned i = 0; i < o->edges->len; i++) {
        BlockEdge *e = o->edges->pdata[i];
        e->stays = false;
        e->kept = block_node_is_seen(e->parent);
        e->parent->hidden = e->parent->hidden || !e->kept;
    }
    g_clear_pointer(&o->edges, g_ptr_array_unref);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/snapshot/machine_disks.h"

#include "block/block.h"
#include "block/graph.h"
#include "util/state/state.h"

static GHashTable *disks_at_start; /* char *: names of nodes; NULL: not noted */
static GHashTable *disks_below;    /* of machine_disks_see_through() */

void machine_disks_see_through(GHashTable *below)
{
    disks_below = below;
}

/* The nodes that drives show now. */
static RUNS_IN_MAIN GHashTable *disks_now(void)
{
    GHashTable *nodes = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    unsigned count;
    g_autofree BlockBackend **list = blk_list_drives(&count);
    for (unsigned i = 0; i < count; i++) {
        const char *name = block_node_name(block_node_below_jobs(blk_root(list[i])));
        const char *below = disks_below != NULL ? g_hash_table_lookup(disks_below, name) : NULL;
        g_hash_table_add(nodes, g_strdup(below != NULL ? below : name));
    }
    return nodes;
}

void machine_disks_note_start(void)
{
    g_clear_pointer(&disks_at_start, g_hash_table_unref);
    disks_at_start = disks_now();
}

/* The first of @nodes that is not in @others; NULL: there is none. */
static const char *disks_missing(GHashTable *nodes, GHashTable *others)
{
    GHashTableIter i;
    void *name;
    g_hash_table_iter_init(&i, nodes);
    while (g_hash_table_iter_next(&i, &name, NULL)) {
        if (!g_hash_table_contains(others, name)) {
            return name;
        }
    }
    return NULL;
}

bool machine_disks_check(GError **error)
{
    g_autoptr(GHashTable) now = disks_now();
    if (disks_at_start == NULL) {
        return true;
    }
    const char *come = disks_missing(now, disks_at_start);
    if (come != NULL) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_MACHINE,
                    "a disk shows node '%s', which no disk showed at the start: the state of a "
                    "machine has the disks that it started with",
                    come);
        return false;
    }
    const char *gone = disks_missing(disks_at_start, now);
    if (gone != NULL) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_MACHINE,
                    "no disk shows node '%s', as one did at the start: the state of a machine has "
                    "the disks that it started with",
                    gone);
        return false;
    }
    return true;
}

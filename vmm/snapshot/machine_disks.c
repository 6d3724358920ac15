/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/snapshot/machine_disks.h"

#include "block/graph.h"

static GHashTable *disks_at_start; /* char *: names of nodes; NULL: not noted */

/* The nodes that drives show now. */
static RUNS_IN_MAIN GHashTable *disks_now(void)
{
    GHashTable *nodes = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    unsigned count;
    g_autofree BlockBackend **list = blk_list_drives(&count);
    for (unsigned i = 0; i < count; i++) {
        g_hash_table_add(nodes,
                         g_strdup(block_node_name(block_node_below_jobs(blk_root(list[i])))));
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

char *machine_disks_changed(void)
{
    g_autoptr(GHashTable) now = disks_now();
    if (disks_at_start == NULL) {
        return NULL;
    }
    const char *come = disks_missing(now, disks_at_start);
    if (come != NULL) {
        return g_strdup_printf("a disk shows node '%s', which no disk showed then", come);
    }
    const char *gone = disks_missing(disks_at_start, now);
    return gone != NULL ? g_strdup_printf("no disk shows node '%s', as one did then", gone) : NULL;
}

char *machine_disks_temporary_of(Backends *b, BlockNode *const nodes[], unsigned count)
{
    g_autoptr(GString) names = g_string_new(NULL);
    for (unsigned i = 0; i < count; i++) {
        const char *node = block_node_name(nodes[i]);
        if (block_node_is_temporary(nodes[i])) {
            const char *id = backends_drive_of_node(b, node);
            g_string_append_printf(names, "%s'%s'", names->len > 0 ? ", " : "",
                                   id[0] != '\0' ? id : node);
        }
    }
    return names->len > 0 ? g_strdup(names->str) : NULL;
}

char *machine_disks_temporary(Backends *b)
{
    unsigned count, writable = 0;
    g_autofree BlockBackend **list = blk_list_drives(&count);
    g_autofree BlockNode **nodes = g_new(BlockNode *, count);
    for (unsigned i = 0; i < count; i++) {
        if (!blk_read_only(list[i])) {
            nodes[writable++] = blk_root(list[i]);
        }
    }
    return machine_disks_temporary_of(b, nodes, writable);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Drained sections of nodes, whoever uses them. */
#include "block/core/backend_int.h"
#include "block/core/node_int.h"

struct BlockSection {
    GPtrArray *nodes;    /* referenced */
    GPtrArray *backends; /* borrowed: they are not freed inside a section */
    GPtrArray *quiesced;
};

static RUNS_IN_MAIN bool section_has_node_of(const BlockSection *s, const BlockBackend *blk)
{
    g_autoptr(GPtrArray) tree = block_node_tree(blk_root(blk));
    bool found = false;
    for (unsigned i = 0; i < s->nodes->len; i++) {
        found = found || g_ptr_array_find(tree, s->nodes->pdata[i], NULL);
    }
    return found;
}

BlockSection *block_nodes_co_drained_begin(BlockNode *const *nodes, unsigned count)
{
    unsigned all;
    g_autofree BlockBackend **list = blk_list(&all);
    BlockSection *s = g_new0(BlockSection, 1);
    s->nodes = g_ptr_array_new();
    s->backends = g_ptr_array_new();
    for (unsigned i = 0; i < count; i++) {
        block_node_ref(nodes[i]);
        g_ptr_array_add(s->nodes, nodes[i]);
    }
    for (unsigned i = 0; i < all; i++) {
        if (section_has_node_of(s, list[i])) {
            g_ptr_array_add(s->backends, list[i]);
        }
    }
    co_drained_begin((BlockBackend **)s->backends->pdata, s->backends->len);
    s->quiesced = block_nodes_co_quiesce_above(s->nodes);
    return s;
}

void block_nodes_co_drained_end(BlockSection *s)
{
    block_nodes_co_release_above(s->quiesced);
    co_drained_end((BlockBackend **)s->backends->pdata, s->backends->len);
    for (unsigned i = 0; i < s->nodes->len; i++) {
        block_co_unref(s->nodes->pdata[i]);
    }
    g_ptr_array_unref(s->nodes);
    g_ptr_array_unref(s->backends);
    g_free(s);
}

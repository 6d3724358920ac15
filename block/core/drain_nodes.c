/* SPDX-License-Identifier: Apache-2.0 */
/* Drained sections of nodes, whoever uses them. */
#include "block/core/backend_int.h"
#include "block/core/node_int.h"
#include "util/loop/held.h"

/* ---- without a wait ---- */

typedef struct DrainHold {
    BlockBackend *blk; /* NULL: nodes alone */
    GPtrArray *nodes;
} DrainHold;

static void drain_hold_at_home(void *opaque)
{
    DrainHold *hold = opaque;
    const BlockNode *first = hold->nodes->pdata[0];
    enter_iothread(first->home);
    blk_drain_quiesce(hold->blk, hold->nodes);
    g_ptr_array_unref(hold->nodes);
    g_free(hold);
}

static RUNS_IN_MAIN void drain_hold(BlockBackend *blk, GPtrArray *nodes)
{
    const BlockNode *first = nodes->pdata[0];
    DrainHold *hold = g_new(DrainHold, 1);
    *hold = (DrainHold){.blk = blk, .nodes = nodes};
    aio_post(first->home, drain_hold_at_home, hold);
}

void block_node_hold(BlockNode *n)
{
    GPtrArray *nodes = g_ptr_array_new();
    g_ptr_array_add(nodes, n);
    drain_hold(NULL, nodes);
}

void blk_count_section(BlockBackend *blk)
{
    if (blk->sections++ == 0) {
        atomic_store(&blk->drainer, co_self());
    }
}

void blk_hold(BlockBackend *const *blks, unsigned count)
{
    if (count > 0) {
        held_push(RANK_DRAINED, blks[0], "drained section without a wait", true);
    }
    for (unsigned i = 0; i < count; i++) {
        blk_count_section(blks[i]);
        drain_hold(blks[i], block_node_tree(blks[i]->root));
    }
}

void block_hold_all(void)
{
    unsigned count;
    g_autofree BlockBackend **blks = blk_list(&count);
    for (unsigned i = 0; i < count; i++) {
        if (!blks[i]->retiring) { /* else its own section never ends */
            drain_hold(blks[i], block_node_tree(blks[i]->root));
        }
    }
    g_autofree BlockNode **nodes = block_node_list(&count);
    for (unsigned i = 0; i < count; i++) {
        block_node_hold(nodes[i]);
    }
}

/* ---- each for itself ---- */

GPtrArray *block_nodes_above(BlockNode *const *nodes, unsigned count)
{
    GPtrArray *all = g_ptr_array_new();
    for (unsigned i = 0; i < count; i++) {
        g_autoptr(GPtrArray) above = block_node_ancestors(nodes[i]);
        for (unsigned j = 0; j < above->len; j++) {
            if (!g_ptr_array_find(all, above->pdata[j], NULL)) {
                g_ptr_array_add(all, above->pdata[j]);
            }
        }
    }
    return all;
}

bool block_nodes_co_try_quiesce_each(GPtrArray *nodes, int64_t patience_ns)
{
    bool ok = true;
    g_ptr_array_sort(nodes, block_node_compare_heights);
    for (unsigned i = 0; i < nodes->len; i++) {
        block_node_ref(nodes->pdata[i]);
    }
    for (unsigned i = 0; i < nodes->len; i++) {
        if (ok) {
            ok = block_node_co_try_quiesce(nodes->pdata[i], patience_ns);
        } else {
            block_node_hold(nodes->pdata[i]);
        }
    }
    return ok;
}

void block_nodes_co_quiesce_each(GPtrArray *nodes)
{
    block_nodes_co_try_quiesce_each(nodes, INT64_MAX);
}

GPtrArray *block_nodes_co_quiesce_above(const GPtrArray *nodes)
{
    GPtrArray *all = block_nodes_above((BlockNode **)nodes->pdata, nodes->len);
    block_nodes_co_quiesce_each(all);
    return all;
}

void block_nodes_hold(GPtrArray *nodes)
{
    for (unsigned i = 0; i < nodes->len; i++) {
        block_node_ref(nodes->pdata[i]);
        block_node_hold(nodes->pdata[i]);
    }
}

void block_nodes_co_release_above(GPtrArray *nodes)
{
    for (unsigned i = nodes->len; i-- > 0;) {
        BlockNode *n = nodes->pdata[i];
        block_node_release(n); /* after block_node_move_sections() */
        block_co_unref(n);     /* a close comes behind it */
    }
    g_ptr_array_unref(nodes);
}

/* ---- sections ---- */

struct BlockSection {
    GPtrArray *nodes;    /* referenced */
    GPtrArray *backends; /* borrowed: they are not freed inside a section */
    GPtrArray *quiesced;
};

/* The nodes that show the disk of one of the given ones, and these. */
static RUNS_IN_MAIN GPtrArray *section_find_viewers(const BlockSection *s)
{
    GPtrArray *all = g_ptr_array_new();
    for (unsigned i = 0; i < s->nodes->len; i++) {
        g_autoptr(GPtrArray) viewers = block_node_viewers(s->nodes->pdata[i]);
        for (unsigned j = 0; j < viewers->len; j++) {
            if (!g_ptr_array_find(all, viewers->pdata[j], NULL)) {
                g_ptr_array_add(all, viewers->pdata[j]);
            }
        }
    }
    return all;
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
    s->quiesced = section_find_viewers(s);
    for (unsigned i = 0; i < all; i++) {
        if (g_ptr_array_find(s->quiesced, blk_root(list[i]), NULL)) {
            g_ptr_array_add(s->backends, list[i]);
        }
    }
    co_drained_begin((BlockBackend **)s->backends->pdata, s->backends->len);
    block_nodes_co_quiesce_each(s->quiesced);
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

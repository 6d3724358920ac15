/* SPDX-License-Identifier: Apache-2.0 */
#include "block/chain/external_snapshot.h"
#include <string.h>
#include "block/graph.h"
#include "util/log.h"

struct ExternalSnapshot {
    BlockNode *source, *overlay; /* references */
    NewImage image;              /* has the overlay's own reference; empty: a node of the user's */
    bool inserted;
    int ret;
};

/* ---- checks ---- */

static bool snapshot_supports_backing(const BlockNode *n)
{
    for (const char *const *name = n->drv->children; name != NULL && *name != NULL; name++) {
        if (strcmp(*name, "backing") == 0) {
            return true;
        }
    }
    return false;
}

static bool snapshot_refuse(const char *text, GError **error)
{
    g_set_error_literal(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, text);
    return false;
}

/* The image that has @n as its backing file; NULL: none. */
static RUNS_IN_MAIN const BlockNode *snapshot_image_above(const BlockNode *n)
{
    for (unsigned i = 0; i < n->parents->len; i++) {
        const BlockEdge *e = n->parents->pdata[i];
        if (e->parent != NULL && e->role == BLOCK_ROLE_BACKING) {
            return e->parent;
        }
    }
    return NULL;
}

/* An image above would have another backing file than its header says. */
static RUNS_IN_MAIN bool snapshot_check_top(const BlockNode *n, GError **error)
{
    const BlockNode *above = snapshot_image_above(n);
    if (above != NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IN_USE,
                    "Node '%s' is busy: node is used as backing hd of '%s'", block_node_name(n),
                    block_node_name(above));
    }
    return above == NULL;
}

static RUNS_IN_MAIN bool snapshot_check_overlay(const BlockNode *overlay, const BlockNode *source,
                                                GError **error)
{
    if (overlay == source) {
        return snapshot_refuse("A node cannot be the overlay of itself", error);
    }
    if (overlay->drv->is_filter) {
        return snapshot_refuse("Filters cannot be used as overlays", error);
    }
    if (overlay->backing != NULL) {
        return snapshot_refuse("The overlay already has a backing image", error);
    }
    if (!snapshot_supports_backing(overlay)) {
        return snapshot_refuse("The overlay does not support backing images", error);
    }
    if (!snapshot_check_top(source, error) || !snapshot_check_top(overlay, error)) {
        return false;
    }
    for (unsigned i = 0; i < overlay->parents->len; i++) {
        const BlockEdge *e = overlay->parents->pdata[i];
        if (e->uses != 0) {
            g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IN_USE,
                        "The overlay is already in use: by %s", e->user);
            return false;
        }
    }
    return true;
}

/* ---- begin ---- */

static RUNS_IN_MAIN ExternalSnapshot *snapshot_new(BlockNode *source, BlockNode *overlay)
{
    ExternalSnapshot *s = g_new0(ExternalSnapshot, 1);
    block_node_ref(source);
    block_node_ref(overlay);
    s->source = source;
    s->overlay = overlay;
    return s;
}

ExternalSnapshot *external_snapshot_co_begin_image(BlockNode *source, const NewImageConfig *image,
                                                   GError **error)
{
    NewImageConfig config = *image;
    g_autofree char *path = NULL;
    NewImage made;
    if (!block_node_check_no_job(source, error) || !snapshot_check_top(source, error)) {
        return NULL;
    }
    config.size = block_align_up(block_node_size(source), BLOCK_SECTOR_SIZE);
    config.like = source;
    config.home = block_node_home(source);
    if (config.mode == NEW_IMAGE_ABSOLUTE_PATHS) {
        path = new_image_backing_path(source, &config.backing_format, error);
        config.backing_file = path;
        if (path == NULL) {
            g_prefix_error(error, "use mode=existing, or blockdev-snapshot: ");
            return NULL;
        }
    }
    block_node_ref(source);
    ExternalSnapshot *s = NULL;
    if (new_image_co_open(&config, &made, error)) {
        if (snapshot_check_overlay(made.node, source, error)) {
            s = snapshot_new(source, made.node);
            s->image = made;
        } else {
            new_image_co_drop(&made);
        }
    }
    block_co_unref(source);
    return s;
}

ExternalSnapshot *external_snapshot_co_begin_node(BlockNode *source, BlockNode *overlay,
                                                  GError **error)
{
    if (!block_node_check_no_job(source, error) ||
        !snapshot_check_overlay(overlay, source, error)) {
        return NULL;
    }
    return snapshot_new(source, overlay);
}

/* ---- the graph ---- */

static void snapshot_flush_at_home(void *opaque)
{
    ExternalSnapshot *s = opaque;
    enter_coroutine();
    enter_iothread(block_node_home(s->source));
    s->ret = block_node_co_flush(s->source);
}

/* In the change's drained section. */
static coroutine_fn RUNS_IN_MAIN bool snapshot_co_flush(ExternalSnapshot *s, GError **error)
{
    co_call_in(block_node_home(s->source), snapshot_flush_at_home, s);
    if (s->ret < 0) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN, "An IO error has occurred: flush: %s",
                    g_strerror(-s->ret));
    }
    return s->ret == 0;
}

static coroutine_fn RUNS_IN_MAIN BlockGraphChange *snapshot_co_change(ExternalSnapshot *s,
                                                                      GError **error)
{
    BlockNode *nodes[] = {s->source, s->overlay};
    return block_graph_co_begin(nodes, G_N_ELEMENTS(nodes), error);
}

/* The node may have changed since begin, which was not under the operation lock. */
static coroutine_fn RUNS_IN_MAIN bool snapshot_co_prepare(ExternalSnapshot *s, GError **error)
{
    if (!block_node_check_no_job(s->source, error) ||
        !snapshot_check_overlay(s->overlay, s->source, error)) {
        return false;
    }
    if (s->image.made != NULL && block_node_size(s->overlay) < block_node_size(s->source)) {
        return snapshot_refuse("The size of the disk has changed; try again", error);
    }
    unsigned held = s->image.node != NULL ? 2 : 1;
    return block_co_move_held(s->overlay, block_node_home(s->source), held, error);
}

bool external_snapshot_co_insert(ExternalSnapshot *s, GError **error)
{
    if (!snapshot_co_prepare(s, error)) {
        return false;
    }
    BlockGraphChange *c = snapshot_co_change(s, error);
    if (c == NULL) {
        return false;
    }
    s->inserted =
        snapshot_co_flush(s, error) && block_graph_replace(c, s->source, s->overlay, error) &&
        block_graph_set_child(c, s->overlay, "backing", BLOCK_ROLE_BACKING, s->source, error) &&
        block_graph_commit(c, error);
    block_graph_co_end(c);
    return s->inserted;
}

void external_snapshot_co_undo(ExternalSnapshot *s)
{
    if (!s->inserted) {
        return;
    }
    g_autoptr(GError) error = NULL;
    BlockGraphChange *c = snapshot_co_change(s, &error);
    bool ok = c != NULL &&
              block_graph_set_child(c, s->overlay, "backing", BLOCK_ROLE_BACKING, NULL, &error) &&
              block_graph_replace(c, s->overlay, s->source, &error) &&
              block_graph_commit(c, &error);
    s->inserted = !ok;
    if (!ok) { /* another user needs the node's data unchanged, or one is being opened */
        log_warn("the snapshot of node '%s' stays: %s", block_node_name(s->source), error->message);
    }
    if (c != NULL) {
        block_graph_co_end(c);
    }
}

/* ---- end ---- */

void external_snapshot_co_end(ExternalSnapshot *s, bool keep)
{
    if (keep && !s->source->copy_on_read) {
        /* The format completes its metadata, and other processes may read the file. The snapshot is
         * right also if that fails. */
        block_node_co_set_read_only(s->source, true, NULL);
    }
    block_co_unref(s->overlay);
    if (!keep && !s->inserted) {
        new_image_co_drop(&s->image);
    } else if (s->image.node != NULL) {
        block_co_unref(new_image_take(&s->image));
    }
    block_co_unref(s->source);
    g_free(s);
}

BlockNode *external_snapshot_source(const ExternalSnapshot *s)
{
    return s->source;
}

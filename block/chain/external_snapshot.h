/* SPDX-License-Identifier: Apache-2.0 */
/*
 * External snapshots: an overlay above a node gets the users of the node, which keeps its data from
 * then on.
 *
 *   begin ----> insert ----> end(true)     the overlay stays; the node becomes read-only
 *     |           | undo
 *     `-----------`--------> end(false)    all is as before, also the file that begin has made
 *
 * begin and end may wait for storage, and need no operation lock unless other actions share it; insert
 * and undo change the graph, under the operation lock. A drained section of the node may be around
 * them. All in main.
 */
#ifndef SKIFF_BLOCK_CHAIN_EXTERNAL_SNAPSHOT_H
#define SKIFF_BLOCK_CHAIN_EXTERNAL_SNAPSHOT_H

#include "block/chain/new_image.h"

typedef struct ExternalSnapshot ExternalSnapshot;

/* Opens, and in the mode absolute-paths makes, the overlay of @source: file name, format, mode and
 * node name are those of @image; the rest of it is set here. NULL + @error. */
ExternalSnapshot *external_snapshot_co_begin_image(BlockNode *source, const NewImageConfig *image,
                                                   GError **error) coroutine_fn RUNS_IN_MAIN;
/* The same with a node of the user's, which has no backing node and no user. */
ExternalSnapshot *external_snapshot_co_begin_node(BlockNode *source, BlockNode *overlay,
                                                  GError **error) coroutine_fn RUNS_IN_MAIN;
/* Flushes the node, and puts the overlay above it. False + @error: nothing has changed. */
bool external_snapshot_co_insert(ExternalSnapshot *s, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Takes the overlay away again. Nothing is done if it was not inserted. If the graph refuses that, the
 * overlay stays with a warning, and end keeps it. */
void external_snapshot_co_undo(ExternalSnapshot *s) coroutine_fn RUNS_IN_MAIN;
/* Frees @s. With @keep under the operation lock. */
void external_snapshot_co_end(ExternalSnapshot *s, bool keep) coroutine_fn RUNS_IN_MAIN;
/* Borrowed until the end. */
BlockNode *external_snapshot_source(const ExternalSnapshot *s) RUNS_IN_MAIN;

#endif

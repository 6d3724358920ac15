/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chains of images of disks in use: external snapshots.
 *
 * An image is opened and made without the operation lock, since storage can hang. Under the lock the
 * disk must still be what it was.
 */
#include "block/chain/external_snapshot.h"
#include "vmm/monitor/commands/qmp_block.h"
#include "vmm/monitor/commands/qmp_block_job.h"
#include "vmm/monitor/commands/qmp_transaction.h"

/* ---- external snapshots ---- */

static RUNS_IN_MAIN bool chain_check_name(const char *node_name, const char *snapshot_node_name,
                                          GError **error)
{
    if (node_name != NULL && snapshot_node_name == NULL) {
        return qmp_refuse(error, "New overlay node-name missing");
    }
    return snapshot_node_name == NULL || block_node_find(snapshot_node_name) == NULL ||
           qmp_refuse(error, "New overlay node-name already in use");
}

static coroutine_fn RUNS_IN_MAIN ExternalSnapshot *
chain_co_begin_sync(QmpCall *call, struct json_object *args, GError **error)
{
    const char *mode = qmp_arg_str(args, "mode");
    NewImageConfig image = {.mode = g_strcmp0(mode, "existing") == 0 ? NEW_IMAGE_EXISTING
                                                                     : NEW_IMAGE_ABSOLUTE_PATHS,
                            .filename = qmp_arg_str(args, "snapshot-file"),
                            .format = qmp_arg_str(args, "format"),
                            .node_name = qmp_arg_str(args, "snapshot-node-name")};
    BlockNode *source =
        qmp_find_node(call->vm, qmp_arg_str(args, "device"), qmp_arg_str(args, "node-name"), error);
    if (source == NULL ||
        !chain_check_name(qmp_arg_str(args, "node-name"), image.node_name, error)) {
        return NULL;
    }
    return external_snapshot_co_begin_image(source, &image, error);
}

static coroutine_fn RUNS_IN_MAIN ExternalSnapshot *
chain_co_begin(QmpCall *call, struct json_object *args, GError **error)
{
    BlockNode *source = qmp_find_node_of(call->vm, qmp_arg_str(args, "node"), error);
    BlockNode *overlay =
        source != NULL ? qmp_find_node_of(call->vm, qmp_arg_str(args, "overlay"), error) : NULL;
    return overlay != NULL ? external_snapshot_co_begin_node(source, overlay, error) : NULL;
}

/* Whether the name of the disk still means the node for which the overlay was made. */
static RUNS_IN_MAIN bool chain_check_source(QmpCall *call, struct json_object *args,
                                            const ExternalSnapshot *s, GError **error)
{
    const char *node = qmp_arg_str(args, "node");
    const BlockNode *n = node != NULL ? qmp_find_node_of(call->vm, node, error)
                                      : qmp_find_node(call->vm, qmp_arg_str(args, "device"),
                                                      qmp_arg_str(args, "node-name"), error);
    if (n == NULL) {
        return false;
    }
    return n == external_snapshot_source(s) ||
           qmp_refuse(error, "The disk has got another node meanwhile; try again");
}

static coroutine_fn RUNS_IN_MAIN bool chain_co_insert(QmpCall *call, struct json_object *args,
                                                      ExternalSnapshot *s, GError **error)
{
    return chain_check_source(call, args, s, error) && external_snapshot_co_insert(s, error);
}

static coroutine_fn RUNS_IN_MAIN void chain_co_snapshot(QmpCall *call, struct json_object *args,
                                                        ExternalSnapshot *s, GError **error)
{
    if (s == NULL) {
        return;
    }
    vm_operation_begin(&call->vm->run);
    bool ok = chain_co_insert(call, args, s, error);
    if (ok) {
        external_snapshot_co_end(s, true);
    }
    vm_operation_end(&call->vm->run);
    if (!ok) {
        external_snapshot_co_end(s, false);
    }
}

static struct json_object *qmp_blockdev_snapshot_sync(QmpCall *call, struct json_object *args,
                                                      GError **error)
{
    enter_main();
    enter_coroutine();
    chain_co_snapshot(call, args, chain_co_begin_sync(call, args, error), error);
    return NULL;
}

static struct json_object *qmp_blockdev_snapshot(QmpCall *call, struct json_object *args,
                                                 GError **error)
{
    enter_main();
    enter_coroutine();
    chain_co_snapshot(call, args, chain_co_begin(call, args, error), error);
    return NULL;
}

/* ---- in a transaction ---- */

static RUNS_IN_MAIN bool chain_action_opened(QmpAction *a, ExternalSnapshot *s)
{
    a->state = s;
    if (s != NULL) {
        qmp_transaction_add_node(a->transaction, external_snapshot_source(s));
    }
    return s != NULL;
}

static bool chain_action_open_sync(QmpAction *a, GError **error)
{
    enter_main();
    enter_coroutine();
    return chain_action_opened(a, chain_co_begin_sync(a->transaction->call, a->data, error));
}

static bool chain_action_open(QmpAction *a, GError **error)
{
    enter_main();
    enter_coroutine();
    return chain_action_opened(a, chain_co_begin(a->transaction->call, a->data, error));
}

static bool chain_action_prepare(QmpAction *a, GError **error)
{
    enter_main();
    enter_coroutine();
    return chain_co_insert(a->transaction->call, a->data, a->state, error);
}

static void chain_action_abort(QmpAction *a)
{
    enter_main();
    enter_coroutine();
    external_snapshot_co_undo(a->state);
}

static void chain_action_end(QmpAction *a, bool committed)
{
    enter_main();
    enter_coroutine();
    external_snapshot_co_end(a->state, committed);
}

/* ---- schema ---- */

static const QmpType chain_sync_arg = {
    .name = "BlockdevSnapshotSync",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"device", &qmp_str, true, .doc = "id of a -drive"},
        {"node-name", &qmp_str, true, .doc = "instead: the node's name"},
        {"snapshot-file", &qmp_str, .doc = "the file of the overlay"},
        {"snapshot-node-name", &qmp_str, true,
         .doc = "the overlay's name; needed with node-name, else generated"},
        {"format", &qmp_str, true, .doc = "of the overlay; default: qcow2"},
        {"mode", &qmp_new_image_mode, true,
         .doc =
             "absolute-paths (the default): the overlay is made, and its header names the disk's "
             "file; existing: it exists"}),
};
static const QmpType chain_snapshot_arg = {
    .name = "BlockdevSnapshot",
    .kind = QMP_KIND_STRUCT,
    .members =
        QMP_MEMBERS({"node", &qmp_str, .doc = "the disk: a node's name, or the id of a -drive"},
                    {"overlay", &qmp_str,
                     .doc = "a node without users that was opened with \"backing\": null"}),
};

static const QmpCommand qmp_chain_commands[] = {
    {"blockdev-snapshot", &chain_snapshot_arg, NULL, 0, qmp_blockdev_snapshot,
     "Makes an open node the overlay of a disk. The disk's node becomes its backing node, "
     "read-only."},
    {"blockdev-snapshot-sync", &chain_sync_arg, NULL, 0, qmp_blockdev_snapshot_sync,
     "Makes and opens an overlay for a disk. The disk's node becomes its backing node, read-only. "
     "On "
     "failure nothing changes."},
    {0},
};

const QmpActionType qmp_chain_actions[] = {
    {.name = "blockdev-snapshot",
     .data = &chain_snapshot_arg,
     .co_open = chain_action_open,
     .co_prepare = chain_action_prepare,
     .co_abort = chain_action_abort,
     .co_end = chain_action_end},
    {.name = "blockdev-snapshot-sync",
     .data = &chain_sync_arg,
     .co_open = chain_action_open_sync,
     .co_prepare = chain_action_prepare,
     .co_abort = chain_action_abort,
     .co_end = chain_action_end},
    {0},
};

static const QmpEvent qmp_chain_events[] = {{0}};

QMP_GROUP(chain);

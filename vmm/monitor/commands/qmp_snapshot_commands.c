/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Internal snapshots of a disk that the guest may use. The begin and the end of an operation are
 * control operations. Between them, while it walks through the image's tables, no operation lock is
 * held: stop, cont and quit of other clients do not wait for it.
 */
#include "block/block.h"
#include "hw/core/vm_clock.h"
#include "util/log.h"
#include "vmm/monitor/commands/qmp_block.h"
#include "vmm/monitor/commands/qmp_transaction.h"
#include "vmm/snapshot/snapshot_job.h"

#define SNAPSHOT_NS_PER_S 1000000000u

/* ---- information ---- */

typedef struct SnapshotQuery {
    BlockNode *node;
    BlockImageInfo info;
    GError *error;
} SnapshotQuery;

static void snapshot_query_at_home(void *opaque)
{
    SnapshotQuery *q = opaque;
    enter_coroutine();
    enter_iothread(block_node_home(q->node));
    block_node_co_image_info(q->node, &q->info, &q->error);
}

struct json_object *qmp_snapshot_describe(const BlockSnapshotInfo *s)
{
    struct json_object *o = json_object_new_object();
    qmp_put_str(o, "id", s->id);
    qmp_put_str(o, "name", s->name);
    qmp_put_int(o, "vm-state-size", (int64_t)s->vm_state_size);
    qmp_put_int(o, "date-sec", s->date_s);
    qmp_put_int(o, "date-nsec", s->date_ns);
    qmp_put_int(o, "vm-clock-sec", (int64_t)(s->vm_clock_ns / SNAPSHOT_NS_PER_S));
    qmp_put_int(o, "vm-clock-nsec", (int64_t)(s->vm_clock_ns % SNAPSHOT_NS_PER_S));
    if (s->icount != UINT64_MAX) {
        qmp_put_int(o, "icount", (int64_t)s->icount);
    }
    return o;
}

/* ---- what both commands do ---- */

/* Under the operation lock: the node and its snapshots. False: @error is set. */
static coroutine_fn RUNS_IN_MAIN bool snapshot_co_query(QmpCall *call, const char *device,
                                                        SnapshotQuery *q, GError **error)
{
    *q = (SnapshotQuery){.node = qmp_find_node_of(call->vm, device, error)};
    if (q->node == NULL) {
        return false;
    }
    BlockNodeInfo info;
    block_node_info(q->node, &info);
    if (info.read_only) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC, "Device '%s' is read only", device);
        return false;
    }
    if (!block_node_can_snapshot(q->node)) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC,
                    "Block format '%s' used by device '%s' does not support internal snapshots",
                    info.driver, device);
        return false;
    }
    co_call_in(block_node_home(q->node), snapshot_query_at_home, q);
    if (q->error != NULL) {
        g_propagate_error(error, q->error);
        return false;
    }
    return true;
}

/* ---- commands ---- */

/* Checks what a new snapshot needs. */
static coroutine_fn RUNS_IN_MAIN bool snapshot_co_check_new(QmpCall *call, const char *device,
                                                            const char *name, BlockNode **node,
                                                            GError **error)
{
    SnapshotQuery q;
    if (!snapshot_co_query(call, device, &q, error)) {
        return false;
    }
    bool exists = block_image_find_snapshot(&q.info, NULL, name) != NULL;
    block_image_info_clear(&q.info);
    *node = q.node;
    if (name[0] == '\0') {
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC, "Name is empty");
        return false;
    }
    if (exists) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC,
                    "Snapshot with name '%s' already exists on device '%s'", name, device);
    }
    return !exists;
}

/* @name is borrowed. */
static BlockSnapshotInfo snapshot_describe_new(const char *name)
{
    BlockSnapshotInfo info = block_snapshot_info_now(name);
    info.vm_clock_ns = (uint64_t)vm_clock_now_ns();
    return info;
}

static void snapshot_prefix_error(GError **error, const char *device, const char *name)
{
    g_prefix_error(error, "Failed to create snapshot '%s' on device '%s': ", name, device);
}

static coroutine_fn RUNS_IN_MAIN void snapshot_co_create(QmpCall *call, const char *device,
                                                         const char *name, GError **error)
{
    BlockNode *n;
    if (!snapshot_co_check_new(call, device, name, &n, error)) {
        return;
    }
    BlockSnapshotInfo info = snapshot_describe_new(name);
    BlockSnapshotOp op = {.kind = BLOCK_SNAPSHOT_CREATE, .info = &info};
    if (!snapshot_co_operate(call->vm, n, &op, error)) {
        snapshot_prefix_error(error, device, name);
    }
}

static struct json_object *qmp_snapshot_create(QmpCall *call, struct json_object *args,
                                               GError **error)
{
    enter_main();
    enter_coroutine();
    vm_operation_begin(&call->vm->run);
    snapshot_co_create(call, qmp_arg_str(args, "device"), qmp_arg_str(args, "name"), error);
    vm_operation_end(&call->vm->run);
    return NULL;
}

static coroutine_fn RUNS_IN_MAIN struct json_object *
snapshot_co_delete(QmpCall *call, const char *device, const char *id, const char *name,
                   GError **error)
{
    SnapshotQuery q;
    if (id == NULL && name == NULL) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC, "Name or id must be provided");
        return NULL;
    }
    if (!snapshot_co_query(call, device, &q, error)) {
        return NULL;
    }
    const BlockSnapshotInfo *found = block_image_find_snapshot(&q.info, id, name);
    struct json_object *result = found != NULL ? qmp_snapshot_describe(found) : NULL;
    block_image_info_clear(&q.info);
    if (result == NULL) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC,
                    "Snapshot with id '%s' and name '%s' does not exist on device '%s'",
                    id != NULL ? id : "null", name != NULL ? name : "null", device);
        return NULL;
    }
    BlockSnapshotOp op = {.kind = BLOCK_SNAPSHOT_DELETE, .id = id, .name = name};
    if (!snapshot_co_operate(call->vm, q.node, &op, error)) {
        json_object_put(result);
        return NULL;
    }
    return result;
}

static struct json_object *qmp_snapshot_delete(QmpCall *call, struct json_object *args,
                                               GError **error)
{
    enter_main();
    enter_coroutine();
    vm_operation_begin(&call->vm->run);
    struct json_object *result =
        snapshot_co_delete(call, qmp_arg_str(args, "device"), qmp_arg_str(args, "id"),
                           qmp_arg_str(args, "name"), error);
    vm_operation_end(&call->vm->run);
    return result;
}

/* ---- the action of a transaction ---- */
/*
 * All disks are frozen in the drained section of the transaction. If there are other kinds of
 * actions, the snapshots are also completed there, since those can be undone only there; else
 * after it. A snapshot that is frozen is always completed; an abort deletes it then.
 */
typedef struct SnapshotAction {
    BlockNode *node;       /* referenced */
    BlockSnapshotRun *run; /* NULL once it has ended */
    bool switched, created;
} SnapshotAction;

static bool snapshot_action_begin(QmpAction *a, GError **error)
{
    enter_main();
    enter_coroutine();
    const char *device = qmp_arg_str(a->data, "device"), *name = qmp_arg_str(a->data, "name");
    BlockNode *n;
    if (!snapshot_co_check_new(a->transaction->call, device, name, &n, error)) {
        return false;
    }
    BlockSnapshotInfo info = snapshot_describe_new(name);
    BlockSnapshotRun *run = block_node_co_snapshot_prepare(n, &info, error);
    if (run == NULL) {
        snapshot_prefix_error(error, device, name);
        return false;
    }
    SnapshotAction *s = a->state = g_new0(SnapshotAction, 1);
    *s = (SnapshotAction){.node = n, .run = run};
    block_node_ref(n);
    qmp_transaction_add_node(a->transaction, n);
    return true;
}

static void snapshot_action_prefix(QmpAction *a, GError **error)
{
    snapshot_prefix_error(error, qmp_arg_str(a->data, "device"), qmp_arg_str(a->data, "name"));
}

static bool snapshot_action_prepare(QmpAction *a, GError **error)
{
    enter_main();
    enter_coroutine();
    SnapshotAction *s = a->state;
    s->switched = true;
    if (block_snapshot_co_switch(s->run, error) &&
        (a->transaction->finishes_late || block_snapshot_co_run_drained(s->run, error))) {
        return true;
    }
    snapshot_action_prefix(a, error);
    return false;
}

/* The operation makes its last step at the latest here. */
static bool snapshot_action_finish(QmpAction *a, GError **error)
{
    enter_main();
    enter_coroutine();
    SnapshotAction *s = a->state;
    block_snapshot_co_run(s->run);
    s->created = block_snapshot_co_end(g_steal_pointer(&s->run), error) == 0;
    if (!s->created) {
        snapshot_action_prefix(a, error);
    }
    return s->created;
}

static void snapshot_action_abort(QmpAction *a)
{
    enter_main();
    enter_coroutine();
    SnapshotAction *s = a->state;
    if (!s->switched) {
        block_snapshot_co_switch(s->run, NULL);
    }
}

static void snapshot_action_end(QmpAction *a, bool committed)
{
    enter_main();
    enter_coroutine();
    SnapshotAction *s = a->state;
    g_autoptr(GError) error = NULL;
    const char *name = qmp_arg_str(a->data, "name");
    if (s->run != NULL) {
        snapshot_action_finish(a, NULL);
    }
    if (!committed && s->created &&
        block_node_co_snapshot_delete(s->node, NULL, name, &error) < 0) {
        log_warn("snapshot '%s' of a transaction that has failed remains on device '%s': %s", name,
                 qmp_arg_str(a->data, "device"), error->message);
    }
    block_co_unref(s->node);
    g_free(s);
}

/* ---- the group ---- */

static const QmpType snapshot_create_arg = {
    .name = "BlockdevSnapshotInternal",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"device", &qmp_str, .doc = "id of a -drive, or a node's name"},
                           {"name", &qmp_str, .doc = "of the snapshot; none may have it yet"}),
};
static const QmpType snapshot_delete_arg = {
    .name = "blockdev-snapshot-delete-internal-sync-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"device", &qmp_str, .doc = "id of a -drive, or a node's name"},
                           {"id", &qmp_str, true, .doc = "of the snapshot"},
                           {"name", &qmp_str, true, .doc = "of the snapshot; both must match"}),
};
const QmpActionType qmp_snapshot_actions[] = {
    {
        .name = "blockdev-snapshot-internal-sync",
        .data = &snapshot_create_arg,
        .co_begin = snapshot_action_begin,
        .co_prepare = snapshot_action_prepare,
        .co_finish = snapshot_action_finish,
        .co_abort = snapshot_action_abort,
        .co_end = snapshot_action_end,
    },
    {0},
};

static const QmpCommand qmp_snapshot_commands[] = {
    {"blockdev-snapshot-internal-sync", &snapshot_create_arg, NULL, 0, qmp_snapshot_create,
     "Creates an internal snapshot of a qcow2 disk, also while the guest writes to it. Returns "
     "when the snapshot is on stable storage."},
    {"blockdev-snapshot-delete-internal-sync", &snapshot_delete_arg, &qmp_snapshot_info, 0,
     qmp_snapshot_delete,
     "Deletes an internal snapshot of a qcow2 disk, also while the guest writes to it. Returns "
     "what it was."},
    {0},
};

static const QmpEvent qmp_snapshot_events[] = {{0}};

QMP_GROUP(snapshot);

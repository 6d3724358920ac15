/* SPDX-License-Identifier: Apache-2.0 */
/* The command transaction; see qmp_transaction.h. */
#include "vmm/monitor/commands/qmp_transaction.h"
#include "util/loop/sched_point.h"

/* ---- the action abort ---- */

static bool abort_action_prepare(QmpAction *a, GError **error)
{
    g_set_error_literal(error, QMP_ERROR, QMP_ERROR_GENERIC,
                        "Transaction aborted using Abort action");
    return false;
}

static const QmpType abort_data = {
    .name = "Abort",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({0}),
};
static const QmpActionType abort_actions[] = {
    {.name = "abort", .data = &abort_data, .co_prepare = abort_action_prepare},
    {0},
};

static const QmpActionType *const action_tables[] = {
    abort_actions, qmp_bitmap_actions, qmp_snapshot_actions, qmp_backup_actions, qmp_chain_actions};

static const QmpActionType *action_find(const char *name)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(action_tables); i++) {
        for (const QmpActionType *type = action_tables[i]; type->name != NULL; type++) {
            if (strcmp(type->name, name) == 0) {
                return type;
            }
        }
    }
    return NULL;
}

/* ---- the order ---- */

void qmp_transaction_add_node(QmpTransaction *t, BlockNode *n)
{
    if (!g_ptr_array_find(t->nodes, n, NULL)) {
        g_ptr_array_add(t->nodes, n);
    }
}

static coroutine_fn RUNS_IN_MAIN bool transaction_co_open(QmpTransaction *t, GError **error)
{
    for (unsigned i = 0; i < t->actions->len; i++) {
        QmpAction *a = t->actions->pdata[i];
        if (a->type->co_open != NULL) {
            a->begun = a->type->co_open(a, error);
            if (!a->begun) {
                return false;
            }
        }
    }
    return true;
}

static coroutine_fn RUNS_IN_MAIN bool transaction_co_begin(QmpTransaction *t, GError **error)
{
    for (unsigned i = 0; i < t->actions->len; i++) {
        QmpAction *a = t->actions->pdata[i];
        if (a->type->co_begin != NULL && !a->type->co_begin(a, error)) {
            return false;
        }
        a->begun = true;
    }
    return true;
}

static coroutine_fn RUNS_IN_MAIN bool transaction_co_prepare(QmpTransaction *t, GError **error)
{
    for (unsigned i = 0; i < t->actions->len; i++) {
        QmpAction *a = t->actions->pdata[i];
        SP("qmp.transaction_prepare", a);
        if (!a->type->co_prepare(a, error)) {
            return false;
        }
    }
    return true;
}

static coroutine_fn RUNS_IN_MAIN bool transaction_co_finish(QmpTransaction *t, GError **error)
{
    for (unsigned i = 0; i < t->actions->len; i++) {
        QmpAction *a = t->actions->pdata[i];
        if (!a->type->co_finish(a, error)) {
            return false;
        }
    }
    return true;
}

static RUNS_IN_MAIN void transaction_commit(QmpTransaction *t)
{
    for (unsigned i = 0; i < t->actions->len; i++) {
        QmpAction *a = t->actions->pdata[i];
        if (a->type->commit != NULL) {
            a->type->commit(a);
        }
    }
}

static coroutine_fn RUNS_IN_MAIN void transaction_co_abort(QmpTransaction *t)
{
    for (unsigned i = t->actions->len; i-- > 0;) {
        QmpAction *a = t->actions->pdata[i];
        if (a->begun && a->type->co_abort != NULL) {
            a->type->co_abort(a);
        }
    }
}

/* Under the operation lock. @ok: all files are open. */
static coroutine_fn RUNS_IN_MAIN void transaction_co_run(QmpTransaction *t, bool ok, GError **error)
{
    ok = ok && transaction_co_begin(t, error);
    BlockSection *section =
        block_nodes_co_drained_begin((BlockNode **)t->nodes->pdata, t->nodes->len);
    ok = ok && transaction_co_prepare(t, error);
    if (!ok) {
        transaction_co_abort(t);
    } else if (!t->finishes_late) {
        transaction_commit(t);
    }
    block_nodes_co_drained_end(section);
    if (ok && t->finishes_late) {
        ok = transaction_co_finish(t, error);
        if (ok) {
            transaction_commit(t);
        }
    }
    for (unsigned i = 0; i < t->actions->len; i++) {
        QmpAction *a = t->actions->pdata[i];
        if (a->begun && a->type->co_end != NULL) {
            a->type->co_end(a, ok);
        }
    }
}

/* ---- the command ---- */

static bool transaction_take_action(QmpTransaction *t, struct json_object *item, bool grouped,
                                    GError **error)
{
    const char *name = qmp_arg_str(item, "type");
    const QmpActionType *type = action_find(name);
    struct json_object *data = qmp_arg_get(item, "data");
    if (!qmp_check(type->data, data, "data", error)) {
        return false;
    }
    if (grouped && !type->has_job) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC,
                    "Action '%s' does not support transaction property completion-mode = grouped",
                    name);
        return false;
    }
    QmpAction *a = g_new0(QmpAction, 1);
    *a = (QmpAction){.transaction = t, .type = type, .data = data};
    t->finishes_late = t->finishes_late && type->co_finish != NULL;
    g_ptr_array_add(t->actions, a);
    return true;
}

static bool transaction_take_actions(QmpTransaction *t, struct json_object *args, bool grouped,
                                     GError **error)
{
    struct json_object *list = qmp_arg_get(args, "actions");
    t->finishes_late = true;
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        if (!transaction_take_action(t, json_object_array_get_idx(list, i), grouped, error)) {
            return false;
        }
    }
    return true;
}

static struct json_object *qmp_transaction(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    enter_coroutine();
    struct json_object *properties = qmp_arg_get(args, "properties");
    const char *mode = properties != NULL ? qmp_arg_str(properties, "completion-mode") : NULL;
    bool grouped = g_strcmp0(mode, "grouped") == 0;
    g_autoptr(GPtrArray) actions = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) nodes = g_ptr_array_new();
    QmpTransaction t = {.call = call, .actions = actions, .nodes = nodes};
    if (!transaction_take_actions(&t, args, grouped, error)) {
        return NULL;
    }
    bool ok = transaction_co_open(&t, error);
    vm_operation_begin(&call->vm->run);
    t.jobs = grouped ? job_txn_new() : NULL;
    transaction_co_run(&t, ok, error);
    if (grouped) {
        job_txn_seal(t.jobs);
    }
    vm_operation_end(&call->vm->run);
    return NULL;
}

/* ---- the group ---- */

static const QmpType action_kind = {
    .name = "TransactionActionKind",
    .kind = QMP_KIND_ENUM,
    .values = QMP_VALUES("abort", "block-dirty-bitmap-add", "block-dirty-bitmap-remove",
                         "block-dirty-bitmap-clear", "block-dirty-bitmap-enable",
                         "block-dirty-bitmap-disable", "block-dirty-bitmap-merge",
                         "blockdev-snapshot-internal-sync", "blockdev-snapshot",
                         "blockdev-snapshot-sync", "blockdev-backup", "drive-backup"),
    .doc = "The kind of an action.",
};
static const QmpType action_type = {
    .name = "TransactionAction",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"type", &action_kind, .doc = "abort, or the name of a command"},
                           {"data", &qmp_any, .doc = "the arguments of that command"}),
    .doc = "An action. abort has no arguments and makes the transaction fail, for tests.",
};
static const QmpType action_list = {.kind = QMP_KIND_ARRAY, .element = &action_type};
static const QmpType completion_mode = {
    .name = "ActionCompletionMode",
    .kind = QMP_KIND_ENUM,
    .values = QMP_VALUES("individual", "grouped"),
    .doc = "How the jobs of a transaction conclude: each alone, or all together.",
};
static const QmpType transaction_properties = {
    .name = "TransactionProperties",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"completion-mode", &completion_mode, true,
                            .doc = "grouped: if one job fails or is cancelled, all are cancelled"}),
};
static const QmpType transaction_arg = {
    .name = "transaction-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"actions", &action_list, .doc = "in the order of their effects"},
                           {"properties", &transaction_properties, true,
                            .doc = "default: completion-mode individual"}),
};

static const QmpCommand qmp_transaction_commands[] = {
    {"transaction", &transaction_arg, NULL, 0, qmp_transaction,
     "Does all of the actions, at one point in time of all disks, or none."},
    {0},
};

static const QmpEvent qmp_transaction_events[] = {{0}};

QMP_GROUP(transaction);

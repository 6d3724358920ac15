/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transactions: several actions of which all take effect or none.
 *
 *   open, open, ...        without the operation lock: makes and opens files
 *   begin, begin, ...      each finds its nodes and does what can wait for an image
 *   | drained section of all nodes
 *   |  prepare, prepare, ...   each takes effect, and can be undone; sees what those before have done
 *   |  commit, commit, ...     it is final; or, in reverse order, abort, abort, ...
 *   finish, finish, ...    only in a transaction whose actions all have it: between prepare and commit
 *   end, end, ...
 *
 * So all actions have one point in time. All but open is within one hold of the VM operation lock. The
 * functions of an action run in main; comments state which may yield. Only for this folder.
 */
#ifndef SKIFF_VMM_MONITOR_COMMANDS_QMP_TRANSACTION_H
#define SKIFF_VMM_MONITOR_COMMANDS_QMP_TRANSACTION_H

#include "block/block.h"
#include "vmm/monitor/qmp/qmp.h"

typedef struct QmpAction QmpAction;
typedef struct QmpTransaction QmpTransaction;

/* Functions may be NULL, but for prepare. */
typedef struct QmpActionType {
    const char *name; /* NULL ends a table */
    const QmpType *data;
    bool has_job; /* it may be in a transaction with completion-mode=grouped */
    /* Coroutines. False + @error. An action of which one of these two has succeeded is ended by end,
     * whatever fails; one whose first function failed is not. */
    bool (*co_open)(QmpAction *a, GError **error);
    bool (*co_begin)(QmpAction *a, GError **error);
    bool (*co_prepare)(QmpAction *a, GError **error);
    /* What a prepare has left to be done outside of the section. Nothing of a transaction in which an
     * action has it not is undone after the section. */
    bool (*co_finish)(QmpAction *a, GError **error);
    /* Must not yield. */
    void (*commit)(QmpAction *a);
    /* A coroutine. Undoes what prepare has done, also if that has failed or was not called. After a
     * finish that failed it is not called: end does all. */
    void (*co_abort)(QmpAction *a);
    /* A coroutine, outside of the section. Frees the state. */
    void (*co_end)(QmpAction *a, bool committed);
} QmpActionType;

struct QmpAction {
    QmpTransaction *transaction;
    const QmpActionType *type;
    struct json_object *data; /* borrowed, checked */
    void *state;
    bool begun; /* open or begin has succeeded */
};

struct QmpTransaction {
    QmpCall *call;
    JobTxn *jobs;       /* for the jobs of actions; NULL: each concludes alone */
    bool finishes_late; /* all actions have co_finish */
    GPtrArray *actions; /* QmpAction, owned */
    GPtrArray *nodes;   /* borrowed: the actions hold references */
};

/* Called by open or begin: the node is drained for prepare, commit and abort. */
void qmp_transaction_add_node(QmpTransaction *t, BlockNode *n) RUNS_IN_MAIN;

/* ---- the actions, each table in the file of its commands ---- */
extern const QmpActionType qmp_bitmap_actions[], qmp_snapshot_actions[], qmp_backup_actions[],
    qmp_chain_actions[];

#endif

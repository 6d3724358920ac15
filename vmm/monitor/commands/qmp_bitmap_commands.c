/* SPDX-License-Identifier: Apache-2.0 */
/* Dirty bitmaps of nodes. Each command is a control operation: the node stays where it is. Each is also
 * an action of a transaction. */
#include "block/dirty_bitmap.h"
#include "vmm/monitor/commands/qmp_block.h"
#include "vmm/monitor/commands/qmp_transaction.h"

/* ---- arguments ---- */

typedef struct BitmapArgs {
    BlockBitmapOp op;             /* its texts are borrowed from the arguments */
    BlockDirtyBitmapRef *sources; /* owned */
    BlockBitmapUndo *undo;        /* of an action of a transaction; NULL: it was not done */
} BitmapArgs;

/* Frees the arguments and drops the references to nodes. */
static coroutine_fn RUNS_IN_MAIN void bitmap_args_co_clear(BitmapArgs *b)
{
    for (unsigned i = 0; i < b->op.count; i++) {
        block_co_unref(b->sources[i].node);
    }
    if (b->op.node != NULL) {
        block_co_unref(b->op.node);
    }
    g_free(b->sources);
    *b = (BitmapArgs){0};
}

/* A source is the name of a bitmap of @n, or names its node too. */
static RUNS_IN_MAIN bool bitmap_source(Vm *vm, BlockNode *n, struct json_object *item,
                                       BlockDirtyBitmapRef *source, GError **error)
{
    *source = (BlockDirtyBitmapRef){.node = n};
    if (json_object_is_type(item, json_type_string)) {
        source->name = json_object_get_string(item);
        return true;
    }
    source->name = qmp_arg_str(item, "name");
    source->node = qmp_find_node_of(vm, qmp_arg_str(item, "node"), error);
    return source->node != NULL;
}

static RUNS_IN_MAIN bool bitmap_take_sources(Vm *vm, struct json_object *args, BitmapArgs *b,
                                             GError **error)
{
    struct json_object *list = qmp_arg_get(args, "bitmaps");
    unsigned count = (unsigned)json_object_array_length(list);
    b->op.sources = b->sources = g_new0(BlockDirtyBitmapRef, count + 1);
    while (b->op.count < count) {
        BlockDirtyBitmapRef *source = &b->sources[b->op.count];
        struct json_object *item = json_object_array_get_idx(list, b->op.count);
        if (!bitmap_source(vm, b->op.node, item, source, error)) {
            return false;
        }
        block_node_ref(source->node);
        b->op.count++;
    }
    return true;
}

/* Under the operation lock. False + @error; bitmap_args_co_clear() follows in any case. */
static RUNS_IN_MAIN bool bitmap_take_args(Vm *vm, BlockBitmapOpKind kind, struct json_object *args,
                                          BitmapArgs *b, GError **error)
{
    *b = (BitmapArgs){.op = {.kind = kind}};
    b->op.node = qmp_find_node_of(vm, qmp_arg_str(args, "node"), error);
    if (b->op.node == NULL) {
        return false;
    }
    block_node_ref(b->op.node);
    b->op.name = qmp_arg_str(args, kind == BLOCK_BITMAP_MERGE ? "target" : "name");
    if (kind == BLOCK_BITMAP_ADD) {
        bool given = qmp_arg_get(args, "granularity") != NULL;
        uint64_t granularity = qmp_arg_u64(args, "granularity", 0);
        /* 0 and what does not fit are no powers of two */
        bool wrong = given && (granularity == 0 || granularity > UINT32_MAX);
        b->op.granularity = wrong ? 1 : (uint32_t)granularity;
        b->op.flags = (qmp_arg_bool(args, "disabled", false) ? BLOCK_BITMAP_DISABLED : 0) |
                      (qmp_arg_bool(args, "persistent", false) ? BLOCK_BITMAP_PERSISTENT : 0);
    }
    return kind != BLOCK_BITMAP_MERGE || bitmap_take_sources(vm, args, b, error);
}

/* ---- commands ---- */

static coroutine_fn RUNS_IN_MAIN struct json_object *
bitmap_co_command(QmpCall *call, BlockBitmapOpKind kind, struct json_object *args, GError **error)
{
    BitmapArgs b;
    vm_operation_begin(&call->vm->run);
    if (bitmap_take_args(call->vm, kind, args, &b, error)) {
        block_bitmap_co_run(&b.op, error);
    }
    bitmap_args_co_clear(&b);
    vm_operation_end(&call->vm->run);
    return NULL;
}

/* ---- actions of a transaction ---- */

static coroutine_fn RUNS_IN_MAIN bool bitmap_action_co_begin(QmpAction *a, BlockBitmapOpKind kind,
                                                             GError **error)
{
    BitmapArgs *b = a->state = g_new0(BitmapArgs, 1);
    if (!bitmap_take_args(a->transaction->call->vm, kind, a->data, b, error)) {
        bitmap_args_co_clear(b);
        g_free(b);
        return false;
    }
    qmp_transaction_add_node(a->transaction, b->op.node);
    for (unsigned i = 0; i < b->op.count; i++) {
        qmp_transaction_add_node(a->transaction, b->sources[i].node);
    }
    return true;
}

static bool bitmap_action_prepare(QmpAction *a, GError **error)
{
    enter_main();
    enter_coroutine();
    BitmapArgs *b = a->state;
    b->undo = block_bitmap_co_do(&b->op, error);
    return b->undo != NULL;
}

static void bitmap_action_commit(QmpAction *a)
{
    enter_main();
    BitmapArgs *b = a->state;
    block_bitmap_undo_free(g_steal_pointer(&b->undo));
}

static void bitmap_action_abort(QmpAction *a)
{
    enter_main();
    enter_coroutine();
    BitmapArgs *b = a->state;
    if (b->undo != NULL) {
        block_bitmap_co_undo(g_steal_pointer(&b->undo));
    }
}

static void bitmap_action_end(QmpAction *a, bool committed)
{
    enter_main();
    enter_coroutine();
    bitmap_args_co_clear(a->state);
    g_free(a->state);
}

/* The command qmp_bitmap_<name>() and the begin of its action. */
#define BITMAP_COMMAND(name, kind)                                                                 \
    static struct json_object *qmp_bitmap_##name(QmpCall *call, struct json_object *args,          \
                                                 GError **error)                                   \
    {                                                                                              \
        enter_main();                                                                              \
        enter_coroutine();                                                                         \
        return bitmap_co_command(call, kind, args, error);                                         \
    }                                                                                              \
    static bool bitmap_action_begin_##name(QmpAction *a, GError **error)                           \
    {                                                                                              \
        enter_main();                                                                              \
        enter_coroutine();                                                                         \
        return bitmap_action_co_begin(a, kind, error);                                             \
    }
BITMAP_COMMAND(add, BLOCK_BITMAP_ADD)
BITMAP_COMMAND(remove, BLOCK_BITMAP_REMOVE)
BITMAP_COMMAND(clear, BLOCK_BITMAP_ZERO)
BITMAP_COMMAND(enable, BLOCK_BITMAP_ENABLE)
BITMAP_COMMAND(disable, BLOCK_BITMAP_DISABLE)
BITMAP_COMMAND(merge, BLOCK_BITMAP_MERGE)

/* ---- tables ---- */

static const QmpType bitmap_arg = {
    .name = "BlockDirtyBitmap",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"node", &qmp_str, .doc = "the node's name, or the id of a -drive"},
                           {"name", &qmp_str, .doc = "the bitmap's name"}),
};
static const QmpType bitmap_add_arg = {
    .name = "BlockDirtyBitmapAdd",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"node", &qmp_str, .doc = "the node's name, or the id of a -drive"},
        {"name", &qmp_str, .doc = "1 to 1023 bytes"},
        {"granularity", &qmp_u32, true,
         .doc = "bytes for each bit, a power of two; default: the image's cluster size within 4096 "
                "and "
                "65536, or 65536"},
        {"persistent", &qmp_bool, true, .doc = "the bitmap is kept in the image, which is qcow2"},
        {"disabled", &qmp_bool, true, .doc = "the bitmap does not record yet"}),
};
static const QmpType bitmap_source_type = {
    .name = "BlockDirtyBitmapOrStr",
    .kind = QMP_KIND_ALTERNATE,
    .members = QMP_MEMBERS({"local", &qmp_str, .doc = "the name of a bitmap of the same node"},
                           {"external", &bitmap_arg, .doc = "a bitmap of any node"}),
};
static const QmpType bitmap_source_list = {.kind = QMP_KIND_ARRAY, .element = &bitmap_source_type};
static const QmpType bitmap_merge_arg = {
    .name = "BlockDirtyBitmapMerge",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"node", &qmp_str, .doc = "the node's name, or the id of a -drive"},
                           {"target", &qmp_str, .doc = "the bitmap that gets the bits"},
                           {"bitmaps", &bitmap_source_list, .doc = "where they come from"}),
};

#define BITMAP_ACTION(action, bitmap_name, arg)                                                    \
    {                                                                                              \
        .name = (action), .data = (arg), .co_begin = bitmap_action_begin_##bitmap_name,            \
        .co_prepare = bitmap_action_prepare, .commit = bitmap_action_commit,                       \
        .co_abort = bitmap_action_abort, .co_end = bitmap_action_end,                              \
    }
const QmpActionType qmp_bitmap_actions[] = {
    BITMAP_ACTION("block-dirty-bitmap-add", add, &bitmap_add_arg),
    BITMAP_ACTION("block-dirty-bitmap-remove", remove, &bitmap_arg),
    BITMAP_ACTION("block-dirty-bitmap-clear", clear, &bitmap_arg),
    BITMAP_ACTION("block-dirty-bitmap-enable", enable, &bitmap_arg),
    BITMAP_ACTION("block-dirty-bitmap-disable", disable, &bitmap_arg),
    BITMAP_ACTION("block-dirty-bitmap-merge", merge, &bitmap_merge_arg),
    {0},
};

static const QmpCommand qmp_bitmap_commands[] = {
    {"block-dirty-bitmap-add", &bitmap_add_arg, NULL, 0, qmp_bitmap_add,
     "Adds a bitmap that records which parts of a node are changed from now on."},
    {"block-dirty-bitmap-remove", &bitmap_arg, NULL, 0, qmp_bitmap_remove, "Removes a bitmap."},
    {"block-dirty-bitmap-clear", &bitmap_arg, NULL, 0, qmp_bitmap_clear,
     "Clears all bits of a bitmap."},
    {"block-dirty-bitmap-enable", &bitmap_arg, NULL, 0, qmp_bitmap_enable,
     "Makes a bitmap record changes."},
    {"block-dirty-bitmap-disable", &bitmap_arg, NULL, 0, qmp_bitmap_disable,
     "Makes a bitmap keep its bits as they are."},
    {"block-dirty-bitmap-merge", &bitmap_merge_arg, NULL, 0, qmp_bitmap_merge,
     "Sets in one bitmap what is set in others. On failure nothing changes."},
    {0},
};

static const QmpEvent qmp_bitmap_events[] = {{0}};

QMP_GROUP(bitmap);

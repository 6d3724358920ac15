/* SPDX-License-Identifier: Apache-2.0 */
/* Dirty bitmaps of nodes. Each command is a control operation: the node stays where it is. */
#include "block/dirty_bitmap.h"
#include "vmm/monitor/commands/qmp_block.h"

/* ---- nodes ---- */

/* A referenced node under the operation lock, until bitmap_end(). NULL: @error is set. */
static coroutine_fn RUNS_IN_MAIN BlockNode *bitmap_begin(QmpCall *call, struct json_object *args,
                                                         GError **error)
{
    vm_operation_begin(&call->vm->run);
    BlockNode *n = qmp_find_node_of(call->vm, qmp_arg_str(args, "node"), error);
    if (n != NULL) {
        block_node_ref(n);
    }
    return n;
}

static coroutine_fn RUNS_IN_MAIN void bitmap_end(QmpCall *call, BlockNode *n)
{
    if (n != NULL) {
        block_co_unref(n);
    }
    vm_operation_end(&call->vm->run);
}

/* ---- commands ---- */

static struct json_object *qmp_bitmap_add(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    enter_coroutine();
    bool given = qmp_arg_get(args, "granularity") != NULL;
    uint64_t granularity = qmp_arg_u64(args, "granularity", 0);
    unsigned flags = (qmp_arg_bool(args, "disabled", false) ? BLOCK_BITMAP_DISABLED : 0) |
                     (qmp_arg_bool(args, "persistent", false) ? BLOCK_BITMAP_PERSISTENT : 0);
    BlockNode *n = bitmap_begin(call, args, error);
    if (n != NULL) {
        /* 0 and what does not fit are no powers of two */
        bool wrong = given && (granularity == 0 || granularity > UINT32_MAX);
        block_dirty_bitmap_co_add(n, qmp_arg_str(args, "name"), wrong ? 1 : (uint32_t)granularity,
                                  flags, error);
    }
    bitmap_end(call, n);
    return NULL;
}

static struct json_object *qmp_bitmap_remove(QmpCall *call, struct json_object *args,
                                             GError **error)
{
    enter_main();
    enter_coroutine();
    BlockNode *n = bitmap_begin(call, args, error);
    if (n != NULL) {
        block_dirty_bitmap_co_remove(n, qmp_arg_str(args, "name"), error);
    }
    bitmap_end(call, n);
    return NULL;
}

static struct json_object *qmp_bitmap_clear(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    enter_coroutine();
    BlockNode *n = bitmap_begin(call, args, error);
    if (n != NULL) {
        block_dirty_bitmap_co_clear(n, qmp_arg_str(args, "name"), error);
    }
    bitmap_end(call, n);
    return NULL;
}

static coroutine_fn RUNS_IN_MAIN struct json_object *
bitmap_co_set_enabled(QmpCall *call, struct json_object *args, bool enabled, GError **error)
{
    BlockNode *n = bitmap_begin(call, args, error);
    if (n != NULL) {
        block_dirty_bitmap_co_set_enabled(n, qmp_arg_str(args, "name"), enabled, error);
    }
    bitmap_end(call, n);
    return NULL;
}

static struct json_object *qmp_bitmap_enable(QmpCall *call, struct json_object *args,
                                             GError **error)
{
    enter_main();
    enter_coroutine();
    return bitmap_co_set_enabled(call, args, true, error);
}

static struct json_object *qmp_bitmap_disable(QmpCall *call, struct json_object *args,
                                              GError **error)
{
    enter_main();
    enter_coroutine();
    return bitmap_co_set_enabled(call, args, false, error);
}

/* A source is the name of a bitmap of @n, or names its node too. */
static RUNS_IN_MAIN bool bitmap_source(QmpCall *call, BlockNode *n, struct json_object *item,
                                       BlockDirtyBitmapRef *source, GError **error)
{
    *source = (BlockDirtyBitmapRef){.node = n};
    if (json_object_is_type(item, json_type_string)) {
        source->name = json_object_get_string(item);
        return true;
    }
    source->name = qmp_arg_str(item, "name");
    source->node = qmp_find_node_of(call->vm, qmp_arg_str(item, "node"), error);
    return source->node != NULL;
}

static struct json_object *qmp_bitmap_merge(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    enter_coroutine();
    struct json_object *list = qmp_arg_get(args, "bitmaps");
    unsigned count = (unsigned)json_object_array_length(list), found = 0;
    g_autofree BlockDirtyBitmapRef *sources = g_new0(BlockDirtyBitmapRef, count + 1);
    BlockNode *n = bitmap_begin(call, args, error);
    while (n != NULL && found < count &&
           bitmap_source(call, n, json_object_array_get_idx(list, found), &sources[found], error)) {
        block_node_ref(sources[found++].node);
    }
    if (n != NULL && found == count) {
        BlockDirtyBitmapRef target = {.node = n, .name = qmp_arg_str(args, "target")};
        block_dirty_bitmap_co_merge(target, sources, count, error);
    }
    while (found > 0) {
        block_co_unref(sources[--found].node);
    }
    bitmap_end(call, n);
    return NULL;
}

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

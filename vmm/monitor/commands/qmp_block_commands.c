/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks: adds, deletes, reopens and resizes nodes; the group's tables.
 *
 * Opening and closing a node hold no operation lock, so a file that hangs blocks only its own
 * client. A change of a node in use is a control operation.
 */
#include "block/graph.h"
#include "util/opts/json.h"
#include "vmm/monitor/commands/qmp_block.h"

/* ---- nodes ---- */

static struct json_object *qmp_blockdev_add(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    enter_coroutine();
    if (!qmp_arg_has(args, "node-name")) {
        g_set_error_literal(error, QMP_ERROR, QMP_ERROR_GENERIC,
                            "'node-name' must be specified for the root node");
        return NULL;
    }
    g_autoptr(OptDict) opts = opt_dict_from_json(args, error);
    if (opts != NULL) {
        block_co_add(opts, call->vm->machine.env.default_iothread, error);
    }
    return NULL;
}

static struct json_object *qmp_blockdev_del(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    enter_coroutine();
    block_co_delete(qmp_arg_str(args, "node-name"), error);
    return NULL;
}

static void qmp_free_opts(void *opaque)
{
    opt_dict_free(opaque);
}

static struct json_object *qmp_blockdev_reopen(QmpCall *call, struct json_object *args,
                                               GError **error)
{
    enter_main();
    enter_coroutine();
    struct json_object *list = qmp_arg_get(args, "options");
    g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func(qmp_free_opts);
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        OptDict *opts = opt_dict_from_json(json_object_array_get_idx(list, i), error);
        if (opts == NULL) {
            return NULL;
        }
        g_ptr_array_add(all, opts);
    }
    vm_operation_begin(&call->vm->run);
    block_co_reopen((OptDict *const *)all->pdata, all->len, error);
    vm_operation_end(&call->vm->run);
    return NULL;
}

BlockNode *qmp_find_node(Vm *vm, const char *device, const char *node_name, GError **error)
{
    BlockNode *n = device != NULL ? backends_drive_node(&vm->backends, device) : NULL;
    if (n == NULL && node_name != NULL) {
        n = block_node_find(node_name);
        if (n != NULL && !block_node_check_no_filter(n, error)) {
            return NULL;
        }
    }
    if (n == NULL) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC,
                    "Cannot find device='%s' nor node-name='%s'", device != NULL ? device : "",
                    node_name != NULL ? node_name : "");
    }
    return n;
}

BlockNode *qmp_find_node_of(Vm *vm, const char *name, GError **error)
{
    return qmp_find_node(vm, name, name, error);
}

static struct json_object *qmp_block_resize(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    enter_coroutine();
    int64_t size = qmp_arg_int(args, "size", 0);
    vm_operation_begin(&call->vm->run);
    BlockNode *n =
        qmp_find_node(call->vm, qmp_arg_str(args, "device"), qmp_arg_str(args, "node-name"), error);
    if (n != NULL && size < 0) {
        g_set_error_literal(error, QMP_ERROR, QMP_ERROR_GENERIC,
                            "Parameter 'size' expects a >0 size");
    } else if (n != NULL) {
        block_node_co_resize(n, (uint64_t)size, error);
    }
    vm_operation_end(&call->vm->run);
    return NULL;
}

/* ---- histograms ---- */

typedef struct Boundaries {
    bool given;
    unsigned count;
    uint64_t list[BLK_HISTOGRAM_MAX];
} Boundaries;

/* Reads the list of member @own, or of "boundaries" if @own is absent. Returns false and sets
 * @error if the list is invalid. */
static bool qmp_read_boundaries(struct json_object *args, const char *own, const char *what,
                                const char *id, Boundaries *b, GError **error)
{
    struct json_object *list = qmp_arg_get(args, own);
    list = list != NULL ? list : qmp_arg_get(args, "boundaries");
    b->given = list != NULL;
    size_t count = list != NULL ? json_object_array_length(list) : 0;
    b->count = (unsigned)MIN(count, BLK_HISTOGRAM_MAX);
    for (unsigned i = 0; i < b->count; i++) {
        b->list[i] = json_object_get_uint64(json_object_array_get_idx(list, i));
    }
    if (count <= BLK_HISTOGRAM_MAX && blk_histogram_ok(b->list, b->count)) {
        return true;
    }
    g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC,
                "Device '%s' set %s boundaries fail: at most %u ascending values above 0", id, what,
                BLK_HISTOGRAM_MAX);
    return false;
}

static const struct {
    const char *member, *what;
    BlkOp op;
} histogram_kinds[] = {
    {"boundaries-read", "read", BLK_OP_READ},
    {"boundaries-write", "write", BLK_OP_WRITE},
    {"boundaries-flush", "flush", BLK_OP_FLUSH},
};

static coroutine_fn RUNS_IN_MAIN void
qmp_set_histograms(BlockBackend *blk, struct json_object *args, const char *id, GError **error)
{
    Boundaries all[G_N_ELEMENTS(histogram_kinds)];
    bool any = false;
    for (unsigned i = 0; i < G_N_ELEMENTS(all); i++) {
        if (!qmp_read_boundaries(args, histogram_kinds[i].member, histogram_kinds[i].what, id,
                                 &all[i], error)) {
            return;
        }
        any = any || all[i].given;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(all); i++) {
        if (all[i].given || !any) {
            blk_co_set_histogram(blk, histogram_kinds[i].op, any ? all[i].list : NULL,
                                 all[i].count);
        }
    }
}

static struct json_object *qmp_block_latency_histogram_set(QmpCall *call, struct json_object *args,
                                                           GError **error)
{
    enter_main();
    enter_coroutine();
    const char *id = qmp_arg_str(args, "id");
    if (qmp_arg_has(args, "boundaries-zap")) {
        g_set_error_literal(error, QMP_ERROR, QMP_ERROR_GENERIC,
                            "Parameter 'boundaries-zap': skiff has no zoned disks; leave it out");
        return NULL;
    }
    vm_operation_begin(&call->vm->run); /* keeps the device from being removed */
    BlockBackend *blk = qmp_find_backend(call->vm, id, error);
    if (blk != NULL) {
        qmp_set_histograms(blk, args, id, error);
    }
    vm_operation_end(&call->vm->run);
    return NULL;
}

/* ---- schema ---- */

/* Drivers and their options come from the block layer (-blockdev help). */
const QmpType qmp_blockdev_options = {
    .name = "BlockdevOptions",
    .kind = QMP_KIND_STRUCT,
    .open = true,
    .members = QMP_MEMBERS({"driver", &qmp_str, .doc = "the node's driver"},
                           {"node-name", &qmp_str, true, .doc = "the node's name"}),
    .doc = "A node, with the options of -blockdev.",
};
const QmpType qmp_blockdev_ref = {
    .name = "BlockdevRef",
    .kind = QMP_KIND_ALTERNATE,
    .members = QMP_MEMBERS({"definition", &qmp_blockdev_options, .doc = "a new node"},
                           {"reference", &qmp_str, .doc = "the name of a node"}),
};
static const QmpType blockdev_options_list = {.kind = QMP_KIND_ARRAY,
                                              .element = &qmp_blockdev_options};

static const QmpType node_name_arg = {
    .name = "blockdev-del-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"node-name", &qmp_str, .doc = "the node's name"}),
};
static const QmpType reopen_arg = {
    .name = "blockdev-reopen-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"options", &blockdev_options_list,
                            .doc = "nodes with all options; an absent option gets its default"}),
};
static const QmpType resize_arg = {
    .name = "block_resize-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"device", &qmp_str, true, .doc = "id of a -drive"},
                           {"node-name", &qmp_str, true, .doc = "instead: the node's name"},
                           {"size", &qmp_int, .doc = "bytes, a multiple of 512"}),
};
static const QmpType blockstats_arg = {
    .name = "query-blockstats-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"query-nodes", &qmp_bool, true, .doc = "list nodes instead of disks"}),
};
static const QmpType named_nodes_arg = {
    .name = "query-named-block-nodes-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"flat", &qmp_bool, true, .doc = "without backing-image"}),
};
static const QmpType histogram_arg = {
    .name = "block-latency-histogram-set-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"id", &qmp_str, .doc = "id or path of the guest's device"},
        {"boundaries", &qmp_u64_list, true, .doc = "ns, ascending, for all kinds of requests"},
        {"boundaries-read", &qmp_u64_list, true, .doc = "for reads"},
        {"boundaries-write", &qmp_u64_list, true, .doc = "for writes"},
        {"boundaries-zap", &qmp_u64_list, true, .doc = "refused: there are no zoned disks"},
        {"boundaries-flush", &qmp_u64_list, true, .doc = "for flushes"}),
};

static const QmpCommand qmp_block_commands[] = {
    {"query-block", NULL, &qmp_block_info_list, QMP_INSTANT, qmp_query_block,
     "The guest's disks, and drives that no device uses."},
    {"query-blockstats", &blockstats_arg, &qmp_block_stats_list, QMP_INSTANT, qmp_query_blockstats,
     "I/O statistics of each disk."},
    {"query-named-block-nodes", &named_nodes_arg, &qmp_block_device_info_list, QMP_INSTANT,
     qmp_query_named_block_nodes, "All block nodes."},
    {"blockdev-add", &qmp_blockdev_options, NULL, 0, qmp_blockdev_add,
     "Opens a node. It runs in the default iothread until a device moves it to its own."},
    {"blockdev-del", &node_name_arg, NULL, 0, qmp_blockdev_del,
     "Closes an unused node of -blockdev or blockdev-add."},
    {"blockdev-reopen", &reopen_arg, NULL, 0, qmp_blockdev_reopen,
     "Changes options of nodes in use: read-only, cache.*, discard, aio, locking. On failure "
     "nothing changes."},
    {"block_resize", &resize_arg, NULL, 0, qmp_block_resize,
     "Resizes a disk, which may be in use by the guest."},
    {"block-latency-histogram-set", &histogram_arg, NULL, 0, qmp_block_latency_histogram_set,
     "Starts histograms of request latency, which query-blockstats returns. Without boundaries, "
     "ends them."},
    {0},
};

static const QmpType io_error_type = {
    .name = "BLOCK_IO_ERROR",
    .kind = QMP_KIND_STRUCT,
    .members =
        QMP_MEMBERS({"qom-path", &qmp_str, .doc = "the path of the guest's device"},
                    {"device", &qmp_str, .doc = "the id of its -drive; empty for a -blockdev"},
                    {"node-name", &qmp_str, true, .doc = "the disk's root node"},
                    {"operation", &qmp_io_operation_type, .doc = "the failed operation"},
                    {"action", &qmp_block_error_action, .doc = "the device's reaction"},
                    {"nospace", &qmp_bool, true, .doc = "whether the disk is full"},
                    {"reason", &qmp_str, .doc = "the error message, for people"}),
};

static const QmpEvent qmp_block_events[] = {
    {"BLOCK_IO_ERROR", &io_error_type, "I/O of a disk has failed."},
    {0},
};

QMP_GROUP(block);

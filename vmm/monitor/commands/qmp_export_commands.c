/* SPDX-License-Identifier: Apache-2.0 */
/* Block exports and the NBD server. Adding and the end of an export are control operations. */
#include <string.h>
#include <unistd.h>
#include "block/graph.h"
#include "block/nbd/nbd.h"
#include "util/tls_options.h"
#include "vmm/monitor/commands/qmp_block.h"
#include "vmm/monitor/commands/qmp_chardev_backend.h"

/* ---- the server ---- */

/* *@creds: the credentials of the option, or NULL if it is absent. */
static RUNS_IN_MAIN bool export_find_creds(struct json_object *args, TlsCreds **creds,
                                           GError **error)
{
    const char *id = qmp_arg_str(args, "tls-creds");
    *creds = NULL;
    if (qmp_arg_has(args, "tls-authz")) {
        g_set_error_literal(error, QMP_ERROR, QMP_ERROR_GENERIC,
                            "Parameter 'tls-authz': skiff has no authorization objects; nearest is "
                            "verify-peer=on with a CA of the clients' own");
        return false;
    }
    if (id == NULL) {
        return true;
    }
    TlsCreds *found = tls_objects_find(id);
    if (found == NULL) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC, "No TLS credentials with id '%s'", id);
        return false;
    }
    if (!tls_creds_config(found)->server) {
        g_set_error_literal(error, QMP_ERROR, QMP_ERROR_GENERIC,
                            "Expecting TLS credentials with a server endpoint");
        return false;
    }
    *creds = found;
    return true;
}

static coroutine_fn RUNS_IN_MAIN void export_co_start_at(struct json_object *args, OptDict *options,
                                                         TlsCreds *creds, GError **error)
{
    static const OptSpec specs[] = {
        OPT_SPEC(SocketAddressOptions, "path", OPT_STRING, path),
        OPT_SPEC(SocketAddressOptions, "abstract", OPT_BOOL, abstract, .def = "off"),
        OPT_SPEC(SocketAddressOptions, "host", OPT_STRING, host),
        OPT_SPEC(SocketAddressOptions, "port", OPT_STRING, port),
        OPT_SPEC(SocketAddressOptions, "ipv4", OPT_BOOL, ipv4, .def = "off"),
        OPT_SPEC(SocketAddressOptions, "ipv6", OPT_BOOL, ipv6, .def = "off"),
        OPT_SPEC(SocketAddressOptions, "fd", OPT_STRING, fd),
        {0},
    };
    SocketAddressOptions address;
    uint64_t seconds =
        (uint64_t)qmp_arg_int(args, "handshake-max-seconds", NBD_HANDSHAKE_SECONDS_DEFAULT);
    NbdServerConfig config = {
        .address = &address,
        .tls = creds,
        .max_connections = (unsigned)qmp_arg_int(args, "max-connections", NBD_CONNECTIONS_DEFAULT),
        .handshake_ns = seconds * 1000000000u};
    opts_init(specs, &address);
    if (opts_bind(specs, &address, options, "addr", error)) {
        nbd_server_co_start(&config, error);
        opts_clear(specs, &address);
    }
}

static struct json_object *qmp_nbd_server_start(QmpCall *call, struct json_object *args,
                                                GError **error)
{
    enter_main();
    enter_coroutine();
    g_autoptr(OptDict) options = opt_dict_new();
    TlsCreds *creds;
    int fd = -1;
    if (!export_find_creds(args, &creds, error)) {
        return NULL;
    }
    if (qmp_socket_address_options(qmp_arg_get(args, "addr"), "addr.data", options, call->session,
                                   &fd, error)) {
        if (creds != NULL) {
            tls_creds_ref(creds); /* the object may be deleted meanwhile */
        }
        export_co_start_at(args, options, creds, error);
        tls_creds_unref(creds);
    }
    if (fd >= 0) {
        close(fd);
    }
    return NULL;
}

static struct json_object *qmp_nbd_server_stop(QmpCall *call, struct json_object *args,
                                               GError **error)
{
    enter_main();
    enter_coroutine();
    nbd_server_co_stop(error);
    return NULL;
}

/* ---- exports ---- */

static RUNS_IN_MAIN bool export_check_id(const char *id, GError **error)
{
    if (opt_id_check(id, NULL)) {
        return true;
    }
    g_set_error_literal(error, QMP_ERROR, QMP_ERROR_GENERIC, "Invalid block export id");
    return false;
}

/* Tries to move the node; only an iothread that is @fixed has to be its home. */
static coroutine_fn RUNS_IN_MAIN bool
export_co_move(QmpCall *call, BlockNode *n, const char *iothread, bool fixed, GError **error)
{
    g_autoptr(GError) failure = NULL;
    if (iothread == NULL) {
        return true;
    }
    IoThread *t = backends_find_iothread(&call->vm->backends, iothread);
    if (t == NULL) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC, "iothread \"%s\" not found", iothread);
        return false;
    }
    if (!block_co_move(n, iothread_context(t), &failure) && fixed) {
        g_propagate_error(error, g_steal_pointer(&failure));
        return false;
    }
    return true;
}

/* The name of a bitmap, or the name of its node, or of a drive, and its own. */
static RUNS_IN_MAIN bool export_read_bitmap(Vm *vm, struct json_object *item, NbdExportBitmap *b,
                                            GError **error)
{
    if (json_object_is_type(item, json_type_string)) {
        *b = (NbdExportBitmap){.name = json_object_get_string(item)};
        return true;
    }
    const char *node = qmp_arg_str(item, "node");
    BlockNode *n = qmp_find_node_of(vm, node, NULL);
    if (n == NULL) {
        g_autofree char *excerpt = opt_excerpt(node);
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC, "Node '%s' not found", excerpt);
        return false;
    }
    *b = (NbdExportBitmap){.node = block_node_name(n), .name = qmp_arg_str(item, "name")};
    return true;
}

/* Fills @list, which has room for the bitmaps of @from. */
static RUNS_IN_MAIN bool export_read_bitmaps(Vm *vm, struct json_object *from,
                                             NbdExportBitmap *list, GError **error)
{
    for (size_t i = 0; from != NULL && i < json_object_array_length(from); i++) {
        if (!export_read_bitmap(vm, json_object_array_get_idx(from, i), &list[i], error)) {
            return false;
        }
    }
    return true;
}

/* Under the operation lock. */
static coroutine_fn RUNS_IN_MAIN void export_co_add(QmpCall *call, struct json_object *args,
                                                    GError **error)
{
    const char *name = qmp_arg_str(args, "node-name");
    struct json_object *bitmaps = qmp_arg_get(args, "bitmaps");
    size_t count = bitmaps != NULL ? json_object_array_length(bitmaps) : 0;
    g_autofree NbdExportBitmap *list = g_new0(NbdExportBitmap, count + 1);
    BlockNode *n = block_node_find(name);
    if (n == NULL) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC, "Cannot find device='' nor node-name='%s'",
                    name);
        return;
    }
    if (!block_node_check_no_filter(n, error) ||
        !export_read_bitmaps(call->vm, bitmaps, list, error)) {
        return;
    }
    NbdExportConfig config = {.id = qmp_arg_str(args, "id"),
                              .name = qmp_arg_str(args, "name"),
                              .description = qmp_arg_str(args, "description"),
                              .node = n,
                              .writable = qmp_arg_bool(args, "writable", false),
                              .writethrough = qmp_arg_bool(args, "writethrough", false),
                              .allocation_depth = qmp_arg_bool(args, "allocation-depth", false),
                              .bitmaps = list,
                              .bitmap_count = (unsigned)count};
    config.name = config.name != NULL ? config.name : name;
    if (export_co_move(call, n, qmp_arg_str(args, "iothread"),
                       qmp_arg_bool(args, "fixed-iothread", false), error)) {
        nbd_export_co_add(&config, error);
    }
}

static struct json_object *qmp_block_export_add(QmpCall *call, struct json_object *args,
                                                GError **error)
{
    enter_main();
    enter_coroutine();
    if (export_check_id(qmp_arg_str(args, "id"), error)) {
        vm_operation_begin(&call->vm->run);
        export_co_add(call, args, error);
        vm_operation_end(&call->vm->run);
    }
    return NULL;
}

/* Under the operation lock. */
static coroutine_fn RUNS_IN_MAIN void export_co_add_device(QmpCall *call, struct json_object *args,
                                                           GError **error)
{
    const char *device = qmp_arg_str(args, "device"), *name = qmp_arg_str(args, "name");
    NbdExportBitmap bitmap = {.name = qmp_arg_str(args, "bitmap")};
    BlockNode *n = qmp_find_node_of(call->vm, device, error);
    if (n == NULL || !export_check_id(name != NULL ? name : device, error)) {
        return;
    }
    NbdExportConfig config = {.id = name != NULL ? name : device,
                              .name = name != NULL ? name : device,
                              .description = qmp_arg_str(args, "description"),
                              .node = n,
                              .bitmaps = &bitmap,
                              .bitmap_count = bitmap.name != NULL};
    /* A read-only disk is exported, too. */
    config.writable = qmp_arg_bool(args, "writable", false) && !block_node_read_only(n);
    nbd_export_co_add(&config, error);
}

static struct json_object *qmp_nbd_server_add(QmpCall *call, struct json_object *args,
                                              GError **error)
{
    enter_main();
    enter_coroutine();
    vm_operation_begin(&call->vm->run);
    export_co_add_device(call, args, error);
    vm_operation_end(&call->vm->run);
    return NULL;
}

static const QmpType export_remove_mode = {
    .name = "BlockExportRemoveMode",
    .kind = QMP_KIND_ENUM,
    .values = QMP_VALUES("safe", "hard"),
    .doc = "safe: only if there are no clients; hard: clients are disconnected.",
};

static struct json_object *qmp_block_export_del(QmpCall *call, struct json_object *args,
                                                GError **error)
{
    enter_main();
    nbd_export_remove(qmp_arg_str(args, "id"), qmp_arg_enum(args, "mode", &export_remove_mode) == 1,
                      error);
    return NULL;
}

static struct json_object *qmp_nbd_server_remove(QmpCall *call, struct json_object *args,
                                                 GError **error)
{
    enter_main();
    nbd_export_remove(qmp_arg_str(args, "name"),
                      qmp_arg_enum(args, "mode", &export_remove_mode) == 1, error);
    return NULL;
}

static struct json_object *qmp_query_block_exports(QmpCall *call, struct json_object *args,
                                                   GError **error)
{
    enter_main();
    struct json_object *list = json_object_new_array();
    NbdExportInfo info;
    for (unsigned i = 0; nbd_export_info(i, &info); i++) {
        struct json_object *o = json_object_new_object();
        qmp_put_str(o, "id", info.id);
        qmp_put_str(o, "type", "nbd");
        qmp_put_str(o, "node-name", info.node);
        qmp_put_bool(o, "shutting-down", info.removing);
        json_object_array_add(list, o);
    }
    return list;
}

/* ---- tables ---- */

static const QmpType export_type = {
    .name = "BlockExportType", .kind = QMP_KIND_ENUM, .values = QMP_VALUES("nbd")};

static const QmpType export_bitmap = {
    .name = "BlockDirtyBitmap",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"node", &qmp_str, .doc = "the node's name, or the id of a -drive"},
                           {"name", &qmp_str, .doc = "the bitmap's name"}),
};
static const QmpType export_bitmap_or_name = {
    .name = "BlockDirtyBitmapOrStr",
    .kind = QMP_KIND_ALTERNATE,
    .members = QMP_MEMBERS({"local", &qmp_str, .doc = "the name of a bitmap of the same node"},
                           {"external", &export_bitmap, .doc = "a bitmap of any node"}),
};
static const QmpType export_bitmap_list = {.kind = QMP_KIND_ARRAY,
                                           .element = &export_bitmap_or_name};

static const QmpType export_add_arg = {
    .name = "BlockExportOptions",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"type", &export_type, .doc = "only nbd"}, {"id", &qmp_str, .doc = "the export's id"},
        {"node-name", &qmp_str, .doc = "the node to export"},
        {"writable", &qmp_bool, true, .doc = "clients may write (default: false)"},
        {"writethrough", &qmp_bool, true, .doc = "each write has FUA (default: false)"},
        {"iothread", &qmp_str, true, .doc = "the iothread that the node moves to, if it can"},
        {"fixed-iothread", &qmp_bool, true, .doc = "the node has to move (default: false)"},
        {"name", &qmp_str, true, .doc = "for clients (default: the node's name)"},
        {"description", &qmp_str, true, .doc = "for clients"},
        {"bitmaps", &export_bitmap_list, true, .doc = "shown to clients as qemu:dirty-bitmap:NAME"},
        {"allocation-depth", &qmp_bool, true, .doc = "shown as qemu:allocation-depth"}),
    .doc = "A block export.",
};
static const QmpType export_del_arg = {
    .name = "block-export-del-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"id", &qmp_str, .doc = "the export's id"},
                           {"mode", &export_remove_mode, true, .doc = "default: safe"}),
};
static const QmpType server_start_arg = {
    .name = "nbd-server-start-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"addr", &qmp_socket_address_legacy, .doc = "where to listen"},
        {"tls-creds", &qmp_str, true, .doc = "id of credentials; clients have to use TLS"},
        {"tls-authz", &qmp_str, true, .doc = "refused: there are no authorization objects"},
        {"max-connections", &qmp_u32, true, .doc = "0: no limit (default: 100)"},
        {"handshake-max-seconds", &qmp_u32, true, .doc = "0: no limit (default: 10)"}),
};
static const QmpType server_add_arg = {
    .name = "NbdServerAddOptions",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"device", &qmp_str, .doc = "id of a -drive, or a node's name"},
        {"name", &qmp_str, true, .doc = "id and name of the export (default: device)"},
        {"description", &qmp_str, true, .doc = "for clients"},
        {"writable", &qmp_bool, true, .doc = "clients may write, if the disk is writable"},
        {"bitmap", &qmp_str, true, .doc = "shown to clients as qemu:dirty-bitmap:NAME"}),
};
static const QmpType server_remove_arg = {
    .name = "nbd-server-remove-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"name", &qmp_str, .doc = "id of the export"},
                           {"mode", &export_remove_mode, true, .doc = "default: safe"}),
};
static const QmpType export_info = {
    .name = "BlockExportInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"id", &qmp_str, .doc = "the export's id"},
                           {"type", &export_type, .doc = "always nbd"},
                           {"node-name", &qmp_str, .doc = "the exported node"},
                           {"shutting-down", &qmp_bool, .doc = "it is being removed"}),
};
static const QmpType export_info_list = {.kind = QMP_KIND_ARRAY, .element = &export_info};

static const QmpCommand qmp_export_commands[] = {
    {"nbd-server-start", &server_start_arg, NULL, 0, qmp_nbd_server_start,
     "Starts the NBD server, which has no exports yet."},
    {"nbd-server-add", &server_add_arg, NULL, 0, qmp_nbd_server_add, "Exports a disk."},
    {"nbd-server-remove", &server_remove_arg, NULL, QMP_INSTANT, qmp_nbd_server_remove,
     "Removes an export. Its end is announced by BLOCK_EXPORT_DELETED."},
    {"nbd-server-stop", NULL, NULL, 0, qmp_nbd_server_stop,
     "Disconnects all clients, removes all exports and stops the NBD server."},
    {"block-export-add", &export_add_arg, NULL, 0, qmp_block_export_add,
     "Exports a node. The NBD server runs."},
    {"block-export-del", &export_del_arg, NULL, QMP_INSTANT, qmp_block_export_del,
     "Removes an export. Its end is announced by BLOCK_EXPORT_DELETED."},
    {"query-block-exports", NULL, &export_info_list, QMP_INSTANT, qmp_query_block_exports,
     "All block exports."},
    {0},
};

static const QmpType export_deleted_type = {
    .name = "BLOCK_EXPORT_DELETED",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"id", &qmp_str, .doc = "the export's id"}),
};

static const QmpEvent qmp_export_events[] = {
    {"BLOCK_EXPORT_DELETED", &export_deleted_type, "An export has gone; its node is free."},
    {0},
};

QMP_GROUP(export);

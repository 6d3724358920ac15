/* SPDX-License-Identifier: Apache-2.0 */
/* Images: blockdev-create and x-blockdev-amend, which are jobs. */
#include "block/job/create.h"
#include "util/opts/json.h"
#include "vmm/monitor/commands/qmp_block.h"

/* ---- types ---- */

static const QmpType create_preallocation = {
    .name = "PreallocMode",
    .kind = QMP_KIND_ENUM,
    .values = QMP_VALUES("off", "metadata", "falloc", "full"),
    .doc = "What is allocated in advance.",
};
static const QmpType create_version = {
    .name = "BlockdevQcow2Version",
    .kind = QMP_KIND_ENUM,
    .values = QMP_VALUES("v2", "v3"),
    .doc = "The version of the format.",
};
static const QmpType create_compression = {
    .name = "Qcow2CompressionType",
    .kind = QMP_KIND_ENUM,
    .values = QMP_VALUES("zlib", "zstd"),
    .doc = "How clusters are compressed.",
};

#define CREATE_DRIVER                                                                              \
    {                                                                                              \
        "driver", &qmp_str, .doc = "file or qcow2"                                                 \
    }
#define CREATE_SIZE                                                                                \
    {                                                                                              \
        "size", &qmp_size, .doc = "bytes of the disk"                                              \
    }
#define CREATE_PREALLOCATION                                                                       \
    {                                                                                              \
        "preallocation", &create_preallocation, true, .doc = "default: off"                        \
    }
#define CREATE_QCOW2(is_optional)                                                                  \
    {"file", &qmp_blockdev_ref, is_optional, .doc = "where the image is written"},                 \
        {"data-file", &qmp_blockdev_ref, true, .doc = "where the data goes; default: the image"},  \
        {"data-file-raw", &qmp_bool, true, .doc = "the data file is a raw image too"},             \
        {"extended-l2", &qmp_bool, true, .doc = "clusters with subclusters"},                      \
        {"version", &create_version, true, .doc = "default: v3"},                                  \
        {"backing-file", &qmp_str, true, .doc = "name of the backing file; it is not opened"},     \
        {"backing-fmt", &qmp_str, true, .doc = "its format"},                                      \
        {"encrypt", &qmp_any, true, .doc = "refused: skiff has no encryption"},                    \
        {"cluster-size", &qmp_size, true, .doc = "default: 65536"},                                \
        {"lazy-refcounts", &qmp_bool, true, .doc = "default: false"},                              \
        {"refcount-bits", &qmp_int, true, .doc = "default: 16"},                                   \
    {                                                                                              \
        "compression-type", &create_compression, true, .doc = "default: zlib"                      \
    }
#define CREATE_FILE(is_optional)                                                                   \
    {"filename", &qmp_str, is_optional, .doc = "the file"},                                        \
        {"nocow", &qmp_bool, true, .doc = "true is refused"},                                      \
    {                                                                                              \
        "extent-size-hint", &qmp_size, true, .doc = "a value above 0 is refused"                   \
    }

static const QmpType create_options_file = {
    .name = "BlockdevCreateOptionsFile",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(CREATE_DRIVER, CREATE_SIZE, CREATE_PREALLOCATION, CREATE_FILE(false)),
};
static const QmpType create_options_qcow2 = {
    .name = "BlockdevCreateOptionsQcow2",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(CREATE_DRIVER, CREATE_SIZE, CREATE_PREALLOCATION, CREATE_QCOW2(false)),
};
/* The members of both, for the reference; the command checks those of the driver. */
static const QmpType create_options = {
    .name = "BlockdevCreateOptions",
    .kind = QMP_KIND_STRUCT,
    .open = true,
    .members = QMP_MEMBERS(CREATE_DRIVER, {"size", &qmp_size, true, .doc = "bytes of the disk"},
                           CREATE_PREALLOCATION, CREATE_FILE(true), CREATE_QCOW2(true)),
    .doc = "A new image. The file driver has filename, nocow and extent-size-hint; qcow2 has the "
           "others but size and preallocation, which both have.",
};
static const QmpType create_arg = {
    .name = "blockdev-create-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"job-id", &qmp_str, .doc = "the id of the job"},
                           {"options", &create_options, .doc = "the image"}),
};

#define AMEND_QCOW2                                                                                \
    {"driver", &qmp_str, .doc = "qcow2"},                                                          \
        {"version", &create_version, true, .doc = "the version of the format"},                    \
        {"lazy-refcounts", &qmp_bool, true, .doc = "whether refcounts are written late"},          \
        {"refcount-bits", &qmp_int, true, .doc = "the width of a refcount"},                       \
        {"data-file-raw", &qmp_bool, true, .doc = "false: the data file is no raw image"},         \
    {                                                                                              \
        "encrypt", &qmp_any, true, .doc = "refused: skiff has no encryption"                       \
    }
static const QmpType amend_options_qcow2 = {
    .name = "BlockdevAmendOptionsQcow2",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(AMEND_QCOW2),
};
static const QmpType amend_options = {
    .name = "BlockdevAmendOptions",
    .kind = QMP_KIND_STRUCT,
    .open = true,
    .members = QMP_MEMBERS(AMEND_QCOW2),
    .doc = "Other options of an image. QEMU has only encrypt.",
};
static const QmpType amend_arg = {
    .name = "x-blockdev-amend-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"job-id", &qmp_str, .doc = "the id of the job"},
                           {"node-name", &qmp_str, .doc = "a qcow2 node that nothing uses"},
                           {"options", &amend_options, .doc = "what changes"},
                           {"force", &qmp_bool, true, .doc = "has no effect: nothing is unsafe"}),
};

/* ---- creating ---- */

static bool create_refuse(GError **error, const char *what)
{
    g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC, "%s", what);
    return false;
}

static RUNS_IN_MAIN void create_file(QmpCall *call, const char *id, struct json_object *o,
                                     GError **error)
{
    if (!qmp_check(&create_options_file, o, "options", error)) {
        return;
    }
    if (qmp_arg_bool(o, "nocow", false)) {
        create_refuse(error, "Parameter 'nocow': skiff does not set this attribute of btrfs; use "
                             "chattr +C on the folder");
        return;
    }
    if (qmp_arg_int(o, "extent-size-hint", 0) != 0) {
        create_refuse(error, "Parameter 'extent-size-hint': skiff does not set this attribute of "
                             "XFS; leave it out or set it to 0");
        return;
    }
    BlockCreateFile file = {
        .filename = qmp_arg_str(o, "filename"),
        .size = qmp_arg_u64(o, "size", 0),
        .preallocation =
            (BlockPreallocation)MAX(qmp_arg_enum(o, "preallocation", &create_preallocation), 0),
    };
    if (file.preallocation == BLOCK_PREALLOCATION_METADATA) {
        create_refuse(error, "Unsupported preallocation mode: metadata");
        return;
    }
    block_create_file(id, &file, call->vm->machine.env.default_iothread, error);
}

/* Returns a reference to a node that @o names or describes. */
static coroutine_fn RUNS_IN_MAIN BlockNode *create_co_take_node(struct json_object *o,
                                                                AioContext *home, GError **error)
{
    if (json_object_is_type(o, json_type_string)) {
        BlockNode *n = block_node_find(json_object_get_string(o));
        if (n == NULL) {
            g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC,
                        "Cannot find device='' nor node-name='%s'", json_object_get_string(o));
        } else {
            block_node_ref(n);
        }
        return n;
    }
    g_autoptr(OptDict) d = opt_dict_from_json(o, error);
    return d != NULL ? block_co_open(d, home, error) : NULL;
}

static void create_take_qcow2(struct json_object *o, const BlockNode *data, Qcow2CreateOptions *q)
{
    int64_t refcount_bits = qmp_arg_int(o, "refcount-bits", 16);
    bool v2 = qmp_arg_enum(o, "version", &create_version) == 0;
    bool zstd = qmp_arg_enum(o, "compression-type", &create_compression) == 1;
    *q = (Qcow2CreateOptions){
        .size = qmp_arg_u64(o, "size", 0),
        .version = v2 ? 2 : 3,
        .cluster_size = qmp_arg_u64(o, "cluster-size", 65536),
        .refcount_bits = refcount_bits > 0 ? (uint64_t)refcount_bits : 0,
        .lazy_refcounts = qmp_arg_bool(o, "lazy-refcounts", false),
        .extended_l2 = qmp_arg_bool(o, "extended-l2", false),
        .compression = zstd ? QCOW2_COMPRESSION_ZSTD : QCOW2_COMPRESSION_ZLIB,
        .backing_file = qmp_arg_str(o, "backing-file"),
        .backing_format = qmp_arg_str(o, "backing-fmt"),
        .data_file = data != NULL ? block_node_filename(data) : NULL,
        .data_file_raw = qmp_arg_bool(o, "data-file-raw", false),
        .preallocation =
            (BlockPreallocation)MAX(qmp_arg_enum(o, "preallocation", &create_preallocation), 0),
    };
}

static coroutine_fn RUNS_IN_MAIN void create_co_qcow2_on(const char *id, struct json_object *o,
                                                         BlockNode *file, BlockNode *data,
                                                         GError **error)
{
    Qcow2CreateOptions q;
    create_take_qcow2(o, data, &q);
    if (q.size % BLOCK_SECTOR_SIZE != 0) {
        create_refuse(error, "Image size must be a multiple of 512 bytes");
    } else if (data != NULL && q.data_file == NULL) {
        create_refuse(error, "Parameter 'data-file': the node has no file name that the image "
                             "could refer to");
    } else {
        block_co_create_qcow2(id, &q, file, data, error);
    }
}

static coroutine_fn RUNS_IN_MAIN void create_co_qcow2(QmpCall *call, const char *id,
                                                      struct json_object *o, GError **error)
{
    AioContext *home = call->vm->machine.env.default_iothread;
    BlockNode *data = NULL;
    if (!qmp_check(&create_options_qcow2, o, "options", error)) {
        return;
    }
    if (qmp_arg_has(o, "encrypt")) {
        create_refuse(error, "Parameter 'encrypt': skiff has no encryption of images");
        return;
    }
    BlockNode *file = create_co_take_node(qmp_arg_get(o, "file"), home, error);
    bool ok = file != NULL;
    if (ok && qmp_arg_has(o, "data-file")) {
        data = create_co_take_node(qmp_arg_get(o, "data-file"), block_node_home(file), error);
        ok = data != NULL;
    }
    if (ok) {
        vm_operation_begin(&call->vm->run);
        create_co_qcow2_on(id, o, file, data, error);
        vm_operation_end(&call->vm->run);
    }
    if (data != NULL) {
        block_co_unref(data);
    }
    if (file != NULL) {
        block_co_unref(file);
    }
}

/* Refuses a driver without creation. */
static void create_refuse_driver(const char *driver, const char *command, GError **error)
{
    if (block_driver_find(driver) != NULL) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC, "Driver does not support %s", command);
    } else {
        g_autofree char *excerpt = opt_excerpt(driver);
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC,
                    "Block driver '%s' not found or not supported", excerpt);
    }
}

static struct json_object *qmp_blockdev_create(QmpCall *call, struct json_object *args,
                                               GError **error)
{
    enter_main();
    enter_coroutine();
    struct json_object *o = qmp_arg_get(args, "options");
    const char *driver = qmp_arg_str(o, "driver"), *id = qmp_arg_str(args, "job-id");
    if (strcmp(driver, "file") == 0) {
        create_file(call, id, o, error);
    } else if (strcmp(driver, "qcow2") == 0) {
        create_co_qcow2(call, id, o, error);
    } else {
        create_refuse_driver(driver, "blockdev-create", error);
    }
    return NULL;
}

/* ---- amending ---- */

static Qcow2AmendBool amend_bool(struct json_object *o, const char *name)
{
    return !qmp_arg_has(o, name)          ? QCOW2_AMEND_KEEP
           : qmp_arg_bool(o, name, false) ? QCOW2_AMEND_ON
                                          : QCOW2_AMEND_OFF;
}

static coroutine_fn RUNS_IN_MAIN void amend_co_start(const char *id, BlockNode *n,
                                                     struct json_object *o, GError **error)
{
    const char *driver = qmp_arg_str(o, "driver");
    BlockNodeInfo info;
    block_node_info(n, &info);
    if (strcmp(driver, info.driver) != 0) {
        create_refuse(error, "x-blockdev-amend doesn't support changing the block driver");
        return;
    }
    if (strcmp(driver, "qcow2") != 0) {
        create_refuse_driver(driver, "x-blockdev-amend", error);
        return;
    }
    if (!qmp_check(&amend_options_qcow2, o, "options", error)) {
        return;
    }
    if (qmp_arg_has(o, "encrypt")) {
        create_refuse(error, "Parameter 'encrypt': skiff has no encryption of images");
        return;
    }
    int64_t bits = qmp_arg_int(o, "refcount-bits", 0);
    int version = qmp_arg_enum(o, "version", &create_version);
    Qcow2Amend a = {
        .version = version < 0 ? 0 : (unsigned)version + 2,
        .refcount_bits = bits > 0 ? (uint64_t)bits : 0,
        .has_refcount_bits = qmp_arg_has(o, "refcount-bits"),
        .lazy_refcounts = amend_bool(o, "lazy-refcounts"),
        .data_file_raw = amend_bool(o, "data-file-raw"),
    };
    block_co_amend_qcow2(id, n, &a, error);
}

static struct json_object *qmp_blockdev_amend(QmpCall *call, struct json_object *args,
                                              GError **error)
{
    enter_main();
    enter_coroutine();
    const char *name = qmp_arg_str(args, "node-name");
    vm_operation_begin(&call->vm->run);
    BlockNode *n = block_node_find(name);
    if (n == NULL) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC, "Cannot find device='' nor node-name='%s'",
                    name);
    } else {
        block_node_ref(n);
        amend_co_start(qmp_arg_str(args, "job-id"), n, qmp_arg_get(args, "options"), error);
        block_co_unref(n);
    }
    vm_operation_end(&call->vm->run);
    return NULL;
}

/* ---- the group ---- */

static const QmpCommand qmp_create_commands[] = {
    {"blockdev-create", &create_arg, NULL, 0, qmp_blockdev_create,
     "Starts a job that creates an image: a file, or a qcow2 image in a node that nothing uses. "
     "The "
     "job stays until job-dismiss."},
    {"x-blockdev-amend", &amend_arg, NULL, 0, qmp_blockdev_amend,
     "Starts a job that changes options of a qcow2 image. The job stays until job-dismiss."},
    {0},
};

static const QmpEvent qmp_create_events[] = {{0}};

QMP_GROUP(create);

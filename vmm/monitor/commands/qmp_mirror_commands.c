/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mirror jobs. The image of drive-mirror is made and opened without the operation lock, since storage
 * can hang; under the lock the disk must still be what it was.
 */
#include <errno.h>
#include "block/chain/new_image.h"
#include "block/job/mirror.h"
#include "vmm/monitor/commands/qmp_block.h"
#include "vmm/monitor/commands/qmp_block_job.h"

static const QmpType mirror_copy_mode = {
    .name = "MirrorCopyMode",
    .kind = QMP_KIND_ENUM,
    .values = QMP_VALUES("background", "write-blocking"),
    .doc = "Whether a guest's write waits until the target has it.",
};
enum { MIRROR_WRITE_BLOCKING = 1 };

/* ---- what both commands take ---- */

static RUNS_IN_MAIN bool mirror_has_backing(const BlockNode *source)
{
    BlockNodeInfo info;
    block_node_info(source, &info);
    while (info.filtered != NULL) {
        block_node_info(info.filtered, &info);
    }
    return info.backing != NULL;
}

static RUNS_IN_MAIN bool mirror_take_sync(struct json_object *args, BlockMirrorConfig *c,
                                          GError **error)
{
    static const BlockMirrorSync modes[] = {BLOCK_MIRROR_TOP, BLOCK_MIRROR_FULL, BLOCK_MIRROR_NONE,
                                            BLOCK_MIRROR_INCREMENTAL, BLOCK_MIRROR_INCREMENTAL};
    c->sync = modes[qmp_arg_enum(args, "sync", &qmp_mirror_sync_mode)];
    c->bitmap = qmp_arg_str(args, "bitmap");
    c->bitmap_mode =
        (BlockBitmapMode)MAX(qmp_arg_enum(args, "bitmap-mode", &qmp_bitmap_sync_mode), 0);
    if ((c->sync == BLOCK_MIRROR_INCREMENTAL) != (c->bitmap != NULL)) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC,
                    c->bitmap != NULL ? "A bitmap needs sync mode 'bitmap' or 'incremental'"
                                      : "Sync mode '%s' needs a bitmap",
                    qmp_arg_str(args, "sync"));
        return false;
    }
    if (c->sync == BLOCK_MIRROR_TOP && !mirror_has_backing(c->source)) {
        c->sync = BLOCK_MIRROR_FULL;
    }
    return true;
}

/* The node of "replaces", if given. */
static RUNS_IN_MAIN bool mirror_take_replaces(struct json_object *args, BlockMirrorConfig *c,
                                              GError **error)
{
    const char *name = qmp_arg_str(args, "replaces");
    c->replaces = name != NULL ? block_node_find(name) : NULL;
    if (name != NULL && c->replaces == NULL) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC, "Failed to find node with node-name='%s'",
                    name);
    }
    return name == NULL || c->replaces != NULL;
}

/* All but the target. c->source is set. */
static RUNS_IN_MAIN bool mirror_take(Vm *vm, struct json_object *args, BlockMirrorConfig *c,
                                     GError **error)
{
    int64_t buf_size = qmp_arg_int(args, "buf-size", 0);
    uint64_t granularity = qmp_arg_u64(args, "granularity", 0);
    if (buf_size < 0) {
        return qmp_refuse(error, "Invalid parameter 'buf-size'");
    }
    c->buf_size = (uint64_t)buf_size;
    c->granularity = (uint32_t)granularity;
    c->filter_name = qmp_arg_str(args, "filter-node-name");
    c->write_blocking = qmp_arg_enum(args, "copy-mode", &mirror_copy_mode) == MIRROR_WRITE_BLOCKING;
    c->unmap = qmp_arg_bool(args, "unmap", true);
    c->target_is_zero = qmp_arg_bool(args, "target-is-zero", false);
    return qmp_take_block_job(vm, args, qmp_arg_str(args, "device"), &c->job, error) &&
           mirror_take_sync(args, c, error) && mirror_take_replaces(args, c, error);
}

static struct json_object *qmp_blockdev_mirror(QmpCall *call, struct json_object *args,
                                               GError **error)
{
    enter_main();
    enter_coroutine();
    vm_operation_begin(&call->vm->run);
    BlockMirrorConfig c = {.source =
                               qmp_find_node_of(call->vm, qmp_arg_str(args, "device"), error)};
    if (c.source != NULL) {
        c.target = qmp_find_node_of(call->vm, qmp_arg_str(args, "target"), error);
    }
    if (c.target != NULL && mirror_take(call->vm, args, &c, error)) {
        block_mirror_co_start(&c, error);
    }
    vm_operation_end(&call->vm->run);
    return NULL;
}

/* ---- drive-mirror ---- */

static RUNS_IN_MAIN BlockNode *mirror_below_filters(BlockNode *n)
{
    BlockNodeInfo info;
    for (block_node_info(n, &info); info.filtered != NULL; block_node_info(n, &info)) {
        n = info.filtered;
    }
    return n;
}

/* The backing node that the target gets at the pivot. */
static RUNS_IN_MAIN BlockNode *mirror_backing(const BlockMirrorConfig *c)
{
    BlockNodeInfo info;
    if (c->sync == BLOCK_MIRROR_NONE) {
        return c->source;
    }
    block_node_info(mirror_below_filters(c->source), &info);
    return c->sync == BLOCK_MIRROR_TOP ? info.backing : NULL;
}

/* Opens the target. */
static coroutine_fn RUNS_IN_MAIN bool drive_mirror_co_open(struct json_object *args,
                                                           BlockMirrorConfig *c, NewImage *image,
                                                           GError **error)
{
    BlockNodeInfo info;
    const char *backing_format = NULL;
    g_autofree char *backing = NULL;
    block_node_info(mirror_below_filters(c->source), &info);
    const char *format = qmp_arg_str(args, "format");
    NewImageConfig config = {.mode = g_strcmp0(qmp_arg_str(args, "mode"), "existing") == 0
                                         ? NEW_IMAGE_EXISTING
                                         : NEW_IMAGE_ABSOLUTE_PATHS,
                             .filename = qmp_arg_str(args, "target"),
                             .format = format != NULL ? format : info.driver,
                             .node_name = qmp_arg_str(args, "node-name"),
                             .size = block_node_size(c->source),
                             .like = c->source,
                             .writable = true,
                             .home = block_node_home(c->source)};
    c->backing = mirror_backing(c);
    if (c->backing != NULL && config.mode == NEW_IMAGE_ABSOLUTE_PATHS) {
        backing = new_image_backing_path(c->backing, &backing_format, error);
        if (backing == NULL) {
            return false;
        }
        config.backing_file = backing;
        config.backing_format = backing_format;
    }
    if (!new_image_co_open(&config, image, error)) {
        return false;
    }
    const BlockImageInfo *about = block_node_image_info(image->node);
    if (c->sync == BLOCK_MIRROR_FULL && about != NULL && about->backing_name != NULL) {
        return qmp_refuse(error, "The target has a backing file, which sync mode 'full' leaves "
                                 "out; use an image without one, or blockdev-mirror");
    }
    c->target = image->node;
    c->target_is_zero = image->made != NULL && c->sync == BLOCK_MIRROR_FULL;
    return true;
}

/* Under the operation lock: the disk is what it was. */
static coroutine_fn RUNS_IN_MAIN bool drive_mirror_co_start(QmpCall *call, struct json_object *args,
                                                            BlockMirrorConfig *c, GError **error)
{
    const BlockNode *n = qmp_find_node_of(call->vm, qmp_arg_str(args, "device"), error);
    if (n == NULL || !mirror_take_replaces(args, c, error)) {
        return false;
    }
    if (n != c->source || c->backing != mirror_backing(c)) {
        return qmp_refuse(error, "The disk has got other nodes meanwhile; try again");
    }
    return block_mirror_co_start(c, error) != NULL;
}

static coroutine_fn RUNS_IN_MAIN void drive_mirror_co_run(QmpCall *call, struct json_object *args,
                                                          BlockMirrorConfig *c, GError **error)
{
    NewImage image = {0};
    bool ok = drive_mirror_co_open(args, c, &image, error);
    if (ok) {
        vm_operation_begin(&call->vm->run);
        ok = drive_mirror_co_start(call, args, c, error);
        vm_operation_end(&call->vm->run);
    }
    if (ok) {
        block_co_unref(new_image_take(&image)); /* the job has its own */
    } else {
        new_image_co_drop(&image);
    }
}

static struct json_object *qmp_drive_mirror(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    enter_coroutine();
    BlockMirrorConfig c = {.source =
                               qmp_find_node_of(call->vm, qmp_arg_str(args, "device"), error)};
    if (c.source == NULL) {
        return NULL;
    }
    if (qmp_arg_has(args, "replaces") && !qmp_arg_has(args, "node-name")) {
        qmp_refuse(error, "a node-name must be provided when replacing a named node of the graph");
    } else if (mirror_take(call->vm, args, &c, error)) {
        block_node_ref(c.source);
        drive_mirror_co_run(call, args, &c, error);
        block_co_unref(c.source);
    }
    return NULL;
}

/* ---- block-job-change ---- */

static struct json_object *qmp_block_job_change(QmpCall *call, struct json_object *args,
                                                GError **error)
{
    enter_main();
    Job *job = job_find(qmp_arg_str(args, "id"));
    bool blocking = qmp_arg_enum(args, "copy-mode", &mirror_copy_mode) == MIRROR_WRITE_BLOCKING;
    if (job == NULL || job_driver(job) != &block_mirror_driver) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_DEVICE_NOT_ACTIVE, "Block job '%s' not found",
                    qmp_arg_str(args, "id"));
    } else if (blocking) {
        block_mirror_set_write_blocking(job, error);
    } else if (job_verb_check(job, JOB_VERB_CHANGE, error) && block_mirror_write_blocking(job)) {
        qmp_refuse(error, "Change to copy mode 'background' is not implemented");
    }
    return NULL;
}

/* ---- schema ---- */

#define MIRROR_ARGS                                                                                \
    {"job-id", &qmp_str, true, .doc = "the id of the job; default: the id of the -drive"},         \
        {"device", &qmp_str, .doc = "the source: a node's name, or the id of a -drive"},           \
        {"sync", &qmp_mirror_sync_mode, .doc = "what is copied"},                                  \
        {"bitmap", &qmp_str, true, .doc = "of the source, for sync=bitmap or incremental"},        \
        {"bitmap-mode", &qmp_bitmap_sync_mode, true, .doc = "default: on-success"},                \
        {"speed", &qmp_int, true, .doc = "bytes per second; default: 0, which is no limit"},       \
        {"granularity", &qmp_u32, true,                                                            \
         .doc = "the unit that is copied; default: the target's clusters, 4 KiB to 64 KiB"},       \
        {"buf-size", &qmp_int, true, .doc = "bytes of buffers; default: 16 MiB"},                  \
        {"on-source-error", &qmp_blockdev_on_error, true, .doc = "default: report"},               \
        {"on-target-error", &qmp_blockdev_on_error, true, .doc = "default: report"},               \
        {"copy-mode", &mirror_copy_mode, true, .doc = "default: background"},                      \
        {"auto-finalize", &qmp_bool, true, .doc = "default: true"},                                \
    {                                                                                              \
        "auto-dismiss", &qmp_bool, true, .doc = "default: true"                                    \
    }

static const QmpType blockdev_mirror_arg = {
    .name = "blockdev-mirror-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        MIRROR_ARGS, {"target", &qmp_str, .doc = "a node of the same size without users"},
        {"replaces", &qmp_str, true,
         .doc = "the node that the target replaces; default: the source"},
        {"filter-node-name", &qmp_str, true, .doc = "the name of the job's filter node"},
        {"target-is-zero", &qmp_bool, true,
         .doc = "the target reads as zeroes, so zeroes need no write; default: false"}),
};
static const QmpType drive_mirror_arg = {
    .name = "DriveMirror",
    .kind = QMP_KIND_STRUCT,
    .members =
        QMP_MEMBERS(MIRROR_ARGS, {"target", &qmp_str, .doc = "the file of the target"},
                    {"format", &qmp_str, true, .doc = "of the target; default: that of the source"},
                    {"node-name", &qmp_str, true, .doc = "of the target"},
                    {"replaces", &qmp_str, true,
                     .doc = "the node that the target replaces; default: the source"},
                    {"mode", &qmp_new_image_mode, true, .doc = "default: absolute-paths"},
                    {"unmap", &qmp_bool, true, .doc = "zeroes may become holes; default: true"}),
};
static const QmpType job_change_type = {
    .name = "JobType",
    .kind = QMP_KIND_ENUM,
    .values = QMP_VALUES("mirror"),
    .doc = "Only mirror jobs can change.",
};
static const QmpType block_job_change_arg = {
    .name = "BlockJobChangeOptions",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"id", &qmp_str, .doc = "the job's id"},
                           {"type", &job_change_type, .doc = "its type"},
                           {"copy-mode", &mirror_copy_mode, .doc = "the new one"}),
};

static const QmpCommand qmp_mirror_commands[] = {
    {"blockdev-mirror", &blockdev_mirror_arg, NULL, 0, qmp_blockdev_mirror,
     "Copies a node to another one and keeps the copy up to date. block-job-complete replaces the "
     "source by the copy; block-job-cancel of a ready job leaves the copy as it is."},
    {"drive-mirror", &drive_mirror_arg, NULL, 0, qmp_drive_mirror,
     "The same with an image that is made, or opened, for it."},
    {"block-job-change", &block_job_change_arg, NULL, QMP_INSTANT, qmp_block_job_change,
     "Makes a mirror write-blocking."},
    {0},
};

static const QmpEvent qmp_mirror_events[] = {{0}};

QMP_GROUP(mirror);

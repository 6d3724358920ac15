/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs that shorten chains of images, and the names of backing files.
 *
 * Messages are QEMU's. The nodes are looked up and the jobs are started under the operation lock.
 */
#include "block/chain/chain.h"
#include "block/chain/commit_job.h"
#include "block/chain/stream_job.h"
#include "block/graph.h"
#include "block/job/mirror.h"
#include "vmm/monitor/commands/qmp_block.h"
#include "vmm/monitor/commands/qmp_block_job.h"

/* ---- look-up ---- */

/* The root node @device: the id of a -drive, or a node's name. */
static RUNS_IN_MAIN BlockNode *commit_find_root(Vm *vm, const char *device, GError **error)
{
    BlockNode *n = qmp_find_node_of(vm, device, NULL);
    if (n == NULL) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_DEVICE_NOT_FOUND, "Device '%s' not found", device);
        return NULL;
    }
    for (unsigned i = 0; i < n->parents->len; i++) {
        const BlockEdge *e = n->parents->pdata[i];
        if (e->parent != NULL) {
            qmp_refuse(error, "Need a root block node");
            return NULL;
        }
    }
    return n;
}

/* Node @name, which is in the chain of @root. */
static RUNS_IN_MAIN BlockNode *commit_find_in_chain(BlockNode *root, const char *name,
                                                    GError **error)
{
    BlockNode *n = block_node_find(name);
    if (n == NULL) {
        qmp_refuse(error, "Cannot find device='' nor node-name='%s'", name);
    } else if (!chain_contains(root, n)) {
        qmp_refuse(error, "'%s' is not in this backing file chain", name);
        n = NULL;
    }
    return n;
}

static RUNS_IN_MAIN BlockNode *commit_find_top(struct json_object *args, BlockNode *root,
                                               GError **error)
{
    const char *node = qmp_arg_str(args, "top-node"), *file = qmp_arg_str(args, "top");
    if (node != NULL && file != NULL) {
        qmp_refuse(error, "'top-node' and 'top' are mutually exclusive");
        return NULL;
    }
    if (node != NULL) {
        return commit_find_in_chain(root, node, error);
    }
    if (file == NULL || g_strcmp0(block_node_filename(chain_image(root)), file) == 0) {
        return root;
    }
    BlockNode *n = chain_find_file(root, file);
    if (n == NULL) {
        qmp_refuse(error, "Top image file %s not found", file);
    }
    return n;
}

static RUNS_IN_MAIN BlockNode *commit_find_lowest(BlockNode *n)
{
    while (chain_next(n) != NULL) {
        n = chain_next(n);
    }
    return n;
}

static RUNS_IN_MAIN BlockNode *commit_find_base(struct json_object *args, BlockNode *root,
                                                BlockNode *top, GError **error)
{
    const char *node = qmp_arg_str(args, "base-node"), *file = qmp_arg_str(args, "base");
    if (node != NULL && file != NULL) {
        qmp_refuse(error, "'base-node' and 'base' are mutually exclusive");
        return NULL;
    }
    if (node != NULL) {
        return commit_find_in_chain(root, node, error);
    }
    BlockNode *n = file != NULL ? chain_find_file(top, file) : commit_find_lowest(chain_image(top));
    if (n == NULL) {
        qmp_refuse(error, "Can't find '%s' in the backing chain", file);
    }
    return n;
}

static void commit_take_on_error(struct json_object *args, BlockJobConfig *job)
{
    BlockOnError on_error =
        (BlockOnError)MAX(qmp_arg_enum(args, "on-error", &qmp_blockdev_on_error), 0);
    job->on_source_error = job->on_target_error = on_error;
}

/* ---- block-commit ---- */

/* Whether @top is the layer that guests write to, which needs a job that follows the writes. */
static RUNS_IN_MAIN bool commit_is_active(const BlockNode *root, const BlockNode *top)
{
    return chain_image((BlockNode *)(uintptr_t)root) == chain_image((BlockNode *)(uintptr_t)top);
}

static RUNS_IN_MAIN bool commit_check_active(const BlockNode *root, const BlockNode *top,
                                             const CommitConfig *config, GError **error)
{
    bool active = commit_is_active(root, top), written = block_node_writer(top) != NULL;
    if ((active || written) && config->backing_file != NULL) {
        return qmp_refuse(error, "'backing-file' specified, but 'top' %s",
                          active ? "is the active layer" : "has a writer on it");
    }
    return active || !written ||
           qmp_refuse(error,
                      "skiff cannot commit node '%s', which has a writer and is not the disk's "
                      "top image",
                      block_node_name(top));
}

/* A commit of the active layer ends with block-job-complete, as a mirror. */
static coroutine_fn RUNS_IN_MAIN void commit_co_start(const CommitConfig *config, bool active,
                                                      GError **error)
{
    if (!active) {
        block_commit_co_start(config, error);
        return;
    }
    BlockMirrorConfig mirror = {.job = config->job,
                                .source = chain_image(config->top),
                                .target = config->base,
                                .commit = true,
                                .filter_name = config->filter_name,
                                .unmap = true};
    block_mirror_co_start(&mirror, error);
}

static RUNS_IN_MAIN bool commit_take(Vm *vm, struct json_object *args, CommitConfig *config,
                                     bool *active, GError **error)
{
    const char *device = qmp_arg_str(args, "device");
    BlockNode *root = commit_find_root(vm, device, error);
    if (root == NULL) {
        return false;
    }
    config->top = commit_find_top(args, root, error);
    if (config->top == NULL) {
        return false;
    }
    config->base = commit_find_base(args, root, config->top, error);
    if (config->base == NULL) {
        return false;
    }
    if (config->base == config->top) {
        return qmp_refuse(error, "cannot commit an image into itself");
    }
    config->backing_file = qmp_arg_str(args, "backing-file");
    config->filter_name = qmp_arg_str(args, "filter-node-name");
    if (!commit_check_active(root, config->top, config, error) ||
        !qmp_take_block_job(vm, args, device, &config->job, error)) {
        return false;
    }
    commit_take_on_error(args, &config->job);
    *active = commit_is_active(root, config->top);
    return true;
}

static struct json_object *qmp_block_commit(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    enter_coroutine();
    CommitConfig config = {0};
    bool active = false;
    vm_operation_begin(&call->vm->run);
    if (commit_take(call->vm, args, &config, &active, error)) {
        commit_co_start(&config, active, error);
    }
    vm_operation_end(&call->vm->run);
    return NULL;
}

/* ---- block-stream ---- */

static RUNS_IN_MAIN bool stream_check_args(struct json_object *args, GError **error)
{
    static const char *const pairs[][2] = {
        {"base", "base-node"}, {"base", "bottom"}, {"bottom", "base-node"}};
    for (unsigned i = 0; i < G_N_ELEMENTS(pairs); i++) {
        if (qmp_arg_has(args, pairs[i][0]) && qmp_arg_has(args, pairs[i][1])) {
            return qmp_refuse(error, "'%s' and '%s' cannot be specified at the same time",
                              pairs[i][0], pairs[i][1]);
        }
    }
    return true;
}

/* The node below "bottom", or NULL if there is none. */
static RUNS_IN_MAIN bool stream_take_bottom(StreamConfig *config, const char *device,
                                            const char *name, GError **error)
{
    BlockNode *n = block_node_find(name);
    if (n == NULL) {
        return qmp_refuse(error, "Cannot find device='' nor node-name='%s'", name);
    }
    if (n->drv->is_filter) {
        return qmp_refuse(error, "Node '%s' is a filter, use a non-filter node as 'bottom'", name);
    }
    if (!chain_contains(config->node, n)) {
        return qmp_refuse(error, "Node '%s' is not in a chain starting from '%s'", name, device);
    }
    config->base = chain_next(n);
    return true;
}

static RUNS_IN_MAIN bool stream_take_base(StreamConfig *config, struct json_object *args,
                                          GError **error)
{
    const char *device = qmp_arg_str(args, "device"), *file = qmp_arg_str(args, "base"),
               *node = qmp_arg_str(args, "base-node"), *bottom = qmp_arg_str(args, "bottom");
    if (bottom != NULL) {
        return stream_take_bottom(config, device, bottom, error);
    }
    if (file != NULL) {
        config->base = chain_find_file(config->node, file);
        return config->base != NULL ||
               qmp_refuse(error, "Can't find '%s' in the backing chain", file);
    }
    if (node == NULL) {
        return true;
    }
    config->base = block_node_find(node);
    if (config->base == NULL) {
        return qmp_refuse(error, "Cannot find device='' nor node-name='%s'", node);
    }
    return (config->base != config->node && chain_contains(config->node, config->base)) ||
           qmp_refuse(error, "Node '%s' is not a backing image of '%s'", node, device);
}

static RUNS_IN_MAIN bool stream_take(Vm *vm, struct json_object *args, StreamConfig *config,
                                     GError **error)
{
    const char *device = qmp_arg_str(args, "device");
    if (!stream_check_args(args, error)) {
        return false;
    }
    BlockNode *n = qmp_find_node_of(vm, device, error);
    if (n == NULL) {
        return false;
    }
    config->node = chain_image(n);
    config->backing_file = qmp_arg_str(args, "backing-file");
    if (!stream_take_base(config, args, error)) {
        return false;
    }
    if (config->base == NULL && config->backing_file != NULL) {
        return qmp_refuse(error, "backing file specified, but streaming the entire chain");
    }
    if (!qmp_take_block_job(vm, args, device, &config->job, error)) {
        return false;
    }
    commit_take_on_error(args, &config->job);
    return true;
}

static struct json_object *qmp_block_stream(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    enter_coroutine();
    StreamConfig config = {0};
    vm_operation_begin(&call->vm->run);
    if (stream_take(call->vm, args, &config, error)) {
        block_stream_co_start(&config, error);
    }
    vm_operation_end(&call->vm->run);
    return NULL;
}

/* ---- change-backing-file ---- */

/* In a drained section of the image, which becomes writable for it. */
static coroutine_fn RUNS_IN_MAIN void change_co_name(BlockNode *image, const char *name,
                                                     GError **error)
{
    ChainName c;
    bool read_only = block_node_read_only(image);
    if (!chain_name_init(&c, image, image->backing, name, error)) {
        return;
    }
    if (block_node_co_set_read_only(image, false, error)) {
        BlockGraphChange *change = block_graph_co_begin(&image, 1, error);
        if (change != NULL) {
            chain_name_co_write(&c, error);
            block_graph_co_end(change);
        }
        if (read_only) {
            block_node_co_set_read_only(image, true, NULL);
        }
    }
    chain_name_clear(&c);
}

static RUNS_IN_MAIN BlockNode *change_find_image(Vm *vm, struct json_object *args, GError **error)
{
    const char *device = qmp_arg_str(args, "device"), *name = qmp_arg_str(args, "image-node-name");
    BlockNode *root = commit_find_root(vm, device, error);
    if (root == NULL) {
        return NULL;
    }
    BlockNode *image = block_node_find(name);
    if (image == NULL) {
        qmp_refuse(error, "Cannot find device='' nor node-name='%s'", name);
    } else if (image->backing == NULL) {
        qmp_refuse(error, "not allowing backing file change on an image without a backing file");
    } else if (!chain_contains(root, image)) {
        qmp_refuse(error, "'%s' and image file are not in the same chain", device);
    } else if (block_node_check_no_job(image, error)) {
        return image;
    }
    return NULL;
}

static struct json_object *qmp_change_backing_file(QmpCall *call, struct json_object *args,
                                                   GError **error)
{
    enter_main();
    enter_coroutine();
    vm_operation_begin(&call->vm->run);
    BlockNode *image = change_find_image(call->vm, args, error);
    if (image != NULL) {
        change_co_name(image, qmp_arg_str(args, "backing-file"), error);
    }
    vm_operation_end(&call->vm->run);
    return NULL;
}

/* ---- schema ---- */

#define COMMIT_JOB_ARGS                                                                            \
    {"job-id", &qmp_str, true, .doc = "the id of the job; default: the id of the -drive"},         \
        {"speed", &qmp_int, true, .doc = "bytes per second; default: 0, which is no limit"},       \
        {"on-error", &qmp_blockdev_on_error, true, .doc = "default: report"},                      \
        {"auto-finalize", &qmp_bool, true, .doc = "default: true"},                                \
    {                                                                                              \
        "auto-dismiss", &qmp_bool, true, .doc = "default: true"                                    \
    }

static const QmpType commit_arg = {
    .name = "block-commit-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        COMMIT_JOB_ARGS,
        {"device", &qmp_str, .doc = "the disk: a root node's name, or a -drive's id"},
        {"base-node", &qmp_str, true,
         .doc = "the image that gets the data; default: the lowest one"},
        {"base", &qmp_str, true, .doc = "instead: its file"},
        {"top-node", &qmp_str, true, .doc = "the highest image that is committed"},
        {"top", &qmp_str, true, .doc = "instead: its file"},
        {"backing-file", &qmp_str, true,
         .doc = "base's name in the header of the image above top; default: its absolute path"},
        {"filter-node-name", &qmp_str, true, .doc = "the name of the job's filter node"}),
};
static const QmpType stream_arg = {
    .name = "block-stream-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        COMMIT_JOB_ARGS,
        {"device", &qmp_str,
         .doc = "the image that gets the data: a node's name, or a -drive's id"},
        {"base-node", &qmp_str, true, .doc = "the image that stays below it; default: none"},
        {"base", &qmp_str, true, .doc = "instead: its file"},
        {"bottom", &qmp_str, true, .doc = "instead: the last image that is copied"},
        {"backing-file", &qmp_str, true,
         .doc = "base's name in the image's header; default: its absolute path"},
        {"filter-node-name", &qmp_str, true, .doc = "ignored: this job has no filter"}),
};
static const QmpType change_backing_file_arg = {
    .name = "change-backing-file-arg",
    .kind = QMP_KIND_STRUCT,
    .members =
        QMP_MEMBERS({"device", &qmp_str, .doc = "the disk: a root node's name, or a -drive's id"},
                    {"image-node-name", &qmp_str, .doc = "an image of its chain"},
                    {"backing-file", &qmp_str, .doc = "the name for its header"}),
};

static const QmpCommand qmp_commit_commands[] = {
    {"block-commit", &commit_arg, NULL, 0, qmp_block_commit,
     "Copies the images from top down to base into base, and takes them out of the chain. If top "
     "is "
     "the image that guests write to, the job gets ready, and block-job-complete ends it."},
    {"block-stream", &stream_arg, NULL, 0, qmp_block_stream,
     "Copies to an image what is between it and base, which becomes its backing file."},
    {"change-backing-file", &change_backing_file_arg, NULL, 0, qmp_change_backing_file,
     "Changes the name of the backing file in the header of an image. The chain stays as it is."},
    {0},
};

static const QmpEvent qmp_commit_events[] = {{0}};

QMP_GROUP(commit);

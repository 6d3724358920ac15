/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blockdev-backup and drive-backup: commands, and actions of a transaction. The image of drive-backup is
 * made and opened without the operation lock, since storage can hang.
 */
#include "block/chain/new_image.h"
#include "block/job/backup.h"
#include "vmm/monitor/commands/qmp_block.h"
#include "vmm/monitor/commands/qmp_block_job.h"
#include "vmm/monitor/commands/qmp_transaction.h"

/* In the order of qmp_mirror_sync_mode. */
typedef enum BackupMode {
    MODE_TOP,
    MODE_FULL,
    MODE_NONE,
    MODE_INCREMENTAL,
    MODE_BITMAP
} BackupMode;

static const char *backup_mode_name(BackupMode mode)
{
    return qmp_mirror_sync_mode.values[mode];
}

/* ---- arguments ---- */

/* A combination that would have no effect is refused, as in QEMU. */
static bool backup_check_bitmap(BackupMode mode, bool has_bitmap, int bitmap_mode, GError **error)
{
    const char *name = backup_mode_name(mode);
    bool by_bitmap = mode == MODE_INCREMENTAL || mode == MODE_BITMAP;
    if (by_bitmap && !has_bitmap) {
        return qmp_refuse(error, "must provide a valid bitmap name for '%s' sync mode", name);
    }
    if (mode == MODE_INCREMENTAL && bitmap_mode > (int)BLOCK_BACKUP_ON_SUCCESS) {
        return qmp_refuse(error, "Bitmap sync mode must be 'on-success' when using sync mode '%s'",
                          name);
    }
    if (has_bitmap && mode != MODE_INCREMENTAL && bitmap_mode < 0) {
        return qmp_refuse(error, "Bitmap sync mode must be given when providing a bitmap");
    }
    if (has_bitmap && mode == MODE_NONE) {
        return qmp_refuse(error, "sync mode '%s' does not produce meaningful bitmap outputs", name);
    }
    if (has_bitmap && !by_bitmap && bitmap_mode == (int)BLOCK_BACKUP_NEVER) {
        return qmp_refuse(error,
                          "Bitmap sync mode 'never' has no meaningful effect when combined with "
                          "sync mode '%s'",
                          name);
    }
    return has_bitmap || bitmap_mode < 0 ||
           qmp_refuse(error, "Cannot specify bitmap sync mode without a bitmap");
}

static bool backup_take_bitmap(struct json_object *args, BlockBackupConfig *c, GError **error)
{
    static const BlockBackupSync syncs[] = {
        [MODE_TOP] = BLOCK_BACKUP_TOP,       [MODE_FULL] = BLOCK_BACKUP_FULL,
        [MODE_NONE] = BLOCK_BACKUP_NONE,     [MODE_INCREMENTAL] = BLOCK_BACKUP_BITMAP,
        [MODE_BITMAP] = BLOCK_BACKUP_BITMAP,
    };
    BackupMode mode = (BackupMode)qmp_arg_enum(args, "sync", &qmp_mirror_sync_mode);
    int bitmap_mode = qmp_arg_enum(args, "bitmap-mode", &qmp_bitmap_sync_mode);
    c->bitmap = qmp_arg_str(args, "bitmap");
    if (!backup_check_bitmap(mode, c->bitmap != NULL, bitmap_mode, error)) {
        return false;
    }
    c->sync = syncs[mode];
    c->bitmap_mode = (BlockBackupBitmapMode)MAX(bitmap_mode, 0);
    return true;
}

#define BACKUP_TIMEOUT_MAX_S 86400 /* as of the node copy-before-write */

static bool backup_take_perf(struct json_object *args, BlockBackupConfig *c, GError **error)
{
    struct json_object *perf = qmp_arg_get(args, "x-perf");
    int64_t workers = perf != NULL ? qmp_arg_int(perf, "max-workers", 0) : 0;
    int64_t chunk = perf != NULL ? qmp_arg_int(perf, "max-chunk", 0) : 0;
    bool given = perf != NULL && qmp_arg_has(perf, "max-workers");
    if (given && (workers < 1 || workers > INT32_MAX)) {
        return qmp_refuse(error, "max-workers must be between 1 and %d", INT32_MAX);
    }
    if (chunk < 0) {
        return qmp_refuse(error, "max-chunk must be zero (which means no limit) or positive");
    }
    c->max_workers = (unsigned)workers;
    c->max_chunk = (uint64_t)chunk;
    return true;
}

static bool backup_take_timeout(struct json_object *args, BlockBackupConfig *c, GError **error)
{
    int64_t timeout = qmp_arg_int(args, "cbw-timeout", 0);
    if (timeout < 0 || timeout > BACKUP_TIMEOUT_MAX_S) {
        return qmp_refuse(error, "cbw-timeout must be between 0 and %d seconds",
                          BACKUP_TIMEOUT_MAX_S);
    }
    c->cbw_timeout_s = (uint32_t)timeout;
    return true;
}

/* The source is set; @target is its target. */
static RUNS_IN_MAIN bool backup_take_args(Vm *vm, struct json_object *args, BlockBackupConfig *c,
                                          BlockNode *target, GError **error)
{
    const char *device = qmp_arg_str(args, "device");
    *c = (BlockBackupConfig){
        .filter_name = qmp_arg_str(args, "filter-node-name"),
        .compress = qmp_arg_bool(args, "compress", false),
        .on_cbw_error =
            (BlockOnCbwError)(g_strcmp0(qmp_arg_str(args, "on-cbw-error"), "break-snapshot") == 0
                                  ? BLOCK_CBW_BREAK_SNAPSHOT
                                  : BLOCK_CBW_BREAK_GUEST_WRITE),
    };
    if (qmp_arg_bool(args, "discard-source", false)) {
        return qmp_refuse(error, "Parameter 'discard-source': skiff has no such backup; leave it "
                                 "out or set it to false");
    }
    c->source = qmp_find_node_of(vm, device, error);
    c->target = target;
    return c->source != NULL && qmp_take_block_job(vm, args, device, &c->job, error) &&
           backup_take_bitmap(args, c, error) && backup_take_perf(args, c, error) &&
           backup_take_timeout(args, c, error);
}

/* ---- blockdev-backup ---- */

static RUNS_IN_MAIN BlockNode *backup_find_target(Vm *vm, struct json_object *args, GError **error)
{
    return qmp_find_node_of(vm, qmp_arg_str(args, "device"), error) != NULL
               ? qmp_find_node_of(vm, qmp_arg_str(args, "target"), error)
               : NULL;
}

static struct json_object *qmp_blockdev_backup(QmpCall *call, struct json_object *args,
                                               GError **error)
{
    enter_main();
    enter_coroutine();
    BlockBackupConfig c;
    vm_operation_begin(&call->vm->run);
    BlockNode *target = backup_find_target(call->vm, args, error);
    if (target != NULL && backup_take_args(call->vm, args, &c, target, error)) {
        block_backup_co_start(&c, error);
    }
    vm_operation_end(&call->vm->run);
    return NULL;
}

/* ---- drive-backup ---- */

/* The file that the header of a new image names as its backing file. NULL without @error: none. */
static RUNS_IN_MAIN char *drive_backup_backing(struct json_object *args, BlockNode *source,
                                               const char **format, GError **error)
{
    BlockNodeInfo info;
    int mode = qmp_arg_enum(args, "sync", &qmp_mirror_sync_mode);
    for (block_node_info(source, &info); info.filtered != NULL; block_node_info(source, &info)) {
        source = info.filtered;
    }
    BlockNode *backing = mode == MODE_NONE ? source : mode == MODE_TOP ? info.backing : NULL;
    return backing != NULL ? new_image_backing_path(backing, format, error) : NULL;
}

/* Makes or opens the target of a backup of @source. */
static coroutine_fn RUNS_IN_MAIN bool
drive_backup_co_open(struct json_object *args, BlockNode *source, NewImage *image, GError **error)
{
    BlockNodeInfo info;
    GError *why = NULL;
    const char *format = qmp_arg_str(args, "format"), *backing_format = NULL;
    bool existing = g_strcmp0(qmp_arg_str(args, "mode"), "existing") == 0;
    g_autofree char *backing =
        existing ? NULL : drive_backup_backing(args, source, &backing_format, &why);
    if (why != NULL) {
        g_propagate_error(error, why);
        return false;
    }
    block_node_info(source, &info);
    while (info.filtered != NULL) {
        block_node_info(info.filtered, &info);
    }
    NewImageConfig config = {.mode = existing ? NEW_IMAGE_EXISTING : NEW_IMAGE_ABSOLUTE_PATHS,
                             .filename = qmp_arg_str(args, "target"),
                             .format = format != NULL ? format : info.driver,
                             .size = block_node_size(source),
                             .backing_file = backing,
                             .backing_format = backing_format,
                             .like = source,
                             .writable = true,
                             .home = block_node_home(source)};
    return new_image_co_open(&config, image, error);
}

/* Finds the source, and makes or opens the target. Without the operation lock. */
static coroutine_fn RUNS_IN_MAIN bool drive_backup_co_begin(Vm *vm, struct json_object *args,
                                                            NewImage *image, GError **error)
{
    BlockNode *source = qmp_find_node_of(vm, qmp_arg_str(args, "device"), error);
    *image = (NewImage){0};
    if (source == NULL) {
        return false;
    }
    block_node_ref(source);
    bool ok = drive_backup_co_open(args, source, image, error);
    block_co_unref(source);
    return ok;
}

static coroutine_fn RUNS_IN_MAIN void drive_backup_co_end(NewImage *image, bool used)
{
    if (used) {
        block_co_unref(new_image_take(image)); /* the job has its own */
    } else {
        new_image_co_drop(image);
    }
}

static struct json_object *qmp_drive_backup(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    enter_coroutine();
    BlockBackupConfig c;
    NewImage image;
    if (drive_backup_co_begin(call->vm, args, &image, error)) {
        vm_operation_begin(&call->vm->run);
        bool ok = backup_take_args(call->vm, args, &c, image.node, error) &&
                  block_backup_co_start(&c, error);
        vm_operation_end(&call->vm->run);
        drive_backup_co_end(&image, ok);
    }
    return NULL;
}

/* ---- actions of a transaction ---- */

typedef struct BackupAction {
    BlockBackup *backup; /* NULL: begin has failed */
    NewImage image;      /* drive-backup */
} BackupAction;

static bool backup_action_open_drive(QmpAction *a, GError **error)
{
    enter_main();
    enter_coroutine();
    BackupAction *b = g_new0(BackupAction, 1);
    if (!drive_backup_co_begin(a->transaction->call->vm, a->data, &b->image, error)) {
        g_free(b);
        return false;
    }
    a->state = b;
    return true;
}

static coroutine_fn RUNS_IN_MAIN bool backup_action_co_begin(QmpAction *a, BlockNode *target,
                                                             GError **error)
{
    BackupAction *b = a->state;
    BlockBackupConfig c;
    if (target == NULL || !backup_take_args(a->transaction->call->vm, a->data, &c, target, error)) {
        return false;
    }
    c.job.txn = a->transaction->jobs;
    b->backup = block_backup_co_begin(&c, error);
    if (b->backup != NULL) {
        qmp_transaction_add_node(a->transaction, block_backup_source(b->backup));
    }
    return b->backup != NULL;
}

static bool backup_action_begin_drive(QmpAction *a, GError **error)
{
    enter_main();
    enter_coroutine();
    return backup_action_co_begin(a, ((BackupAction *)a->state)->image.node, error);
}

static bool backup_action_begin(QmpAction *a, GError **error)
{
    enter_main();
    enter_coroutine();
    a->state = g_new0(BackupAction, 1);
    BlockNode *target = backup_find_target(a->transaction->call->vm, a->data, error);
    bool ok = backup_action_co_begin(a, target, error);
    if (!ok) {
        g_clear_pointer(&a->state, g_free);
    }
    return ok;
}

static bool backup_action_prepare(QmpAction *a, GError **error)
{
    enter_main();
    enter_coroutine();
    return block_backup_co_insert(((BackupAction *)a->state)->backup, error);
}

static void backup_action_abort(QmpAction *a)
{
    enter_main();
    enter_coroutine();
    const BackupAction *b = a->state;
    if (b->backup != NULL) {
        block_backup_co_remove(b->backup);
    }
}

static void backup_action_end(QmpAction *a, bool committed)
{
    enter_main();
    enter_coroutine();
    BackupAction *b = a->state;
    if (b->backup != NULL) {
        block_backup_co_finish(b->backup, committed);
    }
    if (b->image.node != NULL) {
        drive_backup_co_end(&b->image, committed);
    }
    g_free(b);
}

/* ---- the group ---- */

static const QmpType backup_on_cbw_error = {
    .name = "OnCbwError",
    .kind = QMP_KIND_ENUM,
    .values = block_on_cbw_error_names,
    .doc = "What fails if old data cannot be copied: the guest's request, or the job.",
};
static const QmpType backup_perf = {
    .name = "BackupPerf",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"use-copy-range", &qmp_bool, true, .doc = "has no effect"},
        {"max-workers", &qmp_int, true, .doc = "copies at a time; default: 16"},
        {"max-chunk", &qmp_int, true, .doc = "bytes of a copy; default: 0, which is 1 MiB"}),
    .doc = "Limits of a backup.",
};
#define BACKUP_MEMBERS                                                                             \
    {"device", &qmp_str, .doc = "the id of a -drive, or the name of a node"},                      \
        {"sync", &qmp_mirror_sync_mode, .doc = "what is copied"}, BLOCK_JOB_ARGS,                  \
        {"bitmap", &qmp_str, true, .doc = "a bitmap of the node"},                                 \
        {"bitmap-mode", &qmp_bitmap_sync_mode, true, .doc = "what becomes of it"},                 \
        {"compress", &qmp_bool, true, .doc = "the copy is compressed; default: false"},            \
        {"discard-source", &qmp_bool, true, .doc = "true is refused"},                             \
        {"on-cbw-error", &backup_on_cbw_error, true, .doc = "default: break-guest-write"},         \
        {"cbw-timeout", &qmp_int, true,                                                            \
         .doc = "seconds after which a copy before a write has failed; default: none"},            \
    {                                                                                              \
        "x-perf", &backup_perf, true, .doc = "limits"                                              \
    }
static const QmpType backup_arg = {
    .name = "BlockdevBackup",
    .kind = QMP_KIND_STRUCT,
    .members =
        QMP_MEMBERS(BACKUP_MEMBERS, {"target", &qmp_str, .doc = "the node that gets the copy"}),
    .doc = "A backup.",
};
static const QmpType drive_backup_arg = {
    .name = "DriveBackup",
    .kind = QMP_KIND_STRUCT,
    .members =
        QMP_MEMBERS(BACKUP_MEMBERS, {"target", &qmp_str, .doc = "the file of the copy"},
                    {"format", &qmp_str, true, .doc = "its format; default: the disk's"},
                    {"mode", &qmp_new_image_mode, true,
                     .doc = "absolute-paths (the default): it is made; existing: it exists"}),
    .doc = "A backup to a file.",
};

const QmpActionType qmp_backup_actions[] = {
    {
        .name = "blockdev-backup",
        .data = &backup_arg,
        .has_job = true,
        .co_begin = backup_action_begin,
        .co_prepare = backup_action_prepare,
        .co_abort = backup_action_abort,
        .co_end = backup_action_end,
    },
    {
        .name = "drive-backup",
        .data = &drive_backup_arg,
        .has_job = true,
        .co_open = backup_action_open_drive,
        .co_begin = backup_action_begin_drive,
        .co_prepare = backup_action_prepare,
        .co_abort = backup_action_abort,
        .co_end = backup_action_end,
    },
    {0},
};

static const QmpCommand qmp_backup_commands[] = {
    {"blockdev-backup", &backup_arg, NULL, 0, qmp_blockdev_backup,
     "Starts a job that copies a node to another one as it is now, while guests change it."},
    {"drive-backup", &drive_backup_arg, NULL, 0, qmp_drive_backup,
     "As blockdev-backup, to a file, which is made and opened."},
    {0},
};

static const QmpEvent qmp_backup_events[] = {{0}};

QMP_GROUP(backup);

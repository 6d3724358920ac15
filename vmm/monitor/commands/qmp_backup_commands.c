/* SPDX-License-Identifier: Apache-2.0 */
/* blockdev-backup: the command, and the action of a transaction. */
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

static bool __attribute__((format(printf, 2, 3)))
backup_refuse(GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error_literal(error, QMP_ERROR, QMP_ERROR_GENERIC, text);
    return false;
}

/* ---- arguments ---- */

/* A combination that would have no effect is refused, as in QEMU. */
static bool backup_check_bitmap(BackupMode mode, bool has_bitmap, int bitmap_mode, GError **error)
{
    const char *name = backup_mode_name(mode);
    bool by_bitmap = mode == MODE_INCREMENTAL || mode == MODE_BITMAP;
    if (by_bitmap && !has_bitmap) {
        return backup_refuse(error, "must provide a valid bitmap name for '%s' sync mode", name);
    }
    if (mode == MODE_INCREMENTAL && bitmap_mode > (int)BLOCK_BACKUP_ON_SUCCESS) {
        return backup_refuse(
            error, "Bitmap sync mode must be 'on-success' when using sync mode '%s'", name);
    }
    if (has_bitmap && mode != MODE_INCREMENTAL && bitmap_mode < 0) {
        return backup_refuse(error, "Bitmap sync mode must be given when providing a bitmap");
    }
    if (has_bitmap && mode == MODE_NONE) {
        return backup_refuse(error, "sync mode '%s' does not produce meaningful bitmap outputs",
                             name);
    }
    if (has_bitmap && !by_bitmap && bitmap_mode == (int)BLOCK_BACKUP_NEVER) {
        return backup_refuse(error,
                             "Bitmap sync mode 'never' has no meaningful effect when combined with "
                             "sync mode '%s'",
                             name);
    }
    return has_bitmap || bitmap_mode < 0 ||
           backup_refuse(error, "Cannot specify bitmap sync mode without a bitmap");
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

static bool backup_take_perf(struct json_object *args, BlockBackupConfig *c, GError **error)
{
    struct json_object *perf = qmp_arg_get(args, "x-perf");
    int64_t workers = perf != NULL ? qmp_arg_int(perf, "max-workers", 0) : 0;
    int64_t chunk = perf != NULL ? qmp_arg_int(perf, "max-chunk", 0) : 0;
    bool given = perf != NULL && qmp_arg_has(perf, "max-workers");
    if (given && (workers < 1 || workers > INT32_MAX)) {
        return backup_refuse(error, "max-workers must be between 1 and %d", INT32_MAX);
    }
    if (chunk < 0) {
        return backup_refuse(error, "max-chunk must be zero (which means no limit) or positive");
    }
    c->max_workers = (unsigned)workers;
    c->max_chunk = (uint64_t)chunk;
    return true;
}

static RUNS_IN_MAIN bool backup_take_args(Vm *vm, struct json_object *args, BlockBackupConfig *c,
                                          GError **error)
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
        return backup_refuse(error,
                             "Parameter 'discard-source': skiff has no such backup; leave it "
                             "out or set it to false");
    }
    c->source = qmp_find_node_of(vm, device, error);
    c->target = c->source != NULL ? qmp_find_node_of(vm, qmp_arg_str(args, "target"), error) : NULL;
    return c->target != NULL && qmp_take_block_job(vm, args, device, &c->job, error) &&
           backup_take_bitmap(args, c, error) && backup_take_perf(args, c, error);
}

/* ---- the command ---- */

static struct json_object *qmp_blockdev_backup(QmpCall *call, struct json_object *args,
                                               GError **error)
{
    enter_main();
    enter_coroutine();
    BlockBackupConfig c;
    vm_operation_begin(&call->vm->run);
    if (backup_take_args(call->vm, args, &c, error)) {
        block_backup_co_start(&c, error);
    }
    vm_operation_end(&call->vm->run);
    return NULL;
}

/* ---- the action of a transaction ---- */

static bool backup_action_begin(QmpAction *a, GError **error)
{
    enter_main();
    enter_coroutine();
    BlockBackupConfig c;
    if (!backup_take_args(a->transaction->call->vm, a->data, &c, error)) {
        return false;
    }
    c.job.txn = a->transaction->jobs;
    a->state = block_backup_co_begin(&c, error);
    if (a->state == NULL) {
        return false;
    }
    qmp_transaction_add_node(a->transaction, block_backup_source(a->state));
    return true;
}

static bool backup_action_prepare(QmpAction *a, GError **error)
{
    enter_main();
    enter_coroutine();
    return block_backup_co_insert(a->state, error);
}

static void backup_action_abort(QmpAction *a)
{
    enter_main();
    enter_coroutine();
    block_backup_co_remove(a->state);
}

static void backup_action_end(QmpAction *a, bool committed)
{
    enter_main();
    enter_coroutine();
    block_backup_co_finish(a->state, committed);
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
static const QmpType backup_arg = {
    .name = "BlockdevBackup",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"device", &qmp_str, .doc = "the id of a -drive, or the name of a node"},
        {"target", &qmp_str, .doc = "the node that gets the copy"},
        {"sync", &qmp_mirror_sync_mode, .doc = "what is copied"}, BLOCK_JOB_ARGS,
        {"bitmap", &qmp_str, true, .doc = "a bitmap of the node"},
        {"bitmap-mode", &qmp_bitmap_sync_mode, true, .doc = "what becomes of it"},
        {"compress", &qmp_bool, true, .doc = "the copy is compressed; default: false"},
        {"discard-source", &qmp_bool, true, .doc = "true is refused"},
        {"on-cbw-error", &backup_on_cbw_error, true, .doc = "default: break-guest-write"},
        {"x-perf", &backup_perf, true, .doc = "limits"}),
    .doc = "A backup.",
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
    {0},
};

static const QmpCommand qmp_backup_commands[] = {
    {"blockdev-backup", &backup_arg, NULL, 0, qmp_blockdev_backup,
     "Starts a job that copies a node to another one as it is now, while guests change it."},
    {0},
};

static const QmpEvent qmp_backup_events[] = {{0}};

QMP_GROUP(backup);

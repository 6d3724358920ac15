/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Media of CD drives. A drive is named by the id or path of its device ("id"), or by the id of the
 * -drive that it began with ("device"). Each change is a control operation.
 */
#include "hw/scsi/scsi_medium.h"
#include "vmm/monitor/commands/qmp_block.h"

#define refuse(error, ...) (g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC, __VA_ARGS__), NULL)

/* ---- the drive ---- */

static RUNS_IN_MAIN Device *qmp_medium_device_of_drive(Vm *vm, const char *drive)
{
    for (unsigned i = 0; i < vm->machine.devices->len; i++) {
        Device *dev = vm->machine.devices->pdata[i];
        const ScsiLun *lun = scsi_medium_drive(dev);
        if (lun != NULL && lun->drive != NULL && *drive != '\0' &&
            strcmp(backends_drive_of_medium(&vm->backends, lun->drive), drive) == 0) {
            return dev;
        }
    }
    return NULL;
}

static RUNS_IN_MAIN ScsiLun *qmp_medium_find(Vm *vm, struct json_object *args, GError **error)
{
    const char *device = qmp_arg_str(args, "device"), *id = qmp_arg_str(args, "id");
    if ((device != NULL) == (id != NULL)) {
        return refuse(error, "Need exactly one of 'device' and 'id'");
    }
    const char *name = device != NULL ? device : id;
    Device *dev =
        id != NULL ? machine_find_device(&vm->machine, id) : qmp_medium_device_of_drive(vm, device);
    if (dev == NULL && (device == NULL || backends_drive_node(&vm->backends, device) == NULL)) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_DEVICE_NOT_FOUND, "Device '%s' not found", name);
        return NULL;
    }
    if (dev != NULL && dev->leaving) {
        return refuse(error, "Device %s is already in the process of unplug", device_label(dev));
    }
    ScsiLun *lun = dev != NULL ? scsi_medium_drive(dev) : NULL;
    return lun != NULL ? lun : refuse(error, "Device '%s' is not removable", name);
}

static RUNS_IN_MAIN bool qmp_open_tray_or_refuse(ScsiLun *lun, struct json_object *args,
                                                 GError **error)
{
    if (scsi_medium_open_tray(lun, qmp_arg_bool(args, "force", false))) {
        return true;
    }
    (void)refuse(error,
                 "Device '%s' is locked and force was not specified, wait for tray to open and "
                 "try again",
                 device_label(&lun->base));
    return false;
}

/* How long a command waits, with the operation lock, for requests to the medium that it takes out. */
#define QMP_MEDIUM_NS (INT64_C(50) * 1000000)

/* Takes the medium out, if there is one; *@taken is the name of its node (owned). */
static coroutine_fn RUNS_IN_MAIN bool qmp_take_medium_out(ScsiLun *lun, char **taken,
                                                          GError **error)
{
    if (lun->blk == NULL) {
        return true;
    }
    g_autofree char *node = g_strdup(block_node_name(blk_root(lun->blk)));
    if (!scsi_medium_co_remove(lun, QMP_MEDIUM_NS)) {
        (void)refuse(
            error,
            "The medium of device '%s' is in use: requests to node '%s' have not ended. It "
            "is on the open tray; try again",
            device_label(&lun->base), node);
        return false;
    }
    *taken = g_steal_pointer(&node);
    return true;
}

static RUNS_IN_MAIN bool qmp_medium_check_tray(const ScsiLun *lun, GError **error)
{
    if (scsi_medium_tray_open(lun)) {
        return true;
    }
    (void)refuse(error, "Tray of device '%s' is not open", device_label(&lun->base));
    return false;
}

/* ---- commands: each finds the drive under the operation lock ---- */

typedef struct QmpMedium {
    Vm *vm;
    ScsiLun *lun;
    struct json_object *args;
    BlockNode *node; /* the new medium of blockdev-change-medium */
    char *taken;     /* the node that was taken out; owned */
} QmpMedium;

typedef void QmpMediumRun(QmpMedium *m, GError **error);

/* A file may hang while it closes, so that is done without the operation lock. A medium that a
 * -drive has opened closes; one of blockdev-add stays. */
static coroutine_fn RUNS_IN_MAIN struct json_object *
qmp_medium_run(QmpCall *call, struct json_object *args, BlockNode *node, QmpMediumRun *run,
               GError **error)
{
    QmpMedium m = {.vm = call->vm, .args = args, .node = node};
    vm_operation_begin(&call->vm->run);
    m.lun = qmp_medium_find(call->vm, args, error);
    if (m.lun != NULL) {
        run(&m, error);
    }
    vm_operation_end(&call->vm->run);
    if (m.taken != NULL) {
        backends_co_drop_medium(&call->vm->backends, m.taken);
        g_free(m.taken);
    }
    return NULL;
}

static void medium_eject(QmpMedium *m, GError **error)
{
    enter_main();
    enter_coroutine();
    if (qmp_open_tray_or_refuse(m->lun, m->args, error)) {
        qmp_take_medium_out(m->lun, &m->taken, error);
    }
}

/* A locked tray is no error: the guest was requested to open it. */
static void medium_open(QmpMedium *m, GError **error)
{
    enter_main();
    scsi_medium_open_tray(m->lun, qmp_arg_bool(m->args, "force", false));
}

static void medium_close(QmpMedium *m, GError **error)
{
    enter_main();
    scsi_medium_close_tray(m->lun);
}

static void medium_remove(QmpMedium *m, GError **error)
{
    enter_main();
    enter_coroutine();
    if (qmp_medium_check_tray(m->lun, error)) {
        qmp_take_medium_out(m->lun, &m->taken, error);
    }
}

static void medium_insert(QmpMedium *m, GError **error)
{
    enter_main();
    enter_coroutine();
    const char *node = qmp_arg_str(m->args, "node-name");
    if (!qmp_medium_check_tray(m->lun, error)) {
        return;
    }
    if (m->lun->blk != NULL) {
        (void)refuse(error, "There already is a medium in device '%s'",
                     device_label(&m->lun->base));
        return;
    }
    if (qmp_find_node_of(m->vm, node, error) != NULL) {
        scsi_medium_co_insert(m->lun, node, error);
    }
}

static void medium_change(QmpMedium *m, GError **error)
{
    enter_main();
    enter_coroutine();
    if (!qmp_open_tray_or_refuse(m->lun, m->args, error)) {
        return;
    }
    if (qmp_take_medium_out(m->lun, &m->taken, error) &&
        scsi_medium_co_insert(m->lun, block_node_name(m->node), error)) {
        scsi_medium_close_tray(m->lun);
    }
}

/* The image is opened before anything moves, so if that fails the old medium stays. */
static struct json_object *qmp_medium_change(QmpCall *call, struct json_object *args,
                                             GError **error)
{
    enter_main();
    enter_coroutine();
    const char *format = qmp_arg_str(args, "format");
    if (g_strcmp0(qmp_arg_str(args, "read-only-mode"), "read-write") == 0) {
        return refuse(error, "read-only-mode=read-write: a CD drive only reads");
    }
    g_autoptr(OptDict) opts = opt_dict_new();
    OptDict *file = opt_dict_new();
    opt_dict_set(file, "driver", "file");
    opt_dict_set(file, "filename", qmp_arg_str(args, "filename"));
    opt_dict_set_dict(opts, "file", file);
    opt_dict_set(opts, "driver", format != NULL ? format : "raw");
    opt_dict_set(opts, "read-only", "on");
    BlockNode *node = block_co_open(opts, call->vm->machine.env.default_iothread, error);
    if (node != NULL) {
        qmp_medium_run(call, args, node, medium_change, error);
        block_co_unref(node); /* the drive has its own reference */
    }
    return NULL;
}

#define QMP_MEDIUM_HANDLER(name)                                                                   \
    static struct json_object *qmp_##name(QmpCall *call, struct json_object *args, GError **error) \
    {                                                                                              \
        enter_main();                                                                              \
        enter_coroutine();                                                                         \
        return qmp_medium_run(call, args, NULL, name, error);                                      \
    }

QMP_MEDIUM_HANDLER(medium_eject)
QMP_MEDIUM_HANDLER(medium_open)
QMP_MEDIUM_HANDLER(medium_close)
QMP_MEDIUM_HANDLER(medium_remove)
QMP_MEDIUM_HANDLER(medium_insert)

/* ---- schema ---- */

#define MEDIUM_DRIVE                                                                               \
    {"device", &qmp_str, true, .doc = "the id of the -drive that the CD drive began with"},        \
    {                                                                                              \
        "id", &qmp_str, true, .doc = "instead: the id or path of the CD drive"                     \
    }
#define MEDIUM_FORCE                                                                               \
    {                                                                                              \
        "force", &qmp_bool, true, .doc = "open the tray even if the guest keeps it closed"         \
    }

static const QmpType medium_open_arg = {
    .name = "blockdev-open-tray-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(MEDIUM_DRIVE, MEDIUM_FORCE),
};
static const QmpType medium_eject_arg = {
    .name = "eject-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(MEDIUM_DRIVE, MEDIUM_FORCE),
};
static const QmpType medium_close_arg = {
    .name = "blockdev-close-tray-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(MEDIUM_DRIVE),
};
static const QmpType medium_remove_arg = {
    .name = "blockdev-remove-medium-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"id", &qmp_str, .doc = "the id or path of the CD drive"}),
};
static const QmpType medium_insert_arg = {
    .name = "blockdev-insert-medium-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"id", &qmp_str, .doc = "the id or path of the CD drive"},
                           {"node-name", &qmp_str, .doc = "the node to put into it"}),
};
static const QmpType medium_read_only_mode = {
    .name = "BlockdevChangeReadOnlyMode",
    .kind = QMP_KIND_ENUM,
    .values = QMP_VALUES("retain", "read-only", "read-write"),
    .doc = "Whether the new medium can be written; a CD drive only reads.",
};
static const QmpType medium_change_arg = {
    .name = "blockdev-change-medium-arg",
    .kind = QMP_KIND_STRUCT,
    .members =
        QMP_MEMBERS(MEDIUM_DRIVE, {"filename", &qmp_str, .doc = "the image"},
                    {"format", &qmp_str, true, .doc = "its driver; raw if absent"}, MEDIUM_FORCE,
                    {"read-only-mode", &medium_read_only_mode, true, .doc = "retain or read-only"}),
};

static const QmpCommand qmp_medium_commands[] = {
    {"eject", &medium_eject_arg, NULL, 0, qmp_medium_eject,
     "Opens the tray of a CD drive and takes the medium out."},
    {"blockdev-open-tray", &medium_open_arg, NULL, 0, qmp_medium_open,
     "Opens the tray of a CD drive. A guest that keeps it closed is requested to open it, unless "
     "force is given."},
    {"blockdev-close-tray", &medium_close_arg, NULL, 0, qmp_medium_close,
     "Closes the tray of a CD drive."},
    {"blockdev-remove-medium", &medium_remove_arg, NULL, 0, qmp_medium_remove,
     "Takes the medium out of a CD drive, whose tray is open."},
    {"blockdev-insert-medium", &medium_insert_arg, NULL, 0, qmp_medium_insert,
     "Puts a node into a CD drive, which is empty and whose tray is open."},
    {"blockdev-change-medium", &medium_change_arg, NULL, 0, qmp_medium_change,
     "Opens an image, opens the tray, replaces the medium, and closes the tray."},
    {0},
};

static const QmpType tray_moved_type = {
    .name = "DEVICE_TRAY_MOVED",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"device", &qmp_str, .doc = "the id of its -drive, or empty"},
                           {"id", &qmp_str, .doc = "the id or path of the CD drive"},
                           {"tray-open", &qmp_bool, .doc = "whether it is open now"}),
};

static const QmpEvent qmp_medium_events[] = {
    {"DEVICE_TRAY_MOVED", &tray_moved_type,
     "The tray of a CD drive has opened or closed. When a guest moves it too often, not every move "
     "is announced."},
    {0},
};

QMP_GROUP(medium);

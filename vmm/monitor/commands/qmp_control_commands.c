/* SPDX-License-Identifier: Apache-2.0 */
/* The VM as a whole: identity, run state, actions, and the events of these. */
#include "hw/firmware/vmgenid.h"
#include "vmm/monitor/qmp/qmp.h"

/* How long stop and cont wait for their effect. */
#define QMP_SETTLE_NS (INT64_C(100) * 1000000)

/* ---- identity ---- */

static const QmpType qmp_name_info = {
    .name = "NameInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"name", &qmp_str, true, "the name of -name; absent without -name"})};

static struct json_object *qmp_query_name(QmpCall *call, struct json_object *args, GError **error)
{
    struct json_object *info = json_object_new_object();
    const char *name = call->vm->config->machine.name;
    if (name != NULL) {
        qmp_put_str(info, "name", name);
    }
    return info;
}

static const QmpType qmp_uuid_info = {
    .name = "UuidInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"UUID", &qmp_str, .doc = "the UUID of -uuid; zero without -uuid"})};

static struct json_object *qmp_query_uuid(QmpCall *call, struct json_object *args, GError **error)
{
    struct json_object *info = json_object_new_object();
    const char *uuid = call->vm->config->machine.uuid;
    qmp_put_str(info, "UUID", uuid != NULL ? uuid : "00000000-0000-0000-0000-000000000000");
    return info;
}

static const QmpType qmp_guid_info = {
    .name = "GuidInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"guid", &qmp_str, .doc = "the generation id of -device vmgenid"})};

static struct json_object *qmp_query_generation_id(QmpCall *call, struct json_object *args,
                                                   GError **error)
{
    enter_main();
    const Device *dev = machine_find_type(&call->vm->machine, VMGENID_TYPE);
    if (dev == NULL) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC, "VM Generation ID device not found");
        return NULL;
    }
    struct json_object *info = json_object_new_object();
    qmp_put_str(info, "guid", vmgenid_guid(dev));
    return info;
}

static const QmpType qmp_kvm_info = {
    .name = "KvmInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"enabled", &qmp_bool, .doc = "whether the VM uses KVM: always true"},
                           {"present", &qmp_bool, .doc = "whether the host has KVM"})};

static struct json_object *qmp_query_kvm(QmpCall *call, struct json_object *args, GError **error)
{
    struct json_object *info = json_object_new_object();
    qmp_put_bool(info, "enabled", true);
    qmp_put_bool(info, "present", true);
    return info;
}

/* ---- the run state ---- */

static const QmpType qmp_run_state = {
    .name = "RunState",
    .kind = QMP_KIND_ENUM,
    .values = QMP_VALUES("debug", "inmigrate", "internal-error", "io-error", "paused",
                         "postmigrate", "prelaunch", "finish-migrate", "restore-vm", "running",
                         "save-vm", "shutdown", "suspended", "watchdog", "guest-panicked", "colo")};
static const QmpType qmp_status_info = {
    .name = "StatusInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"running", &qmp_bool, .doc = "whether vCPUs run"},
        {"status", &qmp_run_state, .doc = "\"running\", or the reason of the stop"},
        {"stopping", &qmp_bool, true,
         "true while a stop is in progress and devices may have I/O in flight, else absent. Not "
         "in QEMU, which does not answer meanwhile"})};

static struct json_object *qmp_query_status(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    const RunState *rs = &call->vm->run;
    struct json_object *info = json_object_new_object();
    qmp_put_str(info, "status", run_state_qemu_name(rs));
    qmp_put_bool(info, "running", rs->phase == RUN_RUNNING);
    if (run_state_stopping(rs)) {
        qmp_put_bool(info, "stopping", true);
    }
    return info;
}

static struct json_object *qmp_stop(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    enter_coroutine();
    RunState *rs = &call->vm->run;
    run_state_request_stop(rs, STOP_PAUSED);
    run_state_co_settle(rs, QMP_SETTLE_NS);
    return NULL;
}

static struct json_object *qmp_cont(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    enter_coroutine();
    RunState *rs = &call->vm->run;
    if (run_state_has_ended(rs)) {
        run_state_co_settle(rs, QMP_SETTLE_NS); /* a pending reset is carried out first */
    }
    if (run_state_has_ended(rs)) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC,
                    "Resetting the Virtual Machine is required");
        return NULL;
    }
    run_state_request_start(rs);
    run_state_co_settle(rs, QMP_SETTLE_NS);
    if (rs->phase == RUN_STOPPED && !rs->starting && rs->start_error[0] != '\0') {
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC, "%s", rs->start_error);
    }
    return NULL;
}

static struct json_object *qmp_system_reset(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    vm_reset(call->vm, VM_CAUSE_HOST_QMP_SYSTEM_RESET);
    return NULL;
}

static struct json_object *qmp_system_powerdown(QmpCall *call, struct json_object *args,
                                                GError **error)
{
    enter_main();
    vm_power_down(call->vm);
    return NULL;
}

static struct json_object *qmp_quit(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    vm_quit(call->vm, EXIT_STATUS_OK);
    return NULL;
}

/* ---- actions on guest events ---- */

static const QmpType qmp_reboot_action = {
    .name = "RebootAction", .kind = QMP_KIND_ENUM, .values = QMP_VALUES("reset", "shutdown")};
static const QmpType qmp_shutdown_action = {
    .name = "ShutdownAction", .kind = QMP_KIND_ENUM, .values = QMP_VALUES("poweroff", "pause")};
static const QmpType qmp_panic_action = {
    .name = "PanicAction",
    .kind = QMP_KIND_ENUM,
    /* in the order of the enum PanicAction */
    .values = QMP_VALUES("shutdown", "exit-failure", "pause", "none")};
static const QmpType qmp_watchdog_action = {
    .name = "WatchdogAction",
    .kind = QMP_KIND_ENUM,
    /* in the order of the enum WatchdogAction */
    .values = QMP_VALUES("reset", "shutdown", "poweroff", "pause", "debug", "none", "inject-nmi")};
static const QmpType qmp_set_action_args = {
    .name = "set-action-arg",
    .kind = QMP_KIND_STRUCT,
    .members =
        QMP_MEMBERS({"reboot", &qmp_reboot_action, true, "when the guest resets"},
                    {"shutdown", &qmp_shutdown_action, true, "when the guest powers off"},
                    {"panic", &qmp_panic_action, true, "when the guest panics"},
                    {"watchdog", &qmp_watchdog_action, true, "when a watchdog device expires"})};
static const QmpType qmp_watchdog_set_action_args = {
    .name = "watchdog-set-action-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"action", &qmp_watchdog_action, .doc = "the new reaction"})};

static struct json_object *qmp_set_action(QmpCall *call, struct json_object *args, GError **error)
{
    VmActions *actions = &call->vm->life.actions;
    int reboot = qmp_arg_enum(args, "reboot", &qmp_reboot_action);
    int shutdown = qmp_arg_enum(args, "shutdown", &qmp_shutdown_action);
    int panic = qmp_arg_enum(args, "panic", &qmp_panic_action);
    int watchdog = qmp_arg_enum(args, "watchdog", &qmp_watchdog_action);
    if (reboot >= 0) {
        actions->no_reboot = reboot == 1;
    }
    if (shutdown >= 0) {
        actions->no_shutdown = shutdown == 1;
    }
    if (panic >= 0) {
        actions->panic = (PanicAction)panic;
    }
    if (watchdog >= 0) {
        actions->watchdog = (WatchdogAction)watchdog;
    }
    return NULL;
}

static struct json_object *qmp_watchdog_set_action(QmpCall *call, struct json_object *args,
                                                   GError **error)
{
    int action = qmp_arg_enum(args, "action", &qmp_watchdog_action);
    call->vm->life.actions.watchdog = (WatchdogAction)action;
    return NULL;
}

static const QmpCommand qmp_control_commands[] = {
    {"query-name", NULL, &qmp_name_info, QMP_INSTANT | QMP_EARLY, qmp_query_name, "The VM's name."},
    {"query-uuid", NULL, &qmp_uuid_info, QMP_INSTANT | QMP_EARLY, qmp_query_uuid, "The VM's UUID."},
    {"query-vm-generation-id", NULL, &qmp_guid_info, QMP_INSTANT, qmp_query_generation_id,
     "The VM's generation id. An error without -device vmgenid."},
    {"query-kvm", NULL, &qmp_kvm_info, QMP_INSTANT | QMP_EARLY, qmp_query_kvm,
     "Whether KVM is used."},
    {"query-status", NULL, &qmp_status_info, QMP_INSTANT | QMP_EARLY, qmp_query_status,
     "The run state. Answers at once, also while a stop waits for a disk that hangs."},
    {"stop", NULL, NULL, 0, qmp_stop,
     "Stops the VM: vCPUs are parked, devices have nothing in flight, disks are flushed. If this "
     "takes longer than 100 ms, the reply comes before the end of the stop: query-status then has "
     "running=false and stopping=true, and the event STOP follows. A VM stopped for a dump stays "
     "stopped after the dump."},
    {"cont", NULL, NULL, 0, qmp_cont,
     "Starts the VM. Waits for a stop or dump in progress, but replies after 100 ms at most; the "
     "event RESUME follows when the VM runs."},
    {"system_reset", NULL, NULL, QMP_INSTANT, qmp_system_reset,
     "Presses the reset button. With -no-reboot the VM ends. The event RESET follows the reset."},
    {"system_powerdown", NULL, NULL, QMP_INSTANT, qmp_system_powerdown,
     "Presses the power button. The guest decides what to do."},
    {"quit", NULL, NULL, QMP_INSTANT | QMP_EARLY, qmp_quit,
     "Ends skiff with status 0. Storage is brought to rest, for 5 seconds at most."},
    {"set-action", &qmp_set_action_args, NULL, QMP_INSTANT, qmp_set_action,
     "Sets the reactions to the guest's reset, power-off and panic and to a watchdog, as -action "
     "does."},
    {"watchdog-set-action", &qmp_watchdog_set_action_args, NULL, QMP_INSTANT,
     qmp_watchdog_set_action, "Sets the reaction to a watchdog device that expires."},
    {0},
};

/* ---- events ---- */

static const QmpType qmp_shutdown_cause = {
    .name = "ShutdownCause", .kind = QMP_KIND_ENUM, .values = vm_cause_names};
static const QmpType qmp_cause_data = {
    .name = "SHUTDOWN-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"guest", &qmp_bool, .doc = "whether the guest caused it"},
                           {"reason", &qmp_shutdown_cause,
                            .doc = "host-error also stands for -timeout, host-ui for Ctrl-A x"})};
static const QmpType qmp_guest_panic_action = {.name = "GuestPanicAction",
                                               .kind = QMP_KIND_ENUM,
                                               .values = QMP_VALUES("pause", "poweroff", "run")};
static const QmpType qmp_panic_data = {
    .name = "GUEST_PANICKED-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"action", &qmp_guest_panic_action, .doc = "the action taken"})};
static const QmpType qmp_watchdog_data = {
    .name = "WATCHDOG-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"action", &qmp_watchdog_action, .doc = "the action taken"})};

static const QmpEvent qmp_control_events[] = {
    {"SHUTDOWN", &qmp_cause_data, "The VM ends: skiff exits or, with -no-shutdown, stops the VM."},
    {"POWERDOWN", NULL, "The power button was pressed (system_powerdown)."},
    {"RESET", &qmp_cause_data, "The VM was reset."},
    {"STOP", NULL,
     "The VM has stopped and nothing is in flight. Sent once until RESUME, also after several "
     "stops; not during a reset, and not when skiff exits."},
    {"RESUME", NULL, "The VM runs, for the first time or again."},
    {"GUEST_PANICKED", &qmp_panic_data, "The guest has panicked (pvpanic)."},
    {"GUEST_CRASHLOADED", &qmp_panic_data,
     "The guest has crashed and continues with its crash kernel (pvpanic)."},
    {"WATCHDOG", &qmp_watchdog_data,
     "A watchdog device of the guest has expired (i6300esb, iTCO)."},
    {0},
};

QMP_GROUP(control);

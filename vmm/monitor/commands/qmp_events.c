/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/commands/qmp_events.h"

#include <errno.h>
#include "vmm/monitor/commands/qmp_job.h"
#include "vmm/monitor/qmp/qmp.h"

static struct {
    VmListener listener;
    bool running; /* set by RESUME, cleared by STOP */
} qmp_events;

/* ---- the run state ---- */

/* Emits STOP and RESUME alternately, however often the run state changes. The stop and start within
 * a reset emit none, and neither does the end of the VM. */
static void qmp_events_run_changed(VmListener *l, RunPhase phase, StopReason reason)
{
    enter_main();
    bool running = phase == RUN_RUNNING;
    if ((!running && phase != RUN_STOPPED) || running == qmp_events.running || l->vm->run.brief ||
        l->vm->life.quitting) {
        return;
    }
    qmp_events.running = running;
    qmp_event_emit(running ? "RESUME" : "STOP", NULL);
}

static RUNS_IN_MAIN void qmp_events_emit_cause(const char *event, VmCause cause)
{
    struct json_object *data = json_object_new_object();
    qmp_put_bool(data, "guest", cause >= VM_CAUSE_GUEST_SHUTDOWN);
    qmp_put_str(data, "reason", vm_cause_names[cause]);
    qmp_event_emit(event, data);
}

static void qmp_events_reset(VmListener *l, VmCause cause)
{
    enter_main();
    qmp_events_emit_cause("RESET", cause);
}

static void qmp_events_ending(VmListener *l, VmCause cause, bool leaving)
{
    enter_main();
    qmp_events_emit_cause("SHUTDOWN", cause);
}

static void qmp_events_panicked(VmListener *l, bool crash_loaded, VmPanicAction action)
{
    static const char *const actions[] = {
        [VM_PANIC_RUN] = "run", [VM_PANIC_PAUSE] = "pause", [VM_PANIC_POWEROFF] = "poweroff"};
    enter_main();
    struct json_object *data = json_object_new_object();
    qmp_put_str(data, "action", actions[action]);
    qmp_event_emit(crash_loaded ? "GUEST_CRASHLOADED" : "GUEST_PANICKED", data);
}

static void qmp_events_watchdog_expired(VmListener *l, WatchdogAction action)
{
    static const char *const actions[] = {
        [WATCHDOG_RESET] = "reset",           [WATCHDOG_SHUTDOWN] = "shutdown",
        [WATCHDOG_POWEROFF] = "poweroff",     [WATCHDOG_PAUSE] = "pause",
        [WATCHDOG_DEBUG] = "debug",           [WATCHDOG_NONE] = "none",
        [WATCHDOG_INJECT_NMI] = "inject-nmi",
    };
    enter_main();
    struct json_object *data = json_object_new_object();
    qmp_put_str(data, "action", actions[action]);
    qmp_event_emit("WATCHDOG", data);
}

static void qmp_events_power_asked(VmListener *l)
{
    enter_main();
    qmp_event_emit("POWERDOWN", NULL);
}

/* ---- devices ---- */

static void qmp_events_device_deleted(VmListener *l, const char *id, const char *path)
{
    enter_main();
    struct json_object *data = json_object_new_object();
    if (id != NULL) {
        qmp_put_str(data, "device", id);
    }
    qmp_put_str(data, "path", path);
    qmp_event_emit("DEVICE_DELETED", data);
}

static void qmp_events_io_error(VmListener *l, const VmIoError *e)
{
    static const char *const actions[] = {
        [DEVICE_IO_IGNORE] = "ignore", [DEVICE_IO_REPORT] = "report", [DEVICE_IO_STOP] = "stop"};
    enter_main();
    struct json_object *data = json_object_new_object();
    qmp_put_str(data, "qom-path", e->path);
    qmp_put_str(data, "device", backends_drive_of_node(&l->vm->backends, e->node));
    qmp_put_str(data, "node-name", e->node);
    qmp_put_str(data, "operation", e->is_read ? "read" : "write");
    qmp_put_str(data, "action", actions[e->action]);
    qmp_put_bool(data, "nospace", e->error == ENOSPC);
    qmp_put_str(data, "reason", g_strerror(e->error));
    qmp_event_emit("BLOCK_IO_ERROR", data);
}

static void qmp_events_tray_moved(VmListener *l, const char *drive, const char *id, bool open)
{
    enter_main();
    struct json_object *data = json_object_new_object();
    qmp_put_str(data, "device", drive);
    qmp_put_str(data, "id", id);
    qmp_put_bool(data, "tray-open", open);
    qmp_event_emit("DEVICE_TRAY_MOVED", data);
}

static void qmp_events_rx_filter_changed(VmListener *l, const char *id, const char *path)
{
    enter_main();
    struct json_object *data = json_object_new_object();
    if (id != NULL) {
        qmp_put_str(data, "name", id);
    }
    qmp_put_str(data, "path", path);
    qmp_event_emit("NIC_RX_FILTER_CHANGED", data);
}

/* ---- jobs ---- */

static RUNS_IN_MAIN void qmp_events_job_status(const Job *job)
{
    struct json_object *data = json_object_new_object();
    qmp_put_str(data, "id", job_id(job));
    qmp_put_str(data, "status", job_status_names[job_status(job)]);
    qmp_event_emit("JOB_STATUS_CHANGE", data);
}

static RUNS_IN_MAIN void qmp_events_job_pending(const Job *job)
{
    struct json_object *data = json_object_new_object();
    qmp_put_str(data, "type", job_driver(job)->type);
    qmp_put_str(data, "id", job_id(job));
    qmp_event_emit("BLOCK_JOB_PENDING", data);
}

static RUNS_IN_MAIN void qmp_events_block_job(const Job *job, JobEvent event)
{
    const char *name = event == JOB_EVENT_READY       ? "BLOCK_JOB_READY"
                       : event == JOB_EVENT_CANCELLED ? "BLOCK_JOB_CANCELLED"
                                                      : "BLOCK_JOB_COMPLETED";
    bool completed = event != JOB_EVENT_READY && event != JOB_EVENT_CANCELLED;
    struct json_object *data = json_object_new_object();
    qmp_put_block_job(data, job);
    qmp_put_int(data, "speed", (int64_t)job_speed(job));
    if (completed && job_error_text(job) != NULL) {
        qmp_put_str(data, "error", job_error_text(job));
    }
    qmp_event_emit(name, data);
}

static void qmp_events_job(VmListener *l, const Job *job, JobEvent event)
{
    enter_main();
    if (event == JOB_EVENT_STATUS) {
        qmp_events_job_status(job);
    } else if (!job_driver(job)->is_block_job) {
        return; /* other jobs have only JOB_STATUS_CHANGE */
    } else if (event == JOB_EVENT_PENDING) {
        qmp_events_job_pending(job);
    } else {
        qmp_events_block_job(job, event);
    }
}

static void qmp_events_job_io_error(VmListener *l, const Job *job, bool is_read,
                                    JobErrorAction action)
{
    static const char *const actions[] = {[JOB_ON_ERROR_REPORT] = "report",
                                          [JOB_ON_ERROR_IGNORE] = "ignore",
                                          [JOB_ON_ERROR_STOP] = "stop"};
    enter_main();
    if (!job_driver(job)->is_block_job) {
        return;
    }
    struct json_object *data = json_object_new_object();
    qmp_put_str(data, "device", job_id(job));
    qmp_put_str(data, "operation", is_read ? "read" : "write");
    qmp_put_str(data, "action", actions[action]);
    qmp_event_emit("BLOCK_JOB_ERROR", data);
}

static void qmp_events_export_deleted(VmListener *l, const char *id)
{
    enter_main();
    struct json_object *data = json_object_new_object();
    qmp_put_str(data, "id", id);
    qmp_event_emit("BLOCK_EXPORT_DELETED", data);
}

void qmp_events_init(Vm *vm)
{
    vm_unlisten(vm, &qmp_events.listener);
    qmp_events.running = false;
    qmp_events.listener = (VmListener){
        .run_changed = qmp_events_run_changed,
        .reset = qmp_events_reset,
        .ending = qmp_events_ending,
        .panicked = qmp_events_panicked,
        .watchdog_expired = qmp_events_watchdog_expired,
        .power_asked = qmp_events_power_asked,
        .device_deleted = qmp_events_device_deleted,
        .io_error = qmp_events_io_error,
        .tray_moved = qmp_events_tray_moved,
        .rx_filter_changed = qmp_events_rx_filter_changed,
        .port_changed = qmp_port_changed,
        .balloon_changed = qmp_balloon_changed,
        .job = qmp_events_job,
        .job_io_error = qmp_events_job_io_error,
        .export_deleted = qmp_events_export_deleted,
    };
    vm_listen(vm, &qmp_events.listener);
}

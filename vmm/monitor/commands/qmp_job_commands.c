/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs: query-jobs, job-*, and the older block-job-* on the same jobs. */
#include "block/job/mirror.h"
#include "vmm/monitor/commands/qmp_job.h"
#include "vmm/monitor/qmp/qmp.h"
#include "vmm/monitor/commands/qmp_block.h"
#include "vmm/snapshot/snapshot_job.h"

/* ---- look-up ---- */

static RUNS_IN_MAIN Job *qmp_find_job(struct json_object *args, GError **error)
{
    Job *job = job_find(qmp_arg_str(args, "id"));
    if (job == NULL) {
        g_set_error_literal(error, QMP_ERROR, QMP_ERROR_GENERIC, "Job not found");
    }
    return job;
}

/* Returns the block job that argument @name refers to; NULL and @error if there is none. */
static RUNS_IN_MAIN Job *qmp_find_block_job(struct json_object *args, const char *name,
                                            GError **error)
{
    const char *id = qmp_arg_str(args, name);
    Job *job = job_find(id);
    if (job != NULL && job_driver(job)->is_block_job) {
        return job;
    }
    g_set_error(error, QMP_ERROR, QMP_ERROR_DEVICE_NOT_ACTIVE, "Block job '%s' not found", id);
    return NULL;
}

/* ---- query ---- */

/* What snapshot-save took from the guest. */
static RUNS_IN_MAIN void qmp_put_snapshot_save(struct json_object *info, const Job *job)
{
    const SnapshotSaveInfo *save = snapshot_save_info(job);
    if (save != NULL && save->capture != NULL) {
        struct json_object *o = json_object_new_object();
        qmp_put_str(o, "capture", save->capture);
        if (save->why_passes != NULL) {
            qmp_put_str(o, "reason", save->why_passes);
        }
        qmp_put_int(o, "pause-us", save->pause_ns / 1000);
        qmp_put_u64(o, "bytes", save->bytes);
        json_object_object_add(info, "x-snapshot", o);
    }
}

static void qmp_append_job(const Job *job, void *list)
{
    enter_main();
    struct json_object *info = json_object_new_object();
    uint64_t current, total;
    job_progress_get(job, &current, &total);
    qmp_put_str(info, "id", job_id(job));
    qmp_put_str(info, "type", job_driver(job)->type);
    qmp_put_str(info, "status", job_status_names[job_status(job)]);
    qmp_put_int(info, "current-progress", (int64_t)current);
    qmp_put_int(info, "total-progress", (int64_t)total);
    if (job_error_text(job) != NULL) {
        qmp_put_str(info, "error", job_error_text(job));
    }
    qmp_put_snapshot_save(info, job);
    json_object_array_add(list, info);
}

static struct json_object *qmp_query_jobs(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    struct json_object *list = json_object_new_array();
    job_foreach(qmp_append_job, list);
    return list;
}

void qmp_put_block_job(struct json_object *object, const Job *job)
{
    uint64_t current, total;
    job_progress_get(job, &current, &total);
    qmp_put_str(object, "type", job_driver(job)->type);
    qmp_put_str(object, "device", job_id(job));
    qmp_put_int(object, "len", (int64_t)total);
    qmp_put_int(object, "offset", (int64_t)current);
}

static void qmp_append_block_job(const Job *job, void *list)
{
    enter_main();
    if (!job_driver(job)->is_block_job) {
        return;
    }
    struct json_object *info = json_object_new_object();
    JobStatus status = job_status(job);
    qmp_put_block_job(info, job);
    qmp_put_bool(info, "busy", job_busy(job));
    qmp_put_bool(info, "paused", job_user_paused(job));
    qmp_put_int(info, "speed", (int64_t)job_speed(job));
    qmp_put_str(info, "io-status", job_io_status_names[job_io_status(job)]);
    qmp_put_bool(info, "ready", status == JOB_STATUS_READY || status == JOB_STATUS_STANDBY);
    qmp_put_str(info, "status", job_status_names[status]);
    qmp_put_bool(info, "auto-finalize", job_auto_finalize(job));
    qmp_put_bool(info, "auto-dismiss", job_auto_dismiss(job));
    if (job_error_text(job) != NULL) {
        qmp_put_str(info, "error", job_error_text(job));
    }
    if (job_driver(job) == &block_mirror_driver) {
        qmp_put_bool(info, "actively-synced", block_mirror_actively_synced(job));
    }
    json_object_array_add(list, info);
}

static struct json_object *qmp_query_block_jobs(QmpCall *call, struct json_object *args,
                                                GError **error)
{
    enter_main();
    struct json_object *list = json_object_new_array();
    job_foreach(qmp_append_block_job, list);
    return list;
}

/* ---- verbs ---- */

static RUNS_IN_MAIN struct json_object *qmp_job_apply(Job *job, bool (*verb)(Job *, GError **),
                                                      GError **error)
{
    if (job != NULL) {
        verb(job, error);
    }
    return NULL;
}

static struct json_object *qmp_job_pause(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    return qmp_job_apply(qmp_find_job(args, error), job_pause, error);
}

static struct json_object *qmp_job_resume(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    return qmp_job_apply(qmp_find_job(args, error), job_resume, error);
}

static struct json_object *qmp_job_cancel(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    Job *job = qmp_find_job(args, error);
    if (job != NULL) {
        job_cancel(job, true, error);
    }
    return NULL;
}

static struct json_object *qmp_job_complete(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    return qmp_job_apply(qmp_find_job(args, error), job_complete, error);
}

static struct json_object *qmp_job_dismiss(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    return qmp_job_apply(qmp_find_job(args, error), job_dismiss, error);
}

static struct json_object *qmp_job_finalize(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    enter_coroutine();
    Job *job = qmp_find_job(args, error);
    if (job != NULL) {
        job_co_finalize(job, error);
    }
    return NULL;
}

static struct json_object *qmp_block_job_set_speed(QmpCall *call, struct json_object *args,
                                                   GError **error)
{
    enter_main();
    Job *job = qmp_find_block_job(args, "device", error);
    int64_t speed = qmp_arg_int(args, "speed", 0);
    if (job != NULL && speed < 0) {
        g_set_error_literal(error, QMP_ERROR, QMP_ERROR_GENERIC,
                            "Parameter 'speed' expects a non-negative value");
    } else if (job != NULL) {
        job_set_speed(job, (uint64_t)speed, error);
    }
    return NULL;
}

static struct json_object *qmp_block_job_cancel(QmpCall *call, struct json_object *args,
                                                GError **error)
{
    enter_main();
    Job *job = qmp_find_block_job(args, "device", error);
    bool force = qmp_arg_bool(args, "force", false);
    if (job != NULL && job_user_paused(job) && !force) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC,
                    "The block job for device '%s' is currently paused", job_id(job));
    } else if (job != NULL) {
        job_cancel(job, force, error);
    }
    return NULL;
}

static struct json_object *qmp_block_job_pause(QmpCall *call, struct json_object *args,
                                               GError **error)
{
    enter_main();
    return qmp_job_apply(qmp_find_block_job(args, "device", error), job_pause, error);
}

static struct json_object *qmp_block_job_resume(QmpCall *call, struct json_object *args,
                                                GError **error)
{
    enter_main();
    return qmp_job_apply(qmp_find_block_job(args, "device", error), job_resume, error);
}

static struct json_object *qmp_block_job_complete(QmpCall *call, struct json_object *args,
                                                  GError **error)
{
    enter_main();
    return qmp_job_apply(qmp_find_block_job(args, "device", error), job_complete, error);
}

static struct json_object *qmp_block_job_dismiss(QmpCall *call, struct json_object *args,
                                                 GError **error)
{
    enter_main();
    return qmp_job_apply(qmp_find_block_job(args, "id", error), job_dismiss, error);
}

static struct json_object *qmp_block_job_finalize(QmpCall *call, struct json_object *args,
                                                  GError **error)
{
    enter_main();
    enter_coroutine();
    Job *job = qmp_find_block_job(args, "id", error);
    if (job != NULL) {
        job_co_finalize(job, error);
    }
    return NULL;
}

/* ---- schema ---- */

static const QmpType job_type = {
    .name = "JobType",
    .kind = QMP_KIND_ENUM,
    .values = QMP_VALUES("commit", "stream", "mirror", "backup", "create", "amend", "snapshot-load",
                         "snapshot-save", "snapshot-delete"),
    .doc = "The type of a job.",
};
static const QmpType job_status_type = {
    .name = "JobStatus",
    .kind = QMP_KIND_ENUM,
    .values = job_status_names,
    .doc = "The state of a job.",
};

static const QmpType snapshot_save_type = {
    .name = "SnapshotSaveInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"capture", &qmp_str,
         .doc = "how memory was captured: \"fork\", by a frozen copy; "
                "\"write-protection\", which copies pages when the guest writes them; "
                "\"passes\", while the guest ran, and the last one while it was stopped; "
                "\"stopped\""},
        {"reason", &qmp_str, true, .doc = "why it was not frozen at one instant"},
        {"pause-us", &qmp_int, .doc = "microseconds for which the guest was stopped"},
        {"bytes", &qmp_int, .doc = "bytes of memory written"}),
    .doc = "What a snapshot of the machine took from the guest.",
};
static const QmpType job_info_type = {
    .name = "JobInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"id", &qmp_str, .doc = "the job's id"}, {"type", &job_type, .doc = "its type"},
        {"status", &job_status_type, .doc = "its state"},
        {"current-progress", &qmp_int, .doc = "work done, in units of the job"},
        {"total-progress", &qmp_int, .doc = "work in all; may grow while the job runs"},
        {"error", &qmp_str, true, .doc = "the error if it failed or will fail, else absent"},
        {"x-snapshot", &snapshot_save_type, true,
         .doc = "of snapshot-save, once the guest was stopped. Not in QEMU"}),
    .doc = "A job.",
};
static const QmpType job_info_list = {.kind = QMP_KIND_ARRAY, .element = &job_info_type};

static const QmpType block_job_info_type = {
    .name = "BlockJobInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"type", &job_type, .doc = "its type"}, {"device", &qmp_str, .doc = "the job's id"},
        {"len", &qmp_int, .doc = "work in all; may grow while the job runs"},
        {"offset", &qmp_int, .doc = "work done"},
        {"busy", &qmp_bool, .doc = "false when it is paused or sleeps"},
        {"paused", &qmp_bool, .doc = "whether a pause was requested"},
        {"speed", &qmp_int, .doc = "its limit in bytes per second; 0 if none"},
        {"io-status", &qmp_block_device_status, .doc = "whether an I/O error paused it"},
        {"ready", &qmp_bool, .doc = "whether it can be completed"},
        {"status", &job_status_type, .doc = "its state"},
        {"auto-finalize", &qmp_bool, .doc = "whether it finalizes automatically"},
        {"auto-dismiss", &qmp_bool, .doc = "whether it is dismissed automatically"},
        {"error", &qmp_str, true, .doc = "the error if it failed or will fail, else absent"},
        {"actively-synced", &qmp_bool, true,
         .doc = "mirror: source and target are equal, and changes are written to both at once"}),
    .doc = "A job on a block node.",
};
static const QmpType block_job_info_list = {.kind = QMP_KIND_ARRAY,
                                            .element = &block_job_info_type};

#define JOB_ARGS(type, member)                                                                     \
    static const QmpType type = {                                                                  \
        .name = #type,                                                                             \
        .kind = QMP_KIND_STRUCT,                                                                   \
        .members = QMP_MEMBERS({member, &qmp_str, .doc = "the job's id"}),                         \
    }
JOB_ARGS(job_id_arg, "id");
JOB_ARGS(job_device_arg, "device");

static const QmpType block_job_speed_arg = {
    .name = "block-job-set-speed-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"device", &qmp_str, .doc = "the job's id"},
                           {"speed", &qmp_int, .doc = "bytes per second; 0 for no limit"}),
};
static const QmpType block_job_cancel_arg = {
    .name = "block-job-cancel-arg",
    .kind = QMP_KIND_STRUCT,
    .members =
        QMP_MEMBERS({"device", &qmp_str, .doc = "the job's id"},
                    {"force", &qmp_bool, true,
                     .doc = "also when it is paused; a ready mirror ends without its last copies"}),
};

static const QmpCommand qmp_job_commands[] = {
    {"query-jobs", NULL, &job_info_list, QMP_INSTANT, qmp_query_jobs, "All jobs."},
    {"job-pause", &job_id_arg, NULL, QMP_INSTANT, qmp_job_pause,
     "Pauses a job at its next pause point."},
    {"job-resume", &job_id_arg, NULL, QMP_INSTANT, qmp_job_resume,
     "Resumes a job after job-pause."},
    {"job-cancel", &job_id_arg, NULL, QMP_INSTANT, qmp_job_cancel,
     "Cancels a job: it ends without effect. Answers at once; events report the job's end."},
    {"job-complete", &job_id_arg, NULL, QMP_INSTANT, qmp_job_complete,
     "Completes a job that is ready."},
    {"job-dismiss", &job_id_arg, NULL, QMP_INSTANT, qmp_job_dismiss,
     "Removes a concluded job that was kept for queries."},
    {"job-finalize", &job_id_arg, NULL, 0, qmp_job_finalize,
     "Finalizes a pending job: it takes effect. Returns when it has concluded."},
    {"query-block-jobs", NULL, &block_job_info_list, QMP_INSTANT, qmp_query_block_jobs,
     "The jobs on block nodes."},
    {"block-job-set-speed", &block_job_speed_arg, NULL, QMP_INSTANT, qmp_block_job_set_speed,
     "Limits the speed of a job."},
    {"block-job-cancel", &block_job_cancel_arg, NULL, QMP_INSTANT, qmp_block_job_cancel,
     "As job-cancel, but a ready mirror completes without its pivot, unless force is true."},
    {"block-job-pause", &job_device_arg, NULL, QMP_INSTANT, qmp_block_job_pause, "As job-pause."},
    {"block-job-resume", &job_device_arg, NULL, QMP_INSTANT, qmp_block_job_resume,
     "As job-resume."},
    {"block-job-complete", &job_device_arg, NULL, QMP_INSTANT, qmp_block_job_complete,
     "As job-complete."},
    {"block-job-dismiss", &job_id_arg, NULL, QMP_INSTANT, qmp_block_job_dismiss, "As job-dismiss."},
    {"block-job-finalize", &job_id_arg, NULL, 0, qmp_block_job_finalize, "As job-finalize."},
    {0},
};

static const QmpType job_status_change_type = {
    .name = "JOB_STATUS_CHANGE",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"id", &qmp_str, .doc = "the job's id"},
                           {"status", &job_status_type, .doc = "its new state"}),
};

#define BLOCK_JOB_MEMBERS                                                                          \
    {"type", &job_type, .doc = "the job's type"}, {"device", &qmp_str, .doc = "the job's id"},     \
        {"len", &qmp_int, .doc = "work in all"},                                                   \
        {"offset", &qmp_int, .doc = "work done; equal to len if it succeeded"},                    \
    {                                                                                              \
        "speed", &qmp_int, .doc = "its limit in bytes per second; 0 if none"                       \
    }

static const QmpType block_job_completed_type = {
    .name = "BLOCK_JOB_COMPLETED",
    .kind = QMP_KIND_STRUCT,
    .members =
        QMP_MEMBERS(BLOCK_JOB_MEMBERS, {"error", &qmp_str, true, .doc = "the error, if it failed"}),
};
static const QmpType block_job_type = {.name = "BLOCK_JOB_CANCELLED",
                                       .kind = QMP_KIND_STRUCT,
                                       .members = QMP_MEMBERS(BLOCK_JOB_MEMBERS)};
static const QmpType block_job_pending_type = {
    .name = "BLOCK_JOB_PENDING",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"type", &job_type, .doc = "the job's type"},
                           {"id", &qmp_str, .doc = "the job's id"}),
};
static const QmpType block_job_error_type = {
    .name = "BLOCK_JOB_ERROR",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"device", &qmp_str, .doc = "the job's id"},
                           {"operation", &qmp_io_operation_type, .doc = "the failed operation"},
                           {"action", &qmp_block_error_action, .doc = "the job's reaction"}),
};

static const QmpEvent qmp_job_events[] = {
    {"JOB_STATUS_CHANGE", &job_status_change_type, "The state of a job has changed."},
    {"BLOCK_JOB_COMPLETED", &block_job_completed_type, "A block job has succeeded or failed."},
    {"BLOCK_JOB_CANCELLED", &block_job_type, "A block job was cancelled."},
    {"BLOCK_JOB_READY", &block_job_type, "A block job is ready for block-job-complete."},
    {"BLOCK_JOB_PENDING", &block_job_pending_type, "A block job waits for block-job-finalize."},
    {"BLOCK_JOB_ERROR", &block_job_error_type, "I/O of a block job has failed."},
    {0},
};

QMP_GROUP(job);

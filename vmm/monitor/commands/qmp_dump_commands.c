/* SPDX-License-Identifier: Apache-2.0 */
/* The dump group: dump-guest-memory and its queries. */
#include <string.h>
#include "util/log.h"
#include "vmm/dump/dump.h"
#include "vmm/monitor/qmp/qmp.h"
#include "vmm/monitor/qmp/qmp_session.h"

static const QmpType qmp_dump_format = {
    .name = "DumpGuestMemoryFormat",
    .kind = QMP_KIND_ENUM,
    .values = QMP_VALUES("elf", "kdump-zlib", "kdump-lzo", "kdump-snappy", "kdump-raw-zlib",
                         "kdump-raw-lzo", "kdump-raw-snappy", "win-dmp"),
    .doc = "Formats of a dump. query-dump-guest-memory-capability lists the supported ones"};

static const QmpType qmp_dump_args = {
    .name = "q_obj_dump-guest-memory-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"paging", &qmp_bool,
         .doc = "with the vCPUs' virtual mappings, for gdb; crash does not need them"},
        {"protocol", &qmp_str, .doc = "file:PATH, or fd:NAME of a descriptor sent with getfd"},
        {"detach", &qmp_bool, .optional = true,
         .doc = "reply when the file is open; DUMP_COMPLETED follows (default false)"},
        {"begin", &qmp_size, .optional = true,
         .doc = "first physical address to dump; with length"},
        {"length", &qmp_size, .optional = true, .doc = "bytes from there"},
        {"format", &qmp_dump_format, .optional = true, .doc = "skiff has elf only"})};

static const QmpType qmp_dump_status = {.name = "DumpStatus",
                                        .kind = QMP_KIND_ENUM,
                                        .values =
                                            QMP_VALUES("none", "active", "completed", "failed"),
                                        .doc = "The state of the current or last dump"};

static const QmpType qmp_dump_result = {
    .name = "DumpQueryResult",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"status", &qmp_dump_status, .doc = "its state"},
                           {"completed", &qmp_int, .doc = "bytes of memory written"},
                           {"total", &qmp_int, .doc = "bytes of memory to write"})};

static const QmpType qmp_dump_format_list = {.kind = QMP_KIND_ARRAY, .element = &qmp_dump_format};

static const QmpType qmp_dump_capability = {
    .name = "DumpGuestMemoryCapability",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"formats", &qmp_dump_format_list, .doc = "supported formats"})};

static const QmpType qmp_dump_completed = {
    .name = "q_obj_DUMP_COMPLETED-arg",
    .kind = QMP_KIND_STRUCT,
    .members =
        QMP_MEMBERS({"result", &qmp_dump_result, .doc = "how it ended"},
                    {"error", &qmp_str, .optional = true, .doc = "the error, if it failed"})};

/* ---- arguments ---- */

static RUNS_IN_MAIN bool qmp_dump_parse_protocol(QmpCall *call, const char *protocol,
                                                 DumpOptions *o, GError **error)
{
    if (g_str_has_prefix(protocol, "file:")) {
        o->path = protocol + strlen("file:");
        return true;
    }
    if (!g_str_has_prefix(protocol, "fd:")) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC,
                    "parameter 'protocol' must start with 'file:' or 'fd:'");
        return false;
    }
    const char *name = protocol + strlen("fd:");
    if (call->session == NULL) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC,
                    "File descriptor named '%s' has not been found: only QMP clients have any",
                    name);
        return false;
    }
    o->fd = qmp_session_take_fd(call->session, name, error);
    return o->fd >= 0;
}

static bool qmp_dump_parse_range(struct json_object *args, DumpOptions *o, GError **error)
{
    bool begin = qmp_arg_has(args, "begin"), length = qmp_arg_has(args, "length");
    if (begin != length) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC, "parameter '%s' is missing",
                    begin ? "length" : "begin");
        return false;
    }
    o->begin = (uint64_t)qmp_arg_int(args, "begin", 0);
    o->length = (uint64_t)qmp_arg_int(args, "length", 0);
    if (length && o->length == 0) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC,
                    "Parameter 'length' expects a number greater than 0");
        return false;
    }
    return true;
}

static bool qmp_dump_check_format(struct json_object *args, GError **error)
{
    int format = qmp_arg_enum(args, "format", &qmp_dump_format);
    if (format > 0) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC,
                    "skiff does not dump as '%s'; use 'elf', which crash and gdb read",
                    qmp_dump_format.values[format]);
    }
    return format <= 0;
}

/* ---- commands ---- */

static RUNS_IN_MAIN struct json_object *qmp_dump_progress_to_json(void)
{
    DumpProgress p = dump_progress();
    struct json_object *result = json_object_new_object();
    qmp_put_str(result, "status", qmp_dump_status.values[p.status]);
    qmp_put_u64(result, "completed", p.completed);
    qmp_put_u64(result, "total", p.total);
    return result;
}

static void qmp_dump_ended(const GError *error)
{
    enter_main();
    struct json_object *data = json_object_new_object();
    qmp_put(data, "result", qmp_dump_progress_to_json());
    if (error != NULL) {
        qmp_put_str(data, "error", error->message);
    }
    qmp_event_emit("DUMP_COMPLETED", data);
}

static void qmp_dump_run_detached(void *opaque)
{
    enter_main();
    enter_coroutine();
    g_autoptr(GError) error = NULL;
    if (!dump_co_run(opaque, qmp_dump_ended, &error)) {
        log_warn("dump-guest-memory: %s", error->message);
    }
}

static struct json_object *qmp_dump_guest_memory(QmpCall *call, struct json_object *args,
                                                 GError **error)
{
    enter_main();
    enter_coroutine();
    DumpOptions options = {.fd = -1, .paging = qmp_arg_bool(args, "paging", false)};
    if (!qmp_dump_check_format(args, error) || !qmp_dump_parse_range(args, &options, error) ||
        !qmp_dump_parse_protocol(call, qmp_arg_str(args, "protocol"), &options, error) ||
        !dump_co_begin(call->vm, &options, error)) {
        return NULL;
    }
    if (qmp_arg_bool(args, "detach", false)) {
        co_start(call->vm->ctx, qmp_dump_run_detached, call->vm);
    } else {
        dump_co_run(call->vm, qmp_dump_ended, error);
    }
    return NULL;
}

static struct json_object *qmp_dump_query(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    return qmp_dump_progress_to_json();
}

static struct json_object *qmp_dump_query_capability(QmpCall *call, struct json_object *args,
                                                     GError **error)
{
    struct json_object *result = json_object_new_object();
    struct json_object *formats = json_object_new_array();
    json_object_array_add(formats, json_object_new_string("elf"));
    qmp_put(result, "formats", formats);
    return result;
}

static const QmpCommand qmp_dump_commands[] = {
    {"dump-guest-memory", &qmp_dump_args, .run = qmp_dump_guest_memory,
     .doc = "Writes guest memory and registers to an ELF core file. The VM is stopped during the "
            "dump and resumes afterwards if it ran before and was not stopped meanwhile. On "
            "failure a regular file is removed."},
    {"query-dump", .ret = &qmp_dump_result, .flags = QMP_INSTANT | QMP_EARLY, .run = qmp_dump_query,
     .doc = "The progress of the current dump, or the result of the last one."},
    {"query-dump-guest-memory-capability", .ret = &qmp_dump_capability,
     .flags = QMP_INSTANT | QMP_EARLY, .run = qmp_dump_query_capability,
     .doc = "The formats of dump-guest-memory."},
    {0}};

static const QmpEvent qmp_dump_events[] = {
    {"DUMP_COMPLETED", &qmp_dump_completed, "A dump has succeeded or failed."}, {0}};

QMP_GROUP(dump);

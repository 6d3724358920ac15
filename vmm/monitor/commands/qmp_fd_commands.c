/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors that a client on a UNIX socket sends with a command (SCM_RIGHTS). */
#include <unistd.h>
#include "util/fdset.h"
#include "vmm/monitor/qmp/qmp.h"
#include "vmm/monitor/qmp/qmp_session.h"

static RUNS_IN_MAIN int qmp_take_fd(QmpCall *call, GError **error)
{
    int fd = qmp_session_take_passed_fd(call->session);
    if (fd < 0) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC,
                    "No file descriptor supplied via SCM_RIGHTS");
    }
    return fd;
}

/* ---- named descriptors ---- */

static const QmpType qmp_getfd_args = {
    .name = "getfd-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"fdname", &qmp_str, .doc = "its name; must not begin with a digit"})};

static struct json_object *qmp_getfd(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    const char *name = qmp_arg_str(args, "fdname");
    int fd = qmp_take_fd(call, error);
    if (fd < 0) {
        return NULL;
    }
    if (name[0] == '\0' || g_ascii_isdigit(name[0])) {
        close(fd);
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC,
                    "Parameter 'fdname' expects a name not starting with a digit");
        return NULL;
    }
    qmp_session_set_fd(call->session, name, fd, error);
    return NULL;
}

static const QmpType qmp_closefd_args = {
    .name = "closefd-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"fdname", &qmp_str, .doc = "the name set by getfd"})};

static struct json_object *qmp_closefd(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    int fd = qmp_session_take_fd(call->session, qmp_arg_str(args, "fdname"), error);
    if (fd >= 0) {
        close(fd);
    }
    return NULL;
}

/* ---- descriptor sets ---- */

static const QmpType qmp_fdset_id = {
    .name = "int", .kind = QMP_KIND_INT, .min = 0, .max = INT64_MAX};
static const QmpType qmp_fd_number = {
    .name = "int", .kind = QMP_KIND_INT, .min = 0, .max = INT32_MAX};
static const QmpType qmp_add_fd_args = {
    .name = "add-fd-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"fdset-id", &qmp_fdset_id, true, "the set; default: a new one"},
                           {"opaque", &qmp_str, true, "a note, for query-fdsets"})};
static const QmpType qmp_addfd_info = {
    .name = "AddfdInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"fdset-id", &qmp_int, .doc = "N of /dev/fdset/N"},
                           {"fd", &qmp_int, .doc = "the descriptor's number in skiff"})};

static struct json_object *qmp_add_fd(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    int fd = qmp_take_fd(call, error);
    if (fd < 0) {
        return NULL;
    }
    int64_t id =
        fdset_add(qmp_arg_int(args, "fdset-id", -1), fd, qmp_arg_str(args, "opaque"), error);
    if (id < 0) {
        return NULL;
    }
    struct json_object *info = json_object_new_object();
    qmp_put_int(info, "fdset-id", id);
    qmp_put_int(info, "fd", fd);
    return info;
}

static const QmpType qmp_remove_fd_args = {
    .name = "remove-fd-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"fdset-id", &qmp_fdset_id, .doc = "the set"},
                           {"fd", &qmp_fd_number, true, "a descriptor of the set; default: all"})};

static struct json_object *qmp_remove_fd(QmpCall *call, struct json_object *args, GError **error)
{
    fdset_remove(qmp_arg_int(args, "fdset-id", -1), (int)qmp_arg_int(args, "fd", -1), error);
    return NULL;
}

static const QmpType qmp_fdset_fd_info = {
    .name = "FdsetFdInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"fd", &qmp_int, .doc = "its number in skiff"},
                           {"opaque", &qmp_str, true, "the note of add-fd"})};
static const QmpType qmp_fdset_fd_list = {.kind = QMP_KIND_ARRAY, .element = &qmp_fdset_fd_info};
static const QmpType qmp_fdset_info = {
    .name = "FdsetInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"fdset-id", &qmp_int, .doc = "N of /dev/fdset/N"},
                           {"fds", &qmp_fdset_fd_list, .doc = "its descriptors"})};
static const QmpType qmp_fdset_list = {.kind = QMP_KIND_ARRAY, .element = &qmp_fdset_info};

static void qmp_list_fd(int64_t id, int fd, const char *note, void *opaque)
{
    struct json_object *sets = opaque, *fds;
    size_t count = json_object_array_length(sets);
    struct json_object *set = count > 0 ? json_object_array_get_idx(sets, count - 1) : NULL;
    if (set == NULL || qmp_arg_int(set, "fdset-id", -1) != id) {
        set = json_object_new_object();
        qmp_put_int(set, "fdset-id", id);
        qmp_put(set, "fds", json_object_new_array());
        json_object_array_add(sets, set);
    }
    fds = qmp_arg_get(set, "fds");
    struct json_object *info = json_object_new_object();
    qmp_put_int(info, "fd", fd);
    if (note != NULL) {
        qmp_put_str(info, "opaque", note);
    }
    json_object_array_add(fds, info);
}

static struct json_object *qmp_query_fdsets(QmpCall *call, struct json_object *args, GError **error)
{
    struct json_object *sets = json_object_new_array();
    fdset_foreach(qmp_list_fd, sets);
    return sets;
}

static const QmpCommand qmp_fd_commands[] = {
    {"getfd", &qmp_getfd_args, NULL, QMP_INSTANT, qmp_getfd,
     "Stores the descriptor that came with the command under a name, and closes an earlier one of "
     "that name."},
    {"closefd", &qmp_closefd_args, NULL, QMP_INSTANT, qmp_closefd,
     "Closes a descriptor stored by getfd."},
    {"add-fd", &qmp_add_fd_args, &qmp_addfd_info, QMP_INSTANT, qmp_add_fd,
     "Adds the descriptor that came with the command to a set, which is opened as /dev/fdset/N. It "
     "stays there until remove-fd."},
    {"remove-fd", &qmp_remove_fd_args, NULL, QMP_INSTANT, qmp_remove_fd,
     "Closes one or all descriptors of a set. Files opened through them stay open."},
    {"query-fdsets", NULL, &qmp_fdset_list, QMP_INSTANT, qmp_query_fdsets, "All descriptor sets."},
    {0},
};
static const QmpEvent qmp_fd_events[] = {{0}};

QMP_GROUP(fd);

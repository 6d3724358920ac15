/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/commands/qmp_chardev_backend.h"
#include <string.h>
#include "vmm/monitor/qmp/qmp_session.h"

/* The members of all backends. */
#define CHARDEV_COMMON                                                                             \
    {"logfile", &qmp_str, true, "a file that also gets the output"},                               \
        {"logappend", &qmp_bool, true, "append to the log file"},                                  \
    {                                                                                              \
        "logtimestamp", &qmp_bool, true, "begin each line of the log file with the time"           \
    }

static const QmpType chardev_common = {
    .name = "ChardevCommon", .kind = QMP_KIND_STRUCT, .members = QMP_MEMBERS(CHARDEV_COMMON)};

static const QmpType chardev_file = {
    .name = "ChardevFile",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"out", &qmp_str, .doc = "the file to write"},
                           {"append", &qmp_bool, true, "append to the file"}, CHARDEV_COMMON)};

static const QmpType chardev_pty = {
    .name = "ChardevPty",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"path", &qmp_str, true, "a symbolic link to create"}, CHARDEV_COMMON)};

static const QmpType chardev_stdio = {
    .name = "ChardevStdio",
    .kind = QMP_KIND_STRUCT,
    .members =
        QMP_MEMBERS({"signal", &qmp_bool, true, "Ctrl-C and Ctrl-Z act on skiff"}, CHARDEV_COMMON)};

static const QmpType socket_address_kind = {
    .name = "SocketAddressType", .kind = QMP_KIND_ENUM, .values = QMP_VALUES("inet", "unix", "fd")};

static const QmpType socket_address_data = {
    .name = "SocketAddressData", .kind = QMP_KIND_STRUCT, .open = true};

const QmpType qmp_socket_address_legacy = {
    .name = "SocketAddressLegacy",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"type", &socket_address_kind, .doc = "inet, unix or fd"},
                           {"data", &socket_address_data,
                            .doc = "inet: host, port, ipv4, ipv6; unix: path, abstract; fd: str"}),
};

static const QmpType socket_address_inet = {
    .name = "InetSocketAddress",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"host", &qmp_str, .doc = "host or address"}, {"port", &qmp_str, .doc = "port"},
        {"ipv4", &qmp_bool, true, "IPv4 only"}, {"ipv6", &qmp_bool, true, "IPv6 only"})};

static const QmpType socket_address_unix = {
    .name = "UnixSocketAddress",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"path", &qmp_str, .doc = "path of the socket"},
                           {"abstract", &qmp_bool, true, "in the abstract namespace"})};

static const QmpType socket_address_fd = {
    .name = "FdSocketAddress",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"str", &qmp_str, .doc = "a name set by getfd, or a number"})};

static const QmpType chardev_socket = {
    .name = "ChardevSocket",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"addr", &qmp_socket_address_legacy, .doc = "the address"},
        {"server", &qmp_bool, true, "listen (default: true)"},
        {"wait", &qmp_bool, true, "reply after the first client connects (default: false)"},
        {"nodelay", &qmp_bool, true, "TCP_NODELAY"},
        {"reconnect", &qmp_int, true, "seconds between attempts"},
        {"reconnect-ms", &qmp_int, true, "the same in milliseconds"},
        {"telnet", &qmp_bool, true, "refused"}, {"tn3270", &qmp_bool, true, "refused"},
        {"websocket", &qmp_bool, true, "refused"}, {"tls-creds", &qmp_str, true, "refused"},
        CHARDEV_COMMON)};

static const QmpType chardev_kind = {.name = "ChardevBackendKind",
                                     .kind = QMP_KIND_ENUM,
                                     .values =
                                         QMP_VALUES("file", "socket", "pty", "stdio", "null")};

static const QmpType *const chardev_data_types[] = {&chardev_file, &chardev_socket, &chardev_pty,
                                                    &chardev_stdio, &chardev_common};

static const QmpType chardev_data = {
    .name = "ChardevBackendData", .kind = QMP_KIND_STRUCT, .open = true};

const QmpType qmp_chardev_backend = {
    .name = "ChardevBackend",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"type", &chardev_kind, .doc = "file, socket, pty, stdio or null"},
        {"data", &chardev_data, .doc = "options as for -chardev, but file has out, socket addr"}),
};

/* Copies every scalar of @from to @to under the same name. */
static void qmp_chardev_copy_scalars(struct json_object *from, OptDict *to)
{
    json_object_object_foreach(from, name, value)
    {
        if (json_object_is_type(value, json_type_boolean)) {
            opt_dict_set(to, name, json_object_get_boolean(value) ? "on" : "off");
        } else if (!json_object_is_type(value, json_type_object)) {
            opt_dict_set(to, name, json_object_get_string(value));
        }
    }
}

/* Resolves a descriptor: takes a name of getfd from the session, uses a number unchanged. */
static RUNS_IN_MAIN bool qmp_take_fd_option(OptDict *options, QmpSession *session, int *fd,
                                            GError **error)
{
    g_autofree char *name = opt_dict_take(options, "str");
    if (g_ascii_isdigit(name[0])) {
        opt_dict_set(options, "fd", name);
        return true;
    }
    if (session == NULL) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC, "File descriptor named '%s' not found",
                    name);
        return false;
    }
    *fd = qmp_session_take_fd(session, name, error);
    g_autofree char *number = g_strdup_printf("%d", *fd);
    opt_dict_set(options, "fd", number);
    return *fd >= 0;
}

bool qmp_socket_address_options(struct json_object *address, const char *what, OptDict *options,
                                QmpSession *session, int *fd, GError **error)
{
    static const QmpType *const types[] = {&socket_address_inet, &socket_address_unix,
                                           &socket_address_fd};
    int kind = qmp_arg_enum(address, "type", &socket_address_kind);
    struct json_object *data = qmp_arg_get(address, "data");
    *fd = -1;
    if (!qmp_check(types[kind], data, what, error)) {
        return false;
    }
    qmp_chardev_copy_scalars(data, options);
    return types[kind] != &socket_address_fd || qmp_take_fd_option(options, session, fd, error);
}

OptDict *qmp_chardev_options(struct json_object *backend, QmpSession *session, int *fd,
                             GError **error)
{
    g_autoptr(OptDict) options = opt_dict_new();
    int kind = qmp_arg_enum(backend, "type", &chardev_kind);
    struct json_object *data = qmp_arg_get(backend, "data");
    *fd = -1;
    if (!qmp_check(chardev_data_types[kind], data, "backend.data", error)) {
        return NULL;
    }
    opt_dict_set(options, "backend", chardev_kind.values[kind]);
    qmp_chardev_copy_scalars(data, options);
    if (chardev_data_types[kind] == &chardev_file) {
        g_autofree char *path = opt_dict_take(options, "out");
        opt_dict_set(options, "path", path);
    }
    if (chardev_data_types[kind] == &chardev_socket) {
        bool server = qmp_arg_bool(data, "server", true);
        opt_dict_set(options, "server", server ? "on" : "off");
        if (server) {
            opt_dict_set_default(options, "wait", "off");
        }
        if (!qmp_socket_address_options(qmp_arg_get(data, "addr"), "backend.data.addr.data",
                                        options, session, fd, error)) {
            return NULL;
        }
    }
    return g_steal_pointer(&options);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Events of network back ends whose peer comes and goes. */
#include <string.h>
#include "hw/net/net_stream.h"
#include "vmm/monitor/commands/qmp_events.h"
#include "vmm/monitor/qmp/qmp.h"

/* "unix:PATH", "fd:N" or "tcp:HOST:PORT", as util/socket_address.h names addresses. */
static struct json_object *qmp_netdev_address(const char *peer)
{
    struct json_object *addr = json_object_new_object();
    const char *colon = strchr(peer, ':'), *last = strrchr(peer, ':');
    if (g_str_has_prefix(peer, "unix:")) {
        qmp_put_str(addr, "type", "unix");
        qmp_put_str(addr, "path", colon + 1);
    } else if (g_str_has_prefix(peer, "fd:")) {
        qmp_put_str(addr, "type", "fd");
        qmp_put_str(addr, "str", colon + 1);
    } else {
        g_autofree char *host =
            last > colon ? g_strndup(colon + 1, (size_t)(last - colon - 1)) : g_strdup("");
        qmp_put_str(addr, "type", "inet");
        qmp_put_str(addr, "host", host);
        qmp_put_str(addr, "port", last + 1);
    }
    return addr;
}

static void qmp_netdev_stream_changed(const char *id, const char *peer, bool connected)
{
    enter_main();
    struct json_object *data = json_object_new_object();
    qmp_put_str(data, "netdev-id", id);
    if (connected) {
        qmp_put(data, "addr", qmp_netdev_address(peer));
    }
    qmp_event_emit(connected ? "NETDEV_STREAM_CONNECTED" : "NETDEV_STREAM_DISCONNECTED", data);
}

void qmp_netdev_events_init(void)
{
    net_stream_set_listener(qmp_netdev_stream_changed);
}

static const QmpType qmp_netdev_socket_address = {
    .name = "SocketAddress",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"type", &qmp_str, .doc = "inet, unix or fd"},
                           {"host", &qmp_str, true, "of inet"}, {"port", &qmp_str, true, "of inet"},
                           {"path", &qmp_str, true, "of unix; @NAME: an abstract one"},
                           {"str", &qmp_str, true, "of fd"}),
};
static const QmpType qmp_netdev_connected = {
    .name = "q_obj_NETDEV_STREAM_CONNECTED-arg",
    .kind = QMP_KIND_STRUCT,
    .members =
        QMP_MEMBERS({"netdev-id", &qmp_str, .doc = "id of the netdev"},
                    {"addr", &qmp_netdev_socket_address, .doc = "its address, as it was given"}),
};
static const QmpType qmp_netdev_disconnected = {
    .name = "q_obj_NETDEV_STREAM_DISCONNECTED-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"netdev-id", &qmp_str, .doc = "id of the netdev"}),
};

static const QmpCommand qmp_netdev_event_commands[] = {{0}};
static const QmpEvent qmp_netdev_event_events[] = {
    {"NETDEV_STREAM_CONNECTED", &qmp_netdev_connected,
     "A stream netdev has a connection: it has connected, or accepted a client."},
    {"NETDEV_STREAM_DISCONNECTED", &qmp_netdev_disconnected,
     "The connection of a stream netdev has ended."},
    {0},
};

QMP_GROUP(netdev_event);

/* SPDX-License-Identifier: Apache-2.0 */
/* Network back ends, links, receive filters, announcements. */
#include <unistd.h>
#include "hw/net/net_filter.h"
#include "util/opts/json.h"
#include "vmm/monitor/qmp/qmp.h"
#include "vmm/monitor/qmp/qmp_session.h"

/* ---- back ends and links ---- */

/* A descriptor of getfd; it is the command's from now on. */
static int qmp_net_take_fd(const char *name, void *session, GError **error)
{
    enter_main();
    return qmp_session_take_fd(session, name, error);
}

/* Holds no operation lock: opening a device or running a script may take long, and nothing uses the back
 * end before it is open. */
static struct json_object *qmp_netdev_add(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    enter_coroutine();
    g_autoptr(OptDict) opts = opt_dict_from_json(args, error);
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
    bool ok = opts != NULL &&
              (call->session == NULL ||
               net_fds_resolve(opts, qmp_net_take_fd, call->session, fds, error)) &&
              backends_co_add_netdev(opts, error);
    for (unsigned i = 0; !ok && i < fds->len; i++) {
        close(g_array_index(fds, int, i));
    }
    return NULL;
}

static bool qmp_net_not_found(const char *id, GError **error)
{
    g_autofree char *excerpt = opt_excerpt(id);
    g_set_error(error, QMP_ERROR, QMP_ERROR_DEVICE_NOT_FOUND, "Device '%s' not found", excerpt);
    return false;
}

static struct json_object *qmp_netdev_del(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    enter_coroutine();
    const char *id = qmp_arg_str(args, "id");
    vm_operation_begin(&call->vm->run); /* its NIC neither comes nor goes */
    if (net_find(id) == NULL) {
        qmp_net_not_found(id, error);
    } else {
        net_co_remove(id, error);
    }
    vm_operation_end(&call->vm->run);
    return NULL;
}

typedef struct QmpNetSearch {
    const char *name;
    bool found;
} QmpNetSearch;

static void qmp_net_match(NetClient *c, void *opaque)
{
    QmpNetSearch *s = opaque;
    s->found = s->found || strcmp(c->name, s->name) == 0;
}

static RUNS_IN_MAIN bool qmp_net_has_client(const char *name)
{
    QmpNetSearch s = {.name = name};
    net_foreach_client(qmp_net_match, &s);
    return s.found;
}

static struct json_object *qmp_set_link(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    const char *name = qmp_arg_str(args, "name");
    if (net_find(name) == NULL && !qmp_net_has_client(name)) {
        qmp_net_not_found(name, error);
    } else {
        net_set_link(name, qmp_arg_bool(args, "up", true), error);
    }
    return NULL;
}

/* ---- receive filters ---- */

static void qmp_put_mac(struct json_object *list, const uint8_t *mac)
{
    char text[3 * NET_MAC_BYTES];
    snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3],
             mac[4], mac[5]);
    json_object_array_add(list, json_object_new_string(text));
}

static struct json_object *qmp_mac_list(const NetFilter *f, unsigned from, unsigned to)
{
    struct json_object *list = json_object_new_array();
    for (unsigned i = from; i < to; i++) {
        qmp_put_mac(list, f->macs + (size_t)i * NET_MAC_BYTES);
    }
    return list;
}

/* All VLANs pass: "all", and no list of 4096. */
static struct json_object *qmp_vlan_list(const NetFilter *f, const char **mode)
{
    struct json_object *list = json_object_new_array();
    unsigned count = 0;
    for (unsigned i = 0; i < NET_VLANS; i++) {
        if (f->vlans[i / 8] >> (i % 8) & 1) {
            json_object_array_add(list, json_object_new_int((int)i));
            count++;
        }
    }
    *mode = count == 0 ? "none" : count == NET_VLANS ? "all" : "normal";
    if (count == NET_VLANS) {
        json_object_put(list);
        list = json_object_new_array();
    }
    return list;
}

static RUNS_IN_MAIN struct json_object *qmp_rx_filter_info(NetClient *c)
{
    NetFilter f;
    const char *vlan;
    net_client_get_filter(c, &f);
    struct json_object *info = json_object_new_object(), *main_mac = json_object_new_array();
    struct json_object *vlans = qmp_vlan_list(&f, &vlan);
    qmp_put_mac(main_mac, f.mac);
    qmp_put_str(info, "name", c->name);
    qmp_put_bool(info, "promiscuous", f.promisc);
    qmp_put_str(info, "multicast", f.nomulti ? "none" : f.allmulti ? "all" : "normal");
    qmp_put_str(info, "unicast", f.nouni ? "none" : f.alluni ? "all" : "normal");
    qmp_put_str(info, "vlan", vlan);
    qmp_put_bool(info, "broadcast-allowed", !f.nobcast);
    qmp_put_bool(info, "multicast-overflow", f.multi_overflow);
    qmp_put_bool(info, "unicast-overflow", f.uni_overflow);
    qmp_put_str(info, "main-mac", json_object_get_string(json_object_array_get_idx(main_mac, 0)));
    json_object_put(main_mac);
    qmp_put(info, "vlan-table", vlans);
    qmp_put(info, "unicast-table", qmp_mac_list(&f, 0, f.first_multi));
    qmp_put(info, "multicast-table", qmp_mac_list(&f, f.first_multi, f.count));
    return info;
}

typedef struct QmpFilterQuery {
    const char *name; /* NULL: all */
    struct json_object *list;
} QmpFilterQuery;

static void qmp_add_rx_filter(NetClient *c, void *opaque)
{
    enter_main();
    const QmpFilterQuery *q = opaque;
    if (q->name == NULL || strcmp(q->name, c->name) == 0) {
        json_object_array_add(q->list, qmp_rx_filter_info(c));
    }
}

static struct json_object *qmp_query_rx_filter(QmpCall *call, struct json_object *args,
                                               GError **error)
{
    enter_main();
    QmpFilterQuery q = {.name = qmp_arg_str(args, "name"), .list = json_object_new_array()};
    net_foreach_client(qmp_add_rx_filter, &q);
    if (q.name != NULL && json_object_array_length(q.list) == 0) {
        json_object_put(q.list);
        g_autofree char *excerpt = opt_excerpt(q.name);
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC, "invalid net client name: %s", excerpt);
        return NULL;
    }
    return q.list;
}

/* ---- announcements ---- */

static struct json_object *qmp_announce_self(QmpCall *call, struct json_object *args,
                                             GError **error)
{
    enter_main();
    VmAnnounceParameters p = {.initial_ms = qmp_arg_int(args, "initial", 0),
                              .max_ms = qmp_arg_int(args, "max", 0),
                              .step_ms = qmp_arg_int(args, "step", 0),
                              .rounds = (unsigned)qmp_arg_int(args, "rounds", 0)};
    struct json_object *names = qmp_arg_get(args, "interfaces");
    if (names != NULL) {
        p.interfaces = g_ptr_array_new_with_free_func(g_free);
        for (size_t i = 0; i < json_object_array_length(names); i++) {
            const char *name = json_object_get_string(json_object_array_get_idx(names, i));
            g_ptr_array_add(p.interfaces, g_strdup(name));
        }
    }
    vm_announce_self(call->vm, qmp_arg_str(args, "id"), &p, error);
    return NULL;
}

/* ---- schema ---- */

static const QmpType netdev_options = {
    .name = "Netdev",
    .kind = QMP_KIND_STRUCT,
    .open = true,
    .members =
        QMP_MEMBERS({"type", &qmp_str, .doc = "its type: tap"}, {"id", &qmp_str, .doc = "its id"}),
    .doc = "A network back end, with the options of -netdev.",
};
static const QmpType netdev_del_arg = {
    .name = "netdev_del-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"id", &qmp_str, .doc = "its id"}),
};
static const QmpType set_link_arg = {
    .name = "set_link-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"name", &qmp_str, .doc = "the id of a NIC or of a network back end"},
                           {"up", &qmp_bool, .doc = "whether the link is up"}),
};
static const QmpType rx_filter_arg = {
    .name = "query-rx-filter-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"name", &qmp_str, true, .doc = "the NIC's name; absent: all"}),
};
static const QmpType rx_state = {
    .name = "RxState",
    .kind = QMP_KIND_ENUM,
    .values = QMP_VALUES("normal", "none", "all"),
    .doc = "What passes: what the tables list, nothing, everything.",
};
static const QmpType int_list = {.kind = QMP_KIND_ARRAY, .element = &qmp_int};
static const QmpType rx_filter_info = {
    .name = "RxFilterInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"name", &qmp_str, .doc = "the NIC's name"},
        {"promiscuous", &qmp_bool, .doc = "whether everything passes"},
        {"multicast", &rx_state, .doc = "multicast addresses"},
        {"unicast", &rx_state, .doc = "unicast addresses"}, {"vlan", &rx_state, .doc = "VLANs"},
        {"broadcast-allowed", &qmp_bool, .doc = "whether broadcasts pass"},
        {"multicast-overflow", &qmp_bool, .doc = "the table is too long: all multicasts pass"},
        {"unicast-overflow", &qmp_bool, .doc = "the table is too long: all unicasts pass"},
        {"main-mac", &qmp_str, .doc = "the NIC's own address"},
        {"vlan-table", &int_list, .doc = "the VLANs that pass; empty for all"},
        {"unicast-table", &qmp_str_list, .doc = "further unicast addresses that pass"},
        {"multicast-table", &qmp_str_list, .doc = "multicast addresses that pass"}),
    .doc = "A NIC's receive filter, as the guest has set it.",
};
static const QmpType rx_filter_list = {.kind = QMP_KIND_ARRAY, .element = &rx_filter_info};

static const QmpType announce_ms = {.name = "int", .kind = QMP_KIND_INT, .min = 1, .max = 100000};
static const QmpType announce_step = {.name = "int", .kind = QMP_KIND_INT, .min = 0, .max = 10000};
static const QmpType announce_rounds = {.name = "int", .kind = QMP_KIND_INT, .min = 1, .max = 1000};
static const QmpType announce_arg = {
    .name = "AnnounceParameters",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"initial", &announce_ms, .doc = "milliseconds before the second announcement"},
        {"max", &announce_ms, .doc = "the longest delay, in milliseconds"},
        {"rounds", &announce_rounds, .doc = "the number of announcements"},
        {"step", &announce_step, .doc = "by how many milliseconds each delay is longer"},
        {"interfaces", &qmp_str_list, true, .doc = "names of NICs; absent: all"},
        {"id", &qmp_str, true, .doc = "replaces announcements with the same id, or without any"}),
};
static const QmpType rx_filter_changed = {
    .name = "NIC_RX_FILTER_CHANGED-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"name", &qmp_str, true, .doc = "the NIC's id, if it has one"},
                           {"path", &qmp_str, .doc = "its path"}),
};

static const QmpCommand qmp_net_commands[] = {
    {"netdev_add", &netdev_options, NULL, 0, qmp_netdev_add,
     "Creates a network back end, as -netdev does. Descriptors may be names set by getfd."},
    {"netdev_del", &netdev_del_arg, NULL, 0, qmp_netdev_del,
     "Removes a network back end. A NIC that uses it stays, with its link down."},
    {"set_link", &set_link_arg, NULL, QMP_INSTANT, qmp_set_link,
     "Sets the link of a NIC, or of a network back end and its NIC."},
    {"query-rx-filter", &rx_filter_arg, &rx_filter_list, QMP_INSTANT, qmp_query_rx_filter,
     "The receive filters of NICs. The next change of each is announced by NIC_RX_FILTER_CHANGED."},
    {"announce-self", &announce_arg, NULL, QMP_INSTANT, qmp_announce_self,
     "Lets NICs announce their addresses to the network, several times. Returns at once."},
    {0},
};

static const QmpEvent qmp_net_events[] = {
    {"NIC_RX_FILTER_CHANGED", &rx_filter_changed,
     "The guest has changed the receive filter of a NIC, for the first time since "
     "query-rx-filter."},
    {0},
};

QMP_GROUP(net);

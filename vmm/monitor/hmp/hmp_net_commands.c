/* SPDX-License-Identifier: Apache-2.0 */
/* The human monitor: networks. */
#include "hw/net/net.h"
#include "vmm/monitor/hmp/hmp_complete.h"

static void hmp_print_backend(HmpCall *call, const NetBackend *b)
{
    hmp_printf(call, "%s: index=0,type=%s,%s%s\n", b->id, b->type->name,
               b->info != NULL ? b->info : "", b->admin_down ? ",link=down" : "");
}

static void hmp_print_client(NetClient *c, void *opaque)
{
    HmpCall *call = opaque;
    hmp_printf(call, "%s: index=0,type=nic,model=%s,macaddr=%02x:%02x:%02x:%02x:%02x:%02x%s\n",
               c->name, c->ops->model, c->mac[0], c->mac[1], c->mac[2], c->mac[3], c->mac[4],
               c->mac[5], net_client_link_up(c) ? "" : ",link=down");
    if (c->backend != NULL) {
        hmp_printf(call, " \\ ");
        hmp_print_backend(call, c->backend);
    }
}

static void hmp_print_unused(NetBackend *b, void *opaque)
{
    if (b->client == NULL) {
        hmp_print_backend(opaque, b);
    }
}

static void hmp_info_network(HmpCall *call, struct json_object *args)
{
    enter_main();
    net_foreach_client(hmp_print_client, call);
    net_foreach_backend(hmp_print_unused, call);
}

static void hmp_announce_self(HmpCall *call, struct json_object *args)
{
    enter_main();
    enter_coroutine();
    struct json_object *p = json_object_new_object();
    qmp_put_int(p, "initial", 50); /* as in QEMU */
    qmp_put_int(p, "max", 550);
    qmp_put_int(p, "rounds", 5);
    qmp_put_int(p, "step", 100);
    if (qmp_arg_has(args, "id")) {
        qmp_put_str(p, "id", qmp_arg_str(args, "id"));
    }
    if (qmp_arg_has(args, "interfaces")) {
        g_auto(GStrv) names = g_strsplit(qmp_arg_str(args, "interfaces"), ",", 0);
        struct json_object *list = json_object_new_array();
        for (unsigned i = 0; names[i] != NULL; i++) {
            json_object_array_add(list, json_object_new_string(names[i]));
        }
        qmp_put(p, "interfaces", list);
    }
    json_object_put(hmp_co_qmp(call, "announce-self", p));
}

static void hmp_name_backend(NetBackend *b, void *opaque)
{
    g_ptr_array_add(opaque, g_strdup(b->id));
}

static void hmp_name_client(NetClient *c, void *opaque)
{
    g_ptr_array_add(opaque, g_strdup(c->name));
}

static void hmp_names_netdevs(Vm *vm, GPtrArray *names)
{
    enter_main();
    net_foreach_backend(hmp_name_backend, names);
}

static void hmp_names_links(Vm *vm, GPtrArray *names)
{
    enter_main();
    net_foreach_client(hmp_name_client, names);
    net_foreach_backend(hmp_name_backend, names);
}

/* clang-format off */
const HmpCommand hmp_net_commands[] = {
    {"netdev_add", NULL, HMP_PARAMS(HMP_PARAM("type", OPTS)),
     "make a network back end, as -netdev", .qmp = "netdev_add"},
    {"netdev_del", NULL, HMP_PARAMS(HMP_PARAM("id", WORD, .complete = hmp_names_netdevs)),
     "destroy a network back end", .qmp = "netdev_del"},
    {"set_link", NULL, HMP_PARAMS(HMP_PARAM("name", WORD, .complete = hmp_names_links), HMP_PARAM("up", SWITCH)),
     "set the link of a NIC or network back end up or down", .qmp = "set_link"},
    {"announce_self", NULL, HMP_PARAMS(HMP_PARAM("interfaces", WORD, true), HMP_PARAM("id", WORD, true)),
     "let NICs announce their addresses to the network", .run = hmp_announce_self},
    {"info network", NULL, NULL, "network cards and their back ends", .run = hmp_info_network},
    {0},
};
/* clang-format on */

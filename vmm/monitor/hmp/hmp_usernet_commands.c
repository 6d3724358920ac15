/* SPDX-License-Identifier: Apache-2.0 */
/* The human monitor: user-mode networks. */
#include <string.h>
#include "hw/net/net_user.h"
#include "vmm/monitor/hmp/hmp_int.h"

static void hmp_usernet_add(NetBackend *b, void *opaque)
{
    if (b->type == &net_user_type && !b->leaving) {
        g_ptr_array_add(opaque, g_strdup(b->id));
    }
}

static RUNS_IN_MAIN GPtrArray *hmp_usernet_ids(void)
{
    GPtrArray *ids = g_ptr_array_new_with_free_func(g_free);
    net_foreach_backend(hmp_usernet_add, ids);
    return ids;
}

/* The network with this id; NULL: there is none, which has been printed. Without an id: the first one. */
static RUNS_IN_MAIN NetBackend *hmp_usernet_find(HmpCall *call, const char *id)
{
    g_autoptr(GPtrArray) ids = hmp_usernet_ids();
    for (unsigned i = 0; i < ids->len; i++) {
        if (id == NULL || strcmp(id, ids->pdata[i]) == 0) {
            return net_find(ids->pdata[i]);
        }
    }
    g_autofree char *shown = id != NULL ? opt_excerpt(id) : NULL;
    hmp_printf(
        call, id != NULL ? "unrecognized netdev id '%s'\n" : "user mode network stack not in use\n",
        shown);
    return NULL;
}

/* One word is the rule, two are an id and the rule. */
static RUNS_IN_MAIN NetBackend *hmp_usernet_args(HmpCall *call, struct json_object *args,
                                                 const char **rule)
{
    const char *first = qmp_arg_str(args, "arg1"), *second = qmp_arg_str(args, "arg2");
    *rule = second != NULL ? second : first;
    return hmp_usernet_find(call, second != NULL ? first : NULL);
}

static void hmp_hostfwd_add(HmpCall *call, struct json_object *args)
{
    enter_main();
    enter_coroutine();
    const char *rule;
    g_autoptr(GError) error = NULL;
    NetBackend *b = hmp_usernet_args(call, args, &rule);
    if (b != NULL && !net_user_co_add_hostfwd(b, rule, &error)) {
        hmp_error(call, error);
    }
}

static void hmp_hostfwd_remove(HmpCall *call, struct json_object *args)
{
    enter_main();
    enter_coroutine();
    const char *rule;
    g_autoptr(GError) error = NULL;
    NetBackend *b = hmp_usernet_args(call, args, &rule);
    if (b == NULL) {
        return;
    }
    if (!net_user_co_remove_hostfwd(b, rule, &error)) {
        hmp_error(call, error);
        return;
    }
    g_autofree char *shown = opt_excerpt(rule);
    hmp_printf(call, "host forwarding rule for %s removed\n", shown);
}

static void hmp_info_usernet(HmpCall *call, struct json_object *args)
{
    enter_main();
    enter_coroutine();
    g_autoptr(GPtrArray) ids = hmp_usernet_ids();
    for (unsigned i = 0; i < ids->len; i++) {
        NetBackend *b = net_find(ids->pdata[i]); /* another monitor may remove one meanwhile */
        if (b != NULL && b->type == &net_user_type && !b->leaving) {
            g_autofree char *text = net_user_co_info(b);
            hmp_printf(call, "Hub -1 (%s):\n%s", (const char *)ids->pdata[i], text);
        }
    }
}

/* clang-format off */
const HmpCommand hmp_usernet_commands[] = {
    {"hostfwd_add", NULL, HMP_PARAMS(HMP_PARAM("arg1", WORD), HMP_PARAM("arg2", WORD, .optional = true)),
     "forward a port: [netdev_id] [tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport",
     .run = hmp_hostfwd_add},
    {"hostfwd_remove", NULL, HMP_PARAMS(HMP_PARAM("arg1", WORD), HMP_PARAM("arg2", WORD, .optional = true)),
     "end a forwarding: [netdev_id] [tcp|udp]:[hostaddr]:hostport", .run = hmp_hostfwd_remove},
    {"info usernet", NULL, NULL, "the connections of user-mode networks", .run = hmp_info_usernet},
    {0},
};
/* clang-format on */

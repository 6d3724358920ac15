/* SPDX-License-Identifier: Apache-2.0 */
/* The set of back ends: adding, removing, links. */
#include <string.h>
#include "hw/net/net_int.h"
#include "util/loop/sched_point.h"

static const NetType *const *net_types;
static AioContext *net_ctx;
static NetBackend *net_backends; /* in the order they were added */

/* An id that is taken while its back end is being opened. */
typedef struct NetOpening {
    const char *id;
    struct NetOpening *next;
} NetOpening;
static NetOpening *net_openings;

void net_setup(const NetType *const *types, AioContext *main_ctx)
{
    net_types = types;
    net_ctx = main_ctx;
}

AioContext *net_main_context(void)
{
    return net_ctx;
}

/* ---- finding ---- */

NetBackend *net_find(const char *id)
{
    for (NetBackend *b = net_backends; b != NULL; b = b->next) {
        if (strcmp(b->id, id) == 0) {
            return b;
        }
    }
    return NULL;
}

static RUNS_IN_MAIN bool net_id_is_taken(const char *id)
{
    for (const NetOpening *o = net_openings; o != NULL; o = o->next) {
        if (strcmp(o->id, id) == 0) {
            return true;
        }
    }
    for (const NetClient *c = net_clients; c != NULL; c = c->next) {
        if (strcmp(c->name, id) == 0) {
            return true;
        }
    }
    return net_find(id) != NULL;
}

void net_foreach_backend(void (*fn)(NetBackend *b, void *opaque), void *opaque)
{
    for (NetBackend *b = net_backends; b != NULL; b = b->next) {
        fn(b, opaque);
    }
}

void net_foreach_client(void (*fn)(NetClient *c, void *opaque), void *opaque)
{
    for (NetClient *c = net_clients; c != NULL; c = c->next) {
        fn(c, opaque);
    }
}

/* ---- adding ---- */

/* Why skiff lacks a back end of QEMU, and what to use. */
static const char *net_lacking_reason(const char *name)
{
    static const char *const lacking[][2] = {
        {"af-xdp", "it would need a network card's queues for itself; use tap with vhost=on"},
        {"bridge", "use tap with br=BRIDGE, which calls qemu-bridge-helper"},
        {"hubport", "a NIC and a back end are connected directly; use a bridge of the host"},
        {"l2tpv3", "use tap and an L2TPv3 tunnel of the host's kernel"},
        {"netmap", "use tap with vhost=on"},
        {"none", "write -nic none"},
        {"vde", "use stream, or tap"},
        {"vhost-vdpa", "use vhost-user or tap with vhost=on"},
        {"vmnet-bridged", "it exists on macOS only; use tap"},
        {"vmnet-host", "it exists on macOS only; use tap"},
        {"vmnet-shared", "it exists on macOS only; use user"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(lacking); i++) {
        if (strcmp(lacking[i][0], name) == 0) {
            return lacking[i][1];
        }
    }
    return NULL;
}

static const NetType *net_find_type(const NetType *const *types, const char *name, GError **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    for (unsigned i = 0; types[i] != NULL; i++) {
        if (strcmp(types[i]->name, name) == 0) {
            return types[i];
        }
        g_ptr_array_add(names, (char *)(uintptr_t)types[i]->name);
    }
    g_ptr_array_add(names, NULL);
    g_autofree char *shown = opt_excerpt(name);
    const char *reason = net_lacking_reason(name);
    const char *near = opt_nearest(name, (const char *const *)names->pdata);
    g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN, "skiff has no network '%s'%s%s", shown,
                reason != NULL ? ": "
                : near != NULL ? "; nearest is "
                               : "; '-netdev help' lists all",
                reason != NULL ? reason
                : near != NULL ? near
                               : "");
    return NULL;
}

const NetType *net_type_of(const OptDict *opts)
{
    const char *name = opt_dict_get(opts, "type");
    return name != NULL ? net_find_type(net_types, name, NULL) : NULL;
}

static const OptSpec *net_options(const NetType *type)
{
    static const OptSpec none[] = {{0}};
    return type->options != NULL ? type->options : none;
}

static coroutine_fn RUNS_IN_MAIN void net_co_free(NetBackend *b)
{
    if (b->type->co_close != NULL) {
        b->type->co_close(b);
    }
    opts_clear(net_options(b->type), b);
    g_free(b->id);
    g_free(b->info);
    g_free(b);
}

/* After a failure @b owns no options. */
static RUNS_IN_MAIN bool net_bind(NetBackend *b, const OptDict *opts, GError **error)
{
    opts_init(net_options(b->type), b);
    return opts_bind(net_options(b->type), b, opts, NULL, error);
}

static RUNS_IN_MAIN void net_enter(NetBackend *b)
{
    NetBackend **end = &net_backends;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = b;
}

static coroutine_fn RUNS_IN_MAIN bool net_co_open(const NetType *type, const char *id,
                                                  const OptDict *opts, GError **error)
{
    NetBackend *b = g_malloc0(type->instance_size);
    b->type = type;
    b->main_ctx = net_ctx;
    b->queues = 1;
    b->id = g_strdup(id);
    NetOpening opening = {.id = id, .next = net_openings};
    net_openings = &opening;
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
    bool bound = net_fds_claim(fds, type, opts, error) && net_bind(b, opts, error);
    bool ok = bound && (type->co_open == NULL || type->co_open(b, error));
    SP("net.opened", b);
    net_fds_end(fds, ok);
    NetOpening **o = &net_openings;
    while (*o != &opening) {
        o = &(*o)->next;
    }
    *o = opening.next;
    if (ok) {
        g_assert(b->queues >= 1 && b->queues <= NET_MAX_QUEUES);
        net_enter(b);
        return true;
    }
    if (bound) {
        net_co_free(b);
    } else { /* nothing was opened */
        g_free(b->id);
        g_free(b);
    }
    return false;
}

bool net_co_add(const OptDict *opts, GError **error)
{
    g_autoptr(OptDict) own = opt_dict_copy(opts);
    g_autofree char *name = opt_dict_take(own, "type");
    g_autofree char *id = opt_dict_take(own, "id");
    if (name == NULL || id == NULL || *id == '\0') {
        g_set_error(error, OPT_ERROR, OPT_ERROR_MISSING,
                    "%s is missing: a network needs TYPE,id=ID", name != NULL ? "id=" : "the type");
        return false;
    }
    const NetType *type = net_find_type(net_types, name, error);
    if (type == NULL) {
        return false;
    }
    if (net_id_is_taken(id)) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_DUPLICATE, "Duplicate ID '%s' for netdev", id);
        return false;
    }
    if (!net_co_open(type, id, own, error)) {
        g_prefix_error(error, "%s: ", name);
        return false;
    }
    return true;
}

/* ---- removing ---- */

static coroutine_fn RUNS_IN_MAIN void net_co_take_out(NetBackend *b)
{
    b->leaving = true;
    if (b->client != NULL) {
        b->client->admin_down = true;
        net_client_co_detach(b->client);
    }
    NetBackend **at = &net_backends;
    while (*at != b) {
        at = &(*at)->next;
    }
    *at = b->next;
    net_co_free(b);
}

bool net_co_remove(const char *id, GError **error)
{
    NetBackend *b = net_find(id);
    if (b == NULL || b->leaving) {
        g_autofree char *shown = opt_excerpt(id);
        g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN, "Device '%s' not found", shown);
        return false;
    }
    net_co_take_out(b);
    return true;
}

void net_leave(void)
{
    for (NetBackend *b = net_backends; b != NULL; b = b->next) {
        if (b->type->unlink != NULL) {
            b->type->unlink(b);
        }
        if (b->type->leave != NULL) {
            b->type->leave(b);
        }
    }
}

void net_co_shutdown(void)
{
    while (net_backends != NULL) {
        net_co_take_out(net_backends);
    }
}

/* ---- links ---- */

bool net_set_link(const char *name, bool up, GError **error)
{
    NetBackend *b = net_find(name);
    NetClient *c = b != NULL ? b->client : net_clients;
    while (b == NULL && c != NULL && strcmp(c->name, name) != 0) {
        c = c->next;
    }
    if (b == NULL && c == NULL) {
        g_autofree char *shown = opt_excerpt(name);
        g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN, "Device '%s' not found", shown);
        return false;
    }
    if (b != NULL) { /* as in QEMU, the NIC's link follows its back end's */
        b->admin_down = !up;
    }
    if (c != NULL) {
        c->admin_down = !up;
        net_client_update_link(c);
    }
    return true;
}

void net_backend_set_carrier(NetBackend *b, bool up)
{
    b->no_carrier = !up;
    if (b->client != NULL) {
        net_client_update_link(b->client);
    }
}

/* ---- help ---- */

void net_print_help(const NetType *const *types, const char *name, FILE *out)
{
    const NetType *type = name != NULL ? net_find_type(types, name, NULL) : NULL;
    if (type != NULL) {
        fprintf(out, "-netdev %s,id=ID options:\n", type->name);
        opts_print_help(net_options(type), out);
        return;
    }
    fputs("Available netdev backend types:\n", out);
    for (unsigned i = 0; types[i] != NULL; i++) {
        fprintf(out, "  %-10s %s\n", types[i]->name, types[i]->description);
    }
}

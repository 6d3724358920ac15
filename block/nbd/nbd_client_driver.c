/* SPDX-License-Identifier: Apache-2.0 */
/* Driver nbd: an export of an NBD server. See block/nbd/nbd_client_int.h. */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "block/drivers.h"
#include "block/nbd/nbd.h"
#include "block/nbd/nbd_client_int.h"
#include "block/nbd/nbd_client_name.h"

typedef struct NbdState {
    NbdClientOptions options;
    NbdClient *client;
} NbdState;

static const char *const nbd_types[] = {"inet", "unix", "fd", NULL};
static const char *const nbd_ternary[] = {"auto", "off", "on", NULL};

static const OptSpec nbd_options[] = {
    OPT_SPEC(NbdState, "server.type", OPT_ENUM, options.type, .help = "kind of the address",
             .names = nbd_types, .def = "inet"),
    OPT_SPEC(NbdState, "server.path", OPT_STRING, options.path, .help = "UNIX socket"),
    OPT_SPEC(NbdState, "server.abstract", OPT_BOOL, options.abstract,
             .help = "the path is an abstract name", .def = "off"),
    OPT_SPEC(NbdState, "server.tight", OPT_BOOL, options.tight,
             .help = "an abstract name ends with its last byte; only on is supported", .def = "on"),
    OPT_SPEC(NbdState, "server.host", OPT_STRING, options.host, .help = "name or address"),
    OPT_SPEC(NbdState, "server.port", OPT_STRING, options.port, .help = "TCP port"),
    OPT_SPEC(NbdState, "server.numeric", OPT_BOOL, options.numeric, .help = "accepted, unused",
             .def = "off"),
    OPT_SPEC(NbdState, "server.keep-alive", OPT_BOOL, options.keep_alive,
             .help = "TCP keep-alive packets", .def = "off"),
    OPT_SPEC(NbdState, "server.ipv4", OPT_ENUM, options.ipv4, .help = "use IPv4", .def = "auto",
             .names = nbd_ternary),
    OPT_SPEC(NbdState, "server.ipv6", OPT_ENUM, options.ipv6, .help = "use IPv6", .def = "auto",
             .names = nbd_ternary),
    OPT_SPEC(NbdState, "server.str", OPT_STRING, options.fd,
             .help = "number of a connected socket's descriptor"),
    OPT_SPEC(NbdState, "path", OPT_STRING, options.old_path, .help = "server.path, type unix"),
    OPT_SPEC(NbdState, "host", OPT_STRING, options.old_host, .help = "server.host"),
    OPT_SPEC(NbdState, "port", OPT_STRING, options.old_port, .help = "server.port (10809)"),
    OPT_SPEC(NbdState, "export", OPT_STRING, options.export, .help = "name of the export"),
    OPT_SPEC(NbdState, "tls-creds", OPT_STRING, options.tls_creds,
             .help = "id of the object with TLS credentials"),
    OPT_SPEC(NbdState, "tls-hostname", OPT_STRING, options.tls_hostname,
             .help = "name in the server's certificate"),
    OPT_SPEC(NbdState, "x-dirty-bitmap", OPT_STRING, options.context,
             .help = "metadata context that block status shows in place of base:allocation"),
    OPT_SPEC(NbdState, "reconnect-delay", OPT_U32, options.reconnect_delay_s,
             .help = "seconds that requests wait after the connection is lost", .def = "0"),
    OPT_SPEC(NbdState, "open-timeout", OPT_U32, options.open_timeout_s,
             .help = "seconds to try to connect when the node is opened; 0: once", .def = "0"),
    OPT_SPEC(NbdState, "multi-conn", OPT_U32, options.links,
             .help = "connections, if the server allows several", .def = "1",
             .max = NBD_CLIENT_LINKS_MAX),
    {0},
};

NbdClient *nbd_client_of(const BlockNode *n)
{
    return ((const NbdState *)n->state)->client;
}

/* ---- opening ---- */

/* Connects once, or until open-timeout is over. */
static coroutine_fn RUNS_IN_MAIN struct nbd_handle *nbd_co_connect_first(NbdConnector *c,
                                                                         const NbdClientOptions *o,
                                                                         NbdClientExport *export,
                                                                         GError **error)
{
    int64_t deadline_ns = o->open_timeout_s == 0
                              ? INT64_MAX
                              : aio_now_ns(c->ctx) + o->open_timeout_s * NBD_CLIENT_SECOND;
    for (;;) {
        nbd_connector_set_deadline(c, deadline_ns);
        g_autoptr(GError) failure = NULL;
        struct nbd_handle *h = nbd_connector_co_connect(c, export, &failure);
        if (h != NULL) {
            return h;
        }
        int64_t next_ns = aio_now_ns(c->ctx) + NBD_CLIENT_SECOND;
        if (o->open_timeout_s == 0 || o->type == NBD_SERVER_FD || next_ns >= deadline_ns) {
            g_propagate_error(error, g_steal_pointer(&failure));
            return NULL;
        }
        nbd_connector_set_deadline(c, next_ns);
        nbd_connector_co_sleep(c);
    }
}

static coroutine_fn RUNS_IN_MAIN struct nbd_handle *
nbd_co_connect(BlockNode *n, NbdTarget *target, NbdClientExport *export, GError **error)
{
    const NbdState *s = n->state;
    NbdConnector c;
    nbd_connector_init(&c, target, aio_context_current());
    struct nbd_handle *h = nbd_co_connect_first(&c, &s->options, export, error);
    nbd_connector_clear(&c);
    return h;
}

static RUNS_IN_MAIN bool nbd_check_export(BlockNode *n, const NbdClientExport *export,
                                          GError **error)
{
    if (export->read_only && !n->flags.read_only) {
        if (!n->flags.auto_read_only) {
            g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN,
                        "node '%s': the NBD server's export is read-only; use read-only=on",
                        n->name);
            return false;
        }
        n->flags.read_only = true;
    }
    return nbd_client_export_set_up(export, n, error);
}

static RUNS_IN_MAIN NbdClient *nbd_client_new(BlockNode *n, NbdTarget *target,
                                              const NbdClientExport *export)
{
    const NbdState *s = n->state;
    const NbdClientOptions *o = &s->options;
    NbdClient *c = g_new0(NbdClient, 1);
    c->node = n;
    c->main = aio_context_current();
    c->home = n->home;
    c->target = target;
    c->export = *export;
    c->reconnect_delay_s = o->reconnect_delay_s;
    c->link_count = export->multi_conn ? MAX(o->links, 1) : 1;
    c->reconnects = o->type != NBD_SERVER_FD;
    co_queue_init(&c->settled);
    nbd_links_init(c);
    return c;
}

static int nbd_load_in_worker(void *opaque)
{
    enter_worker();
    return nbd_client_load_library(opaque) ? 0 : -ENOENT;
}

static coroutine_fn RUNS_IN_MAIN bool nbd_client_co_open(BlockNode *n, GError **error)
{
    if (co_run_in_worker(nbd_load_in_worker, error) < 0) {
        return false;
    }
    NbdState *s = n->state;
    NbdClientExport export;
    NbdTarget *target = nbd_client_take_old_names(&s->options, error)
                            ? nbd_target_new(&s->options, n->name, error)
                            : NULL;
    if (target == NULL) {
        return false;
    }
    struct nbd_handle *h = nbd_co_connect(n, target, &export, error);
    if (h == NULL || !nbd_check_export(n, &export, error)) {
        nbd_close(h);
        nbd_target_unref(target);
        return false;
    }
    if (s->options.type == NBD_SERVER_FD) {
        uint64_t fd; /* libnbd has a duplicate */
        close(opt_parse_u64(s->options.fd, 0, INT32_MAX, &fd, NULL) ? (int)fd : -1);
    }
    s->client = nbd_client_new(n, target, &export);
    nbd_client_co_deliver(&s->client->links[0], h);
    for (unsigned i = 1; i < s->client->link_count; i++) {
        nbd_client_reconnect(&s->client->links[i]);
    }
    return true;
}

/* ---- closing, moving, reopening ---- */

static void nbd_close_at_home(void *opaque)
{
    NbdClient *c = opaque;
    enter_coroutine();
    enter_iothread(c->home);
    nbd_links_close(c);
}

static coroutine_fn RUNS_IN_MAIN void nbd_client_co_close(BlockNode *n)
{
    NbdClient *c = nbd_client_of(n);
    nbd_client_co_stop_reconnecting(c);
    co_call_in(c->home, nbd_close_at_home, c);
    for (unsigned i = 0; i < c->link_count; i++) {
        aio_bh_cancel(&c->links[i].lost);
    }
    nbd_target_unref(c->target);
    g_free(c);
}

static void nbd_leave_home(void *opaque)
{
    NbdClient *c = opaque;
    enter_coroutine();
    enter_iothread(c->home);
    nbd_links_leave(c);
}

static void nbd_enter_home(void *opaque)
{
    NbdClient *c = opaque;
    enter_coroutine();
    enter_iothread(c->home);
    nbd_links_enter(c);
}

static coroutine_fn RUNS_IN_MAIN bool nbd_client_co_move_prepare(BlockNode *n, AioContext *home,
                                                                 void **state, GError **error)
{
    return true; /* any home can have the connections */
}

static coroutine_fn RUNS_IN_MAIN void nbd_client_co_move_finish(BlockNode *n, void *state,
                                                                bool committed)
{
    NbdClient *c = nbd_client_of(n);
    if (!committed) {
        return;
    }
    nbd_client_co_hold_arrivals(c);
    co_call_in(c->home, nbd_leave_home, c);
    c->home = n->home;
    co_call_in(c->home, nbd_enter_home, c);
    nbd_client_resume_arrivals(c);
}

static bool nbd_same_text(const char *a, const char *b)
{
    return g_strcmp0(a, b) == 0;
}

/* Whether both describe the same connection and use of it. */
static bool nbd_same_options(const NbdClientOptions *a, const NbdClientOptions *b)
{
    return a->type == b->type && nbd_same_text(a->path, b->path) && a->abstract == b->abstract &&
           nbd_same_text(a->host, b->host) && nbd_same_text(a->port, b->port) &&
           nbd_same_text(a->fd, b->fd) && a->ipv4 == b->ipv4 && a->ipv6 == b->ipv6 &&
           a->keep_alive == b->keep_alive && nbd_same_text(a->export, b->export) &&
           nbd_same_text(a->context, b->context) && nbd_same_text(a->tls_creds, b->tls_creds) &&
           nbd_same_text(a->tls_hostname, b->tls_hostname) &&
           a->reconnect_delay_s == b->reconnect_delay_s && a->open_timeout_s == b->open_timeout_s &&
           a->links == b->links;
}

static coroutine_fn RUNS_IN_MAIN bool nbd_client_co_reopen_prepare(BlockNode *n, BlockReopen *r,
                                                                   GError **error)
{
    const NbdState *now = n->state;
    NbdState *asked = r->state;
    if (!nbd_client_take_old_names(&asked->options, error)) {
        return false;
    }
    if (!nbd_same_options(&now->options, &asked->options)) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "Cannot change the options of driver=nbd of node '%s'", n->name);
        return false;
    }
    if (now->client->export.read_only && !r->flags.read_only) {
        if (!r->flags.auto_read_only) {
            g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN,
                        "Can't reopen read-only NBD mount as read/write: the server's export of "
                        "node '%s' is read-only",
                        n->name);
            return false;
        }
        r->flags.read_only = true;
    }
    return true;
}

static const char *nbd_client_filename(const BlockNode *n)
{
    return nbd_client_of(n)->target->name;
}

const BlockDriver block_driver_nbd = {
    .name = "nbd",
    .help = "an export of an NBD server",
    .is_remote = true,
    .state_size = sizeof(NbdState),
    .options = nbd_options,
    .co_open = nbd_client_co_open,
    .co_close = nbd_client_co_close,
    .co_preadv = nbd_client_co_preadv,
    .co_pwritev = nbd_client_co_pwritev,
    .co_flush = nbd_client_co_flush,
    .co_discard = nbd_client_co_discard,
    .co_write_zeroes = nbd_client_co_write_zeroes,
    .co_block_status = nbd_client_co_block_status,
    .filename = nbd_client_filename,
    .co_reopen_prepare = nbd_client_co_reopen_prepare,
    .co_move_prepare = nbd_client_co_move_prepare,
    .co_move_finish = nbd_client_co_move_finish,
};

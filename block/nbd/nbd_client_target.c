/* SPDX-License-Identifier: Apache-2.0 */
/* The NBD client: what a connection is made to. */
#include <string.h>
#include "block/nbd/nbd_client_int.h"
#include "block/nbd/nbd_client_name.h"

#define TARGET_EXPORT_MAX 4096u /* of the protocol: of a string */

static bool target_refuse(GError **error, const char *text)
{
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, "driver=nbd: %s", text);
    return false;
}

bool nbd_client_take_old_names(NbdClientOptions *o, GError **error)
{
    if (o->old_path == NULL && o->old_host == NULL && o->old_port == NULL) {
        return true;
    }
    if (o->path != NULL || o->host != NULL || o->port != NULL || o->fd != NULL ||
        (o->old_path != NULL && (o->old_host != NULL || o->old_port != NULL))) {
        return target_refuse(error,
                             "path and host may not be used at the same time, nor with server");
    }
    o->type = o->old_path != NULL ? NBD_SERVER_UNIX : NBD_SERVER_INET;
    o->path = g_steal_pointer(&o->old_path);
    o->host = g_steal_pointer(&o->old_host);
    o->port = g_steal_pointer(&o->old_port);
    if (o->host != NULL && o->port == NULL) {
        o->port = g_strdup_printf("%d", NBD_DEFAULT_PORT);
    }
    return true;
}

static bool target_check_server(const NbdClientOptions *o, GError **error)
{
    bool inet = o->type == NBD_SERVER_INET, has_inet = o->host != NULL || o->port != NULL;
    if (inet && (o->host == NULL || o->port == NULL)) {
        return target_refuse(error, "server.type=inet needs server.host and server.port");
    }
    if (o->type == NBD_SERVER_UNIX && o->path == NULL) {
        return target_refuse(error, "server.type=unix needs server.path");
    }
    if (o->type == NBD_SERVER_FD && o->fd == NULL) {
        return target_refuse(error, "server.type=fd needs server.str, a number");
    }
    if ((!inet && has_inet) || (o->type != NBD_SERVER_UNIX && o->path != NULL) ||
        (o->type != NBD_SERVER_FD && o->fd != NULL)) {
        return target_refuse(error, "the server has options of another server.type");
    }
    if (o->type == NBD_SERVER_FD && o->links > 1) {
        return target_refuse(error, "multi-conn needs a server that can be connected to again");
    }
    return true;
}

static bool target_check(const NbdClientOptions *o, GError **error)
{
    if (o->tls_creds == NULL && o->tls_hostname != NULL) {
        return target_refuse(error, "tls-hostname needs tls-creds");
    }
    if (o->export != NULL && strlen(o->export) > TARGET_EXPORT_MAX) {
        return target_refuse(error, "the name of the export has more than 4096 bytes");
    }
    if (o->context != NULL && (o->context[0] == '\0' || strlen(o->context) > TARGET_EXPORT_MAX ||
                               strchr(o->context, ':') == NULL)) {
        return target_refuse(error, "x-dirty-bitmap is the name of a context, such as "
                                    "qemu:dirty-bitmap:NAME or qemu:allocation-depth");
    }
    return target_check_server(o, error);
}

/* As QEMU shows it. */
static char *target_describe(const NbdClientOptions *o)
{
    const char *export = o->export != NULL ? o->export : "";
    if (o->type == NBD_SERVER_UNIX) {
        return g_strdup_printf("nbd+unix://%s%s?socket=%s", export[0] != '\0' ? "/" : "", export,
                               o->path);
    }
    if (o->type == NBD_SERVER_FD) {
        return g_strdup_printf("nbd+fd://%s/%s", o->fd, export);
    }
    bool bracket = strchr(o->host, ':') != NULL;
    return g_strdup_printf("nbd://%s%s%s:%s%s%s", bracket ? "[" : "", o->host, bracket ? "]" : "",
                           o->port, export[0] != '\0' ? "/" : "", export);
}

NbdTarget *nbd_target_new(const NbdClientOptions *o, const char *node_name, GError **error)
{
    if (!target_check(o, error)) {
        return NULL;
    }
    TlsCreds *tls = o->tls_creds != NULL ? nbd_client_tls_find(o, error) : NULL;
    if (o->tls_creds != NULL && tls == NULL) {
        return NULL;
    }
    NbdTarget *t = g_new0(NbdTarget, 1);
    bool both = o->ipv4 == o->ipv6; /* also if only one is off */
    *t = (NbdTarget){
        .refs = 1,
        .server = {.path = g_strdup(o->path),
                   .abstract = o->abstract,
                   .host = g_strdup(o->host),
                   .port = g_strdup(o->port),
                   .fd = g_strdup(o->fd),
                   .ipv4 = !both && (o->ipv4 == NBD_ON || o->ipv6 == NBD_OFF),
                   .ipv6 = !both && (o->ipv6 == NBD_ON || o->ipv4 == NBD_OFF)},
        .keep_alive = o->keep_alive,
        .tls = tls,
        .tls_dir = tls != NULL ? g_canonicalize_filename(tls_creds_config(tls)->dir, NULL) : NULL,
        .tls_hostname = g_strdup(o->tls_hostname),
        .export = g_strdup(o->export != NULL ? o->export : ""),
        .context = g_strdup(o->context),
        .node_name = g_strdup(node_name),
        .name = target_describe(o),
    };
    return t;
}

NbdTarget *nbd_target_ref(NbdTarget *t)
{
    t->refs++;
    return t;
}

void nbd_target_unref(NbdTarget *t)
{
    if (--t->refs > 0) {
        return;
    }
    g_free(t->server.path);
    g_free(t->server.host);
    g_free(t->server.port);
    g_free(t->server.fd);
    tls_creds_unref(t->tls);
    g_free(t->tls_dir);
    g_free(t->tls_hostname);
    g_free(t->export);
    g_free(t->context);
    g_free(t->node_name);
    g_free(t->name);
    g_free(t);
}

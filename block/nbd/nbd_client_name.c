/* SPDX-License-Identifier: Apache-2.0 */
#include "block/nbd/nbd_client_name.h"

#include <string.h>
#include "block/block.h"

#define NAME_EXPORT ":exportname="

static const char *const name_prefixes[] = {
    "nbd:", "nbd+tcp:", "nbd+unix:", "nbds:", "nbds+unix:", NULL};

bool nbd_client_is_name(const char *name)
{
    for (const char *const *prefix = name_prefixes; *prefix != NULL; prefix++) {
        if (g_str_has_prefix(name, *prefix)) {
            return true;
        }
    }
    return false;
}

static bool name_refuse(const char *name, const char *why, GError **error)
{
    g_autofree char *excerpt = opt_excerpt(name);
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, "'%s': %s", excerpt, why);
    return false;
}

static void name_set_inet(OptDict *d, const char *host, const char *port)
{
    opt_dict_set(d, "server.type", "inet");
    opt_dict_set(d, "server.host", host);
    opt_dict_set(d, "server.port", port);
}

static void name_set_unix(OptDict *d, const char *path)
{
    opt_dict_set(d, "server.type", "unix");
    opt_dict_set(d, "server.path", path);
}

/* ---- URIs ---- */

static bool name_take_unix_uri(OptDict *d, const char *name, GUri *uri, GError **error)
{
    const char *host = g_uri_get_host(uri), *query = g_uri_get_query(uri);
    if ((host != NULL && host[0] != '\0') || g_uri_get_port(uri) != -1 || query == NULL) {
        return name_refuse(name, "expects nbd+unix:///EXPORT?socket=PATH", error);
    }
    g_autoptr(GHashTable) parameters =
        g_uri_parse_params(query, -1, "&;", G_URI_PARAMS_NONE, error);
    if (parameters == NULL) {
        return false;
    }
    const char *path = g_hash_table_lookup(parameters, "socket");
    if (path == NULL || path[0] == '\0' || g_hash_table_size(parameters) != 1) {
        return name_refuse(name, "expects nbd+unix:///EXPORT?socket=PATH", error);
    }
    name_set_unix(d, path);
    return true;
}

static bool name_take_inet_uri(OptDict *d, const char *name, GUri *uri, GError **error)
{
    const char *host = g_uri_get_host(uri);
    int port = g_uri_get_port(uri);
    if (host == NULL || host[0] == '\0' || g_uri_get_query(uri) != NULL) {
        return name_refuse(name, "expects nbd://HOST:PORT/EXPORT", error);
    }
    g_autofree char *digits = g_strdup_printf("%d", port > 0 ? port : NBD_DEFAULT_PORT);
    name_set_inet(d, host, digits);
    return true;
}

static bool name_take_uri(OptDict *d, const char *name, GError **error)
{
    g_autoptr(GUri) uri = g_uri_parse(name, G_URI_FLAGS_NONE, error);
    if (uri == NULL) {
        return false;
    }
    const char *scheme = g_uri_get_scheme(uri), *path = g_uri_get_path(uri);
    if (g_str_has_prefix(scheme, "nbds")) {
        return name_refuse(name, "a connection with TLS needs driver=nbd with tls-creds", error);
    }
    path += strspn(path, "/");
    if (path[0] != '\0') {
        opt_dict_set(d, "export", path);
    }
    return strcmp(scheme, "nbd+unix") == 0 ? name_take_unix_uri(d, name, uri, error)
                                           : name_take_inet_uri(d, name, uri, error);
}

/* ---- nbd:HOST:PORT, nbd:unix:PATH ---- */

static bool name_take_host(OptDict *d, const char *name, const char *host, GError **error)
{
    bool bracket = host[0] == '[';
    const char *end = bracket ? strchr(host, ']') : strrchr(host, ':');
    const char *colon = bracket && end != NULL ? end + 1 : end;
    if (colon == NULL || colon[0] != ':' || colon[1] == '\0') {
        return name_refuse(name, "expects nbd:HOST:PORT or nbd:unix:PATH", error);
    }
    host += bracket;
    g_autofree char *copy = g_strndup(host, (gsize)(end - host));
    name_set_inet(d, copy, colon + 1);
    return true;
}

static bool name_take_legacy(OptDict *d, const char *name, GError **error)
{
    if (!g_str_has_prefix(name, "nbd:")) {
        return name_refuse(name, "a name without '//' begins with nbd:", error);
    }
    g_autofree char *server = g_strdup(name + strlen("nbd:"));
    char *export = strstr(server, NAME_EXPORT);
    if (export != NULL) {
        export[0] = '\0';
        opt_dict_set(d, "export", export + strlen(NAME_EXPORT));
    }
    if (g_str_has_prefix(server, "unix:")) {
        name_set_unix(d, server + strlen("unix:"));
        return true;
    }
    return name_take_host(d, name, server, error);
}

OptDict *nbd_client_describe_name(const char *name, GError **error)
{
    g_autoptr(OptDict) d = opt_dict_new();
    opt_dict_set(d, "driver", "nbd");
    bool ok = strstr(name, "://") != NULL ? name_take_uri(d, name, error)
                                          : name_take_legacy(d, name, error);
    return ok ? g_steal_pointer(&d) : NULL;
}

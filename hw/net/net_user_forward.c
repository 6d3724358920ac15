/* SPDX-License-Identifier: Apache-2.0 */
/* -netdev user: hostfwd= and guestfwd=. */
#include <errno.h>
#include <string.h>
#include "hw/net/net_user.h"

/* Takes the text up to @end off *@rest into @part (@size bytes). False: there is no @end, or it is too
 * long. */
static bool forward_take(const char **rest, char end, char *part, size_t size)
{
    const char *at = strchr(*rest, end);
    if (at == NULL || (size_t)(at - *rest) >= size) {
        return false;
    }
    memcpy(part, *rest, (size_t)(at - *rest));
    part[at - *rest] = '\0';
    *rest = at + 1;
    return true;
}

static bool forward_port(const char *text, unsigned min, uint16_t *port)
{
    uint64_t value;
    if (!opt_parse_u64(text, min, UINT16_MAX, &value, NULL)) {
        return false;
    }
    *port = (uint16_t)value;
    return true;
}

/* An empty text is the address 0. */
static bool forward_address(const char *text, struct in_addr *address)
{
    address->s_addr = 0;
    return text[0] == '\0' || inet_pton(AF_INET, text, address) == 1;
}

/* Why the rule is invalid, or NULL. */
static const char *forward_parse_host(const char **rest, char end, NetUserForward *f)
{
    char part[64];
    if (!forward_take(rest, ':', part, sizeof(part))) {
        return "no : separators";
    }
    f->udp = strcmp(part, "udp") == 0;
    if (part[0] != '\0' && !f->udp && strcmp(part, "tcp") != 0) {
        return "bad protocol name";
    }
    if (!forward_take(rest, ':', part, sizeof(part))) {
        return "missing : separator";
    }
    if (!forward_address(part, &f->host)) {
        return "bad host address";
    }
    if (end != '\0' && !forward_take(rest, end, part, sizeof(part))) {
        return "bad host port separator";
    }
    if (!forward_port(end != '\0' ? part : *rest, 0, &f->host_port)) {
        return "bad host port";
    }
    return NULL;
}

static const char *forward_parse_guest(const char *rest, NetUserForward *f)
{
    char part[64];
    if (!forward_take(&rest, ':', part, sizeof(part))) {
        return "missing guest address";
    }
    if (!forward_address(part, &f->guest)) {
        return "bad guest address";
    }
    return forward_port(rest, 1, &f->guest_port) ? NULL : "bad guest port";
}

bool net_user_parse_hostfwd(const char *rule, bool removal, NetUserForward *f, GError **error)
{
    const char *rest = rule;
    *f = (NetUserForward){0};
    const char *why = forward_parse_host(&rest, removal ? '\0' : '-', f);
    if (why == NULL && !removal) {
        why = forward_parse_guest(rest, f);
    }
    if (why != NULL) {
        g_autofree char *shown = opt_excerpt(rule);
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "Invalid host forwarding rule '%s' (%s)",
                    shown, why);
    }
    return why == NULL;
}

bool net_user_parse_guestfwd(const char *rule, NetUserGuestForward *f, GError **error)
{
    char part[64];
    const char *rest = rule;
    *f = (NetUserGuestForward){0};
    bool ok = forward_take(&rest, ':', part, sizeof(part)) &&
              (part[0] == '\0' || strcmp(part, "tcp") == 0) &&
              forward_take(&rest, ':', part, sizeof(part)) &&
              inet_pton(AF_INET, part, &f->server) == 1 &&
              forward_take(&rest, '-', part, sizeof(part)) && forward_port(part, 1, &f->port);
    f->command = ok && g_str_has_prefix(rest, "cmd:") ? rest + 4 : NULL;
    f->path = ok && g_str_has_prefix(rest, "unix:") ? rest + 5 : NULL;
    if ((f->command != NULL && f->command[0] != '\0') || (f->path != NULL && f->path[0] != '\0')) {
        return true;
    }
    g_autofree char *shown = opt_excerpt(rule);
    g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                "Invalid guest forwarding rule '%s': write [tcp]:SERVER:PORT-cmd:COMMAND or "
                "[tcp]:SERVER:PORT-unix:PATH",
                shown);
    return false;
}

/* ---- in the loop ---- */

static RUNS_IN_LOOP bool forward_add_host(NetUser *u, const char *rule, GError **error)
{
    NetUserForward f;
    if (!net_user_parse_hostfwd(rule, false, &f, error)) {
        return false;
    }
    if (slirp_add_hostfwd(u->slirp, f.udp, f.host, f.host_port, f.guest, f.guest_port) == 0) {
        return true;
    }
    int err = errno;
    g_autofree char *shown = opt_excerpt(rule);
    g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "Could not set up host forwarding rule '%s': %s",
                shown, g_strerror(err));
    return false;
}

static RUNS_IN_LOOP bool forward_add_guest(NetUser *u, const char *rule, bool commands_allowed,
                                           GError **error)
{
    NetUserGuestForward f;
    if (!net_user_parse_guestfwd(rule, &f, error)) {
        return false;
    }
    if (f.command != NULL && !commands_allowed) {
        g_set_error(
            error, OPT_ERROR, OPT_ERROR_VALUE,
            "guestfwd with cmd: starts programs, which -sandbox on does not allow; use unix:PATH");
        return false;
    }
    int ret = f.command != NULL ? slirp_add_exec(u->slirp, f.command, &f.server, f.port)
                                : slirp_add_unix(u->slirp, f.path, &f.server, f.port);
    if (ret == 0) {
        return true;
    }
    g_autofree char *shown = opt_excerpt(rule);
    g_set_error(
        error, OPT_ERROR, OPT_ERROR_VALUE,
        "Could not set up guest forwarding rule '%s': the server must be an unused address of the "
        "network",
        shown);
    return false;
}

bool net_user_add_forwards(NetUser *u, bool commands_allowed, GError **error)
{
    const GPtrArray *host = u->options.hostfwd, *guest = u->options.guestfwd;
    for (unsigned i = 0; host != NULL && i < host->len; i++) {
        if (!forward_add_host(u, host->pdata[i], error)) {
            return false;
        }
    }
    for (unsigned i = 0; guest != NULL && i < guest->len; i++) {
        if (!forward_add_guest(u, guest->pdata[i], commands_allowed, error)) {
            return false;
        }
    }
    return true;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* -netdev user: from options to libslirp's configuration. The defaults are QEMU's. */
#include <stdlib.h>
#include <string.h>
#include "hw/net/net_user.h"

#define NET_USER_HOSTNAME_MAX 33 /* libslirp's limit of BOOTP's strings */

static bool user_refuse(GError **error, const char *option, const char *value, const char *why)
{
    g_autofree char *shown = opt_excerpt(value);
    g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "%s=%s: %s", option, shown, why);
    return false;
}

/* ---- which protocols ---- */

/* A protocol that is switched on alone switches the other one off. */
static bool user_choose_protocols(const NetUserOptions *o, SlirpConfig *c, GError **error)
{
    bool v4 = true, v6 = true;
    if ((o->ipv4 != NULL && !opt_parse_bool(o->ipv4, &v4, error)) ||
        (o->ipv6 != NULL && !opt_parse_bool(o->ipv6, &v6, error))) {
        g_prefix_error(error, "ipv4= and ipv6=: ");
        return false;
    }
    c->in_enabled = v4 && !(o->ipv6 != NULL && v6 && o->ipv4 == NULL);
    c->in6_enabled = v6 && !(o->ipv4 != NULL && v4 && o->ipv6 == NULL);
    if (!c->in_enabled && !c->in6_enabled) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "IPv4 and IPv6 are both off");
        return false;
    }
    return true;
}

/* ---- IPv4 ---- */

static bool user_parse_address(const char *option, const char *value, struct in_addr *address,
                               GError **error)
{
    return inet_pton(AF_INET, value, address) == 1 ||
           user_refuse(error, option, value, "is no IPv4 address, such as 10.0.2.0");
}

/* The mask of a network without one: that of its private range, else of its class (RFC 791, 1918). */
static uint32_t user_default_mask(uint32_t network)
{
    static const struct {
        uint32_t bits, value, mask;
    } ranges[] = {
        {0x80000000, 0, 0xff000000},          {0xfff00000, 0xac100000, 0xfff00000},
        {0xc0000000, 0x80000000, 0xffff0000}, {0xffff0000, 0xc0a80000, 0xffff0000},
        {0xffff0000, 0xc6120000, 0xfffe0000}, {0xe0000000, 0xe0000000, 0xfffffff0},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(ranges); i++) {
        if ((network & ranges[i].bits) == ranges[i].value) {
            return ranges[i].mask;
        }
    }
    return 0xffffff00;
}

/* "24" or "255.255.255.0". */
static bool user_parse_mask(const char *text, uint32_t *mask)
{
    struct in_addr address;
    uint64_t length;
    if (opt_parse_u64(text, 4, 30, &length, NULL)) {
        *mask = UINT32_MAX << (32 - length);
        return true;
    }
    if (inet_pton(AF_INET, text, &address) != 1) {
        return false;
    }
    *mask = ntohl(address.s_addr);
    return *mask != 0 && (~*mask & (~*mask + 1)) == 0 && ~*mask >= 3;
}

static bool user_parse_network(const NetUserOptions *o, SlirpConfig *c, GError **error)
{
    const char *net = o->net != NULL ? o->net : "10.0.2.0/24";
    g_auto(GStrv) parts = g_strsplit(net, "/", 2);
    uint32_t mask;
    if (!user_parse_address("net", parts[0] != NULL ? parts[0] : "", &c->vnetwork, error)) {
        return false;
    }
    mask = user_default_mask(ntohl(c->vnetwork.s_addr));
    if (parts[1] != NULL && !user_parse_mask(parts[1], &mask)) {
        return user_refuse(error, "net", net, "its mask is not one of 4 to 30 bits");
    }
    c->vnetmask.s_addr = htonl(mask);
    c->vnetwork.s_addr &= c->vnetmask.s_addr;
    return true;
}

/* An address in the network, from its option or by its number there. */
static bool user_place(const SlirpConfig *c, const char *option, const char *value, uint32_t number,
                       struct in_addr *address, GError **error)
{
    address->s_addr = c->vnetwork.s_addr | (htonl(number) & ~c->vnetmask.s_addr);
    if (value == NULL) {
        return true;
    }
    if (!user_parse_address(option, value, address, error)) {
        return false;
    }
    return (address->s_addr & c->vnetmask.s_addr) == c->vnetwork.s_addr ||
           user_refuse(error, option, value, "is not in the network of net=");
}

static bool user_make_ipv4(const NetUserOptions *o, SlirpConfig *c, GError **error)
{
    if (!user_parse_network(o, c, error) ||
        !user_place(c, "host", o->host, 0x0202, &c->vhost, error) ||
        !user_place(c, "dhcpstart", o->dhcpstart, 0x020f, &c->vdhcp_start, error) ||
        !user_place(c, "dns", o->dns, 0x0203, &c->vnameserver, error)) {
        return false;
    }
    if (c->vhost.s_addr == c->vnameserver.s_addr) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "host= and dns= must be different addresses");
        return false;
    }
    if (c->vdhcp_start.s_addr == c->vhost.s_addr ||
        c->vdhcp_start.s_addr == c->vnameserver.s_addr) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "dhcpstart= must be another address than host= and dns=");
        return false;
    }
    return true;
}

/* ---- IPv6 ---- */

static bool user_parse_address6(const char *option, const char *value, struct in6_addr *address,
                                GError **error)
{
    return inet_pton(AF_INET6, value, address) == 1 ||
           user_refuse(error, option, value, "is no IPv6 address, such as fec0::");
}

static bool user_in_prefix(const SlirpConfig *c, const struct in6_addr *address)
{
    unsigned bytes = c->vprefix_len / 8, bits = c->vprefix_len % 8;
    uint8_t mask = (uint8_t)(0xff00 >> bits);
    return memcmp(address, &c->vprefix_addr6, bytes) == 0 &&
           (bits == 0 || ((address->s6_addr[bytes] ^ c->vprefix_addr6.s6_addr[bytes]) & mask) == 0);
}

static bool user_place6(const SlirpConfig *c, const char *option, const char *value, uint8_t number,
                        struct in6_addr *address, GError **error)
{
    *address = c->vprefix_addr6;
    address->s6_addr[15] |= number;
    if (value == NULL) {
        return true;
    }
    if (!user_parse_address6(option, value, address, error)) {
        return false;
    }
    return user_in_prefix(c, address) ||
           user_refuse(error, option, value, "is not in the network of ipv6-net=");
}

static bool user_make_ipv6(const NetUserOptions *o, SlirpConfig *c, GError **error)
{
    const char *net = o->ipv6_net != NULL      ? o->ipv6_net
                      : o->ipv6_prefix != NULL ? o->ipv6_prefix
                                               : "fec0::";
    g_auto(GStrv) parts = g_strsplit(net, "/", 2);
    uint64_t length = o->ipv6_prefixlen != 0 ? o->ipv6_prefixlen : 64;
    if (o->ipv6_net != NULL && (o->ipv6_prefix != NULL || o->ipv6_prefixlen != 0)) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "ipv6-net= excludes ipv6-prefix= and ipv6-prefixlen=");
        return false;
    }
    if (!user_parse_address6("ipv6-net", parts[0] != NULL ? parts[0] : "", &c->vprefix_addr6,
                             error)) {
        return false;
    }
    if (parts[1] != NULL && !opt_parse_u64(parts[1], 1, 126, &length, NULL)) {
        return user_refuse(error, "ipv6-net", net, "its prefix has not 1 to 126 bits");
    }
    c->vprefix_len = (uint8_t)length;
    for (unsigned bit = c->vprefix_len; bit < 128; bit++) {
        c->vprefix_addr6.s6_addr[bit / 8] &= (uint8_t) ~(0x80 >> bit % 8);
    }
    return user_place6(c, "ipv6-host", o->ipv6_host, 2, &c->vhost6, error) &&
           user_place6(c, "ipv6-dns", o->ipv6_dns, 3, &c->vnameserver6, error);
}

/* ---- all ---- */

static bool user_check_text(const char *option, const char *value, size_t max, GError **error)
{
    return value == NULL || strlen(value) <= max ||
           user_refuse(error, option, value, "is too long");
}

static bool user_check(const NetUserOptions *o, GError **error)
{
    if (o->smb != NULL || o->smbserver != NULL) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "skiff starts no SMB server (smb=); nearest is -virtiofs tag=TAG,path=DIR");
        return false;
    }
    return user_check_text("hostname", o->hostname, NET_USER_HOSTNAME_MAX - 1, error) &&
           user_check_text("domainname", o->domainname, 255, error) &&
           user_check_text("bootfile", o->bootfile, 127, error) &&
           user_check_text("tftp-server-name", o->tftp_server_name, 63, error);
}

/* A NULL-terminated list; NULL: the option is absent. */
static const char **user_domains(const GPtrArray *list)
{
    if (list == NULL || list->len == 0) {
        return NULL;
    }
    const char **domains = g_new0(const char *, list->len + 1);
    for (unsigned i = 0; i < list->len; i++) {
        domains[i] = list->pdata[i];
    }
    return domains;
}

bool net_user_make_config(const NetUserOptions *options, SlirpConfig *config, GError **error)
{
    *config = (SlirpConfig){.version = 1,
                            .restricted = options->restricted,
                            .vhostname = options->hostname,
                            .vdomainname = options->domainname,
                            .tftp_server_name = options->tftp_server_name,
                            .tftp_path = options->tftp,
                            .bootfile = options->bootfile};
    if (!user_check(options, error) || !user_choose_protocols(options, config, error) ||
        !user_make_ipv4(options, config, error) || !user_make_ipv6(options, config, error)) {
        return false;
    }
    config->vdnssearch = user_domains(options->dnssearch);
    return true;
}

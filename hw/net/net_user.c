/* SPDX-License-Identifier: Apache-2.0 */
/* -netdev user: life cycle, and the NIC's side of the rings. */
#include <errno.h>
#include <string.h>
#include "hw/net/net_user.h"
#include "util/iov.h"

/* ---- the NIC's home ---- */

void net_user_call_home(NetUser *u, AioBh *bh)
{
    rank_mutex_lock(&u->lock);
    if (u->home != NULL) {
        aio_bh_schedule(bh);
    }
    rank_mutex_unlock(&u->lock);
}

static void net_user_readable(void *opaque)
{
    NetUser *u = opaque;
    enter_loop(u->readable_bh.ctx);
    if (u->watch && net_ring_used(&u->to_guest) != 0) {
        net_backend_readable(&u->base, 0);
        if (u->watch && net_ring_used(&u->to_guest) != 0) {
            aio_bh_schedule(&u->readable_bh);
        }
    }
}

static void net_user_writable(void *opaque)
{
    NetUser *u = opaque;
    enter_loop(u->writable_bh.ctx);
    if (u->blocked) {
        u->blocked = false;
        net_backend_writable(&u->base, 0);
    }
}

static void net_user_queue_start(NetBackend *b, unsigned queue, AioContext *home)
{
    NetUser *u = net_user_from(b);
    u->watch = u->blocked = false;
    u->direct = home == u->loop;
    atomic_store(&u->want_room, false);
    aio_bh_init(&u->readable_bh, home, net_user_readable, u);
    aio_bh_init(&u->writable_bh, home, net_user_writable, u);
    rank_mutex_lock(&u->lock);
    u->home = home;
    rank_mutex_unlock(&u->lock);
}

static void net_user_queue_stop(NetBackend *b, unsigned queue)
{
    NetUser *u = net_user_from(b);
    rank_mutex_lock(&u->lock);
    u->home = NULL;
    rank_mutex_unlock(&u->lock);
    aio_bh_cancel(&u->readable_bh);
    aio_bh_cancel(&u->writable_bh);
}

static void net_user_watch(NetBackend *b, unsigned queue, bool on)
{
    NetUser *u = net_user_from(b);
    u->watch = on;
    if (on && net_ring_used(&u->to_guest) != 0) {
        aio_bh_schedule(&u->readable_bh);
    }
}

/* The loop sets `paused` and looks at the ring once more, in this order; here it is the other way round. */
static void net_user_taken(NetUser *u)
{
    if (atomic_load(&u->paused) && net_ring_used(&u->to_guest) <= NET_USER_RESUME) {
        aio_bh_schedule(&u->resume_bh);
    }
}

static ssize_t net_user_receive(NetBackend *b, unsigned queue, const struct iovec *iov,
                                unsigned count)
{
    static const NetHeader header;
    NetUser *u = net_user_from(b);
    uint32_t bytes;
    const uint8_t *frame = net_ring_peek(&u->to_guest, &bytes);
    if (frame == NULL) {
        return -EAGAIN;
    }
    iov_copy_from_buf(iov, count, 0, &header, sizeof(header));
    iov_copy_from_buf(iov, count, sizeof(header), frame, bytes);
    net_ring_pop(&u->to_guest);
    net_user_taken(u);
    return (ssize_t)(sizeof(header) + bytes);
}

static ssize_t net_user_send(NetBackend *b, unsigned queue, const struct iovec *iov, unsigned count)
{
    NetUser *u = net_user_from(b);
    enter_loop(u->writable_bh.ctx);
    size_t bytes = iov_size(iov, count) - sizeof(NetHeader);
    if (bytes < NET_ETHERNET_HEADER) {
        return -EINVAL;
    }
    bool taken = net_ring_put(&u->from_guest, iov, count, sizeof(NetHeader), (uint32_t)bytes);
    if (!taken) {
        /* The loop takes frames and then looks at `want_room`. */
        atomic_store(&u->want_room, true);
        taken = net_ring_put(&u->from_guest, iov, count, sizeof(NetHeader), (uint32_t)bytes);
    }
    u->blocked = !taken;
    if (u->direct) {
        net_user_take_frames(u);
    } else {
        aio_bh_schedule(&u->input_bh);
    }
    return taken ? 0 : -EAGAIN;
}

/* ---- main ---- */

static bool net_user_commands_forbidden;

void net_user_forbid_commands(void)
{
    net_user_commands_forbidden = true;
}

typedef struct NetUserCall {
    NetUser *user;
    bool commands_allowed, ok;
    GError *error;
} NetUserCall;

static void net_user_start_at_loop(void *opaque)
{
    NetUserCall *call = opaque;
    enter_loop(call->user->loop);
    call->ok = net_user_loop_start(call->user, call->commands_allowed, &call->error);
}

static void net_user_stop_at_loop(void *opaque)
{
    enter_loop(((NetUser *)opaque)->loop);
    net_user_loop_stop(opaque);
}

static bool net_user_co_open(NetBackend *b, GError **error)
{
    NetUser *u = net_user_from(b);
    NetUserCall call = {.user = u, .commands_allowed = !net_user_commands_forbidden};
    enter_main();
    enter_coroutine();
    rank_mutex_init(&u->lock, RANK_QUEUE, "a user-mode network");
    net_ring_init(&u->to_guest, NET_USER_TO_GUEST);
    net_ring_init(&u->from_guest, NET_USER_FROM_GUEST);
    u->thread = iothread_new_network(b->id, NET_USER_POLL_NS, error);
    if (u->thread == NULL) {
        return false;
    }
    u->loop = iothread_context(u->thread);
    b->nic_thread = u->options.tftp == NULL ? u->thread : NULL;
    co_call_in(u->loop, net_user_start_at_loop, &call);
    if (!call.ok) {
        g_propagate_error(error, call.error);
    }
    return call.ok;
}

static int net_user_join(void *opaque)
{
    enter_worker();
    iothread_free(opaque);
    return 0;
}

static void net_user_co_close(NetBackend *b)
{
    NetUser *u = net_user_from(b);
    enter_main();
    enter_coroutine();
    if (u->thread != NULL) {
        co_call_in(u->loop, net_user_stop_at_loop, u);
        co_run_in_worker(net_user_join, u->thread);
    }
    net_ring_clear(&u->to_guest);
    net_ring_clear(&u->from_guest);
    rank_mutex_destroy(&u->lock);
}

/* ---- monitors ---- */

typedef struct NetUserRule {
    NetUser *user;
    NetUserForward forward;
    bool ok;
    char *text;
} NetUserRule;

static void net_user_add_at_loop(void *opaque)
{
    NetUserRule *r = opaque;
    const NetUserForward *f = &r->forward;
    enter_loop(r->user->loop);
    r->ok = slirp_add_hostfwd(r->user->slirp, f->udp, f->host, f->host_port, f->guest,
                              f->guest_port) == 0;
}

bool net_user_co_add_hostfwd(NetBackend *b, const char *rule, GError **error)
{
    NetUserRule r = {.user = net_user_from(b)};
    if (!net_user_parse_hostfwd(rule, false, &r.forward, error)) {
        return false;
    }
    co_call_in(r.user->loop, net_user_add_at_loop, &r);
    if (!r.ok) {
        g_autofree char *shown = opt_excerpt(rule);
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "Could not set up host forwarding rule '%s'",
                    shown);
    }
    return r.ok;
}

static void net_user_remove_at_loop(void *opaque)
{
    NetUserRule *r = opaque;
    const NetUserForward *f = &r->forward;
    enter_loop(r->user->loop);
    r->ok = slirp_remove_hostfwd(r->user->slirp, f->udp, f->host, f->host_port) == 0;
}

bool net_user_co_remove_hostfwd(NetBackend *b, const char *rule, GError **error)
{
    NetUserRule r = {.user = net_user_from(b)};
    if (!net_user_parse_hostfwd(rule, true, &r.forward, error)) {
        return false;
    }
    co_call_in(r.user->loop, net_user_remove_at_loop, &r);
    if (!r.ok) {
        g_autofree char *shown = opt_excerpt(rule);
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "host forwarding rule for %s not found",
                    shown);
    }
    return r.ok;
}

static void net_user_info_at_loop(void *opaque)
{
    NetUserRule *r = opaque;
    enter_loop(r->user->loop);
    r->text = slirp_connection_info(r->user->slirp);
}

char *net_user_co_info(NetBackend *b)
{
    NetUserRule r = {.user = net_user_from(b)};
    co_call_in(r.user->loop, net_user_info_at_loop, &r);
    return r.text;
}

/* ---- options ---- */

#define USER_SPEC(option_name, type, field, ...)                                                   \
    OPT_SPEC(NetUser, option_name, type, options.field, ##__VA_ARGS__)

static const OptSpec net_user_options[] = {
    USER_SPEC("ipv4", OPT_STRING, ipv4,
              .help = "IPv4 on or off; default: on, or off with ipv6=on alone"),
    USER_SPEC("ipv6", OPT_STRING, ipv6,
              .help = "IPv6 on or off; default: on, or off with ipv4=on alone"),
    USER_SPEC("net", OPT_STRING, net, .help = "network of the guest; default: 10.0.2.0/24"),
    USER_SPEC("host", OPT_STRING, host,
              .help = "the host, as the guest sees it; default: the 2nd address"),
    USER_SPEC("dhcpstart", OPT_STRING, dhcpstart,
              .help = "first address that DHCP gives; default: the 15th"),
    USER_SPEC("dns", OPT_STRING, dns,
              .help = "the name server, as the guest sees it; default: the 3rd"),
    USER_SPEC("ipv6-net", OPT_STRING, ipv6_net, .help = "IPv6 network; default: fec0::/64"),
    USER_SPEC("ipv6-prefix", OPT_STRING, ipv6_prefix, .help = "the same, without the length"),
    USER_SPEC("ipv6-prefixlen", OPT_U8, ipv6_prefixlen, .max = 126,
              .help = "its length; default: 64"),
    USER_SPEC("ipv6-host", OPT_STRING, ipv6_host,
              .help = "the host's IPv6 address; default: fec0::2"),
    USER_SPEC("ipv6-dns", OPT_STRING, ipv6_dns, .help = "the name server's; default: fec0::3"),
    USER_SPEC("restrict", OPT_BOOL, restricted, .def = "off",
              .help = "the guest reaches only what hostfwd and guestfwd name"),
    USER_SPEC("hostname", OPT_STRING, hostname, .help = "the guest's name, by DHCP"),
    USER_SPEC("domainname", OPT_STRING, domainname, .help = "the guest's domain, by DHCP"),
    USER_SPEC("dnssearch", OPT_STRLIST, dnssearch,
              .help = "a domain to search, by DHCP; may be repeated"),
    USER_SPEC("tftp", OPT_STRING, tftp, .help = "directory whose files the guest reads by TFTP"),
    USER_SPEC("tftp-server-name", OPT_STRING, tftp_server_name,
              .help = "the server's name, by DHCP"),
    USER_SPEC("bootfile", OPT_STRING, bootfile, .help = "the file to boot, by DHCP"),
    USER_SPEC("hostfwd", OPT_STRLIST, hostfwd,
              .help = "[tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport; may be repeated"),
    USER_SPEC("guestfwd", OPT_STRLIST, guestfwd,
              .help = "[tcp]:server:port-cmd:COMMAND or -unix:PATH; may be repeated"),
    USER_SPEC("smb", OPT_STRING, smb, .help = "always refused: use virtiofs"),
    USER_SPEC("smbserver", OPT_STRING, smbserver, .help = "always refused: use virtiofs"),
    {0},
};

const NetType net_user_type = {
    .name = "user",
    .description = "user mode: connections become sockets of skiff's process, without any rights",
    .instance_size = sizeof(NetUser),
    .options = net_user_options,
    .co_open = net_user_co_open,
    .co_close = net_user_co_close,
    .queue_start = net_user_queue_start,
    .queue_stop = net_user_queue_stop,
    .watch = net_user_watch,
    .receive = net_user_receive,
    .send = net_user_send,
};

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * -netdev user: a network in user mode, by libslirp. It needs no rights: the guest's connections become
 * sockets of skiff's process. libslirp gives the guest addresses (DHCP, router advertisements), a gateway
 * that stands for the host, a name server and files by TFTP.
 *
 * libslirp is not thread-safe and makes system calls as it likes. Each network has a thread of its own,
 * which alone calls its Slirp; main asks it by co_call_in(). A NIC without iothread= has its home there too
 * (NetBackend.nic_thread), so that no frame changes threads. Otherwise frames pass between the network's loop
 * and the NIC's home in two rings (net_ring.h).
 *
 *     NIC's home                      the network's loop
 *     send() ---- from_guest ring --> input_bh: slirp_input()
 *     receive() <-- to_guest ring --- send_packet() of libslirp, called within slirp_input() and
 *                                     slirp_pollfds_poll()
 *
 * If the two are the same loop (`direct`), send() takes the frame out of its ring at once. A network with
 * tftp= is in no NIC's home, since it reads files, which may block.
 *
 * A turn of the loop: bottom halves (frames of the guest; sockets that were ready), then `flush`:
 * libslirp says which sockets it waits for, which become handlers of the loop.
 *
 * Invariants
 *   1. While the ring to the guest has more than NET_USER_PAUSE bytes, libslirp reads no socket; it goes
 *      on when the guest has taken most of them. What exceeds the ring is dropped, as a network does.
 *   2. A guest has at most `max_sockets` sockets. Beyond that, frames that would open one are dropped.
 *   3. `home` changes under `lock`; whoever schedules a bottom half of the home holds it.
 */
#ifndef SKIFF_HW_NET_NET_USER_H
#define SKIFF_HW_NET_NET_USER_H

#include <slirp/libslirp.h>
#include "hw/net/net.h"
#include "hw/net/net_ring.h"
#include "util/log.h"
#include "util/loop/held.h"
#include "util/loop/iothread.h"

#define NET_USER_TO_GUEST (1u << 20) /* bytes of the rings */
#define NET_USER_FROM_GUEST (512u << 10)
#define NET_USER_PAUSE (NET_USER_TO_GUEST / 2)
#define NET_USER_RESUME (NET_USER_TO_GUEST / 8)
#define NET_USER_MAX_SOCKETS 4096u
/* Of the loop, while a NIC's queues are in it. A guest that waits for an interrupt, answers and kicks takes longer
 * than the 32 us of iothread/default. */
#define NET_USER_POLL_NS 100000

/* As users write them. */
typedef struct NetUserOptions {
    char *ipv4, *ipv6;
    char *net, *host, *dhcpstart, *dns;
    char *ipv6_net, *ipv6_prefix, *ipv6_host, *ipv6_dns;
    uint8_t ipv6_prefixlen;
    bool restricted;
    char *hostname, *domainname, *tftp, *tftp_server_name, *bootfile, *smb, *smbserver;
    GPtrArray *dnssearch, *hostfwd, *guestfwd; /* may be NULL */
} NetUserOptions;

/* What libslirp wants to know about a socket: one for each descriptor that it has ever used. */
typedef struct NetUserSocket {
    struct NetUser *user;
    AioHandler *handler; /* NULL: libslirp has not asked for it */
    int fd;
    bool registered;   /* libslirp has it open */
    bool listed;       /* in `watched` */
    int wanted, ready; /* SLIRP_POLL_* */
    unsigned turn;     /* of the fill that asked for it last */
} NetUserSocket;

typedef struct NetUser {
    NetBackend base;
    NetUserOptions options;
    /* runtime, main */
    IoThread *thread;
    /* runtime, the network's loop */
    AioContext *loop;
    Slirp *slirp;
    AioHandler *flush;
    AioTimer timeout;
    AioBh input_bh;     /* the home's message: there are frames; also the loop's own */
    AioBh poll_bh;      /* the loop's own: sockets are ready, or time has passed */
    AioBh resume_bh;    /* the home's message: the ring to the guest has room */
    GPtrArray *sockets; /* NetUserSocket by descriptor; NULL entries */
    GArray *watched;    /* descriptors that have, or had in this turn, a handler */
    unsigned turn, open_sockets, max_sockets;
    bool has_new; /* frames for the guest since the last flush */
    uint64_t dropped;
    LogLimit log_limit;
    /* between the two */
    NetRing to_guest, from_guest;
    _Atomic bool paused;    /* set by the loop */
    _Atomic bool want_room; /* set by the home: its send() has failed */
    RankMutex lock;
    AioContext *home; /* NULL: the queue is not started. lock */
    /* runtime, home */
    AioBh readable_bh, writable_bh;
    bool direct;         /* the home is the network's loop */
    bool watch, blocked; /* blocked: the last send() found no room */
} NetUser;

static inline NetUser *net_user_from(NetBackend *b)
{
    return (NetUser *)(void *)b;
}

extern const NetType net_user_type;

/* Called before back ends are made when -sandbox will be on: no command can be started then. */
void net_user_forbid_commands(void) RUNS_IN_MAIN;

/* ---- for monitors; @b is of net_user_type ---- */
/* hostfwd_add: "[tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport". */
bool net_user_co_add_hostfwd(NetBackend *b, const char *rule, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* hostfwd_remove: "[tcp|udp]:[hostaddr]:hostport". */
bool net_user_co_remove_hostfwd(NetBackend *b, const char *rule, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* The connections, for `info usernet`. Owned by the caller. */
char *net_user_co_info(NetBackend *b) coroutine_fn RUNS_IN_MAIN;

/* ---- net_user_config.c ---- */
/* Fills in @config, whose strings point into @options; `vdnssearch` is owned by the caller. */
bool net_user_make_config(const NetUserOptions *options, SlirpConfig *config, GError **error)
    ANY_THREAD;

/* ---- net_user_forward.c ---- */
typedef struct NetUserForward {
    bool udp;
    struct in_addr host, guest; /* guest: 0 is the first address of DHCP */
    uint16_t host_port, guest_port;
} NetUserForward;

/* The parts of a hostfwd rule; with @removal without the guest's. */
bool net_user_parse_hostfwd(const char *rule, bool removal, NetUserForward *f, GError **error)
    ANY_THREAD;
typedef struct NetUserGuestForward {
    struct in_addr server;
    uint16_t port;
    const char *command, *path; /* one of the two; in the rule */
} NetUserGuestForward;
/* "[tcp]:server:port-cmd:command" or "...-unix:path". */
bool net_user_parse_guestfwd(const char *rule, NetUserGuestForward *f, GError **error) ANY_THREAD;
/* The rules of the options, in the loop. */
bool net_user_add_forwards(NetUser *u, bool commands_allowed, GError **error) RUNS_IN_LOOP;

/* ---- net_user_slirp.c: the loop ---- */
/* Begins: makes the Slirp. */
bool net_user_loop_start(NetUser *u, bool commands_allowed, GError **error) RUNS_IN_LOOP;
void net_user_loop_stop(NetUser *u) RUNS_IN_LOOP;
/* Gives libslirp the frames that are in the ring, up to a budget. */
void net_user_take_frames(NetUser *u) RUNS_IN_LOOP;
/* Calls the home's bottom half @bh, if the queue is started. */
void net_user_call_home(NetUser *u, AioBh *bh) ANY_THREAD;

#endif

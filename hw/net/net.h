/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a NIC is connected to. A NetBackend is made by -netdev or netdev_add, has a name, and carries
 * frames to and from the host (a tap device, a user-mode network, a socket). A NetClient is the NIC's
 * end. A back end has one client at most.
 *
 *   virtio-net  --net_client_send()-->      NetType.send
 *   (NetClient) --net_client_receive()-->   NetType.receive
 *               <--NetClientOps.readable--  net_backend_readable()
 *               <--NetClientOps.writable--  net_backend_writable()
 *
 * Main creates, names and removes back ends and sets links. A client has a home, the loop of its queues.
 * The data path of a queue pair belongs to that loop from net_client_start_queue() to
 * net_client_stop_queue(), and to nobody otherwise.
 *
 *   IDLE --net_client_start_queue--> STARTED --net_client_stop_queue, or the client is detached--> IDLE
 *
 * Receiving is a pull: the client asks for a frame and says where its bytes go, so that a tap device is
 * read straight into the guest's buffers. It watches a queue only while it has room.
 *
 * Each frame begins with a NetHeader. A back end without offloads (`can_send`, `can_receive` are 0) skips
 * it on send and zeroes it on receive.
 *
 * Invariants
 *   1. The functions of NetType for a queue are called in the client's home, between the queue's start and
 *      its stop; readable() and writable() of the client likewise. None is called from within another one,
 *      except that readable() and writable() call receive, send and watch.
 *   2. No frame has more than NET_FRAME_MAX bytes with its header, and the client never offers less room
 *      for one. So no frame is cut.
 *   3. A frame to the client uses only the offloads of the NetConfig that was applied last, and a frame
 *      of the client only those of `can_send`. The client checks what the guest sends, the back end what
 *      its peer sends.
 *   4. A back end holds a bounded number of frames for each queue. When it is full, it takes no more from
 *      its peer, or drops as a network does.
 *   5. No function for a queue waits or makes a system call that blocks.
 */
#ifndef SKIFF_HW_NET_NET_H
#define SKIFF_HW_NET_NET_H

#include <glib.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
#include "util/loop/coroutine.h"
#include "util/loop/iothread.h"
#include "util/opts/opts.h"

#define NET_MAX_QUEUES 31 /* pairs: virtio-net has 64 queues with its control queue */
#define NET_MAC_BYTES 6
#define NET_ETHERNET_HEADER 14
/* The largest frame with its header: 64 KiB of a segmentation offload, and what precedes it. */
#define NET_FRAME_MAX (65536 + 4096)

/* virtio 1.2 §5.1.6, little-endian; num_buffers is the client's. */
typedef struct NetHeader {
    uint8_t flags;
    uint8_t gso_type;
    uint16_t hdr_len;
    uint16_t gso_size;
    uint16_t csum_start;
    uint16_t csum_offset;
    uint16_t num_buffers;
} NetHeader;

enum {
    NET_HEADER_NEEDS_CSUM = 1,
    NET_HEADER_DATA_VALID = 2,
};

enum {
    NET_HEADER_GSO_NONE = 0,
    NET_HEADER_GSO_TCPV4 = 1,
    NET_HEADER_GSO_UDP = 3,
    NET_HEADER_GSO_TCPV6 = 4,
    NET_HEADER_GSO_UDP_L4 = 5,
    NET_HEADER_GSO_ECN = 0x80,
};

/* What a frame may leave to its receiver. */
enum {
    NET_OFFLOAD_CSUM = 1, /* a partial checksum */
    NET_OFFLOAD_TSO4 = 2, /* more than the MTU, to be segmented */
    NET_OFFLOAD_TSO6 = 4,
    NET_OFFLOAD_ECN = 8, /* TSO with ECN */
    NET_OFFLOAD_UFO = 16,
    NET_OFFLOAD_USO4 = 32,
    NET_OFFLOAD_USO6 = 64,
};

typedef struct NetBackend NetBackend;
typedef struct NetClient NetClient;
typedef struct NetFilter NetFilter; /* net_filter.h */

/* A vhost back end (hw/vhost/vhost.h) that can serve queues [first_queue, first_queue + count) of the NIC: a
 * receive and a transmit queue for each pair. */
struct VhostDev;
typedef struct NetVhostPart {
    struct VhostDev *dev;
    unsigned first_queue, count;
    uint64_t features; /* bits of virtio-net that it implements, and not the back end */
} NetVhostPart;

/* How a client uses its back end. */
typedef struct NetConfig {
    uint32_t receive_offloads; /* NET_OFFLOAD_*, a subset of can_receive */
    unsigned queues;           /* pairs [0, queues) carry frames */
} NetConfig;

/* An option that names inherited descriptors by their numbers. */
typedef struct NetFdOption {
    const char *name;
    bool is_list; /* as 5:6:7 */
} NetFdOption;

/* ---- what a back end implements: one const table a type, listed in hw/net_types.c ---- */

typedef struct NetType {
    const char *name;        /* as in -netdev: "tap" */
    const char *description; /* one line for -netdev help */
    size_t instance_size;    /* of the struct that begins with a NetBackend */
    const OptSpec *options;  /* offsets into the instance; ends with {0}; may be NULL */
    /* Ends with {0}; NULL: none. They are the user's descriptors: co_open duplicates what it needs, and after
     * its success they are closed. */
    const NetFdOption *fd_options;
    /* Main: opens the back end from its bound options; sets `queues` (initially 1), `can_send`,
     * `can_receive`, `info`. After a failure co_close is called too. */
    bool (*co_open)(NetBackend *b, GError **error);
    /* Main: releases what co_open took. There is no client, or the process ends. */
    void (*co_close)(NetBackend *b);
    /* Removes names in the file system that belong to the back end, when the process ends without
     * co_close. Async-signal-safe. May be NULL. */
    void (*unlink)(const NetBackend *b);
    /* Main, when the process ends without co_close and the loop runs no more: undoes what else outlives it. It may
     * wait for some seconds. May be NULL. */
    void (*leave)(NetBackend *b);
    /* A coroutine in the client's home: makes @config effective. One call at a time for each back end,
     * whether queues are started or not. It waits for the host's kernel (a worker), for a limited time, and
     * never for main or a peer. False: the host refuses, which the back end logs; what of @config is effective is not
     * known, but no offload is that neither this nor the last call named. NULL: there is nothing to do. */
    bool (*co_configure)(NetBackend *b, const NetConfig *config);

    /* The data path of @queue begins and ends, in @home. After queue_stop the back end calls nothing for
     * the queue. May be NULL. */
    void (*queue_start)(NetBackend *b, unsigned queue, AioContext *home);
    void (*queue_stop)(NetBackend *b, unsigned queue);
    /* While @on, net_backend_readable() is called in each turn of the loop in which there is a frame (it
     * is a level), first in a later turn. Initially off. */
    void (*watch)(NetBackend *b, unsigned queue, bool on);
    /* Copies the next frame with its header into @iov. Returns its length; -EAGAIN: there is none. */
    ssize_t (*receive)(NetBackend *b, unsigned queue, const struct iovec *iov, unsigned count);
    /* Takes a frame with its header, all of it or nothing. Returns 0; -EAGAIN: no room, and
     * net_backend_writable() is called once when there is some, in a later turn. Another -errno: the frame
     * is dropped. */
    ssize_t (*send)(NetBackend *b, unsigned queue, const struct iovec *iov, unsigned count);
    /* Main: what may serve the NIC's queues in place of its home; there are `queues` parts at most. Returns
     * their number, 0: none. They are the client's to start and stop until it is detached. NULL: none. */
    unsigned (*vhost_parts)(NetBackend *b, NetVhostPart parts[NET_MAX_QUEUES]);
} NetType;

struct NetBackend {
    /* config; fixed after co_open */
    const NetType *type;
    char *id;
    AioContext *main_ctx;
    unsigned queues;                /* pairs */
    uint32_t can_send, can_receive; /* NET_OFFLOAD_* */
    char *info;                     /* for `info network`: "ifname=tap0,script=no"; owned */
    bool vhost_only;                /* it has no data path but that of vhost_parts */
    /* Where a NIC is served best if its user names no iothread: such a NIC becomes an owner of the thread
     * (iothread_ref()). The back end is its owner until co_close. NULL: no matter. */
    IoThread *nic_thread;
    /* runtime, main */
    NetClient *client;
    bool admin_down; /* by set_link */
    bool no_carrier; /* the back end's own */
    bool leaving;    /* it is being removed */
    NetBackend *next;
};

/* The back end's calls to its client, in the client's home: see NetType. */
void net_backend_readable(NetBackend *b, unsigned queue) RUNS_IN_LOOP;
void net_backend_writable(NetBackend *b, unsigned queue) RUNS_IN_LOOP;
/* The back end has or has not a connection to its peer; initially it has. The guest sees the link. */
void net_backend_set_carrier(NetBackend *b, bool up) RUNS_IN_MAIN;

/* ---- the set of back ends (main) ---- */

/* Called once, before any other call. @types is NULL-terminated. */
void net_setup(const NetType *const *types, AioContext *main_ctx) RUNS_IN_MAIN;
/* Opens a back end from -netdev options: "type", "id" and the type's own. @opts is borrowed. False +
 * @error. */
bool net_co_add(const OptDict *opts, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Replaces names of descriptors in such options by their numbers: @look_up returns the one with a name, or -1
 * + error. A name does not begin with a digit. @taken collects them: they are the caller's if net_co_add(),
 * called next, fails. */
typedef int (*NetFdLookUp)(const char *name, void *opaque, GError **error);
bool net_fds_resolve(OptDict *opts, NetFdLookUp look_up, void *opaque, GArray *taken,
                     GError **error) RUNS_IN_MAIN;
/* Removes a back end. A NIC that uses it stays without one, with its link down, as in QEMU. */
bool net_co_remove(const char *id, GError **error) coroutine_fn RUNS_IN_MAIN;
NetBackend *net_find(const char *id) RUNS_IN_MAIN; /* NULL: none */
/* set_link: @name is that of a back end or of a client. */
bool net_set_link(const char *name, bool up, GError **error) RUNS_IN_MAIN;
void net_foreach_backend(void (*fn)(NetBackend *b, void *opaque), void *opaque) RUNS_IN_MAIN;
void net_foreach_client(void (*fn)(NetClient *c, void *opaque), void *opaque) RUNS_IN_MAIN;
/* Prints the types (`-netdev help`), or the options of one (`-netdev tap,help`). */
void net_print_help(const NetType *const *types, const char *type, FILE *out) ANY_THREAD;
/* @fn is called in main after net_client_filter_changed(). */
void net_set_filter_hook(void (*fn)(NetClient *c, void *opaque), void *opaque) RUNS_IN_MAIN;
/* The process ends: NetType.unlink and leave of all. */
void net_leave(void) RUNS_IN_MAIN;
/* For tests: removes all back ends. */
void net_co_shutdown(void) coroutine_fn RUNS_IN_MAIN;

/* ---- the client's side ---- */

typedef struct NetClientOps {
    const char *model; /* "virtio-net-pci" */
    /* The client's home. */
    void (*readable)(NetClient *c, unsigned queue);
    void (*writable)(NetClient *c, unsigned queue);
    /* Main, no lock held: net_client_link_up() may have changed. */
    void (*link_changed)(NetClient *c);
    /* Main, no lock held: announces the NIC's address to the network once, as a step of QEMU's
     * announce-self. May be NULL. */
    void (*announce)(NetClient *c);
    /* Main: copies the receive filter. */
    void (*get_filter)(NetClient *c, NetFilter *to);
    /* A coroutine in main: the back end is about to be detached. What it has by vhost_parts is not used any
     * more when this returns. May be NULL. */
    void (*co_detaching)(NetClient *c);
} NetClientOps;

struct NetClient {
    /* config: set before net_client_attach() */
    const NetClientOps *ops;
    AioContext *home;
    uint8_t mac[NET_MAC_BYTES]; /* its permanent address */
    void *owner;                /* the Device */
    /* runtime, main */
    char *name;          /* the device's id, or "virtio-net-pci.0" */
    NetBackend *backend; /* NULL: none */
    bool admin_down;     /* by set_link */
    NetClient *next;
    _Atomic unsigned link; /* NET_LINK_*: written by main */
    AioBh filter_bh;       /* the filter has changed */
    _Atomic bool filter_noted;
    /* runtime, home */
    NetBackend *data; /* the back end as the data path sees it: NULL from its detaching on */
    uint32_t started, watched; /* bit n: queue n */
    NetConfig wanted, applied;
    bool has_applied; /* the back end has been asked for `applied` last */
    bool refused;     /* and it refused */
    bool configuring; /* a coroutine applies configurations */
    CoQueue configured;
    _Atomic uint64_t sent, received, dropped; /* frames */
};

/* Adds @c to the set, named @id, or "MODEL.N" if that is NULL, and connects it to the back end @netdev;
 * NULL: to none. False + @error: there is no such back end, or another NIC uses it; @c is as before. */
bool net_client_attach(NetClient *c, const char *id, const char *netdev, GError **error)
    RUNS_IN_MAIN;
/* An address for a NIC without mac=: the first from 52:54:00:12:34:56 on that no client has. */
void net_choose_mac(uint8_t mac[NET_MAC_BYTES]) RUNS_IN_MAIN;
/* The end of the NIC: disconnects it and takes it from the set. No queue is started. */
void net_client_co_leave(NetClient *c) coroutine_fn RUNS_IN_MAIN;
/* Whether the guest's link is up: the NIC's and its back end's. */
bool net_client_link_up(const NetClient *c) ANY_THREAD;
/* Whether set_link has taken it down, or its back end: frames are dropped. */
bool net_client_is_set_down(const NetClient *c) RUNS_IN_MAIN;

/* The guest has changed the receive filter. The hook is called once, in main, until the filter is read. */
void net_client_filter_changed(NetClient *c) ANY_THREAD;
/* Copies the receive filter of @c. */
void net_client_get_filter(NetClient *c, NetFilter *to) RUNS_IN_MAIN;
/* Sends an RARP request of the NIC's permanent address, from which switches learn where it is. */
void net_client_co_announce(NetClient *c) coroutine_fn RUNS_IN_MAIN;

/* The data path of a queue pair: see NetType. Without a back end, or with the link down, frames are
 * dropped. */
void net_client_start_queue(NetClient *c, unsigned queue) RUNS_IN_LOOP;
void net_client_stop_queue(NetClient *c, unsigned queue) RUNS_IN_LOOP;
void net_client_watch(NetClient *c, unsigned queue, bool on) RUNS_IN_LOOP;
/* @iov has room for NET_FRAME_MAX. Frames that are longer, or use offloads that the client has not
 * configured, are dropped. */
ssize_t net_client_receive(NetClient *c, unsigned queue, const struct iovec *iov, unsigned count)
    RUNS_IN_LOOP;
ssize_t net_client_send(NetClient *c, unsigned queue, const struct iovec *iov, unsigned count)
    RUNS_IN_LOOP;

/* In the home: changes the configuration. Until the back end has applied or refused it, nothing is
 * received. */
void net_client_configure(NetClient *c, const NetConfig *config) RUNS_IN_LOOP;
/* Returns when the latest configuration is applied. False: the back end has refused it; the caller goes
 * back to the one of before, which may fail too. */
bool net_client_co_await_configured(NetClient *c) coroutine_fn RUNS_IN_LOOP;

#endif

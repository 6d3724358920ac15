/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames as datagrams: -netdev dgram, and -netdev socket with fd=, mcast= or udp=. A datagram is a frame. The
 * socket is made in main; from the queue's start to its stop the NIC's home reads and writes it, straight into
 * and from the guest's buffers. The kernel's buffer is the only queue.
 *
 * Invariants
 *   1. Who may send to the socket's address is a peer: datagrams that are no frames are dropped.
 *   2. A datagram that is too long is dropped, never cut.
 */
#ifndef SKIFF_HW_NET_NET_DGRAM_H
#define SKIFF_HW_NET_NET_DGRAM_H

#include <netinet/in.h>
#include <sys/socket.h>
#include "hw/net/net.h"
#include "util/owned_path.h"
#include "util/socket_address.h"

/* Embedded in a back end. */
typedef struct NetDgram {
    NetBackend *backend;
    /* runtime, main */
    bool opened;
    int fd;                     /* -1: none */
    SocketAddresses bound;      /* of a UNIX socket, which is removed at the end */
    struct sockaddr_storage to; /* where frames go; to_length 0: the socket is connected */
    socklen_t to_length;
    /* runtime, home */
    AioHandler *handler;
    AioContext *home;
    uint8_t *bounce; /* NET_FRAME_MAX, for buffers in many pieces; made at the first use */
    bool watch, blocked;
} NetDgram;

/* The ends, as users write them; NULL: none. */
bool net_dgram_co_open(NetDgram *d, NetBackend *b, const SocketAddressOptions *local,
                       const SocketAddressOptions *remote, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* Also after a net_dgram_co_open() that failed, or was not called. */
void net_dgram_close(NetDgram *d) RUNS_IN_MAIN;

/* As the functions of NetType. */
void net_dgram_start(NetDgram *d, AioContext *home) RUNS_IN_LOOP;
void net_dgram_stop(NetDgram *d) RUNS_IN_LOOP;
void net_dgram_watch(NetDgram *d, bool on) RUNS_IN_LOOP;
ssize_t net_dgram_receive(NetDgram *d, const struct iovec *iov, unsigned count) RUNS_IN_LOOP;
ssize_t net_dgram_send(NetDgram *d, const struct iovec *iov, unsigned count) RUNS_IN_LOOP;

extern const NetType net_dgram_type;

#endif

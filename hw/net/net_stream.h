/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames over a stream socket: -netdev stream, and -netdev socket with fd=, listen= or connect=. Each
 * frame is preceded by its length, 4 bytes, big-endian, as in QEMU; passt and other instances of skiff or
 * QEMU speak it.
 *
 * Main makes connections. The NIC's home reads and writes them. A connection is an object with one owner,
 * which is handed over:
 *
 *          main has connected, or accepted        queue_start, or the home's bottom half
 *   NONE ---------------------------------> OFFERED <---------------------------------> HOME
 *     ^                                        |              queue_stop                  |
 *     | main closes it                         | main closes the back end                 | end of file,
 *     +------------------- LOST <--------------+------------------------------------------+ an error
 *
 * Main retries a client's connection after `reconnect_ns`, and a server accepts the next one: one at a time.
 *
 * Invariants
 *   1. `offered`, `lost` and `home` change under `lock`; at most one connection exists.
 *   2. Of a connection in HOME only the home reads or writes. Of a frame that was written in part the rest
 *      comes first.
 *   3. A peer that announces a frame of more than NET_FRAME_MAX loses its connection. Memory is bounded
 *      by STREAM_IN_BYTES and one frame.
 */
#ifndef SKIFF_HW_NET_NET_STREAM_H
#define SKIFF_HW_NET_NET_STREAM_H

#include "hw/net/net.h"
#include "util/log.h"
#include "util/loop/held.h"
#include "util/socket_address.h"

#define STREAM_PREFIX 4
#define STREAM_FRAME_MAX (NET_FRAME_MAX - sizeof(NetHeader))
#define STREAM_IN_BYTES (2 * NET_FRAME_MAX)

typedef struct NetStream NetStream;

typedef struct NetStreamConnection {
    int fd;
    AioHandler *handler; /* HOME */
    size_t in_start, in_end, out_start, out_end;
    uint8_t in[STREAM_IN_BYTES];
    uint8_t out[STREAM_PREFIX + NET_FRAME_MAX]; /* the rest of a frame */
} NetStreamConnection;

/* Embedded in a back end. */
struct NetStream {
    NetBackend *backend;
    /* config, before net_stream_co_open() */
    SocketAddressOptions address; /* strings are the back end's */
    bool server;
    int64_t reconnect_ns; /* 0: a client connects once, when it is opened */
    /* runtime, main */
    SocketAddresses addresses;
    int listen_fd; /* -1: none */
    AioHandler *listen_handler;
    SocketConnect connect;
    AioTimer reconnect; /* of a server: accepts again, after a lack of descriptors */
    AioBh lost_bh;      /* the home's message */
    CoQueue idle;
    bool opened, connecting, closing, connected;
    LogLimit log_limit;
    /* between the two */
    RankMutex lock;
    AioContext *home;             /* NULL: the queue is not started */
    NetStreamConnection *offered; /* with main; the home takes it */
    NetStreamConnection *gone;    /* LOST: main frees it */
    /* runtime, home */
    NetStreamConnection *connection;
    AioBh take_bh;  /* main's message: a connection is offered */
    AioBh again_bh; /* the home's own: complete frames, or a sender that has to be called */
    bool watch, blocked;
};

bool net_stream_co_open(NetStream *s, NetBackend *b, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Also after a net_stream_co_open() that failed, or was not called. */
void net_stream_co_close(NetStream *s) coroutine_fn RUNS_IN_MAIN;

/* NetType.unlink: removes a server's UNIX socket. */
void net_stream_unlink(const NetStream *s) ANY_THREAD;

/* As the functions of NetType. */
void net_stream_start(NetStream *s, AioContext *home) RUNS_IN_LOOP;
void net_stream_stop(NetStream *s) RUNS_IN_LOOP;
void net_stream_watch(NetStream *s, bool on) RUNS_IN_LOOP;
ssize_t net_stream_receive(NetStream *s, const struct iovec *iov, unsigned count) RUNS_IN_LOOP;
ssize_t net_stream_send(NetStream *s, const struct iovec *iov, unsigned count) RUNS_IN_LOOP;

/* Called in main when a connection was made or lost; @peer: "unix:/run/x". One for all; NULL: none. */
typedef void NetStreamListener(const char *id, const char *peer, bool connected);
void net_stream_set_listener(NetStreamListener *fn) RUNS_IN_MAIN;

/* ---- net_stream.c, for net_stream_data.c ---- */
/* The home gives a lost connection to main. */
void net_stream_give_up(NetStream *s, const char *why) RUNS_IN_LOOP;

extern const NetType net_stream_type;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the NBD server.
 *
 *   nbd_server.c     listening, accepting, the list of sessions
 *   nbd_export.c     the table of exports
 *   nbd_negotiate.c  the handshake: options, TLS
 *   nbd_options.c    options that concern an export
 *   nbd_meta.c       options that concern metadata contexts
 *   nbd_session.c    a session's requests: reading, limits, the end
 *   nbd_request.c    what a request does
 *   nbd_status.c     BLOCK_STATUS
 *   nbd_reply.c      replies
 *   nbd_channel.c    bytes of a socket, with or without TLS
 *
 * A session is a client's connection. It has one coroutine that reads, first in main, then in the
 * home of its export, and one coroutine for each request that is in progress there.
 *
 *   accept        EXPORT_NAME, GO                      the home has it
 *   ------> NEGOTIATING -----------> HANDED_OVER ------------------> SERVING
 *               |                                                       | disconnect, end of input,
 *               | abort, error, time-out                                | error, kill
 *               |                                                       v
 *               |                                      ENDING: requests in progress end
 *               v                                                       | none is left
 *             ENDED (freed in main) <-----------------------------------'
 *
 *   move                        made by                          in
 *   NEGOTIATING -> HANDED_OVER  session_negotiate                main
 *   NEGOTIATING -> ENDED        session_negotiate                main
 *   HANDED_OVER -> SERVING      session_serve                    the home
 *   SERVING -> ENDING           session_serve                    the home
 *   ENDING -> ENDED             session_serve                    the home, which posts to main
 *
 * Invariants
 *   1. Main has a session in NEGOTIATING and ENDED, the home in SERVING and ENDING. Links, the export
 *      and what was negotiated do not change after NEGOTIATING.
 *   2. Main closes the socket, when the session is freed. Until then it may shut the socket down at
 *      any time (nbd_session_kill), which ends all waits for the client.
 *   3. A session in HANDED_OVER to ENDING is counted by its export; an export with sessions is not
 *      freed.
 *   4. A session in SERVING has at most session_request_max() requests in progress. Their buffers
 *      and the spare ones have at most nbd_session_share() bytes, which others do not take from. A
 *      request that is larger is done in pieces. A share shrinks when a session comes; one that has
 *      more than its share begins no request until it has less.
 *   5. A request is in flight at the export's backend only while the disk has it: not while it waits
 *      for the client to send or to receive data. So no client delays a drained section.
 *   6. Bytes are written to the socket by the coroutine that has the session's turn to send, one chunk
 *      or one simple reply at a time.
 *   7. Nothing that was received before TLS is used after it.
 */
#ifndef SKIFF_BLOCK_NBD_NBD_INT_H
#define SKIFF_BLOCK_NBD_NBD_INT_H

#include <stdatomic.h>
#include "block/nbd/nbd.h"
#include "block/nbd/nbd_channel.h"
#include "block/nbd/nbd_protocol.h"

#define NBD_MEMORY ((uint64_t)128 << 20)    /* shared evenly by the sessions */
#define NBD_SPARE_MAX ((uint64_t)32 << 20)  /* a session's buffers that are kept for later */
#define NBD_SHARE_MIN ((uint64_t)256 << 10) /* of a session */
#define NBD_PIECE_MAX ((uint64_t)2 << 20)   /* of a read in chunks, and of CACHE */
#define NBD_ZERO_PIECE ((uint64_t)16 << 20) /* of WRITE_ZEROES and TRIM */
#define NBD_HOLE_UNIT ((uint64_t)64 << 10)  /* a read's zeroes are found in these units */
#define NBD_REQUESTS_MAX 64u                /* of a session */
#define NBD_OPTION_DATA_MAX (64u << 10)     /* longer ones are refused */
#define NBD_OPTION_SKIP_MAX (1u << 20)      /* still longer ones end the connection */
#define NBD_EXTENTS_MAX 1024u               /* of one context in one reply */
#define NBD_CONTEXT_ALLOCATION 0u           /* context ids */
#define NBD_CONTEXT_DEPTH 1u
#define NBD_CONTEXT_BITMAP 2u /* and the next ones */
#define NBD_CONTEXTS_MAX (NBD_CONTEXT_BITMAP + NBD_EXPORT_BITMAPS_MAX)

typedef struct NbdSession NbdSession;

/* At the begin of a buffer that no request uses. */
typedef struct NbdBuffer {
    struct NbdBuffer *next;
    uint64_t size;
} NbdBuffer;

typedef struct NbdBitmap {
    BlockNode *node; /* referenced */
    BlockDirtyBitmap *bitmap;
    char *name;
} NbdBitmap;

typedef struct NbdExport {
    /* config */
    char *id, *name, *description;
    BlockBackend *blk;
    AioContext *home;
    uint16_t flags; /* NBD_FLAG_* that do not depend on the client */
    bool allocation_depth;
    NbdBitmap *bitmaps;
    unsigned bitmap_count;
    uint64_t serial; /* never used again */
    unsigned run;    /* of the server */
    /* main */
    unsigned sessions;
    bool removing;
    /* runtime: home */
    unsigned serving;
} NbdExport;

typedef enum NbdMode { NBD_MODE_SIMPLE, NBD_MODE_STRUCTURED, NBD_MODE_EXTENDED } NbdMode;

typedef enum NbdState {
    NBD_NEGOTIATING,
    NBD_HANDED_OVER,
    NBD_SERVING,
    NBD_ENDING,
    NBD_ENDED,
} NbdState;

struct NbdSession {
    /* links */
    NbdExport *export;
    NbdSession *next, **link; /* main */
    TlsCreds *creds;          /* the client has to use TLS; NULL: it cannot. Owned */
    unsigned run;             /* of the server */

    /* negotiated */
    NbdMode mode;
    bool fixed, no_zeroes;    /* the client's flags */
    uint64_t contexts;        /* bits of context ids */
    uint64_t contexts_serial; /* of the export that they are of; 0: none */
    uint64_t size;            /* of the disk, as the client knows it */

    /* runtime */
    NbdState state;
    NbdChannel channel;
    AioTimer timer;      /* main: the end of the time for the handshake */
    _Atomic bool killed; /* no request is begun any more */

    /* runtime: home */
    unsigned requests; /* in progress */
    uint64_t bytes;    /* of their buffers */
    bool hung_up;      /* the input has ended without DISC: a request of many pieces ends early */
    NbdBuffer *spare;  /* buffers for later requests: new memory costs a page fault for each page */
    uint64_t spare_bytes;
    CoQueue room; /* the reader waits for a request's end */
    bool sending;
    CoQueue senders;
};

/* A request in progress. */
typedef struct NbdRequest {
    NbdSession *session;
    uint16_t flags, type;
    uint64_t cookie, offset, length;
    uint64_t contexts; /* BLOCK_STATUS: bits of the context ids */
    bool too_long;     /* its data does not fit in its buffer: it is done in pieces */
    uint8_t *data;
    uint64_t size;     /* of the buffer, as far as it is used */
    uint64_t capacity; /* of the buffer */
} NbdRequest;

/* ---- nbd_server.c ---- */
AioContext *nbd_main(void) ANY_THREAD;
const NbdHost *nbd_host(void **opaque) RUNS_IN_MAIN;
unsigned nbd_server_max_connections(void) RUNS_IN_MAIN; /* 0: no limit */
/* Counts the starts of the server. */
unsigned nbd_server_run(void) RUNS_IN_MAIN;
/* Disconnects. Safe in any state. */
void nbd_session_kill(NbdSession *s) RUNS_IN_MAIN;
void nbd_sessions_kill_of(const NbdExport *e) RUNS_IN_MAIN;
/* The session is ENDED: closes it. */
void nbd_session_free(NbdSession *s) RUNS_IN_MAIN;

/* ---- nbd_export.c ---- */
NbdExport *nbd_export_find(const char *name, size_t length) RUNS_IN_MAIN; /* for clients */
NbdExport *nbd_export_at(unsigned index) RUNS_IN_MAIN;                    /* NULL: none */
/* A client has chosen the export, and has left it. */
void nbd_export_enter(NbdExport *e) RUNS_IN_MAIN;
void nbd_export_leave(NbdExport *e) RUNS_IN_MAIN;
void nbd_exports_remove_all(void) RUNS_IN_MAIN;
/* Returns when the exports of the server's runs up to @run are gone. */
void nbd_exports_co_settle(unsigned run) coroutine_fn RUNS_IN_MAIN;
/* What a client of @s sees. */
uint16_t nbd_export_flags(const NbdExport *e, const NbdSession *s) RUNS_IN_MAIN;

/* ---- nbd_negotiate.c: main ---- */
/* True: the session goes on in the home of its export. */
bool nbd_session_co_negotiate(NbdSession *s) coroutine_fn RUNS_IN_MAIN;

/* An option that is handled. */
typedef struct NbdOptionCall {
    NbdSession *session;
    uint32_t option, length;
    uint8_t *data; /* the whole option's */
} NbdOptionCall;
/* Replies. 0 or -errno. */
int nbd_option_co_reply(const NbdOptionCall *c, uint32_t type, const struct iovec *iov,
                        unsigned niov) coroutine_fn RUNS_IN_MAIN;
int nbd_option_co_error(const NbdOptionCall *c, uint32_t type, const char *format, ...)
    coroutine_fn RUNS_IN_MAIN __attribute__((format(printf, 3, 4)));

/* Handlers of options. 0: the next option follows; -errno: the connection ends; NBD_NEGOTIATED. */
#define NBD_NEGOTIATED 1
int nbd_option_co_export_name(const NbdOptionCall *c) coroutine_fn RUNS_IN_MAIN;
int nbd_option_co_list(const NbdOptionCall *c) coroutine_fn RUNS_IN_MAIN;
int nbd_option_co_info(const NbdOptionCall *c) coroutine_fn RUNS_IN_MAIN; /* and GO */
int nbd_option_co_meta(const NbdOptionCall *c) coroutine_fn RUNS_IN_MAIN; /* LIST and SET */

/* ---- nbd_session.c: home ---- */
void nbd_session_serve(void *opaque); /* the coroutine */
uint64_t nbd_session_share(void) ANY_THREAD;
void nbd_request_free(NbdRequest *r) RUNS_IN_IOTHREAD;

/* ---- nbd_request.c: home ---- */
/* Whether the request is valid; else the error for the client, and *@why. */
uint32_t nbd_request_check(const NbdRequest *r, const char **why) RUNS_IN_IOTHREAD;
/* Executes the request, whose payload is in its buffer, and replies. 0 or -errno of the socket. */
int nbd_request_co_run(NbdRequest *r) coroutine_fn RUNS_IN_IOTHREAD;
/* A write whose data does not fit in the buffer: reads it from the client in pieces. */
int nbd_request_co_write_pieces(NbdRequest *r) coroutine_fn RUNS_IN_IOTHREAD;

/* ---- nbd_status.c: home ---- */
int nbd_request_co_status(NbdRequest *r) coroutine_fn RUNS_IN_IOTHREAD;

/* ---- nbd_reply.c: home. 0 or -errno of the socket ---- */
/* The request has ended, with @ret: 0 or -errno of the disk. */
int nbd_reply_co_end(const NbdRequest *r, int ret) coroutine_fn RUNS_IN_IOTHREAD;
/* The same with an error of the protocol and a message. */
int nbd_reply_co_error(const NbdRequest *r, uint32_t error, const char *why)
    coroutine_fn RUNS_IN_IOTHREAD;
/* A simple reply to a read. */
int nbd_reply_co_simple(const NbdRequest *r, uint32_t error, const void *data, uint64_t size)
    coroutine_fn RUNS_IN_IOTHREAD;
/* One chunk. */
int nbd_reply_co_chunk(const NbdRequest *r, unsigned flags, unsigned type, const struct iovec *iov,
                       unsigned niov) coroutine_fn RUNS_IN_IOTHREAD;
/* The turn to send. */
void nbd_reply_co_take_turn(NbdSession *s) coroutine_fn RUNS_IN_IOTHREAD;
void nbd_reply_give_turn(NbdSession *s) RUNS_IN_IOTHREAD;

#endif

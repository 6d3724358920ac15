/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Internals of the NBD client, driver=nbd. libnbd speaks the protocol, with its asynchronous calls
 * only, on descriptors that our loops watch.
 *
 *   nbd_client_driver.c      options, the driver's table, opening, closing, reopening, moving
 *   nbd_client_target.c      what a connection is made to
 *   nbd_client_tls.c         its TLS
 *   nbd_client_export.c      what the server says about its export
 *   nbd_client_connect.c     one attempt: resolve, connect, negotiate
 *   nbd_client_reconnect.c   attempts in the background, with pauses
 *   nbd_client_link.c        a connection that carries requests
 *   nbd_client_request.c     requests, and what they do without a connection
 *
 * A connection is made in main, where the sandbox allows it, and handed over to the node's home as a
 * libnbd handle that is ready. From then on only the home uses the handle. When the connection is
 * lost, the home closes the handle and sends main a message. At any time a handle has one owner.
 *
 *                  main: connecting --handle--> home: UP
 *                        ^                         |  lost
 *                        +--------message----------+
 *
 * Invariants
 *   1. A request belongs to one link at most. It returns when its reply has arrived, or it is sent
 *      again over another connection after its own has been closed. So a reply never meets a buffer
 *      that has another owner.
 *   2. Requests wait for a connection for at most reconnect-delay from the moment the last link was
 *      lost. A new connection ends that only when it has brought a reply. The home's own timer ends
 *      the wait; it needs nothing of main.
 *   3. What the node has shown (size, limits, flags) stays true: a server that offers less after a
 *      reconnect is refused.
 */
#ifndef SKIFF_BLOCK_NBD_NBD_CLIENT_INT_H
#define SKIFF_BLOCK_NBD_NBD_CLIENT_INT_H

#include "block/nbd/nbd_library.h"
#include "block/node.h"
#include "util/log.h"
#include "util/socket_address.h"
#include "util/tls.h"

#define NBD_CLIENT_LINKS_MAX 16u
#define NBD_CLIENT_TRANSFER_MAX ((uint64_t)32 << 20)
/* Memory for requests with scattered buffers; libnbd needs one buffer. */
#define NBD_CLIENT_BOUNCE_MAX ((uint64_t)64 << 20)
#define NBD_CLIENT_PAUSE_MAX_S 16 /* between attempts */
#define NBD_CLIENT_ATTEMPT_S 30   /* the time that an attempt in the background may take */
#define NBD_CLIENT_SECOND INT64_C(1000000000)

typedef enum NbdServerType { NBD_SERVER_INET, NBD_SERVER_UNIX, NBD_SERVER_FD } NbdServerType;
typedef enum NbdTernary { NBD_AUTO, NBD_OFF, NBD_ON } NbdTernary;

/* Bound to the options of the node. */
typedef struct NbdClientOptions {
    int type;
    char *path, *host, *port, *fd;
    bool abstract, tight, numeric, keep_alive;
    int ipv4, ipv6;                       /* NbdTernary */
    char *old_path, *old_host, *old_port; /* QEMU's older names of three options of the server */
    char *export;
    char *tls_creds, *tls_hostname;
    char *context; /* x-dirty-bitmap */
    uint32_t reconnect_delay_s, open_timeout_s;
    uint32_t links; /* multi-conn */
} NbdClientOptions;

/* What a connection is made to. Immutable; reference-counted in main. */
typedef struct NbdTarget {
    unsigned refs;
    SocketAddressOptions server; /* owned strings */
    bool keep_alive;
    TlsCreds *tls; /* owned reference; NULL: no TLS */
    char *tls_dir; /* absolute: the process may change its directory; NULL: no TLS */
    char *tls_hostname;
    char *export;
    char *context;   /* x-dirty-bitmap; NULL: base:allocation */
    char *node_name; /* for messages */
    char *name;      /* as a file name */
} NbdTarget;

/* What a server says about its export. Bytes; 0: it does not say. */
typedef struct NbdClientExport {
    uint64_t size;
    uint32_t min_block, preferred_block, max_block;
    bool read_only, flush, fua, trim, zero, multi_conn;
    bool status; /* it has the context that was asked for */
} NbdClientExport;

typedef struct NbdClient NbdClient;
typedef struct NbdLink NbdLink;

/* ---- requests ---- */

typedef enum NbdOp {
    NBD_OP_READ,
    NBD_OP_WRITE,
    NBD_OP_FLUSH,
    NBD_OP_TRIM,
    NBD_OP_ZERO,
    NBD_OP_STATUS,
} NbdOp;

/* In place of an errno: the connection was lost before the reply. */
#define NBD_LOST INT_MIN

/* One request, on the stack of its coroutine. */
typedef struct NbdClientCommand {
    NbdOp op;
    uint64_t offset, bytes;
    void *buffer;
    uint32_t flags; /* LIBNBD_CMD_FLAG_* */

    /* the reply */
    int ret; /* 0, -errno or NBD_LOST */
    uint32_t status_bytes, status_flags;

    NbdLink *link;
    struct NbdClientCommand *next, **back; /* in flight on the link */
    CoToken token;
} NbdClientCommand;

/* ---- a connection ---- */

typedef struct NbdConnector NbdConnector;

struct NbdLink {
    NbdClient *client;

    /* home */
    struct nbd_handle *handle; /* NULL: down */
    int fd;                    /* of the handle, borrowed */
    AioHandler *handler;
    bool reads, writes; /* what the handler watches */
    NbdClientCommand *commands;
    unsigned in_flight;
    uint64_t replies; /* of this connection */

    /* from home to main */
    AioBh lost;
    bool lost_in_use; /* the lost connection had brought replies */

    /* main */
    NbdConnector *connector; /* attempts in the background; NULL: none */
    bool lost_again;         /* the connection that the connector delivers is lost already */
    unsigned failures;       /* attempts since the last connection that brought a reply */
};

struct NbdClient {
    /* links */
    const BlockNode *node;
    AioContext *main;
    AioContext *home; /* main changes it while nothing uses it there */

    /* config */
    NbdTarget *target;
    NbdClientExport export; /* as the first connection had it */
    uint32_t reconnect_delay_s;
    unsigned link_count;
    bool reconnects; /* the server can be reached again */

    /* home */
    NbdLink links[NBD_CLIENT_LINKS_MAX];
    unsigned up;     /* links with a handle */
    CoQueue waiting; /* requests that wait for a connection */
    bool given_up;   /* reconnect-delay is over; true until a new connection brings a reply */
    AioTimer delay;
    int64_t delay_left_ns; /* while moving; 0: the timer is not armed */
    uint64_t bounced;
    CoQueue bounce_waiters;

    /* main */
    bool moving, closing;
    unsigned delivering; /* handles on their way to the home */
    CoQueue settled;     /* waits for delivering or moving to end, or for connectors */
    LogLimit limit;
};

/* ---- nbd_client_target.c ---- */
/* Replaces the older names of options by the present ones. False + error: both are given. */
bool nbd_client_take_old_names(NbdClientOptions *o, GError **error) ANY_THREAD;
/* Checks the options. NULL + error. */
NbdTarget *nbd_target_new(const NbdClientOptions *o, const char *node_name, GError **error)
    RUNS_IN_MAIN;
NbdTarget *nbd_target_ref(NbdTarget *t) RUNS_IN_MAIN;
void nbd_target_unref(NbdTarget *t) RUNS_IN_MAIN;

/* ---- nbd_client_tls.c ---- */
/* Returns a reference to the credentials that tls-creds names. NULL + error: there are none, or they
 * do not suit the server's address. */
TlsCreds *nbd_client_tls_find(const NbdClientOptions *o, GError **error) RUNS_IN_MAIN;
/* Whether libnbd has to make the connection itself, to know the server's name. */
bool nbd_client_tls_connects(const NbdTarget *t) ANY_THREAD;
/* False: see nbd_get_error(). */
bool nbd_client_tls_configure(const NbdTarget *t, struct nbd_handle *h) ANY_THREAD;

/* ---- nbd_client_export.c ---- */
/* Reads what the server has said during the negotiation. False: see nbd_get_error(). */
bool nbd_client_export_read(NbdClientExport *e, struct nbd_handle *h, const char *context)
    ANY_THREAD;
/* Sets size, limits and capabilities of the node. False + error: skiff cannot use such an export. */
bool nbd_client_export_set_up(const NbdClientExport *e, BlockNode *n, GError **error) RUNS_IN_MAIN;
/* What @now lacks that @then had, for a message; NULL: nothing. */
const char *nbd_client_export_find_loss(const NbdClientExport *then, const NbdClientExport *now)
    ANY_THREAD;

/* ---- nbd_client_connect.c ---- */
/* An attempt, or several one after the other, of one coroutine in main. */
struct NbdConnector {
    NbdTarget *target; /* owned reference */
    NbdLink *link;     /* NULL while the node is opened */
    AioContext *ctx;   /* main's */
    bool cancelled;
    bool timed_out;
    AioTimer timer;
    SocketConnect socket;
    CoToken waiter;
    bool waiting, readable, writable;
    char *failure; /* libnbd's message of a call in a worker */
};
void nbd_connector_init(NbdConnector *c, NbdTarget *target, AioContext *main_ctx) RUNS_IN_MAIN;
void nbd_connector_clear(NbdConnector *c) RUNS_IN_MAIN;
/* The wait that is under way ends, and all further ones fail. */
void nbd_connector_cancel(NbdConnector *c) RUNS_IN_MAIN;
/* From now until the deadline waits succeed; INT64_MAX: without limit. */
void nbd_connector_set_deadline(NbdConnector *c, int64_t deadline_ns) RUNS_IN_MAIN;
/* Returns when the deadline has come, or after a cancel. */
void nbd_connector_co_sleep(NbdConnector *c) coroutine_fn RUNS_IN_MAIN;
/* Connects and negotiates. Returns a handle that is ready, and fills @export; NULL + error. */
struct nbd_handle *nbd_connector_co_connect(NbdConnector *c, NbdClientExport *export,
                                            GError **error) coroutine_fn RUNS_IN_MAIN;

/* ---- nbd_client_reconnect.c ---- */
/* Begins attempts for a link that is down, unless they are under way or the client is closing. */
void nbd_client_reconnect(NbdLink *l) RUNS_IN_MAIN;
/* Ends all attempts; afterwards no handle arrives any more. */
void nbd_client_co_stop_reconnecting(NbdClient *c) coroutine_fn RUNS_IN_MAIN;
/* Until nbd_client_resume_arrivals() no handle arrives at the home. */
void nbd_client_co_hold_arrivals(NbdClient *c) coroutine_fn RUNS_IN_MAIN;
void nbd_client_resume_arrivals(NbdClient *c) RUNS_IN_MAIN;
/* Hands a handle over to the home of the link. */
void nbd_client_co_deliver(NbdLink *l, struct nbd_handle *handle) coroutine_fn RUNS_IN_MAIN;

/* ---- nbd_client_link.c ---- */
void nbd_links_init(NbdClient *c) RUNS_IN_MAIN;
/* The link is up. Takes @handle. */
void nbd_link_attach(NbdLink *l, struct nbd_handle *handle) RUNS_IN_IOTHREAD;
/* Removes what the links have in the home's loop, and puts it into the loop of another home. With
 * nothing in flight. */
void nbd_links_leave(NbdClient *c) RUNS_IN_IOTHREAD;
void nbd_links_enter(NbdClient *c) RUNS_IN_IOTHREAD;
/* Says good-bye to the server and closes all links. With nothing in flight. */
void nbd_links_close(NbdClient *c) RUNS_IN_IOTHREAD;
/* Sends @cmd and waits for its reply. 0, -errno or NBD_LOST. */
int nbd_link_co_command(NbdLink *l, NbdClientCommand *cmd) coroutine_fn RUNS_IN_IOTHREAD;

/* ---- nbd_client_request.c: BlockDriver's functions ---- */
int nbd_client_co_preadv(BlockNode *n, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                         unsigned niov) coroutine_fn RUNS_IN_IOTHREAD;
int nbd_client_co_pwritev(BlockNode *n, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                          unsigned niov, unsigned flags) coroutine_fn RUNS_IN_IOTHREAD;
int nbd_client_co_flush(BlockNode *n) coroutine_fn RUNS_IN_IOTHREAD;
int nbd_client_co_discard(BlockNode *n, uint64_t offset, uint64_t bytes)
    coroutine_fn RUNS_IN_IOTHREAD;
int nbd_client_co_write_zeroes(BlockNode *n, uint64_t offset, uint64_t bytes, unsigned flags)
    coroutine_fn RUNS_IN_IOTHREAD;
int nbd_client_co_block_status(BlockNode *n, uint64_t offset, uint64_t bytes, bool precise,
                               BlockStatus *status) coroutine_fn RUNS_IN_IOTHREAD;

/* The client of a node of this driver. */
NbdClient *nbd_client_of(const BlockNode *n) ANY_THREAD;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The NBD server: exports block nodes to clients of the network block device protocol. A process has
 * at most one server, with any number of exports and clients. The sockets listen in main; a client's
 * requests run in the home of the export that it has chosen.
 *
 * An export is a user of its node, like a device: it has a backend, its requests stop in drained
 * sections, and its node cannot be deleted. Clients that do not read their replies, or whose requests
 * hang, keep nothing from others: each one has its own share of memory and requests.
 */
#ifndef SKIFF_BLOCK_NBD_NBD_H
#define SKIFF_BLOCK_NBD_NBD_H

#include "block/dirty_bitmap.h"
#include "util/socket_address.h"
#include "util/tls.h"

#define NBD_ERROR nbd_error_quark()
GQuark nbd_error_quark(void);
enum {
    NBD_ERROR_SERVER, /* it runs already, or does not run */
    NBD_ERROR_EXPORT, /* unknown, in use, or its description is invalid */
};

#define NBD_CONNECTIONS_DEFAULT 100u
#define NBD_HANDSHAKE_SECONDS_DEFAULT 10u
#define NBD_EXPORT_BITMAPS_MAX 32u

/* The environment. All may be NULL. */
typedef struct NbdHost {
    /* The VM operation lock: coroutines in main. An export is freed under it. */
    void (*co_operation_begin)(void *opaque);
    void (*co_operation_end)(void *opaque);
    /* In main; must not yield. */
    void (*export_deleted)(void *opaque, const char *id);
    /* A client has left, which had chosen an export (@served) or not; @remaining are connected. In
     * main; must not yield. */
    void (*client_left)(void *opaque, unsigned remaining, bool served);
} NbdHost;

/* Loads libnbd, which driver=nbd does when its first node is opened, before a sandbox forbids that. */
bool nbd_client_load_library(GError **error) ANY_THREAD;

/* Called before any other function. @host and @opaque are borrowed for as long as the server is
 * used. */
void nbd_init(AioContext *main_ctx, const NbdHost *host, void *opaque) RUNS_IN_MAIN;

typedef struct NbdServerConfig {
    const SocketAddressOptions *address;
    TlsCreds *tls;            /* clients have to use TLS; NULL: they cannot. Borrowed */
    unsigned max_connections; /* 0: no limit */
    uint64_t handshake_ns;    /* how long a client may negotiate; 0: no limit */
} NbdServerConfig;

/* ---- the server (main) ---- */
/* Listens. False + @error: it cannot, or the server runs already. */
bool nbd_server_co_start(const NbdServerConfig *config, GError **error) coroutine_fn RUNS_IN_MAIN;
bool nbd_server_running(void) RUNS_IN_MAIN;
/* "unix:/tmp/s,server=on": where it listens, to be freed. NULL: it does not run. */
char *nbd_server_address(void) RUNS_IN_MAIN;
/* Stops listening, disconnects all clients and removes all exports. Returns when they are gone, which
 * a request that hangs delays; other operations can run meanwhile. False + @error: it does not run. */
bool nbd_server_co_stop(GError **error) coroutine_fn RUNS_IN_MAIN;
/* The same for the end of the process, whether or not the server runs. The caller bounds the wait. */
void nbd_co_shutdown(void) coroutine_fn RUNS_IN_MAIN;
/* Clients that negotiate or are served. */
unsigned nbd_client_count(void) RUNS_IN_MAIN;

/* ---- exports (main) ---- */
typedef struct NbdExportBitmap {
    const char *node; /* NULL: of the exported node, or of one that it shows */
    const char *name;
} NbdExportBitmap;

typedef struct NbdExportConfig {
    const char *id;          /* unique */
    const char *name;        /* for clients; unique; may be empty */
    const char *description; /* NULL: none */
    BlockNode *node;
    bool writable;
    bool writethrough;     /* each write has FUA */
    bool allocation_depth; /* clients can ask for it */
    const NbdExportBitmap *bitmaps;
    unsigned bitmap_count;
} NbdExportConfig;

/* Adds an export; the server runs. Under the operation lock. False + @error: nothing has changed. */
bool nbd_export_co_add(const NbdExportConfig *config, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Begins to remove an export: it accepts no client any more. Its end is announced by
 * NbdHost.export_deleted. False + @error: there is none, it is being removed, or, unless @hard, it
 * has clients. @hard: disconnects them. */
bool nbd_export_remove(const char *id, bool hard, GError **error) RUNS_IN_MAIN;

typedef struct NbdExportInfo {
    const char *id, *node; /* borrowed */
    bool removing;
} NbdExportInfo;
/* The exports in the order of their creation. False: there is none with that index. */
bool nbd_export_info(unsigned index, NbdExportInfo *info) RUNS_IN_MAIN;

#endif

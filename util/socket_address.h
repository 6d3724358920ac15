/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses of socket chardevs: resolving, listening, connecting. For hw/chardev. */
#ifndef SKIFF_UTIL_SOCKET_ADDRESS_H
#define SKIFF_UTIL_SOCKET_ADDRESS_H

#include <glib.h>
#include <stdbool.h>
#include <sys/socket.h>
#include "util/loop/coroutine.h"
#include "util/owned_path.h"

#define SOCKET_ADDRESS_MAX 8

/* As the user wrote it; the strings belong to the option table. */
typedef struct SocketAddressOptions {
    char *path;
    bool abstract;
    char *host, *port;
    bool ipv4, ipv6;
    char *fd;
} SocketAddressOptions;

/* The resolved addresses, tried in order. */
typedef struct SocketAddresses {
    struct {
        struct sockaddr_storage address;
        socklen_t length;
    } list[SOCKET_ADDRESS_MAX];
    unsigned count;
    int given_fd; /* -1: none */
    bool server;
    char *name;      /* "tcp:host:port" */
    char *path;      /* of a UNIX socket, as the user wrote it; NULL: none, or abstract */
    OwnedPath bound; /* the socket that socket_listen() created */
} SocketAddresses;

/* A connection attempt that can be cancelled. Zero-initialized, except @ctx. */
typedef struct SocketConnect {
    AioContext *ctx;
    AioHandler *handler;
    CoToken waiter;
    bool waiting, cancelled;
} SocketConnect;

/* Resolves names in a worker. Sets @addresses also on failure: clear it in both cases. */
bool socket_co_resolve(const SocketAddressOptions *options, bool server, SocketAddresses *addresses,
                       GError **error) coroutine_fn RUNS_IN_MAIN;
void socket_addresses_clear(SocketAddresses *addresses) ANY_THREAD;
/* Returns a listening socket (not blocking) or -1. Replaces a UNIX socket left by a dead process,
 * but not one that a process has open; the check does not disturb that process. */
int socket_listen(SocketAddresses *addresses, GError **error) RUNS_IN_MAIN;
/* Removes the UNIX socket that socket_listen() created, also after a change of directory. A socket
 * that another process has put there stays. Async-signal-safe. */
void socket_unlink(const SocketAddresses *addresses) ANY_THREAD;
/* "tcp:127.0.0.1:4444,server=on" of a listening socket. Owned by the caller. */
char *socket_listen_name(int fd, const SocketAddresses *addresses) RUNS_IN_MAIN;
/* Returns a connected socket (not blocking) or -1. */
int socket_co_connect(const SocketAddresses *addresses, SocketConnect *connect, GError **error)
    coroutine_fn RUNS_IN_MAIN;
void socket_connect_cancel(SocketConnect *connect) RUNS_IN_MAIN;

#endif

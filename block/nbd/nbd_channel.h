/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of a client's socket, with or without TLS. One coroutine reads and one writes at a time,
 * both in the context that the channel is attached to.
 */
#ifndef SKIFF_BLOCK_NBD_NBD_CHANNEL_H
#define SKIFF_BLOCK_NBD_NBD_CHANNEL_H

#include <sys/uio.h>
#include "util/loop/coroutine.h"
#include "util/tls.h"

#define NBD_CHANNEL_BUFFER 4096u

typedef struct NbdChannelWait {
    bool waiting;
    CoToken token;
} NbdChannelWait;

typedef struct NbdChannel {
    int fd; /* owned; not blocking */
    AioContext *ctx;
    AioHandler *handler;
    TlsSession *tls; /* NULL: plain */
    NbdChannelWait reader, writer;
    bool reader_needs_write; /* TLS has to write before it can read on */
    bool read_watched, write_watched;
    unsigned at, end; /* of what is in the buffer */
    uint8_t buffer[NBD_CHANNEL_BUFFER];
} NbdChannel;

void nbd_channel_init(NbdChannel *c, int fd) ANY_THREAD;
/* Nobody waits when a channel is attached or detached. */
void nbd_channel_attach(NbdChannel *c, AioContext *ctx) RUNS_IN_LOOP;
void nbd_channel_detach(NbdChannel *c) RUNS_IN_LOOP;
/* Closes the socket. */
void nbd_channel_clear(NbdChannel *c) RUNS_IN_LOOP;

/* Reads @size bytes. 1: they are there; 0: the input has ended before the first one; -errno. */
int nbd_channel_co_read(NbdChannel *c, void *data, size_t size) coroutine_fn RUNS_IN_LOOP;
/* Reads and drops @size bytes. The same results. */
int nbd_channel_co_skip(NbdChannel *c, uint64_t size) coroutine_fn RUNS_IN_LOOP;
/* Writes everything. @iov is changed. 0 or -errno. */
int nbd_channel_co_write(NbdChannel *c, struct iovec *iov, unsigned niov) coroutine_fn RUNS_IN_LOOP;
/* Whether bytes were received that nobody has read. */
bool nbd_channel_has_input(const NbdChannel *c) ANY_THREAD;
/* Begins TLS as a server. 0 or -errno with @error. */
int nbd_channel_co_start_tls(NbdChannel *c, TlsCreds *creds, GError **error)
    coroutine_fn RUNS_IN_LOOP;

#endif

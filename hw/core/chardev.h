/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Character backends as devices see them. hw/chardev implements stdio, file, pty, socket, null and
 * mux; tests implement a buffer.
 *
 * Output never blocks the caller: it goes into the chardev's ring, which main writes out. A full
 * ring takes nothing; `writable` is called when there is room again. Input is delivered in main, at
 * most as much as the frontend has room for. All input from a peer is delivered before
 * CHARDEV_CLOSED, even if the peer has already disconnected.
 */
#ifndef SKIFF_HW_CORE_CHARDEV_H
#define SKIFF_HW_CORE_CHARDEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "util/loop/thread.h"

typedef struct Chardev Chardev;

typedef enum ChardevEvent {
    CHARDEV_OPENED, /* a peer is connected (pty opened, socket connected) */
    CHARDEV_CLOSED,
    CHARDEV_BREAK,     /* line break (Ctrl-A b) */
    CHARDEV_FOCUSED,   /* mux: this frontend now receives the input */
    CHARDEV_UNFOCUSED, /* mux: another frontend now receives the input */
} ChardevEvent;

/* All are called in main, with no lock held. */
typedef struct ChardevFrontendOps {
    size_t (*can_receive)(void *opaque); /* bytes it can take now */
    void (*receive)(void *opaque, const uint8_t *data, size_t size);
    void (*event)(void *opaque, ChardevEvent event);
    void (*writable)(void *opaque); /* there is room again after a short write */
    /* Whether answers to received input are still to come. A peer that has shut down its sending
     * side stays connected until this is false; chardev_accept_input() makes the chardev call it
     * again. Input received before CHARDEV_CLOSED is still processed after it. NULL means false. */
    bool (*is_answering)(void *opaque);
} ChardevFrontendOps;

/* What a backend implements; the struct is embedded first in the implementation's own. */
typedef struct ChardevOps {
    /* Any thread. Takes what fits, with @reserved also into the reserve. */
    size_t (*write)(Chardev *c, const uint8_t *data, size_t size, bool reserved);
    void (*attach)(Chardev *c);       /* main: a frontend was attached, or detached (c->frontend is
                                       * NULL) */
    void (*accept_input)(Chardev *c); /* any thread: the frontend has room again */
    bool (*connected)(const Chardev *c); /* any thread */
    int (*take_fd)(Chardev *c);          /* main, within receive(); NULL: no descriptor passing */
    /* Main: for frontends that make all transfers themselves; NULL: it is no socket. */
    bool (*is_socket)(const Chardev *c);
    int (*socket_fd)(const Chardev *c);
    void (*disconnect)(Chardev *c);
} ChardevOps;

struct Chardev {
    const ChardevOps *ops;
    char *id;
    const ChardevFrontendOps *frontend; /* main */
    void *frontend_opaque;
};

/* A NULL @c is a null device: it takes all output and gives no input. */
/* Returns the number of bytes taken. After a short write `writable` is called once there is room.
 * The caller may hold the BQL or an iothread's locks, but no lock of rank RANK_QUEUE or above. */
size_t chardev_write(Chardev *c, const uint8_t *data, size_t size) ANY_THREAD;
/* The same, and may use a reserve of some KiB: for output that a vCPU must hand over before it
 * stops, whether the peer reads or not (IoAccess.must_retire). */
size_t chardev_write_reserved(Chardev *c, const uint8_t *data, size_t size) ANY_THREAD;
void chardev_accept_input(Chardev *c) ANY_THREAD;
bool chardev_connected(const Chardev *c) ANY_THREAD;
/* Returns the next descriptor that the peer passed with the bytes being received (SCM_RIGHTS), or
 * -1. The caller owns it. Only within receive(); descriptors not taken there are closed. */
int chardev_take_fd(Chardev *c) RUNS_IN_MAIN;
/* Whether @c is a socket, of which its frontend can make all transfers itself: one without `receive`, which
 * never writes through the chardev. The chardev then connects, listens, and reports the connection. */
bool chardev_is_socket(const Chardev *c) RUNS_IN_MAIN;
/* The connected socket, borrowed until CHARDEV_CLOSED; -1: there is no connection. */
int chardev_socket_fd(const Chardev *c) RUNS_IN_MAIN;
/* Ends the connection as if the peer had left: CHARDEV_CLOSED follows at once, and later the next peer.
 * Does nothing without a connection. */
void chardev_disconnect(Chardev *c) RUNS_IN_MAIN;
/* Attaches @ops; NULL detaches. A Chardev has one frontend at a time (a mux hands out several
 * Chardevs). If a peer is already connected, CHARDEV_OPENED follows in a later turn of the loop.
 * Any member of @ops may be NULL. @ops is borrowed until detached. */
void chardev_attach(Chardev *c, const ChardevFrontendOps *ops, void *opaque) RUNS_IN_MAIN;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Character backends as devices see them. hw/chardev implements stdio, file, pty, socket, null,
 * mux; tests a buffer.
 *
 * Output never blocks the caller: it goes into the chardev's ring, which main writes out. A full
 * ring takes nothing; `writable` is called when there is room again. Input is delivered in main, no
 * more than the frontend has room for. All that a peer has sent is delivered before
 * CHARDEV_CLOSED, also when it has left meanwhile.
 */
#ifndef SKIFF_HW_CORE_CHARDEV_H
#define SKIFF_HW_CORE_CHARDEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "util/loop/thread.h"

typedef struct Chardev Chardev;

typedef enum ChardevEvent {
    CHARDEV_OPENED, /* a peer is there (pty opened, socket connected) */
    CHARDEV_CLOSED,
    CHARDEV_BREAK,     /* line break (Ctrl-A b) */
    CHARDEV_FOCUSED,   /* mux: input comes here from now on */
    CHARDEV_UNFOCUSED, /* mux: input goes elsewhere */
} ChardevEvent;

/* All called in main, with no lock held. */
typedef struct ChardevFrontendOps {
    size_t (*can_receive)(void *opaque); /* bytes it can take now */
    void (*receive)(void *opaque, const uint8_t *data, size_t size);
    void (*event)(void *opaque, ChardevEvent event);
    void (*writable)(void *opaque); /* there is room again after a short write */
    /* Whether answers to input it has taken are still to come. A peer that has ended its side of the
     * connection is kept until this is false; chardev_accept_input() has it asked again. After
     * CHARDEV_CLOSED what was taken is carried out all the same. NULL: no. */
    bool (*is_answering)(void *opaque);
} ChardevFrontendOps;

/* What a backend implements; the struct is embedded first in the implementation's own. */
typedef struct ChardevOps {
    size_t (*write)(Chardev *c, const uint8_t *data, size_t size); /* any thread; takes what fits */
    void (*attach)(Chardev *c);       /* main: a frontend has come (or gone: c->frontend is NULL) */
    void (*accept_input)(Chardev *c); /* any thread: the frontend has room again */
    bool (*connected)(const Chardev *c); /* any thread */
    int (*take_fd)(Chardev *c);          /* main, within receive(); NULL: passes none */
} ChardevOps;

struct Chardev {
    const ChardevOps *ops;
    char *id;
    const ChardevFrontendOps *frontend; /* main */
    void *frontend_opaque;
};

/* NULL @c is a null device: takes everything, never gives anything. */
/* Returns how much was taken; after a short write `writable` is called once there is room. May be
 * called with the BQL or an iothread's things held, not with a lock of rank RANK_QUEUE or above. */
size_t chardev_write(Chardev *c, const uint8_t *data, size_t size) ANY_THREAD;
void chardev_accept_input(Chardev *c) ANY_THREAD;
bool chardev_connected(const Chardev *c) ANY_THREAD;
/* A descriptor that the peer has passed along with the bytes being received (SCM_RIGHTS): the next
 * of them, the caller's from now on; -1: no more. Only within receive(): what is not taken there is
 * closed. */
int chardev_take_fd(Chardev *c) RUNS_IN_MAIN;
/* One frontend at a time (mux hands out several Chardevs). NULL @ops detaches. When somebody is
 * connected already, CHARDEV_OPENED follows in a later turn of the loop. Any member of @ops may be
 * NULL. @ops is borrowed until detached. */
void chardev_attach(Chardev *c, const ChardevFrontendOps *ops, void *opaque) RUNS_IN_MAIN;

#endif

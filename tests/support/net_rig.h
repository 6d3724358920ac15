/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A NIC for tests of back ends whose peers are real: sockets, libslirp. The test's thread is main, the
 * NIC's home is an iothread. It keeps to the contract of hw/net/net.h and keeps what it receives.
 */
#ifndef SKIFF_TESTS_SUPPORT_NET_RIG_H
#define SKIFF_TESTS_SUPPORT_NET_RIG_H

#include "hw/net/net.h"
#include "tests/support/virtio_guest.h"

typedef struct NetRig {
    VirtioBench *bench;
    NetClient client;
    IoThread *home_thread; /* the client's home is in it; owned */
    bool attached, started;
    /* home, or a step there */
    GQueue received;           /* GBytes, without their NetHeader */
    _Atomic unsigned writable; /* the test reads it */
    unsigned links;            /* main */
    unsigned budget;           /* frames it takes in each turn */
} NetRig;

NetRig *net_rig_new(const NetType *const *types);
void net_rig_free(NetRig *r);

/* Adds a back end, "stream,id=n,...". NULL, or the error's text (to be freed). */
char *net_rig_try_add(NetRig *r, const char *options);
/* The same; it must succeed. */
void net_rig_add(NetRig *r, const char *options);
/* It must fail with a text that has @why. */
void net_rig_refused(NetRig *r, const char *options, const char *why);
void net_rig_remove(NetRig *r, const char *id);
/* The NIC moves to where the back end @id wants it, and stays there. Before net_rig_attach(). */
void net_rig_move_near(NetRig *r, const char *id);
/* Connects the NIC and starts its queue; it watches. */
void net_rig_attach(NetRig *r, const char *id);
void net_rig_start(NetRig *r);
void net_rig_stop(NetRig *r);
void net_rig_watch(NetRig *r, bool on);

/* Sends a frame without offloads; what net_client_send() returns. */
ssize_t net_rig_send(NetRig *r, const void *frame, size_t bytes);
/* The oldest frame that was received and not taken; waits for it. */
GBytes *net_rig_receive(NetRig *r);
/* The same without waiting: NULL. */
GBytes *net_rig_take(NetRig *r);
/* Runs both loops until @fn(@opaque) is true; a test that waits for a minute fails. */
void net_rig_wait(NetRig *r, bool (*fn)(void *opaque), void *opaque, const char *what);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network back end that the test is the peer of: -netdev fake,id=ID[,queues=N][,offloads=on]. It is no
 * kinder than the kernel: it checks the contract of hw/net/net.h at each call, takes a frame whole or not
 * at all, and is full, slow or in error when the test says so. Its functions may be called from the test's
 * thread at any time.
 */
#ifndef SKIFF_TESTS_SUPPORT_FAKE_NET_H
#define SKIFF_TESTS_SUPPORT_FAKE_NET_H

#include <pthread.h>
#include "hw/net/net.h"

#define FAKE_NET_QUEUE_MAX 256 /* frames of a queue in each direction; further ones are dropped */

typedef struct FakeNet FakeNet;

typedef struct FakeNetQueue {
    FakeNet *net;
    AioContext *home; /* NULL: not started */
    AioBh bh;         /* home: there is a frame, or room */
    bool watched;
    bool was_full;           /* the client waits for room */
    bool inside;             /* a call to the client is in progress: it may not stop the queue */
    GQueue *incoming, *sent; /* GBytes, each with its NetHeader */
    unsigned starts;
    unsigned sent_count, sent_before; /* frames; sent_before: when one was received last */
} FakeNetQueue;

struct FakeNet {
    NetBackend base;
    /* config */
    uint32_t wanted_queues;
    bool offloads;
    /* runtime: lock */
    pthread_mutex_t lock;
    FakeNetQueue queues[NET_MAX_QUEUES];
    bool full;      /* takes no frame */
    int send_error; /* errno of each send; 0: none */
    unsigned receive_calls;
    NetConfig applied;
    unsigned applies;
    unsigned refusals;   /* so many calls of co_configure will fail */
    bool hold_configure; /* co_configure waits for fake_net_release_configure() */
    bool configuring;
    CoToken held;
};

/* The list for net_setup(): the fake back end only. */
extern const NetType *const fake_net_types[];

/* The back end with this id, which exists. */
FakeNet *fake_net_find(const char *id);
/* A frame arrives at queue @queue; @header NULL: zeroes. False: it was dropped. */
bool fake_net_push(FakeNet *f, unsigned queue, const NetHeader *header, const void *frame,
                   size_t bytes);
/* The oldest frame that was sent on @queue and not taken yet, with its header; NULL: none. */
GBytes *fake_net_take(FakeNet *f, unsigned queue);
/* Drops all frames that wait, in both directions. */
void fake_net_clear(FakeNet *f);
unsigned fake_net_waiting(FakeNet *f, unsigned queue); /* frames that the client has not received */
/* From now on it takes no frame, or takes them again. */
void fake_net_set_full(FakeNet *f, bool full);
void fake_net_set_send_error(FakeNet *f, int error);
void fake_net_hold_configure(FakeNet *f, bool hold);
/* The next @times configurations are refused. */
void fake_net_refuse_configure(FakeNet *f, unsigned times);

#endif

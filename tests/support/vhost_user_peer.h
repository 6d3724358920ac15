/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vhost-user back end for tests, in the loop of main: it reads a message and answers it in one turn.
 * No kinder than a real one: it answers nothing that has no reply, maps guest memory by the descriptors
 * it gets, and closes what replaces a descriptor. A test makes it mute, refuse or lie.
 *
 * Its rings fill device-writable descriptors with PEER_MARK (vhost_user_peer_serve()).
 */
#ifndef SKIFF_TESTS_SUPPORT_VHOST_USER_PEER_H
#define SKIFF_TESTS_SUPPORT_VHOST_USER_PEER_H

#include "hw/vhost/vhost_user_wire.h"
#include "tests/support/fake_chardev.h"

#define PEER_RINGS 8
#define PEER_MARK 'P'
#define PEER_FEATURES (1ull << 32 | 1ull << 26 | VHOST_USER_F_PROTOCOL_FEATURES)
#define PEER_PROTOCOL                                                                              \
    (1ull << VHOST_USER_PROTOCOL_F_MQ | 1ull << VHOST_USER_PROTOCOL_F_LOG_SHMFD |                  \
     1ull << VHOST_USER_PROTOCOL_F_REPLY_ACK | 1ull << VHOST_USER_PROTOCOL_F_BACKEND_REQ |         \
     1ull << VHOST_USER_PROTOCOL_F_CONFIG)

typedef struct PeerRing {
    uint32_t num, base;
    VhostUserVringAddress address;
    int kick, call, err; /* -1: none */
    bool started;        /* from its kick descriptor to GET_VRING_BASE */
    bool enabled;
} PeerRing;

typedef struct VhostUserPeer VhostUserPeer;
struct VhostUserPeer {
    /* set by the test */
    uint64_t features, protocol, units;
    uint8_t config[VHOST_USER_MAX_CONFIG];
    uint32_t mute;   /* this type is not answered, nor anything after it */
    uint32_t refuse; /* REPLY_ACK of this type is 1; GET_CONFIG is empty */
    /* Changes each reply before it is sent; may be NULL. */
    void (*lie)(VhostUserPeer *p, VhostUserMessage *reply);
    void *opaque;
    /* the connection */
    FakeChardev *chardev;
    AioContext *ctx;
    int fd; /* -1: none */
    AioHandler *handler;
    VhostUserReader reader;
    bool is_mute;
    /* what it knows */
    uint64_t acked_features, acked_protocol;
    PeerRing rings[PEER_RINGS];
    VhostUserMemory memory;
    uint8_t *maps[VHOST_USER_MAX_REGIONS];
    int channel, log_fd, inflight_fd; /* -1: none */
    VhostUserInflight inflight;       /* of the last SET_INFLIGHT_FD */
    GArray *requests;                 /* uint32_t: the types it has received */
    unsigned lost;                    /* connections that the front end has ended */
};

/* Not connected, with PEER_FEATURES, PEER_PROTOCOL and PEER_RINGS units. */
VhostUserPeer *vhost_user_peer_new(FakeChardev *chardev);
void vhost_user_peer_free(VhostUserPeer *p);
void vhost_user_peer_connect(VhostUserPeer *p);
/* As a process that is killed: closes all it has. */
void vhost_user_peer_kill(VhostUserPeer *p);
/* How often it has received type @request. */
unsigned vhost_user_peer_count(const VhostUserPeer *p, uint32_t request);
/* Completes what is available in ring @index, if it serves the ring; returns how many chains. */
unsigned vhost_user_peer_serve(VhostUserPeer *p, unsigned index);
/* Sends a message of the back end on its channel, which the front end may have closed. */
void vhost_user_peer_send(VhostUserPeer *p, uint32_t request, bool need_reply);

#endif

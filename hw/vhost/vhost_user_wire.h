/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of the vhost-user protocol (QEMU docs/interop/vhost-user.rst), over a UNIX stream socket.
 *
 *   +-------------+-----------------------------------+----------+-----------------+
 *   | request u32 | flags u32: version 1, bit 2 reply, | size u32 | payload         |
 *   |             | bit 3 needs a reply                |          | of `size` bytes |
 *   +-------------+-----------------------------------+----------+-----------------+
 *
 * Numbers are in the host's byte order. Descriptors come with the first bytes of a message
 * (SCM_RIGHTS). The peer is a process that may be faulty or hostile: what it sends is bounded and
 * checked here, and each descriptor it passes is closed or has an owner.
 *
 * The functions keep no state. None of them blocks, if the socket does not.
 */
#ifndef SKIFF_HW_VHOST_VHOST_USER_WIRE_H
#define SKIFF_HW_VHOST_VHOST_USER_WIRE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include "util/loop/thread.h"

#define VHOST_USER_MAX_FDS 8     /* in one message */
#define VHOST_USER_MAX_REGIONS 8 /* in one SET_MEM_TABLE */
#define VHOST_USER_MAX_CONFIG 256

/* flags */
#define VHOST_USER_VERSION 1u
#define VHOST_USER_VERSION_MASK 3u
#define VHOST_USER_REPLY (1u << 2)
#define VHOST_USER_NEED_REPLY (1u << 3)

/* A feature bit of the virtio device: the peer has protocol features. */
#define VHOST_USER_F_PROTOCOL_FEATURES (1ull << 30)

/* "Front-end message types". */
typedef enum VhostUserRequest {
    VHOST_USER_GET_FEATURES = 1,
    VHOST_USER_SET_FEATURES = 2,
    VHOST_USER_SET_OWNER = 3,
    VHOST_USER_SET_MEM_TABLE = 5,
    VHOST_USER_SET_LOG_BASE = 6,
    VHOST_USER_SET_LOG_FD = 7,
    VHOST_USER_SET_VRING_NUM = 8,
    VHOST_USER_SET_VRING_ADDR = 9,
    VHOST_USER_SET_VRING_BASE = 10,
    VHOST_USER_GET_VRING_BASE = 11,
    VHOST_USER_SET_VRING_KICK = 12,
    VHOST_USER_SET_VRING_CALL = 13,
    VHOST_USER_SET_VRING_ERR = 14,
    VHOST_USER_GET_PROTOCOL_FEATURES = 15,
    VHOST_USER_SET_PROTOCOL_FEATURES = 16,
    VHOST_USER_GET_QUEUE_NUM = 17,
    VHOST_USER_SET_VRING_ENABLE = 18,
    VHOST_USER_SEND_RARP = 19,
    VHOST_USER_NET_SET_MTU = 20,
    VHOST_USER_SET_BACKEND_REQ_FD = 21,
    VHOST_USER_GET_CONFIG = 24,
    VHOST_USER_SET_CONFIG = 25,
    VHOST_USER_GET_INFLIGHT_FD = 31,
    VHOST_USER_SET_INFLIGHT_FD = 32,
    VHOST_USER_RESET_DEVICE = 34,
    VHOST_USER_SET_STATUS = 39,
    VHOST_USER_GET_STATUS = 40,
} VhostUserRequest;

/* "Back-end message types". */
typedef enum VhostUserBackendRequest {
    VHOST_USER_BACKEND_CONFIG_CHANGE_MSG = 2,
} VhostUserBackendRequest;

/* "Protocol features": bit numbers. */
enum {
    VHOST_USER_PROTOCOL_F_MQ = 0,
    VHOST_USER_PROTOCOL_F_LOG_SHMFD = 1,
    VHOST_USER_PROTOCOL_F_RARP = 2,
    VHOST_USER_PROTOCOL_F_REPLY_ACK = 3,
    VHOST_USER_PROTOCOL_F_NET_MTU = 4,
    VHOST_USER_PROTOCOL_F_BACKEND_REQ = 5,
    VHOST_USER_PROTOCOL_F_CONFIG = 9,
    VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD = 12,
    VHOST_USER_PROTOCOL_F_RESET_DEVICE = 13,
    VHOST_USER_PROTOCOL_F_STATUS = 16,
};

/* In the u64 of SET_VRING_KICK, CALL and ERR: the message has no descriptor. */
#define VHOST_USER_VRING_NO_FD (1ull << 8)

typedef struct VhostUserHeader {
    uint32_t request, flags, size;
} VhostUserHeader;

typedef struct VhostUserVringState {
    uint32_t index, num;
} VhostUserVringState;

/* Addresses are those of the front end's process. */
typedef struct VhostUserVringAddress {
    uint32_t index, flags;
    uint64_t desc, used, avail, log;
} VhostUserVringAddress;

typedef struct VhostUserRegion {
    uint64_t gpa, size, user_address, mmap_offset;
} VhostUserRegion;

typedef struct VhostUserMemory {
    uint32_t count, padding;
    VhostUserRegion regions[VHOST_USER_MAX_REGIONS];
} VhostUserMemory;

typedef struct VhostUserLogArea {
    uint64_t mmap_size, mmap_offset;
} VhostUserLogArea;

typedef struct VhostUserConfig {
    uint32_t offset, size, flags;
    uint8_t bytes[VHOST_USER_MAX_CONFIG];
} VhostUserConfig;
#define VHOST_USER_CONFIG_HEADER 12u

typedef struct VhostUserInflight {
    uint64_t mmap_size, mmap_offset;
    uint16_t num_queues, queue_size;
} VhostUserInflight;
#define VHOST_USER_INFLIGHT_SIZE 20u /* without the struct's padding */

typedef struct VhostUserMessage {
    VhostUserHeader header;
    union {
        uint64_t u64;
        VhostUserVringState state;
        VhostUserVringAddress address;
        VhostUserMemory memory;
        VhostUserLogArea log;
        VhostUserConfig config;
        VhostUserInflight inflight;
    } payload;
    /* To be sent: borrowed. Received: owned by the message until taken. */
    int fds[VHOST_USER_MAX_FDS];
    unsigned fd_count;
} VhostUserMessage;

/* A message of front-end type @request with @size bytes of payload, which are zero. */
VhostUserMessage vhost_user_message(VhostUserRequest request, uint32_t size) ANY_THREAD;
/* "SET_VRING_NUM", or "message 77". Valid until the thread's next call. */
const char *vhost_user_request_name(uint32_t request) ANY_THREAD;
/* Whether the front-end type @request always has a reply of its own. */
bool vhost_user_has_reply(uint32_t request) ANY_THREAD;
/* Whether @reply, received whole, answers @request: type, flags, size, descriptors, ring index and the
 * like. False + error: the peer lies. */
bool vhost_user_check_reply(const VhostUserMessage *request, const VhostUserMessage *reply,
                            GError **error) ANY_THREAD;
/* The same for a message that the back end sends by itself. Unknown types are valid. */
bool vhost_user_check_backend_request(const VhostUserMessage *message, GError **error) ANY_THREAD;
/* Takes the descriptor at @index out of a received message. */
int vhost_user_take_fd(VhostUserMessage *message, unsigned index) ANY_THREAD;
/* Closes the descriptors that a received message still owns. */
void vhost_user_close_fds(VhostUserMessage *message) ANY_THREAD;

/* ---- sending and receiving, a piece at a time ---- */

typedef enum VhostUserTransfer {
    VHOST_USER_WHOLE, /* the message is complete */
    VHOST_USER_WAIT,  /* the socket has no more data, or no more room, now */
    VHOST_USER_LOST,  /* the peer has closed the connection, or violates the protocol: error set */
} VhostUserTransfer;

typedef struct VhostUserReader {
    VhostUserMessage message;
    size_t got; /* bytes of header and payload */
} VhostUserReader;

/* Reads the next message into @reader->message. After VHOST_USER_WHOLE the caller calls
 * vhost_user_reader_clear() before the next one. */
VhostUserTransfer vhost_user_read(VhostUserReader *reader, int fd, GError **error) ANY_THREAD;
void vhost_user_reader_clear(VhostUserReader *reader) ANY_THREAD;
/* Writes @message from byte *@sent on, and adds to it. Descriptors go with the first byte. */
VhostUserTransfer vhost_user_write(const VhostUserMessage *message, int fd, size_t *sent,
                                   GError **error) ANY_THREAD;

#endif

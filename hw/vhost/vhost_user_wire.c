/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/vhost/vhost_user_wire.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define WIRE_ERROR G_FILE_ERROR, G_FILE_ERROR_IO

_Static_assert(sizeof(VhostUserHeader) == 12, "no padding");
_Static_assert(sizeof(VhostUserVringAddress) == 40, "no padding");
_Static_assert(sizeof(VhostUserMemory) == 8 + 32 * VHOST_USER_MAX_REGIONS, "no padding");
_Static_assert(offsetof(VhostUserConfig, bytes) == VHOST_USER_CONFIG_HEADER, "no padding");
_Static_assert(offsetof(VhostUserInflight, queue_size) + 2 == VHOST_USER_INFLIGHT_SIZE,
               "no padding");

/* The replies of front-end types. A type without `has_reply` has one only on demand (REPLY_ACK): u64. */
typedef struct WireType {
    uint32_t request;
    const char *name;
    bool has_reply;
    uint32_t min_size, max_size;
    unsigned max_fds;
} WireType;

#define WIRE_PLAIN(r)                                                                              \
    {                                                                                              \
        VHOST_USER_##r, #r, false, 0, 0, 0                                                         \
    }
#define WIRE_REPLY(r, min, max, fds)                                                               \
    {                                                                                              \
        VHOST_USER_##r, #r, true, (min), (max), (fds)                                              \
    }
static const WireType wire_types[] = {
    WIRE_REPLY(GET_FEATURES, 8, 8, 0),
    WIRE_PLAIN(SET_FEATURES),
    WIRE_PLAIN(SET_OWNER),
    WIRE_PLAIN(SET_MEM_TABLE),
    WIRE_REPLY(SET_LOG_BASE, 0, 16, 0), /* with LOG_SHMFD; back ends differ in its size */
    WIRE_PLAIN(SET_LOG_FD),
    WIRE_PLAIN(SET_VRING_NUM),
    WIRE_PLAIN(SET_VRING_ADDR),
    WIRE_PLAIN(SET_VRING_BASE),
    WIRE_REPLY(GET_VRING_BASE, 8, 8, 0),
    WIRE_PLAIN(SET_VRING_KICK),
    WIRE_PLAIN(SET_VRING_CALL),
    WIRE_PLAIN(SET_VRING_ERR),
    WIRE_REPLY(GET_PROTOCOL_FEATURES, 8, 8, 0),
    WIRE_PLAIN(SET_PROTOCOL_FEATURES),
    WIRE_REPLY(GET_QUEUE_NUM, 8, 8, 0),
    WIRE_PLAIN(SET_VRING_ENABLE),
    WIRE_PLAIN(SEND_RARP),
    WIRE_PLAIN(NET_SET_MTU),
    WIRE_PLAIN(SET_BACKEND_REQ_FD),
    WIRE_REPLY(GET_CONFIG, 0, sizeof(VhostUserConfig), 0), /* without payload: it has failed */
    WIRE_PLAIN(SET_CONFIG),
    WIRE_REPLY(GET_INFLIGHT_FD, VHOST_USER_INFLIGHT_SIZE, sizeof(VhostUserInflight), 1),
    WIRE_PLAIN(SET_INFLIGHT_FD),
    WIRE_PLAIN(RESET_DEVICE),
    WIRE_PLAIN(SET_STATUS),
    WIRE_REPLY(GET_STATUS, 8, 8, 0),
};

static const WireType *wire_type(uint32_t request)
{
    for (size_t i = 0; i < G_N_ELEMENTS(wire_types); i++) {
        if (wire_types[i].request == request) {
            return &wire_types[i];
        }
    }
    return NULL;
}

VhostUserMessage vhost_user_message(VhostUserRequest request, uint32_t size)
{
    VhostUserMessage m = {
        .header = {.request = request, .flags = VHOST_USER_VERSION, .size = size}};
    g_assert(wire_type(request) != NULL && size <= sizeof(m.payload));
    return m;
}

const char *vhost_user_request_name(uint32_t request)
{
    static _Thread_local char number[sizeof("message 4294967295")];
    const WireType *type = wire_type(request);
    if (type != NULL) {
        return type->name;
    }
    snprintf(number, sizeof(number), "message %u", request);
    return number;
}

bool vhost_user_has_reply(uint32_t request)
{
    const WireType *type = wire_type(request);
    return type != NULL && type->has_reply;
}

/* ---- checks ---- */

static bool wire_check_content(const VhostUserMessage *request, const VhostUserMessage *reply,
                               GError **error)
{
    const char *name = vhost_user_request_name(request->header.request);
    uint32_t size = reply->header.size;
    switch (request->header.request) {
    case VHOST_USER_GET_VRING_BASE:
        if (reply->payload.state.index != request->payload.state.index) {
            g_set_error(error, WIRE_ERROR, "%s: the reply is about ring %u instead of %u", name,
                        reply->payload.state.index, request->payload.state.index);
            return false;
        }
        if (reply->payload.state.num > UINT16_MAX) {
            g_set_error(error, WIRE_ERROR, "%s: %u is no ring index", name,
                        reply->payload.state.num);
            return false;
        }
        return true;
    case VHOST_USER_GET_CONFIG:
        if (size != 0 && (size != request->header.size ||
                          reply->payload.config.offset != request->payload.config.offset ||
                          reply->payload.config.size != request->payload.config.size)) {
            g_set_error(error, WIRE_ERROR, "%s: the reply is about other bytes", name);
            return false;
        }
        return true;
    default:
        return true;
    }
}

bool vhost_user_check_reply(const VhostUserMessage *request, const VhostUserMessage *reply,
                            GError **error)
{
    static const WireType on_demand = {.min_size = 8, .max_size = 8};
    const WireType *type = wire_type(request->header.request);
    const char *name = vhost_user_request_name(request->header.request);
    g_assert(type != NULL);
    if (reply->header.request != request->header.request) {
        g_set_error(error, WIRE_ERROR, "%s: the peer replies to type %u", name,
                    reply->header.request);
        return false;
    }
    if ((reply->header.flags & VHOST_USER_REPLY) == 0) {
        g_set_error(error, WIRE_ERROR, "%s: the reply is not marked as one", name);
        return false;
    }
    if (!type->has_reply) {
        type = &on_demand;
    }
    if (reply->header.size < type->min_size || reply->header.size > type->max_size) {
        g_set_error(error, WIRE_ERROR, "%s: a reply of %u bytes", name, reply->header.size);
        return false;
    }
    if (reply->fd_count > type->max_fds) {
        g_set_error(error, WIRE_ERROR, "%s: a reply with %u descriptors", name, reply->fd_count);
        return false;
    }
    return wire_check_content(request, reply, error);
}

bool vhost_user_check_backend_request(const VhostUserMessage *message, GError **error)
{
    if ((message->header.flags & VHOST_USER_REPLY) != 0) {
        g_set_error(error, WIRE_ERROR, "the back end's message %u is marked as a reply",
                    message->header.request);
        return false;
    }
    return true;
}

/* ---- descriptors ---- */

int vhost_user_take_fd(VhostUserMessage *message, unsigned index)
{
    g_assert(index < message->fd_count);
    int fd = message->fds[index];
    message->fds[index] = -1;
    return fd;
}

void vhost_user_close_fds(VhostUserMessage *message)
{
    for (unsigned i = 0; i < message->fd_count; i++) {
        if (message->fds[i] >= 0) {
            close(message->fds[i]);
        }
    }
    message->fd_count = 0;
}

/* ---- receiving ---- */

typedef union WireControl {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(VHOST_USER_MAX_FDS * sizeof(int))];
} WireControl;

/* Takes over the descriptors that came with received bytes. False: too many. */
static bool wire_keep_fds(VhostUserMessage *m, struct msghdr *received)
{
    bool fit = (received->msg_flags & MSG_CTRUNC) == 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(received); c != NULL; c = CMSG_NXTHDR(received, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            if (m->fd_count < VHOST_USER_MAX_FDS) {
                m->fds[m->fd_count++] = fd;
            } else {
                close(fd);
                fit = false;
            }
        }
    }
    return fit;
}

/* Reads at most @size bytes of the message to @to. The number of bytes, 0 at the end, or -errno. */
static ssize_t wire_receive(VhostUserMessage *m, int fd, void *to, size_t size)
{
    WireControl control;
    struct iovec iov = {.iov_base = to, .iov_len = size};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    ssize_t n;
    do {
        n = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return -errno;
    }
    return wire_keep_fds(m, &message) ? n : -EMSGSIZE;
}

static bool wire_check_header(const VhostUserHeader *h, GError **error)
{
    if ((h->flags & VHOST_USER_VERSION_MASK) != VHOST_USER_VERSION) {
        g_set_error(error, WIRE_ERROR,
                    "the peer speaks version %u of vhost-user, or something else",
                    h->flags & VHOST_USER_VERSION_MASK);
        return false;
    }
    if (h->size > sizeof(((VhostUserMessage *)0)->payload)) {
        g_set_error(error, WIRE_ERROR, "%s: the peer announces %u bytes",
                    vhost_user_request_name(h->request), h->size);
        return false;
    }
    return true;
}

static VhostUserTransfer wire_read_failed(ssize_t n, GError **error)
{
    if (n == -EAGAIN || n == -EWOULDBLOCK) {
        return VHOST_USER_WAIT;
    }
    if (n == 0) {
        g_set_error(error, WIRE_ERROR, "the peer has closed the connection");
    } else if (n == -EMSGSIZE) {
        g_set_error(error, WIRE_ERROR, "the peer passes too many descriptors");
    } else {
        g_set_error(error, WIRE_ERROR, "the connection failed: %s", g_strerror((int)-n));
    }
    return VHOST_USER_LOST;
}

VhostUserTransfer vhost_user_read(VhostUserReader *reader, int fd, GError **error)
{
    VhostUserMessage *m = &reader->message;
    size_t header = sizeof(m->header);
    while (reader->got < header) {
        ssize_t n = wire_receive(m, fd, (uint8_t *)&m->header + reader->got, header - reader->got);
        if (n <= 0) {
            return wire_read_failed(n, error);
        }
        reader->got += (size_t)n;
        if (reader->got == header && !wire_check_header(&m->header, error)) {
            return VHOST_USER_LOST;
        }
    }
    while (reader->got < header + m->header.size) {
        size_t at = reader->got - header;
        ssize_t n = wire_receive(m, fd, (uint8_t *)&m->payload + at, m->header.size - at);
        if (n <= 0) {
            return wire_read_failed(n, error);
        }
        reader->got += (size_t)n;
    }
    return VHOST_USER_WHOLE;
}

void vhost_user_reader_clear(VhostUserReader *reader)
{
    vhost_user_close_fds(&reader->message);
    *reader = (VhostUserReader){.got = 0};
}

/* ---- sending ---- */

static void wire_attach_fds(const VhostUserMessage *m, struct msghdr *to, WireControl *control)
{
    if (m->fd_count == 0) {
        return;
    }
    size_t size = m->fd_count * sizeof(int);
    memset(control, 0, sizeof(*control));
    to->msg_control = control;
    to->msg_controllen = CMSG_SPACE(size);
    struct cmsghdr *c = CMSG_FIRSTHDR(to);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(c), m->fds, size);
}

VhostUserTransfer vhost_user_write(const VhostUserMessage *m, int fd, size_t *sent, GError **error)
{
    size_t header = sizeof(m->header);
    while (*sent < header + m->header.size) {
        size_t at = *sent < header ? 0 : *sent - header;
        struct iovec iov[2] = {
            {.iov_base = (uint8_t *)(uintptr_t)&m->header + MIN(*sent, header),
             .iov_len = header - MIN(*sent, header)},
            {.iov_base = (uint8_t *)(uintptr_t)&m->payload + at, .iov_len = m->header.size - at},
        };
        struct msghdr message = {.msg_iov = iov, .msg_iovlen = 2};
        WireControl control;
        if (*sent == 0) {
            wire_attach_fds(m, &message, &control);
        }
        ssize_t n = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            return VHOST_USER_WAIT;
        }
        if (n < 0) {
            g_set_error(error, WIRE_ERROR, "%s cannot be sent: %s",
                        vhost_user_request_name(m->header.request), g_strerror(errno));
            return VHOST_USER_LOST;
        }
        *sent += (size_t)n;
    }
    return VHOST_USER_WHOLE;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* An NBD client for tests: it runs in a thread of its own, with sockets that block, and sends whatever
 * it is told to. */
#ifndef SKIFF_TESTS_BLOCK_NBD_NBD_CLIENT_H
#define SKIFF_TESTS_BLOCK_NBD_NBD_CLIENT_H

#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include "block/nbd/nbd_protocol.h"
#include "tests/block/block_test.h"

#define RIG_TIMEOUT_S 60 /* of a read: the test fails */

static char *rig_name; /* of the server's abstract socket */

static inline int rig_connect(void)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct timeval timeout = {.tv_sec = RIG_TIMEOUT_S};
    memcpy(un.sun_path + 1, rig_name, strlen(rig_name));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(rig_name) + 1);
    assert_int_equal(connect(fd, (const struct sockaddr *)&un, length), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)), 0);
    return fd;
}

/* Sends or receives everything by TLS, if the socket uses it. NULL: none does. */
static bool (*rig_tls)(int fd, void *data, size_t size, bool sends);

static inline void rig_send(int fd, const void *data, size_t size)
{
    if (rig_tls != NULL && rig_tls(fd, (void *)(uintptr_t)data, size, true)) {
        return;
    }
    for (size_t done = 0; done < size;) {
        ssize_t n = send(fd, (const uint8_t *)data + done, size - done, MSG_NOSIGNAL);
        assert_true(n > 0);
        done += (size_t)n;
    }
}

static inline void rig_recv(int fd, void *data, size_t size)
{
    if (rig_tls != NULL && rig_tls(fd, data, size, false)) {
        return;
    }
    assert_int_equal(size > 0 ? recv(fd, data, size, MSG_WAITALL) : 0, size);
}

/* The server has closed the connection; what it has sent before is dropped. */
static inline void rig_closed(int fd)
{
    uint8_t sink[4096];
    ssize_t n;
    while ((n = recv(fd, sink, sizeof(sink), 0)) > 0) {
    }
    assert_true(n == 0 || errno == ECONNRESET);
    close(fd);
}

/* Connects and exchanges flags. */
static inline int rig_greet(uint32_t flags)
{
    uint8_t greeting[NBD_GREETING_SIZE], answer[4];
    int fd = rig_connect();
    rig_recv(fd, greeting, sizeof(greeting));
    assert_true(nbd_get64(greeting) == NBD_GREETING_MAGIC);
    assert_true(nbd_get64(greeting + 8) == NBD_OPTION_MAGIC);
    assert_int_equal(nbd_get16(greeting + 16), 3);
    nbd_put32(answer, flags);
    rig_send(fd, answer, sizeof(answer));
    return fd;
}

static inline void rig_option(int fd, uint32_t option, const void *data, size_t length)
{
    uint8_t header[NBD_OPTION_SIZE];
    nbd_put32(nbd_put32(nbd_put64(header, NBD_OPTION_MAGIC), option), (uint32_t)length);
    rig_send(fd, header, sizeof(header));
    rig_send(fd, data, length);
}

typedef struct RigReply {
    uint32_t type, length;
    uint8_t data[8192 + 1]; /* ends with a zero */
} RigReply;

static inline void rig_option_reply(int fd, uint32_t option, RigReply *r)
{
    uint8_t header[NBD_OPTION_REPLY_SIZE];
    rig_recv(fd, header, sizeof(header));
    assert_true(nbd_get64(header) == NBD_OPTION_REPLY_MAGIC);
    assert_int_equal(nbd_get32(header + 8), option);
    r->type = nbd_get32(header + 12);
    r->length = nbd_get32(header + 16);
    assert_true(r->length < sizeof(r->data));
    rig_recv(fd, r->data, r->length);
    r->data[r->length] = 0;
}

/* Sends an option whose only reply has that type. */
static inline void rig_option_is(int fd, uint32_t option, const void *data, size_t length,
                                 uint32_t type)
{
    RigReply r;
    rig_option(fd, option, data, length);
    rig_option_reply(fd, option, &r);
    if (r.type != type) {
        fail_msg("option %u: reply %#x (%s) instead of %#x", option, r.type, (char *)r.data, type);
    }
}

/* The data of INFO and GO without kinds, in @data; its length. */
static inline size_t rig_info_data(uint8_t *data, const char *name)
{
    uint8_t *p = nbd_put32(data, (uint32_t)strlen(name));
    memcpy(p, name, strlen(name));
    return (size_t)(nbd_put16(p + strlen(name), 0) - data);
}

typedef struct RigInfo {
    uint64_t size;
    uint16_t flags;
    uint32_t min, preferred, max;
} RigInfo;

static inline RigInfo rig_info(int fd, uint32_t option, const char *name)
{
    uint8_t data[5000];
    RigInfo info = {0};
    RigReply r;
    rig_option(fd, option, data, rig_info_data(data, name));
    for (rig_option_reply(fd, option, &r); r.type == NBD_REP_INFO;
         rig_option_reply(fd, option, &r)) {
        if (nbd_get16(r.data) == NBD_INFO_EXPORT) {
            info.size = nbd_get64(r.data + 2);
            info.flags = nbd_get16(r.data + 10);
        } else if (nbd_get16(r.data) == NBD_INFO_BLOCK_SIZE) {
            info.min = nbd_get32(r.data + 2);
            info.preferred = nbd_get32(r.data + 6);
            info.max = nbd_get32(r.data + 10);
        }
    }
    assert_int_equal(r.type, NBD_REP_ACK);
    return info;
}

/* The data of LIST and SET_META_CONTEXT; its length. */
static inline size_t rig_meta_data(uint8_t *data, const char *name, const char *const *queries,
                                   unsigned count)
{
    uint8_t *p = nbd_put32(data, (uint32_t)strlen(name));
    memcpy(p, name, strlen(name));
    p = nbd_put32(p + strlen(name), count);
    for (unsigned i = 0; i < count; i++) {
        p = nbd_put32(p, (uint32_t)strlen(queries[i]));
        memcpy(p, queries[i], strlen(queries[i]));
        p += strlen(queries[i]);
    }
    return (size_t)(p - data);
}

/* SET_META_CONTEXT of one context, which has that id. */
static inline void rig_set_context(int fd, const char *name, const char *context, uint32_t id)
{
    uint8_t data[4096];
    RigReply r;
    rig_option(fd, NBD_OPT_SET_META_CONTEXT, data, rig_meta_data(data, name, &context, 1));
    rig_option_reply(fd, NBD_OPT_SET_META_CONTEXT, &r);
    assert_int_equal(r.type, NBD_REP_META_CONTEXT);
    assert_int_equal(nbd_get32(r.data), id);
    assert_string_equal((char *)r.data + 4, context);
    rig_option_reply(fd, NBD_OPT_SET_META_CONTEXT, &r);
    assert_int_equal(r.type, NBD_REP_ACK);
}

/* Connects to "disk", with STRUCTURED_REPLY, EXTENDED_HEADERS, or no @option (0). */
static inline int rig_serve(uint32_t option)
{
    int fd = rig_greet(3);
    if (option != 0) {
        rig_option_is(fd, option, NULL, 0, NBD_REP_ACK);
    }
    rig_info(fd, NBD_OPT_GO, "disk");
    return fd;
}

/* ---- requests ---- */

static inline void rig_request(int fd, unsigned flags, unsigned type, uint64_t cookie,
                               uint64_t offset, uint32_t length)
{
    uint8_t h[NBD_REQUEST_SIZE];
    uint8_t *p = nbd_put32(h, NBD_REQUEST_MAGIC);
    p = nbd_put16(nbd_put16(p, (uint16_t)flags), (uint16_t)type);
    nbd_put32(nbd_put64(nbd_put64(p, cookie), offset), length);
    rig_send(fd, h, sizeof(h));
}

static inline void rig_ext_request(int fd, unsigned flags, unsigned type, uint64_t cookie,
                                   uint64_t offset, uint64_t length)
{
    uint8_t h[NBD_EXT_REQUEST_SIZE];
    uint8_t *p = nbd_put32(h, NBD_EXT_REQUEST_MAGIC);
    p = nbd_put16(nbd_put16(p, (uint16_t)flags), (uint16_t)type);
    nbd_put64(nbd_put64(nbd_put64(p, cookie), offset), length);
    rig_send(fd, h, sizeof(h));
}

/* Receives a simple reply; returns its error. */
static inline uint32_t rig_simple(int fd, uint64_t cookie)
{
    uint8_t h[NBD_SIMPLE_SIZE];
    rig_recv(fd, h, sizeof(h));
    assert_int_equal(nbd_get32(h), NBD_SIMPLE_MAGIC);
    assert_int_equal(nbd_get64(h + 8), cookie);
    return nbd_get32(h + 4);
}

typedef struct RigChunk {
    uint16_t flags, type;
    uint64_t cookie, length;
    uint8_t *data; /* freed by the next one */
} RigChunk;

static inline void rig_chunk(int fd, bool extended, RigChunk *c)
{
    uint8_t h[NBD_EXT_CHUNK_SIZE];
    rig_recv(fd, h, extended ? NBD_EXT_CHUNK_SIZE : NBD_CHUNK_SIZE);
    assert_int_equal(nbd_get32(h), extended ? NBD_EXT_CHUNK_MAGIC : NBD_CHUNK_MAGIC);
    c->flags = nbd_get16(h + 4);
    c->type = nbd_get16(h + 6);
    c->cookie = nbd_get64(h + 8);
    c->length = extended ? nbd_get64(h + 24) : nbd_get32(h + 16);
    assert_true(c->length <= (64u << 20));
    g_free(c->data);
    c->data = g_malloc0(c->length + 1);
    rig_recv(fd, c->data, c->length);
}

/* A write with a simple reply; returns its error. */
static inline uint32_t rig_write(int fd, unsigned flags, uint64_t offset, const void *data,
                                 uint32_t length)
{
    rig_request(fd, flags, NBD_CMD_WRITE, offset ^ 77, offset, length);
    rig_send(fd, data, length);
    return rig_simple(fd, offset ^ 77);
}

/* A request without data either way. */
static inline uint32_t rig_do(int fd, unsigned flags, unsigned type, uint64_t offset,
                              uint32_t length)
{
    rig_request(fd, flags, type, 99, offset, length);
    return rig_simple(fd, 99);
}

/* Ends a connection properly. */
static inline void rig_bye(int fd)
{
    rig_request(fd, 0, NBD_CMD_DISC, 0, 0, 0);
    rig_closed(fd);
}

#endif

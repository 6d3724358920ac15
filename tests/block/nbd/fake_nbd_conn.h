/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A scripted NBD server for the client's tests: coroutines in main behind a UNIX socket. It speaks the
 * fixed newstyle protocol with simple and structured replies, and holds the export in memory. A test
 * sets what it offers, at which byte of which connection it hangs up or hangs, and what it says
 * instead of the truth. It does nothing by time.
 */
#ifndef SKIFF_TESTS_BLOCK_NBD_FAKE_NBD_CONN_H
#define SKIFF_TESTS_BLOCK_NBD_FAKE_NBD_CONN_H

#include "tests/block/block_test.h"
#include <endian.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "util/loop/sched_point.h"

enum {
    FAKE_READ_ONLY = 1 << 1,
    FAKE_FLUSH = 1 << 2,
    FAKE_FUA = 1 << 3,
    FAKE_TRIM = 1 << 5,
    FAKE_ZEROES = 1 << 6,
    FAKE_MULTI_CONN = 1 << 8,
    FAKE_ALL = FAKE_FLUSH | FAKE_FUA | FAKE_TRIM | FAKE_ZEROES,
};
enum { FAKE_CMD_READ, FAKE_CMD_WRITE, FAKE_CMD_DISC, FAKE_CMD_FLUSH, FAKE_CMD_TRIM };
enum { FAKE_CMD_ZEROES = 6, FAKE_CMD_STATUS = 7, FAKE_CMDS = 8 };
enum { FAKE_CONNS = 256 };

typedef struct FakeNbd FakeNbd;

typedef struct FakeConn {
    FakeNbd *fake;
    unsigned index;
    int fd;
    bool limited;
    int64_t sent, received;
    AioHandler *handler;
    CoToken token;
    bool waiting, structured, ended;
} FakeConn;

struct FakeNbd {
    /* what it offers */
    uint64_t size;
    uint16_t flags;
    uint32_t min_block, preferred_block, max_block; /* all 0: not said */
    bool no_structured;
    const char *context; /* besides base:allocation */
    uint32_t status_flags[4], status_bytes;
    uint8_t *data; /* of size bytes */

    /* what goes wrong: with connections from limit_from on, up to limit_to */
    unsigned limit_from, limit_to;
    int64_t cut_sent, cut_received; /* bytes until it hangs up; -1: never */
    bool hangs;                     /* it hangs instead */
    uint32_t error;                 /* every command fails with it */
    bool hold;                      /* commands wait for fake_release() */
    /* Replaces the reply to a command: false: the truth follows. */
    bool (*co_lie)(FakeConn *c, uint16_t type, uint64_t cookie, uint64_t offset, uint32_t bytes);

    /* what has happened */
    unsigned accepted, open, negotiated, limits_met;
    unsigned commands[FAKE_CMDS], total;
    uint16_t command_flags[FAKE_CMDS]; /* of the last one */
    unsigned by_conn[FAKE_CONNS];      /* commands */
    int64_t sent, received;            /* by the last connection that ended */

    int listener;
    AioHandler *accepter;
    char path[100];
    FakeConn *conns[FAKE_CONNS];
    CoQueue held;
};

/* ---- bytes ---- */

static void fake_conn_ready(void *opaque)
{
    FakeConn *c = opaque;
    enter_main();
    if (c->waiting) {
        c->waiting = false;
        co_wake(c->token);
    }
}

static inline coroutine_fn RUNS_IN_MAIN void fake_co_wait(FakeConn *c, bool reads, bool writes)
{
    c->token = co_arm();
    c->waiting = true;
    aio_handler_watch(c->handler, reads, writes);
    co_wait(c->token);
    aio_handler_watch(c->handler, false, false);
}

/* The limit was reached: hangs until the end of the test, or hangs up. */
static inline coroutine_fn RUNS_IN_MAIN bool fake_co_limit(FakeConn *c)
{
    c->fake->limits_met++;
    while (c->fake->hangs && !c->ended) {
        co_queue_wait(&c->fake->held, "a test");
    }
    return false;
}

static inline coroutine_fn RUNS_IN_MAIN bool fake_co_send(FakeConn *c, const void *data,
                                                          size_t bytes)
{
    const uint8_t *p = data;
    int64_t limit = c->limited ? c->fake->cut_sent : -1;
    while (bytes > 0 && !c->ended) {
        size_t part = limit >= 0 ? (size_t)MIN((int64_t)bytes, limit - c->sent) : bytes;
        if (part == 0) {
            return fake_co_limit(c);
        }
        ssize_t put = send(c->fd, p, part, MSG_NOSIGNAL);
        if (put < 0 && errno == EAGAIN) {
            fake_co_wait(c, false, true);
        } else if (put <= 0) {
            return false;
        } else {
            p += put;
            bytes -= (size_t)put;
            c->sent += put;
        }
    }
    return !c->ended;
}

static inline coroutine_fn RUNS_IN_MAIN bool fake_co_receive(FakeConn *c, void *data, size_t bytes)
{
    uint8_t *p = data;
    int64_t limit = c->limited ? c->fake->cut_received : -1;
    while (bytes > 0 && !c->ended) {
        size_t part = limit >= 0 ? (size_t)MIN((int64_t)bytes, limit - c->received) : bytes;
        if (part == 0) {
            return fake_co_limit(c);
        }
        ssize_t got = recv(c->fd, p, part, 0);
        if (got < 0 && errno == EAGAIN) {
            fake_co_wait(c, true, false);
        } else if (got <= 0) {
            return false;
        } else {
            p += got;
            bytes -= (size_t)got;
            c->received += got;
        }
    }
    return !c->ended;
}

/* ---- negotiation ---- */

typedef struct FakeInfo {
    uint16_t type;
    uint64_t size;
    uint16_t flags;
} __attribute__((packed)) FakeInfo;

typedef struct FakeBlocks {
    uint16_t type;
    uint32_t min, preferred, max;
} __attribute__((packed)) FakeBlocks;

static inline coroutine_fn RUNS_IN_MAIN bool
fake_co_option_reply(FakeConn *c, uint32_t option, uint32_t type, const void *data, uint32_t bytes)
{
    struct {
        uint64_t magic;
        uint32_t option, type, bytes;
    } __attribute__((packed))
    r = {htobe64(UINT64_C(0x3e889045565a9)), htobe32(option), htobe32(type), htobe32(bytes)};
    return fake_co_send(c, &r, sizeof(r)) && fake_co_send(c, data, bytes);
}

static inline coroutine_fn RUNS_IN_MAIN bool fake_co_go(FakeConn *c, uint32_t option)
{
    const FakeNbd *f = c->fake;
    FakeInfo info = {0, htobe64(f->size), htobe16((uint16_t)(f->flags | 1))};
    FakeBlocks blocks = {htobe16(3), htobe32(f->min_block), htobe32(f->preferred_block),
                         htobe32(f->max_block)};
    bool says = f->min_block != 0;
    return fake_co_option_reply(c, option, 3, &info, sizeof(info)) &&
           (!says || fake_co_option_reply(c, option, 3, &blocks, sizeof(blocks))) &&
           fake_co_option_reply(c, option, 1, NULL, 0);
}

static inline coroutine_fn RUNS_IN_MAIN bool fake_co_meta(FakeConn *c, uint32_t option,
                                                          const uint8_t *data, uint32_t bytes)
{
    uint32_t name, query;
    memcpy(&name, data, 4);
    uint32_t at = 4 + be32toh(name) + 4; /* one query follows */
    memcpy(&query, data + at, 4);
    query = be32toh(query);
    g_autofree char *text = g_strndup((const char *)data + at + 4, query);
    bool known = strcmp(text, "base:allocation") == 0 || g_strcmp0(text, c->fake->context) == 0;
    g_autofree uint8_t *reply = g_malloc0(4 + query);
    reply[3] = 9; /* the id */
    memcpy(reply + 4, text, query);
    return (!known || fake_co_option_reply(c, option, 4, reply, 4 + query)) &&
           fake_co_option_reply(c, option, 1, NULL, 0);
}

/* 1: the transmission begins; 0: another option follows; -1: the end. */
static inline coroutine_fn RUNS_IN_MAIN int fake_co_option(FakeConn *c)
{
    struct {
        uint64_t magic;
        uint32_t option, bytes;
    } __attribute__((packed)) o;
    uint8_t data[8192];
    if (!fake_co_receive(c, &o, sizeof(o)) || be32toh(o.bytes) > sizeof(data) ||
        !fake_co_receive(c, data, be32toh(o.bytes))) {
        return -1;
    }
    uint32_t option = be32toh(o.option);
    switch (option) {
    case 7:
        return fake_co_go(c, option) ? 1 : -1;
    case 8:
        c->structured = !c->fake->no_structured;
        return fake_co_option_reply(c, option, c->structured ? 1 : 0x80000001, NULL, 0) ? 0 : -1;
    case 10:
        return fake_co_meta(c, option, data, be32toh(o.bytes)) ? 0 : -1;
    default:
        return fake_co_option_reply(c, option, 0x80000001, NULL, 0) ? 0 : -1;
    }
}

static inline coroutine_fn RUNS_IN_MAIN bool fake_co_negotiate(FakeConn *c)
{
    uint8_t hello[18] = "NBDMAGICIHAVEOPT";
    uint32_t flags;
    int ret = 0;
    hello[17] = 3;
    if (!fake_co_send(c, hello, sizeof(hello)) || !fake_co_receive(c, &flags, sizeof(flags))) {
        return false;
    }
    while (ret == 0) {
        ret = fake_co_option(c);
    }
    return ret > 0;
}

/* ---- transmission ---- */

static inline coroutine_fn RUNS_IN_MAIN bool fake_co_chunk(FakeConn *c, uint16_t type,
                                                           uint64_t cookie, const void *head,
                                                           uint32_t head_bytes, const void *data,
                                                           uint32_t bytes)
{
    struct {
        uint32_t magic;
        uint16_t flags, type;
        uint64_t cookie;
        uint32_t bytes;
    } __attribute__((packed))
    r = {htobe32(0x668e33ef), htobe16(1), htobe16(type), cookie, htobe32(head_bytes + bytes)};
    return fake_co_send(c, &r, sizeof(r)) && fake_co_send(c, head, head_bytes) &&
           fake_co_send(c, data, bytes);
}

static inline coroutine_fn RUNS_IN_MAIN bool
fake_co_simple(FakeConn *c, uint64_t cookie, uint32_t error, const void *data, uint32_t bytes)
{
    struct {
        uint32_t magic, error;
        uint64_t cookie;
    } __attribute__((packed)) r = {htobe32(0x67446698), htobe32(error), cookie};
    return fake_co_send(c, &r, sizeof(r)) && (error != 0 || fake_co_send(c, data, bytes));
}

/* @cookie is in the order of the wire. */
static inline coroutine_fn RUNS_IN_MAIN bool
fake_co_reply(FakeConn *c, uint16_t type, uint64_t cookie, uint64_t offset, uint32_t bytes)
{
    FakeNbd *f = c->fake;
    bool read = type == FAKE_CMD_READ;
    if (f->co_lie != NULL && f->co_lie(c, type, cookie, offset, bytes)) {
        return !c->ended;
    }
    if (!c->structured) {
        return fake_co_simple(c, cookie, f->error, f->data + offset, read ? bytes : 0);
    }
    if (f->error != 0) {
        struct {
            uint32_t error;
            uint16_t bytes;
        } __attribute__((packed)) e = {htobe32(f->error), 0};
        return fake_co_chunk(c, 0x8001, cookie, &e, sizeof(e), NULL, 0);
    }
    if (read) {
        uint64_t at = htobe64(offset);
        return fake_co_chunk(c, 1, cookie, &at, sizeof(at), f->data + offset, bytes);
    }
    if (type == FAKE_CMD_STATUS) {
        uint32_t extent = f->status_bytes != 0 ? f->status_bytes : bytes;
        uint32_t s[3] = {htobe32(9), htobe32(extent),
                         htobe32(f->status_flags[offset / (f->size / 4 + 1)])};
        return fake_co_chunk(c, 5, cookie, s, sizeof(s), NULL, 0);
    }
    return fake_co_chunk(c, 0, cookie, NULL, 0, NULL, 0);
}

static inline coroutine_fn RUNS_IN_MAIN bool fake_co_command(FakeConn *c)
{
    FakeNbd *f = c->fake;
    struct {
        uint32_t magic;
        uint16_t flags, type;
        uint64_t cookie, offset;
        uint32_t bytes;
    } __attribute__((packed)) r;
    if (!fake_co_receive(c, &r, sizeof(r))) {
        return false;
    }
    assert_int_equal(be32toh(r.magic), 0x25609513);
    uint16_t type = be16toh(r.type);
    uint64_t offset = be64toh(r.offset);
    uint32_t bytes = be32toh(r.bytes);
    assert_true(type < FAKE_CMDS && offset <= f->size && bytes <= f->size - offset);
    g_autofree uint8_t *data = g_malloc(type == FAKE_CMD_WRITE ? bytes : 1);
    if (type == FAKE_CMD_WRITE && !fake_co_receive(c, data, bytes)) {
        return false;
    }
    f->commands[type]++;
    f->by_conn[c->index]++;
    f->total++;
    f->command_flags[type] = be16toh(r.flags);
    if (type == FAKE_CMD_WRITE) {
        memcpy(f->data + offset, data, bytes);
    } else if (type == FAKE_CMD_ZEROES || type == FAKE_CMD_TRIM) {
        memset(f->data + offset, 0, bytes);
    }
    while (f->hold && !c->ended && type != FAKE_CMD_DISC) {
        co_queue_wait(&f->held, "a test");
    }
    return type != FAKE_CMD_DISC && !c->ended && fake_co_reply(c, type, r.cookie, offset, bytes);
}

static void fake_conn_run(void *opaque)
{
    FakeConn *c = opaque;
    FakeNbd *f = c->fake;
    enter_coroutine();
    enter_main();
    if (fake_co_negotiate(c)) {
        f->negotiated++;
        while (fake_co_command(c)) {
        }
    }
    f->sent = c->sent;
    f->received = c->received;
    aio_handler_remove(c->handler);
    close(c->fd);
    f->conns[c->index] = NULL;
    f->open--;
    g_free(c);
}

#endif

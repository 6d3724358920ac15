/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by the tests of the NBD server. The test's thread runs the main loop, an iothread is the home
 * of the exports, and the body of a test is a client in a third thread, with sockets that block. What
 * the body wants done in main runs there by rig_main().
 */
#ifndef SKIFF_TESTS_BLOCK_NBD_NBD_RIG_H
#define SKIFF_TESTS_BLOCK_NBD_NBD_RIG_H

#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include "block/driver/fault.h"
#include "block/drivers.h"
#include "block/nbd/nbd.h"
#include "block/nbd/nbd_protocol.h"
#include "tests/block/block_test.h"
#include "util/loop/completion.h"
#include "util/loop/worker.h"

#define RIG_TIMEOUT_S 60 /* of a read: the test fails */
#define RIG_SIZE ((uint64_t)4 << 20)

static char *rig_name; /* of the abstract socket */
static unsigned rig_deleted;
static CoMutex rig_operation;
static char rig_deleted_id[64];
static AioContext *rig_ctx; /* main's; set before each test */

/* ---- main ---- */

typedef struct RigCall {
    void (*fn)(void *opaque); /* coroutine in main */
    void *opaque;
    Completion done;
} RigCall;

static void rig_call_run(void *opaque)
{
    RigCall *call = opaque;
    enter_coroutine();
    enter_main();
    call->fn(call->opaque);
    completion_signal(&call->done, 0);
}

static void rig_turn(void *opaque)
{
    enter_coroutine();
    co_yield_turn();
}

/* Runs a coroutine in main and waits for its end. */
static inline void rig_main(void (*fn)(void *opaque), void *opaque)
{
    RigCall call = {.fn = fn, .opaque = opaque};
    completion_init(&call.done);
    co_start(rig_ctx, rig_call_run, &call);
    completion_wait(&call.done, "main");
}

static void rig_lock(void *opaque)
{
    enter_coroutine();
    co_mutex_lock(&rig_operation);
}

static void rig_unlock(void *opaque)
{
    enter_coroutine();
    co_mutex_unlock(&rig_operation);
}

static void rig_export_deleted(void *opaque, const char *id)
{
    rig_deleted++;
    g_strlcpy(rig_deleted_id, id, sizeof(rig_deleted_id));
}

static const NbdHost rig_host = {.co_operation_begin = rig_lock,
                                 .co_operation_end = rig_unlock,
                                 .export_deleted = rig_export_deleted};

/* Main has run everything that was ready. */
static inline void rig_settle_main(void)
{
    for (unsigned i = 0; i < 10; i++) {
        rig_main(rig_turn, NULL);
    }
}

typedef struct RigServer {
    unsigned max_connections;
    uint64_t handshake_ns;
    TlsCreds *tls;
} RigServer;

static inline coroutine_fn RUNS_IN_MAIN void rig_co_start(const RigServer *r)
{
    GError *error = NULL;
    SocketAddressOptions address = {.path = rig_name, .abstract = true};
    NbdServerConfig config = {.address = &address,
                              .tls = r->tls,
                              .max_connections = r->max_connections,
                              .handshake_ns = r->handshake_ns};
    nbd_init(rig_ctx, &rig_host, NULL);
    if (!nbd_server_co_start(&config, &error)) {
        fail_msg("%s", error->message);
    }
}

static void rig_server_start(void *opaque)
{
    enter_coroutine();
    enter_main();
    rig_co_start(opaque);
}

static void rig_server_stop(void *opaque)
{
    enter_coroutine();
    enter_main();
    assert_true(nbd_server_co_stop(NULL));
}

typedef struct RigExport {
    const char *node; /* options of a node, which is opened first; NULL: "m" is there */
    NbdExportConfig config;
    char *error;
} RigExport;

static void rig_export_add(void *opaque)
{
    RigExport *x = opaque;
    g_autoptr(GError) error = NULL;
    enter_coroutine();
    enter_main();
    if (x->node != NULL) {
        test_node_add(x->node);
    }
    x->config.node = block_node_find("m");
    x->config.id = x->config.id != NULL ? x->config.id : "e0";
    x->config.name = x->config.name != NULL ? x->config.name : "disk";
    bool ok = nbd_export_co_add(&x->config, &error);
    assert_true(ok == (error == NULL));
    x->error = error != NULL ? g_strdup(error->message) : NULL;
}

#define RIG_MEM "mem,size=4M,node-name=m,discard=unmap"
#define RIG_FAULT "fault,node-name=m,discard=unmap,file.driver=mem,file.size=4M,file.discard=unmap,"

/* A server with one writable export "disk" of a disk in memory. */
static inline void rig_begin(void)
{
    RigServer server = {0};
    RigExport x = {.node = RIG_MEM, .config.writable = true, .config.allocation_depth = true};
    rig_main(rig_server_start, &server);
    rig_main(rig_export_add, &x);
    assert_null(x.error);
}

static void rig_node_del(void *opaque)
{
    enter_coroutine();
    enter_main();
    test_node_del(opaque);
}

static inline void rig_end(void)
{
    rig_main(rig_server_stop, NULL);
    rig_main(rig_node_del, (char[]){"m"});
}

/* ---- the disk, from main ---- */

typedef struct RigFault {
    BlockNode *node;
    const BlockFault *set; /* NULL: none */
    unsigned release;
    unsigned held;
} RigFault;

static void rig_fault_at_home(void *opaque)
{
    RigFault *f = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    if (f->set != NULL) {
        block_fault_set(f->node, f->set);
    }
    block_fault_release(f->node, f->release);
    f->held = block_fault_held(f->node);
}

static void rig_fault(void *opaque)
{
    RigFault *f = opaque;
    enter_coroutine();
    enter_main();
    f->node = block_node_find("m");
    co_call_in(test_home, rig_fault_at_home, f);
}

static inline void rig_set_fault(const BlockFault *fault)
{
    RigFault f = {.set = fault};
    rig_main(rig_fault, &f);
}

static inline void rig_release(unsigned count)
{
    RigFault f = {.release = count};
    rig_main(rig_fault, &f);
}

/* Waits until @count requests are held. */
static inline void rig_await_held(unsigned count)
{
    RigFault f = {0};
    do {
        rig_main(rig_fault, &f);
    } while (f.held < count);
    assert_int_equal(f.held, count);
}

/* ---- the client ---- */

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

static inline void rig_send(int fd, const void *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = send(fd, (const uint8_t *)data + done, size - done, MSG_NOSIGNAL);
        assert_true(n > 0);
        done += (size_t)n;
    }
}

static inline void rig_recv(int fd, void *data, size_t size)
{
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

/* ---- tests ---- */

typedef struct RigTest {
    void (*body)(void);
} RigTest;

static void rig_quit(void *opaque)
{
    aio_context_quit(rig_ctx);
}

static void *rig_client(void *opaque)
{
    RigTest *t = opaque;
    t->body();
    aio_post(rig_ctx, rig_quit, NULL);
    return NULL;
}

static inline void rig_run(void (*body)(void))
{
    RigTest t = {.body = body};
    pthread_t thread;
    g_autoptr(GError) error = NULL;
    static unsigned count;
    rig_ctx = test_main;
    rig_deleted = 0;
    co_mutex_init(&rig_operation, RANK_OPERATION, "operation lock");
    if (count++ == 0) {
        assert_true(worker_pool_start(&error));
    }
    rig_name = g_strdup_printf("skiff-nbd-test-%d-%u", (int)getpid(), count);
    assert_int_equal(pthread_create(&thread, NULL, rig_client, &t), 0);
    aio_context_run(test_main);
    pthread_join(thread, NULL);
    g_free(rig_name);
}

/* Defines the cmocka test "name", whose body is a client in a thread of its own. */
#define NBD_TEST(name)                                                                             \
    static void name##_body(void);                                                                 \
    static void name(void **state)                                                                 \
    {                                                                                              \
        rig_run(name##_body);                                                                      \
    }                                                                                              \
    static void name##_body(void)

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by the tests of the NBD server. The test's thread runs the main loop, an iothread is the home
 * of the exports, and the body of a test is a client in a third thread, with sockets that block. What
 * the body wants done in main runs there by rig_main().
 */
#ifndef SKIFF_TESTS_BLOCK_NBD_NBD_RIG_H
#define SKIFF_TESTS_BLOCK_NBD_NBD_RIG_H

#include "block/driver/fault.h"
#include "block/drivers.h"
#include "block/nbd/nbd.h"
#include "tests/block/block_test.h"
#include "tests/block/nbd/nbd_client.h"
#include "util/loop/completion.h"
#include "util/loop/worker.h"

#define RIG_SIZE ((uint64_t)4 << 20)

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

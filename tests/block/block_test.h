/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by the block tests: a main context in the test's thread, an iothread as home of the nodes,
 * test bodies as coroutines in main, and requests that run in the iothread.
 */
#ifndef SKIFF_TESTS_BLOCK_BLOCK_TEST_H
#define SKIFF_TESTS_BLOCK_BLOCK_TEST_H

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <errno.h>
#include <stdatomic.h>
#include <unistd.h>
#include "block/node.h"
#include "util/loop/iothread.h"

static AioContext *test_main;
static IoThread *test_iothread;
static AioContext *test_home;
static int64_t test_poll_ns; /* busy polling of the iothread */

static inline int block_test_setup(void **state)
{
    GError *error = NULL;
    thread_adopt_role(THREAD_MAIN, "main");
    test_main = aio_context_new("main", &error);
    test_iothread = iothread_new("io0", test_poll_ns, &error);
    test_home = iothread_context(test_iothread);
    return test_main != NULL && test_iothread != NULL ? 0 : -1;
}

static inline int block_test_teardown(void **state)
{
    iothread_free(test_iothread);
    aio_context_free(test_main);
    return 0;
}

/* ---- test bodies ---- */

static void test_run_body(void *opaque)
{
    void (**body)(void) = opaque;
    enter_coroutine();
    enter_main();
    (*body)();
    aio_context_quit(test_main);
}

static inline void test_run(void (*body)(void))
{
    co_start(test_main, test_run_body, &body);
    aio_context_run(test_main);
}

/* Defines the cmocka test "name", whose body is a coroutine in main. */
#define BLOCK_TEST(name)                                                                           \
    static coroutine_fn RUNS_IN_MAIN void name##_body(void);                                       \
    static void name(void **state)                                                                 \
    {                                                                                              \
        test_run(name##_body);                                                                     \
    }                                                                                              \
    static void name##_body(void)

/* A failed assertion would longjmp off a coroutine's stack: it aborts instead and leaves a core. */
#define block_test_main(tests)                                                                     \
    (setenv("CMOCKA_TEST_ABORT", "1", 1),                                                          \
     cmocka_run_group_tests(tests, block_test_setup, block_test_teardown))

/* ---- an event that main waits for ---- */

typedef struct TestEvent {
    bool happened;
    bool waiting;
    CoToken token;
} TestEvent;

static inline void test_event_in_main(void *opaque)
{
    TestEvent *e = opaque;
    enter_main();
    e->happened = true;
    if (e->waiting) {
        co_wake(e->token);
    }
}

/* Any thread; called once. */
static inline void test_event_set(TestEvent *e)
{
    aio_post(test_main, test_event_in_main, e);
}

static inline coroutine_fn RUNS_IN_MAIN void test_event_wait(TestEvent *e)
{
    if (!e->happened) {
        e->waiting = true;
        e->token = co_arm();
        co_wait(e->token);
        e->waiting = false;
    }
}

/* ---- opening ---- */

static inline coroutine_fn RUNS_IN_MAIN BlockNode *test_open(const char *text, GError **error)
{
    g_autoptr(OptDict) d = opt_dict_parse(text, "driver", error);
    assert_non_null(d);
    return block_co_open(d, test_home, error);
}

static inline coroutine_fn RUNS_IN_MAIN BlockNode *test_open_ok(const char *text)
{
    GError *error = NULL;
    BlockNode *n = test_open(text, &error);
    if (n == NULL) {
        fail_msg("%s: %s", text, error->message);
    }
    return n;
}

/* Opens a node and passes its reference to a backend. */
static inline coroutine_fn RUNS_IN_MAIN BlockBackend *test_blk(const char *name, const char *text,
                                                               bool writable)
{
    GError *error = NULL;
    BlockNode *n = test_open_ok(text);
    BlockBackend *blk = blk_co_new(name, n, writable, &error);
    if (blk == NULL) {
        fail_msg("%s: %s", text, error->message);
    }
    block_co_unref(n);
    return blk;
}

static inline coroutine_fn RUNS_IN_MAIN void test_open_fails(const char *text, const char *says)
{
    g_autoptr(GError) error = NULL;
    BlockNode *n = test_open(text, &error);
    assert_null(n);
    assert_non_null(error);
    if (strstr(error->message, says) == NULL) {
        fail_msg("%s: the error '%s' does not say '%s'", text, error->message, says);
    }
}

/* ---- users' nodes ---- */

static inline coroutine_fn RUNS_IN_MAIN BlockNode *test_node_add(const char *text)
{
    GError *error = NULL;
    g_autoptr(OptDict) d = opt_dict_parse(text, "driver", &error);
    BlockNode *n = block_co_add(d, test_home, &error);
    if (n == NULL) {
        fail_msg("%s: %s", text, error->message);
    }
    return n;
}

static inline coroutine_fn RUNS_IN_MAIN void test_node_del(const char *name)
{
    g_autoptr(GError) error = NULL;
    if (!block_co_delete(name, &error)) {
        fail_msg("%s: %s", name, error->message);
    }
}

/* ---- requests ---- */

typedef enum TestOp { TEST_READ, TEST_WRITE, TEST_FLUSH, TEST_DISCARD, TEST_ZERO } TestOp;

typedef struct TestRequest {
    BlockBackend *blk;
    TestOp op;
    uint64_t offset, bytes;
    void *buf;
    unsigned flags;
    int ret;
    unsigned completions;
    TestEvent done;
} TestRequest;

static inline coroutine_fn RUNS_IN_IOTHREAD int test_request_do(TestRequest *r)
{
    struct iovec iov = {r->buf, r->bytes};
    switch (r->op) {
    case TEST_READ:
        return blk_co_preadv(r->blk, r->offset, r->bytes, &iov, 1, 0);
    case TEST_WRITE:
        return blk_co_pwritev(r->blk, r->offset, r->bytes, &iov, 1, r->flags);
    case TEST_FLUSH:
        return blk_co_flush(r->blk);
    case TEST_DISCARD:
        return blk_co_discard(r->blk, r->offset, r->bytes);
    case TEST_ZERO:
        return blk_co_write_zeroes(r->blk, r->offset, r->bytes, r->flags);
    }
    return -ENOSYS;
}

static inline void test_request_run(void *opaque)
{
    TestRequest *r = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    r->ret = test_request_do(r);
    r->completions++;
    test_event_set(&r->done);
}

static inline void test_start(TestRequest *r)
{
    r->ret = 1;
    co_start(test_home, test_request_run, r);
}

static inline coroutine_fn RUNS_IN_MAIN int test_finish(TestRequest *r)
{
    test_event_wait(&r->done);
    assert_int_equal(r->completions, 1);
    return r->ret;
}

static inline coroutine_fn RUNS_IN_MAIN int test_io(BlockBackend *blk, TestOp op, uint64_t offset,
                                                    uint64_t bytes, void *buf, unsigned flags)
{
    TestRequest r = {
        .blk = blk, .op = op, .offset = offset, .bytes = bytes, .buf = buf, .flags = flags};
    test_start(&r);
    return test_finish(&r);
}

/* Runs @fn(@opaque) in the iothread's context and waits: everything posted there before has run.
 */
static inline coroutine_fn RUNS_IN_MAIN void test_in_home(CoroutineEntry *fn, void *opaque)
{
    co_call_in(test_home, fn, opaque);
}

static inline void test_nothing(void *opaque)
{
    enter_coroutine();
    enter_iothread(test_home);
    co_yield_turn();
    co_yield_turn();
}

/* Returns after two more turns of the iothread. */
static inline coroutine_fn RUNS_IN_MAIN void test_settle(void)
{
    test_in_home(test_nothing, NULL);
}

/* ---- files ---- */

/* Creates a file in the build tree's directory, which is on a real file system. test_file_free()
 * frees and removes it. */
static inline char *test_file_new(uint64_t size)
{
    const char *dir = g_getenv("SKIFF_TEST_DIR");
    char *path = g_strdup_printf("%s/skiff-block-XXXXXX", dir != NULL ? dir : "build");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    close(fd);
    return path;
}

static inline void test_file_free(char *path)
{
    unlink(path);
    g_free(path);
}

static inline void test_fill(void *buf, size_t size, unsigned seed)
{
    uint8_t *p = buf;
    uint32_t x = seed * 2654435761u + 1;
    for (size_t i = 0; i < size; i++) {
        x = x * 1664525u + 1013904223u;
        p[i] = (uint8_t)(x >> 24);
    }
}

#endif

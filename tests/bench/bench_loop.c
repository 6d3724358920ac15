/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the event loop costs: prints one line per primitive, nanoseconds each. The peers are the
 * kernel's own ways: swapcontext() for a switch, an eventfd round trip through epoll for a wake in
 * another thread.
 */
#include <inttypes.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>
#include "util/loop/completion.h"
#include "util/loop/coroutine.h"
#include "util/loop/iothread.h"

#define BENCH_ROUNDS 1000000
#define BENCH_THREAD_ROUNDS 50000

static AioContext *bench_ctx;
static CoToken bench_token;
static unsigned bench_left;

static int64_t bench_now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

static void bench_print(const char *name, int64_t start_ns, unsigned rounds)
{
    printf("%-28s %8.1f ns\n", name, (double)(bench_now_ns() - start_ns) / rounds);
}

static void bench_empty(void *opaque)
{
    (void)opaque;
}

static void bench_start_and_finish(void)
{
    enter_loop(bench_ctx);
    int64_t start = bench_now_ns();
    for (unsigned i = 0; i < BENCH_ROUNDS; i++) {
        co_start_now(bench_ctx, bench_empty, NULL);
    }
    bench_print("coroutine start and finish", start, BENCH_ROUNDS);
}

static void bench_latched_waits(void *opaque)
{
    enter_coroutine();
    int64_t start = bench_now_ns();
    for (unsigned i = 0; i < BENCH_ROUNDS; i++) {
        CoToken token = co_arm();
        co_wake(token);
        co_wait(token);
    }
    bench_print("wait that was woken before", start, BENCH_ROUNDS);
}

static void bench_switcher(void *opaque)
{
    enter_coroutine();
    while (bench_left-- > 0) {
        bench_token = co_arm();
        co_wait(bench_token);
    }
}

/* A wait and a wake by the loop: two switches and a turn of the ready list. */
static void bench_wakes(void)
{
    bench_left = BENCH_ROUNDS;
    co_start(bench_ctx, bench_switcher, NULL);
    aio_context_step(bench_ctx, false);
    int64_t start = bench_now_ns();
    while (bench_left > 0 && bench_left <= BENCH_ROUNDS) {
        co_wake(bench_token);
        aio_context_step(bench_ctx, false);
    }
    bench_print("wait, wake, a whole turn", start, BENCH_ROUNDS);
}

typedef struct BenchRequest {
    CoToken token;
} BenchRequest;

static BenchRequest bench_requests[1024];

static void bench_request(void *opaque)
{
    BenchRequest *r = opaque;
    enter_coroutine();
    r->token = co_arm();
    co_wait(r->token);
}

/* Requests of a device that has reserved @depth of them: all start, wait, are woken and finish. */
static void bench_depth(unsigned depth)
{
    enter_loop(bench_ctx);
    co_requests_begin(bench_ctx, depth);
    int64_t start = 0;
    unsigned rounds = BENCH_ROUNDS / depth;
    for (unsigned round = 0; round <= rounds; round++) {
        start = round == 1 ? bench_now_ns() : start; /* the first round maps the stacks */
        for (unsigned i = 0; i < depth; i++) {
            co_start_now(bench_ctx, bench_request, &bench_requests[i]);
        }
        for (unsigned i = 0; i < depth; i++) {
            co_wake(bench_requests[i].token);
        }
        while (aio_context_step(bench_ctx, false)) {
        }
    }
    char name[32];
    snprintf(name, sizeof(name), "request at depth %u", depth);
    bench_print(name, start, rounds * depth);
    co_requests_end(bench_ctx, depth);
}

static ucontext_t bench_main_context, bench_other_context;

static void bench_ucontext_body(void)
{
    for (;;) {
        swapcontext(&bench_other_context, &bench_main_context);
    }
}

static void bench_ucontext(void)
{
    static char stack[65536];
    getcontext(&bench_other_context);
    bench_other_context.uc_stack.ss_sp = stack;
    bench_other_context.uc_stack.ss_size = sizeof(stack);
    makecontext(&bench_other_context, bench_ucontext_body, 0);
    int64_t start = bench_now_ns();
    for (unsigned i = 0; i < BENCH_ROUNDS; i++) {
        swapcontext(&bench_main_context, &bench_other_context);
    }
    bench_print("peer: swapcontext, there, back", start, BENCH_ROUNDS);
}

static void bench_call_many(void *opaque)
{
    enter_coroutine();
    AioContext *other = opaque;
    int64_t start = bench_now_ns();
    for (unsigned i = 0; i < BENCH_THREAD_ROUNDS; i++) {
        co_call_in(other, bench_empty, NULL);
    }
    bench_print("call into an iothread", start, BENCH_THREAD_ROUNDS);
    bench_left = 0;
}

static void bench_calls(void)
{
    IoThread *t = iothread_new("bench", 0, NULL);
    bench_left = 1;
    co_start(bench_ctx, bench_call_many, iothread_context(t));
    while (bench_left > 0) {
        aio_context_step(bench_ctx, true);
    }
    iothread_free(t);
}

typedef struct Echo {
    int there, back;
} Echo;

static void *bench_echo_thread(void *opaque)
{
    Echo *e = opaque;
    int ep = epoll_create1(0);
    struct epoll_event ev = {.events = EPOLLIN};
    epoll_ctl(ep, EPOLL_CTL_ADD, e->there, &ev);
    for (unsigned i = 0; i < BENCH_THREAD_ROUNDS; i++) {
        uint64_t value;
        epoll_wait(ep, &ev, 1, -1);
        if (read(e->there, &value, sizeof(value)) != sizeof(value) ||
            write(e->back, &value, sizeof(value)) != sizeof(value)) {
            break;
        }
    }
    close(ep);
    return NULL;
}

static void bench_eventfd_peer(void)
{
    Echo e = {.there = eventfd(0, 0), .back = eventfd(0, 0)};
    pthread_t thread;
    thread_start(&thread, THREAD_WORKER, "echo", bench_echo_thread, &e);
    int ep = epoll_create1(0);
    struct epoll_event ev = {.events = EPOLLIN};
    epoll_ctl(ep, EPOLL_CTL_ADD, e.back, &ev);
    int64_t start = bench_now_ns();
    for (unsigned i = 0; i < BENCH_THREAD_ROUNDS; i++) {
        uint64_t value = 1;
        if (write(e.there, &value, sizeof(value)) != sizeof(value)) {
            break;
        }
        epoll_wait(ep, &ev, 1, -1);
        if (read(e.back, &value, sizeof(value)) != sizeof(value)) {
            break;
        }
    }
    bench_print("peer: eventfd, there and back", start, BENCH_THREAD_ROUNDS);
    pthread_join(thread, NULL);
    close(ep);
    close(e.there);
    close(e.back);
}

int main(void)
{
    bench_ctx = aio_context_new("bench", NULL);
    bench_start_and_finish();
    co_start(bench_ctx, bench_latched_waits, NULL);
    aio_context_step(bench_ctx, false);
    bench_wakes();
    bench_depth(1);
    bench_depth(128);
    bench_depth(256);
    bench_depth(1024);
    bench_ucontext();
    bench_calls();
    bench_eventfd_peer();
    aio_context_free(bench_ctx);
    return 0;
}

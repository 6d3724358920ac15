/* SPDX-License-Identifier: Apache-2.0 */
#include "util/loop/coroutine.h"

#include <stdatomic.h>
#include <string.h>
#include "util/loop/aio_int.h"
#include "util/loop/co_stack.h"
#include "util/loop/held_int.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define CO_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#define CO_TSAN 1
#endif

/* Stacks a thread keeps in addition to those reserved by its devices. */
#define CO_POOL_BASE 128u

/* The wait word: the sequence number of the latest token above two bits of state. */
enum { CO_IDLE, CO_ARMED, CO_WAITING, CO_WOKEN };
#define CO_WORD(sequence, state) (((uint64_t)(sequence) << 2) | (state))

struct Coroutine {
    _Atomic uint64_t wait_word;
    Coroutine *link; /* ready list, the thread's pool, or free list */
    AioContext *ctx;
    CoroutineEntry *entry;
    void *opaque;
    CoStack stack; /* base NULL: no stack yet */
    HeldSet held;
    bool finished;
    Coroutine *next_made; /* fixed: list of all coroutines */
};

typedef struct CoThread {
    Coroutine *current;
    void *loop_sp;
    /* Finished coroutines, with their stacks: each is suspended at the end of co_main()'s loop. */
    Coroutine *pool;
    unsigned pool_count;
    unsigned reserved;    /* co_pool_reserve() */
    unsigned request_max; /* requests of the thread's loop, of all its sources */
    bool cleanup_registered;
#ifdef CO_ASAN
    void *loop_fake_stack;
    const void *loop_stack_bottom;
    size_t loop_stack_size;
#endif
#ifdef CO_TSAN
    void *loop_fiber;
#endif
} CoThread;

static __thread CoThread co_thread;
static pthread_key_t co_thread_key;
static pthread_once_t co_thread_once = PTHREAD_ONCE_INIT;

/* Coroutine structs are reused, never freed: the sequence number reveals a wake that comes too
 * late. */
static pthread_mutex_t co_free_lock = PTHREAD_MUTEX_INITIALIZER;
static Coroutine *co_free_list;
/* All structs, newest first, for vmm/skiff-gdb.py: it finds the waiting coroutines here. */
static Coroutine *co_made;

extern void co_switch(void **save_sp, void *load_sp);
extern void co_trampoline(void);
void co_main(void);

/* ---- stacks ---- */

static void co_free_push(Coroutine *co)
{
    pthread_mutex_lock(&co_free_lock);
    co->link = co_free_list;
    co_free_list = co;
    pthread_mutex_unlock(&co_free_lock);
}

static void co_thread_exit(void *opaque)
{
    CoThread *t = opaque;
    while (t->pool != NULL) {
        Coroutine *co = t->pool;
        t->pool = co->link;
        co_stack_free(&co->stack);
        co_free_push(co);
    }
    t->pool_count = 0;
}

static void co_thread_make_key(void)
{
    pthread_key_create(&co_thread_key, co_thread_exit);
}

/* Lays out a first frame so that co_switch() "returns" into co_trampoline. */
static void co_stack_prepare(CoStack *s)
{
    void **sp = (void **)(void *)(s->base + CO_STACK_SIZE);
    sp -= 2; /* the stack is 16-byte aligned for the trampoline's call of co_main */
    *--sp = (void *)(uintptr_t)co_trampoline;
    for (int i = 0; i < 6; i++) {
        *--sp = NULL; /* rbp, rbx, r12..r15 */
    }
    s->sp = sp;
}

static bool co_stack_create(Coroutine *co, CoStackUse use)
{
    CoThread *t = &co_thread;
    if (!t->cleanup_registered) {
        pthread_once(&co_thread_once, co_thread_make_key);
        pthread_setspecific(co_thread_key, t);
        t->cleanup_registered = true;
    }
    if (!co_stack_alloc(&co->stack, use)) {
        return false;
    }
    co_stack_prepare(&co->stack);
    return true;
}

static Coroutine *co_pool_pop(CoThread *t)
{
    Coroutine *co = t->pool;
    t->pool = co->link;
    t->pool_count--;
    return co;
}

static void co_pool_push(CoThread *t, Coroutine *co)
{
    co->link = t->pool;
    t->pool = co;
    t->pool_count++;
}

/* Gives @co a stack: one from the thread's pool if possible, else a new one. */
static bool co_stack_get(Coroutine *co)
{
    CoThread *t = &co_thread;
    if (t->pool == NULL) {
        return co_stack_create(co, CO_STACK_FOR_ALL);
    }
    Coroutine *donor = co_pool_pop(t);
    co->stack = donor->stack;
    donor->stack = (CoStack){0};
    co_free_push(donor);
    return true;
}

/* ---- switching ---- */

static void co_switch_in(Coroutine *co)
{
    CoThread *t = &co_thread;
    t->current = co;
    held_switch(&co->held);
#ifdef CO_ASAN
    __sanitizer_start_switch_fiber(&t->loop_fake_stack, co->stack.base, CO_STACK_SIZE);
#endif
#ifdef CO_TSAN
    t->loop_fiber = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(co->stack.fiber, 0);
#endif
    co_switch(&t->loop_sp, co->stack.sp);
#ifdef CO_ASAN
    __sanitizer_finish_switch_fiber(t->loop_fake_stack, NULL, NULL);
#endif
    held_switch(NULL);
    t->current = NULL;
}

static void co_switched_in(void)
{
#ifdef CO_ASAN
    CoThread *t = &co_thread;
    __sanitizer_finish_switch_fiber(NULL, &t->loop_stack_bottom, &t->loop_stack_size);
#endif
}

/* Switches back to the loop. */
static void co_switch_out(Coroutine *co)
{
    CoThread *t = &co_thread;
#ifdef CO_ASAN
    void *fake_stack = NULL;
    __sanitizer_start_switch_fiber(&fake_stack, t->loop_stack_bottom, t->loop_stack_size);
#endif
#ifdef CO_TSAN
    __tsan_switch_to_fiber(t->loop_fiber, 0);
#endif
    co_switch(&co->stack.sp, t->loop_sp);
#ifdef CO_ASAN
    __sanitizer_finish_switch_fiber(fake_stack, &t->loop_stack_bottom, &t->loop_stack_size);
#endif
}

/* Runs the entries of the coroutines that use this stack, one after another. */
NO_THREAD_SAFETY_ANALYSIS void co_main(void)
{
    co_switched_in();
    for (;;) {
        Coroutine *co = co_thread.current;
        co->entry(co->opaque);
        if (co->held.count != 0) {
            bug_abort("a coroutine ends while holding '%s'", co->held.things[0].name);
        }
        co->finished = true;
        co_switch_out(co);
    }
}

static unsigned co_pool_max(const CoThread *t)
{
    return CO_POOL_BASE + MIN(t->reserved, t->request_max);
}

static void co_release(Coroutine *co)
{
    CoThread *t = &co_thread;
    if (t->pool_count < co_pool_max(t)) {
        co_pool_push(t, co);
        return;
    }
    co_stack_free(&co->stack);
    co_free_push(co);
}

bool coroutine_resume(Coroutine *co)
{
    if (co_thread.current != NULL) {
        bug_abort("a coroutine is resumed from inside a coroutine");
    }
    assert_home(co->ctx);
    held_assert_thread_none("enter a coroutine");
    if (co->stack.base == NULL && !co_stack_get(co)) {
        return false;
    }
    co_switch_in(co);
    if (co->finished) {
        co_release(co);
    }
    return true;
}

Coroutine **coroutine_link(Coroutine *co)
{
    return &co->link;
}

/* ---- starting ---- */

static Coroutine *co_make(void)
{
    Coroutine *co = g_new0(Coroutine, 1);
    pthread_mutex_lock(&co_free_lock);
    co->next_made = co_made;
    co_made = co;
    pthread_mutex_unlock(&co_free_lock);
    return co;
}

static Coroutine *co_take_bare(void)
{
    pthread_mutex_lock(&co_free_lock);
    Coroutine *co = co_free_list;
    if (co != NULL) {
        co_free_list = co->link;
    }
    pthread_mutex_unlock(&co_free_lock);
    return co != NULL ? co : co_make();
}

/* For its own context a thread takes a coroutine with a stack from its pool; else one without. */
static Coroutine *co_take(AioContext *ctx)
{
    CoThread *t = &co_thread;
    return t->pool != NULL && aio_context_is_home(ctx) ? co_pool_pop(t) : co_take_bare();
}

static Coroutine *co_new(AioContext *ctx, CoroutineEntry *entry, void *opaque)
{
    Coroutine *co = co_take(ctx);
    co->link = NULL;
    co->ctx = ctx;
    co->entry = entry;
    co->opaque = opaque;
    co->finished = false;
    return co;
}

void co_start(AioContext *ctx, CoroutineEntry *entry, void *opaque)
{
    aio_ready_push(ctx, co_new(ctx, entry, opaque));
}

void co_start_now(AioContext *ctx, CoroutineEntry *entry, void *opaque)
{
    assert_home(ctx);
    Coroutine *co = co_new(ctx, entry, opaque);
    if (in_coroutine() || !coroutine_resume(co)) {
        aio_ready_push(ctx, co);
    }
}

/* ---- requests of devices ---- */

bool co_request_ready(AioContext *ctx)
{
    CoThread *t = &co_thread;
    assert_home(ctx);
    if (t->pool != NULL) {
        return true;
    }
    Coroutine *co = co_take_bare();
    if (!co_stack_create(co, CO_STACK_FOR_REQUEST)) {
        co_free_push(co);
        return false;
    }
    co_pool_push(t, co);
    return true;
}

/* The loops that have sources. Each may use the same number of stacks for requests. */
static pthread_mutex_t request_lock = PTHREAD_MUTEX_INITIALIZER;
static AioContext *request_loops;
static unsigned request_loop_count;

static unsigned co_requests_of_loop(void)
{
    pthread_mutex_lock(&request_lock);
    unsigned stacks = co_stack_request_max() / MAX(request_loop_count, 1);
    pthread_mutex_unlock(&request_lock);
    return CLAMP(stacks, CO_POOL_BASE + CO_REQUESTS_MIN, CO_POOL_BASE + CO_REQUESTS_MAX) -
           CO_POOL_BASE;
}

/* The number of loops, or of the loop's sources, has changed. */
static void co_requests_share(void *opaque)
{
    AioContext *ctx = opaque;
    CoThread *t = &co_thread;
    t->request_max = co_requests_of_loop();
    unsigned share = t->request_max / MAX(ctx->request_sources, 1);
    atomic_store_explicit(&ctx->request_share, MAX(share, CO_REQUESTS_MIN), memory_order_relaxed);
    while (t->pool_count > co_pool_max(t)) {
        Coroutine *co = co_pool_pop(t);
        co_stack_free(&co->stack);
        co_free_push(co);
    }
}

/* Called with the lock. */
static void co_requests_notify(void)
{
    for (AioContext *ctx = request_loops; ctx != NULL; ctx = ctx->request_next) {
        aio_bh_schedule(&ctx->request_bh);
    }
}

static void co_requests_enter_loop(AioContext *ctx)
{
    aio_bh_init(&ctx->request_bh, ctx, co_requests_share, ctx);
    pthread_mutex_lock(&request_lock);
    co_requests_notify();
    ctx->request_next = request_loops;
    request_loops = ctx;
    request_loop_count++;
    pthread_mutex_unlock(&request_lock);
}

static void co_requests_leave_loop(AioContext *ctx)
{
    pthread_mutex_lock(&request_lock);
    AioContext **link = &request_loops;
    while (*link != ctx) {
        link = &(*link)->request_next;
    }
    *link = ctx->request_next;
    request_loop_count--;
    co_requests_notify();
    pthread_mutex_unlock(&request_lock);
    aio_bh_cancel(&ctx->request_bh);
}

void co_requests_begin(AioContext *ctx, unsigned requests)
{
    assert_home(ctx);
    if (ctx->request_sources++ == 0) {
        co_requests_enter_loop(ctx);
    }
    co_thread.reserved += requests;
    co_requests_share(ctx);
}

void co_requests_end(AioContext *ctx, unsigned requests)
{
    CoThread *t = &co_thread;
    assert_home(ctx);
    if (ctx->request_sources == 0 || t->reserved < requests) {
        bug_abort("context '%s': a source of requests ends without a begin", ctx->name);
    }
    if (--ctx->request_sources == 0) {
        co_requests_leave_loop(ctx);
    }
    t->reserved -= requests;
    co_requests_share(ctx);
}

unsigned co_requests_limit(const AioContext *ctx)
{
    unsigned share = atomic_load_explicit(&ctx->request_share, memory_order_relaxed);
    return MAX(share, CO_REQUESTS_MIN);
}

bool in_coroutine(void)
{
    return co_thread.current != NULL;
}

Coroutine *co_self(void)
{
    return co_thread.current;
}

AioContext *co_context(const Coroutine *co)
{
    return co->ctx;
}

/* ---- waiting ---- */

CoToken co_arm(void)
{
    Coroutine *co = co_self();
    uint64_t word = atomic_load_explicit(&co->wait_word, memory_order_relaxed);
    if ((word & 3) != CO_IDLE) {
        bug_abort("a second token is armed while the first is not yet waited for");
    }
    CoToken token = {.co = co, .sequence = (uint32_t)(word >> 2) + 1};
    atomic_store_explicit(&co->wait_word, CO_WORD(token.sequence, CO_ARMED), memory_order_release);
    return token;
}

void co_wait(CoToken token)
{
    Coroutine *co = co_self();
    if (token.co != co) {
        bug_abort("a coroutine waits with a token of another");
    }
    held_assert_may_yield("co_wait");
    uint64_t expected = CO_WORD(token.sequence, CO_ARMED);
    if (atomic_compare_exchange_strong(&co->wait_word, &expected,
                                       CO_WORD(token.sequence, CO_WAITING))) {
        co_switch_out(co);
        expected = atomic_load(&co->wait_word);
    }
    if (expected != CO_WORD(token.sequence, CO_WOKEN)) {
        bug_abort("a coroutine resumed without a wake");
    }
    atomic_store_explicit(&co->wait_word, CO_WORD(token.sequence, CO_IDLE), memory_order_relaxed);
}

void co_wake(CoToken token)
{
    uint64_t woken = CO_WORD(token.sequence, CO_WOKEN);
    uint64_t old = atomic_load(&token.co->wait_word);
    do {
        if (old != CO_WORD(token.sequence, CO_ARMED) &&
            old != CO_WORD(token.sequence, CO_WAITING)) {
            bug_abort("a coroutine is woken twice, or by an old token");
        }
    } while (!atomic_compare_exchange_weak(&token.co->wait_word, &old, woken));
    if ((old & 3) == CO_WAITING) {
        aio_ready_push(token.co->ctx, token.co);
    }
}

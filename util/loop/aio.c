/* SPDX-License-Identifier: Apache-2.0 */
#include "util/loop/aio.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "util/loop/aio_int.h"
#include "util/loop/held_int.h"

#define AIO_EVENTS_PER_TURN 64
#define AIO_POLL_START_NS 4000
/* Polling is tried while waits take less than this many times poll_max_ns, after at most so many waits. */
#define AIO_PROBE_WAITS 8
#define AIO_PROBE_INTERVAL_MAX 255
/* Between two looks at descriptors that only the kernel knows about, while the loop polls. */
#define AIO_LOOK_NS 4000
/* While polling finds work, only every Nth turn asks the kernel about descriptors. */
#define AIO_EPOLL_INTERVAL 8

static __thread AioContext *current_context;
static __thread char thread_identity;

/* ---- life cycle and ownership ---- */

static bool aio_set_errno(GError **error, const char *what)
{
    const char *advice = errno == EMFILE ? "; raise the limit of open files (ulimit -n)" : "";
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno), "event loop: %s: %s%s", what,
                g_strerror(errno), advice);
    return false;
}

static bool aio_context_open_fds(AioContext *ctx, GError **error)
{
    ctx->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (ctx->epoll_fd < 0) {
        return aio_set_errno(error, "epoll_create1");
    }
    if (!aio_wait_open(ctx)) {
        aio_set_errno(error, "timerfd");
        close(ctx->epoll_fd);
        return false;
    }
    ctx->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (ctx->wake_fd < 0) {
        aio_set_errno(error, "eventfd");
        aio_wait_close(ctx);
        close(ctx->epoll_fd);
        return false;
    }
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(ctx->epoll_fd, EPOLL_CTL_ADD, ctx->wake_fd, &ev) != 0) {
        aio_set_errno(error, "epoll_ctl");
        close(ctx->wake_fd);
        aio_wait_close(ctx);
        close(ctx->epoll_fd);
        return false;
    }
    return true;
}

AioContext *aio_context_new_unowned(const char *name, GError **error)
{
    AioContext *ctx = g_new0(AioContext, 1);
    ctx->name = name;
    ctx->bh_tail = &ctx->bh_head;
    aio_ready_init(ctx);
    aio_handlers_init(ctx);
    if (!aio_context_open_fds(ctx, error)) {
        g_free(ctx);
        return NULL;
    }
    return ctx;
}

void aio_context_adopt(AioContext *ctx)
{
    const void *nobody = NULL;
    if (!atomic_compare_exchange_strong(&ctx->owner, &nobody, &thread_identity)) {
        bug_abort("context '%s' has an owner already", ctx->name);
    }
}

AioContext *aio_context_new(const char *name, GError **error)
{
    AioContext *ctx = aio_context_new_unowned(name, error);
    if (ctx != NULL) {
        aio_context_adopt(ctx);
    }
    return ctx;
}

void aio_context_at_free(AioContext *ctx, void (*fn)(void *opaque), void *opaque)
{
    assert_home(ctx);
    AioExitHook *hook = g_new(AioExitHook, 1);
    *hook = (AioExitHook){.fn = fn, .opaque = opaque, .next = ctx->exit_hooks};
    ctx->exit_hooks = hook;
}

static void aio_context_release(AioContext *ctx)
{
    close(ctx->wake_fd);
    aio_wait_close(ctx);
    close(ctx->epoll_fd);
    g_free(ctx->heap);
    g_free(ctx);
}

void aio_context_free_unowned(AioContext *ctx)
{
    if (atomic_load(&ctx->owner) != NULL) {
        bug_abort("context '%s' has an owner; only the owner may free it", ctx->name);
    }
    aio_context_release(ctx);
}

void aio_context_free(AioContext *ctx)
{
    if (ctx == NULL) {
        return;
    }
    assert_home(ctx);
    if (ctx->running) {
        bug_abort("context '%s' is freed from inside its own turn", ctx->name);
    }
    while (ctx->exit_hooks != NULL) {
        AioExitHook *hook = ctx->exit_hooks;
        ctx->exit_hooks = hook->next;
        hook->fn(hook->opaque);
        g_free(hook);
    }
    if (ctx->request_sources != 0) {
        bug_abort("context '%s' is freed with %u sources of requests", ctx->name,
                  ctx->request_sources);
    }
    aio_handlers_reap(ctx);
    if (ctx->handlers != NULL) {
        bug_abort("context '%s' is freed with handlers in it (fd %d)", ctx->name,
                  ctx->handlers->fd);
    }
    while (atomic_load(&ctx->visitors) != 0) {
        sched_yield(); /* it leaves within a few instructions */
    }
    aio_context_release(ctx);
}

const char *aio_context_name(const AioContext *ctx)
{
    return ctx->name;
}

AioContext *aio_context_current(void)
{
    return current_context;
}

bool aio_context_is_home(const AioContext *ctx)
{
    return atomic_load_explicit(&ctx->owner, memory_order_relaxed) == &thread_identity &&
           (current_context == NULL || current_context == ctx);
}

void assert_home(const AioContext *ctx)
{
    if (__builtin_expect(!aio_context_is_home(ctx), 0)) {
        bug_abort("context '%s' is used by thread '%s'%s%s, which is not its home", ctx->name,
                  thread_name(), current_context != NULL ? " running " : "",
                  current_context != NULL ? current_context->name : "");
    }
}

NO_THREAD_SAFETY_ANALYSIS void enter_loop(const AioContext *ctx)
{
    assert_home(ctx);
}

NO_THREAD_SAFETY_ANALYSIS void enter_iothread(const AioContext *ctx)
{
    assert_home(ctx);
    if (__builtin_expect(thread_role() == THREAD_MAIN, 0)) {
        bug_abort("iothread code entered in main (context '%s')", ctx->name);
    }
}

/* ---- wake-up ---- */

void aio_context_notify(AioContext *ctx)
{
    if (atomic_load(&ctx->sleeping) && atomic_exchange(&ctx->sleeping, false)) {
        uint64_t one = 1;
        ssize_t n = write(ctx->wake_fd, &one, sizeof(one));
        (void)n; /* EAGAIN: the counter is full, so the descriptor is readable already */
    }
}

static void aio_wake_drain(AioContext *ctx)
{
    uint64_t count;
    ssize_t n = read(ctx->wake_fd, &count, sizeof(count));
    (void)n;
}

void aio_context_quit(AioContext *ctx)
{
    atomic_store(&ctx->quit, true);
    aio_context_notify(ctx);
}

/* ---- polling and blocking ---- */

void aio_context_set_polling(AioContext *ctx, int64_t poll_max_ns)
{
    ctx->poll_max_ns = poll_max_ns;
    ctx->poll_ns = 0;
}

static bool aio_has_work(const AioContext *ctx)
{
    return ctx->bh_head != NULL || ctx->co_head != NULL || atomic_load(&ctx->incoming_bh) != NULL ||
           atomic_load(&ctx->incoming_co) != NULL || atomic_load(&ctx->quit);
}

static bool aio_poll_once(AioContext *ctx)
{
    ctx->batch_now_ns = 0;
    bool progress = false;
    for (AioHandler *h = ctx->handlers; h != NULL; h = h->next) {
        if (!h->dead && h->ops->poll != NULL && h->ops->poll(h->opaque)) {
            h->ops->poll_ready(h->opaque);
            progress = true;
        }
    }
    return progress;
}

static void aio_poll_switch(AioContext *ctx, bool on)
{
    ctx->polling = on;
    for (AioHandler *h = ctx->handlers; h != NULL; h = h->next) {
        void (*fn)(void *) = on ? h->ops->poll_begin : h->ops->poll_end;
        if (!h->dead && fn != NULL) {
            fn(h->opaque);
        }
    }
}

static bool aio_dispatch(AioContext *ctx, const struct epoll_event *events, int count)
{
    bool progress = false;
    for (int i = 0; i < count; i++) {
        AioHandler *h = events[i].data.ptr;
        if (h == NULL) {
            aio_wake_drain(ctx);
        } else if (!h->dead) {
            progress |= aio_handler_dispatch(h, events[i].events);
        }
    }
    if (ctx->always_ready != 0) {
        for (AioHandler *h = ctx->handlers; h != NULL; h = h->next) {
            progress |= h->always_ready && aio_handler_dispatch(h, h->events);
        }
    }
    return progress;
}

/* Asks the kernel about descriptors and dispatches those that are ready. */
static bool aio_look(AioContext *ctx)
{
    struct epoll_event events[AIO_EVENTS_PER_TURN];
    return aio_dispatch(ctx, events, aio_wait(ctx, events, AIO_EVENTS_PER_TURN, 0));
}

/* The loop of aio_busy_poll(). */
static bool aio_poll_for(AioContext *ctx, int64_t limit_ns)
{
    int64_t now = aio_clock_ns(), end = now + limit_ns, look = now + AIO_LOOK_NS;
    do {
        if (aio_poll_once(ctx) || aio_has_work(ctx)) {
            return true;
        }
        now = aio_clock_ns();
        if (ctx->blind != 0 && now >= look) {
            if (aio_look(ctx)) {
                return true;
            }
            look = now + AIO_LOOK_NS;
        }
    } while (now < end);
    return false;
}

/* A wait took longer than poll_max_ns, but most of that may be the time that the wake-up itself takes: where
 * processors are virtual, 50 us and more. So polling is tried now and then: as long as it finds work, the
 * loop polls; each try in vain doubles the number of waits until the next one. Only loops with descriptors
 * that just the kernel knows about do so: networks'. A disk's waits are its workers', its guest's and the
 * host's, which need the processor that a try takes. */
static void aio_probe(AioContext *ctx, int64_t waited_ns)
{
    if (ctx->blind == 0 || waited_ns > AIO_PROBE_WAITS * ctx->poll_max_ns ||
        ++ctx->waits_since_probe <= ctx->probe_interval) {
        return;
    }
    ctx->waits_since_probe = 0;
    ctx->probe_interval = MIN(2 * ctx->probe_interval + 1, AIO_PROBE_INTERVAL_MAX);
    ctx->poll_ns = ctx->poll_max_ns;
    ctx->probing = true;
}

/* After a blocking wait of @waited_ns: polls longer if the event came soon, shorter if it came
 * late. */
static void aio_poll_adapt(AioContext *ctx, int64_t waited_ns)
{
    if (ctx->poll_max_ns == 0) {
        return;
    }
    if (waited_ns > ctx->poll_max_ns) {
        ctx->poll_ns = 0;
        aio_probe(ctx, waited_ns);
    } else if (waited_ns > ctx->poll_ns) {
        int64_t grown = ctx->poll_ns == 0 ? AIO_POLL_START_NS : ctx->poll_ns * 2;
        ctx->poll_ns = MIN(grown, ctx->poll_max_ns);
    }
}

/* Polls memory for up to poll_ns; true when something was dispatched or is ready. */
static bool aio_busy_poll(AioContext *ctx, int64_t timeout_ns)
{
    int64_t limit = timeout_ns < 0 || ctx->poll_ns < timeout_ns ? ctx->poll_ns : timeout_ns;
    if (limit > 0) {
        if (!ctx->polling) {
            aio_poll_switch(ctx, true);
        }
        if (aio_poll_for(ctx, limit)) {
            ctx->probe_interval = ctx->probing ? 0 : ctx->probe_interval;
            ctx->probing = false;
            return true; /* polling mode continues */
        }
        ctx->probing = false;
    }
    if (ctx->polling) {
        /* Turns notifications on, then polls once more: events in between sent no notification. */
        aio_poll_switch(ctx, false);
        return aio_poll_once(ctx);
    }
    return false;
}

/* Called before the descriptors. While notifications are off, only polling finds work; a turn with
 * other work polls once and leaves them off. */
static bool aio_poll_turn(AioContext *ctx, int64_t timeout_ns)
{
    if (timeout_ns != 0) {
        return aio_busy_poll(ctx, timeout_ns);
    }
    return ctx->polling && aio_poll_once(ctx);
}

static int aio_epoll(AioContext *ctx, struct epoll_event *events, int64_t timeout_ns)
{
    if (timeout_ns == 0) {
        return aio_wait(ctx, events, AIO_EVENTS_PER_TURN, 0);
    }
    atomic_store(&ctx->sleeping, true);
    if (aio_has_work(ctx)) { /* arrived before `sleeping` was set */
        timeout_ns = 0;
    }
    int64_t start = ctx->poll_max_ns != 0 ? aio_clock_ns() : 0;
    int n = aio_wait(ctx, events, AIO_EVENTS_PER_TURN, timeout_ns);
    if (n < 0 && errno != EINTR) { /* EBADF: the descriptor was closed elsewhere */
        bug_abort("epoll_wait of '%s': %s", ctx->name, g_strerror(errno));
    }
    atomic_store(&ctx->sleeping, false);
    if (ctx->poll_max_ns != 0 && timeout_ns != 0) {
        aio_poll_adapt(ctx, aio_clock_ns() - start);
    }
    return n;
}

static int64_t aio_timeout_ns(AioContext *ctx, bool may_block)
{
    if (!may_block || aio_has_work(ctx) || ctx->always_ready != 0) {
        return 0;
    }
    int64_t next = aio_timers_next_ns(ctx);
    if (next == INT64_MAX) {
        return -1;
    }
    if (ctx->virtual_time) { /* only the test moves the time */
        return next <= ctx->virtual_now_ns ? 0 : -1;
    }
    int64_t left_ns = next - aio_now_ns(ctx); /* MAX() evaluates twice, and < 0 means for ever */
    return MAX(left_ns, 0);
}

/* ---- turns ---- */

static bool aio_turn(AioContext *ctx, bool may_block)
{
    ctx->batch_now_ns = 0;
    bool progress = aio_bh_run(ctx);
    progress |= aio_ready_run(ctx);
    progress |= aio_timers_run(ctx);
    aio_handlers_flush(ctx);

    int64_t timeout_ns = aio_timeout_ns(ctx, may_block && !progress);
    if (ctx->pollers != 0 && aio_poll_turn(ctx, timeout_ns)) {
        progress = true;
        timeout_ns = 0;
        aio_handlers_flush(ctx);
    }
    if (ctx->polling && progress && ctx->always_ready == 0 && ctx->blind == 0 &&
        ++ctx->turns_without_epoll < AIO_EPOLL_INTERVAL) {
        return true;
    }
    ctx->turns_without_epoll = 0;
    struct epoll_event events[AIO_EVENTS_PER_TURN];
    int count = aio_epoll(ctx, events, timeout_ns);
    ctx->batch_now_ns = 0;
    progress |= aio_dispatch(ctx, events, count);
    return progress;
}

bool aio_context_step(AioContext *ctx, bool may_block)
{
    if (current_context != NULL || ctx->running) {
        bug_abort("context '%s' is run from inside a turn of '%s'", ctx->name,
                  current_context != NULL ? current_context->name : "?");
    }
    assert_home(ctx);
    if (may_block) {
        held_assert_none("an event loop's turn");
    }
    ctx->running = true;
    current_context = ctx;
    bool progress = aio_turn(ctx, may_block);
    current_context = NULL;
    ctx->running = false;
    aio_handlers_reap(ctx);
    return progress;
}

void aio_context_run(AioContext *ctx)
{
    while (!atomic_load(&ctx->quit)) {
        aio_context_step(ctx, true);
    }
    atomic_store(&ctx->quit, false);
}

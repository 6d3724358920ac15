/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/core/vm_clock.h"

#include <glib.h>
#include <stdatomic.h>
#include <time.h>

/*
 * now = host - offset while running; constant while paused. The three words are read together under
 * a sequence count, since vCPUs read the time without a lock.
 */
typedef struct VmClock {
    AioContext *ctx;
    _Atomic unsigned sequence; /* odd while being changed */
    _Atomic bool running;
    _Atomic int64_t offset_ns;
    _Atomic int64_t frozen_ns;
    _Atomic bool wall_set;
    _Atomic int64_t wall_offset_ns; /* wall - host, when wall_set */
    VmTimer *timers;                /* BQL */
    VmClockListener *listeners;     /* BQL */
} VmClock;

static VmClock vm_clock = {.running = true};

static int64_t vm_clock_host_ns(void)
{
    if (vm_clock.ctx != NULL) {
        return aio_now_ns(vm_clock.ctx);
    }
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

static void vm_clock_change(bool running, int64_t offset_ns, int64_t frozen_ns)
{
    atomic_fetch_add(&vm_clock.sequence, 1);
    vm_clock.running = running;
    vm_clock.offset_ns = offset_ns;
    vm_clock.frozen_ns = frozen_ns;
    atomic_fetch_add(&vm_clock.sequence, 1);
}

void vm_clock_init(AioContext *main_ctx)
{
    g_assert(vm_clock.timers == NULL && vm_clock.listeners == NULL);
    vm_clock.ctx = main_ctx;
    vm_clock.wall_set = false;
    vm_clock_change(true, vm_clock_host_ns(), 0);
}

int64_t vm_clock_now_ns(void)
{
    for (;;) {
        unsigned before = atomic_load(&vm_clock.sequence);
        bool running = vm_clock.running;
        int64_t offset_ns = vm_clock.offset_ns, frozen_ns = vm_clock.frozen_ns;
        if ((before & 1) == 0 && atomic_load(&vm_clock.sequence) == before) {
            return running ? vm_clock_host_ns() - offset_ns : frozen_ns;
        }
    }
}

bool vm_clock_is_running(void)
{
    return vm_clock.running;
}

int64_t vm_clock_wall_ns(void)
{
    if (vm_clock.wall_set) {
        return vm_clock_host_ns() + vm_clock.wall_offset_ns;
    }
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

void vm_clock_set_wall_ns(int64_t wall_ns)
{
    vm_clock.wall_offset_ns = wall_ns - vm_clock_host_ns();
    vm_clock.wall_set = true;
}

/* ---- timers ---- */

/* Sets the loop's timer from the VM's time. Main, BQL. */
static void vm_timer_sync(VmTimer *t) BQL_HELD
{
    if (t->armed && vm_clock.running) {
        aio_timer_arm(&t->timer, t->deadline_ns + vm_clock.offset_ns);
    } else {
        aio_timer_disarm(&t->timer);
    }
}

static void vm_timer_sync_bh(void *opaque)
{
    VmTimer *t = opaque;
    enter_main();
    bql_lock();
    vm_timer_sync(t);
    bql_unlock();
}

static void vm_timer_fire(void *opaque)
{
    VmTimer *t = opaque;
    enter_main();
    bql_lock();
    if (t->armed && vm_clock.running && vm_clock_now_ns() >= t->deadline_ns) {
        t->armed = false;
        t->fn(t->opaque);
    } else {
        vm_timer_sync(t); /* it was moved or disarmed since */
    }
    bql_unlock();
}

void vm_timer_init(VmTimer *t, void (*fn)(void *opaque), void *opaque)
{
    g_assert(vm_clock.ctx != NULL);
    *t = (VmTimer){.fn = fn, .opaque = opaque};
    aio_timer_init(&t->timer, vm_clock.ctx, vm_timer_fire, t);
    aio_bh_init(&t->sync, vm_clock.ctx, vm_timer_sync_bh, t);
    bql_lock();
    t->next = vm_clock.timers;
    vm_clock.timers = t;
    bql_unlock();
}

void vm_timer_fini(VmTimer *t)
{
    if (t->fn == NULL) {
        return; /* never initialized */
    }
    bql_lock();
    VmTimer **at = &vm_clock.timers;
    while (*at != t) {
        g_assert(*at != NULL);
        at = &(*at)->next;
    }
    *at = t->next;
    t->armed = false;
    bql_unlock();
    aio_timer_disarm(&t->timer);
    aio_bh_cancel(&t->sync);
    t->fn = NULL;
}

void vm_timer_arm(VmTimer *t, int64_t deadline_ns)
{
    assert_bql();
    bool later = t->armed && deadline_ns >= t->deadline_ns;
    t->armed = true;
    t->deadline_ns = deadline_ns;
    if (!later) { /* a later deadline: the loop's timer fires early and is armed again */
        aio_bh_schedule(&t->sync);
    }
}

void vm_timer_disarm(VmTimer *t)
{
    assert_bql();
    t->armed = false; /* the loop's timer fires without effect, or is armed again before */
}

/* ---- pause and resume ---- */

void vm_clock_pause(void)
{
    bql_lock();
    if (vm_clock.running) {
        int64_t now_ns = vm_clock_now_ns();
        vm_clock_change(false, 0, now_ns);
        for (VmTimer *t = vm_clock.timers; t != NULL; t = t->next) {
            vm_timer_sync(t);
        }
    }
    bql_unlock();
}

void vm_clock_resume(void)
{
    bql_lock();
    if (!vm_clock.running) {
        vm_clock_change(true, vm_clock_host_ns() - vm_clock.frozen_ns, 0);
        for (VmTimer *t = vm_clock.timers; t != NULL; t = t->next) {
            vm_timer_sync(t);
        }
        for (VmClockListener *l = vm_clock.listeners; l != NULL; l = l->next) {
            l->resumed(l->opaque);
        }
    }
    bql_unlock();
}

void vm_clock_set_ns(int64_t now_ns)
{
    g_assert(!vm_clock.running);
    vm_clock_change(false, 0, now_ns);
}

void vm_clock_listen(VmClockListener *l)
{
    bql_lock();
    l->next = vm_clock.listeners;
    vm_clock.listeners = l;
    bql_unlock();
}

void vm_clock_unlisten(VmClockListener *l)
{
    bql_lock();
    for (VmClockListener **at = &vm_clock.listeners; *at != NULL; at = &(*at)->next) {
        if (*at == l) {
            *at = l->next;
            break;
        }
    }
    bql_unlock();
}

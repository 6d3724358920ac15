/* SPDX-License-Identifier: Apache-2.0 */
#include "block/throttle.h"

#include <string.h>
#include "util/loop/held.h"

struct ThrottleGroup {
    char *name;
    unsigned refs; /* main */
    RankMutex lock;
    /* under the lock */
    RateLimit rate;
    GQueue turns[2];   /* ThrottleMember */
    bool last_written; /* the direction of the request that waited and started last */
    unsigned members;
};

/* A request that waits; on the stack of its coroutine. */
typedef struct ThrottleWait {
    GList link; /* in the member's queue */
    uint64_t bytes;
    int result;
    CoToken token;
} ThrottleWait;

static GHashTable *throttle_groups; /* main; NULL when there is none */

/* ---- turns: under the lock ---- */

static void turns_add(ThrottleGroup *g, ThrottleMember *m)
{
    for (unsigned i = 0; i < 2; i++) {
        if (!m->has_turn[i] && !m->suspended && m->waiting[i].length > 0) {
            m->has_turn[i] = true;
            g_queue_push_tail_link(&g->turns[i], &m->turn[i]);
        }
    }
}

static void turn_remove(ThrottleGroup *g, ThrottleMember *m, unsigned i)
{
    if (m->has_turn[i]) {
        m->has_turn[i] = false;
        g_queue_unlink(&g->turns[i], &m->turn[i]);
    }
}

static void turns_remove(ThrottleGroup *g, ThrottleMember *m)
{
    turn_remove(g, m, 0);
    turn_remove(g, m, 1);
}

/* The coroutine of @w runs in its home, and @w may be gone afterwards. */
static void wait_finish(GQueue *waiting, ThrottleWait *w, int result)
{
    g_queue_unlink(waiting, &w->link);
    w->result = result;
    co_wake(w->token);
}

/* Starts the next request of direction @i, if it may start. */
static bool turn_take(ThrottleGroup *g, unsigned i, int64_t now_ns)
{
    GList *first = g->turns[i].head;
    if (first == NULL || rate_limit_wait_ns(&g->rate, i != 0, now_ns) > 0) {
        return false;
    }
    ThrottleMember *m = first->data;
    ThrottleWait *w = m->waiting[i].head->data;
    turn_remove(g, m, i);
    rate_limit_charge(&g->rate, i != 0, w->bytes, now_ns);
    g->last_written = i != 0;
    wait_finish(&m->waiting[i], w, 0);
    turns_add(g, m); /* at the end */
    return true;
}

/* Makes the home of @m look again at @when_ns. */
static void wakeup_at(ThrottleMember *m, int64_t when_ns)
{
    if (when_ns >= m->wakeup_ns) {
        return; /* it looks before and decides again */
    }
    m->wakeup_ns = when_ns;
    if (aio_context_is_home(m->home)) {
        aio_timer_arm(&m->timer, when_ns);
    } else {
        aio_bh_schedule(&m->arm);
    }
}

/* Starts all requests that may start. Reads and writes take turns, because they can have a limit in
 * common. */
static void group_pump(ThrottleGroup *g, int64_t now_ns)
{
    while (turn_take(g, !g->last_written, now_ns) || turn_take(g, g->last_written, now_ns)) {
    }
    for (unsigned i = 0; i < 2; i++) {
        if (g->turns[i].length > 0) {
            wakeup_at(g->turns[i].head->data,
                      now_ns + rate_limit_wait_ns(&g->rate, i != 0, now_ns));
        }
    }
}

/* ---- the home's timer ---- */

static void member_timer(void *opaque)
{
    ThrottleMember *m = opaque;
    enter_iothread(m->home);
    ThrottleGroup *g = m->group;
    rank_mutex_lock(&g->lock);
    m->wakeup_ns = INT64_MAX;
    group_pump(g, aio_now_ns(m->home));
    rank_mutex_unlock(&g->lock);
}

/* Another thread has set the time. */
static void member_arm(void *opaque)
{
    ThrottleMember *m = opaque;
    enter_iothread(m->home);
    ThrottleGroup *g = m->group;
    rank_mutex_lock(&g->lock);
    if (m->wakeup_ns != INT64_MAX) {
        aio_timer_arm(&m->timer, m->wakeup_ns);
    }
    rank_mutex_unlock(&g->lock);
}

/* Later the home has no work for @m. */
static void member_disarm(ThrottleMember *m)
{
    m->wakeup_ns = INT64_MAX;
    aio_timer_disarm(&m->timer);
    aio_bh_cancel(&m->arm);
}

/* ---- members ---- */

void throttle_member_init(ThrottleMember *m, AioContext *home)
{
    *m = (ThrottleMember){.wakeup_ns = INT64_MAX};
    for (unsigned i = 0; i < 2; i++) {
        g_queue_init(&m->waiting[i]);
        m->turn[i].data = m;
    }
    throttle_member_move(m, home);
}

void throttle_member_move(ThrottleMember *m, AioContext *home)
{
    m->home = home;
    aio_timer_init(&m->timer, home, member_timer, m);
    aio_bh_init(&m->arm, home, member_arm, m);
}

void throttle_member_join(ThrottleMember *m, ThrottleGroup *g)
{
    m->group = g;
    rank_mutex_lock(&g->lock);
    g->members++;
    turns_add(g, m);
    group_pump(g, aio_now_ns(m->home));
    rank_mutex_unlock(&g->lock);
}

void throttle_member_leave(ThrottleMember *m)
{
    ThrottleGroup *g = m->group;
    rank_mutex_lock(&g->lock);
    g->members--;
    turns_remove(g, m);
    group_pump(g, aio_now_ns(m->home)); /* it may have had the first turn */
    if (!m->lifted) {
        member_disarm(m);
    }
    rank_mutex_unlock(&g->lock);
    m->group = NULL;
}

/* Under the lock. Charges the request and returns true if it need not wait. Those that wait come
 * first. */
static bool member_start_now(ThrottleGroup *g, const ThrottleMember *m, bool is_write,
                             uint64_t bytes)
{
    int64_t now_ns = aio_now_ns(m->home);
    if (!m->lifted && (m->suspended || g->turns[0].length > 0 || g->turns[1].length > 0 ||
                       rate_limit_wait_ns(&g->rate, is_write, now_ns) > 0)) {
        return false;
    }
    rate_limit_charge(&g->rate, is_write, bytes, now_ns);
    return true;
}

int throttle_member_co_wait(ThrottleMember *m, bool is_write, uint64_t bytes)
{
    assert_home(m->home);
    ThrottleGroup *g = m->group;
    ThrottleWait w = {.bytes = bytes};
    w.link.data = &w;
    rank_mutex_lock(&g->lock);
    bool started = member_start_now(g, m, is_write, bytes);
    if (!started && !m->returning) {
        w.token = co_arm();
        g_queue_push_tail_link(&m->waiting[is_write], &w.link);
        turns_add(g, m);
        group_pump(g, aio_now_ns(m->home));
        rank_mutex_unlock(&g->lock);
        co_wait(w.token); /* for a timer: no cycle of waits leads through it */
        return w.result;
    }
    rank_mutex_unlock(&g->lock);
    return started ? 0 : BLK_NOT_STARTED;
}

void throttle_member_charge(ThrottleMember *m, bool is_write, uint64_t bytes)
{
    ThrottleGroup *g = m->group;
    rank_mutex_lock(&g->lock);
    rate_limit_charge(&g->rate, is_write, bytes, aio_now_ns(m->home));
    rank_mutex_unlock(&g->lock);
}

void throttle_member_suspend(ThrottleMember *m, bool on)
{
    ThrottleGroup *g = m->group;
    rank_mutex_lock(&g->lock);
    m->suspended = on;
    if (on) {
        turns_remove(g, m);
    } else {
        turns_add(g, m);
    }
    group_pump(g, aio_now_ns(m->home));
    rank_mutex_unlock(&g->lock);
}

/* Ends the wait of all requests; @charge: they start, and are charged. */
static void member_end_waits(ThrottleMember *m, int result, RateLimit *charge)
{
    for (unsigned i = 0; i < 2; i++) {
        while (m->waiting[i].length > 0) {
            ThrottleWait *w = m->waiting[i].head->data;
            if (charge != NULL) {
                rate_limit_charge(charge, i != 0, w->bytes, aio_now_ns(m->home));
            }
            wait_finish(&m->waiting[i], w, result);
        }
    }
}

void throttle_member_return(ThrottleMember *m, bool on)
{
    ThrottleGroup *g = m->group;
    rank_mutex_lock(&g->lock);
    m->returning = on;
    if (on) {
        turns_remove(g, m);
        member_end_waits(m, BLK_NOT_STARTED, NULL);
        group_pump(g, aio_now_ns(m->home));
    }
    rank_mutex_unlock(&g->lock);
}

void throttle_member_lift(ThrottleMember *m, bool on)
{
    assert_home(m->home);
    ThrottleGroup *g = m->group;
    m->lifted = on;
    if (!on) {
        return;
    }
    rank_mutex_lock(&g->lock);
    turns_remove(g, m);
    member_end_waits(m, 0, &g->rate);
    group_pump(g, aio_now_ns(m->home));
    member_disarm(m);
    rank_mutex_unlock(&g->lock);
}

void throttle_member_release(ThrottleMember *m)
{
    member_end_waits(m, 0, NULL);
}

/* ---- groups ---- */

ThrottleGroup *throttle_group_find(const char *name)
{
    return throttle_groups != NULL ? g_hash_table_lookup(throttle_groups, name) : NULL;
}

ThrottleGroup *throttle_group_new(const char *name, const RateLimits *limits)
{
    if (throttle_group_find(name) != NULL) {
        bug_abort("a second throttle group '%s'", name);
    }
    ThrottleGroup *g = g_new0(ThrottleGroup, 1);
    g->name = g_strdup(name);
    g->refs = 1;
    rank_mutex_init(&g->lock, RANK_QUEUE, "throttle group");
    g_queue_init(&g->turns[0]);
    g_queue_init(&g->turns[1]);
    rate_limit_set(&g->rate, limits, aio_now_ns(aio_context_current()));
    if (throttle_groups == NULL) {
        throttle_groups = g_hash_table_new(g_str_hash, g_str_equal);
    }
    g_hash_table_insert(throttle_groups, g->name, g);
    return g;
}

void throttle_group_ref(ThrottleGroup *g)
{
    g->refs++;
}

void throttle_group_unref(ThrottleGroup *g)
{
    if (--g->refs > 0) {
        return;
    }
    if (g->members > 0) {
        bug_abort("throttle group '%s' is freed while it has members", g->name);
    }
    g_hash_table_remove(throttle_groups, g->name);
    if (g_hash_table_size(throttle_groups) == 0) {
        g_clear_pointer(&throttle_groups, g_hash_table_unref);
    }
    rank_mutex_destroy(&g->lock);
    g_free(g->name);
    g_free(g);
}

bool throttle_group_in_use(const ThrottleGroup *g)
{
    return g->refs > 1;
}

const char *throttle_group_name(const ThrottleGroup *g)
{
    return g->name;
}

void throttle_group_limits(const ThrottleGroup *g, RateLimits *limits)
{
    *limits = g->rate.limits; /* only main changes them */
}

void throttle_group_set_limits(ThrottleGroup *g, const RateLimits *limits)
{
    int64_t now_ns = aio_now_ns(aio_context_current());
    rank_mutex_lock(&g->lock);
    rate_limit_set(&g->rate, limits, now_ns);
    group_pump(g, now_ns);
    rank_mutex_unlock(&g->lock);
}

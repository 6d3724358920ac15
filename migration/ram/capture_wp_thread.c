/* SPDX-License-Identifier: Apache-2.0 */
/* The capture thread: faults, calls, and one chunk of a round, in turns. */
#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "hw/core/ram_keep.h"
#include "migration/ram/capture_wp_int.h"
#include "util/loop/sched_point.h"

#define WP_PATIENCE_MS 10000u

/* ---- phases ---- */

static const char *const wp_moves[WP_PHASE_COUNT][WP_PHASE_COUNT] = {
    [WP_IDLE] = {[WP_ARMING] = "wp_call_arm", [WP_ENDING] = "wp_leave"},
    [WP_ARMING] = {[WP_ARMED] = "wp_arm_chunk", [WP_ENDING] = "wp_leave"},
    [WP_ARMED] = {[WP_FROZEN] = "wp_call_freeze", [WP_ENDING] = "wp_leave"},
    [WP_FROZEN] = {[WP_ENDING] = "wp_leave"},
    [WP_ENDING] = {[WP_ENDED] = "wp_release_chunk"},
};

static RUNS_IN_MIGRATION void wp_move_by(CaptureWp *c, WpPhase to, const char *by)
{
    const char *maker = wp_moves[c->phase][to];
    if (g_strcmp0(maker, by) != 0) {
        bug_abort("capture: %s() moves from phase %d to %d", by, c->phase, to);
    }
    c->phase = to;
}
#define wp_move(c, to) wp_move_by(c, to, __func__)

void assert_wp_state(const CaptureWp *c)
{
    if (c->held > 0 && c->phase < WP_FROZEN) {
        bug_abort("invariant 2: %lu pages are held before the instant", (unsigned long)c->held);
    }
    if (c->phase == WP_FROZEN && c->open != 0) {
        bug_abort("invariant 2: %lu pages were not protected at the instant",
                  (unsigned long)c->open);
    }
    if (c->held > c->fresh) {
        bug_abort("invariant 1: more pages are held than there were slots");
    }
    if (c->braked && c->phase != WP_FROZEN) {
        bug_abort("invariant 7: vCPUs are braked in phase %d", c->phase);
    }
    if (c->round && c->phase != WP_ARMING && c->phase != WP_ARMED) {
        bug_abort("a round in phase %d", c->phase);
    }
}

/* ---- brakes ---- */

static RUNS_IN_MIGRATION void wp_set_brake(CaptureWp *c, bool on)
{
    if (c->braked == on || c->config.brake == NULL) {
        return;
    }
    c->braked = on;
    c->stats.brakes += on;
    c->braked_ms = g_get_monotonic_time() / 1000;
    SP("capture_wp.brake", c);
    c->config.brake(c->config.opaque, on);
}

static RUNS_IN_MIGRATION void wp_check_bound(CaptureWp *c)
{
    uint64_t held = c->held * GUEST_RAM_PAGE;
    if (held >= c->config.bound) {
        wp_set_brake(c, true);
    } else if (held < c->config.bound - c->config.bound / 8) {
        wp_set_brake(c, false);
    }
}

/* ---- the end ---- */

/* Who has made the call finds the statistics of after it. */
static RUNS_IN_MIGRATION void wp_answer(CaptureWp *c, WpCall *call, int ret)
{
    pthread_mutex_lock(&c->lock);
    c->stats_out = c->stats;
    pthread_mutex_unlock(&c->lock);
    completion_signal(&call->done, ret); /* @call is invalid from here on */
}

/* @error: what reads get. */
static RUNS_IN_MIGRATION void wp_leave(CaptureWp *c, int error, const char *why)
{
    if (c->phase >= WP_ENDING) {
        return;
    }
    wp_set_brake(c, false);
    atomic_store(&c->urgent, 0);
    wp_move(c, WP_ENDING);
    const char *none = NULL;
    if (why != NULL) {
        atomic_compare_exchange_strong(&c->failure, &none, why);
    }
    c->error = error;
    c->round = false;
    c->at_block = c->at_page = 0;
    if (c->arming != NULL) {
        wp_answer(c, g_steal_pointer(&c->arming), error);
    }
}

static RUNS_IN_MIGRATION void wp_fail(CaptureWp *c, int error)
{
    wp_leave(c, error, "the kernel has failed to change the protection of memory");
}

/* In pieces: the kernel holds a lock meanwhile that every fault of the process needs. What cannot be released so
 * is when the descriptor is closed. */
static RUNS_IN_MIGRATION void wp_release_chunk(CaptureWp *c)
{
    WpBlock *b = &c->blocks[c->at_block];
    uint32_t count = MIN(b->pages - c->at_page, WP_CHUNK_PAGES);
    wp_kernel_unregister(c, b, c->at_page, count);
    c->at_page += count;
    if (c->at_page == b->pages) {
        c->at_page = 0;
        c->at_block++;
    }
    if (c->at_block == c->count) {
        close(c->uffd);
        c->uffd = -1;
        wp_move(c, WP_ENDED);
    }
}

/* ---- rounds ---- */

static RUNS_IN_MIGRATION void wp_begin_round(CaptureWp *c)
{
    c->round = true;
    c->open_before = c->open;
    c->at_block = c->at_page = 0;
    c->stats.rounds++;
}

/* Few pages are left for the instant, or another round would not change that. */
static bool wp_is_armed(const CaptureWp *c)
{
    return c->phase == WP_ARMED && !c->round &&
           (c->open <= WP_FEW_PAGES || c->stats.rounds >= WP_MAX_ROUNDS ||
            (c->stats.rounds > 2 && c->open > c->open_before / 4 * 3));
}

static RUNS_IN_MIGRATION void wp_arm_chunk(CaptureWp *c)
{
    bool more;
    int ret = wp_pages_arm_chunk(c, &more);
    if (ret != 0) {
        wp_fail(c, ret);
        return;
    }
    if (!more) {
        c->round = false;
        if (c->phase == WP_ARMING) {
            wp_move(c, WP_ARMED);
        }
        SP("capture_wp.round", c);
    }
    if (c->arming != NULL && wp_is_armed(c)) {
        wp_answer(c, g_steal_pointer(&c->arming), 0);
    }
    if (!c->round && c->phase == WP_ARMED && c->open > WP_FEW_PAGES) {
        wp_begin_round(c);
    }
}

/* ---- calls ---- */

static RUNS_IN_MIGRATION void wp_call_arm(CaptureWp *c, WpCall *call)
{
    wp_move(c, WP_ARMING);
    c->arming = call;
    int ret = c->pagemap >= 0 ? wp_pages_watch_empty(c) : 0;
    if (ret != 0) {
        wp_fail(c, ret);
    } else {
        wp_begin_round(c);
    }
}

static RUNS_IN_MIGRATION void wp_call_freeze(CaptureWp *c, WpCall *call)
{
    c->round = false;
    c->stats.open_at_freeze = c->open;
    int ret = wp_pages_arm_rest(c);
    if (ret == 0) {
        wp_move(c, WP_FROZEN);
        c->at_block = c->at_page = 0;
    } else {
        wp_fail(c, ret);
    }
    wp_answer(c, call, ret);
}

static RUNS_IN_MIGRATION void wp_call_read(CaptureWp *c, WpCall *call)
{
    int ret = wp_pages_saved(c, call);
    c->braked_ms = g_get_monotonic_time() / 1000;
    if (ret != 0 && ret != -ESTALE) {
        wp_fail(c, ret);
    }
    wp_answer(c, call, ret);
}

static RUNS_IN_MIGRATION void wp_call(CaptureWp *c, WpCall *call)
{
    static const WpPhase wanted[] = {
        [WP_CALL_ARM] = WP_IDLE, [WP_CALL_FREEZE] = WP_ARMED, [WP_CALL_READ] = WP_FROZEN};
    if (atomic_load(&c->ended)) { /* perhaps since this turn began */
        wp_leave(c, -ECANCELED, NULL);
    }
    if (c->phase >= WP_ENDING) {
        wp_answer(c, call, c->error);
    } else if (c->phase != wanted[call->kind]) {
        bug_abort("capture: call %d in phase %d", call->kind, c->phase);
    } else if (call->kind == WP_CALL_ARM) {
        wp_call_arm(c, call);
    } else if (call->kind == WP_CALL_FREEZE) {
        wp_call_freeze(c, call);
    } else {
        wp_call_read(c, call);
    }
}

/* One call. False: there is none. @last: no more are taken. */
static RUNS_IN_MIGRATION bool wp_next_call(CaptureWp *c, bool last)
{
    pthread_mutex_lock(&c->lock);
    WpCall *call = c->calls;
    if (call != NULL) {
        c->calls = call->next;
    }
    c->gone = last;
    c->stats_out = c->stats;
    pthread_mutex_unlock(&c->lock);
    if (call != NULL) {
        wp_call(c, call);
    }
    return call != NULL;
}

/* ---- the thread ---- */

static RUNS_IN_MIGRATION bool wp_serve_faults(CaptureWp *c)
{
    WpFault faults[32];
    unsigned count = wp_kernel_faults(c, faults, G_N_ELEMENTS(faults));
    for (unsigned i = 0; i < count; i++) {
        int ret = wp_pages_fault(c, &faults[i]);
        if (ret != 0) {
            wp_fail(c, ret); /* its release wakes the writer */
        }
    }
    return count > 0;
}

/* Milliseconds until the capture is given up; -1: never. */
static RUNS_IN_MIGRATION int wp_patience(const CaptureWp *c)
{
    if (!c->braked) {
        return -1;
    }
    int64_t limit = c->config.patience_ms != 0 ? c->config.patience_ms : WP_PATIENCE_MS;
    return (int)MAX(c->braked_ms + limit - g_get_monotonic_time() / 1000, 0);
}

static RUNS_IN_MIGRATION void wp_sleep(const CaptureWp *c)
{
    struct pollfd fds[2] = {{.fd = c->uffd, .events = POLLIN},
                            {.fd = c->wake_fd, .events = POLLIN}};
    eventfd_t count;
    if (poll(fds, 2, wp_patience(c)) > 0 && fds[1].revents != 0) {
        eventfd_read(c->wake_fd, &count);
    }
}

static RUNS_IN_MIGRATION void wp_turn(CaptureWp *c)
{
    if (atomic_load(&c->ended)) {
        wp_leave(c, -ECANCELED, NULL);
    }
    bool busy = wp_serve_faults(c);
    if (c->phase == WP_FROZEN) {
        wp_check_bound(c);
        wp_pages_hurry(c);
        if (wp_patience(c) == 0) {
            wp_leave(c, -ETIMEDOUT,
                     "storage takes nothing, and the memory that may be held for it is full");
        }
    } else if (c->phase == WP_ARMED && !c->round && c->open > WP_FEW_PAGES) {
        wp_begin_round(c); /* the stop takes its time */
    }
    busy = wp_next_call(c, false) || busy;
    if (c->phase == WP_ENDING) {
        wp_release_chunk(c);
    } else if (c->round) {
        wp_arm_chunk(c);
    } else if (!busy) {
        wp_sleep(c);
    }
    assert_wp_state(c);
}

void *wp_thread(void *opaque)
{
    CaptureWp *c = opaque;
    enter_migration();
    while (c->phase != WP_ENDED) {
        wp_turn(c);
    }
    while (wp_next_call(c, true)) {
    }
    wp_pages_drop_pool(c); /* at once, though the owner may wait for a file that hangs */
    guest_ram_keep_end();
    return NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/snapshot/frozen_ram.h"

#include <errno.h>
#include "migration/ram/capture.h"
#include "migration/ram/ram_image.h"
#include "util/loop/sched_point.h"
#include "util/loop/worker.h"

const char *const frozen_ram_ways[] = {"auto", "fork", "write-protection", "passes", NULL};

static WorkerLane frozen_lane; /* the stopped VM waits for it, not for other calls that hang */

/* A call in a worker. */
typedef struct FrozenCall {
    FrozenRam *f;
    const GuestRam *ram;
    FrozenRamWay way;
    CaptureFork *fork;
    CaptureWp *wp;
    GError *error;
} FrozenCall;

/* ---- prepare ---- */

static void frozen_brake(void *opaque, bool on)
{
    VmMachine *m = opaque;
    if (m->vcpus != NULL) {
        vcpus_brake(m->vcpus, on);
    }
}

static RUNS_IN_WORKER bool frozen_new_wp(FrozenCall *c, GError **error)
{
    const CaptureWpConfig config = {
        .ram = c->ram, .brake = frozen_brake, .opaque = &c->f->vm->machine};
    c->wp = capture_wp_new(&config, error);
    c->way = c->wp != NULL ? FROZEN_RAM_WP : c->way;
    return c->wp != NULL;
}

static RUNS_IN_WORKER bool frozen_may_fork(FrozenCall *c, GError **error)
{
    bool may = capture_fork_possible(c->ram, error);
    c->way = may ? FROZEN_RAM_FORK : c->way;
    return may;
}

/* A fork that is short is best: the guest is not slowed before the instant. One that is long is still shorter than the
 * last pass of a guest that writes much. */
static RUNS_IN_WORKER bool frozen_choose(FrozenCall *c, GError **error)
{
    g_autoptr(GError) no_fork = NULL;
    GError *no_wp = NULL;
    if (!capture_allowed(error)) {
        return false;
    }
    bool may_fork = capture_fork_possible(c->ram, &no_fork);
    if (may_fork && capture_fork_predict_ns(c->ram) <= FROZEN_RAM_FORK_NS) {
        c->way = FROZEN_RAM_FORK;
        return true;
    }
    if (frozen_new_wp(c, &no_wp)) {
        return true;
    }
    if (may_fork) {
        g_error_free(no_wp);
        c->way = FROZEN_RAM_FORK;
        return true;
    }
    g_propagate_prefixed_error(error, no_wp, "%s; ", no_fork->message);
    return false;
}

static int frozen_prepare_at_worker(void *opaque)
{
    FrozenCall *c = opaque;
    enter_worker();
    bool ok;
    if (c->way == FROZEN_RAM_FORK) {
        ok = frozen_may_fork(c, &c->error);
    } else if (c->way == FROZEN_RAM_WP) {
        ok = frozen_new_wp(c, &c->error);
    } else {
        ok = frozen_choose(c, &c->error);
    }
    return ok ? 0 : -1;
}

static int frozen_arm_at_worker(void *opaque)
{
    enter_worker();
    return capture_wp_arm(opaque);
}

static const char frozen_outside_text[] =
    "a vhost-user back end writes guest memory from another process, which no protection covers";

static void frozen_outside(void *opaque)
{
    FrozenRam *f = opaque;
    enter_main();
    f->outside = true;
    if (f->wp != NULL) {
        capture_wp_give_up(f->wp, frozen_outside_text);
    }
}

static RUNS_IN_MAIN void frozen_set_error(const FrozenRam *f, GError **error, int ret)
{
    const char *why = capture_wp_failure(f->wp);
    g_set_error(error, RAM_IMAGE_ERROR, RAM_IMAGE_ERROR_IO, "protection of memory: %s",
                why != NULL ? why : g_strerror(-ret));
}

static RUNS_IN_MAIN void frozen_watch(FrozenRam *f)
{
    f->outside = ram_outside_count() > 0;
    f->watching = true;
    ram_outside_watch(&f->watch, frozen_outside, f);
}

static RUNS_IN_MAIN void frozen_unwatch(FrozenRam *f)
{
    if (f->watching) {
        ram_outside_unwatch(&f->watch);
    }
    f->watching = false;
}

/* With the write protection of @f set up. 0 or -errno. */
static coroutine_fn RUNS_IN_MAIN int frozen_arm(FrozenRam *f)
{
    SP("frozen_ram.arm", f);
    if (f->outside) {
        capture_wp_give_up(f->wp, frozen_outside_text);
    } else if (f->cancelled) {
        capture_wp_end(f->wp);
    }
    return co_run_in_lane(&frozen_lane, frozen_arm_at_worker, f->wp);
}

bool frozen_ram_co_prepare(FrozenRam *f, GError **error)
{
    if (f->way == FROZEN_RAM_PASSES) {
        g_set_error(error, RAM_IMAGE_ERROR, RAM_IMAGE_ERROR_IO, "passes were requested");
        return false;
    }
    FrozenCall c = {.f = f, .ram = &f->vm->machine.ram, .way = f->way};
    frozen_watch(f);
    if (f->outside && c.way != FROZEN_RAM_FORK) {
        frozen_unwatch(f);
        g_set_error_literal(error, RAM_IMAGE_ERROR, RAM_IMAGE_ERROR_MACHINE, frozen_outside_text);
        return false;
    }
    if (co_run_in_lane(&frozen_lane, frozen_prepare_at_worker, &c) != 0) {
        frozen_unwatch(f);
        g_propagate_error(error, c.error);
        return false;
    }
    f->way = c.way;
    f->wp = c.wp;
    int ret = f->wp != NULL ? frozen_arm(f) : 0;
    if (ret != 0) {
        frozen_set_error(f, error, ret);
        frozen_ram_co_free(f);
    }
    return ret == 0;
}

/* ---- the instant ---- */

static int frozen_fork_at_worker(void *opaque)
{
    FrozenCall *c = opaque;
    enter_worker();
    c->fork = capture_fork_begin(c->ram, &c->error);
    return 0;
}

static int frozen_freeze_at_worker(void *opaque)
{
    enter_worker();
    return capture_wp_freeze(opaque);
}

bool frozen_ram_co_freeze(FrozenRam *f, const VmStopped *token, GError **error)
{
    g_assert(token->count > 0);
    if (f->wp != NULL) {
        int ret = co_run_in_lane(&frozen_lane, frozen_freeze_at_worker, f->wp);
        if (ret != 0) {
            frozen_set_error(f, error, ret);
        }
        return ret == 0;
    }
    FrozenCall c = {.ram = &f->vm->machine.ram};
    co_run_in_lane(&frozen_lane, frozen_fork_at_worker, &c);
    if (c.fork == NULL) {
        g_propagate_error(error, c.error);
    }
    f->fork = c.fork;
    return f->fork != NULL;
}

int frozen_ram_read(const FrozenRam *f, unsigned block, uint64_t offset, void *buf, size_t len)
{
    return f->wp != NULL ? capture_wp_read(f->wp, block, offset, buf, len)
                         : capture_fork_read(f->fork, block, offset, buf, len);
}

int frozen_ram_blank(const FrozenRam *f, unsigned block, uint64_t offset, uint64_t pages,
                     uint64_t *bits)
{
    return f->wp != NULL ? capture_wp_blank(f->wp, block, offset, pages, bits)
                         : capture_fork_blank(f->fork, block, offset, pages, bits);
}

bool frozen_ram_urgent(const FrozenRam *f, unsigned *block, uint64_t *offset)
{
    return f->wp != NULL && capture_wp_urgent(f->wp, block, offset);
}

/* ---- the end ---- */

void frozen_ram_cancel(FrozenRam *f)
{
    f->cancelled = true;
    if (f->wp != NULL) {
        capture_wp_end(f->wp);
    }
    if (f->fork != NULL) {
        capture_fork_end(f->fork);
    }
}

const char *frozen_ram_failure(const FrozenRam *f)
{
    return f->wp != NULL ? capture_wp_failure(f->wp) : NULL;
}

static int frozen_free_at_worker(void *opaque)
{
    const FrozenCall *c = opaque;
    enter_worker();
    capture_fork_free(c->fork);
    capture_wp_free(c->wp);
    return 0;
}

void frozen_ram_co_free(FrozenRam *f)
{
    FrozenCall c = {.fork = g_steal_pointer(&f->fork), .wp = g_steal_pointer(&f->wp)};
    frozen_unwatch(f);
    if (c.fork != NULL || c.wp != NULL) {
        co_run_in_lane(&frozen_lane, frozen_free_at_worker, &c);
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/vhost/vhost.h"

#include <stdatomic.h>
#include <string.h>
#include "hw/core/memory_users.h"
#include "hw/vhost/trace_events.h"
#include "util/log.h"
#include "util/loop/sched_point.h"

/* Rings in guest memory: virtio 1.2 §2.7. */
#define VHOST_DESC_ALIGN 16
#define VHOST_AVAIL_ALIGN 2
#define VHOST_USED_ALIGN 4

/* The function that makes each move. */
static const char *const vhost_moves[VHOST_PHASES][VHOST_PHASES] = {
    [VHOST_STOPPED] = {[VHOST_STARTING] = "vhost_co_start_once"},
    [VHOST_STARTING] =
        {[VHOST_RUNNING] = "vhost_co_start_once", [VHOST_STOPPED] = "vhost_co_start_once"},
    [VHOST_RUNNING] = {[VHOST_STOPPING] = "vhost_co_stop", [VHOST_LOST] = "vhost_lost"},
    [VHOST_STOPPING] = {[VHOST_STOPPED] = "vhost_co_stop"},
    [VHOST_LOST] = {[VHOST_STOPPED] = "vhost_co_stop"},
};

static bool vhost_phase_uses_memory(VhostPhase phase)
{
    return phase != VHOST_STOPPED;
}

static RUNS_IN_MAIN void vhost_move_by(VhostDev *dev, VhostPhase to, const char *by)
{
    const char *maker = vhost_moves[dev->phase][to];
    trace_vhost_phase(dev->name, dev->phase, to);
    if (maker == NULL || strcmp(maker, by) != 0) {
        bug_abort("%s: %s() moves from phase %d to %d", dev->name, by, dev->phase, to);
    }
    bool used = vhost_phase_uses_memory(dev->phase), uses = vhost_phase_uses_memory(to);
    dev->phase = to;
    if (uses && !used) {
        memory_user_begin(dev->name);
    } else if (used && !uses) {
        memory_user_end(dev->name);
    }
    assert_vhost_state(dev);
}
#define vhost_move(dev, to) vhost_move_by(dev, to, __func__)

void assert_vhost_state(const VhostDev *dev)
{
    if (vhost_phase_uses_memory(dev->phase) && memory_users() == 0) {
        bug_abort("invariant 1: %s accesses guest memory and is not counted", dev->name);
    }
    if (dev->phase == VHOST_LOST && dev->usable && !dev->reconnects) {
        bug_abort("%s: lost and usable", dev->name);
    }
}

/* ---- events ---- */

static void vhost_report_lost(void *opaque)
{
    VhostDev *dev = opaque;
    enter_main();
    if (dev->events != NULL) {
        dev->events->lost(dev->events_opaque, dev->why);
    }
}

static void vhost_report_back(void *opaque)
{
    VhostDev *dev = opaque;
    enter_main();
    if (dev->events != NULL && dev->events->came_back != NULL) {
        dev->events->came_back(dev->events_opaque);
    }
}

void vhost_lost(VhostDev *dev, const char *why)
{
    if (!dev->usable) {
        return;
    }
    trace_vhost_lost(dev->name, why);
    dev->usable = false;
    dev->losses++;
    g_strlcpy(dev->why, why, sizeof(dev->why));
    dev->ops->give_up(dev);
    if (dev->phase == VHOST_RUNNING) { /* else the operation under way finds out by itself */
        vhost_move(dev, VHOST_LOST);
    }
    aio_bh_schedule(&dev->lost_bh);
}

void vhost_came_back(VhostDev *dev)
{
    dev->usable = true;
    aio_bh_schedule(&dev->back_bh);
}

/* ---- one operation at a time ---- */

static coroutine_fn RUNS_IN_MAIN void vhost_begin(VhostDev *dev)
{
    while (dev->busy) {
        co_queue_wait(&dev->idle, "another operation of vhost");
    }
    dev->busy = true;
    dev->deadline_ns = aio_now_ns(dev->ctx) + dev->timeout_ns;
}

static RUNS_IN_MAIN void vhost_end(VhostDev *dev)
{
    dev->busy = false;
    co_queue_wake_all(&dev->idle);
}

/* ---- start ---- */

/* The rings are aligned and each is wholly RAM, in one piece. */
static bool vhost_map_vring(const VhostDev *dev, VhostVring *v, GError **error)
{
    uint64_t avail_bytes = 6 + 2 * (uint64_t)v->size, used_bytes = 6 + 8 * (uint64_t)v->size;
    bool aligned = v->desc_gpa % VHOST_DESC_ALIGN == 0 && v->avail_gpa % VHOST_AVAIL_ALIGN == 0 &&
                   v->used_gpa % VHOST_USED_ALIGN == 0;
    v->desc = guest_ram_map(dev->ram, v->desc_gpa, 16 * (uint64_t)v->size, true);
    v->avail = guest_ram_map(dev->ram, v->avail_gpa, avail_bytes, true);
    v->used = guest_ram_map(dev->ram, v->used_gpa, used_bytes, true);
    if (!aligned || v->desc == NULL || v->avail == NULL || v->used == NULL) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAULT,
                    "the rings of queue %u are not aligned, or not in RAM", v->index);
        return false;
    }
    return true;
}

/* Stops the first @count vrings. False: the back end is lost. */
static coroutine_fn RUNS_IN_MAIN bool vhost_co_stop_vrings(VhostDev *dev, const VhostStart *start,
                                                           unsigned count)
{
    g_autoptr(GError) error = NULL;
    bool ok = dev->usable && dev->ops->co_run(dev, start, false, &error);
    for (unsigned i = 0; i < count && ok; i++) {
        uint16_t last_avail = 0;
        SP("vhost.stop_vring", dev);
        ok = dev->usable &&
             dev->ops->co_stop_vring(dev, start->vrings[i].index, &last_avail, &error);
        if (ok && i < dev->vrings_set) { /* else the back end may have no position of it */
            start->vrings[i].base = last_avail;
        }
    }
    if (!ok) {
        vhost_lost(dev, error != NULL ? error->message : "it was lost while it was stopped");
    }
    return ok;
}

/* Invariant 5. The guest may have written the index, which then is its own loss. */
static void vhost_restore_bases(const VhostDev *dev, const VhostStart *start)
{
    for (unsigned i = 0; i < dev->vrings_set; i++) {
        const _Atomic uint16_t *used = start->vrings[i].used; /* flags, idx */
        start->vrings[i].base = atomic_load_explicit(&used[1], memory_order_acquire);
    }
}

/* The back end is lost: waits until it is gone. */
static coroutine_fn RUNS_IN_MAIN void vhost_co_await_gone(VhostDev *dev, const VhostStart *start)
{
    if (dev->ops->co_gone != NULL) {
        dev->ops->co_gone(dev);
    }
    vhost_restore_bases(dev, start);
}

static coroutine_fn RUNS_IN_MAIN bool vhost_co_configure(VhostDev *dev, const VhostStart *start,
                                                         unsigned *set, GError **error)
{
    VhostMemory memory;
    uint64_t features = start->features & dev->features & ~VHOST_F_LOG_WRITES;
    if (dev->log != NULL &&
        (dev->ops->co_set_log == NULL || !(dev->features & VHOST_F_LOG_WRITES))) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOSYS,
                    "%s cannot log its writes of guest memory", dev->name);
        return false;
    }
    if (!vhost_memory_build(dev->ram, dev->max_regions, dev->needs_fds, &memory, error) ||
        !dev->ops->co_set_features(dev, features, error) ||
        !dev->ops->co_set_memory(dev, &memory, error) ||
        (dev->log != NULL && !dev->ops->co_set_log(dev, dev->log, start, error)) ||
        (dev->ops->co_prepare != NULL && !dev->ops->co_prepare(dev, start, error))) {
        return false;
    }
    for (unsigned i = 0; i < start->count; i++) {
        SP("vhost.set_vring", dev);
        *set = i + 1; /* it may have got half of it */
        if (!dev->ops->co_set_vring(dev, &start->vrings[i], error)) {
            return false;
        }
        dev->vrings_set = i + 1;
    }
    return dev->ops->co_run(dev, start, true, error);
}

static bool vhost_check_start(const VhostDev *dev, const VhostStart *start, GError **error)
{
    if (!dev->usable) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_PIPE, "%s is not available%s%s", dev->name,
                    dev->why[0] != '\0' ? ": " : "", dev->why);
        return false;
    }
    for (unsigned i = 0; i < start->count; i++) {
        VhostVring *v = &start->vrings[i];
        if (v->index >= dev->num_vrings) {
            g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "%s has only %u queues", dev->name,
                        dev->num_vrings);
            return false;
        }
        if (!vhost_map_vring(dev, v, error)) {
            return false;
        }
    }
    return true;
}

static coroutine_fn RUNS_IN_MAIN bool vhost_co_start_once(VhostDev *dev, const VhostStart *start,
                                                          GError **error)
{
    unsigned set = 0;
    dev->vrings_set = 0;
    if (!vhost_check_start(dev, start, error)) {
        return false;
    }
    vhost_move(dev, VHOST_STARTING);
    bool ok = vhost_co_configure(dev, start, &set, error);
    if (ok && !dev->usable) { /* lost between the last answer and now */
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_PIPE, "%s: %s", dev->name, dev->why);
        ok = false;
    }
    if (!ok) {
        if (!vhost_co_stop_vrings(dev, start, set)) {
            vhost_co_await_gone(dev, start);
        }
        vhost_move(dev, VHOST_STOPPED);
        return false;
    }
    dev->start = start;
    vhost_move(dev, VHOST_RUNNING);
    return true;
}

bool vhost_co_start(VhostDev *dev, const VhostStart *start, GError **error)
{
    vhost_begin(dev);
    bool ok = vhost_co_start_once(dev, start, error);
    vhost_end(dev);
    return ok;
}

/* ---- stop ---- */

bool vhost_co_stop(VhostDev *dev, const VhostStart *start)
{
    bool ok = false;
    vhost_begin(dev);
    if (dev->phase == VHOST_RUNNING) {
        vhost_move(dev, VHOST_STOPPING);
        ok = vhost_co_stop_vrings(dev, start, start->count);
    }
    if (!ok) {
        vhost_co_await_gone(dev, start);
    }
    dev->start = NULL;
    vhost_move(dev, VHOST_STOPPED);
    vhost_end(dev);
    return ok;
}

bool vhost_co_set_call(VhostDev *dev, const VhostStart *start, unsigned index, int fd)
{
    g_autoptr(GError) error = NULL;
    vhost_begin(dev);
    bool ok = dev->phase == VHOST_RUNNING;
    if (ok) {
        start->vrings[index].call_fd = fd;
        ok = dev->ops->co_set_call(dev, start->vrings[index].index, fd, &error);
    }
    if (error != NULL) {
        vhost_lost(dev, error->message);
    }
    vhost_end(dev);
    return ok && dev->usable;
}

/* A change of the log was refused, perhaps halfway. */
static coroutine_fn RUNS_IN_MAIN void vhost_co_undo_log(VhostDev *dev)
{
    g_autoptr(GError) error = NULL;
    if (dev->ops->co_set_log != NULL && (dev->features & VHOST_F_LOG_WRITES) &&
        !dev->ops->co_set_log(dev, dev->log, dev->start, &error)) {
        vhost_lost(dev, error->message);
    }
}

bool vhost_co_set_log(VhostDev *dev, const VhostLog *log, GError **error)
{
    g_autoptr(GError) refusal = NULL;
    vhost_begin(dev);
    const VhostLog *before = dev->log;
    dev->log = log;
    if (dev->phase == VHOST_RUNNING && log != before) {
        if (dev->ops->co_set_log == NULL || !(dev->features & VHOST_F_LOG_WRITES)) {
            g_set_error(&refusal, G_FILE_ERROR, G_FILE_ERROR_NOSYS,
                        "%s cannot log its writes of guest memory", dev->name);
        } else {
            dev->ops->co_set_log(dev, log, dev->start, &refusal);
        }
    }
    /* A back end that is lost writes nothing any more. */
    bool ok = refusal == NULL || dev->phase != VHOST_RUNNING;
    if (!ok) {
        dev->log = before;
        vhost_co_undo_log(dev);
        g_propagate_error(error, g_steal_pointer(&refusal));
    }
    vhost_end(dev);
    return ok;
}

uint64_t vhost_offer(const VhostDev *dev, uint64_t features, uint64_t mask)
{
    return features & (dev->features | ~mask);
}

/* ---- back ends that were given up ---- */

VhostLingering *vhost_lingering_new(void)
{
    VhostLingering *l = g_new0(VhostLingering, 1);
    atomic_store(&l->references, 1);
    return l;
}

void vhost_lingering_unref(VhostLingering *l)
{
    if (l != NULL && atomic_fetch_sub(&l->references, 1) == 1) {
        g_free(l);
    }
}

VhostLingering *vhost_lingering_begin(VhostLingering *l)
{
    if (l != NULL) {
        atomic_fetch_add(&l->references, 1);
        atomic_fetch_add(&l->count, 1);
    }
    return l;
}

void vhost_lingering_end(VhostLingering *l)
{
    if (l != NULL) {
        atomic_fetch_sub(&l->count, 1);
        vhost_lingering_unref(l);
    }
}

/* ---- life cycle ---- */

void vhost_init(VhostDev *dev, const VhostOps *ops, AioContext *ctx, const GuestRam *ram,
                const char *name)
{
    dev->ops = ops;
    dev->ctx = ctx;
    dev->ram = ram;
    dev->name = name;
    dev->timeout_ns = VHOST_TIMEOUT_NS;
    dev->phase = VHOST_STOPPED;
    co_queue_init(&dev->idle);
    aio_bh_init(&dev->lost_bh, ctx, vhost_report_lost, dev);
    aio_bh_init(&dev->back_bh, ctx, vhost_report_back, dev);
}

void vhost_cleanup(VhostDev *dev)
{
    if (dev->phase != VHOST_STOPPED) {
        bug_abort("%s is freed in phase %d", dev->name, dev->phase);
    }
    aio_bh_cancel(&dev->lost_bh);
    aio_bh_cancel(&dev->back_bh);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/virtio/virtio_vhost_int.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "hw/vhost/vhost_log.h"
#include "hw/virtio/trace_events.h"

/* The function that makes each move. */
static const char *const virtio_vhost_moves[VIRTIO_VHOST_PHASES][VIRTIO_VHOST_PHASES] = {
    [VIRTIO_VHOST_IDLE] = {[VIRTIO_VHOST_STARTING] = "virtio_vhost_co_start"},
    [VIRTIO_VHOST_STARTING] = {[VIRTIO_VHOST_SERVING] = "virtio_vhost_co_start",
                               [VIRTIO_VHOST_AWAY] = "virtio_vhost_co_start",
                               [VIRTIO_VHOST_IDLE] = "virtio_vhost_co_start"},
    [VIRTIO_VHOST_SERVING] = {[VIRTIO_VHOST_AWAY] = "virtio_vhost_co_lose",
                              [VIRTIO_VHOST_GONE] = "virtio_vhost_give_up",
                              [VIRTIO_VHOST_IDLE] = "virtio_vhost_co_stop"},
    [VIRTIO_VHOST_AWAY] = {[VIRTIO_VHOST_SERVING] = "virtio_vhost_co_come_back",
                           [VIRTIO_VHOST_GONE] = "virtio_vhost_give_up",
                           [VIRTIO_VHOST_IDLE] = "virtio_vhost_co_stop"},
    [VIRTIO_VHOST_GONE] = {[VIRTIO_VHOST_IDLE] = "virtio_vhost_co_stop"},
};

static RUNS_IN_MAIN void virtio_vhost_phase_move_by(VirtioVhost *v, VirtioVhostPhase to,
                                                    const char *by)
{
    const char *maker = virtio_vhost_moves[v->phase][to];
    trace_virtio_vhost(device_label(v->vdev->dev), v->phase, to);
    if (!maker || strcmp(maker, by) != 0) {
        bug_abort("%s() virtio_vhost_moves vhost from phase %d to %d", by, v->phase, to);
    }
    v->phase = to;
    assert_virtio_vhost_state(v);
}
#define virtio_vhost_phase_move(v, to) virtio_vhost_phase_move_by(v, to, __func__)

void assert_virtio_vhost_state(const VirtioVhost *v)
{
    for (unsigned i = 0; i < v->num_parts; i++) {
        VhostPhase phase = v->parts[i].dev->phase;
        if (v->phase == VIRTIO_VHOST_SERVING && i < v->running) {
            assert(phase == VHOST_RUNNING || phase == VHOST_LOST); /* 3 */
        } else if (v->phase != VIRTIO_VHOST_STARTING) {
            assert(phase == VHOST_STOPPED);
        }
    }
}

bool virtio_vhost_serves(const VirtioVhost *v)
{
    return v->phase == VIRTIO_VHOST_SERVING;
}

/* ---- the error descriptor ---- */

static void virtio_vhost_err_unwatch(VirtioVhost *v)
{
    aio_handler_remove(v->err_handler);
    v->err_handler = NULL;
}

/* Reported once; the back end keeps the queues until the driver resets the device. */
static void virtio_vhost_err_readable(void *opaque)
{
    VirtioVhost *v = opaque;
    eventfd_t count;
    enter_main();
    if (eventfd_read(v->err_fd, &count) == 0) {
        virtio_vhost_err_unwatch(v);
        virtio_back_end_broken(v->vdev, "the vhost back end met an invalid ring or descriptor");
    }
}

static const AioHandlerOps virtio_vhost_err_ops = {.readable = virtio_vhost_err_readable};

static void virtio_vhost_err_watch(VirtioVhost *v)
{
    eventfd_t count;
    (void)eventfd_read(v->err_fd, &count); /* of an earlier start */
    if (!v->err_handler) {
        v->err_handler =
            aio_handler_add(v->vdev->dev->env->main_ctx, v->err_fd, &virtio_vhost_err_ops, v);
    }
}

/* ---- what is noted ---- */

static coroutine_fn RUNS_IN_MAIN void virtio_vhost_co_start(VirtioVhost *v)
{
    g_autoptr(GError) error = NULL;
    unsigned before = virtio_vhost_losses(v);
    virtio_vhost_phase_move(v, VIRTIO_VHOST_STARTING);
    bool waits = !virtio_vhost_all_usable(v) && virtio_vhost_all_reconnect(v);
    if (!waits && virtio_vhost_co_start_parts(v, &error)) {
        virtio_vhost_err_watch(v);
        virtio_vhost_phase_move(v, VIRTIO_VHOST_SERVING);
    } else if (waits || (virtio_vhost_losses(v) != before && virtio_vhost_all_reconnect(v))) {
        virtio_vhost_phase_move(v, VIRTIO_VHOST_AWAY);
        g_clear_error(&error);
    } else {
        virtio_vhost_phase_move(v, VIRTIO_VHOST_IDLE);
    }
    virtio_back_end_started(v->vdev, error);
}

static coroutine_fn RUNS_IN_MAIN void virtio_vhost_co_stop(VirtioVhost *v)
{
    if (v->phase == VIRTIO_VHOST_SERVING) {
        virtio_vhost_err_unwatch(v);
        virtio_vhost_co_stop_parts(v);
    }
    virtio_vhost_phase_move(v, VIRTIO_VHOST_IDLE);
    virtio_back_end_stopped(v->vdev);
}

/* The device needs a reset; the queues stay with the back end until then. */
static RUNS_IN_MAIN void virtio_vhost_give_up(VirtioVhost *v, const char *why)
{
    virtio_vhost_phase_move(v, VIRTIO_VHOST_GONE);
    virtio_back_end_broken(v->vdev, why);
}

static coroutine_fn RUNS_IN_MAIN void virtio_vhost_co_lose(VirtioVhost *v)
{
    g_autofree char *why = g_strdup(virtio_vhost_lost_part(v)->dev->why);
    virtio_vhost_err_unwatch(v);
    virtio_vhost_co_stop_parts(v);
    if (virtio_vhost_all_reconnect(v)) {
        log_limited(&v->vdev->dev->log_limit, "%s: %s; waiting for it to come back",
                    device_label(v->vdev->dev), why);
        virtio_vhost_phase_move(v, VIRTIO_VHOST_AWAY);
        return;
    }
    virtio_vhost_give_up(v, why);
}

static coroutine_fn RUNS_IN_MAIN void virtio_vhost_co_come_back(VirtioVhost *v)
{
    g_autoptr(GError) error = NULL;
    unsigned before = virtio_vhost_losses(v);
    if (virtio_vhost_co_start_parts(v, &error)) {
        virtio_vhost_err_watch(v);
        virtio_vhost_phase_move(v, VIRTIO_VHOST_SERVING);
        for (unsigned i = 0; i < v->running; i++) { /* interrupts may have been lost with it */
            for (unsigned n = 0; n < v->parts[i].start.count; n++) {
                virtio_interrupt_switched(
                    v->vdev,
                    virtio_vhost_vring_queue(v, &v->parts[i], &v->parts[i].vrings[n])->index);
            }
        }
        return;
    }
    if (virtio_vhost_losses(v) != before && virtio_vhost_all_reconnect(v)) {
        return; /* lost again */
    }
    virtio_vhost_give_up(v, error->message);
}

/* In SERVING: starts and stops parts until those wanted run. */
static coroutine_fn RUNS_IN_MAIN void virtio_vhost_co_adjust(VirtioVhost *v)
{
    g_autoptr(GError) error = NULL;
    unsigned before = virtio_vhost_losses(v);
    virtio_vhost_co_stop_from(v, MIN(v->wanted, v->running));
    if (virtio_vhost_co_start_wanted(v, &error) || virtio_vhost_losses(v) != before) {
        return; /* a loss is seen to next */
    }
    virtio_vhost_err_unwatch(v);
    virtio_vhost_co_stop_parts(v);
    virtio_vhost_give_up(v, error->message);
}

/* Changes the call descriptors of the queues in @changed. */
static coroutine_fn RUNS_IN_MAIN void virtio_vhost_co_switch_calls(VirtioVhost *v, uint64_t changed)
{
    for (unsigned i = 0; i < v->running; i++) {
        VirtioVhostPart *part = &v->parts[i];
        for (unsigned n = 0; n < part->start.count; n++) {
            const VirtioQueue *q = virtio_vhost_vring_queue(v, part, &part->vrings[n]);
            bql_lock();
            int fd = virtio_queue_interrupt(v->vdev, q->index).event_fd;
            bql_unlock();
            if (!(changed >> q->index & 1) || fd == part->vrings[n].call_fd) {
                continue; /* a mask: the descriptor keeps the event */
            }
            if (vhost_co_set_call(part->dev, &part->start, n, fd)) {
                virtio_interrupt_switched(v->vdev, q->index);
            }
        }
    }
}

/* ---- the coroutine ---- */

/* Takes a note; returns whether it was there. */
static RUNS_IN_MAIN bool virtio_vhost_take(bool *note)
{
    bql_lock();
    bool was = *note;
    *note = false;
    bql_unlock();
    return was;
}

static RUNS_IN_MAIN uint64_t virtio_vhost_take_calls(VirtioVhost *v)
{
    bql_lock();
    uint64_t calls = v->calls_noted;
    v->calls_noted = 0;
    bql_unlock();
    return calls;
}

/* Carries out one thing. False: there is none. */
static coroutine_fn RUNS_IN_MAIN bool virtio_vhost_co_work_once(VirtioVhost *v)
{
    bool serving = v->phase == VIRTIO_VHOST_SERVING;
    uint64_t calls;
    if (virtio_vhost_take(&v->start_noted)) {
        virtio_vhost_co_start(v);
    } else if (virtio_vhost_take(&v->stop_noted)) {
        virtio_vhost_co_stop(v);
    } else if (serving && virtio_vhost_lost_part(v) != NULL) {
        virtio_vhost_co_lose(v);
    } else if (v->phase == VIRTIO_VHOST_AWAY && virtio_vhost_all_usable(v)) {
        virtio_vhost_co_come_back(v);
    } else if (serving && v->running != v->wanted) {
        virtio_vhost_co_adjust(v);
    } else if (serving && (calls = virtio_vhost_take_calls(v)) != 0) {
        virtio_vhost_co_switch_calls(v, calls);
    } else {
        return false;
    }
    return true;
}

static void virtio_vhost_work_run(void *opaque)
{
    VirtioVhost *v = opaque;
    enter_main();
    enter_coroutine();
    while (virtio_vhost_co_work_once(v)) {
    }
    v->working = false;
    co_queue_wake_all(&v->ended);
}

static void virtio_vhost_work_begin(void *opaque)
{
    VirtioVhost *v = opaque;
    enter_main();
    if (!v->working) {
        v->working = true;
        co_start_now(v->vdev->dev->env->main_ctx, virtio_vhost_work_run, v);
    }
}

/* ---- notes ---- */

static void virtio_vhost_note_start(VirtioDevice *vdev)
{
    VirtioVhost *v = vdev->back_end_opaque;
    assert_bql();
    v->start_noted = true;
    aio_bh_schedule(&v->work_bh);
}

static void virtio_vhost_note_stop(VirtioDevice *vdev)
{
    VirtioVhost *v = vdev->back_end_opaque;
    assert_bql();
    v->stop_noted = true;
    aio_bh_schedule(&v->work_bh);
}

static void virtio_vhost_note_interrupt(VirtioDevice *vdev, unsigned index, VirtioInterrupt to)
{
    VirtioVhost *v = vdev->back_end_opaque;
    assert_bql();
    v->calls_noted |= 1ull << index;
    aio_bh_schedule(&v->work_bh);
}

static void virtio_vhost_note_lost(void *opaque, const char *why)
{
    virtio_vhost_work_begin(opaque);
}

static void virtio_vhost_note_came_back(void *opaque)
{
    virtio_vhost_work_begin(opaque);
}

static const VhostEvents virtio_vhost_events = {.lost = virtio_vhost_note_lost,
                                                .came_back = virtio_vhost_note_came_back};

static bool virtio_vhost_lingers(const VirtioDevice *vdev)
{
    const VirtioVhost *v = vdev->back_end_opaque;
    return v->lingering && atomic_load(&v->lingering->count) != 0;
}

const VirtioBackEndOps virtio_vhost_ops = {.start = virtio_vhost_note_start,
                                           .stop = virtio_vhost_note_stop,
                                           .interrupt_changed = virtio_vhost_note_interrupt};
const VirtioBackEndOps virtio_vhost_fallback_ops = {.start = virtio_vhost_note_start,
                                                    .stop = virtio_vhost_note_stop,
                                                    .interrupt_changed =
                                                        virtio_vhost_note_interrupt,
                                                    .falls_back = true,
                                                    .lingers = virtio_vhost_lingers};

/* ---- life cycle ---- */

bool virtio_vhost_init(VirtioVhost *v, VirtioDevice *vdev, const DeviceEnv *env, GError **error)
{
    v->vdev = vdev;
    v->env = env;
    v->phase = VIRTIO_VHOST_IDLE;
    vdev->back_end_opaque = v;
    co_queue_init(&v->ended);
    co_queue_init(&v->stopped);
    aio_bh_init(&v->work_bh, env->main_ctx, virtio_vhost_work_begin, v);
    v->err_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (v->err_fd < 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno),
                    "no eventfd for errors of vhost: %s", g_strerror(errno));
        return false;
    }
    v->lingering = vhost_lingering_new();
    return true;
}

void virtio_vhost_add(VirtioVhost *v, VhostDev *dev, unsigned first_queue, unsigned count)
{
    v->parts = g_renew(VirtioVhostPart, v->parts, v->num_parts + 1);
    v->parts[v->num_parts++] = (VirtioVhostPart){.of = v,
                                                 .dev = dev,
                                                 .first_queue = first_queue,
                                                 .count = count,
                                                 .vrings = g_new0(VhostVring, count)};
    v->wanted = v->num_parts;
    dev->ram = v->env->ram;
    vhost_log_attach(dev, v->env->ram);
    dev->events = &virtio_vhost_events;
    dev->events_opaque = v;
    dev->lingering = v->lingering;
}

void virtio_vhost_use(VirtioVhost *v, unsigned parts)
{
    v->wanted = MIN(parts, v->num_parts);
    virtio_vhost_work_begin(v);
}

void virtio_vhost_co_settle(VirtioVhost *v)
{
    while (v->working) {
        co_queue_wait(&v->ended, "the end of vhost's work");
    }
}

void virtio_vhost_co_drop(VirtioVhost *v)
{
    do {
        virtio_vhost_use(v, 0);
        virtio_vhost_co_settle(v);
    } while (v->running);
    for (unsigned i = 0; i < v->num_parts; i++) {
        v->parts[i].dev->events = NULL;
        v->parts[i].dev->lingering = NULL;
        vhost_log_detach(v->parts[i].dev);
        g_free(v->parts[i].vrings);
    }
    g_clear_pointer(&v->parts, g_free);
    v->num_parts = 0;
}

void virtio_vhost_co_cleanup(VirtioVhost *v)
{
    virtio_vhost_co_drop(v);
    assert(v->phase == VIRTIO_VHOST_IDLE);
    aio_bh_cancel(&v->work_bh);
    close(v->err_fd);
    v->err_fd = -1;
    g_clear_pointer(&v->lingering, vhost_lingering_unref);
}

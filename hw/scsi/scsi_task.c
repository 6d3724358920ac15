/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Task management (SAM-5 §7). The block layer cannot take a request back, so a cancelled request ends
 * when its I/O has ended; a function returns after that, and the driver may then use the request's
 * memory again. Commands of many parts look at r->cancel between two of them.
 */
#include "hw/scsi/scsi_int.h"
#include "hw/scsi/trace_events.h"
#include "util/loop/sched_point.h"

static bool task_matches(const ScsiRequest *r, const uint64_t *tag)
{
    return !tag || r->tag == *tag;
}

/* A held request waits for nothing: it ends here. */
static RUNS_IN_LOOP void task_end_held(ScsiRequest *r)
{
    r->outcome = r->cancel;
    scsi_request_release(r);
    r->bus->ops->held_ended(r);
}

bool scsi_task_cancel(ScsiLun *lun, const uint64_t *tag, ScsiOutcome how)
{
    bool found = false;
    BlockBackend *blk = NULL; /* that of all tasks */
    ScsiRequest *next;
    for (ScsiRequest *r = lun->tasks; r; r = next) {
        next = r->next;
        if (!task_matches(r, tag)) {
            continue;
        }
        found = true;
        r->cancel = how;
        blk = r->blk;
        if (r->held) {
            task_end_held(r);
        }
    }
    co_queue_wake_all(&lun->bounce_free); /* what waits for the buffer ends */
    if (blk && !lun->bus->hurries) {      /* what waits for throttling ends, or waits again */
        blk_set_hurry(blk, true);
        blk_set_hurry(blk, false);
    }
    return found;
}

/* Whether a cancelled request older than @before is still in the task set. */
static RUNS_IN_LOOP bool task_cancelling(const ScsiLun *lun, const uint64_t *tag, uint64_t before)
{
    for (const ScsiRequest *r = lun->tasks; r && r->number < before; r = r->next) {
        if (r->cancel != SCSI_DONE && task_matches(r, tag)) {
            return true;
        }
    }
    return false;
}

/* Waits until @deadline_ns at most. False: they have not ended. */
static coroutine_fn RUNS_IN_IOTHREAD bool task_wait(ScsiLun *lun, const uint64_t *tag,
                                                    uint64_t before, int64_t deadline_ns)
{
    bool cancelling;
    while ((cancelling = task_cancelling(lun, tag, before)) &&
           co_queue_wait_until(&lun->bus->task_ended, "a cancelled SCSI request", deadline_ns)) {
    }
    return !cancelling;
}

static RUNS_IN_LOOP bool task_query(const ScsiLun *lun, const uint64_t *tag)
{
    for (const ScsiRequest *r = lun->tasks; r; r = r->next) {
        if (task_matches(r, tag)) {
            return true;
        }
    }
    return false;
}

/* Cancels tasks of one logical unit, and waits for them until @deadline_ns at most. *@waited: there was
 * one. False: they have not ended. */
static coroutine_fn RUNS_IN_IOTHREAD bool task_co_cancel_until(ScsiLun *lun, const uint64_t *tag,
                                                               ScsiOutcome how, int64_t deadline_ns,
                                                               bool *waited)
{
    uint64_t before = lun->bus->next_number;
    *waited = scsi_task_cancel(lun, tag, how);
    if (!*waited) {
        return true;
    }
    lun->pins++;
    SP("scsi.cancelled", lun);
    bool ended = task_wait(lun, tag, before, deadline_ns);
    lun->pins--;
    co_queue_wake_all(&lun->bus->task_ended);
    return ended;
}

static coroutine_fn RUNS_IN_IOTHREAD bool task_co_cancel(ScsiLun *lun, const uint64_t *tag,
                                                         ScsiOutcome how)
{
    bool waited;
    task_co_cancel_until(lun, tag, how, INT64_MAX, &waited);
    return waited;
}

bool scsi_task_co_cancel_all(ScsiLun *lun, ScsiOutcome how, int64_t timeout_ns)
{
    bool waited;
    return task_co_cancel_until(lun, NULL, how, aio_now_ns(lun->bus->home) + timeout_ns, &waited);
}

/* The attention is set before the wait: an unplug can free @lun after it. Commands that come
 * meanwhile are newer than the reset. */
static coroutine_fn RUNS_IN_IOTHREAD bool task_co_reset(ScsiLun *lun)
{
    __atomic_store_n(&lun->state.tray_locked, false, __ATOMIC_RELAXED);
    scsi_lun_attention(lun, SCSI_ATTENTION_RESET);
    return task_co_cancel(lun, NULL, SCSI_RESET);
}

/* Takes those logical units out of @luns whose cancelled requests older than @before have ended, so that they
 * can be unplugged while another one hangs. Returns whether some are left. */
static RUNS_IN_IOTHREAD bool task_unpin_idle(ScsiBus *bus, GPtrArray *luns, uint64_t before)
{
    for (unsigned i = luns->len; i-- > 0;) {
        ScsiLun *lun = luns->pdata[i];
        if (!task_cancelling(lun, NULL, before)) {
            lun->pins--;
            g_ptr_array_remove_index_fast(luns, i);
            co_queue_wake_all(&bus->task_ended);
        }
    }
    return luns->len > 0;
}

/* I_T NEXUS RESET: every logical unit of the target, all cancelled before the first wait. */
static coroutine_fn RUNS_IN_IOTHREAD bool task_co_reset_target(ScsiBus *bus, uint8_t target)
{
    uint64_t before = bus->next_number;
    g_autoptr(GPtrArray) luns = g_ptr_array_new();
    GHashTableIter iter;
    gpointer value;
    bool waited = false;
    g_hash_table_iter_init(&iter, bus->home_luns);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        ScsiLun *lun = value;
        if (lun->target == target) {
            g_ptr_array_add(luns, lun);
            lun->pins++;
        }
    }
    for (unsigned i = 0; i < luns->len; i++) {
        ScsiLun *lun = luns->pdata[i];
        __atomic_store_n(&lun->state.tray_locked, false, __ATOMIC_RELAXED);
        scsi_lun_attention(lun, SCSI_ATTENTION_RESET);
        waited |= scsi_task_cancel(lun, NULL, SCSI_RESET);
    }
    while (task_unpin_idle(bus, luns, before)) {
        co_queue_wait(&bus->task_ended, "a cancelled SCSI request");
    }
    return waited;
}

ScsiTaskResult scsi_task_co_manage(ScsiBus *bus, ScsiTaskFunction function, uint8_t target,
                                   uint16_t lun_number, uint64_t tag, bool *waited)
{
    ScsiLun *lun = scsi_bus_find(bus, target, lun_number);
    trace_scsi_task(device_label(bus->controller), function, target, lun_number);
    *waited = false;
    if (!scsi_bus_has_target(bus, target)) {
        return SCSI_TASK_BAD_TARGET;
    }
    if (function == SCSI_TASK_NEXUS_RESET) {
        *waited = task_co_reset_target(bus, target);
        return SCSI_TASK_COMPLETE;
    }
    if (!lun) {
        return SCSI_TASK_INCORRECT_LUN;
    }
    switch (function) {
    case SCSI_TASK_ABORT:
        *waited = task_co_cancel(lun, &tag, SCSI_ABORTED);
        return SCSI_TASK_COMPLETE;
    case SCSI_TASK_LUN_RESET:
        *waited = task_co_reset(lun);
        return SCSI_TASK_COMPLETE;
    case SCSI_TASK_QUERY:
        return task_query(lun, &tag) ? SCSI_TASK_SUCCEEDED : SCSI_TASK_COMPLETE;
    case SCSI_TASK_QUERY_SET:
        return task_query(lun, NULL) ? SCSI_TASK_SUCCEEDED : SCSI_TASK_COMPLETE;
    default: /* ABORT and CLEAR TASK SET: there is one initiator */
        *waited = task_co_cancel(lun, NULL, SCSI_ABORTED);
        return SCSI_TASK_COMPLETE;
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Logical units of a bus. Main keeps a list for resets and queries; the home loop keeps a table by
 * address for requests. */
#include "hw/scsi/scsi_int.h"

static gpointer bus_key(uint8_t target, uint16_t lun)
{
    return GUINT_TO_POINTER((guint)target << 16 | lun);
}

void scsi_bus_init(ScsiBus *bus, const ScsiBusOps *ops, Device *controller, AioContext *home)
{
    bus->ops = ops;
    bus->controller = controller;
    bus->home = home;
    bus->luns = g_ptr_array_new();
    bus->home_luns = g_hash_table_new(NULL, NULL);
    co_queue_init(&bus->task_ended);
    controller->child_bus = bus;
}

void scsi_bus_cleanup(ScsiBus *bus)
{
    g_assert(bus->luns->len == 0 && g_hash_table_size(bus->home_luns) == 0);
    g_clear_pointer(&bus->luns, g_ptr_array_unref);
    g_clear_pointer(&bus->home_luns, g_hash_table_unref);
    bus->controller->child_bus = NULL;
}

void scsi_bus_reset(ScsiBus *bus)
{
    for (unsigned i = 0; i < bus->luns->len; i++) {
        Device *dev = bus->luns->pdata[i];
        dev->type->reset(dev);
    }
}

ScsiLun *scsi_bus_find(const ScsiBus *bus, uint8_t target, uint16_t lun)
{
    return g_hash_table_lookup(bus->home_luns, bus_key(target, lun));
}

bool scsi_bus_has_target(const ScsiBus *bus, uint8_t target)
{
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, bus->home_luns);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        if (((const ScsiLun *)value)->target == target) {
            return true;
        }
    }
    return false;
}

/* ---- the end of waits for throttling ---- */

void scsi_bus_set_hurry(ScsiBus *bus, bool on)
{
    GHashTableIter iter;
    gpointer value;
    bus->hurries = on;
    g_hash_table_iter_init(&iter, bus->home_luns);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const ScsiLun *lun = value;
        if (lun->home_blk) {
            blk_set_hurry(lun->home_blk, on);
        }
    }
}

void scsi_lun_set_home_blk(ScsiLun *lun)
{
    lun->home_blk = lun->blk;
    if (lun->home_blk) {
        blk_set_hurry(lun->home_blk, lun->bus->hurries);
    }
}

/* ---- join and leave ---- */

static void join_at_home(void *opaque)
{
    ScsiLun *lun = opaque;
    enter_coroutine();
    enter_iothread(lun->bus->home);
    scsi_lun_set_home_blk(lun);
    lun->tasks = NULL;
    lun->tasks_tail = &lun->tasks;
    co_queue_init(&lun->bounce_free);
    g_hash_table_insert(lun->bus->home_luns, bus_key((uint8_t)lun->target, (uint16_t)lun->lun),
                        lun);
}

/* The other logical units of the target report that the list has changed (SPC-4 §6.33). */
static RUNS_IN_MAIN void luns_have_changed(ScsiBus *bus, const ScsiLun *changed)
{
    for (unsigned i = 0; i < bus->luns->len; i++) {
        ScsiLun *lun = bus->luns->pdata[i];
        if (lun != changed && lun->target == changed->target) {
            scsi_lun_attention(lun, SCSI_ATTENTION_LUNS);
        }
    }
}

void scsi_bus_co_join(ScsiBus *bus, ScsiLun *lun)
{
    bql_lock();
    g_ptr_array_add(bus->luns, lun);
    bql_unlock();
    co_call_in(bus->home, join_at_home, lun);
    luns_have_changed(bus, lun);
    bus->ops->lun_changed(bus, lun, true);
}

static void leave_at_home(void *opaque)
{
    ScsiLun *lun = opaque;
    enter_coroutine();
    enter_iothread(lun->bus->home);
    g_hash_table_remove(lun->bus->home_luns, bus_key((uint8_t)lun->target, (uint16_t)lun->lun));
    scsi_task_cancel(lun, NULL, SCSI_ABORTED);
    while (lun->tasks || lun->pins) {
        co_queue_wait(&lun->bus->task_ended, "the requests of a SCSI device");
    }
}

/* The address stays taken until the driver has been notified, so that the event means this one. */
void scsi_bus_co_leave(ScsiBus *bus, ScsiLun *lun)
{
    if (!g_ptr_array_find(bus->luns, lun, NULL)) {
        return;
    }
    co_call_in(bus->home, leave_at_home, lun);
    bql_lock();
    g_ptr_array_remove(bus->luns, lun);
    bql_unlock();
    luns_have_changed(bus, lun);
    bus->ops->lun_changed(bus, lun, false);
}

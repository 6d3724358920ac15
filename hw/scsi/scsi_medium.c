/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/scsi/scsi_medium.h"

#include "hw/scsi/scsi_int.h"

ScsiLun *scsi_medium_drive(Device *dev)
{
    return dev->type == &scsi_cd_type ? (ScsiLun *)(void *)dev : NULL;
}

bool scsi_medium_tray_open(const ScsiLun *lun)
{
    return scsi_lun_tray_open(lun);
}

bool scsi_medium_locked(const ScsiLun *lun)
{
    return scsi_lun_tray_locked(lun);
}

static RUNS_IN_MAIN void medium_moved(ScsiLun *lun, bool open)
{
    __atomic_store_n(&lun->state.eject_request, false, __ATOMIC_RELAXED);
    __atomic_store_n(&lun->state.media_event, true, __ATOMIC_RELAXED);
    scsi_lun_move_tray(lun, open);
    /* Two attentions for a new medium, as some guests note only that the old one has gone. */
    scsi_lun_attention(lun, SCSI_ATTENTION_NO_MEDIUM);
    if (!open) {
        scsi_lun_attention(lun, SCSI_ATTENTION_MEDIUM);
    }
}

bool scsi_medium_open_tray(ScsiLun *lun, bool force)
{
    if (scsi_lun_tray_open(lun)) {
        return true;
    }
    if (scsi_lun_tray_locked(lun) && !force) {
        __atomic_store_n(&lun->state.eject_request, true, __ATOMIC_RELAXED);
        return false;
    }
    if (force) {
        __atomic_store_n(&lun->state.tray_locked, false, __ATOMIC_RELAXED);
    }
    medium_moved(lun, true);
    return true;
}

void scsi_medium_close_tray(ScsiLun *lun)
{
    if (scsi_lun_tray_open(lun)) {
        medium_moved(lun, false);
    }
}

typedef struct MediumTake {
    ScsiLun *lun;
    int64_t timeout_ns;
    bool ended;
} MediumTake;

/* The home loop's pointer is changed there. */
static void take_blk_at_home(void *opaque)
{
    MediumTake *t = opaque;
    ScsiLun *lun = t->lun;
    enter_coroutine();
    enter_iothread(lun->bus->home);
    scsi_lun_set_home_blk(lun);
    t->ended = lun->blk || scsi_task_co_cancel_all(lun, SCSI_ABORTED, t->timeout_ns);
}

static RUNS_IN_MAIN BlockBackend *medium_set_blk(ScsiLun *lun, BlockBackend *blk)
{
    bql_lock();
    BlockBackend *old = lun->blk;
    lun->blk = blk;
    bql_unlock();
    return old;
}

bool scsi_medium_co_remove(ScsiLun *lun, int64_t timeout_ns)
{
    MediumTake t = {.lun = lun, .timeout_ns = timeout_ns};
    BlockBackend *old = medium_set_blk(lun, NULL);
    if (!old) {
        return true;
    }
    co_call_in(lun->bus->home, take_blk_at_home, &t);
    if (t.ended) {
        lun->group = blk_throttle_group(old);
        if (lun->group) {
            throttle_group_ref(lun->group);
        }
        blk_co_free(old);
        return true;
    }
    medium_set_blk(lun, old); /* the guest finds it gone while the tray is open */
    co_call_in(lun->bus->home, take_blk_at_home, &t);
    return false;
}

bool scsi_medium_co_insert(ScsiLun *lun, const char *node, GError **error)
{
    BlockBackend *blk = disk_co_open(&lun->base, node, lun->bus->home, true, error);
    if (!blk) {
        return false;
    }
    MediumTake t = {.lun = lun};
    if (lun->group) { /* the limits are the drive's */
        blk_co_set_throttle_group(blk, lun->group);
        throttle_group_unref(g_steal_pointer(&lun->group));
    }
    medium_set_blk(lun, blk);
    co_call_in(lun->bus->home, take_blk_at_home, &t);
    return true;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* State of a logical unit that several threads use: unit attentions, tray, cache mode. */
#include "hw/scsi/scsi_int.h"
#include "hw/scsi/trace_events.h"

uint64_t scsi_lun_blocks(const ScsiLun *lun, const BlockBackend *blk)
{
    return blk ? blk_size(blk) / lun->logical_block_size : 0;
}

/* ---- unit attentions, SAM-5 §5.14 ---- */

void scsi_lun_attention(ScsiLun *lun, uint8_t attention)
{
    if (attention == SCSI_ATTENTION_RESET) { /* replaces all earlier ones */
        __atomic_store_n(&lun->state.attentions, attention, __ATOMIC_RELAXED);
    } else {
        __atomic_fetch_or(&lun->state.attentions, attention, __ATOMIC_RELAXED);
    }
}

void scsi_lun_clear_attention(ScsiLun *lun, uint8_t attention)
{
    __atomic_fetch_and(&lun->state.attentions, (uint8_t)~attention, __ATOMIC_RELAXED);
}

bool scsi_lun_take_attention(ScsiLun *lun, ScsiSense *s)
{
    static const struct {
        uint8_t attention;
        ScsiSense sense;
    } order[] = {{SCSI_ATTENTION_RESET, {0x6, 0x29, 0x00}},
                 {SCSI_ATTENTION_LUNS, {0x6, 0x3f, 0x0e}},
                 {SCSI_ATTENTION_CAPACITY, {0x6, 0x2a, 0x09}},
                 {SCSI_ATTENTION_NO_MEDIUM, {0x6, 0x3a, 0x00}},
                 {SCSI_ATTENTION_MEDIUM, {0x6, 0x28, 0x00}}};
    uint8_t pending = __atomic_load_n(&lun->state.attentions, __ATOMIC_RELAXED);
    for (unsigned i = 0; pending && i < G_N_ELEMENTS(order); i++) {
        if (pending & order[i].attention) {
            *s = order[i].sense;
            scsi_lun_clear_attention(lun, order[i].attention);
            return true;
        }
    }
    return false;
}

/* ---- tray ---- */

bool scsi_lun_tray_open(const ScsiLun *lun)
{
    return __atomic_load_n(&lun->state.tray_open, __ATOMIC_RELAXED);
}

bool scsi_lun_tray_locked(const ScsiLun *lun)
{
    return __atomic_load_n(&lun->state.tray_locked, __ATOMIC_RELAXED);
}

void scsi_lun_move_tray(ScsiLun *lun, bool open)
{
    if (__atomic_exchange_n(&lun->state.tray_open, open, __ATOMIC_RELAXED) == open) {
        return;
    }
    const DeviceEnv *env = lun->base.env;
    trace_scsi_tray(device_label(&lun->base), open);
    if (env->tray_moved) {
        env->tray_moved(env->opaque, &lun->base, open);
    }
}

/* ---- cache mode ---- */

void scsi_lun_set_write_cache(ScsiLun *lun, BlockBackend *blk, bool on)
{
    lun->state.write_cache = on;
    if (blk) {
        blk_set_write_cache(blk, on);
    }
}

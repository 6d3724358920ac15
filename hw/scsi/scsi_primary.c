/* SPDX-License-Identifier: Apache-2.0 */
/* SPC-4: commands of every logical unit, and those of a number that has none. */
#include "hw/scsi/scsi_int.h"

#define INQUIRY_EVPD 0x01
#define INQUIRY_BYTES 36
#define INQUIRY_VERSION 5       /* SPC-3 */
#define INQUIRY_FORMAT 0x12     /* response data format 2, HISUP */
#define INQUIRY_SYNC_QUEUE 0x12 /* byte 7: SYNC, CMDQUE */
#define INQUIRY_REMOVABLE 0x80
#define QUALIFIER_ABSENT 0x20 /* the target could have a device there */
#define QUALIFIER_NO_LUN 0x7f /* it could not */
#define TYPE_UNKNOWN 0x1f
#define SENSE_DESC 0x01
#define PREVENT_BITS 0x03
#define START_START 0x01
#define START_LOEJ 0x02
#define START_POWER 0xf0

void scsi_run_test_unit_ready(ScsiRequest *r)
{
    scsi_good(r);
}

/* ---- INQUIRY, SPC-4 §6.6 ---- */

static void put_text(uint8_t *field, size_t size, const char *text)
{
    memset(field, ' ', size);
    memcpy(field, text, strnlen(text, size));
}

static void inquiry_standard(const ScsiLun *lun, uint8_t *out)
{
    out[0] = lun->type;
    out[1] = lun->removable ? INQUIRY_REMOVABLE : 0;
    out[2] = INQUIRY_VERSION;
    out[3] = INQUIRY_FORMAT;
    out[4] = INQUIRY_BYTES - 5;
    out[7] = INQUIRY_SYNC_QUEUE;
    put_text(out + 8, 8, lun->vendor);
    put_text(out + 16, 16, lun->product);
    put_text(out + 32, 4, lun->version);
}

void scsi_run_inquiry(ScsiRequest *r)
{
    uint8_t out[SCSI_VPD_BYTES] = {0};
    if (r->cdb[1] & INQUIRY_EVPD) {
        size_t bytes = scsi_vpd_page(r->lun, r->cdb[2], out);
        if (bytes) {
            scsi_reply(r, out, bytes);
        } else {
            scsi_check(r, SCSI_INVALID_FIELD);
        }
        return;
    }
    if (r->cdb[2]) {
        scsi_check(r, SCSI_INVALID_FIELD);
        return;
    }
    inquiry_standard(r->lun, out);
    scsi_reply(r, out, INQUIRY_BYTES);
}

/* ---- REPORT LUNS, SPC-4 §6.33 ---- */

/* SAM-5 §4.7.7: peripheral device addressing up to 255, then flat space addressing. */
static void put_lun(uint8_t *out, uint16_t lun)
{
    memset(out, 0, 8);
    out[0] = lun < 256 ? 0 : (uint8_t)(0x40 | lun >> 8);
    out[1] = (uint8_t)lun;
}

static int compare_luns(gconstpointer a, gconstpointer b)
{
    return *(const uint16_t *)a < *(const uint16_t *)b ? -1 : 1;
}

/* The numbers of the target's logical units, ascending; 0 is always among them. */
static RUNS_IN_LOOP GArray *target_luns(const ScsiBus *bus, uint8_t target)
{
    GArray *luns = g_array_new(FALSE, FALSE, sizeof(uint16_t));
    uint16_t number = 0;
    GHashTableIter iter;
    gpointer value;
    g_array_append_val(luns, number);
    g_hash_table_iter_init(&iter, bus->home_luns);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const ScsiLun *lun = value;
        if (lun->target == target) {
            number = (uint16_t)lun->lun;
            if (number != 0) {
                g_array_append_val(luns, number);
            }
            scsi_lun_clear_attention(value, SCSI_ATTENTION_LUNS);
        }
    }
    g_array_sort(luns, compare_luns);
    return luns;
}

void scsi_run_report_luns(ScsiRequest *r)
{
    if (r->xfer < 16 || r->cdb[2] > 2) {
        scsi_check(r, SCSI_INVALID_FIELD);
        return;
    }
    g_autoptr(GArray) luns = target_luns(r->bus, r->target);
    unsigned count = r->cdb[2] == 1 ? 0 : luns->len; /* 1: well known ones only */
    g_autofree uint8_t *out = g_malloc0(8 + 8 * (size_t)count);
    scsi_put32(out, 8 * count);
    for (unsigned i = 0; i < count; i++) {
        put_lun(out + 8 + 8 * (size_t)i, g_array_index(luns, uint16_t, i));
    }
    scsi_reply(r, out, 8 + 8 * (size_t)count);
}

/* ---- REQUEST SENSE, SPC-4 §6.39 ---- */

static RUNS_IN_LOOP void reply_sense(ScsiRequest *r, ScsiSense s)
{
    uint8_t out[SCSI_SENSE_FIXED_BYTES];
    unsigned bytes = scsi_sense_build(s, r->cdb[1] & SENSE_DESC, out);
    scsi_reply(r, out, bytes);
}

void scsi_run_request_sense(ScsiRequest *r)
{
    ScsiSense s = SCSI_NO_SENSE;
    scsi_lun_take_attention(r->lun, &s);
    reply_sense(r, s);
}

/* ---- a number without a logical unit, SPC-4 §6.6.2, SAM-5 §5.11 ---- */

static RUNS_IN_LOOP void absent_inquiry(ScsiRequest *r)
{
    uint8_t out[INQUIRY_BYTES] = {0};
    if (r->cdb[1] & INQUIRY_EVPD) { /* only the list of pages, with itself */
        if (r->cdb[2] || r->lun_number) {
            scsi_check(r, SCSI_INVALID_FIELD);
            return;
        }
        out[0] = QUALIFIER_ABSENT | TYPE_UNKNOWN;
        out[3] = 1;
        scsi_reply(r, out, 5);
        return;
    }
    if (r->cdb[2]) {
        scsi_check(r, SCSI_INVALID_FIELD);
        return;
    }
    out[0] = r->lun_number ? QUALIFIER_NO_LUN : QUALIFIER_ABSENT | TYPE_UNKNOWN;
    out[2] = INQUIRY_VERSION;
    out[3] = INQUIRY_FORMAT;
    out[4] = INQUIRY_BYTES - 5;
    put_text(out + 8, INQUIRY_BYTES - 8, "");
    scsi_reply(r, out, INQUIRY_BYTES);
}

void scsi_run_absent(ScsiRequest *r)
{
    switch (r->cdb[0]) {
    case SCSI_INQUIRY:
        absent_inquiry(r);
        return;
    case SCSI_REPORT_LUNS:
        scsi_run_report_luns(r);
        return;
    case SCSI_REQUEST_SENSE:
        reply_sense(r, SCSI_LUN_NOT_SUPPORTED);
        return;
    default:
        scsi_check(r, SCSI_LUN_NOT_SUPPORTED);
    }
}

/* ---- tray ---- */

/* SPC-4 §6.15 */
void scsi_run_prevent_allow(ScsiRequest *r)
{
    bool prevent = r->cdb[4] & PREVENT_BITS & 1;
    if (r->lun->removable) {
        __atomic_store_n(&r->lun->state.tray_locked, prevent, __ATOMIC_RELAXED);
    }
    scsi_good(r);
}

/* SBC-3 §5.25, MMC-6 §6.42: LOEJ moves the tray of a CD drive. Nothing here spins up or down. */
void scsi_run_start_stop(ScsiRequest *r)
{
    ScsiLun *lun = r->lun;
    bool load = r->cdb[4] & START_START;
    if (lun->type == SCSI_TYPE_CD && (r->cdb[4] & START_LOEJ) && !(r->cdb[4] & START_POWER)) {
        if (!load && !scsi_lun_tray_open(lun) && scsi_lun_tray_locked(lun)) {
            scsi_check(r, r->blk ? SCSI_REMOVAL_PREVENTED : SCSI_REMOVAL_PREVENTED_NOT_READY);
            return;
        }
        scsi_lun_move_tray(lun, !load);
    }
    scsi_good(r);
}

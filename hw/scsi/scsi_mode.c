/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mode pages: SPC-4 §6.13 and §7.5, SBC-3 §6.5, MMC-6 §7.
 *
 * MODE SELECT first checks the whole list, then applies it: a list with an error changes nothing.
 */
#include "hw/scsi/scsi_int.h"

enum {
    PAGE_ERROR_RECOVERY = 0x01,
    PAGE_CACHING = 0x08,
    PAGE_CONTROL = 0x0a,
    PAGE_CD_CAPABILITIES = 0x2a,
    PAGE_ALL = 0x3f,
};
enum { CONTROL_CURRENT, CONTROL_CHANGEABLE, CONTROL_DEFAULT, CONTROL_SAVED };
#define SENSE_DBD 0x08
#define SELECT_PF 0x10
#define SELECT_SP 0x01
#define PARAMETER_WP 0x80
#define PARAMETER_DPOFUA 0x10
#define CACHING_WCE 0x04
#define CONTROL_D_SENSE 0x04
#define DESCRIPTOR_BYTES 8
#define MODE_BYTES_MAX 128

static const uint8_t pages[] = {PAGE_ERROR_RECOVERY, PAGE_CACHING, PAGE_CONTROL,
                                PAGE_CD_CAPABILITIES};

static bool mode_is_10(const ScsiRequest *r)
{
    return r->cdb[0] == SCSI_MODE_SENSE_10 || r->cdb[0] == SCSI_MODE_SELECT_10;
}

static void mode_caching(const ScsiLun *lun, unsigned control, uint8_t *page)
{
    bool on = control == CONTROL_DEFAULT ? lun->default_write_cache : lun->state.write_cache;
    page[2] = control == CONTROL_CHANGEABLE || on ? CACHING_WCE : 0;
}

static void mode_control(const ScsiLun *lun, unsigned control, uint8_t *page)
{
    bool on = control == CONTROL_CURRENT && lun->state.descriptor_sense;
    page[2] = control == CONTROL_CHANGEABLE || on ? CONTROL_D_SENSE : 0;
    if (control != CONTROL_CHANGEABLE) {
        page[3] = 0x10; /* unrestricted reordering */
    }
}

/* MMC-6 Annex E: what the drive can read; the tray; no audio. */
static void mode_cd_capabilities(const ScsiLun *lun, unsigned control, uint8_t *page)
{
    if (control == CONTROL_CHANGEABLE) {
        return;
    }
    page[2] = 0x3b; /* reads CD-R, CD-RW, DVD-ROM, DVD-R, DVD-RAM */
    page[4] = 0x70; /* multi-session, mode 2 forms */
    page[6] = 0x28 | 0x01 | (scsi_lun_tray_locked(lun) ? 0x02 : 0); /* tray, eject, lock */
    scsi_put16(page + 8, 50 * 176);                                 /* 50x */
    scsi_put16(page + 10, 2);
    scsi_put16(page + 12, 2048); /* KiB of buffer */
    scsi_put16(page + 14, 16 * 176);
}

/* Appends a page; returns its length, 0 if the device has no such page. */
static size_t mode_page(const ScsiLun *lun, uint8_t code, unsigned control, uint8_t *page)
{
    static const uint8_t lengths[] = {[PAGE_ERROR_RECOVERY] = 10,
                                      [PAGE_CACHING] = 18,
                                      [PAGE_CONTROL] = 10,
                                      [PAGE_CD_CAPABILITIES] = 20};
    bool is_cd = lun->type == SCSI_TYPE_CD;
    if (code >= G_N_ELEMENTS(lengths) || !lengths[code] ||
        (code == PAGE_CD_CAPABILITIES && !is_cd)) {
        return 0;
    }
    memset(page, 0, 2u + lengths[code]);
    page[0] = code;
    page[1] = lengths[code];
    switch (code) {
    case PAGE_ERROR_RECOVERY:
        page[2] = control == CONTROL_CHANGEABLE ? 0 : 0x80; /* AWRE */
        page[3] = control == CONTROL_CHANGEABLE || !is_cd ? 0 : 0x20;
        break;
    case PAGE_CACHING:
        mode_caching(lun, control, page);
        break;
    case PAGE_CONTROL:
        mode_control(lun, control, page);
        break;
    default:
        mode_cd_capabilities(lun, control, page);
        break;
    }
    return 2u + lengths[code];
}

/* ---- MODE SENSE ---- */

/* The header and the block descriptor; returns their length. */
static size_t mode_header(const ScsiRequest *r, uint8_t *out)
{
    const ScsiLun *lun = r->lun;
    size_t header = mode_is_10(r) ? 8 : 4;
    uint8_t specific = 0;
    bool descriptor = !(r->cdb[1] & SENSE_DBD) && r->blk;
    if (lun->type == SCSI_TYPE_DISK) {
        specific = (uint8_t)((lun->dpofua ? PARAMETER_DPOFUA : 0) |
                             (r->blk && blk_read_only(r->blk) ? PARAMETER_WP : 0));
    } else {
        descriptor = false;
    }
    out[header == 8 ? 3 : 2] = specific;
    out[header == 8 ? 7 : 3] = descriptor ? DESCRIPTOR_BYTES : 0;
    if (!descriptor) {
        return header;
    }
    uint64_t blocks = scsi_lun_blocks(lun, r->blk);
    scsi_put24(out + header + 1, blocks > 0xffffff ? 0 : (uint32_t)blocks);
    scsi_put24(out + header + 5, (uint32_t)lun->logical_block_size);
    return header + DESCRIPTOR_BYTES;
}

void scsi_run_mode_sense(ScsiRequest *r)
{
    uint8_t out[MODE_BYTES_MAX] = {0};
    uint8_t code = r->cdb[2] & 0x3f;
    unsigned control = r->cdb[2] >> 6;
    if (control == CONTROL_SAVED) {
        scsi_check(r, SCSI_SAVING_NOT_SUPPORTED);
        return;
    }
    if (r->cdb[3] && !(code == PAGE_ALL && r->cdb[3] == 0xff)) { /* there are no subpages */
        scsi_check(r, SCSI_INVALID_FIELD);
        return;
    }
    size_t header = mode_header(r, out), bytes = header;
    for (unsigned i = 0; i < sizeof(pages); i++) {
        if (code == pages[i] || code == PAGE_ALL) {
            bytes += mode_page(r->lun, pages[i], control, out + bytes);
        }
    }
    if (bytes == header) {
        scsi_check(r, SCSI_INVALID_FIELD);
        return;
    }
    if (mode_is_10(r)) {
        scsi_put16(out, (uint16_t)(bytes - 2));
    } else {
        out[0] = (uint8_t)(bytes - 1);
    }
    scsi_reply(r, out, bytes);
}

/* ---- MODE SELECT ---- */

/* Whether the page at @at is one that may be set so. Returns its length, or 0. */
static size_t select_check_page(const ScsiLun *lun, const uint8_t *at, size_t bytes)
{
    uint8_t current[MODE_BYTES_MAX], changeable[MODE_BYTES_MAX];
    size_t length = mode_page(lun, at[0], CONTROL_CURRENT, current);
    if (!length || bytes < length || at[1] != current[1]) {
        return 0;
    }
    mode_page(lun, at[0], CONTROL_CHANGEABLE, changeable);
    for (size_t i = 2; i < length; i++) {
        if ((at[i] ^ current[i]) & ~changeable[i]) {
            return 0;
        }
    }
    return length;
}

static bool select_check_descriptor(const ScsiRequest *r, const uint8_t *d)
{
    const ScsiLun *lun = r->lun;
    uint64_t blocks = scsi_be24(d + 1);
    uint64_t all = r->blk ? scsi_lun_blocks(lun, r->blk) : 0;
    return scsi_be24(d + 5) == lun->logical_block_size && (!blocks || blocks == all);
}

static RUNS_IN_LOOP void select_apply_page(ScsiRequest *r, const uint8_t *page)
{
    ScsiLun *lun = r->lun;
    if (page[0] == PAGE_CACHING) {
        scsi_lun_set_write_cache(lun, r->blk, page[2] & CACHING_WCE);
    } else if (page[0] == PAGE_CONTROL) {
        lun->state.descriptor_sense = page[2] & CONTROL_D_SENSE;
    }
}

/* What precedes the pages; 0: @r has ended. */
static RUNS_IN_LOOP size_t select_check_header(ScsiRequest *r, const uint8_t *list)
{
    size_t header = mode_is_10(r) ? 8 : 4;
    if (r->xfer < header) {
        scsi_check(r, SCSI_PARAMETER_LIST_LENGTH);
        return 0;
    }
    size_t descriptor = header == 8 ? scsi_be16(list + 6) : list[3];
    if (descriptor + header > r->xfer) {
        scsi_check(r, SCSI_PARAMETER_LIST_LENGTH);
        return 0;
    }
    if ((descriptor && descriptor != DESCRIPTOR_BYTES) ||
        (descriptor && !select_check_descriptor(r, list + header))) {
        scsi_check(r, SCSI_INVALID_PARAMETER);
        return 0;
    }
    return header + descriptor;
}

void scsi_run_mode_select(ScsiRequest *r)
{
    uint8_t list[MODE_BYTES_MAX];
    ScsiLun *lun = r->lun;
    if ((r->cdb[1] & (SELECT_PF | SELECT_SP)) != SELECT_PF) {
        scsi_check(r, SCSI_INVALID_FIELD);
        return;
    }
    if (!r->xfer) {
        scsi_good(r);
        return;
    }
    if (r->xfer > sizeof(list)) {
        scsi_check(r, SCSI_PARAMETER_LIST_LENGTH);
        return;
    }
    iov_copy_to_buf(r->out, r->out_num, 0, list, r->xfer);
    size_t begin = select_check_header(r, list), length;
    if (!begin) {
        return;
    }
    for (size_t at = begin; at < r->xfer; at += length) {
        length = r->xfer - at < 2 ? 0 : select_check_page(lun, list + at, r->xfer - at);
        if (!length) {
            scsi_check(r, SCSI_INVALID_PARAMETER);
            return;
        }
    }
    for (size_t at = begin; at < r->xfer; at += 2u + list[at + 1]) {
        select_apply_page(r, list + at);
    }
    r->transferred = r->xfer;
    /* Without the cache every write is on the medium; so are the earlier ones. */
    int ret = !lun->state.write_cache && r->blk && !blk_read_only(r->blk)
                  ? SCSI_IO(r, blk_co_flush(r->blk))
                  : 0;
    scsi_io_done(r, false, ret, r->xfer);
}

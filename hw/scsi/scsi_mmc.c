/* SPDX-License-Identifier: Apache-2.0 */
/* MMC-6: a CD or DVD drive with a disc of one session and one data track. */
#include "hw/scsi/scsi_int.h"

#define TRACK_DATA 0x14 /* ADR 1: Q sub-channel with position; control: data track */
#define TRACK_LEAD_OUT 0xaa
#define CD_FRAMES_MAX (80 * 60 * 75) /* larger discs are DVDs */
#define PREGAP_FRAMES 150
enum { PROFILE_CD_ROM = 0x0008, PROFILE_DVD_ROM = 0x0010 };

/* ---- READ TOC/PMA/ATIP, MMC-6 §6.25 ---- */

/* A position as an LBA or as minute, second, frame. */
static void put_position(uint8_t *out, bool msf, uint64_t lba)
{
    if (!msf) {
        scsi_put32(out, (uint32_t)MIN(lba, UINT32_MAX));
        return;
    }
    lba += PREGAP_FRAMES;
    out[0] = 0;
    out[1] = (uint8_t)MIN(lba / 75 / 60, 255);
    out[2] = (uint8_t)(lba / 75 % 60);
    out[3] = (uint8_t)(lba % 75);
}

static size_t toc_track(uint8_t *out, uint8_t track, bool msf, uint64_t lba)
{
    out[1] = TRACK_DATA;
    out[2] = track;
    put_position(out + 4, msf, lba);
    return 8;
}

/* Format 0. Returns 0 if there is no track from @first on. */
static size_t toc_tracks(uint8_t *out, bool msf, uint8_t first, uint64_t blocks)
{
    size_t n = 4;
    if (first > 1 && first != TRACK_LEAD_OUT) {
        return 0;
    }
    out[2] = out[3] = 1; /* first and last track */
    if (first <= 1) {
        n += toc_track(out + n, 1, msf, 0);
    }
    return n + toc_track(out + n, TRACK_LEAD_OUT, msf, blocks);
}

/* Format 1: where the last session begins. */
static size_t toc_sessions(uint8_t *out, bool msf)
{
    out[2] = out[3] = 1;
    return 4 + toc_track(out + 4, 1, msf, 0);
}

/* An entry of the lead-in: @point says what @value, the last three bytes, is. */
static size_t toc_raw_entry(uint8_t *out, uint8_t point, uint8_t minute, uint8_t second,
                            uint8_t frame)
{
    out[0] = 1; /* session */
    out[1] = TRACK_DATA;
    out[3] = point;
    out[8] = minute;
    out[9] = second;
    out[10] = frame;
    return 11;
}

/* Format 2: the lead-in as it is on the disc. */
static size_t toc_raw(uint8_t *out, uint64_t blocks)
{
    uint8_t end[4];
    size_t n = 4;
    out[2] = out[3] = 1;
    put_position(end, true, blocks);
    n += toc_raw_entry(out + n, 0xa0, 1, 0, 0); /* first track */
    n += toc_raw_entry(out + n, 0xa1, 1, 0, 0); /* last track */
    n += toc_raw_entry(out + n, 0xa2, end[1], end[2], end[3]);
    return n + toc_raw_entry(out + n, 1, 0, 2, 0);
}

void scsi_run_read_toc(ScsiRequest *r)
{
    uint8_t out[64] = {0};
    uint64_t blocks = scsi_lun_blocks(r->lun, r->blk);
    bool msf = r->cdb[1] & 0x02;
    uint8_t format = r->cdb[2] & 0x0f;
    if (!format) {
        format = r->cdb[9] >> 6; /* where older drivers have it */
    }
    size_t bytes = 0;
    if (format == 0) {
        bytes = toc_tracks(out, msf, r->cdb[6], blocks);
    } else if (format == 1) {
        bytes = toc_sessions(out, msf);
    } else if (format == 2) {
        bytes = toc_raw(out, blocks);
    }
    if (!bytes) {
        scsi_check(r, SCSI_INVALID_FIELD);
        return;
    }
    scsi_put16(out, (uint16_t)(bytes - 2));
    scsi_reply(r, out, bytes);
}

/* ---- GET CONFIGURATION, MMC-6 §6.6 ---- */

static uint8_t *put_profile(uint8_t *out, uint16_t profile, uint16_t current)
{
    scsi_put16(out, profile);
    out[2] = profile == current;
    return out + 4;
}

/* A feature descriptor with @bytes of its own, all persistent and current. */
static uint8_t *put_feature(uint8_t *out, uint16_t code, uint8_t version, uint8_t bytes)
{
    scsi_put16(out, code);
    out[2] = (uint8_t)(version << 2 | 0x03);
    out[3] = bytes;
    return out + 4;
}

void scsi_run_get_configuration(ScsiRequest *r)
{
    uint8_t out[64] = {0};
    uint16_t current = 0;
    if ((r->cdb[1] & 0x03) == 3) {
        scsi_check(r, SCSI_INVALID_FIELD);
        return;
    }
    if (r->blk && !scsi_lun_tray_open(r->lun)) {
        current =
            scsi_lun_blocks(r->lun, r->blk) > CD_FRAMES_MAX ? PROFILE_DVD_ROM : PROFILE_CD_ROM;
    }
    scsi_put16(out + 6, current);
    uint8_t *at = put_feature(out + 8, 0, 0, 8); /* profile list */
    at = put_profile(at, PROFILE_DVD_ROM, current);
    at = put_profile(at, PROFILE_CD_ROM, current);
    at = put_feature(at, 1, 2, 8);     /* core */
    at[3] = 1;                         /* physical interface: SCSI */
    at[4] = 1;                         /* DBE */
    at = put_feature(at + 8, 3, 2, 4); /* removable medium */
    at[0] = 0x39;                      /* tray, eject, lock, load */
    at += 4;
    size_t bytes = (size_t)(at - out);
    scsi_put32(out, (uint32_t)(bytes - 4));
    scsi_reply(r, out, bytes);
}

/* ---- GET EVENT STATUS NOTIFICATION, MMC-6 §6.7 ---- */

enum { EVENT_CLASS_MEDIA = 4 };
enum { MEDIA_NO_CHANGE = 0, MEDIA_EJECT_REQUEST = 1, MEDIA_NEW = 2, MEDIA_REMOVAL = 3 };

static RUNS_IN_LOOP uint8_t take_media_event(ScsiLun *lun, bool present)
{
    if (__atomic_exchange_n(&lun->state.eject_request, false, __ATOMIC_RELAXED)) {
        return MEDIA_EJECT_REQUEST;
    }
    if (__atomic_exchange_n(&lun->state.media_event, false, __ATOMIC_RELAXED)) {
        return present ? MEDIA_NEW : MEDIA_REMOVAL;
    }
    return MEDIA_NO_CHANGE;
}

void scsi_run_get_event_status(ScsiRequest *r)
{
    uint8_t out[8] = {0};
    size_t bytes = 4;
    bool open = scsi_lun_tray_open(r->lun), present = r->blk && !open;
    if (!(r->cdb[1] & 1)) { /* asynchronous */
        scsi_check(r, SCSI_INVALID_FIELD);
        return;
    }
    out[3] = 1 << EVENT_CLASS_MEDIA; /* supported */
    if (r->cdb[4] & 1 << EVENT_CLASS_MEDIA) {
        out[2] = EVENT_CLASS_MEDIA;
        if (r->xfer > 4) { /* an event that does not fit stays pending */
            out[4] = take_media_event(r->lun, present);
        }
        out[5] = (uint8_t)((present ? 2 : 0) | (open ? 1 : 0));
        bytes = 8;
    } else {
        out[2] = 0x80; /* NEA: none of the classes asked for */
    }
    scsi_put16(out, (uint16_t)(bytes - 2));
    scsi_reply(r, out, bytes);
}

/* ---- READ DISC INFORMATION, MMC-6 §6.21; MECHANISM STATUS, §6.12 ---- */

void scsi_run_read_disc_information(ScsiRequest *r)
{
    uint8_t out[34] = {0};
    if (r->cdb[1] & 7) {
        scsi_check(r, SCSI_INVALID_FIELD);
        return;
    }
    scsi_put16(out, sizeof(out) - 2);
    out[2] = 0x0e;                         /* complete disc, complete session */
    out[3] = out[4] = out[5] = out[6] = 1; /* first track, sessions, tracks of the last session */
    out[7] = 0x20;                         /* for unrestricted use */
    scsi_reply(r, out, sizeof(out));
}

void scsi_run_mechanism_status(ScsiRequest *r)
{
    uint8_t out[8] = {0};
    out[1] = scsi_lun_tray_open(r->lun) ? 0x10 : 0;
    scsi_reply(r, out, sizeof(out));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* References from persistent bitmaps: directory -> table of each bitmap -> clusters of bits. */
#include <errno.h>
#include "block/qcow2/qcow2_bitmap.h"
#include "block/qcow2/qcow2_check_int.h"

#define BITMAPS_PIECE ((uint64_t)64 << 10) /* bytes of a table at a time */

/* ---- tables ---- */

static coroutine_fn RUNS_IN_IOTHREAD int bitmaps_table(Qcow2Check *c, uint64_t offset,
                                                       uint64_t bytes, uint32_t weight)
{
    g_autofree uint8_t *piece = g_malloc(BITMAPS_PIECE);
    int ret = 0;
    for (uint64_t done = 0; ret == 0 && done < bytes; done += BITMAPS_PIECE) {
        uint64_t length = MIN(BITMAPS_PIECE, bytes - done);
        ret = qcow2_check_co_read(c, offset + done, length, piece);
        for (uint64_t at = 0; ret == 0 && at + 8 <= length; at += 8) {
            uint64_t entry = qcow2_get64(piece + at);
            if (!qcow2_bitmap_cluster_ok(&c->header, entry)) {
                qcow2_check_report(c, "ERROR bitmap table entry %016" PRIx64 " is invalid", entry);
                c->result->corruptions += weight;
            } else if ((entry & QCOW2_OFFSET_MASK) != 0) {
                uint64_t bits = entry & QCOW2_OFFSET_MASK;
                ret = qcow2_check_mark_metadata(c, bits, c->cluster_size);
                ret = ret == 0 ? qcow2_check_count(c, bits, c->cluster_size, weight) : ret;
            }
        }
    }
    return ret;
}

/* ---- the directory ---- */

static RUNS_IN_IOTHREAD int bitmaps_refuse(Qcow2Check *c, uint32_t index, const char *wrong)
{
    qcow2_check_report(c, "ERROR bitmap directory entry %u has an invalid %s", index, wrong);
    c->result->corruptions++;
    return -EINVAL;
}

static RUNS_IN_IOTHREAD int bitmaps_directory(Qcow2Check *c, const uint8_t *bytes, GArray *tables)
{
    uint64_t at = 0, size = c->header.bitmaps_size;
    uint32_t index = 0;
    for (; at < size; index++) {
        Qcow2BitmapEntry e;
        const char *wrong = index < c->header.bitmaps
                                ? qcow2_bitmap_entry_take(&c->header, bytes + at, size - at, &e)
                                : "place";
        if (wrong != NULL) {
            return bitmaps_refuse(c, index, wrong);
        }
        Qcow2CheckPart table = {.offset = e.table_offset,
                                .bytes = (uint64_t)e.table_size * sizeof(uint64_t)};
        g_array_append_val(tables, table);
        at += e.length;
    }
    return index == c->header.bitmaps ? 0 : bitmaps_refuse(c, index, "place");
}

int qcow2_check_co_bitmaps(Qcow2Check *c)
{
    const Qcow2Header *h = &c->header;
    if (h->bitmaps == 0) {
        return 0;
    }
    int ret = qcow2_check_mark_metadata(c, h->bitmaps_offset, h->bitmaps_size);
    if (ret == 0) {
        ret = qcow2_check_count(c, h->bitmaps_offset, h->bitmaps_size, 1);
    }
    if (ret < 0) {
        return ret;
    }
    if (h->bitmaps_offset > c->file_size || h->bitmaps_size > c->file_size - h->bitmaps_offset) {
        return bitmaps_refuse(c, 0, "place");
    }
    g_autofree uint8_t *bytes = g_try_malloc(h->bitmaps_size);
    g_autoptr(GArray) tables = g_array_new(false, false, sizeof(Qcow2CheckPart));
    ret =
        bytes != NULL ? qcow2_check_co_read(c, h->bitmaps_offset, h->bitmaps_size, bytes) : -ENOMEM;
    if (ret == 0) {
        ret = bitmaps_directory(c, bytes, tables);
    }
    return ret == 0 ? qcow2_check_co_tables(c, tables, bitmaps_table) : ret;
}

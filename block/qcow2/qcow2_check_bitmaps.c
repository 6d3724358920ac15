/* SPDX-License-Identifier: Apache-2.0 */
/* References from persistent bitmaps: directory -> table of each bitmap -> clusters of bits. */
#include <errno.h>
#include "block/qcow2/qcow2_check_int.h"

#define BITMAPS_PIECE ((uint64_t)64 << 10) /* bytes of a table at a time */
#define BITMAPS_ENTRY_ONES ((uint64_t)1)   /* without an offset: all bits are set */

/* ---- tables ---- */

static bool bitmaps_entry_ok(const Qcow2Check *c, uint64_t entry)
{
    uint64_t offset = entry & QCOW2_OFFSET_MASK;
    if ((entry & ~QCOW2_OFFSET_MASK & ~BITMAPS_ENTRY_ONES) != 0) {
        return false;
    }
    return offset == 0 ||
           ((entry & BITMAPS_ENTRY_ONES) == 0 && block_is_aligned(offset, c->cluster_size));
}

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
            if (!bitmaps_entry_ok(c, entry)) {
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

/* Whether the bits in the table are enough for the disk; a bitmap in use may be of another size. */
static bool bitmaps_covers(const Qcow2Check *c, const Qcow2DiskBitmap *d)
{
    uint64_t bytes = (uint64_t)be32toh(d->table_size) << c->header.cluster_bits;
    if (bytes > QCOW2_BITMAP_BYTES_MAX) {
        return false;
    }
    return (be32toh(d->flags) & QCOW2_BITMAP_IN_USE) != 0 ||
           c->header.size >> d->granularity_bits <= bytes * 8;
}

static const char *bitmaps_wrong(const Qcow2Check *c, const Qcow2DiskBitmap *d)
{
    uint64_t offset = be64toh(d->table_offset);
    uint16_t name = be16toh(d->name_size);
    if (offset == 0 || !block_is_aligned(offset, c->cluster_size)) {
        return "table offset";
    }
    if (d->table_size == 0 || be32toh(d->table_size) > QCOW2_BITMAP_TABLE_MAX) {
        return "table size";
    }
    if (name == 0 || name > QCOW2_BITMAP_NAME_MAX) {
        return "name length";
    }
    if (d->granularity_bits < QCOW2_BITMAP_GRANULARITY_MIN ||
        d->granularity_bits > QCOW2_BITMAP_GRANULARITY_MAX) {
        return "granularity";
    }
    if (d->type != QCOW2_BITMAP_TYPE_DIRTY) {
        return "type";
    }
    if ((be32toh(d->flags) & ~QCOW2_BITMAP_FLAGS) != 0 || d->extra_data_size != 0) {
        return "flags or extra data";
    }
    return bitmaps_covers(c, d) ? NULL : "table size for the disk";
}

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
        Qcow2DiskBitmap d;
        if (index >= c->header.bitmaps || size - at < sizeof(d)) {
            return bitmaps_refuse(c, index, "place");
        }
        memcpy(&d, bytes + at, sizeof(d));
        uint64_t length = sizeof(d) + (uint64_t)be32toh(d.extra_data_size) + be16toh(d.name_size);
        length = (length + 7) / 8 * 8;
        const char *wrong = bitmaps_wrong(c, &d);
        if (wrong != NULL || length > size - at) {
            return bitmaps_refuse(c, index, wrong != NULL ? wrong : "length");
        }
        Qcow2CheckPart table = {.offset = be64toh(d.table_offset),
                                .bytes = (uint64_t)be32toh(d.table_size) * sizeof(uint64_t)};
        g_array_append_val(tables, table);
        at += length;
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

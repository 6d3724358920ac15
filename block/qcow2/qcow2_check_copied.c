/* SPDX-License-Identifier: Apache-2.0 */
/* The flag "copied": an entry of the active tables has it exactly if the stored refcount is 1. */
#include <errno.h>
#include "block/qcow2/qcow2_check_int.h"

#define COPIED_PIECE ((uint64_t)64 << 10) /* bytes of the L1 table at a time */

/* A refcount that cannot be read has been reported by the comparison. */
static coroutine_fn RUNS_IN_IOTHREAD bool copied_wrong(Qcow2Check *c, uint64_t entry,
                                                       uint64_t *refcount)
{
    uint64_t cluster = (entry & QCOW2_OFFSET_MASK) >> c->header.cluster_bits;
    int ret = qcow2_check_co_stored(c, cluster, refcount);
    return ret == 0 && (*refcount == 1) != ((entry & QCOW2_ENTRY_COPIED) != 0);
}

static coroutine_fn RUNS_IN_IOTHREAD void copied_table(Qcow2Check *c, const uint8_t *table,
                                                       uint32_t weight)
{
    unsigned length = qcow2_l2_entry_length(&c->header);
    for (uint64_t at = 0; at < c->cluster_size; at += length) {
        uint64_t entry = qcow2_get64(table + at), refcount = 1;
        if (entry == 0 || qcow2_check_kind(c, entry) != QCOW2_CHECK_ALLOCATED) {
            continue;
        }
        bool wrong = qcow2_has_data_file(&c->header) ? (entry & QCOW2_ENTRY_COPIED) == 0
                                                     : copied_wrong(c, entry, &refcount);
        if (wrong) {
            qcow2_check_report(
                c, "ERROR OFLAG_COPIED data cluster: l2_entry=%" PRIx64 " refcount=%" PRIu64, entry,
                refcount);
            c->result->corruptions += weight;
        }
    }
}

static coroutine_fn RUNS_IN_IOTHREAD int copied_l2(Qcow2Check *c, uint64_t cluster,
                                                   const uint8_t *table)
{
    if (cluster != 0) { /* an L1 entry with the offset 0 */
        copied_table(c, table, qcow2_counts_get(&c->active_l2, cluster));
    }
    return 0;
}

static coroutine_fn RUNS_IN_IOTHREAD int copied_l1_entry(Qcow2Check *c, uint64_t index,
                                                         uint64_t entry)
{
    uint64_t offset = entry & QCOW2_OFFSET_MASK, refcount;
    if (offset != 0 && copied_wrong(c, entry, &refcount)) {
        qcow2_check_report(c,
                           "ERROR OFLAG_COPIED L2 cluster: l1_index=%" PRIu64 " l1_entry=%" PRIx64
                           " refcount=%" PRIu64,
                           index, entry, refcount);
        c->result->corruptions++;
    }
    int ret = 0;
    if (!block_is_aligned(offset, c->cluster_size) &&
        c->unaligned_copied++ < QCOW2_CHECK_UNALIGNED_MAX) {
        ret = qcow2_check_co_read(c, offset, c->cluster_size, c->buffer);
        if (ret == 0) {
            copied_table(c, c->buffer, 1);
        }
    }
    return ret;
}

int qcow2_check_co_copied(Qcow2Check *c)
{
    uint64_t bytes = (uint64_t)c->header.l1_size * sizeof(uint64_t);
    g_autofree uint8_t *piece = g_malloc(COPIED_PIECE);
    int ret = 0;
    for (uint64_t done = 0; ret == 0 && done < bytes; done += COPIED_PIECE) {
        uint64_t length = MIN(COPIED_PIECE, bytes - done);
        ret = qcow2_check_co_read(c, c->header.l1_offset + done, length, piece);
        for (uint64_t at = 0; ret == 0 && at < length; at += 8) {
            ret = copied_l1_entry(c, (done + at) / 8, qcow2_get64(piece + at));
        }
    }
    return ret == 0 ? qcow2_check_co_each_l2(c, &c->active_l2, copied_l2) : ret;
}

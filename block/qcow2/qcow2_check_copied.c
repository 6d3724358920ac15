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

/* Reports a wrong flag as an error, or corrects it in @entry. Returns whether it was corrected. */
static RUNS_IN_IOTHREAD bool copied_correct(Qcow2Check *c, uint8_t *entry, bool repair,
                                            uint32_t weight)
{
    if (!repair) {
        c->result->corruptions += weight;
        return false;
    }
    entry[0] ^= 0x80;
    c->result->corruptions_fixed += weight;
    return true;
}

/* Whether the table was changed. */
static coroutine_fn RUNS_IN_IOTHREAD bool copied_table(Qcow2Check *c, uint8_t *table, bool repair,
                                                       uint32_t weight)
{
    unsigned length = qcow2_l2_entry_length(&c->header);
    bool changed = false;
    for (uint64_t at = 0; at < c->cluster_size; at += length) {
        uint64_t entry = qcow2_get64(table + at), refcount = 1;
        if (entry == 0 || qcow2_check_kind(c, entry) != QCOW2_CHECK_ALLOCATED) {
            continue;
        }
        bool wrong = qcow2_has_data_file(&c->header) ? (entry & QCOW2_ENTRY_COPIED) == 0
                                                     : copied_wrong(c, entry, &refcount);
        if (wrong) {
            qcow2_check_report(
                c, "%s OFLAG_COPIED data cluster: l2_entry=%" PRIx64 " refcount=%" PRIu64,
                repair ? "Repairing" : "ERROR", entry, refcount);
            changed |= copied_correct(c, table + at, repair, weight);
        }
    }
    return changed;
}

static coroutine_fn RUNS_IN_IOTHREAD int copied_l2(Qcow2Check *c, uint64_t cluster, uint8_t *table)
{
    if (cluster == 0) { /* an L1 entry with the offset 0 */
        return 0;
    }
    bool repair = c->fix_copied && qcow2_check_is_only_l2(c, cluster);
    bool changed = copied_table(c, table, repair, qcow2_counts_get(&c->active_l2, cluster));
    return changed
               ? qcow2_check_co_write(c, cluster << c->header.cluster_bits, c->cluster_size, table)
               : 0;
}

/* @bytes is the entry as it is in the table. */
static coroutine_fn RUNS_IN_IOTHREAD int copied_l1_entry(Qcow2Check *c, uint64_t index,
                                                         uint8_t *bytes)
{
    uint64_t entry = qcow2_get64(bytes), offset = entry & QCOW2_OFFSET_MASK, refcount;
    bool repair = c->fix_copied;
    int ret = 0;
    if (offset != 0 && copied_wrong(c, entry, &refcount)) {
        qcow2_check_report(c,
                           "%s OFLAG_COPIED L2 cluster: l1_index=%" PRIu64 " l1_entry=%" PRIx64
                           " refcount=%" PRIu64,
                           repair ? "Repairing" : "ERROR", index, entry, refcount);
        if (copied_correct(c, bytes, repair, 1)) {
            ret = qcow2_check_co_write(c, c->header.l1_offset + index * sizeof(entry),
                                       sizeof(entry), bytes);
        }
    }
    if (ret == 0 && !block_is_aligned(offset, c->cluster_size) &&
        c->unaligned_copied++ < QCOW2_CHECK_UNALIGNED_MAX) {
        ret = qcow2_check_co_read(c, offset, c->cluster_size, c->buffer);
        if (ret == 0) {
            copied_table(c, c->buffer, false, 1);
        }
    }
    return ret;
}

int qcow2_check_co_copied(Qcow2Check *c)
{
    uint64_t bytes = (uint64_t)c->header.l1_size * sizeof(uint64_t);
    g_autofree uint8_t *piece = g_malloc(COPIED_PIECE);
    int ret = 0;
    const Qcow2CheckResult *r = c->result;
    /* As in QEMU, a repair of leaks corrects the flags if nothing else is wrong. */
    c->fix_copied = r->check_errors == 0 && ((c->fix & QCOW2_FIX_ERRORS) != 0 ||
                                             (c->fix != 0 && r->corruptions == 0 && r->leaks == 0));
    for (uint64_t done = 0; ret == 0 && done < bytes; done += COPIED_PIECE) {
        uint64_t length = MIN(COPIED_PIECE, bytes - done);
        ret = qcow2_check_co_read(c, c->header.l1_offset + done, length, piece);
        for (uint64_t at = 0; ret == 0 && at < length; at += 8) {
            ret = copied_l1_entry(c, (done + at) / 8, piece + at);
        }
    }
    return ret == 0 ? qcow2_check_co_each_l2(c, &c->active_l2, copied_l2) : ret;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Repairs in place. */
#include <errno.h>
#include "block/qcow2/qcow2_check_int.h"
#include "block/qcow2/qcow2_refcount_width.h"

int qcow2_check_co_write(const Qcow2Check *c, uint64_t offset, uint64_t bytes, const void *buffer)
{
    struct iovec iov = {(void *)(uintptr_t)buffer, bytes};
    int ret = block_node_co_pwritev(c->file, offset, bytes, &iov, 1, 0);
    if (ret < 0) {
        qcow2_check_report(c, "ERROR: writing at 0x%" PRIx64 ": %s", offset, g_strerror(-ret));
        c->result->check_errors++;
    }
    return ret;
}

bool qcow2_check_is_only_l2(const Qcow2Check *c, uint64_t cluster)
{
    return MIN(qcow2_counts_get(&c->l2_tables, cluster), c->counts.max) ==
           qcow2_counts_get(&c->counts, cluster);
}

/* ---- entries of zeroes ---- */

static coroutine_fn RUNS_IN_IOTHREAD int repair_zero(Qcow2Check *c, const Qcow2CheckZero *z)
{
    bool extended = qcow2_has_extended_l2(&c->header);
    uint64_t length = qcow2_l2_entry_length(&c->header);
    uint64_t at = (z->table << c->header.cluster_bits) + z->index * length;
    uint64_t entry[2] = {extended ? 0 : htobe64(QCOW2_ENTRY_ZERO)};
    int ret = 0;
    if (!qcow2_check_is_only_l2(c, z->table)) {
        qcow2_check_report(c,
                           "ERROR entry %" PRIu64 " of the L2 table at 0x%" PRIx64
                           " is not repaired: something else refers to the cluster, too",
                           z->index, z->table << c->header.cluster_bits);
        c->result->corruptions++;
        return 0;
    }
    if (extended) { /* the bitmap stays, and says which subclusters are zeroes */
        ret = qcow2_check_co_read(c, at + sizeof(entry[0]), sizeof(entry[1]), &entry[1]);
    }
    if (ret == 0) {
        ret = qcow2_check_co_write(c, at, length, entry);
    }
    c->result->corruptions_fixed += ret == 0;
    return ret;
}

int qcow2_check_co_fix_zeroes(Qcow2Check *c)
{
    int ret = 0;
    for (unsigned i = 0; ret == 0 && i < c->zeroes->len; i++) {
        ret = repair_zero(c, &g_array_index(c->zeroes, Qcow2CheckZero, i));
    }
    if (ret == 0 && c->zeroes->len > 0) {
        ret = block_node_co_flush(c->file);
    }
    return ret;
}

/* ---- refcounts ---- */

/* Whether the refcount was changed in c->buffer. */
static RUNS_IN_IOTHREAD bool repair_refcount(Qcow2Check *c, uint64_t cluster, uint64_t index,
                                             uint64_t stored, uint64_t computed)
{
    bool leaked = stored > computed;
    bool repair = (c->fix & (leaked ? QCOW2_FIX_LEAKS : QCOW2_FIX_ERRORS)) != 0;
    qcow2_check_report(c, "%s cluster %" PRIu64 " refcount=%" PRIu64 " reference=%" PRIu64,
                       repair   ? "Repairing"
                       : leaked ? "Leaked"
                                : "ERROR",
                       cluster, stored, computed);
    if (repair) {
        qcow2_refcount_set(c->buffer, index, c->header.refcount_order, computed);
        *(leaked ? &c->result->leaks_fixed : &c->result->corruptions_fixed) += 1;
    } else {
        *(leaked ? &c->result->leaks : &c->result->corruptions) += 1;
    }
    return repair;
}

static coroutine_fn RUNS_IN_IOTHREAD int repair_block(Qcow2Check *c, uint64_t offset,
                                                      uint64_t first, uint64_t count)
{
    unsigned order = c->header.refcount_order;
    bool changed = false;
    int ret = qcow2_check_co_read(c, offset, c->cluster_size, c->buffer);
    for (uint64_t i = 0; ret == 0 && i < count; i++) {
        uint64_t stored = qcow2_refcount_get(c->buffer, i, order);
        uint64_t computed = qcow2_counts_get(&c->counts, first + i);
        if (stored != computed) {
            changed |= repair_refcount(c, first + i, i, stored, computed);
            stored = qcow2_refcount_get(c->buffer, i, order);
            ret = qcow2_counts_set(c, &c->counts, first + i, stored) ? 0 : -ENOMEM;
        }
    }
    return ret == 0 && changed ? qcow2_check_co_write(c, offset, c->cluster_size, c->buffer) : ret;
}

/* A cluster without a refcount block has the refcount 0, which is correct: else there would be a
 * rebuild. */
int qcow2_check_co_fix_refcounts(Qcow2Check *c)
{
    uint64_t per_block = c->cluster_size * 8 >> c->header.refcount_order;
    int ret = 0;
    for (uint64_t i = 0; ret == 0 && i < c->refcount_entries && i * per_block < c->clusters; i++) {
        uint64_t offset = c->refcount_table[i] & ~QCOW2_REFCOUNT_TABLE_RESERVED;
        if (offset != 0 && block_is_aligned(offset, c->cluster_size)) {
            ret =
                repair_block(c, offset, i * per_block, MIN(per_block, c->clusters - i * per_block));
        }
    }
    return ret == 0 ? block_node_co_flush(c->file) : ret;
}

/* ---- the header ---- */

int qcow2_check_co_mark_clean(Qcow2Check *c)
{
    const uint64_t flags = QCOW2_INCOMPATIBLE_DIRTY | QCOW2_INCOMPATIBLE_CORRUPT;
    int ret = block_node_co_flush(c->file);
    if (ret == 0 && (c->header.incompatible & flags) != 0) {
        uint64_t value = htobe64(c->header.incompatible & ~flags);
        ret = qcow2_check_co_write(c, offsetof(Qcow2DiskHeader, incompatible_features),
                                   sizeof(value), &value);
        if (ret == 0) {
            ret = block_node_co_flush(c->file);
        }
    }
    return ret;
}

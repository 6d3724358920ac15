/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metadata that must not be overwritten. An entry of a corrupt image can lead to a table, and a write
 * of the guest would replace it. Before a write of data, its place is compared with the structures
 * that the option overlap-check names; an allocation and a write of metadata are always compared.
 *
 * L2 tables and refcount blocks are found by what leads to them, the tables in memory. These have a
 * set of hashes, so a comparison costs the same for any number of tables (qcow2_table.c).
 */
#include <errno.h>
#include "block/qcow2/qcow2_int.h"

/* ---- the option ---- */

#define OVERLAP_BIT(structure) (1u << (structure))
#define OVERLAP_CONSTANT                                                                           \
    (OVERLAP_BIT(QCOW2_OVERLAP_HEADER) | OVERLAP_BIT(QCOW2_OVERLAP_ACTIVE_L1) |                    \
     OVERLAP_BIT(QCOW2_OVERLAP_REFCOUNT_TABLE) | OVERLAP_BIT(QCOW2_OVERLAP_SNAPSHOT_TABLE) |       \
     OVERLAP_BIT(QCOW2_OVERLAP_BITMAP_DIRECTORY))
#define OVERLAP_CACHED                                                                             \
    (OVERLAP_CONSTANT | OVERLAP_BIT(QCOW2_OVERLAP_ACTIVE_L2) |                                     \
     OVERLAP_BIT(QCOW2_OVERLAP_REFCOUNT_BLOCK) | OVERLAP_BIT(QCOW2_OVERLAP_INACTIVE_L1))

const char *const qcow2_overlap_templates[] = {"cached", "none", "constant", "all", NULL};
const char *const qcow2_overlap_switches[] = {"auto", "off", "on", NULL};

bool qcow2_open_overlap(const BlockNode *n, GError **error)
{
    static const unsigned templates[] = {OVERLAP_CACHED, 0, OVERLAP_CONSTANT,
                                         OVERLAP_CACHED | OVERLAP_BIT(QCOW2_OVERLAP_INACTIVE_L2)};
    Qcow2State *s = n->state;
    Qcow2Overlap *o = &s->overlap;
    /* a description has one of the two: the other one is the default, 0 */
    o->structures = templates[o->template != 0 ? o->template : o->check];
    for (unsigned i = 0; i < QCOW2_OVERLAP_COUNT; i++) {
        if (o->switches[i] != 0) {
            o->structures &= ~OVERLAP_BIT(i);
            o->structures |= o->switches[i] == 2 ? OVERLAP_BIT(i) : 0;
        }
    }
    if ((o->structures & OVERLAP_BIT(QCOW2_OVERLAP_INACTIVE_L2)) != 0) {
        g_set_error(
            error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
            "%s: overlap-check: writes are not compared with the L2 tables of snapshots "
            "(inactive-l2, which all includes); overlap-check=cached compares with all else",
            qcow2_who(n));
        return false;
    }
    return true;
}

/* ---- structures ---- */

static bool overlap_meets(uint64_t host, uint64_t bytes, uint64_t offset, uint64_t length)
{
    return length > 0 && host < offset + length && offset < host + bytes;
}

static bool overlap_meets_snapshot_l1(const Qcow2State *s, uint64_t host, uint64_t bytes)
{
    bool meets = false;
    for (uint32_t i = 0; i < s->snapshot_count && !meets; i++) {
        const Qcow2Snapshot *snap = &s->snapshots[i];
        meets = overlap_meets(host, bytes, snap->l1_offset, (uint64_t)snap->l1_size * 8);
    }
    return meets;
}

/* Whether the structure has bytes of [host, host + bytes) of the file. */
static RUNS_IN_IOTHREAD bool overlap_meets_structure(const Qcow2State *s,
                                                     Qcow2OverlapStructure structure, uint64_t host,
                                                     uint64_t bytes)
{
    const Qcow2Header *h = &s->header;
    uint64_t cluster = qcow2_cluster_size(h);
    switch (structure) {
    case QCOW2_OVERLAP_HEADER:
        return host < cluster;
    case QCOW2_OVERLAP_ACTIVE_L1:
        return overlap_meets(host, bytes, h->l1_offset, (uint64_t)s->l1.count * 8);
    case QCOW2_OVERLAP_ACTIVE_L2:
        return qcow2_table_leads_to(&s->l1, h->cluster_bits, host, bytes);
    case QCOW2_OVERLAP_REFCOUNT_TABLE:
        return overlap_meets(host, bytes, h->refcount_offset, h->refcount_clusters * cluster);
    case QCOW2_OVERLAP_REFCOUNT_BLOCK:
        return qcow2_table_leads_to(&s->w.refcount_table, h->cluster_bits, host, bytes);
    case QCOW2_OVERLAP_SNAPSHOT_TABLE:
        return overlap_meets(host, bytes, h->snapshots_offset,
                             h->snapshots * sizeof(Qcow2DiskSnapshot));
    case QCOW2_OVERLAP_INACTIVE_L1:
        return overlap_meets_snapshot_l1(s, host, bytes);
    case QCOW2_OVERLAP_BITMAP_DIRECTORY:
        return h->bitmaps > 0 && overlap_meets(host, bytes, h->bitmaps_offset, h->bitmaps_size);
    default:
        return false;
    }
}

/* Compares with the structures whose bits are set. */
static RUNS_IN_IOTHREAD int overlap_check(const BlockNode *n, unsigned structures, uint64_t host,
                                          uint64_t bytes)
{
    static const char *const names[QCOW2_OVERLAP_COUNT] = {"the header",
                                                           "the L1 table",
                                                           "an L2 table",
                                                           "the refcount table",
                                                           "a refcount block",
                                                           "the snapshot table",
                                                           "the L1 table of a snapshot",
                                                           "an L2 table of a snapshot",
                                                           "the bitmap directory"};
    for (unsigned i = 0; i < QCOW2_OVERLAP_COUNT; i++) {
        if ((structures & OVERLAP_BIT(i)) != 0 &&
            overlap_meets_structure(n->state, (Qcow2OverlapStructure)i, host, bytes)) {
            return qcow2_corrupt(n, "a write to 0x%" PRIx64 " would overwrite %s", host, names[i]);
        }
    }
    return 0;
}

/* ---- comparisons ---- */

int qcow2_check_data(const BlockNode *n, uint64_t host, uint64_t bytes)
{
    return overlap_check(n, ((const Qcow2State *)n->state)->overlap.structures, host, bytes);
}

int qcow2_check_overlap(const BlockNode *n, uint64_t host, uint64_t bytes)
{
    return overlap_check(n, OVERLAP_CONSTANT, host, bytes);
}

int qcow2_check_tables(const BlockNode *n, uint64_t host, uint64_t bytes)
{
    return overlap_check(n, OVERLAP_CONSTANT & ~OVERLAP_BIT(QCOW2_OVERLAP_BITMAP_DIRECTORY), host,
                         bytes);
}

int qcow2_check_free(const BlockNode *n, uint64_t first, uint64_t count)
{
    const Qcow2State *s = n->state;
    uint64_t host = first << s->header.cluster_bits, bytes = count << s->header.cluster_bits;
    if (overlap_meets_structure(s, QCOW2_OVERLAP_ACTIVE_L2, host, bytes) ||
        overlap_meets_structure(s, QCOW2_OVERLAP_REFCOUNT_BLOCK, host, bytes)) {
        return qcow2_corrupt(n, "the refcount of a table at or behind 0x%" PRIx64 " is 0", host);
    }
    return qcow2_check_overlap(n, host, bytes);
}

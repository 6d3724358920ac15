/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Versions 2 and 3 of an image.
 *
 *   2 -> 3   snapshots get their sizes on disk -> header of version 3
 *   3 -> 2   zero clusters become unallocated ones, or data -> everything on disk -> header of version 2
 */
#include <errno.h>
#include "block/qcow2/qcow2_amend.h"
#include "block/qcow2/qcow2_int.h"

#define VERSION_TURN_SLICES 64u /* in one turn of the loop */

/* ---- the header ---- */

/* Writes a header of another version, without feature bits. */
static coroutine_fn RUNS_IN_IOTHREAD bool version_write(BlockNode *n, unsigned version,
                                                        GError **error)
{
    Qcow2State *s = n->state;
    int ret = qcow2_co_finish_writer(n); /* without the dirty bit */
    if (ret == 0) {
        qcow2_co_commit_begin(&s->w);
        Qcow2Header h = s->header;
        h.version = version;
        h.length = version < 3 ? QCOW2_HEADER_V2_LENGTH : (uint32_t)sizeof(Qcow2DiskHeader);
        h.incompatible = h.compatible = h.autoclear = 0;
        h.compression = QCOW2_COMPRESSION_ZLIB;
        ret = qcow2_co_write_header_cluster(n, &h);
        if (ret == 0) {
            s->header.version = version;
            s->header.incompatible = s->header.compatible = s->header.autoclear = 0;
            s->header.compression = h.compression;
        }
        qcow2_commit_end(&s->w);
    }
    return ret == 0 || qcow2_amend_failed(error, "Failed to update the header", ret);
}

bool qcow2_co_upgrade(BlockNode *n, GError **error)
{
    const Qcow2State *s = n->state;
    bool unsure = false;
    int ret = qcow2_co_begin_change(n);
    if (ret == 0 && s->snapshot_count > 0) {
        ret = qcow2_co_store_snapshots(n, NULL, UINT32_MAX, &unsure);
    }
    return ret == 0 ? version_write(n, 3, error)
                    : qcow2_amend_failed(error, "Failed to update the snapshot table", ret);
}

/* ---- what version 2 does not have ---- */

typedef struct VersionScan {
    bool zero, compressed;
    unsigned slices;
} VersionScan;

static coroutine_fn RUNS_IN_IOTHREAD int version_scan_slice(BlockNode *n, uint64_t at,
                                                            VersionScan *found)
{
    Qcow2State *s = n->state;
    uint64_t count = s->l2.slice_size / qcow2_l2_entry_length(&s->header);
    Qcow2Slice *slice;
    if (++found->slices % VERSION_TURN_SLICES == 0) {
        co_yield_turn();
    }
    int ret = qcow2_cache_co_get(&s->l2, n->file, at, &slice);
    if (ret < 0) {
        return ret;
    }
    for (uint64_t i = 0; i < count; i++) {
        uint64_t entry = qcow2_get_entry(s, slice, i).entry;
        bool compressed = (entry & QCOW2_ENTRY_COMPRESSED) != 0;
        found->compressed = found->compressed || compressed;
        found->zero = found->zero || (!compressed && (entry & QCOW2_ENTRY_ZERO) != 0);
    }
    qcow2_cache_put(&s->l2, slice);
    return 0;
}

/* Finds what the entries below an L1 table have. */
static coroutine_fn RUNS_IN_IOTHREAD int version_scan(BlockNode *n, const uint64_t *l1,
                                                      uint32_t count, VersionScan *found)
{
    const Qcow2State *s = n->state;
    uint64_t cluster = qcow2_cluster_size(&s->header);
    int ret = 0;
    for (uint32_t i = 0; i < count && ret == 0; i++) {
        uint64_t table = l1[i] & QCOW2_OFFSET_MASK;
        if (!block_is_aligned(table, cluster)) {
            return qcow2_corrupt(n, "an L2 table is at 0x%" PRIx64 ", which is not aligned", table);
        }
        for (uint64_t at = 0; table != 0 && at < cluster && ret == 0; at += s->l2.slice_size) {
            ret = version_scan_slice(n, table + at, found);
        }
    }
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int version_scan_snapshots(BlockNode *n, VersionScan *found)
{
    Qcow2State *s = n->state;
    int ret = 0;
    for (uint32_t i = 0; i < s->snapshot_count && ret == 0; i++) {
        ret = qcow2_co_walk_snapshot(n, &s->snapshots[i]);
        if (ret == 0) {
            ret = version_scan(n, s->snap.walk.l1, s->snap.walk.count, found);
            qcow2_walk_clear(&s->snap.walk);
        }
    }
    return ret;
}

/* Snapshots of version 2 have neither their own size nor a large VM state. */
static bool version_check_snapshots(const Qcow2State *s, uint64_t size, GError **error)
{
    for (uint32_t i = 0; i < s->snapshot_count; i++) {
        const Qcow2Snapshot *snap = &s->snapshots[i];
        if (snap->disk_size != size || snap->vm_state_size > UINT32_MAX) {
            return qcow2_amend_refuse(error, "Internal snapshots prevent downgrade of image");
        }
    }
    return true;
}

static bool version_check_features(const Qcow2State *s, GError **error)
{
    uint64_t features =
        s->header.incompatible & ~(QCOW2_INCOMPATIBLE_DIRTY | QCOW2_INCOMPATIBLE_COMPRESSION);
    if (features != 0) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "Cannot downgrade an image with incompatible features 0x%" PRIx64 " set",
                    features);
        return false;
    }
    if (s->header.bitmaps > 0) {
        return qcow2_amend_refuse(error, "Persistent bitmaps prevent downgrade of image");
    }
    return true;
}

bool qcow2_co_check_downgrade(BlockNode *n, const Qcow2Amend *a, GError **error)
{
    const Qcow2State *s = n->state;
    VersionScan found = {0}, shared = {0};
    uint64_t bits =
        a->has_refcount_bits ? a->refcount_bits : (uint64_t)1 << s->header.refcount_order;
    if (bits != 16) {
        return qcow2_amend_refuse(error, "compat=0.10 requires refcount_bits=16");
    }
    if (qcow2_has_data_file(&s->header)) {
        return qcow2_amend_refuse(error, "Cannot downgrade an image with a data file");
    }
    if (!version_check_snapshots(s, a->size != 0 ? a->size : s->header.size, error)) {
        return false;
    }
    int ret = version_scan_snapshots(n, &shared);
    if (ret == 0) {
        ret = version_scan(n, s->l1.entries, s->l1.count, &found);
    }
    if (ret < 0) {
        return qcow2_amend_failed(error, "Failed to read the L2 tables", ret);
    }
    if (s->header.compression != QCOW2_COMPRESSION_ZLIB &&
        (found.compressed || shared.compressed)) {
        return qcow2_amend_refuse(error, "Cannot downgrade an image with zstd compression type and "
                                         "existing compressed clusters");
    }
    if (!version_check_features(s, error)) {
        return false;
    }
    return !shared.zero ||
           qcow2_amend_refuse(error,
                              "Zero clusters of internal snapshots prevent downgrade of image");
}

/* ---- 3 to 2 ---- */

/* Makes the zero clusters of [at, at + bytes) data if a backing file has something there. */
static coroutine_fn RUNS_IN_IOTHREAD int version_expand(BlockNode *n, uint64_t at, uint64_t bytes)
{
    const Qcow2State *s = n->state;
    uint64_t end = block_align_up(s->header.size, qcow2_cluster_size(&s->header));
    bool covers = s->header.backing_name != NULL && at < end;
    return covers ? qcow2_co_write_zero_data(n, at, MIN(bytes, end - at))
                  : qcow2_co_cut(n, at, bytes);
}

static coroutine_fn RUNS_IN_IOTHREAD int version_expand_all(BlockNode *n)
{
    const Qcow2State *s = n->state;
    uint64_t entries = qcow2_cluster_size(&s->header) / qcow2_l2_entry_length(&s->header);
    uint64_t end = s->l1.count * entries << s->header.cluster_bits;
    int ret = 0;
    for (uint64_t at = 0; at < end && ret == 0;) {
        Qcow2Extent e;
        ret = qcow2_co_map(n, at, end - at, &e);
        if (ret == 0 && e.kind == QCOW2_ZERO) {
            ret = version_expand(n, at, e.bytes);
        }
        at += e.bytes;
    }
    return ret;
}

bool qcow2_co_downgrade(BlockNode *n, GError **error)
{
    int ret = version_expand_all(n);
    return ret == 0 ? version_write(n, 2, error)
                    : qcow2_amend_failed(error, "Failed to turn zero into data clusters", ret);
}

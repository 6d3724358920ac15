/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Zeroes and discards, as QEMU has them. Both change entries, under the exclusive lock:
 *
 *   was          | zeroes           | zeroes, may unmap | discard            | cut off (resize)
 *   unallocated  | zero             | zero              | zero; unallocated  | unallocated
 *                |                  |                   | without a backing  |
 *   zero         | as it was        | zero, freed       | zero, freed        | unallocated, freed
 *   data         | zero, kept       | zero, freed       | zero, freed        | unallocated, freed
 *   compressed   | zero, freed      | zero, freed       | zero, freed        | unallocated, freed
 *
 * An image of version 2 has no zero clusters: zeroes are written as data, and discards with a
 * backing file do nothing. Without an entry for them, parts of the disk that read as zeroes anyway
 * stay as they are if the image names no backing file.
 */
#include <errno.h>
#include "block/qcow2/qcow2_int.h"

typedef enum ZeroHow { ZERO_KEEP, ZERO_UNMAP, ZERO_DISCARD, ZERO_CUT } ZeroHow;

#define ZERO_TURN_PIECES 64u /* in one turn of the loop; a piece has at most 256 clusters */
#define ZERO_BITMAP ((uint64_t)0xffffffff << 32) /* all subclusters read as zeroes */

/* ---- entries ---- */

static bool zero_has_backing(const BlockNode *n)
{
    const Qcow2State *s = n->state;
    return n->backing != NULL || s->header.backing_name != NULL;
}

static bool zero_is_allocated(const Qcow2State *s, Qcow2Entry m)
{
    return (m.entry & QCOW2_ENTRY_COMPRESSED) != 0 || qcow2_has_cluster(s, m);
}

/* Whether all of the cluster is unallocated and stays so. */
static bool zero_is_nothing(const BlockNode *n, Qcow2Entry m)
{
    return m.entry == 0 && m.bitmap == 0 && !zero_has_backing(n);
}

/* Part of a cluster with extended L2 entries. */
static Qcow2Entry zero_subclusters(const Qcow2State *s, Qcow2Entry m, uint64_t from, uint64_t to)
{
    uint64_t unit = qcow2_cluster_size(&s->header) / QCOW2_SUBCLUSTERS;
    uint64_t bits = (((uint64_t)1 << to / unit) - 1) & ~(((uint64_t)1 << from / unit) - 1);
    m.bitmap = (m.bitmap & ~bits) | bits << 32;
    return m;
}

static Qcow2Entry zero_cluster(const BlockNode *n, Qcow2Entry m, ZeroHow how)
{
    const Qcow2State *s = n->state;
    bool compressed = (m.entry & QCOW2_ENTRY_COMPRESSED) != 0;
    bool extended = qcow2_has_extended_l2(&s->header);
    if (how == ZERO_CUT || zero_is_nothing(n, m) || s->header.version < 3) {
        return (Qcow2Entry){0};
    }
    Qcow2Entry z = {.bitmap = extended ? ZERO_BITMAP : 0};
    z.entry = how == ZERO_KEEP && !compressed ? m.entry : 0;
    z.entry |= extended ? 0 : QCOW2_ENTRY_ZERO;
    return z;
}

static Qcow2Entry zero_entry(const BlockNode *n, Qcow2Entry m, ZeroHow how, uint64_t from,
                             uint64_t to)
{
    const Qcow2State *s = n->state;
    bool whole = to - from == qcow2_cluster_size(&s->header);
    return whole ? zero_cluster(n, m, how) : zero_subclusters(s, m, from, to);
}

/* ---- pieces ---- */

typedef struct ZeroPiece {
    uint64_t offset, bytes; /* whole clusters; parts of them with extended L2 entries */
    ZeroHow how;
    bool data; /* ends before a compressed cluster, part of which is to be zeroes */
} ZeroPiece;

/* Looks at the entries, and with @change sets them. Returns how many would change; negative: an
 * entry is invalid, or the image has no zero clusters. */
static coroutine_fn RUNS_IN_IOTHREAD int zero_walk(BlockNode *n, const Qcow2Slice *slice,
                                                   uint64_t index, ZeroPiece *p, bool change)
{
    const Qcow2State *s = n->state;
    uint64_t cluster = qcow2_cluster_size(&s->header);
    int changed = 0;
    for (uint64_t done = 0; done < p->bytes; index++) {
        Qcow2Entry m = slice != NULL ? qcow2_get_entry(s, slice, index) : (Qcow2Entry){0};
        uint64_t from = (p->offset + done) & (cluster - 1);
        uint64_t to = MIN(cluster, from + p->bytes - done);
        int ret = qcow2_check_entry(n, p->offset + done, m);
        if (ret == 0 && s->header.version < 3 && p->how <= ZERO_UNMAP && !zero_is_nothing(n, m)) {
            ret = -ENOTSUP; /* there are no zero clusters */
        }
        if (ret < 0) {
            return ret;
        }
        if ((m.entry & QCOW2_ENTRY_COMPRESSED) != 0 && to - from < cluster) {
            p->bytes = done;
            p->data = true;
            return changed;
        }
        Qcow2Entry z = zero_entry(n, m, p->how, from, to);
        if (z.entry != m.entry || z.bitmap != m.bitmap) {
            changed++;
        }
        if (change) {
            qcow2_set_entry(s, slice, index, z);
            if (zero_is_allocated(s, m) && !zero_is_allocated(s, z)) {
                qcow2_free_entry(n, m, p->how == ZERO_UNMAP || p->how == ZERO_DISCARD);
            }
        }
        done += to - from;
    }
    return changed;
}

static coroutine_fn RUNS_IN_IOTHREAD int zero_change(BlockNode *n, ZeroPiece *p)
{
    Qcow2State *s = n->state;
    Qcow2Slice *slice;
    uint64_t index;
    int ret = qcow2_co_change_l2(n, p->offset, &slice, &index);
    if (ret == 0) {
        ret = zero_walk(n, slice, index, p, true);
        qcow2_cache_put(&s->l2, slice);
    }
    return MIN(ret, 0);
}

/* Makes the data file zeroes if it is to be what the guest reads. The entries change afterwards, so
 * that a request that fails here does all of it again. */
static coroutine_fn RUNS_IN_IOTHREAD int zero_raw_data(BlockNode *n, const ZeroPiece *p)
{
    const Qcow2State *s = n->state;
    bool raw = (s->header.autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW) != 0;
    unsigned flags = p->how == ZERO_KEEP ? 0 : BLOCK_REQ_MAY_UNMAP;
    if (!raw || p->how == ZERO_CUT || p->bytes == 0) {
        return 0;
    }
    return block_node_co_write_zeroes(s->data, p->offset, p->bytes, flags);
}

/* Gives the data file's space back. */
static coroutine_fn RUNS_IN_IOTHREAD void zero_discard_data(BlockNode *n, const ZeroPiece *p)
{
    const Qcow2State *s = n->state;
    bool raw = (s->header.autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW) != 0;
    bool discard = p->how == ZERO_UNMAP || p->how == ZERO_DISCARD;
    if (qcow2_has_data_file(&s->header) && !raw && discard && p->bytes > 0) {
        block_node_co_discard(s->data, p->offset, p->bytes); /* only a hint */
    }
}

/* Under the exclusive lock. */
static coroutine_fn RUNS_IN_IOTHREAD int zero_locked(BlockNode *n, ZeroPiece *p)
{
    Qcow2State *s = n->state;
    Qcow2Slice *slice;
    uint64_t index;
    int ret = qcow2_co_look_l2(n, p->offset, &slice, &index);
    if (ret < 0) {
        return ret;
    }
    int changes = zero_walk(n, slice, index, p, false);
    if (slice != NULL) {
        qcow2_cache_put(&s->l2, slice);
    }
    if (changes <= 0) {
        return changes;
    }
    ret = zero_raw_data(n, p);
    if (ret == 0) {
        ret = zero_change(n, p);
    }
    if (ret == 0) {
        zero_discard_data(n, p);
    }
    return ret;
}

/* Does the begin of [offset, offset + bytes); *@done bytes. */
static coroutine_fn RUNS_IN_IOTHREAD int zero_piece(BlockNode *n, uint64_t offset, uint64_t bytes,
                                                    ZeroHow how, uint64_t *done)
{
    Qcow2State *s = n->state;
    unsigned bits = s->header.cluster_bits;
    uint64_t cluster = qcow2_cluster_size(&s->header);
    ZeroPiece p = {.offset = offset, .bytes = qcow2_piece(n, offset, bytes), .how = how};
    uint64_t first = offset >> bits, count = ((offset + p.bytes - 1) >> bits) - first + 1;
    qcow2_co_lock(&s->w, first, count, true);
    int ret = zero_locked(n, &p);
    qcow2_unlock(&s->w, first, count);
    *done = p.bytes;
    if (ret == 0 && p.data) {
        uint64_t rest = MIN(bytes - p.bytes, cluster - ((offset + p.bytes) & (cluster - 1)));
        ret = qcow2_co_write_zero_data(n, offset + p.bytes, rest);
        *done += rest;
    }
    return ret;
}

/* ---- requests ---- */

static coroutine_fn RUNS_IN_IOTHREAD int zero_range(BlockNode *n, uint64_t offset, uint64_t bytes,
                                                    ZeroHow how)
{
    Qcow2State *s = n->state;
    Qcow2Use use;
    int ret = qcow2_co_begin_change(n);
    if (ret < 0) {
        return ret;
    }
    unsigned pieces = 0;
    bool reclaimed = false;
    qcow2_use_begin(&s->w, &use);
    for (uint64_t at = 0, done; at < bytes && ret == 0; at += done) {
        ret = zero_piece(n, offset + at, bytes - at, how, &done);
        if (ret == -ENOSPC && !reclaimed) {
            reclaimed = true;
            done = 0; /* the piece is repeated */
            ret = qcow2_co_reclaim(n, &use) ? 0 : ret;
        }
        if (++pieces % ZERO_TURN_PIECES == 0) {
            co_yield_turn(); /* pieces in memory, and those without a change, do not wait */
        }
        if (ret == 0 && s->w.frees->len > QCOW2_FREES_MAX) {
            ret = qcow2_co_make_room(n);
        }
    }
    qcow2_use_end(n, &use);
    return qcow2_co_save_corrupt(n, ret);
}

int qcow2_co_write_zeroes(BlockNode *n, uint64_t offset, uint64_t bytes, unsigned flags)
{
    bool unmap = (flags & BLOCK_REQ_MAY_UNMAP) != 0;
    const Qcow2Header *h = &((const Qcow2State *)n->state)->header;
    bool writes_data = h->version < 3 || (h->autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW) != 0;
    if (writes_data && (flags & BLOCK_REQ_NO_FALLBACK) != 0) {
        return -ENOTSUP;
    }
    return zero_range(n, offset, bytes, unmap ? ZERO_UNMAP : ZERO_KEEP);
}

int qcow2_co_discard(BlockNode *n, uint64_t offset, uint64_t bytes)
{
    const Qcow2State *s = n->state;
    uint64_t cluster = qcow2_cluster_size(&s->header);
    uint64_t start = block_align_up(offset, cluster);
    uint64_t end = block_align_down(offset + bytes, cluster);
    if (s->header.version < 3 && zero_has_backing(n)) {
        return -ENOTSUP; /* the backing file's bytes would appear */
    }
    return start < end ? zero_range(n, start, end - start, ZERO_DISCARD) : 0;
}

int qcow2_co_cut(BlockNode *n, uint64_t offset, uint64_t bytes)
{
    return zero_range(n, offset, bytes, ZERO_CUT);
}

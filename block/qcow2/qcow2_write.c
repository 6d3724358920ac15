/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes. A request is done piece by piece, each within the clusters of one slice of an L2 table:
 *
 *   shared lock --in place--> write --> unlock
 *        |
 *        not in place: exclusive lock --> allocate a run --> write data, head and tail
 *                                                                |
 *                                     unlock <-- change entries, free old clusters
 *
 * "In place" means that the entry stays as it is: the cluster is allocated, has the flag COPIED (no
 * snapshot has it; qcow2_snap.h), and all touched subclusters are allocated. A cluster with COPIED that reads as
 * zeroes is used again. Everything else gets new clusters, in runs as long as possible.
 */
#include <errno.h>
#include "block/qcow2/qcow2_int.h"

typedef struct WriteRequest {
    const struct iovec *iov;
    unsigned niov;
    uint64_t done;
} WriteRequest;

/* Consecutive clusters of one kind, in one slice. */
typedef struct WriteRun {
    uint64_t guest;        /* of the first cluster */
    uint64_t start, bytes; /* of the request's part, counted from there */
    uint64_t count;        /* clusters */
    bool reuse;            /* they have their clusters already */
    Qcow2Run host;
    uint64_t from, to; /* written bytes, counted from the first cluster */
} WriteRun;

/* ---- what an entry allows ---- */

/* The bits of the subclusters of [from, to) of a cluster. */
static uint32_t write_subclusters(const Qcow2State *s, uint64_t from, uint64_t to)
{
    uint64_t unit = qcow2_cluster_size(&s->header) / QCOW2_SUBCLUSTERS;
    uint64_t first = from / unit, end = (to + unit - 1) / unit;
    return (uint32_t)((((uint64_t)1 << end) - 1) & ~(((uint64_t)1 << first) - 1));
}

static RUNS_IN_IOTHREAD bool write_owns(const BlockNode *n, Qcow2Entry m)
{
    return qcow2_has_cluster(n->state, m) && qcow2_owns(n, m.entry);
}

/* Whether [from, to) of the cluster can be written without a change of its entry. */
static RUNS_IN_IOTHREAD bool write_in_place(const BlockNode *n, Qcow2Entry m, uint64_t from,
                                            uint64_t to)
{
    const Qcow2State *s = n->state;
    if (!write_owns(n, m)) {
        return false;
    }
    if (qcow2_has_extended_l2(&s->header)) {
        uint32_t bits = write_subclusters(s, from, to);
        return ((uint32_t)m.bitmap & bits) == bits;
    }
    return (m.entry & QCOW2_ENTRY_ZERO) == 0;
}

/* The cluster that the entry can keep; false: it needs a new one. */
static RUNS_IN_IOTHREAD bool write_reuses(const BlockNode *n, uint64_t guest, Qcow2Entry m,
                                          uint64_t *host)
{
    const Qcow2State *s = n->state;
    *host = qcow2_has_cluster(s, m) ? m.entry & QCOW2_OFFSET_MASK : guest;
    return qcow2_has_data_file(&s->header) || write_owns(n, m);
}

/* ---- in place ---- */

/* How many bytes from @offset on can be written in place to consecutive bytes from *@host on. */
static RUNS_IN_IOTHREAD int write_find_in_place(const BlockNode *n, const Qcow2Slice *slice,
                                                uint64_t index, uint64_t offset, uint64_t bytes,
                                                uint64_t *host, uint64_t *length)
{
    const Qcow2State *s = n->state;
    uint64_t cluster = qcow2_cluster_size(&s->header);
    for (*length = 0; *length < bytes; index++) {
        uint64_t within = (offset + *length) & (cluster - 1);
        uint64_t part = MIN(cluster - within, bytes - *length);
        Qcow2Entry m = qcow2_get_entry(s, slice, index);
        uint64_t at = (m.entry & QCOW2_OFFSET_MASK) + within;
        int ret = qcow2_check_entry(n, offset + *length, m);
        if (ret < 0) {
            return ret;
        }
        if (!write_in_place(n, m, within, within + part) ||
            (*length > 0 && at != *host + *length)) {
            break;
        }
        *host = *length == 0 ? at : *host;
        *length += part;
    }
    bool checked = *length > 0 && !qcow2_has_data_file(&s->header);
    return checked ? qcow2_check_data(n, *host, *length) : 0;
}

/* Under a lock: writes what is in place at the start. *@length is 0 if that is nothing. */
static coroutine_fn RUNS_IN_IOTHREAD int write_try_in_place(BlockNode *n, const WriteRequest *r,
                                                            uint64_t offset, uint64_t bytes,
                                                            uint64_t *length)
{
    Qcow2State *s = n->state;
    Qcow2Slice *slice;
    uint64_t index, host = 0;
    *length = 0;
    int ret = qcow2_co_look_l2(n, offset, &slice, &index);
    if (ret < 0 || slice == NULL) {
        return ret;
    }
    ret = write_find_in_place(n, slice, index, offset, bytes, &host, length);
    qcow2_cache_put(&s->l2, slice);
    if (ret == 0 && *length > 0) {
        ret = qcow2_co_write_part(n, host, *length, r->iov, r->niov, r->done);
    }
    return ret;
}

/* ---- a run of clusters that get new entries ---- */

/* Extends what is written of a cluster, [*@from, *@to), by what has to be copied. */
static void write_widen(const Qcow2State *s, Qcow2Entry m, bool reuse, uint64_t *from, uint64_t *to)
{
    uint64_t cluster = qcow2_cluster_size(&s->header);
    uint64_t unit = cluster / QCOW2_SUBCLUSTERS;
    uint32_t allocated = (uint32_t)m.bitmap;
    if (!qcow2_has_extended_l2(&s->header) || (m.entry & QCOW2_ENTRY_COMPRESSED) != 0) {
        *from = 0;
        *to = cluster;
        return;
    }
    uint64_t first = *from / unit, last = (*to - 1) / unit;
    if (!reuse || (allocated >> first & 1) == 0) {
        *from = first * unit;
    }
    if (!reuse || (allocated >> last & 1) == 0) {
        *to = (last + 1) * unit;
    }
    if (!reuse && allocated != 0) { /* the old cluster goes, with its subclusters */
        *from = MIN(*from, (uint64_t)__builtin_ctz(allocated) * unit);
        *to = MAX(*to, (32 - (uint64_t)__builtin_clz(allocated)) * unit);
    }
}

/* Whether cluster @i of the run, which has the entry @m, continues it. */
static RUNS_IN_IOTHREAD bool write_continues(const BlockNode *n, const WriteRun *run, uint64_t i,
                                             Qcow2Entry m)
{
    const Qcow2State *s = n->state;
    uint64_t cluster = qcow2_cluster_size(&s->header);
    uint64_t host, end = MIN(run->start + run->bytes - i * cluster, cluster);
    bool reuse = write_reuses(n, run->guest + i * cluster, m, &host);
    return !write_in_place(n, m, 0, end) && reuse == run->reuse &&
           (!reuse || host == run->host.host + i * cluster);
}

/* Describes the run that begins with the request's first cluster; @slice NULL: all entries are 0. */
static RUNS_IN_IOTHREAD int write_describe(const BlockNode *n, const Qcow2Slice *slice,
                                           uint64_t index, WriteRun *run)
{
    const Qcow2State *s = n->state;
    uint64_t cluster = qcow2_cluster_size(&s->header);
    uint64_t end = run->start + run->bytes, i = 0;
    do {
        Qcow2Entry m = slice != NULL ? qcow2_get_entry(s, slice, index + i) : (Qcow2Entry){0};
        uint64_t from = i == 0 ? run->start : 0, to = MIN(end - i * cluster, cluster);
        int ret = qcow2_check_entry(n, run->guest + i * cluster, m);
        if (ret < 0) {
            return ret;
        }
        if (i == 0) {
            run->reuse = write_reuses(n, run->guest, m, &run->host.host);
        } else if (!write_continues(n, run, i, m)) {
            break;
        }
        write_widen(s, m, run->reuse, &from, &to);
        run->from = i == 0 ? from : run->from;
        run->to = i * cluster + to;
        i++;
    } while (i * cluster < end);
    run->count = i;
    run->bytes = MIN(end, i * cluster) - run->start;
    return 0;
}

/* Makes the run shorter: the allocator found fewer clusters, which are then covered to their end. */
static void write_shorten(const Qcow2State *s, WriteRun *run)
{
    uint64_t end = run->host.count * qcow2_cluster_size(&s->header);
    if (run->host.count < run->count) {
        run->count = run->host.count;
        run->bytes = end - run->start;
        run->to = end;
    }
}

/* The entry of cluster @i afterwards. */
static Qcow2Entry write_new_entry(const Qcow2State *s, const WriteRun *run, uint64_t i,
                                  Qcow2Entry old)
{
    uint64_t cluster = qcow2_cluster_size(&s->header);
    Qcow2Entry m = {.entry = (run->host.host + i * cluster) | QCOW2_ENTRY_COPIED};
    if (!qcow2_has_extended_l2(&s->header)) {
        return m;
    }
    uint64_t from = i == 0 ? run->from : 0, to = MIN(run->to - i * cluster, cluster);
    uint64_t bits = write_subclusters(s, from, to);
    uint64_t zero = (old.bitmap >> 32) & ~bits, allocated = bits;
    if ((old.entry & QCOW2_ENTRY_COMPRESSED) != 0) {
        zero = 0;
    } else if (run->reuse) {
        allocated |= (uint32_t)old.bitmap;
    }
    m.bitmap = zero << 32 | allocated;
    return m;
}

/* Changes the entries of the run. Their locks are held, so they are as described. */
static coroutine_fn RUNS_IN_IOTHREAD int write_link(BlockNode *n, const WriteRun *run)
{
    Qcow2State *s = n->state;
    Qcow2Slice *slice;
    uint64_t index;
    int ret = qcow2_co_change_l2(n, run->guest, &slice, &index);
    if (ret < 0) {
        return ret;
    }
    for (uint64_t i = 0; i < run->count; i++) {
        Qcow2Entry old = qcow2_get_entry(s, slice, index + i);
        qcow2_set_entry(s, slice, index + i, write_new_entry(s, run, i, old));
        if (!run->reuse) {
            qcow2_free_entry(n, old, false);
        }
    }
    s->w.data_written = true;
    qcow2_cache_put(&s->l2, slice);
    return 0;
}

static coroutine_fn RUNS_IN_IOTHREAD int write_run(BlockNode *n, const WriteRequest *r,
                                                   const WriteRun *run)
{
    Qcow2Cow c = {
        .guest = run->guest,
        .host = run->host.host,
        .fresh = run->host.fresh,
        .head = run->start - run->from,
        .tail = run->to - run->start - run->bytes,
        .from = run->from,
        .to = run->to,
    };
    int ret = qcow2_co_write_cow(n, &c, r->iov, r->niov, r->done);
    return ret == 0 ? write_link(n, run) : ret;
}

/* Under the exclusive lock: writes the run that begins at @offset, which is not in place. */
static coroutine_fn RUNS_IN_IOTHREAD int write_allocate(BlockNode *n, const WriteRequest *r,
                                                        uint64_t offset, uint64_t bytes,
                                                        uint64_t *length)
{
    Qcow2State *s = n->state;
    uint64_t start = offset & (qcow2_cluster_size(&s->header) - 1);
    WriteRun run = {.guest = offset - start, .start = start, .bytes = bytes};
    Qcow2Slice *slice;
    uint64_t index;
    int ret = qcow2_co_look_l2(n, offset, &slice, &index);
    if (ret < 0) {
        return ret;
    }
    ret = write_describe(n, slice, index, &run);
    if (slice != NULL) {
        qcow2_cache_put(&s->l2, slice);
    }
    if (ret == 0 && !run.reuse) {
        ret = qcow2_co_alloc(n, run.count, false, &run.host);
    } else if (ret == 0 && !qcow2_has_data_file(&s->header)) {
        ret = qcow2_check_data(n, run.host.host, run.count << s->header.cluster_bits);
    }
    if (ret < 0) {
        return ret;
    }
    if (!run.reuse) {
        write_shorten(s, &run);
    }
    ret = write_run(n, r, &run);
    if (ret < 0 && !run.reuse) {
        qcow2_co_unalloc(n, &run.host);
    }
    *length = run.bytes;
    return ret;
}

/* ---- requests ---- */

/* Writes a piece of the request; *@length bytes are done. */
static coroutine_fn RUNS_IN_IOTHREAD int
write_piece(BlockNode *n, const WriteRequest *r, uint64_t offset, uint64_t bytes, uint64_t *length)
{
    Qcow2State *s = n->state;
    unsigned bits = s->header.cluster_bits;
    uint64_t first = offset >> bits, count = ((offset + bytes - 1) >> bits) - first + 1;
    qcow2_co_lock(&s->w, first, count, false);
    int ret = write_try_in_place(n, r, offset, bytes, length);
    qcow2_unlock(&s->w, first, count);
    if (ret < 0 || *length > 0) {
        return ret;
    }
    qcow2_co_lock(&s->w, first, count, true);
    ret = write_try_in_place(n, r, offset, bytes, length); /* another request may have allocated */
    if (ret == 0 && *length == 0) {
        ret = write_allocate(n, r, offset, bytes, length);
    }
    qcow2_unlock(&s->w, first, count);
    return ret;
}

uint64_t qcow2_piece(const BlockNode *n, uint64_t offset, uint64_t bytes)
{
    const Qcow2State *s = n->state;
    uint64_t covers = qcow2_slice_covers(n);
    uint64_t within = offset & (qcow2_cluster_size(&s->header) - 1);
    uint64_t most = ((uint64_t)QCOW2_LOCK_MAX << s->header.cluster_bits) - within;
    return MIN(MIN(bytes, covers - (offset & (covers - 1))), most);
}

int qcow2_co_pwritev(BlockNode *n, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                     unsigned niov, unsigned flags)
{
    Qcow2State *s = n->state;
    WriteRequest r = {.iov = iov, .niov = niov};
    Qcow2Use use;
    bool reclaimed = false;
    (void)flags; /* the core flushes after a write with FUA */
    int ret = qcow2_co_begin_change(n);
    if (ret < 0) {
        return ret;
    }
    qcow2_use_begin(&s->w, &use);
    while (r.done < bytes && ret == 0) {
        uint64_t length = 0;
        uint64_t piece = qcow2_piece(n, offset + r.done, bytes - r.done);
        ret = write_piece(n, &r, offset + r.done, piece, &length);
        if (ret == -ENOSPC && !reclaimed) {
            reclaimed = true;
            ret = qcow2_co_reclaim(n, &use) ? 0 : ret;
            continue;
        }
        r.done += length;
        if (ret == 0 && s->w.frees->len > QCOW2_FREES_MAX) {
            ret = qcow2_co_make_room(n);
        }
    }
    qcow2_use_end(n, &use);
    return qcow2_co_save_corrupt(n, ret);
}

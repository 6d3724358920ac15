/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes to a state area. A request is done piece by piece, each within the clusters of one slice:
 *
 *   shared lock --in place--> write --> unlock
 *        |
 *        not in place: exclusive lock --> the table --> allocate a run --> write --> entries --> unlock
 *
 * The rest of the first and the last cluster of a run are zeroes, written together with the data. Clusters
 * that were never written read as zeroes already.
 */
#include <errno.h>
#include "block/qcow2/qcow2_int.h"

#define AREA_ZEROES ((uint64_t)64 << 10)
#define AREA_BITMAP ((uint64_t)UINT32_MAX) /* of subclusters: all are allocated */

/* Never written, so the kernel backs it with the zero page. */
static uint8_t area_zeroes[AREA_ZEROES] __attribute__((aligned(BLOCK_MEMORY_ALIGNMENT_MAX)));

typedef struct AreaRequest {
    Qcow2Area *area;
    const struct iovec *iov;
    unsigned niov;
    uint64_t done;
} AreaRequest;

/* ---- in place ---- */

/* How many bytes from @offset on have clusters, one behind the other from *@host on. */
static uint64_t area_find_in_place(const Qcow2State *s, const Qcow2Slice *slice, uint64_t index,
                                   uint64_t offset, uint64_t bytes, uint64_t *host)
{
    uint64_t cluster = qcow2_cluster_size(&s->header), length = 0;
    for (; length < bytes; index++) {
        uint64_t within = (offset + length) & (cluster - 1);
        uint64_t at = qcow2_get_entry(s, slice, index).entry & QCOW2_OFFSET_MASK;
        if (at == 0 || (length > 0 && at != *host + length)) {
            break;
        }
        *host = length == 0 ? at + within : *host;
        length += MIN(cluster - within, bytes - length);
    }
    return length;
}

/* Writes what is in place at the start. *@length is 0 if that is nothing. */
static coroutine_fn RUNS_IN_IOTHREAD int area_try_in_place(const AreaRequest *r, uint64_t offset,
                                                           uint64_t bytes, uint64_t *length)
{
    Qcow2Area *a = r->area;
    Qcow2Slice *slice;
    uint64_t index, host = 0;
    *length = 0;
    if (!qcow2_area_has_table(a, offset)) {
        return 0;
    }
    int ret = qcow2_co_area_get(a, offset, &slice, &index);
    if (ret < 0) {
        return ret;
    }
    *length = area_find_in_place(a->image->state, slice, index, offset, bytes, &host);
    qcow2_cache_put(&a->tables, slice);
    return *length > 0 ? qcow2_co_write_part(a->image, host, *length, r->iov, r->niov, r->done) : 0;
}

/* ---- a run of new clusters ---- */

/* Consecutive clusters without entries, in one slice. */
typedef struct AreaRun {
    uint64_t head;  /* from the start of the first cluster to the request's data */
    uint64_t bytes; /* of the data */
    uint64_t want;  /* clusters */
    Qcow2Run host;
} AreaRun;

static unsigned area_add_zeroes(struct iovec *iov, uint64_t bytes)
{
    unsigned count = 0;
    for (; bytes > 0; count++) {
        uint64_t part = MIN(bytes, AREA_ZEROES);
        iov[count] = (struct iovec){area_zeroes, part};
        bytes -= part;
    }
    return count;
}

/* Writes whole clusters: zeroes, the data, zeroes. */
static coroutine_fn RUNS_IN_IOTHREAD int area_write_whole(const AreaRequest *r, const AreaRun *run)
{
    const Qcow2State *s = r->area->image->state;
    uint64_t all = run->host.count << s->header.cluster_bits;
    uint64_t tail = all - run->head - run->bytes;
    uint64_t pieces = run->head / AREA_ZEROES + tail / AREA_ZEROES + 2;
    g_autofree struct iovec *iov = g_new(struct iovec, r->niov + pieces);
    size_t covered;
    unsigned count = area_add_zeroes(iov, run->head);
    count += iov_slice(iov + count, r->niov, r->iov, r->niov, r->done, run->bytes, &covered);
    count += area_add_zeroes(iov + count, tail);
    return block_node_co_pwritev(r->area->image->file, run->host.host, all, iov, count, 0);
}

static coroutine_fn RUNS_IN_IOTHREAD int area_write_data(const AreaRequest *r, const AreaRun *run)
{
    if (run->host.fresh) {
        return qcow2_co_write_part(r->area->image, run->host.host + run->head, run->bytes, r->iov,
                                   r->niov, r->done);
    }
    return area_write_whole(r, run);
}

/* Sets the entries of the run, which begins at @offset. */
static coroutine_fn RUNS_IN_IOTHREAD int area_link(Qcow2Area *a, uint64_t offset,
                                                   const AreaRun *run)
{
    Qcow2State *s = a->image->state;
    Qcow2Slice *slice;
    uint64_t index;
    int ret = qcow2_co_area_get(a, offset, &slice, &index);
    if (ret < 0) {
        return ret;
    }
    for (uint64_t i = 0; i < run->host.count; i++) {
        Qcow2Entry m = {.entry = run->host.host + (i << s->header.cluster_bits)};
        m.bitmap = qcow2_has_extended_l2(&s->header) ? AREA_BITMAP : 0;
        qcow2_set_entry(s, slice, index + i, m);
    }
    qcow2_cache_mark_dirty(&a->tables, slice);
    s->w.data_written = true;
    qcow2_cache_put(&a->tables, slice);
    return 0;
}

/* Finds the clusters from @offset on that have no entry. */
static coroutine_fn RUNS_IN_IOTHREAD int area_describe(Qcow2Area *a, uint64_t offset,
                                                       uint64_t bytes, AreaRun *run)
{
    const Qcow2State *s = a->image->state;
    uint64_t cluster = qcow2_cluster_size(&s->header);
    Qcow2Slice *slice;
    uint64_t index;
    int ret = qcow2_co_area_get(a, offset, &slice, &index);
    if (ret < 0) {
        return ret;
    }
    *run = (AreaRun){.head = offset & (cluster - 1)};
    uint64_t most = (run->head + bytes + cluster - 1) >> s->header.cluster_bits;
    while (run->want < most && qcow2_get_entry(s, slice, index + run->want).entry == 0) {
        run->want++;
    }
    qcow2_cache_put(&a->tables, slice);
    return 0;
}

/* Under the exclusive lock: nothing at @offset is in place. */
static coroutine_fn RUNS_IN_IOTHREAD int area_allocate(const AreaRequest *r, uint64_t offset,
                                                       uint64_t bytes, uint64_t *length)
{
    Qcow2Area *a = r->area;
    const Qcow2State *s = a->image->state;
    AreaRun run;
    int ret = qcow2_co_area_add_table(a, offset);
    if (ret == 0) {
        ret = area_describe(a, offset, bytes, &run);
    }
    if (ret == 0) {
        ret = qcow2_co_alloc(a->image, run.want, false, &run.host);
    }
    if (ret < 0) {
        return ret;
    }
    run.bytes = MIN(bytes, (run.host.count << s->header.cluster_bits) - run.head);
    ret = area_write_data(r, &run);
    if (ret == 0) {
        ret = area_link(a, offset, &run);
    }
    if (ret < 0) {
        qcow2_co_unalloc(a->image, &run.host);
    }
    *length = run.bytes;
    return ret;
}

/* ---- requests ---- */

/* How many of @bytes from @offset on are in one slice, and lockable. */
static uint64_t area_piece(const Qcow2Area *a, uint64_t offset, uint64_t bytes)
{
    const Qcow2State *s = a->image->state;
    uint64_t covers = qcow2_area_slice_covers(a);
    uint64_t within = offset & (qcow2_cluster_size(&s->header) - 1);
    uint64_t most = ((uint64_t)QCOW2_LOCK_MAX << s->header.cluster_bits) - within;
    return MIN(MIN(bytes, covers - offset % covers), most);
}

static coroutine_fn RUNS_IN_IOTHREAD int area_write_piece(const AreaRequest *r, uint64_t offset,
                                                          uint64_t bytes, uint64_t *length)
{
    Qcow2State *s = r->area->image->state;
    unsigned bits = s->header.cluster_bits;
    uint64_t first = offset >> bits, count = ((offset + bytes - 1) >> bits) - first + 1;
    first += QCOW2_AREA_LOCKS;
    qcow2_co_lock(&s->w, first, count, false);
    int ret = area_try_in_place(r, offset, bytes, length);
    qcow2_unlock(&s->w, first, count);
    if (ret < 0 || *length > 0) {
        return ret;
    }
    qcow2_co_lock(&s->w, first, count, true);
    ret = area_try_in_place(r, offset, bytes, length); /* another request may have allocated */
    if (ret == 0 && *length == 0) {
        ret = area_allocate(r, offset, bytes, length);
    }
    qcow2_unlock(&s->w, first, count);
    return ret;
}

/* Makes free what waits for a commit. False: there is no such cluster. */
static coroutine_fn RUNS_IN_IOTHREAD bool area_reclaim(BlockNode *n)
{
    Qcow2State *s = n->state;
    Qcow2Use use;
    qcow2_use_begin(&s->w, &use);
    bool reclaimed = qcow2_co_reclaim(n, &use);
    qcow2_use_end(n, &use);
    return reclaimed;
}

static coroutine_fn RUNS_IN_IOTHREAD int area_write(AreaRequest *r, uint64_t offset, uint64_t bytes)
{
    BlockNode *n = r->area->image;
    bool reclaimed = false;
    int ret = qcow2_co_begin_change(n);
    while (r->done < bytes && ret == 0) {
        uint64_t length = 0;
        if (r->area->sealed) {
            return -ECANCELED; /* the image was completed on disk */
        }
        ret = area_write_piece(r, offset + r->done,
                               area_piece(r->area, offset + r->done, bytes - r->done), &length);
        if (ret == -ENOSPC && !reclaimed) {
            reclaimed = true;
            ret = area_reclaim(n) ? 0 : ret;
            continue;
        }
        r->done += length;
    }
    return ret;
}

int qcow2_co_area_write(Qcow2Area *a, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                        unsigned niov)
{
    AreaRequest r = {.area = a, .iov = iov, .niov = niov};
    int ret = qcow2_area_begin(a);
    if (ret == 0) {
        ret = area_write(&r, offset, bytes);
        qcow2_area_end(a);
    }
    return qcow2_co_save_corrupt(a->image, ret);
}

/* Zeroes [host, host + bytes) of the file. */
static coroutine_fn RUNS_IN_IOTHREAD int area_write_zeroes(BlockNode *n, uint64_t host,
                                                           uint64_t bytes)
{
    g_autofree struct iovec *iov = g_new(struct iovec, bytes / AREA_ZEROES + 1);
    unsigned count = area_add_zeroes(iov, bytes);
    return block_node_co_pwritev(n->file, host, bytes, iov, count, 0);
}

#define AREA_ZERO_MAX ((uint64_t)16 << 20) /* of one write */

int qcow2_co_area_zero(Qcow2Area *a, uint64_t offset, uint64_t bytes)
{
    Qcow2Map m = {.l1 = a->l1, .count = a->count, .tables = &a->tables};
    int ret = qcow2_area_begin(a);
    if (ret < 0) {
        return ret;
    }
    while (bytes > 0 && ret == 0) {
        Qcow2Extent e;
        ret = qcow2_co_map_in(a->image, &m, offset, MIN(bytes, AREA_ZERO_MAX), &e);
        if (ret == 0 && e.kind == QCOW2_DATA) {
            ret = area_write_zeroes(a->image, e.host, e.bytes);
        }
        offset += e.bytes;
        bytes -= e.bytes;
    }
    qcow2_area_end(a);
    return qcow2_co_save_corrupt(a->image, ret);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clusters that are allocated in advance, for a part of the disk that reads as zeroes:
 *
 *   exclusive lock --> allocate a run --> make it zeroes, as the mode says --> change entries --> unlock
 *
 * Clusters that are allocated already stay as they are. With extended L2 entries the subclusters stay
 * as they are too: the cluster waits for its first write.
 */
#include <errno.h>
#include "block/core/preallocate.h"
#include "block/qcow2/qcow2_int.h"

#define PREALLOCATE_TURN_PIECES 64u /* in one turn of the loop */

/* Consecutive clusters, all with or all without a cluster in the file. */
typedef struct PreallocateRun {
    uint64_t guest, count;
    bool taken;
    Qcow2Run host;
} PreallocateRun;

/* @slice NULL: all entries are 0. */
static RUNS_IN_IOTHREAD int preallocate_describe(const BlockNode *n, const Qcow2Slice *slice,
                                                 uint64_t index, uint64_t count,
                                                 PreallocateRun *run)
{
    const Qcow2State *s = n->state;
    for (run->count = 0; run->count < count; run->count++) {
        uint64_t i = run->count;
        Qcow2Entry m = slice != NULL ? qcow2_get_entry(s, slice, index + i) : (Qcow2Entry){0};
        bool taken = (m.entry & QCOW2_ENTRY_COMPRESSED) != 0 || qcow2_has_cluster(s, m);
        int ret = qcow2_check_entry(n, run->guest + (i << s->header.cluster_bits), m);
        if (ret < 0) {
            return ret;
        }
        if (i > 0 && taken != run->taken) {
            break;
        }
        run->taken = taken;
    }
    return 0;
}

/* Clusters that were never written are zeroes; the last sector makes the file long enough. */
static coroutine_fn RUNS_IN_IOTHREAD int
preallocate_metadata(BlockNode *n, const PreallocateRun *run, uint64_t bytes)
{
    const Qcow2State *s = n->state;
    uint64_t host = run->host.host, end = host + bytes;
    if (run->host.fresh) {
        host = end <= block_node_size(s->data) ? end : end - QCOW2_SECTOR;
    }
    return block_node_co_write_zeroes(s->data, host, end - host, BLOCK_REQ_MAY_UNMAP);
}

static coroutine_fn RUNS_IN_IOTHREAD int preallocate_fill(BlockNode *n, const PreallocateRun *run,
                                                          BlockPreallocation mode)
{
    const Qcow2State *s = n->state;
    uint64_t bytes = run->count << s->header.cluster_bits;
    if (qcow2_has_data_file(&s->header)) { /* it does not become longer than the disk */
        uint64_t end = MAX(s->header.size, run->guest);
        bytes = MIN(bytes, end - run->guest);
    }
    return mode == BLOCK_PREALLOCATION_METADATA
               ? preallocate_metadata(n, run, bytes)
               : block_node_co_preallocate(s->data, run->host.host, bytes, mode);
}

static coroutine_fn RUNS_IN_IOTHREAD int preallocate_link(BlockNode *n, const PreallocateRun *run)
{
    Qcow2State *s = n->state;
    Qcow2Slice *slice;
    uint64_t index;
    int ret = qcow2_co_change_l2(n, run->guest, &slice, &index);
    if (ret < 0) {
        return ret;
    }
    for (uint64_t i = 0; i < run->count; i++) {
        Qcow2Entry m = qcow2_get_entry(s, slice, index + i); /* the bitmap stays */
        m.entry = (run->host.host + (i << s->header.cluster_bits)) | QCOW2_ENTRY_COPIED;
        qcow2_set_entry(s, slice, index + i, m);
    }
    s->w.data_written = true;
    qcow2_cache_put(&s->l2, slice);
    return 0;
}

/* Under the exclusive lock: allocates the run, or its begin. */
static coroutine_fn RUNS_IN_IOTHREAD int preallocate_run(BlockNode *n, PreallocateRun *run,
                                                         BlockPreallocation mode)
{
    const Qcow2State *s = n->state;
    bool external = qcow2_has_data_file(&s->header);
    int ret = 0;
    if (external) {
        run->host = (Qcow2Run){.host = run->guest, .count = run->count};
    } else {
        ret = qcow2_co_alloc(n, run->count, false, &run->host);
    }
    if (ret < 0) {
        return ret;
    }
    run->count = run->host.count;
    ret = preallocate_fill(n, run, mode);
    if (ret == 0) {
        ret = preallocate_link(n, run);
    }
    if (ret < 0 && !external) {
        qcow2_co_unalloc(n, &run->host);
    }
    return ret;
}

/* Does the begin of @bytes bytes at @guest, whole clusters; *@done bytes. */
static coroutine_fn RUNS_IN_IOTHREAD int preallocate_piece(BlockNode *n, uint64_t guest,
                                                           uint64_t bytes, BlockPreallocation mode,
                                                           uint64_t *done)
{
    Qcow2State *s = n->state;
    unsigned bits = s->header.cluster_bits;
    uint64_t count = qcow2_piece(n, guest, bytes) >> bits, index;
    PreallocateRun run = {.guest = guest};
    Qcow2Slice *slice;
    qcow2_co_lock(&s->w, guest >> bits, count, true);
    int ret = qcow2_co_look_l2(n, guest, &slice, &index);
    if (ret == 0) {
        ret = preallocate_describe(n, slice, index, count, &run);
        if (slice != NULL) {
            qcow2_cache_put(&s->l2, slice);
        }
    }
    if (ret == 0 && !run.taken) {
        ret = preallocate_run(n, &run, mode);
    }
    qcow2_unlock(&s->w, guest >> bits, count);
    *done = run.count << bits;
    return ret;
}

int qcow2_co_preallocate(BlockNode *n, uint64_t offset, uint64_t bytes, BlockPreallocation mode)
{
    Qcow2State *s = n->state;
    uint64_t cluster = qcow2_cluster_size(&s->header),
             end = block_align_up(offset + bytes, cluster);
    /* The cluster at @offset can have parts of a backing file. */
    bool shows = s->header.backing_name != NULL || n->backing != NULL;
    uint64_t at = shows ? block_align_up(offset, cluster) : block_align_down(offset, cluster);
    unsigned pieces = 0;
    Qcow2Use use;
    int ret = qcow2_co_begin_change(n);
    if (ret < 0) {
        return ret;
    }
    qcow2_use_begin(&s->w, &use);
    for (uint64_t done; at < end && ret == 0; at += done) {
        ret = preallocate_piece(n, at, end - at, mode, &done);
        if (++pieces % PREALLOCATE_TURN_PIECES == 0) {
            co_yield_turn(); /* pieces in memory do not wait */
        }
    }
    qcow2_use_end(n, &use);
    return qcow2_co_save_corrupt(n, ret);
}

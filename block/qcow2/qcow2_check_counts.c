/* SPDX-License-Identifier: Apache-2.0 */
/* Computed refcounts in memory, and tables that are named many times. */
#include <errno.h>
#include "block/qcow2/qcow2_check_int.h"

bool qcow2_counts_init(Qcow2Counts *counts, uint64_t size, uint64_t max)
{
    *counts = (Qcow2Counts){.max = (uint32_t)MIN(max, UINT32_MAX), .size = size};
    counts->width = counts->max <= UINT8_MAX ? 1 : counts->max <= UINT16_MAX ? 2 : 4;
    counts->pieces = g_try_new0(void *, size / QCOW2_COUNTS_PIECE + 1);
    return counts->pieces != NULL;
}

void qcow2_counts_free(Qcow2Counts *counts)
{
    for (uint64_t i = 0; counts->pieces != NULL && i <= counts->size / QCOW2_COUNTS_PIECE; i++) {
        g_free(counts->pieces[i]);
    }
    g_free(counts->pieces);
    *counts = (Qcow2Counts){0};
}

static RUNS_IN_IOTHREAD bool counts_add_piece(Qcow2Check *c, Qcow2Counts *counts, uint64_t piece)
{
    uint64_t bytes = (uint64_t)QCOW2_COUNTS_PIECE * counts->width;
    uint64_t most = c->request->memory != 0 ? c->request->memory : QCOW2_CHECK_MEMORY_MAX;
    if (c->memory < most && bytes <= most - c->memory) {
        counts->pieces[piece] = g_try_malloc0(bytes);
    }
    if (counts->pieces[piece] == NULL) {
        qcow2_check_report(c, "ERROR the image refers to more clusters than fit into memory");
        return false;
    }
    c->memory += bytes;
    return true;
}

bool qcow2_counts_set(Qcow2Check *c, Qcow2Counts *counts, uint64_t cluster, uint64_t number)
{
    uint64_t piece = cluster / QCOW2_COUNTS_PIECE, at = cluster % QCOW2_COUNTS_PIECE;
    if (counts->pieces[piece] == NULL) {
        if (number == 0) {
            return true;
        }
        if (!counts_add_piece(c, counts, piece)) {
            return false;
        }
    }
    number = MIN(number, counts->max);
    switch (counts->width) {
    case 1:
        ((uint8_t *)counts->pieces[piece])[at] = (uint8_t)number;
        return true;
    case 2:
        ((uint16_t *)counts->pieces[piece])[at] = (uint16_t)number;
        return true;
    default:
        ((uint32_t *)counts->pieces[piece])[at] = (uint32_t)number;
        return true;
    }
}

uint64_t qcow2_counts_next(const Qcow2Counts *counts, uint64_t cluster)
{
    uint64_t piece = cluster / QCOW2_COUNTS_PIECE;
    if (cluster >= counts->size || counts->pieces[piece] != NULL) {
        return MIN(cluster, counts->size);
    }
    while (piece <= counts->size / QCOW2_COUNTS_PIECE && counts->pieces[piece] == NULL) {
        piece++;
    }
    return MIN(piece * QCOW2_COUNTS_PIECE, counts->size);
}

/* ---- references to clusters ---- */

static RUNS_IN_IOTHREAD int count_cluster(Qcow2Check *c, uint64_t cluster, uint32_t weight)
{
    uint32_t had = qcow2_counts_get(&c->counts, cluster);
    uint32_t room = c->counts.max - had;
    if (weight > room) {
        qcow2_check_report(c, "ERROR: overflow cluster offset=0x%" PRIx64,
                           cluster << c->header.cluster_bits);
        qcow2_check_report(c, "Use skiff-img amend to increase the refcount entry width or "
                              "skiff-img convert to create a clean copy if the image cannot be "
                              "opened for writing");
        c->result->corruptions += weight - room;
        weight = room;
    }
    c->clusters = MAX(c->clusters, cluster + 1);
    return qcow2_counts_set(c, &c->counts, cluster, (uint64_t)had + weight) ? 0 : -ENOMEM;
}

static RUNS_IN_IOTHREAD int count_clusters(Qcow2Check *c, uint64_t offset, uint64_t bytes,
                                           uint32_t weight)
{
    unsigned bits = c->header.cluster_bits;
    int ret = 0;
    for (uint64_t i = offset >> bits; ret == 0 && i <= (offset + bytes - 1) >> bits; i++) {
        ret = count_cluster(c, i, weight);
    }
    return ret;
}

/* The last cluster of the file can be incomplete. */
static bool counts_in_file(const Qcow2Check *c, uint64_t offset, uint64_t bytes)
{
    uint64_t end = c->file_size + c->cluster_size;
    return offset < end && bytes < end - offset;
}

/* Marks the clusters behind the file that are referred to: a rebuild does not use them. */
static RUNS_IN_IOTHREAD int counts_mark_beyond(Qcow2Check *c, uint64_t offset, uint64_t bytes)
{
    unsigned bits = c->header.cluster_bits;
    uint64_t file_end = block_align_up(c->file_size, c->cluster_size) >> bits;
    uint64_t last = (offset > UINT64_MAX - bytes ? UINT64_MAX : offset + bytes - 1) >> bits;
    uint64_t end = MIN(last + 1, c->counts.size);
    for (uint64_t i = MAX(offset >> bits, file_end); i < end; i++) {
        if (!qcow2_counts_set(c, &c->counts, i, 1)) {
            return -ENOMEM;
        }
    }
    return 0;
}

int qcow2_check_count(Qcow2Check *c, uint64_t offset, uint64_t bytes, uint32_t weight)
{
    if (bytes == 0) {
        return 0;
    }
    if (!counts_in_file(c, offset, bytes)) {
        qcow2_check_report(c,
                           "ERROR: counting reference for region exceeding the end of the file by "
                           "one cluster or more: offset 0x%" PRIx64 " size 0x%" PRIx64,
                           offset, bytes);
        c->result->corruptions += weight;
        return (c->fix & QCOW2_FIX_ERRORS) != 0 ? counts_mark_beyond(c, offset, bytes) : 0;
    }
    return count_clusters(c, offset, bytes, weight);
}

/* ---- tables ---- */

static int counts_compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Both ends of the parts in ascending order, each kind in an array of its own. */
static uint64_t *counts_sort_ends(const GArray *parts, bool starts)
{
    uint64_t *ends = g_new(uint64_t, parts->len);
    for (unsigned i = 0; i < parts->len; i++) {
        const Qcow2CheckPart *part = &g_array_index(parts, Qcow2CheckPart, i);
        ends[i] = part->offset + (starts ? 0 : part->bytes);
    }
    if (parts->len > 0) {
        qsort(ends, parts->len, sizeof(ends[0]), counts_compare_u64);
    }
    return ends;
}

int qcow2_check_co_sweep(Qcow2Check *c, const GArray *parts, Qcow2CheckPartFn *fn)
{
    g_autofree uint64_t *starts = counts_sort_ends(parts, true);
    g_autofree uint64_t *ends = counts_sort_ends(parts, false);
    unsigned begun = 0, ended = 0;
    uint64_t at = 0;
    while (ended < parts->len) {
        uint64_t next = begun < parts->len ? MIN(starts[begun], ends[ended]) : ends[ended];
        if (begun > ended && next > at) {
            int ret = fn(c, at, next - at, begun - ended);
            if (ret < 0) {
                return ret;
            }
        }
        at = next;
        while (begun < parts->len && starts[begun] == at) {
            begun++;
        }
        while (ended < parts->len && ends[ended] == at) {
            ended++;
        }
    }
    return 0;
}

static coroutine_fn RUNS_IN_IOTHREAD int counts_count_part(Qcow2Check *c, uint64_t offset,
                                                           uint64_t bytes, uint32_t weight)
{
    int ret = qcow2_check_mark_metadata(c, offset, bytes);
    return ret == 0 ? count_clusters(c, offset, bytes, weight) : ret;
}

int qcow2_check_co_tables(Qcow2Check *c, const GArray *parts, Qcow2CheckPartFn *fn)
{
    g_autoptr(GArray) clusters = g_array_new(false, false, sizeof(Qcow2CheckPart));
    g_autoptr(GArray) contents = g_array_new(false, false, sizeof(Qcow2CheckPart));
    for (unsigned i = 0; i < parts->len; i++) {
        Qcow2CheckPart part = g_array_index(parts, Qcow2CheckPart, i);
        bool counted = counts_in_file(c, part.offset, part.bytes);
        int ret = counted ? 0 : qcow2_check_count(c, part.offset, part.bytes, 1); /* reports */
        if (ret < 0) {
            return ret;
        }
        if (part.offset >= c->file_size || part.bytes == 0) {
            continue;
        }
        part.bytes = MIN(part.bytes, c->file_size - part.offset);
        g_array_append_val(contents, part);
        if (counted) {
            part.bytes = block_align_up(part.offset + part.bytes, c->cluster_size) -
                         block_align_down(part.offset, c->cluster_size);
            part.offset = block_align_down(part.offset, c->cluster_size);
            g_array_append_val(clusters, part);
        }
    }
    int ret = qcow2_check_co_sweep(c, clusters, counts_count_part);
    return ret == 0 ? qcow2_check_co_sweep(c, contents, fn) : ret;
}

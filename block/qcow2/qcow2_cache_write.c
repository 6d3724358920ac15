/* SPDX-License-Identifier: Apache-2.0 */
/* Writing of dirty slices. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "block/qcow2/qcow2_cache.h"

#define CACHE_WRITE_IOV 64u

static uint8_t *cache_copy_data(const Qcow2Cache *c, const Qcow2Slice *s)
{
    size_t alignment = MIN(MAX(c->slice_size, sizeof(void *)), BLOCK_MEMORY_ALIGNMENT_MAX);
    uint8_t *copy = aligned_alloc(alignment, c->slice_size);
    if (copy == NULL) {
        g_error("qcow2: out of memory for a copy of %zu bytes", c->slice_size);
    }
    memcpy(copy, s->data, c->slice_size);
    return copy;
}

static void cache_begin_write(const Qcow2Cache *c, Qcow2Slice *s, Qcow2Copy *copy)
{
    *copy = (Qcow2Copy){.offset = s->offset, .data = cache_copy_data(c, s), .slice = s};
    s->dirty = false;
    s->writing = true;
}

static RUNS_IN_IOTHREAD void cache_end_write(Qcow2Cache *c, Qcow2Copy *copy, bool written)
{
    Qcow2Slice *s = copy->slice;
    s->writing = false;
    if (!s->dirty) {
        c->dirty--;
        if (!written) {
            qcow2_cache_mark_dirty(c, s);
        }
    }
    free(copy->data);
}

static int cache_compare_copies(const void *a, const void *b)
{
    uint64_t first = ((const Qcow2Copy *)a)->offset, second = ((const Qcow2Copy *)b)->offset;
    return first < second ? -1 : first > second;
}

void qcow2_cache_co_settle(Qcow2Cache *c)
{
    while (c->evicting > 0) {
        co_queue_wait(&c->waiters, "a slice of a qcow2 table to be written");
    }
}

GArray *qcow2_cache_capture(Qcow2Cache *c)
{
    GArray *copies = g_array_new(false, false, sizeof(Qcow2Copy));
    assert(c->evicting == 0);
    for (unsigned i = 0; i < c->dirty_list->len; i++) {
        Qcow2Slice *s = c->dirty_list->pdata[i];
        s->listed = false;
        if (s->dirty) {
            Qcow2Copy copy;
            cache_begin_write(c, s, &copy);
            g_array_append_val(copies, copy);
        }
    }
    g_ptr_array_set_size(c->dirty_list, 0);
    g_array_sort(copies, cache_compare_copies);
    return copies;
}

int qcow2_cache_co_write(Qcow2Cache *c, BlockNode *file, const GArray *copies)
{
    const Qcow2Copy *list = (const Qcow2Copy *)(const void *)copies->data;
    for (unsigned i = 0; i < copies->len;) {
        struct iovec iov[CACHE_WRITE_IOV];
        unsigned count = 0;
        do {
            iov[count] = (struct iovec){list[i + count].data, c->slice_size};
            count++;
        } while (i + count < copies->len && count < CACHE_WRITE_IOV &&
                 list[i + count].offset == list[i].offset + count * c->slice_size);
        int ret = block_node_co_pwritev(file, list[i].offset, count * c->slice_size, iov, count, 0);
        if (ret < 0) {
            return ret;
        }
        i += count;
    }
    return 0;
}

void qcow2_cache_release(Qcow2Cache *c, GArray *copies, bool written)
{
    for (unsigned i = 0; i < copies->len; i++) {
        cache_end_write(c, &g_array_index(copies, Qcow2Copy, i), written);
    }
    g_array_unref(copies);
    co_queue_wake_all(&c->waiters);
}

int qcow2_cache_co_clean_slice(Qcow2Cache *c, BlockNode *file, Qcow2Slice *slice)
{
    Qcow2Copy copy;
    cache_begin_write(c, slice, &copy);
    c->evicting++;
    struct iovec iov = {copy.data, c->slice_size};
    int ret = block_node_co_pwritev(file, copy.offset, c->slice_size, &iov, 1, 0);
    cache_end_write(c, &copy, ret == 0);
    c->evicting--;
    co_queue_wake_all(&c->waiters);
    return ret;
}

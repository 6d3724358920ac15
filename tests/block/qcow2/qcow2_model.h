/* SPDX-License-Identifier: Apache-2.0 */
/* Plain models of a disk and of its dirty bitmaps, and generated requests that change both. */
#ifndef SKIFF_TESTS_BLOCK_QCOW2_QCOW2_MODEL_H
#define SKIFF_TESTS_BLOCK_QCOW2_QCOW2_MODEL_H

#include "tests/block/qcow2/qcow2_shape.h"

#define MODEL_MAX ((size_t)8 << 20) /* bytes of a disk */
#define MODEL_BATCH 12u             /* requests at a time, which do not overlap */
#define MODEL_BITMAPS 2u

enum { MODEL_CLEAN, MODEL_MAY, MODEL_DIRTY };

/* Which bytes were changed since the bitmap was added. A discard may leave parts of clusters, and
 * whether their bits are set is not defined. */
typedef struct ModelBitmap {
    char *name; /* owned; NULL: none */
    uint32_t granularity;
    uint8_t *dirty; /* owned, MODEL_* for each byte of the disk */
} ModelBitmap;

typedef struct Model {
    const Shape *shape;
    GRand *rand;
    uint8_t *bytes; /* owned, MODEL_MAX */
    size_t size;
    ModelBitmap bitmaps[MODEL_BITMAPS];
    unsigned pattern;
} Model;

static inline void model_note(Model *m, uint64_t offset, uint64_t bytes, uint8_t how)
{
    for (unsigned i = 0; i < MODEL_BITMAPS; i++) {
        for (uint64_t at = offset; m->bitmaps[i].name != NULL && at < offset + bytes; at++) {
            m->bitmaps[i].dirty[at] = MAX(m->bitmaps[i].dirty[at], how);
        }
    }
}

/* The bit of the last part that stays may be set by what goes. */
static inline void model_shrink_bitmap(ModelBitmap *b, size_t size, size_t old)
{
    size_t end = MIN((size + b->granularity - 1) / b->granularity * b->granularity, old);
    for (size_t at = size; at < end; at++) {
        if (b->dirty[at] != 0 && b->dirty[size - 1] == 0) {
            b->dirty[size - 1] = MODEL_MAY;
        }
    }
    memset(b->dirty + size, 0, old - size);
}

static inline void model_resize(Model *m, size_t size)
{
    if (size < m->size) {
        memset(m->bytes + size, 0, m->size - size);
    }
    for (unsigned i = 0; i < MODEL_BITMAPS && size < m->size; i++) {
        if (m->bitmaps[i].name != NULL) {
            model_shrink_bitmap(&m->bitmaps[i], size, m->size);
        }
    }
    m->size = size;
}

static inline void model_free(Model *m)
{
    g_free(m->bytes);
    for (unsigned i = 0; i < MODEL_BITMAPS; i++) {
        g_free(m->bitmaps[i].name);
        g_free(m->bitmaps[i].dirty);
    }
}

/* ---- requests ---- */

/* Offsets are unaligned, at a sector or at a cluster; lengths are from a few bytes on. */
static inline void model_pick_range(Model *m, TestRequest *r)
{
    static const unsigned bits[] = {0, 9, 12, 16};
    unsigned kind = (unsigned)g_rand_int_range(m->rand, 0, 5);
    unsigned shift = kind == 4 ? m->shape->cluster_bits : bits[kind];
    uint64_t units = (uint64_t)g_rand_int_range(m->rand, 1, 40);
    uint64_t length = MIN(units << shift, (uint64_t)1 << 20);
    r->offset = (uint64_t)g_rand_int_range(m->rand, 0, (gint32)m->size) >> shift << shift;
    r->bytes = MIN(length, m->size - r->offset);
}

/* What a request does, and how often it is chosen. */
typedef struct ModelRequest {
    TestOp op;
    unsigned flags;
    unsigned weight;
} ModelRequest;

static const ModelRequest model_requests[] = {
    {TEST_WRITE, 0, 24},
    {TEST_WRITE, BLOCK_REQ_FUA, 1},
    {TEST_WRITE, BLOCK_REQ_COMPRESSED, 6},
    {TEST_READ, 0, 6},
    {TEST_ZERO, 0, 3},
    {TEST_ZERO, BLOCK_REQ_MAY_UNMAP, 3},
    {TEST_DISCARD, 0, 4},
};

static inline ModelRequest model_pick_kind(Model *m)
{
    unsigned sum = 0, i = 0;
    for (unsigned j = 0; j < G_N_ELEMENTS(model_requests); j++) {
        sum += model_requests[j].weight;
    }
    unsigned at = (unsigned)g_rand_int_range(m->rand, 0, (int)sum);
    while (at >= model_requests[i].weight) {
        at -= model_requests[i++].weight;
    }
    ModelRequest kind = model_requests[i];
    if (m->shape->data_file) {
        kind.flags &= ~(unsigned)BLOCK_REQ_COMPRESSED;
    }
    return kind;
}

static inline void model_pick(Model *m, BlockBackend *blk, TestRequest *r)
{
    ModelRequest kind = model_pick_kind(m);
    *r = (TestRequest){.blk = blk, .op = kind.op, .flags = kind.flags};
    model_pick_range(m, r);
    if ((r->flags & BLOCK_REQ_COMPRESSED) != 0) {
        shape_align_clusters(m->shape->cluster_bits, m->size, &r->offset, &r->bytes);
    }
    r->buf = g_malloc(r->bytes + 1);
    if (r->op == TEST_WRITE) {
        unsigned pattern = ++m->pattern;
        bool soft = (r->flags & BLOCK_REQ_COMPRESSED) != 0 && pattern % 5 != 0;
        (soft ? shape_fill_soft : test_fill)(r->buf, r->bytes, pattern);
    }
}

/* Whole clusters become zeroes, unless the image has no entry for that. */
static inline void model_take_discard(Model *m, const TestRequest *r)
{
    uint64_t cluster = (uint64_t)1 << m->shape->cluster_bits;
    uint64_t start = block_align_up(r->offset, cluster);
    uint64_t end = block_align_down(r->offset + r->bytes, cluster);
    bool ignored = m->shape->backing && strcmp(m->shape->compat, "0.10") == 0;
    if (start < end && !ignored) {
        memset(m->bytes + start, 0, end - start);
        model_note(m, start, end - start, MODEL_DIRTY);
    }
}

/* Compares what was read, takes over what was written. */
static inline void model_take(Model *m, const TestRequest *r)
{
    if (r->op == TEST_READ) {
        if (memcmp(m->bytes + r->offset, r->buf, r->bytes) != 0) {
            fail_msg("a read of %" PRIu64 " bytes at %" PRIu64
                     " gives other bytes than were written",
                     r->bytes, r->offset);
        }
        return;
    }
    model_note(m, r->offset, r->bytes, r->op == TEST_DISCARD ? MODEL_MAY : MODEL_DIRTY);
    if (r->op == TEST_WRITE) {
        memcpy(m->bytes + r->offset, r->buf, r->bytes);
    } else if (r->op == TEST_ZERO) {
        memset(m->bytes + r->offset, 0, r->bytes);
    } else {
        model_take_discard(m, r);
    }
}

static inline bool model_overlaps(const TestRequest *list, unsigned count, const TestRequest *r)
{
    for (unsigned i = 0; i < count; i++) {
        if (list[i].offset < r->offset + r->bytes && r->offset < list[i].offset + list[i].bytes) {
            return true;
        }
    }
    return false;
}

/* Runs up to MODEL_BATCH requests at the same time, sometimes with a flush beside them. */
static inline coroutine_fn RUNS_IN_MAIN void model_batch(Model *m, BlockBackend *blk)
{
    TestRequest r[MODEL_BATCH], flush = {.blk = blk, .op = TEST_FLUSH};
    unsigned count = 0, want = (unsigned)g_rand_int_range(m->rand, 1, MODEL_BATCH + 1);
    bool flushes = g_rand_int_range(m->rand, 0, 4) == 0;
    while (want-- > 0) {
        model_pick(m, blk, &r[count]);
        if (model_overlaps(r, count, &r[count])) {
            g_free(r[count].buf);
        } else {
            test_start(&r[count++]);
        }
    }
    if (flushes) {
        test_start(&flush);
    }
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(test_finish(&r[i]), 0);
        model_take(m, &r[i]);
        g_free(r[i].buf);
    }
    if (flushes) {
        assert_int_equal(test_finish(&flush), 0);
    }
}

#endif

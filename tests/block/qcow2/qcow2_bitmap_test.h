/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the tests of persistent bitmaps: what the bytes of an image say about them, read by the
 * format and not by skiff; and bitmaps in memory. */
#ifndef SKIFF_TESTS_BLOCK_QCOW2_QCOW2_BITMAP_TEST_H
#define SKIFF_TESTS_BLOCK_QCOW2_QCOW2_BITMAP_TEST_H

#include "block/dirty_bitmap.h"
#include "block/qcow2/qcow2_format.h"
#include "tests/block/qcow2/qcow2_test.h"

static inline uint64_t bits_number(const uint8_t *bytes, unsigned width)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < width; i++) {
        value = value << 8 | bytes[i];
    }
    return value;
}

/* ---- bitmaps on disk ---- */

/* A bitmap as an image has it. */
typedef struct DiskBitmap {
    bool listed, in_use, enabled;
    uint64_t granularity;
    uint64_t count;  /* bits that the table has */
    uint8_t *bits;   /* owned, one byte for each; NULL if in_use */
    size_t flags_at; /* of the entry, in the image */
} DiskBitmap;

static inline void disk_bitmap_clear(DiskBitmap *b)
{
    g_free(b->bits);
    *b = (DiskBitmap){0};
}

/* The place of the extension "bitmaps"; 0: there is none, or its bit is clear. */
static inline size_t disk_extension(const uint8_t *image, size_t size)
{
    size_t at = bits_number(image + offsetof(Qcow2DiskHeader, header_length), 4);
    size_t cluster = (size_t)1 << bits_number(image + offsetof(Qcow2DiskHeader, cluster_bits), 4);
    if ((bits_number(image + offsetof(Qcow2DiskHeader, autoclear_features), 8) & 1) == 0) {
        return 0;
    }
    while (at + 8 < MIN(cluster, size)) {
        uint32_t type = (uint32_t)bits_number(image + at, 4);
        if (type == QCOW2_EXTENSION_BITMAPS) {
            return at;
        }
        assert_int_not_equal(type, QCOW2_EXTENSION_END);
        at += 8 + (bits_number(image + at + 4, 4) + 7) / 8 * 8;
    }
    return 0;
}

static inline void disk_read_bits(DiskBitmap *b, const uint8_t *image, size_t size,
                                  const uint8_t *entry)
{
    unsigned cluster_bits =
        (unsigned)bits_number(image + offsetof(Qcow2DiskHeader, cluster_bits), 4);
    uint64_t table = bits_number(entry, 8), entries = bits_number(entry + 8, 4);
    uint64_t in_cluster = (uint64_t)8 << cluster_bits;
    assert_true(table + entries * 8 <= size);
    b->count = entries * in_cluster;
    b->bits = g_malloc0(b->count);
    for (uint64_t i = 0; i < entries; i++) {
        uint64_t where = bits_number(image + table + i * 8, 8);
        assert_true(where <= 1 || where + in_cluster / 8 <= size);
        for (uint64_t bit = 0; bit < in_cluster; bit++) {
            b->bits[i * in_cluster + bit] =
                where <= 1 ? (uint8_t)where : image[where + bit / 8] >> (bit % 8) & 1;
        }
    }
}

/* What the image says about bitmap @name. */
static inline DiskBitmap disk_bitmap(const uint8_t *image, size_t size, const char *name)
{
    DiskBitmap b = {0};
    size_t extension = disk_extension(image, size);
    if (extension == 0) {
        return b;
    }
    uint64_t count = bits_number(image + extension + 8, 4);
    uint64_t length = bits_number(image + extension + 16, 8);
    uint64_t at = bits_number(image + extension + 24, 8), end = at + length;
    assert_true(count > 0 && end <= size);
    for (uint64_t i = 0; i < count; i++) {
        const uint8_t *entry = image + at;
        uint64_t name_size = bits_number(entry + 18, 2), extra = bits_number(entry + 20, 4);
        if (name_size == strlen(name) && memcmp(entry + 24 + extra, name, name_size) == 0) {
            uint32_t flags = (uint32_t)bits_number(entry + 12, 4);
            b.listed = true;
            b.in_use = (flags & QCOW2_BITMAP_IN_USE) != 0;
            b.enabled = (flags & QCOW2_BITMAP_AUTO) != 0;
            b.granularity = (uint64_t)1 << entry[17];
            b.flags_at = at + 12;
            if (!b.in_use) {
                disk_read_bits(&b, image, size, entry);
            }
        }
        at += (24 + extra + name_size + 7) / 8 * 8;
    }
    assert_int_equal(at, end);
    return b;
}

static inline DiskBitmap file_bitmap(const char *dir, const char *file, const char *name)
{
    size_t size;
    g_autofree uint8_t *image = qcow2_file_bytes(dir, file, &size);
    return disk_bitmap(image, size, name);
}

/* Whether exactly the bits of [from, to) of the disk are set. */
static inline bool disk_bitmap_is(const DiskBitmap *b, uint64_t from, uint64_t to)
{
    for (uint64_t i = 0; b->bits != NULL && i < b->count; i++) {
        bool expected =
            i >= from / b->granularity && i < (to + b->granularity - 1) / b->granularity;
        if (b->bits[i] != (expected ? 1 : 0)) {
            return false;
        }
    }
    return b->bits != NULL;
}

/* Checks that the file has a valid bitmap with exactly these bits. */
static inline void file_bitmap_expect(const char *dir, const char *name, bool enabled,
                                      uint64_t from, uint64_t to)
{
    DiskBitmap b = file_bitmap(dir, "t.qcow2", name);
    if (!b.listed || b.in_use || b.enabled != enabled || !disk_bitmap_is(&b, from, to)) {
        fail_msg("bitmap %s: listed %d, in use %d, enabled %d, bits are not [%" PRIu64 ", %" PRIu64
                 ")",
                 name, b.listed, b.in_use, b.enabled, from, to);
    }
    disk_bitmap_clear(&b);
}

static inline void file_bitmap_expect_marked(const char *dir, const char *name, bool marked)
{
    DiskBitmap b = file_bitmap(dir, "t.qcow2", name);
    assert_true(b.listed);
    assert_int_equal(b.in_use, marked);
    disk_bitmap_clear(&b);
}

static inline bool file_bitmap_listed(const char *dir, const char *name)
{
    DiskBitmap b = file_bitmap(dir, "t.qcow2", name);
    bool listed = b.listed;
    disk_bitmap_clear(&b);
    return listed;
}

/* ---- bitmaps in memory ---- */

static inline coroutine_fn RUNS_IN_MAIN bool node_bitmap(const BlockNode *n, const char *name,
                                                         BlockDirtyBitmapInfo *info)
{
    for (unsigned i = 0; i < block_dirty_bitmap_count(n); i++) {
        block_dirty_bitmap_info(n, i, info);
        if (strcmp(info->name, name) == 0) {
            return true;
        }
    }
    return false;
}

static inline coroutine_fn RUNS_IN_MAIN uint64_t node_bitmap_bytes(const BlockNode *n,
                                                                   const char *name)
{
    BlockDirtyBitmapInfo info;
    if (!node_bitmap(n, name, &info)) {
        fail_msg("there is no bitmap '%s'", name);
    }
    return info.dirty_bytes;
}

/* A copy of a persistent bitmap in memory. */
typedef struct MemoryBitmap {
    char *name;
    bool enabled, inconsistent;
    uint64_t granularity;
    uint64_t bytes; /* of its bits */
    uint8_t *bits;  /* as on disk: the first bit is the lowest one of the first byte */
} MemoryBitmap;

typedef struct MemoryCopy {
    const BlockNode *node;
    GArray *list; /* MemoryBitmap */
} MemoryCopy;

static inline void memory_bitmap_clear(void *element)
{
    MemoryBitmap *b = element;
    g_free(b->name);
    g_free(b->bits);
}

static inline void memory_copy_at_home(void *opaque)
{
    MemoryCopy *c = opaque;
    enter_coroutine();
    enter_iothread(c->node->home);
    for (BlockDirtyBitmap *b = block_bitmap_next(c->node, NULL); b != NULL;
         b = block_bitmap_next(c->node, b)) {
        BlockStoredBitmap d = block_bitmap_describe(b);
        MemoryBitmap m = {.name = g_strdup(d.name),
                          .enabled = d.enabled,
                          .inconsistent = d.inconsistent,
                          .granularity = (uint64_t)1 << d.granularity_bits,
                          .bytes = (block_bitmap_bytes(b) + 7) / 8 * 8};
        m.bits = g_malloc0(m.bytes + 1);
        block_bitmap_save(b, 0, m.bits, m.bytes);
        g_array_append_val(c->list, m);
    }
}

/* The persistent bitmaps of the node: an array that owns its elements. */
static inline coroutine_fn RUNS_IN_MAIN GArray *memory_bitmaps(const BlockNode *n)
{
    MemoryCopy c = {.node = n, .list = g_array_new(false, false, sizeof(MemoryBitmap))};
    g_array_set_clear_func(c.list, memory_bitmap_clear);
    co_call_in(n->home, memory_copy_at_home, &c);
    return c.list;
}

static inline const MemoryBitmap *memory_bitmap(const GArray *list, const char *name)
{
    for (unsigned i = 0; i < list->len; i++) {
        const MemoryBitmap *b = &g_array_index(list, MemoryBitmap, i);
        if (strcmp(b->name, name) == 0) {
            return b;
        }
    }
    return NULL;
}

/* Whether a valid bitmap on disk is this one. */
static inline bool disk_bitmap_equals(const DiskBitmap *d, const MemoryBitmap *m)
{
    if (d->granularity != m->granularity || d->enabled != m->enabled) {
        return false;
    }
    for (uint64_t i = 0; i < MAX(d->count, m->bytes * 8); i++) {
        unsigned disk = i < d->count ? d->bits[i] : 0;
        unsigned memory = i < m->bytes * 8 ? m->bits[i / 8] >> (i % 8) & 1u : 0;
        if (disk != memory) {
            return false;
        }
    }
    return true;
}

static inline coroutine_fn RUNS_IN_MAIN void bitmap_add(BlockNode *n, const char *name,
                                                        uint32_t granularity, unsigned flags)
{
    g_autoptr(GError) error = NULL;
    if (!block_dirty_bitmap_co_add(n, name, granularity, flags | BLOCK_BITMAP_PERSISTENT, &error)) {
        fail_msg("%s: %s", name, error->message);
    }
}

/* Opens t.qcow2 of @dir for writing. */
static inline coroutine_fn RUNS_IN_MAIN BlockBackend *bitmap_open(const char *dir,
                                                                  const char *options)
{
    g_autofree char *text = g_strdup_printf(
        "qcow2,node-name=q,discard=unmap,file.driver=file,file.filename=%s/t.qcow2%s", dir,
        options);
    return test_blk("d", text, true);
}

static inline coroutine_fn RUNS_IN_MAIN void bitmap_write(BlockBackend *blk, uint64_t offset,
                                                          uint64_t bytes, unsigned seed)
{
    g_autofree uint8_t *buf = g_malloc(bytes);
    test_fill(buf, bytes, seed);
    assert_int_equal(test_io(blk, TEST_WRITE, offset, bytes, buf, 0), 0);
}

/* ---- images, refusals ---- */

static inline void bitmap_create(const char *dir, const char *options)
{
    qcow2_shell(dir, "qemu-img create -q -f qcow2 %s t.qcow2 1M", options);
}

static inline void bitmap_check(const char *dir)
{
    qcow2_shell(dir, "qemu-img check t.qcow2");
}

static inline coroutine_fn RUNS_IN_MAIN void bitmap_refused(bool ok, GError **error,
                                                            const char *says)
{
    assert_false(ok);
    if (strstr((*error)->message, says) == NULL) {
        fail_msg("'%s' does not say '%s'", (*error)->message, says);
    }
    g_clear_error(error);
}

static inline void bitmap_set_flags(const char *dir, const char *name, uint8_t flags)
{
    DiskBitmap b = file_bitmap(dir, "t.qcow2", name);
    assert_true(b.listed);
    qcow2_shell(dir, "printf '\\%o' | dd of=t.qcow2 bs=1 seek=%zu conv=notrunc", flags,
                b.flags_at + 3);
    disk_bitmap_clear(&b);
}

#endif

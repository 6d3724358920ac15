/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image in memory with every structure of the format, the places of all its fields, and what a
 * damaged one is put through.
 *
 *   cluster 0 header | 1 refcount table | 2 refcount block | 3 L1 table | 4 L2 table | 5 data
 *   6 compressed data | 7 snapshot table | 8 L1 table and 9 L2 table of the snapshot
 *   10 bitmap directory | 11 bitmap table | 12 bits
 *   13 L2 table and 14 data of the state of a machine that the snapshot has | 15 data | 16 free
 *
 * The disk has 32 clusters: 0 data that the snapshot shares, 1 zeroes, 2 compressed, 3 data. Clusters
 * have 512 bytes, and there is a backing file, or they have 16 KiB, and L2 entries are extended.
 */
#ifndef SKIFF_TESTS_BLOCK_QCOW2_QCOW2_CORPUS_H
#define SKIFF_TESTS_BLOCK_QCOW2_QCOW2_CORPUS_H

#include <zlib.h>
#include "tests/block/qcow2/qcow2_test.h"
#include "block/dirty_bitmap.h"
#include "block/qcow2/qcow2_check.h"
#include "block/qcow2/qcow2_header.h"

#define CORPUS_CLUSTERS 17u
#define CORPUS_STATE_BYTES 1500u
#define CORPUS_DISK_CLUSTERS 32u

enum {
    CORPUS_HEADER,
    CORPUS_TABLE,
    CORPUS_BLOCK,
    CORPUS_L1,
    CORPUS_L2,
    CORPUS_DATA,
    CORPUS_COMPRESSED,
    CORPUS_SNAPSHOTS,
    CORPUS_SNAPSHOT_L1,
    CORPUS_SNAPSHOT_L2,
    CORPUS_DIRECTORY,
    CORPUS_BITMAP_TABLE,
    CORPUS_BITS,
    CORPUS_STATE_L2,
    CORPUS_STATE,
    CORPUS_DATA2,
    CORPUS_FREE,
};

typedef struct CorpusField {
    size_t at;
    unsigned width; /* bytes */
} CorpusField;

typedef struct Corpus {
    bool extended;
    size_t cluster, size;
    uint8_t *bytes;
    GArray *fields; /* CorpusField */
} Corpus;

static inline uint64_t corpus_get(const Corpus *c, size_t at, unsigned width)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < width; i++) {
        value = value << 8 | c->bytes[at + i];
    }
    return value;
}

static inline void corpus_set(Corpus *c, size_t at, unsigned width, uint64_t value)
{
    for (unsigned i = 0; i < width; i++) {
        c->bytes[at + i] = (uint8_t)(value >> (8 * (width - 1 - i)));
    }
}

/* Sets a field that is to be damaged. */
static inline void corpus_field(Corpus *c, size_t at, unsigned width, uint64_t value)
{
    CorpusField f = {.at = at, .width = width};
    corpus_set(c, at, width, value);
    g_array_append_val(c->fields, f);
}

#define CORPUS_FIELD(c, base, type, field, value)                                                  \
    corpus_field(c, (base) + offsetof(type, field), sizeof(((type *)0)->field), value)

#define CORPUS_BACKING "json:{\"driver\":\"raw\",\"file\":{\"driver\":\"null-co\",\"size\":9216}}"

/* The format and the name of the backing file, from @at on. */
static inline void corpus_make_backing(Corpus *c, size_t at)
{
    CORPUS_FIELD(c, at, Qcow2DiskExtension, type, QCOW2_EXTENSION_BACKING_FORMAT);
    CORPUS_FIELD(c, at, Qcow2DiskExtension, length, 3);
    at += sizeof(Qcow2DiskExtension);
    memcpy(c->bytes + at, "raw", 3);
    at += 8 + sizeof(Qcow2DiskExtension); /* and the end of extensions */
    CORPUS_FIELD(c, 0, Qcow2DiskHeader, backing_file_offset, at);
    CORPUS_FIELD(c, 0, Qcow2DiskHeader, backing_file_size, strlen(CORPUS_BACKING));
    memcpy(c->bytes + at, CORPUS_BACKING, strlen(CORPUS_BACKING));
}

static inline void corpus_make_header(Corpus *c)
{
    uint64_t cs = c->cluster;
    CORPUS_FIELD(c, 0, Qcow2DiskHeader, magic, QCOW2_MAGIC);
    CORPUS_FIELD(c, 0, Qcow2DiskHeader, version, 3);
    CORPUS_FIELD(c, 0, Qcow2DiskHeader, cluster_bits, (uint64_t)__builtin_ctzll(cs));
    CORPUS_FIELD(c, 0, Qcow2DiskHeader, size, CORPUS_DISK_CLUSTERS * cs);
    CORPUS_FIELD(c, 0, Qcow2DiskHeader, crypt_method, 0);
    CORPUS_FIELD(c, 0, Qcow2DiskHeader, l1_size, 1);
    CORPUS_FIELD(c, 0, Qcow2DiskHeader, l1_table_offset, CORPUS_L1 * cs);
    CORPUS_FIELD(c, 0, Qcow2DiskHeader, refcount_table_offset, CORPUS_TABLE * cs);
    CORPUS_FIELD(c, 0, Qcow2DiskHeader, refcount_table_clusters, 1);
    CORPUS_FIELD(c, 0, Qcow2DiskHeader, nb_snapshots, 1);
    CORPUS_FIELD(c, 0, Qcow2DiskHeader, snapshots_offset, CORPUS_SNAPSHOTS * cs);
    CORPUS_FIELD(c, 0, Qcow2DiskHeader, incompatible_features,
                 c->extended ? QCOW2_INCOMPATIBLE_EXTENDED_L2 : 0);
    CORPUS_FIELD(c, 0, Qcow2DiskHeader, compatible_features, 0);
    CORPUS_FIELD(c, 0, Qcow2DiskHeader, autoclear_features, QCOW2_AUTOCLEAR_BITMAPS);
    CORPUS_FIELD(c, 0, Qcow2DiskHeader, refcount_order, 4);
    CORPUS_FIELD(c, 0, Qcow2DiskHeader, header_length, sizeof(Qcow2DiskHeader));
    CORPUS_FIELD(c, 0, Qcow2DiskHeader, compression_type, 0);
    size_t at = sizeof(Qcow2DiskHeader); /* an extension that nobody knows, then bitmaps */
    CORPUS_FIELD(c, at, Qcow2DiskExtension, type, 0x12345678);
    CORPUS_FIELD(c, at, Qcow2DiskExtension, length, 5);
    at += sizeof(Qcow2DiskExtension) + 8;
    CORPUS_FIELD(c, at, Qcow2DiskExtension, type, QCOW2_EXTENSION_BITMAPS);
    CORPUS_FIELD(c, at, Qcow2DiskExtension, length, sizeof(Qcow2DiskBitmapsExtension));
    at += sizeof(Qcow2DiskExtension);
    CORPUS_FIELD(c, at, Qcow2DiskBitmapsExtension, nb_bitmaps, 1);
    CORPUS_FIELD(c, at, Qcow2DiskBitmapsExtension, reserved, 0);
    CORPUS_FIELD(c, at, Qcow2DiskBitmapsExtension, bitmap_directory_size, 32);
    CORPUS_FIELD(c, at, Qcow2DiskBitmapsExtension, bitmap_directory_offset, CORPUS_DIRECTORY * cs);
    if (!c->extended) {
        corpus_make_backing(c, at + sizeof(Qcow2DiskBitmapsExtension));
    }
}

static inline void corpus_make_l2(Corpus *c, size_t table, unsigned index, uint64_t entry,
                                  uint64_t bitmap)
{
    size_t at = table * c->cluster + index * (c->extended ? 16 : 8);
    corpus_field(c, at, 8, entry);
    if (c->extended) {
        corpus_field(c, at + 8, 8, bitmap);
    }
}

/* Returns the entry of a cluster of compressed data. */
static inline uint64_t corpus_compress(Corpus *c)
{
    g_autofree uint8_t *plain = g_malloc(c->cluster);
    size_t at = CORPUS_COMPRESSED * c->cluster + 17;
    z_stream z = {0};
    memset(plain, 0x44, c->cluster);
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, QCOW2_ZLIB_WINDOW_BITS, 9, 0), Z_OK);
    z.next_in = plain;
    z.avail_in = (unsigned)c->cluster;
    z.next_out = c->bytes + at;
    z.avail_out = 400;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return QCOW2_ENTRY_COMPRESSED | at; /* within its first sector */
}

static inline void corpus_make_tables(Corpus *c)
{
    uint64_t cs = c->cluster, ones = UINT32_MAX;
    corpus_field(c, CORPUS_TABLE * cs, 8, CORPUS_BLOCK * cs);
    corpus_field(c, CORPUS_TABLE * cs + 8, 8, 0);
    for (unsigned i = 0; i < CORPUS_FREE; i++) {
        corpus_field(c, CORPUS_BLOCK * cs + 2 * i, 2, i == CORPUS_DATA ? 2 : 1);
    }
    corpus_field(c, CORPUS_L1 * cs, 8, CORPUS_L2 * cs | QCOW2_ENTRY_COPIED);
    corpus_make_l2(c, CORPUS_L2, 0, CORPUS_DATA * cs, ones);
    corpus_make_l2(c, CORPUS_L2, 1, c->extended ? 0 : QCOW2_ENTRY_ZERO, ones << 32);
    corpus_make_l2(c, CORPUS_L2, 2, corpus_compress(c), 0);
    corpus_make_l2(c, CORPUS_L2, 3, CORPUS_DATA2 * cs | QCOW2_ENTRY_COPIED, 0xffff);
    corpus_make_l2(c, CORPUS_L2, 4, 0, 0);
    corpus_field(c, CORPUS_SNAPSHOT_L1 * cs, 8, CORPUS_SNAPSHOT_L2 * cs);
    corpus_field(c, CORPUS_SNAPSHOT_L1 * cs + 8, 8, CORPUS_STATE_L2 * cs);
    corpus_make_l2(c, CORPUS_SNAPSHOT_L2, 0, CORPUS_DATA * cs, ones);
    corpus_make_l2(c, CORPUS_STATE_L2, 0, CORPUS_STATE * cs, ones);
    memset(c->bytes + CORPUS_STATE * cs, 0x77, cs);
    memset(c->bytes + CORPUS_DATA * cs, 0x55, cs);
    memset(c->bytes + CORPUS_DATA2 * cs, 0x66, cs);
}

static inline void corpus_make_others(Corpus *c)
{
    uint64_t cs = c->cluster;
    size_t at = CORPUS_SNAPSHOTS * cs;
    CORPUS_FIELD(c, at, Qcow2DiskSnapshot, l1_table_offset, CORPUS_SNAPSHOT_L1 * cs);
    CORPUS_FIELD(c, at, Qcow2DiskSnapshot, l1_size, 2);
    CORPUS_FIELD(c, at, Qcow2DiskSnapshot, id_size, 1);
    CORPUS_FIELD(c, at, Qcow2DiskSnapshot, name_size, 4);
    CORPUS_FIELD(c, at, Qcow2DiskSnapshot, vm_state_size, CORPUS_STATE_BYTES);
    CORPUS_FIELD(c, at, Qcow2DiskSnapshot, extra_data_size, sizeof(Qcow2DiskSnapshotExtra));
    at += sizeof(Qcow2DiskSnapshot);
    CORPUS_FIELD(c, at, Qcow2DiskSnapshotExtra, vm_state_size, CORPUS_STATE_BYTES);
    CORPUS_FIELD(c, at, Qcow2DiskSnapshotExtra, disk_size, CORPUS_DISK_CLUSTERS * cs);
    memcpy(c->bytes + at + sizeof(Qcow2DiskSnapshotExtra), "1name", 5);
    at = CORPUS_DIRECTORY * cs;
    CORPUS_FIELD(c, at, Qcow2DiskBitmap, table_offset, CORPUS_BITMAP_TABLE * cs);
    CORPUS_FIELD(c, at, Qcow2DiskBitmap, table_size, 1);
    CORPUS_FIELD(c, at, Qcow2DiskBitmap, flags, QCOW2_BITMAP_AUTO);
    CORPUS_FIELD(c, at, Qcow2DiskBitmap, type, QCOW2_BITMAP_TYPE_DIRTY);
    CORPUS_FIELD(c, at, Qcow2DiskBitmap, granularity_bits, 12);
    CORPUS_FIELD(c, at, Qcow2DiskBitmap, name_size, 4);
    CORPUS_FIELD(c, at, Qcow2DiskBitmap, extra_data_size, 0);
    memcpy(c->bytes + at + sizeof(Qcow2DiskBitmap), "bits", 4);
    corpus_field(c, CORPUS_BITMAP_TABLE * cs, 8, CORPUS_BITS * cs);
}

static inline void corpus_make(Corpus *c, bool extended)
{
    *c = (Corpus){.extended = extended, .cluster = extended ? 16384 : 512};
    c->size = CORPUS_CLUSTERS * c->cluster;
    c->bytes = g_malloc0(c->size);
    c->fields = g_array_new(false, false, sizeof(CorpusField));
    corpus_make_header(c);
    corpus_make_tables(c);
    corpus_make_others(c);
}

static inline void corpus_clear(Corpus *c)
{
    g_free(c->bytes);
    g_array_unref(c->fields);
}

/* ---- what a damaged image is put through ---- */

typedef struct CorpusRun {
    const char *what; /* for messages */
    BlockBackend *file;
    Qcow2CheckRequest check;
    int ret;
} CorpusRun;

static inline void corpus_line(void *opaque, const char *line)
{
    assert_true(strlen(line) < 4000);
}

static inline void corpus_check_at_home(void *opaque)
{
    CorpusRun *r = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    r->check = (Qcow2CheckRequest){
        .file = blk_root(r->file), .who = "image", .fix = r->check.fix, .report = corpus_line};
    r->ret = qcow2_co_check(&r->check);
}

/* Checks, or repairs. True: there is an image and nothing is wrong with it. */
static inline coroutine_fn RUNS_IN_MAIN bool corpus_check(CorpusRun *r, unsigned fix)
{
    const Qcow2CheckResult *found = &r->check.result;
    r->check.fix = fix;
    test_in_home(corpus_check_at_home, r);
    bool ok = r->ret == 0 && found->check_errors + found->corruptions + found->leaks == 0;
    assert_true(r->ret <= 0);
    g_clear_error(&r->check.error);
    return ok;
}

#define CORPUS_STEP ((uint64_t)64 << 10)
#define CORPUS_READ_MAX ((uint64_t)1 << 20) /* at the beginning and at the end of the disk */

/* Changes the bitmaps of a writable disk, and removes one; each command may be refused. */
static inline coroutine_fn RUNS_IN_MAIN void corpus_use_bitmaps(BlockBackend *disk)
{
    BlockNode *n = blk_root(disk);
    BlockDirtyBitmapInfo info;
    if (block_dirty_bitmap_count(n) == 0) {
        block_dirty_bitmap_co_add(n, "bits", 0, BLOCK_BITMAP_PERSISTENT, NULL);
    }
    if (block_dirty_bitmap_count(n) == 0) {
        return;
    }
    block_dirty_bitmap_info(n, block_dirty_bitmap_count(n) - 1, &info);
    g_autofree char *name = g_strdup(info.name);
    BlockDirtyBitmapRef to = {n, "new"}, from = {n, name};
    block_dirty_bitmap_co_add(n, "new", 512, BLOCK_BITMAP_PERSISTENT, NULL);
    block_dirty_bitmap_co_merge(to, &from, 1, NULL);
    block_dirty_bitmap_co_set_enabled(n, name, !info.recording, NULL);
    assert_true(block_node_co_complete(n) <= 0);
    block_dirty_bitmap_co_clear(n, "new", NULL);
    block_dirty_bitmap_co_remove(n, name, NULL);
}

/* Reads what the disk says it has. */
static inline coroutine_fn RUNS_IN_MAIN void corpus_read(BlockBackend *disk)
{
    static uint8_t buf[CORPUS_STEP];
    uint64_t size = blk_size(disk);
    for (uint64_t at = 0; at < size; at += CORPUS_STEP) {
        if (at == CORPUS_READ_MAX && size - at > CORPUS_READ_MAX) {
            at = block_align_down(size - CORPUS_READ_MAX, BLOCK_SECTOR_SIZE);
        }
        assert_true(test_io(disk, TEST_READ, at, MIN(CORPUS_STEP, size - at), buf, 0) <= 0);
    }
}

/* Reads the state that the first snapshot has, if it has one. */
static inline coroutine_fn RUNS_IN_MAIN void corpus_read_state(BlockBackend *disk)
{
    g_autoptr(GError) error = NULL;
    BlockNode *n = block_node_co_open_snapshot_state(blk_root(disk), NULL, NULL, &error);
    if (n == NULL) {
        assert_true(error != NULL && strpbrk(error->message, "\n\r") == NULL);
        return;
    }
    BlockBackend *blk = blk_co_new_for("a load", NULL, n, false, NULL);
    block_co_unref(n);
    corpus_read(blk);
    blk_co_free(blk);
}

/* Creates a snapshot with a state, or cancels that; each step may fail. */
static inline coroutine_fn RUNS_IN_MAIN void corpus_save_state(BlockBackend *disk, bool cancel)
{
    static uint8_t buf[CORPUS_STATE_BYTES];
    BlockNode *n = blk_root(disk);
    BlockSnapshotInfo info = {.name = (char *)(uintptr_t) "new", .vm_state_size = sizeof(buf)};
    BlockSnapshotRun *run = block_node_co_snapshot_prepare(n, &info, NULL);
    if (run == NULL) {
        return;
    }
    BlockNode *state = block_snapshot_co_open_state(run, NULL);
    assert_non_null(state);
    BlockBackend *blk = blk_co_new_for("a save", NULL, state, true, NULL);
    block_co_unref(state);
    assert_true(test_io(blk, TEST_WRITE, 0, sizeof(buf), buf, 0) <= 0);
    blk_co_free(blk);
    BlockSection *section = block_nodes_co_drained_begin(&n, 1);
    block_snapshot_co_switch(run, NULL);
    block_nodes_co_drained_end(section);
    if (cancel) {
        block_snapshot_cancel(run);
    }
    block_snapshot_co_run(run);
    assert_true(block_snapshot_co_end(run, NULL) <= 0);
}

/* Reads, and on a writable disk writes, what the disk says it has. */
static inline coroutine_fn RUNS_IN_MAIN void corpus_use(BlockBackend *disk, bool writable)
{
    static uint8_t buf[CORPUS_STEP];
    uint64_t size = blk_size(disk);
    corpus_read(disk);
    corpus_read_state(disk);
    if (!writable || size < BLOCK_SECTOR_SIZE) {
        return;
    }
    for (uint64_t at = 0; at < MIN(size, CORPUS_READ_MAX); at += size / 8 + BLOCK_SECTOR_SIZE) {
        at = block_align_down(at, BLOCK_SECTOR_SIZE);
        uint64_t length = MIN(3 * BLOCK_SECTOR_SIZE, size - at);
        assert_true(test_io(disk, TEST_WRITE, at, length, buf, 0) <= 0);
        assert_true(test_io(disk, TEST_ZERO, at, BLOCK_SECTOR_SIZE, NULL, 0) <= 0);
    }
    assert_true(test_io(disk, TEST_FLUSH, 0, 0, NULL, 0) <= 0);
    corpus_use_bitmaps(disk);
    corpus_save_state(disk, size % 1024 == 0);
}

/* Opens the image as a disk: used, or refused with one line. */
static inline coroutine_fn RUNS_IN_MAIN void corpus_open(const CorpusRun *r, bool writable)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = g_strdup_printf("qcow2,file=m,read-only=%s", writable ? "off" : "on");
    BlockNode *node = test_open(text, &error);
    if (node == NULL) {
        if (error == NULL || strpbrk(error->message, "\n\r") != NULL ||
            strlen(error->message) > 500) {
            fail_msg("%s: the error is '%s'", r->what, error != NULL ? error->message : "none");
        }
        return;
    }
    BlockBackend *disk = blk_co_new("guest", node, writable, &error);
    block_co_unref(node);
    if (disk == NULL) {
        fail_msg("%s: %s", r->what, error->message);
    }
    corpus_use(disk, writable);
    blk_co_free(disk);
}

/* The image as a file in memory, with a backend that only reads: others can write. */
static inline coroutine_fn RUNS_IN_MAIN BlockBackend *corpus_load(const uint8_t *bytes, size_t size)
{
    g_autofree char *text = g_strdup_printf("mem,node-name=m,size=%zu", size);
    g_autofree uint8_t *copy = g_memdup2(bytes, size);
    BlockBackend *writer = test_blk("writer", text, true);
    assert_int_equal(test_io(writer, TEST_WRITE, 0, size, copy, 0), 0);
    BlockBackend *file = blk_co_new("file", blk_root(writer), false, NULL);
    assert_non_null(file);
    blk_co_free(writer);
    return file;
}

/* Opens the image read-only, checks it, repairs it, checks it again, and opens it again. A repair that
 * leaves no errors leaves none for a check to find. */
static inline coroutine_fn RUNS_IN_MAIN void corpus_try(const uint8_t *bytes, size_t size,
                                                        const char *what)
{
    CorpusRun r = {.what = what, .file = corpus_load(bytes, size)};
    corpus_open(&r, false);
    corpus_check(&r, 0);
    corpus_check(&r, QCOW2_FIX_LEAKS);
    corpus_check(&r, QCOW2_FIX_LEAKS | QCOW2_FIX_ERRORS);
    bool repaired = r.ret == 0 && r.check.result.check_errors + r.check.result.corruptions == 0;
    if (!corpus_check(&r, 0) && repaired) {
        fail_msg("%s: a check of the repaired image finds errors", what);
    }
    corpus_open(&r, false);
    blk_co_free(r.file);
}

/* Writes to the disk of the image, and checks what has become of it. */
static inline coroutine_fn RUNS_IN_MAIN void corpus_try_writing(const uint8_t *bytes, size_t size,
                                                                const char *what)
{
    CorpusRun r = {.what = what, .file = corpus_load(bytes, size)};
    corpus_open(&r, true);
    corpus_check(&r, 0);
    corpus_open(&r, true);
    blk_co_free(r.file);
}

#endif

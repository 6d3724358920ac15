/* SPDX-License-Identifier: Apache-2.0 */
/* Malformed images end in one clear line, or in EIO for the part of the disk that they damage. */
#include <zlib.h>
#include "tests/block/qcow2/qcow2_test.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/qcow2_int.h"

/*
 * A generated image with clusters of 512 bytes and a disk of 64 KiB:
 *   0 header | 1 refcount table | 2 refcount block | 3 L1 table | 4, 5 L2 tables | 6 data
 * The first cluster of the disk is at cluster 6, the second one is a zero cluster.
 */
#define BAD_CLUSTER 512u
#define BAD_CLUSTERS 8u

static uint8_t bad_image[BAD_CLUSTERS * BAD_CLUSTER];

static void bad_put(size_t at, unsigned width, uint64_t value)
{
    assert_true(at + width <= sizeof(bad_image));
    for (unsigned i = 0; i < width; i++) {
        bad_image[at + i] = (uint8_t)(value >> (8 * (width - 1 - i)));
    }
}

#define BAD_HEADER(field, value)                                                                   \
    bad_put(offsetof(Qcow2DiskHeader, field), sizeof(((Qcow2DiskHeader *)0)->field), value)

static void bad_generate(void)
{
    memset(bad_image, 0, sizeof(bad_image));
    BAD_HEADER(magic, QCOW2_MAGIC);
    BAD_HEADER(version, 3);
    BAD_HEADER(cluster_bits, 9);
    BAD_HEADER(size, 65536);
    BAD_HEADER(l1_size, 2);
    BAD_HEADER(l1_table_offset, 3 * BAD_CLUSTER);
    BAD_HEADER(refcount_table_offset, BAD_CLUSTER);
    BAD_HEADER(refcount_table_clusters, 1);
    BAD_HEADER(refcount_order, 4);
    BAD_HEADER(header_length, 112);
    bad_put(BAD_CLUSTER, 8, 2 * BAD_CLUSTER);
    for (unsigned i = 0; i < 7; i++) {
        bad_put(2 * BAD_CLUSTER + 2 * i, 2, 1);
    }
    bad_put(3 * BAD_CLUSTER, 8, 4 * BAD_CLUSTER | QCOW2_ENTRY_COPIED);
    bad_put(3 * BAD_CLUSTER + 8, 8, 5 * BAD_CLUSTER | QCOW2_ENTRY_COPIED);
    bad_put(4 * BAD_CLUSTER, 8, 6 * BAD_CLUSTER | QCOW2_ENTRY_COPIED);
    bad_put(4 * BAD_CLUSTER + 8, 8, QCOW2_ENTRY_ZERO);
    memset(bad_image + 6 * BAD_CLUSTER, 0xab, BAD_CLUSTER);
}

static char *bad_write(size_t length)
{
    char *path = test_file_new(0);
    assert_true(g_file_set_contents(path, (const char *)bad_image, (gssize)length, NULL));
    return path;
}

static char *bad_options(const char *path)
{
    return g_strdup_printf("qcow2,read-only=on,file.driver=file,file.filename=%s", path);
}

static coroutine_fn RUNS_IN_MAIN void bad_refused(size_t length, const char *says)
{
    char *path = bad_write(length);
    g_autofree char *text = bad_options(path);
    test_open_fails(text, says);
    test_file_free(path);
}

static coroutine_fn RUNS_IN_MAIN BlockBackend *bad_open(char **path)
{
    *path = bad_write(sizeof(bad_image));
    g_autofree char *text = bad_options(*path);
    return test_blk("d", text, false);
}

/* ---- fields ---- */

typedef struct BadField {
    size_t at;
    unsigned width;
    uint64_t value;
    const char *says; /* NULL: the image opens */
} BadField;

#define FIELD(field, value, says)                                                                  \
    {                                                                                              \
        offsetof(Qcow2DiskHeader, field), sizeof(((Qcow2DiskHeader *)0)->field), value, says       \
    }
#define ONES UINT64_MAX

static const BadField bad_fields[] = {
    FIELD(magic, 0, "not in qcow2 format"),
    FIELD(version, 1, "version 1 is not supported"),
    FIELD(version, 4, "version 4"),
    FIELD(version, ONES, "version 4294967295"),
    FIELD(backing_file_offset, 8, "backing_file_offset"),
    FIELD(backing_file_offset, 513, "backing_file_offset"),
    FIELD(backing_file_offset, ONES, "backing_file_offset"),
    FIELD(backing_file_offset, 512, NULL), /* an empty name */
    FIELD(backing_file_size, 1024, NULL),  /* of no name */
    FIELD(cluster_bits, 0, "cluster_bits is 0"),
    FIELD(cluster_bits, 8, "cluster_bits is 8"),
    FIELD(cluster_bits, 22, "cluster_bits is 22"),
    FIELD(cluster_bits, ONES, "cluster_bits"),
    FIELD(size, 65537, "l1_size 2 is too small"),
    FIELD(size, ONES, "size 18446744073709551615 is too large"),
    FIELD(size, (uint64_t)1 << 62, "l1_size 2 is too small"),
    FIELD(size, 0, NULL),
    FIELD(crypt_method, 1, "crypt_method is AES"),
    FIELD(crypt_method, 2, "crypt_method is LUKS"),
    FIELD(crypt_method, 3, "crypt_method 3 is unknown"),
    FIELD(l1_size, 0, "l1_size 0 is too small"),
    FIELD(l1_size, 1, "l1_size 1 is too small"),
    FIELD(l1_size, 3, NULL),
    FIELD(l1_size, 4194304, "l1_table_offset 0x600: the table of 33554432 bytes ends beyond"),
    FIELD(l1_size, 4194305, "l1_size is 4194305; the maximum is 4194304"),
    FIELD(l1_size, ONES, "l1_size"),
    FIELD(l1_table_offset, 0, "l1_table_offset is 0"),
    FIELD(l1_table_offset, 1537, "l1_table_offset 0x601 is not aligned"),
    FIELD(l1_table_offset, 8 * BAD_CLUSTER, "ends beyond the end of the file"),
    FIELD(l1_table_offset, ONES - 511, "ends beyond the end of the file"),
    FIELD(refcount_table_offset, 0, "refcount_table_offset is 0"),
    FIELD(refcount_table_offset, 1, "refcount_table_offset 0x1 is not aligned"),
    FIELD(refcount_table_offset, ONES - 511, "ends beyond"),
    FIELD(refcount_table_clusters, 0, "refcount_table_clusters is 0"),
    FIELD(refcount_table_clusters, 16384, "ends beyond"),
    FIELD(refcount_table_clusters, 16385, "refcount_table_clusters is 16385"),
    FIELD(refcount_table_clusters, ONES, "refcount_table_clusters"),
    FIELD(nb_snapshots, 65537, "nb_snapshots is 65537"),
    FIELD(nb_snapshots, ONES, "nb_snapshots"),
    FIELD(nb_snapshots, 1, "snapshots_offset is 0"),
    FIELD(snapshots_offset, 3, "snapshots_offset 0x3 is not aligned"),
    FIELD(incompatible_features, 1, NULL), /* dirty: reading is allowed */
    FIELD(incompatible_features, 2, NULL), /* corrupt: reading is allowed */
    FIELD(incompatible_features, 4, "'data-file' is required"),
    FIELD(incompatible_features, 8, "compression bit set"),
    FIELD(incompatible_features, 16, "extended L2 entries need at least 14"),
    FIELD(incompatible_features, 32, "bit 5, which the image does not name"),
    FIELD(incompatible_features, (uint64_t)1 << 63, "bit 63"),
    FIELD(compatible_features, ONES, NULL),
    FIELD(autoclear_features, ONES, NULL),
    FIELD(refcount_order, 6, NULL),
    FIELD(refcount_order, 7, "refcount_order is 7; the maximum is 6"),
    FIELD(refcount_order, ONES, "refcount_order"),
    FIELD(header_length, 0, "header_length is 0"),
    FIELD(header_length, 103, "header_length is 103"),
    FIELD(header_length, 104, NULL),
    FIELD(header_length, 106, "header_length is 106"),
    FIELD(header_length, 512, NULL),
    FIELD(header_length, 520, "header_length 520 exceeds the cluster size"),
    FIELD(header_length, ONES - 7, "header_length"),
    FIELD(compression_type, 1, "compression bit clear"),
    FIELD(compression_type, 2, "compression_type 2 is unknown"),
};

BLOCK_TEST(each_field_of_the_header_is_bounded)
{
    for (size_t i = 0; i < G_N_ELEMENTS(bad_fields); i++) {
        const BadField *f = &bad_fields[i];
        bad_generate();
        bad_put(f->at, f->width, f->value);
        if (f->says != NULL) {
            bad_refused(sizeof(bad_image), f->says);
        } else {
            char *path;
            blk_co_free(bad_open(&path));
            test_file_free(path);
        }
    }
}

/* ---- extensions ---- */

static void bad_extension(uint32_t type, uint32_t length)
{
    bad_generate();
    bad_put(112, 4, type);
    bad_put(116, 4, length);
}

BLOCK_TEST(extensions_are_bounded)
{
    bad_extension(0x12345678, 393);
    bad_refused(sizeof(bad_image), "extension 0x12345678 has the length 393");
    bad_extension(0x12345678, UINT32_MAX);
    bad_refused(sizeof(bad_image), "reaches beyond the header's cluster");
    bad_extension(QCOW2_EXTENSION_BACKING_FORMAT, 0);
    bad_refused(sizeof(bad_image), "'backing file format' has a length");
    bad_extension(QCOW2_EXTENSION_BACKING_FORMAT, 256);
    bad_refused(sizeof(bad_image), "'backing file format' has a length");
    bad_extension(QCOW2_EXTENSION_BACKING_FORMAT, 5);
    bad_refused(sizeof(bad_image), "has a zero byte");
    bad_extension(QCOW2_EXTENSION_BITMAPS, 8);
    BAD_HEADER(autoclear_features, 1);
    bad_refused(sizeof(bad_image), "does not have its length");
    bad_extension(QCOW2_EXTENSION_BITMAPS, 24);
    BAD_HEADER(autoclear_features, 1);
    bad_refused(sizeof(bad_image), "nb_bitmaps");
    bad_extension(0x12345678, 392); /* to the end of the cluster */
    char *path;
    blk_co_free(bad_open(&path));
    test_file_free(path);
}

BLOCK_TEST(an_unknown_feature_is_refused_by_its_name)
{
    bad_extension(QCOW2_EXTENSION_FEATURE_TABLE, 96);
    BAD_HEADER(incompatible_features, (uint64_t)1 << 40);
    bad_put(120, 2, 0x0128); /* a compatible bit 40 */
    bad_put(120 + 48, 2, 0x0028);
    memcpy(bad_image + 122, "another", 7);
    memcpy(bad_image + 170, "time travel", 11);
    bad_refused(sizeof(bad_image), "does not support: time travel");
}

BLOCK_TEST(a_file_that_ends_within_a_structure_is_refused)
{
    static const struct {
        size_t length;
        const char *says;
    } cuts[] = {{0, "not in qcow2 format"},
                {BAD_CLUSTER, "refcount_table_offset"},
                {3 * BAD_CLUSTER, "l1_table_offset"}};
    for (size_t i = 0; i < G_N_ELEMENTS(cuts); i++) {
        bad_generate();
        bad_refused(cuts[i].length, cuts[i].says);
    }
}

/* ---- the snapshot table ---- */

BLOCK_TEST(the_snapshot_table_is_bounded)
{
    static const struct {
        size_t at;
        unsigned width;
        uint64_t value;
        const char *says;
    } bad[] = {
        {0, 8, 1, "l1_table_offset that is not a cluster's"},
        {8, 4, UINT32_MAX, "l1_size that is too large"},
        {8, 4, 2000, "ends beyond the end of the file"},
        {12, 2, 65535, "ends beyond the end of the file"},
        {14, 2, 65535, "ends beyond the end of the file"},
        {36, 4, 1025, "extra_data_size"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        bad_generate();
        BAD_HEADER(nb_snapshots, 1);
        BAD_HEADER(snapshots_offset, 7 * BAD_CLUSTER);
        bad_put(7 * BAD_CLUSTER, 8, 3 * BAD_CLUSTER);
        bad_put(7 * BAD_CLUSTER + bad[i].at, bad[i].width, bad[i].value);
        bad_refused(sizeof(bad_image), bad[i].says);
    }
}

/* ---- tables ---- */

static coroutine_fn RUNS_IN_MAIN int bad_read(BlockBackend *blk, uint64_t offset, uint8_t *buf)
{
    return test_io(blk, TEST_READ, offset, BAD_CLUSTER, buf, 0);
}

BLOCK_TEST(the_generated_image_is_good)
{
    uint8_t buf[BAD_CLUSTER];
    char *path;
    bad_generate();
    BlockBackend *blk = bad_open(&path);
    assert_int_equal(blk_size(blk), 65536);
    assert_int_equal(bad_read(blk, 0, buf), 0);
    assert_int_equal(buf[0], 0xab);
    assert_int_equal(bad_read(blk, BAD_CLUSTER, buf), 0);
    assert_int_equal(buf[0], 0);
    blk_co_free(blk);
    test_file_free(path);
}

BLOCK_TEST(a_bad_entry_damages_only_its_part_of_the_disk)
{
    static const struct {
        size_t at;
        uint64_t value;
        unsigned version;
    } bad[] = {
        {3 * BAD_CLUSTER, 4 * BAD_CLUSTER * 1024 * 1024, 3},         /* L2 table beyond the end */
        {4 * BAD_CLUSTER + 8, QCOW2_ENTRY_ZERO, 2},                  /* needs version 3 */
        {4 * BAD_CLUSTER + 8, QCOW2_ENTRY_COMPRESSED | 1u << 30, 3}, /* data beyond the end */
        {4 * BAD_CLUSTER + 8, QCOW2_ENTRY_COMPRESSED | 6 * BAD_CLUSTER, 3}, /* no deflate data */
    };
    uint8_t buf[BAD_CLUSTER];
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        char *path;
        bad_generate();
        BAD_HEADER(version, bad[i].version);
        bad_put(bad[i].at, 8, bad[i].value);
        BlockBackend *blk = bad_open(&path);
        assert_int_equal(bad_read(blk, BAD_CLUSTER, buf), -EIO);
        assert_int_equal(bad_read(blk, 40000 / 512 * 512, buf), 0);
        blk_co_free(blk);
        test_file_free(path);
    }
}

/* ---- probing and decompression ---- */

BLOCK_TEST(formats_are_recognized_by_their_first_bytes)
{
    static const struct {
        const char *bytes, *format;
    } files[] = {{"QFI\xfb\0\0\0\3", "qcow2"}, {"QFI\xfb\0\0\0\1", "qcow"}, {"KDMV....", "vmdk"},
                 {"LUKS\xba\xbe..", "luks"},   {"vhdxfile", "vhdx"},        {"conectix", "vpc"},
                 {"12345678", "raw"}};
    for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
        assert_string_equal(qcow2_probe((const uint8_t *)files[i].bytes, 8), files[i].format);
    }
}

/* Compresses @size bytes of a pattern with the window of the format. Returns the length. */
static size_t bad_deflate(uint8_t *out, size_t out_size, size_t size)
{
    g_autofree uint8_t *in = g_malloc(size);
    for (size_t i = 0; i < size; i++) {
        in[i] = (uint8_t)(i * i >> 7);
    }
    z_stream z = {
        .next_in = in, .avail_in = (uInt)size, .next_out = out, .avail_out = (uInt)out_size};
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, QCOW2_ZLIB_WINDOW_BITS, 9, Z_DEFAULT_STRATEGY),
                     Z_OK);
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return out_size - z.avail_out;
}

BLOCK_TEST(a_deflate_stream_that_fills_a_cluster_is_read_wherever_it_ends)
{
    uint8_t in[8192], out[4096], expected[4096];
    for (size_t i = 0; i < sizeof(expected); i++) {
        expected[i] = (uint8_t)(i * i >> 7);
    }
    for (size_t size = sizeof(out) - 1; size <= sizeof(out) + 100; size++) {
        memset(in, 0xff, sizeof(in));
        size_t length = bad_deflate(in, sizeof(in), size);
        int full = size < sizeof(out) ? -EIO : 0;
        memset(out, 0, sizeof(out));
        assert_int_equal(qcow2_decompress(QCOW2_COMPRESSION_ZLIB, in, length, out, sizeof(out)),
                         full);
        assert_true(full < 0 || memcmp(out, expected, sizeof(out)) == 0);
        assert_int_equal(qcow2_decompress(QCOW2_COMPRESSION_ZLIB, in, sizeof(in), out, sizeof(out)),
                         full); /* with padding */
        assert_int_equal(qcow2_decompress(QCOW2_COMPRESSION_ZLIB, in, length / 2, out, sizeof(out)),
                         -EIO);
    }
}

BLOCK_TEST(damaged_compressed_data_is_an_error)
{
    uint8_t in[1024], out[512];
    for (unsigned seed = 0; seed < 2000; seed++) { /* any bytes, as zlib and as zstd */
        test_fill(in, sizeof(in), seed);
        if (seed % 2 == 1) {
            static const uint8_t magic[] = {0x28, 0xb5, 0x2f, 0xfd};
            memcpy(in, magic, sizeof(magic));
        }
        int ret = qcow2_decompress(seed % 4 < 2 ? QCOW2_COMPRESSION_ZLIB : QCOW2_COMPRESSION_ZSTD,
                                   in, sizeof(in), out, sizeof(out));
        assert_true(ret == 0 || ret == -EIO);
    }
    memset(in, 0, sizeof(in));
    assert_int_equal(qcow2_decompress(QCOW2_COMPRESSION_ZLIB, in, sizeof(in), out, sizeof(out)),
                     -EIO);
    assert_int_equal(qcow2_decompress(QCOW2_COMPRESSION_ZSTD, in, sizeof(in), out, sizeof(out)),
                     -EIO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_generated_image_is_good),
        cmocka_unit_test(each_field_of_the_header_is_bounded),
        cmocka_unit_test(extensions_are_bounded),
        cmocka_unit_test(an_unknown_feature_is_refused_by_its_name),
        cmocka_unit_test(a_file_that_ends_within_a_structure_is_refused),
        cmocka_unit_test(the_snapshot_table_is_bounded),
        cmocka_unit_test(a_bad_entry_damages_only_its_part_of_the_disk),
        cmocka_unit_test(formats_are_recognized_by_their_first_bytes),
        cmocka_unit_test(a_deflate_stream_that_fills_a_cluster_is_read_wherever_it_ends),
        cmocka_unit_test(damaged_compressed_data_is_an_error),
    };
    return block_test_main(tests);
}

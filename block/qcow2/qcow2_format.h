/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The on-disk format of qcow2 (docs/interop/qcow2.txt of QEMU). All numbers are big-endian.
 *
 *   cluster 0   header | header extensions | name of the backing file
 *   any cluster refcount table -> refcount blocks -> one count for each cluster of the file
 *               L1 table -> L2 tables -> one entry for each guest cluster
 *               snapshot table, bitmaps, data, compressed data (not cluster-aligned)
 *
 * The structures describe the layout only: a reader copies bytes into them and converts each field.
 * Limits marked "QEMU's" are not part of the format; an image that exceeds them is refused.
 */
#ifndef SKIFF_BLOCK_QCOW2_QCOW2_FORMAT_H
#define SKIFF_BLOCK_QCOW2_QCOW2_FORMAT_H

#include <stdint.h>

#define QCOW2_MAGIC 0x514649fbu /* "QFI" and 0xfb */

/* ---- header ("Header") ---- */

/* Version 2 ends before incompatible_features. */
typedef struct Qcow2DiskHeader {
    uint32_t magic;
    uint32_t version;
    uint64_t backing_file_offset; /* 0: no backing file */
    uint32_t backing_file_size;   /* length of the name, which has no final zero */
    uint32_t cluster_bits;
    uint64_t size; /* of the guest's disk, in bytes */
    uint32_t crypt_method;
    uint32_t l1_size; /* entries */
    uint64_t l1_table_offset;
    uint64_t refcount_table_offset;
    uint32_t refcount_table_clusters;
    uint32_t nb_snapshots;
    uint64_t snapshots_offset;
    /* version 3 */
    uint64_t incompatible_features;
    uint64_t compatible_features;
    uint64_t autoclear_features;
    uint32_t refcount_order; /* a refcount has 1 << refcount_order bits */
    uint32_t header_length;
    /* header_length > 104 */
    uint8_t compression_type;
    uint8_t padding[7];
} Qcow2DiskHeader;

#define QCOW2_HEADER_V2_LENGTH 72u
#define QCOW2_HEADER_V3_LENGTH 104u /* the shortest */
_Static_assert(sizeof(Qcow2DiskHeader) == 112, "the header has no gaps");

#define QCOW2_CLUSTER_BITS_MIN 9u
#define QCOW2_CLUSTER_BITS_MAX 21u         /* QEMU's */
#define QCOW2_EXTENDED_L2_CLUSTER_BITS 14u /* QEMU's minimum with extended L2 entries */
#define QCOW2_REFCOUNT_ORDER_MAX 6u
#define QCOW2_REFCOUNT_ORDER_V2 4u
#define QCOW2_BACKING_NAME_MAX 1023u
#define QCOW2_L1_BYTES_MAX (32u << 20)            /* QEMU's */
#define QCOW2_REFCOUNT_TABLE_BYTES_MAX (8u << 20) /* QEMU's */

enum { QCOW2_CRYPT_NONE, QCOW2_CRYPT_AES, QCOW2_CRYPT_LUKS };
enum { QCOW2_COMPRESSION_ZLIB, QCOW2_COMPRESSION_ZSTD };

/* incompatible_features: a reader that does not know a bit must refuse the image */
#define QCOW2_INCOMPATIBLE_DIRTY ((uint64_t)1 << 0)   /* refcounts may be wrong */
#define QCOW2_INCOMPATIBLE_CORRUPT ((uint64_t)1 << 1) /* must not be written to */
#define QCOW2_INCOMPATIBLE_DATA_FILE ((uint64_t)1 << 2)
#define QCOW2_INCOMPATIBLE_COMPRESSION ((uint64_t)1 << 3) /* compression_type is not zlib */
#define QCOW2_INCOMPATIBLE_EXTENDED_L2 ((uint64_t)1 << 4)
#define QCOW2_INCOMPATIBLE_KNOWN ((uint64_t)0x1f)

/* compatible_features: an unknown bit can be ignored and is kept */
#define QCOW2_COMPATIBLE_LAZY_REFCOUNTS ((uint64_t)1 << 0)

/* autoclear_features: a writer clears the bits that it does not know */
#define QCOW2_AUTOCLEAR_BITMAPS ((uint64_t)1 << 0)
#define QCOW2_AUTOCLEAR_DATA_FILE_RAW ((uint64_t)1 << 1)

/* ---- header extensions ("Header extensions"): type, length, data padded to 8 bytes ---- */

typedef struct Qcow2DiskExtension {
    uint32_t type;
    uint32_t length; /* without padding */
} Qcow2DiskExtension;

#define QCOW2_EXTENSION_END 0x00000000u
#define QCOW2_EXTENSION_BACKING_FORMAT 0xe2792acau
#define QCOW2_EXTENSION_FEATURE_TABLE 0x6803f857u
#define QCOW2_EXTENSION_BITMAPS 0x23852875u
#define QCOW2_EXTENSION_CRYPTO 0x0537be77u
#define QCOW2_EXTENSION_DATA_FILE 0x44415441u
#define QCOW2_EXTENSION_RETIRED 0x534b4642u /* skiff's: room that is not used */

enum { QCOW2_FEATURE_INCOMPATIBLE, QCOW2_FEATURE_COMPATIBLE, QCOW2_FEATURE_AUTOCLEAR };

#define QCOW2_FEATURE_NAME_LENGTH 46u
typedef struct Qcow2DiskFeature {
    uint8_t type; /* QCOW2_FEATURE_... */
    uint8_t bit;
    char name[QCOW2_FEATURE_NAME_LENGTH]; /* zero-padded; without a zero if it fills the field */
} Qcow2DiskFeature;
_Static_assert(sizeof(Qcow2DiskFeature) == 48, "an entry of the table has 48 bytes");

typedef struct Qcow2DiskBitmapsExtension {
    uint32_t nb_bitmaps;
    uint32_t reserved;
    uint64_t bitmap_directory_size;
    uint64_t bitmap_directory_offset;
} Qcow2DiskBitmapsExtension;
#define QCOW2_BITMAPS_MAX 65535u
#define QCOW2_BITMAP_DIRECTORY_BYTES_MAX (64u << 20) /* QEMU's */

/* An entry of the bitmap directory; extra data and name follow, padded to 8 bytes. */
typedef struct Qcow2DiskBitmap {
    uint64_t table_offset;
    uint32_t table_size; /* entries */
    uint32_t flags;      /* QCOW2_BITMAP_... */
    uint8_t type;
    uint8_t granularity_bits; /* a bit stands for so many bytes */
    uint16_t name_size;
    uint32_t extra_data_size;
} Qcow2DiskBitmap;
#define QCOW2_BITMAP_IN_USE 1u           /* not stored completely */
#define QCOW2_BITMAP_AUTO 2u             /* records writes whenever the image is written to */
#define QCOW2_BITMAP_EXTRA_COMPATIBLE 4u /* usable without knowing the extra data */
#define QCOW2_BITMAP_FLAGS 7u
#define QCOW2_BITMAP_TYPE_DIRTY 1u
#define QCOW2_BITMAP_ONES ((uint64_t)1)    /* a table's entry without an offset: all bits are set */
#define QCOW2_BITMAP_GRANULARITY_MIN 9u    /* QEMU's */
#define QCOW2_BITMAP_GRANULARITY_MAX 31u   /* QEMU's */
#define QCOW2_BITMAP_NAME_MAX 1023u        /* QEMU's */
#define QCOW2_BITMAP_TABLE_MAX 0x8000000u  /* QEMU's, entries */
#define QCOW2_BITMAP_BYTES_MAX 0x20000000u /* QEMU's */

/* ---- tables ("Cluster mapping") ---- */

#define QCOW2_OFFSET_MASK ((uint64_t)0x00fffffffffffe00) /* of L1 and L2 entries */
#define QCOW2_ENTRY_COPIED ((uint64_t)1 << 63)           /* the refcount is exactly 1 */
#define QCOW2_ENTRY_COMPRESSED ((uint64_t)1 << 62)
#define QCOW2_ENTRY_ZERO ((uint64_t)1 << 0) /* version 3, without extended L2 entries */
#define QCOW2_L2_ENTRY_LENGTH 8u
#define QCOW2_L2_EXTENDED_LENGTH 16u /* an entry and its subcluster bitmap */
#define QCOW2_SUBCLUSTERS 32u
/* The bitmap: bit n: subcluster n is allocated; bit 32 + n: it reads as zeroes. */

/* A compressed entry: the byte offset in the low bits, then the number of further 512-byte sectors
 * that the data touches, in the cluster_bits - 8 bits below bit 62. */
#define QCOW2_COMPRESSED_SECTOR 512u
#define QCOW2_ZLIB_WINDOW_BITS (-12) /* raw deflate, a window of 4 KiB */

/* ---- snapshots ("Snapshots"): entries of variable length, each padded to 8 bytes ---- */

typedef struct Qcow2DiskSnapshot {
    uint64_t l1_table_offset;
    uint32_t l1_size;
    uint16_t id_size;
    uint16_t name_size;
    uint32_t date_seconds;
    uint32_t date_nanoseconds;
    uint64_t vm_clock_ns;
    uint32_t vm_state_size; /* the low half, if the extra data has the whole number */
    uint32_t extra_data_size;
    /* then extra data, id, name */
} Qcow2DiskSnapshot;
_Static_assert(sizeof(Qcow2DiskSnapshot) == 40, "the fixed part of an entry has no gaps");

typedef struct Qcow2DiskSnapshotExtra {
    uint64_t vm_state_size;
    uint64_t disk_size;
    uint64_t icount;
} Qcow2DiskSnapshotExtra;

#define QCOW2_SNAPSHOTS_MAX 65536u           /* QEMU's */
#define QCOW2_SNAPSHOT_EXTRA_MAX 1024u       /* QEMU's */
#define QCOW2_SNAPSHOT_TABLE_MAX (64u << 20) /* QEMU's, bytes */

#endif

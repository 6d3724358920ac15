/* SPDX-License-Identifier: Apache-2.0 */
/* A header from its host form. */
#include "block/block.h"
#include "block/qcow2/qcow2_create.h"

/* Smaller clusters have no room for the names of features, as in QEMU. */
#define HEADER_FEATURES_CLUSTER_MIN 8192u

static const Qcow2DiskFeature header_features[] = {
    {QCOW2_FEATURE_INCOMPATIBLE, 0, "dirty bit"},
    {QCOW2_FEATURE_INCOMPATIBLE, 1, "corrupt bit"},
    {QCOW2_FEATURE_INCOMPATIBLE, 2, "external data file"},
    {QCOW2_FEATURE_INCOMPATIBLE, 3, "compression type"},
    {QCOW2_FEATURE_INCOMPATIBLE, 4, "extended L2 entries"},
    {QCOW2_FEATURE_COMPATIBLE, 0, "lazy refcounts"},
    {QCOW2_FEATURE_AUTOCLEAR, 0, "bitmaps"},
    {QCOW2_FEATURE_AUTOCLEAR, 1, "raw external data"},
};

/* The cluster that is being filled. */
typedef struct HeaderWriter {
    uint8_t *bytes;
    uint64_t size, used;
    bool overflow;
} HeaderWriter;

static void header_append(HeaderWriter *w, const void *bytes, uint64_t length)
{
    if (length > w->size - w->used) {
        w->overflow = true;
        return;
    }
    if (length > 0) {
        memcpy(w->bytes + w->used, bytes, length);
    }
    w->used += length;
}

static void header_append_extension(HeaderWriter *w, uint32_t type, const void *data,
                                    uint32_t length)
{
    static const uint8_t padding[8];
    Qcow2DiskExtension e = {.type = htobe32(type), .length = htobe32(length)};
    header_append(w, &e, sizeof(e));
    header_append(w, data, length);
    header_append(w, padding, (8 - length % 8) % 8);
}

static void header_append_extensions(HeaderWriter *w, const Qcow2Header *h)
{
    if (h->backing_format != NULL) {
        header_append_extension(w, QCOW2_EXTENSION_BACKING_FORMAT, h->backing_format,
                                (uint32_t)strlen(h->backing_format));
    }
    if (h->data_file != NULL) {
        header_append_extension(w, QCOW2_EXTENSION_DATA_FILE, h->data_file,
                                (uint32_t)strlen(h->data_file));
    }
    if (h->version >= 3 && w->size >= HEADER_FEATURES_CLUSTER_MIN) {
        header_append_extension(w, QCOW2_EXTENSION_FEATURE_TABLE, header_features,
                                sizeof(header_features));
    }
    if (h->bitmaps > 0) {
        Qcow2DiskBitmapsExtension d = {.nb_bitmaps = htobe32(h->bitmaps),
                                       .bitmap_directory_size = htobe64(h->bitmaps_size),
                                       .bitmap_directory_offset = htobe64(h->bitmaps_offset)};
        header_append_extension(w, QCOW2_EXTENSION_BITMAPS, &d, sizeof(d));
    }
    header_append_extension(w, QCOW2_EXTENSION_END, NULL, 0);
}

static Qcow2DiskHeader header_convert(const Qcow2Header *h)
{
    return (Qcow2DiskHeader){
        .magic = htobe32(QCOW2_MAGIC),
        .version = htobe32(h->version),
        .cluster_bits = htobe32(h->cluster_bits),
        .size = htobe64(h->size),
        .l1_size = htobe32(h->l1_size),
        .l1_table_offset = htobe64(h->l1_offset),
        .refcount_table_offset = htobe64(h->refcount_offset),
        .refcount_table_clusters = htobe32(h->refcount_clusters),
        .nb_snapshots = htobe32(h->snapshots),
        .snapshots_offset = htobe64(h->snapshots_offset),
        .incompatible_features = htobe64(h->incompatible),
        .compatible_features = htobe64(h->compatible),
        .autoclear_features = htobe64(h->autoclear),
        .refcount_order = htobe32(h->refcount_order),
        .header_length = htobe32(sizeof(Qcow2DiskHeader)),
        .compression_type = (uint8_t)h->compression,
    };
}

bool qcow2_header_write(const Qcow2Header *h, uint8_t *cluster, GError **error)
{
    HeaderWriter w = {.bytes = cluster, .size = qcow2_cluster_size(h)};
    Qcow2DiskHeader d = header_convert(h);
    memset(cluster, 0, w.size);
    w.used = h->version >= 3 ? sizeof(d) : QCOW2_HEADER_V2_LENGTH;
    header_append_extensions(&w, h);
    if (h->backing_name != NULL) {
        d.backing_file_offset = htobe64(w.used);
        d.backing_file_size = htobe32((uint32_t)strlen(h->backing_name));
        header_append(&w, h->backing_name, strlen(h->backing_name));
    }
    if (w.overflow) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "The header with the names of the backing file and the data file is larger "
                    "than a cluster; use a larger cluster size");
        return false;
    }
    memcpy(cluster, &d, h->version >= 3 ? sizeof(d) : QCOW2_HEADER_V2_LENGTH);
    return true;
}

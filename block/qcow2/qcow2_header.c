/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/qcow2_header.h"

#include <stdarg.h>
#include "block/block.h"
#include "block/node.h"

/* Sets an error about field @field; returns false. */
static bool __attribute__((format(printf, 4, 5)))
header_refuse(GError **error, const char *who, const char *field, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN, "%s: qcow2 header: %s %s", who, field, text);
    return false;
}

uint64_t qcow2_header_begin(const uint8_t *bytes, const char *who, GError **error)
{
    uint32_t version = qcow2_get32(bytes + offsetof(Qcow2DiskHeader, version));
    uint32_t bits = qcow2_get32(bytes + offsetof(Qcow2DiskHeader, cluster_bits));
    if (qcow2_get32(bytes) != QCOW2_MAGIC) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN,
                    "%s: Image is not in qcow2 format: the magic number is missing", who);
        return 0;
    }
    if (version != 2 && version != 3) {
        header_refuse(error, who, "version", "%u is not supported; 2 and 3 are", version);
        return 0;
    }
    if (bits < QCOW2_CLUSTER_BITS_MIN || bits > QCOW2_CLUSTER_BITS_MAX) {
        header_refuse(error, who, "cluster_bits", "is %u, which is not within %u to %u", bits,
                      QCOW2_CLUSTER_BITS_MIN, QCOW2_CLUSTER_BITS_MAX);
        return 0;
    }
    return (uint64_t)1 << bits;
}

/* ---- fields ---- */

static void header_convert(Qcow2Header *h, const Qcow2DiskHeader *d)
{
    *h = (Qcow2Header){
        .version = be32toh(d->version),
        .cluster_bits = be32toh(d->cluster_bits),
        .size = be64toh(d->size),
        .l1_size = be32toh(d->l1_size),
        .l1_offset = be64toh(d->l1_table_offset),
        .refcount_offset = be64toh(d->refcount_table_offset),
        .refcount_clusters = be32toh(d->refcount_table_clusters),
        .refcount_order = QCOW2_REFCOUNT_ORDER_V2,
        .snapshots = be32toh(d->nb_snapshots),
        .snapshots_offset = be64toh(d->snapshots_offset),
        .length = QCOW2_HEADER_V2_LENGTH,
    };
    if (h->version >= 3) {
        h->incompatible = be64toh(d->incompatible_features);
        h->compatible = be64toh(d->compatible_features);
        h->autoclear = be64toh(d->autoclear_features);
        h->refcount_order = be32toh(d->refcount_order);
        h->length = be32toh(d->header_length);
        /* Without the field the type is zlib. */
        h->compression = h->length > QCOW2_HEADER_V3_LENGTH ? d->compression_type : 0;
    }
}

static bool header_check_length(const Qcow2Header *h, uint64_t have, const char *who,
                                GError **error)
{
    if (h->version >= 3 && (h->length < QCOW2_HEADER_V3_LENGTH || h->length % 8 != 0)) {
        return header_refuse(error, who, "header_length",
                             "is %u; it must be a multiple of 8 and at least %u", h->length,
                             QCOW2_HEADER_V3_LENGTH);
    }
    if (h->length > qcow2_cluster_size(h)) {
        return header_refuse(error, who, "header_length", "%u exceeds the cluster size", h->length);
    }
    if (h->length > have) {
        return header_refuse(error, who, "header_length", "%u exceeds the file's length",
                             h->length);
    }
    return true;
}

static bool header_check_encryption(uint32_t method, const char *who, GError **error)
{
    static const char *const names[] = {"none", "AES", "LUKS"};
    if (method == QCOW2_CRYPT_NONE) {
        return true;
    }
    if (method < G_N_ELEMENTS(names)) {
        return header_refuse(error, who, "crypt_method",
                             "is %s: skiff does not support encrypted images", names[method]);
    }
    return header_refuse(error, who, "crypt_method", "%u is unknown", method);
}

static bool header_check_features(const Qcow2Header *h, const char *who, GError **error)
{
    bool bit = (h->incompatible & QCOW2_INCOMPATIBLE_COMPRESSION) != 0;
    if (h->compression > QCOW2_COMPRESSION_ZSTD) {
        return header_refuse(error, who, "compression_type", "%u is unknown", h->compression);
    }
    if (bit != (h->compression != QCOW2_COMPRESSION_ZLIB)) {
        return header_refuse(error, who, "incompatible_features",
                             "has the compression bit %s, which contradicts compression_type %u",
                             bit ? "set" : "clear", h->compression);
    }
    if (qcow2_has_extended_l2(h) && h->cluster_bits < QCOW2_EXTENDED_L2_CLUSTER_BITS) {
        return header_refuse(error, who, "cluster_bits",
                             "is %u; extended L2 entries need at least %u", h->cluster_bits,
                             QCOW2_EXTENDED_L2_CLUSTER_BITS);
    }
    if (h->refcount_order > QCOW2_REFCOUNT_ORDER_MAX) {
        return header_refuse(error, who, "refcount_order", "is %u; the maximum is %u",
                             h->refcount_order, QCOW2_REFCOUNT_ORDER_MAX);
    }
    return true;
}

/* Checks that a table lies in the file at a cluster's start, and not in the header. */
static bool header_check_table(const Qcow2Header *h, uint64_t offset, uint64_t bytes,
                               uint64_t file_size, const char *who, const char *field,
                               GError **error)
{
    if (!block_is_aligned(offset, qcow2_cluster_size(h))) {
        return header_refuse(error, who, field, "0x%" PRIx64 " is not aligned to a cluster",
                             offset);
    }
    if (offset == 0 && bytes > 0) {
        return header_refuse(error, who, field, "is 0, but the table has %" PRIu64 " bytes", bytes);
    }
    if (bytes > 0 && (offset > file_size || bytes > file_size - offset)) {
        return header_refuse(error, who, field,
                             "0x%" PRIx64 ": the table of %" PRIu64
                             " bytes ends beyond the end of the file, 0x%" PRIx64,
                             offset, bytes, file_size);
    }
    return true;
}

/* The L1 table must cover the disk. */
static bool header_check_l1(const Qcow2Header *h, uint64_t file_size, const char *who,
                            GError **error)
{
    unsigned entry_bits = qcow2_has_extended_l2(h) ? 4 : 3;
    unsigned shift = 2 * h->cluster_bits - entry_bits; /* of the bytes that an L2 table maps */
    uint64_t most = QCOW2_L1_BYTES_MAX / sizeof(uint64_t);
    if (h->size > BLOCK_SIZE_MAX) {
        return header_refuse(error, who, "size", "%" PRIu64 " is too large", h->size);
    }
    if (h->l1_size > most) {
        return header_refuse(error, who, "l1_size", "is %u; the maximum is %" PRIu64, h->l1_size,
                             most);
    }
    uint64_t needed = (h->size >> shift) + ((h->size & (((uint64_t)1 << shift) - 1)) != 0);
    if (needed > h->l1_size) {
        return header_refuse(error, who, "l1_size",
                             "%u is too small: %" PRIu64 " bytes need %" PRIu64 " entries",
                             h->l1_size, h->size, needed);
    }
    return header_check_table(h, h->l1_offset, (uint64_t)h->l1_size * sizeof(uint64_t), file_size,
                              who, "l1_table_offset", error);
}

static bool header_check_tables(const Qcow2Header *h, uint64_t file_size, const char *who,
                                GError **error)
{
    uint64_t refcount_bytes = (uint64_t)h->refcount_clusters << h->cluster_bits;
    if (refcount_bytes > QCOW2_REFCOUNT_TABLE_BYTES_MAX) {
        return header_refuse(error, who, "refcount_table_clusters",
                             "is %u; the table can have at most %u bytes", h->refcount_clusters,
                             QCOW2_REFCOUNT_TABLE_BYTES_MAX);
    }
    if (refcount_bytes == 0) {
        return header_refuse(error, who, "refcount_table_clusters", "is 0");
    }
    if (h->snapshots > QCOW2_SNAPSHOTS_MAX) {
        return header_refuse(error, who, "nb_snapshots", "is %u; the maximum is %u", h->snapshots,
                             QCOW2_SNAPSHOTS_MAX);
    }
    return header_check_table(h, h->refcount_offset, refcount_bytes, file_size, who,
                              "refcount_table_offset", error) &&
           header_check_table(h, h->snapshots_offset,
                              (uint64_t)h->snapshots * sizeof(Qcow2DiskSnapshot), file_size, who,
                              "snapshots_offset", error) &&
           header_check_l1(h, file_size, who, error);
}

/* An unknown bit is reported after the extensions, which may name it. */
static bool header_check_unknown(const Qcow2Header *h, const char *who, GError **error)
{
    if (h->unknown_feature == NULL) {
        return true;
    }
    return header_refuse(error, who, "incompatible_features",
                         "has a feature that skiff does not support: %s", h->unknown_feature);
}

bool qcow2_header_parse(Qcow2Header *h, const uint8_t *bytes, uint64_t length, uint64_t file_size,
                        const char *who, GError **error)
{
    Qcow2DiskHeader d = {0};
    memcpy(&d, bytes, MIN(length, sizeof(d)));
    if (length < QCOW2_HEADER_V2_LENGTH) {
        *h = (Qcow2Header){0};
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN, "%s: qcow2 header: the file ends in it",
                    who);
        return false;
    }
    if (qcow2_header_begin(bytes, who, error) == 0) {
        *h = (Qcow2Header){0};
        return false;
    }
    header_convert(h, &d);
    bool ok = header_check_length(h, length, who, error) &&
              qcow2_header_parse_extensions(h, bytes, length, who, error) &&
              header_check_unknown(h, who, error) &&
              header_check_encryption(be32toh(d.crypt_method), who, error) &&
              header_check_features(h, who, error) && header_check_tables(h, file_size, who, error);
    if (!ok) {
        qcow2_header_clear(h);
    }
    return ok;
}

void qcow2_header_clear(Qcow2Header *h)
{
    g_free(h->backing_name);
    g_free(h->backing_format);
    g_free(h->data_file);
    g_free(h->unknown_feature);
    *h = (Qcow2Header){0};
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The rest of the first cluster: header extensions and the backing file's name. */
#include "block/block.h"
#include "block/node.h"
#include "block/qcow2/qcow2_header.h"

#define EXTENSION_FORMAT_MAX 255u /* length of a format's name */

typedef struct Extension {
    uint32_t type;
    uint32_t length;
    const uint8_t *data;
} Extension;

static bool extension_refuse(GError **error, const char *who, const char *what, const char *wrong)
{
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN, "%s: qcow2 header extension '%s' %s", who,
                what, wrong);
    return false;
}

/* ---- texts ---- */

/* A name is a path or a word: zero bytes and an invalid encoding would make it another one. */
static bool extension_take_text(const Extension *e, uint32_t max, char **text, const char *who,
                                const char *what, GError **error)
{
    if (e->length == 0 || e->length > max) {
        return extension_refuse(error, who, what, "has a length that is not supported");
    }
    if (memchr(e->data, 0, e->length) != NULL) {
        return extension_refuse(error, who, what, "has a zero byte in its text");
    }
    g_free(*text); /* of an earlier extension of this type */
    *text = g_strndup((const char *)e->data, e->length);
    return true;
}

/* ---- features ---- */

/* Names the lowest unknown bit from the feature table, if it is there. */
static void extension_name_features(Qcow2Header *h, const Extension *e)
{
    uint64_t unknown = h->incompatible & ~QCOW2_INCOMPATIBLE_KNOWN;
    if (unknown == 0) {
        return;
    }
    unsigned bit = (unsigned)__builtin_ctzll(unknown);
    for (uint32_t at = 0; at + sizeof(Qcow2DiskFeature) <= e->length;
         at += sizeof(Qcow2DiskFeature)) {
        Qcow2DiskFeature f;
        memcpy(&f, e->data + at, sizeof(f));
        if (f.type == QCOW2_FEATURE_INCOMPATIBLE && f.bit == bit) {
            char name[QCOW2_FEATURE_NAME_LENGTH + 1] = {0};
            memcpy(name, f.name, sizeof(f.name));
            g_free(h->unknown_feature);
            h->unknown_feature = opt_excerpt(name);
            return;
        }
    }
}

/* ---- bitmaps ---- */

static bool extension_take_bitmaps(Qcow2Header *h, const Extension *e, const char *who,
                                   GError **error)
{
    Qcow2DiskBitmapsExtension d;
    if ((h->autoclear & QCOW2_AUTOCLEAR_BITMAPS) == 0) {
        return true; /* written by a program that does not know bitmaps: they are stale */
    }
    if (e->length != sizeof(d)) {
        return extension_refuse(error, who, "bitmaps", "does not have its length of 24 bytes");
    }
    memcpy(&d, e->data, sizeof(d));
    h->bitmaps = be32toh(d.nb_bitmaps);
    h->bitmaps_size = be64toh(d.bitmap_directory_size);
    h->bitmaps_offset = be64toh(d.bitmap_directory_offset);
    if (d.reserved != 0) {
        return extension_refuse(error, who, "bitmaps", "has a reserved field that is not zero");
    }
    if (h->bitmaps == 0 || h->bitmaps > QCOW2_BITMAPS_MAX) {
        return extension_refuse(error, who, "bitmaps", "has a field nb_bitmaps not in 1 to 65535");
    }
    if (h->bitmaps_size == 0 || h->bitmaps_size > QCOW2_BITMAP_DIRECTORY_BYTES_MAX) {
        return extension_refuse(error, who, "bitmaps",
                                "has a field bitmap_directory_size not in 1 to 64 MiB");
    }
    if (h->bitmaps_offset == 0 || !block_is_aligned(h->bitmaps_offset, qcow2_cluster_size(h))) {
        return extension_refuse(error, who, "bitmaps",
                                "has a field bitmap_directory_offset that is not a cluster's");
    }
    return true;
}

/* ---- all ---- */

static bool extension_take(Qcow2Header *h, const Extension *e, const char *who, GError **error)
{
    switch (e->type) {
    case QCOW2_EXTENSION_BACKING_FORMAT:
        return extension_take_text(e, EXTENSION_FORMAT_MAX, &h->backing_format, who,
                                   "backing file format", error);
    case QCOW2_EXTENSION_DATA_FILE:
        return extension_take_text(e, QCOW2_BACKING_NAME_MAX, &h->data_file, who,
                                   "external data file name", error);
    case QCOW2_EXTENSION_FEATURE_TABLE:
        extension_name_features(h, e);
        return true;
    case QCOW2_EXTENSION_BITMAPS:
        return extension_take_bitmaps(h, e, who, error);
    default:
        return true; /* unknown ones are kept and ignored */
    }
}

/* Extensions lie between the header and the backing file's name, or the end of the cluster. */
static bool extension_walk(Qcow2Header *h, const uint8_t *bytes, uint64_t end, const char *who,
                           GError **error)
{
    for (uint64_t at = h->length;
         end >= sizeof(Qcow2DiskExtension) && at <= end - sizeof(Qcow2DiskExtension);) {
        Extension e = {.type = qcow2_get32(bytes + at), .length = qcow2_get32(bytes + at + 4)};
        if (e.type == QCOW2_EXTENSION_END) {
            return true;
        }
        at += sizeof(Qcow2DiskExtension);
        if (e.length > end - at) {
            g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN,
                        "%s: qcow2 header extension 0x%08x has the length %u, which reaches beyond "
                        "the header's cluster",
                        who, e.type, e.length);
            return false;
        }
        e.data = bytes + at;
        if (!extension_take(h, &e, who, error)) {
            return false;
        }
        at += ((uint64_t)e.length + 7) / 8 * 8;
    }
    return true;
}

static bool extension_take_backing(Qcow2Header *h, const uint8_t *bytes, uint64_t length,
                                   uint64_t offset, uint32_t size, const char *who, GError **error)
{
    if (offset < h->length || offset > length) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN,
                    "%s: qcow2 header: backing_file_offset 0x%" PRIx64
                    " is not in the header's cluster",
                    who, offset);
        return false;
    }
    if (size == 0) {
        return true; /* as QEMU: an empty name is none */
    }
    if (size > QCOW2_BACKING_NAME_MAX || size > length - offset) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN,
                    "%s: qcow2 header: backing_file_size is %u; a name has at most %u bytes and "
                    "ends in the header's cluster",
                    who, size, QCOW2_BACKING_NAME_MAX);
        return false;
    }
    if (memchr(bytes + offset, 0, size) != NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN,
                    "%s: qcow2 header: the backing file's name has a zero byte", who);
        return false;
    }
    h->backing_name = g_strndup((const char *)bytes + offset, size);
    return true;
}

void qcow2_header_locate(Qcow2Header *h, const uint8_t *bytes, uint64_t length)
{
    uint64_t offset = qcow2_get64(bytes + offsetof(Qcow2DiskHeader, backing_file_offset));
    uint64_t end = MIN(length, qcow2_cluster_size(h)), at = h->length;
    end = offset != 0 ? MIN(offset, end) : end;
    h->bitmaps_at = 0;
    h->bitmaps_retired = h->bitmaps_blocked = false;
    while (at + sizeof(Qcow2DiskExtension) <= end) {
        uint32_t type = qcow2_get32(bytes + at), size = qcow2_get32(bytes + at + 4);
        if (type == QCOW2_EXTENSION_END || size > end - at - sizeof(Qcow2DiskExtension)) {
            break;
        }
        bool fits = size == sizeof(Qcow2DiskBitmapsExtension);
        bool first = h->bitmaps_at == 0 || h->bitmaps_retired; /* QEMU adds one to a retired one */
        if (fits &&
            (type == QCOW2_EXTENSION_BITMAPS || (type == QCOW2_EXTENSION_RETIRED && first))) {
            h->bitmaps_at = at;
            h->bitmaps_retired = type == QCOW2_EXTENSION_RETIRED;
        }
        h->bitmaps_blocked = h->bitmaps_blocked || (!fits && type == QCOW2_EXTENSION_BITMAPS);
        at += sizeof(Qcow2DiskExtension) + ((uint64_t)size + 7) / 8 * 8;
    }
    h->extensions_end = at;
}

bool qcow2_header_parse_extensions(Qcow2Header *h, const uint8_t *bytes, uint64_t length,
                                   const char *who, GError **error)
{
    uint64_t offset = qcow2_get64(bytes + offsetof(Qcow2DiskHeader, backing_file_offset));
    uint32_t size = qcow2_get32(bytes + offsetof(Qcow2DiskHeader, backing_file_size));
    uint64_t unknown = h->incompatible & ~QCOW2_INCOMPATIBLE_KNOWN;
    length = MIN(length, qcow2_cluster_size(h));
    if (unknown != 0) {
        h->unknown_feature =
            g_strdup_printf("bit %d, which the image does not name", __builtin_ctzll(unknown));
    }
    if (offset != 0 && !extension_take_backing(h, bytes, length, offset, size, who, error)) {
        return false;
    }
    if (!extension_walk(h, bytes, offset != 0 ? offset : length, who, error)) {
        return false;
    }
    qcow2_header_locate(h, bytes, length);
    return true;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes of what lies below an image: another name of the backing file in the header, and an image
 * that holds nothing itself.
 *
 * The header's cluster is made anew and written at once: header, extensions other than the names in
 * their order, the format of the backing file, the name of the data file, the name of the backing file.
 */
#include <errno.h>
#include "block/qcow2/qcow2_int.h"

#define BACKING_AT(field) offsetof(Qcow2DiskHeader, field)

/* The new cluster, which is being filled. */
typedef struct BackingCluster {
    uint8_t *bytes;
    uint64_t size, used;
    bool overflow;
} BackingCluster;

static void backing_append(BackingCluster *c, const void *bytes, uint64_t length, uint64_t padded)
{
    if (padded > c->size - c->used) {
        c->overflow = true;
        return;
    }
    if (length > 0) {
        memcpy(c->bytes + c->used, bytes, length);
    }
    c->used += padded;
}

static void backing_append_extension(BackingCluster *c, uint32_t type, const void *data,
                                     uint32_t length)
{
    Qcow2DiskExtension e = {.type = htobe32(type), .length = htobe32(length)};
    backing_append(c, &e, sizeof(e), sizeof(e));
    backing_append(c, data, length, ((uint64_t)length + 7) / 8 * 8);
}

/* Which extensions are not copied: those made anew, and what version 2 does not have. */
static bool backing_drops(const Qcow2Header *h, uint32_t type)
{
    return type == QCOW2_EXTENSION_BACKING_FORMAT || type == QCOW2_EXTENSION_DATA_FILE ||
           ((type == QCOW2_EXTENSION_FEATURE_TABLE || type == QCOW2_EXTENSION_BITMAPS) &&
            h->version < 3);
}

/* Copies the extensions of the old cluster, which were checked when the image was opened, from
 * @start on. */
static void backing_copy_extensions(BackingCluster *c, const Qcow2Header *h, const uint8_t *old,
                                    uint64_t start)
{
    uint64_t name_at = qcow2_get64(old + BACKING_AT(backing_file_offset));
    uint64_t end = name_at != 0 ? MIN(name_at, c->size) : c->size;
    for (uint64_t at = start; at + sizeof(Qcow2DiskExtension) <= end;) {
        uint32_t type = qcow2_get32(old + at), length = qcow2_get32(old + at + 4);
        at += sizeof(Qcow2DiskExtension);
        if (type == QCOW2_EXTENSION_END || length > end - at) {
            return;
        }
        if (!backing_drops(h, type)) {
            backing_append_extension(c, type, old + at, length);
        }
        at += ((uint64_t)length + 7) / 8 * 8;
    }
}

static void backing_append_text(BackingCluster *c, uint32_t type, const char *text)
{
    if (text != NULL) {
        backing_append_extension(c, type, text, (uint32_t)strlen(text));
    }
}

/* Sets the fields of the header that can change. */
static void backing_set_fields(const BackingCluster *c, const Qcow2Header *h, uint64_t name_at)
{
    size_t length = h->backing_name != NULL ? strlen(h->backing_name) : 0;
    qcow2_put32(c->bytes + BACKING_AT(version), h->version);
    qcow2_put64(c->bytes + BACKING_AT(backing_file_offset), length > 0 ? name_at : 0);
    qcow2_put32(c->bytes + BACKING_AT(backing_file_size), (uint32_t)length);
    if (h->version >= 3) {
        qcow2_put64(c->bytes + BACKING_AT(incompatible_features), h->incompatible);
        qcow2_put64(c->bytes + BACKING_AT(compatible_features), h->compatible);
        qcow2_put64(c->bytes + BACKING_AT(autoclear_features), h->autoclear);
        qcow2_put32(c->bytes + BACKING_AT(refcount_order), h->refcount_order);
        qcow2_put32(c->bytes + BACKING_AT(header_length), h->length);
    }
}

/* Makes the new cluster in @c for header @h. 0 or -ENOSPC. */
static int backing_make(const Qcow2State *s, BackingCluster *c, const uint8_t *old,
                        const Qcow2Header *h)
{
    size_t length = h->backing_name != NULL ? strlen(h->backing_name) : 0;
    backing_append(c, old, MIN(s->header.length, h->length), h->length);
    backing_copy_extensions(c, h, old, s->header.length);
    backing_append_text(c, QCOW2_EXTENSION_BACKING_FORMAT, h->backing_format);
    backing_append_text(c, QCOW2_EXTENSION_DATA_FILE, h->data_file);
    backing_append_extension(c, QCOW2_EXTENSION_END, NULL, 0);
    backing_set_fields(c, h, c->used);
    backing_append(c, h->backing_name, length, length);
    return c->overflow ? -ENOSPC : 0;
}

int qcow2_co_write_header_cluster(BlockNode *n, const Qcow2Header *h)
{
    Qcow2State *s = n->state;
    uint64_t size = qcow2_cluster_size(&s->header);
    g_autofree uint8_t *old = g_malloc(size);
    g_autofree uint8_t *new = g_malloc0(size);
    BackingCluster c = {.bytes = new, .size = size};
    int ret = qcow2_co_read_table(n->file, 0, MIN(size, block_node_size(n->file)), old);
    if (ret == 0) {
        ret = backing_make(s, &c, old, h);
    }
    if (ret < 0) {
        return ret;
    }
    struct iovec iov = {new, size};
    ret = block_node_co_pwritev(n->file, 0, size, &iov, 1, 0);
    if (ret == 0) {
        s->header.length = h->length;
        memcpy(s->w.sector, new, QCOW2_SECTOR);
        qcow2_header_locate(&s->header, new, size);
        ret = block_node_co_flush(n->file);
    }
    return ret;
}

int qcow2_co_change_backing(BlockNode *n, const char *name, const char *format)
{
    Qcow2State *s = n->state;
    if (s->w.corrupt) {
        return -EIO;
    }
    if (name != NULL && (strlen(name) > QCOW2_BACKING_NAME_MAX ||
                         (s->header.autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW) != 0)) {
        return -EINVAL; /* raw data is complete without a backing file */
    }
    qcow2_co_commit_begin(&s->w);
    Qcow2Header h = s->header;
    h.backing_name = (char *)(uintptr_t)name;
    h.backing_format = (char *)(uintptr_t)format;
    h.autoclear &= QCOW2_AUTOCLEAR_BITMAPS | QCOW2_AUTOCLEAR_DATA_FILE_RAW;
    int ret = qcow2_co_write_header_cluster(n, &h);
    if (ret == 0) {
        g_free(s->header.backing_name);
        g_free(s->header.backing_format);
        s->header.backing_name = g_strdup(name);
        s->header.backing_format = g_strdup(format);
        qcow2_publish_info(n);
    }
    qcow2_commit_end(&s->w);
    return ret;
}

int qcow2_co_make_empty(BlockNode *n)
{
    const Qcow2State *s = n->state;
    int ret =
        qcow2_co_cut(n, 0, block_align_up(block_node_size(n), qcow2_cluster_size(&s->header)));
    return ret == 0 ? qcow2_co_flush(n) : ret;
}

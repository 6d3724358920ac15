/* SPDX-License-Identifier: Apache-2.0 */
/* The bitmap directory: entries of variable length, each padded to 8 bytes. */
#include <errno.h>
#include "block/qcow2/qcow2_int.h"

/* ---- entries ---- */

/* Whether the bits in the table are enough for the disk; a bitmap in use may be of another size. */
static bool directory_covers(const Qcow2Header *h, const Qcow2BitmapEntry *e)
{
    uint64_t bytes = (uint64_t)e->table_size << h->cluster_bits;
    uint64_t granularity = (uint64_t)1 << e->granularity_bits;
    uint64_t bits = h->size / granularity + (h->size % granularity != 0);
    return bytes <= QCOW2_BITMAP_BYTES_MAX &&
           ((e->flags & QCOW2_BITMAP_IN_USE) != 0 || bits <= bytes * 8);
}

static const char *directory_wrong(const Qcow2Header *h, const Qcow2BitmapEntry *e)
{
    if (e->table_offset == 0 || !block_is_aligned(e->table_offset, qcow2_cluster_size(h)) ||
        e->table_offset > INT64_MAX) {
        return "table offset";
    }
    if (e->table_size == 0 || e->table_size > QCOW2_BITMAP_TABLE_MAX) {
        return "table size";
    }
    if (e->name_size == 0 || e->name_size > QCOW2_BITMAP_NAME_MAX) {
        return "name length";
    }
    if (e->granularity_bits < QCOW2_BITMAP_GRANULARITY_MIN ||
        e->granularity_bits > QCOW2_BITMAP_GRANULARITY_MAX) {
        return "granularity";
    }
    if (e->type != QCOW2_BITMAP_TYPE_DIRTY) {
        return "type";
    }
    if ((e->flags & ~QCOW2_BITMAP_FLAGS) != 0) {
        return "flags";
    }
    return directory_covers(h, e) ? NULL : "table size for the disk";
}

static uint64_t directory_entry_bytes(uint64_t extra_size, uint64_t name_size)
{
    return (sizeof(Qcow2DiskBitmap) + extra_size + name_size + 7) / 8 * 8;
}

const char *qcow2_bitmap_entry_take(const Qcow2Header *h, const uint8_t *bytes, uint64_t rest,
                                    Qcow2BitmapEntry *e)
{
    Qcow2DiskBitmap d;
    if (rest < sizeof(d)) {
        return "place";
    }
    memcpy(&d, bytes, sizeof(d));
    *e = (Qcow2BitmapEntry){
        .table_offset = be64toh(d.table_offset),
        .table_size = be32toh(d.table_size),
        .flags = be32toh(d.flags),
        .extra_size = be32toh(d.extra_data_size),
        .name_size = be16toh(d.name_size),
        .type = d.type,
        .granularity_bits = d.granularity_bits,
        .extra = bytes + sizeof(d),
    };
    const char *wrong = directory_wrong(h, e);
    e->length = directory_entry_bytes(e->extra_size, e->name_size);
    if (wrong != NULL || e->length > rest) {
        return wrong != NULL ? wrong : "length";
    }
    e->name = (const char *)e->extra + e->extra_size;
    return memchr(e->name, 0, e->name_size) == NULL ? NULL : "name";
}

bool qcow2_bitmap_cluster_ok(const Qcow2Header *h, uint64_t entry)
{
    uint64_t offset = entry & QCOW2_OFFSET_MASK;
    if ((entry & ~QCOW2_OFFSET_MASK & ~QCOW2_BITMAP_ONES) != 0) {
        return false;
    }
    return offset == 0 ||
           ((entry & QCOW2_BITMAP_ONES) == 0 && block_is_aligned(offset, qcow2_cluster_size(h)));
}

bool qcow2_bitmap_usable(const Qcow2Bitmap *e)
{
    return (e->flags & QCOW2_BITMAP_IN_USE) == 0 &&
           (e->extra_size == 0 || (e->flags & QCOW2_BITMAP_EXTRA_COMPATIBLE) != 0);
}

static void directory_clear(void *element)
{
    Qcow2Bitmap *e = element;
    g_free(e->name);
    g_free(e->extra);
}

GArray *qcow2_bitmap_list_new(void)
{
    GArray *list = g_array_new(false, false, sizeof(Qcow2Bitmap));
    g_array_set_clear_func(list, directory_clear);
    return list;
}

void qcow2_bitmap_list_add(GArray *list, const Qcow2Bitmap *e)
{
    Qcow2Bitmap copy = *e;
    copy.name = g_strdup(e->name);
    copy.extra = e->extra_size > 0 ? g_memdup2(e->extra, e->extra_size) : NULL;
    g_array_append_val(list, copy);
}

/* ---- reading ---- */

static bool directory_refuse(const BlockNode *n, uint32_t index, const char *wrong, GError **error)
{
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN,
                "%s: entry %u of the qcow2 bitmap directory has an invalid %s", qcow2_who(n), index,
                wrong);
    return false;
}

static bool directory_parse(const BlockNode *n, const uint8_t *bytes, GArray *list, GError **error)
{
    const Qcow2Header *h = &((const Qcow2State *)n->state)->header;
    g_autoptr(GHashTable) names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    uint64_t at = 0;
    for (uint32_t i = 0; i < h->bitmaps; i++) {
        Qcow2BitmapEntry e;
        const char *wrong = qcow2_bitmap_entry_take(h, bytes + at, h->bitmaps_size - at, &e);
        if (wrong != NULL) {
            return directory_refuse(n, i, wrong, error);
        }
        Qcow2Bitmap b = {
            .name = g_strndup(e.name, e.name_size),
            .table_offset = e.table_offset,
            .table_size = e.table_size,
            .flags = e.flags,
            .granularity_bits = e.granularity_bits,
            .extra = e.extra_size > 0 ? g_memdup2(e.extra, e.extra_size) : NULL,
            .extra_size = e.extra_size,
        };
        g_array_append_val(list, b);
        if (!g_hash_table_add(names, g_strdup(b.name))) {
            return directory_refuse(n, i, "name: another entry has it", error);
        }
        at += e.length;
    }
    return at == h->bitmaps_size || directory_refuse(n, h->bitmaps, "place: nb_bitmaps", error);
}

bool qcow2_co_read_directory(BlockNode *n, GError **error)
{
    Qcow2State *s = n->state;
    const Qcow2Header *h = &s->header;
    uint64_t file = block_node_size(n->file);
    int ret = -EIO;
    g_autofree uint8_t *bytes = NULL;
    if (h->bitmaps_offset <= file && h->bitmaps_size <= file - h->bitmaps_offset) {
        bytes = g_try_malloc(h->bitmaps_size);
        ret = bytes != NULL
                  ? qcow2_co_read_table(n->file, h->bitmaps_offset, h->bitmaps_size, bytes)
                  : -ENOMEM;
    }
    if (ret < 0) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN,
                    "%s: reading the qcow2 bitmap directory: %s", qcow2_who(n), g_strerror(-ret));
        return false;
    }
    g_autoptr(GArray) list = qcow2_bitmap_list_new();
    if (!directory_parse(n, bytes, list, error)) {
        return false;
    }
    s->bitmaps.entries = g_steal_pointer(&list);
    return true;
}

/* ---- writing ---- */

uint64_t qcow2_directory_bytes(const GArray *list)
{
    uint64_t bytes = 0;
    for (unsigned i = 0; i < list->len; i++) {
        const Qcow2Bitmap *e = &g_array_index(list, Qcow2Bitmap, i);
        bytes += directory_entry_bytes(e->extra_size, strlen(e->name));
    }
    return bytes;
}

uint8_t *qcow2_directory_encode(const GArray *list, uint64_t size)
{
    uint8_t *bytes = g_malloc0(size), *at = bytes;
    for (unsigned i = 0; i < list->len; i++) {
        const Qcow2Bitmap *e = &g_array_index(list, Qcow2Bitmap, i);
        size_t name_size = strlen(e->name);
        Qcow2DiskBitmap d = {
            .table_offset = htobe64(e->table_offset),
            .table_size = htobe32(e->table_size),
            .flags = htobe32(e->flags),
            .type = QCOW2_BITMAP_TYPE_DIRTY,
            .granularity_bits = (uint8_t)e->granularity_bits,
            .name_size = htobe16((uint16_t)name_size),
            .extra_data_size = htobe32(e->extra_size),
        };
        memcpy(at, &d, sizeof(d));
        if (e->extra_size > 0) {
            memcpy(at + sizeof(d), e->extra, e->extra_size);
        }
        memcpy(at + sizeof(d) + e->extra_size, e->name, name_size);
        at += directory_entry_bytes(e->extra_size, name_size);
    }
    return bytes;
}

/* Sets in_use in memory. Returns whether it was not set everywhere. */
static bool directory_set_in_use(GArray *list)
{
    bool changed = false;
    for (unsigned i = 0; i < list->len; i++) {
        Qcow2Bitmap *e = &g_array_index(list, Qcow2Bitmap, i);
        changed = changed || (e->flags & QCOW2_BITMAP_IN_USE) == 0;
        e->flags |= QCOW2_BITMAP_IN_USE;
    }
    return changed;
}

int qcow2_co_mark_bitmaps(BlockNode *n)
{
    Qcow2State *s = n->state;
    const Qcow2Header *h = &s->header;
    int ret = qcow2_co_settle_directory(n);
    if (ret < 0 || s->bitmaps.entries == NULL || s->bitmaps.entries->len == 0) {
        return ret;
    }
    g_autoptr(GArray) marked = qcow2_bitmap_list_new();
    for (unsigned i = 0; i < s->bitmaps.entries->len; i++) {
        qcow2_bitmap_list_add(marked, &g_array_index(s->bitmaps.entries, Qcow2Bitmap, i));
    }
    if (!directory_set_in_use(marked)) {
        return 0;
    }
    ret = qcow2_check_tables(n, h->bitmaps_offset, h->bitmaps_size);
    if (ret == 0) {
        g_autofree uint8_t *bytes = qcow2_directory_encode(marked, h->bitmaps_size);
        struct iovec iov = {bytes, h->bitmaps_size};
        ret = block_node_co_pwritev(n->file, h->bitmaps_offset, h->bitmaps_size, &iov, 1, 0);
    }
    ret = ret == 0 ? block_node_co_flush(n->file) : ret;
    if (ret == 0) {
        g_array_unref(s->bitmaps.entries);
        s->bitmaps.entries = g_steal_pointer(&marked);
    }
    return ret;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What an image says about itself, with the names and the order of QEMU. */
#include <errno.h>
#include "block/qcow2/qcow2_int.h"
#include "util/opts/json.h"

static struct json_object *info_flag(uint64_t features, uint64_t bit)
{
    return json_object_new_boolean((features & bit) != 0);
}

/* ---- bitmaps ---- */

static bool info_refuse_bitmap(const BlockNode *n, uint32_t index, GError **error)
{
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN,
                "%s: entry %u of the qcow2 bitmap directory is invalid, or cannot be read",
                qcow2_who(n), index);
    return false;
}

static void info_add_bitmap(struct json_object *list, const Qcow2DiskBitmap *d, const char *name,
                            int length)
{
    static const char *const names[] = {"in-use", "auto"};
    struct json_object *flags = json_object_new_array();
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        if ((be32toh(d->flags) >> i & 1) != 0) {
            json_object_array_add(flags, json_object_new_string(names[i]));
        }
    }
    struct json_object *bitmap = json_object_new_object();
    json_object_object_add(bitmap, "flags", flags);
    json_object_object_add(bitmap, "name", json_object_new_string_len(name, length));
    json_object_object_add(bitmap, "granularity",
                           json_object_new_int64((int64_t)1 << d->granularity_bits));
    json_object_array_add(list, bitmap);
}

/* Reads the entry at *@at of the directory and moves *@at behind it. */
static coroutine_fn RUNS_IN_IOTHREAD bool info_read_bitmap(BlockNode *n, uint32_t index,
                                                           uint64_t *at, struct json_object *list,
                                                           GError **error)
{
    const Qcow2Header *h = &((Qcow2State *)n->state)->header;
    uint64_t end = h->bitmaps_offset + h->bitmaps_size;
    Qcow2DiskBitmap d;
    if (end - *at < sizeof(d) || qcow2_co_read_table(n->file, *at, sizeof(d), &d) < 0) {
        return info_refuse_bitmap(n, index, error);
    }
    uint64_t name_at = *at + sizeof(d) + be32toh(d.extra_data_size);
    uint16_t length = be16toh(d.name_size);
    char name[QCOW2_BITMAP_NAME_MAX];
    if (length == 0 || length > sizeof(name) || name_at > end || length > end - name_at ||
        d.granularity_bits < QCOW2_BITMAP_GRANULARITY_MIN ||
        d.granularity_bits > QCOW2_BITMAP_GRANULARITY_MAX ||
        qcow2_co_read_table(n->file, name_at, length, name) < 0) {
        return info_refuse_bitmap(n, index, error);
    }
    info_add_bitmap(list, &d, name, length);
    *at = MIN(end, *at + (name_at + length - *at + 7) / 8 * 8);
    return true;
}

/* Stores the bitmaps in *@list, NULL if there are none. */
static coroutine_fn RUNS_IN_IOTHREAD bool info_read_bitmaps(BlockNode *n, struct json_object **list,
                                                            GError **error)
{
    const Qcow2Header *h = &((Qcow2State *)n->state)->header;
    uint64_t at = h->bitmaps_offset;
    *list = NULL;
    if (h->version < 3 || h->bitmaps == 0) {
        return true;
    }
    *list = json_object_new_array();
    for (uint32_t i = 0; i < h->bitmaps; i++) {
        if (!info_read_bitmap(n, i, &at, *list, error)) {
            json_object_put(*list);
            return false;
        }
    }
    return true;
}

/* ---- the format ---- */

/* @bitmaps: NULL or a list. */
static void info_add_features(const Qcow2Header *h, struct json_object *data,
                              struct json_object *bitmaps)
{
    bool v3 = h->version >= 3;
    json_object_object_add(data, "compat", json_object_new_string(v3 ? "1.1" : "0.10"));
    json_object_object_add(
        data, "compression-type",
        json_object_new_string(h->compression == QCOW2_COMPRESSION_ZSTD ? "zstd" : "zlib"));
    if (v3) {
        json_object_object_add(data, "lazy-refcounts",
                               info_flag(h->compatible, QCOW2_COMPATIBLE_LAZY_REFCOUNTS));
        if (bitmaps != NULL) {
            json_object_object_add(data, "bitmaps", bitmaps);
        }
    }
    json_object_object_add(data, "refcount-bits", json_object_new_int(1 << h->refcount_order));
    if (h->data_file != NULL) {
        json_object_object_add(data, "data-file", json_object_new_string(h->data_file));
    }
    if (qcow2_has_data_file(h)) {
        json_object_object_add(data, "data-file-raw",
                               info_flag(h->autoclear, QCOW2_AUTOCLEAR_DATA_FILE_RAW));
    }
    if (v3) {
        json_object_object_add(data, "corrupt",
                               info_flag(h->incompatible, QCOW2_INCOMPATIBLE_CORRUPT));
        json_object_object_add(data, "extended-l2",
                               info_flag(h->incompatible, QCOW2_INCOMPATIBLE_EXTENDED_L2));
    }
}

/* ---- names and snapshots ---- */

/* The path of the backing file as QEMU shows it: the folder of the image as the user wrote it, then
 * the name in the header. NULL: unknown. */
static char *info_backing_path(const BlockNode *n, const char *name)
{
    const char *base = block_node_filename(n);
    size_t protocol = strcspn(name, ":/");
    if (name[0] == '/' || name[protocol] == ':') {
        return g_strdup(name);
    }
    if (base == NULL) {
        return NULL;
    }
    const char *slash = strrchr(base, '/');
    return g_strdup_printf("%.*s%s", slash != NULL ? (int)(slash + 1 - base) : 0, base, name);
}

static void info_take_snapshots(const Qcow2State *s, BlockImageInfo *info)
{
    info->snapshots = g_new0(BlockSnapshotInfo, s->snapshot_count);
    info->snapshot_count = s->snapshot_count;
    for (uint32_t i = 0; i < s->snapshot_count; i++) {
        const Qcow2Snapshot *snap = &s->snapshots[i];
        info->snapshots[i] = (BlockSnapshotInfo){
            .id = g_strdup(snap->id),
            .name = g_strdup(snap->name),
            .vm_state_size = snap->vm_state_size,
            .date_s = snap->date_s,
            .date_ns = snap->date_ns,
            .vm_clock_ns = snap->vm_clock_ns,
            .icount = snap->icount,
        };
    }
}

/* Fills in what is in memory. @bitmaps, which is consumed: NULL or a list. */
static void info_take(const BlockNode *n, struct json_object *bitmaps, BlockImageInfo *info)
{
    const Qcow2State *s = n->state;
    const Qcow2Header *h = &s->header;
    info->cluster_size = qcow2_cluster_size(h);
    if (h->backing_name != NULL) {
        info->backing_name = g_strdup(h->backing_name);
        info->backing_path = info_backing_path(n, h->backing_name);
        info->backing_format = g_strdup(h->backing_format);
    }
    info->dirty = (h->incompatible & QCOW2_INCOMPATIBLE_DIRTY) != 0;
    info_take_snapshots(s, info);
    info->specific = json_object_new_object();
    struct json_object *data = json_object_new_object();
    json_object_object_add(info->specific, "type", json_object_new_string("qcow2"));
    json_object_object_add(info->specific, "data", data);
    info_add_features(h, data, bitmaps);
}

void qcow2_publish_info(BlockNode *n)
{
    BlockImageInfo *info = g_new0(BlockImageInfo, 1);
    info_take(n, NULL, info);
    block_node_publish_image_info(n, info);
}

bool qcow2_co_image_info(BlockNode *n, BlockImageInfo *info, GError **error)
{
    struct json_object *bitmaps;
    if (!info_read_bitmaps(n, &bitmaps, error)) {
        return false;
    }
    info_take(n, bitmaps, info);
    return true;
}

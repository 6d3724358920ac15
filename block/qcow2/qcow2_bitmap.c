/* SPDX-License-Identifier: Apache-2.0 */
/* Persistent dirty bitmaps: the operations of the driver. qcow2_bitmap.h explains them. */
#include <errno.h>
#include "block/qcow2/qcow2_int.h"

/* Why a new bitmap cannot be stored, in QEMU's words. NULL: it can. */
static RUNS_IN_MAIN const char *bitmap_refusal(const BlockNode *n, const char *name,
                                               uint32_t granularity)
{
    const Qcow2State *s = n->state;
    uint64_t bits = (block_node_size(n) + granularity - 1) / granularity;
    uint64_t directory = sizeof(Qcow2DiskBitmap) + strlen(name) + 7;
    unsigned count = 1;
    if (s->header.version < 3) {
        return "Cannot store dirty bitmaps in qcow2 v2 files";
    }
    if (strlen(name) > QCOW2_BITMAP_NAME_MAX) {
        return "Name length exceeds maximum (1023 characters)";
    }
    if ((uint64_t)granularity > (uint64_t)1 << QCOW2_BITMAP_GRANULARITY_MAX) {
        return "Granularity exceeds maximum (2147483648 bytes)";
    }
    if (bits > (uint64_t)QCOW2_BITMAP_BYTES_MAX * 8) {
        return "Too much space will be occupied by the bitmap. Use larger granularity";
    }
    for (unsigned i = 0; i < block_dirty_bitmap_count(n); i++) {
        BlockDirtyBitmapInfo info;
        block_dirty_bitmap_info(n, i, &info);
        count += info.persistent ? 1 : 0;
        directory += info.persistent ? sizeof(Qcow2DiskBitmap) + strlen(info.name) + 7 : 0;
    }
    if (count > QCOW2_BITMAPS_MAX) {
        return "Maximum number of persistent bitmaps is already reached";
    }
    return directory > QCOW2_BITMAP_DIRECTORY_BYTES_MAX ? "Not enough space in the bitmap directory"
                                                        : NULL;
}

static RUNS_IN_MAIN bool bitmap_can_store(const BlockNode *n, const char *name,
                                          uint32_t granularity, GError **error)
{
    const char *why = bitmap_refusal(n, name, granularity);
    if (why != NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "Can't make bitmap '%s' persistent in '%s': %s", name, block_node_name(n), why);
    }
    return why == NULL;
}

/* The first change of an image marks its bitmaps. */
static coroutine_fn RUNS_IN_IOTHREAD int bitmap_co_change(BlockNode *n)
{
    return qcow2_co_begin_change(n);
}

static RUNS_IN_MAIN bool bitmap_supports(const BlockNode *n)
{
    const Qcow2State *s = n->state;
    return s->header.version >= 3 && !s->bitmaps.broken;
}

const BlockBitmapDriver qcow2_bitmap_driver = {
    .supports = bitmap_supports,
    .can_store = bitmap_can_store,
    .co_change = bitmap_co_change,
    .co_remove = qcow2_co_remove_bitmap,
};

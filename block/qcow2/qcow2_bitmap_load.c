/* SPDX-License-Identifier: Apache-2.0 */
/* Bitmaps of an image that is opened. What is read is at most the length of the file: a cluster of bits
 * belongs to one bitmap. */
#include <errno.h>
#include "block/qcow2/qcow2_int.h"

#define LOAD_PIECE ((uint64_t)64 << 10) /* bytes of a table at a time */
#define LOAD_RUN ((uint64_t)1 << 20)    /* of bits at a time, or a cluster */

typedef struct Load {
    BlockNode *node;
    BlockDirtyBitmap *bitmap;
    uint64_t cluster;
    uint8_t *buffer; /* LOAD_RUN bytes, or a cluster */
    uint64_t left;   /* bytes of bits that may be read */
    uint64_t bits;   /* of the bitmaps so far */
} Load;

/* ---- clusters of bits ---- */

/* Reads @bytes of bits at @host, which are at @at of the bitmap. */
static coroutine_fn RUNS_IN_IOTHREAD int load_bits(Load *l, uint64_t at, uint64_t host,
                                                   uint64_t bytes)
{
    if (bytes > l->left) {
        return -EINVAL; /* clusters have several references */
    }
    l->left -= bytes;
    int ret = qcow2_co_read_table(l->node->file, host, bytes, l->buffer);
    if (ret == 0) {
        block_bitmap_load(l->bitmap, at, l->buffer, bytes);
    }
    return ret;
}

/* Loads what @count entries of the table, in the image's order, lead to; the first is for the bits at
 * @at. */
static coroutine_fn RUNS_IN_IOTHREAD int load_entries(Load *l, const uint8_t *entries,
                                                      uint64_t count, uint64_t at)
{
    const Qcow2Header *h = &((const Qcow2State *)l->node->state)->header;
    int ret = 0;
    for (uint64_t i = 0, run; i < count && ret == 0; i += run) {
        uint64_t entry = qcow2_get64(entries + i * 8), host = entry & QCOW2_OFFSET_MASK;
        uint64_t bits = at + i * l->cluster;
        run = 1;
        if (!qcow2_bitmap_cluster_ok(h, entry)) {
            return -EINVAL;
        }
        if (host == 0) {
            if ((entry & QCOW2_BITMAP_ONES) != 0) {
                block_bitmap_load_ones(l->bitmap, bits, l->cluster);
            }
            continue;
        }
        while (i + run < count && (run + 1) * l->cluster <= LOAD_RUN &&
               qcow2_get64(entries + (i + run) * 8) == host + run * l->cluster) {
            run++;
        }
        ret = load_bits(l, bits, host, run * l->cluster);
    }
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int load_table(Load *l, const Qcow2Bitmap *e)
{
    uint64_t bytes = block_bitmap_bytes(l->bitmap);
    uint64_t count = bytes / l->cluster + (bytes % l->cluster != 0);
    if (e->table_size != MAX(count, 1)) {
        return -EINVAL; /* as QEMU; a longer table could be used by very many bitmaps */
    }
    g_autofree uint8_t *piece = g_malloc(LOAD_PIECE);
    int ret = 0;
    for (uint64_t done = 0, some; done < count && ret == 0; done += some) {
        some = MIN(count - done, LOAD_PIECE / 8);
        ret = qcow2_co_read_table(l->node->file, e->table_offset + done * 8, some * 8, piece);
        if (ret == 0) {
            ret = load_entries(l, piece, some, done * l->cluster);
        }
    }
    return ret;
}

/* ---- bitmaps ---- */

static coroutine_fn RUNS_IN_IOTHREAD bool load_bitmap(Load *l, const Qcow2Bitmap *e, GError **error)
{
    const Qcow2State *s = l->node->state;
    BlockStoredBitmap stored = {
        .name = e->name,
        .granularity_bits = e->granularity_bits,
        .enabled = (e->flags & QCOW2_BITMAP_AUTO) != 0,
        .inconsistent = !qcow2_bitmap_usable(e),
    };
    uint64_t size = block_align_down(s->header.size, BLOCK_SECTOR_SIZE);
    l->bits += stored.inconsistent ? 0 : (size >> e->granularity_bits) + 1;
    l->bitmap =
        l->bits <= BLOCK_BITMAPS_BITS_MAX ? block_bitmap_restore(l->node, &stored, size) : NULL;
    int ret = -EFBIG;
    if (l->bitmap != NULL) {
        ret = stored.inconsistent ? 0 : load_table(l, e);
    }
    if (ret < 0) {
        g_autofree char *name = opt_excerpt(e->name);
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN,
                    "%s: Could not read bitmap '%s' from image: %s", qcow2_who(l->node), name,
                    ret == -EFBIG ? "the bitmaps of an image may need 1 GiB of memory at most"
                                  : g_strerror(-ret));
    }
    return ret == 0;
}

bool qcow2_co_load_bitmaps(BlockNode *n, GError **error)
{
    const Qcow2State *s = n->state;
    Load l = {.node = n, .cluster = qcow2_cluster_size(&s->header)};
    if (s->header.bitmaps == 0) {
        return true;
    }
    if (!qcow2_co_read_directory(n, error)) {
        return false;
    }
    bool ok = true;
    l.buffer = g_malloc(MAX(LOAD_RUN, l.cluster));
    l.left = block_align_up(block_node_size(n->file), l.cluster);
    for (unsigned i = 0; ok && i < s->bitmaps.entries->len; i++) {
        ok = load_bitmap(&l, &g_array_index(s->bitmaps.entries, Qcow2Bitmap, i), error);
    }
    g_free(l.buffer);
    return ok;
}

void qcow2_bitmaps_free(Qcow2State *s)
{
    g_clear_pointer(&s->bitmaps.entries, g_array_unref);
}

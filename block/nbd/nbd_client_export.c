/* SPDX-License-Identifier: Apache-2.0 */
/* The NBD client: what the server says about its export, and what the node makes of it. */
#include "block/nbd/nbd_client_int.h"

static uint32_t export_block_size(struct nbd_handle *h, int kind)
{
    int64_t size = nbd_get_block_size(h, kind);
    return size > 0 && size <= UINT32_MAX ? (uint32_t)size : 0;
}

bool nbd_client_export_read(NbdClientExport *e, struct nbd_handle *h, const char *context)
{
    int64_t size = nbd_get_size(h);
    *e = (NbdClientExport){
        .size = (uint64_t)size,
        .min_block = export_block_size(h, LIBNBD_SIZE_MINIMUM),
        .preferred_block = export_block_size(h, LIBNBD_SIZE_PREFERRED),
        .max_block = export_block_size(h, LIBNBD_SIZE_MAXIMUM),
        .read_only = nbd_is_read_only(h) == 1,
        .flush = nbd_can_flush(h) == 1,
        .fua = nbd_can_fua(h) == 1,
        .trim = nbd_can_trim(h) == 1,
        .zero = nbd_can_zero(h) == 1,
        .multi_conn = nbd_can_multi_conn(h) == 1,
        .status = nbd_can_meta_context(h, context) == 1,
    };
    return size >= 0;
}

/* A server that names no minimum may be so old that it has sectors. One with block status has
 * extents of any length; a size that is not whole sectors has a tail that must be reached. */
static uint32_t export_alignment(const NbdClientExport *e)
{
    if (e->min_block != 0) {
        return e->min_block;
    }
    return e->status || !block_is_aligned(e->size, BLOCK_SECTOR_SIZE) ? 1 : BLOCK_SECTOR_SIZE;
}

static uint64_t export_max_transfer(const NbdClientExport *e)
{
    uint64_t max = e->max_block != 0 ? e->max_block : NBD_CLIENT_TRANSFER_MAX;
    return block_align_down(MIN(max, NBD_CLIENT_TRANSFER_MAX), export_alignment(e));
}

static bool export_refuse(const BlockNode *n, GError **error, const char *format, uint64_t value)
{
    g_autofree char *what = g_strdup_printf(format, value);
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN, "node '%s': the NBD server's export %s",
                n->name, what);
    return false;
}

bool nbd_client_export_set_up(const NbdClientExport *e, BlockNode *n, GError **error)
{
    uint32_t alignment = export_alignment(e);
    if (alignment > BLOCK_ALIGNMENT_MAX || (alignment & (alignment - 1)) != 0) {
        return export_refuse(n, error,
                             "has a minimum block size of %" G_GUINT64_FORMAT
                             " bytes, which is not supported",
                             alignment);
    }
    if (e->size > BLOCK_SIZE_MAX || !block_is_aligned(e->size, alignment)) {
        return export_refuse(n, error,
                             "has %" G_GUINT64_FORMAT
                             " bytes, which is too much or no multiple of its block size",
                             e->size);
    }
    if (export_max_transfer(e) == 0) {
        return export_refuse(n, error,
                             "has a maximum block size of %" G_GUINT64_FORMAT
                             " bytes, which is less than its minimum",
                             e->max_block);
    }
    uint64_t max_effect = block_align_down(INT32_MAX, alignment);
    n->limits.request_alignment = alignment;
    n->limits.zero_alignment = alignment;
    n->limits.opt_transfer = e->preferred_block > alignment ? e->preferred_block : 0;
    n->limits.max_transfer = export_max_transfer(e);
    n->limits.max_discard = e->trim ? max_effect : 0;
    n->limits.max_write_zeroes = export_max_transfer(e);
    n->caps.fua = e->fua;
    atomic_store(&n->size, block_align_up(e->size, BLOCK_SECTOR_SIZE));
    return true;
}

const char *nbd_client_export_find_loss(const NbdClientExport *then, const NbdClientExport *now)
{
    if (now->size != then->size) {
        return "it has another size";
    }
    if (now->read_only && !then->read_only) {
        return "it is read-only";
    }
    if ((then->flush && !now->flush) || (then->fua && !now->fua) || (then->trim && !now->trim) ||
        (then->zero && !now->zero) || (then->status && !now->status)) {
        return "it has fewer commands";
    }
    if (export_alignment(now) > export_alignment(then) ||
        export_max_transfer(now) < export_max_transfer(then)) {
        return "it has other block sizes";
    }
    return NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/qcow2_amend.h"

#include <errno.h>
#include "block/qcow2/qcow2_int.h"

bool qcow2_amend_refuse(GError **error, const char *text)
{
    g_set_error_literal(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, text);
    return false;
}

bool qcow2_amend_failed(GError **error, const char *what, int ret)
{
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN, "%s: %s", what,
                ret == -ENOSPC ? "No space left in the file or its header" : g_strerror(-ret));
    return false;
}

/* ---- checks ---- */

static bool amend_is_lazy(const Qcow2State *s)
{
    return (s->header.compatible & QCOW2_COMPATIBLE_LAZY_REFCOUNTS) != 0;
}

static bool amend_check_data_file(const Qcow2State *s, const Qcow2Amend *a, GError **error)
{
    bool raw = (s->header.autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW) != 0;
    if (a->data_file != NULL && !qcow2_has_data_file(&s->header)) {
        return qcow2_amend_refuse(error, "data-file can only be set for images that use an "
                                         "external data file");
    }
    if (a->data_file != NULL && strlen(a->data_file) > QCOW2_BACKING_NAME_MAX) {
        return qcow2_amend_refuse(error, "The name of the data file has more than 1023 bytes");
    }
    if (a->data_file_raw == QCOW2_AMEND_ON && !raw) {
        return qcow2_amend_refuse(error, "data-file-raw cannot be set on existing images");
    }
    return true;
}

static bool amend_check_refcount_bits(const Qcow2State *s, const Qcow2Amend *a, unsigned version,
                                      GError **error)
{
    uint64_t bits = a->refcount_bits;
    if (!a->has_refcount_bits) {
        return true;
    }
    if (bits == 0 || bits > 64 || (bits & (bits - 1)) != 0) {
        return qcow2_amend_refuse(
            error, "Refcount width must be a power of two and may not exceed 64 bits");
    }
    if (version < 3 && bits != 16 && bits != (uint64_t)1 << s->header.refcount_order) {
        return qcow2_amend_refuse(error,
                                  "Refcount widths other than 16 bits require compatibility level "
                                  "1.1 or above (use compat=1.1 or greater)");
    }
    return true;
}

static bool amend_check_rest(const Qcow2State *s, const Qcow2Amend *a, unsigned version,
                             GError **error)
{
    if ((a->backing_file != NULL || a->backing_format != NULL) &&
        (g_strcmp0(a->backing_file, s->header.backing_name) != 0 ||
         g_strcmp0(a->backing_format, s->header.backing_format) != 0)) {
        return qcow2_amend_refuse(error, QCOW2_AMEND_NO_BACKING);
    }
    if (a->lazy_refcounts == QCOW2_AMEND_ON && version < 3 && !amend_is_lazy(s)) {
        return qcow2_amend_refuse(error,
                                  "Lazy refcounts only supported with compatibility level 1.1 and "
                                  "above (use compat=1.1 or greater)");
    }
    return true;
}

static coroutine_fn RUNS_IN_IOTHREAD bool amend_check(BlockNode *n, const Qcow2Amend *a,
                                                      GError **error)
{
    const Qcow2State *s = n->state;
    unsigned version = a->version != 0 ? a->version : s->header.version;
    if (!amend_check_data_file(s, a, error) || !amend_check_refcount_bits(s, a, version, error) ||
        !amend_check_rest(s, a, version, error)) {
        return false;
    }
    if (version < s->header.version && !qcow2_co_check_downgrade(n, a, error)) {
        return false;
    }
    return !a->has_refcount_bits ||
           qcow2_co_check_refcount_order(n, (unsigned)__builtin_ctzll(a->refcount_bits), error);
}

/* ---- what only the header has ---- */

static coroutine_fn RUNS_IN_IOTHREAD bool amend_data_file(BlockNode *n, const Qcow2Amend *a,
                                                          GError **error)
{
    Qcow2State *s = n->state;
    Qcow2Header h = s->header;
    if (a->data_file == NULL && a->data_file_raw != QCOW2_AMEND_OFF) {
        return true;
    }
    if (a->data_file != NULL) {
        h.data_file = a->data_file[0] != '\0' ? (char *)(uintptr_t)a->data_file : NULL;
    }
    if (a->data_file_raw == QCOW2_AMEND_OFF) {
        h.autoclear &= ~QCOW2_AUTOCLEAR_DATA_FILE_RAW;
    }
    qcow2_co_commit_begin(&s->w);
    int ret = qcow2_co_write_header_cluster(n, &h);
    if (ret == 0) {
        s->header.autoclear = h.autoclear;
    }
    if (ret == 0 && a->data_file != NULL) {
        g_free(s->header.data_file);
        s->header.data_file = g_strdup(h.data_file);
    }
    qcow2_commit_end(&s->w);
    return ret == 0 || qcow2_amend_failed(error, "Failed to update the header", ret);
}

/* The image has no dirty bit meanwhile. */
static coroutine_fn RUNS_IN_IOTHREAD bool amend_lazy(BlockNode *n, const Qcow2Amend *a,
                                                     GError **error)
{
    Qcow2State *s = n->state;
    uint8_t sector[QCOW2_SECTOR];
    bool on = a->lazy_refcounts == QCOW2_AMEND_ON;
    if (a->lazy_refcounts == QCOW2_AMEND_KEEP || on == amend_is_lazy(s)) {
        return true;
    }
    int ret = qcow2_co_finish_writer(n);
    if (ret == 0) {
        qcow2_co_commit_begin(&s->w);
        s->header.compatible ^= QCOW2_COMPATIBLE_LAZY_REFCOUNTS;
        qcow2_header_encode(&s->header, s->w.sector, sector);
        ret = qcow2_co_write_header(n, sector);
        if (ret == 0) {
            ret = block_node_co_flush(n->file);
        }
        qcow2_commit_end(&s->w);
    }
    return ret == 0 || qcow2_amend_failed(error, "Failed to update the header", ret);
}

static coroutine_fn RUNS_IN_IOTHREAD bool amend_apply(BlockNode *n, const Qcow2Amend *a,
                                                      GError **error)
{
    const Qcow2State *s = n->state;
    unsigned order = s->header.refcount_order;
    bool lower = a->version != 0 && a->version < s->header.version;
    if (a->has_refcount_bits) {
        order = (unsigned)__builtin_ctzll(a->refcount_bits);
    }
    if (a->version > s->header.version && !qcow2_co_upgrade(n, error)) {
        return false;
    }
    if (order != s->header.refcount_order && !qcow2_co_change_refcount_order(n, order, error)) {
        return false;
    }
    if (!amend_data_file(n, a, error) || !amend_lazy(n, a, error)) {
        return false;
    }
    return !lower || a->size != 0 || qcow2_co_downgrade(n, error);
}

bool qcow2_co_amend(BlockNode *n, const Qcow2Amend *a, GError **error)
{
    const Qcow2State *s = n->state;
    block_node_begin(n);
    bool ok = s->w.corrupt ? qcow2_amend_failed(error, "The image is corrupt", -EIO)
                           : amend_check(n, a, error) && amend_apply(n, a, error);
    block_node_end(n);
    return ok;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The table of exports. All in main, except what an export says about itself. */
#include <string.h>
#include "block/nbd/nbd_int.h"
#include "block/node.h"
#include "block/trace_events.h"

static GPtrArray *exports;        /* NbdExport; NULL: none */
static uint64_t export_serial;    /* of the last one */
static GPtrArray *exports_ending; /* NbdExport: no longer in the table, not yet freed; NULL: none */
static CoQueue export_waiters;    /* wait for exports to go */

/* ---- finding ---- */

NbdExport *nbd_export_at(unsigned index)
{
    return exports != NULL && index < exports->len ? exports->pdata[index] : NULL;
}

NbdExport *nbd_export_find(const char *name, size_t length)
{
    NbdExport *e;
    for (unsigned i = 0; (e = nbd_export_at(i)) != NULL; i++) {
        if (!e->removing && strlen(e->name) == length && memcmp(e->name, name, length) == 0) {
            return e;
        }
    }
    return NULL;
}

static RUNS_IN_MAIN NbdExport *export_find_id(const char *id)
{
    NbdExport *e;
    for (unsigned i = 0; (e = nbd_export_at(i)) != NULL; i++) {
        if (strcmp(e->id, id) == 0) {
            return e;
        }
    }
    return NULL;
}

bool nbd_export_info(unsigned index, NbdExportInfo *info)
{
    const NbdExport *e = nbd_export_at(index);
    if (e != NULL) {
        *info = (NbdExportInfo){
            .id = e->id, .node = block_node_name(blk_root(e->blk)), .removing = e->removing};
    }
    return e != NULL;
}

uint16_t nbd_export_flags(const NbdExport *e, const NbdSession *s)
{
    unsigned flags = e->flags;
    if (s->mode >= NBD_MODE_STRUCTURED) {
        flags |= NBD_FLAG_SEND_DF;
    }
    if (s->mode >= NBD_MODE_EXTENDED && s->contexts != 0 && s->contexts_serial == e->serial) {
        flags |= NBD_FLAG_BLOCK_STATUS_PAYLOAD;
    }
    return (uint16_t)flags;
}

/* ---- adding ---- */

/* @text is the user's. */
static bool export_refuse(GError **error, const char *before, const char *text, const char *after)
{
    g_autofree char *excerpt = opt_excerpt(text);
    g_set_error(error, NBD_ERROR, NBD_ERROR_EXPORT, "%s'%s'%s", before, excerpt, after);
    return false;
}

static RUNS_IN_MAIN bool export_check(const NbdExportConfig *c, GError **error)
{
    if (!nbd_server_running()) {
        g_set_error(error, NBD_ERROR, NBD_ERROR_SERVER, "NBD server not running");
        return false;
    }
    if (export_find_id(c->id) != NULL) {
        return export_refuse(error, "Block export id ", c->id, " is already in use");
    }
    if (strlen(c->name) > NBD_STRING_MAX) {
        return export_refuse(error, "export name ", c->name, " too long");
    }
    if (c->description != NULL && strlen(c->description) > NBD_STRING_MAX) {
        return export_refuse(error, "description ", c->description, " too long");
    }
    if (nbd_export_find(c->name, strlen(c->name)) != NULL) {
        return export_refuse(error, "NBD server already has export named ", c->name, "");
    }
    if (c->writable && block_node_read_only(c->node)) {
        g_set_error(error, NBD_ERROR, NBD_ERROR_EXPORT, "Cannot export read-only node as writable");
        return false;
    }
    if (c->bitmap_count > NBD_EXPORT_BITMAPS_MAX) {
        g_set_error(error, NBD_ERROR, NBD_ERROR_EXPORT, "an export has at most %u bitmaps",
                    NBD_EXPORT_BITMAPS_MAX);
        return false;
    }
    return true;
}

/* The node at or below @n that has the bitmap, where what @n shows is looked up; NULL: none. */
static RUNS_IN_MAIN BlockNode *export_find_bitmap(BlockNode *n, const char *name)
{
    while (n != NULL) {
        for (unsigned i = 0; i < block_dirty_bitmap_count(n); i++) {
            BlockDirtyBitmapInfo info;
            block_dirty_bitmap_info(n, i, &info);
            if (strcmp(info.name, name) == 0) {
                return n;
            }
        }
        BlockNodeInfo info;
        block_node_info(n, &info);
        n = info.filtered != NULL ? info.filtered : info.backing;
    }
    return NULL;
}

static RUNS_IN_MAIN bool export_add_bitmap(NbdExport *e, const NbdExportConfig *c,
                                           const NbdExportBitmap *wanted, GError **error)
{
    BlockNode *n = wanted->node != NULL ? block_node_find(wanted->node)
                                        : export_find_bitmap(c->node, wanted->name);
    if (wanted->node != NULL && n == NULL) {
        return export_refuse(error, "Cannot find device='' nor node-name=", wanted->node, "");
    }
    if (n == NULL) {
        return export_refuse(error, "Bitmap ", wanted->name, " is not found");
    }
    if (block_node_home(n) != block_node_home(c->node)) {
        return export_refuse(error, "Bitmap ", wanted->name, " is of a node in another iothread");
    }
    BlockDirtyBitmap *b = block_dirty_bitmap_use(n, wanted->name, error);
    if (b == NULL) {
        return false;
    }
    if (!c->writable && !block_node_read_only(n) && block_dirty_bitmap_enabled(b)) {
        block_dirty_bitmap_unuse(b);
        return export_refuse(error, "Enabled bitmap ", wanted->name,
                             " incompatible with readonly export");
    }
    block_node_ref(n);
    e->bitmaps[e->bitmap_count++] =
        (NbdBitmap){.node = n, .bitmap = b, .name = g_strdup(wanted->name)};
    return true;
}

static coroutine_fn RUNS_IN_MAIN void export_co_free(NbdExport *e)
{
    for (unsigned i = 0; i < e->bitmap_count; i++) {
        block_dirty_bitmap_unuse(e->bitmaps[i].bitmap);
        block_co_unref(e->bitmaps[i].node);
        g_free(e->bitmaps[i].name);
    }
    g_free(e->bitmaps);
    blk_co_free(e->blk);
    g_free(e->id);
    g_free(e->name);
    g_free(e->description);
    g_free(e);
}

static RUNS_IN_MAIN uint16_t export_flags(bool writable)
{
    unsigned flags =
        NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_CACHE;
    /* All connections have one backend, so a flush of one is a flush of all. */
    flags |= nbd_server_max_connections() != 1 ? NBD_FLAG_CAN_MULTI_CONN : 0;
    flags |= writable ? NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO
                      : NBD_FLAG_READ_ONLY;
    return (uint16_t)flags;
}

bool nbd_export_co_add(const NbdExportConfig *c, GError **error)
{
    if (!export_check(c, error)) {
        return false;
    }
    g_autofree char *user = g_strdup_printf("export '%s'", c->id);
    BlockBackend *blk = blk_co_new_for(user, "writable=false", c->node, c->writable, error);
    if (blk == NULL) {
        return false;
    }
    if (!export_check(c, error)) { /* another export may have been added during the wait */
        blk_co_free(blk);
        return false;
    }
    NbdExport *e = g_new0(NbdExport, 1);
    *e = (NbdExport){.id = g_strdup(c->id),
                     .name = g_strdup(c->name),
                     .description = g_strdup(c->description),
                     .blk = blk,
                     .home = blk_home(blk),
                     .flags = export_flags(c->writable),
                     .allocation_depth = c->allocation_depth,
                     .bitmaps = g_new0(NbdBitmap, c->bitmap_count + 1),
                     .serial = ++export_serial,
                     .run = nbd_server_run()};
    blk_set_write_cache(blk, !c->writethrough);
    bool ok = true;
    for (unsigned i = 0; i < c->bitmap_count && ok; i++) {
        ok = export_add_bitmap(e, c, &c->bitmaps[i], error);
    }
    if (!ok) {
        export_co_free(e);
        return false;
    }
    if (exports == NULL) {
        exports = g_ptr_array_new();
        exports_ending = g_ptr_array_new();
        co_queue_init(&export_waiters);
    }
    g_ptr_array_add(exports, e);
    return true;
}

/* ---- removing ---- */

static void export_remove(void *opaque)
{
    NbdExport *e = opaque;
    void *host_opaque;
    enter_coroutine();
    enter_main();
    const NbdHost *host = nbd_host(&host_opaque);
    bool locks = host != NULL && host->co_operation_begin != NULL;
    if (locks) {
        host->co_operation_begin(host_opaque);
    }
    g_autofree char *id = g_strdup(e->id);
    g_ptr_array_remove(exports, e);
    g_ptr_array_add(exports_ending, e);
    export_co_free(e);
    g_ptr_array_remove(exports_ending, e);
    if (locks) {
        host->co_operation_end(host_opaque);
    }
    if (host != NULL && host->export_deleted != NULL) {
        host->export_deleted(host_opaque, id);
    }
    co_queue_wake_all(&export_waiters);
}

static RUNS_IN_MAIN void export_begin_remove(NbdExport *e)
{
    if (!e->removing) {
        e->removing = true;
        nbd_sessions_kill_of(e);
        if (e->sessions == 0) {
            co_start(nbd_main(), export_remove, e);
        }
    }
}

void nbd_export_enter(NbdExport *e)
{
    e->sessions++;
}

void nbd_export_leave(NbdExport *e)
{
    if (e->sessions == 0) {
        bug_abort("NBD export '%s' is left by a client that it does not have", e->id);
    }
    if (--e->sessions == 0 && e->removing) {
        co_start(nbd_main(), export_remove, e);
    }
}

bool nbd_export_remove(const char *id, bool hard, GError **error)
{
    NbdExport *e = export_find_id(id);
    if (e == NULL) {
        return export_refuse(error, "Export ", id, " is not found");
    }
    if (e->removing) {
        return export_refuse(error, "Export ", id, " is already shutting down");
    }
    if (!hard && e->sessions > 0) {
        return export_refuse(error, "export ", id, " still in use");
    }
    export_begin_remove(e);
    return true;
}

void nbd_exports_remove_all(void)
{
    NbdExport *e;
    for (unsigned i = 0; (e = nbd_export_at(i)) != NULL; i++) {
        export_begin_remove(e);
    }
}

static bool exports_have_run(const GPtrArray *list, unsigned run)
{
    bool found = false;
    for (unsigned i = 0; list != NULL && i < list->len && !found; i++) {
        found = ((const NbdExport *)list->pdata[i])->run <= run;
    }
    return found;
}

void nbd_exports_co_settle(unsigned run)
{
    while (exports_have_run(exports, run) || exports_have_run(exports_ending, run)) {
        co_queue_wait(&export_waiters, "the end of all exports");
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The driver: options, opening, closing, moving. */
#include <errno.h>
#include <stdarg.h>
#include "block/drivers.h"
#include "block/qcow2/qcow2_int.h"
#include "util/log.h"

#define OPEN_NS_PER_S ((int64_t)1000000000)

#define OPEN_OVERLAP(option, structure)                                                            \
    OPT_SPEC(Qcow2State, "overlap-check." option, OPT_ENUM, overlap.switches[structure],           \
             .help = "whether writes are compared with this structure", .def = "auto",             \
             .names = qcow2_overlap_switches)

static const OptSpec qcow2_options[] = {
    OPT_SPEC(Qcow2State, "l2-cache-size", OPT_SIZE, l2_cache_size,
             .help = "memory for L2 tables; default: enough for the disk, at most 32M",
             .max = (uint64_t)1 << 40),
    OPT_SPEC(Qcow2State, "l2-cache-entry-size", OPT_SIZE, l2_slice_size,
             .help = "part of an L2 table that is read at a time, a power of two; default: 4k or "
                     "the cluster size",
             .max = (uint64_t)1 << QCOW2_CLUSTER_BITS_MAX),
    OPT_SPEC(Qcow2State, "refcount-cache-size", OPT_SIZE, w.refcount_cache_size,
             .help = "memory for refcounts; default: 256k", .max = (uint64_t)1 << 40),
    OPT_SPEC(Qcow2State, "cache-clean-interval", OPT_U64, clean_interval_s,
             .help = "seconds after which unused parts of tables leave the memory; 0: never",
             .def = "600", .max = UINT32_MAX),
    OPT_SPEC(Qcow2State, "overlap-check", OPT_ENUM, overlap.check,
             .help = "metadata that writes of data are compared with", .def = "cached",
             .names = qcow2_overlap_templates),
    OPT_SPEC(Qcow2State, "overlap-check.template", OPT_ENUM, overlap.template,
             .help = "the same, where single structures are given too", .def = "cached",
             .names = qcow2_overlap_templates),
    OPEN_OVERLAP("main-header", QCOW2_OVERLAP_HEADER),
    OPEN_OVERLAP("active-l1", QCOW2_OVERLAP_ACTIVE_L1),
    OPEN_OVERLAP("active-l2", QCOW2_OVERLAP_ACTIVE_L2),
    OPEN_OVERLAP("refcount-table", QCOW2_OVERLAP_REFCOUNT_TABLE),
    OPEN_OVERLAP("refcount-block", QCOW2_OVERLAP_REFCOUNT_BLOCK),
    OPEN_OVERLAP("snapshot-table", QCOW2_OVERLAP_SNAPSHOT_TABLE),
    OPEN_OVERLAP("inactive-l1", QCOW2_OVERLAP_INACTIVE_L1),
    OPEN_OVERLAP("inactive-l2", QCOW2_OVERLAP_INACTIVE_L2),
    OPEN_OVERLAP("bitmap-directory", QCOW2_OVERLAP_BITMAP_DIRECTORY),
    {0},
};

static const char *const qcow2_children[] = {"data-file", "backing", NULL};

#define QCOW2_L2_CACHE_MAX ((uint64_t)32 << 20)
#define QCOW2_L2_SLICE 4096u

const char *qcow2_who(const BlockNode *n)
{
    const char *name = block_node_filename(n);
    return name != NULL ? name : n->name;
}

static int __attribute__((format(printf, 2, 0)))
open_report(const BlockNode *n, const char *format, va_list args)
{
    Qcow2State *s = n->state;
    if (!s->corrupt_logged) {
        g_autofree char *text = g_strdup_vprintf(format, args);
        log_warn("%s: the image is corrupt: %s; further reports about it are suppressed",
                 qcow2_who(n), text);
        s->corrupt_logged = true;
    }
    return -EIO;
}

int qcow2_corrupt(const BlockNode *n, const char *format, ...)
{
    Qcow2State *s = n->state;
    va_list args;
    va_start(args, format);
    int ret = open_report(n, format, args);
    va_end(args);
    s->w.corrupt = true;
    return ret;
}

int qcow2_damaged(const BlockNode *n, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int ret = open_report(n, format, args);
    va_end(args);
    return ret;
}

/* ---- reading the metadata, in the home ---- */

static coroutine_fn RUNS_IN_IOTHREAD int open_read(BlockNode *n, uint64_t offset, uint64_t bytes,
                                                   void *buffer, const char *what, GError **error)
{
    int ret = qcow2_co_read_table(n->file, offset, bytes, buffer);
    if (ret < 0) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN, "%s: reading %s: %s", qcow2_who(n), what,
                    g_strerror(-ret));
    }
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD bool open_load_header(BlockNode *n, GError **error)
{
    Qcow2State *s = n->state;
    uint64_t file_size = block_node_size(n->file);
    uint8_t begin[QCOW2_HEADER_V2_LENGTH] = {0};
    if (file_size < sizeof(begin)) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN,
                    "%s: Image is not in qcow2 format: it has only %" PRIu64 " bytes", qcow2_who(n),
                    file_size);
        return false;
    }
    if (open_read(n, 0, sizeof(begin), begin, "the qcow2 header", error) < 0) {
        return false;
    }
    uint64_t length = qcow2_header_begin(begin, qcow2_who(n), error);
    if (length == 0) {
        return false;
    }
    length = MIN(length, file_size);
    g_autofree uint8_t *bytes = g_malloc(length);
    return open_read(n, 0, length, bytes, "the qcow2 header", error) == 0 &&
           qcow2_header_parse(&s->header, bytes, length, file_size, qcow2_who(n), error);
}

static coroutine_fn RUNS_IN_IOTHREAD bool open_load_l1(BlockNode *n, GError **error)
{
    Qcow2State *s = n->state;
    uint32_t count = s->header.l1_size;
    g_autofree uint64_t *entries = g_new(uint64_t, MAX(count, 1));
    if (count > 0 && open_read(n, s->header.l1_offset, count * sizeof(uint64_t), entries,
                               "the L1 table", error) < 0) {
        return false;
    }
    qcow2_table_init(&s->l1, g_steal_pointer(&entries), count);
    return true;
}

static void open_release(Qcow2State *s)
{
    qcow2_bitmaps_free(s);
    qcow2_snapshots_free(s);
    qcow2_table_free(&s->l1);
    qcow2_header_clear(&s->header);
}

/* An image that was not closed after writing is repaired before it is written to. */
static coroutine_fn RUNS_IN_IOTHREAD bool open_repair(BlockNode *n, GError **error)
{
    Qcow2State *s = n->state;
    if (!qcow2_needs_repair(n)) {
        return true;
    }
    if (!qcow2_co_repair(n, error)) {
        return false;
    }
    qcow2_header_clear(&s->header);
    return open_load_header(n, error);
}

/* A disk whose bitmaps cannot be loaded can be read. */
static coroutine_fn RUNS_IN_IOTHREAD bool open_load_bitmaps(BlockNode *n, GError **error)
{
    Qcow2State *s = n->state;
    g_autoptr(GError) local = NULL;
    if (qcow2_co_load_bitmaps(n, &local)) {
        return true;
    }
    if (!n->flags.read_only) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    log_warn("%s; the image is opened without its dirty bitmaps", local->message);
    block_bitmap_drop(n);
    qcow2_bitmaps_free(s);
    s->bitmaps.broken = true;
    return true;
}

typedef struct OpenLoad {
    BlockNode *node;
    bool ok;
    GError *error;
} OpenLoad;

static void open_load(void *opaque)
{
    OpenLoad *o = opaque;
    enter_coroutine();
    enter_iothread(o->node->home);
    o->ok = open_load_header(o->node, &o->error) && open_repair(o->node, &o->error) &&
            open_load_l1(o->node, &o->error) && qcow2_co_load_snapshots(o->node, &o->error) &&
            open_load_bitmaps(o->node, &o->error);
    if (!o->ok) {
        open_release(o->node->state);
    }
}

/* ---- caches ---- */

static bool open_check_slice(const BlockNode *n, uint64_t cluster, GError **error)
{
    const Qcow2State *s = n->state;
    uint64_t size = s->l2_slice_size;
    if (size != 0 && (size < 512 || (size & (size - 1)) != 0 || size > cluster)) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "%s: l2-cache-entry-size must be a power of two between 512 and the cluster "
                    "size, %" PRIu64,
                    qcow2_who(n), cluster);
        return false;
    }
    return true;
}

static bool open_caches(BlockNode *n, GError **error)
{
    Qcow2State *s = n->state;
    uint64_t cluster = qcow2_cluster_size(&s->header);
    uint64_t clusters = (s->header.size >> s->header.cluster_bits) + 1;
    uint64_t needed = clusters * qcow2_l2_entry_length(&s->header);
    if (!open_check_slice(n, cluster, error)) {
        return false;
    }
    size_t slice = s->l2_slice_size != 0 ? s->l2_slice_size : MIN(cluster, QCOW2_L2_SLICE);
    needed = block_align_up(needed, slice);
    uint64_t most = s->l2_cache_size != 0 ? s->l2_cache_size : QCOW2_L2_CACHE_MAX;
    qcow2_cache_init(&s->l2, MIN(needed, most), slice, cluster, true);
    return true;
}

/* ---- cleaning ---- */

static void open_clean(void *opaque)
{
    BlockNode *n = opaque;
    Qcow2State *s = n->state;
    enter_iothread(n->home);
    qcow2_cache_clean(&s->l2);
    aio_timer_arm(&s->clean_timer,
                  aio_now_ns(n->home) + (int64_t)s->clean_interval_s * OPEN_NS_PER_S);
}

static void open_start_timer(void *opaque)
{
    BlockNode *n = opaque;
    Qcow2State *s = n->state;
    enter_coroutine();
    enter_iothread(n->home);
    aio_timer_init(&s->clean_timer, n->home, open_clean, n);
    aio_timer_arm(&s->clean_timer,
                  aio_now_ns(n->home) + (int64_t)s->clean_interval_s * OPEN_NS_PER_S);
}

static void open_stop_timer(void *opaque)
{
    Qcow2State *s = opaque;
    enter_coroutine();
    enter_iothread(s->clean_timer.ctx);
    aio_timer_disarm(&s->clean_timer);
}

/* ---- opening and closing ---- */

static void open_load_writer(void *opaque)
{
    OpenLoad *o = opaque;
    enter_coroutine();
    enter_iothread(o->node->home);
    o->ok = qcow2_co_load_writer(o->node, &o->error);
}

/* Makes the node ready to write; it may be read-only now. */
static coroutine_fn RUNS_IN_MAIN bool open_co_writer(BlockNode *n, GError **error)
{
    OpenLoad o = {.node = n};
    co_call_in(n->home, open_load_writer, &o);
    if (!o.ok) {
        g_propagate_error(error, o.error);
    }
    return o.ok;
}

static void open_set_limits(BlockNode *n)
{
    const Qcow2State *s = n->state;
    uint64_t cluster = qcow2_cluster_size(&s->header);
    bool extended = qcow2_has_extended_l2(&s->header);
    n->limits.zero_alignment = (uint32_t)(extended ? cluster / QCOW2_SUBCLUSTERS : cluster);
}

static coroutine_fn RUNS_IN_MAIN bool qcow2_co_open(BlockNode *n, GError **error)
{
    Qcow2State *s = n->state;
    OpenLoad o = {.node = n};
    if (!qcow2_open_overlap(n, error)) {
        return false;
    }
    co_call_in(n->home, open_load, &o);
    if (!o.ok) {
        g_propagate_error(error, o.error);
        return false;
    }
    if (!qcow2_co_open_children(n, error) || !open_caches(n, error)) {
        open_release(s);
        return false;
    }
    if (!n->flags.read_only && !open_co_writer(n, error)) {
        qcow2_cache_destroy(&s->l2);
        open_release(s);
        return false;
    }
    co_queue_init(&s->decompress_waiters);
    co_queue_init(&s->compress_waiters);
    open_set_limits(n);
    qcow2_publish_info(n);
    atomic_store(&n->size, block_align_down(s->header.size, BLOCK_SECTOR_SIZE));
    if (s->clean_interval_s != 0) {
        co_call_in(n->home, open_start_timer, n);
    }
    return true;
}

typedef struct OpenFinish {
    BlockNode *node;
    int ret;
} OpenFinish;

static void open_finish_writer(void *opaque)
{
    OpenFinish *f = opaque;
    enter_coroutine();
    enter_iothread(f->node->home);
    f->ret = qcow2_co_finish_writer(f->node);
}

static coroutine_fn RUNS_IN_MAIN void qcow2_co_close(BlockNode *n)
{
    Qcow2State *s = n->state;
    if (s->clean_interval_s != 0) {
        co_call_in(n->home, open_stop_timer, s);
    }
    if (s->w.loaded && !n->flags.read_only) { /* else it was completed when it became read-only */
        OpenFinish f = {.node = n};
        co_call_in(n->home, open_finish_writer, &f);
        if (f.ret < 0) {
            log_warn("%s: writing the metadata of the image: %s; what was not flushed is lost",
                     qcow2_who(n), g_strerror(-f.ret));
        }
    }
    qcow2_writer_free(&s->w);
    qcow2_compressors_free(&s->compressors);
    qcow2_cache_destroy(&s->l2);
    open_release(s);
}

/* ---- moving and reopening ---- */

static coroutine_fn RUNS_IN_MAIN bool qcow2_co_move_prepare(BlockNode *n, AioContext *home,
                                                            void **state, GError **error)
{
    (void)home;
    (void)error;
    *state = n->home;
    return true;
}

static coroutine_fn RUNS_IN_MAIN void qcow2_co_move_finish(BlockNode *n, void *state,
                                                           bool committed)
{
    Qcow2State *s = n->state;
    AioContext *old = state;
    if (committed && s->clean_interval_s != 0) {
        co_call_in(old, open_stop_timer, s);
        co_call_in(n->home, open_start_timer, n);
    }
}

/* A node that becomes read-only completes its changes on disk first; they are valid also if the
 * reopen fails. */
static coroutine_fn RUNS_IN_MAIN bool qcow2_co_reopen_prepare(BlockNode *n, BlockReopen *r,
                                                              GError **error)
{
    const Qcow2State *s = n->state, *new_state = r->state;
    if (new_state->l2_cache_size != s->l2_cache_size ||
        new_state->l2_slice_size != s->l2_slice_size ||
        new_state->w.refcount_cache_size != s->w.refcount_cache_size ||
        new_state->clean_interval_s != s->clean_interval_s ||
        memcmp(&new_state->overlap, &s->overlap, offsetof(Qcow2Overlap, structures)) != 0) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "node '%s': a reopen cannot change the options of driver qcow2; repeat them",
                    n->name);
        return false;
    }
    if (!r->flags.read_only) {
        if (s->bitmaps.broken) {
            g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN,
                        "node '%s': the dirty bitmaps of its image could not be loaded", n->name);
            return false;
        }
        return open_co_writer(n, error);
    }
    if (n->snapshotting) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IN_USE,
                    "node '%s': an operation on its internal snapshots is running", n->name);
        return false;
    }
    if (s->w.loaded && !n->flags.read_only) {
        OpenFinish f = {.node = n};
        co_call_in(n->home, open_finish_writer, &f);
        if (f.ret < 0) {
            g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN,
                        "node '%s': writing the metadata of the image: %s", n->name,
                        g_strerror(-f.ret));
            return false;
        }
    }
    return true;
}

const BlockDriver block_driver_qcow2 = {
    .name = "qcow2",
    .help = "a qcow2 image",
    .state_size = sizeof(Qcow2State),
    .options = qcow2_options,
    .has_file = true,
    .children = qcow2_children,
    .co_open = qcow2_co_open,
    .child_changed = qcow2_child_changed,
    .co_close = qcow2_co_close,
    .co_preadv = qcow2_co_preadv,
    .co_block_status = qcow2_co_block_status,
    .co_image_info = qcow2_co_image_info,
    .co_change_backing = qcow2_co_change_backing,
    .co_make_empty = qcow2_co_make_empty,
    .co_view_snapshot = qcow2_co_view_snapshot,
    .snapshots = &qcow2_snapshot_driver,
    .bitmaps = &qcow2_bitmap_driver,
    .co_pwritev = qcow2_co_pwritev,
    .co_pwrite_compressed = qcow2_co_pwrite_compressed,
    .co_write_zeroes = qcow2_co_write_zeroes,
    .co_discard = qcow2_co_discard,
    .co_preallocate = qcow2_co_preallocate,
    .co_truncate = qcow2_co_truncate,
    .co_flush = qcow2_co_flush,
    .co_complete = qcow2_co_finish_writer,
    .co_reopen_prepare = qcow2_co_reopen_prepare,
    .co_move_prepare = qcow2_co_move_prepare,
    .co_move_finish = qcow2_co_move_finish,
};

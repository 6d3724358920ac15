/* SPDX-License-Identifier: Apache-2.0 */
/* The check and the repair of an image: the order of things. */
#include "block/qcow2/qcow2_check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include "block/qcow2/qcow2_check_int.h"
#include "block/qcow2/qcow2_int.h"
#include "block/qcow2/qcow2_refcount_width.h"

/* Clusters behind the file, besides as many as it has, where a rebuild finds a place. */
#define CHECK_BEYOND ((uint64_t)1 << 20)

void qcow2_check_report(const Qcow2Check *c, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *line = g_strdup_vprintf(format, args);
    va_end(args);
    c->request->report(c->request->opaque, line);
}

int qcow2_check_co_read(const Qcow2Check *c, uint64_t offset, uint64_t bytes, void *buffer)
{
    struct iovec iov = {buffer, bytes};
    if (offset > INT64_MAX - bytes) {
        return -EIO;
    }
    return bytes > 0 ? qcow2_co_read_child(c->file, offset, bytes, &iov, 1) : 0;
}

/* ---- beginning and end ---- */

static coroutine_fn RUNS_IN_IOTHREAD bool check_co_load_header(Qcow2Check *c)
{
    Qcow2CheckRequest *r = c->request;
    uint64_t length = MIN(c->file_size, (uint64_t)1 << QCOW2_CLUSTER_BITS_MAX);
    int ret = qcow2_check_co_read(c, 0, length, c->buffer);
    if (ret < 0) {
        g_set_error(&r->error, BLOCK_ERROR, BLOCK_ERROR_OPEN, "%s: reading the qcow2 header: %s",
                    r->who, g_strerror(-ret));
        return false;
    }
    return qcow2_header_parse(&c->header, c->buffer, length, c->file_size, r->who, &r->error);
}

static void check_free_counts(Qcow2Check *c)
{
    qcow2_counts_free(&c->counts);
    qcow2_counts_free(&c->l2_tables);
    qcow2_counts_free(&c->active_l2);
    qcow2_counts_free(&c->metadata);
    c->memory = 0;
    g_clear_pointer(&c->refcount_table, g_free);
}

static RUNS_IN_IOTHREAD int check_prepare(Qcow2Check *c)
{
    const Qcow2Header *h = &c->header;
    c->cluster_size = qcow2_cluster_size(h);
    c->file_size = block_align_up(block_node_size(c->file), BLOCK_SECTOR_SIZE);
    c->clusters = block_align_up(c->file_size, c->cluster_size) >> h->cluster_bits;
    c->result->total_clusters =
        block_align_up(block_align_down(h->size, BLOCK_SECTOR_SIZE), c->cluster_size) >>
        h->cluster_bits;
    if (c->clusters > QCOW2_CHECK_CLUSTERS_MAX) {
        c->result->check_errors++;
        return -EFBIG;
    }
    uint64_t size = c->clusters + 1; /* a reference to the last cluster can reach beyond its end */
    uint64_t beyond = (c->fix & QCOW2_FIX_ERRORS) != 0 ? c->clusters + CHECK_BEYOND : 0;
    bool ok = qcow2_counts_init(&c->counts, size + beyond, qcow2_refcount_max(h->refcount_order)) &&
              qcow2_counts_init(&c->l2_tables, size, UINT32_MAX) &&
              qcow2_counts_init(&c->active_l2, size, UINT32_MAX) &&
              qcow2_counts_init(&c->metadata, size, 1);
    return ok ? 0 : -ENOMEM;
}

static void check_release(Qcow2Check *c)
{
    check_free_counts(c);
    g_array_unref(c->zeroes);
    qcow2_header_clear(&c->header);
    free(c->buffer);
}

/* Computes the refcounts. */
static coroutine_fn RUNS_IN_IOTHREAD int check_co_count(Qcow2Check *c)
{
    int ret = check_prepare(c);
    if (ret == 0) {
        ret = qcow2_check_co_load_refcount_table(c);
    }
    if (ret == 0) {
        ret = qcow2_check_mark_metadata(c, 0, c->cluster_size); /* the header */
    }
    if (ret == 0) {
        ret = qcow2_check_count(c, 0, c->cluster_size, 1);
    }
    if (ret == 0) {
        ret = qcow2_check_co_active_l1(c);
    }
    if (ret == 0) {
        ret = qcow2_check_co_snapshots(c);
    }
    if (ret == 0) {
        ret = qcow2_check_co_l2_tables(c);
    }
    if (ret == 0) {
        ret = qcow2_check_co_bitmaps(c);
    }
    return ret == 0 ? qcow2_check_co_refcount_blocks(c) : ret;
}

/* ---- the repair of refcounts ---- */

/* Replaces the refcount structures. The references are counted again, because the old structures are
 * leaked now, and those leaks are repaired without being counted as such. */
static coroutine_fn RUNS_IN_IOTHREAD int check_co_rebuild(Qcow2Check *c)
{
    Qcow2CheckResult before = *c->result;
    unsigned fix = c->fix;
    qcow2_check_report(c, "Rebuilding refcount structure");
    int ret = qcow2_check_co_rebuild(c);
    if (ret < 0) {
        return ret;
    }
    *c->result = (Qcow2CheckResult){0};
    check_free_counts(c);
    c->must_rebuild = false;
    c->fix = 0;
    ret = check_co_count(c);
    if (ret == 0) {
        c->fix = fix & QCOW2_FIX_LEAKS;
        ret = c->must_rebuild ? -EIO : qcow2_check_co_fix_refcounts(c);
        c->fix = fix;
    }
    Qcow2CheckResult *after = c->result;
    after->image_end = before.image_end;
    after->leaks_fixed = before.leaks_fixed + before.leaks - MIN(before.leaks, after->leaks);
    after->corruptions_fixed =
        before.corruptions_fixed + before.corruptions - MIN(before.corruptions, after->corruptions);
    return ret;
}

/* @counted is the result before the comparison, which the repair repeats. */
static coroutine_fn RUNS_IN_IOTHREAD int check_co_fix(Qcow2Check *c,
                                                      const Qcow2CheckResult *counted)
{
    if (c->must_rebuild && (c->fix & QCOW2_FIX_ERRORS) != 0) {
        return check_co_rebuild(c);
    }
    if (c->must_rebuild) {
        qcow2_check_report(c, "ERROR need to rebuild refcount structures");
        return -EIO;
    }
    if (c->result->leaks == counted->leaks && c->result->corruptions == counted->corruptions) {
        return 0;
    }
    c->result->leaks = counted->leaks;
    c->result->corruptions = counted->corruptions;
    return qcow2_check_co_fix_refcounts(c);
}

/* ---- the check ---- */

static coroutine_fn RUNS_IN_IOTHREAD int check_co_all(Qcow2Check *c)
{
    int ret = check_co_count(c);
    if (ret == 0) {
        ret = qcow2_check_co_fix_zeroes(c);
    }
    Qcow2CheckResult counted = *c->result;
    if (ret == 0) {
        ret = qcow2_check_co_compare(c);
    }
    if (ret == 0 && c->fix != 0) {
        ret = check_co_fix(c, &counted);
        qcow2_check_overlaps(c);
    }
    if (ret == 0) {
        ret = qcow2_check_co_copied(c);
    }
    if (ret == 0) {
        ret = qcow2_check_co_rewrite_snapshots(c);
    }
    c->result->corruptions += c->overlaps;
    if (ret == 0 && c->fix != 0 && c->result->check_errors == 0 && c->result->corruptions == 0) {
        ret = qcow2_check_co_mark_clean(c);
    }
    return ret;
}

int qcow2_co_check(Qcow2CheckRequest *r)
{
    Qcow2Check c = {.request = r,
                    .result = &r->result,
                    .file = r->file,
                    .fix = r->fix,
                    .zeroes = g_array_new(false, false, sizeof(Qcow2CheckZero)),
                    .file_size = block_align_up(block_node_size(r->file), BLOCK_SECTOR_SIZE)};
    r->result = (Qcow2CheckResult){0};
    c.buffer = aligned_alloc(BLOCK_MEMORY_ALIGNMENT_MAX, QCOW2_CHECK_BUFFER);
    int ret = -ENOMEM;
    if (c.buffer != NULL) {
        ret = check_co_load_header(&c) ? check_co_all(&c) : -EINVAL;
    }
    check_release(&c);
    return ret;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/snapshot/rewind_disks.h"

#include <string.h>
#include "block/chain/external_snapshot.h"
#include "block/graph.h"
#include "util/log.h"
#include "util/state/state.h"
#include "vmm/backends/drive_snapshot.h"

#define REWIND_COPY_BYTES (UINT64_C(1) << 20)
#define REWIND_COPY_ALIGN 4096u
#define REWIND_USER "the rewind point"
/* What others may do with a node of the point: no job, snapshot, resize or reopen begins. */
#define REWIND_SHARES (BLOCK_USE_ALL & ~(unsigned)BLOCK_USE_GRAPH)

typedef struct RewindDisk {
    char *name;                 /* of the drive, for errors */
    BlockNode *source;          /* reference */
    BlockNode *overlay;         /* reference */
    ExternalSnapshot *inserted; /* NULL: it is not */
    BlockEdge *uses[2];         /* while inserted: of source and overlay */
    int ret;                    /* of the part in the home */
} RewindDisk;

struct RewindDisks {
    GPtrArray *disks;  /* RewindDisk */
    GHashTable *shown; /* after insert: of all drives, of the nodes that they show */
};

/* ---- which disks ---- */

static coroutine_fn RUNS_IN_MAIN bool rewind_disk_co_open(RewindDisks *d, const BlockBackend *blk,
                                                          GError **error)
{
    BlockNode *source = blk_root(blk);
    if (!block_node_check_no_filter(source, error) || !block_node_check_no_job(source, error)) {
        return false;
    }
    RewindDisk *disk = g_new0(RewindDisk, 1);
    g_ptr_array_add(d->disks, disk);
    block_node_ref(source);
    disk->source = source;
    disk->name = g_strdup(blk_name(blk));
    disk->overlay = drive_co_new_overlay("x-rewind-point", source, error);
    if (disk->overlay == NULL) {
        g_prefix_error(error, "drive '%s': ", disk->name);
        return false;
    }
    return true;
}

RewindDisks *rewind_disks_co_open(GError **error)
{
    RewindDisks *d = g_new0(RewindDisks, 1);
    d->disks = g_ptr_array_new();
    d->shown = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    unsigned count;
    g_autofree BlockBackend **list = blk_list_drives(&count);
    for (unsigned i = 0; i < count; i++) {
        if (!blk_read_only(list[i]) && !rewind_disk_co_open(d, list[i], error)) {
            rewind_disks_co_free(d);
            return NULL;
        }
    }
    return d;
}

static coroutine_fn RUNS_IN_MAIN void rewind_disk_co_unuse(RewindDisk *disk)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(disk->uses); i++) {
        block_user_co_free(g_steal_pointer(&disk->uses[i]));
    }
}

void rewind_disks_co_free(RewindDisks *d)
{
    if (d == NULL) {
        return;
    }
    for (unsigned i = 0; i < d->disks->len; i++) {
        RewindDisk *disk = d->disks->pdata[i];
        if (disk->inserted != NULL) {
            log_error("drive '%s' stays on a temporary overlay, and loses it when skiff ends",
                      disk->name);
            rewind_disk_co_unuse(disk);
            external_snapshot_co_end(disk->inserted, false);
        }
        if (disk->overlay != NULL) {
            block_co_unref(disk->overlay);
        }
        block_co_unref(disk->source);
        g_free(disk->name);
        g_free(disk);
    }
    g_ptr_array_unref(d->disks);
    g_hash_table_unref(d->shown);
    g_free(d);
}

unsigned rewind_disks_count(const RewindDisks *d)
{
    return d->disks->len;
}

/* ---- in the graph ---- */

static coroutine_fn RUNS_IN_MAIN bool rewind_disk_co_use(RewindDisk *disk, GError **error)
{
    BlockNode *nodes[] = {disk->source, disk->overlay};
    for (unsigned i = 0; i < G_N_ELEMENTS(nodes); i++) {
        disk->uses[i] =
            block_user_co_new(nodes[i], REWIND_USER, BLOCK_USE_GRAPH, REWIND_SHARES, error);
        if (disk->uses[i] == NULL) {
            return false;
        }
        disk->uses[i]->awaited = true; /* drained sections cover the nodes */
    }
    return true;
}

/* The overlay is empty. Whether it is taken out. */
static coroutine_fn RUNS_IN_MAIN bool rewind_disk_co_take_out(RewindDisk *disk)
{
    if (disk->inserted == NULL) {
        return true;
    }
    rewind_disk_co_unuse(disk);
    external_snapshot_co_undo(disk->inserted);
    if (disk->overlay->backing != NULL) {
        return false;
    }
    external_snapshot_co_end(g_steal_pointer(&disk->inserted), false);
    return true;
}

static coroutine_fn RUNS_IN_MAIN bool rewind_disk_co_put_in(RewindDisk *disk, GError **error)
{
    ExternalSnapshot *s = external_snapshot_co_begin_node(disk->source, disk->overlay, error);
    if (s == NULL) {
        return false;
    }
    if (!external_snapshot_co_insert(s, error)) {
        external_snapshot_co_end(s, false);
        return false;
    }
    disk->inserted = s;
    return rewind_disk_co_use(disk, error);
}

static RUNS_IN_MAIN const char *rewind_disk_shows(const BlockBackend *blk)
{
    return block_node_name(block_node_below_jobs(blk_root(blk)));
}

static RUNS_IN_MAIN void rewind_disks_note(RewindDisks *d)
{
    unsigned count;
    g_autofree BlockBackend **list = blk_list_drives(&count);
    for (unsigned i = 0; i < count; i++) {
        g_hash_table_insert(d->shown, g_strdup(blk_name(list[i])),
                            g_strdup(rewind_disk_shows(list[i])));
    }
}

bool rewind_disks_co_insert(RewindDisks *d, const VmStopped *token, GError **error)
{
    g_assert(token != NULL && token->count > 0);
    for (unsigned i = 0; i < d->disks->len; i++) {
        RewindDisk *disk = d->disks->pdata[i];
        if (!rewind_disk_co_put_in(disk, error)) {
            g_prefix_error(error, "drive '%s': ", disk->name);
            rewind_disks_co_remove(d, token, NULL);
            return false;
        }
    }
    rewind_disks_note(d);
    return true;
}

bool rewind_disks_co_remove(RewindDisks *d, const VmStopped *token, GError **error)
{
    bool all = true;
    g_assert(token != NULL && token->count > 0);
    for (unsigned i = 0; i < d->disks->len; i++) {
        RewindDisk *disk = d->disks->pdata[i];
        if (!rewind_disk_co_take_out(disk) && all) {
            all = false;
            g_set_error(error, STATE_ERROR, STATE_ERROR_MACHINE,
                        "drive '%s': its temporary overlay, node '%s', cannot be taken out now",
                        disk->name, block_node_name(disk->overlay));
        }
    }
    return all;
}

bool rewind_disks_check(const RewindDisks *d, GError **error)
{
    unsigned count;
    g_autofree BlockBackend **list = blk_list_drives(&count);
    for (unsigned i = 0; i < count; i++) {
        const char *name = rewind_disk_shows(list[i]);
        const char *then = g_hash_table_lookup(d->shown, blk_name(list[i]));
        if (g_strcmp0(name, then) != 0) {
            g_set_error(error, STATE_ERROR, STATE_ERROR_MACHINE,
                        "drive '%s' shows node '%s', as it did not at the rewind point",
                        blk_name(list[i]), name);
            return false;
        }
    }
    if (count != g_hash_table_size(d->shown)) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_MACHINE,
                    "the machine has %u drives, and had %u at the rewind point", count,
                    g_hash_table_size(d->shown));
        return false;
    }
    return true;
}

/* ---- what overlays hold ---- */

static void rewind_empty_at_home(void *opaque)
{
    RewindDisk *disk = opaque;
    enter_coroutine();
    enter_iothread(block_node_home(disk->overlay));
    disk->ret = block_node_co_make_empty(disk->overlay);
}

static coroutine_fn RUNS_IN_IOTHREAD int rewind_co_copy_range(const RewindDisk *disk, uint8_t *data,
                                                              uint64_t at, const BlockStatus *s)
{
    if ((s->flags & BLOCK_STATUS_ALLOCATED) == 0 || s->depth != 0) {
        return 0;
    }
    if ((s->flags & BLOCK_STATUS_ZERO) != 0) {
        return block_node_co_write_zeroes(disk->source, at, s->bytes, BLOCK_REQ_MAY_UNMAP);
    }
    struct iovec iov = {data, s->bytes};
    int ret = block_node_co_preadv(disk->overlay, at, s->bytes, &iov, 1);
    return ret == 0 ? block_node_co_pwritev(disk->source, at, s->bytes, &iov, 1, 0) : ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int rewind_co_copy(const RewindDisk *disk, uint8_t *data)
{
    uint64_t size = block_node_size(disk->source), at = 0;
    int ret = 0;
    while (at < size && ret == 0) {
        BlockStatus s = {.bytes = 0};
        ret = block_node_co_block_status(disk->overlay, at, MIN(size - at, REWIND_COPY_BYTES),
                                         false, &s);
        if (ret < 0 || s.bytes == 0) {
            break;
        }
        ret = rewind_co_copy_range(disk, data, at, &s);
        at += s.bytes;
    }
    return ret;
}

static void rewind_commit_at_home(void *opaque)
{
    RewindDisk *disk = opaque;
    enter_coroutine();
    enter_iothread(block_node_home(disk->overlay));
    uint8_t *data = g_aligned_alloc(1, REWIND_COPY_BYTES, REWIND_COPY_ALIGN);
    block_node_begin(disk->source);
    disk->ret = rewind_co_copy(disk, data);
    if (disk->ret == 0) {
        disk->ret = block_node_co_flush(disk->source);
    }
    block_node_end(disk->source);
    g_aligned_free(data);
    if (disk->ret == 0) {
        disk->ret = block_node_co_make_empty(disk->overlay);
    }
}

/* In a drained section: exports may use the disk while the VM is stopped. */
static coroutine_fn RUNS_IN_MAIN bool rewind_disks_co_call(RewindDisks *d, CoroutineEntry *fn,
                                                           const char *what, GError **error)
{
    for (unsigned i = 0; i < d->disks->len; i++) {
        RewindDisk *disk = d->disks->pdata[i];
        BlockNode *nodes[] = {disk->overlay, disk->source};
        if (disk->inserted == NULL) {
            continue;
        }
        BlockSection *section = block_nodes_co_drained_begin(nodes, G_N_ELEMENTS(nodes));
        co_call_in(block_node_home(disk->overlay), fn, disk);
        block_nodes_co_drained_end(section);
        if (disk->ret < 0) {
            g_set_error(error, STATE_ERROR, STATE_ERROR_MACHINE, "drive '%s': %s: %s", disk->name,
                        what, g_strerror(-disk->ret));
            return false;
        }
    }
    return true;
}

bool rewind_disks_co_empty(RewindDisks *d, const VmStopped *token, GError **error)
{
    g_assert(token != NULL && token->count > 0);
    return rewind_disks_co_call(d, rewind_empty_at_home,
                                "what was written since the rewind point cannot be dropped", error);
}

bool rewind_disks_co_commit(RewindDisks *d, const VmStopped *token, GError **error)
{
    g_assert(token != NULL && token->count > 0);
    return rewind_disks_co_call(
        d, rewind_commit_at_home,
        "what was written since the rewind point cannot be written to the disk", error);
}

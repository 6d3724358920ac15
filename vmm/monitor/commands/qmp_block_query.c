/* SPDX-License-Identifier: Apache-2.0 */
/* query-block, query-blockstats, query-named-block-nodes. They show what skiff and the host's kernel
 * have in memory and never access the storage, because it may hang. */
#include <string.h>
#include "hw/scsi/scsi_medium.h"
#include "block/dirty_bitmap.h"
#include "block/graph.h"
#include "vmm/backends/drive_options.h"
#include "vmm/monitor/commands/qmp_block.h"
#include "vmm/monitor/commands/qmp_throttle.h"

/* ---- nodes ---- */

/* Returns the file name, or QEMU's name for a node without a file: "null-co://". */
static char *qmp_block_filename(const BlockNodeInfo *info)
{
    return info->filename != NULL ? g_strdup(info->filename)
                                  : g_strdup_printf("%s://", info->driver);
}

static void qmp_put_text(struct json_object *o, const char *name, const char *text)
{
    if (text != NULL) {
        qmp_put_str(o, name, text);
    }
}

/* Adds what the image itself says. */
static void qmp_put_image_info(struct json_object *image, const BlockImageInfo *info)
{
    if (info->cluster_size != 0) {
        qmp_put_int(image, "cluster-size", (int64_t)info->cluster_size);
    }
    if (info->snapshot_count > 0) {
        struct json_object *list = json_object_new_array();
        for (unsigned i = 0; i < info->snapshot_count; i++) {
            json_object_array_add(list, qmp_snapshot_describe(&info->snapshots[i]));
        }
        qmp_put(image, "snapshots", list);
    }
    if (info->specific != NULL) {
        qmp_put(image, "format-specific", json_object_get(info->specific));
    }
    qmp_put_bool(image, "dirty-flag", info->dirty);
}

static void qmp_put_image_backing(struct json_object *image, const BlockImageInfo *info)
{
    qmp_put_text(image, "backing-filename", info->backing_name);
    qmp_put_text(image, "full-backing-filename", info->backing_path);
    qmp_put_text(image, "backing-filename-format", info->backing_format);
}

/* The next image below, also of a filter; NULL: there is none. */
static RUNS_IN_MAIN BlockNode *qmp_block_below(const BlockNodeInfo *info)
{
    return info->backing != NULL ? info->backing : info->filtered;
}

/* @flat: without the images below. */
static RUNS_IN_MAIN struct json_object *qmp_block_image(BlockNode *n, const BlockNodeInfo *info,
                                                        bool flat)
{
    struct json_object *image = json_object_new_object();
    const BlockImageInfo *said = block_node_image_info(n);
    int64_t used = block_node_allocated_size(n);
    g_autofree char *filename = qmp_block_filename(info);
    qmp_put_str(image, "filename", filename);
    qmp_put_str(image, "format", info->driver);
    qmp_put_int(image, "virtual-size", (int64_t)info->size);
    if (used >= 0) {
        qmp_put_int(image, "actual-size", used);
    }
    if (said != NULL) {
        qmp_put_image_info(image, said);
        qmp_put_image_backing(image, said);
    }
    BlockNode *below = qmp_block_below(info);
    if (below != NULL && !flat) {
        BlockNodeInfo below_info;
        block_node_info(below, &below_info);
        qmp_put(image, "backing-image", qmp_block_image(below, &below_info, false));
    }
    return image;
}

static RUNS_IN_MAIN struct json_object *qmp_block_cache(const BlockNodeInfo *info, bool writeback)
{
    struct json_object *cache = json_object_new_object();
    qmp_put_bool(cache, "writeback", writeback);
    qmp_put_bool(cache, "direct", info->cache_direct);
    qmp_put_bool(cache, "no-flush", info->cache_no_flush);
    return cache;
}

/* Adds the name of the next image below and the number of images below. */
static RUNS_IN_MAIN void qmp_block_put_backing(struct json_object *o, const BlockNodeInfo *info)
{
    BlockNodeInfo below;
    unsigned depth = 0;
    for (const BlockNode *n = qmp_block_below(info); n != NULL; n = qmp_block_below(&below)) {
        block_node_info(n, &below);
        if (depth++ == 0 && info->filtered == NULL) {
            g_autofree char *filename = qmp_block_filename(&below);
            qmp_put_str(o, "backing_file", filename);
        }
    }
    qmp_put_int(o, "backing_file_depth", depth);
}

/* Adds the node's dirty bitmaps; nothing if it has none. */
static RUNS_IN_MAIN void qmp_block_put_bitmaps(struct json_object *o, const BlockNode *n)
{
    struct json_object *list = NULL;
    for (unsigned i = 0; i < block_dirty_bitmap_count(n); i++) {
        BlockDirtyBitmapInfo info;
        block_dirty_bitmap_info(n, i, &info);
        struct json_object *bitmap = json_object_new_object();
        qmp_put_str(bitmap, "name", info.name);
        qmp_put_bool(bitmap, "recording", info.recording);
        qmp_put_bool(bitmap, "persistent", info.persistent);
        if (info.inconsistent) {
            qmp_put_bool(bitmap, "inconsistent", true);
        }
        qmp_put_bool(bitmap, "busy", info.busy);
        qmp_put_int(bitmap, "granularity", info.granularity);
        qmp_put_int(bitmap, "count", (int64_t)info.dirty_bytes);
        list = list != NULL ? list : json_object_new_array();
        json_object_array_add(list, bitmap);
    }
    if (list != NULL) {
        qmp_put(o, "dirty-bitmaps", list);
    }
}

static RUNS_IN_MAIN struct json_object *qmp_block_node(BlockNode *n, bool writeback, bool flat,
                                                       const ThrottleGroup *throttle)
{
    BlockNodeInfo info;
    block_node_info(n, &info);
    struct json_object *o = json_object_new_object();
    g_autofree char *filename = qmp_block_filename(&info);
    qmp_put_str(o, "file", filename);
    qmp_put_str(o, "node-name", block_node_name(n));
    qmp_put_bool(o, "ro", info.read_only);
    qmp_put_str(o, "drv", info.driver);
    qmp_put_bool(o, "encrypted", false);
    qmp_put_bool(o, "active", true);
    qmp_put_str(o, "detect_zeroes", "off");
    qmp_block_put_backing(o, &info);
    qmp_put_throttle(o, throttle);
    qmp_put_int(o, "write_threshold", 0);
    qmp_put(o, "image", qmp_block_image(n, &info, flat));
    qmp_put(o, "cache", qmp_block_cache(&info, writeback));
    qmp_block_put_bitmaps(o, n);
    return o;
}

struct json_object *qmp_query_named_block_nodes(QmpCall *call, struct json_object *args,
                                                GError **error)
{
    enter_main();
    struct json_object *list = json_object_new_array();
    bool flat = qmp_arg_bool(args, "flat", false);
    unsigned count;
    g_autofree BlockNode **nodes = block_node_list(&count);
    for (unsigned i = 0; i < count; i++) {
        json_object_array_add(list, qmp_block_node(nodes[i], true, flat, NULL));
    }
    return list;
}

/* ---- disks ---- */

/* The device that has the backend. NULL: none has it. */
static RUNS_IN_MAIN Device *qmp_device_of_backend(Vm *vm, const BlockBackend *blk)
{
    for (unsigned i = 0; i < vm->machine.devices->len; i++) {
        Device *dev = vm->machine.devices->pdata[i];
        if (dev == blk_owner(blk)) {
            return dev;
        }
    }
    return NULL;
}

bool qmp_backend_has_device(Vm *vm, const BlockBackend *blk)
{
    return qmp_device_of_backend(vm, blk) != NULL;
}

/* As in QEMU: the id of the device that has the disk; virtio-blk's is an unnamed device inside it. */
static RUNS_IN_MAIN char *qmp_block_qdev_path(Vm *vm, const BlockBackend *blk)
{
    const Device *dev = qmp_device_of_backend(vm, blk);
    if (dev == NULL) {
        return g_strdup_printf("/machine/peripheral-anon/%s", blk_name(blk));
    }
    bool inside = g_str_has_prefix(dev->type->name, "virtio-");
    return dev->id != NULL && !inside ? g_strdup(dev->id) : machine_device_backend_path(dev);
}

BlockBackend *qmp_find_backend(Vm *vm, const char *id, GError **error)
{
    unsigned count;
    g_autofree BlockBackend **list = blk_list_drives(&count);
    for (unsigned i = 0; i < count; i++) {
        const Device *dev = qmp_device_of_backend(vm, list[i]);
        g_autofree char *path = dev != NULL ? machine_device_backend_path(dev) : NULL;
        bool at_path = dev != NULL && (strcmp(id, dev->path) == 0 || strcmp(id, path) == 0);
        if (at_path || strcmp(id, blk_name(list[i])) == 0) {
            return list[i];
        }
    }
    g_set_error(error, QMP_ERROR, QMP_ERROR_DEVICE_NOT_FOUND, "Device '%s' not found", id);
    return NULL;
}

/* The members that a CD drive has, with a medium or without. */
static RUNS_IN_MAIN struct json_object *qmp_block_drive(Vm *vm, const ScsiLun *lun)
{
    const Device *dev = &lun->base;
    struct json_object *o = json_object_new_object();
    qmp_put_str(o, "device", backends_drive_of_medium(&vm->backends, lun->drive));
    qmp_put_str(o, "qdev", dev->id != NULL ? dev->id : dev->path);
    qmp_put_str(o, "type", "unknown");
    qmp_put_bool(o, "removable", true);
    qmp_put_bool(o, "locked", scsi_medium_locked(lun));
    qmp_put_bool(o, "tray_open", scsi_medium_tray_open(lun));
    return o;
}

static RUNS_IN_MAIN struct json_object *qmp_block_fixed(Vm *vm, const BlockBackend *blk)
{
    struct json_object *o = json_object_new_object();
    g_autofree char *path = qmp_block_qdev_path(vm, blk);
    qmp_put_str(o, "device", backends_drive_of_node(&vm->backends, block_node_name(blk_root(blk))));
    qmp_put_str(o, "qdev", path);
    qmp_put_str(o, "type", "unknown");
    qmp_put_bool(o, "removable", false);
    qmp_put_bool(o, "locked", false);
    return o;
}

static RUNS_IN_MAIN struct json_object *qmp_block_disk(Vm *vm, const BlockBackend *blk)
{
    static const char *const statuses[] = {
        [BLK_IO_OK] = "ok", [BLK_IO_FAILED] = "failed", [BLK_IO_NOSPACE] = "nospace"};
    Device *dev = qmp_device_of_backend(vm, blk);
    const ScsiLun *lun = dev != NULL && dev->path != NULL ? scsi_medium_drive(dev) : NULL;
    struct json_object *o = lun != NULL ? qmp_block_drive(vm, lun) : qmp_block_fixed(vm, blk);
    qmp_put(o, "inserted",
            qmp_block_node(block_node_below_unnamed(blk_root(blk)), blk_write_cache(blk), false,
                           blk_throttle_group(blk)));
    qmp_put_str(o, "io-status", statuses[blk_io_status(blk)]);
    return o;
}

/* Calls @fn for the root node of each -drive that no device uses. */
static RUNS_IN_MAIN void qmp_block_foreach_idle_drive(Vm *vm, BlockBackend **blks, unsigned count,
                                                      void (*fn)(struct json_object *list,
                                                                 const BlockDrive *d, BlockNode *n),
                                                      struct json_object *list)
{
    for (unsigned i = 0; i < vm->backends.drives->len; i++) {
        const BlockDrive *d = vm->backends.drives->pdata[i];
        BlockNode *n = backends_drive_node(&vm->backends, d->id);
        bool used = n == NULL;
        for (unsigned j = 0; j < count && !used; j++) {
            used = block_node_below_jobs(blk_root(blks[j])) == n;
        }
        if (!used) {
            fn(list, d, n);
        }
    }
}

static void qmp_block_put_idle_drive(struct json_object *list, const BlockDrive *d, BlockNode *n)
{
    enter_main();
    struct json_object *o = json_object_new_object();
    qmp_put_str(o, "device", d->id);
    qmp_put_str(o, "type", "unknown");
    qmp_put_bool(o, "removable", true);
    qmp_put_bool(o, "locked", false);
    qmp_put(o, "inserted", qmp_block_node(n, true, false, d->group));
    json_object_array_add(list, o);
}

struct json_object *qmp_query_block(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    struct json_object *list = json_object_new_array();
    unsigned count;
    g_autofree BlockBackend **blks = blk_list_drives(&count);
    for (unsigned i = 0; i < count; i++) {
        json_object_array_add(list, qmp_block_disk(call->vm, blks[i]));
    }
    for (unsigned i = 0; i < call->vm->machine.devices->len; i++) {
        Device *dev = call->vm->machine.devices->pdata[i];
        const ScsiLun *lun = scsi_medium_drive(dev);
        if (lun != NULL && lun->blk == NULL && dev->path != NULL) {
            json_object_array_add(list, qmp_block_drive(call->vm, lun));
        }
    }
    qmp_block_foreach_idle_drive(call->vm, blks, count, qmp_block_put_idle_drive, list);
    return list;
}

/* ---- statistics ---- */

static const char *const block_ops[BLK_OP_COUNT] = {[BLK_OP_READ] = "rd",
                                                    [BLK_OP_WRITE] = "wr",
                                                    [BLK_OP_FLUSH] = "flush",
                                                    [BLK_OP_UNMAP] = "unmap"};

__attribute__((format(printf, 3, 4))) static void put_named(struct json_object *o, uint64_t value,
                                                            const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *name = g_strdup_vprintf(format, ap);
    va_end(ap);
    qmp_put_int(o, name, (int64_t)value);
}

/* Adds the statistics that are constant: skiff has no merged requests, zone appends or intervals. */
static RUNS_IN_MAIN void qmp_put_constant_stats(struct json_object *o)
{
    static const char *const zeroes[] = {"zone_append_bytes",
                                         "zone_append_operations",
                                         "zone_append_total_time_ns",
                                         "failed_zone_append_operations",
                                         "invalid_zone_append_operations",
                                         "rd_merged",
                                         "wr_merged",
                                         "zone_append_merged",
                                         "unmap_merged"};
    for (unsigned i = 0; i < G_N_ELEMENTS(zeroes); i++) {
        qmp_put_int(o, zeroes[i], 0);
    }
    qmp_put_bool(o, "account_invalid", false);
    qmp_put_bool(o, "account_failed", true);
    qmp_put(o, "timed_stats", json_object_new_array());
}

static RUNS_IN_MAIN struct json_object *qmp_block_stats(const BlkStats *stats)
{
    struct json_object *o = json_object_new_object();
    for (unsigned op = 0; op < BLK_OP_COUNT; op++) {
        if (op != BLK_OP_FLUSH) {
            put_named(o, stats->bytes[op], "%s_bytes", block_ops[op]);
        }
        put_named(o, stats->operations[op], "%s_operations", block_ops[op]);
        put_named(o, stats->time_ns[op], "%s_total_time_ns", block_ops[op]);
        put_named(o, stats->failed[op], "failed_%s_operations", block_ops[op]);
        put_named(o, stats->invalid[op], "invalid_%s_operations", block_ops[op]);
    }
    put_named(o, stats->write_end, "wr_highest_offset");
    if (stats->idle_ns >= 0) {
        qmp_put_int(o, "idle_time_ns", stats->idle_ns);
    }
    qmp_put_constant_stats(o);
    return o;
}

static struct json_object *qmp_block_numbers(const uint64_t *numbers, unsigned count)
{
    struct json_object *list = json_object_new_array();
    for (unsigned i = 0; i < count; i++) {
        json_object_array_add(list, json_object_new_uint64(numbers[i]));
    }
    return list;
}

static RUNS_IN_MAIN void qmp_put_histograms(struct json_object *stats, const BlockBackend *blk)
{
    for (unsigned op = 0; op < BLK_OP_UNMAP; op++) {
        uint64_t bins[BLK_HISTOGRAM_MAX + 1];
        const uint64_t *boundaries;
        unsigned count = blk_histogram(blk, (BlkOp)op, &boundaries, bins, G_N_ELEMENTS(bins));
        if (count > 0) {
            g_autofree char *name = g_strdup_printf("%s_latency_histogram", block_ops[op]);
            struct json_object *o = json_object_new_object();
            qmp_put(o, "boundaries", qmp_block_numbers(boundaries, count - 1));
            qmp_put(o, "bins", qmp_block_numbers(bins, count));
            qmp_put(stats, name, o);
        }
    }
}

/* Returns a node's place in the graph. Requests are counted at the backend, so its counts are 0. */
static RUNS_IN_MAIN struct json_object *qmp_block_node_stats(const BlockNode *n)
{
    static const BlkStats none = {.idle_ns = -1};
    BlockNodeInfo info;
    block_node_info(n, &info);
    struct json_object *o = json_object_new_object();
    qmp_put_str(o, "node-name", block_node_name(n));
    qmp_put(o, "stats", qmp_block_stats(&none));
    if (info.child != NULL) {
        qmp_put(o, "parent", qmp_block_node_stats(info.child));
    }
    if (info.backing != NULL) {
        qmp_put(o, "backing", qmp_block_node_stats(info.backing));
    }
    return o;
}

static RUNS_IN_MAIN struct json_object *qmp_block_disk_stats(Vm *vm, const BlockBackend *blk)
{
    const BlockNode *root = block_node_below_unnamed(blk_root(blk));
    BlkStats stats;
    blk_stats(blk, &stats);
    struct json_object *o = qmp_block_node_stats(root);
    struct json_object *counts = qmp_block_stats(&stats);
    g_autofree char *path = qmp_block_qdev_path(vm, blk);
    qmp_put_int(counts, "in_flight", blk_in_flight(blk));
    qmp_put_histograms(counts, blk);
    qmp_put_str(o, "device", backends_drive_of_node(&vm->backends, block_node_name(root)));
    qmp_put_str(o, "qdev", path);
    qmp_put(o, "stats", counts);
    return o;
}

static void qmp_block_put_idle_stats(struct json_object *list, const BlockDrive *d, BlockNode *n)
{
    enter_main();
    struct json_object *o = qmp_block_node_stats(n);
    qmp_put_str(o, "device", d->id);
    json_object_array_add(list, o);
}

struct json_object *qmp_query_blockstats(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    struct json_object *list = json_object_new_array();
    unsigned count;
    if (qmp_arg_bool(args, "query-nodes", false)) {
        g_autofree BlockNode **nodes = block_node_list(&count);
        for (unsigned i = 0; i < count; i++) {
            json_object_array_add(list, qmp_block_node_stats(nodes[i]));
        }
        return list;
    }
    g_autofree BlockBackend **blks = blk_list_drives(&count);
    for (unsigned i = 0; i < count; i++) {
        json_object_array_add(list, qmp_block_disk_stats(call->vm, blks[i]));
    }
    qmp_block_foreach_idle_drive(call->vm, blks, count, qmp_block_put_idle_stats, list);
    return list;
}

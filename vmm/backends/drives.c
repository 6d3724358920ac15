/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VM's disks: -blockdev and -drive.
 *
 * A node's home is the iothread of the device that uses it, so the command line's devices are read
 * first: -device ...,drive=NAME,iothread=ID places NAME, and every node below it, in ID.
 */
#include <string.h>
#include "block/graph.h"
#include "block/qcow2/qcow2.h"
#include "vmm/backends/drive_options.h"
#include "vmm/backends/drive_snapshot.h"
#include "util/log.h"
#include "vmm/backends/backends.h"
#include "vmm/backends/throttle.h"

/* The iothread that -device gives for drive @name; NULL: none. */
static const char *drives_iothread_of(const VmConfig *config, const char *name)
{
    for (unsigned i = 0; i < config->machine.devices->len; i++) {
        const OptDict *device = config->machine.devices->pdata[i];
        if (g_strcmp0(opt_dict_get(device, "drive"), name) == 0) {
            return opt_dict_get(device, "iothread");
        }
    }
    return NULL;
}

/* The -blockdev whose child is @name, or NULL. */
static const OptDict *drives_parent_of(const VmConfig *config, const char *name)
{
    static const char *const links[] = {"file", "backing", "data-file"};
    for (unsigned i = 0; i < config->backends.blockdevs->len; i++) {
        const OptDict *node = config->backends.blockdevs->pdata[i];
        for (unsigned l = 0; l < G_N_ELEMENTS(links); l++) {
            if (g_strcmp0(opt_dict_get(node, links[l]), name) == 0) {
                return node;
            }
        }
    }
    return NULL;
}

/* The home of node @name. */
static RUNS_IN_MAIN AioContext *drives_home(Backends *b, const char *name, GError **error)
{
    const char *id = NULL;
    /* Walks up to the node that a device names; a ring of nodes ends the walk. */
    for (unsigned depth = 0; name != NULL && id == NULL && depth < 64; depth++) {
        id = drives_iothread_of(b->config, name);
        const OptDict *parent = id == NULL ? drives_parent_of(b->config, name) : NULL;
        name = parent != NULL ? opt_dict_get(parent, "node-name") : NULL;
    }
    if (id == NULL) {
        return backends_default_home(b);
    }
    const IoThread *t = backends_find_iothread(b, id);
    if (t == NULL) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "-device ...,iothread=%s: there is no -object iothread,id=%s", id, id);
        return NULL;
    }
    return iothread_context(t);
}

/* ---- -blockdev ---- */

/* A coroutine in main that opens a node. */
typedef BlockNode *DrivesOpenFn(const OptDict *opts, AioContext *home, GError **error);

/* @name: its name on the command line. */
static coroutine_fn RUNS_IN_MAIN bool drives_co_open(Backends *b, const OptDict *opts,
                                                     DrivesOpenFn *open, const char *option,
                                                     const char *name, GError **error)
{
    AioContext *home = drives_home(b, opt_dict_get(opts, "node-name"), error);
    if (home == NULL || open(opts, home, error) == NULL) {
        g_prefix_error(error, "-%s %s: ", option, name);
        return false;
    }
    return true;
}

static bool drives_blockdev_is_read_only(const OptDict *opts)
{
    bool read_only = false;
    const char *value = opt_dict_get(opts, "read-only");
    return value != NULL && opt_parse_bool(value, &read_only, NULL) && read_only;
}

/* A clone's: all nodes are read-only, and the one that a device uses has a temporary image above. */
static coroutine_fn RUNS_IN_MAIN bool drives_co_open_cloned(Backends *b, const OptDict *opts,
                                                            const char *name, GError **error)
{
    bool inner = drives_parent_of(b->config, name) != NULL;
    if (!inner && !drives_blockdev_is_read_only(opts)) {
        return drives_co_open(b, opts, drive_co_open_snapshot, "blockdev", name, error);
    }
    g_autoptr(OptDict) d = opt_dict_copy(opts);
    opt_dict_set(d, "read-only", "on");
    return drives_co_open(b, d, block_co_add, "blockdev", name, error);
}

static coroutine_fn RUNS_IN_MAIN bool drives_co_open_blockdev(Backends *b, const OptDict *opts,
                                                              GError **error)
{
    const char *name = opt_dict_get(opts, "node-name");
    if (name == NULL) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_MISSING,
                    "-blockdev: node-name= is needed, so that a device can refer to the disk");
        return false;
    }
    return b->config->backends.clone
               ? drives_co_open_cloned(b, opts, name, error)
               : drives_co_open(b, opts, block_co_add, "blockdev", name, error);
}

static coroutine_fn RUNS_IN_MAIN bool drives_co_open_blockdevs(Backends *b, GError **error)
{
    for (unsigned i = 0; i < b->config->backends.blockdevs->len; i++) {
        if (!drives_co_open_blockdev(b, b->config->backends.blockdevs->pdata[i], error)) {
            return false;
        }
    }
    return true;
}

/* ---- -drive ---- */

static const BlockDrive *drives_at(const Backends *b, BlockDriveInterface interface, int index)
{
    for (unsigned i = 0; i < b->drives->len; i++) {
        const BlockDrive *d = b->drives->pdata[i];
        if (d->interface == interface && d->index == index) {
            return d;
        }
    }
    return NULL;
}

/* Without index=, a drive takes the first index that is free among the drives before it. */
static bool drives_choose_index(const Backends *b, BlockDrive *d, GError **error)
{
    if (d->index == BLOCK_DRIVE_NO_INDEX) {
        for (d->index = 0; drives_at(b, d->interface, d->index) != NULL; d->index++) {
        }
        return true;
    }
    if (drives_at(b, d->interface, d->index) != NULL) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_DUPLICATE,
                    "-drive: drive with bus=0, unit=%d (index=%d) exists", d->index, d->index);
        return false;
    }
    return true;
}

/* A -drive without an id gets QEMU's default id, so that a device can refer to it: "virtio0". */
static void drives_name(BlockDrive *d)
{
    static const char *const prefixes[] = {[BLOCK_DRIVE_IF_NONE] = "none",
                                           [BLOCK_DRIVE_IF_VIRTIO] = "virtio",
                                           [BLOCK_DRIVE_IF_PFLASH] = "pflash"};
    if (d->id == NULL) {
        d->id = g_strdup_printf("%s%d", prefixes[d->interface], d->index);
        opt_dict_set_default(d->blockdev, "node-name", d->id);
    }
}

static void drives_free(void *opaque)
{
    BlockDrive *d = opaque;
    block_drive_clear(d);
    g_free(d);
}

/* An image of another format that is used as raw without format= would be destroyed by the guest. */
static coroutine_fn RUNS_IN_MAIN bool drives_co_check_raw(const BlockDrive *d, GError **error)
{
    const char *format;
    BlockNode *n = block_node_find(opt_dict_get(d->blockdev, "node-name"));
    if (n->backing != NULL) {
        n = n->backing; /* below the overlay of snapshot=on */
    }
    if (qcow2_co_probe_node(n, &format) < 0) {
        return true; /* the guest will see the error */
    }
    if (strcmp(format, "raw") == 0 || strcmp(format, "luks") == 0) { /* a guest can use LUKS too */
        return true;
    }
    g_autofree char *advice =
        qcow2_probe_supported(format)
            ? g_strdup_printf("use -drive file=...,format=%s", format)
            : g_strdup_printf("skiff does not support it, qemu-img convert does");
    g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                "-drive %s: no format is given, and the image looks like %s: %s; or give "
                "format=raw if these bytes are the guest's",
                d->id, format, advice);
    return false;
}

static bool drives_is_read_only(const BlockDrive *d)
{
    return drives_blockdev_is_read_only(d->blockdev);
}

static coroutine_fn RUNS_IN_MAIN bool drives_co_set_copy_on_read(const BlockDrive *d,
                                                                 GError **error)
{
    if (!d->copy_on_read) {
        return true;
    }
    if (drives_is_read_only(d)) {
        log_warn("disabling copy-on-read on read-only drive");
        return true;
    }
    BlockNode *n = block_node_find(opt_dict_get(d->blockdev, "node-name"));
    if (!block_node_co_set_copy_on_read(n, error)) {
        g_prefix_error(error, "-drive %s: ", d->id);
        return false;
    }
    return true;
}

/* Whether writes go to a temporary image. A disk that is read-only has none. */
static bool drives_has_snapshot(const Backends *b, const BlockDrive *d)
{
    bool on = b->config->backends.clone || d->snapshot == BLOCK_DRIVE_SNAPSHOT_ON ||
              (d->snapshot == BLOCK_DRIVE_SNAPSHOT_DEFAULT && b->config->backends.snapshot);
    return on && !drives_is_read_only(d);
}

/* The drive keeps its node, or the one that a graph change puts in its place, for as long as the process
 * lives. */
static coroutine_fn RUNS_IN_MAIN void drives_co_take_root(BlockDrive *d)
{
    BlockNode *n = block_node_find(opt_dict_get(d->blockdev, "node-name"));
    g_autofree char *user = g_strdup_printf("drive '%s'", d->id);
    d->root = block_name_co_new(n, user);
    block_co_unref(n);
}

static coroutine_fn RUNS_IN_MAIN bool drives_co_add(Backends *b, const OptDict *opts,
                                                    GError **error)
{
    BlockDrive *d = g_new0(BlockDrive, 1);
    if (!block_drive_to_blockdev(opts, d, error)) {
        g_prefix_error(error, "-drive: ");
        g_free(d);
        return false;
    }
    if (!drives_choose_index(b, d, error)) {
        drives_free(d);
        return false;
    }
    drives_name(d);
    g_ptr_array_add(b->drives, d);
    if (d->interface == BLOCK_DRIVE_IF_PFLASH && d->index >= BACKENDS_PFLASH_COUNT) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "-drive if=pflash: there is no unit %d; the machine has units 0 and 1",
                    d->index);
        return false;
    }
    DrivesOpenFn *open = drives_has_snapshot(b, d) ? drive_co_open_snapshot : block_co_open;
    if (!drives_co_open(b, d->blockdev, open, "drive", d->id, error) ||
        !drives_co_set_copy_on_read(d, error)) {
        return false;
    }
    drives_co_take_root(d);
    throttle_add_drive(d);
    bool ide = g_ptr_array_find(b->config->backends.ide_drives, opts, NULL);
    if ((ide || d->format_implied) && !drives_co_check_raw(d, error)) {
        return false;
    }
    if (d->format_implied) {
        const char *file = opt_dict_get(opts, "file");
        file = file != NULL ? file : opt_dict_get(opts, "file.filename");
        log_warn("-drive file=%s: no format= given: taken as raw; skiff does not probe images, "
                 "which the guest may have written. Add format=raw",
                 file != NULL ? file : "...");
    }
    if (ide && d->interface != BLOCK_DRIVE_IF_PFLASH) {
        log_info("-hd%c %s: attached as a raw virtio disk; this machine has no IDE", 'a' + d->index,
                 opt_dict_get(opts, "file"));
    }
    return true;
}

bool backends_co_open_drives(Backends *b, GError **error)
{
    b->drives = g_ptr_array_new_with_free_func(drives_free);
    if (!drives_co_open_blockdevs(b, error)) {
        return false;
    }
    for (unsigned i = 0; i < b->config->backends.drives->len; i++) {
        if (!drives_co_add(b, b->config->backends.drives->pdata[i], error)) {
            return false;
        }
    }
    return true;
}

static const char *drives_node_name(const BlockDrive *d)
{
    return d->root != NULL ? block_node_name(d->root->node) : NULL;
}

/* Whether the drive has that node: its root, or one below the filters of jobs. */
static RUNS_IN_MAIN bool drives_has_node(const BlockDrive *d, const char *node_name)
{
    const BlockNode *n = d->root != NULL ? d->root->node : NULL;
    const BlockNode *last = n != NULL ? block_node_below_jobs(d->root->node) : NULL;
    while (n != last && g_strcmp0(block_node_name(n), node_name) != 0) {
        n = n->file;
    }
    return n != NULL && g_strcmp0(block_node_name(n), node_name) == 0;
}

const char *backends_drive_of_node(Backends *b, const char *node_name)
{
    for (unsigned i = 0; i < b->drives->len; i++) {
        const BlockDrive *d = b->drives->pdata[i];
        if (drives_has_node(d, node_name)) {
            return d->id;
        }
    }
    return "";
}

const char *backends_drive_of_medium(Backends *b, const char *node_name)
{
    for (unsigned i = 0; node_name != NULL && i < b->drives->len; i++) {
        const BlockDrive *d = b->drives->pdata[i];
        if (g_strcmp0(opt_dict_get(d->blockdev, "node-name"), node_name) == 0) {
            return d->id;
        }
    }
    return "";
}

BlockNode *backends_drive_node(Backends *b, const char *id)
{
    for (unsigned i = 0; i < b->drives->len; i++) {
        const BlockDrive *d = b->drives->pdata[i];
        if (strcmp(d->id, id) == 0) {
            return d->root != NULL ? block_node_below_jobs(d->root->node) : NULL;
        }
    }
    return NULL;
}

void backends_co_drop_medium(Backends *b, const char *node_name)
{
    for (unsigned i = 0; i < b->drives->len; i++) {
        BlockDrive *d = b->drives->pdata[i];
        BlockNode *n = block_node_find(node_name);
        if (n != NULL && g_strcmp0(drives_node_name(d), node_name) == 0) {
            block_user_co_free(g_steal_pointer(&d->root));
            return;
        }
    }
}

static void drives_set_default(const char *key, const char *value, void *props)
{
    opt_dict_set_default(props, key, value);
}

void backends_apply_drive_defaults(Backends *b, OptDict *props)
{
    const char *name = opt_dict_get(props, "drive");
    for (unsigned i = 0; name != NULL && i < b->drives->len; i++) {
        const BlockDrive *d = b->drives->pdata[i];
        if (strcmp(d->id, name) == 0 && d->root != NULL) {
            opt_dict_foreach(d->device, drives_set_default, props);
            opt_dict_set(props, "drive", drives_node_name(d)); /* devices refer to nodes only */
            return;
        }
    }
}

void backends_add_implied_devices(Backends *b, GPtrArray *rows)
{
    for (unsigned i = 0; i < b->drives->len; i++) {
        const BlockDrive *d = b->drives->pdata[i];
        if (d->interface == BLOCK_DRIVE_IF_VIRTIO) {
            OptDict *row = opt_dict_new();
            opt_dict_set(row, "driver", "virtio-blk-pci");
            opt_dict_set(row, "drive", d->id);
            g_ptr_array_add(rows, row);
        }
    }
}

const char *backends_pflash_drive(Backends *b, unsigned unit)
{
    const BlockDrive *d = drives_at(b, BLOCK_DRIVE_IF_PFLASH, (int)unit);
    return d != NULL ? d->id : NULL;
}

/* ---- drain ---- */

static void drives_flush(void *opaque)
{
    BlockBackend *blk = opaque;
    enter_iothread(blk_home(blk));
    enter_coroutine();
    /* A part of a macro operation: a device that hurries returns requests that wait for a section, but
     * not those. */
    BlkMacro macro;
    blk_co_macro_begin(blk, &macro);
    int ret = blk_co_flush(blk);
    blk_macro_end(blk, &macro);
    if (ret < 0) {
        log_error("drive '%s': data may be missing on its disk: flush: %s", blk_name(blk),
                  g_strerror(-ret));
    }
}

/* Clients of exports go on while the VM is stopped, so a request of theirs that hangs delays nothing. */
void backends_co_drain(void)
{
    unsigned count;
    g_autofree BlockBackend **list = blk_list_drives(&count);
    co_drained_begin(list, count);
    co_drained_end(list, count);
    for (unsigned i = 0; i < count; i++) {
        if (!blk_read_only(list[i])) {
            co_call_in(blk_home(list[i]), drives_flush, list[i]);
        }
    }
}

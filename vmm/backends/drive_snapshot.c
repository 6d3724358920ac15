/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/backends/drive_snapshot.h"
#include <errno.h>
#include <unistd.h>
#include "block/node.h"
#include "block/qcow2/qcow2_create.h"
#include "util/loop/worker.h"

#define SNAPSHOT_CLUSTER 65536u

static coroutine_fn RUNS_IN_MAIN BlockNode *snapshot_co_open_base(const OptDict *blockdev,
                                                                  AioContext *home, GError **error)
{
    g_autoptr(OptDict) d = opt_dict_copy(blockdev);
    opt_dict_remove(d, "node-name"); /* it is the overlay's */
    opt_dict_remove(d, "read-only");
    opt_dict_set(d, "read-only", "on");
    return block_co_open(d, home, error);
}

static int snapshot_make_file(void *opaque)
{
    enter_worker();
    int fd = g_mkstemp(opaque);
    int ret = fd < 0 ? -errno : 0;
    if (fd >= 0) {
        close(fd);
    }
    return ret;
}

static int snapshot_remove_name(void *opaque)
{
    enter_worker();
    return unlink(opaque) == 0 ? 0 : -errno;
}

/* Creates a file for the overlay and opens it; its name is gone when this returns. */
static coroutine_fn RUNS_IN_MAIN BlockNode *snapshot_co_open_file(const char *user,
                                                                  AioContext *home, GError **error)
{
    const char *dir = g_getenv("TMPDIR");
    g_autofree char *path =
        g_build_filename(dir != NULL ? dir : "/var/tmp", "skiff-snapshot-XXXXXX", NULL);
    int ret = co_run_in_worker(snapshot_make_file, path);
    if (ret < 0) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN,
                    "%s needs a temporary file, and '%s' cannot be created: %s; set TMPDIR to "
                    "another folder",
                    user, path, g_strerror(-ret));
        return NULL;
    }
    g_autoptr(OptDict) d = opt_dict_new();
    opt_dict_set(d, "driver", "file");
    opt_dict_set(d, "filename", path);
    opt_dict_set(d, "cache.no-flush", "on"); /* it does not survive skiff */
    opt_dict_set(d, "discard", "unmap");
    BlockNode *file = block_co_open(d, home, error);
    co_run_in_worker(snapshot_remove_name, path);
    return file;
}

static void snapshot_create_at_home(void *opaque)
{
    Qcow2CreateRequest *r = opaque;
    enter_coroutine();
    enter_iothread(block_node_home(r->file));
    qcow2_co_create(r);
}

/* Makes an image of @size bytes in @file. */
static coroutine_fn RUNS_IN_MAIN bool snapshot_co_format(BlockNode *file, uint64_t size,
                                                         GError **error)
{
    Qcow2CreateOptions o = {.size = size,
                            .version = 3,
                            .cluster_size = SNAPSHOT_CLUSTER,
                            .refcount_bits = 16,
                            .lazy_refcounts = true};
    Qcow2CreateRequest r = {.options = &o, .file = file};
    if (!qcow2_create_check(&o, error)) {
        return false;
    }
    co_call_in(block_node_home(file), snapshot_create_at_home, &r);
    if (r.error != NULL) {
        g_propagate_error(error, r.error);
        return false;
    }
    return true;
}

/* An overlay of @base in @file; it has @base as its backing node, or none yet. */
static coroutine_fn RUNS_IN_MAIN BlockNode *snapshot_co_create(const char *name,
                                                               const BlockNode *base,
                                                               BlockNode *file, bool above,
                                                               GError **error)
{
    uint64_t size = block_align_up(block_node_size(base), BLOCK_SECTOR_SIZE);
    if (!snapshot_co_format(file, size, error)) {
        return NULL;
    }
    g_autoptr(OptDict) d = opt_dict_new();
    opt_dict_set(d, "driver", "qcow2");
    opt_dict_set(d, "file", block_node_name(file));
    if (above) {
        opt_dict_set(d, "backing", block_node_name(base));
    }
    opt_dict_set(d, "discard", "unmap");
    if (name != NULL) {
        opt_dict_set(d, "node-name", name);
    }
    BlockNode *overlay = block_co_open(d, block_node_home(file), error);
    if (overlay != NULL) {
        overlay->temporary = true;
    }
    return overlay;
}

BlockNode *drive_co_open_snapshot(const OptDict *blockdev, AioContext *home, GError **error)
{
    BlockNode *overlay = NULL, *file = NULL;
    BlockNode *base = snapshot_co_open_base(blockdev, home, error);
    if (base != NULL) {
        file = snapshot_co_open_file("snapshot=on", block_node_home(base), error);
    }
    if (file != NULL) {
        overlay = snapshot_co_create(opt_dict_get(blockdev, "node-name"), base, file, true, error);
        block_co_unref(file);
    }
    if (base != NULL) {
        block_co_unref(base);
    }
    return overlay;
}

BlockNode *drive_co_new_overlay(const char *user, const BlockNode *base, GError **error)
{
    BlockNode *overlay = NULL;
    BlockNode *file = snapshot_co_open_file(user, block_node_home(base), error);
    if (file != NULL) {
        overlay = snapshot_co_create(NULL, base, file, false, error);
        block_co_unref(file);
    }
    return overlay;
}

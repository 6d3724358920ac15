/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the tests of state areas: a snapshot that is created part by part, with models of the disk and
 * of the state. */
#ifndef SKIFF_TESTS_BLOCK_QCOW2_QCOW2_STATE_TEST_H
#define SKIFF_TESTS_BLOCK_QCOW2_QCOW2_STATE_TEST_H

#include "tests/block/qcow2/qcow2_test.h"

#define STATE_PAGE 4096u
#define STATE_FLIGHT 4u /* requests at a time */

/* A creation that is under way. */
typedef struct StateSave {
    BlockNode *disk;
    BlockSnapshotRun *run;
    BlockBackend *blk; /* of the state area; NULL: closed */
    uint8_t *model;    /* owned: of the state */
    uint64_t size;
} StateSave;

/* Returns 0 or -errno. */
static inline coroutine_fn RUNS_IN_MAIN bool state_prepare(StateSave *s, BlockNode *disk,
                                                           const char *name, uint64_t size)
{
    g_autoptr(GError) error = NULL;
    BlockSnapshotInfo info = {
        .name = (char *)(uintptr_t)name, .vm_state_size = size, .icount = UINT64_MAX};
    *s = (StateSave){.disk = disk, .size = size};
    s->run = block_node_co_snapshot_prepare(disk, &info, &error);
    if (s->run == NULL) {
        return false;
    }
    BlockNode *n = block_snapshot_co_open_state(s->run, &error);
    assert_non_null(n);
    assert_int_equal(block_node_size(n), size);
    s->blk = blk_co_new_for("a save", NULL, n, true, &error);
    assert_non_null(s->blk);
    block_co_unref(n);
    s->model = g_malloc0(size);
    return true;
}

static inline coroutine_fn RUNS_IN_MAIN void state_switch(StateSave *s)
{
    BlockSection *section = block_nodes_co_drained_begin(&s->disk, 1);
    block_snapshot_co_switch(s->run, NULL);
    block_nodes_co_drained_end(section);
}

static inline coroutine_fn RUNS_IN_MAIN void state_close(StateSave *s)
{
    blk_co_free(s->blk);
    s->blk = NULL;
}

/* Closes the area and ends the creation. */
static inline coroutine_fn RUNS_IN_MAIN int state_end(StateSave *s)
{
    g_autoptr(GError) error = NULL;
    state_close(s);
    block_snapshot_co_run(s->run);
    int ret = block_snapshot_co_end(s->run, &error);
    assert_int_equal(ret < 0, error != NULL);
    s->run = NULL;
    return ret;
}

/* Writes [at, at + bytes) with new contents; the model has them if the write succeeds. */
static inline coroutine_fn RUNS_IN_MAIN int state_write(StateSave *s, uint64_t at, uint64_t bytes,
                                                        unsigned seed)
{
    g_autofree uint8_t *data = g_malloc(bytes);
    test_fill(data, bytes, seed);
    int ret = test_io(s->blk, TEST_WRITE, at, bytes, data, 0);
    if (ret == 0) {
        memcpy(s->model + at, data, bytes);
    }
    return ret;
}

/* Opens the state area of snapshot @name of the image. */
static inline coroutine_fn RUNS_IN_MAIN BlockBackend *state_open(BlockNode *disk, const char *name)
{
    g_autoptr(GError) error = NULL;
    BlockNode *n = block_node_co_open_snapshot_state(disk, NULL, name, &error);
    if (n == NULL) {
        fail_msg("%s: %s", name, error->message);
    }
    BlockBackend *blk = blk_co_new_for("a load", NULL, n, false, &error);
    assert_non_null(blk);
    block_co_unref(n);
    return blk;
}

/* The state of snapshot @name is as the model. */
static inline coroutine_fn RUNS_IN_MAIN void state_compare(BlockNode *disk, const char *name,
                                                           const uint8_t *model, uint64_t size)
{
    BlockBackend *blk = state_open(disk, name);
    qcow2_compare(blk, model, size, (size_t)300 << 10, name);
    blk_co_free(blk);
}

#endif

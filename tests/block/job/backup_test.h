/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the tests of backup: a guest's disk "s", a target "t", and a job between them. */
#ifndef SKIFF_TESTS_BLOCK_JOB_BACKUP_TEST_H
#define SKIFF_TESTS_BLOCK_JOB_BACKUP_TEST_H

#include "block/dirty_bitmap.h"
#include "block/job/backup.h"
#include "tests/block/job/job_test.h"

#define BACKUP_SIZE ((uint64_t)1 << 20)
#define BACKUP_UNIT 65536u /* granularity of a backup to a node without clusters */

typedef struct BackupRig {
    BlockNode *source, *target; /* owned as by blockdev-add */
    BlockBackend *guest;
} BackupRig;

static inline coroutine_fn RUNS_IN_MAIN void backup_guest_write(BackupRig *r, uint64_t offset,
                                                                uint64_t bytes, unsigned seed)
{
    g_autofree uint8_t *data = g_malloc(bytes);
    test_fill(data, bytes, seed);
    assert_int_equal(test_io(r->guest, TEST_WRITE, offset, bytes, data, 0), 0);
}

static inline coroutine_fn RUNS_IN_MAIN void backup_rig_open(BackupRig *r, const char *source,
                                                             const char *target)
{
    GError *error = NULL;
    r->source = test_node_add(source);
    r->target = test_node_add(target);
    r->guest = blk_co_new("guest", r->source, true, &error);
    assert_non_null(r->guest);
}

static inline coroutine_fn RUNS_IN_MAIN void backup_rig_close(BackupRig *r)
{
    blk_co_free(r->guest);
    test_settle();
    test_node_del("s");
    test_node_del("t");
}

static inline coroutine_fn RUNS_IN_MAIN bool backup_try(BackupRig *r, BlockBackupConfig c,
                                                        GError **error)
{
    c.job.id = "job0";
    c.source = c.source != NULL ? c.source : r->source;
    c.target = c.target != NULL ? c.target : r->target;
    co_mutex_lock(&job_operation);
    bool ok = block_backup_co_start(&c, error);
    co_mutex_unlock(&job_operation);
    return ok;
}

static inline coroutine_fn RUNS_IN_MAIN Job *backup_start(BackupRig *r, BlockBackupConfig c)
{
    GError *error = NULL;
    if (!backup_try(r, c, &error)) {
        fail_msg("%s", error->message);
    }
    return job_find("job0");
}

static inline RUNS_IN_MAIN uint64_t backup_dirty_bytes(const BlockNode *n, unsigned i)
{
    BlockDirtyBitmapInfo info;
    block_dirty_bitmap_info(n, i, &info);
    return info.dirty_bytes;
}

#endif

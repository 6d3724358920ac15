/* SPDX-License-Identifier: Apache-2.0 */
/* A machine without KVM with two qcow2 disks that the guest writes, and jobs on snapshots of it. */
#ifndef SKIFF_TESTS_VMM_SNAPSHOT_SNAPSHOT_JOB_RIG_H
#define SKIFF_TESTS_VMM_SNAPSHOT_SNAPSHOT_JOB_RIG_H

#include "block/qcow2/qcow2_create.h"
#include "tests/vmm/snapshot/savevm_rig.h"
#include "vmm/snapshot/snapshot_job.h"

#define DISK_BYTES (UINT64_C(16) << 20)
#define SPAN (UINT64_C(256) << 10) /* what the guest uses of each disk */
#define PIECE 4096u
#define JOB "job0"

typedef struct Disk {
    BlockNode *node;
    BlockBackend *guest;
    uint8_t now[SPAN], at_stop[SPAN];
} Disk;

static Disk disks[2];
static RamTest saved; /* memory of the snapshot that was saved last */
static uint8_t saved_disks[2][SPAN];

/* ---- disks ---- */

static inline void disk_create_at_home(void *opaque)
{
    Qcow2CreateRequest *r = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    if (!qcow2_co_create(r)) {
        fail_msg("%s", r->error->message);
    }
}

static inline coroutine_fn RUNS_IN_MAIN void disk_write(unsigned i, uint64_t piece)
{
    Disk *d = &disks[i];
    test_fill(d->now + piece * PIECE, PIECE, ++rig->seed);
    assert_int_equal(test_io(d->guest, TEST_WRITE, piece * PIECE, PIECE, d->now + piece * PIECE, 0),
                     0);
}

static inline coroutine_fn RUNS_IN_MAIN void disk_open(unsigned i, BlockNode *file,
                                                       const char *name)
{
    Qcow2CreateOptions o = {
        .size = DISK_BYTES, .version = 3, .cluster_size = 65536, .refcount_bits = 16};
    Qcow2CreateRequest r = {.options = &o, .file = file, .dirty_file = true};
    co_call_in(test_home, disk_create_at_home, &r);
    g_autofree char *text =
        g_strdup_printf("qcow2,node-name=%s,file=%s", name, block_node_name(file));
    Disk *d = &disks[i];
    memset(d, 0, sizeof(*d));
    d->node = test_node_add(text);
    g_autofree char *guest = g_strdup_printf("disk%u", i);
    d->guest = blk_co_new(guest, d->node, true, NULL);
    assert_non_null(d->guest);
    for (uint64_t piece = 0; piece < SPAN / PIECE; piece += 1 + i) {
        disk_write(i, piece);
    }
}

/* The guest's last writes before a stop. */
static inline void disks_parked(void)
{
    enter_coroutine();
    enter_main();
    for (unsigned i = 0; i < 2; i++) {
        disk_write(i, 3 + i);
        memcpy(disks[i].at_stop, disks[i].now, SPAN);
    }
}

static inline coroutine_fn RUNS_IN_MAIN void snap_init(void)
{
    rig_init();
    rig->of_file = true;
    vm_jobs_init(&rig->vm);
    rig->vm.machine.devices = g_ptr_array_new();
    ram_test_init(&saved);
    disk_open(0, rig->a, "q0");
    disk_open(1, rig->b, "q1");
}

static inline coroutine_fn RUNS_IN_MAIN void snap_clear(void)
{
    rig->parked = NULL;
    blk_co_free(disks[0].guest);
    blk_co_free(disks[1].guest);
    test_node_del("q0");
    test_node_del("q1");
    ram_test_clear(&saved);
    g_ptr_array_unref(rig->vm.machine.devices);
    rig_clear();
}

/* ---- jobs ---- */

static FrozenRamWay capture_way; /* of the saves that follow */
typedef Job *Start(const SnapshotJobConfig *config, GError **error);
static const char *const both[] = {"q0", "q1", NULL};

static inline coroutine_fn RUNS_IN_MAIN void job_begin(Start *start, const char *tag, bool replaces)
{
    GError *error = NULL;
    const SnapshotJobConfig config = {.vm = &rig->vm,
                                      .id = JOB,
                                      .tag = tag,
                                      .state = "q1",
                                      .names = both,
                                      .replaces = replaces,
                                      .capture = capture_way};
    vm_operation_begin(&rig->vm.run);
    Job *job = start(&config, &error);
    vm_operation_end(&rig->vm.run);
    if (job == NULL) {
        fail_msg("%s", error->message);
    }
}

static char captured[32];    /* how the last job has captured memory */
static char why_passes[256]; /* why that was not frozen */

/* Waits for the end of the job. Returns its error, owned by the caller; NULL: none. */
static inline coroutine_fn RUNS_IN_MAIN char *job_end(void)
{
    Job *job = job_find(JOB);
    while (job_status(job) != JOB_STATUS_CONCLUDED) {
        co_yield_turn();
    }
    char *text = g_strdup(job_error_text(job));
    const SnapshotSaveInfo *info = snapshot_save_info(job);
    g_strlcpy(captured, info != NULL && info->capture != NULL ? info->capture : "",
              sizeof(captured));
    g_strlcpy(why_passes, info != NULL && info->why_passes != NULL ? info->why_passes : "",
              sizeof(why_passes));
    assert_true(job_dismiss(job, NULL));
    return text;
}

static inline coroutine_fn RUNS_IN_MAIN void job_ends_well(void)
{
    g_autofree char *error = job_end();
    if (error != NULL) {
        fail_msg("the job has failed: %s", error);
    }
}

/* Memory and disks change while the job runs, and what they were at the stop is kept. */
static inline coroutine_fn RUNS_IN_MAIN void guest_runs(void)
{
    while (job_status(job_find(JOB)) != JOB_STATUS_CONCLUDED) {
        if (rig_runs()) {
            rig_write(rig->seed % LAST_PAGE);
            disk_write(0, rig->seed % (SPAN / PIECE));
            disk_write(1, rig->seed % (SPAN / PIECE));
        }
        co_yield_turn();
    }
}

static inline coroutine_fn RUNS_IN_MAIN void save(const char *tag, bool replaces)
{
    unsigned stops = rig->stops, starts = rig->starts;
    rig->parked = disks_parked;
    job_begin(snapshot_save_start, tag, replaces);
    guest_runs();
    rig->parked = NULL;
    job_ends_well();
    assert_int_equal(rig->stops, stops + 1);
    assert_int_equal(rig->starts, starts + 1);
    memcpy(saved.host, rig->at_stop.host, RAM_TEST_LOW + RAM_TEST_HIGH);
    memcpy(saved_disks[0], disks[0].at_stop, SPAN);
    memcpy(saved_disks[1], disks[1].at_stop, SPAN);
}

/* All is as it was at the stop of the save. The VM is stopped, so that memory stays. */
static inline coroutine_fn RUNS_IN_MAIN void load_and_check(const char *tag)
{
    static uint8_t buf[SPAN];
    run_state_request_stop(&rig->vm.run, STOP_PAUSED);
    run_state_co_settle(&rig->vm.run, INT64_MAX / 2);
    job_begin(snapshot_load_start, tag, false);
    job_ends_well();
    assert_true(ram_test_equal(&rig->ram, &saved));
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(test_io(disks[i].guest, TEST_READ, 0, SPAN, buf, 0), 0);
        assert_memory_equal(buf, saved_disks[i], SPAN);
        memcpy(disks[i].now, buf, SPAN);
    }
    assert_false(rig_runs());
    run_state_request_start(&rig->vm.run);
    run_state_co_settle(&rig->vm.run, INT64_MAX / 2);
    assert_true(rig_runs());
}

/* How many snapshots with the tag the disk has. */
static inline RUNS_IN_MAIN unsigned tags(unsigned disk, const char *tag)
{
    const BlockImageInfo *info = block_node_image_info(disks[disk].node);
    unsigned count = 0;
    for (unsigned i = 0; i < info->snapshot_count; i++) {
        count += strcmp(info->snapshots[i].name, tag) == 0;
    }
    return count;
}

#endif

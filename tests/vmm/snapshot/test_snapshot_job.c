/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot-save, -load and -delete on a machine without KVM with two qcow2 disks: memory and disks of one instant come
 * back together; whatever a file does, the VM goes on, the images have the old set of snapshots or the new one, and the
 * next save works. */
#include "block/qcow2/qcow2_create.h"
#include "tests/vmm/snapshot/savevm_rig.h"
#include "util/loop/sched_point.h"
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

static void disk_create_at_home(void *opaque)
{
    Qcow2CreateRequest *r = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    if (!qcow2_co_create(r)) {
        fail_msg("%s", r->error->message);
    }
}

static coroutine_fn RUNS_IN_MAIN void disk_write(unsigned i, uint64_t piece)
{
    Disk *d = &disks[i];
    test_fill(d->now + piece * PIECE, PIECE, ++rig->seed);
    assert_int_equal(test_io(d->guest, TEST_WRITE, piece * PIECE, PIECE, d->now + piece * PIECE, 0),
                     0);
}

static coroutine_fn RUNS_IN_MAIN void disk_open(unsigned i, BlockNode *file, const char *name)
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
static void disks_parked(void)
{
    enter_coroutine();
    enter_main();
    for (unsigned i = 0; i < 2; i++) {
        disk_write(i, 3 + i);
        memcpy(disks[i].at_stop, disks[i].now, SPAN);
    }
}

static coroutine_fn RUNS_IN_MAIN void snap_init(void)
{
    rig_init();
    rig->of_file = true;
    vm_jobs_init(&rig->vm);
    rig->vm.machine.devices = g_ptr_array_new();
    ram_test_init(&saved);
    disk_open(0, rig->a, "q0");
    disk_open(1, rig->b, "q1");
}

static coroutine_fn RUNS_IN_MAIN void snap_clear(void)
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

static coroutine_fn RUNS_IN_MAIN void job_begin(Start *start, const char *tag, bool replaces)
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

static char captured[32]; /* how the last job has captured memory */

/* Waits for the end of the job. Returns its error, owned by the caller; NULL: none. */
static coroutine_fn RUNS_IN_MAIN char *job_end(void)
{
    Job *job = job_find(JOB);
    while (job_status(job) != JOB_STATUS_CONCLUDED) {
        co_yield_turn();
    }
    char *text = g_strdup(job_error_text(job));
    const SnapshotSaveInfo *info = snapshot_save_info(job);
    g_strlcpy(captured, info != NULL && info->capture != NULL ? info->capture : "",
              sizeof(captured));
    assert_true(job_dismiss(job, NULL));
    return text;
}

static coroutine_fn RUNS_IN_MAIN void job_ends_well(void)
{
    g_autofree char *error = job_end();
    if (error != NULL) {
        fail_msg("the job has failed: %s", error);
    }
}

/* Memory and disks change while the job runs, and what they were at the stop is kept. */
static coroutine_fn RUNS_IN_MAIN void guest_runs(void)
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

static coroutine_fn RUNS_IN_MAIN void save(const char *tag, bool replaces)
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
static coroutine_fn RUNS_IN_MAIN void load_and_check(const char *tag)
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
static RUNS_IN_MAIN unsigned tags(unsigned disk, const char *tag)
{
    const BlockImageInfo *info = block_node_image_info(disks[disk].node);
    unsigned count = 0;
    for (unsigned i = 0; i < info->snapshot_count; i++) {
        count += strcmp(info->snapshots[i].name, tag) == 0;
    }
    return count;
}

/* ---- the tests ---- */

BLOCK_TEST(memory_and_disks_of_one_instant_come_back)
{
    snap_init();
    save("a", false);
    save("b", false);
    assert_string_equal(captured, "fork");
    load_and_check("b");
    assert_int_equal(rig->loads, 1);
    snap_clear();
}

BLOCK_TEST(an_older_snapshot_comes_back_and_is_deleted)
{
    snap_init();
    save("old", false);
    RamTest memory = saved;
    memory.host = g_memdup2(saved.host, RAM_TEST_LOW + RAM_TEST_HIGH);
    g_autofree uint8_t *content = g_memdup2(saved_disks, sizeof(saved_disks));
    save("new", false);
    memcpy(saved.host, memory.host, RAM_TEST_LOW + RAM_TEST_HIGH);
    memcpy(saved_disks, content, sizeof(saved_disks));
    load_and_check("old");
    job_begin(snapshot_delete_start, "old", false);
    job_ends_well();
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(tags(i, "old"), 0);
        assert_int_equal(tags(i, "new"), 1);
    }
    g_free(memory.host);
    snap_clear();
}

static coroutine_fn RUNS_IN_MAIN void expect_outside_refused(Start *start, const char *tag)
{
    job_begin(start, tag, false);
    g_autofree char *error = job_end();
    assert_non_null(error);
    if (strstr(error, "device 'disk7': another process has its data") == NULL) {
        fail_msg("%s", error);
    }
    assert_true(rig_runs());
}

BLOCK_TEST(a_device_whose_data_is_outside_is_named)
{
    const DeviceType type = {.name = "outside-pci", .data_outside = true};
    Device dev = {.type = &type, .id = "disk7"};
    snap_init();
    save("a", false);
    unsigned stops = rig->stops;
    g_ptr_array_add(rig->vm.machine.devices, &dev);
    expect_outside_refused(snapshot_save_start, "b");
    expect_outside_refused(snapshot_load_start, "a");
    assert_int_equal(rig->stops, stops);
    assert_int_equal(tags(0, "b") + tags(1, "b"), 0);
    g_ptr_array_set_size(rig->vm.machine.devices, 0);
    save("b", false);
    load_and_check("b");
    snap_clear();
}

BLOCK_TEST(what_cannot_be_is_refused_before_a_job_exists)
{
    static const char *const one[] = {"q0", NULL}, *const none[] = {"q9", NULL},
                             *const raw[] = {"a", NULL};
    static const struct {
        Start *start;
        const char *tag, *state;
        const char *const *names;
        const char *error;
    } cases[] = {
        {snapshot_save_start, "a", "q1", both,
         "Snapshot 'a' already exists in one or more devices"},
        {snapshot_save_start, "b", "q1", one, "vmstate block device 'q1' does not exist"},
        {snapshot_save_start, "b", "q0", none, "No block device node 'q9'"},
        {snapshot_save_start, "b", "a", raw,
         "Device 'a' is writable but does not support snapshots"},
        {snapshot_load_start, "b", "q1", both,
         "Snapshot 'b' does not exist in one or more devices"},
        {snapshot_load_start, "a", "q0", both,
         "Snapshot 'a' has no machine's state for all of these disks; 'skiff-img snapshot -a' "
         "makes one disk as it was"},
    };
    snap_init();
    save("a", false);
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        const SnapshotJobConfig config = {.vm = &rig->vm,
                                          .id = JOB,
                                          .tag = cases[i].tag,
                                          .state = cases[i].state,
                                          .names = cases[i].names};
        vm_operation_begin(&rig->vm.run);
        assert_null(cases[i].start(&config, &error));
        vm_operation_end(&rig->vm.run);
        assert_string_equal(error->message, cases[i].error);
        assert_null(job_find(JOB));
    }
    snap_clear();
}

BLOCK_TEST(the_same_name_replaces_only_when_the_new_one_is_complete)
{
    snap_init();
    save("a", false);
    save("a", true);
    assert_int_equal(tags(0, "a"), 1);
    assert_int_equal(tags(1, "a"), 1);
    rig->state_fails = true;
    job_begin(snapshot_save_start, "a", true);
    g_autofree char *error = job_end();
    assert_string_equal(error, "vnet0: its state is elsewhere");
    rig->state_fails = false;
    load_and_check("a");
    snap_clear();
}

/* A disk snapshot with the same name, made by hand, is not taken for a part of the set. */
BLOCK_TEST(sets_are_not_mixed)
{
    snap_init();
    save("a", false);
    BlockSnapshotInfo info = {.name = (char *)(uintptr_t) "a", .date_s = 5, .icount = UINT64_MAX};
    assert_int_equal(block_node_co_snapshot_create(disks[0].node, &info, NULL), 0);
    assert_int_equal(tags(0, "a"), 2);
    load_and_check("a");
    snap_clear();
}

/* Each request of each file fails in turn. */
static coroutine_fn RUNS_IN_MAIN void fail_each(BlockNode *file, BlockFaultOp op, uint32_t number)
{
    bool failed = true;
    for (unsigned after = 0; failed; after += after < 30 ? 1 : 7) {
        fault_set(file, (BlockFault){.op = op, .after = after, .count = 1, .error = number});
        rig->parked = NULL;
        job_begin(snapshot_save_start, "new", false);
        g_autofree char *error = job_end();
        fault_set(file, (BlockFault){0});
        failed = error != NULL;
        assert_true(rig_runs());
        assert_int_equal(tags(0, "new"), failed ? 0 : 1);
        assert_int_equal(tags(1, "new"), failed ? 0 : 1);
        assert_int_equal(tags(0, "old"), 1);
    }
    job_begin(snapshot_delete_start, "new", false);
    job_ends_well();
    load_and_check("old");
}

BLOCK_TEST(a_write_that_fails_leaves_the_old_set)
{
    snap_init();
    save("old", false);
    fail_each(rig->a, BLOCK_FAULT_WRITE, EIO);
    fail_each(rig->b, BLOCK_FAULT_WRITE, ENOSPC);
    save("last", false);
    load_and_check("last");
    snap_clear();
}

BLOCK_TEST(a_flush_that_fails_leaves_the_old_set)
{
    snap_init();
    save("old", false);
    fail_each(rig->a, BLOCK_FAULT_FLUSH, EIO);
    fail_each(rig->b, BLOCK_FAULT_FLUSH, EIO);
    save("last", false);
    load_and_check("last");
    snap_clear();
}

/* Each write of the image with the state hangs in turn, until after the cancel. The VM is not stopped by it, but for the
 * disks of a guest that need the same file. */
static coroutine_fn RUNS_IN_MAIN void hang_each(FrozenRamWay way)
{
    snap_init();
    save("old", false);
    capture_way = way;
    for (unsigned after = 0; after < 60; after += after < 20 ? 1 : 5) {
        fault_set(rig->b, (BlockFault){.op = BLOCK_FAULT_WRITE, .after = after, .hold = true});
        job_begin(snapshot_save_start, "new", false);
        while (block_fault_held(rig->b) == 0 && job_status(job_find(JOB)) != JOB_STATUS_CONCLUDED) {
            co_yield_turn();
        }
        job_cancel(job_find(JOB), true, NULL);
        for (unsigned i = 0; i < 100; i++) {
            rig_write(i * LAST_PAGE / 100); /* the guest does not wait for the file */
            co_yield_turn();
        }
        fault_release(rig->b);
        g_autofree char *error = job_end();
        assert_true(rig_runs());
        assert_int_equal(tags(0, "new"), tags(1, "new"));
        assert_int_equal(tags(1, "new"), error == NULL);
        if (error == NULL) {
            job_begin(snapshot_delete_start, "new", false);
            job_ends_well();
        }
    }
    load_and_check("old");
    save("last", false);
    load_and_check("last");
    capture_way = FROZEN_RAM_AUTO;
    snap_clear();
}

BLOCK_TEST(a_hanging_write_can_be_cancelled)
{
    hang_each(FROZEN_RAM_FORK);
}

BLOCK_TEST(a_hanging_write_of_protected_memory_can_be_cancelled)
{
    hang_each(FROZEN_RAM_WP);
}

/* Nothing is changed before each disk has said that it can be loaded. */
BLOCK_TEST(a_load_that_a_disk_refuses_changes_nothing)
{
    snap_init();
    save("a", false);
    disk_write(0, 7);
    BlockSnapshotInfo info = {.name = (char *)(uintptr_t) "other", .icount = UINT64_MAX};
    BlockSnapshotRun *run = block_node_co_snapshot_prepare(disks[1].node, &info, NULL);
    assert_non_null(run);
    job_begin(snapshot_load_start, "a", false);
    g_autofree char *error = job_end();
    assert_string_equal(error, "Could not load snapshot 'a' on 'q1': an operation on its internal "
                               "snapshots is running");
    assert_true(rig_runs());
    assert_int_equal(rig->loads, 0);
    static uint8_t buf[SPAN];
    assert_int_equal(test_io(disks[0].guest, TEST_READ, 0, SPAN, buf, 0), 0);
    assert_memory_equal(buf, disks[0].now, SPAN);
    block_snapshot_co_end(run, NULL);
    load_and_check("a");
    snap_clear();
}

/* A cancel that is accepted is obeyed: while the state is read, nothing has changed. */
BLOCK_TEST(a_load_is_cancelled_before_it_changes_anything)
{
    snap_init();
    save("a", false);
    fault_set(rig->b, (BlockFault){.op = BLOCK_FAULT_READ, .hold = true});
    job_begin(snapshot_load_start, "a", false);
    while (block_fault_held(rig->b) == 0) {
        co_yield_turn();
    }
    job_cancel(job_find(JOB), true, NULL);
    fault_release(rig->b);
    g_autofree char *error = job_end();
    assert_non_null(error);
    assert_int_equal(rig->loads, 0);
    assert_true(rig_runs());
    load_and_check("a");
    snap_clear();
}

/* The machine that asked for a reset is gone. */
BLOCK_TEST(a_reset_that_was_asked_for_does_not_hit_the_machine_that_is_loaded)
{
    snap_init();
    save("a", false);
    vm_operation_begin(&rig->vm.run);
    const SnapshotJobConfig config = {
        .vm = &rig->vm, .id = JOB, .tag = "a", .state = "q1", .names = both};
    assert_non_null(snapshot_load_start(&config, NULL));
    run_state_request_reset(&rig->vm.run);
    for (unsigned i = 0; i < 10; i++) {
        co_yield_turn();
    }
    vm_operation_end(&rig->vm.run);
    rig->load_reset_comes = true; /* and once more while it is loaded */
    unsigned stops = rig->stops;
    job_ends_well();
    run_state_co_settle(&rig->vm.run, INT64_MAX / 2);
    assert_true(rig_runs());
    assert_in_range(rig->stops - stops, 1, 2); /* the first may have come before */
    snap_clear();
}

/* There is one log of dirty memory. */
BLOCK_TEST(a_save_in_passes_beside_another_log_is_refused)
{
    GuestRam *ram;
    snap_init();
    ram = &rig->vm.machine.ram;
    capture_way = FROZEN_RAM_PASSES;
    assert_true(guest_ram_co_log_start(ram, NULL));
    job_begin(snapshot_save_start, "a", false);
    g_autofree char *error = job_end();
    assert_string_equal(error, "another save copies memory, or a rewind point is held");
    assert_true(rig_runs());
    assert_true(atomic_load(&ram->logging));
    guest_ram_co_log_stop(ram);
    save("a", false);
    load_and_check("a");
    capture_way = FROZEN_RAM_AUTO;
    snap_clear();
}

/* What is not frozen is copied in passes, and who cannot log stopped. */
BLOCK_TEST(without_a_frozen_copy_memory_is_copied_in_passes)
{
    snap_init();
    capture_way = FROZEN_RAM_PASSES;
    rig->dirty_passes = 3;
    save("passes", false);
    assert_string_equal(captured, "passes");
    load_and_check("passes");
    rig->log_fails = true;
    save("stopped", false);
    assert_string_equal(captured, "stopped");
    load_and_check("stopped");
    capture_way = FROZEN_RAM_AUTO;
    snap_clear();
}

/* Shared memory cannot be forked, and memory of a file cannot be protected. */
BLOCK_TEST(the_way_follows_from_the_memory)
{
    snap_init();
    rig->vm.machine.ram.blocks[0].fd = 0;
    save("shared", false);
    if (strcmp(captured, "passes") != 0) { /* userfaultfd is not permitted */
        assert_string_equal(captured, "write-protection");
    }
    load_and_check("shared");
    rig->vm.machine.ram.blocks[1].of_file = true;
    save("neither", false);
    assert_string_equal(captured, "passes");
    load_and_check("neither");
    rig->vm.machine.ram.blocks[0].fd = -1;
    save("file", false);
    assert_string_equal(captured, "fork");
    load_and_check("file");
    snap_clear();
}

/* The guest's writes are in neither of both disks' images nor in memory after the instant. */
BLOCK_TEST(protected_memory_and_disks_are_of_one_instant)
{
    snap_init();
    capture_way = FROZEN_RAM_WP;
    for (unsigned n = 0; n < 5; n++) {
        save("a", n > 0);
        load_and_check("a");
    }
    capture_way = FROZEN_RAM_AUTO;
    snap_clear();
}

/* ---- other processes that write memory ---- */

static void outside_comes(void *arg, const void *at)
{
    enter_main();
    ram_outside_begin();
}

static bool protects(FrozenRam *f)
{
    enter_main();
    enter_coroutine();
    g_autoptr(GError) error = NULL;
    *f = (FrozenRam){.vm = &rig->vm, .way = FROZEN_RAM_WP};
    return frozen_ram_co_prepare(f, &error);
}

/* Whether userfaultfd is permitted. */
static bool can_protect(void)
{
    enter_main();
    enter_coroutine();
    FrozenRam f;
    bool can = protects(&f);
    frozen_ram_co_free(&f);
    return can;
}

/* While the protection is set up, in another thread. */
BLOCK_TEST(a_process_that_comes_during_the_preparation_is_noticed)
{
    snap_init();
    if (can_protect()) {
        capture_way = FROZEN_RAM_WP;
        sched_point_hook("frozen_ram.arm", outside_comes, NULL);
        save("a", false);
        sched_point_hook("frozen_ram.arm", NULL, NULL);
        assert_string_equal(captured, "passes");
        save("b", false);
        assert_string_equal(captured, "passes");
        ram_outside_end();
        save("c", false);
        assert_string_equal(captured, "write-protection");
        capture_way = FROZEN_RAM_AUTO;
    }
    snap_clear();
}

/* One save was cancelled and has its memory still when the next one begins. */
BLOCK_TEST(a_process_that_comes_ends_each_protection)
{
    FrozenRam a, b;
    snap_init();
    if (can_protect()) {
        assert_true(protects(&a));
        frozen_ram_cancel(&a);
        while (!protects(&b)) { /* until the first one has let go of memory */
            co_yield_turn();
        }
        frozen_ram_co_free(&a);
        assert_null(frozen_ram_failure(&b));
        ram_outside_begin();
        assert_non_null(frozen_ram_failure(&b));
        frozen_ram_co_free(&b);
        ram_outside_end();
    }
    snap_clear();
}

static void cancel_now(void *arg, const void *at)
{
    enter_main();
    frozen_ram_cancel(arg);
}

BLOCK_TEST(a_cancel_during_the_preparation_counts)
{
    FrozenRam f;
    snap_init();
    if (can_protect()) {
        sched_point_hook("frozen_ram.arm", cancel_now, &f);
        assert_false(protects(&f));
        sched_point_hook("frozen_ram.arm", NULL, NULL);
        assert_null(f.wp);
    }
    snap_clear();
}

/* A load would write all of memory, which the save has yet to read. */
BLOCK_TEST(a_load_beside_a_save_is_refused)
{
    snap_init();
    save("old", false);
    fault_set(rig->b, (BlockFault){.op = BLOCK_FAULT_WRITE, .after = 3, .hold = true});
    job_begin(snapshot_save_start, "new", false);
    while (block_fault_held(rig->b) == 0) {
        co_yield_turn();
    }
    g_autoptr(GError) error = NULL;
    assert_false(snapshot_load_co_at_start(&rig->vm, "old", &error));
    assert_non_null(strstr(error->message, "the machine is being saved"));
    fault_release(rig->b);
    job_ends_well();
    load_and_check("old");
    snap_clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_process_that_comes_during_the_preparation_is_noticed),
        cmocka_unit_test(a_process_that_comes_ends_each_protection),
        cmocka_unit_test(a_cancel_during_the_preparation_counts),
        cmocka_unit_test(a_load_beside_a_save_is_refused),
        cmocka_unit_test(memory_and_disks_of_one_instant_come_back),
        cmocka_unit_test(an_older_snapshot_comes_back_and_is_deleted),
        cmocka_unit_test(a_device_whose_data_is_outside_is_named),
        cmocka_unit_test(what_cannot_be_is_refused_before_a_job_exists),
        cmocka_unit_test(the_same_name_replaces_only_when_the_new_one_is_complete),
        cmocka_unit_test(sets_are_not_mixed),
        cmocka_unit_test(a_write_that_fails_leaves_the_old_set),
        cmocka_unit_test(a_flush_that_fails_leaves_the_old_set),
        cmocka_unit_test(a_hanging_write_can_be_cancelled),
        cmocka_unit_test(a_hanging_write_of_protected_memory_can_be_cancelled),
        cmocka_unit_test(a_load_that_a_disk_refuses_changes_nothing),
        cmocka_unit_test(a_load_is_cancelled_before_it_changes_anything),
        cmocka_unit_test(a_reset_that_was_asked_for_does_not_hit_the_machine_that_is_loaded),
        cmocka_unit_test(a_save_in_passes_beside_another_log_is_refused),
        cmocka_unit_test(without_a_frozen_copy_memory_is_copied_in_passes),
        cmocka_unit_test(the_way_follows_from_the_memory),
        cmocka_unit_test(protected_memory_and_disks_are_of_one_instant),
    };
    return block_test_main(tests);
}

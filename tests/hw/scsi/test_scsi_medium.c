/* SPDX-License-Identifier: Apache-2.0 */
/* Media of a CD drive that the host changes, also while the guest reads. */
#include "hw/scsi/scsi_medium.h"
#include "tests/hw/scsi/scsi_bench.h"

#define MEDIUM_REMOVED 0x63a00u
#define MEDIUM_CHANGED 0x62800u
#define MEDIUM_PATIENCE_NS (INT64_C(3600) * 1000000000)

static unsigned moves; /* of the tray */
static bool moved_open;

static void note_move(void *opaque, const Device *dev, bool open)
{
    moves++;
    moved_open = open;
}

typedef struct Cd {
    Fixture *f;
    ScsiLun *lun;
    const char *node;
    GError *error;
    bool done;
} Cd;

static Cd bring_up_cd(Fixture *f, const char *disk)
{
    bring_up_as(f, disk, "scsi-cd", NULL);
    f->g.bench->machine->env.tray_moved = note_move;
    moves = 0;
    return (Cd){.f = f, .lun = scsi_medium_drive(f->g.luns[0]), .node = "disk"};
}

static void remove_medium(void *opaque)
{
    Cd *cd = opaque;
    enter_main();
    enter_coroutine();
    assert_true(scsi_medium_co_remove(cd->lun, MEDIUM_PATIENCE_NS));
    cd->done = true;
}

static void insert_medium(void *opaque)
{
    Cd *cd = opaque;
    enter_main();
    enter_coroutine();
    scsi_medium_co_insert(cd->lun, cd->node, &cd->error);
}

static uint8_t media_event(Fixture *f)
{
    assert_int_equal(RUN_IN(f, 8, 0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8), GOOD);
    return scsi_call_data(&f->call)[4];
}

static void a_changed_medium_is_reported(void **state)
{
    Fixture *f = *state;
    Cd cd = bring_up_cd(f, "size=1M");
    assert_true(scsi_medium_open_tray(cd.lun, false));
    assert_int_equal(moves, 1);
    assert_true(moved_open);
    assert_check(RUN(f, 0x00), MEDIUM_REMOVED);
    assert_check(RUN(f, 0x00), NO_MEDIUM);
    assert_int_equal(media_event(f), 3); /* removal */
    virtio_bench_run(f->g.bench, remove_medium, &cd);
    assert_null(blk_find("scsi-cd"));
    assert_true(scsi_medium_open_tray(cd.lun, false)); /* already */
    assert_int_equal(moves, 1);
    virtio_bench_run(f->g.bench, insert_medium, &cd);
    assert_null(cd.error);
    assert_check(RUN(f, 0x00), NO_MEDIUM); /* the tray is open */
    scsi_medium_close_tray(cd.lun);
    assert_int_equal(moves, 2);
    assert_false(moved_open);
    assert_int_equal(media_event(f), 2); /* new */
    assert_check(RUN(f, 0x00), MEDIUM_REMOVED);
    assert_check(RUN(f, 0x00), MEDIUM_CHANGED);
    assert_int_equal(RUN(f, 0x00), GOOD);
    assert_int_equal(RUN_IN(f, 2048, 0x28, 0, 0, 0, 0, 0, 0, 0, 1), GOOD);
}

static void a_locked_tray_is_requested_to_open(void **state)
{
    Fixture *f = *state;
    Cd cd = bring_up_cd(f, "size=1M");
    assert_int_equal(RUN(f, 0x1e, 0, 0, 0, 1), GOOD);
    assert_true(scsi_medium_locked(cd.lun));
    assert_false(scsi_medium_open_tray(cd.lun, false));
    assert_int_equal(moves, 0);
    assert_int_equal(RUN(f, 0x00), GOOD);
    assert_int_equal(media_event(f), 1); /* eject request, once */
    assert_int_equal(media_event(f), 0);
    assert_int_equal(RUN(f, 0x1e), GOOD);
    assert_int_equal(RUN(f, 0x1b, 0, 0, 0, 2), GOOD); /* the guest opens it */
    assert_int_equal(moves, 1);
    scsi_medium_close_tray(cd.lun);
    assert_int_equal(RUN(f, 0x1e, 0, 0, 0, 1), CHECK); /* the attention first */
    scsi_call_clear_attentions(&f->call);
    assert_int_equal(RUN(f, 0x1e, 0, 0, 0, 1), GOOD);
    assert_true(scsi_medium_open_tray(cd.lun, true)); /* forced */
    assert_false(scsi_medium_locked(cd.lun));
    assert_check(RUN(f, 0x00), MEDIUM_REMOVED);
}

static void a_medium_leaves_when_its_reads_have_ended(void **state)
{
    Fixture *f = *state;
    Cd cd = bring_up_cd(f, "size=1M");
    blk_disk_set_manual(&f->g.disk, true);
    scsi_call_send(&f->call, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 1), SCSI_DIR_IN, 2048);
    virtio_bench_settle(f->g.bench);
    assert_true(scsi_medium_open_tray(cd.lun, false));
    co_start(f->g.bench->main_ctx, remove_medium, &cd);
    virtio_bench_settle(f->g.bench);
    assert_false(cd.done);
    ScsiCall second;
    scsi_call_init(&second, &f->g.requests[0], 4096);
    scsi_call_send(&second, CDB(0x00), SCSI_DIR_NONE, 0); /* others are answered meanwhile */
    virtio_bench_settle(f->g.bench);
    assert_int_equal(scsi_call_result(&second), CHECK);
    assert_true(blk_disk_complete(&f->g.disk, 0));
    assert_true(cd.done);
    assert_int_equal(scsi_call_result(&f->call), SCSI_CALL_RESPONSE | VIRTIO_SCSI_S_ABORTED);
    assert_null(blk_find("scsi-cd"));
}

/* A read that an error holds does not keep its medium: it would wait for a cont that waits for it. */
static void a_held_read_does_not_keep_the_medium(void **state)
{
    Fixture *f = *state;
    scsi_guest_open(&f->g, "size=1M", "num_queues=1", ~0ull);
    f->open = true;
    scsi_guest_add(&f->g, "scsi-cd", "drive=disk,rerror=stop");
    Cd cd = {.f = f, .lun = scsi_medium_drive(f->g.luns[0])};
    scsi_call_init(&f->call, &f->g.requests[0], 4096);
    scsi_call_clear_attentions(&f->call);
    blk_disk_set_manual(&f->g.disk, true);
    scsi_call_send(&f->call, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 1), SCSI_DIR_IN, 2048);
    virtio_bench_settle(f->g.bench);
    assert_true(blk_disk_complete(&f->g.disk, -EIO));
    assert_int_equal(scsi_call_result(&f->call), SCSI_CALL_PENDING);
    virtio_bench_run(f->g.bench, remove_medium, &cd);
    virtio_bench_settle(f->g.bench);
    assert_int_equal(scsi_call_result(&f->call), SCSI_CALL_RESPONSE | VIRTIO_SCSI_S_ABORTED);
}

static void a_medium_that_does_not_exist_leaves_the_drive_empty(void **state)
{
    Fixture *f = *state;
    Cd cd = bring_up_cd(f, "size=1M");
    virtio_bench_run(f->g.bench, remove_medium, &cd);
    cd.node = "none";
    virtio_bench_run(f->g.bench, insert_medium, &cd);
    assert_non_null(cd.error);
    g_clear_error(&cd.error);
    assert_check(RUN(f, 0x00), NO_MEDIUM);
}

static void set_limits(void *opaque)
{
    Cd *cd = opaque;
    enter_main();
    enter_coroutine();
    RateLimits limits;
    rate_limits_init(&limits);
    limits.buckets[RATE_IOPS_TOTAL].avg = 1;
    ThrottleGroup *g = throttle_group_new("g", &limits);
    blk_co_set_throttle_group(cd->lun->blk, g);
    throttle_group_unref(g); /* the drive has it */
}

static void limits_stay_when_the_medium_changes(void **state)
{
    Fixture *f = *state;
    Cd cd = bring_up_cd(f, "size=1M");
    virtio_bench_run(f->g.bench, set_limits, &cd);
    for (unsigned i = 0; i < 2; i++) {
        virtio_bench_run(f->g.bench, remove_medium, &cd);
        assert_non_null(throttle_group_find("g"));
        virtio_bench_run(f->g.bench, insert_medium, &cd);
        assert_string_equal(throttle_group_name(blk_throttle_group(cd.lun->blk)), "g");
    }
    virtio_bench_run(f->g.bench, remove_medium, &cd);
    scsi_guest_remove(&f->g, f->g.luns[0]);
    assert_null(throttle_group_find("g"));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    static const struct CMUnitTest tests[] = {
        T(a_changed_medium_is_reported),
        T(a_locked_tray_is_requested_to_open),
        T(a_medium_leaves_when_its_reads_have_ended),
        T(a_held_read_does_not_keep_the_medium),
        T(a_medium_that_does_not_exist_leaves_the_drive_empty),
        T(limits_stay_when_the_medium_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

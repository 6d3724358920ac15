/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Backups against a model, in generated schedules: a guest writes, zeroes and discards; requests to
 * source and target complete when the schedule says so, or fail; the job is paused, resumed and
 * cancelled, and drained sections begin and end. Afterwards the target has what the source had at the
 * start, and the bitmap covers each difference.
 */
#include "tests/block/job/backup_test.h"
#include "tests/support/rounds.h"

#define GUESTS 4u /* requests of the guest at a time */
#define GUEST_BYTES_MAX ((uint64_t)3 * BACKUP_UNIT)
#define SCHEDULE_STEPS 250u
#define CLUSTERS (BACKUP_SIZE / BACKUP_UNIT)

static uint64_t random_state;

static uint64_t random_below(uint64_t bound)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % bound;
}

typedef struct Schedule {
    BackupRig r;
    uint8_t *snapshot; /* the source when the job started */
    uint8_t *previous; /* the target then */
    uint8_t *data;     /* what the guest writes */
    TestRequest requests[GUESTS];
    bool busy[GUESTS];
    BlockBackupConfig config;
    bool fails;        /* requests to the target can fail */
    bool broken;       /* a request to source or target has failed */
    bool failed_guest; /* a request to the source has failed: maybe one of the guest */
    bool ended_none;   /* a job with sync=none was compared, and cancelled after that */
} Schedule;

/* ---- disks ---- */

static void set_manual_at_home(void *opaque)
{
    const BackupRig *r = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    block_mem_set_manual(r->source, true);
    block_mem_set_manual(r->target, true);
}

static void set_automatic_at_home(void *opaque)
{
    const BackupRig *r = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    block_mem_set_manual(r->source, false);
    block_mem_set_manual(r->target, false);
    while (block_mem_complete(r->source, 0) || block_mem_complete(r->target, 0)) {
    }
}

static void copy_disks_at_home(void *opaque)
{
    Schedule *s = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    memcpy(s->snapshot, block_mem_data(s->r.source), BACKUP_SIZE);
    memcpy(s->previous, block_mem_data(s->r.target), BACKUP_SIZE);
}

/* The bytes of a node. To be freed. */
typedef struct NodeCopy {
    BlockNode *node;
    uint8_t *data;
} NodeCopy;

static void node_copy_at_home(void *opaque)
{
    NodeCopy *c = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    c->data = g_memdup2(block_mem_data(c->node), BACKUP_SIZE);
}

static coroutine_fn RUNS_IN_MAIN uint8_t *node_copy(BlockNode *n)
{
    NodeCopy c = {.node = n};
    test_in_home(node_copy_at_home, &c);
    return c.data;
}

/* ---- steps ---- */

static RUNS_IN_MAIN void step_guest(Schedule *s)
{
    static const TestOp ops[] = {TEST_WRITE, TEST_WRITE, TEST_WRITE, TEST_ZERO, TEST_DISCARD};
    for (unsigned i = 0; i < GUESTS; i++) {
        TestRequest *r = &s->requests[i];
        if (s->busy[i]) {
            continue;
        }
        uint64_t offset = random_below(BACKUP_SIZE / 512) * 512;
        uint64_t bytes = 512 + random_below(MIN(GUEST_BYTES_MAX, BACKUP_SIZE - offset) / 512) * 512;
        *r = (TestRequest){.blk = s->r.guest,
                           .op = ops[random_below(G_N_ELEMENTS(ops))],
                           .offset = offset,
                           .bytes = MIN(bytes, BACKUP_SIZE - offset),
                           .buf = s->data + random_below(BACKUP_SIZE)};
        s->busy[i] = true;
        test_start(r);
        return;
    }
}

static coroutine_fn RUNS_IN_MAIN void step_reap(Schedule *s)
{
    for (unsigned i = 0; i < GUESTS; i++) {
        if (s->busy[i] && s->requests[i].done.happened) {
            int ret = test_finish(&s->requests[i]);
            bool may_fail = s->failed_guest ||
                            (s->broken && s->config.on_cbw_error == BLOCK_CBW_BREAK_GUEST_WRITE);
            assert_true(ret == 0 || (may_fail && (ret == -EIO || ret == -ENOSPC)));
            s->busy[i] = false;
        }
    }
}

static void step_complete_at_home(void *opaque)
{
    Schedule *s = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    unsigned choice = (unsigned)random_below(8);
    bool fails = s->fails && random_below(24) == 0, source = choice < 4;
    int ret = !fails ? 0 : random_below(2) == 0 ? -EIO : -ENOSPC;
    if (block_mem_complete(source ? s->r.source : s->r.target, ret) && fails) {
        s->broken = true;
        s->failed_guest |= source;
    }
}

static void source_complete_all_at_home(void *opaque)
{
    Schedule *s = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    while (block_mem_complete(s->r.source, 0)) {
    }
}

/* A drained section begins although no request to the target completes. */
typedef struct Drain {
    Schedule *s;
    TestEvent done;
} Drain;

static void drain_run(void *opaque)
{
    Drain *d = opaque;
    enter_main();
    enter_coroutine();
    co_drained_begin(&d->s->r.guest, 1);
    co_drained_end(&d->s->r.guest, 1);
    test_event_set(&d->done);
}

static coroutine_fn RUNS_IN_MAIN void step_drain(Schedule *s)
{
    Drain d = {.s = s};
    co_start(test_main, drain_run, &d);
    for (unsigned turns = 0; !d.done.happened; turns++) {
        test_in_home(source_complete_all_at_home, s);
        test_settle();
        assert_true(turns < 10000);
    }
    test_event_wait(&d.done);
}

static RUNS_IN_MAIN void step_verb(Schedule *s)
{
    Job *job = job_find("job0");
    if (job == NULL) {
        return;
    }
    switch (random_below(12)) {
    case 0:
        job_cancel(job, true, NULL);
        break;
    case 1:
    case 2:
    case 3:
        job_pause(job, NULL);
        break;
    default:
        job_resume(job, NULL);
        break;
    }
}

static coroutine_fn RUNS_IN_MAIN void schedule_step(Schedule *s)
{
    unsigned choice = (unsigned)random_below(40);
    if (choice < 10) {
        step_guest(s);
    } else if (choice < 34) {
        test_in_home(step_complete_at_home, s);
    } else if (choice < 37) {
        test_settle();
    } else if (choice < 39) {
        step_verb(s);
    } else {
        step_drain(s);
    }
    step_reap(s);
}

/* ---- the result ---- */

static bool cluster_differs(const uint8_t *a, const uint8_t *b, uint64_t cluster)
{
    return memcmp(a + cluster * BACKUP_UNIT, b + cluster * BACKUP_UNIT, BACKUP_UNIT) != 0;
}

/* Each cluster of the source that differs from @base has its bit, as far as the number shows it; a copy
 * of what the bitmap has makes @base equal to the source. */
static coroutine_fn RUNS_IN_MAIN void check_bitmap(Schedule *s, const uint8_t *base)
{
    g_autofree uint8_t *source = node_copy(s->r.source);
    uint64_t different = 0;
    for (uint64_t i = 0; i < CLUSTERS; i++) {
        different += cluster_differs(source, base, i);
    }
    assert_true(backup_dirty_bytes(s->r.source, 0) >= different * BACKUP_UNIT);
    BlockBackend *blk = blk_co_new("base", s->r.target, true, NULL);
    assert_int_equal(test_io(blk, TEST_WRITE, 0, BACKUP_SIZE, (void *)(uintptr_t)base, 0), 0);
    blk_co_free(blk);
    g_string_truncate(job_log, 0);
    backup_start(&s->r, (BlockBackupConfig){.sync = BLOCK_BACKUP_BITMAP, .bitmap = "b"});
    job_await_end("job0", "COMPLETED ");
    g_autofree uint8_t *target = node_copy(s->r.target);
    assert_memory_equal(target, source, BACKUP_SIZE);
    assert_int_equal(backup_dirty_bytes(s->r.source, 0), 0);
}

/* What the guest has changed is in the target as it was at the start. No request is in flight. */
static coroutine_fn RUNS_IN_MAIN void check_none(Schedule *s)
{
    g_autofree uint8_t *source = node_copy(s->r.source), *target = node_copy(s->r.target);
    for (uint64_t i = 0; i < CLUSTERS; i++) {
        assert_false(cluster_differs(source, s->snapshot, i) &&
                     cluster_differs(target, s->snapshot, i));
    }
    s->ended_none = true;
}

static coroutine_fn RUNS_IN_MAIN void check_result(Schedule *s, bool committed)
{
    g_autofree uint8_t *target = node_copy(s->r.target);
    if (committed) {
        assert_memory_equal(target, s->snapshot, BACKUP_SIZE);
    }
    if (s->config.bitmap != NULL) {
        bool forgets = s->config.bitmap_mode == BLOCK_BACKUP_ALWAYS ||
                       (s->config.bitmap_mode == BLOCK_BACKUP_ON_SUCCESS && committed);
        check_bitmap(s, forgets ? target : s->previous);
    }
}

/* ---- schedules ---- */

static BlockBackupConfig schedule_config(void)
{
    static const BlockBackupSync syncs[] = {BLOCK_BACKUP_FULL, BLOCK_BACKUP_BITMAP,
                                            BLOCK_BACKUP_BITMAP, BLOCK_BACKUP_NONE};
    static const BlockBackupBitmapMode modes[] = {BLOCK_BACKUP_ON_SUCCESS, BLOCK_BACKUP_NEVER,
                                                  BLOCK_BACKUP_ALWAYS};
    BlockBackupSync sync = syncs[random_below(G_N_ELEMENTS(syncs))];
    return (BlockBackupConfig){
        .sync = sync,
        .bitmap = sync == BLOCK_BACKUP_BITMAP ? "b" : NULL,
        .bitmap_mode = modes[random_below(G_N_ELEMENTS(modes))],
        .filter_name = random_below(2) == 0 ? "f" : NULL,
        .on_cbw_error =
            random_below(2) == 0 ? BLOCK_CBW_BREAK_GUEST_WRITE : BLOCK_CBW_BREAK_SNAPSHOT,
        .max_workers = (unsigned)random_below(4),
        .max_chunk = random_below(2) * 2 * BACKUP_UNIT,
        .job = {.speed = random_below(4) == 0 ? 32u << 20 : 0,
                .manual_finalize = random_below(4) == 0,
                .manual_dismiss = random_below(4) == 0,
                .on_source_error = (BlockOnError)random_below(5),
                .on_target_error = (BlockOnError)random_below(5)},
    };
}

static coroutine_fn RUNS_IN_MAIN void schedule_open(Schedule *s)
{
    s->config = schedule_config();
    s->fails = random_below(3) == 0;
    backup_rig_open(&s->r, "mem,node-name=s,size=1M,discard=unmap",
                    "mem,node-name=t,size=1M,discard=unmap");
    assert_true(block_dirty_bitmap_co_add(s->r.source, "b", BACKUP_UNIT, 0, NULL));
    for (unsigned i = 0; i < 3; i++) {
        backup_guest_write(&s->r, random_below(CLUSTERS) * BACKUP_UNIT, BACKUP_UNIT,
                           (unsigned)random_below(1000));
    }
    test_in_home(copy_disks_at_home, s);
}

static void finalize_run(void *opaque)
{
    enter_main();
    enter_coroutine();
    Job *job = job_find("job0");
    if (job != NULL) {
        job_co_finalize(job, NULL);
    }
}

/* The job goes on, and ends when the guest has no request. */
static coroutine_fn RUNS_IN_MAIN void push_job(Schedule *s, bool guest_is_idle)
{
    Job *job = job_find("job0");
    if (job == NULL) {
        return;
    }
    job_resume(job, NULL);
    job_set_speed(job, 0, NULL);
    if (job_status(job) == JOB_STATUS_PENDING) {
        co_start(test_main, finalize_run, NULL);
    } else if (job_status(job) == JOB_STATUS_CONCLUDED) {
        assert_true(job_dismiss(job, NULL));
    } else if (guest_is_idle && s->config.sync == BLOCK_BACKUP_NONE &&
               job_status(job) == JOB_STATUS_RUNNING && !s->ended_none) {
        if (!s->broken) {
            check_none(s);
        }
        job_cancel(job_find("job0"), false, NULL);
    }
}

static coroutine_fn RUNS_IN_MAIN bool schedule_run(Schedule *s)
{
    backup_start(&s->r, s->config);
    test_in_home(set_manual_at_home, &s->r);
    for (unsigned i = 0; i < SCHEDULE_STEPS; i++) {
        schedule_step(s);
    }
    s->fails = false;
    bool quiet = false;
    for (unsigned turns = 0; !quiet; turns++) {
        test_in_home(set_automatic_at_home, &s->r);
        test_settle();
        step_reap(s);
        bool idle = true;
        for (unsigned i = 0; i < GUESTS; i++) {
            idle = idle && !s->busy[i];
        }
        push_job(s, idle);
        quiet = idle && job_find("job0") == NULL && job_operation.owner == NULL &&
                block_node_in_flight(s->r.target) == 0;
        assert_true(turns < 100000);
    }
    bool committed = g_str_has_suffix(job_log->str, "COMPLETED ");
    g_string_truncate(job_log, 0);
    return committed;
}

static coroutine_fn RUNS_IN_MAIN bool schedule(uint64_t seed, unsigned *ended_none)
{
    Schedule s = {0};
    random_state = seed * 0x9e3779b97f4a7c15u + 1;
    s.snapshot = g_malloc(BACKUP_SIZE);
    s.previous = g_malloc(BACKUP_SIZE);
    s.data = g_malloc(BACKUP_SIZE + GUEST_BYTES_MAX);
    test_fill(s.data, BACKUP_SIZE + GUEST_BYTES_MAX, (unsigned)seed);
    schedule_open(&s);
    bool committed = schedule_run(&s);
    check_result(&s, committed);
    assert_true(block_dirty_bitmap_co_remove(s.r.source, "b", NULL));
    backup_rig_close(&s.r);
    *ended_none += s.ended_none;
    g_free(s.snapshot);
    g_free(s.previous);
    g_free(s.data);
    return committed;
}

BLOCK_TEST(backups_in_generated_schedules_follow_the_model)
{
    TestSeeds seeds = test_seeds(test_rounds(20, 60, 600));
    unsigned count = seeds.end - seeds.first, committed = 0, none = 0;
    for (unsigned seed = seeds.first; seed < seeds.end; seed++) {
        print_message("seed %u\n", seed);
        committed += schedule(seed, &none);
    }
    print_message("%u of %u jobs succeeded, %u with sync=none were compared\n", committed, count,
                  none);
    if (count < 10) {
        return; /* one seed, for debugging */
    }
    assert_in_range(committed, count / 5, count * 19 / 20);
    assert_true(none > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(backups_in_generated_schedules_follow_the_model),
    };
    return job_test_main(tests);
}

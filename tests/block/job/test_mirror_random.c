/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mirrors under generated schedules, compared with a model. Lanes of a guest write, zero and discard;
 * each has an exact model of its own sectors. Meanwhile jobs are started with random options, paused,
 * resumed, completed and cancelled, requests of source and target are held and fail, and drained
 * sections come.
 *
 * Oracles: when prepare has drained the disk, source and target are equal; the guest always reads what
 * it wrote, before and after a pivot; a drained section waits for no held target; the size stays.
 */
#include "tests/block/job/mirror_test.h"
#include "tests/support/rounds.h"

#define RANDOM_SECTOR 512u
#define RANDOM_SECTORS 2048u
#define RANDOM_SIZE (RANDOM_SECTORS * RANDOM_SECTOR)
#define RANDOM_LANES 4u
#define RANDOM_STEPS 80u

typedef struct Lane {
    BlockBackend *blk;
    GRand *rand;
    uint8_t *model; /* of the whole disk; the lane uses its own sectors */
    unsigned number, operations;
    _Atomic bool stop;
    TestEvent done;
    uint8_t buf[64 * RANDOM_SECTOR];
} Lane;

typedef struct Schedule {
    MirrorRig rig;
    GRand *rand;
    uint8_t *model;
    Lane lanes[RANDOM_LANES];
    BlockNode *holding; /* a fault node that holds requests; NULL: none does */
    unsigned ends;      /* jobs that drained the disk in prepare */
} Schedule;

/* ---- the guest ---- */

/* The lanes own whole groups of 16 sectors, so requests of several sectors have one owner. */
static unsigned lane_pick(const Lane *l, unsigned *count)
{
    unsigned group = (unsigned)g_rand_int_range(l->rand, 0, RANDOM_SECTORS / 16 / RANDOM_LANES);
    unsigned first = (unsigned)g_rand_int_range(l->rand, 0, 16);
    *count = (unsigned)g_rand_int_range(l->rand, 1, (int)(17 - first));
    return (group * RANDOM_LANES + l->number) * 16 + first;
}

static coroutine_fn RUNS_IN_IOTHREAD int lane_request(Lane *l, uint64_t offset, uint64_t bytes,
                                                      unsigned kind)
{
    struct iovec iov = {l->buf, bytes};
    return kind < 4    ? blk_co_pwritev(l->blk, offset, bytes, &iov, 1, 0)
           : kind == 4 ? blk_co_write_zeroes(l->blk, offset, bytes, BLOCK_REQ_MAY_UNMAP)
                       : blk_co_discard(l->blk, offset, bytes);
}

/* An error that was meant for the target can hit the guest after the pivot; it tries again. */
static coroutine_fn RUNS_IN_IOTHREAD void lane_change(Lane *l, uint64_t offset, uint64_t bytes,
                                                      unsigned kind)
{
    int ret;
    memset(l->buf, kind < 4 ? g_rand_int_range(l->rand, 1, 256) : 0, bytes);
    do {
        ret = lane_request(l, offset, bytes, kind);
    } while (ret == -EIO);
    assert_int_equal(ret, 0);
    memcpy(l->model + offset, l->buf, bytes);
}

static void lane_run(void *opaque)
{
    Lane *l = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    while (!l->stop) {
        unsigned count, first = lane_pick(l, &count);
        uint64_t offset = (uint64_t)first * RANDOM_SECTOR, bytes = (uint64_t)count * RANDOM_SECTOR;
        unsigned kind = (unsigned)g_rand_int_range(l->rand, 0, 8);
        if (kind < 6) {
            lane_change(l, offset, bytes, kind);
        } else {
            struct iovec iov = {l->buf, bytes};
            assert_int_equal(blk_co_preadv(l->blk, offset, bytes, &iov, 1, 0), 0);
            assert_memory_equal(l->buf, l->model + offset, bytes);
        }
        l->operations++;
        for (int i = g_rand_int_range(l->rand, 0, 4); i > 0; i--) {
            co_yield_turn();
        }
    }
    test_event_set(&l->done);
}

/* ---- oracles ---- */

static RUNS_IN_IOTHREAD uint8_t *schedule_bytes(BlockNode *fault)
{
    return block_mem_data(fault->file);
}

/* In the home, between prepare's copy of the rest and the change of the graph. */
static void schedule_compare(void *arg, const void *mirror)
{
    Schedule *s = arg;
    enter_iothread(test_home);
    const uint8_t *a = schedule_bytes(s->rig.source), *b = schedule_bytes(s->rig.target);
    s->ends++;
    if (block_node_in_flight(s->rig.source) != 0) {
        fail_msg("the source is in use in a drained section");
    }
    for (unsigned i = 0; i < RANDOM_SIZE; i++) {
        if (a[i] != b[i]) {
            fail_msg("source and target differ at byte %u: %#x and %#x", i, a[i], b[i]);
        }
    }
}

/* ---- what main does ---- */

static coroutine_fn RUNS_IN_MAIN void schedule_release(Schedule *s)
{
    if (s->holding != NULL) {
        job_release(s->holding);
        s->holding = NULL;
    }
}

static coroutine_fn RUNS_IN_MAIN void schedule_start(Schedule *s)
{
    static const uint32_t granularities[] = {0, 512, 4096, 16384, 65536, 262144};
    BlockMirrorConfig c = {.sync = BLOCK_MIRROR_FULL,
                           .granularity = granularities[g_rand_int_range(s->rand, 0, 6)],
                           .buf_size = g_rand_boolean(s->rand) ? 0 : 65536,
                           .write_blocking = g_rand_boolean(s->rand),
                           .unmap = g_rand_boolean(s->rand),
                           .job.on_target_error = g_rand_boolean(s->rand) ? BLOCK_ON_ERROR_STOP : 0,
                           .job.on_source_error =
                               g_rand_boolean(s->rand) ? BLOCK_ON_ERROR_IGNORE : 0,
                           .job.manual_finalize = g_rand_int_range(s->rand, 0, 4) == 0};
    g_autoptr(GError) error = NULL;
    schedule_release(s);                           /* the start drains the disk */
    if (blk_root(s->rig.guest) != s->rig.source) { /* after a pivot */
        BlockNode *old = s->rig.source;
        s->rig.source = s->rig.target;
        s->rig.target = old;
    }
    while (block_node_writer(s->rig.target) != NULL) { /* what a cancelled job left in flight */
        test_settle();
    }
    if (mirror_try_start(&s->rig, c, &error) == NULL) {
        fail_msg("%s", error->message);
    }
}

static coroutine_fn RUNS_IN_MAIN void schedule_fault(Schedule *s)
{
    bool source = g_rand_int_range(s->rand, 0, 4) == 0;
    BlockNode *n = source ? s->rig.source : s->rig.target;
    schedule_release(s);
    if (g_rand_boolean(s->rand)) {
        job_set_fault(n, (BlockFault){.op = source ? BLOCK_FAULT_READ : BLOCK_FAULT_ANY,
                                      .after = (uint64_t)g_rand_int_range(s->rand, 0, 4),
                                      .hold = true});
        s->holding = n;
    } else { /* one write of the target fails; the guest's disk must not */
        job_set_fault(s->rig.target,
                      (BlockFault){.op = BLOCK_FAULT_WRITE,
                                   .after = (uint64_t)g_rand_int_range(s->rand, 0, 4),
                                   .count = 1,
                                   .error = EIO});
    }
}

static bool schedule_ending(const Job *job)
{
    enter_main();
    JobStatus status = job != NULL ? job_status(job) : JOB_STATUS_NULL;
    return status == JOB_STATUS_WAITING || status == JOB_STATUS_PENDING ||
           status == JOB_STATUS_ABORTING;
}

/* The node that is not the guest's disk. */
static coroutine_fn RUNS_IN_MAIN BlockNode *schedule_target(const Schedule *s)
{
    return blk_root(s->rig.guest) == s->rig.target ? s->rig.source : s->rig.target;
}

/* As a stop of the VM. A held target does not keep it waiting. */
static coroutine_fn RUNS_IN_MAIN void schedule_drain(Schedule *s, const Job *job)
{
    if (schedule_ending(job)) {
        schedule_release(s);
    }
    co_mutex_lock(&job_operation);
    if (s->holding != NULL && s->holding != schedule_target(s)) {
        schedule_release(s);
    }
    co_drained_begin(&s->rig.guest, 1);
    assert_int_equal(block_node_in_flight(blk_root(s->rig.guest)), 0);
    test_settle();
    co_drained_end(&s->rig.guest, 1);
    co_mutex_unlock(&job_operation);
}

static coroutine_fn RUNS_IN_MAIN void schedule_resize(Schedule *s, const Job *job)
{
    if (schedule_ending(job)) {
        schedule_release(s);
    }
    co_mutex_lock(&job_operation);
    if (job_find("job0") != NULL && blk_root(s->rig.guest) == s->rig.source) {
        if (s->holding == s->rig.source) {
            schedule_release(s);
        }
        assert_int_not_equal(blk_co_truncate(s->rig.guest, 2 * RANDOM_SIZE, NULL), 0);
    }
    co_mutex_unlock(&job_operation);
}

static void schedule_finalize(void *opaque)
{
    enter_coroutine();
    enter_main();
    Job *job = job_find("job0");
    if (job != NULL) {
        job_co_finalize(job, NULL);
    }
}

static coroutine_fn RUNS_IN_MAIN void schedule_verb(Schedule *s, Job *job)
{
    switch (g_rand_int_range(s->rand, 0, 9)) {
    case 0:
        job_pause(job, NULL);
        break;
    case 1:
    case 2:
        job_resume(job, NULL);
        break;
    case 3:
    case 4:
        job_complete(job, NULL);
        break;
    case 5:
        job_cancel(job, g_rand_int_range(s->rand, 0, 3) == 0, NULL);
        break;
    case 6:
        job_set_speed(job, g_rand_boolean(s->rand) ? 0 : 64u << 20, NULL);
        break;
    case 7:
        block_mirror_set_write_blocking(job);
        break;
    default:
        co_start(test_main, schedule_finalize, NULL);
    }
}

static coroutine_fn RUNS_IN_MAIN void schedule_step(Schedule *s)
{
    Job *job = job_find("job0");
    switch (g_rand_int_range(s->rand, 0, 8)) {
    case 0:
        schedule_fault(s);
        break;
    case 1:
        schedule_release(s);
        break;
    case 2:
        schedule_drain(s, job);
        break;
    case 3:
        schedule_resize(s, job);
        break;
    default:
        if (job == NULL) {
            schedule_start(s);
        } else if (!schedule_ending(job) || job_status(job) == JOB_STATUS_PENDING) {
            schedule_verb(s, job);
        }
    }
    for (int i = g_rand_int_range(s->rand, 0, 6); i > 0; i--) {
        test_settle();
    }
}

/* Ends the job, if there is one. */
static coroutine_fn RUNS_IN_MAIN void schedule_end_job(Schedule *s)
{
    Job *job;
    schedule_release(s);
    while ((job = job_find("job0")) != NULL) {
        job_resume(job, NULL);
        block_mirror_set_write_blocking(job); /* else the guest can be faster for ever */
        if (!job_complete(job, NULL) && job_status(job) == JOB_STATUS_PENDING) {
            co_start(test_main, schedule_finalize, NULL);
        }
        test_settle();
    }
}

static coroutine_fn RUNS_IN_MAIN void schedule_open(Schedule *s, unsigned seed)
{
    MirrorRig *r = &s->rig;
    mirror_rig_open(r);
    s->rand = g_rand_new_with_seed(seed);
    s->model = g_malloc(RANDOM_SIZE);
    job_read(r->guest, 0, RANDOM_SIZE, s->model);
    for (unsigned i = 0; i < RANDOM_LANES; i++) {
        Lane *l = &s->lanes[i];
        l->blk = r->guest;
        l->model = s->model;
        l->number = i;
        l->rand = g_rand_new_with_seed(seed * RANDOM_LANES + i);
        co_start(test_home, lane_run, l);
    }
    sched_point_hook("mirror.rest_copied", schedule_compare, s);
}

static coroutine_fn RUNS_IN_MAIN void schedule_close(Schedule *s)
{
    schedule_end_job(s);
    for (unsigned i = 0; i < RANDOM_LANES; i++) {
        s->lanes[i].stop = true;
    }
    for (unsigned i = 0; i < RANDOM_LANES; i++) {
        test_event_wait(&s->lanes[i].done);
        g_rand_free(s->lanes[i].rand);
    }
    g_autofree uint8_t *end = job_content(blk_root(s->rig.guest));
    assert_memory_equal(end, s->model, RANDOM_SIZE);
    sched_point_reset();
    mirror_rig_close(&s->rig);
    g_rand_free(s->rand);
    g_free(s->model);
}

BLOCK_TEST(generated_schedules_agree_with_a_model)
{
    TestSeeds seeds = test_seeds(test_rounds(10, 40, 1000));
    unsigned ends = 0;
    for (unsigned seed = seeds.first; seed < seeds.end; seed++) {
        Schedule *s = g_new0(Schedule, 1);
        schedule_open(s, seed);
        for (unsigned step = 0; step < RANDOM_STEPS; step++) {
            schedule_step(s);
        }
        schedule_close(s);
        ends += s->ends;
        g_free(s);
        g_string_truncate(job_log, 0);
    }
    print_message("%u jobs came to their end\n", ends);
    assert_true(ends > 0 || seeds.end - seeds.first == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(generated_schedules_agree_with_a_model)};
    return job_test_main(tests);
}

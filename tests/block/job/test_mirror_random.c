/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mirrors under generated schedules, compared with a model. Lanes of a guest write, zero and discard;
 * each has an exact model of its own sectors. Meanwhile jobs are started with random options, paused,
 * resumed, completed, cancelled, finalized and dismissed, requests of source and target are held and
 * fail, and drained sections come.
 *
 * Oracles: when prepare has drained the disk, source and target are equal, or for sync=none and
 * incremental: a sector that the job had not to copy is in both as it was at the start; the guest always
 * reads what it wrote, before and after a pivot; a drained section waits for no held target; the size
 * stays.
 */
#include "block/job/mirror_int.h"
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
    unsigned ends[4];   /* jobs that drained the disk in prepare, by BlockMirrorSync */
    /* the present job */
    BlockMirrorSync sync;
    uint8_t *before[2];           /* source and target at its start */
    bool to_copy[RANDOM_SECTORS]; /* what it has to copy */
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

/* An error that was meant for the job can hit the guest; it tries again. */
static coroutine_fn RUNS_IN_IOTHREAD void lane_change(Lane *l, uint64_t offset, uint64_t bytes,
                                                      unsigned kind)
{
    int ret;
    memset(l->buf, kind < 4 ? g_rand_int_range(l->rand, 1, 256) : 0, bytes);
    do {
        ret = lane_request(l, offset, bytes, kind);
    } while (ret == -EIO || ret == -ENOSPC);
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
            int ret;
            do {
                ret = blk_co_preadv(l->blk, offset, bytes, &iov, 1, 0);
            } while (ret == -EIO || ret == -ENOSPC);
            assert_int_equal(ret, 0);
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

static void schedule_copy_at_home(void *opaque)
{
    const Schedule *s = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    memcpy(s->before[0], schedule_bytes(s->rig.source), RANDOM_SIZE);
    memcpy(s->before[1], schedule_bytes(s->rig.target), RANDOM_SIZE);
}

/* In main, in the drained section of the start. */
static void schedule_note_start(void *arg, const void *mirror)
{
    Schedule *s = arg;
    const MirrorJob *m = mirror;
    enter_main();
    enter_coroutine();
    test_in_home(schedule_copy_at_home, s);
    for (unsigned i = 0; i < RANDOM_SECTORS; i++) {
        uint64_t from = (uint64_t)i * RANDOM_SECTOR, at, bytes;
        s->to_copy[i] =
            s->sync == BLOCK_MIRROR_FULL ||
            block_bitmap_find(block_copy_todo(m->copy), from, from + RANDOM_SECTOR, &at, &bytes);
    }
}

static RUNS_IN_IOTHREAD bool schedule_same(const Schedule *s, unsigned sector, const uint8_t *a,
                                           const uint8_t *b)
{
    size_t at = (size_t)sector * RANDOM_SECTOR;
    if (memcmp(a + at, b + at, RANDOM_SECTOR) == 0) {
        return true;
    }
    return !s->to_copy[sector] && memcmp(a + at, s->before[0] + at, RANDOM_SECTOR) == 0 &&
           memcmp(b + at, s->before[1] + at, RANDOM_SECTOR) == 0;
}

/* In the home, between prepare's copy of the rest and the change of the graph. */
static void schedule_compare(void *arg, const void *mirror)
{
    Schedule *s = arg;
    enter_iothread(test_home);
    const uint8_t *a = schedule_bytes(s->rig.source), *b = schedule_bytes(s->rig.target);
    s->ends[s->sync]++;
    if (block_node_in_flight(s->rig.source) != 0) {
        fail_msg("the source is in use in a drained section");
    }
    for (unsigned i = 0; i < RANDOM_SECTORS; i++) {
        if (!schedule_same(s, i, a, b)) {
            fail_msg("source and target differ in sector %u", i);
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

static int pick(Schedule *s, int count)
{
    return g_rand_int_range(s->rand, 0, count);
}

static BlockMirrorConfig schedule_config(Schedule *s)
{
    static const uint32_t granularities[] = {0, 512, 4096, 16384, 65536, 262144};
    static const BlockMirrorSync syncs[] = {BLOCK_MIRROR_FULL, BLOCK_MIRROR_FULL, BLOCK_MIRROR_NONE,
                                            BLOCK_MIRROR_INCREMENTAL};
    s->sync = syncs[pick(s, G_N_ELEMENTS(syncs))];
    bool bits = s->sync == BLOCK_MIRROR_INCREMENTAL;
    return (BlockMirrorConfig){.sync = s->sync,
                               .bitmap = bits ? "b" : NULL,
                               .bitmap_mode = bits ? (BlockBitmapMode)pick(s, 3) : 0,
                               .filter_name = pick(s, 2) == 0 ? NULL : "f",
                               .granularity = granularities[pick(s, 6)],
                               .buf_size = pick(s, 2) == 0 ? 0 : 65536,
                               .write_blocking = pick(s, 2) == 0,
                               .unmap = pick(s, 2) == 0,
                               .job = {.speed = pick(s, 4) == 0 ? 32u << 20 : 0,
                                       .on_source_error = (BlockOnError)pick(s, 5),
                                       .on_target_error = (BlockOnError)pick(s, 5),
                                       .manual_finalize = pick(s, 4) == 0,
                                       .manual_dismiss = pick(s, 4) == 0}};
}

/* The bitmap is one of the node that guests write to. */
static coroutine_fn RUNS_IN_MAIN void schedule_swap(Schedule *s)
{
    BlockNode *old = s->rig.source;
    assert_true(block_dirty_bitmap_co_remove(old, "b", NULL));
    s->rig.source = s->rig.target;
    s->rig.target = old;
    assert_true(block_dirty_bitmap_co_add(s->rig.source, "b", 4096, 0, NULL));
}

static coroutine_fn RUNS_IN_MAIN void schedule_start(Schedule *s)
{
    g_autoptr(GError) error = NULL;
    schedule_release(s);                           /* the start drains the disk */
    if (blk_root(s->rig.guest) != s->rig.source) { /* after a pivot */
        schedule_swap(s);
    }
    while (block_node_writer(s->rig.target) != NULL) { /* what a cancelled job left in flight */
        test_settle();
    }
    if (mirror_try_start(&s->rig, schedule_config(s), &error) == NULL) {
        fail_msg("%s", error->message);
    }
}

/* A few requests of the job fail, or all that come until they are released are held. A guest's request that
 * is hit instead is repeated. */
static coroutine_fn RUNS_IN_MAIN void schedule_fault(Schedule *s)
{
    bool source = pick(s, 4) == 0, hold = pick(s, 2) == 0;
    BlockNode *n = source ? s->rig.source : s->rig.target;
    BlockFaultOp all = hold ? BLOCK_FAULT_ANY : BLOCK_FAULT_WRITE;
    BlockFault fault = {.op = source ? BLOCK_FAULT_READ : all,
                        .after = (uint64_t)pick(s, 4),
                        .count = hold ? 0 : 1 + (uint64_t)pick(s, 3),
                        .hold = hold,
                        .error = hold              ? 0
                                 : pick(s, 2) == 0 ? EIO
                                                   : ENOSPC};
    schedule_release(s);
    job_set_fault(n, fault);
    s->holding = hold ? n : NULL;
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
    job = job_find("job0");
    if (job != NULL && job_status(job) != JOB_STATUS_CONCLUDED &&
        blk_root(s->rig.guest) == s->rig.source) {
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

/* The guest keeps its disk if the copy is not the whole of it. */
static RUNS_IN_MAIN void schedule_complete(const Schedule *s, Job *job)
{
    JobStatus status = job_status(job);
    if (s->sync == BLOCK_MIRROR_FULL) {
        job_complete(job, NULL);
    } else if (status == JOB_STATUS_READY || status == JOB_STATUS_STANDBY) {
        job_cancel(job, false, NULL);
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
        schedule_complete(s, job);
        break;
    case 5:
        job_cancel(job, g_rand_int_range(s->rand, 0, 3) == 0, NULL);
        break;
    case 6:
        job_set_speed(job, g_rand_boolean(s->rand) ? 0 : 64u << 20, NULL);
        break;
    case 7:
        block_mirror_set_write_blocking(job, NULL);
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
        } else if (job_status(job) == JOB_STATUS_CONCLUDED) {
            assert_true(job_dismiss(job, NULL));
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
    job_set_fault(s->rig.source, (BlockFault){0});
    job_set_fault(s->rig.target, (BlockFault){0});
    while ((job = job_find("job0")) != NULL) {
        job_resume(job, NULL);
        job_set_speed(job, 0, NULL);
        block_mirror_set_write_blocking(job, NULL); /* else the guest can be faster for ever */
        schedule_complete(s, job);
        if (job_status(job) == JOB_STATUS_PENDING) {
            co_start(test_main, schedule_finalize, NULL);
        } else if (job_status(job) == JOB_STATUS_CONCLUDED) {
            assert_true(job_dismiss(job, NULL));
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
    assert_true(block_dirty_bitmap_co_add(r->source, "b", 4096, 0, NULL));
    for (unsigned i = 0; i < G_N_ELEMENTS(s->before); i++) {
        s->before[i] = g_malloc(RANDOM_SIZE);
    }
    sched_point_hook("mirror.insert", schedule_note_start, s);
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
    g_free(s->before[0]);
    g_free(s->before[1]);
    g_free(s->model);
}

BLOCK_TEST(generated_schedules_agree_with_a_model)
{
    TestSeeds seeds = test_seeds(test_rounds(10, 40, 1000));
    unsigned ends[4] = {0};
    for (unsigned seed = seeds.first; seed < seeds.end; seed++) {
        Schedule *s = g_new0(Schedule, 1);
        print_message("seed %u\n", seed);
        schedule_open(s, seed);
        for (unsigned step = 0; step < RANDOM_STEPS; step++) {
            schedule_step(s);
        }
        schedule_close(s);
        for (unsigned i = 0; i < G_N_ELEMENTS(ends); i++) {
            ends[i] += s->ends[i];
        }
        g_free(s);
        g_string_truncate(job_log, 0);
    }
    print_message("jobs that came to their end: full %u, none %u, incremental %u\n",
                  ends[BLOCK_MIRROR_FULL], ends[BLOCK_MIRROR_NONE], ends[BLOCK_MIRROR_INCREMENTAL]);
    assert_true(seeds.end - seeds.first < 10 ||
                (ends[BLOCK_MIRROR_FULL] > 0 && ends[BLOCK_MIRROR_NONE] > 0 &&
                 ends[BLOCK_MIRROR_INCREMENTAL] > 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(generated_schedules_agree_with_a_model)};
    return job_test_main(tests);
}

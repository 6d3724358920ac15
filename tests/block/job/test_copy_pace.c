/* SPDX-License-Identifier: Apache-2.0 */
/* The pace of a copy beside guests: the state machine in simulated time, and the data mover that keeps
 * to it. */
#include "block/job/copy_int.h"
#include "tests/block/job/copy_test.h"

#define MS INT64_C(1000000)
#define SECOND (1000 * MS)

/* ---- the machine ---- */

/* One step; the guest has begun and ended @requests so far. */
static void pace_step(CopyPace *p, int64_t now_ns, uint64_t requests, uint64_t left, bool is_free)
{
    enter_iothread(test_home);
    CopyPaceInput in = {.now_ns = now_ns, .requests = requests, .left = left, .free = is_free};
    copy_pace_step(p, &in);
}

typedef struct PaceCall {
    void (*fn)(void);
} PaceCall;

static void pace_call_at_home(void *opaque)
{
    enter_coroutine();
    ((PaceCall *)opaque)->fn();
}

/* Defines a test whose body runs in the home. */
#define PACE_TEST(name)                                                                            \
    static void name##_at_home(void);                                                              \
    BLOCK_TEST(name)                                                                               \
    {                                                                                              \
        PaceCall call = {name##_at_home};                                                          \
        test_in_home(pace_call_at_home, &call);                                                    \
    }                                                                                              \
    static void name##_at_home(void)

PACE_TEST(requests_of_others_decide_between_alone_and_beside)
{
    CopyPace p = {0};
    pace_step(&p, SECOND, 100, 1000, false); /* of before */
    assert_int_equal(p.state, COPY_PACE_ALONE);
    pace_step(&p, SECOND + 1, 101, 1000, false);
    assert_int_equal(p.state, COPY_PACE_BESIDE);
    pace_step(&p, SECOND + COPY_PACE_HOLD_NS, 101, 1000, false);
    assert_int_equal(p.state, COPY_PACE_BESIDE);
    pace_step(&p, SECOND + 1 + COPY_PACE_HOLD_NS, 101, 1000, false);
    assert_int_equal(p.state, COPY_PACE_ALONE);
}

PACE_TEST(a_request_that_does_not_end_counts_for_a_limited_time)
{
    CopyPace p = {0};
    CopyPaceInput in = {.now_ns = SECOND, .requests = 1, .in_flight = true, .left = 1000};
    copy_pace_step(&p, &in);
    assert_int_equal(p.state, COPY_PACE_BESIDE);
    in.now_ns += COPY_PACE_HOLD_IN_FLIGHT_NS - 1;
    copy_pace_step(&p, &in);
    assert_int_equal(p.state, COPY_PACE_BESIDE);
    in.now_ns += 1;
    copy_pace_step(&p, &in);
    assert_int_equal(p.state, COPY_PACE_ALONE);
}

PACE_TEST(a_set_speed_or_an_awaited_end_frees_the_copy)
{
    CopyPace p = {0};
    pace_step(&p, SECOND, 0, 1000, false);
    pace_step(&p, SECOND, 1, 1000, false);
    copy_pace_work_ended(&p, SECOND - MS, SECOND, 1);
    assert_true(p.next_ns > SECOND);
    assert_false(copy_pace_allows(&p, 1));
    pace_step(&p, SECOND, 2, 1000, true);
    assert_int_equal(p.state, COPY_PACE_FREE);
    assert_int_equal(p.next_ns, 0);
    assert_true(copy_pace_allows(&p, 15));
    pace_step(&p, SECOND, 3, 1000, false);
    assert_int_equal(p.state, COPY_PACE_BESIDE);
}

PACE_TEST(a_pause_has_an_end_after_work_of_any_length)
{
    CopyPace p = {0};
    pace_step(&p, SECOND, 0, 1000, false);
    pace_step(&p, SECOND, 1, 1000, false);
    copy_pace_work_ended(&p, SECOND, 2 * SECOND, 1);
    assert_int_equal(p.next_ns, 2 * SECOND + COPY_PACE_PAUSE_MAX_NS);
}

/* ---- simulated copies ---- */

typedef struct PaceModel {
    CopyPace pace;
    int64_t now_ns, worked_ns;
    uint64_t size, dirty;  /* units of 64 KiB; of the disk, and what is left to copy */
    double guest_writes;   /* units that guests write a second, anywhere */
    double guest_requests; /* that guests have begun and ended */
    double lost;           /* the part of their requests that guests lose while the copy works */
    double written;        /* a part of a unit that is not counted yet */
    unsigned most;         /* the largest share seen */
} PaceModel;

#define MODEL_REQUESTS 20000.0 /* of guests, a second, without the copy */
#define MODEL_UNIT_NS (MS / 4) /* for which the copy works, in small pieces */
#define MODEL_AT_ONCE                                                                              \
    8u /* small pieces of 4 units that are copied at the same time without a limit */

/* What guests write was copied with the probability of what is not left. */
static void model_pass(PaceModel *m, int64_t ns, bool work)
{
    double seconds = (double)ns / (double)SECOND;
    double clean = (double)(m->size - m->dirty) / (double)m->size;
    m->now_ns += ns;
    m->guest_requests += MODEL_REQUESTS * seconds * (work ? 1 - m->lost : 1);
    m->written += m->guest_writes * seconds * clean;
    uint64_t whole = (uint64_t)m->written;
    m->written -= (double)whole;
    m->dirty = MIN(m->dirty + whole, m->size);
}

/* One step of the data step. Guests never rest: a request is always in flight. */
static void model_step(PaceModel *m)
{
    CopyPace *p = &m->pace;
    CopyPaceInput in = {.now_ns = m->now_ns,
                        .requests = (uint64_t)m->guest_requests,
                        .in_flight = true,
                        .left = m->dirty};
    enter_iothread(test_home);
    copy_pace_step(p, &in);
    m->most = MAX(m->most, p->share);
    if (p->next_ns > m->now_ns) {
        model_pass(m, p->next_ns - m->now_ns, false);
        return;
    }
    bool beside = p->state == COPY_PACE_BESIDE;
    uint64_t piece = copy_pace_chunk(p, beside ? 1 << 20 : 256 << 10, 0) >> 16;
    uint64_t units = MIN(m->dirty, piece * (beside ? 1 : MODEL_AT_ONCE));
    int64_t start_ns = m->now_ns, work_ns = MODEL_UNIT_NS * (int64_t)piece;
    copy_pace_work_begins(p, start_ns, (uint64_t)m->guest_requests);
    m->dirty -= units;
    model_pass(m, work_ns, true);
    m->worked_ns += work_ns;
    copy_pace_copied(p, units);
    copy_pace_work_ended(p, start_ns, m->now_ns, (uint64_t)m->guest_requests);
}

static PaceModel model_new(double guest_writes, double lost)
{
    return (PaceModel){.now_ns = SECOND,
                       .size = 16384,
                       .dirty = 16384,
                       .guest_writes = guest_writes,
                       .guest_requests = 1,
                       .lost = lost};
}

PACE_TEST(beside_a_guest_that_only_reads_a_copy_keeps_to_its_share)
{
    PaceModel m = model_new(0, 1);
    int64_t start_ns = m.now_ns;
    while (m.dirty > 0) {
        model_step(&m);
        assert_true(m.worked_ns * 100 <= (m.now_ns - start_ns) * COPY_PACE_SHARE + 100 * MS);
    }
    assert_int_equal(m.most, COPY_PACE_SHARE);
    assert_true(m.worked_ns * 100 >= (m.now_ns - start_ns) * (COPY_PACE_SHARE - 1));
}

/* At a share of 20 percent the model copies 800 units a second, at 80 percent 3200, and without a limit
 * 32000. */
PACE_TEST(beside_a_guest_that_always_writes_a_copy_comes_near_its_end_if_the_disk_is_fast_enough)
{
    static const struct {
        double guest_rate;
        unsigned least, most; /* the largest share */
    } cases[] = {{100, 20, 20},   {300, 20, 20},     {1000, 40, 80},
                 {3000, 80, 100}, {10000, 100, 100}, {30000, 100, 100}};
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        PaceModel m = model_new(cases[i].guest_rate, 1);
        while (m.dirty > 8 * MODEL_AT_ONCE && m.now_ns < 1000 * SECOND) {
            model_step(&m);
        }
        if (m.now_ns >= 1000 * SECOND || m.most < cases[i].least || m.most > cases[i].most) {
            fail_msg("%.0f units a second: %u left, share %u", cases[i].guest_rate,
                     (unsigned)m.dirty, (unsigned)m.most);
        }
    }
}

PACE_TEST(a_share_that_is_not_needed_any_more_is_returned)
{
    PaceModel m = model_new(10000, 0.9);
    while (m.pace.share < 100) {
        model_step(&m);
        assert_true(m.now_ns < 20 * SECOND);
    }
    assert_int_equal(m.pace.state, COPY_PACE_PRESSED);
    m.guest_writes = 0;
    m.size = m.dirty = 10000000;
    while (m.pace.share > COPY_PACE_SHARE) {
        model_step(&m);
        assert_true(m.dirty > 0);
    }
    assert_int_equal(m.pace.state, COPY_PACE_BESIDE);
}

/* The part of their requests that guests lose in all. */
static double model_loss(const PaceModel *m)
{
    return 1 - m->guest_requests / (MODEL_REQUESTS * (double)(m->now_ns - SECOND) / (double)SECOND);
}

PACE_TEST(a_copy_works_as_long_as_guests_keep_what_is_theirs)
{
    static const double lost[] = {0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1};
    double last = 1000;
    for (unsigned i = 0; i < G_N_ELEMENTS(lost); i++) {
        PaceModel m = model_new(0, lost[i]);
        m.size = m.dirty = 1 << 20;
        while (m.dirty > 0) {
            model_step(&m);
        }
        double seconds = (double)(m.now_ns - SECOND) / (double)SECOND;
        if (model_loss(&m) > 0.205 || (i > 0 && seconds < last)) {
            fail_msg("lost %.2f: %.3f in all, after %.1f s", lost[i], model_loss(&m), seconds);
        }
        assert_int_equal(m.pace.level, lost[i] <= 0.1 ? COPY_PACE_LEVELS - 1 : m.pace.level);
        assert_int_equal(m.pace.level, lost[i] >= 0.6 ? 0 : m.pace.level);
        last = seconds;
    }
}

PACE_TEST(the_effort_falls_when_guests_lose_more)
{
    PaceModel m = model_new(0, 0);
    m.size = m.dirty = 1 << 30;
    while (m.pace.level < COPY_PACE_LEVELS - 1) {
        model_step(&m);
    }
    m.lost = 1;
    int64_t start_ns = m.now_ns;
    while (m.pace.level > 0) {
        model_step(&m);
    }
    assert_in_range(m.now_ns - start_ns, SECOND, 5 * SECOND);
}

PACE_TEST(time_in_which_a_copy_waits_for_something_else_is_no_pause)
{
    CopyPace p = {0};
    pace_step(&p, SECOND, 0, 1000, false);
    pace_step(&p, SECOND, 1, 1000, false);
    copy_pace_work_begins(&p, SECOND, 1);
    copy_pace_work_ended(&p, SECOND, SECOND + MS, 2);
    copy_pace_work_begins(&p, SECOND + 5 * MS, 10);
    assert_int_equal(p.pause.ns, 4 * MS);
    assert_int_equal(p.pause.requests, 8);
    copy_pace_work_ended(&p, SECOND + 5 * MS, SECOND + 6 * MS, 10);
    assert_int_equal(p.work.ns, 2 * MS);
    copy_pace_work_begins(&p, SECOND + 90 * MS, 11);
    assert_int_equal(p.pause.ns, 4 * MS);
    copy_pace_work_ended(&p, SECOND + 90 * MS, SECOND + 91 * MS, 12);
    assert_int_equal(p.work.ns, 3 * MS);
}

PACE_TEST(a_review_that_comes_late_judges_nothing)
{
    CopyPace p = {0};
    pace_step(&p, SECOND, 0, 1000, false);
    pace_step(&p, SECOND + COPY_PACE_REVIEW_NS * 2, 1, 2000, false);
    assert_int_equal(p.share, COPY_PACE_SHARE);
    pace_step(&p, SECOND + COPY_PACE_REVIEW_NS * 3, 2, 3000, false);
    assert_int_equal(p.share, COPY_PACE_SHARE + COPY_PACE_STEP);
}

/* ---- the data mover ---- */

typedef struct PaceRig {
    BlockNode *s, *t;
    BlockBackend *guest;
    CopyJob *j;
} PaceRig;

static int pace_guest_ret;

static void pace_guest_run(void *opaque)
{
    uint8_t data[512];
    struct iovec iov = {data, sizeof(data)};
    enter_coroutine();
    enter_iothread(test_home);
    pace_guest_ret = blk_co_preadv(opaque, 0, sizeof(data), &iov, 1, 0);
}

static coroutine_fn RUNS_IN_MAIN uint64_t pace_progress(const PaceRig *r)
{
    uint64_t current, total;
    job_progress_get(r->j->bj.job, &current, &total);
    return current;
}

/* A copy that has done one piece of work beside a read of the guest, in 10 ms. */
static coroutine_fn RUNS_IN_MAIN void pace_open(PaceRig *r)
{
    copy_disks(SLOW_SOURCE, SLOW_TARGET, &r->s, &r->t);
    r->guest = blk_co_new("guest", r->s, false, NULL);
    job_set_fault(r->s, (BlockFault){.op = BLOCK_FAULT_READ, .hold = true});
    copy_pass_time(1);
    pace_guest_ret = 1;
    co_start(test_home, pace_guest_run, r->guest);
    job_await_held(r->s, 1);
    r->j = copy_start_job(r->s, r->t, (CopyOptions){0});
    job_await_held(r->s, 2);
    test_settle();
    test_settle();
    assert_int_equal(block_fault_held(r->s), 2); /* the guest's, and one of the job */
    copy_pass_time(10 * MS);
    job_release(r->s);
    test_settle();
    test_settle();
    assert_int_equal(pace_guest_ret, 0);
    assert_int_equal(pace_progress(r), COPY_CHUNK_MIN);
}

static coroutine_fn RUNS_IN_MAIN void pace_close(PaceRig *r, bool same)
{
    blk_co_free(r->guest);
    if (same) {
        job_assert_same(r->s, r->t);
    }
    copy_end_disks();
}

BLOCK_TEST(a_copy_pauses_beside_a_guest)
{
    PaceRig r;
    pace_open(&r);
    copy_pass_time(40 * MS - 1);
    assert_int_equal(pace_progress(&r), COPY_CHUNK_MIN);
    copy_pass_time(1);
    job_await_end("job0", "COMPLETED "); /* no time passes any more, so work takes none */
    pace_close(&r, true);
}

BLOCK_TEST(a_pause_for_guests_ends_at_once_when_the_user_sets_a_speed)
{
    PaceRig r;
    pace_open(&r);
    assert_true(job_set_speed(r.j->bj.job, UINT64_C(1) << 62, NULL));
    job_await_end("job0", "COMPLETED ");
    pace_close(&r, true);
}

BLOCK_TEST(in_a_pause_for_guests_a_job_is_paused_and_cancelled_at_once)
{
    PaceRig r;
    pace_open(&r);
    assert_true(job_pause(r.j->bj.job, NULL));
    job_await("job0", JOB_STATUS_PAUSED);
    assert_int_equal(pace_progress(&r), COPY_CHUNK_MIN);
    assert_true(job_resume(r.j->bj.job, NULL));
    test_settle();
    assert_int_equal(pace_progress(&r), COPY_CHUNK_MIN);
    assert_true(job_cancel(r.j->bj.job, true, NULL));
    job_await_end("job0", "CANCELLED ");
    pace_close(&r, false);
}

BLOCK_TEST(a_drained_section_waits_for_no_pause_for_guests)
{
    PaceRig r;
    pace_open(&r);
    co_drained_begin(&r.guest, 1);
    copy_pass_time(SECOND);
    assert_int_equal(pace_progress(&r), COPY_CHUNK_MIN);
    co_drained_end(&r.guest, 1);
    job_await_end("job0", "COMPLETED ");
    pace_close(&r, true);
}

/* ---- memory ---- */

typedef struct PaceMemory {
    uint64_t most; /* reserved and kept bytes */
    bool kept;     /* a buffer was kept for a later claim */
} PaceMemory;

static void pace_look_at_memory(void *arg, const void *object)
{
    PaceMemory *m = arg;
    const BlockCopy *c = object;
    m->most = MAX(m->most, c->memory_used + c->spare_bytes);
}

static void pace_look_at_kept(void *arg, const void *object)
{
    PaceMemory *m = arg;
    m->kept = m->kept || ((const BlockCopy *)object)->spare_bytes > 0;
}

BLOCK_TEST(buffers_are_kept_for_later_claims_within_the_limit)
{
    PaceMemory m = {0};
    BlockNode *s, *t;
    copy_disks(SOURCE, TARGET, &s, &t);
    sched_point_hook("copy.write", pace_look_at_memory, &m);
    sched_point_hook("copy.claimed", pace_look_at_kept, &m);
    CopyOptions o = {.copy.memory = 256 << 10, .copy.max_chunk = 64 << 10};
    copy_start_job(s, t, o);
    job_await_end("job0", "COMPLETED ");
    sched_point_reset();
    assert_in_range(m.most, 64 << 10, 256 << 10);
    assert_true(m.kept);
    job_assert_same(s, t);
    copy_end_disks();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_of_others_decide_between_alone_and_beside),
        cmocka_unit_test(a_request_that_does_not_end_counts_for_a_limited_time),
        cmocka_unit_test(a_set_speed_or_an_awaited_end_frees_the_copy),
        cmocka_unit_test(a_pause_has_an_end_after_work_of_any_length),
        cmocka_unit_test(beside_a_guest_that_only_reads_a_copy_keeps_to_its_share),
        cmocka_unit_test(
            beside_a_guest_that_always_writes_a_copy_comes_near_its_end_if_the_disk_is_fast_enough),
        cmocka_unit_test(a_share_that_is_not_needed_any_more_is_returned),
        cmocka_unit_test(a_copy_works_as_long_as_guests_keep_what_is_theirs),
        cmocka_unit_test(the_effort_falls_when_guests_lose_more),
        cmocka_unit_test(time_in_which_a_copy_waits_for_something_else_is_no_pause),
        cmocka_unit_test(a_review_that_comes_late_judges_nothing),
        cmocka_unit_test(a_copy_pauses_beside_a_guest),
        cmocka_unit_test(a_pause_for_guests_ends_at_once_when_the_user_sets_a_speed),
        cmocka_unit_test(in_a_pause_for_guests_a_job_is_paused_and_cancelled_at_once),
        cmocka_unit_test(a_drained_section_waits_for_no_pause_for_guests),
        cmocka_unit_test(buffers_are_kept_for_later_claims_within_the_limit),
    };
    return job_test_main(tests);
}

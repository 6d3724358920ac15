/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "util/rate_limit.h"

#define SECOND INT64_C(1000000000)
#define START (1000 * SECOND)

static RateLimits limits_of(RateBucket bucket, uint64_t avg, uint64_t max, uint64_t length_s)
{
    RateLimits l;
    rate_limits_init(&l);
    l.buckets[bucket] = (RateBucketLimits){.avg = avg, .max = max, .length_s = length_s};
    return l;
}

/* Runs requests of @bytes one after the other, each as soon as it may start, for @duration_ns from
 * *@now_ns on. Returns how many have started. */
static uint64_t run(RateLimit *r, bool is_write, uint64_t bytes, int64_t *now_ns,
                    int64_t duration_ns)
{
    int64_t end_ns = *now_ns + duration_ns;
    uint64_t started = 0;
    for (;;) {
        int64_t wait_ns = rate_limit_wait_ns(r, is_write, *now_ns);
        if (*now_ns + wait_ns >= end_ns) {
            *now_ns = end_ns;
            return started;
        }
        *now_ns += wait_ns;
        rate_limit_charge(r, is_write, bytes, *now_ns);
        started++;
    }
}

static RateLimit limited(RateLimits l)
{
    RateLimit r;
    assert_true(rate_limits_check(&l, NULL));
    rate_limit_set(&r, &l, START);
    return r;
}

static void assert_near(uint64_t value, double wanted)
{
    if ((double)value < wanted * 0.98 || (double)value > wanted * 1.02) {
        fail_msg("%llu is not within 2 %% of %f", (unsigned long long)value, wanted);
    }
}

/* ---- rates ---- */

static void rates_hold_over_ten_seconds(void **state)
{
    static const uint64_t rates[] = {50, 1000, 123457, UINT64_C(10000000000)};
    static const uint64_t sizes[] = {512, 4096, 65536, 1048576};
    for (unsigned i = 0; i < G_N_ELEMENTS(rates); i++) {
        int64_t now = START;
        if (rates[i] <= 123457) {
            RateLimit r = limited(limits_of(RATE_IOPS_TOTAL, rates[i], 0, 1));
            assert_near(run(&r, i % 2, 4096, &now, 10 * SECOND), 10.0 * (double)rates[i]);
        }
        for (unsigned s = 0; s < G_N_ELEMENTS(sizes); s++) {
            uint64_t bps = sizes[s] * 100 * (i + 1);
            RateLimit b = limited(limits_of(RATE_BPS_TOTAL, bps, 0, 1));
            now = START;
            assert_near(run(&b, s % 2, sizes[s], &now, 10 * SECOND) * sizes[s], 10.0 * (double)bps);
        }
    }
}

static void a_large_request_is_paid_for_afterwards(void **state)
{
    RateLimit r = limited(limits_of(RATE_BPS_TOTAL, 1000, 0, 1));
    int64_t now = START;
    assert_int_equal(rate_limit_wait_ns(&r, true, now), 0);
    rate_limit_charge(&r, true, 100000, now);
    /* 100000 bytes leak in 100 s; the last 100 may stay */
    assert_int_equal(rate_limit_wait_ns(&r, true, now), 99900 * (SECOND / 1000));
}

static void directions_have_their_own_limits(void **state)
{
    RateLimits l = limits_of(RATE_IOPS_READ, 100, 0, 1);
    l.buckets[RATE_IOPS_WRITE].avg = 10;
    RateLimit r = limited(l);
    int64_t read_ns = START, write_ns = START;
    assert_near(run(&r, false, 512, &read_ns, 100 * SECOND), 100 * 100);
    rate_limit_set(&r, &l, START);
    assert_near(run(&r, true, 512, &write_ns, 100 * SECOND), 10 * 100);
    /* a write does not wait for a full bucket of reads */
    rate_limit_set(&r, &l, START);
    rate_limit_charge(&r, false, 512 * 1000, START);
    for (unsigned i = 0; i < 20; i++) {
        rate_limit_charge(&r, false, 512, START);
    }
    assert_true(rate_limit_wait_ns(&r, false, START) > 0);
    assert_int_equal(rate_limit_wait_ns(&r, true, START), 0);
}

static void the_total_counts_both_directions(void **state)
{
    RateLimit r = limited(limits_of(RATE_IOPS_TOTAL, 100, 0, 1));
    int64_t now = START;
    unsigned started = 0;
    while (now < START + 10 * SECOND) {
        int64_t wait_ns = rate_limit_wait_ns(&r, started % 2, now);
        now += wait_ns;
        rate_limit_charge(&r, started % 2, 512, now);
        started++;
    }
    assert_near(started, 1000);
}

static void the_strictest_limit_counts(void **state)
{
    RateLimits l = limits_of(RATE_IOPS_TOTAL, 1000, 0, 1);
    l.buckets[RATE_BPS_TOTAL].avg = 65536 * 10;
    RateLimit r = limited(l);
    int64_t now = START;
    assert_near(run(&r, true, 65536, &now, 100 * SECOND), 1000);
    rate_limit_set(&r, &l, now);
    assert_near(run(&r, true, 512, &now, 10 * SECOND), 10000);
}

static void the_size_of_an_operation_divides_large_requests(void **state)
{
    RateLimits l = limits_of(RATE_IOPS_TOTAL, 100, 0, 1);
    l.iops_size = 4096;
    RateLimit r = limited(l);
    int64_t now = START;
    assert_near(run(&r, true, 4096, &now, 10 * SECOND), 1000);
    rate_limit_set(&r, &l, now);
    assert_near(run(&r, true, 512, &now, 10 * SECOND), 1000);
    rate_limit_set(&r, &l, now);
    assert_near(run(&r, true, 4096 * 5 / 2, &now, 100 * SECOND), 10000 / 2.5);
}

/* ---- bursts ---- */

/* After a rest the bucket's size comes at once: @size, and the request that fills it beyond that. */
static void a_burst_without_length_comes_at_once(void **state)
{
    RateLimit r = limited(limits_of(RATE_IOPS_TOTAL, 100, 500, 1));
    int64_t now = START;
    assert_int_equal(run(&r, true, 512, &now, 1), 501);
    assert_int_equal(rate_limit_wait_ns(&r, true, START), SECOND / 100);
    assert_int_equal(run(&r, true, 512, &now, SECOND), 100);
    /* a rest of 2 s makes room for 200 */
    now += 2 * SECOND;
    assert_int_equal(run(&r, true, 512, &now, 1), 200);
    /* a longer rest than it takes to empty the bucket gives no more than its size */
    now += 1000 * SECOND;
    assert_int_equal(run(&r, true, 512, &now, 1), 501);
}

/* The rate is max while the bucket of max * length fills at max and leaks at avg. */
static void a_burst_with_length_keeps_its_rate(void **state)
{
    RateLimit r = limited(limits_of(RATE_IOPS_TOTAL, 100, 1000, 9));
    int64_t now = START;
    assert_int_equal(run(&r, true, 512, &now, 1), 101); /* max / 10 at once */
    for (unsigned second = 0; second < 9; second++) {
        uint64_t started = run(&r, true, 512, &now, SECOND);
        assert_in_range(started, 999, 1001);
    }
    /* 9000 / (1000 - 100) = 10 s of burst, less the 0.1 s that came at once */
    uint64_t last = run(&r, true, 512, &now, SECOND);
    assert_in_range(last, 899, 1001);
    for (unsigned second = 0; second < 5; second++) {
        assert_in_range(run(&r, true, 512, &now, SECOND), 99, 101);
    }
    /* the burst comes back after its bucket has leaked */
    now += 90 * SECOND;
    run(&r, true, 512, &now, 1);
    assert_in_range(run(&r, true, 512, &now, SECOND), 999, 1001);
}

static void without_a_burst_a_tenth_of_a_second_comes_at_once(void **state)
{
    RateLimit r = limited(limits_of(RATE_BPS_WRITE, 512000, 0, 1));
    int64_t now = START;
    assert_int_equal(run(&r, true, 512, &now, 1), 101);
    assert_in_range(run(&r, true, 512, &now, SECOND), 999, 1000);
}

/* ---- limits ---- */

static void no_limit_never_waits(void **state)
{
    RateLimits l;
    rate_limits_init(&l);
    assert_false(rate_limits_any(&l));
    RateLimit r = limited(l);
    for (unsigned i = 0; i < 100000; i++) {
        rate_limit_charge(&r, i % 2, UINT64_C(1) << 40, START);
        assert_int_equal(rate_limit_wait_ns(&r, i % 2, START), 0);
    }
}

static void new_limits_empty_the_buckets(void **state)
{
    RateLimit r = limited(limits_of(RATE_BPS_TOTAL, RATE_VALUE_MAX, 0, 1));
    rate_limit_charge(&r, true, RATE_VALUE_MAX, START);
    RateLimits l = limits_of(RATE_BPS_TOTAL, 1, 0, 1);
    rate_limit_set(&r, &l, START);
    assert_int_equal(rate_limit_wait_ns(&r, true, START), 0);
}

/* A wait is bounded, so that deadlines do not overflow; time that goes back leaks nothing. */
static void extreme_values_do_not_overflow(void **state)
{
    RateLimit r = limited(limits_of(RATE_BPS_TOTAL, 1, 0, 1));
    for (unsigned i = 0; i < 100; i++) {
        rate_limit_charge(&r, true, UINT64_C(1) << 62, START);
    }
    int64_t wait_ns = rate_limit_wait_ns(&r, true, START);
    assert_int_equal(wait_ns, INT64_C(1) << 60);
    assert_int_equal(rate_limit_wait_ns(&r, true, START - 10 * SECOND), wait_ns);
    rate_limit_set(&r, &r.limits, START);
    rate_limit_charge(&r, true, 2, START);
    int64_t before = rate_limit_wait_ns(&r, true, START);
    assert_int_equal(rate_limit_wait_ns(&r, true, START - SECOND), before);
    assert_int_equal(rate_limit_wait_ns(&r, true, START + SECOND), before - SECOND);
}

static void assert_refused(RateLimits l, const char *message)
{
    g_autoptr(GError) error = NULL;
    assert_false(rate_limits_check(&l, &error));
    assert_string_equal(error->message, message);
}

/* The messages are those of QEMU. */
static void limits_that_make_no_sense_are_refused(void **state)
{
    RateLimits l = limits_of(RATE_BPS_TOTAL, 100, 0, 1);
    l.buckets[RATE_BPS_WRITE].avg = 1;
    assert_refused(l, "bps/iops/max total values and read/write values cannot be used at the same "
                      "time");
    l = limits_of(RATE_IOPS_READ, 100, 100, 1);
    l.buckets[RATE_IOPS_TOTAL].max = 1;
    assert_refused(l, "bps/iops/max total values and read/write values cannot be used at the same "
                      "time");
    l = limits_of(RATE_BPS_TOTAL, 100, 0, 1);
    l.iops_size = 1;
    assert_refused(l, "iops size requires an iops value to be set");
    static const char range[] = "bps/iops/max values must be within [0, 1000000000000000]";
    assert_refused(limits_of(RATE_BPS_TOTAL, RATE_VALUE_MAX + 1, 0, 1), range);
    assert_refused(limits_of(RATE_IOPS_WRITE, (uint64_t)-1, 0, 1), range);
    assert_refused(limits_of(RATE_IOPS_WRITE, 1, RATE_VALUE_MAX + 1, 1), range);
    assert_refused(limits_of(RATE_BPS_READ, 1, 1, 0), "the burst length cannot be 0");
    assert_refused(limits_of(RATE_BPS_READ, 1, 0, 2), "burst length set without burst rate");
    assert_refused(limits_of(RATE_BPS_READ, 1, 2, RATE_VALUE_MAX / 2 + 1),
                   "burst length too high for this burst rate");
    assert_refused(limits_of(RATE_BPS_READ, 0, 2, 1),
                   "bps_max/iops_max require corresponding bps/iops values");
    assert_refused(limits_of(RATE_IOPS_TOTAL, 3, 2, 1),
                   "bps_max/iops_max cannot be lower than bps/iops");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rates_hold_over_ten_seconds),
        cmocka_unit_test(a_large_request_is_paid_for_afterwards),
        cmocka_unit_test(directions_have_their_own_limits),
        cmocka_unit_test(the_total_counts_both_directions),
        cmocka_unit_test(the_strictest_limit_counts),
        cmocka_unit_test(the_size_of_an_operation_divides_large_requests),
        cmocka_unit_test(a_burst_without_length_comes_at_once),
        cmocka_unit_test(a_burst_with_length_keeps_its_rate),
        cmocka_unit_test(without_a_burst_a_tenth_of_a_second_comes_at_once),
        cmocka_unit_test(no_limit_never_waits),
        cmocka_unit_test(new_limits_empty_the_buckets),
        cmocka_unit_test(extreme_values_do_not_overflow),
        cmocka_unit_test(limits_that_make_no_sense_are_refused),
    };
    return cmocka_run_group_tests_name("rate_limit", tests, NULL, NULL);
}

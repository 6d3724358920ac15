/* SPDX-License-Identifier: Apache-2.0 */
#include "util/rate_limit.h"

#include <math.h>
#include "util/opts/opts.h"

#define RATE_SECOND_NS 1e9
#define RATE_WAIT_MAX_NS (INT64_C(1) << 60)

/* ---- limits ---- */

void rate_limits_init(RateLimits *limits)
{
    *limits = (RateLimits){0};
    for (unsigned i = 0; i < RATE_BUCKETS; i++) {
        limits->buckets[i].length_s = 1;
    }
}

bool rate_limits_any(const RateLimits *limits)
{
    bool any = false;
    for (unsigned i = 0; i < RATE_BUCKETS; i++) {
        any = any || limits->buckets[i].avg > 0;
    }
    return any;
}

static bool rate_refuse(GError **error, const char *why)
{
    g_set_error_literal(error, OPT_ERROR, OPT_ERROR_VALUE, why);
    return false;
}

/* Whether both the common value and one of a direction are given. @first: RATE_*_TOTAL. */
static bool rate_total_conflicts(const RateLimits *limits, unsigned first)
{
    const RateBucketLimits *b = &limits->buckets[first];
    return (b[0].avg != 0 && (b[1].avg != 0 || b[2].avg != 0)) ||
           (b[0].max != 0 && (b[1].max != 0 || b[2].max != 0));
}

static bool rate_bucket_check(const RateBucketLimits *b, GError **error)
{
    if (b->avg > RATE_VALUE_MAX || b->max > RATE_VALUE_MAX) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "bps/iops/max values must be within [0, %" G_GUINT64_FORMAT "]",
                    RATE_VALUE_MAX);
        return false;
    }
    if (b->length_s == 0) {
        return rate_refuse(error, "the burst length cannot be 0");
    }
    if (b->length_s > 1 && b->max == 0) {
        return rate_refuse(error, "burst length set without burst rate");
    }
    if (b->max != 0 && b->length_s > RATE_VALUE_MAX / b->max) {
        return rate_refuse(error, "burst length too high for this burst rate");
    }
    if (b->max != 0 && b->avg == 0) {
        return rate_refuse(error, "bps_max/iops_max require corresponding bps/iops values");
    }
    if (b->max != 0 && b->max < b->avg) {
        return rate_refuse(error, "bps_max/iops_max cannot be lower than bps/iops");
    }
    return true;
}

bool rate_limits_check(const RateLimits *limits, GError **error)
{
    if (rate_total_conflicts(limits, RATE_BPS_TOTAL) ||
        rate_total_conflicts(limits, RATE_IOPS_TOTAL)) {
        return rate_refuse(error, "bps/iops/max total values and read/write values cannot be used "
                                  "at the same time");
    }
    if (limits->iops_size != 0 && limits->buckets[RATE_IOPS_TOTAL].avg == 0 &&
        limits->buckets[RATE_IOPS_READ].avg == 0 && limits->buckets[RATE_IOPS_WRITE].avg == 0) {
        return rate_refuse(error, "iops size requires an iops value to be set");
    }
    for (unsigned i = 0; i < RATE_BUCKETS; i++) {
        if (!rate_bucket_check(&limits->buckets[i], error)) {
            return false;
        }
    }
    return true;
}

/* ---- buckets ---- */

/* The buckets that a request of a direction fills. */
static const RateBucket rate_buckets_of[2][4] = {
    {RATE_BPS_TOTAL, RATE_BPS_READ, RATE_IOPS_TOTAL, RATE_IOPS_READ},
    {RATE_BPS_TOTAL, RATE_BPS_WRITE, RATE_IOPS_TOTAL, RATE_IOPS_WRITE},
};

void rate_limit_set(RateLimit *r, const RateLimits *limits, int64_t now_ns)
{
    *r = (RateLimit){.limits = *limits, .leaked_ns = now_ns};
}

static void rate_leak(RateLimit *r, int64_t now_ns)
{
    double seconds = (double)(now_ns - r->leaked_ns) / RATE_SECOND_NS;
    if (seconds <= 0) { /* the clocks of two threads */
        return;
    }
    r->leaked_ns = now_ns;
    for (unsigned i = 0; i < RATE_BUCKETS; i++) {
        const RateBucketLimits *b = &r->limits.buckets[i];
        r->level[i] = fmax(r->level[i] - (double)b->avg * seconds, 0);
        r->burst[i] = fmax(r->burst[i] - (double)b->max * seconds, 0);
    }
}

/* Seconds until @level is at most @size. */
static double rate_excess(double level, double size, double rate)
{
    return level > size ? (level - size) / rate : 0;
}

static double rate_bucket_wait(const RateLimit *r, RateBucket i)
{
    const RateBucketLimits *b = &r->limits.buckets[i];
    double avg = (double)b->avg, max = (double)b->max;
    if (b->avg == 0) {
        return 0;
    }
    if (b->max == 0) {
        return rate_excess(r->level[i], avg / 10, avg);
    }
    double wait = rate_excess(r->level[i], max * (double)b->length_s, avg);
    return b->length_s > 1 ? fmax(wait, rate_excess(r->burst[i], max / 10, max)) : wait;
}

int64_t rate_limit_wait_ns(RateLimit *r, bool is_write, int64_t now_ns)
{
    double wait = 0;
    rate_leak(r, now_ns);
    for (unsigned i = 0; i < G_N_ELEMENTS(rate_buckets_of[0]); i++) {
        wait = fmax(wait, rate_bucket_wait(r, rate_buckets_of[is_write][i]));
    }
    return (int64_t)fmin(ceil(wait * RATE_SECOND_NS), (double)RATE_WAIT_MAX_NS);
}

void rate_limit_charge(RateLimit *r, bool is_write, uint64_t bytes, int64_t now_ns)
{
    uint64_t size = r->limits.iops_size;
    double operations = size != 0 && bytes > size ? (double)bytes / (double)size : 1;
    rate_leak(r, now_ns);
    for (unsigned i = 0; i < G_N_ELEMENTS(rate_buckets_of[0]); i++) {
        RateBucket bucket = rate_buckets_of[is_write][i];
        if (r->limits.buckets[bucket].avg > 0) {
            double units = bucket < RATE_IOPS_TOTAL ? (double)bytes : operations;
            r->level[bucket] += units;
            r->burst[bucket] += units;
        }
    }
}

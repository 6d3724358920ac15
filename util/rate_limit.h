/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Limits of a rate: bytes and operations a second, with bursts, as leaky buckets.
 *
 * There are six buckets: bytes and operations, each for reads, for writes and for both together. A
 * request fills the buckets of its direction and the common ones; a bucket leaks at its average
 * rate. A request may start while each of its buckets holds at most its size:
 *
 *   max 0             avg / 10: a tenth of a second may come at once
 *   max, length 1 s   max: so much may come at once after a rest
 *   max, length > 1   max * length; a second bucket of max / 10 that leaks at max keeps the burst
 *                     at the rate max
 *
 * A request is charged as a whole when it starts, also if it is larger than a bucket: later ones
 * then wait longer, so the average is exact. The state is plain memory; the caller has the lock and
 * the clock.
 */
#ifndef SKIFF_UTIL_RATE_LIMIT_H
#define SKIFF_UTIL_RATE_LIMIT_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include "util/loop/thread.h"

typedef enum RateBucket {
    RATE_BPS_TOTAL,
    RATE_BPS_READ,
    RATE_BPS_WRITE,
    RATE_IOPS_TOTAL,
    RATE_IOPS_READ,
    RATE_IOPS_WRITE,
    RATE_BUCKETS,
} RateBucket;

#define RATE_VALUE_MAX UINT64_C(1000000000000000)

typedef struct RateBucketLimits {
    uint64_t avg;      /* units a second; 0: no limit */
    uint64_t max;      /* of a burst, units a second; 0: no burst */
    uint64_t length_s; /* of a burst */
} RateBucketLimits;

typedef struct RateLimits {
    RateBucketLimits buckets[RATE_BUCKETS];
    uint64_t iops_size; /* a request counts as one operation for each so many bytes; 0: as one */
} RateLimits;

/* Limits nothing. */
void rate_limits_init(RateLimits *limits) ANY_THREAD;
/* Whether there is a limit. */
bool rate_limits_any(const RateLimits *limits) ANY_THREAD;
/* False + error: the values contradict each other or are out of range. */
bool rate_limits_check(const RateLimits *limits, GError **error) ANY_THREAD;

typedef struct RateLimit {
    RateLimits limits;
    double level[RATE_BUCKETS], burst[RATE_BUCKETS]; /* units that have not leaked yet */
    int64_t leaked_ns;                               /* when they leaked last */
} RateLimit;

/* Sets limits, which were checked; the buckets become empty. */
void rate_limit_set(RateLimit *r, const RateLimits *limits, int64_t now_ns) ANY_THREAD;
/* Time until a request may start, at most 2^60; 0: now. */
int64_t rate_limit_wait_ns(RateLimit *r, bool is_write, int64_t now_ns) ANY_THREAD;
/* A request of @bytes starts. */
void rate_limit_charge(RateLimit *r, bool is_write, uint64_t bytes, int64_t now_ns) ANY_THREAD;

#endif

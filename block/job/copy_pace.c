/* SPDX-License-Identifier: Apache-2.0 */
#include "block/job/copy_pace.h"

#include <glib.h>

#define PACE_LATE_NS                                                                               \
    INT64_C(50000000) /* work that begins so late after a pause has waited for something else */

typedef struct PaceLevel {
    unsigned time; /* percent, of work */
    uint64_t chunk;
} PaceLevel;

static const PaceLevel pace_levels[COPY_PACE_LEVELS] = {
    {20, 256 << 10}, {40, 256 << 10}, {60, 256 << 10},
    {80, 256 << 10}, {80, 512 << 10}, {80, 1 << 20},
};

/* The lowest level of a share. */
static unsigned pace_floor(const CopyPace *p)
{
    unsigned level = 0;
    while (pace_levels[level].time < MIN(p->share, 80)) {
        level++;
    }
    return level;
}

/* ---- whether others use their disks ---- */

static RUNS_IN_IOTHREAD bool pace_is_active(CopyPace *p, const CopyPaceInput *in)
{
    if (in->requests != p->seen || (p->share == 0 && in->in_flight)) {
        bool first = p->share == 0 && !in->in_flight; /* they may have been long ago */
        p->seen = in->requests;
        p->active_ns =
            first ? in->now_ns
                  : in->now_ns + (in->in_flight ? COPY_PACE_HOLD_IN_FLIGHT_NS : COPY_PACE_HOLD_NS);
    }
    return in->now_ns < p->active_ns;
}

/* ---- the share ---- */

static RUNS_IN_IOTHREAD void pace_judge(CopyPace *p, uint64_t left)
{
    int64_t gone = (int64_t)(p->left - left), copied = (int64_t)p->copied;
    if (gone < copied / 2) {
        p->share = MIN(p->share + COPY_PACE_STEP, 100);
    } else if (gone > copied / 4 * 3) {
        p->share = MAX(p->share - COPY_PACE_STEP, COPY_PACE_SHARE);
    }
}

/* A review that is late judges nothing: the copy has waited for something else. */
static RUNS_IN_IOTHREAD void pace_review(CopyPace *p, const CopyPaceInput *in)
{
    if (in->now_ns < p->review_ns) {
        return;
    }
    if (in->now_ns - p->review_ns < COPY_PACE_REVIEW_NS) {
        pace_judge(p, in->left);
    }
    p->review_ns = in->now_ns + COPY_PACE_REVIEW_NS;
    p->left = in->left;
    p->copied = 0;
}

/* ---- the level ---- */

/* The percentage of their requests that others lose by the work of the copy. */
static double pace_loss(const CopyPace *p)
{
    double in_work = (double)p->work.requests / (double)p->work.ns;
    double in_pause = (double)p->pause.requests / (double)p->pause.ns;
    double of_time = (double)p->work.ns / (double)(p->work.ns + p->pause.ns);
    return 100 * (1 - MIN(in_work / in_pause, 1)) * of_time;
}

static RUNS_IN_IOTHREAD void pace_judge_level(CopyPace *p)
{
    if (p->work.ns + p->pause.ns < COPY_PACE_LOOK_NS || p->work.ns == 0 || p->pause.ns == 0 ||
        p->pause.requests < COPY_PACE_LOOK_REQUESTS) {
        return;
    }
    double loss = pace_loss(p);
    if (loss > p->share) {
        p->level -= p->level > 0;
    } else if (loss * 2 < p->share) {
        p->level = MIN(p->level + 1, COPY_PACE_LEVELS - 1);
    }
    p->work = p->pause = (CopyPaceLook){0};
}

/* The time since the last turn was of one kind. */
static RUNS_IN_IOTHREAD void pace_turn(CopyPace *p, CopyPaceLook *kind, int64_t now_ns,
                                       uint64_t requests)
{
    if (p->turn_ns > 0) {
        kind->ns += now_ns - p->turn_ns;
        kind->requests += requests - p->turn_requests;
    }
    p->turn_ns = now_ns;
    p->turn_requests = requests;
}

/* ---- the state ---- */

static CopyPaceState pace_state(const CopyPace *p, bool active, bool is_free)
{
    if (is_free) {
        return COPY_PACE_FREE;
    }
    if (!active) {
        return COPY_PACE_ALONE;
    }
    return p->share < 100 ? COPY_PACE_BESIDE : COPY_PACE_PRESSED;
}

void copy_pace_step(CopyPace *p, const CopyPaceInput *in)
{
    bool active = pace_is_active(p, in);
    if (p->share == 0) {
        p->share = COPY_PACE_SHARE;
        p->review_ns = in->now_ns + COPY_PACE_REVIEW_NS;
        p->left = in->left;
    }
    pace_review(p, in);
    p->state = pace_state(p, active, in->free);
    if (p->state != COPY_PACE_BESIDE) {
        p->next_ns = p->turn_ns = 0;
        p->work = p->pause = (CopyPaceLook){0};
    } else {
        pace_judge_level(p);
    }
    p->level = MAX(p->level, pace_floor(p));
}

/* ---- work ---- */

void copy_pace_work_begins(CopyPace *p, int64_t now_ns, uint64_t requests)
{
    if (p->state == COPY_PACE_BESIDE) {
        if (now_ns > p->next_ns + PACE_LATE_NS) {
            p->turn_ns = 0;
        }
        pace_turn(p, &p->pause, now_ns, requests);
    }
}

void copy_pace_work_ended(CopyPace *p, int64_t start_ns, int64_t now_ns, uint64_t requests)
{
    if (p->state == COPY_PACE_BESIDE) {
        unsigned time = pace_levels[p->level].time;
        int64_t pause_ns = (now_ns - start_ns) / time * (100 - time);
        p->next_ns = MAX(p->next_ns, now_ns + MIN(pause_ns, COPY_PACE_PAUSE_MAX_NS));
        pace_turn(p, &p->work, now_ns, requests);
    }
}

void copy_pace_copied(CopyPace *p, uint64_t bytes)
{
    p->copied += bytes;
}

bool copy_pace_allows(const CopyPace *p, unsigned count)
{
    return p->state != COPY_PACE_BESIDE || count == 0;
}

uint64_t copy_pace_chunk(const CopyPace *p, uint64_t bytes, uint64_t zero_bytes)
{
    if (p->state != COPY_PACE_BESIDE) {
        return MAX(bytes, zero_bytes);
    }
    bytes = MIN(bytes, pace_levels[p->level].chunk);
    return MAX(bytes, MIN(zero_bytes, COPY_PACE_ZERO_CHUNK));
}

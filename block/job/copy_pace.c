/* SPDX-License-Identifier: Apache-2.0 */
#include "block/job/copy_pace.h"

#include <glib.h>

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
        p->next_ns = 0;
    }
}

/* ---- work ---- */

void copy_pace_work_ended(CopyPace *p, int64_t start_ns, int64_t end_ns)
{
    if (p->state == COPY_PACE_BESIDE) {
        int64_t pause_ns = (end_ns - start_ns) / p->share * (100 - p->share);
        p->next_ns = MAX(p->next_ns, end_ns + MIN(pause_ns, COPY_PACE_PAUSE_MAX_NS));
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
    bytes = MIN(bytes, COPY_PACE_CHUNK);
    return MAX(bytes, MIN(zero_bytes, COPY_PACE_ZERO_CHUNK));
}

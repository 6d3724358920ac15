/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pace of a copy: how much of its time it works while guests use disks of the same iothread.
 *
 * The data step of a copy calls copy_pace_step() before each piece of work. It learns there whether
 * requests of others, which are the guests' devices and exports, have begun or ended. Beside them the
 * copy does one small piece at a time and pauses after it. Alone it has no pauses.
 *
 *                       requests of others
 *          +-------+ ------------------------> +--------+
 *     ---->| ALONE |                           | BESIDE | share: 20, 40, 60, 80 percent, and level
 *          +-------+ <------------------------ +--------+
 *              ^       none for a while          |    ^
 *              |                     share + 20  |    |  share - 20
 *              |       none for a while          v    |
 *              +------------------------------ +---------+
 *                                              | PRESSED | share: 100 percent
 *                                              +---------+
 *     from and to all of them: FREE, while the user has set a speed or waits for the job's end
 *
 *   free   requests of others   share   state      made by
 *   yes    any                  any     FREE       copy_pace_step
 *   no     none                 any     ALONE      copy_pace_step
 *   no     some                 < 100   BESIDE     copy_pace_step
 *   no     some                 100     PRESSED    copy_pace_step
 *
 * The share is what others may lose. It changes at a review, which is due every two seconds. A review
 * compares what is left with what was left at the last one. The share grows if less than a half of what
 * was copied is gone, since guests have set the bits of the rest again. It shrinks if more than three
 * quarters of it are gone.
 *
 * The level is the effort. At the lowest level of a share the copy works for that share of the time, so
 * others lose no more even if they get nothing meanwhile. Often they get much: a disk with a long queue
 * does other requests while it does the copy's. So twice a second the copy compares how many requests of
 * others begin and end in times of work and in pauses. If they lose less than a half of the share, the
 * level rises by one; if they lose more than the share, it falls by one.
 *
 *   level                    0    1    2    3    4    5
 *   percent of the time     20   40   60   80   80   80
 *   KiB of a piece         256  256  256  256  512 1024
 *
 * Invariants
 *   1. In BESIDE one piece of work is under way at a time, and work that took t is followed by a pause of
 *      t * (100 - time) / time, but of COPY_PACE_PAUSE_MAX_NS at most; time is that of the level.
 *   2. In all other states there is no pause.
 *   3. The share is between COPY_PACE_SHARE and 100, and changes by one step at a review. The time of the
 *      level is not below the share, as far as there is such a level.
 *   4. A copy that guests keep from its end gets all of the time after four reviews; then it is as fast
 *      as without a pace. The share shrinks only if what is left has shrunk by more than what can be
 *      added in a time as long as the next review, so what is left shrinks over each such pair.
 *   5. The pace has no wait of its own: a pause is a time before which no work begins, and ends early
 *      when the state changes. So it delays no pause, cancel or drained section.
 */
#ifndef SKIFF_BLOCK_JOB_COPY_PACE_H
#define SKIFF_BLOCK_JOB_COPY_PACE_H

#include <stdbool.h>
#include <stdint.h>
#include "util/loop/thread.h"

#define COPY_PACE_SHARE 20u /* percent */
#define COPY_PACE_STEP 20u
#define COPY_PACE_REVIEW_NS INT64_C(2000000000)
#define COPY_PACE_PAUSE_MAX_NS INT64_C(1000000000)
/* How long others count as active after the last begin or end of a request; and while one is in flight. */
#define COPY_PACE_HOLD_NS INT64_C(100000000)
#define COPY_PACE_HOLD_IN_FLIGHT_NS INT64_C(2000000000)
#define COPY_PACE_LEVELS 6u
#define COPY_PACE_LOOK_NS INT64_C(500000000) /* of work and pauses, before the level is judged */
#define COPY_PACE_LOOK_REQUESTS 16u          /* that begin or end in the pauses of that time */
#define COPY_PACE_ZERO_CHUNK ((uint64_t)16 << 20) /* of zeroes, beside others */

typedef enum CopyPaceState {
    COPY_PACE_ALONE,
    COPY_PACE_BESIDE,
    COPY_PACE_PRESSED,
    COPY_PACE_FREE,
} CopyPaceState;

/* Times of one kind, and the requests of others that began or ended in them. */
typedef struct CopyPaceLook {
    int64_t ns;
    uint64_t requests;
} CopyPaceLook;

/* Zero: ALONE. */
typedef struct CopyPace {
    CopyPaceState state;
    unsigned share;    /* percent; 0: no step yet */
    uint64_t seen;     /* requests of others at the last step */
    int64_t active_ns; /* until when others count as active */
    int64_t next_ns;   /* no work begins before */
    int64_t review_ns; /* when the next review is due; 0: never */
    uint64_t left;     /* bytes that were left at the last review */
    uint64_t copied;   /* bytes since then */
    unsigned level;
    CopyPaceLook work, pause; /* since the level was judged */
    int64_t turn_ns;          /* the last begin or end of work; 0: none in this time of BESIDE */
    uint64_t turn_requests;   /* at that time */
} CopyPace;

/* What a step looks at. */
typedef struct CopyPaceInput {
    int64_t now_ns;
    uint64_t requests; /* of others, begun and ended: a number that changes with each */
    bool in_flight;    /* one of them has not ended */
    uint64_t left;     /* bytes to be copied */
    bool free;         /* the user has set a speed, or waits for the end */
} CopyPaceInput;

/* All in the home of the copy. */
void copy_pace_step(CopyPace *p, const CopyPaceInput *in) RUNS_IN_IOTHREAD;
/* A piece of work begins, and has ended that began at @start_ns. @requests as in CopyPaceInput. */
void copy_pace_work_begins(CopyPace *p, int64_t now_ns, uint64_t requests) RUNS_IN_IOTHREAD;
void copy_pace_work_ended(CopyPace *p, int64_t start_ns, int64_t now_ns, uint64_t requests)
    RUNS_IN_IOTHREAD;
/* So many bytes were copied. */
void copy_pace_copied(CopyPace *p, uint64_t bytes) RUNS_IN_IOTHREAD;
/* Whether another piece of work may begin, of @count that are under way. */
bool copy_pace_allows(const CopyPace *p, unsigned count) RUNS_IN_IOTHREAD;
/* The size of the next piece: @bytes of data, or of @zero_bytes > 0 that are probably zeroes. */
uint64_t copy_pace_chunk(const CopyPace *p, uint64_t bytes, uint64_t zero_bytes) RUNS_IN_IOTHREAD;

#endif

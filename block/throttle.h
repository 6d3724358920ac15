/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Throttle groups: limits of bytes and operations a second that several disks share.
 *
 * The members of a group are backends (the limits of a -drive) and nodes of the driver "throttle".
 * Each has the queue of its own requests that wait, in its home. The limits and the queues are under
 * the group's lock, which is held for a few instructions. Whoever holds it starts all requests that
 * may start, of any member, by waking their coroutines; so no thread waits for another one.
 *
 *   request --may start, nobody waits--> charged, runs
 *      |
 *      +--> queue of its member; the members that have one take turns, a request each
 *             |  the home of the member whose turn it is has a timer
 *             +--> charged, woken, runs
 *
 * Invariants
 *   1. A member is in the list of turns of a direction exactly if it has a request of that direction
 *      that waits, and is not suspended.
 *   2. If there are turns, the home of the first one's member will look again when its request may
 *      start, or before.
 *   3. A request is charged once, when it starts.
 */
#ifndef SKIFF_BLOCK_THROTTLE_H
#define SKIFF_BLOCK_THROTTLE_H

#include "block/block.h"
#include "util/rate_limit.h"

typedef struct ThrottleGroup ThrottleGroup;

/* ---- groups (main) ---- */
/* A new group, which no other one is called. The caller owns one reference. @limits were checked. */
ThrottleGroup *throttle_group_new(const char *name, const RateLimits *limits) RUNS_IN_MAIN;
ThrottleGroup *throttle_group_find(const char *name) RUNS_IN_MAIN; /* borrowed; NULL: none */
void throttle_group_ref(ThrottleGroup *g) RUNS_IN_MAIN;
/* The last one frees the group, which has no member then. */
void throttle_group_unref(ThrottleGroup *g) RUNS_IN_MAIN;
/* Whether somebody else than one owner has a reference. */
bool throttle_group_in_use(const ThrottleGroup *g) RUNS_IN_MAIN;
const char *throttle_group_name(const ThrottleGroup *g) ANY_THREAD;
void throttle_group_limits(const ThrottleGroup *g, RateLimits *limits) RUNS_IN_MAIN;
/* New limits, which were checked. They also apply to the requests that wait; what was used before is
 * forgotten. */
void throttle_group_set_limits(ThrottleGroup *g, const RateLimits *limits) RUNS_IN_MAIN;

/* ---- backends (main) ---- */
/* Makes the backend a member of @g, and of no other group; NULL: of none. Requests that wait move to
 * the new group, or start. */
void blk_co_set_throttle_group(BlockBackend *blk, ThrottleGroup *g) coroutine_fn RUNS_IN_MAIN;
ThrottleGroup *blk_throttle_group(const BlockBackend *blk) RUNS_IN_MAIN; /* borrowed; NULL: none */

/* ---- members: for the border and the driver ---- */
typedef struct ThrottleMember {
    ThrottleGroup *group;
    AioContext *home;
    /* under the group's lock */
    GQueue waiting[2]; /* ThrottleWait; [0]: reads, [1]: writes */
    GList turn[2];     /* links in the group's lists of turns */
    bool has_turn[2];
    bool suspended;    /* its requests do not start */
    bool returning;    /* its requests do not wait */
    int64_t wakeup_ns; /* when its home looks again; INT64_MAX: not */
    /* home */
    bool lifted; /* its requests do not wait, but are charged */
    AioTimer timer;
    AioBh arm;
} ThrottleMember;

/* A member of no group. */
void throttle_member_init(ThrottleMember *m, AioContext *home) ANY_THREAD;
/* Joins a group. In the home, or in main while @m is new or lifted. */
void throttle_member_join(ThrottleMember *m, ThrottleGroup *g) ANY_THREAD;
/* Leaves the group; the requests that wait stay in @m, for the next group. In the home, or in main
 * while @m is lifted. */
void throttle_member_leave(ThrottleMember *m) ANY_THREAD;
/* Sets another home. In main while @m is lifted. */
void throttle_member_move(ThrottleMember *m, AioContext *home) ANY_THREAD;
/* Waits until a request may start, and charges it. 0; or BLK_NOT_STARTED, then it is not charged.
 * @m may be gone afterwards. */
int throttle_member_co_wait(ThrottleMember *m, bool is_write, uint64_t bytes)
    coroutine_fn RUNS_IN_IOTHREAD;
/* Charges a request that does not wait. */
void throttle_member_charge(ThrottleMember *m, bool is_write, uint64_t bytes) RUNS_IN_IOTHREAD;
/* Requests of @m wait, but do not start; later ones of other members do. */
void throttle_member_suspend(ThrottleMember *m, bool on) RUNS_IN_IOTHREAD;
/* Requests of @m that would have to wait, and those that do, end with BLK_NOT_STARTED. */
void throttle_member_return(ThrottleMember *m, bool on) RUNS_IN_IOTHREAD;
/* Requests of @m start at once and are charged. Then the home has no timer for @m. */
void throttle_member_lift(ThrottleMember *m, bool on) RUNS_IN_IOTHREAD;
/* Starts the requests that wait at @n or a node below it, and lets none wait, or ends that; as
 * BlockDriver.lift. Between both calls the nodes below @n do not change. In the home. */
void throttle_lift_nodes(BlockNode *n, bool on) RUNS_IN_IOTHREAD;
/* All requests that wait start, without a charge. @m is in no group. */
void throttle_member_release(ThrottleMember *m) RUNS_IN_IOTHREAD;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* What lane.c and lane_request.c share. block/lane.h says who uses which part. */
#ifndef SKIFF_BLOCK_CORE_LANE_STATE_H
#define SKIFF_BLOCK_CORE_LANE_STATE_H

#include "block/core/lane_int.h"

typedef enum LaneGate { GATE_CLOSED, GATE_OPEN, GATE_CLOSING, GATES } LaneGate;

struct BlkLane {
    /* fixed */
    BlkLanes *all;
    AioContext *ctx;
    AioBh command_bh;  /* to the lane: the home's last command */
    AioBh answer_bh;   /* the lane's own: the last request has ended */
    AioBh answered_bh; /* to the home: the gate is closed */
    /* lane */
    uint32_t executed;          /* number of the last command executed */
    bool taking;                /* the gate is open */
    bool leaving;               /* an answer is due when in_flight is 0 */
    unsigned in_flight;         /* requests from blk_lane_begin() to their end */
    const BlockLaneDriver *drv; /* of state */
    void *state;                /* the driver's, with the engine */
    BlkAccount account;         /* counted by the lane, read anywhere */
};

struct BlkLanes {
    /* fixed */
    BlockBackend *blk;
    BlkLane *lanes;
    unsigned count;
    /* home */
    LaneGate gate;
    unsigned unanswered; /* lanes that have not answered the command to close */
    unsigned shutting;   /* coroutines in lanes_co_shut() */
    CoQueue closed;      /* they wait for GATE_CLOSED */
    AioBh update_bh;
    GPtrArray *nodes; /* of the plan; empty: the gates are closed */
    BlkLanes *next;   /* the list of this thread */
    /* home, and lanes while their gates are open */
    BlockLanePlan plan;
    _Atomic uint32_t command; /* number << 1 | (1: open, 0: close) */
};

#endif

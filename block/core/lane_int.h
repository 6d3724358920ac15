/* SPDX-License-Identifier: Apache-2.0 */
/* Lanes of a backend, for the other files of this folder. block/lane.h has the states. */
#ifndef SKIFF_BLOCK_CORE_LANE_INT_H
#define SKIFF_BLOCK_CORE_LANE_INT_H

#include "block/core/account.h"
#include "block/lane.h"

/* ---- home ---- */
/* A section takes effect: begins to close the gates. NULL is fine. */
void lanes_close(BlkLanes *all) RUNS_IN_IOTHREAD;
/* As block_node_co_shut_lanes(), for a change of the backend. */
void blk_co_shut_lanes(BlockBackend *blk) coroutine_fn RUNS_IN_IOTHREAD;
/* The backend is freed; it is quiesced for good. */
void lanes_retire(BlkLanes *all) RUNS_IN_IOTHREAD;

/* ---- main ---- */
/* After lanes_retire(): each lane releases its engine. NULL is fine. */
void lanes_co_free(BlkLanes *all) coroutine_fn RUNS_IN_MAIN;

/* The statistics of lane @i; NULL: there are no more. @all may be NULL. */
const BlkAccount *lanes_account(const BlkLanes *all, unsigned i) ANY_THREAD;

#endif

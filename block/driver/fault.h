/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fault driver: a filter that makes chosen requests fail, delays them, or holds them until they
 * are released. From the command line:
 *
 *   -blockdev driver=fault,node-name=x,fail-op=write,fail-after=10,fail-count=1,errno=28,
 *             file.driver=...
 *
 * With write-cache=on it behaves as a disk with a volatile write cache: a write without FUA
 * completes at once and is carried out later, when the fault may hit it; every later flush reports
 * its error.
 *
 * Tests, which run in the node's home context, use the functions below.
 */
#ifndef SKIFF_BLOCK_DRIVER_FAULT_H
#define SKIFF_BLOCK_DRIVER_FAULT_H

#include "block/block.h"

typedef enum BlockFaultOp {
    BLOCK_FAULT_NONE,
    BLOCK_FAULT_READ,
    BLOCK_FAULT_WRITE,
    BLOCK_FAULT_FLUSH,
    BLOCK_FAULT_DISCARD,
    BLOCK_FAULT_WRITE_ZEROES,
    BLOCK_FAULT_BLOCK_STATUS,
    BLOCK_FAULT_ANY,
} BlockFaultOp;

/* Which requests are hit, and the effect on them. */
typedef struct BlockFault {
    int op;            /* BlockFaultOp */
    uint64_t offset;   /* a request that touches [offset, offset + length) ... */
    uint64_t length;   /* ... 0: anywhere */
    uint64_t after;    /* this many requests pass first */
    uint64_t count;    /* then this many are hit; 0: all later ones */
    uint64_t delay_ns; /* a hit request first waits this long */
    bool hold;         /* then waits until released */
    uint32_t error;    /* then fails with -error; 0: is carried out */
} BlockFault;

/* Replaces the fault and counts from 0 again. Held requests stay held. */
void block_fault_set(BlockNode *n, const BlockFault *fault) RUNS_IN_IOTHREAD;
/* The number of requests held now. */
unsigned block_fault_held(const BlockNode *n) ANY_THREAD;
/* The number of requests hit since the fault was set. */
unsigned block_fault_hits(const BlockNode *n) ANY_THREAD;
/* Releases the oldest @count held requests; returns how many were released. */
unsigned block_fault_release(BlockNode *n, unsigned count) RUNS_IN_IOTHREAD;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fault driver: a filter that makes chosen requests fail, take long, or wait until they are
 * released. From the command line:
 *
 *   -blockdev driver=fault,node-name=x,fail-op=write,fail-after=10,fail-count=1,errno=28,
 *             file.driver=...
 *
 * With write-cache=on it behaves as a disk with a volatile write cache: a write without FUA completes
 * at once and is carried out afterwards, where it may be hit; its error is the next flush's.
 *
 * From tests, which have a node's home context at hand, by the functions below.
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
    BLOCK_FAULT_ANY,
} BlockFaultOp;

/* Which requests, and what becomes of them. */
typedef struct BlockFault {
    int op;            /* BlockFaultOp */
    uint64_t offset;   /* a request that touches [offset, offset + length) ... */
    uint64_t length;   /* ... 0: anywhere */
    uint64_t after;    /* so many go through first */
    uint64_t count;    /* then so many are hit; 0: all that follow */
    uint64_t delay_ns; /* first, it waits so long */
    bool hold;         /* then, until released */
    uint32_t error;    /* then it fails with -error; 0: it goes through */
} BlockFault;

/* Replaces the fault; counting starts anew. What is held stays held. */
void block_fault_set(BlockNode *n, const BlockFault *fault) RUNS_IN_IOTHREAD;
/* Requests that are held now. */
unsigned block_fault_held(const BlockNode *n) ANY_THREAD;
/* Requests hit since the fault was set. */
unsigned block_fault_hits(const BlockNode *n) ANY_THREAD;
/* Lets the oldest @count held requests go on; returns how many there were. */
unsigned block_fault_release(BlockNode *n, unsigned count) RUNS_IN_IOTHREAD;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Inside a graph change: change.c (begin, commit, abort, end) and change_step.c (steps). */
#ifndef SKIFF_BLOCK_CORE_CHANGE_INT_H
#define SKIFF_BLOCK_CORE_CHANGE_INT_H

#include "block/graph.h"

typedef enum ChangeKind {
    CHANGE_MOVED,   /* the edge led to @old */
    CHANGE_ADDED,   /* the edge is new */
    CHANGE_REMOVED, /* the edge was the parent's child number @index */
} ChangeKind;

/* What a step has done, to undo it. */
typedef struct ChangeStep {
    ChangeKind kind;
    BlockEdge *edge;
    BlockNode *old;
    unsigned index;
} ChangeStep;

typedef struct ChangeBackend {
    BlockBackend *blk;
    uint64_t size;     /* at the begin */
    GPtrArray *before; /* the nodes below it at the begin */
} ChangeBackend;

typedef enum ChangeState {
    CHANGE_DRAINED,
    CHANGE_STEPPING,
    CHANGE_COMMITTED,
    CHANGE_ABORTED,
} ChangeState;

struct BlockGraphChange {
    Coroutine *owner;
    ChangeState state;
    GPtrArray *nodes;     /* BlockNode: the component */
    bool *seen;           /* for each of them, whether its data was seen at the begin */
    bool *hidden;         /* the same: whether it was hidden before the commit */
    GPtrArray *above;     /* BlockNode: the given nodes and all above them */
    GPtrArray *quiesced;  /* BlockNode: nothing is in flight in them */
    GPtrArray *held;      /* BlockNode: the others */
    GPtrArray *blks;      /* BlockBackend: of nodes that are above */
    GPtrArray *backends;  /* ChangeBackend, the same ones */
    GPtrArray *held_blks; /* BlockBackend: the others */
    GPtrArray *steps;     /* ChangeStep, in their order */
    GPtrArray *dropped;   /* BlockNode: references to release at the end: of nodes, and of edges */
};

/* Nothing yields from the first call until change_end_steps(). */
void change_begin_steps(BlockGraphChange *c) RUNS_IN_MAIN;
void change_end_steps(BlockGraphChange *c, ChangeState state) RUNS_IN_MAIN;
void change_undo(BlockGraphChange *c, ChangeStep *s) RUNS_IN_MAIN; /* frees @s */
void change_free_step(ChangeStep *s) RUNS_IN_MAIN;

#endif

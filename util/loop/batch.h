/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Items that one loop passes to another, several with one wake-up.
 *
 *   from: loop_batch_add(), loop_batch_add(), loop_batch_send()  --one bottom half-->  to: fn(), fn()
 *
 * Invariants
 *   1. One thread sends, that of @from. Items arrive in the order in which they were added, each once.
 *   2. The bottom half in @to is scheduled exactly when items have been passed and were not taken yet.
 *      So nothing of a batch is pending when all its items have arrived, and its memory may be freed.
 */
#ifndef SKIFF_UTIL_LOOP_BATCH_H
#define SKIFF_UTIL_LOOP_BATCH_H

#include "util/loop/aio.h"

/* Embedded in what is passed. The batch's from loop_batch_add() until @fn is called. */
typedef struct LoopBatchItem {
    struct LoopBatchItem *next;
} LoopBatchItem;

typedef struct LoopBatch {
    AioContext *from, *to;
    void (*fn)(void *opaque, LoopBatchItem *item); /* in @to */
    void *opaque;
    AioBh send_bh, arrive_bh;
    /* from */
    LoopBatchItem *newest, *oldest; /* added and not passed */
    LoopBatchItem *_Atomic passed;  /* newest first */
} LoopBatch;

void loop_batch_init(LoopBatch *b, AioContext *from, AioContext *to,
                     void (*fn)(void *opaque, LoopBatchItem *item), void *opaque) ANY_THREAD;
/* In @from. The item waits for one of the following calls. */
void loop_batch_add(LoopBatch *b, LoopBatchItem *item) RUNS_IN_LOOP;
/* In @from: passes what was added, if there is something. */
void loop_batch_send(LoopBatch *b) RUNS_IN_LOOP;
/* The same in the next turn of @from, together with what is added until then. A batch is sent by this
 * or by loop_batch_send(), not by both. */
void loop_batch_send_later(LoopBatch *b) RUNS_IN_LOOP;

#endif

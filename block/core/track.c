/* SPDX-License-Identifier: Apache-2.0 */
#include "block/node.h"

static bool track_overlaps(const BlockTracked *a, const BlockTracked *b)
{
    return a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
}

/* Returns an older request that @t must wait for, or NULL. */
static BlockTracked *track_find_blocker(const BlockNode *n, const BlockTracked *t)
{
    for (BlockTracked *other = n->tracked; other != NULL; other = other->next) {
        if (other->sequence < t->sequence && (t->serialising || other->serialising) &&
            track_overlaps(other, t)) {
            return other;
        }
    }
    return NULL;
}

void block_track_co_begin(BlockNode *n, BlockTracked *t, uint64_t offset, uint64_t bytes,
                          bool serialising)
{
    uint64_t alignment = n->limits.request_alignment;
    *t = (BlockTracked){
        .next = n->tracked,
        .link = &n->tracked,
        .offset = block_align_down(offset, alignment),
        .sequence = n->tracked_sequence++,
        .serialising = serialising,
    };
    t->bytes = block_align_up(offset + bytes, alignment) - t->offset;
    co_queue_init(&t->waiters);
    if (n->tracked != NULL) {
        n->tracked->link = &t->next;
    }
    n->tracked = t;

    BlockTracked *blocker;
    while ((blocker = track_find_blocker(n, t)) != NULL) {
        co_queue_wait(&blocker->waiters, "an overlapping write");
    }
}

void block_track_end(BlockTracked *t)
{
    *t->link = t->next;
    if (t->next != NULL) {
        t->next->link = t->link;
    }
    co_queue_wake_all(&t->waiters);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Locks of guest clusters: a hash table of the clusters that are locked now.
 *
 *   cell of a cluster: holders (shared, or one that is exclusive) | waiters, the oldest first
 *
 * A waiter is behind all older ones of its cluster, so none starves. A request locks its clusters in
 * ascending order and holds no other lock meanwhile, so there is no cycle. A waiter gets the lock
 * from the one who unlocks.
 */
#include <assert.h>
#include "block/qcow2/qcow2_int.h"

#define LOCK_SPARE_MAX 4096u

typedef struct LockWait {
    CoToken token;
    bool exclusive;
    struct LockWait *next;
} LockWait;

struct Qcow2LockCell {
    uint64_t cluster;
    unsigned holders;
    bool exclusive;
    LockWait *first, **tail;
    Qcow2LockCell *next; /* of the bucket, or spare */
};

void qcow2_lock_init(Qcow2Writer *w)
{
    w->cells = g_new0(Qcow2LockCell *, QCOW2_LOCK_BUCKETS);
}

void qcow2_lock_free(Qcow2Writer *w)
{
    while (w->spare_cells != NULL) {
        Qcow2LockCell *cell = w->spare_cells;
        w->spare_cells = cell->next;
        g_free(cell);
    }
    w->spare_count = 0;
    g_clear_pointer(&w->cells, g_free);
}

static Qcow2LockCell **lock_find(Qcow2Writer *w, uint64_t cluster)
{
    Qcow2LockCell **link = &w->cells[cluster % QCOW2_LOCK_BUCKETS];
    while (*link != NULL && (*link)->cluster != cluster) {
        link = &(*link)->next;
    }
    return link;
}

static Qcow2LockCell *lock_new_cell(Qcow2Writer *w, uint64_t cluster)
{
    Qcow2LockCell *cell = w->spare_cells;
    if (cell != NULL) {
        w->spare_cells = cell->next;
        w->spare_count--;
    } else {
        cell = g_new(Qcow2LockCell, 1);
    }
    *cell = (Qcow2LockCell){.cluster = cluster};
    cell->tail = &cell->first;
    return cell;
}

static coroutine_fn RUNS_IN_IOTHREAD void lock_one(Qcow2Writer *w, uint64_t cluster, bool exclusive)
{
    Qcow2LockCell **link = lock_find(w, cluster), *cell = *link;
    if (cell == NULL) {
        cell = *link = lock_new_cell(w, cluster);
    }
    if (cell->first == NULL && (cell->holders == 0 || (!exclusive && !cell->exclusive))) {
        cell->holders++;
        cell->exclusive = exclusive;
        return;
    }
    LockWait wait = {.token = co_arm(), .exclusive = exclusive};
    *cell->tail = &wait;
    cell->tail = &wait.next;
    co_wait(wait.token);
}

/* Passes the lock to the oldest waiter, and if it shares, to those behind it that share too. */
static RUNS_IN_IOTHREAD void lock_pass(Qcow2LockCell *cell)
{
    while (cell->first != NULL && (cell->holders == 0 || !cell->first->exclusive)) {
        LockWait *wait = cell->first;
        cell->first = wait->next;
        if (cell->first == NULL) {
            cell->tail = &cell->first;
        }
        cell->holders++;
        cell->exclusive = wait->exclusive;
        co_wake(wait->token);
        if (cell->exclusive) {
            return;
        }
    }
}

static RUNS_IN_IOTHREAD void unlock_one(Qcow2Writer *w, uint64_t cluster)
{
    Qcow2LockCell **link = lock_find(w, cluster), *cell = *link;
    assert(cell != NULL && cell->holders > 0);
    cell->holders--;
    if (cell->holders > 0) {
        return;
    }
    lock_pass(cell);
    if (cell->holders > 0) {
        return;
    }
    *link = cell->next;
    if (w->spare_count >= LOCK_SPARE_MAX) {
        g_free(cell);
        return;
    }
    cell->next = w->spare_cells;
    w->spare_cells = cell;
    w->spare_count++;
}

void qcow2_co_lock(Qcow2Writer *w, uint64_t cluster, uint64_t count, bool exclusive)
{
    for (uint64_t i = 0; i < count; i++) {
        lock_one(w, cluster + i, exclusive);
    }
}

void qcow2_unlock(Qcow2Writer *w, uint64_t cluster, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        unlock_one(w, cluster + i);
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Throttling at the border, and the end of waits for a device that stops. */
#include "block/core/backend_int.h"
#include "block/core/node_int.h"

/* ---- the end of waits ---- */

void block_node_lift(BlockNode *n, bool on)
{
    unsigned before = n->lifted;
    n->lifted = on ? before + 1 : before - 1;
    if (n->drv->lift != NULL && (before == 0 || n->lifted == 0)) {
        n->drv->lift(n, on);
    }
}

void throttle_lift_nodes(BlockNode *n, bool on)
{
    g_autoptr(GPtrArray) nodes = block_node_tree(n);
    for (unsigned i = 0; i < nodes->len; i++) {
        block_node_lift(nodes->pdata[i], on);
    }
}

void blk_lift_nodes(BlockBackend *blk, bool on)
{
    throttle_lift_nodes(blk->root, on);
}

void blk_set_hurry(BlockBackend *blk, bool on)
{
    assert_home(blk->home);
    if (blk->hurries == on) {
        return;
    }
    blk->hurries = on;
    /* Main changes the nodes below only in a drained section that is in effect here. */
    if (blk->quiesced == 0) {
        blk_lift_nodes(blk, on);
    }
    if (blk->throttle != NULL) {
        throttle_member_return(blk->throttle, on);
    }
    if (on) {
        blk_return_queued(blk);
    }
}

/* ---- membership ---- */

typedef struct BlkThrottleSet {
    BlockBackend *blk;
    ThrottleGroup *group;
} BlkThrottleSet;

static void blk_set_throttle_at_home(void *opaque)
{
    const BlkThrottleSet *s = opaque;
    BlockBackend *blk = s->blk;
    enter_coroutine();
    enter_iothread(blk->home);
    blk_co_shut_lanes(blk);
    if (blk->throttle != NULL) {
        throttle_member_leave(blk->throttle);
    }
    if (s->group == NULL && blk->throttle != NULL) {
        throttle_member_release(blk->throttle); /* in a drained section they queue */
        blk->throttle = NULL;
    } else if (s->group != NULL) {
        if (blk->throttle == NULL) {
            blk->throttle = &blk->member;
            throttle_member_init(blk->throttle, blk->home);
            blk->throttle->suspended = blk->quiesced > 0;
            blk->throttle->returning = blk->hurries;
        }
        throttle_member_join(blk->throttle, s->group);
    }
}

void blk_co_set_throttle_group(BlockBackend *blk, ThrottleGroup *g)
{
    ThrottleGroup *old = blk->throttle_group;
    if (g == old) {
        return;
    }
    if (g != NULL) {
        throttle_group_ref(g);
    }
    blk->throttle_group = g;
    BlkThrottleSet s = {.blk = blk, .group = g};
    co_call_in(blk->home, blk_set_throttle_at_home, &s);
    if (old != NULL) {
        throttle_group_unref(old);
    }
}

ThrottleGroup *blk_throttle_group(const BlockBackend *blk)
{
    return blk->throttle_group;
}

void blk_throttle_retire(BlockBackend *blk)
{
    ThrottleMember *m = blk->throttle;
    if (m == NULL) {
        return;
    }
    if (m->waiting[0].length > 0 || m->waiting[1].length > 0) {
        bug_abort("backend '%s' is freed while requests wait in it", blk->name);
    }
    throttle_member_leave(m);
    blk->throttle = NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The tree of tracked requests: insert, remove and search in logarithmic time for usual loads. */
#include <sys/random.h>
#include "block/lane.h"
#include "util/loop/sched_point.h"

/* ---- the tree ---- */

static void track_add_summary(BlockTracked *t, const BlockTracked *below)
{
    if (below != NULL) {
        t->oldest = MIN(t->oldest, below->oldest);
        t->all.end = MAX(t->all.end, below->all.end);
        t->all.newest = MAX(t->all.newest, below->all.newest);
        t->serialisers.end = MAX(t->serialisers.end, below->serialisers.end);
        t->serialisers.newest = MAX(t->serialisers.newest, below->serialisers.newest);
    }
}

/* Sets the summary of @t's subtree from those of its children. */
static void track_update(BlockTracked *t)
{
    t->oldest = t->sequence;
    t->all = (BlockTrackSummary){t->end, t->sequence};
    t->serialisers = t->serialising ? t->all : (BlockTrackSummary){0};
    track_add_summary(t, t->left);
    track_add_summary(t, t->right);
}

static bool track_is_before(const BlockTracked *a, const BlockTracked *b)
{
    return a->offset != b->offset ? a->offset < b->offset : a->sequence < b->sequence;
}

/* Splits @root into what is before @t and what is behind it. */
static void track_split(BlockTracked *root, const BlockTracked *t, BlockTracked **before,
                        BlockTracked **behind)
{
    if (root == NULL) {
        *before = *behind = NULL;
        return;
    }
    if (track_is_before(root, t)) {
        track_split(root->right, t, &root->right, behind);
        *before = root;
    } else {
        track_split(root->left, t, before, &root->left);
        *behind = root;
    }
    track_update(root);
}

static BlockTracked *track_insert(BlockTracked *root, BlockTracked *t)
{
    if (root == NULL || t->priority > root->priority) {
        track_split(root, t, &t->left, &t->right);
        track_update(t);
        return t;
    }
    if (track_is_before(t, root)) {
        root->left = track_insert(root->left, t);
    } else {
        root->right = track_insert(root->right, t);
    }
    track_update(root);
    return root;
}

/* Joins two trees; all of @a is before @b. */
static BlockTracked *track_join(BlockTracked *a, BlockTracked *b)
{
    if (a == NULL || b == NULL) {
        return a != NULL ? a : b;
    }
    BlockTracked *root = a->priority > b->priority ? a : b;
    if (root == a) {
        a->right = track_join(a->right, b);
    } else {
        b->left = track_join(a, b->left);
    }
    track_update(root);
    return root;
}

static BlockTracked *track_remove(BlockTracked *root, const BlockTracked *t)
{
    if (root == t) {
        return track_join(root->left, root->right);
    }
    if (track_is_before(t, root)) {
        root->left = track_remove(root->left, t);
    } else {
        root->right = track_remove(root->right, t);
    }
    track_update(root);
    return root;
}

/* ---- the search ---- */

static const BlockTrackSummary *track_conflicts(const BlockTracked *t, const BlockTracked *root)
{
    return t->serialising ? &root->all : &root->serialisers;
}

/* Returns the newest one of the older requests that @t must wait for, if it is newer than @best;
 * else @best. A wait for the newest one mostly lasts until all others have ended, so requests that
 * queue for the same bytes are woken once each. */
static BlockTracked *track_find(BlockTracked *root, const BlockTracked *t, BlockTracked *best)
{
    if (root == NULL || root->oldest >= t->sequence) {
        return best;
    }
    const BlockTrackSummary *there = track_conflicts(t, root);
    if (there->end <= t->offset || (best != NULL && there->newest <= best->sequence)) {
        return best;
    }
    if (root->offset < t->end) {
        best = track_find(root->right, t, best);
        if (root->sequence < t->sequence && root->end > t->offset &&
            (t->serialising || root->serialising) &&
            (best == NULL || root->sequence > best->sequence)) {
            best = root;
        }
    }
    return track_find(root->left, t, best);
}

/* ---- requests ---- */

static uint64_t track_unit(const BlockNode *n)
{
    return MAX(n->limits.request_alignment, n->track.unit);
}

/* Not g_random_int(), which opens a file: an iothread in the sandbox may not. */
static uint32_t track_seed(void)
{
    uint32_t seed;
    ssize_t got = getrandom(&seed, sizeof(seed), GRND_NONBLOCK); /* fails only early at boot */
    return got == sizeof(seed) && seed != 0 ? seed : 1;
}

/* xorshift32: a guest cannot choose the shape of the tree. */
static uint32_t track_random(BlockTrack *track)
{
    uint32_t x = track->random != 0 ? track->random : track_seed();
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return track->random = x;
}

void block_track_co_begin(BlockNode *n, BlockTracked *t, uint64_t offset, uint64_t bytes,
                          bool serialising)
{
    BlockTrack *track = &n->track;
    uint64_t unit = track_unit(n);
    *t = (BlockTracked){
        .offset = block_align_down(offset, unit),
        .end = block_align_up(offset + bytes, unit),
        .sequence = ++track->sequence,
        .priority = track_random(track),
        .serialising = serialising,
    };
    co_queue_init(&t->waiters);
    track->root = track_insert(track->root, t);
    track->serialisers += serialising;

    BlockTracked *blocker;
    while ((serialising || track->serialisers > 0) &&
           (blocker = track_find(track->root, t, NULL)) != NULL) {
        SP("block.track_wait", n);
        co_queue_wait(&blocker->waiters, "an overlapping write");
    }
}

void block_track_end(BlockNode *n, BlockTracked *t)
{
    n->track.root = track_remove(n->track.root, t);
    n->track.serialisers -= t->serialising;
    co_queue_wake_all(&t->waiters);
}

void block_track_co_add_user(BlockNode *n, uint64_t unit)
{
    block_node_co_shut_lanes(n); /* they are not tracked */
    n->track.users++;
    n->track.unit = MAX(n->track.unit, unit);
}

void block_track_remove_user(BlockNode *n)
{
    assert_home(n->home);
    if (--n->track.users == 0) {
        n->track.unit = 0;
        block_lanes_recheck();
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/* timeout: 300 */
/*
 * Generated schedules on a chain of images under load: snapshots, commits, also of the active layer,
 * streams, commits that keep the chain, in random order and of random parts, with random options; jobs are
 * paused, resumed, given another speed, cancelled, finalized and dismissed at random, and writes to the
 * lowest image fail. Each writer compares what it reads with what it has written; at the end the disk has
 * what all have written, also for QEMU's tools.
 */
#include "block/chain/chain_commit.h"
#include "block/chain/commit_job.h"
#include "block/chain/external_snapshot.h"
#include "block/chain/stream_job.h"
#include "tests/block/chain/chain_job_test.h"
#include "block/job/mirror.h"
#include "tests/support/rounds.h"

#define GUESTS 6u
#define STEPS 10u
#define LAYERS_MAX 6u

typedef struct Schedule {
    GRand *rand;
    BlockBackend *blk;
    GPtrArray *paths; /* char *, all that were made */
} Schedule;

static ChainGuest guests[GUESTS];
static unsigned ends[3]; /* jobs that have completed, were cancelled, and have failed */

static unsigned pick(Schedule *s, unsigned count)
{
    return (unsigned)g_rand_int_range(s->rand, 0, (int)count);
}

/* ---- the chain ---- */

static RUNS_IN_MAIN unsigned chain_nodes(const Schedule *s, BlockNode *nodes[])
{
    unsigned count = 0;
    for (BlockNode *n = blk_root(s->blk); n != NULL && count < LAYERS_MAX + 1; n = n->backing) {
        nodes[count++] = n;
    }
    return count;
}

/* The image that the schedule began with, until a stream takes it out of the chain. */
static RUNS_IN_MAIN bool is_first_image(const BlockNode *n)
{
    return n->file != NULL && n->file == block_node_find("fault");
}

static coroutine_fn RUNS_IN_MAIN void do_snapshot(Schedule *s)
{
    GError *error = NULL;
    bool lowest = is_first_image(blk_root(s->blk)); /* no file name leads to its fault node */
    char *path = lowest ? chain_image(s->paths->pdata[0]) : chain_path();
    NewImageConfig image = {.mode = lowest ? NEW_IMAGE_EXISTING : NEW_IMAGE_ABSOLUTE_PATHS,
                            .filename = path};
    g_ptr_array_add(s->paths, path);
    ExternalSnapshot *snapshot = external_snapshot_co_begin_image(blk_root(s->blk), &image, &error);
    if (snapshot == NULL) {
        fail_msg("%s", error->message);
    }
    bool keep = pick(s, 4) != 0;
    co_mutex_lock(&job_operation);
    co_drained_begin(&s->blk, 1); /* as a transaction does it */
    if (!external_snapshot_co_insert(snapshot, &error)) {
        fail_msg("%s", error->message);
    }
    if (!keep) {
        external_snapshot_co_undo(snapshot);
    }
    co_drained_end(&s->blk, 1);
    external_snapshot_co_end(snapshot, keep);
    co_mutex_unlock(&job_operation);
}

/* ---- jobs ---- */

static void finalize_run(void *opaque)
{
    enter_main();
    enter_coroutine();
    Job *job = job_find("j");
    if (job != NULL) {
        job_co_finalize(job, NULL);
    }
}

/* The job goes on. */
static coroutine_fn RUNS_IN_MAIN void push_job(Schedule *s, Job *job)
{
    switch (job_status(job)) {
    case JOB_STATUS_PENDING:
        co_start(test_main, finalize_run, NULL);
        break;
    case JOB_STATUS_CONCLUDED:
        assert_true(job_dismiss(job, NULL));
        break;
    case JOB_STATUS_READY:
        if (pick(s, 3) == 0) {
            job_cancel(job, pick(s, 2) != 0, NULL);
        } else {
            job_complete(job, NULL);
        }
        break;
    default:
        job_resume(job, NULL);
        job_set_speed(job, 0, NULL);
    }
    co_sleep_ns(200000);
}

/* Lets the job run to its end, or not. */
static coroutine_fn RUNS_IN_MAIN void drive_job(Schedule *s, bool may_fail)
{
    bool cancel = pick(s, 3) == 0;
    unsigned verbs = pick(s, 4);
    Job *job;
    for (unsigned i = 0; i < verbs && (job = job_find("j")) != NULL; i++) {
        switch (pick(s, 4)) {
        case 0:
            job_pause(job, NULL);
            break;
        case 1:
            job_resume(job, NULL);
            break;
        case 2:
            job_set_speed(job, (uint64_t)pick(s, 4) << 20, NULL);
            break;
        case 3:
            co_sleep_ns(pick(s, 2000000));
            break;
        }
    }
    job = job_find("j");
    if (job != NULL && cancel) {
        job_cancel(job, pick(s, 2) != 0, NULL);
    }
    while ((job = job_find("j")) != NULL) {
        push_job(s, job);
    }
    bool failed = strchr(job_log->str, '(') != NULL;
    assert_true(may_fail || !failed);
    ends[failed ? 2 : strstr(job_log->str, "CANCELLED") != NULL ? 1 : 0]++;
    g_string_truncate(job_log, 0);
}

static BlockJobConfig random_config(Schedule *s)
{
    return (BlockJobConfig){.id = "j",
                            .speed = (uint64_t)pick(s, 3) << 20,
                            .on_source_error = (BlockOnError)pick(s, 5),
                            .on_target_error = (BlockOnError)pick(s, 5),
                            .manual_finalize = pick(s, 4) == 0,
                            .manual_dismiss = pick(s, 4) == 0};
}

/* Writes to an image that no guest writes to fail. */
static coroutine_fn RUNS_IN_MAIN bool random_fault(Schedule *s, BlockNode *n)
{
    BlockFault fault = {.op = BLOCK_FAULT_WRITE,
                        .after = pick(s, 4),
                        .count = 1 + pick(s, 2),
                        .error = pick(s, 2) == 0 ? EIO : ENOSPC};
    bool fails = pick(s, 3) == 0;
    if (fails) {
        job_set_fault(n, fault);
    }
    return fails;
}

/* Copies to image @base of the chain. */
static coroutine_fn RUNS_IN_MAIN void do_commit(Schedule *s, bool active)
{
    g_autoptr(GError) error = NULL;
    BlockNode *nodes[LAYERS_MAX + 1];
    unsigned count = chain_nodes(s, nodes);
    if (count < (active ? 2 : 3)) {
        return;
    }
    unsigned top = active ? 0 : 1 + pick(s, count - 2), base = top + 1 + pick(s, count - top - 1);
    const char *filter = pick(s, 2) == 0 ? "f" : NULL;
    CommitConfig below = {.job = random_config(s),
                          .top = nodes[top],
                          .base = nodes[base],
                          .filter_name = filter,
                          .backing_file = is_first_image(nodes[base]) ? s->paths->pdata[0] : NULL};
    BlockMirrorConfig above = {.job = below.job,
                               .source = nodes[top],
                               .target = nodes[base],
                               .commit = true,
                               .filter_name = filter,
                               .unmap = true,
                               .write_blocking = true};
    co_mutex_lock(&job_operation);
    const Job *job =
        active ? block_mirror_co_start(&above, &error) : block_commit_co_start(&below, &error);
    co_mutex_unlock(&job_operation);
    if (job == NULL) {
        fail_msg("%s", error->message);
    }
    BlockNode *fault = !active && is_first_image(nodes[base]) ? nodes[base]->file : NULL;
    drive_job(s, fault != NULL && random_fault(s, fault));
    if (fault != NULL) {
        job_set_fault(fault, (BlockFault){0});
    }
}

static coroutine_fn RUNS_IN_MAIN void do_stream(Schedule *s)
{
    g_autoptr(GError) error = NULL;
    BlockNode *nodes[LAYERS_MAX + 1];
    unsigned count = chain_nodes(s, nodes);
    unsigned node = pick(s, count), base = node + 1 + pick(s, count - node);
    StreamConfig config = {
        .job = random_config(s), .node = nodes[node], .base = base < count ? nodes[base] : NULL};
    if (base < count && is_first_image(nodes[base])) {
        config.backing_file = s->paths->pdata[0];
    }
    co_mutex_lock(&job_operation);
    Job *job = block_stream_co_start(&config, &error);
    co_mutex_unlock(&job_operation);
    if (job == NULL) {
        fail_msg("%s", error->message);
    }
    drive_job(s, false);
}

/* Of what the active layer holds, which stays. */
static coroutine_fn RUNS_IN_MAIN void do_commit_in_chain(Schedule *s)
{
    g_autoptr(GError) error = NULL;
    if (!chain_can_commit(blk_root(s->blk))) {
        return;
    }
    co_mutex_lock(&job_operation);
    const Job *job = chain_commit_co_start(blk_root(s->blk), "j", &error);
    co_mutex_unlock(&job_operation);
    if (job == NULL) {
        fail_msg("%s", error->message);
    }
    drive_job(s, false);
}

/* ---- a schedule ---- */

static coroutine_fn RUNS_IN_MAIN void schedule_step(Schedule *s)
{
    BlockNode *nodes[LAYERS_MAX + 1];
    unsigned kind = pick(s, 9);
    if (chain_nodes(s, nodes) >= LAYERS_MAX) {
        kind = 4 + pick(s, 4);
    }
    if (kind < 4) {
        do_snapshot(s);
    } else if (kind < 7) {
        do_commit(s, kind == 6);
    } else if (kind == 7) {
        do_stream(s);
    } else {
        do_commit_in_chain(s);
    }
    co_sleep_ns(pick(s, 1000000));
}

/* QEMU's tools find in the chain what the guests have written. */
static void schedule_verify(const Schedule *s, const char *path)
{
    char *raw = test_file_new(CHAIN_SIZE);
    FILE *f = fopen(raw, "r+");
    for (unsigned i = 0; i < GUESTS; i++) {
        assert_int_equal(fseek(f, (long)guests[i].offset, SEEK_SET), 0);
        assert_int_equal(fwrite(guests[i].data, 1, sizeof(guests[i].data), f),
                         sizeof(guests[i].data));
    }
    fclose(f);
    assert_int_equal(shell("qemu-img compare -q -f raw -F qcow2 %s %s", raw, path), 0);
    assert_int_equal(shell("qemu-img check -q %s", path), 0);
    test_file_free(raw);
}

static coroutine_fn RUNS_IN_MAIN void schedule_run(unsigned seed)
{
    Schedule s = {.rand = g_rand_new_with_seed(seed), .paths = g_ptr_array_new()};
    g_ptr_array_add(s.paths, chain_image(NULL));
    g_autofree char *text = g_strdup_printf(
        "qcow2,node-name=disk,file.driver=fault,file.node-name=fault,file.discard=unmap,"
        "file.file.driver=file,file.file.discard=unmap,file.file.filename=%s",
        (const char *)s.paths->pdata[0]);
    s.blk = test_blk("d", text, true);
    for (unsigned i = 0; i < GUESTS; i++) {
        chain_guest_start(&guests[i], s.blk, i);
    }
    for (unsigned i = 0; i < STEPS; i++) {
        schedule_step(&s);
    }
    for (unsigned i = 0; i < GUESTS; i++) {
        chain_guest_stop(&guests[i]);
    }
    const char *name = block_node_filename(blk_root(s.blk)); /* NULL: above the fault node */
    g_autofree char *path = g_strdup(name != NULL ? name : s.paths->pdata[0]);
    blk_co_free(s.blk);
    unsigned left;
    g_autofree BlockNode **nodes = block_node_list(&left);
    assert_int_equal(left, 0);
    schedule_verify(&s, path);
    for (unsigned i = 0; i < s.paths->len; i++) {
        test_file_free(s.paths->pdata[i]);
    }
    g_ptr_array_unref(s.paths);
    g_rand_free(s.rand);
}

BLOCK_TEST(what_guests_write_survives_every_schedule)
{
    TestSeeds seeds = test_seeds(test_rounds(3, 6, 500));
    for (unsigned seed = seeds.first; seed < seeds.end; seed++) {
        printf("# seed %u\n", seed);
        fflush(stdout);
        schedule_run(seed);
    }
    printf("# jobs: %u completed, %u cancelled, %u failed\n", ends[0], ends[1], ends[2]);
    assert_true((ends[0] > 0 && ends[1] > 0) || seeds.end - seeds.first < 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_guests_write_survives_every_schedule),
    };
    return job_test_main(tests);
}

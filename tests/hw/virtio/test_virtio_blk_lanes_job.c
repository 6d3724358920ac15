/* SPDX-License-Identifier: Apache-2.0 */
/* A mirror of a disk whose iothreads read and write the file themselves: it begins beside such a write,
 * gets all later ones, and the iothreads use the target after the pivot. */
#include "block/job/mirror.h"
#include "tests/hw/virtio/virtio_blk_lanes_bench.h"

typedef struct Target {
    char *path;
    int fd;
    BlockNode *node;
} Target;

static coroutine_fn RUNS_IN_MAIN void open_target(Action *a)
{
    static const JobHost host;
    Target *t = a->arg;
    g_autofree char *text = g_strdup_printf(
        "raw,node-name=t,file.driver=file,file.node-name=tprot,file.filename=%s", t->path);
    g_autoptr(OptDict) d = opt_dict_parse(text, "driver", NULL);
    t->node = block_co_open(d, a->f->bench->home, NULL);
    assert_non_null(t->node);
    jobs_init(aio_context_current(), &host, NULL);
}

static coroutine_fn RUNS_IN_MAIN void start_mirror(Action *a)
{
    Target *t = a->arg;
    BlockMirrorConfig c = {.job = {.id = "j"},
                           .source = block_node_find("disk"),
                           .target = t->node,
                           .sync = BLOCK_MIRROR_FULL};
    assert_non_null(block_mirror_co_start(&c, NULL));
}

static coroutine_fn RUNS_IN_MAIN void await_ready(Action *a)
{
    while (job_status(job_find("j")) != JOB_STATUS_READY) {
        co_yield_turn();
    }
}

static coroutine_fn RUNS_IN_MAIN void end_job(Action *a)
{
    const bool *pivot = a->arg;
    bool ok = *pivot ? job_complete(job_find("j"), NULL) : job_cancel(job_find("j"), true, NULL);
    assert_true(ok);
    while (job_find("j") != NULL) {
        co_yield_turn();
    }
}

static coroutine_fn RUNS_IN_MAIN void close_target(Action *a)
{
    block_co_unref(((Target *)a->arg)->node);
}

static void run(Fixture *f, void (*fn)(Action *a), void *arg)
{
    Action a = {.fn = fn, .arg = arg};
    action_start(&a, f);
    action_finish(&a);
}

static void mirror(Fixture *f, bool pivot)
{
    Target t = {0};
    Action start = {.fn = start_mirror, .arg = &t};
    t.fd = g_file_open_tmp("skiff-lanes-XXXXXX", &t.path, NULL);
    assert_true(t.fd >= 0 && ftruncate(t.fd, DISK_BYTES) == 0);
    run(f, open_target, &t);
    write_and_check(f, 1, 2, 0x61); /* before the job */
    action_waits_for_the_lane(f, &start);
    write_and_check(f, 0, 1, 0x62);
    write_and_check(f, 2, 1, 0x63);
    assert_false(is_direct(f));
    run(f, await_ready, NULL);
    write_and_check(f, 1, 1, 0x64);
    run(f, end_job, &pivot);
    if (pivot) {
        int source = f->fd;
        f->fd = t.fd;
        t.fd = source;
        assert_int_equal(byte_on_disk(f, 0, 0), 0xaa);
        assert_int_equal(byte_on_disk(f, 0, 1), 0x62);
        assert_int_equal(byte_on_disk(f, 2, 1), 0x63);
        assert_int_equal(byte_on_disk(f, 1, 1), 0x64);
        assert_int_equal(byte_on_disk(f, 1, 2), 0x61);
    }
    assert_true(is_direct(f)); /* to the target after a pivot */
    run(f, close_target, &t);
    unlink(t.path);
    close(t.fd);
    g_free(t.path);
}

static void a_mirror_gets_all_writes_and_lanes_use_its_target(void **state)
{
    mirror(*state, true);
}

static void lanes_use_the_source_again_after_a_cancelled_mirror(void **state)
{
    mirror(*state, false);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_mirror_gets_all_writes_and_lanes_use_its_target),
        TEST(lanes_use_the_source_again_after_a_cancelled_mirror),
    };
    alarm(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

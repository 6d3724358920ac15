/* SPDX-License-Identifier: Apache-2.0 */
/* Commits of the active layer, on chains of qcow2 images that qemu-img has made and checks. */
#include "tests/block/job/mirror_test.h"
#include "tests/block/qcow2/qcow2_test.h"

#define ACTIVE_SIZE ((uint64_t)1 << 20)

typedef struct Active {
    char *dir;
    BlockNode *top, *base;
    BlockBackend *guest;
    uint8_t model[ACTIVE_SIZE];
} Active;

static coroutine_fn RUNS_IN_MAIN void active_write(Active *a, uint64_t offset, uint64_t bytes,
                                                   unsigned seed)
{
    test_fill(a->model + offset, bytes, seed);
    assert_int_equal(test_io(a->guest, TEST_WRITE, offset, bytes, a->model + offset, 0), 0);
}

static coroutine_fn RUNS_IN_MAIN void active_zero(Active *a, uint64_t offset, uint64_t bytes)
{
    memset(a->model + offset, 0, bytes);
    assert_int_equal(test_io(a->guest, TEST_ZERO, offset, bytes, NULL, BLOCK_REQ_MAY_UNMAP), 0);
}

/* base <- mid <- top, with data in each; base has @base_size. */
static coroutine_fn RUNS_IN_MAIN Active *active_open(uint64_t base_size)
{
    Active *a = g_new0(Active, 1);
    a->dir = qcow2_dir_new();
    qcow2_shell(a->dir,
                "qemu-img create -q -f qcow2 base %" PRIu64 " && "
                "qemu-io -f qcow2 -c 'write -P 1 0 400k' base && "
                "qemu-img create -q -f qcow2 -b base -F qcow2 mid 700k && "
                "qemu-io -f qcow2 -c 'write -P 2 100k 200k' mid && "
                "qemu-img create -q -f qcow2 -b mid -F qcow2 top 1M && "
                "qemu-io -f qcow2 -c 'write -P 3 300k 50k' -c 'write -z 350k 20k' top",
                base_size);
    g_autofree char *text = g_strdup_printf(
        "qcow2,node-name=top,discard=unmap,file.driver=file,file.filename=%s/top", a->dir);
    a->top = test_node_add(text);
    a->base = a->top->backing->backing;
    a->guest = blk_co_new("guest", a->top, true, NULL);
    assert_non_null(a->guest);
    job_read(a->guest, 0, ACTIVE_SIZE, a->model);
    return a;
}

static coroutine_fn RUNS_IN_MAIN Job *active_start(Active *a, bool write_blocking)
{
    GError *error = NULL;
    BlockMirrorConfig c = {.job.id = "job0",
                           .source = a->top,
                           .target = a->base,
                           .commit = true,
                           .unmap = true,
                           .write_blocking = write_blocking};
    co_mutex_lock(&job_operation);
    Job *job = block_mirror_co_start(&c, &error);
    co_mutex_unlock(&job_operation);
    if (job == NULL) {
        fail_msg("%s", error->message);
    }
    return job;
}

/* The guest's disk is what it wrote; so is image @name, which is whole. */
static coroutine_fn RUNS_IN_MAIN void active_close(Active *a, const char *name, bool compare)
{
    g_autofree uint8_t *data = g_malloc(ACTIVE_SIZE);
    g_autofree char *model = g_build_filename(a->dir, "model", NULL);
    job_read(a->guest, 0, ACTIVE_SIZE, data);
    assert_memory_equal(data, a->model, ACTIVE_SIZE);
    blk_co_free(a->guest);
    test_settle();
    test_node_del("top");
    assert_true(g_file_set_contents(model, (char *)a->model, ACTIVE_SIZE, NULL));
    qcow2_shell(a->dir, "qemu-img check -q base && qemu-img check -q top");
    if (compare) {
        qcow2_shell(a->dir, "qemu-img compare -q -f qcow2 -F raw %s model", name);
    }
    qcow2_dir_free(a->dir);
    g_free(a);
}

BLOCK_TEST(a_completed_commit_of_the_active_layer_moves_the_guest_to_the_base)
{
    for (unsigned blocking = 0; blocking < 2; blocking++) {
        Active *a = active_open(ACTIVE_SIZE);
        Job *job = active_start(a, blocking != 0);
        active_write(a, 10000, 50000, 4);
        job_await("job0", JOB_STATUS_READY);
        active_write(a, 500000, 300000, 5);
        active_zero(a, 20000, 400000);
        mirror_complete(job);
        job_await_end("job0", "READY COMPLETED ");
        assert_ptr_equal(blk_root(a->guest), a->base);
        active_write(a, 0, 5000, 6);
        active_close(a, "base", true);
    }
}

BLOCK_TEST(the_base_gets_the_size_of_the_active_layer)
{
    static const uint64_t sizes[] = {400 << 10, 2 << 20};
    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        Active *a = active_open(sizes[i]);
        Job *job = active_start(a, false);
        job_await("job0", JOB_STATUS_READY);
        mirror_complete(job);
        job_await_end("job0", "READY COMPLETED ");
        assert_int_equal(block_node_size(a->base), ACTIVE_SIZE);
        active_close(a, "base", true);
    }
}

BLOCK_TEST(a_cancelled_commit_of_the_active_layer_changes_nothing_that_the_guest_sees)
{
    for (unsigned force = 0; force < 2; force++) {
        Active *a = active_open(ACTIVE_SIZE);
        Job *job = active_start(a, false);
        active_write(a, 10000, 50000, 4);
        job_await("job0", JOB_STATUS_READY);
        active_write(a, 500000, 300000, 5);
        assert_true(job_cancel(job, force != 0, NULL));
        job_await_end("job0", force != 0 ? "READY CANCELLED " : "READY COMPLETED ");
        assert_ptr_equal(blk_root(a->guest), a->top);
        assert_true(block_node_read_only(a->base));
        active_write(a, 0, 5000, 6);
        active_close(a, "top", true);
    }
}

BLOCK_TEST(images_of_a_chain_that_is_committed_have_no_other_use)
{
    g_autoptr(GError) error = NULL;
    Active *a = active_open(ACTIVE_SIZE);
    BlockMirrorConfig c = {.job.id = "job1", .source = a->top, .target = a->base, .commit = true};
    BlockNode *const below[] = {a->top->backing, a->base};
    for (unsigned i = 0; i < G_N_ELEMENTS(below); i++) {
        BlockBackend *reader = blk_co_new("reader", below[i], false, NULL);
        assert_non_null(reader);
        assert_null(block_mirror_co_start(&c, &error)); /* it would see the base change */
        assert_non_null(strstr(error->message, "reader"));
        g_clear_error(&error);
        assert_ptr_equal(blk_root(a->guest), a->top);
        assert_true(block_node_read_only(a->base));
        blk_co_free(reader);
    }
    Job *job = active_start(a, false);
    assert_null(blk_co_new("reader", a->base, false, NULL));
    assert_null(block_mirror_co_start(&c, &error));
    job_await("job0", JOB_STATUS_READY);
    assert_true(job_cancel(job, true, NULL));
    job_await_end("job0", "READY CANCELLED ");
    active_close(a, "top", true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_completed_commit_of_the_active_layer_moves_the_guest_to_the_base),
        cmocka_unit_test(the_base_gets_the_size_of_the_active_layer),
        cmocka_unit_test(
            a_cancelled_commit_of_the_active_layer_changes_nothing_that_the_guest_sees),
        cmocka_unit_test(images_of_a_chain_that_is_committed_have_no_other_use),
    };
    return job_test_main(tests);
}

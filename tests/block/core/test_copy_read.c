/* SPDX-License-Identifier: Apache-2.0 */
/* Copy-on-read: what is copied, and copies that meet other requests, each in a forced order. */
#include "block/dirty_bitmap.h"
#include "block/driver/fault.h"
#include "tests/block/qcow2/qcow2_test.h"
#include "util/sys/sys_fault.h"

#define COPY_CLUSTER 4096u
#define COPY_SIZE 0x100000u

/* An overlay "top" over a raw file "base" with 0xb5 in its first half. Faults are above both files. */
typedef struct CopyRig {
    char *dir;
    BlockNode *base, *file, *top; /* fault, fault, qcow2 */
    BlockBackend *blk;
    BlockNode *faulty;
    BlockFault fault;
    uint64_t offset;
    BlockStatus status;
    int ret;
} CopyRig;

static coroutine_fn RUNS_IN_MAIN void rig_begin(CopyRig *rig, bool filter)
{
    GError *error = NULL;
    *rig = (CopyRig){.dir = qcow2_dir_new()};
    qcow2_shell(rig->dir,
                "qemu-io -f raw -c 'write -q -P 0xb5 0 512k' "
                "$(truncate -s 768k base; echo base) && "
                "qemu-img create -q -f qcow2 -o cluster_size=4096 -b base -F raw top 1M && "
                "truncate -s 8M top");
    g_autofree char *base = g_strdup_printf(
        "fault,node-name=b,read-only=on,file.driver=file,file.filename=%s/base", rig->dir);
    g_autofree char *file = g_strdup_printf(
        "fault,node-name=f,discard=unmap,file.driver=file,file.filename=%s/top", rig->dir);
    rig->base = test_node_add(base);
    rig->file = test_node_add(file);
    rig->top = test_node_add("qcow2,node-name=t,discard=unmap,file=f,backing=b");
    if (filter) {
        rig->blk = test_blk("d", "copy-on-read,node-name=c,discard=unmap,file=t", true);
    } else {
        assert_true(block_node_co_set_copy_on_read(rig->top, &error));
        rig->blk = blk_co_new("d", rig->top, true, &error);
        assert_non_null(rig->blk);
    }
}

static coroutine_fn RUNS_IN_MAIN void rig_end(CopyRig *rig)
{
    if (rig->blk != NULL) {
        blk_co_free(rig->blk);
    }
    test_node_del("t");
    test_node_del("f");
    test_node_del("b");
    qcow2_shell(rig->dir, "qemu-img check -q top");
    qcow2_dir_free(rig->dir);
}

static void rig_fault_at_home(void *opaque)
{
    CopyRig *rig = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    block_fault_set(rig->faulty, &rig->fault);
    if (!rig->fault.hold) {
        block_fault_release(rig->faulty, 100);
    }
}

/* From now on operations @op of @n wait, or fail with @error. NONE releases those that wait. */
static coroutine_fn RUNS_IN_MAIN void rig_fault(CopyRig *rig, BlockNode *n, BlockFaultOp op,
                                                uint32_t error)
{
    rig->faulty = n;
    rig->fault =
        (BlockFault){.op = (int)op, .error = error, .hold = op != BLOCK_FAULT_NONE && error == 0};
    test_in_home(rig_fault_at_home, rig);
}

static void rig_status_at_home(void *opaque)
{
    CopyRig *rig = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    rig->ret = block_node_co_block_status(rig->top, rig->offset, COPY_CLUSTER, false, &rig->status);
}

static coroutine_fn RUNS_IN_MAIN unsigned rig_flags(CopyRig *rig, uint64_t offset)
{
    rig->offset = offset;
    test_in_home(rig_status_at_home, rig);
    assert_int_equal(rig->ret, 0);
    return rig->status.flags;
}

static coroutine_fn RUNS_IN_MAIN bool rig_holds(CopyRig *rig, uint64_t offset)
{
    return (rig_flags(rig, offset) & BLOCK_STATUS_ALLOCATED) != 0;
}

static coroutine_fn RUNS_IN_MAIN void rig_start(CopyRig *rig, TestRequest *r, TestOp op,
                                                uint64_t offset, uint64_t bytes, int pattern)
{
    *r = (TestRequest){.blk = rig->blk, .op = op, .offset = offset, .bytes = bytes};
    r->buf = g_malloc(bytes);
    memset(r->buf, pattern, bytes);
    test_start(r);
    test_settle();
}

static coroutine_fn RUNS_IN_MAIN void rig_finish(TestRequest *r, int ret)
{
    assert_int_equal(test_finish(r), ret);
    g_free(r->buf);
}

static void expect_bytes(const uint8_t *buf, uint64_t bytes, uint8_t pattern)
{
    for (uint64_t i = 0; i < bytes; i++) {
        assert_int_equal(buf[i], pattern);
    }
}

static coroutine_fn RUNS_IN_MAIN void rig_expect(CopyRig *rig, uint64_t offset, uint64_t bytes,
                                                 uint8_t pattern)
{
    g_autofree uint8_t *buf = g_malloc(bytes);
    memset(buf, 0xee, bytes);
    assert_int_equal(test_io(rig->blk, TEST_READ, offset, bytes, buf, 0), 0);
    expect_bytes(buf, bytes, pattern);
}

/* ---- what is copied ---- */

static coroutine_fn RUNS_IN_MAIN void copies_once(bool filter)
{
    CopyRig rig;
    rig_begin(&rig, filter);
    rig_expect(&rig, 0x1200, 0x1000, 0xb5); /* parts of two clusters */
    assert_true(rig_holds(&rig, 0x1000) && rig_holds(&rig, 0x2000));
    assert_false(rig_holds(&rig, 0) || rig_holds(&rig, 0x3000));
    rig_fault(&rig, rig.base, BLOCK_FAULT_READ, EIO);
    rig_expect(&rig, 0x1000, 0x2000, 0xb5);
    rig_fault(&rig, rig.base, BLOCK_FAULT_NONE, 0);
    rig_end(&rig);
}

BLOCK_TEST(a_read_copies_whole_clusters_once)
{
    copies_once(false);
}

BLOCK_TEST(the_filter_copies_to_its_child)
{
    copies_once(true);
}

/* The range begins in the base's zeroes, and ends behind the base. */
BLOCK_TEST(zeroes_are_copied_without_data)
{
    CopyRig rig;
    rig_begin(&rig, false);
    rig_expect(&rig, 0xbf000, 0x3000, 0);
    for (uint64_t at = 0xbf000; at < 0xc2000; at += COPY_CLUSTER) {
        assert_int_equal(rig_flags(&rig, at) & (BLOCK_STATUS_ALLOCATED | BLOCK_STATUS_ZERO),
                         BLOCK_STATUS_ALLOCATED | BLOCK_STATUS_ZERO);
        assert_int_equal(rig.status.flags & BLOCK_STATUS_OFFSET_VALID, 0);
    }
    rig_end(&rig);
}

BLOCK_TEST(a_large_read_copies_in_pieces)
{
    CopyRig rig;
    g_autofree uint8_t *buf = g_malloc(COPY_SIZE);
    rig_begin(&rig, false);
    rig_expect(&rig, 0x8000, 0x8000, 0xb5); /* held already */
    assert_int_equal(test_io(rig.blk, TEST_READ, 0, COPY_SIZE, buf, 0), 0);
    expect_bytes(buf, COPY_SIZE / 2, 0xb5);
    expect_bytes(buf + COPY_SIZE / 2, COPY_SIZE / 2, 0);
    for (uint64_t at = 0; at < COPY_SIZE; at += COPY_CLUSTER) {
        assert_true(rig_holds(&rig, at));
    }
    rig_end(&rig);
}

BLOCK_TEST(copies_set_no_bits_of_dirty_bitmaps)
{
    CopyRig rig;
    GError *error = NULL;
    BlockDirtyBitmapInfo info;
    rig_begin(&rig, false);
    assert_true(block_dirty_bitmap_co_add(rig.top, "b", 4096, 0, &error));
    rig_expect(&rig, 0, 0x4000, 0xb5);
    block_dirty_bitmap_info(rig.top, 0, &info);
    assert_int_equal(info.dirty_bytes, 0);
    rig_end(&rig);
}

/* ---- errors ---- */

BLOCK_TEST(an_error_of_either_side_is_the_readers_and_the_next_read_copies)
{
    CopyRig rig;
    uint8_t buf[512];
    rig_begin(&rig, false);
    rig_fault(&rig, rig.base, BLOCK_FAULT_READ, EIO);
    assert_int_equal(test_io(rig.blk, TEST_READ, 0, sizeof(buf), buf, 0), -EIO);
    rig_fault(&rig, rig.base, BLOCK_FAULT_NONE, 0);
    rig_fault(&rig, rig.file, BLOCK_FAULT_WRITE, ENOSPC);
    assert_int_equal(test_io(rig.blk, TEST_READ, 0, sizeof(buf), buf, 0), -ENOSPC);
    rig_fault(&rig, rig.file, BLOCK_FAULT_NONE, 0);
    assert_false(rig_holds(&rig, 0));
    rig_expect(&rig, 0, sizeof(buf), 0xb5);
    assert_true(rig_holds(&rig, 0));
    rig_end(&rig);
}

BLOCK_TEST(read_only_nodes_are_refused_in_qemus_words)
{
    CopyRig rig;
    GError *error = NULL;
    rig_begin(&rig, false);
    test_open_fails("copy-on-read,file=b", "Block node is read-only");
    test_open_fails("copy-on-read,read-only=on,file.driver=null-co", "Block node is read-only");
    test_open_fails("copy-on-read,file=t", "is written to by drive 'd'");
    assert_false(block_node_co_set_copy_on_read(rig.base, &error));
    assert_string_equal(error->message, "Can't use copy-on-read on read-only device");
    g_clear_error(&error);
    blk_co_free(rig.blk);
    rig.blk = NULL;
    g_autoptr(OptDict) d =
        opt_dict_parse("qcow2,node-name=t,read-only=on,file=f,backing=b", "driver", &error);
    assert_false(block_co_reopen(&d, 1, &error));
    assert_string_equal(error->message, "Can't set node 't' to r/o with copy-on-read enabled");
    g_error_free(error);
    rig_end(&rig);
}

/* The system allows only reading the file now. auto-read-only is for the whole chain. */
BLOCK_TEST(a_reopen_does_not_make_a_filter_read_only)
{
    const SysFault refused = {.calls = "open", .count = 1, .error = EACCES};
    GError *error = NULL;
    uint8_t buf[512];
    char *path = test_file_new(1 << 20);
    g_autofree char *text = g_strdup_printf(
        "raw,node-name=t,auto-read-only=on,file.driver=file,file.filename=%s", path);
    g_autofree char *direct = g_strconcat(text, ",cache.direct=on", NULL);
    BlockNode *n = test_node_add(text);
    BlockNode *c = test_node_add("copy-on-read,node-name=c,auto-read-only=on,file=t");
    BlockBackend *blk = blk_co_new("d", c, false, &error);
    OptDict *both[] = {
        opt_dict_parse("copy-on-read,node-name=c,auto-read-only=on,file=t", "driver", NULL),
        opt_dict_parse(direct, "driver", NULL)};
    assert_non_null(blk);
    sys_fault_set(&refused);
    bool ok = block_co_reopen(both, 2, &error);
    assert_int_equal(sys_fault_hits(), 1);
    sys_fault_set(NULL);
    assert_false(ok || n->flags.read_only || c->flags.read_only);
    assert_string_equal(error->message, "Can't set node 't' to r/o with copy-on-read enabled");
    g_error_free(error);
    assert_int_equal(test_io(blk, TEST_READ, 0, sizeof(buf), buf, 0), 0);
    opt_dict_free(both[0]);
    opt_dict_free(both[1]);
    blk_co_free(blk);
    test_node_del("c");
    test_node_del("t");
    test_file_free(path);
}

/* ---- copies that meet other requests ---- */

static coroutine_fn RUNS_IN_MAIN void write_during_a_copy(bool filter)
{
    CopyRig rig;
    TestRequest read, write, other;
    rig_begin(&rig, filter);
    rig_fault(&rig, rig.base, BLOCK_FAULT_READ, 0);
    rig_start(&rig, &read, TEST_READ, 0x1000, 512, 0);
    assert_int_equal(block_fault_held(rig.base), 1);
    rig_start(&rig, &write, TEST_WRITE, 0x1200, 512, 7); /* the same cluster */
    rig_start(&rig, &other, TEST_WRITE, 0x4000, COPY_CLUSTER, 8);
    rig_finish(&other, 0);
    assert_false(write.done.happened);
    rig_fault(&rig, rig.base, BLOCK_FAULT_NONE, 0);
    rig_finish(&read, 0);
    rig_finish(&write, 0);
    rig_expect(&rig, 0x1000, 512, 0xb5);
    rig_expect(&rig, 0x1200, 512, 7);
    rig_expect(&rig, 0x1400, 0xc00, 0xb5);
    rig_end(&rig);
}

BLOCK_TEST(a_write_during_a_copy_is_not_lost)
{
    write_during_a_copy(false);
}

BLOCK_TEST(a_write_during_a_copy_through_the_filter_is_not_lost)
{
    write_during_a_copy(true);
}

BLOCK_TEST(a_copy_waits_for_an_older_write_and_then_copies_nothing)
{
    CopyRig rig;
    TestRequest read, write;
    rig_begin(&rig, false);
    rig_fault(&rig, rig.file, BLOCK_FAULT_WRITE, 0);
    rig_start(&rig, &write, TEST_WRITE, 0x1000, COPY_CLUSTER, 7);
    rig_start(&rig, &read, TEST_READ, 0x1000, COPY_CLUSTER, 0);
    assert_false(read.done.happened);
    rig_fault(&rig, rig.base, BLOCK_FAULT_READ, EIO);
    rig_fault(&rig, rig.file, BLOCK_FAULT_NONE, 0);
    assert_int_equal(test_finish(&read), 0);
    expect_bytes(read.buf, COPY_CLUSTER, 7);
    g_free(read.buf);
    rig_finish(&write, 0);
    rig_fault(&rig, rig.base, BLOCK_FAULT_NONE, 0);
    rig_end(&rig);
}

static coroutine_fn RUNS_IN_MAIN void zero_during_a_copy(TestOp op)
{
    CopyRig rig;
    TestRequest read, zero;
    rig_begin(&rig, false);
    rig_fault(&rig, rig.base, BLOCK_FAULT_READ, 0);
    rig_start(&rig, &read, TEST_READ, 0x1000, 512, 0);
    rig_start(&rig, &zero, op, 0, 4 * COPY_CLUSTER, 0);
    assert_false(zero.done.happened);
    rig_fault(&rig, rig.base, BLOCK_FAULT_NONE, 0);
    rig_finish(&read, 0);
    rig_finish(&zero, 0);
    rig_expect(&rig, 0, 4 * COPY_CLUSTER, 0);
    rig_end(&rig);
}

BLOCK_TEST(zeroes_written_during_a_copy_are_not_lost)
{
    zero_during_a_copy(TEST_ZERO);
}

BLOCK_TEST(a_discard_during_a_copy_waits_for_it)
{
    zero_during_a_copy(TEST_DISCARD);
}

BLOCK_TEST(two_reads_copy_a_cluster_once)
{
    CopyRig rig;
    TestRequest a, b;
    rig_begin(&rig, false);
    rig_fault(&rig, rig.base, BLOCK_FAULT_READ, 0);
    rig_start(&rig, &a, TEST_READ, 0x1000, 512, 0);
    rig_start(&rig, &b, TEST_READ, 0x1800, 512, 0);
    assert_int_equal(block_fault_held(rig.base), 1);
    rig_fault(&rig, rig.base, BLOCK_FAULT_NONE, 0);
    rig_finish(&a, 0);
    rig_finish(&b, 0);
    rig_end(&rig);
}

/* ---- copies and the life of the node ---- */

typedef struct Step {
    CopyRig *rig;
    void (*fn)(struct Step *s);
    TestEvent done;
} Step;

static void step_run(void *opaque)
{
    Step *s = opaque;
    enter_main();
    enter_coroutine();
    s->fn(s);
    test_event_in_main(&s->done);
}

static void step_drain(Step *s)
{
    enter_main();
    enter_coroutine();
    co_drained_begin(&s->rig->blk, 1);
    co_drained_end(&s->rig->blk, 1);
}

static void step_free(Step *s)
{
    enter_main();
    enter_coroutine();
    blk_co_free(s->rig->blk);
    s->rig->blk = NULL;
}

static void step_reopen(Step *s)
{
    GError *error = NULL;
    enter_main();
    enter_coroutine();
    g_autoptr(OptDict) d = opt_dict_parse("qcow2,node-name=t,file=f,backing=b", "driver", &error);
    assert_true(block_co_reopen(&d, 1, &error));
}

static coroutine_fn RUNS_IN_MAIN void step_during_a_copy(void (*fn)(Step *s))
{
    CopyRig rig;
    TestRequest read;
    Step s = {.rig = &rig, .fn = fn};
    rig_begin(&rig, false);
    rig_fault(&rig, rig.base, BLOCK_FAULT_READ, 0);
    rig_start(&rig, &read, TEST_READ, 0x1000, 512, 0);
    co_start(test_main, step_run, &s);
    test_settle();
    test_settle();
    assert_false(s.done.happened);
    rig_fault(&rig, rig.base, BLOCK_FAULT_NONE, 0);
    rig_finish(&read, 0);
    test_event_wait(&s.done);
    assert_true(rig_holds(&rig, 0x1000));
    rig_end(&rig);
}

BLOCK_TEST(a_drained_section_waits_for_a_copy)
{
    step_during_a_copy(step_drain);
}

BLOCK_TEST(the_end_of_the_backend_waits_for_a_copy)
{
    step_during_a_copy(step_free);
}

BLOCK_TEST(a_reopen_waits_for_a_copy)
{
    step_during_a_copy(step_reopen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_read_copies_whole_clusters_once),
        cmocka_unit_test(the_filter_copies_to_its_child),
        cmocka_unit_test(zeroes_are_copied_without_data),
        cmocka_unit_test(a_large_read_copies_in_pieces),
        cmocka_unit_test(copies_set_no_bits_of_dirty_bitmaps),
        cmocka_unit_test(an_error_of_either_side_is_the_readers_and_the_next_read_copies),
        cmocka_unit_test(read_only_nodes_are_refused_in_qemus_words),
        cmocka_unit_test(a_reopen_does_not_make_a_filter_read_only),
        cmocka_unit_test(a_write_during_a_copy_is_not_lost),
        cmocka_unit_test(a_write_during_a_copy_through_the_filter_is_not_lost),
        cmocka_unit_test(a_copy_waits_for_an_older_write_and_then_copies_nothing),
        cmocka_unit_test(zeroes_written_during_a_copy_are_not_lost),
        cmocka_unit_test(a_discard_during_a_copy_waits_for_it),
        cmocka_unit_test(two_reads_copy_a_cluster_once),
        cmocka_unit_test(a_drained_section_waits_for_a_copy),
        cmocka_unit_test(the_end_of_the_backend_waits_for_a_copy),
        cmocka_unit_test(a_reopen_waits_for_a_copy),
    };
    return block_test_main(tests);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Graph changes: steps, their undoing, refusals, what follows. Under load: test_graph_change_drain. */
#include "tests/block/core/graph_test.h"

#define MEM(name) "mem,node-name=" name ",size=1M"

static uint8_t buf[4096], data[4096];

static coroutine_fn RUNS_IN_MAIN void write_byte(BlockBackend *blk, uint64_t offset, uint8_t value)
{
    memset(buf, value, sizeof(buf));
    assert_int_equal(test_io(blk, TEST_WRITE, offset, sizeof(buf), buf, 0), 0);
}

static coroutine_fn RUNS_IN_MAIN uint8_t read_byte(BlockBackend *blk, uint64_t offset)
{
    assert_int_equal(test_io(blk, TEST_READ, offset, sizeof(data), data, 0), 0);
    return data[0];
}

static coroutine_fn RUNS_IN_MAIN BlockBackend *backend(const char *name, BlockNode *n, bool writes)
{
    GError *error = NULL;
    BlockBackend *blk = blk_co_new(name, n, writes, &error);
    if (blk == NULL) {
        fail_msg("%s", error->message);
    }
    return blk;
}

/* ---- steps ---- */

BLOCK_TEST(a_replacement_gets_the_backends_and_parents_of_a_node)
{
    BlockNode *a = test_node_add(MEM("a")), *b = test_node_add(MEM("b"));
    BlockNode *r = test_node_add("raw,node-name=r,read-only=on,file=a");
    BlockBackend *blk = backend("d", a, true), *reader = backend("e", r, false);
    write_byte(blk, 0, 1);
    BlockGraphChange *c = change_begin(a, b);
    assert_true(block_graph_replace(c, a, b, NULL));
    change_end(c);
    assert_ptr_equal(blk_root(blk), b);
    assert_ptr_equal(r->file, b);
    assert_int_equal(a->parents->len, 0);
    assert_int_equal(read_byte(blk, 0), 0);
    write_byte(blk, 0, 2);
    assert_int_equal(read_byte(reader, 0), 2);
    test_node_del("a");
    blk_co_free(blk);
    blk_co_free(reader);
    test_node_del("r");
    test_node_del("b");
}

BLOCK_TEST(a_filter_is_inserted_below_all_users_and_removed)
{
    BlockNode *a = test_node_add("raw,node-name=a,file.driver=mem,file.size=1M");
    BlockNode *r = test_node_add("raw,node-name=r,file=a");
    BlockBackend *blk = backend("d", r, true);
    assert_int_equal(r->height, 3);
    assert_null(block_node_find("f"));
    BlockNode *f = filter_insert("f", a);
    assert_ptr_equal(block_node_find("f"), f);
    assert_ptr_equal(r->file, f);
    assert_ptr_equal(f->file, a);
    assert_int_equal(r->height, 4);
    assert_int_equal(block_node_size(f), 1 << 20);
    write_byte(blk, 4096, 7);
    assert_int_equal(pass_requests(f), 1);
    filter_remove(f);
    assert_null(block_node_find("f"));
    assert_null(f->file);
    assert_ptr_equal(r->file, a);
    assert_int_equal(r->height, 3);
    assert_int_equal(read_byte(blk, 4096), 7);
    assert_int_equal(pass_requests(f), 1);
    block_co_unref(f);
    blk_co_free(blk);
    test_node_del("r");
    test_node_del("a");
}

BLOCK_TEST(the_name_of_a_filter_can_be_generated_and_is_taken_until_its_end)
{
    g_autoptr(GError) error = NULL;
    BlockNode *a = pass_new(NULL), *b = pass_new("b");
    assert_memory_equal(block_node_name(a), "#block", 6);
    BlockNodeCreate how = {.drv = &pass_driver, .name = "b", .home = test_home};
    assert_null(block_node_create(&how, &error));
    assert_non_null(strstr(error->message, "Duplicate nodes with node-name='b'"));
    block_co_unref(a);
    block_co_unref(b);
    block_co_unref(pass_new("b"));
}

BLOCK_TEST(a_child_is_set_changed_and_removed)
{
    BlockNode *a = test_node_add(MEM("a")), *b = test_node_add(MEM("b"));
    BlockNode *r = test_node_add("raw,node-name=r,file.driver=mem,file.size=1M");
    BlockNode *nodes[] = {r, a, b};
    BlockNode *const want[] = {a, b, NULL};
    for (unsigned i = 0; i < 3; i++) {
        BlockGraphChange *c = block_graph_co_begin(nodes, 3, NULL);
        assert_true(block_graph_set_child(c, r, "backing", BLOCK_ROLE_BACKING, want[i], NULL));
        change_end(c);
        assert_ptr_equal(r->backing, want[i]);
        assert_ptr_equal(block_node_child(r, "backing"), want[i]);
        assert_int_equal(r->children->len, want[i] != NULL ? 2 : 1);
    }
    assert_int_equal(a->parents->len + b->parents->len, 0);
    test_node_del("r");
    test_node_del("a");
    test_node_del("b");
}

BLOCK_TEST(a_node_without_other_references_is_closed_at_the_end)
{
    BlockNode *b = test_node_add(MEM("b"));
    BlockBackend *blk = test_blk("d", MEM("a"), true);
    BlockGraphChange *c = change_begin(blk_root(blk), b);
    assert_true(block_graph_replace(c, blk_root(blk), b, NULL));
    assert_true(block_graph_commit(c, NULL));
    assert_non_null(block_node_find("a"));
    block_graph_co_end(c);
    assert_null(block_node_find("a"));
    blk_co_free(blk);
    test_node_del("b");
}

BLOCK_TEST(users_that_stay_are_not_moved)
{
    BlockNode *a = test_node_add(MEM("a")), *b = test_node_add(MEM("b"));
    BlockBackend *blk = backend("d", a, true), *own = backend("own", a, false);
    BlockEdge *job = block_user_co_new(a, "job 'j'", BLOCK_USE_READ, BLOCK_USE_ALL, NULL);
    blk_set_stays(own);
    BlockGraphChange *c = change_begin(a, b);
    assert_true(block_graph_replace(c, a, b, NULL));
    change_end(c);
    assert_ptr_equal(blk_root(blk), b);
    assert_ptr_equal(blk_root(own), a);
    assert_ptr_equal(job->node, a);
    block_user_co_free(job);
    blk_co_free(own);
    blk_co_free(blk);
    test_node_del("a");
    test_node_del("b");
}

/* ---- all or nothing ---- */

typedef struct Picture {
    BlockNode *file, *backing, *root;
    unsigned height, children, parents, refs, uses, shares;
} Picture;

static RUNS_IN_MAIN Picture picture(BlockBackend *blk, BlockNode *r)
{
    const BlockEdge *e = block_edge_find(r, "file");
    return (Picture){r->file,         r->backing, blk_root(blk), r->height, r->children->len,
                     r->parents->len, r->refs,    e->uses,       e->shares};
}

BLOCK_TEST(an_abort_undoes_all_steps)
{
    BlockNode *a = test_node_add(MEM("a")), *b = test_node_add(MEM("b"));
    BlockNode *r = test_node_add("raw,node-name=r,file=a");
    BlockBackend *blk = backend("d", r, true);
    unsigned refs = a->refs, refs_b = b->refs;
    Picture before = picture(blk, r);
    BlockNode *f = pass_new("f"), *g = pass_new("g");
    BlockNode *nodes[] = {r, b, f, g};
    BlockGraphChange *c = block_graph_co_begin(nodes, 4, NULL);
    assert_true(block_graph_insert_filter(c, f, a, NULL));
    assert_true(block_graph_insert_filter(c, g, r, NULL));
    assert_true(block_graph_set_child(c, r, "backing", BLOCK_ROLE_BACKING, b, NULL));
    assert_true(block_graph_set_child(c, r, "file", BLOCK_ROLE_FILE, b, NULL));
    assert_ptr_equal(blk_root(blk), g);
    block_graph_abort(c);
    block_graph_co_end(c);
    Picture after = picture(blk, r);
    assert_memory_equal(&before, &after, sizeof(before));
    assert_int_equal(a->refs, refs);
    assert_int_equal(b->refs, refs_b);
    assert_null(block_node_find("f"));
    assert_null(f->file);
    block_co_unref(f);
    block_co_unref(g);
    write_byte(blk, 0, 3);
    assert_int_equal(read_byte(blk, 0), 3);
    blk_co_free(blk);
    test_node_del("r");
    test_node_del("a");
    test_node_del("b");
}

BLOCK_TEST(a_change_that_ends_without_a_commit_is_undone)
{
    BlockNode *a = test_node_add(MEM("a")), *b = test_node_add(MEM("b"));
    BlockBackend *blk = backend("d", a, true);
    BlockGraphChange *c = change_begin(a, b);
    block_graph_co_end(c); /* no step */
    c = change_begin(a, b);
    assert_true(block_graph_replace(c, a, b, NULL));
    block_graph_co_end(c);
    assert_ptr_equal(blk_root(blk), a);
    blk_co_free(blk);
    test_node_del("a");
    test_node_del("b");
}

BLOCK_TEST(a_conflict_is_refused_with_both_users_and_undone)
{
    BlockNode *a = test_node_add(MEM("a")), *b = test_node_add(MEM("b"));
    BlockBackend *blk = backend("d", a, true), *other = backend("e", b, true);
    BlockGraphChange *c = change_begin(a, b);
    assert_true(block_graph_replace(c, a, b, NULL));
    change_refused(c, "drive 'd'", "drive 'e'");
    assert_ptr_equal(blk_root(blk), a);
    blk_co_free(blk);
    blk_co_free(other);
    test_node_del("a");
    test_node_del("b");
}

/* The changed edge reads; the writer and the user above it are elsewhere. */
BLOCK_TEST(a_writer_that_comes_below_a_backing_edge_is_refused)
{
    BlockNode *a = test_node_add(MEM("a")), *b = test_node_add(MEM("b"));
    BlockNode *low = test_node_add("raw,node-name=low,read-only=on,file=a");
    BlockNode *top = test_node_add("raw,node-name=top,file.driver=mem,file.size=1M");
    BlockBackend *writer = backend("w", b, true);
    BlockGraphChange *c = change_begin(top, low);
    assert_true(block_graph_set_child(c, top, "backing", BLOCK_ROLE_BACKING, low, NULL));
    change_end(c);
    BlockNode *nodes[] = {low, b};
    c = block_graph_co_begin(nodes, 2, NULL);
    assert_true(block_graph_set_child(c, low, "file", BLOCK_ROLE_FILE, b, NULL));
    change_refused(c, "drive 'w'", "node 'top'");
    assert_ptr_equal(low->file, a);
    blk_co_free(writer);
    test_node_del("top");
    test_node_del("low");
    test_node_del("a");
    test_node_del("b");
}

BLOCK_TEST(a_writer_does_not_get_a_read_only_node)
{
    BlockNode *a = test_node_add(MEM("a"));
    BlockNode *b = test_node_add("mem,node-name=b,size=1M,read-only=on");
    BlockBackend *blk = backend("d", a, true);
    BlockGraphChange *c = change_begin(a, b);
    assert_true(block_graph_replace(c, a, b, NULL));
    change_refused(c, "read-only", "drive 'd'");
    blk_co_free(blk);
    test_node_del("a");
    test_node_del("b");
}

BLOCK_TEST(cycles_depth_and_other_homes_are_refused)
{
    g_autoptr(GError) error = NULL;
    IoThread *other = iothread_new("io1", 0, NULL);
    g_autoptr(OptDict) d = opt_dict_parse(MEM("b"), "driver", NULL);
    BlockNode *a = test_node_add(MEM("a"));
    BlockNode *b = block_co_add(d, iothread_context(other), NULL);
    BlockNode *r = test_node_add("raw,node-name=r,file=a");
    BlockGraphChange *c = change_begin(r, b);
    assert_false(block_graph_set_child(c, r, "backing", BLOCK_ROLE_BACKING, r, &error));
    assert_string_equal(error->message, "Making 'r' a child of 'r' would create a cycle");
    g_clear_error(&error);
    assert_false(block_graph_replace(c, a, b, &error));
    assert_non_null(strstr(error->message, "node 'b' lives in iothread"));
    block_graph_co_end(c);
    BlockNode *filters[BLOCK_DEPTH_MAX];
    for (unsigned i = 0; i < BLOCK_DEPTH_MAX - 1; i++) {
        filters[i] = filter_insert(NULL, i == 0 ? r : filters[i - 1]);
    }
    assert_int_equal(filters[BLOCK_DEPTH_MAX - 2]->height, BLOCK_DEPTH_MAX + 1);
    BlockNode *last = pass_new("last");
    c = change_begin(last, a);
    assert_true(block_graph_insert_filter(c, last, a, NULL));
    change_refused(c, "more than", "nodes below it");
    assert_int_equal(r->height, 2);
    block_co_unref(last);
    for (unsigned i = BLOCK_DEPTH_MAX - 1; i-- > 0;) {
        filter_delete(filters[i]);
    }
    test_node_del("r");
    test_node_del("a");
    test_node_del("b");
    iothread_free(other);
}

/* ---- what follows ---- */

static void count_resize(void *opaque)
{
    (*(unsigned *)opaque)++;
}

BLOCK_TEST(sizes_and_limits_follow_and_the_device_learns_its_size)
{
    unsigned resizes = 0;
    BlockNode *a = test_node_add(MEM("a"));
    BlockNode *b = test_node_add("fault,node-name=b,align=4096,file.driver=mem,file.size=2M");
    BlockNode *r = test_node_add("raw,node-name=r,file=a");
    BlockBackend *blk = backend("d", r, true);
    BlkNotify notify = {.resized = count_resize, .opaque = &resizes};
    blk_set_notify(blk, &notify);
    BlockGraphChange *c = change_begin(a, b);
    assert_true(block_graph_replace(c, a, b, NULL));
    change_end(c);
    assert_int_equal(blk_size(blk), 2 << 20);
    assert_int_equal(blk_limits(blk).request_alignment, 4096);
    assert_int_equal(resizes, 1);
    filter_delete(filter_insert("f", b));
    assert_int_equal(resizes, 1);
    write_byte(blk, (2 << 20) - 4096 - 512, 5);
    assert_int_equal(read_byte(blk, (2 << 20) - 4096 - 512), 5);
    blk_co_free(blk);
    test_node_del("r");
    test_node_del("a");
    test_node_del("b");
}

BLOCK_TEST(a_range_of_a_file_does_not_get_a_file_that_is_too_short)
{
    BlockNode *a = test_node_add(MEM("a")), *b = test_node_add("mem,node-name=b,size=4k");
    BlockNode *r = test_node_add("raw,node-name=r,offset=4k,size=4k,file=a");
    BlockGraphChange *c = change_begin(a, b);
    assert_true(block_graph_replace(c, a, b, NULL));
    change_refused(c, "go beyond", "node 'b'");
    assert_ptr_equal(r->file, a);
    test_node_del("r");
    test_node_del("a");
    test_node_del("b");
}

BLOCK_TEST(copy_on_read_tracks_the_file_that_it_has)
{
    BlockNode *a = test_node_add(MEM("a"));
    test_node_add("copy-on-read,node-name=cor,file=a");
    assert_int_equal(a->track.users, 1);
    BlockNode *f = filter_insert("f", a);
    assert_int_equal(a->track.users, 0);
    assert_int_equal(f->track.users, 1);
    filter_delete(f);
    assert_int_equal(a->track.users, 1);
    test_node_del("cor");
    assert_int_equal(a->track.users, 0);
    test_node_del("a");
}

/* ---- reopen and resize beside filters ---- */

BLOCK_TEST(a_filter_takes_part_in_reopen_and_resize)
{
    GError *error = NULL;
    BlockNode *r = test_node_add("raw,node-name=r,file.driver=mem,file.node-name=m,file.size=1M");
    BlockBackend *blk = blk_co_new("d", r, false, &error);
    BlockNodeCreate how = {
        .drv = &pass_driver, .name = "f", .home = test_home, .flags = {.read_only = true}};
    BlockNode *f = block_node_create(&how, NULL);
    BlockGraphChange *c = change_begin(f, r);
    assert_true(block_graph_insert_filter(c, f, r, NULL));
    change_end(c);
    assert_int_equal(block_node_co_resize(r, 2 << 20, &error), 0);
    assert_int_equal(block_node_size(r), 2 << 20);
    OptDict *d = opt_dict_parse("raw,node-name=r,read-only=on,file=m", "driver", &error);
    assert_true(block_co_reopen(&d, 1, &error));
    opt_dict_free(d);
    assert_true(block_node_read_only(r));
    filter_delete(f);
    assert_int_equal(blk_size(blk), 2 << 20);
    blk_co_free(blk);
    test_node_del("r");
}

/* ---- users ---- */

static coroutine_fn RUNS_IN_MAIN void expect_error(GError *error, const char *says)
{
    assert_non_null(error);
    if (strstr(error->message, says) == NULL) {
        fail_msg("the error '%s' does not say '%s'", error->message, says);
    }
    g_error_free(error);
}

BLOCK_TEST(a_second_job_a_resize_and_a_deletion_are_refused)
{
    GError *error = NULL;
    unsigned shares = BLOCK_USE_ALL & ~(unsigned)BLOCK_USE_GRAPH;
    BlockNode *a = test_node_add(MEM("a"));
    BlockBackend *blk = backend("d", a, true);
    BlockEdge *job =
        block_user_co_new(a, "job 'j'", BLOCK_USE_READ | BLOCK_USE_GRAPH, shares, NULL);
    assert_non_null(job);
    assert_string_equal(block_node_job(a), "job 'j'");
    assert_null(block_user_co_new(a, "job 'k'", BLOCK_USE_READ | BLOCK_USE_GRAPH, shares, &error));
    expect_error(g_steal_pointer(&error), "node 'a' is busy: job 'j' uses it, and job 'k' would");
    assert_int_equal(block_node_co_resize(a, 4096, &error), -EBUSY);
    expect_error(g_steal_pointer(&error), "Node 'a' is busy: job 'j' uses it");
    blk_co_free(blk);
    assert_false(block_co_delete("a", &error));
    expect_error(g_steal_pointer(&error), "Node a is in use: job 'j' uses it");
    block_user_co_free(job);
    assert_null(block_node_job(a));
    test_node_del("a");
}

BLOCK_TEST(a_job_that_changes_a_node_refuses_users_that_need_it_unchanged)
{
    GError *error = NULL;
    unsigned shares = BLOCK_USE_READ;
    test_node_add(MEM("a"));
    BlockNode *a = block_node_find("a");
    BlockEdge *job =
        block_user_co_new(a, "job 'j'", BLOCK_USE_READ | BLOCK_USE_GRAPH, shares, NULL);
    BlockNode *r = test_node_add("raw,node-name=r,file.driver=mem,file.size=1M");
    BlockGraphChange *c = change_begin(r, a);
    assert_true(block_graph_set_child(c, r, "backing", BLOCK_ROLE_BACKING, a, NULL));
    change_refused(c, "node 'r'", "job 'j'");
    block_user_co_free(job);
    BlockNode *writer = test_node_add("raw,node-name=w,file=a");
    assert_null(block_user_co_new(a, "job 'j'", BLOCK_USE_WRITE, shares, &error));
    expect_error(error, "node 'w'");
    assert_non_null(writer);
    test_node_del("w");
    test_node_del("r");
    test_node_del("a");
}

/* An overlay that a change has left without users keeps its backing node, but does not restrict it, until
 * it has a user again. One that never had a user does. */
BLOCK_TEST(an_overlay_that_was_taken_out_of_a_chain_does_not_restrict_what_was_below_it)
{
    GError *error = NULL;
    BlockNode *base = test_node_add(MEM("base")),
              *top = test_node_add("raw,node-name=top,"
                                   "file.driver=mem,file.size=1M");
    BlockGraphChange *c = change_begin(top, base);
    assert_true(block_graph_set_child(c, top, "backing", BLOCK_ROLE_BACKING, base, NULL));
    change_end(c);
    assert_null(blk_co_new("w", base, true, &error));
    expect_error(g_steal_pointer(&error), "node 'top' needs the data of node 'base' unchanged");
    BlockBackend *blk = backend("d", top, true);
    c = change_begin(top, base);
    assert_true(block_graph_replace(c, top, base, NULL));
    change_end(c);
    assert_ptr_equal(blk_root(blk), base);
    assert_ptr_equal(top->backing, base);
    write_byte(blk, 0, 4);
    assert_null(blk_co_new("r", top, false, &error));
    expect_error(g_steal_pointer(&error), "drive 'd'");
    blk_co_free(blk);
    blk = backend("r", top, false);
    assert_null(blk_co_new("w", base, true, &error));
    expect_error(g_steal_pointer(&error), "node 'top' needs the data of node 'base' unchanged");
    blk_co_free(blk);
    test_node_del("top");
    test_node_del("base");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_replacement_gets_the_backends_and_parents_of_a_node),
        cmocka_unit_test(a_filter_is_inserted_below_all_users_and_removed),
        cmocka_unit_test(the_name_of_a_filter_can_be_generated_and_is_taken_until_its_end),
        cmocka_unit_test(a_child_is_set_changed_and_removed),
        cmocka_unit_test(a_node_without_other_references_is_closed_at_the_end),
        cmocka_unit_test(users_that_stay_are_not_moved),
        cmocka_unit_test(an_abort_undoes_all_steps),
        cmocka_unit_test(a_change_that_ends_without_a_commit_is_undone),
        cmocka_unit_test(a_conflict_is_refused_with_both_users_and_undone),
        cmocka_unit_test(a_writer_that_comes_below_a_backing_edge_is_refused),
        cmocka_unit_test(a_writer_does_not_get_a_read_only_node),
        cmocka_unit_test(cycles_depth_and_other_homes_are_refused),
        cmocka_unit_test(sizes_and_limits_follow_and_the_device_learns_its_size),
        cmocka_unit_test(a_range_of_a_file_does_not_get_a_file_that_is_too_short),
        cmocka_unit_test(copy_on_read_tracks_the_file_that_it_has),
        cmocka_unit_test(a_filter_takes_part_in_reopen_and_resize),
        cmocka_unit_test(a_second_job_a_resize_and_a_deletion_are_refused),
        cmocka_unit_test(
            an_overlay_that_was_taken_out_of_a_chain_does_not_restrict_what_was_below_it),
        cmocka_unit_test(a_job_that_changes_a_node_refuses_users_that_need_it_unchanged),
    };
    return block_test_main(tests);
}

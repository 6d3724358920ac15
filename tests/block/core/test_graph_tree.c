/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes with several children: opening, uses, draining, moving, reopening, deleting. */
#include "block/drivers.h"
#include "block/graph.h"
#include "tests/block/block_test.h"

/* ---- a driver with a file and an optional backing child ---- */

static const char *const overlay_children[] = {"backing", "data-file", NULL};

static coroutine_fn RUNS_IN_MAIN bool overlay_co_open(BlockNode *n, GError **error)
{
    n->limits = n->file->limits;
    atomic_store(&n->size, block_node_size(n->file));
    return block_node_co_open_child(n, "backing", BLOCK_ROLE_BACKING, NULL, error);
}

static coroutine_fn RUNS_IN_IOTHREAD int overlay_co_preadv(BlockNode *n, uint64_t offset,
                                                           uint64_t bytes, const struct iovec *iov,
                                                           unsigned niov)
{
    BlockNode *backing = block_node_child(n, "backing");
    return block_node_co_preadv(backing != NULL ? backing : n->file, offset, bytes, iov, niov);
}

static coroutine_fn RUNS_IN_IOTHREAD int overlay_co_pwritev(BlockNode *n, uint64_t offset,
                                                            uint64_t bytes, const struct iovec *iov,
                                                            unsigned niov, unsigned flags)
{
    return block_node_co_pwritev(n->file, offset, bytes, iov, niov, flags);
}

static const BlockDriver overlay_driver = {
    .name = "overlay",
    .help = "reads its backing node and writes its file",
    .has_file = true,
    .caps = {.fua = true},
    .children = overlay_children,
    .co_open = overlay_co_open,
    .co_preadv = overlay_co_preadv,
    .co_pwritev = overlay_co_pwritev,
};

static int tree_setup(void **state)
{
    static const BlockDriver *drivers[32];
    unsigned count = 0;
    while (block_drivers[count] != NULL) {
        drivers[count] = block_drivers[count];
        count++;
    }
    drivers[count] = &overlay_driver;
    block_setup(drivers);
    return block_test_setup(state);
}

static coroutine_fn RUNS_IN_MAIN void add_fails(const char *text, const char *says)
{
    test_open_fails(text, says);
}

static coroutine_fn RUNS_IN_MAIN void del_all(const char *const *names)
{
    for (; *names != NULL; names++) {
        test_node_del(*names);
    }
}

/* ---- opening ---- */

BLOCK_TEST(named_and_nested_children_are_opened)
{
    test_node_add("null-co,node-name=base");
    BlockNode *top = test_node_add("overlay,node-name=top,file.driver=null-co,backing=base");
    assert_ptr_equal(block_node_child(top, "backing"), block_node_find("base"));
    assert_ptr_equal(block_node_child(top, "file"), top->file);
    assert_null(block_node_child(top, "data-file"));
    assert_int_equal(top->height, 2);
    test_node_del("top");
    top = test_node_add("overlay,node-name=top,file.driver=null-co,backing.driver=null-co");
    assert_true(block_node_child(top, "backing")->flags.read_only);
    assert_false(top->file->flags.read_only);
    test_node_del("top");
    top = test_node_add("overlay,node-name=top,file.driver=null-co,backing=");
    assert_null(block_node_child(top, "backing"));
    del_all((const char *const[]){"top", "base", NULL});
}

BLOCK_TEST(options_of_children_that_are_not_used_are_refused)
{
    add_fails("overlay,file.driver=null-co,data-file.driver=null-co",
              "has no use for the option 'data-file'");
    add_fails("overlay,file.driver=null-co,backing=none",
              "backing=none: there is no node of that name");
    add_fails("raw,file.driver=null-co,backing.driver=null-co", "backing");
    unsigned count;
    g_autofree BlockNode **list = block_node_list(&count);
    assert_int_equal(count, 0);
}

/* ---- uses ---- */

BLOCK_TEST(a_backing_node_has_no_writer)
{
    GError *error = NULL;
    BlockNode *base = test_node_add("null-co,node-name=base");
    test_node_add("overlay,node-name=top,file.driver=null-co,backing=base");
    assert_null(blk_co_new("d", base, true, &error));
    assert_string_equal(error->message,
                        "node 'base' cannot be written to by drive 'd': node 'top' needs the data "
                        "of node 'base' unchanged");
    g_clear_error(&error);
    BlockBackend *reader = blk_co_new("d", base, false, &error);
    assert_non_null(reader);
    blk_co_free(reader);
    test_node_del("top");
    BlockBackend *writer = blk_co_new("d", base, true, &error);
    /* an overlay without a user may be there; a backup can make it usable */
    BlockNode *top = test_node_add("overlay,node-name=top,file.driver=null-co,backing=base");
    assert_null(blk_co_new("r", top, false, &error));
    assert_string_equal(
        error->message,
        "node 'base' is written to by drive 'd', but node 'top' needs the data of node 'base' "
        "unchanged");
    g_clear_error(&error);
    blk_co_free(writer);
    reader = blk_co_new("r", top, false, &error);
    assert_non_null(reader);
    assert_null(blk_co_new("d", base, true, &error)); /* it counts from now on */
    g_clear_error(&error);
    blk_co_free(reader);
    test_node_del("top");
    test_node_del("base");
}

BLOCK_TEST(nodes_below_a_backing_node_have_no_writer_above_it_either)
{
    GError *error = NULL;
    BlockNode *leaf = test_node_add("null-co,node-name=leaf");
    test_node_add("raw,node-name=base,file=leaf,read-only=on");
    test_node_add("overlay,node-name=top,file.driver=null-co,backing=base");
    assert_null(blk_co_new("d", leaf, true, &error));
    assert_non_null(strstr(error->message, "node 'top' needs the data of node 'base' unchanged"));
    g_clear_error(&error);
    add_fails("overlay,node-name=other,file=leaf,backing=base", "'base' unchanged");
    test_node_del("top");
    BlockBackend *writer = blk_co_new("d", leaf, true, &error);
    add_fails("overlay,file.driver=null-co,backing=base", "node 'leaf' is written to by drive 'd'");
    blk_co_free(writer);
    del_all((const char *const[]){"base", "leaf", NULL});
    /* The writable backing node itself may have the write right of its file. */
    test_node_add("raw,node-name=base,file.driver=null-co");
    test_node_add("overlay,node-name=top,file.driver=null-co,backing=base");
    del_all((const char *const[]){"top", "base", NULL});
}

BLOCK_TEST(a_reopen_does_not_make_a_backing_node_change)
{
    g_autoptr(GError) error = NULL;
    test_node_add("null-co,node-name=leaf");
    BlockNode *writer = test_node_add("raw,node-name=w,file=leaf,read-only=on");
    test_node_add("overlay,node-name=top,file.driver=null-co,backing=leaf");
    g_autoptr(OptDict) d = opt_dict_parse("driver=raw,node-name=w,file=leaf", NULL, NULL);
    OptDict *list[] = {d};
    assert_false(block_co_reopen(list, 1, &error));
    assert_string_equal(error->message, "node 'leaf' cannot be written to by node 'w': node 'top' "
                                        "needs the data of node 'leaf' unchanged");
    assert_true(writer->flags.read_only);
    assert_null(block_node_writer(writer->file));
    test_node_del("top");
    assert_true(block_co_reopen(list, 1, NULL));
    assert_string_equal(block_node_writer(writer->file), "node 'w'");
    del_all((const char *const[]){"w", "leaf", NULL});
}

/* ---- trees ---- */

BLOCK_TEST(a_nested_backing_node_is_reopened)
{
    BlockNode *top =
        test_node_add("overlay,node-name=top,file.driver=null-co,backing.driver=null-co");
    const BlockNode *backing = block_node_child(top, "backing");
    g_autoptr(OptDict) d = opt_dict_parse("driver=overlay,node-name=top,file.driver=null-co,"
                                          "backing.driver=null-co,backing.cache.no-flush=on",
                                          NULL, NULL);
    g_autoptr(OptDict) none =
        opt_dict_parse("driver=overlay,node-name=top,file.driver=null-co,backing=", NULL, NULL);
    OptDict *list[] = {d};
    assert_true(block_co_reopen(list, 1, NULL));
    assert_true(backing->flags.cache_no_flush && backing->flags.read_only);
    assert_false(top->file->flags.cache_no_flush);
    g_autoptr(GError) error = NULL;
    list[0] = none;
    assert_false(block_co_reopen(list, 1, &error));
    assert_string_equal(error->message, "Cannot change the option 'backing' of node 'top'");
    test_node_del("top");
}

BLOCK_TEST(a_drain_covers_each_node_of_a_shared_graph_once)
{
    GError *error = NULL;
    BlockNode *base = test_node_add("null-co,node-name=base,read-only=on");
    test_node_add("overlay,node-name=mid,file.driver=null-co,backing=base,read-only=on");
    BlockNode *top = test_node_add("overlay,node-name=top,read-only=on,file=base,backing=mid");
    BlockBackend *blk = blk_co_new("d", top, false, &error);
    co_drained_begin(&blk, 1);
    assert_int_equal(base->quiesced, 1);
    assert_int_equal(block_node_child(top, "backing")->quiesced, 1);
    assert_int_equal(block_node_child(top, "backing")->file->quiesced, 1);
    co_drained_end(&blk, 1);
    test_settle();
    assert_int_equal(base->quiesced, 0);
    blk_co_free(blk);
    del_all((const char *const[]){"top", "mid", "base", NULL});
}

BLOCK_TEST(a_tree_moves_as_a_whole_or_not_at_all)
{
    g_autoptr(GError) error = NULL;
    IoThread *io1 = iothread_new("io1", 0, NULL);
    AioContext *other = iothread_context(io1);
    BlockNode *base = test_node_add("null-co,node-name=base");
    BlockNode *top = test_node_add("overlay,node-name=top,file.driver=null-co,backing=base");
    BlockBackend *reader = blk_co_new("d", base, false, NULL);
    assert_false(block_co_move(top, other, &error));
    assert_non_null(strstr(error->message,
                           "node 'base' lives in 'iothread/io0' and cannot move to 'iothread/io1': "
                           "device 'd' uses it"));
    assert_ptr_equal(block_node_home(top), test_home);
    blk_co_free(reader);
    assert_true(block_co_move(top, other, NULL));
    assert_ptr_equal(block_node_home(base), other);
    assert_ptr_equal(block_node_home(top->file), other);
    test_node_add("null-co,node-name=far");
    add_fails("overlay,node-name=x,file=far,backing=base",
              "the children of node 'x' live in different iothreads: file, node 'far', in "
              "'iothread/io0'; "
              "backing, node 'base', in 'iothread/io1'");
    BlockNode *second = test_node_add(
        "overlay,node-name=second,file.driver=raw,file.file.driver=null-co,backing=base");
    assert_ptr_equal(block_node_home(second), other);
    assert_ptr_equal(block_node_home(second->file->file), other);
    del_all((const char *const[]){"far", "second", "top", "base", NULL});
    iothread_free(io1);
}

BLOCK_TEST(a_backing_node_in_use_is_not_deleted)
{
    g_autoptr(GError) error = NULL;
    test_node_add("null-co,node-name=base");
    test_node_add("overlay,node-name=top,file.driver=null-co,backing=base");
    assert_false(block_co_delete("base", &error));
    assert_string_equal(error->message, "Node base is in use: it is part of node 'top'");
    del_all((const char *const[]){"top", "base", NULL});
}

BLOCK_TEST(a_backing_chain_that_is_too_deep_is_refused)
{
    test_node_add("null-co,node-name=n0,read-only=on");
    for (unsigned i = 1; i <= BLOCK_DEPTH_MAX; i++) {
        g_autofree char *text = g_strdup_printf(
            "overlay,node-name=n%u,file.driver=null-co,backing=n%u,read-only=on", i, i - 1);
        test_node_add(text);
    }
    add_fails("overlay,node-name=x,file.driver=null-co,backing=n64",
              "node 'x' has more than 64 nodes below it");
    for (unsigned i = BLOCK_DEPTH_MAX + 1; i-- > 0;) {
        g_autofree char *name = g_strdup_printf("n%u", i);
        test_node_del(name);
    }
}

/* A graph with 2^MANY_PATHS paths from its top to its bottom. */
#define MANY_PATHS 50u

BLOCK_TEST(a_change_visits_a_node_once_whatever_paths_lead_to_it)
{
    GError *error = NULL;
    BlockNode *base = test_node_add("null-co,node-name=n0,read-only=on");
    for (unsigned i = 1; i <= MANY_PATHS; i++) {
        g_autofree char *text = g_strdup_printf(
            "overlay,node-name=n%u,file=n%u,backing=n%u,read-only=on", i, i - 1, i - 1);
        test_node_add(text);
    }
    BlockEdge *job = block_user_co_new(base, "job 'j'", BLOCK_USE_READ | BLOCK_USE_GRAPH,
                                       BLOCK_USE_ALL & ~BLOCK_USE_GRAPH, &error);
    assert_non_null(job);
    assert_false(block_node_is_seen(base));
    BlockGraphChange *c = block_graph_co_begin(&base, 1, &error);
    assert_non_null(c);
    assert_true(block_graph_commit(c, &error));
    block_graph_co_end(c);
    BlockNode *top = block_node_find("n50");
    BlockBackend *reader = blk_co_new("d", top, false, &error);
    assert_true(block_node_is_seen(base));
    blk_co_free(reader);
    block_user_co_free(job);
    for (unsigned i = MANY_PATHS + 1; i-- > 0;) {
        g_autofree char *name = g_strdup_printf("n%u", i);
        test_node_del(name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(named_and_nested_children_are_opened),
        cmocka_unit_test(options_of_children_that_are_not_used_are_refused),
        cmocka_unit_test(a_backing_node_has_no_writer),
        cmocka_unit_test(nodes_below_a_backing_node_have_no_writer_above_it_either),
        cmocka_unit_test(a_reopen_does_not_make_a_backing_node_change),
        cmocka_unit_test(a_nested_backing_node_is_reopened),
        cmocka_unit_test(a_drain_covers_each_node_of_a_shared_graph_once),
        cmocka_unit_test(a_tree_moves_as_a_whole_or_not_at_all),
        cmocka_unit_test(a_backing_node_in_use_is_not_deleted),
        cmocka_unit_test(a_backing_chain_that_is_too_deep_is_refused),
        cmocka_unit_test(a_change_visits_a_node_once_whatever_paths_lead_to_it),
    };
    setenv("CMOCKA_TEST_ABORT", "1", 1);
    return cmocka_run_group_tests(tests, tree_setup, block_test_teardown);
}

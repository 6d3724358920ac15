/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes of users: listing, deleting, moving, resizing. Reopening: test_graph_reopen. */
#include <semaphore.h>
#include "tests/block/block_test.h"
#include "util/sys/sys_fault.h"

static uint8_t buf[4096];

static coroutine_fn RUNS_IN_MAIN void del_fails(const char *name, const char *says)
{
    g_autoptr(GError) error = NULL;
    assert_false(block_co_delete(name, &error));
    if (strstr(error->message, says) == NULL) {
        fail_msg("%s: '%s' does not say '%s'", name, error->message, says);
    }
}

/* ---- life ---- */

BLOCK_TEST(nodes_are_listed_in_creation_order_and_deleted)
{
    unsigned count;
    test_node_add("null-co,node-name=b");
    test_node_add("null-co,node-name=a");
    BlockNode **list = block_node_list(&count);
    assert_int_equal(count, 2);
    assert_string_equal(block_node_name(list[0]), "b");
    assert_string_equal(block_node_name(list[1]), "a");
    g_free(list);
    test_node_del("a");
    test_node_del("b");
    list = block_node_list(&count);
    assert_int_equal(count, 0);
    g_free(list);
}

BLOCK_TEST(a_node_in_use_is_not_deleted)
{
    GError *error = NULL;
    BlockNode *n = test_node_add("null-co,node-name=a");
    BlockBackend *blk = blk_co_new("d", n, true, &error);
    del_fails("a", "Node a is in use: device 'd'");
    blk_co_free(blk);
    blk = blk_co_new_for("export 'e'", NULL, n, true, &error);
    del_fails("a", "Node a is in use: export 'e' uses it");
    assert_false(blk_is_drive(blk));
    assert_null(blk_find(blk_name(blk)));
    unsigned drives, all;
    g_free(blk_list_drives(&drives));
    g_free(blk_list(&all));
    assert_int_equal(all, drives + 1);
    blk_co_free(blk);
    test_node_add("raw,node-name=r,file=a");
    del_fails("a", "Node a is in use: it is part of node 'r'");
    test_node_del("r");
    test_node_del("a");
    del_fails("a", "Failed to find node with node-name='a'");
}

BLOCK_TEST(a_node_that_is_not_the_users_is_not_deleted)
{
    BlockNode *n = test_open_ok("null-co,node-name=drive");
    del_fails("drive", "Node drive is not owned by the monitor");
    block_co_unref(n);
}

/* ---- moving ---- */

static void write_in_home(void *opaque)
{
    BlockBackend *blk = opaque;
    struct iovec iov = {buf, sizeof(buf)};
    enter_coroutine();
    enter_iothread(blk_home(blk));
    assert_int_equal(blk_co_pwritev(blk, 0, sizeof(buf), &iov, 1, 0), 0);
}

BLOCK_TEST(an_idle_chain_moves_and_works_there)
{
    GError *error = NULL;
    IoThread *other = iothread_new("io1", 0, &error);
    char *path = test_file_new(1 << 20);
    static const char *const engines[] = {"threads", "io_uring"};
    for (unsigned i = 0; i < G_N_ELEMENTS(engines); i++) {
        g_autofree char *text = g_strdup_printf(
            "raw,node-name=r,file.driver=file,file.filename=%s,file.aio=%s", path, engines[i]);
        BlockNode *n = test_node_add(text);
        assert_true(block_co_move(n, iothread_context(other), &error));
        assert_ptr_equal(block_node_home(n), iothread_context(other));
        BlockBackend *blk = blk_co_new("d", n, true, &error);
        co_call_in(blk_home(blk), write_in_home, blk);
        assert_false(block_co_move(n, test_home, &error));
        assert_non_null(strstr(error->message, "device 'd' uses it"));
        g_clear_error(&error);
        blk_co_free(blk);
        test_node_del("r");
    }
    iothread_free(other);
    test_file_free(path);
}

BLOCK_TEST(a_node_that_another_chain_shares_stays)
{
    GError *error = NULL;
    test_node_add("null-co,node-name=base");
    BlockNode *a = test_node_add("raw,node-name=a,file=base,read-only=on");
    test_node_add("raw,node-name=b,file=base");
    assert_false(block_co_move(a, test_main, &error));
    assert_non_null(strstr(error->message, "cannot move"));
    g_error_free(error);
    test_node_del("a");
    test_node_del("b");
    test_node_del("base");
}

/* Its parent would stay in the old home. */
BLOCK_TEST(a_node_with_a_parent_does_not_move_alone)
{
    g_autoptr(GError) error = NULL;
    IoThread *other = iothread_new("io1", 0, NULL);
    BlockNode *r = test_node_add("raw,node-name=r,file.driver=null-co,file.node-name=f");
    assert_false(block_co_move(block_node_find("f"), iothread_context(other), &error));
    assert_non_null(strstr(error->message, "it is part of node 'r'"));
    assert_ptr_equal(block_node_home(r->file), test_home);
    test_node_del("r");
    iothread_free(other);
}

BLOCK_TEST(a_parent_is_added_where_its_child_lives)
{
    IoThread *other = iothread_new("io1", 0, NULL);
    BlockNode *base = test_node_add("null-co,node-name=base");
    assert_true(block_co_move(base, iothread_context(other), NULL));
    BlockBackend *blk = blk_co_new("d", base, true, NULL);
    BlockNode *n = test_node_add("raw,node-name=r,read-only=on,file.driver=raw,file.file=base");
    assert_ptr_equal(block_node_home(n), iothread_context(other));
    assert_ptr_equal(block_node_home(n->file), iothread_context(other));
    BlockBackend *reader = blk_co_new("e", n, false, NULL);
    assert_ptr_equal(blk_home(reader), iothread_context(other));
    blk_co_free(reader);
    blk_co_free(blk);
    test_node_del("r");
    test_node_del("base");
    iothread_free(other);
}

/* ---- a move that fails ---- */

static bool refuse_to_move(BlockNode *n, AioContext *home, void **state, GError **error)
{
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN, "no");
    return false;
}

static void no_move(BlockNode *n, void *state, bool committed)
{
    fail_msg("a move that was not prepared is finished");
}

BLOCK_TEST(a_chain_whose_root_cannot_move_stays_as_a_whole)
{
    g_autoptr(GError) error = NULL;
    IoThread *other = iothread_new("io1", 0, NULL);
    char *path = test_file_new(1 << 20);
    g_autofree char *text =
        g_strdup_printf("raw,node-name=r,file.driver=file,file.filename=%s", path);
    BlockNode *n = test_node_add(text);
    const BlockDriver *drv = n->drv;
    BlockDriver immobile = *drv;
    immobile.co_move_prepare = refuse_to_move;
    immobile.co_move_finish = no_move;
    n->drv = &immobile;
    assert_false(block_co_move(n, iothread_context(other), &error));
    n->drv = drv;
    assert_ptr_equal(block_node_home(n), test_home);
    assert_ptr_equal(block_node_home(n->file), test_home);
    BlockBackend *blk = blk_co_new("d", n, true, NULL);
    assert_int_equal(test_io(blk, TEST_WRITE, 0, sizeof(buf), buf, 0), 0);
    blk_co_free(blk);
    test_node_del("r");
    iothread_free(other);
    test_file_free(path);
}

/* The engine cannot be created in the other iothread. */
BLOCK_TEST(a_file_whose_engine_fails_in_the_new_home_stays)
{
    g_autoptr(GError) error = NULL;
    IoThread *other = iothread_new("io1", 0, NULL);
    char *path = test_file_new(1 << 20);
    g_autofree char *text = g_strdup_printf(
        "raw,node-name=r,file.driver=file,file.aio=io_uring,file.filename=%s", path);
    BlockNode *n = test_node_add(text);
    sys_fault_set(&(SysFault){.calls = "io_uring_queue_init_params", .error = ENOMEM});
    assert_false(block_co_move(n, iothread_context(other), &error));
    sys_fault_set(NULL);
    assert_non_null(strstr(error->message, "Cannot allocate memory"));
    BlockBackend *blk = blk_co_new("d", n, true, NULL);
    assert_int_equal(test_io(blk, TEST_WRITE, 0, sizeof(buf), buf, 0), 0);
    blk_co_free(blk);
    test_node_del("r");
    iothread_free(other);
    test_file_free(path);
}

/* An iothread that is blocked until it is released. */
typedef struct Held {
    sem_t go;
    TestEvent holds;
} Held;

static void hold(void *opaque)
{
    Held *h = opaque;
    test_event_set(&h->holds);
    while (sem_wait(&h->go) != 0) {
    }
}

static coroutine_fn RUNS_IN_MAIN void hold_begin(Held *h, AioContext *ctx)
{
    sem_init(&h->go, 0, 0);
    h->holds = (TestEvent){0};
    aio_post(ctx, hold, h);
    test_event_wait(&h->holds);
}

typedef struct Move {
    BlockNode *node;
    AioContext *home;
    TestEvent done;
} Move;

static void move_body(void *opaque)
{
    Move *m = opaque;
    enter_main();
    enter_coroutine();
    assert_true(block_co_move(m->node, m->home, NULL));
    test_event_set(&m->done);
}

BLOCK_TEST(a_moving_node_is_not_deleted_and_gets_no_parent)
{
    GError *error = NULL;
    Held held;
    IoThread *other = iothread_new("io1", 0, &error);
    char *file = test_file_new(1 << 20);
    g_autofree char *text =
        g_strdup_printf("raw,node-name=r,file.driver=file,file.filename=%s", file);
    Move move = {.node = test_node_add(text), .home = iothread_context(other)};
    hold_begin(&held, move.home);
    co_start(test_main, move_body, &move);
    co_yield_turn();
    del_fails("r", "Node r is in use: it is moving to another iothread");
    g_autoptr(OptDict) parent = opt_dict_parse("raw,node-name=p,file=r", "driver", NULL);
    assert_null(block_co_add(parent, test_home, &error));
    assert_non_null(strstr(error->message, "file=r: the node is moving to another iothread"));
    g_clear_error(&error);
    sem_post(&held.go);
    test_event_wait(&move.done);
    assert_ptr_equal(block_node_home(move.node), move.home);
    test_node_del("r");
    iothread_free(other);
    test_file_free(file);
}

static void del_body(void *opaque)
{
    enter_main();
    enter_coroutine();
    test_node_del("f");
    test_event_set(opaque);
}

BLOCK_TEST(an_iothread_is_in_use_until_its_last_node_is_closed)
{
    GError *error = NULL;
    Held held;
    TestEvent deleted = {0};
    IoThread *other = iothread_new("io1", 0, &error);
    AioContext *home = iothread_context(other);
    char *file = test_file_new(1 << 20);
    g_autofree char *text = g_strdup_printf("file,node-name=f,filename=%s", file);
    BlockNode *n = test_node_add(text);
    assert_false(block_home_in_use(home));
    assert_true(block_co_move(n, home, &error));
    assert_true(block_home_in_use(home));
    hold_begin(&held, home);
    co_start(test_main, del_body, &deleted);
    co_yield_turn();
    assert_null(block_node_find("f"));
    assert_true(block_home_in_use(home));
    sem_post(&held.go);
    test_event_wait(&deleted);
    assert_false(block_home_in_use(home));
    iothread_free(other);
    test_file_free(file);
}

/* Requests go down a chain by calls, and the stack is limited. */
BLOCK_TEST(a_chain_that_is_too_deep_is_refused)
{
    GError *error = NULL;
    uint8_t byte = 1;
    BlockNode *n = test_node_add("null-co,node-name=n0");
    unsigned depth = 0;
    while (depth < 5000) {
        g_autofree char *text = g_strdup_printf("raw,node-name=n%u,file=n%u", depth + 1, depth);
        g_autoptr(OptDict) d = opt_dict_parse(text, "driver", NULL);
        BlockNode *above = block_co_add(d, test_home, &error);
        if (above == NULL) {
            break;
        }
        n = above;
        depth++;
    }
    BlockBackend *blk = blk_co_new("d", n, true, NULL);
    assert_int_equal(test_io(blk, TEST_READ, 1, 1, &byte, 0), 0);
    assert_int_equal(byte, 0);
    blk_co_free(blk);
    assert_non_null(error);
    assert_non_null(strstr(error->message, "nodes below"));
    g_error_free(error);
    for (unsigned i = depth + 1; i-- > 0;) {
        g_autofree char *name = g_strdup_printf("n%u", i);
        test_node_del(name);
    }
}

/* ---- resizing ---- */

static void note_resized(void *opaque)
{
    (*(unsigned *)opaque)++;
}

BLOCK_TEST(a_node_is_resized_through_its_backend_or_by_itself)
{
    GError *error = NULL;
    unsigned told = 0;
    BlkNotify notify = {.resized = note_resized, .opaque = &told};
    BlockNode *n = test_node_add("mem,node-name=m,size=1M");
    assert_int_equal(block_node_co_resize(n, 2 << 20, &error), 0);
    assert_int_equal(block_node_size(n), 2 << 20);
    BlockBackend *blk = blk_co_new("d", n, true, &error);
    blk_set_notify(blk, &notify);
    assert_int_equal(block_node_co_resize(n, 3 << 20, &error), 0);
    assert_int_equal(told, 1);
    assert_true(block_node_co_resize(n, 1000, &error) < 0);
    g_clear_error(&error);
    blk_co_free(blk);
    test_node_add("raw,node-name=r,file=m");
    assert_true(block_node_co_resize(n, 1 << 20, &error) < 0); /* its writer is r */
    assert_non_null(strstr(error->message, "node 'r'"));
    g_error_free(error);
    test_node_del("r");
    test_node_del("m");
}

BLOCK_TEST(a_read_only_node_is_not_resized)
{
    GError *error = NULL;
    test_node_add("mem,node-name=m,size=1M,read-only=on");
    BlockNode *n = block_node_find("m");
    assert_true(block_node_co_resize(n, 2 << 20, &error) < 0);
    assert_string_equal(error->message, "Block node is read-only");
    assert_int_equal(block_node_size(n), 1 << 20);
    g_error_free(error);
    test_node_del("m");
}

/* The reading device came first; the writing one came after the node had become writable. */
BLOCK_TEST(all_devices_of_a_resized_node_are_notified)
{
    GError *error = NULL;
    unsigned told[2] = {0};
    BlkNotify notify[2] = {{.resized = note_resized, .opaque = &told[0]},
                           {.resized = note_resized, .opaque = &told[1]}};
    BlockNode *n = test_node_add("mem,node-name=m,size=1M");
    BlockBackend *reader = blk_co_new("r", n, false, &error);
    BlockBackend *writer = blk_co_new("w", n, true, &error);
    blk_set_notify(reader, &notify[0]);
    blk_set_notify(writer, &notify[1]);
    assert_int_equal(block_node_co_resize(n, 2 << 20, &error), 0);
    assert_int_equal(told[0], 1);
    assert_int_equal(told[1], 1);
    blk_co_free(writer);
    assert_int_equal(block_node_co_resize(n, 3 << 20, &error), 0);
    assert_int_equal(told[0], 2);
    assert_int_equal(blk_size(reader), 3 << 20);
    blk_co_free(reader);
    test_node_del("m");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_are_listed_in_creation_order_and_deleted),
        cmocka_unit_test(a_node_in_use_is_not_deleted),
        cmocka_unit_test(a_node_that_is_not_the_users_is_not_deleted),
        cmocka_unit_test(an_idle_chain_moves_and_works_there),
        cmocka_unit_test(a_node_that_another_chain_shares_stays),
        cmocka_unit_test(a_node_with_a_parent_does_not_move_alone),
        cmocka_unit_test(a_parent_is_added_where_its_child_lives),
        cmocka_unit_test(a_chain_whose_root_cannot_move_stays_as_a_whole),
        cmocka_unit_test(a_file_whose_engine_fails_in_the_new_home_stays),
        cmocka_unit_test(a_moving_node_is_not_deleted_and_gets_no_parent),
        cmocka_unit_test(an_iothread_is_in_use_until_its_last_node_is_closed),
        cmocka_unit_test(a_chain_that_is_too_deep_is_refused),
        cmocka_unit_test(a_node_is_resized_through_its_backend_or_by_itself),
        cmocka_unit_test(a_read_only_node_is_not_resized),
        cmocka_unit_test(all_devices_of_a_resized_node_are_notified),
    };
    return block_test_main(tests);
}

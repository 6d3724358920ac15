/* SPDX-License-Identifier: Apache-2.0 */
/* Users' nodes: listing, deleting, moving, resizing, reopening. */
#include <fcntl.h>
#include <semaphore.h>
#include "block_test.h"
#include "util/fdset.h"
#include "block/driver_file.h"

static uint8_t buf[4096];

static coroutine_fn RUNS_IN_MAIN BlockNode *add(const char *text)
{
    GError *error = NULL;
    g_autoptr(OptDict) d = opt_dict_parse(text, "driver", &error);
    BlockNode *n = block_co_add(d, test_home, &error);
    if (n == NULL) {
        fail_msg("%s: %s", text, error->message);
    }
    return n;
}

static coroutine_fn RUNS_IN_MAIN void del(const char *name)
{
    g_autoptr(GError) error = NULL;
    if (!block_co_delete(name, &error)) {
        fail_msg("%s: %s", name, error->message);
    }
}

static coroutine_fn RUNS_IN_MAIN void del_fails(const char *name, const char *says)
{
    g_autoptr(GError) error = NULL;
    assert_false(block_co_delete(name, &error));
    if (strstr(error->message, says) == NULL) {
        fail_msg("%s: '%s' does not say '%s'", name, error->message, says);
    }
}

/* ---- life ---- */

BLOCK_TEST(a_node_is_listed_in_the_order_it_came_and_deleted)
{
    unsigned count;
    add("null-co,node-name=b");
    add("null-co,node-name=a");
    BlockNode **list = block_node_list(&count);
    assert_int_equal(count, 2);
    assert_string_equal(block_node_name(list[0]), "b");
    assert_string_equal(block_node_name(list[1]), "a");
    g_free(list);
    del("a");
    del("b");
    list = block_node_list(&count);
    assert_int_equal(count, 0);
    g_free(list);
}

BLOCK_TEST(a_node_in_use_is_not_deleted)
{
    GError *error = NULL;
    BlockNode *n = add("null-co,node-name=a");
    BlockBackend *blk = blk_co_new("d", n, true, &error);
    del_fails("a", "Node a is in use: device 'd'");
    blk_co_free(blk);
    add("raw,node-name=r,file=a");
    del_fails("a", "Node a is in use: it is part of node 'r'");
    del("r");
    del("a");
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
        BlockNode *n = add(text);
        assert_true(block_co_move(n, iothread_context(other), &error));
        assert_ptr_equal(block_node_home(n), iothread_context(other));
        BlockBackend *blk = blk_co_new("d", n, true, &error);
        co_call_in(blk_home(blk), write_in_home, blk);
        assert_false(block_co_move(n, test_home, &error));
        assert_non_null(strstr(error->message, "device 'd' has it"));
        g_clear_error(&error);
        blk_co_free(blk);
        del("r");
    }
    iothread_free(other);
    test_file_free(path);
}

BLOCK_TEST(a_node_that_another_chain_shares_stays)
{
    GError *error = NULL;
    add("null-co,node-name=base");
    BlockNode *a = add("raw,node-name=a,file=base,read-only=on");
    add("raw,node-name=b,file=base");
    assert_false(block_co_move(a, test_main, &error));
    assert_non_null(strstr(error->message, "cannot move"));
    g_error_free(error);
    del("a");
    del("b");
    del("base");
}

/* An iothread that does nothing until it is let go: whoever needs it waits. */
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

BLOCK_TEST(a_node_that_moves_is_not_deleted_nor_made_part_of_another)
{
    GError *error = NULL;
    Held held;
    IoThread *other = iothread_new("io1", 0, &error);
    char *file = test_file_new(1 << 20);
    g_autofree char *text =
        g_strdup_printf("raw,node-name=r,file.driver=file,file.filename=%s", file);
    Move move = {.node = add(text), .home = iothread_context(other)};
    hold_begin(&held, move.home);
    co_start(test_main, move_body, &move);
    co_yield_turn();
    del_fails("r", "Node r is in use: it moves to another iothread");
    g_autoptr(OptDict) parent = opt_dict_parse("raw,node-name=p,file=r", "driver", NULL);
    assert_null(block_co_add(parent, test_home, &error));
    assert_non_null(strstr(error->message, "file=r: the node moves to another iothread"));
    g_clear_error(&error);
    sem_post(&held.go);
    test_event_wait(&move.done);
    assert_ptr_equal(block_node_home(move.node), move.home);
    del("r");
    iothread_free(other);
    test_file_free(file);
}

static void del_body(void *opaque)
{
    enter_main();
    enter_coroutine();
    del("f");
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
    BlockNode *n = add(text);
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
    BlockNode *n = add("mem,node-name=m,size=1M");
    assert_int_equal(block_node_co_resize(n, 2 << 20, &error), 0);
    assert_int_equal(block_node_size(n), 2 << 20);
    BlockBackend *blk = blk_co_new("d", n, true, &error);
    blk_set_notify(blk, &notify);
    assert_int_equal(block_node_co_resize(n, 3 << 20, &error), 0);
    assert_int_equal(told, 1);
    assert_true(block_node_co_resize(n, 1000, &error) < 0);
    g_clear_error(&error);
    blk_co_free(blk);
    add("raw,node-name=r,file=m");
    assert_true(block_node_co_resize(n, 1 << 20, &error) < 0); /* it is r's to write to */
    assert_non_null(strstr(error->message, "node 'r'"));
    g_error_free(error);
    del("r");
    del("m");
}

/* ---- reopening ---- */

static coroutine_fn RUNS_IN_MAIN bool reopen(const char *text, GError **error)
{
    OptDict *d = opt_dict_parse(text, "driver", error);
    assert_non_null(d);
    bool ok = block_co_reopen(&d, 1, error);
    opt_dict_free(d);
    return ok;
}

static coroutine_fn RUNS_IN_MAIN void reopen_ok(const char *text)
{
    g_autoptr(GError) error = NULL;
    if (!reopen(text, &error)) {
        fail_msg("%s: %s", text, error->message);
    }
}

static coroutine_fn RUNS_IN_MAIN void reopen_fails(const char *text, const char *says)
{
    g_autoptr(GError) error = NULL;
    assert_false(reopen(text, &error));
    if (strstr(error->message, says) == NULL) {
        fail_msg("%s: '%s' does not say '%s'", text, error->message, says);
    }
}

static char *path, *spelled;

static const char *file_text(const char *options)
{
    g_free(spelled);
    spelled = g_strdup_printf("file,node-name=f,filename=%s%s", path, options);
    return spelled;
}

static const FileState *file_of(BlockNode *n)
{
    return n->state;
}

BLOCK_TEST(read_only_changes_both_ways)
{
    path = test_file_new(1 << 20);
    BlockNode *n = add(file_text(",read-only=on"));
    assert_true(block_node_read_only(n));
    reopen_ok(file_text(""));
    assert_false(block_node_read_only(n));
    BlockBackend *blk = blk_co_new("d", n, true, NULL);
    assert_int_equal(test_io(blk, TEST_WRITE, 0, 4096, buf, 0), 0);
    reopen_fails(file_text(",read-only=on"), "is written to by drive 'd'");
    assert_int_equal(test_io(blk, TEST_WRITE, 0, 4096, buf, 0), 0);
    blk_co_free(blk);
    reopen_ok(file_text(",read-only=on"));
    assert_true(block_node_read_only(n));
    del("f");
    test_file_free(path);
}

BLOCK_TEST(cache_discard_and_aio_change_under_a_writer)
{
    path = test_file_new(1 << 20);
    BlockNode *n = add(file_text(""));
    BlockBackend *blk = blk_co_new("d", n, true, NULL);
    test_fill(buf, sizeof(buf), 1);
    assert_int_equal(test_io(blk, TEST_WRITE, 4096, 4096, buf, 0), 0);
    reopen_ok(file_text(",cache.direct=on,aio=native,discard=unmap,cache.no-flush=on"));
    assert_true(n->limits.request_alignment >= 512);
    assert_true(blk_limits(blk).max_discard != 0);
    assert_int_equal(file_of(n)->engine->ops->kind, BLOCK_ENGINE_NATIVE);
    assert_int_equal(fcntl(file_of(n)->fd, F_GETFL) & O_DIRECT, O_DIRECT);
    uint8_t back[4096];
    assert_int_equal(test_io(blk, TEST_READ, 4096, 4096, back, 0), 0);
    assert_memory_equal(back, buf, sizeof(buf));
    reopen_ok(file_text(""));
    assert_int_equal(n->limits.request_alignment, 1);
    assert_int_equal(test_io(blk, TEST_WRITE, 1, 511, buf, 0), 0);
    blk_co_free(blk);
    del("f");
    test_file_free(path);
}

static bool others_may_write(void)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    GError *error = NULL;
    bool may = file_lock(fd, path, FILE_LOCKING_ON, true, false, &error);
    g_clear_error(&error);
    close(fd);
    return may;
}

typedef struct MayWrite {
    bool may;
} MayWrite;

static int may_write_in_worker(void *opaque)
{
    enter_worker();
    ((MayWrite *)opaque)->may = others_may_write();
    return 0;
}

static coroutine_fn RUNS_IN_MAIN bool co_others_may_write(void)
{
    MayWrite m = {0};
    co_run_in_worker(may_write_in_worker, &m);
    return m.may;
}

BLOCK_TEST(a_refused_reopen_leaves_everything_as_it_was)
{
    path = test_file_new(1 << 20);
    BlockNode *n = add(file_text(""));
    BlockBackend *blk = blk_co_new("d", n, true, NULL);
    int fd = file_of(n)->fd;
    reopen_fails(file_text(",read-only=on"), "written to by");
    reopen_fails(file_text(",aio=native"), "needs cache.direct=on");
    reopen_fails(file_text(",force-share=on"), "force-share needs read-only=on");
    reopen_fails(file_text(",bogus=1"), "bogus");
    reopen_fails("file,node-name=f", "filename");
    reopen_fails("file,node-name=f,filename=/other", "Cannot change the option 'filename'");
    reopen_fails("raw,node-name=f", "Cannot change the option 'driver'");
    reopen_fails("file,node-name=g", "Failed to find node with node-name='g'");
    reopen_fails("file,filename=x", "node-name not specified");
    assert_int_equal(file_of(n)->fd, fd);
    assert_false(co_others_may_write());
    assert_int_equal(test_io(blk, TEST_WRITE, 0, 4096, buf, 0), 0);
    blk_co_free(blk);
    del("f");
    assert_true(co_others_may_write());
    test_file_free(path);
}

BLOCK_TEST(a_file_that_was_replaced_is_not_opened_in_its_place)
{
    path = test_file_new(1 << 20);
    add(file_text(""));
    g_autofree char *moved = g_strdup_printf("%s.moved", path);
    assert_int_equal(rename(path, moved), 0);
    close(open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    reopen_fails(file_text(",read-only=on"), "is another file");
    assert_int_equal(rename(moved, path), 0);
    assert_false(co_others_may_write());
    reopen_ok(file_text(",read-only=on"));
    del("f");
    test_file_free(path);
}

BLOCK_TEST(locking_changes)
{
    path = test_file_new(1 << 20);
    add(file_text(""));
    reopen_ok(file_text(",locking=off"));
    assert_true(co_others_may_write());
    reopen_ok(file_text(",locking=on"));
    assert_false(co_others_may_write());
    del("f");
    test_file_free(path);
}

BLOCK_TEST(all_nodes_change_or_none)
{
    path = test_file_new(1 << 20);
    BlockNode *n = add(file_text(""));
    add("null-co,node-name=z");
    OptDict *both[] = {opt_dict_parse(file_text(",cache.direct=on"), "driver", NULL),
                       opt_dict_parse("null-co,node-name=z,size=5M", "driver", NULL)};
    GError *error = NULL;
    assert_false(block_co_reopen(both, 2, &error));
    assert_non_null(strstr(error->message, "Cannot change the option 'size' of node 'z'"));
    g_clear_error(&error);
    assert_false(n->flags.cache_direct);
    OptDict *twice[] = {both[0], both[0]};
    assert_false(block_co_reopen(twice, 2, &error));
    assert_non_null(strstr(error->message, "described twice"));
    g_clear_error(&error);
    opt_dict_free(both[0]);
    opt_dict_free(both[1]);
    del("f");
    del("z");
    test_file_free(path);
}

BLOCK_TEST(a_chain_changes_from_bottom_to_top)
{
    path = test_file_new(1 << 20);
    g_autofree char *nested =
        g_strdup_printf("raw,node-name=r,file.driver=file,file.filename=%s", path);
    g_autofree char *reader = g_strdup_printf("%s,read-only=on", nested);
    g_autofree char *direct = g_strdup_printf("%s,cache.direct=on", nested);
    BlockNode *n = add(nested);
    reopen_ok(reader);
    assert_true(n->file->flags.read_only);
    assert_null(n->file->writer);
    reopen_ok(direct);
    assert_false(n->file->flags.read_only);
    assert_string_equal(n->file->writer, "node 'r'");
    assert_int_equal(n->limits.request_alignment, n->file->limits.request_alignment);
    assert_true(n->limits.request_alignment >= 512);
    reopen_fails("raw,node-name=r,file=another", "Cannot change the option 'file'");
    del("r");
    test_file_free(path);
}

BLOCK_TEST(a_parent_cannot_write_to_a_child_that_may_not)
{
    add("null-co,node-name=base,read-only=on");
    BlockNode *r = add("raw,node-name=r,file=base,read-only=on");
    reopen_fails("raw,node-name=r,file=base", "Block node is read-only: 'base'");
    assert_true(r->flags.read_only);
    reopen_ok("null-co,node-name=base");
    reopen_ok("raw,node-name=r,file=base");
    reopen_fails("null-co,node-name=base,read-only=on", "is written to by node 'r'");
    del("r");
    del("base");
}

BLOCK_TEST(a_reopen_waits_for_what_is_in_flight)
{
    path = test_file_new(1 << 20);
    g_autofree char *text =
        g_strdup_printf("fault,node-name=x,fail-op=any,errno=0,delay-ns=2000000,file.driver=file,"
                        "file.node-name=f,file.filename=%s",
                        path);
    BlockNode *n = add(text);
    BlockBackend *blk = blk_co_new("d", n, true, NULL);
    TestRequest r = {.blk = blk, .op = TEST_WRITE, .bytes = 4096, .buf = buf};
    test_start(&r);
    test_settle();
    reopen_ok(file_text(",cache.no-flush=on"));
    assert_int_equal(r.completions, 1);
    assert_int_equal(test_finish(&r), 0);
    blk_co_free(blk);
    del("x");
    test_file_free(path);
}

/* ---- descriptors handed over ---- */

BLOCK_TEST(a_descriptor_that_was_handed_over_is_a_file)
{
    path = test_file_new(1 << 20);
    int64_t set = fdset_add(-1, open(path, O_RDWR | O_CLOEXEC), NULL, NULL);
    g_autofree char *text = g_strdup_printf("file,node-name=f,filename=/dev/fdset/%d", (int)set);
    BlockNode *n = add(text);
    BlockBackend *blk = blk_co_new("d", n, true, NULL);
    assert_int_equal(test_io(blk, TEST_WRITE, 0, 4096, buf, 0), 0);
    g_autofree char *direct = g_strdup_printf("%s,cache.direct=on", text);
    reopen_fails(direct, "was handed over");
    blk_co_free(blk);
    del("f");
    fdset_remove(set, -1, NULL);
    test_open_fails(text, "cannot be opened");
    test_file_free(path);
    g_clear_pointer(&spelled, g_free);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node_is_listed_in_the_order_it_came_and_deleted),
        cmocka_unit_test(a_node_in_use_is_not_deleted),
        cmocka_unit_test(a_node_that_is_not_the_users_is_not_deleted),
        cmocka_unit_test(an_idle_chain_moves_and_works_there),
        cmocka_unit_test(a_node_that_another_chain_shares_stays),
        cmocka_unit_test(a_node_that_moves_is_not_deleted_nor_made_part_of_another),
        cmocka_unit_test(an_iothread_is_in_use_until_its_last_node_is_closed),
        cmocka_unit_test(a_node_is_resized_through_its_backend_or_by_itself),
        cmocka_unit_test(read_only_changes_both_ways),
        cmocka_unit_test(cache_discard_and_aio_change_under_a_writer),
        cmocka_unit_test(a_refused_reopen_leaves_everything_as_it_was),
        cmocka_unit_test(a_file_that_was_replaced_is_not_opened_in_its_place),
        cmocka_unit_test(locking_changes),
        cmocka_unit_test(all_nodes_change_or_none),
        cmocka_unit_test(a_chain_changes_from_bottom_to_top),
        cmocka_unit_test(a_parent_cannot_write_to_a_child_that_may_not),
        cmocka_unit_test(a_reopen_waits_for_what_is_in_flight),
        cmocka_unit_test(a_descriptor_that_was_handed_over_is_a_file),
    };
    return block_test_main(tests);
}

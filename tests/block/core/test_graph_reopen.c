/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes of users: reopening with other options, and descriptors passed by a client. */
#include <fcntl.h>
#include "tests/block/block_test.h"
#include "util/fdset.h"
#include "block/file/driver_file.h"
#include "util/sys/sys_fault.h"

static uint8_t buf[4096];

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
    BlockNode *n = test_node_add(file_text(",read-only=on"));
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
    test_node_del("f");
    test_file_free(path);
}

BLOCK_TEST(cache_discard_and_aio_change_under_a_writer)
{
    path = test_file_new(1 << 20);
    BlockNode *n = test_node_add(file_text(""));
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
    test_node_del("f");
    test_file_free(path);
}

static bool others_may_write(void)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    GError *error = NULL;
    const FileLockMode writer = {.locking = FILE_LOCKING_ON, .write = true};
    bool may = file_lock(fd, path, &writer, &error);
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
    BlockNode *n = test_node_add(file_text(""));
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
    test_node_del("f");
    assert_true(co_others_may_write());
    test_file_free(path);
}

BLOCK_TEST(a_file_that_was_replaced_is_not_opened_in_its_place)
{
    path = test_file_new(1 << 20);
    test_node_add(file_text(""));
    g_autofree char *moved = g_strdup_printf("%s.moved", path);
    assert_int_equal(rename(path, moved), 0);
    close(open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    reopen_fails(file_text(",read-only=on"), "is another file");
    assert_int_equal(rename(moved, path), 0);
    assert_false(co_others_may_write());
    reopen_ok(file_text(",read-only=on"));
    test_node_del("f");
    test_file_free(path);
}

BLOCK_TEST(locking_changes)
{
    path = test_file_new(1 << 20);
    test_node_add(file_text(""));
    reopen_ok(file_text(",locking=off"));
    assert_true(co_others_may_write());
    reopen_ok(file_text(",locking=on"));
    assert_false(co_others_may_write());
    test_node_del("f");
    test_file_free(path);
}

BLOCK_TEST(all_nodes_change_or_none)
{
    path = test_file_new(1 << 20);
    BlockNode *n = test_node_add(file_text(""));
    test_node_add("null-co,node-name=z");
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
    test_node_del("f");
    test_node_del("z");
    test_file_free(path);
}

BLOCK_TEST(a_chain_changes_from_bottom_to_top)
{
    path = test_file_new(1 << 20);
    g_autofree char *nested =
        g_strdup_printf("raw,node-name=r,file.driver=file,file.filename=%s", path);
    g_autofree char *reader = g_strdup_printf("%s,read-only=on", nested);
    g_autofree char *direct = g_strdup_printf("%s,cache.direct=on", nested);
    BlockNode *n = test_node_add(nested);
    reopen_ok(reader);
    assert_true(n->file->flags.read_only);
    assert_null(block_node_writer(n->file));
    reopen_ok(direct);
    assert_false(n->file->flags.read_only);
    assert_string_equal(block_node_writer(n->file), "node 'r'");
    assert_int_equal(n->limits.request_alignment, n->file->limits.request_alignment);
    assert_true(n->limits.request_alignment >= 512);
    reopen_fails("raw,node-name=r,file=another", "Cannot change the option 'file'");
    test_node_del("r");
    test_file_free(path);
}

BLOCK_TEST(a_parent_cannot_write_to_a_read_only_child)
{
    test_node_add("null-co,node-name=base,read-only=on");
    BlockNode *r = test_node_add("raw,node-name=r,file=base,read-only=on");
    reopen_fails("raw,node-name=r,file=base", "Block node is read-only: 'base'");
    assert_true(r->flags.read_only);
    reopen_ok("null-co,node-name=base");
    reopen_ok("raw,node-name=r,file=base");
    reopen_fails("null-co,node-name=base,read-only=on", "is written to by node 'r'");
    test_node_del("r");
    test_node_del("base");
}

BLOCK_TEST(two_nodes_cannot_become_writers_of_one_child)
{
    test_node_add("null-co,node-name=base");
    BlockNode *a = test_node_add("raw,node-name=a,file=base,read-only=on");
    BlockNode *b = test_node_add("raw,node-name=b,file=base,read-only=on");
    OptDict *both[] = {opt_dict_parse("raw,node-name=a,file=base", "driver", NULL),
                       opt_dict_parse("raw,node-name=b,file=base", "driver", NULL)};
    g_autoptr(GError) error = NULL;
    assert_false(block_co_reopen(both, 2, &error));
    assert_non_null(strstr(error->message, "'base' is written to by node 'a' already"));
    assert_true(a->flags.read_only && b->flags.read_only);
    assert_null(block_node_writer(a->file));
    opt_dict_free(both[0]);
    opt_dict_free(both[1]);
    reopen_ok("raw,node-name=b,file=base");
    assert_string_equal(block_node_writer(b->file), "node 'b'");
    test_node_del("a");
    test_node_del("b");
    test_node_del("base");
}

/* The system allows only reading the file. auto-read-only makes the chain read-only again, as when
 * it was opened. */
BLOCK_TEST(a_chain_that_became_read_only_is_reopened_with_the_same_options)
{
    const SysFault refused = {.calls = "open", .count = 1, .error = EACCES};
    path = test_file_new(1 << 20);
    g_autofree char *text = g_strdup_printf(
        "raw,node-name=r,auto-read-only=on,file.driver=file,file.filename=%s", path);
    sys_fault_set(&refused);
    BlockNode *n = test_node_add(text);
    assert_true(n->flags.read_only && n->file->flags.read_only);
    sys_fault_set(&refused);
    reopen_ok(text);
    assert_int_equal(sys_fault_hits(), 1);
    assert_true(n->flags.read_only && n->file->flags.read_only);
    sys_fault_set(NULL);
    reopen_ok(text);
    assert_false(n->flags.read_only || n->file->flags.read_only);
    test_node_del("r");
    test_file_free(path);
}

BLOCK_TEST(a_reopen_waits_for_requests_in_flight)
{
    path = test_file_new(1 << 20);
    g_autofree char *text =
        g_strdup_printf("fault,node-name=x,fail-op=any,errno=0,delay-ns=2000000,file.driver=file,"
                        "file.node-name=f,file.filename=%s",
                        path);
    BlockNode *n = test_node_add(text);
    BlockBackend *blk = blk_co_new("d", n, true, NULL);
    TestRequest r = {.blk = blk, .op = TEST_WRITE, .bytes = 4096, .buf = buf};
    test_start(&r);
    test_settle();
    reopen_ok(file_text(",cache.no-flush=on"));
    assert_int_equal(r.completions, 1);
    assert_int_equal(test_finish(&r), 0);
    blk_co_free(blk);
    test_node_del("x");
    test_file_free(path);
}

static void grow_at_home(void *opaque)
{
    struct iovec iov = {buf, sizeof(buf)};
    BlockNode *n = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    assert_int_equal(block_node_co_pwritev(n, block_node_size(n), sizeof(buf), &iov, 1, 0), 0);
}

typedef struct ReopenRun {
    const char *text;
    TestEvent done;
} ReopenRun;

static void reopen_run(void *opaque)
{
    ReopenRun *r = opaque;
    enter_coroutine();
    enter_main();
    reopen_ok(r->text);
    test_event_set(&r->done);
}

/* A write past the end is in the kernel when the reopen begins. */
static coroutine_fn RUNS_IN_MAIN void grow_while_reopening(const char *options)
{
    path = test_file_new(1 << 20);
    BlockNode *n = test_node_add(file_text(""));
    BlockBackend *blk = blk_co_new("d", n, true, NULL);
    ReopenRun r = {.text = file_text(options)};
    sys_fault_set(&(SysFault){.calls = "pwritev2", .count = 1, .hold = true});
    co_start(test_home, grow_at_home, n);
    sys_fault_await_held();
    co_start(test_main, reopen_run, &r);
    co_yield_turn();
    test_settle();
    assert_false(r.done.happened);
    sys_fault_set(NULL);
    test_event_wait(&r.done);
    assert_int_equal(block_node_size(n), (1 << 20) + sizeof(buf));
    assert_int_equal(blk_size(blk), (1 << 20) + sizeof(buf));
    blk_co_free(blk);
    test_node_del("f");
    test_file_free(path);
}

BLOCK_TEST(a_file_that_grows_until_the_reopen_keeps_its_size)
{
    grow_while_reopening(",cache.no-flush=on");
    grow_while_reopening(",cache.direct=on");
}

/* ---- every system call of a reopen fails once ---- */

static unsigned intruders;

static void probe(void *arg, const char *call)
{
    intruders += others_may_write();
}

/* Reopens with the (@after + 1)th call failing; false: there are fewer calls. */
static coroutine_fn RUNS_IN_MAIN bool reopen_with_fault(const char *text, unsigned after)
{
    const SysFault fault = {
        .calls = "open,fstat,fcntl,ioctl,close,pread,io_setup,eventfd",
        .after = after,
        .count = 1,
        .error = EIO,
    };
    g_autoptr(GError) error = NULL;
    sys_fault_hook(probe, NULL);
    sys_fault_set(&fault);
    bool ok = reopen(text, &error);
    bool hit = sys_fault_hits() > 0;
    sys_fault_set(NULL);
    sys_fault_hook(NULL, NULL);
    assert_true(ok || hit);
    return hit;
}

BLOCK_TEST(no_other_writer_succeeds_at_any_call_of_a_reopen)
{
    static const char *const asked[] = {
        ",locking=on,read-only=on",
        ",locking=on,cache.direct=on,aio=native",
        ",locking=on,read-only=on,cache.direct=on",
    };
    path = test_file_new(1 << 20);
    g_autofree char *writer = g_strdup(file_text(",locking=on"));
    BlockNode *n = test_node_add(writer);
    for (unsigned i = 0; i < G_N_ELEMENTS(asked); i++) {
        unsigned after = 0;
        while (reopen_with_fault(file_text(asked[i]), after)) {
            assert_false(co_others_may_write());
            reopen_ok(writer);
            after++;
        }
        assert_true(after > 10);
        reopen_ok(writer);
    }
    assert_int_equal(intruders, 0);
    BlockBackend *blk = blk_co_new("d", n, true, NULL);
    assert_int_equal(test_io(blk, TEST_WRITE, 0, 4096, buf, 0), 0);
    blk_co_free(blk);
    test_node_del("f");
    assert_true(co_others_may_write());
    test_file_free(path);
}

/* The writer becomes a reader, which permits another reader. The reopen of the second node fails,
 * so the first stays the writer. */
static void probe_as_reader(void *arg, const char *call)
{
    const FileLockMode reader = {.locking = FILE_LOCKING_ON};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    intruders += file_lock(fd, path, &reader, NULL);
    close(fd);
}

BLOCK_TEST(a_writer_that_fails_to_become_a_reader_stays_the_only_writer)
{
    path = test_file_new(1 << 20);
    g_autofree char *reader = g_strdup(file_text(",locking=on,read-only=on"));
    test_node_add(file_text(",locking=on"));
    test_node_add("null-co,node-name=z");
    OptDict *both[] = {opt_dict_parse(reader, "driver", NULL),
                       opt_dict_parse("null-co,node-name=z,read-only=on", "driver", NULL)};
    BlockBackend *blk = blk_co_new("d", block_node_find("z"), true, NULL);
    g_autoptr(GError) error = NULL;
    sys_fault_hook(probe_as_reader, NULL);
    sys_fault_set(&(SysFault){.calls = "open,fstat,fcntl,ioctl,close", .after = 1000});
    assert_false(block_co_reopen(both, 2, &error));
    assert_true(sys_fault_calls() > 10);
    sys_fault_set(NULL);
    sys_fault_hook(NULL, NULL);
    assert_non_null(strstr(error->message, "is written to by"));
    assert_int_equal(intruders, 0);
    blk_co_free(blk);
    opt_dict_free(both[0]);
    opt_dict_free(both[1]);
    test_node_del("f");
    test_node_del("z");
    test_file_free(path);
}

/* ---- descriptors handed over ---- */

BLOCK_TEST(a_descriptor_passed_by_a_client_is_a_file)
{
    path = test_file_new(1 << 20);
    int64_t set = fdset_add(-1, open(path, O_RDWR | O_CLOEXEC), NULL, NULL);
    g_autofree char *text = g_strdup_printf("file,node-name=f,filename=/dev/fdset/%d", (int)set);
    BlockNode *n = test_node_add(text);
    BlockBackend *blk = blk_co_new("d", n, true, NULL);
    assert_int_equal(test_io(blk, TEST_WRITE, 0, 4096, buf, 0), 0);
    g_autofree char *direct = g_strdup_printf("%s,cache.direct=on", text);
    reopen_fails(direct, "passed by a client");
    blk_co_free(blk);
    test_node_del("f");
    fdset_remove(set, -1, NULL);
    test_open_fails(text, "cannot be opened");
    test_file_free(path);
    g_clear_pointer(&spelled, g_free);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(read_only_changes_both_ways),
        cmocka_unit_test(cache_discard_and_aio_change_under_a_writer),
        cmocka_unit_test(a_refused_reopen_leaves_everything_as_it_was),
        cmocka_unit_test(a_file_that_was_replaced_is_not_opened_in_its_place),
        cmocka_unit_test(locking_changes),
        cmocka_unit_test(all_nodes_change_or_none),
        cmocka_unit_test(a_chain_changes_from_bottom_to_top),
        cmocka_unit_test(a_parent_cannot_write_to_a_read_only_child),
        cmocka_unit_test(two_nodes_cannot_become_writers_of_one_child),
        cmocka_unit_test(a_chain_that_became_read_only_is_reopened_with_the_same_options),
        cmocka_unit_test(a_reopen_waits_for_requests_in_flight),
        cmocka_unit_test(a_file_that_grows_until_the_reopen_keeps_its_size),
        cmocka_unit_test(no_other_writer_succeeds_at_any_call_of_a_reopen),
        cmocka_unit_test(a_writer_that_fails_to_become_a_reader_stays_the_only_writer),
        cmocka_unit_test(a_descriptor_passed_by_a_client_is_a_file),
    };
    return block_test_main(tests);
}

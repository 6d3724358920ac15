/* SPDX-License-Identifier: Apache-2.0 */
/* Opening files: refusals and their messages; other processes that have the files open. */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "block/file/file_opener.h"
#include "tests/block/block_test.h"
#include "util/loop/sched_point.h"
#include "util/loop/worker.h"

static coroutine_fn RUNS_IN_MAIN void open_fails(const char *path, const char *options,
                                                 const char *says)
{
    g_autofree char *text = g_strdup_printf("file,filename=%s%s", path, options);
    test_open_fails(text, says);
}

static coroutine_fn RUNS_IN_MAIN BlockNode *open_ok(const char *path, const char *options)
{
    g_autofree char *text = g_strdup_printf("file,filename=%s%s", path, options);
    return test_open_ok(text);
}

/* ---- what is no disk ---- */

BLOCK_TEST(other_kinds_of_files_are_refused_by_kind)
{
    g_autofree char *dir = g_strdup("build/skiff-dir-XXXXXX");
    assert_non_null(mkdtemp(dir));
    g_autofree char *fifo = g_strdup_printf("%s/fifo", dir);
    g_autofree char *missing = g_strdup_printf("%s/missing", dir);
    g_autofree char *below = g_strdup_printf("%s/fifo/x", dir);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    open_fails(missing, "", "No such file or directory");
    open_fails(below, "", "Not a directory");
    open_fails(dir, "", "Is a directory");
    open_fails(dir, ",read-only=on", "is a directory");
    open_fails(fifo, "", "is a FIFO"); /* does not wait for its other end */
    open_fails(fifo, ",read-only=on", "is a FIFO");
    open_fails("/dev/null", "", "is a character device");
    open_fails("/dev/zero", ",cache.direct=on", "is a character device");
    unlink(fifo);
    rmdir(dir);
}

BLOCK_TEST(options_that_contradict_are_refused)
{
    char *path = test_file_new(4096);
    open_fails(path, ",aio=native", "needs cache.direct=on");
    open_fails(path, ",aio=posix", "aio");
    open_fails(path, ",locking=maybe", "locking");
    open_fails(path, ",force-share=on", "force-share needs read-only=on");
    open_fails(path, ",bogus=1", "bogus");
    open_fails(path, ",cache=none", "cache");
    open_fails(path, ",cache.bogus=on", "bogus");
    open_fails(path, ",node-name=1abc", "Invalid node-name: '1abc'");
    open_fails(path, ",node-name=a/b", "Invalid node-name: 'a/b'");
    open_fails(path, ",node-name=a2345678901234567890123456789012", "Node name too long");
    open_fails(path, ",read-only=perhaps", "read-only");
    open_fails(path, ",driver=raw", "driver");
    open_fails(path, ",detect-zeroes=unmap", "detect-zeroes");
    test_open_fails("file", "filename");
    test_open_fails("file,filename=", "No such file");
    test_open_fails("vmdk,file=x", "skiff has no driver 'vmdk'; it has: ");
    test_open_fails("", "'driver' is missing");
    g_autofree char *host = g_strdup_printf("host_device,filename=%s", path);
    test_open_fails(host, "accepts block devices");
    g_autofree char *raw =
        g_strdup_printf("raw,offset=8192,file.driver=file,file.filename=%s", path);
    test_open_fails(raw, "go beyond");
    g_autofree char *odd = g_strdup_printf("raw,size=100,file.driver=file,file.filename=%s", path);
    test_open_fails(odd, "multiples of 512");
    test_file_free(path);
}

BLOCK_TEST(empty_file_opens_as_an_empty_disk)
{
    char *path = test_file_new(0);
    g_autofree char *text = g_strdup_printf("file,filename=%s", path);
    BlockBackend *blk = test_blk("d", text, true);
    uint8_t data[512];
    assert_int_equal(blk_size(blk), 0);
    assert_int_equal(test_io(blk, TEST_READ, 0, 512, data, 0), -EINVAL);
    assert_int_equal(test_io(blk, TEST_READ, 0, 0, data, 0), 0);
    blk_co_free(blk);
    test_file_free(path);
}

BLOCK_TEST(a_name_and_a_writer_are_unique)
{
    char *path = test_file_new(4096);
    GError *error = NULL;
    BlockNode *n = open_ok(path, ",node-name=disk");
    test_open_fails("null-co,node-name=disk", "node-name='disk'");
    BlockBackend *a = blk_co_new("a", n, true, &error);
    assert_non_null(a);
    assert_null(blk_co_new("b", n, true, &error));
    assert_non_null(strstr(error->message, "drive 'a'"));
    g_clear_error(&error);
    assert_null(blk_co_new("a", n, false, &error));
    assert_non_null(strstr(error->message, "exists already"));
    g_clear_error(&error);
    test_open_fails("raw,file=disk", "drive 'a'");
    BlockBackend *reader = blk_co_new("b", n, false, &error);
    assert_non_null(reader);
    assert_true(blk_read_only(reader));
    blk_co_free(reader);
    blk_co_free(a);
    BlockNode *fmt = test_open_ok("raw,file=disk");
    block_co_unref(n); /* fmt has a reference */
    assert_non_null(block_node_find("disk"));
    block_co_unref(fmt);
    assert_null(block_node_find("disk"));
    test_file_free(path);
}

BLOCK_TEST(read_only_node_takes_no_writer)
{
    char *path = test_file_new(4096);
    GError *error = NULL;
    BlockNode *n = open_ok(path, ",node-name=disk,read-only=on");
    assert_null(blk_co_new("a", n, true, &error));
    assert_non_null(strstr(error->message, "read-only"));
    g_clear_error(&error);
    test_open_fails("raw,file=disk", "is read-only");
    BlockNode *fmt = test_open_ok("raw,file=disk,read-only=on");
    block_co_unref(fmt);
    block_co_unref(n);
    test_file_free(path);
}

/* ---- no permission: as another user, since root may do all ---- */

static int as_nobody(int (*fn)(const char *path), const char *path)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        _exit(setgid(65534) != 0 || setuid(65534) != 0 ? 99 : fn(path));
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static const char *permission_path;
static int permission_result;

static coroutine_fn RUNS_IN_MAIN int permission_check(void)
{
    g_autofree char *writable = g_strdup_printf("file,filename=%s", permission_path);
    g_autofree char *automatic = g_strconcat(writable, ",auto-read-only=on", NULL);
    g_autoptr(GError) error = NULL;
    if (test_open(writable, &error) != NULL ||
        strstr(error->message, "cannot be opened for writing (read-only=on works)") == NULL) {
        return 1;
    }
    BlockNode *n = test_open(automatic, NULL);
    if (n == NULL || !n->flags.read_only) {
        return 2;
    }
    block_co_unref(n);
    return 0;
}

static coroutine_fn RUNS_IN_MAIN void permission_body(void)
{
    permission_result = permission_check();
}

/* In a child: threads do not survive the fork, so it creates its own. */
static int permission_child(const char *path)
{
    block_test_setup(NULL);
    permission_path = path;
    test_run(permission_body);
    return permission_result;
}

/* Runs before the other tests start threads: see main(). */
static void file_that_may_only_be_read_says_so(void **state)
{
    if (geteuid() != 0) {
        skip();
    }
    char *path = g_strdup("/tmp/skiff-perm-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(chmod(path, 0444), 0);
    assert_int_equal(as_nobody(permission_child, path), 0);
    test_file_free(path);
}

/* ---- locks ---- */

/* A process that locks @path like skiff or QEMU until its end of the pipe is closed. */
typedef struct Other {
    pid_t pid;
    int pipe[2];
} Other;

static void other_hold(const char *path, bool writer, int ready)
{
    int fd = open(path, writer ? O_RDWR : O_RDONLY);
    int bytes[] = {100, 201, 203, 101, 103}; /* a reader has the first three */
    for (int i = 0; i < (writer ? 5 : 3); i++) {
        struct flock fl = {.l_type = F_RDLCK, .l_start = bytes[i], .l_len = 1};
        if (fcntl(fd, F_OFD_SETLK, &fl) != 0) {
            _exit(1);
        }
    }
    char c = 'r';
    if (write(ready, &c, 1) != 1) {
        _exit(2);
    }
    pause();
}

static void other_start(Other *o, const char *path, bool writer)
{
    assert_int_equal(pipe(o->pipe), 0);
    o->pid = fork();
    assert_true(o->pid >= 0);
    if (o->pid == 0) {
        close(o->pipe[0]);
        other_hold(path, writer, o->pipe[1]);
        _exit(0);
    }
    close(o->pipe[1]);
    char c;
    assert_int_equal(read(o->pipe[0], &c, 1), 1);
}

static void other_end(Other *o)
{
    kill(o->pid, SIGKILL);
    waitpid(o->pid, NULL, 0);
    close(o->pipe[0]);
}

BLOCK_TEST(file_that_another_process_writes_is_refused)
{
    char *path = test_file_new(4096);
    Other o;
    other_start(&o, path, true);
    g_autofree char *who = g_strdup_printf("is in use by process %d (", (int)o.pid);
    open_fails(path, "", who);
    open_fails(path, "", "use read-only=on if it only reads");
    open_fails(path, ",read-only=on", "read-only=on,force-share=on");
    BlockNode *n = open_ok(path, ",read-only=on,force-share=on");
    block_co_unref(n);
    n = open_ok(path, ",locking=off");
    block_co_unref(n);
    other_end(&o);
    n = open_ok(path, "");
    block_co_unref(n);
    test_file_free(path);
}

BLOCK_TEST(file_that_another_process_reads_may_be_read_but_not_written)
{
    char *path = test_file_new(4096);
    Other o;
    other_start(&o, path, false);
    open_fails(path, "", "is in use by process");
    BlockNode *n = open_ok(path, ",read-only=on");
    block_co_unref(n);
    other_end(&o);
    test_file_free(path);
}

BLOCK_TEST(two_nodes_of_one_process_lock_each_other_out)
{
    char *path = test_file_new(4096);
    BlockNode *n = open_ok(path, "");
    open_fails(path, "", "is in use by another drive or process");
    block_co_unref(n);
    n = open_ok(path, ",read-only=on");
    BlockNode *m = open_ok(path, ",read-only=on");
    open_fails(path, "", "is in use");
    block_co_unref(m);
    block_co_unref(n);
    test_file_free(path);
}

/* ---- storage that hangs ---- */

#define OPENS WORKER_LANE_MAX

typedef struct HungOpen {
    const char *path;
    BlockNode *node;
    GError *error;
    bool ended;
} HungOpen;

static void hung_open_run(void *opaque)
{
    HungOpen *h = opaque;
    enter_main();
    enter_coroutine();
    g_autofree char *text = g_strdup_printf("file,filename=%s,read-only=on,locking=off", h->path);
    h->node = test_open(text, &h->error);
    h->ended = true;
}

static int other_work(void *opaque)
{
    enter_worker();
    return 7;
}

/* Moves the time of main. */
static coroutine_fn RUNS_IN_MAIN void wait_for_refusal(HungOpen *h, int64_t now_ns)
{
    aio_context_set_virtual_time(test_main, now_ns);
    co_start(test_main, hung_open_run, h);
    co_yield_turn();
    aio_context_set_virtual_time(test_main, now_ns + FILE_OPENER_PATIENCE_NS - 1);
    for (unsigned i = 0; i < 10; i++) {
        co_yield_turn();
    }
    assert_false(h->ended);
    aio_context_set_virtual_time(test_main, now_ns + FILE_OPENER_PATIENCE_NS);
    while (!h->ended) {
        co_yield_turn();
    }
}

/* The last test: time is virtual from now on. */
BLOCK_TEST(opens_that_hang_stop_nothing_but_opens_which_are_refused)
{
    char *path = test_file_new(4096);
    static HungOpen hung[OPENS];
    HungOpen more = {.path = path};
    BlockNode *before = open_ok(path, ",read-only=on,locking=off");
    sched_point_hold("file.open");
    unsigned count = sched_point_count("file.open");
    for (unsigned i = 0; i < OPENS; i++) {
        hung[i] = (HungOpen){.path = path};
        co_start(test_main, hung_open_run, &hung[i]);
    }
    while (sched_point_count("file.open") < count + OPENS) {
        co_yield_turn();
    }
    wait_for_refusal(&more, 0);
    assert_null(more.node);
    assert_non_null(strstr(more.error->message, "': too many files are being opened, and their "));
    g_clear_error(&more.error);
    assert_int_equal(sched_point_count("file.open"), count + OPENS);
    assert_int_equal(co_run_in_worker(other_work, NULL), 7);
    block_co_unref(before); /* it is closed */
    sched_point_release("file.open");
    for (unsigned i = 0; i < OPENS; i++) {
        while (!hung[i].ended) {
            co_yield_turn();
        }
        assert_null(hung[i].error);
        block_co_unref(hung[i].node);
    }
    block_co_unref(open_ok(path, ""));
    test_file_free(path);
}

int main(void)
{
    const struct CMUnitTest first[] = {
        cmocka_unit_test(file_that_may_only_be_read_says_so),
    };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(other_kinds_of_files_are_refused_by_kind),
        cmocka_unit_test(options_that_contradict_are_refused),
        cmocka_unit_test(empty_file_opens_as_an_empty_disk),
        cmocka_unit_test(a_name_and_a_writer_are_unique),
        cmocka_unit_test(read_only_node_takes_no_writer),
        cmocka_unit_test(file_that_another_process_writes_is_refused),
        cmocka_unit_test(file_that_another_process_reads_may_be_read_but_not_written),
        cmocka_unit_test(two_nodes_of_one_process_lock_each_other_out),
        cmocka_unit_test(opens_that_hang_stop_nothing_but_opens_which_are_refused),
    };
    int failed = cmocka_run_group_tests(first, NULL, NULL);
    return failed != 0 ? failed : block_test_main(tests);
}

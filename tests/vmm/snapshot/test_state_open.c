/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/snapshot/state_open.h"

#include <fcntl.h>
#include <sys/vfs.h>
#include <unistd.h>
#include "tests/block/block_test.h"
#include "util/loop/sched_point.h"
#include "util/sys/sys_fault.h"

#define BYTES (1u << 20)
#define TMPFS 0x01021994

/* A file of BYTES data, on storage. */
static char *make_file(void)
{
    char *path = test_file_new(0);
    g_autofree uint8_t *data = g_malloc(BYTES);
    int fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    memset(data, 1, BYTES);
    assert_int_equal(write(fd, data, BYTES), BYTES);
    assert_int_equal(fdatasync(fd), 0);
    close(fd);
    return path;
}

static bool can_direct(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECT);
    if (fd >= 0) {
        close(fd);
    }
    return fd >= 0;
}

static BlockNode *open_ok(const char *path, bool writable, bool direct)
{
    const StateOpen how = {.home = test_home, .writable = writable, .direct = direct};
    GError *error = NULL;
    BlockNode *n = state_co_open(path, &how, &error);
    assert_null(error);
    assert_non_null(n);
    return n;
}

BLOCK_TEST(a_file_is_opened_with_o_direct_where_that_can_be)
{
    char *path = make_file();
    bool direct = can_direct(path);
    BlockNode *n = open_ok(path, true, true);
    assert_int_equal(block_node_file_direct(n), direct);
    block_co_unref(n);
    n = open_ok(path, true, false);
    assert_false(block_node_file_direct(n));
    block_co_unref(n);
    test_file_free(path);
}

/* One attempt is made; its error is @text, after the file's name. */
static void expect_refused_at_once(const char *path, const char *text)
{
    const StateOpen how = {.home = test_home, .writable = true, .direct = true};
    g_autoptr(GError) error = NULL;
    unsigned before = sched_point_count("file.open");
    assert_null(state_co_open(path, &how, &error));
    g_autofree char *expected = g_strdup_printf("'%s'%s", path, text);
    assert_string_equal(error->message, expected);
    assert_int_equal(sched_point_count("file.open") - before, 1);
}

BLOCK_TEST(a_file_that_cannot_be_opened_is_tried_once)
{
    char *path = make_file();
    expect_refused_at_once("/nonexistent/state", ": cannot be opened: No such file or directory");
    expect_refused_at_once("/tmp", ": cannot be opened: Is a directory");
    sys_fault_set(&(SysFault){.calls = "open", .error = EMFILE});
    expect_refused_at_once(path, ": cannot be opened: Too many open files");
    sys_fault_set(&(SysFault){.calls = "fcntl", .error = EIO});
    expect_refused_at_once(path, ": fcntl: Input/output error");
    sys_fault_set(NULL);
    test_file_free(path);
}

BLOCK_TEST(what_a_file_system_cannot_do_is_tried_without)
{
    char *path = make_file();
    unsigned before = sched_point_count("file.open");
    sys_fault_set(&(SysFault){.calls = "fcntl", .count = 2, .error = EINVAL}); /* no O_DIRECT */
    BlockNode *n = open_ok(path, true, true);
    assert_int_equal(sys_fault_hits(), 2);
    sys_fault_set(NULL);
    assert_int_equal(sched_point_count("file.open") - before, 3);
    assert_false(block_node_file_direct(n));
    block_co_unref(n);
    test_file_free(path);
}

BLOCK_TEST(what_is_in_the_page_cache_is_known)
{
    char *path = make_file();
    struct statfs fs;
    assert_int_equal(statfs(path, &fs), 0);
    assert_true(state_co_is_cached(path, 0));
    assert_false(state_co_is_cached(path, BYTES)); /* nothing is there */
    int fd = open(path, O_RDONLY);
    assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    close(fd);
    if (fs.f_type != TMPFS) {
        assert_false(state_co_is_cached(path, 0));
    }
    assert_int_equal(unlink(path), 0);
    assert_false(state_co_is_cached(path, 0));
    g_free(path);
    assert_false(state_co_is_cached("json:{}", 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_opened_with_o_direct_where_that_can_be),
        cmocka_unit_test(a_file_that_cannot_be_opened_is_tried_once),
        cmocka_unit_test(what_a_file_system_cannot_do_is_tried_without),
        cmocka_unit_test(what_is_in_the_page_cache_is_known),
    };
    return block_test_main(tests);
}

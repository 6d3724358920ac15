/* SPDX-License-Identifier: Apache-2.0 */
/* The targets of a dump: files, holes, devices, pipes, sockets; and cancelling. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "vmm/dump/dump_target.h"

typedef struct TargetBench {
    char *directory, *path;
    DumpCancel cancel;
    DumpTarget target;
} TargetBench;

static int target_setup(void **state)
{
    TargetBench *b = g_new0(TargetBench, 1);
    thread_adopt_role(THREAD_WORKER, "worker/0");
    b->directory = g_dir_make_tmp("skiff-dump-XXXXXX", NULL);
    b->path = g_build_filename(b->directory, "dump", NULL);
    assert_true(dump_cancel_init(&b->cancel, NULL));
    dump_target_init(&b->target, &b->cancel);
    *state = b;
    return 0;
}

static int target_teardown(void **state)
{
    TargetBench *b = *state;
    g_remove(b->path);
    g_rmdir(b->directory);
    close(b->cancel.fd);
    g_free(b->path);
    g_free(b->directory);
    g_free(b);
    return 0;
}

static void pages_of_zeroes_become_holes_and_the_size_is_right(void **state)
{
    TargetBench *b = *state;
    enter_worker();
    g_autofree uint8_t *data = g_malloc0(1 << 20);
    memset(data + 4096 * 10, 0x5a, 4096);
    assert_true(dump_target_open(&b->target, b->path, NULL));
    assert_int_equal(b->target.kind, DUMP_TARGET_SPARSE);
    assert_true(dump_target_write(&b->target, (const uint8_t *)"head", 4, NULL));
    assert_true(dump_target_write(&b->target, data, 1 << 20, NULL));
    assert_true(dump_target_close(&b->target, true, NULL));
    struct stat st;
    assert_int_equal(stat(b->path, &st), 0);
    assert_int_equal(st.st_size, 4 + (1 << 20));
    assert_true(st.st_blocks < st.st_size / 512 / 4); /* block sizes of file systems differ */
    assert_int_equal(st.st_mode & 0777, 0600);
    g_autofree char *text = NULL;
    assert_true(g_file_get_contents(b->path, &text, NULL, NULL));
    assert_memory_equal(text, "head", 4);
    assert_memory_equal(text + 4, data, 1 << 20);
}

static void existing_data_of_a_file_is_overwritten_or_kept_before_the_dump(void **state)
{
    TargetBench *b = *state;
    enter_worker();
    uint8_t zeroes[8192] = {0};
    g_autofree char *old = g_strnfill(8192, 'x');
    for (unsigned append = 0; append <= 1; append++) {
        assert_true(g_file_set_contents(b->path, old, 8192, NULL));
        int fd = open(b->path, O_WRONLY | O_CLOEXEC | (append ? O_APPEND : 0));
        assert_true(dump_target_adopt(&b->target, fd, NULL));
        assert_true(dump_target_write(&b->target, zeroes, 8192, NULL));
        assert_true(dump_target_close(&b->target, true, NULL));
        g_autofree char *text = NULL;
        size_t size;
        assert_true(g_file_get_contents(b->path, &text, &size, NULL));
        assert_int_equal(size, append ? 16384 : 8192);
        assert_memory_equal(text + size - 8192, zeroes, 8192);
    }
}

static void a_passed_descriptor_is_positioned_after_the_dump(void **state)
{
    TargetBench *b = *state;
    enter_worker();
    uint8_t zeroes[8192] = {0};
    int fd = open(b->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, "before", 6), 6);
    assert_true(dump_target_adopt(&b->target, dup(fd), NULL));
    assert_int_equal(b->target.kind, DUMP_TARGET_SPARSE);
    assert_true(dump_target_write(&b->target, zeroes, 8192, NULL));
    assert_true(dump_target_close(&b->target, true, NULL));
    assert_int_equal(lseek(fd, 0, SEEK_CUR), 6 + 8192);
    assert_int_equal(write(fd, "behind", 6), 6);
    close(fd);
    g_autofree char *text = NULL;
    size_t size;
    assert_true(g_file_get_contents(b->path, &text, &size, NULL));
    assert_int_equal(size, 6 + 8192 + 6);
    assert_memory_equal(text, "before\0", 7);
    assert_memory_equal(text + 6 + 8192, "behind", 6);
}

static void a_failed_dump_leaves_no_file(void **state)
{
    TargetBench *b = *state;
    enter_worker();
    assert_true(dump_target_open(&b->target, b->path, NULL));
    assert_true(dump_target_write(&b->target, (const uint8_t *)"head", 4, NULL));
    dump_target_close(&b->target, false, NULL);
    assert_false(g_file_test(b->path, G_FILE_TEST_EXISTS));
}

static void a_full_device_is_an_error_and_is_not_removed(void **state)
{
    TargetBench *b = *state;
    enter_worker();
    g_autoptr(GError) error = NULL;
    if (access("/dev/full", W_OK) != 0) {
        skip();
    }
    assert_true(dump_target_open(&b->target, "/dev/full", NULL));
    assert_false(dump_target_write(&b->target, (const uint8_t *)"head", 4, &error));
    assert_true(g_error_matches(error, G_FILE_ERROR, G_FILE_ERROR_NOSPC));
    dump_target_close(&b->target, false, NULL);
    assert_true(g_file_test("/dev/full", G_FILE_TEST_EXISTS));
}

static void descriptors_that_cannot_be_written_to_are_refused(void **state)
{
    TargetBench *b = *state;
    enter_worker();
    g_autoptr(GError) error = NULL;
    assert_false(dump_target_adopt(&b->target, open("/dev/null", O_RDONLY | O_CLOEXEC), &error));
    g_clear_error(&error);
    assert_false(dump_target_adopt(&b->target, open("/dev/null", O_PATH | O_CLOEXEC), &error));
    g_clear_error(&error);
    int fd = dup(STDERR_FILENO);
    close(fd);
    assert_false(dump_target_adopt(&b->target, fd, &error));
    assert_int_equal(b->target.fd, -1);
}

static void a_fifo_without_a_reader_is_an_error_at_once(void **state)
{
    TargetBench *b = *state;
    enter_worker();
    g_autoptr(GError) error = NULL;
    assert_int_equal(mkfifo(b->path, 0600), 0);
    assert_false(dump_target_open(&b->target, b->path, &error));
    assert_non_null(strstr(error->message, "reader"));
    assert_true(g_file_test(b->path, G_FILE_TEST_EXISTS));
}

/* Writes more than @fds[1] takes, while another thread cancels the dump at any moment. */
static void *cancel_run(void *opaque)
{
    dump_cancel_all(opaque);
    return NULL;
}

static void assert_cancel_ends_the_wait(TargetBench *b, int fd)
{
    enter_worker();
    g_autoptr(GError) error = NULL;
    g_autofree uint8_t *data = g_malloc0(8 << 20);
    assert_true(dump_target_adopt(&b->target, fd, NULL));
    GThread *thread = g_thread_new("cancel", cancel_run, &b->cancel);
    assert_false(dump_target_write(&b->target, data, 8 << 20, &error));
    g_thread_join(thread);
    assert_non_null(strstr(error->message, "aborted"));
    dump_target_close(&b->target, false, NULL);
}

static void an_unread_pipe_is_waited_for_until_cancelled(void **state)
{
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_cancel_ends_the_wait(*state, fds[1]);
    close(fds[0]);
}

static void an_unread_socket_is_waited_for_until_cancelled(void **state)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_cancel_ends_the_wait(*state, fds[1]);
    close(fds[0]);
}

static void a_closed_reader_is_an_error(void **state)
{
    TargetBench *b = *state;
    enter_worker();
    g_autoptr(GError) error = NULL;
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    close(fds[0]);
    assert_true(dump_target_adopt(&b->target, fds[1], NULL));
    assert_false(dump_target_write(&b->target, (const uint8_t *)"head", 4, &error));
    assert_true(g_error_matches(error, G_FILE_ERROR, G_FILE_ERROR_PIPE));
    dump_target_close(&b->target, false, NULL);
}

#define TARGET_TEST(f) cmocka_unit_test_setup_teardown(f, target_setup, target_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TARGET_TEST(pages_of_zeroes_become_holes_and_the_size_is_right),
        TARGET_TEST(existing_data_of_a_file_is_overwritten_or_kept_before_the_dump),
        TARGET_TEST(a_passed_descriptor_is_positioned_after_the_dump),
        TARGET_TEST(a_failed_dump_leaves_no_file),
        TARGET_TEST(a_full_device_is_an_error_and_is_not_removed),
        TARGET_TEST(descriptors_that_cannot_be_written_to_are_refused),
        TARGET_TEST(a_fifo_without_a_reader_is_an_error_at_once),
        TARGET_TEST(an_unread_pipe_is_waited_for_until_cancelled),
        TARGET_TEST(an_unread_socket_is_waited_for_until_cancelled),
        TARGET_TEST(a_closed_reader_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

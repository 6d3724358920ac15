/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <glib/gstdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "util/user_file.h"

static char *path;

static int set_up(void **unused)
{
    int fd = g_file_open_tmp("skiff-user-file-XXXXXX", &path, NULL);
    assert_true(fd >= 0);
    close(fd);
    return 0;
}

static int tear_down(void **unused)
{
    g_unlink(path);
    g_clear_pointer(&path, g_free);
    return 0;
}

static void expect_refused(const char *name, uint64_t max, const char *reason)
{
    g_autoptr(GError) error = NULL;
    assert_null(user_file_read(name, max, &error));
    assert_non_null(strstr(error->message, reason));
}

static void a_file_is_read_to_its_end(void **unused)
{
    static const size_t sizes[] = {0, 1, 65535, 65536, 65537, 300000};
    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_autofree char *text = g_strnfill(sizes[i], 'x');
        assert_true(g_file_set_contents(path, text, (gssize)sizes[i], NULL));
        g_autoptr(GBytes) bytes = user_file_read(path, sizes[i], NULL);
        assert_non_null(bytes);
        assert_int_equal(g_bytes_get_size(bytes), sizes[i]);
        assert_true(sizes[i] == 0 || memcmp(g_bytes_get_data(bytes, NULL), text, sizes[i]) == 0);
        if (sizes[i] > 0) {
            expect_refused(path, sizes[i] - 1, "too large");
        }
    }
}

/* The file has no blocks, and more bytes than the host has memory: nothing of it is read. */
static void a_huge_file_is_refused_by_its_size(void **unused)
{
    assert_int_equal(truncate(path, (off_t)8 << 40), 0);
    expect_refused(path, UINT32_MAX, "too large");
}

static void a_file_without_an_end_is_refused(void **unused)
{
    expect_refused("/dev/zero", UINT32_MAX, "too large");
    expect_refused("/dev/zero", 4096, "4096 bytes");
}

static void what_cannot_be_read_is_refused(void **unused)
{
    expect_refused("/nonexistent", 100, "No such file");
    expect_refused("/", 100, "directory");
}

/* As the shell's <(command) gives. */
static void a_pipe_is_read_to_its_end(void **unused)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "piped", 5), 5);
    close(ends[1]);
    g_autofree char *name = g_strdup_printf("/dev/fd/%d", ends[0]);
    g_autoptr(GBytes) bytes = user_file_read(name, 100, NULL);
    close(ends[0]);
    assert_non_null(bytes);
    assert_int_equal(g_bytes_get_size(bytes), 5);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_file_is_read_to_its_end),        TEST(a_huge_file_is_refused_by_its_size),
        TEST(a_file_without_an_end_is_refused), TEST(what_cannot_be_read_is_refused),
        TEST(a_pipe_is_read_to_its_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

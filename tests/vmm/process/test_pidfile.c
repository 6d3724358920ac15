/* SPDX-License-Identifier: Apache-2.0 */
/* -pidfile: its owner, and its removal. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "vmm/process/pidfile.h"

static char *directory;

static int directory_setup(void **state)
{
    directory = g_dir_make_tmp("skiff-pidfile.XXXXXX", NULL);
    assert_int_equal(chdir(directory), 0);
    return 0;
}

static int directory_teardown(void **state)
{
    assert_int_equal(chdir("/"), 0);
    assert_int_equal(rmdir(directory), 0); /* no file is left */
    g_free(directory);
    return 0;
}

static void it_has_the_process_id_and_is_removed_at_the_end(void **state)
{
    g_autofree char *text = NULL;
    g_autofree char *expected = g_strdup_printf("%d\n", (int)getpid());
    assert_true(pidfile_write("pid", NULL));
    assert_true(g_file_get_contents("pid", &text, NULL, NULL));
    assert_string_equal(text, expected);
    pidfile_remove();
    assert_int_equal(access("pid", F_OK), -1);
}

static void it_is_removed_from_another_directory_too(void **state)
{
    assert_true(pidfile_write("pid", NULL));
    assert_int_equal(chdir("/"), 0); /* as a daemon does */
    pidfile_remove();
    assert_int_equal(chdir(directory), 0);
    assert_int_equal(access("pid", F_OK), -1);
}

static void another_file_of_that_name_is_not_removed(void **state)
{
    assert_true(g_file_set_contents("new", "1\n", -1, NULL));
    assert_true(pidfile_write("pid", NULL));
    assert_int_equal(rename("new", "pid"), 0);
    pidfile_remove();
    assert_int_equal(unlink("pid"), 0);
}

static void a_file_of_a_process_that_died_is_taken_over(void **state)
{
    g_autofree char *text = NULL;
    g_autofree char *expected = g_strdup_printf("%d\n", (int)getpid());
    assert_true(g_file_set_contents("pid", "123456789\n", -1, NULL));
    assert_true(pidfile_write("pid", NULL));
    assert_true(g_file_get_contents("pid", &text, NULL, NULL));
    assert_string_equal(text, expected);
    pidfile_remove();
}

static void another_process_is_refused(void **state)
{
    g_autofree char *before = NULL, *after = NULL;
    assert_true(pidfile_write("pid", NULL));
    assert_true(g_file_get_contents("pid", &before, NULL, NULL));
    pid_t child = fork();
    if (child == 0) {
        GError *error = NULL;
        bool ok = pidfile_write("pid", &error);
        _exit(!ok && g_strrstr(error->message, "a running VM uses this file") ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_true(g_file_get_contents("pid", &after, NULL, NULL));
    assert_string_equal(before, after);
    pidfile_remove();
}

static void a_file_that_cannot_be_written_is_named(void **state)
{
    g_autoptr(GError) error = NULL;
    assert_false(pidfile_write("missing/pid", &error));
    assert_string_equal(error->message, "-pidfile missing/pid: No such file or directory");
    pidfile_remove(); /* there is none: does nothing */
}

#define IN_DIRECTORY(f) cmocka_unit_test_setup_teardown(f, directory_setup, directory_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_DIRECTORY(it_has_the_process_id_and_is_removed_at_the_end),
        IN_DIRECTORY(it_is_removed_from_another_directory_too),
        IN_DIRECTORY(another_file_of_that_name_is_not_removed),
        IN_DIRECTORY(a_file_of_a_process_that_died_is_taken_over),
        IN_DIRECTORY(another_process_is_refused),
        IN_DIRECTORY(a_file_that_cannot_be_written_is_named),
    };
    return cmocka_run_group_tests_name("vmm/process/pidfile", tests, NULL, NULL);
}

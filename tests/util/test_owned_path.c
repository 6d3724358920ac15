/* SPDX-License-Identifier: Apache-2.0 */
/* File names that skiff removes at the end, and names that it must not remove. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <glib.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "util/owned_path.h"

static char *directory;

static int directory_setup(void **state)
{
    directory = g_dir_make_tmp("skiff-owned.XXXXXX", NULL);
    return chdir(directory);
}

static int directory_teardown(void **state)
{
    assert_int_equal(chdir("/"), 0);
    assert_int_equal(rmdir(directory), 0); /* nothing is left */
    g_free(directory);
    return 0;
}

static void make_file(const char *path)
{
    assert_true(g_file_set_contents(path, "x", -1, NULL));
}

static void a_relative_name_is_removed_from_another_directory(void **state)
{
    OwnedPath o = {0};
    make_file("name");
    assert_true(owned_path_set(&o, "name"));
    assert_int_equal(mkdir("elsewhere", 0700), 0);
    assert_int_equal(chdir("elsewhere"), 0);
    make_file("name");
    assert_true(owned_path_unlink(&o));
    assert_false(owned_path_unlink(&o));
    assert_int_equal(unlink("name"), 0); /* the other file is still there */
    assert_int_equal(chdir(".."), 0);
    assert_int_equal(rmdir("elsewhere"), 0);
    owned_path_clear(&o);
}

static void another_file_of_that_name_stays(void **state)
{
    OwnedPath o = {0};
    make_file("name");
    make_file("other"); /* in addition, so that it has another inode */
    assert_true(owned_path_set(&o, "name"));
    assert_true(owned_path_is_ours(&o));
    assert_int_equal(rename("other", "name"), 0);
    assert_false(owned_path_is_ours(&o));
    assert_false(owned_path_unlink(&o));
    assert_int_equal(unlink("name"), 0);
    owned_path_clear(&o);
}

static void a_link_is_removed_and_not_its_target(void **state)
{
    OwnedPath o = {0};
    make_file("name");
    assert_int_equal(symlink("name", "link"), 0);
    assert_true(owned_path_set(&o, "link"));
    assert_true(owned_path_unlink(&o));
    assert_int_equal(access("link", F_OK), -1);
    assert_int_equal(unlink("name"), 0);
    owned_path_clear(&o);
}

static void a_missing_or_forgotten_name_removes_nothing(void **state)
{
    OwnedPath o = {0};
    assert_false(owned_path_set(&o, "name"));
    assert_int_equal(errno, ENOENT);
    assert_false(owned_path_unlink(&o));
    make_file("name");
    assert_true(owned_path_set(&o, "name"));
    owned_path_clear(&o);
    assert_false(owned_path_unlink(&o));
    assert_int_equal(unlink("name"), 0);
}

#define IN_DIRECTORY(f) cmocka_unit_test_setup_teardown(f, directory_setup, directory_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_DIRECTORY(a_relative_name_is_removed_from_another_directory),
        IN_DIRECTORY(another_file_of_that_name_stays),
        IN_DIRECTORY(a_link_is_removed_and_not_its_target),
        IN_DIRECTORY(a_missing_or_forgotten_name_removes_nothing),
    };
    return cmocka_run_group_tests_name("util/owned_path", tests, NULL, NULL);
}

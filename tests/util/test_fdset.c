/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "util/fdset.h"

static int open_null(int flags)
{
    int fd = open("/dev/null", flags | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static bool same_file(int a, int b)
{
    struct stat sa, sb;
    assert_int_equal(fstat(a, &sa), 0);
    assert_int_equal(fstat(b, &sb), 0);
    return sa.st_rdev == sb.st_rdev && sa.st_ino == sb.st_ino;
}

static void the_descriptor_whose_access_fits_is_duplicated(void **state)
{
    int reader = open_null(O_RDONLY), both = open_null(O_RDWR);
    assert_int_equal(fdset_add(7, reader, NULL, NULL), 7);
    assert_int_equal(fdset_dup_fd("/dev/fdset/7", O_RDWR), -EACCES);
    assert_int_equal(fdset_add(7, both, "rw", NULL), 7);
    int fd = fdset_dup_fd("/dev/fdset/7", O_RDWR | O_APPEND);
    assert_true(fd >= 0 && fd != both && same_file(fd, both));
    assert_int_equal(fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND), O_RDWR | O_APPEND);
    assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    assert_true(fdset_remove(7, -1, NULL));
    assert_int_equal(fcntl(both, F_GETFD), -1); /* closed */
    assert_true(fcntl(fd, F_GETFD) >= 0);       /* but not its duplicate */
    close(fd);
    assert_int_equal(fdset_dup_fd("/dev/fdset/7", O_RDWR), -ENOENT);
}

static void names_that_are_not_sets_are_refused(void **state)
{
    static const char *const names[] = {"/dev/fdset/",
                                        "/dev/fdset/x",
                                        "/dev/fdset/1x",
                                        "/dev/fdset/-1",
                                        "/dev/fdset/ 1",
                                        "/dev/fdset/1/2",
                                        "/dev/fdset/99999999999999999999",
                                        "/dev/null",
                                        ""};
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        assert_int_equal(fdset_dup_fd(names[i], O_RDONLY), -EINVAL);
    }
    assert_true(fdset_is_path("/dev/fdset/x"));
    assert_false(fdset_is_path("/dev/fd/1"));
}

static void append_entry(int64_t id, int fd, const char *note, void *opaque)
{
    g_string_append_printf(opaque, "%d:%s ", (int)id, note != NULL ? note : "-");
}

static void new_sets_take_the_least_free_number(void **state)
{
    g_autoptr(GError) error = NULL;
    assert_int_equal(fdset_add(-1, open_null(O_RDONLY), "a", NULL), 0);
    assert_int_equal(fdset_add(2, open_null(O_RDONLY), "b", NULL), 2);
    int second = open_null(O_RDONLY);
    assert_int_equal(fdset_add(0, second, NULL, NULL), 0);
    assert_int_equal(fdset_add(-1, open_null(O_RDONLY), "c", NULL), 1);
    assert_int_equal(fdset_add(-1, open_null(O_RDONLY), "d", NULL), 3);
    GString *list = g_string_new(NULL);
    fdset_foreach(append_entry, list);
    assert_string_equal(list->str, "0:a 0:- 1:c 2:b 3:d ");
    g_string_free(list, true);
    assert_false(fdset_remove(1, 12345, &error));
    assert_non_null(error);
    assert_true(fdset_remove(0, second, NULL));
    for (int id = 0; id < 4; id++) {
        assert_true(fdset_remove(id, -1, NULL));
        assert_false(fdset_remove(id, -1, NULL));
    }
}

static void sets_are_bounded(void **state)
{
    g_autoptr(GError) error = NULL;
    unsigned count = 0;
    while (fdset_add(5, open_null(O_RDONLY), NULL, error == NULL ? &error : NULL) == 5) {
        count++;
    }
    assert_true(count >= 100 && count < 1000);
    assert_non_null(error);
    assert_true(fdset_remove(5, -1, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_descriptor_whose_access_fits_is_duplicated),
        cmocka_unit_test(names_that_are_not_sets_are_refused),
        cmocka_unit_test(new_sets_take_the_least_free_number),
        cmocka_unit_test(sets_are_bounded),
    };
    return cmocka_run_group_tests_name("util/fdset", tests, NULL, NULL);
}

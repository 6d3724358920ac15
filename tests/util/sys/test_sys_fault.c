/* SPDX-License-Identifier: Apache-2.0 */
/* The seam to the kernel: which calls are hit, and the effect. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>
#include <cmocka.h>
#include "util/sys/sys_fault.h"

static int tear_down(void **state)
{
    sys_fault_set(NULL);
    sys_fault_hook(NULL, NULL);
    return 0;
}

static void the_nth_call_of_a_kind_fails(void **state)
{
    sys_fault_set(&(SysFault){.calls = "eventfd,open", .after = 1, .count = 1, .error = EMFILE});
    int first = eventfd(0, EFD_CLOEXEC);
    assert_true(first >= 0);
    int other = dup(first); /* another kind is not counted */
    assert_true(other >= 0);
    assert_int_equal(open("/dev/null", O_RDONLY | O_CLOEXEC), -1);
    assert_int_equal(errno, EMFILE);
    int third = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_true(third >= 0);
    assert_int_equal(sys_fault_calls(), 3);
    assert_int_equal(sys_fault_hits(), 1);
    close(first);
    close(other);
    close(third);
}

static void *wait_in_fdatasync(void *opaque)
{
    *(int *)opaque = fdatasync(-1) == 0 ? 0 : errno;
    return NULL;
}

static void a_call_fails_in_its_own_way(void **state)
{
    pthread_t thread;
    sys_fault_set(&(SysFault){.calls = "mmap,pthread_create", .error = EAGAIN});
    assert_ptr_equal(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), MAP_FAILED);
    assert_int_equal(errno, EAGAIN);
    errno = 0;
    assert_int_equal(pthread_create(&thread, NULL, wait_in_fdatasync, NULL), EAGAIN);
}

static void a_descriptor_whose_close_fails_is_closed(void **state)
{
    int fd = eventfd(0, EFD_CLOEXEC);
    sys_fault_set(&(SysFault){.calls = "close", .error = EIO});
    assert_int_equal(close(fd), -1);
    assert_int_equal(errno, EIO);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    assert_int_equal(errno, EBADF);
}

static void reads_and_writes_are_short(void **state)
{
    char data[8] = "abcdefg", back[8] = "";
    struct iovec iov[2] = {{data, 3}, {data + 3, 5}};
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    sys_fault_set(&(SysFault){.calls = "writev,read", .bytes = 5});
    assert_int_equal(writev(fds[1], iov, 2), 5);
    assert_int_equal(read(fds[0], back, sizeof(back)), 5);
    assert_memory_equal(back, "abcde", 5);
    close(fds[0]);
    close(fds[1]);
}

static void a_held_call_waits_and_then_fails(void **state)
{
    pthread_t thread;
    int result = 0;
    sys_fault_set(&(SysFault){.calls = "fdatasync", .count = 1, .hold = true, .error = EIO});
    assert_int_equal(pthread_create(&thread, NULL, wait_in_fdatasync, &result), 0);
    sys_fault_await_held();
    assert_int_equal(fdatasync(-1), -1); /* the second call is not held; EBADF */
    assert_int_equal(errno, EBADF);
    sys_fault_release();
    pthread_join(thread, NULL);
    assert_int_equal(result, EIO);
}

static void count_and_call(void *arg, const char *call)
{
    ++*(unsigned *)arg;
    close(eventfd(0, EFD_CLOEXEC)); /* does not call the hook */
}

static void a_hook_runs_before_each_matching_call(void **state)
{
    unsigned count = 0;
    sys_fault_set(&(SysFault){.calls = "eventfd,close", .after = 100});
    sys_fault_hook(count_and_call, &count);
    close(eventfd(0, EFD_CLOEXEC));
    assert_int_equal(count, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(the_nth_call_of_a_kind_fails, tear_down),
        cmocka_unit_test_teardown(a_call_fails_in_its_own_way, tear_down),
        cmocka_unit_test_teardown(a_descriptor_whose_close_fails_is_closed, tear_down),
        cmocka_unit_test_teardown(reads_and_writes_are_short, tear_down),
        cmocka_unit_test_teardown(a_held_call_waits_and_then_fails, tear_down),
        cmocka_unit_test_teardown(a_hook_runs_before_each_matching_call, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

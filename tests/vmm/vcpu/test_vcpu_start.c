/* SPDX-License-Identifier: Apache-2.0 */
/* vCPU threads that the host cannot start. No KVM: a vCPU without a thread has none. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include "vmm/vcpu/vcpu.h"

/* More than the address space has: pthread_create() fails. */
#define TEST_STACK_TOO_LARGE ((size_t)1 << 47)

static void start_and_fail(void *opaque)
{
    enter_main();
    enter_coroutine();
    Kvm kvm = {.fd = -1, .vm_fd = -1};
    VcpuSetConfig config = {.kvm = &kvm, .count = 3};
    g_autoptr(GError) error = NULL;
    assert_null(vcpus_co_new(&config, &error));
    assert_non_null(error);
    assert_non_null(strstr(error->message, "cannot start the thread of vCPU 0"));
    *(bool *)opaque = true;
}

static void vcpus_without_threads_close_no_descriptor(void **state)
{
    bool done = false;
    pthread_attr_t attr, before;
    thread_adopt_role(THREAD_MAIN, "main");
    enter_main();
    AioContext *ctx = aio_context_new("main", NULL);
    int standard_input = fcntl(0, F_GETFD);
    if (standard_input < 0) {
        assert_int_equal(open("/dev/null", O_RDONLY), 0);
    }

    assert_int_equal(pthread_getattr_default_np(&before), 0);
    assert_int_equal(pthread_attr_init(&attr), 0);
    assert_int_equal(pthread_attr_setstacksize(&attr, TEST_STACK_TOO_LARGE), 0);
    assert_int_equal(pthread_setattr_default_np(&attr), 0);
    co_start(ctx, start_and_fail, &done);
    while (!done) {
        aio_context_step(ctx, true);
    }
    assert_int_equal(pthread_setattr_default_np(&before), 0);
    assert_true(fcntl(0, F_GETFD) >= 0);
    aio_context_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vcpus_without_threads_close_no_descriptor),
    };
    return cmocka_run_group_tests_name("vmm/vcpu/start", tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The monitor on a chardev whose reader may stop reading. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdatomic.h>
#include <string.h>
#include "tests/support/fake_chardev.h"
#include "vmm/hmp/hmp.h"

typedef struct Rig {
    Vm vm;
    VmConfig config;
    FakeChardev *chardev;
} Rig;

static int rig_setup(void **state)
{
    Rig *rig = g_new0(Rig, 1);
    thread_adopt_role(THREAD_MAIN, "main");
    enter_main();
    vm_config_init(&rig->config);
    rig->vm.config = &rig->config;
    rig->vm.ctx = aio_context_new("main", NULL);
    run_state_init(&rig->vm.run, rig->vm.ctx, NULL, NULL);
    rig->chardev = fake_chardev_new("mon");
    fake_chardev_make_room(rig->chardev, 1 << 20);
    hmp_monitor_new(&rig->vm, &rig->chardev->base);
    *state = rig;
    return 0;
}

static int rig_teardown(void **state)
{
    Rig *rig = *state;
    enter_main();
    hmp_monitor_free(rig->chardev->base.frontend_opaque);
    fake_chardev_free(rig->chardev);
    aio_context_free(rig->vm.ctx);
    vm_config_clear(&rig->config);
    g_free(rig);
    return 0;
}

static RUNS_IN_MAIN void rig_type(Rig *rig, const char *line)
{
    assert_int_equal(fake_chardev_input(rig->chardev, line, strlen(line)), strlen(line));
}

static void it_answers(void **state)
{
    Rig *rig = *state;
    enter_main();
    rig_type(rig, "info status\r");
    assert_non_null(strstr(rig->chardev->output->str, "VM status: paused (prelaunch)"));
    rig_type(rig, "no such\r");
    assert_non_null(strstr(rig->chardev->output->str, "unknown command: 'no'; help"));
}

static void a_peer_that_does_not_read_is_not_read(void **state)
{
    Rig *rig = *state;
    enter_main();
    fake_chardev_make_room(rig->chardev, 10);
    rig_type(rig, "help\r"); /* more than there is room for */
    assert_int_equal(fake_chardev_input(rig->chardev, "help\r", 5), 0);
    unsigned accepts = atomic_load(&rig->chardev->accepts);
    fake_chardev_make_room(rig->chardev, 1 << 20);
    assert_true(atomic_load(&rig->chardev->accepts) > accepts);
    assert_non_null(strstr(rig->chardev->output->str, "quit|q -- end the VM"));
    rig_type(rig, "help\r");
}

#define ON_RIG(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_RIG(it_answers),
        ON_RIG(a_peer_that_does_not_read_is_not_read),
    };
    return cmocka_run_group_tests_name("vmm/hmp/monitor", tests, NULL, NULL);
}

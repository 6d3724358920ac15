/* SPDX-License-Identifier: Apache-2.0 */
/* device_add of a device that another process serves: nothing else waits while that process lets it wait. */
#include "tests/vmm/vm/hotplug_rig.h"

#include "tests/support/fake_chardev.h"
#include "tests/support/vhost_user_peer.h"

#define FS "{'driver':'vhost-user-fs-pci','id':'fs','chardev':'c','tag':'t'}"

static FakeChardev *chardev;
static VhostUserPeer *peer;

static int set_up_peer(void **state)
{
    set_up_fast(state);
    enter_main();
    rig->vm.machine.env.find_chardev = fake_chardev_find;
    chardev = fake_chardev_new_socket("c", rig->bench->main_ctx);
    peer = vhost_user_peer_new(chardev);
    return 0;
}

static int tear_down_peer(void **state)
{
    enter_main();
    virtio_bench_run(rig->bench, delete_all, NULL);
    vhost_user_peer_free(peer);
    fake_chardev_free(chardev);
    return tear_down(state);
}

static void assert_operations_go_on(void)
{
    execute("stop", "{}");
    execute("cont", "{}");
    execute("device_add", DISK);
}

static void nothing_waits_for_a_process_that_is_not_there(void **state)
{
    Command c;
    enter_main();
    command_start(&c, "device_add", FS);
    assert_false(c.done);
    assert_operations_go_on();
    assert_false(c.done);
    assert_null(device("fs"));
    vhost_user_peer_connect(peer);
    rig_settle();
    assert_true(c.done);
    assert_null(c.error);
    assert_non_null(device("fs"));
    command_clear(&c);
    execute("device_del", "{'id':'fs'}");
}

static void nothing_waits_for_a_process_that_does_not_answer(void **state)
{
    Command c;
    enter_main();
    peer->mute = VHOST_USER_GET_FEATURES;
    vhost_user_peer_connect(peer);
    command_start(&c, "device_add", FS);
    assert_false(c.done);
    assert_operations_go_on();
    assert_false(c.done);
    fake_machine_advance(rig->bench->machine, 5 * SECOND_NS);
    rig_settle();
    assert_true(c.done);
    assert_non_null(c.error);
    assert_null(device("fs"));
    command_clear(&c);
}

/* What was free when the command began is taken when the process is there. */
static void an_id_that_was_taken_meanwhile_is_refused(void **state)
{
    Command c;
    enter_main();
    command_start(&c, "device_add", FS);
    execute("device_add", "{'driver':'virtio-blk-pci','id':'fs','drive':'disk'}");
    vhost_user_peer_connect(peer);
    rig_settle();
    assert_true(c.done);
    assert_non_null(strstr(c.error, "Duplicate device ID 'fs'"));
    command_clear(&c);
    execute("device_del", "{'id':'fs'}");
    rig_settle();
    assert_int_equal(peer->lost, 1); /* its connection was closed */
}

static void a_slot_that_was_taken_meanwhile_is_refused(void **state)
{
    Command c;
    enter_main();
    command_start(&c, "device_add",
                  "{'driver':'vhost-user-fs-pci','id':'fs','chardev':'c','tag':'t','addr':'5'}");
    execute("device_add", DISK);
    vhost_user_peer_connect(peer);
    rig_settle();
    assert_true(c.done);
    assert_non_null(strstr(c.error, "PCI: slot 5 function 0"));
    command_clear(&c);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up_peer, tear_down_peer)
    const struct CMUnitTest tests[] = {
        T(nothing_waits_for_a_process_that_is_not_there),
        T(nothing_waits_for_a_process_that_does_not_answer),
        T(an_id_that_was_taken_meanwhile_is_refused),
        T(a_slot_that_was_taken_meanwhile_is_refused),
    };
    return cmocka_run_group_tests_name("vmm/vm/vm_hotplug_wait", tests, NULL, NULL);
}

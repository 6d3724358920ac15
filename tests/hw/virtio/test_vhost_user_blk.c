/* SPDX-License-Identifier: Apache-2.0 */
/* vhost-user-blk-pci: the back end's configuration space, and back ends that are replaced or lost. */
#include "tests/hw/virtio/vhost_user_bench.h"

#define TYPE "vhost-user-blk-pci"
#define BLK_FLUSH (1ull << 9)
#define BLK_CONFIG_WCE (1ull << 11)
#define BLK_MQ (1ull << 12)
#define BLK_DISCARD (1ull << 13)
#define CONFIG_WCE 32
#define CONFIG_NUM_QUEUES 34

static int set_up(void **state)
{
    Fixture *f = fixture_new();
    f->peer->features |= BLK_FLUSH | BLK_CONFIG_WCE | BLK_MQ | BLK_DISCARD;
    f->peer->config[0] = 0x34;
    f->peer->config[1] = 0x12;
    f->peer->config[CONFIG_NUM_QUEUES] = 99;
    *state = f;
    return 0;
}

static int set_up_device(void **state)
{
    set_up(state);
    add_device(*state, TYPE, "chardev=c,num-queues=4,discard=off");
    return 0;
}

static int set_up_inflight(void **state)
{
    set_up(state);
    ((Fixture *)*state)->peer->protocol |= 1ull << VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD;
    add_device(*state, TYPE, "chardev=c,num-queues=1");
    return 0;
}

static int tear_down(void **state)
{
    fixture_free(*state);
    return 0;
}

static void the_driver_reads_the_back_ends_configuration(void **state)
{
    Fixture *f = *state;
    assert_int_equal(virtio_guest_read(&f->guest, f->guest.config, 2), 0x1234);
    assert_int_equal(virtio_guest_read(&f->guest, f->guest.config + CONFIG_NUM_QUEUES, 2), 4);
    uint64_t offered = virtio_guest_offered(&f->guest);
    assert_true(offered & BLK_FLUSH);
    assert_true(offered & BLK_MQ);
    assert_false(offered & BLK_DISCARD);               /* turned off */
    assert_false(offered & (1ull << 14));              /* the back end has none */
    assert_false(offered & (1ull << 26 | 1ull << 30)); /* not the driver's */
}

static void by_default_there_is_a_queue_for_each_processor(void **state)
{
    Fixture *f = *state;
    f->bench->machine->env.cpu_count = 3;
    add_device(f, TYPE, "chardev=c");
    assert_int_equal(virtio_guest_common_read(&f->guest, VIRTIO_COMMON_NUM_QUEUES, 2), 3);
}

static void a_disk_that_grows_is_reported(void **state)
{
    Fixture *f = *state;
    FakeMachine *m = f->bench->machine;
    bring_up(f);
    virtio_guest_common_write(&f->guest, VIRTIO_COMMON_CONFIG_VECTOR, 0, 2);
    f->peer->config[0] = 0x77;
    vhost_user_peer_send(f->peer, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, false);
    virtio_bench_settle(f->bench);
    fake_machine_settle(m);
    assert_int_equal(fake_machine_delivered(m, 0x100), 1);
    assert_int_equal(virtio_guest_read(&f->guest, f->guest.config, 1), 0x77);
    assert_int_equal(virtio_guest_read(&f->guest, f->guest.config + CONFIG_NUM_QUEUES, 2), 4);
}

static void the_driver_changes_the_write_cache(void **state)
{
    Fixture *f = *state;
    bring_up(f);
    for (unsigned i = 0; i < 100; i++) {
        virtio_guest_write(&f->guest, f->guest.config + CONFIG_WCE, i + 1, 1);
    }
    virtio_guest_write(&f->guest, f->guest.config, 0xff, 1); /* the size is read-only */
    virtio_bench_settle(f->bench);
    assert_int_equal(f->peer->config[CONFIG_WCE], 0);
    assert_int_equal(f->peer->config[0], 0x34);
    virtio_guest_write(&f->guest, f->guest.config + CONFIG_WCE, 1, 1);
    assert_int_equal(virtio_guest_read(&f->guest, f->guest.config + CONFIG_WCE, 1), 1);
    virtio_bench_settle(f->bench);
    assert_int_equal(f->peer->config[CONFIG_WCE], 1);
}

static void an_unplug_waits_for_the_write_cache(void **state)
{
    Fixture *f = *state;
    bring_up(f);
    virtio_guest_write(&f->guest, f->guest.config + CONFIG_WCE, 0, 1);
    f->peer->mute = VHOST_USER_SET_CONFIG;
    virtio_bench_step(f->bench);
    vhost_user_peer_kill(f->peer);
    virtio_bench_unplug(f->bench, f->dev);
    f->dev = NULL;
}

static void a_back_end_without_a_list_of_requests_is_not_replaced(void **state)
{
    Fixture *f = *state;
    bring_up(f);
    offer(f);
    vhost_user_peer_kill(f->peer);
    virtio_bench_settle(f->bench);
    assert_int_equal(virtio_guest_status(&f->guest), 15 | VIRTIO_STATUS_NEEDS_RESET);
    vhost_user_peer_connect(f->peer);
    virtio_bench_settle(f->bench);
    assert_false(served(f));
    virtio_guest_reset(&f->guest);
    bring_up(f);
    offer(f);
    assert_true(served(f));
}

static void a_back_end_with_a_list_of_requests_is_replaced(void **state)
{
    Fixture *f = *state;
    bring_up(f);
    offer(f);
    assert_true(served(f));
    offer(f);
    virtio_bench_settle(f->bench);
    vhost_user_peer_kill(f->peer);
    virtio_bench_settle(f->bench);
    assert_int_equal(virtio_guest_status(&f->guest), 15);
    vhost_user_peer_connect(f->peer);
    virtio_bench_settle(f->bench);
    assert_int_equal(f->peer->rings[0].base, 1); /* from the first that was not completed */
    assert_int_equal(vhost_user_peer_count(f->peer, VHOST_USER_GET_INFLIGHT_FD), 1);
    assert_int_equal(vhost_user_peer_count(f->peer, VHOST_USER_SET_INFLIGHT_FD), 2);
    vhost_user_peer_serve(f->peer, 0);
    uint32_t id, len;
    assert_true(virtio_guest_used(&f->queue, &id, &len));
}

static void stops_and_resets_while_the_back_end_is_away(void **state)
{
    Fixture *f = *state;
    bring_up(f);
    vhost_user_peer_kill(f->peer);
    virtio_bench_settle(f->bench);
    virtio_bench_stop(f->bench, f->dev);
    offer(f);
    virtio_bench_start(f->bench, f->dev); /* it does not wait for the back end */
    virtio_bench_settle(f->bench);
    vhost_user_peer_connect(f->peer);
    virtio_bench_settle(f->bench);
    assert_true(served(f));
    vhost_user_peer_kill(f->peer);
    virtio_bench_settle(f->bench);
    virtio_guest_reset(&f->guest);
    assert_int_equal(virtio_guest_status(&f->guest), 0);
    bring_up(f);
    offer(f);
    vhost_user_peer_connect(f->peer);
    virtio_bench_settle(f->bench);
    assert_true(served(f));
    assert_int_equal(vhost_user_peer_count(f->peer, VHOST_USER_GET_INFLIGHT_FD), 2); /* new rings */
}

static char *save_refusal(Fixture *f)
{
    g_autoptr(GError) error = NULL;
    bql_lock();
    bool ok = f->dev->type->can_save(f->dev, &error);
    bql_unlock();
    return ok ? NULL : g_strdup(error->message);
}

/* The list of what is in flight is the back end's, and a saved machine has none. */
static void requests_with_a_lost_back_end_cannot_be_saved(void **state)
{
    Fixture *f = *state;
    bring_up(f);
    offer(f);
    virtio_bench_stop(f->bench, f->dev);
    assert_null(save_refusal(f)); /* the back end has given all back */
    virtio_bench_start(f->bench, f->dev);
    virtio_bench_settle(f->bench);
    vhost_user_peer_kill(f->peer);
    virtio_bench_settle(f->bench);
    virtio_bench_stop(f->bench, f->dev);
    g_autofree char *refusal = save_refusal(f);
    assert_non_null(strstr(refusal, "its back end was lost with requests in flight"));
    virtio_bench_start(f->bench, f->dev);
    vhost_user_peer_connect(f->peer);
    virtio_bench_settle(f->bench);
    virtio_bench_stop(f->bench, f->dev);
    assert_null(save_refusal(f));
}

static void a_device_that_needs_a_reset_can_be_saved(void **state)
{
    Fixture *f = *state;
    bring_up(f);
    offer(f);
    vhost_user_peer_kill(f->peer);
    virtio_bench_settle(f->bench);
    virtio_bench_stop(f->bench, f->dev);
    assert_null(save_refusal(f));
}

/* The rings are older than the list of requests that the back end keeps. */
static void a_load_makes_the_list_of_requests_new(void **state)
{
    Fixture *f = *state;
    bring_up(f);
    virtio_bench_stop(f->bench, f->dev);
    g_autoptr(GByteArray) saved = virtio_bench_save(f->bench, f->dev);
    virtio_bench_start(f->bench, f->dev);
    virtio_bench_settle(f->bench);
    offer(f);
    vhost_user_peer_kill(f->peer);
    virtio_bench_settle(f->bench);
    virtio_bench_stop(f->bench, f->dev);
    assert_int_equal(vhost_user_peer_count(f->peer, VHOST_USER_GET_INFLIGHT_FD), 2);
    assert_null(virtio_bench_load(f->bench, f->dev, saved));
    vhost_user_peer_connect(f->peer);
    virtio_bench_start(f->bench, f->dev);
    virtio_bench_settle(f->bench);
    assert_int_equal(vhost_user_peer_count(f->peer, VHOST_USER_GET_INFLIGHT_FD), 3);
    assert_int_equal(f->peer->rings[0].base, 0);
}

static void every_state_field_is_saved(void **state)
{
    GError *error = NULL;
    assert_true(state_check_coverage(device_type_find(TYPE)->state, &error));
}

#define WITH(test, up) cmocka_unit_test_setup_teardown(test, up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(the_driver_reads_the_back_ends_configuration, set_up_device),
        WITH(by_default_there_is_a_queue_for_each_processor, set_up),
        WITH(a_disk_that_grows_is_reported, set_up_device),
        WITH(the_driver_changes_the_write_cache, set_up_device),
        WITH(an_unplug_waits_for_the_write_cache, set_up_device),
        WITH(a_back_end_without_a_list_of_requests_is_not_replaced, set_up_device),
        WITH(a_back_end_with_a_list_of_requests_is_replaced, set_up_inflight),
        WITH(stops_and_resets_while_the_back_end_is_away, set_up_inflight),
        WITH(requests_with_a_lost_back_end_cannot_be_saved, set_up_inflight),
        WITH(a_device_that_needs_a_reset_can_be_saved, set_up_device),
        WITH(a_load_makes_the_list_of_requests_new, set_up_inflight),
        cmocka_unit_test(every_state_field_is_saved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

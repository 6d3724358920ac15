/* SPDX-License-Identifier: Apache-2.0 */
/* vhost-user-fs-pci: its configuration, its life, and the end of its back end. */
#include "tests/hw/virtio/vhost_user_bench.h"

#define TYPE "vhost-user-fs-pci"

static int set_up(void **state)
{
    Fixture *f = fixture_new();
    f->index = 1; /* of requests */
    *state = f;
    return 0;
}

static int set_up_device(void **state)
{
    set_up(state);
    add_device(*state, TYPE, "chardev=c,tag=rootfs,num-request-queues=3,queue-size=64");
    return 0;
}

static int tear_down(void **state)
{
    fixture_free(*state);
    return 0;
}

static void lie_in_stop(VhostUserPeer *p, VhostUserMessage *reply)
{
    if (reply->header.request == VHOST_USER_GET_VRING_BASE) {
        reply->payload.state.index ^= 1;
    }
}

static void the_driver_reads_tag_and_queues(void **state)
{
    Fixture *f = *state;
    char tag[37] = "";
    for (unsigned i = 0; i < 36; i++) {
        tag[i] = (char)virtio_guest_read(&f->guest, f->guest.config + i, 1);
    }
    assert_string_equal(tag, "rootfs");
    assert_int_equal(virtio_guest_read(&f->guest, f->guest.config + 36, 4), 3);
    assert_int_equal(virtio_guest_common_read(&f->guest, VIRTIO_COMMON_NUM_QUEUES, 2), 4);
    virtio_guest_common_write(&f->guest, VIRTIO_COMMON_QUEUE_SELECT, 3, 2);
    assert_int_equal(virtio_guest_common_read(&f->guest, VIRTIO_COMMON_QUEUE_SIZE, 2), 64);
    /* the peer offers neither */
    assert_false(virtio_guest_offered(&f->guest) & (VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC));
}

static void requests_are_served_through_stops_and_resets(void **state)
{
    Fixture *f = *state;
    for (unsigned i = 0; i < 3; i++) {
        bring_up(f);
        assert_int_equal(owner(f), VIRTIO_OWNER_BACK_END);
        offer(f);
        assert_true(served(f));
        virtio_bench_stop(f->bench, f->dev);
        assert_int_equal(owner(f), VIRTIO_OWNER_MAIN);
        assert_false(f->peer->rings[1].started);
        offer(f); /* while it is stopped */
        assert_false(served(f));
        virtio_bench_start(f->bench, f->dev);
        virtio_bench_settle(f->bench);
        assert_true(served(f));
        virtio_guest_reset(&f->guest);
        assert_int_equal(owner(f), VIRTIO_OWNER_MAIN);
    }
}

static void a_back_end_that_dies_needs_a_reset(void **state)
{
    Fixture *f = *state;
    bring_up(f);
    offer(f);
    vhost_user_peer_kill(f->peer);
    virtio_bench_settle(f->bench);
    assert_int_equal(virtio_guest_status(&f->guest), 15 | VIRTIO_STATUS_NEEDS_RESET);
    vhost_user_peer_connect(f->peer); /* a new one knows nothing of the session */
    virtio_bench_settle(f->bench);
    assert_int_equal(vhost_user_peer_count(f->peer, VHOST_USER_SET_VRING_KICK), 1);
    virtio_bench_stop(f->bench, f->dev); /* no trouble for the VM */
    virtio_bench_start(f->bench, f->dev);
    virtio_guest_reset(&f->guest);
    bring_up(f);
    offer(f);
    assert_true(served(f));
}

static void a_back_end_that_hangs_does_not_hold_a_reset(void **state)
{
    Fixture *f = *state;
    bring_up(f);
    offer(f);
    f->peer->mute = VHOST_USER_SET_VRING_ENABLE;
    IoAccess a = {.size = 1, .is_write = true, .value = 0};
    virtio_guest_access(&f->guest, f->guest.common + VIRTIO_COMMON_STATUS, &a);
    virtio_bench_settle(f->bench);
    assert_int_equal(owner(f), VIRTIO_OWNER_STOPPING);
    fake_machine_advance(f->bench->machine, VHOST_TIMEOUT_NS);
    virtio_bench_settle(f->bench);
    assert_int_equal(owner(f), VIRTIO_OWNER_MAIN);
    assert_int_equal(virtio_guest_status(&f->guest), 0);
    assert_int_equal(f->chardev->disconnects, 1);
}

static void a_session_that_is_lost_in_a_stop_is_not_continued(void **state)
{
    Fixture *f = *state;
    for (unsigned i = 0; i < 4; i++) {
        bring_up(f);
        offer(f);
        if (i % 2 == 0) { /* lost in the stop, else while it is stopped */
            f->peer->lie = lie_in_stop;
        }
        virtio_bench_stop(f->bench, f->dev);
        vhost_user_peer_kill(f->peer);
        virtio_bench_settle(f->bench);
        f->peer->lie = NULL;
        if (i < 2) { /* a new back end is there when the VM starts */
            vhost_user_peer_connect(f->peer);
            virtio_bench_settle(f->bench);
        }
        assert_null(virtio_bench_try_start(f->bench, f->dev)); /* the VM goes on */
        assert_int_equal(virtio_guest_status(&f->guest), 15 | VIRTIO_STATUS_NEEDS_RESET);
        assert_int_equal(owner(f), VIRTIO_OWNER_MAIN);
        if (i >= 2) {
            vhost_user_peer_connect(f->peer);
            virtio_bench_settle(f->bench);
        }
        virtio_guest_reset(&f->guest);
        bring_up(f);
        offer(f);
        assert_true(served(f));
    }
}

static void options_that_are_wrong(void **state)
{
    static const struct {
        const char *properties, *text;
    } cases[] = {
        {"chardev=c,tag=", "tag=: the name of the file system has 1 to 36 bytes"},
        {"chardev=c,tag=0123456789012345678901234567890123456",
         "tag=0123456789012345678901234567890123456: the name of the file system "
         "has 1 to 36 bytes"},
        {"chardev=c,tag=t,queue-size=48", "queue-size=48 is not a power of two from 4 to 1024"},
        {"chardev=none,tag=t", "chardev 'none' is missing or in use"},
        {"chardev=c,tag=t,num-request-queues=9",
         "the back end at chardev 'c': the back end serves 8 queues, the device has 10"},
    };
    Fixture *f = *state;
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        if (f->peer->fd < 0) {
            vhost_user_peer_connect(f->peer);
        }
        g_autofree char *text = refused_device(f, TYPE, cases[i].properties);
        assert_non_null(strstr(text, cases[i].text));
        virtio_bench_settle(f->bench);
    }
}

static void a_session_is_not_restored(void **state)
{
    Fixture *f = *state;
    bring_up(f);
    virtio_bench_stop(f->bench, f->dev);
    g_autoptr(GByteArray) saved = virtio_bench_save(f->bench, f->dev);
    g_autoptr(GError) error = NULL;
    bql_lock();
    assert_false(f->dev->type->can_save(f->dev, &error));
    bql_unlock();
    assert_non_null(strstr(error->message, "its back end's session cannot be saved"));
    g_autofree char *text = virtio_bench_load(f->bench, f->dev, saved);
    assert_non_null(strstr(text, "its back end's session cannot be saved"));
}

static void every_state_field_is_saved(void **state)
{
    GError *error = NULL;
    const DeviceType *type = device_type_find(TYPE);
    assert_true(state_check_coverage(type->state, &error));
    assert_true(type->shares_ram);
}

#define WITH(test, up) cmocka_unit_test_setup_teardown(test, up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(the_driver_reads_tag_and_queues, set_up_device),
        WITH(requests_are_served_through_stops_and_resets, set_up_device),
        WITH(a_back_end_that_dies_needs_a_reset, set_up_device),
        WITH(a_back_end_that_hangs_does_not_hold_a_reset, set_up_device),
        WITH(a_session_that_is_lost_in_a_stop_is_not_continued, set_up_device),
        WITH(options_that_are_wrong, set_up),
        WITH(a_session_is_not_restored, set_up_device),
        cmocka_unit_test(every_state_field_is_saved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

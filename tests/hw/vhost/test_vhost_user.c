/* SPDX-License-Identifier: Apache-2.0 */
/* A vhost-user back end that greets, serves, refuses, lies, hangs, dies and comes back. */
#include "tests/hw/vhost/vhost_user_rig.h"

/* ---- the greeting ---- */

static void the_back_end_describes_itself(void **state)
{
    Rig *r = *state;
    memcpy(r->peer->config, "hello", 5);
    vhost_user_peer_connect(r->peer);
    assert_true(rig_do(r, rig_open_run));
    assert_true(r->user.dev.usable);
    assert_int_equal(r->user.dev.num_vrings, PEER_RINGS);
    assert_true(r->user.dev.features == (PEER_FEATURES & ~VHOST_USER_F_PROTOCOL_FEATURES));
    assert_memory_equal(r->user.config, "hello", 5);
    assert_true(r->peer->channel >= 0);
    assert_true(r->peer->acked_protocol == PEER_PROTOCOL);
    assert_int_equal(vhost_user_peer_count(r->peer, VHOST_USER_SET_OWNER), 1);
}

static void a_back_end_may_come_late(void **state)
{
    Rig *r = *state;
    rig_begin(r, rig_open_run);
    fake_machine_advance(r->machine, SECONDS(4));
    assert_false(r->done);
    vhost_user_peer_connect(r->peer);
    fake_machine_run(r->machine);
    assert_true(r->done && r->ok);
}

static void without_a_back_end_the_device_is_refused(void **state)
{
    Rig *r = *state;
    rig_begin(r, rig_open_run);
    fake_machine_advance(r->machine, SECONDS(5));
    assert_true(r->done && !r->ok);
    assert_string_equal(r->error,
                        "no back end has connected to chardev 'c' in 5 seconds: start it first");
}

static void a_back_end_that_does_not_answer_is_refused(void **state)
{
    Rig *r = *state;
    r->peer->mute = VHOST_USER_GET_PROTOCOL_FEATURES;
    vhost_user_peer_connect(r->peer);
    rig_begin(r, rig_open_run);
    assert_false(r->done);
    fake_machine_advance(r->machine, SECONDS(5));
    assert_true(r->done && !r->ok);
    assert_int_equal(r->peer->lost, 1);
}

static void a_back_end_that_lacks_what_the_device_needs(void **state)
{
    static const char *const texts[] = {
        "the back end at chardev 'c': the back end lacks features 0x100000000 that the device "
        "needs",
        "the back end at chardev 'c': the back end serves 1 queues, the device has 2",
        "the back end at chardev 'c': the back end does not describe its device (protocol feature "
        "CONFIG)",
        "the back end at chardev 'c': GET_CONFIG: the back end has no configuration space of 60 "
        "bytes",
    };
    Rig *r = *state;
    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++) {
        r->peer->features = i == 0 ? PEER_FEATURES & ~(1ull << 32) : PEER_FEATURES;
        r->peer->units = i == 1 ? 1 : PEER_RINGS;
        r->peer->protocol =
            i == 2 ? PEER_PROTOCOL & ~(1ull << VHOST_USER_PROTOCOL_F_CONFIG) : PEER_PROTOCOL;
        r->peer->refuse = i == 3 ? VHOST_USER_GET_CONFIG : 0;
        vhost_user_peer_connect(r->peer);
        assert_false(rig_do(r, rig_open_run));
        assert_string_equal(r->error, texts[i]);
        fake_machine_run(r->machine);
        assert_int_equal(r->peer->fd, -1); /* it was disconnected */
    }
}

static void memory_that_is_not_shared_is_refused(void **state)
{
    Rig *r = *state;
    int fd = r->ram.blocks[0].fd;
    r->ram.blocks[0].fd = -1;
    assert_false(rig_do(r, rig_open_run));
    assert_non_null(strstr(r->error, "memory-backend-memfd"));
    r->ram.blocks[0].fd = fd;
}

/* ---- start and stop ---- */

static void rings_start_and_stop(void **state)
{
    Rig *r = *state;
    r->vrings[1].base = 77;
    assert_true(rig_do(r, rig_start_run));
    PeerRing *ring = &r->peer->rings[1];
    assert_true(ring->started && ring->enabled);
    assert_int_equal(ring->num, RIG_RING_SIZE);
    assert_int_equal(ring->base, 77);
    assert_true(ring->kick >= 0 && ring->call >= 0);
    assert_int_equal(ring->address.used, (uintptr_t)r->ram.blocks[0].host + 0x16000);
    assert_true(r->peer->acked_features == (1ull << 32 | VHOST_USER_F_PROTOCOL_FEATURES));
    r->ram.blocks[0].host[0x16000] = 0x5a; /* the peer sees the same memory */
    assert_int_equal(r->peer->maps[0][0x16000], 0x5a);
    eventfd_t kicks;
    assert_int_equal(eventfd_read(ring->kick, &kicks), 0); /* looked at once */
    ring->base = 99;
    assert_true(rig_do(r, rig_stop_run));
    assert_false(ring->started || ring->enabled);
    assert_int_equal(r->vrings[1].base, 99);
    assert_int_equal(r->user.dev.phase, VHOST_STOPPED);
}

static void a_refusal_fails_the_start_only(void **state)
{
    static const uint32_t refused[] = {VHOST_USER_SET_FEATURES, VHOST_USER_SET_MEM_TABLE,
                                       VHOST_USER_SET_VRING_ADDR};
    Rig *r = *state;
    for (unsigned i = 0; i < G_N_ELEMENTS(refused); i++) {
        r->peer->refuse = refused[i];
        assert_false(rig_do(r, rig_start_run));
        g_autofree char *text =
            g_strdup_printf("the back end refuses %s (1)", vhost_user_request_name(refused[i]));
        assert_string_equal(r->error, text);
        assert_true(r->user.dev.usable);
        r->peer->refuse = 0;
        assert_true(rig_do(r, rig_start_run));
        assert_true(rig_do(r, rig_stop_run));
    }
    assert_int_equal(r->lost, 0);
}

/* It serves a ring as soon as it has its kick descriptor. */
static void refuse_second_ring(VhostUserPeer *p, VhostUserMessage *reply)
{
    if (reply->header.request == VHOST_USER_SET_VRING_ADDR && p->rings[0].started) {
        p->rings[0].base = 15;
        p->rings[1].base = 99; /* of an earlier session */
        reply->payload.u64 = 1;
    }
}

static void a_refusal_after_a_ring_was_served_keeps_its_position(void **state)
{
    Rig *r = *state;
    r->vrings[0].base = 10;
    r->vrings[1].base = 20;
    r->peer->lie = refuse_second_ring;
    assert_false(rig_do(r, rig_start_run));
    assert_int_equal(r->vrings[0].base, 15);
    assert_int_equal(r->vrings[1].base, 20);
    assert_int_equal(r->lost, 0);
}

static void a_back_end_without_protocol_features_serves(void **state)
{
    Rig *r = *state;
    r->needs.config_size = 0;
    r->peer->features = 1ull << 32;
    vhost_user_peer_connect(r->peer);
    assert_true(rig_do(r, rig_open_run));
    assert_true(rig_do(r, rig_start_run));
    assert_true(r->peer->rings[0].started);
    assert_int_equal(vhost_user_peer_count(r->peer, VHOST_USER_SET_VRING_ENABLE), 0);
    assert_true(rig_do(r, rig_stop_run));
    assert_false(r->peer->rings[0].started);
}

static void log_run(void *opaque)
{
    Rig *r = opaque;
    GError *error = NULL;
    enter_coroutine();
    enter_main();
    r->user.dev.deadline_ns = aio_now_ns(r->ctx) + VHOST_TIMEOUT_NS;
    bool ok = r->user.dev.ops->co_set_log(&r->user.dev, r->user.dev.log, &r->start, &error);
    rig_finish(r, ok, error);
}

static void writes_are_logged(void **state)
{
    Rig *r = *state;
    int fd = memfd_create("log", MFD_CLOEXEC);
    VhostLog log = {.bytes = 4096, .fd = fd};
    uint64_t with_log = 1ull << 26 | 1ull << 32 | VHOST_USER_F_PROTOCOL_FEATURES;
    assert_int_equal(ftruncate(fd, 4096), 0);
    r->user.dev.log = &log;
    assert_true(rig_do(r, rig_start_run)); /* from the start on */
    assert_true(r->peer->acked_features == with_log);
    assert_true(r->peer->log_fd >= 0);
    assert_int_equal(r->peer->rings[1].address.flags, 1);
    assert_int_equal(r->peer->rings[1].address.log, r->vrings[1].used_gpa);
    r->user.dev.log = NULL;
    assert_true(rig_do(r, log_run)); /* and off while it runs */
    assert_true(r->peer->acked_features == (with_log & ~(1ull << 26)));
    assert_int_equal(r->peer->rings[1].address.flags, 0);
    r->user.dev.log = &log;
    assert_true(rig_do(r, log_run));
    assert_int_equal(r->peer->rings[0].address.flags, 1);
    assert_true(rig_do(r, rig_stop_run));
    r->user.dev.log = NULL;
    close(fd);
}

/* ---- hang and death ---- */

static const uint32_t start_types[] = {VHOST_USER_SET_FEATURES, VHOST_USER_SET_MEM_TABLE,
                                       VHOST_USER_SET_VRING_ADDR, VHOST_USER_GET_FEATURES};

static void a_hang_in_a_start_ends_in_time(void **state)
{
    Rig *r = *state;
    for (unsigned i = 0; i < G_N_ELEMENTS(start_types); i++) {
        r->peer->mute = 0;
        if (r->peer->fd < 0) {
            vhost_user_peer_connect(r->peer);
            fake_machine_run(r->machine);
        }
        r->peer->mute = start_types[i];
        rig_begin(r, rig_start_run);
        assert_false(r->done);
        fake_machine_advance(r->machine, VHOST_TIMEOUT_NS);
        assert_true(r->done && !r->ok);
        assert_int_equal(r->lost, i + 1);
        assert_false(r->user.dev.usable);
        assert_int_equal(r->user.dev.phase, VHOST_STOPPED);
    }
}

static void a_hang_in_a_stop_ends_in_time(void **state)
{
    Rig *r = *state;
    assert_true(rig_do(r, rig_start_run));
    rig_set_used_index(r, 0, 12);
    r->peer->mute = VHOST_USER_GET_VRING_BASE;
    rig_begin(r, rig_stop_run);
    assert_false(r->done);
    fake_machine_advance(r->machine, VHOST_TIMEOUT_NS);
    assert_true(r->done && !r->ok);
    assert_int_equal(r->vrings[0].base, 12);
    assert_string_equal(r->lost_why, "it does not answer GET_VRING_BASE in time");
    assert_false(rig_do(r, rig_start_run));
    assert_string_equal(r->error,
                        "vhost-user x is not available: it does not answer GET_VRING_BASE in time");
}

static void death_at_any_moment_of_a_stop(void **state)
{
    Rig *r = *state;
    assert_true(rig_do(r, rig_start_run));
    r->peer->mute = VHOST_USER_GET_VRING_BASE;
    rig_begin(r, rig_stop_run);
    vhost_user_peer_kill(r->peer);
    fake_machine_run(r->machine);
    assert_true(r->done && !r->ok);
    assert_int_equal(r->lost, 1);
}

static void a_back_end_comes_back_and_continues(void **state)
{
    Rig *r = *state;
    rig_do(r, rig_close_run);
    r->needs.in_order = true;
    vhost_user_peer_kill(r->peer);
    vhost_user_peer_connect(r->peer);
    assert_true(rig_do(r, rig_open_run));
    assert_true(rig_do(r, rig_start_run));
    assert_true(r->user.dev.reconnects);
    vhost_user_peer_kill(r->peer);
    fake_machine_run(r->machine);
    assert_int_equal(r->user.dev.phase, VHOST_LOST);
    assert_string_equal(r->lost_why, "the peer has closed the connection");
    rig_set_used_index(r, 0, 5);
    assert_false(rig_do(r, rig_stop_run));
    assert_int_equal(r->vrings[0].base, 5);
    unsigned before = r->came_back;
    vhost_user_peer_connect(r->peer);
    fake_machine_run(r->machine);
    assert_int_equal(r->came_back, before + 1);
    eventfd_t calls;
    assert_int_not_equal(eventfd_read(r->vrings[0].call_fd, &calls), 0);
    assert_true(rig_do(r, rig_start_run));
    assert_int_equal(r->peer->rings[0].base, 5);
    assert_int_equal(eventfd_read(r->vrings[0].call_fd, &calls),
                     0); /* an interrupt may be missing */
    assert_true(rig_do(r, rig_stop_run));
}

static void another_back_end_must_offer_as_much(void **state)
{
    Rig *r = *state;
    vhost_user_peer_kill(r->peer);
    fake_machine_run(r->machine);
    r->peer->features &= ~(1ull << 26); /* logging was offered */
    vhost_user_peer_connect(r->peer);
    fake_machine_run(r->machine);
    assert_false(r->user.dev.usable);
    assert_int_equal(r->peer->fd, -1);
    r->peer->features = PEER_FEATURES;
    vhost_user_peer_connect(r->peer);
    fake_machine_run(r->machine);
    assert_true(r->user.dev.usable);
}

static void the_list_of_requests_in_flight_outlives_the_back_end(void **state)
{
    Rig *r = *state;
    rig_do(r, rig_close_run);
    vhost_user_peer_kill(r->peer);
    r->peer->protocol |= 1ull << VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD;
    vhost_user_peer_connect(r->peer);
    assert_true(rig_do(r, rig_open_run));
    assert_true(r->user.dev.reconnects);
    assert_true(rig_do(r, rig_start_run));
    assert_int_equal(r->peer->inflight.mmap_size, 4096);
    assert_int_equal(r->peer->inflight.queue_size, RIG_RING_SIZE);
    assert_int_equal(pwrite(r->peer->inflight_fd, "list", 4, 0), 4);
    vhost_user_peer_kill(r->peer);
    fake_machine_run(r->machine);
    rig_do(r, rig_stop_run);
    vhost_user_peer_connect(r->peer);
    fake_machine_run(r->machine);
    assert_true(rig_do(r, rig_start_run));
    char list[5] = "";
    assert_int_equal(pread(r->peer->inflight_fd, list, 4, 0), 4);
    assert_string_equal(list, "list");
    assert_int_equal(vhost_user_peer_count(r->peer, VHOST_USER_GET_INFLIGHT_FD), 1);
    assert_true(rig_do(r, rig_stop_run)); /* nothing is in flight: the next start has a new one */
    assert_true(rig_do(r, rig_start_run));
    assert_int_equal(vhost_user_peer_count(r->peer, VHOST_USER_GET_INFLIGHT_FD), 2);
    assert_true(rig_do(r, rig_stop_run));
}

/* ---- lies ---- */

static void lie_type(VhostUserPeer *p, VhostUserMessage *reply)
{
    reply->header.request++;
}

static void lie_size(VhostUserPeer *p, VhostUserMessage *reply)
{
    reply->header.size = sizeof(reply->payload);
}

static void lie_ring(VhostUserPeer *p, VhostUserMessage *reply)
{
    if (reply->header.request == VHOST_USER_GET_VRING_BASE) {
        reply->payload.state.index ^= 1;
    } else {
        reply->header.size--;
    }
}

static void lie_fds(VhostUserPeer *p, VhostUserMessage *reply)
{
    reply->fds[0] = reply->fds[1] = p->fd;
    reply->fd_count = 2;
}

static void a_lie_loses_the_back_end_at_once(void **state)
{
    void (*const lies[])(VhostUserPeer *, VhostUserMessage *) = {lie_type, lie_size, lie_ring,
                                                                 lie_fds};
    Rig *r = *state;
    for (unsigned i = 0; i < 2 * G_N_ELEMENTS(lies); i++) {
        r->peer->lie = NULL;
        if (r->peer->fd < 0) {
            vhost_user_peer_connect(r->peer);
            fake_machine_run(r->machine);
        }
        bool in_stop = i % 2 == 1;
        vhost_user_forget_requests(&r->user); /* as a reset by the driver */
        if (in_stop) {
            assert_true(rig_do(r, rig_start_run));
        }
        r->peer->lie = lies[i / 2];
        assert_false(rig_do(r, in_stop ? rig_stop_run : rig_start_run));
        fake_machine_run(r->machine);
        assert_int_equal(r->lost, i + 1);
        assert_int_equal(r->user.dev.phase, VHOST_STOPPED);
    }
}

static void a_session_that_is_lost_is_not_continued(void **state)
{
    Rig *r = *state;
    assert_true(rig_do(r, rig_start_run));
    vhost_user_peer_kill(r->peer);
    fake_machine_run(r->machine);
    assert_false(rig_do(r, rig_stop_run));
    vhost_user_peer_connect(r->peer);
    fake_machine_run(r->machine);
    assert_true(r->user.dev.usable);
    assert_true(vhost_user_needs_reset(&r->user));
    assert_false(rig_do(r, rig_start_run));
    vhost_user_forget_requests(&r->user);
    assert_false(vhost_user_needs_reset(&r->user));
    assert_true(rig_do(r, rig_start_run));
    assert_true(rig_do(r, rig_stop_run)); /* nothing is in flight: now it may be replaced */
    vhost_user_peer_kill(r->peer);
    fake_machine_run(r->machine);
    vhost_user_peer_connect(r->peer);
    fake_machine_run(r->machine);
    assert_true(rig_do(r, rig_start_run));
    assert_true(rig_do(r, rig_stop_run));
}

static void a_message_that_nobody_asked_for(void **state)
{
    Rig *r = *state;
    VhostUserMessage m = vhost_user_message(VHOST_USER_GET_FEATURES, 8);
    size_t sent = 0;
    assert_true(rig_do(r, rig_start_run));
    m.header.flags |= VHOST_USER_REPLY;
    m.fds[0] = r->peer->fd;
    m.fd_count = 1;
    vhost_user_write(&m, r->peer->fd, &sent, NULL);
    fake_machine_run(r->machine);
    assert_int_equal(r->user.dev.phase, VHOST_LOST);
    assert_string_equal(r->lost_why, "the peer sends type 1 without being asked");
    rig_do(r, rig_stop_run);
}

/* ---- configuration space ---- */

static void the_configuration_changes(void **state)
{
    Rig *r = *state;
    memcpy(r->peer->config, "other", 5);
    unsigned before = vhost_user_peer_count(r->peer, VHOST_USER_GET_CONFIG);
    for (unsigned i = 0; i < 100; i++) { /* costs few reads */
        vhost_user_peer_send(r->peer, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, false);
    }
    fake_machine_run(r->machine);
    assert_true(r->config_changes > 0);
    assert_memory_equal(r->user.config, "other", 5);
    assert_true(vhost_user_peer_count(r->peer, VHOST_USER_GET_CONFIG) - before < 60);
    assert_true(rig_do(r, rig_set_config_run));
    assert_int_equal(r->peer->config[32], 'w');
    r->peer->refuse = VHOST_USER_SET_CONFIG;
    assert_false(rig_do(r, rig_set_config_run));
    assert_true(r->user.dev.usable);
}

static void the_channel_answers(void **state)
{
    Rig *r = *state;
    VhostUserReader reader = {.got = 0};
    const uint32_t types[] = {VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, 77};
    for (unsigned i = 0; i < 2; i++) {
        vhost_user_peer_send(r->peer, types[i], true);
        fake_machine_run(r->machine);
        assert_int_equal(vhost_user_read(&reader, r->peer->channel, NULL), VHOST_USER_WHOLE);
        assert_int_equal(reader.message.header.request, types[i]);
        assert_int_equal(reader.message.payload.u64, i); /* not 0: it knows no such message */
        vhost_user_reader_clear(&reader);
    }
    assert_int_equal(write(r->peer->channel, "not a message", 13), 13);
    fake_machine_run(r->machine);
    assert_true(r->user.dev.usable); /* only the channel is closed */
    assert_int_equal(vhost_user_read(&reader, r->peer->channel, NULL), VHOST_USER_LOST);
}

#define OPEN(test) cmocka_unit_test_setup_teardown(test, rig_set_up_open, rig_tear_down)
#define PLAIN(test) cmocka_unit_test_setup_teardown(test, rig_set_up, rig_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAIN(the_back_end_describes_itself),
        PLAIN(a_back_end_may_come_late),
        PLAIN(without_a_back_end_the_device_is_refused),
        PLAIN(a_back_end_that_does_not_answer_is_refused),
        PLAIN(a_back_end_that_lacks_what_the_device_needs),
        PLAIN(memory_that_is_not_shared_is_refused),
        OPEN(rings_start_and_stop),
        OPEN(a_refusal_fails_the_start_only),
        OPEN(a_refusal_after_a_ring_was_served_keeps_its_position),
        PLAIN(a_back_end_without_protocol_features_serves),
        OPEN(writes_are_logged),
        OPEN(a_hang_in_a_start_ends_in_time),
        OPEN(a_hang_in_a_stop_ends_in_time),
        OPEN(death_at_any_moment_of_a_stop),
        OPEN(a_back_end_comes_back_and_continues),
        OPEN(another_back_end_must_offer_as_much),
        OPEN(the_list_of_requests_in_flight_outlives_the_back_end),
        OPEN(a_lie_loses_the_back_end_at_once),
        OPEN(a_session_that_is_lost_is_not_continued),
        OPEN(a_message_that_nobody_asked_for),
        OPEN(the_configuration_changes),
        OPEN(the_channel_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

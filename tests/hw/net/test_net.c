/* SPDX-License-Identifier: Apache-2.0 */
/* The set of network back ends, and a client's end of a connection. The client's home is an iothread. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include "tests/support/death.h"
#include "tests/support/fake_net.h"
#include "tests/support/net_steps.h"
#include "tests/support/virtio_guest.h"

typedef struct Fixture {
    VirtioBench *bench;
    NetClient client;
    bool attached;
    /* what the client has seen, in its home */
    unsigned readable, writable;
    unsigned links; /* main */
    /* arguments of a step at home */
    unsigned queue;
    NetConfig config;
    ssize_t result;
    bool on;
    uint8_t room[NET_FRAME_MAX];
} Fixture;

static Fixture *from_client(NetClient *c)
{
    return (Fixture *)(void *)((uint8_t *)c - offsetof(Fixture, client));
}

static void client_readable(NetClient *c, unsigned queue)
{
    Fixture *f = from_client(c);
    struct iovec iov = {f->room, sizeof(f->room)};
    enter_loop(c->home);
    f->readable++;
    f->result = net_client_receive(c, queue, &iov, 1);
}

static void client_writable(NetClient *c, unsigned queue)
{
    from_client(c)->writable++;
}

static void client_link_changed(NetClient *c)
{
    from_client(c)->links++;
}

static const NetClientOps client_ops = {
    .model = "test-nic",
    .readable = client_readable,
    .writable = client_writable,
    .link_changed = client_link_changed,
};

/* ---- steps ---- */

static void attach(Fixture *f, const char *netdev)
{
    GError *error = NULL;
    enter_main();
    assert_true(net_client_attach(&f->client, NULL, netdev, &error));
    f->attached = true;
}

static void home_start(void *opaque)
{
    Fixture *f = opaque;
    enter_loop(f->client.home);
    net_client_start_queue(&f->client, f->queue);
}

static void home_stop(void *opaque)
{
    Fixture *f = opaque;
    enter_loop(f->client.home);
    net_client_stop_queue(&f->client, f->queue);
}

static void home_watch(void *opaque)
{
    Fixture *f = opaque;
    enter_loop(f->client.home);
    net_client_watch(&f->client, f->queue, f->on);
}

static void home_configure(void *opaque)
{
    Fixture *f = opaque;
    enter_loop(f->client.home);
    net_client_configure(&f->client, &f->config);
}

static void home_send(void *opaque)
{
    Fixture *f = opaque;
    uint8_t frame[sizeof(NetHeader) + 60] = {0};
    struct iovec iov = {frame, sizeof(frame)};
    enter_loop(f->client.home);
    f->result = net_client_send(&f->client, f->queue, &iov, 1);
}

static void at_home(Fixture *f, void (*fn)(void *opaque))
{
    virtio_bench_at_home(f->bench, fn, f);
    virtio_bench_settle(f->bench);
}

static void watch(Fixture *f, bool on)
{
    f->on = on;
    at_home(f, home_watch);
}

static int set_up(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    f->bench = virtio_bench_new();
    enter_main();
    net_setup(fake_net_types, f->bench->main_ctx);
    f->client.ops = &client_ops;
    f->client.home = f->bench->home;
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *f = *state;
    if (f->attached) {
        virtio_bench_run(f->bench, net_step_leave, &f->client);
    }
    virtio_bench_run(f->bench, net_step_shutdown, NULL);
    virtio_bench_free(f->bench);
    g_free(f);
    return 0;
}

static void push(Fixture *f, const char *id, unsigned queue)
{
    uint8_t frame[60] = {1, 2, 3};
    assert_true(fake_net_push(fake_net_find(id), queue, NULL, frame, sizeof(frame)));
    virtio_bench_settle(f->bench);
}

/* ---- the set ---- */

static void options_are_checked(void **state)
{
    Fixture *f = *state;
    net_steps_refused(f->bench, net_step_add, "id=a", "type is missing");
    net_steps_refused(f->bench, net_step_add, "fake", "id= is missing");
    net_steps_refused(f->bench, net_step_add, "fakr,id=a", "nearest is fake");
    net_steps_refused(f->bench, net_step_add, "af-xdp,id=a", "use tap with vhost=on");
    net_steps_refused(f->bench, net_step_add, "fake,id=a,queues=99", "queues");
    net_steps_refused(f->bench, net_step_add, "fake,id=a,nothing=1", "nothing");
    net_steps_refused(f->bench, net_step_remove, "a", "Device 'a' not found");
}

static void an_id_is_used_once(void **state)
{
    Fixture *f = *state;
    net_steps_run(f->bench, net_step_add, "fake,id=a");
    net_steps_refused(f->bench, net_step_add, "fake,id=a", "Duplicate ID 'a'");
    attach(f, NULL);
    net_steps_refused(f->bench, net_step_add, "fake,id=test-nic.0", "Duplicate ID");
    net_steps_run(f->bench, net_step_remove, "a");
    net_steps_run(f->bench, net_step_add, "fake,id=a");
}

static void a_back_end_has_one_client(void **state)
{
    Fixture *f = *state;
    NetClient other = {.ops = &client_ops, .home = f->bench->home};
    GError *error = NULL;
    net_steps_run(f->bench, net_step_add, "fake,id=a");
    attach(f, "a");
    enter_main();
    assert_false(net_client_attach(&other, NULL, "a", &error));
    assert_string_equal(error->message, "netdev=a: it is in use by test-nic.0");
    g_clear_error(&error);
    assert_false(net_client_attach(&other, NULL, "b", &error));
    assert_string_equal(error->message, "netdev=b: there is no -netdev with id=b");
    g_clear_error(&error);
}

static void addresses_are_different(void **state)
{
    Fixture *f = *state;
    uint8_t mac[NET_MAC_BYTES];
    enter_main();
    net_choose_mac(f->client.mac);
    assert_int_equal(f->client.mac[5], 0x56);
    attach(f, NULL);
    net_choose_mac(mac);
    assert_int_equal(mac[5], 0x57);
}

/* ---- the link ---- */

static void set_link_on_either_end_moves_the_guests_link(void **state)
{
    Fixture *f = *state;
    GError *error = NULL;
    net_steps_run(f->bench, net_step_add, "fake,id=a");
    attach(f, "a");
    assert_true(net_client_link_up(&f->client));
    enter_main();
    assert_true(net_set_link("a", false, &error));
    assert_false(net_client_link_up(&f->client));
    assert_true(net_set_link("test-nic.0", true, &error));
    assert_true(net_client_link_up(&f->client));
    at_home(f, home_start);
    at_home(f, home_send); /* the back end's own link is still down */
    assert_null(fake_net_take(fake_net_find("a"), 0));
    assert_true(net_set_link("a", true, &error));
    at_home(f, home_send);
    GBytes *frame = fake_net_take(fake_net_find("a"), 0);
    assert_non_null(frame);
    g_bytes_unref(frame);
    assert_false(net_set_link("nothing", true, &error));
    assert_string_equal(error->message, "Device 'nothing' not found");
    g_clear_error(&error);
    at_home(f, home_stop);
}

static void a_lost_carrier_does_not_change_what_was_set(void **state)
{
    Fixture *f = *state;
    net_steps_run(f->bench, net_step_add, "fake,id=a");
    attach(f, "a");
    enter_main();
    net_backend_set_carrier(net_find("a"), false);
    assert_false(net_client_link_up(&f->client));
    assert_true(net_set_link("a", false, NULL));
    net_backend_set_carrier(net_find("a"), true);
    assert_false(net_client_link_up(&f->client));
    assert_true(net_set_link("a", true, NULL));
    assert_true(net_client_link_up(&f->client));
}

static void frames_are_dropped_while_the_link_is_down(void **state)
{
    Fixture *f = *state;
    net_steps_run(f->bench, net_step_add, "fake,id=a");
    attach(f, "a");
    at_home(f, home_start);
    watch(f, true);
    enter_main();
    assert_true(net_set_link("a", false, NULL));
    for (unsigned i = 0; i < 200; i++) {
        push(f, "a", 0);
    }
    assert_int_equal(fake_net_waiting(fake_net_find("a"), 0), 0);
    assert_int_equal(f->client.received, 0);
    assert_int_equal(f->client.dropped, 200);
    assert_true(net_set_link("a", true, NULL));
    push(f, "a", 0);
    assert_int_equal(f->client.received, 1);
    at_home(f, home_stop);
}

/* ---- the data path ---- */

static void a_frame_is_received_only_while_watched(void **state)
{
    Fixture *f = *state;
    net_steps_run(f->bench, net_step_add, "fake,id=a,queues=2");
    attach(f, "a");
    f->queue = 1;
    push(f, "a", 1);
    at_home(f, home_start);
    assert_int_equal(f->readable, 0);
    watch(f, true);
    assert_int_equal(f->result, sizeof(NetHeader) + 60);
    watch(f, false);
    push(f, "a", 1);
    assert_int_equal(f->readable, 1);
    at_home(f, home_stop);
    assert_int_equal(fake_net_waiting(fake_net_find("a"), 1), 1);
}

static void a_full_back_end_says_when_it_has_room(void **state)
{
    Fixture *f = *state;
    net_steps_run(f->bench, net_step_add, "fake,id=a");
    attach(f, "a");
    at_home(f, home_start);
    fake_net_set_full(fake_net_find("a"), true);
    at_home(f, home_send);
    assert_int_equal(f->result, -EAGAIN);
    assert_int_equal(f->writable, 0);
    fake_net_set_full(fake_net_find("a"), false);
    virtio_bench_settle(f->bench);
    assert_int_equal(f->writable, 1);
    fake_net_set_send_error(fake_net_find("a"), EINVAL);
    at_home(f, home_send);
    assert_int_equal(f->result, -EINVAL);
    assert_int_equal(f->client.dropped, 1);
    at_home(f, home_stop);
}

static void nothing_is_received_until_the_configuration_is_applied(void **state)
{
    Fixture *f = *state;
    net_steps_run(f->bench, net_step_add, "fake,id=a");
    attach(f, "a");
    at_home(f, home_start);
    watch(f, true);
    fake_net_hold_configure(fake_net_find("a"), true);
    f->config = (NetConfig){.receive_offloads = NET_OFFLOAD_CSUM, .queues = 1};
    at_home(f, home_configure);
    push(f, "a", 0);
    assert_int_equal(f->readable, 0);
    f->config.receive_offloads = 0; /* changed while the first one is being applied */
    at_home(f, home_configure);
    fake_net_hold_configure(fake_net_find("a"), false);
    virtio_bench_settle(f->bench);
    assert_int_equal(f->readable, 1);
    assert_int_equal(fake_net_find("a")->applied.receive_offloads, 0);
    assert_int_equal(fake_net_find("a")->applies, 2);
    at_home(f, home_configure);
    assert_int_equal(fake_net_find("a")->applies, 2);
    at_home(f, home_stop);
}

static void a_client_without_back_end_drops_frames(void **state)
{
    Fixture *f = *state;
    attach(f, NULL);
    assert_true(net_client_link_up(&f->client));
    at_home(f, home_start);
    watch(f, true);
    at_home(f, home_send);
    assert_int_equal(f->result, 0);
    assert_int_equal(f->client.dropped, 1);
    at_home(f, home_configure);
    at_home(f, home_stop);
}

static void a_back_end_is_removed_under_its_client(void **state)
{
    Fixture *f = *state;
    net_steps_run(f->bench, net_step_add, "fake,id=a");
    attach(f, "a");
    at_home(f, home_start);
    watch(f, true);
    fake_net_set_full(fake_net_find("a"), true);
    at_home(f, home_send);
    net_steps_run(f->bench, net_step_remove, "a");
    assert_false(net_client_link_up(&f->client));
    assert_int_equal(f->writable, 1); /* what waited for room is dropped */
    at_home(f, home_send);
    assert_int_equal(f->result, 0);
    at_home(f, home_stop);
    net_steps_run(f->bench, net_step_add, "fake,id=a");
    assert_null(f->client.backend);
}

static void a_removal_waits_for_a_configuration(void **state)
{
    Fixture *f = *state;
    NetStep s = {.text = "a"};
    net_steps_run(f->bench, net_step_add, "fake,id=a");
    attach(f, "a");
    fake_net_hold_configure(fake_net_find("a"), true);
    f->config = (NetConfig){.queues = 1};
    at_home(f, home_configure);
    co_start(f->bench->main_ctx, net_step_remove, &s);
    virtio_bench_settle(f->bench);
    assert_false(s.ok);
    net_steps_refused(f->bench, net_step_remove, "a", "not found"); /* it is being removed */
    fake_net_hold_configure(fake_net_find("a"), false);
    virtio_bench_settle(f->bench);
    assert_true(s.ok);
}

static bool was_removed(NetStep *s)
{
    return s->ok || s->error != NULL;
}

/* The home disconnects the back end while main goes on. Under TSan this fails if both use the same pointer. */
static void the_link_is_set_while_the_back_end_is_removed(void **state)
{
    Fixture *f = *state;
    for (unsigned i = 0; i < 20; i++) {
        NetStep s = {.text = "a"};
        net_steps_run(f->bench, net_step_add, "fake,id=a");
        attach(f, "a");
        co_start(f->bench->main_ctx, net_step_remove, &s);
        while (!was_removed(&s)) {
            net_set_link("test-nic.0", i & 1, NULL);
            virtio_bench_step(f->bench);
        }
        virtio_bench_run(f->bench, net_step_leave, &f->client);
        f->attached = false;
        assert_true(s.ok);
    }
}

static void client_stops_inside(NetClient *c, unsigned queue)
{
    enter_loop(c->home);
    net_client_stop_queue(c, queue);
}

static void stop_inside(void *arg)
{
    static const NetClientOps ops = {
        .readable = client_stops_inside,
        .link_changed = client_link_changed,
    };
    void *state;
    set_up(&state);
    Fixture *f = state;
    f->client.ops = &ops;
    net_steps_run(f->bench, net_step_add, "fake,id=a");
    GError *error = NULL;
    net_client_attach(&f->client, "nic", "a", &error);
    at_home(f, home_start);
    watch(f, true);
    push(f, "a", 0);
}

/* The fake back end is no kinder than a real one. */
static void a_queue_is_not_stopped_from_within_a_call_of_its_back_end(void **state)
{
    assert_dies(stop_inside, NULL, "inside");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        /* the first one: it forks, and there are no threads yet */
        cmocka_unit_test(a_queue_is_not_stopped_from_within_a_call_of_its_back_end),
        T(options_are_checked),
        T(an_id_is_used_once),
        T(a_back_end_has_one_client),
        T(addresses_are_different),
        T(set_link_on_either_end_moves_the_guests_link),
        T(a_lost_carrier_does_not_change_what_was_set),
        T(frames_are_dropped_while_the_link_is_down),
        T(a_frame_is_received_only_while_watched),
        T(a_full_back_end_says_when_it_has_room),
        T(nothing_is_received_until_the_configuration_is_applied),
        T(a_client_without_back_end_drops_frames),
        T(a_back_end_is_removed_under_its_client),
        T(a_removal_waits_for_a_configuration),
        T(the_link_is_set_while_the_back_end_is_removed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

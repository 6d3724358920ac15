/* SPDX-License-Identifier: Apache-2.0 */
/* -netdev tap: options, frames, queues, inherited descriptors, and devices that go away. */
#include "tests/hw/net/net_tap_bench.h"

static void options_are_checked(void **state)
{
    Fixture *f = *state;
    refused(f, "tap,id=a,fd=903,fds=904", "not both");
    refused(f, "tap,id=a,fd=903,ifname=x", "ifname= with fd=");
    refused(f, "tap,id=a,fds=903:904,queues=2", "queues= with fds=");
    refused(f, "tap,id=a,br=br0,script=no", "script= with helper=");
    refused(f, "tap,id=a,fd=x", "fd=");
    refused(f, "tap,id=a,fd=999", "not an open descriptor");
    refused(f, "tap,id=a,fds=", "fds=");
    refused(f, "tap,id=a,ifname=sixteen-letters-", "1 to 15 characters");
    refused(f, "tap,id=a,vnet_hdr=maybe", "vnet_hdr=");
    refused(f, "tap,id=a,queues=32", "queues");
    refused(f, "tap,id=a,queues=2,script=/bin/true", "script= with queues=");
    refused(f, "tap,id=a,fd=0", "not a tap device");
}

static void frames_pass_in_both_directions(void **state)
{
    NEEDS_TAP
    Fixture *f = *state;
    connect_tap(f, "");
    assert_true(net_find("a")->can_receive & NET_OFFLOAD_TSO4);
    assert_string_equal(net_find("a")->info, "ifname=tap-t,script=no,downscript=no");
    pass_frames(f);
}

static void frames_pass_without_the_header_of_the_kernel(void **state)
{
    NEEDS_TAP
    Fixture *f = *state;
    connect_tap(f, ",vnet_hdr=off");
    assert_int_equal(net_find("a")->can_receive, 0);
    assert_int_equal(net_find("a")->can_send, 0);
    pass_frames(f);
}

static void frames_go_to_the_queues_that_are_used(void **state)
{
    NEEDS_TAP
    Fixture *f = *state;
    uint8_t frame[100];
    connect_tap(f, ",queues=3");
    assert_int_equal(net_find("a")->queues, 3);
    make_frame(frame, sizeof(frame), 1);
    for (unsigned i = 0; i < 20; i++) { /* all of them to the first queue */
        assert_int_equal(send(f->wire, frame, sizeof(frame), 0), sizeof(frame));
    }
    await_frames(f, 20);
    for (f->queue = 1; f->queue < 3; f->queue++) {
        at_home(f, home_start);
    }
    f->config.queues = 3;
    at_home(f, home_configure);
    f->data = frame;
    f->bytes = sizeof(frame);
    for (f->queue = 0; f->queue < 3; f->queue++) {
        at_home(f, home_send);
        assert_int_equal(f->result, 0);
        expect_on_wire(f, frame, sizeof(frame));
    }
    f->config.queues = 1;
    at_home(f, home_configure);
    f->frames = f->elsewhere = 0;
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(send(f->wire, frame, sizeof(frame), 0), sizeof(frame));
    }
    await_frames(f, 20);
    assert_int_equal(f->elsewhere, 0);
}

static int tap_descriptor(const char *name, int flags)
{
    struct ifreq r = {.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | flags)};
    int fd = open("/dev/net/tun", O_RDWR);
    g_strlcpy(r.ifr_name, name, IFNAMSIZ);
    assert_return_code(ioctl(fd, TUNSETIFF, &r), errno);
    return fd;
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static void inherited_descriptors_are_used(void **state)
{
    NEEDS_TAP
    Fixture *f = *state;
    int one = tap_descriptor("tap-i", IFF_MULTI_QUEUE | IFF_VNET_HDR);
    int two = tap_descriptor("tap-i", IFF_MULTI_QUEUE | IFF_VNET_HDR);
    int other = tap_descriptor("tap-o", 0);
    g_autofree char *good = g_strdup_printf("tap,id=a,fds=%d:%d", one, two);
    g_autofree char *mixed = g_strdup_printf("tap,id=b,fds=%d:%d", one, other);
    g_autofree char *plain = g_strdup_printf("tap,id=b,fd=%d", other);
    refused(f, mixed, "descriptor 1 is of another device");
    assert_true(is_open(one) && is_open(other)); /* still the user's, and not changed */
    assert_int_equal(fcntl(one, F_GETFD), 0);
    add(f, good);
    assert_false(is_open(one) || is_open(two)); /* skiff has descriptors of its own */
    add(f, plain);
    assert_int_equal(net_find("a")->queues, 2);
    assert_true(net_find("a")->can_send & NET_OFFLOAD_CSUM);
    assert_int_equal(net_find("b")->can_send, 0);
    assert_true(if_nametoindex("tap-i") > 0);
    NetStep s = {.text = "a"};
    virtio_bench_run(f->bench, net_step_remove, &s);
    assert_true(s.ok);
    assert_int_equal(if_nametoindex("tap-i"), 0); /* it has gone with the last descriptor */
}

static void a_descriptor_is_given_once(void **state)
{
    NEEDS_TAP
    Fixture *f = *state;
    int one = tap_descriptor("tap-i", IFF_MULTI_QUEUE | IFF_VNET_HDR);
    int two = dup(one), own = fcntl(one, F_DUPFD_CLOEXEC, 3);
    g_autofree char *twice = g_strdup_printf("tap,id=a,fds=%d:%d", one, one);
    g_autofree char *same = g_strdup_printf("tap,id=a,fds=%d:%d", one, two);
    g_autofree char *as_vhost = g_strdup_printf("tap,id=a,fd=%d,vhostfd=%d", one, one);
    g_autofree char *of_skiff = g_strdup_printf("tap,id=a,fd=%d", own);
    refused(f, twice, "is given twice");
    refused(f, same, "are of the same queue");
    refused(f, as_vhost, "is given twice");
    refused(f, of_skiff, "is not one that skiff has inherited");
    assert_int_equal(fcntl(one, F_GETFD), 0);
    close(two);
    close(own);
    g_autofree char *good = g_strdup_printf("tap,id=a,fd=%d", one);
    add(f, good);
}

static bool queue_is_attached(int fd)
{
    struct ifreq r = {0};
    assert_return_code(ioctl(fd, TUNGETIFF, &r), errno);
    return !(r.ifr_flags & IFF_DETACH_QUEUE);
}

/* The kernel refuses to turn the third queue off, when the second one is off already. */
static void queues_are_as_they_were_after_a_failure(void **state)
{
    enum {
        CALLS_BEFORE = 13
    }; /* 2 for each descriptor, sndbuf, 5 for offloads, the second queue */
    NEEDS_TAP
    Fixture *f = *state;
    int fds[3];
    for (unsigned i = 0; i < 3; i++) {
        fds[i] = tap_descriptor("tap-i", IFF_MULTI_QUEUE | IFF_VNET_HDR);
    }
    g_autofree char *text = g_strdup_printf("tap,id=a,fds=%d:%d:%d", fds[0], fds[1], fds[2]);
    sys_fault_set(
        &(SysFault){.calls = "ioctl", .after = CALLS_BEFORE, .count = 1, .error = ENOMEM});
    refused(f, text, "does not let queues be turned off");
    sys_fault_set(NULL);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(queue_is_attached(fds[i]));
    }
    add(f, text);
}

static void what_the_kernel_refuses_is_an_error(void **state)
{
    NEEDS_TAP
    Fixture *f = *state;
    uint8_t frame[100];
    connect_tap(f, ",queues=2");
    for (unsigned i = 0; i < 2; i++) { /* TUNSETQUEUE, TUNSETOFFLOAD */
        f->config = (NetConfig){.queues = 2 - i, .receive_offloads = NET_OFFLOAD_CSUM};
        sys_fault_set(&(SysFault){.calls = "ioctl", .count = 1, .error = ENOMEM});
        at_home(f, home_configure);
        assert_int_equal(sys_fault_hits(), 1);
        sys_fault_set(NULL);
        assert_false(f->configured);
        at_home(f, home_configure);
        assert_true(f->configured);
        f->config = (NetConfig){.queues = 1};
        at_home(f, home_configure);
        assert_true(f->configured);
    }
    make_frame(frame, sizeof(frame), 1);
    assert_int_equal(send(f->wire, frame, sizeof(frame), 0), sizeof(frame));
    await_frames(f, 1);
}

static void a_device_that_disappears_takes_the_link_down(void **state)
{
    NEEDS_TAP
    Fixture *f = *state;
    connect_tap(f, "");
    g_autofree char *out = NULL;
    assert_true(g_spawn_command_line_sync("ip link delete tap-t", &out, NULL, NULL, NULL));
    while (net_client_link_up(&f->client)) {
        virtio_bench_settle(f->bench);
    }
    virtio_bench_settle(f->bench); /* the loop is idle: it does not spin on the dead descriptor */
    at_home(f, home_send);
}

/* Each command of a guest may fail then. */
static void a_guest_does_not_flood_the_log_when_the_device_is_gone(void **state)
{
    NEEDS_TAP
    Fixture *f = *state;
    g_autofree char *path = NULL, *text = NULL;
    connect_tap(f, "");
    assert_true(g_spawn_command_line_sync("ip link delete tap-t", NULL, NULL, NULL, NULL));
    while (net_client_link_up(&f->client)) {
        virtio_bench_settle(f->bench);
    }
    close(g_file_open_tmp("skiff-log-XXXXXX", &path, NULL));
    assert_true(log_open(path, false));
    for (unsigned i = 0; i < 100; i++) {
        f->config.receive_offloads = i % 2 ? 0 : NET_OFFLOAD_CSUM;
        at_home(f, home_configure);
        at_home(f, home_stop);
        at_home(f, home_start);
        virtio_bench_settle(f->bench);
    }
    assert_true(log_open(NULL, false));
    assert_true(g_file_get_contents(path, &text, NULL, NULL));
    unlink(path);
    g_auto(GStrv) lines = g_strsplit(text, "\n", 0);
    assert_in_range(g_strv_length(lines), 2, 50); /* without a limit, 200 */
}

static void a_device_in_use_is_refused(void **state)
{
    NEEDS_TAP
    Fixture *f = *state;
    int fd = tap_descriptor("tap-u", 0);
    refused(f, "tap,id=a,ifname=tap-u,script=no", "another process uses the device");
    close(fd);
    add(f, "tap,id=a,ifname=tap-u,script=no");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(options_are_checked),
        T(frames_pass_in_both_directions),
        T(frames_pass_without_the_header_of_the_kernel),
        T(frames_go_to_the_queues_that_are_used),
        T(inherited_descriptors_are_used),
        T(a_descriptor_is_given_once),
        T(queues_are_as_they_were_after_a_failure),
        T(what_the_kernel_refuses_is_an_error),
        T(a_device_that_disappears_takes_the_link_down),
        T(a_guest_does_not_flood_the_log_when_the_device_is_gone),
        T(a_device_in_use_is_refused),
    };
    has_tap = enter_namespace();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

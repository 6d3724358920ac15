/* SPDX-License-Identifier: Apache-2.0 */
/* -netdev tap: options, frames, queues, inherited descriptors, and devices that go away. */
#include "tests/hw/net/net_tap_bench.h"

static void options_are_checked(void **state)
{
    Fixture *f = *state;
    refused(f, "tap,id=a,fd=3,fds=4", "not both");
    refused(f, "tap,id=a,fd=3,ifname=x", "ifname= with fd=");
    refused(f, "tap,id=a,fds=3:4,queues=2", "queues= with fds=");
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
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    g_strlcpy(r.ifr_name, name, IFNAMSIZ);
    assert_return_code(ioctl(fd, TUNSETIFF, &r), errno);
    return fd;
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
    add(f, good);
    add(f, plain);
    close(one);
    close(two);
    close(other);
    assert_int_equal(net_find("a")->queues, 2);
    assert_true(net_find("a")->can_send & NET_OFFLOAD_CSUM);
    assert_int_equal(net_find("b")->can_send, 0);
    assert_true(if_nametoindex("tap-i") > 0); /* skiff has descriptors of its own */
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
        T(a_device_that_disappears_takes_the_link_down),
        T(a_device_in_use_is_refused),
    };
    has_tap = enter_namespace();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Frames as datagrams: UDP, UNIX sockets, a multicast group, passed sockets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "hw/net/net_dgram.h"
#include "hw/net/net_socket.h"
#include "tests/support/net_rig.h"

static const NetType *const types[] = {&net_dgram_type, &net_socket_type, NULL};

typedef struct Fixture {
    NetRig *rig;
    int peer;
    char *dir, *path, *peer_path;
} Fixture;

static int set_up(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    f->rig = net_rig_new(types);
    f->peer = -1;
    f->dir = g_dir_make_tmp("net-dgram-XXXXXX", NULL);
    f->path = g_strconcat(f->dir, "/skiff", NULL);
    f->peer_path = g_strconcat(f->dir, "/peer", NULL);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *f = *state;
    net_rig_free(f->rig);
    if (f->peer >= 0) {
        close(f->peer);
    }
    assert_int_equal(access(f->path, F_OK), -1); /* skiff removes its socket */
    unlink(f->peer_path);
    rmdir(f->dir);
    g_free(f->dir);
    g_free(f->path);
    g_free(f->peer_path);
    g_free(f);
    return 0;
}

static uint16_t inet_socket(int *fd)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(at);
    *fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(*fd, (struct sockaddr *)&at, sizeof(at)), 0);
    getsockname(*fd, (struct sockaddr *)&at, &length);
    return ntohs(at.sin_port);
}

static void unix_socket(Fixture *f)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    g_strlcpy(at.sun_path, f->peer_path, sizeof(at.sun_path));
    f->peer = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(f->peer, (struct sockaddr *)&at, sizeof(at)), 0);
}

static void open_pair(Fixture *f)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, fds), 0);
    g_autofree char *options = g_strdup_printf("dgram,id=n,local.type=fd,local.str=%d", fds[0]);
    net_rig_add(f->rig, options);
    assert_int_equal(fcntl(fds[0], F_GETFD), -1); /* the back end has one of its own */
    f->peer = fds[1];
    net_rig_attach(f->rig, "n");
}

static ssize_t send_frame(Fixture *f, size_t bytes, uint8_t byte)
{
    static uint8_t data[NET_FRAME_MAX];
    memset(data, byte, bytes);
    return net_rig_send(f->rig, data, bytes);
}

static void assert_received(Fixture *f, size_t bytes, uint8_t byte)
{
    g_autoptr(GBytes) frame = net_rig_receive(f->rig);
    size_t got;
    const uint8_t *data = g_bytes_get_data(frame, &got);
    assert_int_equal(got, bytes);
    assert_int_equal(data[0], byte);
    assert_int_equal(data[bytes - 1], byte);
}

static void assert_peer_gets(Fixture *f, size_t bytes, uint8_t byte)
{
    static uint8_t data[NET_FRAME_MAX];
    assert_int_equal(recv(f->peer, data, sizeof(data), 0), bytes);
    assert_int_equal(data[0], byte);
    assert_int_equal(data[bytes - 1], byte);
}

static void send_to_skiff(Fixture *f, size_t bytes, uint8_t byte)
{
    static uint8_t data[2 * NET_FRAME_MAX];
    memset(data, byte, bytes);
    assert_int_equal(send(f->peer, data, bytes, 0), bytes);
}

/* ---- the data path ---- */

static void frames_go_both_ways(void **state)
{
    Fixture *f = *state;
    open_pair(f);
    assert_int_equal(send_frame(f, 1514, 1), 0);
    assert_peer_gets(f, 1514, 1);
    for (uint8_t i = 0; i < 10; i++) { /* more than the NIC takes in a turn */
        send_to_skiff(f, 60, i);
    }
    for (uint8_t i = 0; i < 10; i++) {
        assert_received(f, 60, i);
    }
}

static void what_is_no_frame_is_dropped(void **state)
{
    Fixture *f = *state;
    open_pair(f);
    send_to_skiff(f, 0, 1);
    send_to_skiff(f, 13, 2);
    send_to_skiff(f, NET_FRAME_MAX - sizeof(NetHeader) + 1, 3); /* too long */
    send_to_skiff(f, NET_FRAME_MAX - sizeof(NetHeader), 4);
    assert_received(f, NET_FRAME_MAX - sizeof(NetHeader), 4);
    for (unsigned i = 0; i < 5; i++) {
        send_to_skiff(f, 5, 2);
    }
    send_to_skiff(f, 14, 5);
    assert_received(f, 14, 5);
}

static void a_slow_peer_blocks_the_sender(void **state)
{
    Fixture *f = *state;
    unsigned sent = 0;
    open_pair(f);
    while (send_frame(f, 1000, (uint8_t)sent) == 0) {
        sent++;
    }
    assert_true(sent > 0);
    for (unsigned i = 0; i < sent; i++) {
        assert_peer_gets(f, 1000, (uint8_t)i);
    }
    virtio_bench_settle(f->rig->bench);
    assert_int_equal(f->rig->writable, 1);
    assert_int_equal(send_frame(f, 60, 1), 0);
}

static void a_frame_to_nobody_is_dropped(void **state)
{
    Fixture *f = *state;
    open_pair(f);
    close(f->peer);
    f->peer = -1;
    assert_true(send_frame(f, 60, 1) < 0);
    assert_true(send_frame(f, 60, 1) != -EAGAIN);
    virtio_bench_settle(f->rig->bench); /* no busy loop */
    net_rig_stop(f->rig);
    net_rig_start(f->rig);
}

/* ---- addresses ---- */

static void udp_between_two_ports(void **state)
{
    Fixture *f = *state;
    int probe;
    uint16_t mine = inet_socket(&probe), theirs = inet_socket(&f->peer);
    close(probe);
    g_autofree char *options =
        g_strdup_printf("dgram,id=n,local.type=inet,local.host=127.0.0.1,local.port=%u,"
                        "remote.type=inet,remote.host=127.0.0.1,remote.port=%u",
                        mine, theirs);
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(mine), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    net_rig_add(f->rig, options);
    net_rig_attach(f->rig, "n");
    assert_int_equal(send_frame(f, 100, 8), 0);
    assert_peer_gets(f, 100, 8);
    assert_int_equal(connect(f->peer, (struct sockaddr *)&to, sizeof(to)), 0);
    send_to_skiff(f, 60, 9);
    assert_received(f, 60, 9);
}

static void unix_sockets_have_paths(void **state)
{
    Fixture *f = *state;
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    unix_socket(f);
    g_autofree char *options =
        g_strdup_printf("dgram,id=n,local.type=unix,local.path=%s,remote.type=unix,remote.path=%s",
                        f->path, f->peer_path);
    net_rig_add(f->rig, options);
    net_rig_attach(f->rig, "n");
    assert_int_equal(send_frame(f, 100, 8), 0);
    assert_peer_gets(f, 100, 8);
    g_strlcpy(to.sun_path, f->path, sizeof(to.sun_path));
    assert_int_equal(connect(f->peer, (struct sockaddr *)&to, sizeof(to)), 0);
    send_to_skiff(f, 60, 9);
    assert_received(f, 60, 9);
}

static void members_of_a_group_hear_each_other(void **state)
{
    Fixture *f = *state;
    int probe;
    uint16_t port = inet_socket(&probe);
    close(probe);
    g_autofree char *options =
        g_strdup_printf("socket,id=n,mcast=239.1.2.3:%u,localaddr=127.0.0.1", port);
    net_rig_add(f->rig, options);
    net_rig_attach(f->rig, "n");
    assert_int_equal(send_frame(f, 100, 8), 0);
    assert_received(f, 100, 8); /* it is a member itself, as in QEMU */
}

static void options_are_checked(void **state)
{
    Fixture *f = *state;
    static const char *const wrong[][2] = {
        {"dgram,id=n", "needs remote.type="},
        {"dgram,id=n,local.type=inet,remote.type=inet,remote.host=a,remote.port=1",
         "local.type=inet needs"},
        {"dgram,id=n,local.type=fd,local.str=905,remote.type=unix,remote.path=/x", "both ends"},
        {"dgram,id=n,remote.type=inet,remote.host=127.0.0.1,remote.port=9",
         "needs a local address"},
        {"dgram,id=n,local.type=fd,local.str=999", "socket of datagrams"},
        {"dgram,id=n,local.type=unix,local.path=/"
         "x,remote.type=inet,remote.host=127.0.0.1,remote.port=9",
         "different kinds"},
        {"dgram,id=n,local.type=unix,local.path=/no/such/x,remote.type=unix,remote.path=/y",
         "can't bind"},
        {"socket,id=n,udp=127.0.0.1:9", "localaddr="},
        {"socket,id=n,mcast=239.1.2.3", "HOST:PORT"},
        {"socket,id=n,fd=999", "socket of datagrams"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        net_rig_refused(f->rig, wrong[i][0], wrong[i][1]);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(frames_go_both_ways),
        T(what_is_no_frame_is_dropped),
        T(a_slow_peer_blocks_the_sender),
        T(a_frame_to_nobody_is_dropped),
        T(udp_between_two_ports),
        T(unix_sockets_have_paths),
        T(members_of_a_group_hear_each_other),
        T(options_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Frames over stream sockets: framing, back pressure, hostile peers, connections that come and go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "hw/net/net_socket.h"
#include "hw/net/net_stream.h"
#include "tests/support/net_rig.h"
#include "util/loop/sched_point.h"
#include "util/sys/sys_fault.h"

static const NetType *const types[] = {&net_stream_type, &net_socket_type, NULL};

typedef struct Fixture {
    NetRig *rig;
    int peer; /* the other end of the connection */
    char *dir, *path;
    GString *events;
} Fixture;

static Fixture *current;

static void on_event(const char *id, const char *peer, bool connected)
{
    g_string_append_printf(current->events, "%s %s %s;", id, connected ? "up" : "down",
                           g_str_has_prefix(peer, "fd:") ? "fd" : "path");
}

static int set_up(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    f->rig = net_rig_new(types);
    f->peer = -1;
    f->dir = g_dir_make_tmp("net-stream-XXXXXX", NULL);
    f->path = g_strconcat(f->dir, "/socket", NULL);
    f->events = g_string_new(NULL);
    current = f;
    enter_main();
    net_stream_set_listener(on_event);
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
    assert_int_equal(access(f->path, F_OK), -1); /* a server removes its socket */
    rmdir(f->dir);
    g_free(f->dir);
    g_free(f->path);
    g_string_free(f->events, true);
    g_free(f);
    return 0;
}

/* A back end "n" at one end of a pair of sockets; the test is the other one. */
static void open_pair(Fixture *f)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    g_autofree char *options = g_strdup_printf("stream,id=n,addr.type=fd,addr.str=%d", fds[0]);
    net_rig_add(f->rig, options);
    assert_int_equal(fcntl(fds[0], F_GETFD), -1); /* the back end has one of its own */
    f->peer = fds[1];
}

static void put_frame(uint8_t *at, uint32_t bytes, uint8_t byte)
{
    uint32_t length = htonl(bytes);
    memcpy(at, &length, 4);
    memset(at + 4, byte, bytes);
}

static void assert_received(Fixture *f, size_t bytes, uint8_t byte)
{
    g_autoptr(GBytes) frame = net_rig_receive(f->rig);
    size_t got;
    const uint8_t *data = g_bytes_get_data(frame, &got);
    assert_int_equal(got, bytes);
    for (size_t i = 0; i < bytes; i++) {
        assert_int_equal(data[i], byte);
    }
}

/* Reads one frame from the peer's end; it must have all bytes as @byte. */
static void assert_peer_gets(Fixture *f, size_t bytes, uint8_t byte)
{
    static uint8_t data[4 + NET_FRAME_MAX];
    size_t have = 0;
    while (have < 4 + bytes) {
        ssize_t n = read(f->peer, data + have, 4 + bytes - have);
        if (n < 0 && errno == EAGAIN) {
            virtio_bench_settle(f->rig->bench);
            continue;
        }
        assert_true(n > 0);
        have += (size_t)n;
    }
    uint32_t length;
    memcpy(&length, data, 4);
    assert_int_equal(ntohl(length), bytes);
    for (size_t i = 0; i < bytes; i++) {
        assert_int_equal(data[4 + i], byte);
    }
}

static ssize_t send_frame(Fixture *f, size_t bytes, uint8_t byte)
{
    static uint8_t data[NET_FRAME_MAX];
    memset(data, byte, bytes);
    return net_rig_send(f->rig, data, bytes);
}

static bool link_is_down(void *opaque)
{
    return !net_client_link_up(&((Fixture *)opaque)->rig->client);
}

static bool link_is_up(void *opaque)
{
    return !link_is_down(opaque);
}

/* The link is up, and the home has the connection. */
static void wait_for_connection(Fixture *f)
{
    net_rig_wait(f->rig, link_is_up, f, "a connection");
    virtio_bench_settle(f->rig->bench);
}

/* ---- framing ---- */

static void frames_go_both_ways(void **state)
{
    Fixture *f = *state;
    uint8_t data[4 + 60];
    open_pair(f);
    net_rig_attach(f->rig, "n");
    assert_true(net_client_link_up(&f->rig->client));
    put_frame(data, 60, 7);
    assert_int_equal(write(f->peer, data, sizeof(data)), sizeof(data));
    assert_received(f, 60, 7);
    assert_int_equal(send_frame(f, 1514, 9), 0);
    assert_peer_gets(f, 1514, 9);
}

static void a_frame_may_come_in_pieces_and_frames_together(void **state)
{
    Fixture *f = *state;
    uint8_t data[20 * (4 + 50)];
    open_pair(f);
    net_rig_attach(f->rig, "n");
    put_frame(data, 50, 1);
    for (unsigned i = 0; i < 54; i++) {
        assert_int_equal(write(f->peer, data + i, 1), 1);
        virtio_bench_settle(f->rig->bench);
    }
    assert_received(f, 50, 1);
    for (unsigned i = 0; i < 20; i++) { /* more than the NIC takes in a turn */
        put_frame(data + i * 54, 50, (uint8_t)i);
    }
    assert_int_equal(write(f->peer, data, sizeof(data)), sizeof(data));
    for (unsigned i = 0; i < 20; i++) {
        assert_received(f, 50, (uint8_t)i);
    }
}

static void the_largest_frame_passes(void **state)
{
    Fixture *f = *state;
    static uint8_t data[4 + STREAM_FRAME_MAX];
    open_pair(f);
    net_rig_attach(f->rig, "n");
    assert_int_equal(send_frame(f, STREAM_FRAME_MAX, 3), 0);
    assert_peer_gets(f, STREAM_FRAME_MAX, 3);
    put_frame(data, STREAM_FRAME_MAX, 4);
    for (size_t done = 0; done < sizeof(data);) {
        ssize_t n = write(f->peer, data + done, sizeof(data) - done);
        done += n > 0 ? (size_t)n : 0;
        virtio_bench_settle(f->rig->bench);
    }
    assert_received(f, STREAM_FRAME_MAX, 4);
}

static void runts_are_skipped(void **state)
{
    Fixture *f = *state;
    uint8_t data[4 + 0 + 4 + 13 + 4 + 14];
    open_pair(f);
    net_rig_attach(f->rig, "n");
    put_frame(data, 0, 0);
    put_frame(data + 4, 13, 1);
    put_frame(data + 21, 14, 2);
    assert_int_equal(write(f->peer, data, sizeof(data)), sizeof(data));
    assert_received(f, 14, 2);
}

/* ---- bounds ---- */

static void a_slow_peer_blocks_the_sender_and_gets_every_byte(void **state)
{
    Fixture *f = *state;
    unsigned sent = 0, writable = 0;
    open_pair(f);
    net_rig_attach(f->rig, "n");
    while (send_frame(f, 3000, (uint8_t)sent) == 0) {
        sent++;
    }
    assert_true(sent > 10);
    assert_int_equal(f->rig->writable, 0);
    for (unsigned i = 0; i < sent; i++) {
        assert_peer_gets(f, 3000, (uint8_t)i);
    }
    virtio_bench_settle(f->rig->bench);
    writable = f->rig->writable;
    assert_int_equal(writable, 1);
    assert_int_equal(send_frame(f, 60, 1), 0);
    assert_peer_gets(f, 60, 1);
}

static void a_part_of_a_frame_survives_a_stop(void **state)
{
    Fixture *f = *state;
    unsigned sent = 0;
    uint8_t data[4 + 100];
    open_pair(f);
    net_rig_attach(f->rig, "n");
    put_frame(data, 100, 6);
    assert_int_equal(write(f->peer, data, 50), 50);
    virtio_bench_settle(f->rig->bench);
    while (send_frame(f, 3000, (uint8_t)sent) == 0) {
        sent++;
    }
    net_rig_stop(f->rig);
    assert_int_equal(write(f->peer, data + 50, 54), 54);
    net_rig_start(f->rig);
    assert_received(f, 100, 6);
    for (unsigned i = 0; i < sent; i++) {
        assert_peer_gets(f, 3000, (uint8_t)i);
        send_frame(f, 20, 0); /* drains the rest of a frame */
        if (i + 1 == sent) {
            break;
        }
    }
}

static void an_unwatched_queue_leaves_frames_in_the_socket(void **state)
{
    Fixture *f = *state;
    static uint8_t data[4 + 1000];
    unsigned sent = 0;
    open_pair(f);
    net_rig_attach(f->rig, "n");
    net_rig_watch(f->rig, false);
    put_frame(data, 1000, 5);
    while (write(f->peer, data, sizeof(data)) == sizeof(data)) {
        sent++;
    }
    virtio_bench_settle(f->rig->bench);
    assert_int_equal(write(f->peer, data, 1), -1); /* nobody has read */
    net_rig_watch(f->rig, true);
    for (unsigned i = 0; i < sent; i++) {
        assert_received(f, 1000, 5);
    }
}

/* ---- hostile peers ---- */

static void a_frame_that_is_too_long_ends_the_connection(void **state)
{
    Fixture *f = *state;
    uint8_t data[4 + 20 + 4];
    char byte;
    open_pair(f);
    net_rig_attach(f->rig, "n");
    put_frame(data, 20, 1);
    uint32_t length = htonl(STREAM_FRAME_MAX + 1);
    memcpy(data + 24, &length, 4);
    assert_int_equal(write(f->peer, data, sizeof(data)), sizeof(data));
    assert_received(f, 20, 1);
    net_rig_wait(f->rig, link_is_down, f, "the end of the connection");
    assert_int_equal(read(f->peer, &byte, 1), 0);
    assert_int_equal(send_frame(f, 60, 1), 0); /* dropped: the link is down */
    assert_string_equal(f->events->str, "n up fd;n down fd;");
}

static void a_peer_that_leaves_takes_the_link_down(void **state)
{
    Fixture *f = *state;
    open_pair(f);
    net_rig_attach(f->rig, "n");
    while (send_frame(f, 3000, 1) == 0) {
    }
    close(f->peer);
    f->peer = -1;
    net_rig_wait(f->rig, link_is_down, f, "the end of the connection");
    virtio_bench_settle(f->rig->bench);
    assert_int_equal(f->rig->writable, 1); /* who waited for room is called */
}

/* ---- connections ---- */

static int connect_peer(Fixture *f)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    g_strlcpy(to.sun_path, f->path, sizeof(to.sun_path));
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

static void a_server_has_one_client_at_a_time(void **state)
{
    Fixture *f = *state;
    uint8_t data[4 + 60];
    g_autofree char *options =
        g_strdup_printf("stream,id=n,server=on,addr.type=unix,addr.path=%s", f->path);
    net_rig_add(f->rig, options);
    net_rig_attach(f->rig, "n");
    assert_false(net_client_link_up(&f->rig->client));
    f->peer = connect_peer(f);
    int second = connect_peer(f);
    wait_for_connection(f);
    put_frame(data, 60, 2);
    assert_int_equal(write(second, data, sizeof(data)), sizeof(data));
    put_frame(data, 60, 1);
    assert_int_equal(write(f->peer, data, sizeof(data)), sizeof(data));
    assert_received(f, 60, 1);
    close(f->peer);
    f->peer = second;
    assert_received(f, 60, 2); /* the next client's turn */
    assert_int_equal(send_frame(f, 60, 3), 0);
    assert_peer_gets(f, 60, 3);
    assert_string_equal(f->events->str, "n up path;n down path;n up path;");
}

static void note_link(void *up, const void *stream)
{
    *(bool *)up = link_is_up(current);
}

/* The home drops what it reads while the link is down. */
static void the_link_is_up_before_the_home_reads_a_connection(void **state)
{
    Fixture *f = *state;
    bool up = false;
    g_autofree char *options =
        g_strdup_printf("stream,id=n,server=on,addr.type=unix,addr.path=%s", f->path);
    net_rig_add(f->rig, options);
    net_rig_attach(f->rig, "n");
    sched_point_hook("net_stream.offer", note_link, &up);
    f->peer = connect_peer(f);
    wait_for_connection(f);
    sched_point_reset();
    assert_true(up);
}

static void a_server_without_descriptors_accepts_later(void **state)
{
    Fixture *f = *state;
    g_autofree char *options =
        g_strdup_printf("stream,id=n,server=on,addr.type=unix,addr.path=%s", f->path);
    net_rig_add(f->rig, options);
    net_rig_attach(f->rig, "n");
    sys_fault_set(&(SysFault){.calls = "accept4", .error = EMFILE});
    f->peer = connect_peer(f);
    virtio_bench_settle(f->rig->bench);
    assert_int_equal(sys_fault_hits(), 1); /* no busy loop */
    assert_false(net_client_link_up(&f->rig->client));
    sys_fault_set(NULL);
    fake_machine_advance(f->rig->bench->machine, 100000000);
    wait_for_connection(f);
}

static void a_client_connects_again(void **state)
{
    Fixture *f = *state;
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    g_autofree char *options =
        g_strdup_printf("stream,id=n,addr.type=unix,addr.path=%s,reconnect-ms=500", f->path);
    net_rig_add(f->rig, options);
    net_rig_attach(f->rig, "n");
    virtio_bench_settle(f->rig->bench);
    assert_false(net_client_link_up(&f->rig->client)); /* there is no server yet */
    int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_strlcpy(at.sun_path, f->path, sizeof(at.sun_path));
    assert_int_equal(bind(server, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(server, 2), 0);
    for (unsigned i = 0; i < 3; i++) {
        fake_machine_advance(f->rig->bench->machine, 500000000);
        wait_for_connection(f);
        f->peer = accept4(server, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        assert_int_equal(send_frame(f, 60, (uint8_t)i), 0);
        assert_peer_gets(f, 60, (uint8_t)i);
        close(f->peer);
        net_rig_wait(f->rig, link_is_down, f, "the end of the connection");
    }
    f->peer = -1;
    close(server);
    unlink(f->path);
}

static void a_connection_comes_while_the_queue_is_stopped(void **state)
{
    Fixture *f = *state;
    g_autofree char *options =
        g_strdup_printf("stream,id=n,server=on,addr.type=unix,addr.path=%s", f->path);
    net_rig_add(f->rig, options);
    net_rig_attach(f->rig, "n");
    net_rig_stop(f->rig);
    f->peer = connect_peer(f);
    wait_for_connection(f);
    net_rig_start(f->rig);
    assert_int_equal(send_frame(f, 60, 3), 0);
    assert_peer_gets(f, 60, 3);
}

static void a_back_end_is_removed_while_connected(void **state)
{
    Fixture *f = *state;
    char byte;
    open_pair(f);
    net_rig_attach(f->rig, "n");
    net_rig_remove(f->rig, "n");
    assert_int_equal(read(f->peer, &byte, 1), 0);
    assert_int_equal(send_frame(f, 60, 3), 0); /* dropped */
}

static void a_pending_reconnect_delays_no_removal(void **state)
{
    Fixture *f = *state;
    g_autofree char *options =
        g_strdup_printf("stream,id=n,addr.type=unix,addr.path=%s,reconnect-ms=1000000", f->path);
    net_rig_add(f->rig, options);
    virtio_bench_settle(f->rig->bench);
    net_rig_remove(f->rig, "n");
}

/* ---- options ---- */

static void options_are_checked(void **state)
{
    Fixture *f = *state;
    static const char *const wrong[][2] = {
        {"stream,id=n", "addr.type"},
        {"stream,id=n,addr.type=inet", "needs addr.host= and addr.port="},
        {"stream,id=n,addr.type=unix,addr.path=/x,addr.port=1",
         "excludes addr.host= and addr.port="},
        {"stream,id=n,addr.type=unix,addr.path=/no/such/dir", "can't connect"},
        {"stream,id=n,addr.type=vsock", "addr.type=vsock"},
        {"stream,id=n,addr.type=fd,addr.str=999", "connected socket"},
        {"stream,id=n,server=on,addr.type=unix,addr.path=/x,reconnect-ms=1", "'reconnect-ms'"},
        {"stream,id=n,addr.type=unix,addr.path=/x,reconnect-ms=1,reconnect=1",
         "exclude each other"},
        {"stream,id=n,addr.type=unix,addr.path=/x,addr.tight=off", "addr.tight=on"},
        {"socket,id=n", "expects one of"},
        {"socket,id=n,listen=:1,connect=a:1", "expects one of"},
        {"socket,id=n,connect=nowhere", "HOST:PORT"},
        {"socket,id=n,connect=127.0.0.1:0", "port=0"},
        {"socket,id=n,connect=127.0.0.1:1,localaddr=1.2.3.4:5", "localaddr="},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        net_rig_refused(f->rig, wrong[i][0], wrong[i][1]);
    }
}

static void a_socket_connects_to_one_that_listens(void **state)
{
    Fixture *f = *state;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(at);
    int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(server, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(server, 1), 0);
    getsockname(server, (struct sockaddr *)&at, &length);
    g_autofree char *options =
        g_strdup_printf("socket,id=n,connect=127.0.0.1:%u", ntohs(at.sin_port));
    net_rig_add(f->rig, options);
    net_rig_attach(f->rig, "n");
    f->peer = accept4(server, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    close(server);
    assert_int_equal(send_frame(f, 60, 3), 0);
    assert_peer_gets(f, 60, 3);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(frames_go_both_ways),
        T(a_frame_may_come_in_pieces_and_frames_together),
        T(the_largest_frame_passes),
        T(runts_are_skipped),
        T(a_slow_peer_blocks_the_sender_and_gets_every_byte),
        T(a_part_of_a_frame_survives_a_stop),
        T(an_unwatched_queue_leaves_frames_in_the_socket),
        T(a_frame_that_is_too_long_ends_the_connection),
        T(a_peer_that_leaves_takes_the_link_down),
        T(a_server_has_one_client_at_a_time),
        T(the_link_is_up_before_the_home_reads_a_connection),
        T(a_server_without_descriptors_accepts_later),
        T(a_client_connects_again),
        T(a_connection_comes_while_the_queue_is_stopped),
        T(a_back_end_is_removed_while_connected),
        T(a_pending_reconnect_delays_no_removal),
        T(options_are_checked),
        T(a_socket_connects_to_one_that_listens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

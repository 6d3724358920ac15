/* SPDX-License-Identifier: Apache-2.0 */
/* -netdev user with real sockets of the host: addresses, connections both ways, bounds, options. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <net/ethernet.h>
#include <net/if_arp.h>
#include <string.h>
#include <unistd.h>
#include "hw/net/net_user.h"
#include "tests/support/net_rig.h"
#include "util/loop/sched_point.h"

static const NetType *const types[] = {&net_user_type, NULL};
static const uint8_t guest_mac[6] = {0x52, 0x54, 0, 0x12, 0x34, 0x56};

typedef struct Frame {
    struct ether_header ether;
    struct iphdr ip;
    union {
        struct udphdr udp;
        struct tcphdr tcp;
    };
    uint8_t data[1400];
} __attribute__((packed)) Frame;

typedef struct ArpFrame {
    struct ether_header ether;
    struct arphdr arp;
    uint8_t from_mac[6], from_ip[4], to_mac[6], to_ip[4];
} __attribute__((packed)) ArpFrame;

typedef struct Fixture {
    NetRig *rig;
    int fd; /* the host's UDP or TCP socket */
    uint16_t port;
    bool near; /* the NIC's home is the network's thread */
} Fixture;

static int set_up(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    f->rig = net_rig_new(types);
    f->fd = -1;
    *state = f;
    return 0;
}

static int set_up_near(void **state)
{
    set_up(state);
    ((Fixture *)*state)->near = true;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *f = *state;
    sched_point_reset();
    net_rig_free(f->rig);
    if (f->fd >= 0) {
        close(f->fd);
    }
    g_free(f);
    return 0;
}

/* ---- the host's sockets ---- */

static void host_socket(Fixture *f, int type)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(at);
    f->fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(f->fd, (struct sockaddr *)&at, sizeof(at)), 0);
    getsockname(f->fd, (struct sockaddr *)&at, &length);
    f->port = ntohs(at.sin_port);
}

/* A port that is free now. */
static uint16_t free_port(void)
{
    Fixture f;
    host_socket(&f, SOCK_STREAM);
    close(f.fd);
    return f.port;
}

/* ---- frames ---- */

static uint16_t checksum(const void *data, size_t bytes, uint32_t sum)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < bytes; i++) {
        sum += i % 2 ? p[i] : (uint32_t)p[i] << 8;
    }
    while (sum >> 16) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return htons((uint16_t)~sum);
}

static void fill_ip(Frame *p, uint8_t protocol, uint32_t from, uint32_t to, size_t payload)
{
    memset(p->ether.ether_dhost, 0xff, 6);
    memcpy(p->ether.ether_shost, guest_mac, 6);
    p->ether.ether_type = htons(ETHERTYPE_IP);
    p->ip = (struct iphdr){.version = 4,
                           .ihl = 5,
                           .ttl = 64,
                           .protocol = protocol,
                           .tot_len = htons((uint16_t)(sizeof(p->ip) + payload)),
                           .saddr = htonl(from),
                           .daddr = htonl(to)};
    p->ip.check = checksum(&p->ip, sizeof(p->ip), 0);
}

#define HOST 0x0a000202u
#define GUEST 0x0a00020fu

static ssize_t send_udp(Fixture *f, uint32_t from, uint16_t from_port, uint32_t to,
                        uint16_t to_port, const void *data, size_t bytes)
{
    Frame p = {.udp = {.source = htons(from_port),
                       .dest = htons(to_port),
                       .len = htons((uint16_t)(sizeof(p.udp) + bytes))}};
    memcpy((uint8_t *)&p.udp + sizeof(p.udp), data, bytes);
    fill_ip(&p, IPPROTO_UDP, from, to, sizeof(p.udp) + bytes);
    return net_rig_send(f->rig, &p, sizeof(p.ether) + sizeof(p.ip) + sizeof(p.udp) + bytes);
}

static void send_arp(Fixture *f, uint16_t operation, const uint8_t *to_mac, uint32_t to)
{
    uint32_t from = htonl(GUEST);
    ArpFrame a = {.arp = {.ar_hrd = htons(1),
                          .ar_pro = htons(ETHERTYPE_IP),
                          .ar_hln = 6,
                          .ar_pln = 4,
                          .ar_op = htons(operation)}};
    memset(a.ether.ether_dhost, 0xff, 6);
    memcpy(a.ether.ether_shost, guest_mac, 6);
    a.ether.ether_type = htons(ETHERTYPE_ARP);
    memcpy(a.from_mac, guest_mac, 6);
    memcpy(a.from_ip, &from, 4);
    memcpy(a.to_mac, to_mac, 6);
    to = htonl(to);
    memcpy(a.to_ip, &to, 4);
    assert_int_equal(net_rig_send(f->rig, &a, sizeof(a)), 0);
}

/* The next frame of this type; ARP requests for the guest are answered on the way. The rest is skipped. */
static GBytes *receive(Fixture *f, uint16_t type, uint8_t protocol)
{
    for (;;) {
        GBytes *frame = net_rig_receive(f->rig);
        size_t bytes;
        const Frame *p = g_bytes_get_data(frame, &bytes);
        const ArpFrame *a = (const void *)p;
        uint16_t got = ntohs(p->ether.ether_type);
        if (got == ETHERTYPE_ARP && ntohs(a->arp.ar_op) == ARPOP_REQUEST) {
            send_arp(f, ARPOP_REPLY, a->from_mac, HOST);
        }
        if (got == type && (type == ETHERTYPE_ARP || p->ip.protocol == protocol)) {
            return frame;
        }
        g_bytes_unref(frame);
    }
}

static const Frame *frame_of(GBytes *frame)
{
    return g_bytes_get_data(frame, NULL);
}

/* An answered ARP request: all that was sent before has been handled. */
static void barrier(Fixture *f)
{
    send_arp(f, ARPOP_REQUEST, guest_mac, HOST);
    g_bytes_unref(receive(f, ETHERTYPE_ARP, 0));
}

static void attach_guest(Fixture *f, const char *options)
{
    net_rig_add(f->rig, options);
    if (f->near) {
        net_rig_move_near(f->rig, "n");
    }
    net_rig_attach(f->rig, "n");
}

static void connect_guest(Fixture *f, const char *options)
{
    attach_guest(f, options);
    barrier(f); /* libslirp knows the guest's address now */
}

/* ---- the network ---- */

static void dhcp_gives_an_address(void **state)
{
    Fixture *f = *state;
    uint8_t request[300] = {1, 1, 6, 0, 1, 2, 3, 4};
    attach_guest(f, "user,id=n,net=192.168.7.0/24,dhcpstart=192.168.7.33,hostname=boat");
    memcpy(request + 28, guest_mac, 6);
    static const uint8_t options[] = {0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255};
    memcpy(request + 236, options, sizeof(options));
    send_udp(f, 0, 68, INADDR_BROADCAST, 67, request, sizeof(request));
    g_autoptr(GBytes) frame = receive(f, ETHERTYPE_IP, IPPROTO_UDP);
    const uint8_t *reply = (const uint8_t *)&frame_of(frame)->udp + 8;
    uint32_t mine;
    memcpy(&mine, reply + 16, 4);
    assert_int_equal(ntohl(mine), 0xc0a80721);
    assert_non_null(memmem(reply, 548, "boat", 4));
}

static void a_datagram_reaches_the_host_and_is_answered(void **state)
{
    Fixture *f = *state;
    char text[16] = {0};
    struct sockaddr_in from;
    socklen_t length = sizeof(from);
    host_socket(f, SOCK_DGRAM);
    connect_guest(f, "user,id=n");
    send_udp(f, GUEST, 5000, HOST, f->port, "ahoy", 4);
    barrier(f);
    assert_int_equal(recvfrom(f->fd, text, sizeof(text), 0, (struct sockaddr *)&from, &length), 4);
    assert_string_equal(text, "ahoy");
    assert_int_equal(sendto(f->fd, "aye", 3, 0, (struct sockaddr *)&from, length), 3);
    g_autoptr(GBytes) frame = receive(f, ETHERTYPE_IP, IPPROTO_UDP);
    const Frame *p = frame_of(frame);
    assert_int_equal(ntohs(p->udp.source), f->port);
    assert_int_equal(ntohs(p->udp.dest), 5000);
    assert_memory_equal((const uint8_t *)&p->udp + 8, "aye", 3);
}

static void a_restricted_guest_reaches_nobody(void **state)
{
    Fixture *f = *state;
    char text[16];
    host_socket(f, SOCK_DGRAM);
    connect_guest(f, "user,id=n,restrict=on");
    send_udp(f, GUEST, 5000, HOST, f->port, "ahoy", 4);
    barrier(f);
    assert_int_equal(recv(f->fd, text, sizeof(text), 0), -1);
    assert_int_equal(errno, EAGAIN);
}

static int connect_to(uint16_t port)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

static void a_forwarded_port_reaches_the_guest(void **state)
{
    Fixture *f = *state;
    uint16_t port = free_port();
    g_autofree char *options = g_strdup_printf("user,id=n,hostfwd=tcp:127.0.0.1:%u-:22", port);
    connect_guest(f, options);
    f->fd = connect_to(port);
    g_autoptr(GBytes) frame = receive(f, ETHERTYPE_IP, IPPROTO_TCP);
    const Frame *p = frame_of(frame);
    assert_int_equal(ntohl(p->ip.daddr), GUEST);
    assert_int_equal(ntohs(p->tcp.dest), 22);
    assert_true(p->tcp.syn && !p->tcp.ack);
}

/* ---- monitors ---- */

typedef struct Rule {
    const char *text;
    bool add, ok;
    GError *error;
    char *info;
} Rule;

static void do_rule(void *opaque)
{
    Rule *r = opaque;
    enter_main();
    enter_coroutine();
    NetBackend *b = net_find("n");
    r->ok = r->add ? net_user_co_add_hostfwd(b, r->text, &r->error)
                   : net_user_co_remove_hostfwd(b, r->text, &r->error);
    r->info = net_user_co_info(b);
}

static void rule(Fixture *f, bool add, const char *text, const char *why, const char *listed)
{
    Rule r = {.text = text, .add = add};
    virtio_bench_run(f->rig->bench, do_rule, &r);
    assert_int_equal(r.ok, why == NULL);
    if (why != NULL && strstr(r.error->message, why) == NULL) {
        fail_msg("'%s' lacks '%s'", r.error->message, why);
    }
    assert_int_equal(strstr(r.info, "HOST_FORWARD") != NULL, listed != NULL);
    g_clear_error(&r.error);
    g_free(r.info);
}

static void forwards_come_and_go(void **state)
{
    Fixture *f = *state;
    g_autofree char *text = g_strdup_printf("tcp:127.0.0.1:%u-10.0.2.15:80", free_port());
    connect_guest(f, "user,id=n");
    rule(f, true, text, NULL, "listed");
    rule(f, true, text, "Could not set up host forwarding rule", "listed");
    *strchr(text, '-') = '\0';
    rule(f, false, text, NULL, NULL);
    rule(f, false, text, "not found", NULL);
    rule(f, true, "sctp::1-:2", "bad protocol name", NULL);
    rule(f, true, "tcp:nowhere:1-:2", "bad host address", NULL);
    rule(f, true, "tcp::x-:2", "bad host port", NULL);
    rule(f, true, "tcp::1-:0", "bad guest port", NULL);
    rule(f, true, "tcp::1", "bad host port separator", NULL);
    rule(f, true, "", "no : separators", NULL);
}

/* ---- bounds ---- */

static NetUser *user(void)
{
    enter_main();
    return net_user_from(net_find("n"));
}

static bool ring_is_empty(void *opaque)
{
    return net_ring_used(&((NetUser *)opaque)->from_guest) == 0;
}

static void a_full_ring_blocks_the_guest_until_there_is_room(void **state)
{
    Fixture *f = *state;
    uint8_t data[1400] = {0};
    ssize_t ret;
    connect_guest(f, "user,id=n,restrict=on");
    sched_point_hold("net_user.take");
    unsigned sent = 0;
    while ((ret = send_udp(f, GUEST, 5000, HOST, 9, data, sizeof(data))) == 0) {
        sent++;
    }
    assert_int_equal(ret, -EAGAIN);
    assert_in_range(sent, 300, NET_USER_FROM_GUEST / sizeof(data));
    assert_int_equal(f->rig->writable, 0);
    sched_point_release("net_user.take");
    net_rig_wait(f->rig, ring_is_empty, user(), "the network to take its frames");
    barrier(f);
    assert_int_equal(f->rig->writable, 1);
}

typedef struct Flood {
    Fixture *f;
    struct sockaddr_in to;
    unsigned sent;
} Flood;

/* The host sends until libslirp does not read any more. */
static bool flood_pauses(void *opaque)
{
    Flood *flood = opaque;
    char data[1200] = {0};
    for (unsigned i = 0; i < 50; i++) {
        sendto(flood->f->fd, data, sizeof(data), MSG_DONTWAIT, (struct sockaddr *)&flood->to,
               sizeof(flood->to));
    }
    return atomic_load(&user()->paused);
}

static bool flood_is_over(void *opaque)
{
    Fixture *f = ((Flood *)opaque)->f;
    GBytes *frame;
    while ((frame = net_rig_take(f->rig)) != NULL) {
        g_bytes_unref(frame);
    }
    return !atomic_load(&user()->paused) && net_ring_used(&user()->to_guest) == 0;
}

static void a_guest_that_takes_nothing_pauses_the_network(void **state)
{
    Fixture *f = *state;
    Flood flood = {.f = f};
    socklen_t length = sizeof(flood.to);
    char text[16];
    host_socket(f, SOCK_DGRAM);
    connect_guest(f, "user,id=n");
    send_udp(f, GUEST, 5000, HOST, f->port, "ahoy", 4);
    barrier(f);
    assert_int_equal(recvfrom(f->fd, text, sizeof(text), 0, (struct sockaddr *)&flood.to, &length),
                     4);
    net_rig_watch(f->rig, false);
    net_rig_wait(f->rig, flood_pauses, &flood, "a pause");
    assert_in_range(net_ring_used(&user()->to_guest), NET_USER_PAUSE, NET_USER_TO_GUEST);
    net_rig_watch(f->rig, true);
    net_rig_wait(f->rig, flood_is_over, &flood, "the end of the pause");
    sendto(f->fd, "on", 2, 0, (struct sockaddr *)&flood.to, length);
    barrier(f); /* the network works again */
}

static void a_guest_gets_a_limited_number_of_sockets(void **state)
{
    Fixture *f = *state;
    char text[16];
    host_socket(f, SOCK_DGRAM);
    connect_guest(f, "user,id=n");
    assert_in_range(user()->max_sockets, 16, NET_USER_MAX_SOCKETS);
    user()->max_sockets = 3;
    for (uint16_t i = 0; i < 5; i++) {
        send_udp(f, GUEST, 5000 + i, HOST, f->port, "ahoy", 4);
    }
    barrier(f);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(recv(f->fd, text, sizeof(text), 0), 4);
    }
    assert_int_equal(recv(f->fd, text, sizeof(text), 0), -1);
    assert_int_equal(user()->open_sockets, 3);
}

static void fragments_are_dropped(void **state)
{
    Fixture *f = *state;
    char text[16];
    host_socket(f, SOCK_DGRAM);
    connect_guest(f, "user,id=n");
    for (unsigned part = 0; part < 2; part++) {
        Frame p = {.udp = {.source = htons(5000), .dest = htons(f->port), .len = htons(8 + 16)}};
        fill_ip(&p, IPPROTO_UDP, GUEST, HOST, 16);
        p.ip.frag_off = htons(part == 0 ? 0x2000 : 2);
        p.ip.check = 0;
        p.ip.check = checksum(&p.ip, sizeof(p.ip), 0);
        assert_int_equal(net_rig_send(f->rig, &p, sizeof(p.ether) + sizeof(p.ip) + 16), 0);
    }
    barrier(f);
    assert_int_equal(recv(f->fd, text, sizeof(text), 0), -1);
}

static void runts_and_giants_are_dropped(void **state)
{
    Fixture *f = *state;
    static uint8_t giant[NET_FRAME_MAX - sizeof(NetHeader)];
    connect_guest(f, "user,id=n");
    assert_int_equal(net_rig_send(f->rig, giant, 13), -EINVAL);
    assert_int_equal(net_rig_send(f->rig, giant, 14), 0);
    giant[12] = 8; /* IPv4 */
    assert_int_equal(net_rig_send(f->rig, giant, sizeof(giant)), 0);
    barrier(f);
}

static void a_stop_and_a_removal_under_traffic(void **state)
{
    Fixture *f = *state;
    host_socket(f, SOCK_DGRAM);
    connect_guest(f, "user,id=n");
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < 20; i++) {
            send_udp(f, GUEST, 5000, HOST, f->port, "ahoy", 4);
            send_arp(f, ARPOP_REQUEST, guest_mac, HOST);
        }
        net_rig_stop(f->rig);
        net_rig_start(f->rig);
    }
    send_arp(f, ARPOP_REQUEST, guest_mac, HOST);
    net_rig_remove(f->rig, "n");
    assert_int_equal(send_udp(f, GUEST, 5000, HOST, f->port, "ahoy", 4), 0); /* dropped */
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define NEAR(name) {"near: " #name, name, set_up_near, tear_down, NULL}
        T(dhcp_gives_an_address),
        T(a_datagram_reaches_the_host_and_is_answered),
        T(a_restricted_guest_reaches_nobody),
        T(a_forwarded_port_reaches_the_guest),
        T(forwards_come_and_go),
        T(a_full_ring_blocks_the_guest_until_there_is_room),
        T(a_guest_that_takes_nothing_pauses_the_network),
        T(a_guest_gets_a_limited_number_of_sockets),
        T(fragments_are_dropped),
        T(runts_and_giants_are_dropped),
        T(a_stop_and_a_removal_under_traffic),
        NEAR(dhcp_gives_an_address),
        NEAR(a_datagram_reaches_the_host_and_is_answered),
        NEAR(a_restricted_guest_reaches_nobody),
        NEAR(a_forwarded_port_reaches_the_guest),
        NEAR(forwards_come_and_go),
        NEAR(a_guest_that_takes_nothing_pauses_the_network),
        NEAR(a_guest_gets_a_limited_number_of_sockets),
        NEAR(fragments_are_dropped),
        NEAR(runts_and_giants_are_dropped),
        NEAR(a_stop_and_a_removal_under_traffic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Networks with hostile ends, in process: a guest that sends libslirp frames of any kind, and peers of
 * stream and datagram sockets that send anything in any pieces, leave and come back.
 *
 *   fuzz_net [--seconds N] [--seed N] [--steps N]
 *
 * After each round the network works: the gateway answers an ARP request, a frame passes both ways. The
 * networks of the rounds are restricted or have no host behind them, so that nothing leaves the process.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "hw/net/net_dgram.h"
#include "hw/net/net_stream.h"
#include "hw/net/net_user.h"
#include "tests/support/fuzzer.h"
#include "tests/support/net_rig.h"
#include "util/log.h"

#define ROUND_STEPS 200u

static const NetType *const types[] = {&net_user_type, &net_stream_type, &net_dgram_type, NULL};
static const uint8_t guest_mac[6] = {0x52, 0x54, 0, 0x12, 0x34, 0x56};

/* ---- a guest's frames ---- */

/* An IPv4 or IPv6 header with ports that libslirp looks at, or anything. */
static size_t random_frame(uint8_t *f)
{
    static const uint16_t types_of[] = {0x0800, 0x0800, 0x0800, 0x0806, 0x86dd, 0x86dd, 0x8100, 0};
    static const uint8_t protocols[] = {1, 6, 6, 17, 17, 58, 2, 255};
    static const uint16_t ports[] = {0, 22, 53, 67, 68, 69, 80, 546, 547, 7, 65535};
    static const uint8_t hosts[] = {0, 2, 3, 4, 15, 16, 255};
    size_t bytes = 14 + (fuzz_below(16) ? fuzz_below(1500) : fuzz_below(NET_FRAME_MAX - 100));
    for (size_t i = 0; i < bytes && i < 2000; i++) {
        f[i] = (uint8_t)(fuzz_below(3) ? 0 : fuzz_random());
    }
    memset(f, fuzz_below(2) ? 0xff : 0x52, 6);
    memcpy(f + 6, guest_mac, 6);
    uint16_t type = FUZZ_PICK(types_of);
    f[12] = (uint8_t)(type >> 8);
    f[13] = (uint8_t)type;
    if (bytes < 60 || type == 0) {
        return bytes;
    }
    unsigned transport = type == 0x0800 ? 34 : 54;
    if (type == 0x0800) {
        uint16_t total = (uint16_t)(fuzz_below(8) ? bytes - 14 : fuzz_random());
        f[14] = fuzz_below(16) ? 0x45 : (uint8_t)fuzz_random();
        f[16] = (uint8_t)(total >> 8);
        f[17] = (uint8_t)total;
        f[20] = (uint8_t)(fuzz_below(8) ? 0 : fuzz_random()); /* fragments */
        f[23] = FUZZ_PICK(protocols);
        const uint8_t from[4] = {10, 0, 2, 15}, to[4] = {10, 0, 2, FUZZ_PICK(hosts)};
        memcpy(f + 26, from, 4);
        memcpy(f + 30, to, 4);
    } else if (type == 0x86dd) {
        uint16_t payload = (uint16_t)(fuzz_below(8) ? bytes - 54 : fuzz_random());
        f[14] = 0x60;
        f[18] = (uint8_t)(payload >> 8);
        f[19] = (uint8_t)payload;
        f[20] = FUZZ_PICK(protocols);
        f[38] = 0xfe;
        f[39] = 0xc0;
        f[53] = FUZZ_PICK(hosts);
    }
    uint16_t port = FUZZ_PICK(ports);
    if (transport + 20 < bytes) {
        f[transport + 2] = (uint8_t)(port >> 8);
        f[transport + 3] = (uint8_t)port;
        uint16_t udp = (uint16_t)(bytes - transport);
        f[transport + 4] = (uint8_t)(udp >> 8);
        f[transport + 5] = (uint8_t)udp;
        f[transport + 12] = fuzz_below(4) ? 0x50 : (uint8_t)fuzz_random();
        f[transport + 13] = (uint8_t)(fuzz_below(2) ? 2 : fuzz_random()); /* SYN */
    }
    if (type == 0x0800) {
        uint32_t sum = 0;
        f[24] = f[25] = 0;
        for (unsigned i = 14; i < 34; i += 2) {
            sum += (uint32_t)f[i] << 8 | f[i + 1];
        }
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        f[24] = (uint8_t)(~sum >> 8);
        f[25] = (uint8_t)~sum;
    }
    return bytes;
}

static bool is_arp_reply(void *opaque)
{
    GBytes *frame = net_rig_take(opaque);
    if (frame == NULL) {
        return false;
    }
    const uint8_t *data = g_bytes_get_data(frame, NULL);
    bool found = data[12] == 8 && data[13] == 6 && data[21] == 2;
    g_bytes_unref(frame);
    return found;
}

static void user_works(NetRig *r)
{
    uint8_t arp[42] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, [12] = 8, 6, 0, 1, 8, 0, 6, 4, 0, 1};
    static const uint8_t from[4] = {10, 0, 2, 15}, to[4] = {10, 0, 2, 2};
    memcpy(arp + 6, guest_mac, 6);
    memcpy(arp + 22, guest_mac, 6);
    memcpy(arp + 28, from, 4);
    memcpy(arp + 38, to, 4);
    while (net_rig_send(r, arp, sizeof(arp)) == -EAGAIN) {
        virtio_bench_settle(r->bench);
    }
    net_rig_wait(r, is_arp_reply, r, "the gateway");
}

static void user_round(NetRig *r)
{
    static uint8_t frame[NET_FRAME_MAX];
    static const char *const options[] = {"user,id=n,restrict=on,tftp=/tmp/no-such",
                                          "user,id=n,restrict=on,ipv6=off",
                                          "user,id=n,restrict=on"};
    unsigned kind = (unsigned)fuzz_below(3);
    net_rig_add(r, options[kind]);
    if (kind != 0 && fuzz_below(4)) { /* the network's own thread is the NIC's home */
        net_rig_move_near(r, "n");
    }
    net_rig_attach(r, "n");
    for (unsigned i = 0; i < ROUND_STEPS; i++) {
        net_rig_send(r, frame, random_frame(frame));
        if (fuzz_below(50) == 0) {
            net_rig_stop(r);
            net_rig_start(r);
        }
    }
    user_works(r);
}

/* ---- peers of sockets ---- */

static void open_pair(NetRig *r, int type, int *peer)
{
    int fds[2];
    int ret = socketpair(AF_UNIX, type | SOCK_NONBLOCK, 0, fds); /* as an inherited one */
    g_assert(ret == 0);
    g_autofree char *options =
        g_strdup_printf(type == SOCK_STREAM ? "stream,id=n,addr.type=fd,addr.str=%d"
                                            : "dgram,id=n,local.type=fd,local.str=%d",
                        fds[0]);
    net_rig_add(r, options);
    net_rig_attach(r, "n");
    *peer = fds[1];
}

static void drop_received(NetRig *r)
{
    GBytes *frame;
    while ((frame = net_rig_take(r)) != NULL) {
        g_bytes_unref(frame);
    }
}

/* Lengths that lie, now and then; the rest is a stream of frames in odd pieces. */
static void stream_peer_acts(int peer)
{
    static uint8_t data[4096];
    size_t bytes = fuzz_below(sizeof(data));
    uint32_t length = htonl((uint32_t)(fuzz_below(64)  ? fuzz_below(bytes + 20)
                                       : fuzz_below(2) ? STREAM_FRAME_MAX + fuzz_below(2)
                                                       : fuzz_random()));
    memcpy(data, &length, sizeof(length));
    size_t piece = fuzz_below(3) ? 4 + MIN(ntohl(length), sizeof(data) - 4) : bytes;
    send(peer, data, MIN(piece, sizeof(data)), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (fuzz_below(3)) {
        recv(peer, data, sizeof(data), MSG_DONTWAIT);
    }
    if (fuzz_below(200) == 0) {
        shutdown(peer, fuzz_below(2) ? SHUT_WR : SHUT_RDWR);
    }
}

static void dgram_peer_acts(int peer)
{
    static uint8_t data[2 * NET_FRAME_MAX];
    size_t bytes = fuzz_below(8) ? fuzz_below(2000) : fuzz_below(sizeof(data));
    send(peer, data, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (fuzz_below(3)) {
        recv(peer, data, sizeof(data), MSG_DONTWAIT);
    }
}

static void socket_round(NetRig *r, int type)
{
    static uint8_t frame[NET_FRAME_MAX];
    int peer;
    open_pair(r, type, &peer);
    for (unsigned i = 0; i < ROUND_STEPS; i++) {
        if (type == SOCK_STREAM) {
            stream_peer_acts(peer);
        } else {
            dgram_peer_acts(peer);
        }
        if (fuzz_below(4) == 0) {
            net_rig_send(r, frame, 14 + fuzz_below(fuzz_below(8) ? 1500 : STREAM_FRAME_MAX - 14));
        }
        if (fuzz_below(20) == 0) {
            net_rig_watch(r, fuzz_below(2));
        }
        if (fuzz_below(40) == 0) {
            net_rig_stop(r);
            net_rig_start(r);
        }
        virtio_bench_settle(r->bench);
        drop_received(r);
    }
    close(peer);
}

int main(int argc, char **argv)
{
    fuzz_begin("fuzz_net", argc, argv);
    if (!log_open("/dev/null", false)) {
        return 1;
    }
    while (fuzz_goes_on()) {
        NetRig *r = net_rig_new(types);
        switch (fuzz_below(3)) {
        case 0:
            user_round(r);
            break;
        case 1:
            socket_round(r, SOCK_STREAM);
            break;
        default:
            socket_round(r, SOCK_DGRAM);
            break;
        }
        net_rig_free(r);
    }
    fuzz_end("rounds");
    return 0;
}

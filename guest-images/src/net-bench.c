/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ICMP echoes of one size at a constant depth, or frames that nobody answers, for a fixed time; prints one line:
 *
 *   net-bench: op=echo bytes=60 qd=1 mode=poll frames=N lost=N ms=N per_s=N rtt_avg_ns=N rtt_max_ns=N kicks=N
 *   interrupts=N
 *
 * Words: `op=echo|send`, `peer=` (10.0.2.2) who answers, `ip=` (10.0.2.15) its own address, `qd=` (1), `bytes=` (60)
 * of a frame, `ms=` (1000), and those of lib/net.h. Echoes that are not answered within 200 ms count as lost.
 */
#include "lib/guest.h"
#include "lib/clock.h"
#include "lib/ip.h"
#include "lib/net.h"

#define OWN_ADDRESS 0x0a00020fu
#define PEER_ADDRESS 0x0a000202u
#define ANSWER_NS (200 * CLOCK_NS_PER_MS)
#define FIND_NS (10 * CLOCK_NS_PER_S)
#define MAX_DEPTH 1024
#define TYPE_EXPERIMENTAL 0x88b5 /* IEEE 802: for local experiments; no host answers */

static NetDevice *net;
static uint32_t own, peer, frame_size;
static uint8_t peer_mac[NET_MAC_SIZE];
static uint64_t depth, duration_ns;
/* Echoes in flight have the numbers [oldest, next), by number modulo MAX_DEPTH; 0: it was answered. */
static uint64_t sent_ns[MAX_DEPTH];
static uint16_t next;
static uint64_t in_flight, answered, lost, rtt_sum_ns, rtt_max_ns, progress_ns;

static void find_peer(void)
{
    uint64_t start_ns = clock_now_ns(), asked_ns = 0;
    for (;;) {
        uint32_t size;
        const uint8_t *frame = net_receive(net, &size);
        uint64_t now_ns = clock_now_ns();
        if (frame != NULL && ip_told_address(frame, size, peer, peer_mac)) {
            return;
        }
        if (now_ns - start_ns > FIND_NS) {
            guest_fail("net-bench: nobody has the address peer=");
        }
        uint8_t *ask = net_frame_to_send(net);
        if (ask != NULL && (asked_ns == 0 || now_ns - asked_ns > ANSWER_NS)) {
            asked_ns = now_ns;
            net_send(net, ip_ask_address(ask, net->mac, own, peer));
        }
        net_flush(net);
        if (frame == NULL) {
            net_wait(net);
        }
    }
}

static void send_echoes(void)
{
    uint8_t *frame;
    while (in_flight < depth && sent_ns[next % MAX_DEPTH] == 0 &&
           (frame = net_frame_to_send(net)) != NULL) {
        ip_make_echo(frame, frame_size, net->mac, peer_mac, own, peer, next);
        sent_ns[next++ % MAX_DEPTH] = clock_now_ns();
        in_flight++;
        net_send(net, frame_size);
    }
}

static void take_echo(const uint8_t *frame, uint32_t size)
{
    uint16_t sequence;
    uint8_t *answer;
    if (!ip_is_echo_reply(frame, size, own, &sequence)) {
        uint32_t bytes = (answer = net_frame_to_send(net)) != NULL
                             ? ip_answer(answer, frame, size, net->mac, own)
                             : 0;
        if (bytes != 0) { /* the peer asks for our address now and then */
            net_send(net, bytes);
        }
        return;
    }
    uint64_t *sent = &sent_ns[sequence % MAX_DEPTH];
    if (*sent == 0) {
        return; /* it counts as lost */
    }
    uint64_t now_ns = clock_now_ns(), rtt_ns = now_ns - *sent;
    *sent = 0;
    in_flight--;
    answered++;
    rtt_sum_ns += rtt_ns;
    rtt_max_ns = rtt_ns > rtt_max_ns ? rtt_ns : rtt_max_ns;
    progress_ns = now_ns;
}

static void give_up_lost(void)
{
    uint64_t now_ns = clock_now_ns();
    if (now_ns - progress_ns <= ANSWER_NS) {
        return;
    }
    for (unsigned i = 0; i < MAX_DEPTH; i++) {
        if (sent_ns[i] != 0 && now_ns - sent_ns[i] > ANSWER_NS) {
            sent_ns[i] = 0;
            in_flight--;
            lost++;
        }
    }
    progress_ns = now_ns;
}

static void bench_echo(uint64_t start_ns)
{
    progress_ns = start_ns;
    while (clock_now_ns() - start_ns < duration_ns) {
        uint32_t size;
        const uint8_t *frame;
        bool any = false;
        while ((frame = net_receive(net, &size)) != NULL) {
            take_echo(frame, size);
            any = true;
        }
        send_echoes();
        net_flush(net);
        if (!any) {
            net_wait(net);
        }
        give_up_lost();
    }
}

static void bench_send(uint64_t start_ns)
{
    while (clock_now_ns() - start_ns < duration_ns) {
        uint8_t *frame;
        while ((frame = net_frame_to_send(net)) != NULL) {
            ip_make_echo(frame, frame_size, net->mac, peer_mac, own, peer, 0);
            frame[2 * NET_MAC_SIZE] = TYPE_EXPERIMENTAL >> 8;
            frame[2 * NET_MAC_SIZE + 1] = TYPE_EXPERIMENTAL & 0xff;
            net_send(net, frame_size);
            answered++;
            if (answered % 32 == 0) {
                net_flush(net);
            }
        }
        net_flush(net);
        cpu_pause();
    }
}

static void read_words(void)
{
    own = ip_get_address("ip", OWN_ADDRESS);
    peer = ip_get_address("peer", PEER_ADDRESS);
    depth = bootinfo_get_number("qd", 1);
    frame_size = (uint32_t)bootinfo_get_number("bytes", NET_FRAME_MIN);
    duration_ns = bootinfo_get_number("ms", 1000) * CLOCK_NS_PER_MS;
    if (depth == 0 || depth > MAX_DEPTH || frame_size < NET_FRAME_MIN ||
        frame_size > NET_FRAME_MAX) {
        guest_refuse(EXIT_USAGE, "qd= is 1 to %u, bytes= %u to %u", MAX_DEPTH, NET_FRAME_MIN,
                     NET_FRAME_MAX);
    }
}

void guest_main(void)
{
    read_words();
    bool echo = !bootinfo_is_value("op", "send");
    net = net_open();
    find_peer();
    uint64_t kicks = net->rx.kicks + net->tx.kicks, interrupts = net->interrupts;
    uint64_t start_ns = clock_now_ns();
    if (echo) {
        bench_echo(start_ns);
    } else {
        bench_send(start_ns);
    }
    uint64_t span_ns = clock_now_ns() - start_ns;
    printf("net-bench: op=%s bytes=%u qd=%lu mode=%s frames=%lu lost=%lu ms=%lu per_s=%lu "
           "rtt_avg_ns=%lu "
           "rtt_max_ns=%lu kicks=%lu interrupts=%lu\n",
           echo ? "echo" : "send", frame_size, depth, net->irq ? "irq" : "poll", answered, lost,
           span_ns / CLOCK_NS_PER_MS, answered * CLOCK_NS_PER_S / span_ns,
           echo && answered ? rtt_sum_ns / answered : 0, rtt_max_ns,
           net->rx.kicks + net->tx.kicks - kicks, net->interrupts - interrupts);
    printf("net-bench: PASS\n");
}

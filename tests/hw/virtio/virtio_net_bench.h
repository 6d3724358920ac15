/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio-net NIC on a back end whose peer is the test, and its driver. */
#ifndef SKIFF_TESTS_HW_VIRTIO_VIRTIO_NET_BENCH_H
#define SKIFF_TESTS_HW_VIRTIO_VIRTIO_NET_BENCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include "hw/virtio/virtio_net.h"
#include "tests/support/fake_net.h"
#include "tests/support/net_steps.h"
#include "tests/support/virtio_guest.h"
#include "util/loop/sched_point.h"

#define FRAME_BYTES 100 /* without its header */
#define RX_BUFFERS 64   /* places for receive buffers, each of up to RX_STRIDE bytes */
#define RX_STRIDE 0x12000
#define HEADER_BYTES ((uint32_t)sizeof(NetHeader))
#define PAIRS_MAX 4

typedef struct Fixture {
    VirtioBench *bench;
    Device *dev;
    VirtioNet *nic;
    FakeNet *net; /* NULL: the NIC has no back end */
    VirtioGuest guest;
    VirtioGuestQueue rx[PAIRS_MAX], tx[PAIRS_MAX], control;
    uint64_t rx_gpa, tx_gpa, control_gpa; /* of RX_BUFFERS places, 128 KiB, 4 KiB */
    uint64_t rings_gpa;                   /* of the queues, used again after each reset */
    unsigned rx_next;
    unsigned pairs;
} Fixture;

static inline int set_up_machine(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    f->bench = virtio_bench_new();
    enter_main();
    net_setup(fake_net_types, f->bench->main_ctx);
    f->rx_gpa = virtio_bench_alloc(f->bench, RX_BUFFERS * RX_STRIDE);
    f->tx_gpa = virtio_bench_alloc(f->bench, 0x20000);
    f->control_gpa = virtio_bench_alloc(f->bench, 0x1000);
    *state = f;
    return 0;
}

/* A NIC with @properties on a back end with @netdev ("queues=2"; NULL: none). */
static inline void add_nic(Fixture *f, const char *netdev, const char *properties)
{
    g_autofree char *net = g_strdup_printf("fake,id=net0,%s", netdev != NULL ? netdev : "");
    g_autofree char *all = g_strdup_printf("iothread=io,mac=52:54:00:12:34:56,%s,%s",
                                           netdev != NULL ? "netdev=net0" : "status=on",
                                           properties != NULL ? properties : "");
    NetStep s = {.text = net};
    if (netdev != NULL) {
        virtio_bench_run(f->bench, net_step_add, &s);
        assert_true(s.ok);
        f->net = fake_net_find("net0");
    }
    f->dev = virtio_bench_device(f->bench, "virtio-net-pci", all);
    f->nic = (VirtioNet *)(void *)f->dev;
    f->pairs = f->nic->pairs;
    virtio_bench_start(f->bench, f->dev);
    virtio_guest_init(&f->guest, f->bench, f->dev);
}

/* From reset to DRIVER_OK with @features of those that are offered. */
static inline void bring_up(Fixture *f, uint64_t features)
{
    assert_true(virtio_guest_negotiate(&f->guest, features | VIRTIO_F_VERSION_1));
    f->rings_gpa = f->rings_gpa ? f->rings_gpa : f->bench->ram_next;
    f->bench->ram_next = f->rings_gpa;
    unsigned pairs = f->guest.features & VIRTIO_NET_F_MQ ? f->pairs : 1;
    for (unsigned i = 0; i < pairs; i++) {
        virtio_guest_queue(&f->guest, &f->rx[i], 2 * i, 0, VIRTIO_NO_VECTOR);
        virtio_guest_queue(&f->guest, &f->tx[i], 2 * i + 1, 0, VIRTIO_NO_VECTOR);
    }
    if (f->guest.features & VIRTIO_NET_F_CTRL_VQ) {
        virtio_guest_queue(&f->guest, &f->control, 2 * pairs, 0, VIRTIO_NO_VECTOR);
    }
    virtio_guest_driver_ok(&f->guest);
    virtio_bench_settle(f->bench);
}

#define ALL_FEATURES (~0ull)

static inline int set_up(void **state)
{
    set_up_machine(state);
    add_nic(*state, "queues=4", "mq=on");
    bring_up(*state, ALL_FEATURES);
    return 0;
}

static inline int tear_down(void **state)
{
    Fixture *f = *state;
    sched_point_reset();
    if (f->dev) {
        virtio_bench_unplug(f->bench, f->dev);
    }
    virtio_bench_run(f->bench, net_step_shutdown, NULL);
    virtio_bench_free(f->bench);
    g_free(f);
    return 0;
}

/* ---- receiving ---- */

/* Offers a receive buffer of @bytes; returns its address. */
static inline uint64_t offer(Fixture *f, unsigned pair, uint32_t bytes)
{
    VringBuffer b = {f->rx_gpa + (uint64_t)(f->rx_next++ % RX_BUFFERS) * RX_STRIDE, bytes, true};
    virtio_guest_add(&f->rx[pair], &b, 1);
    return b.gpa;
}

static inline void offer_many(Fixture *f, unsigned pair, unsigned count, uint32_t bytes)
{
    while (count-- > 0) {
        offer(f, pair, bytes);
    }
}

/* A frame to @mac with bytes that depend on @seed. */
static inline void make_frame(uint8_t *frame, size_t bytes, const uint8_t *mac, unsigned seed)
{
    static const uint8_t nic_mac[NET_MAC_BYTES] = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};
    for (size_t i = 0; i < bytes; i++) {
        frame[i] = (uint8_t)(i * 7 + seed + (i >> 8));
    }
    memcpy(frame, mac != NULL ? mac : nic_mac, NET_MAC_BYTES);
    frame[12] = 8;
    frame[13] = 0;
}

/* A frame arrives from the network. */
static inline void arrive(Fixture *f, unsigned pair, size_t bytes, unsigned seed)
{
    g_autofree uint8_t *frame = g_malloc(bytes);
    make_frame(frame, bytes, NULL, seed);
    assert_true(fake_net_push(f->net, pair, NULL, frame, bytes));
}

static inline NetHeader header_at(Fixture *f, uint64_t gpa)
{
    NetHeader h;
    memcpy(&h, virtio_bench_ram(f->bench, gpa, sizeof(h)), sizeof(h));
    return h;
}

/* The next used buffer of the receive queue has all of a frame made with @seed. */
static inline void assert_received(Fixture *f, unsigned pair, uint64_t gpa, size_t bytes,
                                   unsigned seed)
{
    uint32_t id, len;
    g_autofree uint8_t *frame = g_malloc(bytes);
    make_frame(frame, bytes, NULL, seed);
    assert_true(virtio_guest_used(&f->rx[pair], &id, &len));
    assert_int_equal(len, bytes + HEADER_BYTES);
    assert_int_equal(header_at(f, gpa).num_buffers, 1);
    assert_memory_equal(virtio_bench_ram(f->bench, gpa + HEADER_BYTES, bytes), frame, bytes);
}

static inline void assert_nothing_received(Fixture *f, unsigned pair)
{
    uint32_t id, len;
    assert_false(virtio_guest_used(&f->rx[pair], &id, &len));
}

/* ---- sending ---- */

/* Sends a frame with header @h (NULL: zeroes) in pieces of @piece bytes (0: one). */
static inline void transmit(Fixture *f, unsigned pair, const NetHeader *h, uint32_t bytes,
                            unsigned seed, uint32_t piece)
{
    VringBuffer buffers[256];
    unsigned count = 0;
    uint8_t *at = virtio_bench_ram(f->bench, f->tx_gpa, HEADER_BYTES + bytes);
    memset(at, 0, HEADER_BYTES);
    if (h != NULL) {
        memcpy(at, h, HEADER_BYTES);
    }
    make_frame(at + HEADER_BYTES, bytes, NULL, seed);
    uint32_t total = HEADER_BYTES + bytes;
    piece = piece ? piece : total;
    for (uint32_t done = 0; done < total; done += piece) {
        assert_true(count < G_N_ELEMENTS(buffers));
        buffers[count++] = (VringBuffer){f->tx_gpa + done, MIN(piece, total - done), false};
    }
    virtio_guest_add(&f->tx[pair], buffers, count);
}

/* The peer gets exactly this frame next. */
static inline void assert_sent(Fixture *f, unsigned pair, uint32_t bytes, unsigned seed)
{
    g_autofree uint8_t *frame = g_malloc(bytes);
    make_frame(frame, bytes, NULL, seed);
    virtio_bench_settle(f->bench);
    g_autoptr(GBytes) got = fake_net_take(f->net, pair);
    assert_non_null(got);
    assert_int_equal(g_bytes_get_size(got), HEADER_BYTES + bytes);
    assert_memory_equal((const uint8_t *)g_bytes_get_data(got, NULL) + HEADER_BYTES, frame, bytes);
}

static inline void assert_nothing_sent(Fixture *f, unsigned pair)
{
    virtio_bench_settle(f->bench);
    assert_null(fake_net_take(f->net, pair));
}

static inline void assert_tx_completed(Fixture *f, unsigned pair)
{
    uint32_t id, len;
    assert_true(virtio_guest_used(&f->tx[pair], &id, &len));
    assert_int_equal(len, 0);
}

static inline bool needs_reset(Fixture *f)
{
    virtio_bench_settle(f->bench);
    return virtio_guest_status(&f->guest) & VIRTIO_STATUS_NEEDS_RESET;
}

/* ---- the control queue ---- */

enum { ACK_OK = 0, ACK_ERR = 1, ACK_NONE = 0xff };

static inline void control_send(Fixture *f, uint8_t class, uint8_t command, const void *data,
                                uint32_t bytes)
{
    uint8_t *at = virtio_bench_ram(f->bench, f->control_gpa, 0x1000);
    at[0] = class;
    at[1] = command;
    if (bytes > 0) {
        memcpy(at + 2, data, bytes);
    }
    at[0xfff] = ACK_NONE;
    VringBuffer chain[] = {{f->control_gpa, 2, false},
                           {f->control_gpa + 2, bytes, false},
                           {f->control_gpa + 0xfff, 1, true}};
    if (bytes == 0) {
        chain[1] = chain[2];
    }
    virtio_guest_add(&f->control, chain, bytes ? 3 : 2);
}

/* The ack of the command that was sent last; ACK_NONE: none yet. */
static inline uint8_t control_ack(Fixture *f)
{
    uint32_t id, len;
    if (!virtio_guest_used(&f->control, &id, &len)) {
        return ACK_NONE;
    }
    assert_int_equal(len, 1);
    return *(uint8_t *)virtio_bench_ram(f->bench, f->control_gpa + 0xfff, 1);
}

static inline uint8_t control(Fixture *f, uint8_t class, uint8_t command, const void *data,
                              uint32_t bytes)
{
    control_send(f, class, command, data, bytes);
    return control_ack(f);
}

static inline uint8_t use_pairs(Fixture *f, uint16_t pairs)
{
    return control(f, 4, 0, &pairs, sizeof(pairs));
}

#endif

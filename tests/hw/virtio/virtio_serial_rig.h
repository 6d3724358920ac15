/* SPDX-License-Identifier: Apache-2.0 */
/* For tests of virtio-serial: a device with a console and a port, the chardevs behind them, and a
 * guest that drives its queues. */
#ifndef SKIFF_TESTS_HW_VIRTIO_VIRTIO_SERIAL_RIG_H
#define SKIFF_TESTS_HW_VIRTIO_VIRTIO_SERIAL_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "hw/virtio/virtio_serial.h"
#include "tests/support/fake_chardev.h"
#include "tests/support/virtio_guest.h"

#define CONTROL_RX 2
#define CONTROL_TX 3
#define PORT1_RX 4
#define PORT1_TX 5

/* Control events, §5.3.6.2. */
enum { READY = 0, ADD = 1, REMOVE = 2, PORT_READY = 3, CONSOLE = 4, OPEN = 6, NAME = 7 };

typedef struct Control {
    uint32_t id;
    uint16_t event, value;
} Control;

typedef struct Fixture {
    VirtioBench *bench;
    Device *dev, *console, *port;
    FakeChardev *console_chr, *port_chr;
    VirtioGuest guest;
    VirtioGuestQueue queues[6];
    uint64_t data;
} Fixture;

static inline Device *add_port(Fixture *f, const char *type, const char *properties)
{
    Device *dev;
    g_autofree char *text = virtio_bench_try_device(f->bench, type, properties, f->dev, &dev);
    if (text) {
        fail_msg("%s", text);
    }
    return dev;
}

static inline int set_up(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    f->bench = virtio_bench_new();
    f->bench->machine->env.find_chardev = fake_chardev_find;
    f->dev = virtio_bench_device(f->bench, "virtio-serial-pci", "max_ports=3");
    f->console_chr = fake_chardev_new("con");
    f->port_chr = fake_chardev_new("agent");
    f->console = add_port(f, "virtconsole", "chardev=con");
    f->port = add_port(f, "virtserialport", "chardev=agent,name=org.skiff.agent");
    virtio_bench_start(f->bench, f->dev);
    virtio_guest_init(&f->guest, f->bench, f->dev);
    f->data = virtio_bench_alloc(f->bench, 0x10000);
    *state = f;
    return 0;
}

static inline int tear_down(void **state)
{
    Fixture *f = *state;
    if (f->port) {
        virtio_bench_unplug(f->bench, f->port);
    }
    virtio_bench_unplug(f->bench, f->console);
    virtio_bench_unplug(f->bench, f->dev);
    fake_chardev_free(f->console_chr);
    fake_chardev_free(f->port_chr);
    virtio_bench_free(f->bench);
    g_free(f);
    return 0;
}

static inline void bring_up_without_control(Fixture *f, uint64_t features)
{
    assert_true(virtio_guest_negotiate(&f->guest, features));
    for (unsigned i = 0; i < 6; i++) {
        virtio_guest_queue(&f->guest, &f->queues[i], i, 0, VIRTIO_NO_VECTOR);
    }
    virtio_guest_driver_ok(&f->guest);
    virtio_bench_settle(f->bench);
}

/* Adds a buffer for one control message. */
static inline void give_control_buffer(Fixture *f)
{
    VringBuffer b = {f->data + 0x8000, 64, true};
    virtio_guest_add(&f->queues[CONTROL_RX], &b, 1);
}

static inline void tell(Fixture *f, uint32_t id, uint16_t event, uint16_t value)
{
    Control m = {id, event, value};
    uint32_t used, len;
    memcpy(virtio_bench_ram(f->bench, f->data + 0x9000, sizeof(m)), &m, sizeof(m));
    VringBuffer b = {f->data + 0x9000, sizeof(m), false};
    virtio_guest_add(&f->queues[CONTROL_TX], &b, 1);
    assert_true(virtio_guest_used(&f->queues[CONTROL_TX], &used, &len));
}

static inline void assert_told(Fixture *f, uint32_t id, uint16_t event, uint16_t value,
                               const char *tail)
{
    uint32_t used, len;
    give_control_buffer(f);
    assert_true(virtio_guest_used(&f->queues[CONTROL_RX], &used, &len));
    const uint8_t *buf = virtio_bench_ram(f->bench, f->data + 0x8000, 64);
    Control m;
    memcpy(&m, buf, sizeof(m));
    assert_int_equal(m.id, id);
    assert_int_equal(m.event, event);
    assert_int_equal(m.value, value);
    assert_int_equal(len, sizeof(m) + strlen(tail));
    assert_memory_equal(buf + sizeof(m), tail, strlen(tail));
}

static inline void assert_told_nothing(Fixture *f)
{
    uint32_t used, len;
    assert_false(virtio_guest_used(&f->queues[CONTROL_RX], &used, &len));
}

static inline void bring_up(Fixture *f)
{
    bring_up_without_control(f, ~0ull);
    tell(f, 0, READY, 1);
    assert_told(f, 0, ADD, 1, "");
    assert_told(f, 1, ADD, 1, "");
    tell(f, 0, PORT_READY, 1);
    assert_told(f, 0, CONSOLE, 1, "");
    assert_told(f, 0, OPEN, 1, "");
    tell(f, 1, PORT_READY, 1);
    assert_told(f, 1, NAME, 1, "org.skiff.agent");
    assert_told(f, 1, OPEN, 1, "");
    tell(f, 0, OPEN, 1);
    tell(f, 1, OPEN, 1);
}

static inline void send(Fixture *f, unsigned queue, const char *text)
{
    memcpy(virtio_bench_ram(f->bench, f->data, strlen(text)), text, strlen(text));
    VringBuffer b = {f->data, (uint32_t)strlen(text), false};
    virtio_guest_add(&f->queues[queue], &b, 1);
    virtio_bench_settle(f->bench);
}

static GString *port_changes;

static inline void note_port_change(void *opaque, const Device *port, bool open)
{
    g_string_append_printf(port_changes, "%s:%d ", device_label(port), open);
}

#endif

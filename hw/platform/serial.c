/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 16550A UART. National Semiconductor PC16550D data sheet.
 *
 * No data is lost that the chip would keep:
 *   - transmission takes no time while the chardev has room. While it is full, bytes stay in the
 *     transmitter and THRE stays clear until main has written some out. A guest that ignores THRE
 *     and writes is held at that write, by a pended access;
 *   - clearing the transmit FIFO drops nothing: a real line has already sent those bytes;
 *   - input is taken from the chardev only while the receiver has room for it.
 *
 *   guest --THR--> tx[16] --flush--> chardev         chardev --receive--> rx[16] --RBR--> guest
 *                    ^ `writable`, in main            (in loopback: THR --> rx)
 *
 * OUT2 does not gate the interrupt, unlike in PC adapters. It does not in QEMU either, and kernels
 * written for QEMU would hang.
 */
#include "hw/platform/serial.h"
#include "hw/platform/serial_int.h"

#include <string.h>
#include "hw/platform/isa.h"
#include "hw/platform/trace_events.h"

static const uint8_t serial_triggers[] = {1, 4, 8, 14};

static const StateField serial_fields[] = {
    STATE_FIELD(SerialState, STATE_U16, divisor),
    STATE_FIELD(SerialState, STATE_U8, ier),
    STATE_FIELD(SerialState, STATE_U8, fcr),
    STATE_FIELD(SerialState, STATE_U8, lcr),
    STATE_FIELD(SerialState, STATE_U8, mcr),
    STATE_FIELD(SerialState, STATE_U8, msr),
    STATE_FIELD(SerialState, STATE_U8, scr),
    STATE_FIELD(SerialState, STATE_BOOL, overrun),
    STATE_FIELD(SerialState, STATE_BOOL, thre_interrupt),
    STATE_FIELD(SerialState, STATE_BOOL, timeout_interrupt),
    STATE_FIELD_MAX(SerialState, STATE_U8, rx_count, SERIAL_FIFO_SIZE),
    STATE_FIELD_MAX(SerialState, STATE_U8, tx_count, SERIAL_FIFO_SIZE),
    STATE_ARRAY(SerialState, STATE_BYTES, rx),
    STATE_ARRAY(SerialState, STATE_BYTES, rx_error),
    STATE_ARRAY(SerialState, STATE_BYTES, tx),
    STATE_PADDING(SerialState, reserved),
    {0},
};

static const StateDesc serial_state =
    STATE_DESC("serial", 1, Serial, state, SerialState, serial_fields);

/* ---- interrupts ---- */

static bool serial_fifo_on(const Serial *s)
{
    return (s->state.fcr & SERIAL_FCR_ENABLE) != 0;
}

uint8_t serial_interrupt_id(const Serial *s)
{
    const SerialState *st = &s->state;
    unsigned trigger = serial_fifo_on(s) ? serial_triggers[st->fcr >> 6] : 1;
    if ((st->ier & SERIAL_IER_LINE_STATUS) != 0 &&
        (st->overrun || (st->rx_count > 0 && st->rx_error[0] != 0))) {
        return SERIAL_IIR_LINE_STATUS;
    }
    if ((st->ier & SERIAL_IER_RX) != 0 && st->rx_count >= trigger) {
        return SERIAL_IIR_RX;
    }
    if ((st->ier & SERIAL_IER_RX) != 0 && st->timeout_interrupt) {
        return SERIAL_IIR_RX_TIMEOUT;
    }
    if ((st->ier & SERIAL_IER_THRE) != 0 && st->thre_interrupt) {
        return SERIAL_IIR_THRE;
    }
    if ((st->ier & SERIAL_IER_MODEM) != 0 && (st->msr & SERIAL_MSR_DELTAS) != 0) {
        return SERIAL_IIR_MODEM;
    }
    return SERIAL_IIR_NONE;
}

void serial_update_irq(Serial *s)
{
    irq_line_set(&s->irq, serial_interrupt_id(s) != SERIAL_IIR_NONE);
}

/* ---- receiver ---- */

/* Time of four characters at the programmed rate. After that time without traffic, characters in
 * the FIFO below its trigger are reported. Clock 1.8432 MHz, 16 ticks a bit. */
static int64_t serial_timeout_ns(const Serial *s)
{
    unsigned bits = 1 + 5 + (s->state.lcr & 3) + ((s->state.lcr & SERIAL_LCR_PARITY) != 0) +
                    ((s->state.lcr & SERIAL_LCR_STOP) != 0 ? 2 : 1);
    int64_t divisor = MAX(s->state.divisor, 1);
    return 4 * bits * divisor * 16 * INT64_C(1000000000) / 1843200;
}

static void serial_restart_timeout(Serial *s) BQL_HELD
{
    s->state.timeout_interrupt = false;
    if (serial_fifo_on(s) && s->state.rx_count > 0) {
        vm_timer_arm(&s->timeout, vm_clock_now_ns() + serial_timeout_ns(s));
    } else {
        vm_timer_disarm(&s->timeout);
    }
}

static void serial_timeout_fired(void *opaque)
{
    Serial *s = opaque;
    assert_bql();
    if (serial_fifo_on(s) && s->state.rx_count > 0) {
        s->state.timeout_interrupt = true;
        serial_update_irq(s);
    }
}

static unsigned serial_capacity(const Serial *s)
{
    return serial_fifo_on(s) ? SERIAL_FIFO_SIZE : 1;
}

/* Receives one character with its error bits (of LSR). All 16 places are used, also without FIFO:
 * the guest may disable it after the chardev asked for room and before it delivers. */
static void serial_rx_push(Serial *s, uint8_t value, uint8_t error)
{
    SerialState *st = &s->state;
    if (st->rx_count == SERIAL_FIFO_SIZE) {
        st->overrun = true;
        return;
    }
    st->rx[st->rx_count] = value;
    st->rx_error[st->rx_count++] = error;
}

/* Receives a character sent in loopback. Without FIFO it replaces an unread one. */
static void serial_rx_loop(Serial *s, uint8_t value)
{
    SerialState *st = &s->state;
    if (st->rx_count < serial_capacity(s)) {
        serial_rx_push(s, value, 0);
        return;
    }
    st->overrun = true;
    if (!serial_fifo_on(s)) {
        st->rx[0] = value;
    }
}

/* Number of characters that the receiver takes from the chardev. */
static size_t serial_rx_space(const Serial *s)
{
    if ((s->state.mcr & SERIAL_MCR_LOOP) != 0) {
        return 0;
    }
    unsigned capacity = serial_capacity(s);
    return s->state.rx_count < capacity ? capacity - s->state.rx_count : 0;
}

/* Called after the guest has made room. */
void serial_rx_room(Serial *s)
{
    if (s->rx_refused && serial_rx_space(s) > 0) {
        s->rx_refused = false;
        chardev_accept_input(s->chardev);
    }
}

uint8_t serial_rx_pop(Serial *s)
{
    SerialState *st = &s->state;
    uint8_t value = st->rx[0];
    if (st->rx_count > 0) {
        st->rx_count--;
        memmove(st->rx, st->rx + 1, st->rx_count);
        memmove(st->rx_error, st->rx_error + 1, st->rx_count);
    }
    serial_restart_timeout(s);
    serial_rx_room(s);
    return value;
}

static void serial_rx_clear(Serial *s) BQL_HELD
{
    s->state.rx_count = 0;
    s->state.overrun = false;
    serial_restart_timeout(s);
    serial_rx_room(s);
}

/* ---- transmitter ---- */

/* With @reserved the bytes may go into the chardev's reserve. */
static void serial_tx_send(Serial *s, bool reserved) BQL_HELD
{
    SerialState *st = &s->state;
    if (st->tx_count == 0) {
        return;
    }
    size_t written = reserved ? chardev_write_reserved(s->chardev, st->tx, st->tx_count)
                              : chardev_write(s->chardev, st->tx, st->tx_count);
    if (written == 0) {
        return;
    }
    st->tx_count -= (uint8_t)written;
    memmove(st->tx, st->tx + written, st->tx_count);
    if (st->tx_count == 0) {
        st->thre_interrupt = true;
    }
    pended_finish(&s->tx_full);
}

static void serial_tx_flush(Serial *s) BQL_HELD
{
    serial_tx_send(s, false);
}

/* Makes room for the byte of a vCPU that is to stop. Without room the byte is lost. */
static bool serial_tx_make_room(Serial *s) BQL_HELD
{
    serial_tx_send(s, true);
    if (s->state.tx_count < serial_capacity(s)) {
        return true;
    }
    log_limited(&s->base.log_limit,
                "%s: output is lost: the VM stops, and chardev '%s' has no reader",
                device_label(&s->base), s->chardev->id);
    return false;
}

MmioResult serial_tx_write(Serial *s, IoAccess *access)
{
    SerialState *st = &s->state;
    uint8_t value = (uint8_t)access->value;
    if ((st->mcr & SERIAL_MCR_LOOP) != 0) {
        serial_rx_loop(s, value);
        serial_restart_timeout(s);
        st->thre_interrupt = true;
    } else {
        if (st->tx_count >= serial_capacity(s)) {
            if (!access->must_retire) {
                trace_serial_full(device_label(&s->base), st->tx_count);
                return pended_wait_for(&s->tx_full, access);
            }
            if (!serial_tx_make_room(s)) {
                return MMIO_DONE;
            }
        }
        st->thre_interrupt = false;
        st->tx[st->tx_count++] = value;
        serial_tx_flush(s);
    }
    serial_update_irq(s);
    return MMIO_DONE;
}

/* ---- modem lines ---- */

void serial_update_modem(Serial *s)
{
    SerialState *st = &s->state;
    uint8_t lines = SERIAL_MSR_CTS;
    if ((st->mcr & SERIAL_MCR_LOOP) != 0) {
        lines = (uint8_t)(((st->mcr & SERIAL_MCR_RTS) != 0 ? SERIAL_MSR_CTS : 0) |
                          ((st->mcr & SERIAL_MCR_DTR) != 0 ? SERIAL_MSR_DSR : 0) |
                          ((st->mcr & SERIAL_MCR_OUT1) != 0 ? SERIAL_MSR_RI : 0) |
                          ((st->mcr & SERIAL_MCR_OUT2) != 0 ? SERIAL_MSR_DCD : 0));
    } else if (s->chardev == NULL || chardev_connected(s->chardev)) {
        lines |= SERIAL_MSR_DSR | SERIAL_MSR_DCD;
    }
    uint8_t changed = (st->msr ^ lines) & SERIAL_MSR_LINES;
    uint8_t deltas = (uint8_t)(changed >> 4);
    if ((lines & SERIAL_MSR_RI) != 0) {
        deltas &= (uint8_t) ~(SERIAL_MSR_RI >> 4); /* only its trailing edge counts */
    }
    st->msr = (uint8_t)((st->msr & SERIAL_MSR_DELTAS) | deltas | lines);
    serial_update_irq(s);
}

/* ---- FIFO control ---- */

void serial_set_fcr(Serial *s, uint8_t value)
{
    SerialState *st = &s->state;
    bool toggled = ((st->fcr ^ value) & SERIAL_FCR_ENABLE) != 0;
    bool enabled = (value & SERIAL_FCR_ENABLE) != 0;
    st->fcr = enabled ? value & (SERIAL_FCR_ENABLE | SERIAL_FCR_TRIGGER) : 0;
    if (toggled || (enabled && (value & SERIAL_FCR_CLEAR_RX) != 0)) {
        serial_rx_clear(s);
    }
    if (enabled && (value & SERIAL_FCR_CLEAR_TX) != 0 && st->tx_count == 0) {
        st->thre_interrupt = true;
    }
    serial_update_irq(s);
}

/* ---- the chardev, in main ---- */

static size_t serial_can_receive(void *opaque)
{
    Serial *s = opaque;
    enter_main();
    bql_lock();
    size_t space = serial_rx_space(s);
    s->rx_refused = space == 0;
    bql_unlock();
    return space;
}

static void serial_receive(void *opaque, const uint8_t *data, size_t size)
{
    Serial *s = opaque;
    enter_main();
    trace_serial_receive(device_label(&s->base), size);
    bql_lock();
    for (size_t i = 0; i < size; i++) {
        serial_rx_push(s, data[i], 0);
    }
    serial_restart_timeout(s);
    serial_update_irq(s);
    bql_unlock();
}

static void serial_event(void *opaque, ChardevEvent event)
{
    Serial *s = opaque;
    enter_main();
    bql_lock();
    if (event == CHARDEV_BREAK) {
        if (serial_rx_space(s) > 0) {
            serial_rx_push(s, 0, SERIAL_LSR_BREAK);
            serial_restart_timeout(s);
        }
    } else {
        serial_update_modem(s);
        serial_tx_flush(s); /* without a peer the chardev may take and drop the bytes */
    }
    serial_update_irq(s);
    bql_unlock();
}

static void serial_writable(void *opaque)
{
    Serial *s = opaque;
    enter_main();
    bql_lock();
    serial_tx_flush(s);
    serial_update_irq(s);
    bql_unlock();
}

static const ChardevFrontendOps serial_frontend = {
    .can_receive = serial_can_receive,
    .receive = serial_receive,
    .event = serial_event,
    .writable = serial_writable,
};

/* ---- life cycle ---- */

static const uint16_t serial_ports[] = {0x3f8, 0x2f8, 0x3e8, 0x2e8};
static const uint8_t serial_irqs[] = {4, 3, 4, 3};

#define SERIAL_SIZE 8
#define SERIAL_COUNT G_N_ELEMENTS(serial_ports)
#define SERIAL_ANY_INDEX UINT32_MAX

/* The first index whose ports are free; SERIAL_COUNT when there is none. */
static uint32_t serial_free_index(const Device *dev)
{
    uint32_t index = 0;
    bql_lock();
    while (index < SERIAL_COUNT &&
           address_space_find_overlap(dev->env->pio, serial_ports[index], SERIAL_SIZE) != NULL) {
        index++;
    }
    bql_unlock();
    return index;
}

/* Sets what the user did not set: index, ports and interrupt. */
static bool serial_complete_config(Serial *s, GError **error)
{
    if (s->index == SERIAL_ANY_INDEX) {
        s->index = s->iobase != 0 ? 0 : serial_free_index(&s->base);
    }
    if (s->index >= SERIAL_COUNT) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "there are %u ISA serial ports at most",
                    (unsigned)SERIAL_COUNT);
        return false;
    }
    s->iobase = s->iobase != 0 ? s->iobase : serial_ports[s->index];
    s->irq_number = s->irq_number != 0 ? s->irq_number : serial_irqs[s->index];
    return true;
}

static bool serial_realize(Device *dev, GError **error)
{
    Serial *s = (Serial *)dev;
    enter_main();
    if (!serial_complete_config(s, error)) {
        return false;
    }
    s->tx_full.what = "serial output";
    s->region = (IoRegion){.name = "serial", .ops = &serial_ops, .opaque = s, .size = SERIAL_SIZE};
    isa_irq_connect(dev, &s->irq, s->irq_number);
    if (!device_find_chardev(dev, s->chardev_id, &s->chardev, error) ||
        !isa_device_attach(dev, &s->region, s->iobase, error)) {
        return false;
    }
    vm_timer_init(&s->timeout, serial_timeout_fired, s);
    chardev_attach(s->chardev, &serial_frontend, s);
    return true;
}

static void serial_unrealize(Device *dev)
{
    Serial *s = (Serial *)dev;
    enter_main();
    isa_device_detach(&s->region);
    chardev_attach(s->chardev, NULL, NULL);
    vm_timer_fini(&s->timeout);
    bql_lock();
    irq_line_set(&s->irq, false);
    pended_finish(&s->tx_full); /* the accesses are dispatched again and find no device */
    bql_unlock();
}

static void serial_reset(Device *dev)
{
    Serial *s = (Serial *)dev;
    assert_bql();
    SerialState old = s->state;
    s->state = (SerialState){.divisor = 12, .thre_interrupt = false};
    /* Bytes sent before the reset are on the line, not in the chip. */
    s->state.tx_count = old.tx_count;
    memcpy(s->state.tx, old.tx, sizeof(old.tx));
    serial_restart_timeout(s);
    serial_update_modem(s);
    s->state.msr &= (uint8_t)~SERIAL_MSR_DELTAS;
    serial_update_irq(s);
    serial_rx_room(s);
    pended_finish(&s->tx_full);
}

static bool serial_post_load(Device *dev, GError **error)
{
    Serial *s = (Serial *)dev;
    assert_bql();
    bool timed_out = s->state.timeout_interrupt;
    serial_restart_timeout(s);
    s->state.timeout_interrupt = timed_out;
    serial_tx_flush(s);
    serial_update_modem(s);
    serial_rx_room(s);
    return true;
}

static const OptSpec serial_properties[] = {
    {.name = "chardev",
     .type = OPT_STRING,
     .offset = offsetof(Serial, chardev_id),
     .help = "chardev of the line (default: none)"},
    {.name = "index",
     .type = OPT_U32,
     .offset = offsetof(Serial, index),
     .help = "0 to 3: COM1 to COM4 (default: the first that is free)",
     .def = "4294967295"},
    {.name = "iobase",
     .type = OPT_U32,
     .offset = offsetof(Serial, iobase),
     .help = "first of 8 ports (default: by index)",
     .max = 0xfff8},
    {.name = "irq",
     .type = OPT_U32,
     .offset = offsetof(Serial, irq_number),
     .help = "ISA interrupt (default: by index)",
     .max = 15},
    {0},
};

const DeviceType serial_type = {
    .name = "isa-serial",
    .description = "16550A serial port",
    .instance_size = sizeof(Serial),
    .properties = serial_properties,
    .state = &serial_state,
    .user_creatable = true,
    .bus = "isa",
    .realize = serial_realize,
    .reset = serial_reset,
    .unrealize = serial_unrealize,
    .post_load = serial_post_load,
};

bool serial_is_com(const Device *dev, unsigned index)
{
    const Serial *s = (const Serial *)dev;
    return dev->type == &serial_type && s->iobase == serial_ports[index] &&
           s->irq_number == serial_irqs[index];
}

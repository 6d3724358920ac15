/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 8042 keyboard controller with a keyboard on which nobody types, without a mouse, and the fast
 * A20/reset port 0x92.
 *
 * Guests use it to reset the machine (command 0xfe) and to open the A20 gate. A20 is always open
 * here; its bits only read back. The keyboard acknowledges every byte: firmware waits seconds for
 * one that does not. Every command is answered at once: a byte for the mouse times out as the
 * controller reports it (a byte with the time-out bit), and the aux port fails its test.
 * IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary Device Controller" and
 * "Keyboards".
 */
#include "hw/platform/isa.h"
#include "hw/platform/trace_events.h"

#define I8042_STATUS_OUTPUT_FULL 0x01
#define I8042_STATUS_SYSTEM 0x04
#define I8042_STATUS_COMMAND 0x08
#define I8042_STATUS_NOT_LOCKED 0x10
#define I8042_STATUS_AUX 0x20
#define I8042_STATUS_TIMEOUT 0x40

#define I8042_CONTROL_KBD_INTERRUPT 0x01
#define I8042_CONTROL_AUX_INTERRUPT 0x02
#define I8042_CONTROL_SYSTEM 0x04
#define I8042_CONTROL_KBD_DISABLED 0x10
#define I8042_CONTROL_AUX_DISABLED 0x20

#define I8042_OUTPUT_PORT_NO_RESET 0x01
#define I8042_OUTPUT_PORT_A20 0x02

#define I8042_RESEND 0xfe /* reported when a device does not answer */

#define KEYBOARD_ACK 0xfa
#define KEYBOARD_ECHO 0xee
#define KEYBOARD_IDENTIFY 0xf2 /* two bytes follow: AB 83 */
#define KEYBOARD_RESET 0xff
#define KEYBOARD_PASSED 0xaa /* its self-test */
#define I8042_AUX_IRQ 12
#define I8042_KBD_IRQ 1

#define PORT92_FAST_RESET 0x01
#define PORT92_A20 0x02

enum {
    I8042_READ_CONTROL = 0x20,
    I8042_WRITE_CONTROL = 0x60,
    I8042_AUX_DISABLE = 0xa7,
    I8042_AUX_ENABLE = 0xa8,
    I8042_AUX_TEST = 0xa9,
    I8042_SELF_TEST = 0xaa,
    I8042_KBD_TEST = 0xab,
    I8042_KBD_DISABLE = 0xad,
    I8042_KBD_ENABLE = 0xae,
    I8042_READ_INPUT_PORT = 0xc0,
    I8042_READ_OUTPUT_PORT = 0xd0,
    I8042_WRITE_OUTPUT_PORT = 0xd1,
    I8042_WRITE_KBD_OUTPUT = 0xd2,
    I8042_WRITE_AUX_OUTPUT = 0xd3,
    I8042_WRITE_AUX = 0xd4,
    I8042_PULSE_FIRST = 0xf0, /* to 0xff: bits 0-3 that are 0 are pulsed low; bit 0 is reset */
};

typedef struct I8042State {
    uint8_t status;
    uint8_t control;
    uint8_t output; /* valid with I8042_STATUS_OUTPUT_FULL */
    uint8_t output_port;
    uint8_t command; /* the command that waits for its data byte; 0: none */
    uint8_t port92;
    uint8_t queued;   /* bytes of `queue` that the keyboard still has to send */
    uint8_t queue[2]; /* the next byte first */
} I8042State;

typedef struct I8042 {
    Device base;
    I8042State state;
    IoRegion data, command, port92;
    IrqLine kbd_irq, aux_irq;
} I8042;

static const StateField i8042_fields[] = {
    STATE_FIELD(I8042State, STATE_U8, status),
    STATE_FIELD(I8042State, STATE_U8, control),
    STATE_FIELD(I8042State, STATE_U8, output),
    STATE_FIELD(I8042State, STATE_U8, output_port),
    STATE_FIELD(I8042State, STATE_U8, command),
    STATE_FIELD(I8042State, STATE_U8, port92),
    STATE_FIELD_MAX(I8042State, STATE_U8, queued, 2),
    STATE_ARRAY(I8042State, STATE_BYTES, queue),
    {0},
};

static const StateDesc i8042_state = STATE_DESC("i8042", 1, I8042, state, I8042State, i8042_fields);

static void i8042_update_irqs(I8042 *k)
{
    const I8042State *s = &k->state;
    bool full = (s->status & I8042_STATUS_OUTPUT_FULL) != 0;
    bool aux = (s->status & I8042_STATUS_AUX) != 0;
    irq_line_set(&k->kbd_irq, full && !aux && (s->control & I8042_CONTROL_KBD_INTERRUPT) != 0);
    irq_line_set(&k->aux_irq, full && aux && (s->control & I8042_CONTROL_AUX_INTERRUPT) != 0);
}

/* Stores a byte for the guest to read; @flags are its status bits. */
static void i8042_reply(I8042 *k, uint8_t value, uint8_t flags)
{
    I8042State *s = &k->state;
    s->output = value;
    s->status &= (uint8_t) ~(I8042_STATUS_AUX | I8042_STATUS_TIMEOUT);
    s->status |= (uint8_t)(I8042_STATUS_OUTPUT_FULL | flags);
    i8042_update_irqs(k);
}

static void i8042_request_reset(I8042 *k)
{
    const Machine *machine = k->base.env->machine;
    machine_request(machine, VM_REQUEST_RESET, 0);
}

static void i8042_set_output_port(I8042 *k, uint8_t value)
{
    k->state.output_port = value;
    if ((value & I8042_OUTPUT_PORT_NO_RESET) == 0) {
        i8042_request_reset(k);
    }
}

static void i8042_set_control(I8042 *k, uint8_t value)
{
    I8042State *s = &k->state;
    s->control = value;
    s->status &= (uint8_t)~I8042_STATUS_SYSTEM;
    s->status |= (value & I8042_CONTROL_SYSTEM) != 0 ? I8042_STATUS_SYSTEM : 0;
    i8042_update_irqs(k);
}

static void i8042_command(I8042 *k, uint8_t command)
{
    I8042State *s = &k->state;
    trace_i8042_command(device_label(&k->base), command);
    s->status |= I8042_STATUS_COMMAND;
    s->command = 0;
    switch (command) {
    case I8042_READ_CONTROL:
        i8042_reply(k, s->control, 0);
        break;
    case I8042_WRITE_CONTROL:
    case I8042_WRITE_OUTPUT_PORT:
    case I8042_WRITE_KBD_OUTPUT:
    case I8042_WRITE_AUX_OUTPUT:
    case I8042_WRITE_AUX:
        s->command = command;
        break;
    case I8042_AUX_DISABLE:
        i8042_set_control(k, s->control | I8042_CONTROL_AUX_DISABLED);
        break;
    case I8042_AUX_ENABLE:
        i8042_set_control(k, s->control & (uint8_t)~I8042_CONTROL_AUX_DISABLED);
        break;
    case I8042_KBD_DISABLE:
        i8042_set_control(k, s->control | I8042_CONTROL_KBD_DISABLED);
        break;
    case I8042_KBD_ENABLE:
        i8042_set_control(k, s->control & (uint8_t)~I8042_CONTROL_KBD_DISABLED);
        break;
    case I8042_AUX_TEST:
        i8042_reply(k, 0x01, 0); /* clock line stuck low: no port */
        break;
    case I8042_SELF_TEST:
        i8042_set_control(k, s->control | I8042_CONTROL_SYSTEM);
        i8042_reply(k, 0x55, 0);
        break;
    case I8042_KBD_TEST:
        i8042_reply(k, 0x00, 0);
        break;
    case I8042_READ_INPUT_PORT:
        i8042_reply(k, 0x80, 0); /* not inhibited */
        break;
    case I8042_READ_OUTPUT_PORT:
        i8042_reply(k, s->output_port, 0);
        break;
    default:
        if (command >= I8042_PULSE_FIRST && (command & I8042_OUTPUT_PORT_NO_RESET) == 0) {
            i8042_request_reset(k);
        }
        break; /* the chip ignores unknown commands */
    }
}

/* A byte for the keyboard: a command, or a command's parameter. A new one ends what it sends. */
static void keyboard_take(I8042 *k, uint8_t value)
{
    I8042State *s = &k->state;
    s->queued = 0;
    if (value == KEYBOARD_RESET) {
        s->queue[0] = KEYBOARD_PASSED;
        s->queued = 1;
    } else if (value == KEYBOARD_IDENTIFY) {
        s->queue[0] = 0xab;
        s->queue[1] = 0x83;
        s->queued = 2;
    }
    i8042_reply(k, value == KEYBOARD_ECHO ? KEYBOARD_ECHO : KEYBOARD_ACK, 0);
}

/* Handles a byte written to port 0x60: a command's data, or a byte for the keyboard. */
static void i8042_data(I8042 *k, uint8_t value)
{
    uint8_t command = k->state.command;
    k->state.command = 0;
    k->state.status &= (uint8_t)~I8042_STATUS_COMMAND;
    switch (command) {
    case I8042_WRITE_CONTROL:
        i8042_set_control(k, value);
        break;
    case I8042_WRITE_OUTPUT_PORT:
        i8042_set_output_port(k, value);
        break;
    case I8042_WRITE_KBD_OUTPUT:
        i8042_reply(k, value, 0);
        break;
    case I8042_WRITE_AUX_OUTPUT:
    case I8042_WRITE_AUX:
        i8042_reply(k, I8042_RESEND, I8042_STATUS_AUX | I8042_STATUS_TIMEOUT);
        break;
    default:
        keyboard_take(k, value);
        break;
    }
}

static void i8042_output_read(I8042 *k)
{
    I8042State *s = &k->state;
    s->status &= (uint8_t) ~(I8042_STATUS_OUTPUT_FULL | I8042_STATUS_AUX | I8042_STATUS_TIMEOUT);
    i8042_update_irqs(k); /* the line falls between two bytes */
    if (s->queued > 0) {
        uint8_t next = s->queue[0];
        s->queue[0] = s->queue[1];
        s->queued--;
        i8042_reply(k, next, 0);
    }
}

static MmioResult i8042_data_access(void *opaque, IoAccess *access)
{
    I8042 *k = opaque;
    assert_bql();
    if (access->is_write) {
        i8042_data(k, (uint8_t)access->value);
    } else {
        access->value = k->state.output;
        i8042_output_read(k);
    }
    return MMIO_DONE;
}

static MmioResult i8042_command_access(void *opaque, IoAccess *access)
{
    I8042 *k = opaque;
    assert_bql();
    if (access->is_write) {
        i8042_command(k, (uint8_t)access->value);
    } else {
        access->value = k->state.status;
    }
    return MMIO_DONE;
}

static MmioResult i8042_port92_access(void *opaque, IoAccess *access)
{
    I8042 *k = opaque;
    assert_bql();
    if (!access->is_write) {
        access->value = k->state.port92;
        return MMIO_DONE;
    }
    uint8_t old = k->state.port92;
    k->state.port92 = (uint8_t)access->value & (PORT92_FAST_RESET | PORT92_A20);
    if ((k->state.port92 & ~old & PORT92_FAST_RESET) != 0) {
        i8042_request_reset(k);
    }
    return MMIO_DONE;
}

static const IoRegionOps i8042_data_ops = {
    .access = i8042_data_access, .min_size = 1, .max_size = 1};
static const IoRegionOps i8042_command_ops = {
    .access = i8042_command_access, .min_size = 1, .max_size = 1};
static const IoRegionOps i8042_port92_ops = {
    .access = i8042_port92_access, .min_size = 1, .max_size = 1};

static void i8042_unrealize(Device *dev)
{
    I8042 *k = (I8042 *)dev;
    enter_main();
    irq_line_set(&k->kbd_irq, false);
    irq_line_set(&k->aux_irq, false);
    isa_device_detach(&k->data);
    isa_device_detach(&k->command);
    isa_device_detach(&k->port92);
}

static bool i8042_realize(Device *dev, GError **error)
{
    I8042 *k = (I8042 *)dev;
    enter_main();
    k->data = (IoRegion){.name = "i8042-data", .ops = &i8042_data_ops, .opaque = k, .size = 1};
    k->command =
        (IoRegion){.name = "i8042-command", .ops = &i8042_command_ops, .opaque = k, .size = 1};
    k->port92 = (IoRegion){.name = "port92", .ops = &i8042_port92_ops, .opaque = k, .size = 1};
    isa_irq_connect(dev, &k->kbd_irq, I8042_KBD_IRQ);
    isa_irq_connect(dev, &k->aux_irq, I8042_AUX_IRQ);
    if (!isa_device_attach(dev, &k->data, 0x60, error) ||
        !isa_device_attach(dev, &k->command, 0x64, error) ||
        !isa_device_attach(dev, &k->port92, 0x92, error)) {
        i8042_unrealize(dev);
        return false;
    }
    return true;
}

static void i8042_reset(Device *dev)
{
    I8042 *k = (I8042 *)dev;
    k->state = (I8042State){
        .status = I8042_STATUS_NOT_LOCKED,
        .control = I8042_CONTROL_KBD_DISABLED | I8042_CONTROL_AUX_DISABLED,
        .output_port = I8042_OUTPUT_PORT_NO_RESET | I8042_OUTPUT_PORT_A20,
        .port92 = PORT92_A20,
    };
    i8042_update_irqs(k);
}

static bool i8042_post_load(Device *dev, GError **error)
{
    i8042_update_irqs((I8042 *)dev);
    return true;
}

const DeviceType i8042_type = {
    .name = "i8042",
    .description = "keyboard controller with a keyboard that sends no keys; reset and A20",
    .instance_size = sizeof(I8042),
    .state = &i8042_state,
    .bus = "isa",
    .realize = i8042_realize,
    .reset = i8042_reset,
    .unrealize = i8042_unrealize,
    .post_load = i8042_post_load,
};

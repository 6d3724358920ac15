/* SPDX-License-Identifier: Apache-2.0 */
/* The 16550A's registers and parts, for serial.c and serial_regs.c. All under the BQL. */
#ifndef SKIFF_HW_PLATFORM_SERIAL_INT_H
#define SKIFF_HW_PLATFORM_SERIAL_INT_H

#include "hw/core/device.h"
#include "hw/core/vm_clock.h"

#define SERIAL_FIFO_SIZE 16

#define SERIAL_IER_RX 0x01
#define SERIAL_IER_THRE 0x02
#define SERIAL_IER_LINE_STATUS 0x04
#define SERIAL_IER_MODEM 0x08

#define SERIAL_IIR_MODEM 0x00
#define SERIAL_IIR_NONE 0x01
#define SERIAL_IIR_THRE 0x02
#define SERIAL_IIR_RX 0x04
#define SERIAL_IIR_LINE_STATUS 0x06
#define SERIAL_IIR_RX_TIMEOUT 0x0c
#define SERIAL_IIR_FIFO_ON 0xc0

#define SERIAL_FCR_ENABLE 0x01
#define SERIAL_FCR_CLEAR_RX 0x02
#define SERIAL_FCR_CLEAR_TX 0x04
#define SERIAL_FCR_TRIGGER 0xc0

#define SERIAL_LCR_STOP 0x04
#define SERIAL_LCR_PARITY 0x08
#define SERIAL_LCR_DLAB 0x80

#define SERIAL_MCR_DTR 0x01
#define SERIAL_MCR_RTS 0x02
#define SERIAL_MCR_OUT1 0x04
#define SERIAL_MCR_OUT2 0x08
#define SERIAL_MCR_LOOP 0x10

#define SERIAL_LSR_DATA_READY 0x01
#define SERIAL_LSR_OVERRUN 0x02
#define SERIAL_LSR_BREAK 0x10
#define SERIAL_LSR_THRE 0x20
#define SERIAL_LSR_TEMT 0x40
#define SERIAL_LSR_FIFO_ERROR 0x80

#define SERIAL_MSR_DELTAS 0x0f
#define SERIAL_MSR_CTS 0x10
#define SERIAL_MSR_DSR 0x20
#define SERIAL_MSR_RI 0x40
#define SERIAL_MSR_DCD 0x80
#define SERIAL_MSR_LINES 0xf0

typedef struct SerialState {
    uint16_t divisor;
    uint8_t ier;
    uint8_t fcr; /* enable and trigger bits */
    uint8_t lcr;
    uint8_t mcr;
    uint8_t msr;
    uint8_t scr;
    bool overrun;
    bool thre_interrupt; /* the transmitter ran empty; cleared by a read of IIR or a write */
    bool timeout_interrupt;
    uint8_t rx_count;
    uint8_t tx_count;                   /* 0: THRE and TEMT */
    uint8_t rx[SERIAL_FIFO_SIZE];       /* [0] is RBR */
    uint8_t rx_error[SERIAL_FIFO_SIZE]; /* LSR bits of each character */
    uint8_t tx[SERIAL_FIFO_SIZE];
    uint8_t reserved; /* makes the size even */
} SerialState;

typedef struct Serial {
    Device base;
    /* links */
    Chardev *chardev; /* NULL: none */
    /* config */
    char *chardev_id;
    uint32_t index, iobase, irq_number;
    /* state */
    SerialState state;
    /* runtime */
    IoRegion region;
    IrqLine irq;
    VmTimer timeout;
    Pended tx_full;
    bool rx_refused; /* the chardev got "no room" and waits for serial_rx_room() */
} Serial;

extern const IoRegionOps serial_ops; /* serial_regs.c */

uint8_t serial_interrupt_id(const Serial *s) ANY_THREAD;
void serial_update_irq(Serial *s) BQL_HELD;
uint8_t serial_rx_pop(Serial *s) BQL_HELD;
MmioResult serial_tx_write(Serial *s, IoAccess *access) BQL_HELD;
void serial_update_modem(Serial *s) BQL_HELD;
void serial_set_fcr(Serial *s, uint8_t value) BQL_HELD;
/* Reports to the chardev that there is room again after it got none. */
void serial_rx_room(Serial *s) BQL_HELD;

#endif
